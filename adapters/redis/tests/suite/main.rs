//! The store against real servers. They are started by the tests, on free ports, in temporary folders.

#[cfg(feature = "cluster")]
mod cluster;
mod connect;
mod contract;
mod faults;
mod identity_keys;
#[cfg(feature = "sentinel")]
mod sentinel;
mod support;
#[cfg(feature = "tls")]
mod tls;
mod together;
