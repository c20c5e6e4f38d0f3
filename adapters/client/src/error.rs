use std::fmt;

use crate::{Cause, Message, SendErrorKind};

/// A setting that cannot work.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not a `ws://` or `wss://` URL with a host.
    Url {
        /// What was given.
        url: String,
    },
    /// A `wss://` URL, and no TLS feature is on.
    NoTls {
        /// What was given.
        url: String,
    },
    /// A header whose name or value is not allowed, or which this client sets itself.
    Header {
        /// Its name.
        name: String,
    },
    /// A cookie that is not `name=value`.
    Cookie,
}

/// The first attempt came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The attempt was never made.
    Config(ConfigError),
    /// The attempt failed, or was refused.
    Failed {
        /// Why.
        cause: Cause,
    },
}

/// A message that was not taken for sending, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct SendError {
    kind: SendErrorKind,
    message: Message,
}

/// What [`Client::close`](crate::Client::close) could not deliver.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Undelivered {
    /// Sent, but whether the server handled them is not known.
    pub in_doubt: Vec<Message>,
    /// Never handled.
    pub unsent: Vec<Message>,
    /// How many were acknowledged and then [taken back](crate::Event::TakenBack).
    pub taken_back: u64,
}

impl SendError {
    pub(crate) fn new(kind: SendErrorKind, message: Message) -> Self {
        Self { kind, message }
    }

    /// Returns why.
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// Returns the message.
    pub fn into_message(self) -> Message {
        self.message
    }
}

impl From<ConfigError> for ConnectError {
    fn from(err: ConfigError) -> Self {
        Self::Config(err)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url { url } => write!(f, "not a ws:// or wss:// URL: {url}"),
            Self::NoTls { url } => write!(f, "no TLS feature is on for {url}"),
            Self::Header { name } => write!(f, "header cannot be set: {name}"),
            Self::Cookie => f.write_str("cookie is not name=value"),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(_) => f.write_str("client is not set up right"),
            Self::Failed { cause } => write!(f, "no session: {cause}"),
        }
    }
}

/// Without the message: it may be long, or secret.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

/// Without the messages: they may be long, or secret.
impl fmt::Debug for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Undelivered")
            .field("in_doubt", &self.in_doubt.len())
            .field("unsent", &self.unsent.len())
            .field("taken_back", &self.taken_back)
            .finish()
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "closed with {} messages in doubt, {} unsent and {} taken back",
            self.in_doubt.len(),
            self.unsent.len(),
            self.taken_back
        )
    }
}

impl std::error::Error for ConfigError {}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(err) => Some(err),
            Self::Failed { .. } => None,
        }
    }
}

impl std::error::Error for SendError {}

impl std::error::Error for Undelivered {}
