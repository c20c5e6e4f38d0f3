//! Write your WebSocket handler as if the connection never dropped.

#[allow(dead_code, reason = "the layer, which asks, comes next")]
mod identity;
#[allow(dead_code, reason = "the layer, which asks, comes next")]
pub mod key;
#[allow(dead_code, reason = "the layer, which asks, comes next")]
mod origin;
mod request;
#[allow(dead_code, reason = "the layer, which asks, comes next")]
pub mod reuse;

pub use identity::{ConfigError, Identity, IdentityCookie, SameSite};
pub use origin::AllowedOrigins;
pub use request::RequestView;
