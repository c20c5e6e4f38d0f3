//! Writes sessions to the store. With `restore`, the only module that touches it.
//!
//! A session *changes*; then it is queued, and the [`saver`] takes its snapshot at the next boundary (no
//! message in hand) and puts it. What the snapshot covers is acknowledged, and may leave, only then.

mod amend;
mod aside;
mod own;
mod queue;
pub(crate) mod record;
pub(crate) mod saver;
mod take;
#[cfg(test)]
mod tests;
mod trial;
mod turn;
mod work;
mod writer;
mod writes;

pub use self::aside::SetAside;
pub(crate) use self::{amend::amend, queue::Saver};
