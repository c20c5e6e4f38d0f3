//! The tower layer: identity and key of every request, and nothing else until a handler asks.

mod context;
mod future;
mod identities;
mod identity_keys;
mod service;
mod setters;
mod survey;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tower_layer::Layer;

pub use self::{future::ResponseFuture, service::SessionResumeService, survey::EndedSession};
use crate::{
    ClusterView, ConfigError, ConfigErrorKind, Message, Session, SessionId,
    live::{registry::Registry, session::SessionInfo},
    words::{config::Config, drain_report::DrainReport, store::LayerName},
};

/// The layer, and the handle to all its sessions.
///
/// Put it around a router with `.layer(..)`; clones are the same layer value with the same sessions. The
/// [crate docs](crate) show it in a whole program.
///
/// A setter makes a new layer value, which has no sessions: call the setters first, then clone. A layer that is not in
/// use yet can be a template for several others. It is put to use by `.layer(..)`, and by every method that asks for its
/// sessions, such as [`sessions`](Self::sessions) or [`drain`](Self::drain).
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use serde::{Deserialize, Serialize};
/// use session_resume::{Attach, SessionResume, store::MemoryStore};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Cart { items: Vec<String> }
///
/// let resume = SessionResume::new()
///     .with_state::<Cart>()                               // each session has a cart
///     .with_attach(Attach::Share)                         // all tabs of a browser at once
///     .with_unused_lifetime(Duration::from_secs(600))     // kept for 10 min after the last tab has gone
///     .with_store(MemoryStore::new());                    // in a program: RedbStore or RedisStore
///
/// // let app = Router::new().route("/live", any(live)).layer(resume.clone());
///
/// // The clone that stays here is the way to all sessions.
/// assert_eq!(resume.broadcast("the shop closes at noon"), 0);
/// assert!(resume.sessions().is_empty());
/// ```
///
/// # Settings that cannot work
///
/// The setters take every value, in every order. [`validate`](Self::validate) tells what cannot work together. A
/// program that does not ask gets the same text as a panic where the layer is put to use.
///
/// ```
/// use session_resume::{IdentityCookie, SessionResume};
///
/// let resume = SessionResume::new().with_identity(IdentityCookie::new("my cookie"));
/// let error = resume.validate().unwrap_err();
/// assert_eq!(error.to_string(), r#""my cookie" cannot be the name of a cookie"#);
/// ```
pub struct SessionResume<T = ()> {
    inner: Arc<Inner<T>>,
}

/// What the clones of a layer value share.
struct Inner<T> {
    config: Config<T>,
    /// The layer's name in its store, from the first [`SessionResume::validate`] that finds nothing wrong.
    name: Mutex<Option<Arc<LayerName>>>,
    /// There from the first use.
    registry: OnceLock<Arc<Registry<T>>>,
}

impl SessionResume {
    /// Creates a layer with the default configuration and no state.
    pub fn new() -> Self {
        Self::from_config(Config::new())
    }
}

impl<T> SessionResume<T> {
    pub(crate) fn from_config(config: Config<T>) -> Self {
        let (name, registry) = (Mutex::new(None), OnceLock::new());
        Self { inner: Arc::new(Inner { config, name, registry }) }
    }

    /// Checks whether the settings can work together, and takes the layer's name in its store.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] with every conflict that is found. One that is not in the layer alone may go: that another
    /// layer has the name in the store.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.ready().map(drop)
    }

    /// Checks the settings; returns the name that the layer has in its store from now on.
    fn ready(&self) -> Result<Option<Arc<LayerName>>, ConfigError> {
        let Inner { config, name, .. } = &*self.inner;
        ConfigError::check(config.conflicts())?;
        let Some(names) = &config.names else {
            return Ok(None);
        };
        // Under one lock: clones that ask at the same time are one layer.
        let mut name = name.lock().unwrap_or_else(PoisonError::into_inner);
        if name.is_none() {
            let taken = names.take(&config.name).ok_or_else(|| {
                let name = config.name.to_string();
                ConfigError::from(ConfigErrorKind::NameTaken { name })
            })?;
            *name = Some(Arc::new(taken));
        }
        Ok(name.clone())
    }

    /// Returns the layer's sessions. From the first call on the layer is in use.
    ///
    /// # Panics
    ///
    /// Panics if the settings cannot work.
    #[track_caller]
    pub(crate) fn registry(&self) -> &Arc<Registry<T>> {
        if let Some(registry) = self.inner.registry.get() {
            return registry;
        }
        match self.ready() {
            Ok(name) => {
                let build = || Registry::new(self.inner.config.clone(), name);
                self.inner.registry.get_or_init(build)
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl<T: Send + 'static> SessionResume<T> {
    /// Ends the layer's work: no new session, no new transport; every session goes to its next boundary
    /// (no message in hand) and stops there; then all transports are told to come back, and closed.
    ///
    /// Await it inside the framework's shutdown signal: graceful shutdown of hyper does not wait for
    /// upgraded sockets. A session whose handler is still busy with a message at the deadline is cut. A
    /// repeated call returns the same report.
    ///
    /// # Cancel safety
    ///
    /// A drain goes on when its future is dropped; call again to await it.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        crate::tasks::drain::drain(self.registry(), deadline).await
    }

    /// Returns what this node knows of itself and of the others; `None` without
    /// [`with_cluster`](Self::with_cluster).
    pub fn cluster(&self) -> Option<ClusterView> {
        let registry = self.registry();
        registry.node().map(|node| node.view(registry.silenced()))
    }

    /// Returns whether this process should be sent clients: it does not drain and, in a cluster, holds its lease. What a
    /// readiness probe asks.
    pub fn is_ready(&self) -> bool {
        let registry = self.registry();
        !registry.drain.is_draining() && registry.node().is_none_or(|node| node.holds())
    }

    /// Puts the layer to work, and waits until the node holds its lease, at most this long; returns whether it does. Without a
    /// cluster there is nothing to wait for.
    ///
    /// A layer begins its work with the first request in any case.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the work goes on.
    pub async fn start(&self, patience: Duration) -> bool {
        let registry = self.registry();
        crate::tasks::start(registry);
        match registry.node() {
            None => true,
            Some(node) => node.held_by(tokio::time::Instant::now() + patience).await,
        }
    }

    /// Returns a description of every session in memory, in no particular order.
    ///
    /// Costs a lock per session: for operators and tests, not for every request. [`survey`](Self::survey) keeps no list.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.registry()
            .all()
            .iter()
            .map(|session| Session::reused(Arc::clone(session)).info())
            .collect()
    }

    /// Returns how many pipes there are: transports made of requests.
    #[cfg(feature = "http")]
    pub fn pipes(&self) -> usize {
        self.registry().pipes.len()
    }

    /// Returns the session with this id, if it is in memory.
    pub fn get(&self, id: SessionId) -> Option<Session<T>> {
        self.registry().by_id(id).map(Session::reused)
    }

    /// Sends a message to every live session of this process, shared and without waiting; returns how many took it.
    ///
    /// A session whose outbox is full is passed over.
    #[cfg_attr(
        feature = "tungstenite",
        doc = "[`everywhere`](Self::everywhere) reaches all nodes of a cluster."
    )]
    pub fn broadcast(&self, message: impl Into<Message>) -> usize {
        let message = message.into();
        let sessions = self.registry().all();
        sessions
            .into_iter()
            .filter(|shared| Session::reused(Arc::clone(shared)).try_send(message.clone()).is_ok())
            .count()
    }
}

impl Default for SessionResume {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for SessionResume<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for SessionResume<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionResume")
            .field("config", &self.inner.config)
            .field("sessions", &self.inner.registry.get().map_or(0, |registry| registry.live()))
            .finish()
    }
}

impl<S, T> Layer<S> for SessionResume<T> {
    type Service = SessionResumeService<S, T>;

    /// Puts the layer around a service.
    ///
    /// # Panics
    ///
    /// Panics if the settings cannot work, with the text that [`SessionResume::validate`] returns.
    #[track_caller]
    fn layer(&self, inner: S) -> Self::Service {
        SessionResumeService::new(inner, Arc::clone(self.registry()))
    }
}
