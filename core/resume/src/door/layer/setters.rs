use std::{sync::Arc, time::Duration};

use session_resume_proto::session::{Attach, CatchUp, Overflow, PlainAck};

use super::SessionResume;
use crate::{
    AllowedOrigins, Cluster, Durability, Heartbeat, Http, IdentityCookie, Limits, RequestView,
    Retain,
    words::{
        cluster::ClusterConfig,
        config::{Codec, Config, StateSource},
        identity::StoredKeys,
        key::KeyFn,
        merge::MergePolicy,
        reuse::ReusePolicy,
        store::{ClusterStore, SnapshotStore, StoredState, named::Store},
        unreadable::Unreadable,
    },
};

impl<T> SessionResume<T> {
    /// Makes a new layer value with no sessions. `setter` is the setter that does.
    fn configured(self, setter: &'static str, set: impl FnOnce(&mut Config<T>)) -> Self {
        self.retyped(setter, |mut config| {
            set(&mut config);
            config
        })
    }

    fn retyped<U>(
        self,
        setter: &'static str,
        set: impl FnOnce(Config<T>) -> Config<U>,
    ) -> SessionResume<U> {
        let mut config = set(self.inner.config.clone());
        if self.inner.registry.get().is_some() {
            config.set_in_use.get_or_insert(setter);
        }
        SessionResume::from_config(config)
    }

    /// Sets the identity cookie: name, attributes, key.
    ///
    /// [`validate`](Self::validate) tells of a cookie that no browser would take.
    #[must_use]
    pub fn with_identity(self, cookie: IdentityCookie) -> Self {
        self.configured("with_identity", |config| config.cookie = cookie)
    }

    /// Sets which session a request belongs to. Default: [`key::by_identity`](crate::key::by_identity).
    ///
    /// A function of your own is made into a key function by [`key::from_fn`](crate::key::from_fn).
    #[must_use]
    pub fn with_key(self, key: KeyFn) -> Self {
        self.configured("with_key", |config| config.key = key)
    }

    /// Sets how sessions are reached without a WebSocket, on routes that are made for it. Default: [`Http::default`].
    #[must_use]
    pub fn with_http(self, http: Http) -> Self {
        self.configured("with_http", |config| config.http = http)
    }

    /// Sets whether readers and writers without a client of ours are let in on routes that take more than WebSockets:
    /// a browser's `EventSource`, and a `POST` of one message. Default: no.
    ///
    /// # Security
    ///
    /// Such requests are not announced by a preflight. The check of their origin
    /// ([`with_allowed_origins`](Self::with_allowed_origins)) is all that keeps other pages out; a request without
    /// `Origin` must come from the same origin by `Sec-Fetch-Site`, where the browser sends that.
    #[must_use]
    pub fn with_plain_http(self, plain: bool) -> Self {
        self.configured("with_plain_http", |config| config.plain_http = plain)
    }

    /// Sets which clients may reuse a session. Default: all, as with [`reuse::always`](crate::reuse::always). A stored
    /// session whose state does not fit its type any more is an exception: see
    /// [`with_unreadable`](Self::with_unreadable).
    #[must_use]
    pub fn with_reuse(self, policy: ReusePolicy) -> Self {
        self.configured("with_reuse", |config| config.reuse = policy)
    }

    /// Sets what becomes of a stored session whose state does not fit `T` any more, where the reuse policy would
    /// reuse it. Default: [`Unreadable::Refuse`].
    ///
    /// The [reuse policy](crate::reuse) is asked first; if it answers `Fresh`, a new session starts whatever is set
    /// here.
    ///
    /// # Example
    ///
    /// ```
    /// use session_resume::{SessionResume, Unreadable, store::MemoryStore};
    ///
    /// let _ = SessionResume::new().with_unreadable(Unreadable::StartAnew).with_store(MemoryStore::new());
    /// ```
    #[must_use]
    pub fn with_unreadable(self, unreadable: Unreadable) -> Self {
        self.configured("with_unreadable", |config| config.unreadable = unreadable)
    }

    /// Sets which pages may open a WebSocket. Default: those of the same origin.
    #[must_use]
    pub fn with_allowed_origins(self, origins: AllowedOrigins) -> Self {
        self.configured("with_allowed_origins", |config| config.origins = origins)
    }

    /// Sets what happens when a client attaches while another one is there. Default:
    /// [`Attach::Takeover`], so a second tab takes over from the first; under a
    /// [shared](KeyFn::shared) key [`Attach::Share`].
    #[must_use]
    pub fn with_attach(self, attach: Attach) -> Self {
        self.configured("with_attach", |config| config.attach = Some(attach))
    }

    /// Sets what happens when a session's outbox is full. Default: [`Overflow::Backpressure`].
    #[must_use]
    pub fn with_overflow(self, overflow: Overflow) -> Self {
        self.configured("with_overflow", |config| config.rules.overflow = overflow)
    }

    /// Sets how much a pong of a plain client is trusted. Default: [`PlainAck::Trust`].
    #[must_use]
    pub fn with_plain_ack(self, plain_ack: PlainAck) -> Self {
        self.configured("with_plain_ack", |config| config.rules.plain_ack = plain_ack)
    }

    /// Sets what a client gets that comes back far behind. Default: [`CatchUp::Everything`].
    ///
    /// With [`CatchUp::FromCheckpoint`] and a handler that now and then sends its whole view by
    /// [`Session::send_checkpoint`](crate::Session::send_checkpoint), a page that has slept through 20,000 events is
    /// back as fast as one that has missed a few, and its client is told a gap with the reason `checkpoint`.
    ///
    /// ```
    /// # use session_resume::{CatchUp, SessionResume};
    /// SessionResume::new().with_catch_up(CatchUp::FromCheckpoint { after: 500 });
    /// ```
    #[must_use]
    pub fn with_catch_up(self, catch_up: CatchUp) -> Self {
        self.configured("with_catch_up", |config| config.rules.catch_up = catch_up)
    }

    /// Sets what a session keeps of messages that each of its clients has acknowledged. Default: [`Retain::nothing`].
    ///
    /// ```
    /// # use session_resume::{Retain, SessionResume};
    /// SessionResume::new().with_retention(Retain::last(200));
    /// ```
    #[must_use]
    pub fn with_retention(self, retain: Retain) -> Self {
        self.configured("with_retention", |config| config.rules.retention = retain.rules())
    }

    /// Sets how long a session that is not in use is kept: no transport, no guard, no work. Default 2 min.
    ///
    /// It is removed at most a [check interval](Self::with_check_interval) later.
    #[must_use]
    pub fn with_unused_lifetime(self, lifetime: Duration) -> Self {
        self.configured("with_unused_lifetime", |config| config.rules.unused_lifetime = lifetime)
    }

    /// Sets how often sessions are checked for expiry, at least 1 ms. Default 5 s.
    ///
    /// A process that stood still for longer than this had its deadlines moved by as much.
    #[must_use]
    pub fn with_check_interval(self, interval: Duration) -> Self {
        self.configured("with_check_interval", |config| {
            config.check_interval = interval.max(Duration::from_millis(1));
        })
    }

    /// Sets how often each end shows that it lives. Default: ping every 30 s, pong within 20 s, from a plain client
    /// within 60 s.
    ///
    /// Each time is at least 1 ms: a server with a shorter one would do nothing but ping. [`Heartbeat::off`] is a
    /// heartbeat without pings.
    #[must_use]
    pub fn with_heartbeat(self, heartbeat: Heartbeat) -> Self {
        self.configured("with_heartbeat", |config| config.heartbeat = heartbeat)
    }

    /// Sets the bounds on everything that could grow.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        self.configured("with_limits", |config| config.limits = limits)
    }

    /// Sets how long an outcome can be polled, from its completion. Default 24 h.
    #[must_use]
    pub fn with_outcome_lifetime(self, lifetime: Duration) -> Self {
        self.configured("with_outcome_lifetime", |config| config.outcome_lifetime = lifetime)
    }

    /// Gives every session typed state, `T::default()` at first.
    #[must_use]
    pub fn with_state<U>(self) -> SessionResume<U>
    where
        U: Default + StoredState,
    {
        self.with_source("with_state", |_| U::default(), Some(Codec::json()))
    }

    /// Gives every session typed state, built from the request that starts the session.
    #[must_use]
    pub fn with_state_from<U, F>(self, make: F) -> SessionResume<U>
    where
        U: StoredState,
        F: Fn(RequestView<'_>) -> U + Send + Sync + 'static,
    {
        self.with_source("with_state_from", make, Some(Codec::json()))
    }

    /// Gives every session typed state that cannot be stored.
    ///
    /// A layer with this state has no store: the store could not keep it.
    #[must_use]
    pub fn with_memory_state<U, F>(self, make: F) -> SessionResume<U>
    where
        U: Send + 'static,
        F: Fn(RequestView<'_>) -> U + Send + Sync + 'static,
    {
        self.with_source("with_memory_state", make, None)
    }

    fn with_source<U, F>(
        self,
        setter: &'static str,
        make: F,
        codec: Option<Codec<U>>,
    ) -> SessionResume<U>
    where
        F: Fn(RequestView<'_>) -> U + Send + Sync + 'static,
    {
        let state = StateSource { make: Arc::new(make) };
        self.retyped(setter, |config| config.with_state(state, codec))
    }

    /// Takes each snapshot for the store from a clone of the state: `read` and `update` wait for the clone to be made, and
    /// not until it is written as JSON.
    ///
    /// For large states whose clones are cheap, as those of `Arc`s and of persistent collections are. A clone that copies
    /// as much as the JSON is long saves little. It belongs after the setter of the state.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use session_resume::{SessionResume, store::MemoryStore};
    ///
    /// #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
    /// struct Book {
    ///     pages: Vec<Arc<str>>, // with serde's feature `rc`
    /// }
    ///
    /// let resume = SessionResume::new()
    ///     .with_state::<Book>()
    ///     .with_snapshots_of_copies()
    ///     .with_store(MemoryStore::new());
    /// assert!(resume.validate().is_ok());
    /// ```
    #[must_use]
    pub fn with_snapshots_of_copies(self) -> Self
    where
        T: Clone,
    {
        self.configured("with_snapshots_of_copies", |config| {
            config.lost_copy = false;
            if let Some(codec) = &mut config.codec {
                codec.copy = Some(T::clone);
            }
        })
    }

    /// Sets which copy of the state wins when a client offers its own. Default: [`MergePolicy::ServerWins`].
    ///
    /// A client offers its copy with a control frame, as PROTOCOL.md says (`state`); the clients of this workspace
    /// carry none and offer none.
    ///
    /// A [`MergePolicy::custom`] belongs after the setter of the state: it is for that type alone.
    #[must_use]
    pub fn with_merge(self, merge: MergePolicy<T>) -> Self {
        self.configured("with_merge", |config| {
            config.merge = merge;
            config.lost_merge = false;
        })
    }

    /// Sets the layer's name, under which a store keeps its sessions: at most 64 bytes, and one name once per store.
    /// Default `default`.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        let name: Arc<str> = name.into().into();
        self.configured("with_name", |config| {
            if let Some(store) = &mut config.store {
                store.name = Arc::clone(&name);
            }
            config.name = name;
        })
    }

    /// Sets how much a crash may cost. Default: [`Durability::State`]. Without a store it means nothing.
    #[must_use]
    pub fn with_durability(self, durability: Durability) -> Self {
        self.configured("with_durability", |config| config.durability = durability)
    }

    /// Sets how long changes may wait to be saved together. Default 50 ms. With [`Durability::Exact`] output
    /// does not wait for it.
    #[must_use]
    pub fn with_flush_interval(self, interval: Duration) -> Self {
        self.configured("with_flush_interval", |config| config.flush_interval = interval)
    }

    /// Sets how long one call of the store may take. Default 10 s.
    ///
    /// A call past it counts as failed, though it may have happened: what was to be saved is tried again and
    /// not acknowledged, a request that needs it is answered 503. Other sessions do not wait for it.
    #[must_use]
    pub fn with_store_timeout(self, timeout: Duration) -> Self {
        self.configured("with_store_timeout", |config| {
            config.store_timeout = timeout;
            config.store = config.store.take().map(|store| store.with_timeout(timeout));
        })
    }

    /// Sets how long a session can be restored after it has left memory. Default 30 days.
    #[must_use]
    pub fn with_stored_lifetime(self, lifetime: Duration) -> Self {
        self.configured("with_stored_lifetime", |config| config.stored_lifetime = lifetime)
    }

    /// Keeps sessions in a store, so that they outlive memory and the process.
    ///
    /// A state's `Serialize` is called while its lock is held: until it returns, `read` and `update` of that session
    /// wait (about 1 ms for each megabyte of JSON, unless snapshots are of [copies](Self::with_snapshots_of_copies)).
    /// Messages go on, and clients come and go. If it fails or panics, the session ends, outcome `panicked`.
    ///
    /// Identity cookies are signed with the key that the store keeps, if it keeps one, unless
    /// [`with_identity`](Self::with_identity) gives one.
    ///
    /// Another layer that uses this store needs another [name](Self::with_name): each would take the other's sessions.
    /// (Found for stores that keep [a list of names](SnapshotStore::layer_names), as those of this workspace do. The
    /// name is taken when the layer is [validated](Self::validate) or put to use, until the layer and the services that it
    /// has made are gone.)
    #[must_use]
    pub fn with_store(self, store: impl SnapshotStore) -> Self
    where
        T: StoredState,
    {
        self.with_store_of("with_store", store, None)
    }

    /// Keeps sessions on an engine that several nodes share, and makes this process one of the nodes; instead of
    /// [`with_store`](Self::with_store).
    ///
    /// A client may come to any node. [`Cluster`] has the settings, [`docs::several_nodes`](crate::docs::several_nodes) says
    /// what it is and what it costs.
    #[must_use]
    pub fn with_cluster<S: ClusterStore>(self, cluster: Cluster<S>) -> Self
    where
        T: StoredState,
    {
        let (cluster, store) = cluster.into_config();
        self.with_store_of("with_cluster", store, Some(cluster))
    }

    fn with_store_of(
        self,
        setter: &'static str,
        store: impl SnapshotStore,
        cluster: Option<ClusterConfig>,
    ) -> Self {
        self.configured(setter, |config| {
            config.cluster = cluster;
            config.stored_keys = SnapshotStore::identity_key(&store).map(|first| {
                StoredKeys::new(first, SnapshotStore::identity_keys(&store).as_deref())
            });
            config.names = store.layer_names().cloned();
            let name = Arc::clone(&config.name);
            config.store = Some(Store::new(Arc::new(store), name, config.store_timeout));
        })
    }
}
