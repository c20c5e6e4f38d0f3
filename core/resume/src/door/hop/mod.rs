//! A request whose session is at another node is sent there once more, as it is: one hop.
//!
//! Suggested reading order: `head` (how both ends prove who they are), `forward` (from here), `relay` (what becomes of an
//! upgrade), `listen` (to here).

mod forward;
mod head;
#[cfg(feature = "server")]
mod listen;
mod pool;
mod relay;
mod sealed;

pub(crate) use self::forward::Attempts;
#[cfg(feature = "axum")]
pub(crate) use self::forward::{AtOwner, at_owner};
pub use self::head::Hop;
#[cfg(feature = "server")]
pub use self::listen::{ServeHops, serve_hops};
