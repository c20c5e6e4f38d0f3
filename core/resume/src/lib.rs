//! Write your WebSocket handler as if the connection never dropped.

pub mod store;
