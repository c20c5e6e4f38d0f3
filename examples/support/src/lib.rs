//! What the examples share: where they listen, where their files are, what they log.

mod listen;
mod log;
pub mod place;

pub use self::{listen::listen, log::log_to_stderr};
