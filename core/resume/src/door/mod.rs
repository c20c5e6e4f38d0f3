//! Fifth floor: where requests, transports and programs come in.
//!
//! Start with `layer` (what happens to each request), then `upgrade` (how a transport gets to its session, in three
//! steps). `adapter` is what adapters of frameworks call, `websocket` the one transport that is here. `poll` answers for
//! outcomes; `streams` gives out what a session sends, to readers without a client of ours; `ui_stream` does so for the AI SDK; `listen`, `serve` and `stop` make a server; `console` formats logs. `hop` sends a request to the node that owns
//! its session.

pub mod adapter;
#[cfg(feature = "axum")]
pub(crate) mod axum;
#[cfg(feature = "console")]
pub mod console;
pub(crate) mod elsewhere;
#[cfg(feature = "tungstenite")]
pub(crate) mod hop;
#[cfg(feature = "http")]
pub(crate) mod http;
pub(crate) mod layer;
#[cfg(feature = "listen")]
pub(crate) mod listen;
pub(crate) mod look;
pub(crate) mod poll;
#[cfg(feature = "server")]
pub(crate) mod serve;
#[cfg(feature = "server")]
pub(crate) mod stop;
#[cfg(feature = "http")]
pub(crate) mod streams;
#[cfg(feature = "http")]
pub(crate) mod ui_stream;
pub(crate) mod upgrade;
#[cfg(feature = "tungstenite")]
pub(crate) mod websocket;
