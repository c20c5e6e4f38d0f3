//! Real sockets, real processes: connections cut at any byte, servers killed at any moment.

mod crash;
mod engine;
mod flaps;
mod place;
mod server;
