//! Redis and Valkey servers for tests, started on free ports in temporary folders. What does to their connections what
//! networks do is `session_resume_testkit::tcp::Proxy`.

mod cluster;
mod sentinel;
mod server;
mod tls;

pub use self::{
    cluster::Cluster,
    sentinel::Sentinels,
    server::{Engine, Flavour, without_redis},
    tls::{Certificates, without_openssl},
};
