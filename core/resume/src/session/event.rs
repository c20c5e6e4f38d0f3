use std::fmt;

use http::{HeaderMap, Uri, request::Parts};
use session_resume_proto::{
    ClientId, Message,
    session::{ClientKind, ClientName, Who},
};

use crate::{Identity, random};

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
    /// A plain WebSocket cannot name itself: each transport is told apart, none is known again.
    Plain(u64),
}

impl Client {
    pub(crate) fn of(who: &Who<Peer>) -> Self {
        let ClientName { identity, kind } = who.name;
        let kind = match kind {
            ClientKind::Named(id) => Kind::Named(id),
            ClientKind::Plain => Kind::Plain(u64::from_be_bytes(who.info.serial)),
        };
        Self { identity: Identity::of_tag(identity), kind }
    }

    /// Returns whose it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the id that the client has given itself; `None` for a plain WebSocket.
    pub fn id(&self) -> Option<&str> {
        match &self.kind {
            Kind::Named(id) => Some(id.as_str()),
            Kind::Plain(_) => None,
        }
    }
}

/// Shows its id alone.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Named(id) => id.fmt(f),
            Kind::Plain(serial) => write!(f, "plain-{serial}"),
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

/// What the handler is told besides, or with, its messages.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A data message.
    #[non_exhaustive]
    Message {
        /// The message.
        message: Message,
        /// Who sent it.
        client: Client,
        /// As whom.
        identity: Identity,
    },
    /// A client has attached.
    #[non_exhaustive]
    Attached {
        /// Who.
        client: Client,
        /// As whom.
        identity: Identity,
        /// Whether it goes on where it was. If not, it has none of the messages sent so far.
        resumed: bool,
        /// Whether it starts with a checkpoint message.
        checkpoint: bool,
        /// The request with which it came.
        request: Option<Box<AttachRequest>>,
    },
    /// A client has detached; follows its `Attached` exactly once.
    #[non_exhaustive]
    Detached {
        /// Who.
        client: Client,
    },
}

/// What the machine keeps of a client for the application, besides its name.
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
