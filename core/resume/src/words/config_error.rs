//! What cannot work together.

use std::{fmt, time::Duration};

/// Settings of a layer, or of its identity cookie, that cannot work.
///
/// [`SessionResume::validate`](crate::SessionResume::validate) returns it. A program that does not ask gets the same
/// text as a panic where the layer is put to use, not at the first request.
///
/// `Display` tells of every conflict and names the fix of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one.
    kinds: Vec<ConfigErrorKind>,
}

/// One conflict of a [`ConfigError`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigErrorKind {
    /// The cookie's name is empty or has characters that no cookie name may have.
    CookieName {
        /// The name as given.
        name: String,
    },
    /// The cookie's domain is not a host name in ASCII.
    CookieDomain {
        /// The domain as given.
        domain: String,
    },
    /// The cookie's path does not begin with `/`, or has `;` or characters outside ASCII.
    CookiePath {
        /// The path as given.
        path: String,
    },
    /// The cookie's `Max-Age` is under one second, which deletes it at once.
    CookieMaxAge {
        /// The age as given.
        max_age: Duration,
    },
    /// `SameSite=None` with `Secure` switched off.
    SameSiteNoneNotSecure,
    /// The cookie is `Partitioned` and not `Secure`: browsers drop it.
    PartitionedNotSecure,
    /// The name begins with `__Secure-` or `__Host-`, and the cookie breaks that prefix's promise.
    CookiePrefix {
        /// The name with its prefix.
        name: String,
        /// The promise: `Secure`, `Path=/` or `no Domain`.
        needs: &'static str,
    },
    /// A time of the heartbeat is shorter than 1 ms: the server would do nothing but ping.
    Heartbeat {
        /// The shortest of interval and pong timeouts.
        shortest: Duration,
    },
    /// The layer's name is longer than 64 bytes.
    LayerName {
        /// How long it is, in bytes.
        length: usize,
    },
    /// A store for a state that cannot be stored: that of `with_memory_state`.
    MemoryStateInStore,
    /// The function of a `MergePolicy::custom` is for another type of state.
    MergeOfAnotherState,
    /// `with_snapshots_of_copies` was called for another type of state.
    CopiesOfAnotherState,
    /// A setter was called on a layer that is in use: the new layer would leave its sessions behind.
    SetInUse {
        /// The first such setter.
        setter: &'static str,
    },
    /// A node of a cluster needs a lease of 2 s to 60 s.
    ClusterLease {
        /// The lease as given.
        lease: Duration,
    },
    /// A node of a cluster needs a name of 1 to 255 bytes on one line.
    ClusterNode {
        /// The name as given.
        name: String,
    },
    /// A node of a cluster needs an address, `host:port`, at which the others reach it.
    ClusterAddress {
        /// The address as given.
        address: Option<String>,
    },
    /// Another layer uses the store under the same name: each would take the other's sessions.
    NameTaken {
        /// The name.
        name: String,
    },
}

impl ConfigError {
    /// Returns these conflicts as one error, if there are any.
    pub(crate) fn check(kinds: Vec<ConfigErrorKind>) -> Result<(), Self> {
        if kinds.is_empty() { Ok(()) } else { Err(Self { kinds }) }
    }

    /// Returns the first conflict.
    pub fn kind(&self) -> &ConfigErrorKind {
        &self.kinds[0]
    }

    /// Returns every conflict that was found; they are in the order of the variants of [`ConfigErrorKind`].
    pub fn kinds(&self) -> &[ConfigErrorKind] {
        &self.kinds
    }
}

impl From<ConfigErrorKind> for ConfigError {
    fn from(kind: ConfigErrorKind) -> Self {
        Self { kinds: vec![kind] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, kind) in self.kinds.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            kind.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CookieName { name } => write!(f, "{name:?} cannot be the name of a cookie"),
            Self::CookieDomain { domain } => {
                write!(f, "{domain:?} cannot be the domain of a cookie")
            }
            Self::CookiePath { path } => write!(f, "{path:?} cannot be the path of a cookie"),
            Self::CookieMaxAge { max_age } => {
                write!(f, "a cookie must live for at least 1 s (got {max_age:?})")
            }
            Self::SameSiteNoneNotSecure => {
                f.write_str("a cookie with SameSite=None must be Secure")
            }
            Self::PartitionedNotSecure => f.write_str("a partitioned cookie must be Secure"),
            Self::CookiePrefix { name, needs } => {
                write!(f, "the prefix of the cookie name {name:?} needs {needs}")
            }
            Self::Heartbeat { shortest } => write!(
                f,
                "a heartbeat of {shortest:?}: interval and pong timeouts are at least 1 ms; Heartbeat::off() is \
                 without pings"
            ),
            Self::LayerName { length } => write!(
                f,
                "the name of a layer is at most 64 bytes long: with_name was given {length} bytes"
            ),
            Self::MemoryStateInStore => f.write_str(
                "with_memory_state makes a state that cannot be stored: leave with_store out, or use with_state or \
                 with_state_from",
            ),
            Self::MergeOfAnotherState => f.write_str(
                "MergePolicy::custom is for one type of state: call with_merge after with_state",
            ),
            Self::CopiesOfAnotherState => f.write_str(
                "with_snapshots_of_copies is for one type of state: call it after with_state",
            ),
            Self::SetInUse { setter } => write!(
                f,
                "{setter} was called on a layer that is in use: its sessions would be left behind. Call the setters \
                 first, then put the layer around a router; a second layer begins with SessionResume::new()"
            ),
            Self::ClusterLease { lease } => {
                write!(f, "the lease of a node is 2 s to 60 s long: with_lease was given {lease:?}")
            }
            Self::ClusterNode { name } => write!(
                f,
                "the name of a node has 1 to 255 bytes, on one line: Cluster::with_name was given {name:?}"
            ),
            Self::ClusterAddress { address: None } => f.write_str(
                "the other nodes must reach this one: give Cluster::with_advertise the address of the listener that \
                 serve_hops has, as in .with_advertise(\"10.0.0.7:7946\")",
            ),
            Self::ClusterAddress { address: Some(address) } => write!(
                f,
                "{address:?} is not an address that the other nodes can dial: Cluster::with_advertise wants host:port"
            ),
            Self::NameTaken { name } => write!(
                f,
                "two layers use one store under the name {name:?} and would take each other's sessions: give each a \
                 name of its own, as in .with_name(\"dashboard\"), or clone one layer after its last setter"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
