//! What the examples share: where their files are, what they log.

mod log;
pub mod place;

pub use self::log::log_to_stderr;
