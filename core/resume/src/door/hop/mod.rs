//! A request whose session is at another node is sent there once more, as it is: one hop.
//!
//! Suggested reading order: `head` (how both ends prove who they are), `sending` (one request), `forward` (to the owner of a session),
//! `named` (to the node that a pipe's tag names), `others` (to all nodes), `call` and `everywhere` (what a node asks them by itself), `relay` (what
//! becomes of an upgrade or of a stream), `listen` (to here).

mod call;
mod everywhere;
mod forward;
mod head;
#[cfg(feature = "server")]
mod listen;
#[cfg(feature = "http")]
mod named;
mod others;
mod pool;
mod relay;
mod sealed;
mod sending;

pub use self::everywhere::{Everywhere, Told};
#[cfg(feature = "axum")]
pub(crate) use self::forward::{AtOwner, at_owner};
pub use self::head::Hop;
#[cfg(feature = "server")]
pub use self::listen::{ServeHops, serve_hops};
#[cfg(feature = "http")]
pub(crate) use self::named::{at_named, with_body};
pub(crate) use self::{forward::Attempts, others::ask_all};
