//! Where live sessions are found. The only module that inserts and removes them.

mod cycle;
mod draining;
mod flights;
mod hasher;
mod identity_keys;
mod keeper;
mod keys;
mod open;
mod saves;
mod seats;
mod silence;
mod stored;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use hashbrown::HashTable;
use session_resume_proto::{Moment, session::Rules};
use tokio::{task::AbortHandle, time::Instant};

use self::{
    draining::Draining, flights::Flights, hasher::Hasher, identity_keys::IdentityKeys, keys::Keys,
};
pub(crate) use self::{
    draining::soon,
    flights::Flight,
    identity_keys::Reading,
    saves::{Item, Saves},
    seats::Reservation,
};
#[cfg(feature = "http")]
use crate::live::pipes::Pipes;
use crate::{
    live::{
        ended::{Ended, EndedSessions, Worth},
        minutes::LastMinutes,
        session::{Home, Shared},
        wheel::Wheel,
    },
    words::{
        clock::Clock,
        cluster::Membership,
        config::Config,
        id::SessionId,
        identity::Identity,
        key::SessionKey,
        origin::ForeignOrigins,
        random,
        refusal::Refusal,
        request::RequestView,
        store::LayerName,
        wall::{self, Trust},
    },
};

/// The tables have this many locks, so that two threads rarely want the same one.
const SHARDS: usize = 64;

type ById<T> = HashTable<Arc<Shared<T>>>;

/// All sessions of one layer value.
pub(crate) struct Registry<T> {
    this: Weak<Self>,
    config: Config<T>,
    /// What its sessions share: clock, rules, and the way back to this.
    home: Arc<Home<T>>,
    /// Whether the wall clock can be trusted to say what has expired.
    trust: Mutex<Trust>,
    /// Writes its sessions to their store. There before the first session, if there is a store.
    saver: OnceLock<Arc<dyn Saves<T>>>,
    /// One request at a time brings a key's session from the store or back into it.
    flights: Flights,
    hasher: Hasher,
    identity_keys: IdentityKeys,
    /// The hour that the sweeper has seen last: when a cookie is set need not be known more exactly.
    hour: AtomicU32,
    /// A cookie of our name with another key's MAC has come, and that was logged.
    foreign_cookie: AtomicBool,
    missed_cookie: AtomicBool,
    foreign_origins: ForeignOrigins,
    routes_have_met: AtomicBool,
    /// Its name in the store, for as long as this lives.
    _name: Option<Arc<LayerName>>,
    keys: Keys<T>,
    by_id: Box<[Mutex<ById<T>>]>,
    /// Those that take room: live, or ended with an outcome that waits for the store.
    live: AtomicUsize,
    /// Of these, those of browsers whose cookie has not come back yet.
    visitors: AtomicUsize,
    /// Transports that have their turn.
    attached: AtomicUsize,
    /// Sessions under keys of an identity's own choosing.
    chosen: Mutex<HashMap<Identity, Vec<SessionId>>>,
    cycling: Mutex<()>,
    /// Keys that sessions have left because their identity was changed.
    moved: Mutex<cycle::FormerKeys<T>>,
    wheel: Mutex<Wheel<T>>,
    /// Its tasks have been started.
    at_work: OnceLock<()>,
    /// They end with it.
    tasks: Mutex<Vec<AbortHandle>>,
    outcomes: Mutex<EndedSessions>,
    pub(crate) last_minutes: LastMinutes,
    pub(crate) drain: Draining,
    #[cfg(feature = "http")]
    pub(crate) pipes: Arc<Pipes>,
}

impl<T> Registry<T> {
    /// Creates a registry without sessions; `name` is what its layer has taken in the store.
    pub(crate) fn new(config: Config<T>, name: Option<Arc<LayerName>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            home: Arc::new(Home::new(
                Clock::new(config.check_interval),
                config.effective_rules(),
                config.cluster.clone().map(Membership::new),
            )),
            trust: Mutex::new(Trust::new(wall::now(), Instant::now())),
            saver: OnceLock::new(),
            flights: Flights::default(),
            hasher: Hasher::new(),
            identity_keys: IdentityKeys::new(&config),
            hour: AtomicU32::new(0),
            foreign_cookie: AtomicBool::new(false),
            missed_cookie: AtomicBool::new(false),
            foreign_origins: ForeignOrigins::default(),
            routes_have_met: AtomicBool::new(false),
            _name: name,
            keys: Keys::new(),
            by_id: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            live: AtomicUsize::new(0),
            visitors: AtomicUsize::new(0),
            attached: AtomicUsize::new(0),
            chosen: Mutex::new(HashMap::new()),
            cycling: Mutex::new(()),
            moved: Mutex::new(cycle::FormerKeys::new()),
            wheel: Mutex::new(Wheel::new(config.check_interval)),
            at_work: OnceLock::new(),
            tasks: Mutex::new(Vec::new()),
            outcomes: Mutex::new(EndedSessions::new(
                config.limits.outcomes,
                config.outcome_lifetime,
            )),
            last_minutes: LastMinutes::default(),
            drain: Draining::default(),
            #[cfg(feature = "http")]
            pipes: Pipes::new(),
            config,
        })
    }

    pub(crate) fn weak(&self) -> &Weak<Self> {
        &self.this
    }

    pub(crate) fn arc(&self) -> Arc<Self> {
        self.this.upgrade().expect("a reference to it comes from an owner")
    }

    pub(crate) fn config(&self) -> &Config<T> {
        &self.config
    }

    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.home.rules
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.home.clock
    }

    /// Returns this process's place among several nodes, if it is one of them.
    pub(crate) fn node(&self) -> Option<&Arc<Membership>> {
        self.home.node.as_ref()
    }

    /// Returns the owner that the stamp of a new claim names: this node's present life; where no node is known, a number
    /// drawn for each claim.
    pub(crate) fn new_owner(&self) -> u64 {
        match self.node() {
            Some(node) => node.incarnation().number(),
            None => u64::from_be_bytes(random::bytes()),
        }
    }

    /// Returns what the sessions of this registry share.
    pub(crate) fn home(&self) -> &Arc<Home<T>> {
        &self.home
    }

    /// Returns what writes the sessions to their store, if there is one.
    pub(crate) fn saver(&self) -> Option<&Arc<dyn Saves<T>>> {
        self.saver.get()
    }

    /// From now on this writes the sessions to their store.
    pub(crate) fn set_saver(&self, saver: Arc<dyn Saves<T>>) {
        // A second one would find what the first one has queued.
        let is_first = self.saver.set(saver).is_ok();
        debug_assert!(is_first, "tasks are started once");
    }

    /// The task ends with the registry.
    pub(crate) fn own_task(&self, task: AbortHandle) {
        lock(&self.tasks).push(task);
    }

    /// Returns how many sessions are live.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    /// Returns how many transports have their turn.
    pub(crate) fn attached(&self) -> usize {
        self.attached.load(Ordering::Relaxed)
    }

    /// A client wants a session back, and no identity cookie has come with it, so it cannot have it.
    #[cold]
    pub(crate) fn has_missed_cookie(&self) {
        // A cookie under another key has been told of, with its own remedy.
        let foreign = self.foreign_cookie.load(Ordering::Relaxed);
        if !foreign && !self.missed_cookie.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                cookie = self.config.cookie.name(),
                "a client wants its session back, and no identity cookie has come with it, so it starts anew: its \
                 cookies were deleted, or its browser withholds them. A page in a frame of another site needs \
                 with_identity(IdentityCookie::new(..).with_same_site(SameSite::None).with_partitioned(true)); a \
                 client that is no browser must keep the cookie. Told once"
            );
        }
    }

    /// Checks whether the page behind an upgrade may open a session here, and tells the log if it may not.
    pub(crate) fn check_origin(&self, req: RequestView<'_>) -> Result<(), Refusal> {
        self.config.origins.check(req).map_err(|foreign| {
            self.foreign_origins.tell(req);
            Refusal::foreign_origin(foreign)
        })
    }

    /// The same for a request that is no upgrade.
    #[cfg(feature = "http")]
    pub(crate) fn check_origin_of_request(&self, req: RequestView<'_>) -> Result<(), Refusal> {
        self.config.origins.check_request(req).map_err(|foreign| {
            self.foreign_origins.tell(req);
            Refusal::foreign_origin(foreign)
        })
    }

    /// An upgrade was refused because another route has its session. That is a mistake of the program, so the log
    /// names it once.
    #[cold]
    pub(crate) fn routes_have_met(&self, refusal: &Refusal) {
        if !self.routes_have_met.swap(true, Ordering::Relaxed) {
            tracing::warn!(reason = %refusal, "upgrade refused: two routes met in one session. Told once");
        }
    }

    pub(crate) fn outcomes(&self) -> MutexGuard<'_, EndedSessions> {
        lock(&self.outcomes)
    }

    /// Returns the live session under this key.
    pub(crate) fn by_key(&self, key: &SessionKey) -> Option<Arc<Shared<T>>> {
        self.keys.get(key)
    }

    /// Returns the session with this id, ended ones included.
    pub(crate) fn by_id(&self, id: SessionId) -> Option<Arc<Shared<T>>> {
        let hash = self.hasher.id(id);
        let shard = lock(&self.by_id[shard(hash)]);
        shard.find(hash, |session| session.id() == id).map(Arc::clone)
    }

    /// Returns all sessions in memory, ended ones included.
    pub(crate) fn all(&self) -> Vec<Arc<Shared<T>>> {
        let mut all = Vec::with_capacity(self.live());
        for shard in &self.by_id {
            all.extend(lock(shard).iter().map(Arc::clone));
        }
        all
    }

    /// Returns the numbers of the parts in which all sessions can be looked at.
    pub(crate) fn parts(&self) -> Range<usize> {
        0..self.by_id.len()
    }

    /// Returns the sessions of one of the [`parts`](Self::parts): no lock is held while they are looked at.
    pub(crate) fn part(&self, part: usize) -> Vec<Arc<Shared<T>>> {
        lock(&self.by_id[part]).iter().map(Arc::clone).collect()
    }

    pub(crate) fn take_due(&self) -> Vec<Weak<Shared<T>>> {
        let now = self.clock().now();
        lock(&self.wheel).take_due(now)
    }

    /// Looks at the session again at `at`, or earlier: by then its use may have ended, and an end of use
    /// never expires a session sooner than the shortest lifetime from then.
    pub(crate) fn look_again(&self, at: Moment, session: &Arc<Shared<T>>) {
        self.look_by(self.clock().now(), at, session);
    }

    fn look_by(&self, now: Moment, at: Moment, session: &Arc<Shared<T>>) {
        let mut shortest = self.rules().unused_lifetime.min(self.rules().max_unattended);
        if self.config.store.is_some() {
            // Its record must be moved on while it is in use.
            shortest = shortest.min(self.config.stored_lifetime / 3);
        }
        let at = at.min(now + shortest);
        lock(&self.wheel).insert(at, Arc::downgrade(session));
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Starts the registry's tasks, the first time. A session that is started meanwhile waits, and finds its saver.
    pub(crate) fn begin_work(&self, start: impl FnOnce()) {
        self.at_work.get_or_init(|| {
            self.home.set_keeper(|| self.this.clone());
            start();
        });
    }

    /// Returns whether the registry's tasks have been started.
    pub(crate) fn is_at_work(&self) -> bool {
        self.at_work.get().is_some()
    }

    fn insert_by_id(&self, session: &Arc<Shared<T>>, now: Moment, first_look: Moment) {
        let hash = self.hasher.id(session.id());
        lock(&self.by_id[shard(hash)])
            .insert_unique(hash, Arc::clone(session), |session| self.hasher.id(session.id()));
        self.look_by(now, first_look, session);
    }

    /// Keeps an outcome for polling.
    fn keep_outcome(&self, session: &Shared<T>, ended: Ended) {
        let worth = if session.is_blank() { Worth::Blank } else { Worth::Work };
        let owner = session.lock().identity();
        let now = self.clock().now();
        let forgotten = self.outcomes().insert(session.id(), owner, worth, ended, now);
        // Ended sessions in memory are bounded as their outcomes are.
        for id in forgotten {
            if let Some(session) = self.by_id(id) {
                self.forget(&session);
            }
        }
    }

    /// An outcome is on disk: its clients may be told.
    pub(crate) fn outcome_saved(&self, session: &Arc<Shared<T>>, ended: Ended) {
        self.keep_outcome(session, ended);
        self.leave_room(session);
        session.with_core(|core, now| core.machine.handle_outcome_committed(now));
        session.tell_outcome();
    }

    /// A session's time is up.
    pub(crate) fn forget(&self, session: &Shared<T>) {
        let hash = self.hasher.id(session.id());
        let mut shard = lock(&self.by_id[shard(hash)]);
        // Not by its id alone: a restored one has the same.
        if let Ok(entry) = shard.find_entry(hash, |other| std::ptr::eq(&raw const **other, session))
        {
            let (removed, _) = entry.remove();
            drop(shard);
            // Outside the lock: dropping a session drops the application's state.
            drop(removed);
        }
    }

    /// Takes the session from its key, if it still has it.
    fn vacate_key(&self, session: &Shared<T>) {
        let (identity, key, waits) = {
            let core = session.lock();
            (core.identity(), core.key.clone(), core.life().waits_for_store())
        };
        if self.keys.remove(&key, session).is_some() {
            self.unchoose(identity, &key, session.id());
            // It takes memory until the store has its outcome: a store that is down must not let them pile up.
            if !waits {
                self.leave_room(session);
            }
        }
    }
}

impl<T> Drop for Registry<T> {
    fn drop(&mut self) {
        self.clock().stop_ticking();
        lock(&self.tasks).drain(..).for_each(|task| task.abort());
        // Every task has an owner that ends it, and the owner of the sessions goes now.
        for session in self.all() {
            session.abandon();
        }
    }
}

fn shard(hash: u64) -> usize {
    // The table inside uses the low bits and the top seven.
    usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0)
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
