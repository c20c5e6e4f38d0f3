//! Real sockets, real processes: connections cut at any byte, servers killed at any moment.

mod crash;
mod flaps;
mod network;
mod proxy;
mod server;
