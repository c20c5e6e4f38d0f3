//! The live object behind all handles of a session.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use session_resume_proto::{Moment, session::Epoch, wire::Close};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    core::{Core, Machine},
    state::StateCell,
};
use crate::words::id::SessionId;
use crate::{
    Identity,
    durable::snapshot::{Durable, queue::Item},
    live::{
        ended::Ended,
        registry::{Purpose, Registry},
    },
    words::{
        clock::Clock,
        context::RequestContext,
        durability::Urgency,
        identity::{Proven, Via},
        key::SessionKey,
        observe,
        outcome::{Outcome, OutcomeStatus},
        random,
    },
};

/// The session itself. Handles are `Arc`s of this; so are its pumps and its handler.
///
/// Laid out as written: what a request touches comes first. See [`compact`](session_resume_proto::compact).
#[repr(C)]
pub(crate) struct Shared<T> {
    /// The registry's: read and written under the lock of the table that the session is in.
    pub(crate) proven: Proven,
    // Before the core: only its first line is touched, and that is next to this then, unless the state is large.
    pub(crate) state: StateCell<T>,
    core: Mutex<Core>,
    /// Handles of requests that have extracted it.
    visits: AtomicU32,
    clock: Arc<Clock>,
    /// Whether it has a place in a store; else no change need be noted.
    is_durable: bool,
    /// How the request that started it would have had its cookie set.
    via: Via,
    id: SessionId,
    registry: Weak<Registry<T>>,
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
        registry: &Registry<T>,
        id: SessionId,
        owner: Owner,
        state: T,
        durable: Option<Durable>,
        now: Moment,
    ) -> Arc<Self> {
        let [session, life] = [random::bytes(), random::bytes()].map(u64::from_be_bytes);
        let epoch = Epoch::new(session, life);
        let machine = Machine::new(Arc::clone(registry.rules()), epoch, now);
        Self::build(registry, id, owner, machine, StateCell::new(state), durable)
    }

    pub(crate) fn build(
        registry: &Registry<T>,
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
            clock: Arc::clone(registry.clock()),
            registry: registry.weak().clone(),
            via: owner.via,
            core: Mutex::new(Core::new(machine, owner.key, owner.identity, durable)),
            state,
        })
    }

    pub(crate) fn registry(&self) -> Option<Arc<Registry<T>>> {
        self.registry.upgrade()
    }

    /// Steps the machine under the lock, then wakes what the step concerns.
    ///
    /// The closure must not call the application.
    pub(crate) fn with_core<R>(&self, step: impl FnOnce(&mut Core, Moment) -> R) -> R {
        let now = self.clock.now();
        self.step(|core| step(core, now))
    }

    /// The same for a step that need not know the time: asking for it takes longer than many a step.
    pub(crate) fn step<R>(&self, step: impl FnOnce(&mut Core) -> R) -> R {
        let mut core = self.lock();
        let result = step(&mut core);
        core.recount();
        let wakers = core.wakers_due();
        let (circle, dropped) = (wakers.circle, wakers.dropped);
        let ended = core.machine.ended().filter(|_| core.outcome.is_none() && !core.departed);
        let wants = core.take_wants();
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
        if let Some(status) = ended {
            self.finish(Outcome::by_rule(status), CancelHandler::Yes);
        }
        result
    }

    /// Ends the session with this outcome, unless it has one already; returns whether this call has ended it.
    pub(crate) fn finish(&self, outcome: Outcome, cancel: CancelHandler) -> bool {
        self.finish_with(outcome, None, cancel)
    }

    /// As [`Self::finish`]; `close` is how its transports are closed, if the application says.
    pub(crate) fn finish_with(
        &self,
        outcome: Outcome,
        close: Option<Close>,
        cancel: CancelHandler,
    ) -> bool {
        let now = self.clock.now();
        let status = outcome.status();
        let outcome = Arc::new(outcome);
        let mut core = self.lock();
        if core.outcome.is_some() || core.departed {
            return false;
        }
        core.machine.end_with(status, close, now);
        core.outcome = Some(Arc::clone(&outcome));
        core.recount();
        let wakers = core.wakers_due();
        let handler = core.handler.take();
        let tasks = core.take_tasks();
        let durable = core.durable.is_some();
        drop(core);
        observe::ended(status);
        tracing::debug!(session = %self.id.short(), ?status, error = outcome.error(), "session ended");
        // The registry first: a client that is woken and asks again finds the key free.
        if let Some(registry) = self.registry() {
            registry.completed(self);
        }
        self.tell_savers();
        wakers.wake();
        if !durable {
            self.publish_end();
        }
        if let (Some(handler), CancelHandler::Yes) = (handler, cancel) {
            handler.abort();
        }
        tasks.abort_all();
        true
    }

    /// Takes the session for a request, unless it is on its way out. This wakes no task and ends nothing, and is
    /// on the path of every request: so not by [`with_core`](Self::with_core), and
    /// the caller tells the time: the clock lies beyond what a request touches here.
    pub(crate) fn take(&self, purpose: &Purpose, by: &RequestContext, now: Moment) -> bool {
        let mut core = self.lock();
        let taken = purpose.take(&mut core, by.key(), now);
        let is_back = taken && by.comes_back() && core.is_visitors();
        let wants = core.take_wants();
        drop(core);
        if is_back && let Some(registry) = self.registry() {
            registry.has_come_back(self);
        }
        if let Some((urgency, first)) = wants {
            self.queue_for_saving(urgency, first);
        }
        taken
    }

    fn queue_for_saving(&self, urgency: Urgency, first: bool) {
        let (Some(registry), Some(this)) = (self.registry(), self.this.upgrade()) else {
            return;
        };
        if first {
            registry.save(Item::Session(this), urgency);
        } else {
            registry.hurry();
        }
    }

    /// Ends everything here because another process has taken the session over: no ack, no outcome, nothing
    /// more is written.
    pub(crate) fn lose(&self) {
        let now = self.clock.now();
        self.depart(|core| core.machine.close_transports(&Close::RESTARTING, || None, now));
    }

    /// Cancels what runs for the session; what it was is in the store.
    pub(crate) fn stop(&self) {
        self.depart(|_| ());
    }

    fn depart(&self, also: impl FnOnce(&mut Core)) {
        let mut core = self.lock();
        core.removed = true;
        core.departed = true;
        core.machine.freeze();
        also(&mut core);
        core.recount();
        let wakers = core.wakers_of_all();
        let handler = core.handler.take();
        let tasks = core.take_tasks();
        drop(core);
        wakers.wake();
        self.wake_watchers();
        if let Some(handler) = handler {
            handler.abort();
        }
        tasks.abort_all();
    }

    /// Notes the handler's task, so that the end of the session ends it, and its departure.
    pub(crate) fn own_handler(&self, handler: AbortHandle) {
        let mut core = self.lock();
        match &core.outcome {
            // By the handler itself.
            Some(outcome) if outcome.status() == OutcomeStatus::Done => {}
            // It may have left just when its handler was to start.
            None if !core.departed => core.handler = Some(handler),
            _ => {
                drop(core);
                handler.abort();
            }
        }
    }
}

impl<T> Shared<T> {
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
        let outcome = core.outcome.clone()?;
        Some(Ended {
            identities: core.identities(),
            key: core.key.clone(),
            counts: core.final_counts(),
            outcome,
        })
    }

    /// A request works on the session: until it [leaves](Self::leave) a session with a store stays in memory.
    pub(crate) fn visit(&self) {
        self.visits.fetch_add(1, Ordering::Relaxed);
    }

    /// Such a request lets go of the session. The request came at this tick of the clock.
    pub(crate) fn leave(&self, since: u64) {
        self.visits.fetch_sub(1, Ordering::Relaxed);
        // Most requests take no time to speak of: coming was activity enough.
        if self.is_durable && self.clock.last_tick() != since {
            let now = self.clock.now();
            self.lock().machine.stay(now);
        }
    }

    pub(crate) fn is_visited(&self) -> bool {
        // Without a store, the end of its time is an outcome, and that is told.
        self.is_durable && self.visits.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_durable(&self) -> bool {
        self.is_durable
    }

    pub(crate) fn has_ended(&self) -> bool {
        let core = self.lock();
        core.removed || core.is_over()
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
        &self.clock
    }

    /// No step panics half-way in a way that a later one could not bear, and a panic in one session's lock
    /// must not become one in another task.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn outcome(&self) -> Option<Arc<Outcome>> {
        self.lock().outcome.clone()
    }

    /// Ends everything that runs for the session, when its layer is gone.
    pub(crate) fn abandon(&self) {
        let now = self.clock.now();
        let mut core = self.lock();
        core.machine.end(OutcomeStatus::Closed, now);
        core.outcome.get_or_insert_with(|| Arc::new(Outcome::by_rule(OutcomeStatus::Closed)));
        core.recount();
        let wakers = core.wakers_due();
        let handler = core.handler.take();
        let tasks = core.take_tasks();
        drop(core);
        wakers.wake();
        self.tell_savers();
        if let Some(handler) = handler {
            handler.abort();
        }
        tasks.abort_all();
    }

    /// Tells the polls that wait that there is an outcome to be found.
    pub(crate) fn publish_end(&self) {
        self.lock().published = true;
        self.wake_watchers();
    }

    /// The polls that wait look again.
    pub(crate) fn wake_watchers(&self) {
        let watchers = self.lock().rare.get_mut().and_then(|rare| rare.watchers.take());
        if let Some(watchers) = watchers {
            watchers.notify_waiters();
        }
    }

    /// Returns what tells when the session's outcome can be found; `None` if it can, or never will here.
    pub(crate) fn watch_end(&self) -> Option<Arc<Notify>> {
        let mut core = self.lock();
        if core.published || core.departed {
            return None;
        }
        Some(Arc::clone(core.rare_mut().watchers.get_or_insert_default()))
    }

    pub(crate) fn is_published(&self) -> bool {
        self.lock().published
    }
}

/// Whether the end of a session cancels its handler's task, or comes from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CancelHandler {
    Yes,
    No,
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}
