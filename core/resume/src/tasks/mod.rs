//! Fourth floor: what is done for all sessions, by the clock or because the process stops.
//!
//! Start with `sweep`: the task that ticks the clock and removes sessions whose time is up. `drain` brings all sessions
//! into the store before a process ends.

pub(crate) mod drain;
pub(crate) mod sweep;
