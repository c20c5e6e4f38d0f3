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

mod door;
mod durable;
mod live;
mod tasks;
mod words;

pub use session_resume_proto::{
    Message,
    session::{Attach, Overflow, PlainAck},
    wire::CodeError,
};

#[cfg(feature = "console")]
pub use self::door::console;
pub use self::{
    door::{
        adapter,
        layer::{ResponseFuture, SessionResume, SessionResumeService},
    },
    durable::{
        restore::Unreadable,
        snapshot::{CommitError, Durability},
    },
    live::session::{
        AttachRequest, BlockingSession, Client, Closed, ClosedKind, Event, ExpirationGuard,
        IdentityChange, LiveSession, Resumed, Session, SessionId, SessionInfo, SessionOrigin,
        TrySendError,
    },
    tasks::drain::DrainReport,
    words::{
        identity::{ConfigError, Identity, IdentityCookie, SameSite},
        key,
        limits::{Heartbeat, Limits},
        merge::{CustomMerge, MergePolicy, Versions},
        origin::{AllowedOrigins, InvalidOrigin},
        outcome::{HandlerError, IntoOutcome, Outcome, OutcomeStatus, Result},
        request::RequestView,
        reuse, store, transport,
    },
};
