//! Where a request comes from.

use std::net::SocketAddr;

/// The address that a request comes from. It is for the log: nothing is decided by it.
///
/// A server puts it into the request's extensions; `adapter::serve` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);
