//! Where live sessions are found. The only module that inserts and removes them.

mod cycle;
mod hasher;
mod room;
mod stored;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hashbrown::HashTable;
use http::HeaderValue;
use session_resume_proto::{Moment, session::Rules};
use tokio::{task::AbortHandle, time::Instant};

use self::hasher::Hasher;
pub(crate) use self::room::Room;
use crate::{
    Identity, RequestView, SessionId, SessionOrigin,
    clock::Clock,
    config::Config,
    drain::DrainState,
    handler::HandlerType,
    identity::SetCookie,
    key::SessionKey,
    layer::RequestContext,
    observe,
    outcome::{Outcome, OutcomeStatus},
    outcomes::{Ended, Outcomes},
    refusal::Refusal,
    reuse::{Candidate, Residence, ReuseDecision},
    session::{
        Core, phase,
        shared::{CancelHandler, Owner, Shared},
    },
    snapshot::{
        Durable, Urgency,
        queue::{Item, Saver},
        record::Millis,
        saver,
    },
    sweep,
    wall::{self, Trust},
    wheel::Wheel,
};

/// So many locks for the tables: two threads seldom want the same one.
const SHARDS: usize = 64;

type Shards<E> = Box<[Mutex<HashTable<E>>]>;

/// A session, and how its request has found it.
pub(crate) type Opened<T> = (Arc<Shared<T>>, SessionOrigin);

/// All sessions of one layer value.
pub(crate) struct Registry<T> {
    this: Weak<Self>,
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
    hasher: Hasher,
    set_cookie: SetCookie,
    by_key: Shards<Keyed<T>>,
    by_id: Shards<Arc<Shared<T>>>,
    live: AtomicUsize,
    /// Transports that have their turn.
    attached: AtomicUsize,
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
        if let Some(durable) = &mut core.durable
            && durable.expires_as_before.take().is_some()
        {
            // Used after all: its record lives on.
            core.changed(Urgency::Soon);
        }
        match self {
            Self::Extract => core.machine.touch(now),
            Self::Restore | Self::Upgrade(_) => core.machine.hold(),
        }
        true
    }
}

impl<T> Registry<T> {
    pub(crate) fn new(config: Config<T>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            rules: Arc::new(config.effective_rules()),
            clock: Arc::new(Clock::new(config.check_interval)),
            trust: Mutex::new(Trust::new(wall::now(), Instant::now())),
            newest_generation: AtomicU64::new(0),
            saver: config.store.as_ref().map(|_| Arc::new(Saver::new())),
            alone: (0..SHARDS * 4).map(|_| tokio::sync::Mutex::new(())).collect(),
            hasher: Hasher::new(),
            set_cookie: SetCookie::of(&config.cookie),
            by_key: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            by_id: (0..SHARDS).map(|_| Mutex::new(HashTable::new())).collect(),
            live: AtomicUsize::new(0),
            attached: AtomicUsize::new(0),
            chosen: Mutex::new(HashMap::new()),
            cycling: Mutex::new(()),
            wheel: Mutex::new(Wheel::new(config.check_interval)),
            sweeping: AtomicBool::new(false),
            sweeper: Mutex::new(None),
            outcomes: Mutex::new(Outcomes::new(config.limits.outcomes, config.outcome_lifetime)),
            drain: DrainState::default(),
            config,
        })
    }

    pub(crate) fn weak(&self) -> &Weak<Self> {
        &self.this
    }

    pub(crate) fn arc(&self) -> Arc<Self> {
        self.this.upgrade().expect("whoever refers to it came by an owner")
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

    /// Returns how many transports have their turn.
    pub(crate) fn attached(&self) -> usize {
        self.attached.load(Ordering::Relaxed)
    }

    /// A transport has its turn now.
    pub(crate) fn has_attached(&self) {
        self.attached.fetch_add(1, Ordering::Relaxed);
    }

    /// A transport's turn is over; returns how many still have theirs.
    pub(crate) fn has_detached(&self) -> usize {
        self.attached.fetch_sub(1, Ordering::Relaxed) - 1
    }

    pub(crate) fn set_cookie(&self, identity: Identity, secure: bool) -> HeaderValue {
        self.set_cookie.value(&self.config.token_key, identity, secure)
    }

    pub(crate) fn outcomes(&self) -> MutexGuard<'_, Outcomes> {
        lock(&self.outcomes)
    }

    /// Returns the live session under this key.
    pub(crate) fn by_key(&self, key: &SessionKey) -> Option<Arc<Shared<T>>> {
        let hash = self.hasher.key(key);
        let shard = lock(&self.by_key[shard(hash)]);
        shard.find(hash, |keyed| keyed.key == *key).map(|keyed| Arc::clone(&keyed.session))
    }

    /// Returns the session with this id, completed ones included.
    pub(crate) fn by_id(&self, id: SessionId) -> Option<Arc<Shared<T>>> {
        let hash = self.hasher.id(id);
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
        self.look_by(self.clock.now(), at, session);
    }

    fn look_by(&self, now: Moment, at: Moment, session: &Arc<Shared<T>>) {
        let mut shortest = self.rules.unused_lifetime.min(self.rules.max_unattended);
        if self.saver.is_some() {
            // Its record must be moved on while it is in use.
            shortest = shortest.min(self.config.stored_lifetime / 3);
        }
        let at = at.min(now + shortest);
        lock(&self.wheel).insert(at, Arc::downgrade(session));
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Finds the session for a request, or starts it: the reuse policy decides. `None` if it is on its way to
    /// the store: it must be restored.
    pub(crate) fn open(
        &self,
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
                    if session.take(purpose) {
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
        &self,
        context: &RequestContext,
        req: RequestView<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Arc<Shared<T>>>, Refusal> {
        self.ensure_sweeper();
        let (identity, key) = (context.identity(), context.key().clone());
        let id = SessionId::random();
        if let Err(full) = self.has_room(identity, &key) {
            // Another request of this browser may have taken the last of it, for the session asked for.
            return if self.by_key(&key).is_some() { Ok(None) } else { Err(full) };
        }
        // The application's code, so outside the locks; it may panic.
        let state = (self.config.state.make)(req);
        let secure = context.is_secure(&self.config.cookie, req);
        let owner = Owner { identity, key: key.clone(), secure };
        let durable = self.saver.is_some().then(|| {
            let now = wall::now();
            Durable::new(self.first_generation(now), Millis::of(now), &key)
        });
        // Once: where telling the time is slow, asking again and again is a good part of a first visit.
        let now = self.clock.now();
        let session = Shared::new(self, id, owner, state, durable, now);
        purpose.take(&mut session.lock(), now);
        let hash = self.hasher.key(&key);
        let mut table = lock(&self.by_key[shard(hash)]);
        if table.find(hash, |keyed| keyed.key == key).is_some() {
            return Ok(None);
        }
        // Under the lock under which it is inserted: who finds no room finds the session that took it.
        let room = self.reserve(identity, &key, id)?;
        let keyed = Keyed { key, session: Arc::clone(&session) };
        table.insert_unique(hash, keyed, |keyed| self.hasher.key(&keyed.key));
        drop(table);
        room.keep();
        let first_look = now + self.rules.max_lifetime.unwrap_or(Duration::MAX);
        self.insert_by_id(&session, now, first_look);
        session.lock().recount();
        observe::started();
        tracing::debug!(session = %session.id().short(), "session started");
        Ok(Some(session))
    }

    fn insert_by_key(&self, key: SessionKey, session: &Arc<Shared<T>>) {
        let hash = self.hasher.key(&key);
        let keyed = Keyed { key, session: Arc::clone(session) };
        lock(&self.by_key[shard(hash)])
            .insert_unique(hash, keyed, |keyed| self.hasher.key(&keyed.key));
    }

    fn insert_by_id(&self, session: &Arc<Shared<T>>, now: Moment, first_look: Moment) {
        let hash = self.hasher.id(session.id());
        lock(&self.by_id[shard(hash)])
            .insert_unique(hash, Arc::clone(session), |session| self.hasher.id(session.id()));
        self.look_by(now, first_look, session);
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
        let (identity, key) = {
            let core = session.lock();
            (core.identity(), core.key.clone())
        };
        let hash = self.hasher.key(&key);
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

    /// Not in `Layer::layer`: routers apply their layers again and again.
    fn ensure_sweeper(&self) {
        if self.sweeping.load(Ordering::Relaxed) || self.sweeping.swap(true, Ordering::Relaxed) {
            return;
        }
        self.clock.tick();
        let sweeper = tokio::spawn(sweep::run(self.this.clone(), self.config.check_interval));
        *lock(&self.sweeper) = Some(sweeper.abort_handle());
        if let Some(saver) = &self.saver {
            let task = tokio::spawn(saver::run(self.this.clone(), Arc::clone(saver)));
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

fn shard(hash: u64) -> usize {
    // The table inside uses the low bits and the top seven.
    usize::try_from((hash >> 40) % SHARDS as u64).unwrap_or(0)
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
