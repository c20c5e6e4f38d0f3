//! Write your WebSocket handler as if the connection never dropped.

#[allow(dead_code, reason = "the layer, which asks, comes next")]
mod identity;
#[allow(dead_code, reason = "the layer, which asks, comes next")]
mod request;

pub use identity::{ConfigError, Identity, IdentityCookie, SameSite};
pub use request::RequestView;
