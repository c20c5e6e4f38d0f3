//! The runtime half over in-memory transports: time is paused, nothing sleeps.

mod blocked;
mod support;
mod timers;
