//! What the setters of the layer set.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use session_resume_proto::session::{Attach, Bounds, Rules};

use crate::{
    AllowedOrigins, Durability, Heartbeat, IdentityCookie, Limits, RequestView,
    words::{
        cluster::ClusterConfig,
        config_error::ConfigErrorKind,
        identity::{KeySet, StoredKeys, TokenKey},
        key::{self, KeyFn},
        merge::MergePolicy,
        millis::Millis,
        over_http::Http,
        random,
        reuse::ReusePolicy,
        store::{LayerNames, named::Store},
        unreadable::Unreadable,
    },
};

/// The longest name of a layer, in bytes.
const MAX_NAME: usize = 64;

pub(crate) struct Config<T> {
    pub(crate) cookie: IdentityCookie,
    /// Signs identities where neither the application nor the store gives a key: one for each `SessionResume::new()`.
    own_key: TokenKey,
    /// The keys that the store keeps, as they were when it was opened.
    pub(crate) stored_keys: Option<StoredKeys>,
    pub(crate) key: KeyFn,
    pub(crate) reuse: ReusePolicy,
    pub(crate) unreadable: Unreadable,
    pub(crate) origins: AllowedOrigins,
    pub(crate) limits: Limits,
    pub(crate) http: Http,
    /// Readers and writers without a client of ours are let in.
    pub(crate) plain_http: bool,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) check_interval: Duration,
    pub(crate) outcome_lifetime: Duration,
    /// `None`: what fits the key.
    pub(crate) attach: Option<Attach>,
    pub(crate) rules: Rules,
    pub(crate) state: StateSource<T>,
    /// `None`: the state cannot be stored.
    pub(crate) codec: Option<Codec<T>>,
    pub(crate) merge: MergePolicy<T>,
    /// The merge policy was a function for another type of state.
    pub(crate) lost_merge: bool,
    /// Snapshots were to be written from copies of another type of state.
    pub(crate) lost_copy: bool,
    pub(crate) store: Option<Store>,
    /// The store is that of several nodes, and this is one of them.
    pub(crate) cluster: Option<ClusterConfig>,
    /// The deadline of each of its calls.
    pub(crate) store_timeout: Duration,
    /// The layer's name in the store.
    pub(crate) name: Arc<str>,
    /// The names that are taken in the store, if it keeps a list.
    pub(crate) names: Option<LayerNames>,
    pub(crate) durability: Durability,
    pub(crate) flush_interval: Duration,
    pub(crate) stored_lifetime: Duration,
    /// The first setter that was called on a layer in use.
    pub(crate) set_in_use: Option<&'static str>,
}

/// How the state becomes bytes and comes back.
pub(crate) struct Codec<T> {
    pub(crate) encode: fn(&T) -> serde_json::Result<Vec<u8>>,
    pub(crate) decode: fn(&[u8]) -> serde_json::Result<T>,
    /// What makes the copies from which snapshots are written; `None`: they are written from the state itself.
    pub(crate) copy: Option<fn(&T) -> T>,
}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    /// JSON: it can be read after a field was added, and a client's copy of the state is JSON, too.
    pub(crate) fn json() -> Self {
        Self {
            encode: |state| serde_json::to_vec(state),
            decode: |bytes| serde_json::from_slice(bytes),
            copy: None,
        }
    }
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Codec<T> {}

/// Where a new session's state comes from.
pub(crate) struct StateSource<T> {
    pub(crate) make: Arc<dyn Fn(RequestView<'_>) -> T + Send + Sync>,
}

impl Config<()> {
    pub(crate) fn new() -> Self {
        Self {
            cookie: IdentityCookie::default(),
            // If cookies are to outlive the process, the application gives a key, or a store that keeps one.
            own_key: TokenKey::new(&random::bytes()),
            stored_keys: None,
            key: key::by_identity(),
            reuse: ReusePolicy::default(),
            unreadable: Unreadable::default(),
            origins: AllowedOrigins::same_origin(),
            limits: Limits::default(),
            http: Http::default(),
            plain_http: false,
            heartbeat: Heartbeat::default(),
            check_interval: Duration::from_secs(5),
            outcome_lifetime: Duration::from_secs(24 * 3600),
            attach: None,
            rules: Rules::default(),
            state: StateSource { make: Arc::new(|_| ()) },
            codec: Some(Codec::json()),
            merge: MergePolicy::default(),
            lost_merge: false,
            lost_copy: false,
            store: None,
            cluster: None,
            store_timeout: Duration::from_secs(10),
            name: "default".into(),
            names: None,
            durability: Durability::default(),
            flush_interval: Duration::from_millis(50),
            stored_lifetime: Duration::from_secs(30 * 24 * 3600),
            set_in_use: None,
        }
    }
}

impl<T> Config<T> {
    pub(crate) fn with_state<U>(self, state: StateSource<U>, codec: Option<Codec<U>>) -> Config<U> {
        let merge = self.merge.retyped();
        Config {
            cookie: self.cookie,
            own_key: self.own_key,
            stored_keys: self.stored_keys,
            key: self.key,
            reuse: self.reuse,
            unreadable: self.unreadable,
            origins: self.origins,
            limits: self.limits,
            http: self.http,
            plain_http: self.plain_http,
            heartbeat: self.heartbeat,
            check_interval: self.check_interval,
            outcome_lifetime: self.outcome_lifetime,
            attach: self.attach,
            rules: self.rules,
            state,
            codec,
            lost_merge: self.lost_merge || merge.is_none(),
            lost_copy: self.lost_copy || self.codec.is_some_and(|codec| codec.copy.is_some()),
            merge: merge.unwrap_or_default(),
            store: self.store,
            cluster: self.cluster,
            store_timeout: self.store_timeout,
            name: self.name,
            names: self.names,
            durability: self.durability,
            flush_interval: self.flush_interval,
            stored_lifetime: self.stored_lifetime,
            set_in_use: self.set_in_use,
        }
    }

    /// Returns the keys that the store keeps; `None` if the application gives one, or no store keeps any.
    pub(crate) fn stored_keys(&self) -> Option<&StoredKeys> {
        self.stored_keys.as_ref().filter(|_| self.cookie.key().is_none())
    }

    /// Returns the keys that sign and prove identities: the application's, else the store's, else one of its own.
    pub(crate) fn key_set(&self) -> KeySet {
        let ring = self.stored_keys().and_then(|stored| stored.ring.as_ref().ok());
        match ring {
            Some(ring) => KeySet::of_ring(&self.cookie, ring, Millis::now()),
            // Also while those of the store cannot be read: this one signs nothing then.
            None => KeySet::fixed(&self.cookie, self.cookie.key().unwrap_or(&self.own_key).clone()),
        }
    }

    /// Returns what cannot work together, in the order of the kinds. Whether the name is free in the store is not known
    /// here.
    pub(crate) fn conflicts(&self) -> Vec<ConfigErrorKind> {
        let Heartbeat { interval, pong_timeout, plain_pong_timeout, pings: _ } = self.heartbeat;
        let shortest = interval.min(pong_timeout).min(plain_pong_timeout);
        let length = self.name.len();
        let kinds = [
            self.cookie.conflict(),
            (shortest < Duration::from_millis(1))
                .then_some(ConfigErrorKind::Heartbeat { shortest }),
            (length > MAX_NAME).then_some(ConfigErrorKind::LayerName { length }),
            (self.store.is_some() && self.codec.is_none())
                .then_some(ConfigErrorKind::MemoryStateInStore),
            self.lost_merge.then_some(ConfigErrorKind::MergeOfAnotherState),
            self.lost_copy.then_some(ConfigErrorKind::CopiesOfAnotherState),
            self.set_in_use.map(|setter| ConfigErrorKind::SetInUse { setter }),
            self.cluster.as_ref().and_then(ClusterConfig::conflict),
        ];
        kinds.into_iter().flatten().collect()
    }

    /// Returns the rules with all that other setters say of them.
    pub(crate) fn effective_rules(&self) -> Rules {
        let mut rules = self.rules.clone();
        let limits = &self.limits;
        let mut bounds = Bounds::default();
        bounds.outbox_messages = limits.outbox_messages;
        bounds.outbox_bytes = limits.outbox_bytes;
        bounds.inbox_messages = limits.inbox_messages.max(1);
        bounds.inbox_bytes = limits.inbox_bytes.max(1);
        bounds.message = limits.message;
        bounds.clients = limits.max_clients.max(1);
        bounds.shared_clients = limits.max_shared_clients.max(1);
        bounds.guards = limits.guards;
        bounds.observers = limits.observers;
        bounds.pace = limits.pace();
        rules.bounds = bounds;
        // Clients that a shared key brings together are meant to be attached together.
        let default = if self.key.is_shared() { Attach::Share } else { Attach::Takeover };
        rules.attach = self.attach.unwrap_or(default);
        rules.unproven_lifetime = limits.unproven_lifetime;
        rules.max_unattended = limits.max_unattended;
        rules.max_lifetime = limits.max_lifetime;
        rules.heartbeat = self.heartbeat.interval;
        rules.pings = self.heartbeat.pings;
        rules.pong_timeout = self.heartbeat.pong_timeout;
        rules.plain_pong_timeout = self.heartbeat.plain_pong_timeout;
        rules.durable_inbox = self.store.is_some();
        rules.durable_outbox = self.store.is_some() && self.durability == Durability::Exact;
        rules
    }
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Self {
            cookie: self.cookie.clone(),
            own_key: self.own_key.clone(),
            stored_keys: self.stored_keys.clone(),
            key: self.key.clone(),
            reuse: self.reuse.clone(),
            unreadable: self.unreadable,
            origins: self.origins.clone(),
            limits: self.limits,
            http: self.http,
            plain_http: self.plain_http,
            heartbeat: self.heartbeat,
            check_interval: self.check_interval,
            outcome_lifetime: self.outcome_lifetime,
            attach: self.attach,
            rules: self.rules.clone(),
            state: StateSource { make: Arc::clone(&self.state.make) },
            codec: self.codec,
            merge: self.merge.clone(),
            lost_merge: self.lost_merge,
            lost_copy: self.lost_copy,
            store: self.store.clone(),
            cluster: self.cluster.clone(),
            store_timeout: self.store_timeout,
            name: Arc::clone(&self.name),
            names: self.names.clone(),
            durability: self.durability,
            flush_interval: self.flush_interval,
            stored_lifetime: self.stored_lifetime,
            set_in_use: self.set_in_use,
        }
    }
}

impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("cookie", &self.cookie)
            .field("key", &self.key)
            .field("reuse", &self.reuse)
            .field("unreadable", &self.unreadable)
            .field("origins", &self.origins)
            .field("limits", &self.limits)
            .field("http", &self.http)
            .field("plain_http", &self.plain_http)
            .field("heartbeat", &self.heartbeat)
            .field("check_interval", &self.check_interval)
            .field("outcome_lifetime", &self.outcome_lifetime)
            .field("attach", &self.attach)
            .field("rules", &self.rules)
            .field("merge", &self.merge)
            .field("store", &self.store)
            .field("store_timeout", &self.store_timeout)
            .field("name", &self.name)
            .field("durability", &self.durability)
            .field("flush_interval", &self.flush_interval)
            .field("stored_lifetime", &self.stored_lifetime)
            .finish_non_exhaustive()
    }
}
