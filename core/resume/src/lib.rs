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

pub mod store {
    //! Where sessions go when they leave memory: the [`SnapshotStore`] trait and its rules.
    //!
    //! A store keeps *records*: opaque bytes under a [`StoreKey`], each with the [`Stamp`] of the write that
    //! brought it and the time after which it expires. It knows nothing of sessions; what the bytes mean is decided
    //! elsewhere. [`MemoryStore`] is here for tests and for trying things out; the embedded store that survives a
    //! restart is the crate `session-resume-redb`.
    //!
    //! If you write a backend, the rules are on [`SnapshotStore`], and [`contract`] checks them.

    pub use crate::{
        durable::snapshot::SetAside,
        words::store::{
            ErrorKind, LayerNames, MAX_KEY_LEN, MemoryStore, RecordKind, SnapshotStore, Stamp,
            StoreError, StoreKey, StoredState, Verdict, Versioned, contract,
        },
    };
}

pub mod transport {
    //! What an adapter gives: a stream and sink of WebSocket frames.

    #[cfg(feature = "tungstenite")]
    pub use crate::door::websocket::WebSocket;
    pub use crate::words::transport::{Frame, Transport, TransportError, TransportErrorKind};
}

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
    live::session::{
        AttachRequest, BlockingSession, Client, Event, ExpirationGuard, IdentityChange,
        LiveSession, Resumed, Session, SessionInfo, SessionOrigin,
    },
    words::{
        closed::{Closed, ClosedKind, TrySendError},
        drain_report::DrainReport,
        durability::{CommitError, Durability},
        id::SessionId,
        identity::{ConfigError, Identity, IdentityCookie, SameSite},
        key,
        limits::{Heartbeat, Limits},
        merge::{CustomMerge, MergePolicy, Versions},
        origin::{AllowedOrigins, InvalidOrigin},
        outcome::{HandlerError, IntoOutcome, Outcome, OutcomeStatus, Result},
        request::RequestView,
        reuse,
        unreadable::Unreadable,
    },
};
