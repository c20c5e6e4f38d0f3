//! Redis and Valkey servers for tests, started on free ports in temporary folders, and a proxy that does to their
//! connections what networks do.

mod cluster;
mod proxy;
mod sentinel;
mod server;

pub use self::{
    cluster::Cluster,
    proxy::{Late, Proxy},
    sentinel::Sentinels,
    server::{Engine, Flavour, without_redis},
};
