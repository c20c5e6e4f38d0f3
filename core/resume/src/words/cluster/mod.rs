//! Several nodes on one engine: what is set, and what a node knows of itself and of the others.

mod arrival;
mod membership;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;

pub(crate) use self::{
    arrival::{Arrival, Owner, decide},
    membership::{Counted, Membership},
};
use crate::words::{
    config_error::ConfigErrorKind,
    node::{Incarnation, NodeInfo},
    store::{ClusterStore, erased_cluster::ErasedClusterStore},
};

const SHORTEST_LEASE: Duration = Duration::from_secs(2);
const LONGEST_LEASE: Duration = Duration::from_secs(60);

/// Several nodes that share the sessions of one engine, behind a load balancer without sticky sessions.
///
/// Given to [`SessionResume::with_cluster`](crate::SessionResume::with_cluster). A client may come to any node: its session
/// goes on where its handler runs, or, if that node is gone, at the node where the client is now.
///
/// ```
/// use std::time::Duration;
/// use session_resume::{Cluster, SessionResume, store::MemoryStore};
///
/// // In a program: RedisStore::connect(..).
/// let engine = MemoryStore::new();
/// let resume = SessionResume::new().with_cluster(
///     Cluster::new(engine)
///         .with_name("pod-1")
///         .with_advertise("10.0.0.7:7946")
///         .with_lease(Duration::from_secs(5)),
/// );
/// assert!(resume.validate().is_ok());
/// ```
pub struct Cluster<S> {
    store: S,
    name: String,
    advertise: Option<String>,
    lease: Duration,
    elsewhere: Elsewhere,
    max_relays: Option<usize>,
}

/// What [`SessionResume::cluster`](crate::SessionResume::cluster) tells of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterView {
    /// The node's name.
    pub name: String,
    /// Its present life, as the engine knows it.
    pub incarnation: Incarnation,
    /// Whether it may speak for its sessions.
    pub lease: LeaseView,
    /// How long it may do so without another renewal.
    pub left: Duration,
    /// The nodes of the directory, this one included, as they were when the directory was last read.
    pub nodes: Vec<NodeInfo>,
    /// How many transports here have their session at another node.
    pub relays: usize,
    /// How many requests of other nodes are being answered here.
    pub hops: usize,
    /// How many sessions here are silent until the lease is back.
    pub frozen: usize,
}

/// Where a node stands with its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseView {
    /// The node may speak for its sessions.
    Held,
    /// It may not, until the engine has answered a renewal.
    Lapsed,
    /// The engine does not know this incarnation yet, or has let go of it, and the node has no new one yet.
    Gone,
}

impl LeaseView {
    /// Returns `held`, `lapsed` or `gone`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Lapsed => "lapsed",
            Self::Gone => "gone",
        }
    }
}

/// What is done with a request whose session is at another node.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Elsewhere {
    /// It is sent once more, to that node, and the bytes are copied: the running handler goes on. The nodes must reach each
    /// other.
    #[default]
    Relay,
    /// That node is asked to hand the session over. Its handler ends when it has come to `recv` or `commit` with no message in
    /// hand, and starts anew here: for applications that keep everything in the session's state. The request waits until then,
    /// for a lease and 5 s at most, 15 s in all; it is told to come back if the handler is busy for longer. Requests that only
    /// ask for a session by its id, that have a body, or that belong to a pipe are sent on as with [`Relay`](Self::Relay).
    HandOver,
    /// It is answered `421 Misdirected Request` with these headers, by which the platform sends it to that node (`fly-replay`
    /// and the like).
    Reroute(fn(&NodeInfo) -> HeaderMap),
}

impl<S: ClusterStore> Cluster<S> {
    /// How long a lease lasts if nothing else is said: 5 s.
    pub const DEFAULT_LEASE: Duration = Duration::from_secs(5);

    /// A node on this engine. The engine is the layer's store, too.
    pub fn new(store: S) -> Self {
        Self {
            store,
            name: host_name(),
            advertise: None,
            lease: Self::DEFAULT_LEASE,
            elsewhere: Elsewhere::Relay,
            max_relays: None,
        }
    }

    /// Sets the node's name, unique among the nodes that run. Default: the host's name.
    ///
    /// A process that starts again under its old name takes that name over: what its last life owned is free at once.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the address, `host:port`, at which the other nodes reach the listener that `serve_hops` was given.
    #[must_use]
    pub fn with_advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Sets how long the engine waits for a node that says nothing, 2 s to 60 s. Default 5 s.
    ///
    /// If a node dies, its clients wait this long, unless a process of that name starts again before.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets what is done with a request whose session is at another node. Default: [`Elsewhere::Relay`].
    ///
    /// All nodes should have the same. A node that cannot reach the owner for a whole lease, though the engine says that it
    /// lives, asks it to hand over in any case.
    #[must_use]
    pub fn with_elsewhere(mut self, elsewhere: Elsewhere) -> Self {
        self.elsewhere = elsewhere;
        self
    }

    /// Sets how many transports may be here whose session is at another node. Default: as many as the layer may have
    /// sessions. One more is told to come back later.
    #[must_use]
    pub fn with_max_relays(mut self, relays: usize) -> Self {
        self.max_relays = Some(relays);
        self
    }

    /// Returns what the layer keeps, and the store itself as an object.
    pub(crate) fn into_config(self) -> (ClusterConfig, Arc<S>) {
        let store = Arc::new(self.store);
        let config = ClusterConfig {
            store: Arc::clone(&store) as Arc<dyn ErasedClusterStore>,
            name: self.name.into(),
            advertise: self.advertise.map(Into::into),
            lease: self.lease,
            elsewhere: self.elsewhere,
            max_relays: self.max_relays,
        };
        (config, store)
    }
}

impl<S> fmt::Debug for Cluster<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("name", &self.name)
            .field("advertise", &self.advertise)
            .field("lease", &self.lease)
            .field("elsewhere", &self.elsewhere)
            .finish_non_exhaustive()
    }
}

/// The settings of a node, as the layer keeps them.
#[derive(Clone, Debug)]
pub(crate) struct ClusterConfig {
    pub(crate) store: Arc<dyn ErasedClusterStore>,
    pub(crate) name: Arc<str>,
    pub(crate) advertise: Option<Arc<str>>,
    pub(crate) lease: Duration,
    #[cfg_attr(not(feature = "tungstenite"), allow(dead_code, reason = "hops need hyper"))]
    pub(crate) elsewhere: Elsewhere,
    pub(crate) max_relays: Option<usize>,
}

impl ClusterConfig {
    /// Returns what cannot work; whether the address is reached is not known here.
    pub(crate) fn conflict(&self) -> Option<ConfigErrorKind> {
        let bounds = SHORTEST_LEASE..=LONGEST_LEASE;
        let one_line =
            |text: &str| !text.is_empty() && text.len() < 256 && !text.contains(['\n', '\r']);
        if !bounds.contains(&self.lease) {
            return Some(ConfigErrorKind::ClusterLease { lease: self.lease });
        }
        if !one_line(&self.name) {
            return Some(ConfigErrorKind::ClusterNode { name: self.name.to_string() });
        }
        let is_address = |address: &&str| {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            one_line(address) && !address.starts_with(':') && port.is_some_and(|port| port > 0)
        };
        let address = self.advertise.as_deref();
        if !address.as_ref().is_some_and(is_address) {
            return Some(ConfigErrorKind::ClusterAddress { address: address.map(str::to_owned) });
        }
        None
    }
}

fn host_name() -> String {
    let from_env = std::env::var("HOSTNAME").ok();
    let read = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_env.or_else(read).map(|name| name.trim().to_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "node".to_owned())
}
