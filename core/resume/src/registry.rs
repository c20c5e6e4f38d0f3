//! Where live sessions are found. The only module that inserts and removes them.

use std::{
    collections::{HashMap, hash_map::Entry, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use hashbrown::HashTable;
use http::HeaderValue;
use session_resume_proto::{Moment, session::Rules};
use tokio::{task::AbortHandle, time::Instant};

use crate::{
    Identity, RequestView, SessionId, SessionOrigin,
    clock::Clock,
    config::Config,
    drain::DrainState,
    handler::HandlerType,
    key::SessionKey,
    layer::RequestContext,
    observe,
    outcome::{Outcome, OutcomeStatus},
    outcomes::{Ended, Outcomes},
    random,
    refusal::Refusal,
    reuse::{Candidate, Residence, ReuseDecision},
    session::{
        Peer, phase,
        shared::{CancelHandler, Core, Machine, Owner, Shared},
        state::StateCell,
    },
    snapshot::{
        Durable, Pointer, Urgency,
        queue::{Item, Saver},
        record::{Millis, RecordError, SessionRecord, later},
        saver,
    },
    store::Generation,
    sweep,
    wall::{self, Trust},
    wheel::Wheel,
};

/// So many locks for the tables: two threads seldom want the same one.
const SHARDS: usize = 64;
/// What a refused request is told to wait: a session may have expired by then.
const BUSY_RETRY: Duration = Duration::from_secs(5);

type Shards<E> = Box<[Mutex<HashTable<E>>]>;

/// A session, and how its request has found it.
pub(crate) type Opened<T> = (Arc<Shared<T>>, SessionOrigin);

/// All sessions of one layer value.
pub(crate) struct Registry<T> {
    config: Config<T>,
    rules: Arc<Rules>,
    clock: Arc<Clock>,
    /// Whether the wall clock can be trusted to say what has expired.
    trust: Mutex<Trust>,
    /// The largest generation that this process has seen: a new session's is larger, whatever the clock says.
    newest_generation: AtomicU64,
    saver: Option<Arc<Saver<T>>>,
    /// One request at a time brings a key's session from the store or back into it.
    alone: Box<[tokio::sync::Mutex<()>]>,
    hasher: RandomState,
    by_key: Shards<Keyed<T>>,
    by_id: Shards<Arc<Shared<T>>>,
    live: AtomicUsize,
    /// Sessions under keys of an identity's own choosing.
    chosen: Mutex<HashMap<Identity, Vec<SessionId>>>,
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
    /// An upgrade whose handler is not known yet: held, too.
    Restore,
    /// An upgrade for this handler: held until it is attached or has failed.
    Upgrade(HandlerType),
}

impl Purpose {
    fn handler(&self) -> Option<HandlerType> {
        match self {
            Self::Extract | Self::Restore => None,
            Self::Upgrade(handler) => Some(*handler),
        }
    }

    /// Takes hold of a session, unless it is on its way out.
    pub(crate) fn take(&self, core: &mut Core, now: Moment) -> bool {
        if core.removed || core.leaving || core.machine.ended().is_some() {
            return false;
        }
        match self {
            Self::Extract => core.machine.touch(now),
            Self::Restore | Self::Upgrade(_) => core.machine.hold(),
        }
        true
    }
}

impl<T> Registry<T> {
    pub(crate) fn new(config: Config<T>) -> Self {
        Self {
            rules: Arc::new(config.effective_rules()),
            clock: Arc::new(Clock::new(config.check_interval)),
            trust: Mutex::new(Trust::new(wall::now(), Instant::now())),
            newest_generation: AtomicU64::new(0),
            saver: config.store.as_ref().map(|_| Arc::new(Saver::new())),
            alone: (0..SHARDS * 4).map(|_| tokio::sync::Mutex::new(())).collect(),
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

    pub(crate) fn clock(&self) -> &Arc<Clock> {
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

    /// Counts a session under a key of the identity's own choosing; `false` if there are too many.
    fn choose(&self, identity: Identity, key: &SessionKey, id: SessionId) -> bool {
        if key.is_own() {
            return true;
        }
        let mut chosen = lock(&self.chosen);
        let ids = chosen.entry(identity).or_default();
        let fits = ids.len() < self.config.limits.max_sessions_per_identity;
        if fits {
            ids.push(id);
        } else if ids.is_empty() {
            chosen.remove(&identity);
        }
        fits
    }

    fn unchoose(&self, identity: Identity, key: &SessionKey, id: SessionId) {
        if key.is_own() {
            return;
        }
        if let Entry::Occupied(mut ids) = lock(&self.chosen).entry(identity) {
            if let Some(at) = ids.get().iter().position(|other| *other == id) {
                ids.get_mut().swap_remove(at);
            }
            if ids.get().is_empty() {
                ids.remove();
            }
        }
    }

    pub(crate) fn take_due(&self) -> Vec<Weak<Shared<T>>> {
        let now = self.clock.now();
        lock(&self.wheel).take_due(now)
    }

    /// Looks at the session again at `at`, or earlier: by then its use may have ended, and an end of use
    /// never expires a session sooner than the shortest lifetime from then.
    pub(crate) fn look_again(&self, at: Moment, session: &Arc<Shared<T>>) {
        let mut shortest = self.rules.unused_lifetime.min(self.rules.max_unattended);
        if self.saver.is_some() {
            // Its record must be moved on while it is in use.
            shortest = shortest.min(self.config.stored_lifetime / 3);
        }
        let at = at.min(self.clock.now() + shortest);
        lock(&self.wheel).insert(at, Arc::downgrade(session));
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Finds the session for a request, or starts it: the reuse policy decides. `None` if it is on its way to
    /// the store: it must be restored.
    pub(crate) fn open(
        self: &Arc<Self>,
        context: &RequestContext,
        req: RequestView<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Opened<T>>, Refusal> {
        loop {
            if self.drain.is_draining() {
                return Err(Refusal::draining(self.drain.retry()));
            }
            let Some(session) = self.by_key(context.key()) else {
                if let Some(session) = self.start(context, req, purpose)? {
                    return Ok(Some((session, SessionOrigin::New)));
                }
                // Another request was faster.
                continue;
            };
            match self.config.reuse.decide(|| self.candidate(&session, context, purpose), req) {
                ReuseDecision::Reuse => {
                    if session.with_core(|core, now| purpose.take(core, now)) {
                        return Ok(Some((session, SessionOrigin::Reused)));
                    }
                }
                ReuseDecision::Fresh => {
                    let outcome =
                        Outcome::with_error(OutcomeStatus::Closed, "a fresh session was asked for");
                    session.finish(outcome, CancelHandler::Yes);
                }
                ReuseDecision::Refuse(status) => return Err(Refusal::by_policy(status)),
            }
            if session.lock().leaving {
                // Into the store: only there will it be found whole.
                return Ok(None);
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
            same_identity: core.identity() == context.identity(),
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
        let (identity, key) = (context.identity(), context.key().clone());
        let id = SessionId::random();
        let room = self.reserve(identity, &key, id)?;
        // The application's code, so outside the locks; it may panic.
        let state = (self.config.state.make)(req);
        let owner =
            Owner { identity, key: key.clone(), secure: self.config.cookie.request_is_secure(req) };
        let durable = self.saver.is_some().then(|| {
            let now = wall::now();
            Durable::new(self.first_generation(now), Millis::of(now), &key)
        });
        let session = Shared::new(self, id, owner, state, durable);
        session.with_core(|core, now| purpose.take(core, now));
        let hash = self.hasher.hash_one(&key);
        let mut table = lock(&self.by_key[shard(hash)]);
        if table.find(hash, |keyed| keyed.key == key).is_some() {
            return Ok(None);
        }
        let keyed = Keyed { key, session: Arc::clone(&session) };
        table.insert_unique(hash, keyed, |keyed| self.hasher.hash_one(&keyed.key));
        drop(table);
        room.keep();
        self.insert_by_id(&session);
        observe::started();
        tracing::debug!(session = %session.id().short(), "session started");
        Ok(Some(session))
    }

    fn insert_by_id(&self, session: &Arc<Shared<T>>) {
        let hash = self.hasher.hash_one(session.id());
        lock(&self.by_id[shard(hash)])
            .insert_unique(hash, Arc::clone(session), |session| self.hasher.hash_one(session.id()));
        let first_look = self.clock.now() + self.rules.max_lifetime.unwrap_or(Duration::MAX);
        self.look_again(first_look, session);
    }

    /// A session has ended: it leaves its key to a new one. It can still be found by its id.
    pub(crate) fn completed(&self, session: &Shared<T>, outcome: Arc<Outcome>) {
        let (ended, durable) = {
            let core = session.lock();
            let ended = Ended {
                identities: core.identities(),
                key: core.key.clone(),
                record: core.record(),
                outcome,
            };
            (ended, core.durable.is_some())
        };
        match session.arc().filter(|_| durable) {
            // Told, and polled, only when it is on disk.
            Some(session) => self.save(Item::Ended(session, ended), Urgency::Now),
            None => self.record(session, ended),
        }
        self.vacate_key(session);
    }

    /// Keeps an outcome for polling.
    fn record(&self, session: &Shared<T>, ended: Ended) {
        let forgotten = self.outcomes().insert(session.id(), ended, self.clock.now());
        // Ended sessions in memory are bounded as their outcomes are.
        for id in forgotten {
            if let Some(session) = self.by_id(id) {
                self.forget(&session);
            }
        }
    }

    /// An outcome is on disk: its clients may be told.
    pub(crate) fn outcome_saved(&self, session: &Arc<Shared<T>>, ended: Ended) {
        self.record(session, ended);
        session.with_core(|core, now| core.machine.handle_outcome_committed(now));
        session.publish_end();
    }

    /// Queues something for the saver.
    pub(crate) fn save(&self, item: Item<T>, urgency: Urgency) {
        if let Some(saver) = &self.saver {
            saver.push(item, urgency);
        }
    }

    /// Looks after a flush interval whether the session's handler is still at work.
    pub(crate) fn watch(&self, session: Arc<Shared<T>>) {
        if let Some(saver) = &self.saver {
            saver.watch(session);
        }
    }

    /// What is queued is wanted at once.
    pub(crate) fn hurry(&self) {
        if let Some(saver) = &self.saver {
            saver.hurry();
        }
    }

    /// A session that may hold what has killed the process tries again alone, if it comes to that.
    pub(crate) fn give_turn(&self, session: &Arc<Shared<T>>) {
        if let Some(saver) = &self.saver {
            saver.give_turn(session);
        }
    }

    /// Another process has taken the session over.
    pub(crate) fn lose(&self, session: &Arc<Shared<T>>) {
        if session.lock().departed {
            return;
        }
        tracing::warn!(session = %session.id().short(), "another process has taken the session over");
        session.lose();
        session.tell_savers();
        self.vacate_key(session);
        self.forget(session);
    }

    /// The session is in the store and leaves memory.
    pub(crate) fn let_go(&self, session: &Arc<Shared<T>>) {
        session.stop();
        session.tell_savers();
        self.vacate_key(session);
        self.forget(session);
    }

    /// Rebuilds a session from its record; nobody can find it yet.
    pub(crate) fn rebuild(
        self: &Arc<Self>,
        key: &SessionKey,
        record: &SessionRecord,
        generation: Generation,
        pointer: Pointer,
    ) -> Result<Arc<Shared<T>>, RecordError> {
        let codec = self.config.codec.expect("a layer with a store has a codec");
        let state =
            (codec.decode)(&record.state).map_err(|error| RecordError::of_state::<T>(&error))?;
        let identity = record.identity;
        let machine = Machine::restore(
            Arc::clone(&self.rules),
            record.machine.clone(),
            record.clean,
            record.created.age(Millis::now()),
            self.clock.now(),
            |_| Peer::gone(identity),
        );
        let mut durable = Durable::new(generation, record.created, key);
        // Its generation and its expiry are the old owner's.
        durable.pointer = durable.pointer.max(pointer);
        if !record.clean {
            durable.suspect(record.trials);
        }
        let owner = Owner { identity, key: key.clone(), secure: record.secure };
        let state = StateCell::restored(state, record.iteration, record.updated);
        let session = Shared::build(self, record.session, owner, machine, state, Some(durable));
        let mut core = session.lock();
        core.restored = true;
        if record.handler.is_some() || !record.guests.is_empty() {
            let seldom = core.seldom_mut();
            seldom.handler_name = record.handler.clone().map(Into::into);
            seldom.guests.clone_from(&record.guests);
        }
        drop(core);
        Ok(session)
    }

    /// A session has been claimed; the caller is alone with its key.
    pub(crate) fn insert_restored(
        self: &Arc<Self>,
        key: &SessionKey,
        session: &Arc<Shared<T>>,
        room: Room<'_, T>,
    ) {
        room.keep();
        self.ensure_sweeper();
        let hash = self.hasher.hash_one(key);
        let mut table = lock(&self.by_key[shard(hash)]);
        let keyed = Keyed { key: key.clone(), session: Arc::clone(session) };
        table.insert_unique(hash, keyed, |keyed| self.hasher.hash_one(&keyed.key));
        drop(table);
        self.insert_by_id(session);
    }

    /// Waits to be the only one who brings this key's session from the store or back.
    pub(crate) async fn alone(&self, key: &SessionKey) -> tokio::sync::MutexGuard<'_, ()> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        self.alone[hash % self.alone.len()].lock().await
    }

    /// Returns when the session's record may be deleted: when nobody can restore it any more, nor poll that it
    /// has expired.
    pub(crate) fn record_expires(&self, session: &Shared<T>) -> SystemTime {
        let now = wall::now();
        let mut until = later(now, self.config.stored_lifetime);
        if let Some(lifetime) = self.rules.max_lifetime {
            let created =
                session.lock().durable.as_ref().map_or(now, |durable| durable.created.time());
            until = until.min(later(created, lifetime));
        }
        later(until, self.config.outcome_lifetime)
    }

    /// Whether what the wall clock says has expired has: the process has been up for `unused_lifetime`, and
    /// the clock has not jumped for as long. A long outage is nobody's fault, a wrong clock neither.
    pub(crate) fn trusts_the_clock(&self) -> bool {
        let mut trust = lock(&self.trust);
        // Looked at here, too: a request may come between a jump and the sweeper.
        trust.look(wall::now(), Instant::now());
        trust.has_lasted(self.rules.unused_lifetime, Instant::now())
    }

    /// Looks at the wall clock; returns whether it has jumped since this was last asked.
    pub(crate) fn take_clock_jump(&self) -> bool {
        let mut trust = lock(&self.trust);
        trust.look(wall::now(), Instant::now());
        trust.take_jump()
    }

    /// Returns the generation of a new session: larger than whatever this process has met, so that what an
    /// ended session has left under the key does not fence it off, also if the clock has gone back.
    fn first_generation(&self, now: SystemTime) -> Generation {
        let first = Generation::first(now).get();
        let newest = self.newest_generation.load(Ordering::Relaxed);
        let generation = Generation::new(first.max(newest.saturating_add(1)));
        self.has_seen(generation);
        generation
    }

    pub(crate) fn has_seen(&self, generation: Generation) {
        self.newest_generation.fetch_max(generation.get(), Ordering::Relaxed);
    }

    /// Takes room for one more live session.
    pub(crate) fn reserve(
        &self,
        identity: Identity,
        key: &SessionKey,
        id: SessionId,
    ) -> Result<Room<'_, T>, Refusal> {
        let room = self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| {
            (live < self.config.limits.max_sessions).then_some(live + 1)
        });
        if room.is_err() {
            let text = "too many sessions (limits.max_sessions), try again later";
            return Err(Refusal::busy(text, BUSY_RETRY));
        }
        if !self.choose(identity, key, id) {
            self.live.fetch_sub(1, Ordering::Relaxed);
            let text = "too many sessions of one identity (limits.max_sessions_per_identity), try again later";
            return Err(Refusal::busy(text, BUSY_RETRY));
        }
        Ok(Room { registry: self, identity, key: key.clone(), id })
    }

    /// Returns the live sessions that this identity has started.
    pub(crate) fn started_by(&self, identity: Identity) -> Vec<Arc<Shared<T>>> {
        let ids = lock(&self.chosen).get(&identity).cloned().unwrap_or_default();
        let own = self.by_key(&SessionKey::own(identity));
        own.into_iter().chain(ids.into_iter().filter_map(|id| self.by_id(id))).collect()
    }

    /// A session's time is up.
    pub(crate) fn forget(&self, session: &Shared<T>) {
        let hash = self.hasher.hash_one(session.id());
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
        let (identity, key) = {
            let core = session.lock();
            (core.identity(), core.key.clone())
        };
        let hash = self.hasher.hash_one(&key);
        let mut shard = lock(&self.by_key[shard(hash)]);
        let found =
            shard.find_entry(hash, |keyed| std::ptr::eq(&raw const *keyed.session, session));
        if let Ok(entry) = found {
            let (removed, _) = entry.remove();
            drop(shard);
            drop(removed);
            self.unchoose(identity, &key, session.id());
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
            (core.identity(), core.key.clone(), core.key.rescoped(identity))
        };
        if new != key {
            let hash = self.hasher.hash_one(&key);
            let mut table = lock(&self.by_key[shard(hash)]);
            let found = table.find_entry(hash, |keyed| {
                std::ptr::eq(&raw const *keyed.session, &raw const **session)
            });
            let was_here = found.map(|entry| entry.remove().0).is_ok();
            drop(table);
            {
                let mut core = session.lock();
                core.key = new.clone();
                if let Some(durable) = &mut core.durable {
                    // It is under the old key until the record has moved.
                    durable.moved_from.get_or_insert_with(|| key.clone());
                }
            }
            session.with_core(|core, _| core.changed(Urgency::Now));
            if was_here {
                let hash = self.hasher.hash_one(&new);
                let keyed = Keyed { key: new.clone(), session: Arc::clone(session) };
                lock(&self.by_key[shard(hash)])
                    .insert_unique(hash, keyed, |keyed| self.hasher.hash_one(&keyed.key));
                self.unchoose(old, &key, session.id());
                self.choose(identity, &new, session.id());
            }
            // It may have ended while it was under neither key.
            if session.outcome().is_some() {
                self.vacate_key(session);
            }
        }
        self.config.cookie.set_cookie(&self.config.token_key, identity, session.is_secure())
    }

    /// Not in `Layer::layer`: routers apply their layers again and again.
    fn ensure_sweeper(self: &Arc<Self>) {
        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        self.clock.tick();
        let sweeper = tokio::spawn(sweep::run(Arc::downgrade(self), self.config.check_interval));
        *lock(&self.sweeper) = Some(sweeper.abort_handle());
        if let Some(saver) = &self.saver {
            let task = tokio::spawn(saver::run(Arc::downgrade(self), Arc::clone(saver)));
            saver.own(task.abort_handle());
        }
    }
}

impl<T> Drop for Registry<T> {
    fn drop(&mut self) {
        self.clock.stop_ticking();
        if let Some(sweeper) = lock(&self.sweeper).take() {
            sweeper.abort();
        }
        if let Some(saver) = &self.saver {
            saver.stop();
        }
        // Every task has an owner that ends it, and the owner of the sessions goes now.
        for session in self.all() {
            session.abandon();
        }
    }
}

/// Room for a session that is about to be live; given back if dropped.
pub(crate) struct Room<'a, T> {
    registry: &'a Registry<T>,
    identity: Identity,
    key: SessionKey,
    id: SessionId,
}

impl<T> Room<'_, T> {
    /// The session is there; leaving its key gives the room back.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl<T> Drop for Room<'_, T> {
    fn drop(&mut self) {
        self.registry.live.fetch_sub(1, Ordering::Relaxed);
        self.registry.unchoose(self.identity, &self.key, self.id);
    }
}

fn shard(hash: u64) -> usize {
    // The table inside uses the low bits and the top seven.
    usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0)
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
