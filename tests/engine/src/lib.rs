//! Redis and Valkey servers for tests, started on free ports in temporary folders, and a proxy that does to their
//! connections what networks do.

mod proxy;
mod server;

pub use self::{
    proxy::{Late, Proxy},
    server::{Engine, Flavour, without_redis},
};
