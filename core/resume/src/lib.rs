//! Write your WebSocket handler as if the connection never dropped.
//!
//! `session-resume` is a [tower](https://docs.rs/tower) layer. Around a router it gives every browser an identity, maps
//! requests to sessions, and runs a WebSocket handler **once per session, not once per connection**. The session is a live
//! object: typed state, a running handler, an outbox, an inbox. The socket may drop, the laptop may sleep, the tab may
//! reload, the server may be redeployed: the handler and the page carry on, and no message is lost or doubled.
//!
//! This crate has the layer and the sessions. An adapter connects it to a framework: `session-resume-axum`,
//! `session-resume-warp`, or [one of your own](adapter).
//!
// The program needs axum, a store and the browser client: `tests` compiles the README, which has the same program.
#![cfg_attr(not(doctest), doc = include_str!("../docs/first-program.md"))]
//!
//! # What it promises
//!
//! 1. **Nothing lost, nothing doubled.** A client that speaks `session-resume.v1` (the browser client, the native client)
//!    gets every message exactly once and in order, and so does the handler, through any number of drops.
//! 2. **Stock clients too.** A plain `new WebSocket(..)` gets every message at least once, with few duplicates. Nothing is
//!    added to its messages.
//! 3. **The truth is told.** When something is gone, the client learns which positions and why, and the handler learns how
//!    each client came ([`Event::Attached`]).
//! 4. **The newest connection wins at once**, or as [`Attach`] says.
//! 5. **A session in use does not expire.** An unused one does ([`SessionResume::with_unused_lifetime`]).
//! 6. **A session always ends in an [`Outcome`]**, which can be polled without a socket.
//! 7. **A restart is a drop.** With a [store], `kill -9` loses no acknowledged message and no committed state
//!    ([`Durability`]).
//! 8. **Nothing grows without a bound** ([`Limits`]).
//! 9. **Nobody gets into another's session**: a signed [cookie](IdentityCookie), an
//!    [origin check](AllowedOrigins), [keys](key) scoped by identity.
//!
//! # What it does not do
//!
//! * It does not run one session on several nodes at once. On Redis any process can go on with a session, one at a time; with
//!   [`with_cluster`](SessionResume::with_cluster) a client may come to any of them.
//! * It does not keep a handler's local variables through a restart, only the state `T`.
//! * It does not make a plain client exactly-once.
//! * Its clients do not go over HTTP yet where WebSockets are blocked; [the server does](docs::over_http).
//!
//! Nothing is released yet: until 0.1.0 names, the wire protocol and the records of stores may change.
//!
//! # Where to read on
//!
//! | you want to know | read |
//! | --- | --- |
//! | how to configure the layer | [`SessionResume`] |
//! | what a handler can do | [`Session`], [`LiveSession`], [`Event`] |
//! | which session a request belongs to | [`key`], then [`reuse`] |
//! | what happens when a second tab comes | [`Attach`] |
//! | what a crash may cost | [`Durability`], [`store`] |
//! | what a stranger can make grow | [`Limits`] |
//! | what a proxy in front must do | [`docs::behind_a_proxy`] |
//! | what goes over plain HTTP | [`docs::over_http`] |
//! | how to write a store | [`docs::write_a_store`] |
//! | how to run several processes without sticky sessions | [`docs::several_nodes`], [`Cluster`] |
//! | how to connect another framework | [`adapter`], [`transport`] |
//!
//! # The crates around it
//!
//! | crate | what it is |
//! | --- | --- |
//! | [`session-resume-axum`](https://docs.rs/session-resume-axum) | extractors, upgrades and a server for axum |
//! | [`session-resume-warp`](https://docs.rs/session-resume-warp) | the same as filters for warp |
//! | [`session-resume-redb`](https://docs.rs/session-resume-redb) | the embedded store: one file |
//! | [`session-resume-redis`](https://docs.rs/session-resume-redis) | a store on Redis or Valkey, for several processes |
//! | [`session-resume-browser`](https://docs.rs/session-resume-browser) | the browser client, embedded: `ResumableSocket` and `notify` |
//! | [`session-resume-client`](https://docs.rs/session-resume-client) | the native client, on tokio |
//! | [`session-resume-testkit`](https://docs.rs/session-resume-testkit) | tests of your application: a browser and a network in memory |
//! | [`session-resume-proto`](https://docs.rs/session-resume-proto) | the rules and the wire protocol, without I/O |
//!
//! # Features
//!
//! All are off by default. The adapters turn on what they need.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `axum` | [`Session`] and [`Identity`] are extractors of axum, [`IdentityChange`] is a part of its responses |
//! | `tungstenite` | `adapter::ResumeUpgrade` and `transport::WebSocket`: WebSockets of frameworks on hyper |
//! | `http` | `adapter::ResumeConnection`: sessions over plain HTTP, on the route of their WebSocket; includes `tungstenite` |
//! | `http2` | WebSockets over HTTP/2 (RFC 8441); includes `tungstenite` |
//! | `server` | `adapter::serve`, a server for layered services, and a stop that drains; includes `http2` and `listen` |
//! | `listen` | `adapter::bind`, a listener whose queue holds a crowd that comes back |
//! | `console` | `console::Console`, which formats log lines for a person |

pub mod docs;
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
    //! elsewhere. [`MemoryStore`] is here for tests and for trying things out. The embedded store that survives a
    //! restart is the crate `session-resume-redb`; the store that several processes share is `session-resume-redis`.
    //!
    //! If you write a backend, [`docs::write_a_store`](crate::docs::write_a_store) is the way through it: the rules are on
    //! [`SnapshotStore`], and [`contract`] checks them.

    pub use crate::{
        durable::snapshot::SetAside,
        words::{
            node::{Incarnation, NodeInfo},
            store::{
                ClusterStore, EngineRun, ErrorKind, LayerNames, MAX_KEY_LEN, MemoryStore,
                RecordKind, Renewed, SnapshotStore, Stamp, StoreError, StoreKey, StoredState,
                Verdict, Versioned, contract,
            },
        },
    };
}

pub mod transport {
    //! What an adapter gives: a stream and sink of frames.

    #[cfg(feature = "tungstenite")]
    pub use crate::door::websocket::WebSocket;
    pub use crate::words::transport::{Frame, Transport, TransportError, TransportErrorKind};
}

/// Which client gets the session when a second one comes, as a setting of the layer
/// ([`with_attach`](SessionResume::with_attach)).
///
/// # Example
///
/// ```
/// use session_resume::{Attach, SessionResume, key};
///
/// // One dashboard per browser, and all its tabs are live.
/// let _ = SessionResume::new().with_attach(Attach::Share);
///
/// // One agent per user on all devices, and the device that came last has it. (A shared key shares by default.)
/// let _ = SessionResume::new()
///     .with_key(key::by_header("x-user").shared())
///     .with_attach(Attach::Takeover);
/// ```
///
/// Clients that may only read ([`Upgrade::read_only`](adapter::Upgrade::read_only)) take part in none of it: they are
/// attached beside the client that has the session.
///
/// # What the variants mean
///
pub use session_resume_proto::session::Attach;
pub use session_resume_proto::{
    Message,
    session::{CatchUp, Overflow, PlainAck},
    wire::CodeError,
};

#[cfg(feature = "axum")]
pub use self::door::axum::{AtOwner, AtOwnerService};
#[cfg(feature = "console")]
pub use self::door::console;
#[cfg(feature = "tungstenite")]
pub use self::door::hop::{Everywhere, Told};
/// Readers that are no clients: [`Session::observe`].
pub mod observe {
    pub use crate::live::session::{Cursor, From, InvalidCursor, Observe, ObserveError, Observed};
}

pub use self::{
    door::{
        adapter,
        layer::{EndedSession, ResponseFuture, SessionResume, SessionResumeService},
    },
    live::minutes::Minute,
    live::session::{
        AttachRequest, AttachedClient, BlockingSession, Carrier, Client, Event, ExpirationGuard,
        IdentityChange, LiveSession, NotDelivered, PostError, Resumed, Session, SessionDuplex,
        SessionInfo, SessionOrigin, SessionSink,
    },
    words::{
        cluster::{Cluster, ClusterView, Elsewhere, LeaseView},
        commit_error::{CommitError, CommitErrorKind},
        config_error::{ConfigError, ConfigErrorKind},
        drain_report::DrainReport,
        durability::Durability,
        id::SessionId,
        identity::{
            Identity, IdentityCookie, IdentityKey, IdentityKeyRole, IdentityKeysError,
            IdentityKeysErrorKind, KeyRotation, SameSite,
        },
        key,
        limits::{Heartbeat, Limits},
        merge::{CustomMerge, MergePolicy, Versions},
        no_message::NoMessage,
        origin::{AllowedOrigins, InvalidOrigin},
        outcome::{HandlerError, IntoOutcome, Outcome, OutcomeStatus, Result},
        outgoing::Outgoing,
        over_http::Http,
        request::RequestView,
        retain::Retain,
        reuse,
        send_error::{SendError, SendErrorKind},
        unreadable::Unreadable,
    },
};
