//! The live object behind all handles of a session.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Waker,
};

use session_resume_proto::{
    AttachmentNumber, Moment,
    session::{self, Epoch, Record},
    wire::{Close, StateOffer},
};
use tokio::{sync::Notify, task::AbortHandle};

use super::{AttachRequest, Peer, SessionId, Tasks, event::Serial, state::StateCell};
use crate::{
    Identity,
    clock::Clock,
    handler::HandlerType,
    key::SessionKey,
    observe,
    outcome::{Outcome, OutcomeStatus},
    random,
    registry::Registry,
    snapshot::{Durable, Urgency, queue::Item},
};

pub(crate) type Machine = session::Session<Peer>;

/// The session itself. Handles are `Arc`s of this; so are its pumps and its handler.
pub(crate) struct Shared<T> {
    this: Weak<Self>,
    id: SessionId,
    /// Whether it has a place in a store; else no change need be noted.
    is_durable: bool,
    clock: Arc<Clock>,
    registry: Weak<Registry<T>>,
    /// Whether the request that started it came over https.
    secure: bool,
    core: Mutex<Core>,
    pub(crate) state: StateCell<T>,
}

/// Whose a new session is, and where it is found.
pub(crate) struct Owner {
    pub(crate) identity: Identity,
    pub(crate) key: SessionKey,
    /// Whether cookies for it shall be `Secure`.
    pub(crate) secure: bool,
}

/// What is behind the one lock: the machine and who waits for it.
pub(crate) struct Core {
    pub(crate) machine: Machine,
    /// Where it is found, and so whose it is; changes when the identity is cycled.
    pub(crate) key: SessionKey,
    /// The handler that runs, or that an upgrade under way will start.
    pub(crate) handler_type: Option<HandlerType>,
    handler: Option<AbortHandle>,
    receiver: Option<Waker>,
    next_ticket: u64,
    seldom: Option<Box<Seldom>>,
    /// The one pump that waits; others are rare.
    pump: Option<(AttachmentNumber, Waker)>,
    /// Always there once the machine has ended and the lock is free.
    outcome: Option<Arc<Outcome>>,
    /// The session has left the registry; nothing new may attach.
    pub(crate) removed: bool,
    /// It is on its way to the store; whoever asks for it must wait and restore it.
    pub(crate) leaving: bool,
    /// It has left for the store, or another process has it: nothing here speaks for it any more.
    pub(crate) departed: bool,
    /// It was rebuilt from the store and its handler has not been started since.
    pub(crate) restored: bool,
    /// Its outcome can be polled.
    published: bool,
    pub(crate) durable: Option<Box<Durable>>,
}

/// What most sessions have not, most of the time: a suspended one shall take little memory.
#[derive(Default)]
pub(crate) struct Seldom {
    /// Who started it, under a shared key.
    starter: Option<Identity>,
    /// The handler's name, or the name of the one that ran when the session was stored.
    pub(crate) handler_name: Option<Cow<'static, str>>,
    /// Who was in it before it was restored, under a shared key.
    pub(crate) guests: Vec<Identity>,
    pub(super) tasks: Tasks,
    /// Sends that wait for room, by ticket.
    pub(super) room: Vec<(u64, Waker)>,
    /// Pumps that wait besides the one in `Core`.
    pumps: Vec<(AttachmentNumber, Waker)>,
    /// Told when the session ends; there while somebody has asked.
    watchers: Option<Arc<Notify>>,
    /// A client's copy of the state, to be merged at the next boundary.
    pub(crate) offered_state: Option<Box<StateOffer>>,
    /// The requests of attaches that the handler has still to be told, by serial. Not longer: their headers
    /// may hold on to a connection's whole read buffer.
    requests: Vec<(Serial, Box<AttachRequest>)>,
}

impl Seldom {
    fn is_empty(&self) -> bool {
        let Self {
            starter,
            handler_name,
            guests,
            tasks,
            room,
            pumps,
            watchers,
            offered_state,
            requests,
        } = self;
        starter.is_none()
            && handler_name.is_none()
            && guests.is_empty()
            && tasks.is_empty()
            && room.is_empty()
            && pumps.is_empty()
            && watchers.is_none()
            && offered_state.is_none()
            && requests.is_empty()
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Creates a session; with `durable`, one that has a place in a store.
    pub(crate) fn new(
        registry: &Arc<Registry<T>>,
        id: SessionId,
        owner: Owner,
        state: T,
        durable: Option<Durable>,
        now: Moment,
    ) -> Arc<Self> {
        let epoch = Epoch::first(u64::from_be_bytes(random::bytes()));
        let machine = Machine::new(Arc::clone(registry.rules()), epoch, now);
        Self::build(registry, id, owner, machine, StateCell::new(state), durable)
    }

    pub(crate) fn build(
        registry: &Arc<Registry<T>>,
        id: SessionId,
        owner: Owner,
        machine: Machine,
        state: StateCell<T>,
        durable: Option<Durable>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            id,
            is_durable: durable.is_some(),
            clock: Arc::clone(registry.clock()),
            registry: Arc::downgrade(registry),
            secure: owner.secure,
            core: Mutex::new(Core {
                machine,
                seldom: owner.key.is_shared().then(|| {
                    Box::new(Seldom { starter: Some(owner.identity), ..Seldom::default() })
                }),
                key: owner.key,
                handler_type: None,
                handler: None,
                receiver: None,
                next_ticket: 0,
                pump: None,
                outcome: None,
                removed: false,
                leaving: false,
                departed: false,
                restored: false,
                published: false,
                durable: durable.map(Box::new),
            }),
            state,
        })
    }

    pub(crate) fn registry(&self) -> Option<Arc<Registry<T>>> {
        self.registry.upgrade()
    }

    /// Steps the machine under the lock, then wakes whom the step concerns.
    ///
    /// The closure must not call the application.
    pub(crate) fn with_core<R>(&self, step: impl FnOnce(&mut Core, Moment) -> R) -> R {
        let now = self.clock.now();
        let mut core = self.lock();
        let result = step(&mut core, now);
        let wakers = core.wakers_due();
        let circle = wakers.circle;
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
                "plain WebSockets keep superseding each other, probably two tabs with reconnect scripts: they \
                 are slowed down; consider with_attach(Attach::Share), key::per_client(), or the \
                 session-resume client"
            );
        }
        if let Some(status) = ended {
            self.finish(Outcome::by_rule(status), CancelHandler::Yes);
        }
        result
    }

    /// Ends the session with this outcome, unless it has one already; returns whether it was this.
    pub(crate) fn finish(&self, outcome: Outcome, cancel: CancelHandler) -> bool {
        let now = self.clock.now();
        let status = outcome.status();
        let outcome = Arc::new(outcome);
        let mut core = self.lock();
        if core.outcome.is_some() || core.departed {
            return false;
        }
        core.machine.end(status, now);
        core.outcome = Some(Arc::clone(&outcome));
        let wakers = core.wakers_due();
        let handler = core.handler.take();
        let tasks = core.take_tasks();
        let durable = core.durable.is_some();
        drop(core);
        observe::ended(status);
        tracing::debug!(session = %self.id.short(), ?status, error = outcome.error(), "session ended");
        // The registry first: whoever is woken and asks again finds the key free.
        if let Some(registry) = self.registry() {
            registry.completed(self, outcome);
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
        let mut core = self.lock();
        core.removed = true;
        core.departed = true;
        core.machine.freeze();
        core.machine.close_transports(&Close::RESTARTING, || None, now);
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

    /// Cancels what runs for the session; what it was is in the store.
    pub(crate) fn stop(&self) {
        let mut core = self.lock();
        core.removed = true;
        core.departed = true;
        core.machine.freeze();
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

    /// Notes the handler's task, so that the end of the session ends it.
    pub(crate) fn own_handler(&self, handler: AbortHandle) {
        let mut core = self.lock();
        if core.outcome.is_none() {
            core.handler = Some(handler);
        } else if core
            .outcome
            .as_ref()
            .is_some_and(|outcome| outcome.status() != OutcomeStatus::Done)
        {
            drop(core);
            handler.abort();
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

    pub(crate) fn is_durable(&self) -> bool {
        self.is_durable
    }

    pub(crate) fn has_ended(&self) -> bool {
        let core = self.lock();
        core.removed || core.is_over()
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
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

    /// Tells whoever polls that there is an outcome to be found.
    pub(crate) fn publish_end(&self) {
        self.lock().published = true;
        self.wake_watchers();
    }

    /// Whoever polls looks again.
    pub(crate) fn wake_watchers(&self) {
        let watchers = self.lock().seldom.as_mut().and_then(|seldom| seldom.watchers.take());
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
        Some(Arc::clone(core.seldom_mut().watchers.get_or_insert_default()))
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

impl Core {
    /// The handler waits; it is woken when something comes.
    pub(super) fn wait_to_receive(&mut self, waker: &Waker) {
        match &mut self.receiver {
            Some(receiver) => receiver.clone_from(waker),
            receiver => *receiver = Some(waker.clone()),
        }
    }

    /// The handler looks again: something that it waits for besides its inbox has come.
    pub(crate) fn wake_receiver(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }

    /// A pump has nothing to do; it is woken when there is something.
    pub(crate) fn pump_waits(&mut self, number: AttachmentNumber, waker: &Waker) {
        let more = self.seldom.iter_mut().flat_map(|seldom| &mut seldom.pumps);
        if let Some((_, pump)) = self.pump.iter_mut().chain(more).find(|(of, _)| *of == number) {
            pump.clone_from(waker);
        } else if self.pump.is_none() {
            self.pump = Some((number, waker.clone()));
        } else {
            self.seldom_mut().pumps.push((number, waker.clone()));
        }
    }

    pub(crate) fn pump_left(&mut self, number: AttachmentNumber) {
        self.pump.take_if(|(of, _)| *of == number);
        if let Some(seldom) = &mut self.seldom {
            seldom.pumps.retain(|(of, _)| *of != number);
        }
    }

    /// Returns who may know of the session: who started it and, under a shared key, who is in it.
    pub(crate) fn identities(&self) -> Vec<Identity> {
        let mut identities = vec![self.identity()];
        if self.key.is_shared() {
            identities.extend(self.machine.infos().map(|peer| peer.identity));
            identities.extend(self.guests());
            identities.sort_unstable();
            identities.dedup();
        }
        identities
    }

    /// Returns whose it is; under a shared key, who started it.
    pub(crate) fn identity(&self) -> Identity {
        let starter = || self.seldom.as_ref()?.starter;
        self.key.identity().or_else(starter).expect("a shared key's session knows its starter")
    }

    pub(crate) fn guests(&self) -> &[Identity] {
        self.seldom.as_ref().map_or(&[], |seldom| &seldom.guests)
    }

    pub(crate) fn handler_name(&self) -> Option<&Cow<'static, str>> {
        self.seldom.as_ref()?.handler_name.as_ref()
    }

    pub(crate) fn take_offered_state(&mut self) -> Option<Box<StateOffer>> {
        self.seldom.as_mut()?.offered_state.take()
    }

    /// Returns a number that no other task or send of the session has.
    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    pub(crate) fn seldom(&mut self) -> Option<&mut Seldom> {
        self.seldom.as_deref_mut()
    }

    pub(crate) fn seldom_mut(&mut self) -> &mut Seldom {
        self.seldom.get_or_insert_default()
    }

    /// Keeps a request until the handler is told of its attach.
    pub(crate) fn keep_request(&mut self, serial: Serial, request: Box<AttachRequest>) {
        self.seldom_mut().requests.push((serial, request));
        self.forget_requests();
    }

    pub(super) fn take_request(&mut self, serial: Serial) -> Option<Box<AttachRequest>> {
        let requests = &mut self.seldom.as_mut()?.requests;
        let at = requests.iter().position(|(of, _)| *of == serial)?;
        let (_, request) = requests.swap_remove(at);
        self.tidy();
        Some(request)
    }

    /// Forgets the requests of attaches that the handler will never be told.
    pub(crate) fn forget_requests(&mut self) {
        let machine = &self.machine;
        if let Some(seldom) = &mut self.seldom {
            seldom.requests.retain(|(serial, _)| {
                machine.untold_attaches().any(|who| who.info.serial == *serial)
            });
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.seldom.take_if(|seldom| seldom.is_empty());
    }

    fn take_tasks(&mut self) -> Tasks {
        self.seldom.as_mut().map(|seldom| std::mem::take(&mut seldom.tasks)).unwrap_or_default()
    }

    /// Returns what shall be left of the session.
    pub(crate) fn record(&self) -> Record {
        self.machine.record()
    }

    /// Whether nothing more can be received, sent or saved here.
    pub(crate) fn is_over(&self) -> bool {
        self.departed || self.machine.ended().is_some()
    }

    /// Everybody who waits finds that it is over.
    fn wakers_of_all(&mut self) -> WakersDue {
        let mut due = self.wakers_due();
        due.receiver = due.receiver.or(self.receiver.take());
        due.pump = due.pump.or(self.pump.take());
        if let Some(seldom) = &mut self.seldom {
            due.room.append(&mut seldom.room);
            due.pumps.append(&mut seldom.pumps);
        }
        due
    }

    fn wakers_due(&mut self) -> WakersDue {
        let wake = self.machine.take_wake();
        let mut due = WakersDue { circle: wake.circle, ..WakersDue::default() };
        if wake.handler {
            due.receiver = self.receiver.take();
        }
        if let (true, Some(seldom)) = (wake.room, &mut self.seldom) {
            due.room = std::mem::take(&mut seldom.room);
        }
        if wake.transports {
            due.pump = self.pump.take();
            if let Some(seldom) = &mut self.seldom {
                due.pumps = std::mem::take(&mut seldom.pumps);
            }
        }
        due
    }
}

/// Whom to wake once the lock is free.
#[derive(Default)]
struct WakersDue {
    receiver: Option<Waker>,
    room: Vec<(u64, Waker)>,
    pump: Option<(AttachmentNumber, Waker)>,
    pumps: Vec<(AttachmentNumber, Waker)>,
    circle: bool,
}

impl WakersDue {
    fn wake(self) {
        // Mostly it is nobody, or one: this is on the path of every message and request.
        if let Some(receiver) = self.receiver {
            receiver.wake();
        }
        if let Some((_, pump)) = self.pump {
            pump.wake();
        }
        self.room.into_iter().for_each(|(_, waker)| waker.wake());
        self.pumps.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl<T> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish_non_exhaustive()
    }
}
