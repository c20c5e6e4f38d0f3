//! The live object behind all handles of a session.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use session_resume_proto::{Moment, session::Epoch, wire::Close};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    core::{CancelHandler, Core, Ending, Machine, Stop},
    durable::Durable,
    keeper::{Home, Keeper},
    life::Change,
    purpose::Purpose,
    state::StateCell,
};
use crate::{
    live::ended::Ended,
    words::{
        clock::Clock,
        context::RequestContext,
        durability::Urgency,
        id::SessionId,
        identity::{Identity, Proven, Via},
        key::SessionKey,
        observe,
        outcome::{Outcome, OutcomeStatus},
        random,
    },
};

/// The session itself. Handles are `Arc`s of this; so are its pumps and its handler.
///
/// Laid out as written: what a request touches comes first.
#[repr(C)]
pub(crate) struct Shared<T> {
    /// The registry's: read and written under the lock of the table that the session is in.
    pub(crate) proven: Proven,
    // Before the core: only its first line is touched, and that is next to this then, unless the state is large.
    pub(crate) state: StateCell<T>,
    /// Handles of requests that have extracted it.
    visits: AtomicU32,
    core: Mutex<Core>,
    home: Arc<Home<T>>,
    /// Whether it has a place in a store; else no change need be noted.
    is_durable: bool,
    /// How the request that started it would have had its cookie set.
    via: Via,
    id: SessionId,
    this: Weak<Self>,
}

/// Whose a new session is, and where it is found.
pub(crate) struct Owner {
    pub(crate) identity: Identity,
    pub(crate) key: SessionKey,
    /// How cookies for it are set.
    pub(crate) via: Via,
}

impl<T: Send + 'static> Shared<T> {
    /// Creates a session; with `durable`, one that has a place in a store.
    pub(crate) fn new(
        home: Arc<Home<T>>,
        id: SessionId,
        owner: Owner,
        state: T,
        durable: Option<Durable>,
        now: Moment,
    ) -> Arc<Self> {
        let [session, life] = [random::bytes(), random::bytes()].map(u64::from_be_bytes);
        let epoch = Epoch::new(session, life);
        let machine = Machine::new(Arc::clone(&home.rules), epoch, now);
        Self::build(home, id, owner, machine, StateCell::new(state), durable)
    }

    pub(crate) fn build(
        home: Arc<Home<T>>,
        id: SessionId,
        owner: Owner,
        machine: Machine,
        state: StateCell<T>,
        durable: Option<Durable>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            proven: Proven::default(),
            visits: AtomicU32::new(0),
            this: this.clone(),
            id,
            is_durable: durable.is_some(),
            home,
            via: owner.via,
            core: Mutex::new(Core::new(machine, owner.key, owner.identity, durable)),
            state,
        })
    }

    pub(crate) fn keeper(&self) -> Option<Arc<dyn Keeper<T>>> {
        self.home.keeper()
    }

    /// Steps the machine under the lock, then wakes what the step concerns.
    ///
    /// The closure must not call the application.
    pub(crate) fn with_core<R>(&self, step: impl FnOnce(&mut Core, Moment) -> R) -> R {
        let now = self.home.clock.now();
        self.step(|core| step(core, now))
    }

    /// The same for a step that need not know the time: asking for it takes longer than many a step.
    pub(crate) fn step<R>(&self, step: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.core();
        let result = step(&mut core);
        core.recount();
        let wakers = core.wakers_due();
        let (circle, dropped) = (wakers.circle, wakers.dropped);
        let wants = core.take_wants();
        // A rule may have ended it. Under the same lock: whatever comes next finds its outcome.
        let ending = match core.machine.ended() {
            Some(status) if !core.life().is_over() => {
                core.end(Outcome::by_rule(status), None, self.home.clock.now())
            }
            _ => None,
        };
        drop(core);
        wakers.wake();
        if let Some((urgency, first)) = wants {
            self.queue_for_saving(urgency, first);
        }
        if circle {
            tracing::warn!(
                session = %self.id.short(),
                "plain WebSockets keep superseding each other: probably two tabs, each with a library or script that \
                 reconnects by itself (reconnecting-websocket, partysocket). They are slowed down. Use \
                 with_attach(Attach::Share), tell the library to stop at close code 4100, or use the session-resume \
                 client, which stops by itself and can have a session per tab (key::per_client())"
            );
        }
        if dropped {
            observe::dropped();
            tracing::warn!(
                session = %self.id.short(),
                "a message is dropped: the process died three times with it in hand"
            );
        }
        if let Some(ending) = ending {
            self.tell_end(ending, CancelHandler::Yes);
        }
        result
    }

    /// Ends the session with this outcome, unless its life is over already; returns whether this call has ended it.
    pub(crate) fn end(&self, outcome: Outcome, cancel: CancelHandler) -> bool {
        self.end_with(outcome, None, cancel)
    }

    /// As [`Self::end`]; `close` is how its transports are closed, if the application says.
    pub(crate) fn end_with(
        &self,
        outcome: Outcome,
        close: Option<Close>,
        cancel: CancelHandler,
    ) -> bool {
        let now = self.home.clock.now();
        let ending = self.core().end(outcome, close, now);
        let ends = ending.is_some();
        if let Some(ending) = ending {
            self.tell_end(ending, cancel);
        }
        ends
    }

    /// The session has ended, and the lock is free.
    fn tell_end(&self, ending: Ending, cancel: CancelHandler) {
        let Ending { outcome, mut stop } = ending;
        let status = outcome.status();
        observe::ended(status);
        tracing::debug!(session = %self.id.short(), ?status, error = outcome.error(), "session ended");
        // The keeper first: a client that is woken and asks again finds the key free.
        if let Some(keeper) = self.keeper() {
            keeper.ended(self);
        }
        self.tell_savers();
        stop.wake();
        if !self.is_durable {
            self.tell_outcome();
        }
        stop.abort(cancel);
    }

    /// Takes the session for a request, unless it is on its way out. This wakes no task and ends nothing, and is
    /// on the path of every request: so not by [`with_core`](Self::with_core), and
    /// the caller tells the time: the clock lies beyond what a request touches here.
    pub(crate) fn take(&self, purpose: &Purpose, by: &RequestContext, now: Moment) -> bool {
        let mut core = self.core();
        let taken = purpose.take(&mut core, by.key(), now);
        let is_back = taken && by.comes_back() && core.is_visitors();
        let wants = core.take_wants();
        drop(core);
        if is_back && let Some(keeper) = self.keeper() {
            keeper.has_come_back(self);
        }
        if let Some((urgency, first)) = wants {
            self.queue_for_saving(urgency, first);
        }
        taken
    }

    fn queue_for_saving(&self, urgency: Urgency, first: bool) {
        let (Some(keeper), Some(this)) = (self.keeper(), self.this.upgrade()) else {
            return;
        };
        if first {
            keeper.save(this, urgency);
        } else {
            keeper.hurry();
        }
    }

    /// Whether it belongs to a node of several.
    pub(crate) fn is_at_node(&self) -> bool {
        self.home.node.is_some()
    }

    /// Right before something is said: a node that holds no lease says nothing.
    pub(crate) fn hush(&self) {
        if self.home.node.as_ref().is_some_and(|node| !node.holds()) {
            self.step(Core::silence);
        }
    }

    /// Another process has taken the session over: no ack, no outcome, nothing more is written. Returns whether that is
    /// news.
    pub(crate) fn taken_over(&self) -> bool {
        let now = self.home.clock.now();
        let stop = {
            let mut core = self.core();
            if !core.change_life(Change::IsTakenOver) {
                return false;
            }
            core.machine.freeze();
            core.machine.close_transports(&Close::RESTARTING, || None, now);
            core.leave()
        };
        self.stop(stop);
        true
    }

    /// The session [is stored](Change::IsStored): what runs for it here is cancelled.
    pub(crate) fn stored(&self) {
        let stop = {
            let mut core = self.core();
            core.machine.freeze();
            core.leave()
        };
        self.stop(stop);
    }

    /// Notes the handler's task, so that the end of the session ends it, and its departure.
    pub(crate) fn own_handler(&self, handler: AbortHandle) {
        let mut core = self.core();
        match core.outcome() {
            // By the handler itself.
            Some(outcome) if outcome.status() == OutcomeStatus::Done => {}
            // It may have left just when its handler was to start.
            None if !core.is_over() => {
                core.handler = Some(handler);
                drop(core);
                // A handler that waits for a save is not known as the handler before.
                self.tell_savers();
            }
            _ => {
                drop(core);
                handler.abort();
            }
        }
    }
}

impl<T> Shared<T> {
    pub(crate) fn node_name(&self) -> Option<Arc<str>> {
        self.home.node.as_ref().map(|node| Arc::clone(&node.config().name))
    }

    pub(crate) fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the session as an `Arc`; `None` while it is being dropped.
    pub(crate) fn arc(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// Returns what is left of the session; `None` if it has not ended.
    pub(crate) fn ended(&self) -> Option<Ended> {
        let core = self.lock();
        let outcome = core.outcome().cloned()?;
        Some(Ended {
            identities: core.identities(),
            key: core.key.clone(),
            counts: core.final_counts(),
            generation: core.durable.as_ref().map_or(0, |durable| durable.stamp.generation),
            outcome,
        })
    }

    /// A request works on the session: until its [visit ends](Self::end_visit) a session with a store stays in memory.
    pub(crate) fn visit(&self) {
        self.visits.fetch_add(1, Ordering::Relaxed);
    }

    /// Such a request lets go of the session. The request came at this tick of the clock.
    pub(crate) fn end_visit(&self, since: u64) {
        self.visits.fetch_sub(1, Ordering::Relaxed);
        // Most requests take no time to speak of: coming was activity enough.
        if self.is_durable && self.home.clock.last_tick() != since {
            let now = self.home.clock.now();
            self.core().machine.stay(now);
        }
    }

    pub(crate) fn is_visited(&self) -> bool {
        // Without a store, the end of its time is an outcome, and that is told.
        self.is_durable && self.visits.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.is_durable
    }

    /// Whether the session goes on here, be it on its way to the store.
    pub(crate) fn goes_on(&self) -> bool {
        let core = self.lock();
        core.life().goes_on() && !core.is_over()
    }

    /// Whether its browser's cookie has not come back yet, and nothing was put into it.
    pub(crate) fn is_blank(&self) -> bool {
        let changed = self.state.has_changed();
        self.lock().is_blank(changed)
    }

    pub(crate) fn via(&self) -> Via {
        self.via
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.home.clock
    }

    /// Looks at what the lock guards. Changes are [steps](Self::step), which wake what they concern.
    pub(crate) fn lock(&self) -> Look<'_> {
        Look(self.core())
    }

    /// Changes what the session knows of its place in the store; `None` without a store. No machine is stepped, so nothing
    /// is woken.
    pub(crate) fn with_durable<R>(&self, change: impl FnOnce(&mut Durable) -> R) -> Option<R> {
        self.core().durable.as_deref_mut().map(change)
    }

    /// For a session that nothing else knows yet: nothing is counted, and nothing is woken.
    pub(crate) fn prepare<R>(&self, prepare: impl FnOnce(&mut Core) -> R) -> R {
        prepare(&mut self.core())
    }

    /// For the steps, here and in the modules beside this one that say why they are none.
    ///
    /// No step panics half-way in a way that a later one could not bear, and a panic in one session's lock
    /// must not become one in another task.
    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outcome(&self) -> Option<Arc<Outcome>> {
        self.lock().outcome().cloned()
    }

    /// Ends everything that runs for the session, when its layer is gone.
    pub(crate) fn abandon(&self) {
        let now = self.home.clock.now();
        let outcome = Outcome::by_rule(OutcomeStatus::Closed);
        let stop = {
            let mut core = self.core();
            match core.end(outcome, None, now) {
                Some(ending) => ending.stop,
                None => core.stop(),
            }
        };
        self.stop(stop);
    }

    fn stop(&self, mut stop: Stop) {
        stop.wake();
        self.wake_watchers();
        stop.abort(CancelHandler::Yes);
        self.tell_savers();
    }

    /// The outcome can be polled: the polls that wait find it.
    pub(crate) fn tell_outcome(&self) {
        self.core().change_life(Change::TellsOutcome);
        self.wake_watchers();
    }

    /// The polls that wait look again.
    pub(crate) fn wake_watchers(&self) {
        let watchers = self.core().rare.get_mut().and_then(|rare| rare.watchers.take());
        if let Some(watchers) = watchers {
            watchers.notify_waiters();
        }
    }

    /// Returns what tells when the session's outcome can be found; `None` if it can, or never will here.
    pub(crate) fn watch_end(&self) -> Option<Arc<Notify>> {
        let mut core = self.core();
        if core.life().has_left() || core.life().is_told() {
            return None;
        }
        Some(Arc::clone(core.rare_mut().watchers.get_or_insert_default()))
    }

    /// Whether the session's outcome can be polled.
    pub(crate) fn has_told_outcome(&self) -> bool {
        self.lock().life().is_told()
    }
}

/// A look at what a session's lock guards.
pub(crate) struct Look<'a>(MutexGuard<'a, Core>);

impl Deref for Look<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.0
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}
