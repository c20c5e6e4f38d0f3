use std::{error::Error, fmt};

use session_resume::store::{ErrorKind, StoreError};

/// What to say of one that is used alone.
pub(crate) const NODE_OF_A_CLUSTER: &str =
    "it is a node of a cluster: its URL begins with redis-cluster://";

/// Why a store could not be connected to its engine.
///
/// The text names the host and the reason in one line, and no user or password.
#[derive(Debug)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    address: String,
    reason: String,
}

/// What kind of failure a [`ConnectError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The URL or a setting cannot be used, or asks for something that this build does not have.
    Invalid,
    /// No server answers there, or not in time.
    Unreachable,
    /// The engine refuses the user or the password, or the user may not do what the store needs.
    Denied,
    /// It is not Redis from 7.0 on, nor Valkey; or it is a replica.
    WrongEngine,
    /// Its configuration would lose sessions, or stop them.
    Configuration,
}

impl ConnectError {
    pub(crate) fn new(
        kind: ConnectErrorKind,
        address: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        let reason = one_line(&reason.into());
        Self { kind, address: address.into(), reason }
    }

    /// Why the server at this address is not used.
    pub(crate) fn of(failure: Failure, address: &str) -> Self {
        let kind = match failure.kind {
            FailureKind::Connection | FailureKind::Silence => ConnectErrorKind::Unreachable,
            FailureKind::Denied => ConnectErrorKind::Denied,
            FailureKind::Full
            | FailureKind::NotNow
            | FailureKind::Replicas
            | FailureKind::WrongType
            | FailureKind::NoScript
            | FailureKind::Apart
            | FailureKind::Strange => ConnectErrorKind::WrongEngine,
            FailureKind::Moved | FailureKind::Ask => {
                return Self::new(ConnectErrorKind::WrongEngine, address, NODE_OF_A_CLUSTER);
            }
        };
        Self::new(kind, address, failure.text)
    }

    /// Returns what kind of failure this is.
    pub const fn kind(&self) -> ConnectErrorKind {
        self.kind
    }
}

impl Error for ConnectError {}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, reason, .. } = self;
        match self.kind {
            ConnectErrorKind::Invalid => write!(f, "the Redis store cannot be used: {reason}"),
            ConnectErrorKind::Unreachable => write!(f, "cannot reach Redis at {address}: {reason}"),
            ConnectErrorKind::Denied => write!(f, "Redis at {address} refuses us: {reason}"),
            ConnectErrorKind::WrongEngine => {
                write!(f, "{address} cannot keep sessions: {reason}")
            }
            ConnectErrorKind::Configuration => {
                write!(f, "Redis at {address} is not configured to keep sessions: {reason}")
            }
        }
    }
}

/// A failure of the engine or of the way to it, without anything secret.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// Not reached, or cut off.
    Connection,
    /// It has not answered in time.
    Silence,
    /// User, password or rights.
    Denied,
    /// It says that it does not write now: it is a replica, loads, or lacks its replicas.
    NotNow,
    /// It has no room.
    Full,
    /// The key has a value that we have not written.
    WrongType,
    /// It has written, and too few replicas have said so in time.
    Replicas,
    /// It has forgotten the script.
    NoScript,
    /// It does not take these keys in one call, which was not executed.
    Apart,
    /// Another node of the cluster has the key, from now on. The call was not executed.
    Moved,
    /// Another node of the cluster has the key, or will have it. The call was not executed.
    Ask,
    /// It says something else that is an error, or nothing that we understand.
    Strange,
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, text: impl Into<String>) -> Self {
        Self { kind, text: one_line(&text.into()) }
    }

    /// What an answer says that is an error.
    pub(crate) fn of_server(code: &str, details: Option<&str>) -> Self {
        let kind = match code {
            "NOSCRIPT" => FailureKind::NoScript,
            "CROSSSLOT" => FailureKind::Apart,
            "MOVED" => FailureKind::Moved,
            "ASK" => FailureKind::Ask,
            "OOM" => FailureKind::Full,
            "WRONGTYPE" => FailureKind::WrongType,
            "NOAUTH" | "WRONGPASS" | "NOPERM" => FailureKind::Denied,
            "READONLY" | "LOADING" | "MASTERDOWN" | "NOREPLICAS" | "MISCONF" | "BUSY"
            | "CLUSTERDOWN" | "TRYAGAIN" => FailureKind::NotNow,
            _ => FailureKind::Strange,
        };
        let text = details.map_or(code.to_owned(), |details| format!("{code} {details}"));
        Self::new(kind, text)
    }

    pub(crate) fn from_client(error: &redis::RedisError) -> Self {
        let detail = error.detail();
        match error.kind() {
            redis::ErrorKind::AuthenticationFailed => {
                // What the engine has said is the detail; it names no password.
                let text = detail.unwrap_or("wrong user or password");
                // A full engine says so instead of greeting.
                let full = text.contains("max number of clients");
                let kind = if full { FailureKind::NotNow } else { FailureKind::Denied };
                Self::new(kind, text)
            }
            redis::ErrorKind::Server(_) | redis::ErrorKind::Extension => {
                Self::of_server(error.code().unwrap_or("ERR"), detail)
            }
            redis::ErrorKind::Io => Self::new(FailureKind::Connection, error.to_string()),
            _ => Self::new(FailureKind::Strange, error.to_string()),
        }
    }

    /// Whether the connection is of no more use.
    pub(crate) fn ends_connection(&self) -> bool {
        match self.kind {
            FailureKind::Connection
            | FailureKind::Silence
            | FailureKind::Denied
            | FailureKind::NotNow => true,
            FailureKind::Full
            | FailureKind::WrongType
            | FailureKind::Replicas
            | FailureKind::NoScript
            | FailureKind::Apart
            | FailureKind::Moved
            | FailureKind::Ask
            | FailureKind::Strange => false,
        }
    }

    /// Whether a node of a cluster has named another one.
    pub(crate) fn is_redirect(&self) -> bool {
        matches!(self.kind, FailureKind::Moved | FailureKind::Ask)
    }

    /// The same, with whose failure it is.
    pub(crate) fn of(self, prefix: &str) -> Self {
        Self { text: format!("{prefix}{}", self.text), ..self }
    }

    pub(crate) fn into_store_error(self, address: &str) -> StoreError {
        let kind = match self.kind {
            FailureKind::Full => ErrorKind::Full,
            FailureKind::WrongType => ErrorKind::Corrupt,
            FailureKind::Connection
            | FailureKind::Silence
            | FailureKind::Denied
            | FailureKind::Replicas
            | FailureKind::Moved
            | FailureKind::Ask
            | FailureKind::NotNow => ErrorKind::Unavailable,
            FailureKind::NoScript | FailureKind::Apart | FailureKind::Strange => ErrorKind::Io,
        };
        StoreError::new(kind, format!("Redis at {address}: {}", self.text))
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
