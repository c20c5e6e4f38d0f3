//! What is behind a session's one lock: the machine, and what waits for it.

use std::{borrow::Cow, sync::Arc, task::Waker};

use session_resume_proto::{
    AttachmentNumber, Moment,
    compact::Rare,
    session::{self, FinalCounts},
    wire::{Close, StateOffer},
};
use tokio::{sync::Notify, task::AbortHandle};

use super::{
    AttachRequest, Peer,
    durable::Durable,
    event::Serial,
    life::{Change, Life},
    observe::Waiting,
    phase,
    receipts::Awaited,
    tasks::Tasks,
    urgent::IsUrgent,
};
use crate::words::{
    durability::Urgency,
    handler_type::HandlerType,
    identity::Identity,
    key::SessionKey,
    observe,
    outcome::{Outcome, OutcomeStatus},
    path::HandlerPath,
    reuse::Phase,
};

/// Outboxes are counted in steps of this many bytes, down: telling a recorder of every message would cost more than
/// the message.
const OUTBOX_STEP: u16 = 16 << 10;

pub(crate) type Machine = session::Session<Peer>;

/// What is behind the one lock: the machine and what waits for it. Laid out as written, as the machine is.
#[repr(C)]
pub(crate) struct Core {
    life: Life,
    /// What it takes of the room for live sessions, while it does.
    pub(crate) seat: Option<Seat>,
    /// The phase in which the metrics count this.
    counted: Option<Phase>,
    /// And its outbox, in [`OUTBOX_STEP`]s.
    counted_outbox: u16,
    /// Where its handler was started, or where an upgrade under way will start it.
    pub(crate) handler_path: HandlerPath,
    next_ticket: u32,
    pub(crate) durable: Option<Box<Durable>>,
    pub(crate) machine: Machine,
    receiver: Option<Waker>,
    /// The one pump that waits; others are rare. The box stays until that pump leaves, so no message costs one.
    pump: Rare<PumpPlace>,
    pub(super) rare: Rare<Rarities>,
    /// The handler that runs, or that an upgrade under way will start.
    pub(crate) handler_type: Option<HandlerType>,
    pub(super) handler: Option<AbortHandle>,
    /// Where it is found, and so whose it is; changes when the identity is cycled.
    pub(crate) key: SessionKey,
}

/// Where a pump waits.
struct PumpPlace {
    number: AttachmentNumber,
    /// `None`: it has been woken, and the place is free.
    waker: Option<Waker>,
}

impl PumpPlace {
    fn waits(&mut self, number: AttachmentNumber, waker: &Waker) {
        match &mut self.waker {
            Some(known) if self.number == number => known.clone_from(waker),
            place => (self.number, *place) = (number, Some(waker.clone())),
        }
    }
}

/// What a session takes of the room for live sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seat {
    /// A place of those whose cookie has not come back yet: half of the room, at most, is theirs.
    Visitor,
    /// Any place.
    Known,
}

/// What most sessions do not have, most of the time: see [`compact`](session_resume_proto::compact).
#[derive(Default)]
pub(crate) struct Rarities {
    /// Always there once the machine has ended and the lock is free.
    outcome: Option<Arc<Outcome>>,
    /// The identity that started it, under a shared key.
    starter: Option<Identity>,
    /// The handler's name, or the name of the one that ran when the session was stored.
    pub(crate) handler_name: Option<Cow<'static, str>>,
    pub(super) tasks: Tasks,
    /// Sends that wait for room, by ticket.
    pub(super) room: Vec<(u32, Waker)>,
    /// Those that wait until clients have what was sent.
    pub(super) receipts: Vec<Awaited>,
    /// Pumps that wait in addition to the one in `Core`.
    pumps: Vec<(AttachmentNumber, Waker)>,
    /// Observers that wait for what comes next.
    pub(super) observers: Vec<Waiting>,
    /// Told when the session ends; there while a poll has asked.
    pub(super) watchers: Option<Arc<Notify>>,
    /// Clients' copies of the state, to be merged at the next boundary in the order of their coming.
    offered_states: Vec<StateOffer>,
    /// The requests of attaches that the handler has still to be told, by serial. Not longer: their headers
    /// may hold on to a connection's whole read buffer.
    requests: Vec<(Serial, Box<AttachRequest>)>,
    /// Which messages the handler may take before their turn.
    is_urgent: Option<IsUrgent>,
}

impl Rarities {
    fn is_empty(&self) -> bool {
        let Self {
            outcome,
            starter,
            handler_name,
            tasks,
            room,
            receipts,
            pumps,
            observers,
            watchers,
            offered_states,
            requests,
            is_urgent,
        } = self;
        outcome.is_none()
            && starter.is_none()
            && handler_name.is_none()
            && tasks.is_empty()
            && room.is_empty()
            && receipts.is_empty()
            && pumps.is_empty()
            && observers.is_empty()
            && watchers.is_none()
            && offered_states.is_empty()
            && requests.is_empty()
            && is_urgent.is_none()
    }
}

impl Core {
    pub(super) fn new(
        machine: Machine,
        key: SessionKey,
        starter: Identity,
        durable: Option<Durable>,
    ) -> Self {
        // Under a key of one identity, the key knows whose it is.
        let starter = Some(starter).filter(|_| key.is_shared());
        Self {
            machine,
            rare: match starter {
                Some(_) => Rare::new(Rarities { starter, ..Rarities::default() }),
                None => Rare::none(),
            },
            key,
            handler_type: None,
            handler: None,
            receiver: None,
            handler_path: HandlerPath::default(),
            next_ticket: 0,
            pump: Rare::none(),
            life: Life::Live,
            seat: None,
            counted: None,
            counted_outbox: 0,
            durable: durable.map(Box::new),
        }
    }

    /// Tells the metrics what has changed. Called when a step is done, under the session's lock.
    pub(crate) fn recount(&mut self) {
        let live = !self.is_over();
        let phase = live.then(|| phase(self.machine.phase()));
        if phase != self.counted {
            observe::phase(self.counted, phase);
            self.counted = phase;
            // Those who wait for the outcome look again, too.
            if let Some(watchers) = self.rare.get().and_then(|rare| rare.watchers.as_ref()) {
                watchers.notify_waiters();
            }
        }
        let steps = if live { self.machine.outbox_bytes() / usize::from(OUTBOX_STEP) } else { 0 };
        let steps = u16::try_from(steps).unwrap_or(u16::MAX);
        if steps != self.counted_outbox {
            let bytes = |steps: u16| f64::from(steps) * f64::from(OUTBOX_STEP);
            observe::outbox(bytes(self.counted_outbox), bytes(steps));
            self.counted_outbox = steps;
        }
    }

    /// The handler waits; it is woken when something comes.
    pub(super) fn wait_to_receive(&mut self, waker: &Waker) {
        match &mut self.receiver {
            Some(receiver) => receiver.clone_from(waker),
            receiver => *receiver = Some(waker.clone()),
        }
    }

    /// The handler looks again: something other than a message, which it also waits for, has come.
    pub(crate) fn wake_receiver(&mut self) {
        if let Some(receiver) = self.receiver.take() {
            receiver.wake();
        }
    }

    /// A pump has nothing to do; it is woken when there is something.
    pub(crate) fn pump_waits(&mut self, number: AttachmentNumber, waker: &Waker) {
        let mut more = self.rare.get_mut().into_iter().flat_map(|rare| &mut rare.pumps);
        if let Some((_, pump)) = more.find(|(of, _)| *of == number) {
            pump.clone_from(waker);
            return;
        }
        match self.pump.get_mut() {
            None => self.pump = Rare::new(PumpPlace { number, waker: Some(waker.clone()) }),
            Some(place) if place.number == number || place.waker.is_none() => {
                place.waits(number, waker);
            }
            Some(_) => self.rare_mut().pumps.push((number, waker.clone())),
        }
    }

    pub(crate) fn pump_left(&mut self, number: AttachmentNumber) {
        self.pump.drop_if(|place| place.number == number);
        if let Some(rare) = self.rare.get_mut() {
            rare.pumps.retain(|(of, _)| *of != number);
        }
    }

    /// Returns the identities that may know of the session: the one that started it and, under a shared key, those of
    /// its remembered clients.
    pub(crate) fn identities(&self) -> Vec<Identity> {
        let mut identities = vec![self.identity()];
        if self.key.is_shared() {
            identities
                .extend(self.machine.clients().map(|who| Identity::of_tag(who.name.identity)));
            identities.sort_unstable();
            identities.dedup();
        }
        identities
    }

    /// Whether this identity is one of [those](Self::identities).
    pub(crate) fn is_known_to(&self, identity: Identity) -> bool {
        self.identity() == identity
            || (self.key.is_shared() && self.machine.knows_identity(identity.tag()))
    }

    /// Returns the identity whose session it is; under a shared key, the one that started it.
    pub(crate) fn identity(&self) -> Identity {
        let starter = || self.rare.get()?.starter;
        self.key.identity().or_else(starter).expect("a shared key's session knows its starter")
    }

    /// Its starter has a new identity now.
    pub(crate) fn replace_starter(&mut self, old: Identity, new: Identity) {
        if let Some(starter) = self.rare.get_mut().and_then(|rare| rare.starter.as_mut())
            && *starter == old
        {
            *starter = new;
        }
    }

    /// Returns how the session has ended, if it has.
    pub(super) fn outcome(&self) -> Option<&Arc<Outcome>> {
        self.rare.get()?.outcome.as_ref()
    }

    /// Returns where the session is in its life.
    pub(crate) fn life(&self) -> Life {
        self.life
    }

    /// Something happens to the session in its life; returns whether it does, or comes too late.
    pub(crate) fn change_life(&mut self, change: Change) -> bool {
        let after = self.life.after(change);
        self.life = after.unwrap_or(self.life);
        after.is_some()
    }

    /// A session on its way to the store is used: it stays.
    pub(crate) fn call_back(&mut self, now: Moment) {
        self.machine.touch(now);
        if self.change_life(Change::Stays) {
            self.go_on(now);
        }
    }

    /// Whether a cursor may lead here: to the session itself, or to what its late clients are told of its end. One that has
    /// expired is as if it were gone.
    pub(crate) fn is_continued(&self) -> bool {
        match self.life {
            Life::Live => true,
            Life::Ended(_) => self.machine.ended() != Some(OutcomeStatus::Expired),
            Life::BeingStored | Life::Expiring | Life::Stored | Life::TakenOver => false,
        }
    }

    /// The session ends with this outcome, unless its life is over already.
    pub(super) fn end(
        &mut self,
        outcome: Outcome,
        close: Option<Close>,
        now: Moment,
    ) -> Option<Ending> {
        if !self.change_life(Change::Ends) {
            return None;
        }
        self.machine.end_with(outcome.status(), close, now);
        let outcome = Arc::new(outcome);
        self.rare_mut().outcome = Some(Arc::clone(&outcome));
        self.recount();
        let stop = Stop {
            wakers: self.wakers_due(),
            handler: self.handler.take(),
            tasks: self.take_tasks(),
        };
        Some(Ending { outcome, stop })
    }

    /// Takes what still runs for a session whose life is over.
    pub(super) fn stop(&mut self) -> Stop {
        self.recount();
        Stop { wakers: self.wakers_due(), handler: self.handler.take(), tasks: self.take_tasks() }
    }

    /// The session has left for the store, or for another process.
    pub(super) fn leave(&mut self) -> Stop {
        self.recount();
        self.machine.end_observers();
        Stop {
            wakers: self.wakers_of_all(),
            handler: self.handler.take(),
            tasks: self.take_tasks(),
        }
    }

    /// Whether its browser's cookie has not come back yet.
    pub(crate) fn is_visitors(&self) -> bool {
        self.seat == Some(Seat::Visitor)
    }

    /// The browser's cookie has come back; returns whether that is news.
    pub(crate) fn becomes_known(&mut self) -> bool {
        let news = self.is_visitors();
        if news {
            self.seat = Some(Seat::Known);
            if self.durable.as_ref().is_some_and(|it| it.mark.is_some() || it.has_begun()) {
                // The mark goes with the next snapshot; a mere place becomes a record that is kept.
                self.changed(Urgency::Soon);
            }
        }
        news
    }

    /// Whether its browser's cookie has not come back yet, and nothing was put into it: no message, no transport,
    /// and no state if that has not `changed`.
    pub(crate) fn is_blank(&self, changed: bool) -> bool {
        let unsaved = self.durable.as_ref().is_none_or(|durable| durable.is_untouched());
        self.is_visitors() && !changed && unsaved && self.machine.is_untouched()
    }

    pub(crate) fn handler_name(&self) -> Option<&Cow<'static, str>> {
        self.rare.get()?.handler_name.as_ref()
    }

    /// The handler may take these messages before their turn.
    pub(crate) fn set_urgent(&mut self, is_urgent: IsUrgent) {
        self.rare_mut().is_urgent = Some(is_urgent);
    }

    pub(super) fn urgent(&self) -> Option<&IsUrgent> {
        self.rare.get()?.is_urgent.as_ref()
    }

    /// Keeps a client's copy of the state for the next boundary, as far as there is room: as much as one client
    /// may have in the inbox, or one copy whatever its size.
    pub(crate) fn keep_offered_state(&mut self, offer: StateOffer) {
        let bounds = &self.machine.rules().bounds;
        let (clients, bytes) = (bounds.clients, bounds.inbox_bytes);
        let offered = &mut self.rare_mut().offered_states;
        let size = |offer: &StateOffer| offer.value.get().len();
        let kept = offered.iter().map(size).sum::<usize>();
        if offered.is_empty() || offered.len() < clients && kept + size(&offer) <= bytes {
            offered.push(offer);
        }
    }

    pub(crate) fn take_offered_states(&mut self) -> Vec<StateOffer> {
        let offered = self.rare.get_mut().map(|rare| std::mem::take(&mut rare.offered_states));
        self.tidy();
        offered.unwrap_or_default()
    }

    /// Returns a number that no other task or send of the session has.
    pub(super) fn ticket(&mut self) -> u32 {
        // Small: it is in every session. No send or task waits until a number comes again.
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.next_ticket
    }

    pub(crate) fn rare(&mut self) -> Option<&mut Rarities> {
        self.rare.get_mut()
    }

    pub(crate) fn rare_mut(&mut self) -> &mut Rarities {
        self.rare.get_or_default()
    }

    /// Keeps a request until the handler is told of its attach.
    pub(crate) fn keep_request(&mut self, serial: Serial, request: Box<AttachRequest>) {
        self.rare_mut().requests.push((serial, request));
        self.forget_requests();
    }

    pub(super) fn take_request(&mut self, serial: Serial) -> Option<Box<AttachRequest>> {
        let requests = &mut self.rare.get_mut()?.requests;
        let at = requests.iter().position(|(of, _)| *of == serial)?;
        let (_, request) = requests.swap_remove(at);
        self.tidy();
        Some(request)
    }

    /// Forgets the requests of attaches that the handler will never be told.
    pub(crate) fn forget_requests(&mut self) {
        let machine = &self.machine;
        if let Some(rare) = self.rare.get_mut() {
            rare.requests.retain(|(serial, _)| {
                machine.untold_attaches().any(|who| who.info.serial == *serial)
            });
        }
        self.tidy();
    }

    pub(super) fn tidy(&mut self) {
        self.rare.drop_if(Rarities::is_empty);
    }

    /// Whether the code that calls runs in the task of the session's handler.
    pub(super) fn is_handlers_task(&self) -> bool {
        self.handler.as_ref().is_some_and(|handler| tokio::task::try_id() == Some(handler.id()))
    }

    fn take_tasks(&mut self) -> Tasks {
        self.rare.get_mut().map(|rare| std::mem::take(&mut rare.tasks)).unwrap_or_default()
    }

    /// Returns what shall be left of the session.
    pub(crate) fn final_counts(&self) -> FinalCounts {
        self.machine.final_counts()
    }

    /// Whether nothing more can be received, sent or saved here.
    pub(crate) fn is_over(&self) -> bool {
        // A rule may have ended the machine in this very step.
        self.life.is_over() || self.machine.ended().is_some()
    }

    /// All that wait find that the session is over.
    fn wakers_of_all(&mut self) -> WakersDue {
        let mut due = self.wakers_due();
        due.receiver = due.receiver.or(self.receiver.take());
        due.pump = due.pump.or(self.take_pump());
        if let Some(rare) = self.rare.get_mut() {
            due.room.append(&mut rare.room);
            due.receipts.append(&mut rare.receipts);
            due.pumps.append(&mut rare.pumps);
        }
        self.take_observers(&mut due);
        due
    }

    fn take_pump(&mut self) -> Option<Waker> {
        self.pump.get_mut()?.waker.take()
    }

    pub(super) fn wakers_due(&mut self) -> WakersDue {
        let wake = self.machine.take_wake();
        let mut due =
            WakersDue { circle: wake.circle, dropped: wake.dropped, ..WakersDue::default() };
        if wake.save {
            self.changed(Urgency::Now);
        }
        if let (true, Some(durable)) = (wake.trial || wake.save, &self.durable) {
            durable.progress().notify_waiters();
        }
        if wake.handler {
            due.receiver = self.receiver.take();
        }
        if let (true, Some(rare)) = (wake.room, self.rare.get_mut()) {
            due.room = std::mem::take(&mut rare.room);
        }
        self.take_receipts(&mut due);
        if wake.transports {
            due.pump = self.take_pump();
            if let Some(rare) = self.rare.get_mut() {
                due.pumps = std::mem::take(&mut rare.pumps);
            }
            self.take_observers(&mut due);
        }
        due
    }
}

/// What runs for a session and stops with it, once the lock is free.
#[derive(Default)]
pub(super) struct Stop {
    wakers: WakersDue,
    handler: Option<AbortHandle>,
    tasks: Tasks,
}

impl Stop {
    pub(super) fn wake(&mut self) {
        std::mem::take(&mut self.wakers).wake();
    }

    pub(super) fn abort(self, cancel: CancelHandler) {
        if let (Some(handler), CancelHandler::Yes) = (self.handler, cancel) {
            handler.abort();
        }
        self.tasks.abort_all();
    }
}

/// The end of a session, to be told once the lock is free.
pub(super) struct Ending {
    pub(super) outcome: Arc<Outcome>,
    pub(super) stop: Stop,
}

/// Whether the end of a session cancels its handler's task, or comes from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CancelHandler {
    Yes,
    No,
}

/// What to wake once the lock is free.
#[derive(Default)]
pub(super) struct WakersDue {
    receiver: Option<Waker>,
    room: Vec<(u32, Waker)>,
    pub(super) receipts: Vec<Awaited>,
    pump: Option<Waker>,
    pumps: Vec<(AttachmentNumber, Waker)>,
    pub(super) observers: Vec<Waiting>,
    /// Plain transports keep superseding each other.
    pub(super) circle: bool,
    /// A message has been dropped.
    pub(super) dropped: bool,
}

impl WakersDue {
    pub(super) fn wake(self) {
        // Mostly none waits, or one: this is on the path of every message and request.
        if let Some(receiver) = self.receiver {
            receiver.wake();
        }
        if let Some(pump) = self.pump {
            pump.wake();
        }
        self.room.into_iter().for_each(|(_, waker)| waker.wake());
        self.receipts.into_iter().for_each(Awaited::wake);
        self.pumps.into_iter().for_each(|(_, waker)| waker.wake());
        self.observers.into_iter().for_each(Waiting::wake);
    }
}
