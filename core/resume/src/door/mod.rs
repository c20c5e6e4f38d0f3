//! Fifth floor: where requests, transports and programs come in.

pub mod adapter;
#[cfg(feature = "console")]
pub mod console;
pub(crate) mod layer;
#[cfg(feature = "listen")]
pub(crate) mod listen;
pub(crate) mod poll;
#[cfg(feature = "server")]
pub(crate) mod serve;
#[cfg(feature = "server")]
pub(crate) mod stop;
pub(crate) mod upgrade;
#[cfg(feature = "tungstenite")]
pub(crate) mod websocket;
