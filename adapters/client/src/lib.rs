//! The native client of session-resume: a WebSocket that loses and doubles nothing.
//!
//! A [`Client`] outlives its connections. It connects, and when the connection drops, connects again,
//! presents what it has, sends again what the server has not accepted, and skips what it already got.
//! The application sends and receives as if nothing had happened, and is told the truth when something
//! is really gone: a [`Gap`](Event::Gap), messages [in doubt](Event::InDoubt), one that was
//! [too big](Event::TooBig), one that the session [gave up](Event::Dropped), or some that a server
//! [took back](Event::TakenBack) with an older state.
//!
//! ```no_run
//! use session_resume_client::Client;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::connect("ws://127.0.0.1:3000/live").await?;
//! client.send("click").await?;
//! while let Some(message) = client.recv().await {
//!     println!("{:?}", message.as_text());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! With settings, and with an eye on what happens underneath:
//!
//! ```no_run
//! use session_resume_client::{Client, Event, Modes};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Client::builder("ws://127.0.0.1:3000/live")
//!     .with_mode(Modes::Prompt)
//!     .with_header("authorization", "Bearer …")
//!     .connect()
//!     .await?;
//! while let Some(event) = client.recv_event().await {
//!     match event {
//!         Event::Message(message) => println!("{:?}", message.as_text()),
//!         Event::Offline { cause } => {
//!             println!("{cause}: connecting again");
//!             client.reconnect();
//!         }
//!         Event::InDoubt(messages) => println!("{} messages may be lost", messages.len()),
//!         other => println!("{other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Acknowledgement
//!
//! A message is acknowledged to the server when [`recv`](Client::recv) hands it over, not when it
//! arrives. A message that this program never took is sent again, to the next client that comes. A
//! message that this program sent is kept until the server's handler has taken it.
//!
//! # Before the queue goes to another session
//!
//! What was queued for one session may make no sense in another, or only after something else.
//! [`Builder::with_new_session_event`] asks the application first, and [`Builder::with_initial`] names what goes before the
//! queue. Without them the queue goes to the next session at once.
//!
//! # Credentials that go out of date
//!
//! [`Builder::with_request`] takes a function that is called before each attempt and returns its URL and headers. So a
//! ticket or a token in them is always a fresh one.
//!
//! # Where WebSockets are blocked
//!
//! With the feature `http` and `Builder::transports` the same session goes over requests: down on an event stream or in
//! answers to polls, up in posts. The client finds out by itself, and goes back to a WebSocket when one passes
//! ([`Client::transport`] tells). Without that setting a client comes by a WebSocket alone, whatever features are on.
//!
//! # TLS
//!
//! `wss://` needs the feature `rustls-tls-webpki-roots`.

mod builder;
mod client;
mod clock;
mod connector;
mod cookies;
mod driver;
mod error;
#[cfg(feature = "http")]
mod pipe;
mod request;
mod route;
mod shared;
mod step;
mod transport;
mod websocket;

pub use self::{
    builder::Builder,
    client::{Client, Sender},
    cookies::CookieJar,
    error::{ConfigError, ConnectError, SendError, Undelivered},
    request::{Attempt, Request},
};
pub use session_resume_proto::{
    Gap, GapReason, Message, Position, WireId,
    client::{Backoff, Cause, Event, Limits, Modes, SendError as SendErrorKind},
    pipe::Path as Transport,
    wire::{Close, CloseKind, OutcomeStatus, ProtocolError, StateOffer, Status},
};
