//! First floor: what the words mean, one file a word. Nothing here knows a live session.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod identity;
pub mod key;
pub(crate) mod limits;
pub(crate) mod merge;
pub(crate) mod observe;
pub(crate) mod origin;
pub(crate) mod outcome;
pub(crate) mod panics;
pub(crate) mod random;
pub(crate) mod refusal;
pub(crate) mod request;
pub mod reuse;
pub mod store;
pub mod transport;
pub(crate) mod wall;
