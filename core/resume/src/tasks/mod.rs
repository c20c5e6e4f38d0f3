//! Fourth floor: what is done for all sessions, by the clock or because the process stops.

pub(crate) mod drain;
pub(crate) mod sweep;
