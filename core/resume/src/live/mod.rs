//! Second floor: sessions in memory, what drives them, and where they are found.
//!
//! Start with `session/shared.rs`, the live object, which steps the machine of `session-resume-proto` under one lock.
//! `registry` finds sessions, `handler` runs the application's code, `pump` moves the frames of one transport, `wheel` knows
//! when to look at which session again, `ended` keeps how sessions have ended, `minutes` what has happened in the last hour.

pub(crate) mod ended;
pub(crate) mod handler;
pub(crate) mod minutes;
#[cfg(feature = "http")]
pub(crate) mod pipes;
pub(crate) mod pump;
pub(crate) mod registry;
pub(crate) mod session;
pub(crate) mod wheel;
