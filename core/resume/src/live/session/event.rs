use std::fmt;

use http::{HeaderMap, Uri, request::Parts};
use session_resume_proto::{
    ClientId, Message,
    session::{ClientKind, ClientName, Who},
};

use crate::{Identity, words::random};

/// One page or program instance, as the handler sees it. Outlives its transports.
///
/// Under a shared key, clients of different identities are different clients, whatever they call themselves; and
/// after [`Session::cycle_identity`](crate::Session::cycle_identity) those of that browser are new ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    identity: Identity,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Named(ClientId),
    /// A plain WebSocket cannot name itself: each transport is a client of its own, and none is known again.
    Plain(u64),
    /// The same, and it may only read.
    PlainWatcher(u64),
}

impl Client {
    pub(crate) fn of(who: &Who<Peer>) -> Self {
        let ClientName { identity, kind } = who.name;
        let kind = match kind {
            ClientKind::Named(id) => Kind::Named(id),
            ClientKind::Plain => Kind::Plain(u64::from_be_bytes(who.info.serial)),
            ClientKind::PlainWatcher => Kind::PlainWatcher(u64::from_be_bytes(who.info.serial)),
        };
        Self { identity: Identity::of_tag(identity), kind }
    }

    /// As the machine knows it.
    pub(crate) fn name(&self) -> ClientName {
        let identity = self.identity.tag();
        match self.kind {
            Kind::Named(id) => ClientName::named(identity, id),
            Kind::Plain(_) => ClientName::plain(identity),
            Kind::PlainWatcher(_) => ClientName::plain_watcher(identity),
        }
    }

    /// Whether it is the plain transport of which the machine keeps this.
    pub(crate) fn is_transport(&self, peer: Peer) -> bool {
        let serial = u64::from_be_bytes(peer.serial);
        self.kind == Kind::Plain(serial) || self.kind == Kind::PlainWatcher(serial)
    }

    /// Returns the client's identity.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the id that the client has given itself; `None` for a plain WebSocket.
    pub fn id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Named(id) => Some(id.as_str()),
            Kind::Plain(_) | Kind::PlainWatcher(_) => None,
        }
    }
}

/// Shows its id alone.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Named(id) => id.fmt(f),
            Kind::Plain(serial) | Kind::PlainWatcher(serial) => write!(f, "plain-{serial}"),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The upgrade request with which a client has attached.
#[derive(Clone)]
pub struct AttachRequest {
    uri: Uri,
    headers: HeaderMap,
}

impl AttachRequest {
    pub(crate) fn of(parts: Parts) -> Box<Self> {
        Box::new(Self { uri: parts.uri, headers: parts.headers })
    }

    /// Returns the URI.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Returns the headers, cookies and credentials included.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

/// Shows the path alone: query and headers may hold secrets.
impl fmt::Debug for AttachRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachRequest").field("path", &self.uri.path()).finish_non_exhaustive()
    }
}

/// What the handler is told in addition to, or with, its messages.
///
/// # Example
///
/// ```
/// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> session_resume::Result {
/// use session_resume::{Event, LiveSession, Resumed, SessionResume};
///
/// async fn live(mut session: LiveSession) -> session_resume::Result {
///     while let Some(event) = session.recv_event().await {
///         match event {
///             // A page that has nothing yet is sent the whole view. One that goes on where it was needs nothing.
///             Event::Attached { resumed: Resumed::Fresh, client, .. } => {
///                 session.send(format!("welcome, {} are here", session.info().transports)).await?;
///                 tracing::info!(%client, "attached");
///             }
///             Event::Message { message, .. } => session.send(message).await?,
///             // Attached again, Detached, and what is added later.
///             _ => {}
///         }
///     }
///     Ok(())
/// }
///
/// # let resume = SessionResume::new();
/// # let mut browser = browser::Browser::default();
/// # let mut tab = browser.open(&resume, http::Request::get("/live"), live).await;
/// assert_eq!(tab.receive().await, "welcome, 1 are here");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A data message.
    #[non_exhaustive]
    Message {
        /// The message.
        message: Message,
        /// The client that sent it.
        client: Client,
        /// The identity of that client.
        identity: Identity,
    },
    /// A message of a client was given up: the process died three times with it in hand. The session goes on without
    /// it, from its last boundary, and its client is told. Told at most once, and only after a restart.
    #[non_exhaustive]
    Dropped {
        /// The client that had sent it.
        client: Client,
        /// The identity of that client.
        identity: Identity,
        /// How many messages of this client the session had taken before it. Plain clients are counted together.
        number: u64,
    },
    /// A client has attached.
    #[non_exhaustive]
    Attached {
        /// The client.
        client: Client,
        /// The identity of that client.
        identity: Identity,
        /// Whether it may only read: [`Upgrade::read_only`](crate::adapter::Upgrade::read_only).
        read_only: bool,
        /// Whether it goes on where it was.
        resumed: Resumed,
        /// Whether it starts with a checkpoint message.
        checkpoint: bool,
        /// The request with which it came.
        request: Option<Box<AttachRequest>>,
    },
    /// A client has detached; follows its `Attached` exactly once.
    #[non_exhaustive]
    Detached {
        /// The client.
        client: Client,
    },
    /// A plain client cannot take a message, and is sent what comes after it: it has closed with 1009 (too big)
    /// when it was sent this, or has three times ended its transport with this message alone to confirm. Or the message
    /// was for this client alone ([`Session::send_to`](crate::Session::send_to)), and the client is gone: others have
    /// taken over from it, or, under [`Attach::Share`](crate::Attach::Share), its transport is gone.
    ///
    /// A handler that asks for no events is told of no more than 64.
    #[non_exhaustive]
    Undeliverable {
        /// The client.
        client: Client,
        /// The identity of that client.
        identity: Identity,
        /// The message's position: how many messages of the session precede it.
        position: u64,
        /// Its length.
        bytes: usize,
    },
}

/// Whether a client that attaches goes on where it was.
///
/// A sync protocol (Yjs, an editor, anything in which the client may hold what the server has not) begins with a
/// handshake. It need not begin anew with [`Cursor`](Self::Cursor): all that was under way arrives. With
/// [`Fresh`](Self::Fresh) and [`Assumed`](Self::Assumed) it must: the handler sends its first message of the
/// handshake, as to a client that it has never seen. So must any handler whose clients can be loaded anew: it sends
/// its view.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resumed {
    /// It starts anew: it has none of the messages sent so far, but for what it is sent now.
    Fresh,
    /// A plain client whose identity had a plain client here, which goes on behind what that one has confirmed.
    /// It is not known whether it is the same page or program: it may have been loaded anew and hold nothing, and what
    /// it did while it was away, and what was on its way to the server, was never told.
    Assumed,
    /// It speaks `session-resume.v1` and its cursor was honoured: it gets everything behind that, or is told exactly
    /// what is missing, and its own messages arrive exactly once.
    Cursor,
}

/// What the machine keeps of a client for the application, in addition to its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Tells one attach from another.
    pub(crate) serial: Serial,
}

/// Bytes, not a number: so it fits in beside a client's name.
pub(crate) type Serial = [u8; 8];

impl Peer {
    pub(crate) fn new() -> Self {
        Self { serial: random::bytes() }
    }

    /// A client of a stored session.
    pub(crate) const fn gone() -> Self {
        Self { serial: [0; 8] }
    }
}
