//! Where live sessions are found. The only module that inserts and removes them.

use std::{
    any::TypeId,
    collections::{HashMap, hash_map::Entry, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hashbrown::HashTable;
use http::HeaderValue;
use session_resume_proto::{Moment, session::Rules};
use tokio::task::AbortHandle;

use crate::{
    Identity, RequestView, SessionId, SessionOrigin,
    clock::Clock,
    config::Config,
    drain::DrainState,
    key::SessionKey,
    layer::RequestContext,
    outcome::{Outcome, OutcomeStatus},
    outcomes::{Ended, Outcomes},
    random,
    refusal::Refusal,
    reuse::{Candidate, Residence, ReuseDecision},
    session::{
        phase,
        shared::{CancelHandler, Core, Owner, Shared},
    },
    sweep,
    wheel::Wheel,
};

/// So many locks for the tables: two threads seldom want the same one.
const SHARDS: usize = 64;
/// What a refused request is told to wait: a session may have expired by then.
const BUSY_RETRY: Duration = Duration::from_secs(5);

type Shards<E> = Box<[Mutex<HashTable<E>>]>;

/// All sessions of one layer value.
pub(crate) struct Registry<T> {
    config: Config<T>,
    rules: Arc<Rules>,
    clock: Arc<Clock>,
    hasher: RandomState,
    by_key: Shards<Keyed<T>>,
    by_id: Shards<Arc<Shared<T>>>,
    live: AtomicUsize,
    /// Sessions under keys of an identity's own choosing.
    chosen: Mutex<HashMap<Identity, usize>>,
    cycling: Mutex<()>,
    wheel: Mutex<Wheel<T>>,
    sweeping: AtomicBool,
    sweeper: Mutex<Option<AbortHandle>>,
    outcomes: Mutex<Outcomes>,
    pub(crate) drain: DrainState,
}

/// A live session where its key's hash puts it.
struct Keyed<T> {
    key: SessionKey,
    session: Arc<Shared<T>>,
}

/// What a request wants its session for.
pub(crate) enum Purpose {
    /// A handler extracts it: that counts as activity.
    Extract,
    /// An upgrade for this handler: held until it is attached or has failed.
    Upgrade(TypeId),
}

impl Purpose {
    fn handler(&self) -> Option<TypeId> {
        match self {
            Self::Extract => None,
            Self::Upgrade(handler) => Some(*handler),
        }
    }

    /// Takes hold of a session, unless it is on its way out.
    fn take(&self, core: &mut Core, now: Moment) -> bool {
        if core.removed || core.machine.ended().is_some() {
            return false;
        }
        match self {
            Self::Extract => core.machine.touch(now),
            Self::Upgrade(_) => core.machine.hold(),
        }
        true
    }
}

impl<T> Registry<T> {
    pub(crate) fn new(config: Config<T>) -> Self {
        Self {
            rules: Arc::new(config.effective_rules()),
            clock: Arc::new(Clock::new(config.check_interval)),
            hasher: RandomState::new(),
            by_key: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            by_id: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            live: AtomicUsize::new(0),
            chosen: Mutex::new(HashMap::new()),
            cycling: Mutex::new(()),
            wheel: Mutex::new(Wheel::new(config.check_interval)),
            sweeping: AtomicBool::new(false),
            sweeper: Mutex::new(None),
            outcomes: Mutex::new(Outcomes::new(config.limits.outcomes, config.outcome_lifetime)),
            drain: DrainState::default(),
            config,
        }
    }

    pub(crate) fn config(&self) -> &Config<T> {
        &self.config
    }

    pub(crate) fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Returns how many sessions are live.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn set_cookie(&self, identity: Identity, req: RequestView<'_>) -> HeaderValue {
        let cookie = &self.config.cookie;
        cookie.set_cookie(&self.config.token_key, identity, cookie.request_is_secure(req))
    }

    pub(crate) fn outcomes(&self) -> MutexGuard<'_, Outcomes> {
        lock(&self.outcomes)
    }

    /// Returns the live session under this key.
    pub(crate) fn by_key(&self, key: &SessionKey) -> Option<Arc<Shared<T>>> {
        let hash = self.hasher.hash_one(key);
        let shard = lock(&self.by_key[shard(hash)]);
        shard.find(hash, |keyed| keyed.key == *key).map(|keyed| Arc::clone(&keyed.session))
    }

    /// Returns the session with this id, completed ones included.
    pub(crate) fn by_id(&self, id: SessionId) -> Option<Arc<Shared<T>>> {
        let hash = self.hasher.hash_one(id);
        let shard = lock(&self.by_id[shard(hash)]);
        shard.find(hash, |session| session.id() == id).map(Arc::clone)
    }

    /// Returns all sessions in memory, completed ones included.
    pub(crate) fn all(&self) -> Vec<Arc<Shared<T>>> {
        let mut all = Vec::with_capacity(self.live());
        for shard in &self.by_id {
            all.extend(lock(shard).iter().map(Arc::clone));
        }
        all
    }

    pub(crate) fn take_due(&self) -> Vec<Weak<Shared<T>>> {
        let now = self.clock.now();
        lock(&self.wheel).take_due(now)
    }

    /// Looks at the session again at `at`, or earlier: by then its use may have ended, and an end of use
    /// never expires a session sooner than the shortest lifetime from then.
    pub(crate) fn look_again(&self, at: Moment, session: &Arc<Shared<T>>) {
        let shortest = self.rules.unused_lifetime.min(self.rules.max_unattended);
        let at = at.min(self.clock.now() + shortest);
        lock(&self.wheel).insert(at, Arc::downgrade(session));
    }

    fn unchoose(&self, identity: Identity, key: &SessionKey) {
        if key.is_own() {
            return;
        }
        if let Entry::Occupied(mut count) = lock(&self.chosen).entry(identity) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Finds the session for a request, or starts it: the reuse policy decides.
    pub(crate) fn open(
        self: &Arc<Self>,
        context: &RequestContext,
        req: RequestView<'_>,
        purpose: &Purpose,
    ) -> Result<(Arc<Shared<T>>, SessionOrigin), Refusal> {
        loop {
            if self.drain.is_draining() {
                return Err(Refusal::draining(self.drain.retry()));
            }
            let Some(session) = self.by_key(context.key()) else {
                if let Some(session) = self.start(context, req, purpose)? {
                    return Ok((session, SessionOrigin::New));
                }
                // Another request was faster.
                continue;
            };
            match self.config.reuse.decide(self.candidate(&session, context, purpose), req) {
                ReuseDecision::Reuse => {
                    if session.with_core(|core, now| purpose.take(core, now)) {
                        return Ok((session, SessionOrigin::Reused));
                    }
                }
                ReuseDecision::Fresh => {
                    let outcome =
                        Outcome::with_error(OutcomeStatus::Closed, "a fresh session was asked for");
                    session.finish(outcome, CancelHandler::Yes);
                }
                ReuseDecision::Refuse(status) => return Err(Refusal::by_policy(status)),
            }
            // It is on its way out; whoever ended it may not have come to taking it out yet.
            self.vacate_key(&session);
        }
    }

    /// Finds the session without starting it, and without counting as activity.
    pub(crate) fn look(&self, context: &RequestContext) -> Option<Arc<Shared<T>>> {
        self.by_key(context.key()).filter(|session| session.lock().machine.ended().is_none())
    }

    fn candidate(
        &self,
        session: &Shared<T>,
        context: &RequestContext,
        purpose: &Purpose,
    ) -> Candidate {
        let now = self.clock.now();
        let core = session.lock();
        Candidate {
            residence: Residence::Live,
            phase: phase(core.machine.phase()),
            age: core.machine.age(now),
            transports: core.machine.transports(),
            same_identity: core.identity == context.identity(),
            same_handler: core.handler_type.zip(purpose.handler()).map(|(runs, asks)| runs == asks),
        }
    }

    /// Starts a session unless there is one by now.
    fn start(
        self: &Arc<Self>,
        context: &RequestContext,
        req: RequestView<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Arc<Shared<T>>>, Refusal> {
        self.ensure_sweeper();
        let room = self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| {
            (live < self.config.limits.max_sessions).then_some(live + 1)
        });
        if room.is_err() {
            return Err(Refusal::busy(
                "too many sessions (limits.max_sessions), try again later",
                BUSY_RETRY,
            ));
        }
        let (identity, key) = (context.identity(), context.key().clone());
        if !self.choose(identity, &key) {
            self.live.fetch_sub(1, Ordering::Relaxed);
            let text = "too many sessions of one identity (limits.max_sessions_per_identity), try again later";
            return Err(Refusal::busy(text, BUSY_RETRY));
        }
        let place = Place { registry: self, identity, key: &key };
        // The application's code, so outside the locks; it may panic.
        let state = (self.config.state.make)(req);
        let owner =
            Owner { identity, key: key.clone(), secure: self.config.cookie.request_is_secure(req) };
        let session = Arc::new(Shared::new(self, &self.rules, &self.clock, owner, state));
        session.with_core(|core, now| purpose.take(core, now));
        let hash = self.hasher.hash_one(&key);
        let mut table = lock(&self.by_key[shard(hash)]);
        if table.find(hash, |keyed| keyed.key == key).is_some() {
            return Ok(None);
        }
        // From here on the place is the session's.
        std::mem::forget(place);
        let keyed = Keyed { key, session: Arc::clone(&session) };
        table.insert_unique(hash, keyed, |keyed| self.hasher.hash_one(&keyed.key));
        drop(table);
        let hash = self.hasher.hash_one(session.id());
        lock(&self.by_id[shard(hash)]).insert_unique(hash, Arc::clone(&session), |session| {
            self.hasher.hash_one(session.id())
        });
        let first_look = self.clock.now() + self.rules.max_lifetime.unwrap_or(Duration::MAX);
        self.look_again(first_look, &session);
        tracing::debug!(session = %session.id().short(), "session started");
        Ok(Some(session))
    }

    /// A session has ended: it leaves its key to a new one. It can still be found by its id.
    pub(crate) fn completed(&self, session: &Shared<T>, outcome: Arc<Outcome>) {
        let ended = {
            let core = session.lock();
            Ended {
                identities: core.identities(),
                key: core.key.clone(),
                record: core.record(),
                outcome,
            }
        };
        let forgotten = self.outcomes().insert(session.id(), ended, self.clock.now());
        session.lock().recorded = true;
        self.vacate_key(session);
        // Ended sessions in memory are bounded as their outcomes are.
        for id in forgotten {
            if let Some(session) = self.by_id(id) {
                self.forget(&session);
            }
        }
    }

    /// A session's time is up.
    pub(crate) fn forget(&self, session: &Shared<T>) {
        let hash = self.hasher.hash_one(session.id());
        let mut shard = lock(&self.by_id[shard(hash)]);
        if let Ok(entry) = shard.find_entry(hash, |other| other.id() == session.id()) {
            let (removed, _) = entry.remove();
            drop(shard);
            // Outside the lock: dropping a session drops the application's state.
            drop(removed);
        }
    }

    /// Takes the session from its key, if it still has it.
    fn vacate_key(&self, session: &Shared<T>) {
        let (identity, key) = {
            let core = session.lock();
            (core.identity, core.key.clone())
        };
        let hash = self.hasher.hash_one(&key);
        let mut shard = lock(&self.by_key[shard(hash)]);
        let found =
            shard.find_entry(hash, |keyed| keyed.key == key && keyed.session.id() == session.id());
        if let Ok(entry) = found {
            let (removed, _) = entry.remove();
            drop(shard);
            drop(removed);
            self.unchoose(identity, &key);
            self.live.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives the session to a new identity: from now on it is found under that one's key alone.
    ///
    /// Returns the cookie that makes the browser that identity.
    pub(crate) fn cycle_identity(&self, session: &Arc<Shared<T>>) -> HeaderValue {
        // One at a time: two for the same session would leave it under a key that it does not know.
        let _one = lock(&self.cycling);
        let identity = Identity::mint(random::bytes());
        let (old, key, new) = {
            let core = session.lock();
            (core.identity, core.key.clone(), core.key.rescoped(identity))
        };
        if new != key {
            let hash = self.hasher.hash_one(&key);
            let mut table = lock(&self.by_key[shard(hash)]);
            let found = table
                .find_entry(hash, |keyed| keyed.key == key && keyed.session.id() == session.id());
            let was_here = found.map(|entry| entry.remove().0).is_ok();
            drop(table);
            {
                let mut core = session.lock();
                core.identity = identity;
                core.key = new.clone();
            }
            if was_here {
                let hash = self.hasher.hash_one(&new);
                let keyed = Keyed { key: new.clone(), session: Arc::clone(session) };
                lock(&self.by_key[shard(hash)])
                    .insert_unique(hash, keyed, |keyed| self.hasher.hash_one(&keyed.key));
                self.unchoose(old, &key);
                self.choose(identity, &new);
            }
            // It may have ended while it was under neither key.
            if session.outcome().is_some() {
                self.vacate_key(session);
            }
        }
        self.config.cookie.set_cookie(&self.config.token_key, identity, session.is_secure())
    }

    /// Counts a session under a key of the identity's own choosing; `false` if there are too many.
    fn choose(&self, identity: Identity, key: &SessionKey) -> bool {
        if key.is_own() {
            return true;
        }
        let mut chosen = lock(&self.chosen);
        let count = chosen.entry(identity).or_default();
        if *count >= self.config.limits.max_sessions_per_identity {
            return false;
        }
        *count += 1;
        true
    }

    /// Not in `Layer::layer`: routers apply their layers again and again.
    fn ensure_sweeper(self: &Arc<Self>) {
        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        self.clock.tick();
        let sweeper = tokio::spawn(sweep::run(Arc::downgrade(self), self.config.check_interval));
        *lock(&self.sweeper) = Some(sweeper.abort_handle());
    }
}

impl<T> Drop for Registry<T> {
    fn drop(&mut self) {
        self.clock.stop_ticking();
        if let Some(sweeper) = lock(&self.sweeper).take() {
            sweeper.abort();
        }
        // Every task has an owner that ends it, and the owner of the sessions goes now.
        for session in self.all() {
            session.abandon();
        }
    }
}

/// A place among the sessions, given back if no session takes it.
struct Place<'a, T> {
    registry: &'a Registry<T>,
    identity: Identity,
    key: &'a SessionKey,
}

impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        self.registry.unchoose(self.identity, self.key);
        self.registry.live.fetch_sub(1, Ordering::Relaxed);
    }
}

fn shard(hash: u64) -> usize {
    // The table inside uses the low bits and the top seven.
    usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0)
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
