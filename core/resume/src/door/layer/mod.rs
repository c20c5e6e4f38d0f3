//! The tower layer: identity and key of every request, and nothing else until a handler asks.

mod context;
mod future;
mod service;
mod setters;

use std::{fmt, sync::Arc, time::Duration};

use tower_layer::Layer;

pub use self::{future::ResponseFuture, service::SessionResumeService};
use crate::{
    Message, Session, SessionId,
    live::{registry::Registry, session::SessionInfo},
    words::{config::Config, drain_report::DrainReport},
};

/// The layer, and the handle to all its sessions.
///
/// Put it around a router with `.layer(..)`; clones are the same layer value with the same sessions. The
/// [crate docs](crate) show it in a whole program.
///
/// Every setter makes a *new* layer value with no sessions: configure it first, then clone it.
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
pub struct SessionResume<T = ()> {
    pub(crate) registry: Arc<Registry<T>>,
}

impl SessionResume {
    /// Creates a layer with the default configuration and no state.
    pub fn new() -> Self {
        Self::from_config(Config::new())
    }
}

impl<T> SessionResume<T> {
    pub(crate) fn from_config(config: Config<T>) -> Self {
        Self { registry: Registry::new(config) }
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
        crate::tasks::drain::drain(&self.registry, deadline).await
    }

    /// Returns a description of every session in memory, in no particular order.
    ///
    /// Costs a lock per session: for operators and tests, not for every request.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.registry
            .all()
            .iter()
            .map(|session| Session::reused(Arc::clone(session)).info())
            .collect()
    }

    /// Returns the session with this id, if it is in memory.
    pub fn get(&self, id: SessionId) -> Option<Session<T>> {
        self.registry.by_id(id).map(Session::reused)
    }

    /// Sends a message to every live session, shared and without waiting; returns how many took it.
    ///
    /// A session whose outbox is full is passed over.
    pub fn broadcast(&self, message: impl Into<Message>) -> usize {
        let message = message.into();
        let sessions = self.registry.all();
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
        Self { registry: Arc::clone(&self.registry) }
    }
}

impl<T> fmt::Debug for SessionResume<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionResume")
            .field("config", self.registry.config())
            .field("sessions", &self.registry.live())
            .finish()
    }
}

impl<S, T> Layer<S> for SessionResume<T> {
    type Service = SessionResumeService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionResumeService::new(inner, Arc::clone(&self.registry))
    }
}
