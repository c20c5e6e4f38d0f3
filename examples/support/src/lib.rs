//! What the examples share: where their files are, when they stop, what they log.

mod log;
pub mod place;
mod stop;

pub use self::{log::log_to_stderr, stop::stop_signal};
