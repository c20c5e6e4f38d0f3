//! Write your WebSocket handler as if the connection never dropped.
//!
//! `session-resume` is a tower layer. Around a router it gives every browser an identity, maps requests to
//! sessions, and runs a WebSocket handler **once per session, not once per connection**: the socket may drop,
//! the page may reload, and the handler goes on. Use it with an adapter, `session-resume-axum` or
//! `session-resume-warp`.
//!
//! Suggested reading order: [`SessionResume`] (the layer), [`Session`] and [`LiveSession`] (what a handler
//! has), [`key`] and [`reuse`] (which session a request belongs to), [`adapter`] and [`transport`] (for other
//! frameworks).

pub mod adapter;
mod clock;
mod config;
#[cfg(feature = "console")]
pub mod console;
mod drain;
mod handler;
mod identity;
pub mod key;
mod layer;
mod limits;
#[cfg(feature = "listen")]
mod listen;
mod merge;
mod observe;
mod origin;
mod outcome;
mod outcomes;
mod panics;
mod poll;
mod pump;
mod random;
mod refusal;
mod registry;
mod request;
mod restore;
pub mod reuse;
#[cfg(feature = "server")]
mod serve;
mod session;
mod snapshot;
#[cfg(feature = "server")]
mod stop;
pub mod store;
mod sweep;
pub mod transport;
mod upgrade;
mod wall;
#[cfg(feature = "tungstenite")]
mod websocket;
mod wheel;

pub use session_resume_proto::{
    Message,
    session::{Attach, Overflow, PlainAck},
    wire::CodeError,
};

pub use self::{
    drain::DrainReport,
    identity::{ConfigError, Identity, IdentityCookie, SameSite},
    layer::{ResponseFuture, SessionResume, SessionResumeService},
    limits::{Heartbeat, Limits},
    merge::{CustomMerge, MergePolicy, Versions},
    origin::{AllowedOrigins, InvalidOrigin},
    outcome::{HandlerError, IntoOutcome, Outcome, OutcomeStatus, Result},
    request::RequestView,
    restore::Unreadable,
    session::{
        AttachRequest, BlockingSession, Client, Closed, ClosedKind, Event, ExpirationGuard,
        IdentityChange, LiveSession, Resumed, Session, SessionId, SessionInfo, SessionOrigin,
        TrySendError,
    },
    snapshot::{CommitError, Durability},
};
