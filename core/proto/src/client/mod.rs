//! The client's end: what to offer, what to send, what to believe, when to come back.
//!
//! [`Client`] is one program instance or page and outlives its transports. The caller makes these:
//! every [`Action::Connect`] brings a [`TransportNumber`], and news about an older one is ignored.
//!
//! Arguments come in one order, here and in [`session`](crate::session): which transport, what, and the time last.
//!
//! Its methods are of four kinds: getters; `handle_*` say what happened; verbs are commands of the
//! application ([`send`](Client::send), [`take`](Client::take), [`close`](Client::close),
//! [`reconnect_now`](Client::reconnect_now)); `poll_*` say what the caller must do. After any of the
//! middle two the caller polls [`poll_action`](Client::poll_action) and
//! [`poll_transmit`](Client::poll_transmit) until both are empty and sleeps until
//! [`poll_timeout`](Client::poll_timeout).

mod acks;
mod action;
mod attach;
mod config;
mod detach;
mod event;
#[cfg(test)]
mod hostile;
mod inbound;
mod meet;
#[cfg(test)]
mod model;
mod outbound;
mod probe;
mod reconnect;
#[cfg(test)]
mod tests;

pub use self::{
    action::{Action, Random, TransportNumber},
    config::{Backoff, Config, Limits, Modes},
    event::{Cause, Event, SendError},
    meet::Meeting,
};

use std::{collections::VecDeque, time::Duration};

use bytestring::ByteString;

use self::{
    acks::Acks,
    detach::{Facts, Pace},
    inbound::Inbound,
    meet::Hold,
    outbound::Outbound,
    probe::Probe,
};
use crate::{
    AttachmentNumber, ClientId, Cursor, Message, Moment, WireId,
    wire::{ClientControl, Close, Done, ProtocolError, StateOffer},
};

/// The client machine.
///
/// A clone is for tests: two that go on are [copies](Cause::Copied), of which one must find a new id.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Client {
    config: Config,
    id: ClientId,
    phase: Phase,
    /// The newest transport's number.
    transport: TransportNumber,
    /// The session of the last hello; `None`: the next offer is fresh.
    known: Option<Known>,
    inbound: Inbound,
    outbound: Outbound,
    /// For what the queue waits before it goes to another session.
    hold: Hold,
    /// What was told as in doubt since the queue last met a session.
    in_doubt: Vec<Message>,
    /// Which attempt in a row the newest is, from 1. Attempts without a wait before them count, too.
    attempt: u32,
    /// Failures of the row that a wait follows. The next wait grows with them.
    failures: u32,
    /// When to come back, as the server said on the newest transport.
    retry: Option<Duration>,
    /// The number of the next message on the last transport, if the server closed it for one that was too big.
    too_big: Option<u64>,
    /// How the offers before were taken.
    facts: Facts,
    /// The id is to be replaced before the next attempt.
    renaming: bool,
    /// The application wants to end once everything is acknowledged.
    closing: bool,
    /// The application's own copy of the state, as the frame that offers it.
    state: Option<ByteString>,
    actions: VecDeque<Action>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Known {
    session: WireId,
    epoch: WireId,
    attachment: AttachmentNumber,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Waits for random bytes.
    Drawing { pace: Pace, cause: Cause },
    /// Waits for the next attempt.
    Waiting { until: Moment },
    /// An attempt is under way, without hello so far.
    Connecting { deadline: Moment, offered: Option<Cursor> },
    /// The hello is there.
    Open(Open),
    /// The session is over; the server's close says with which code.
    Over { done: Done, deadline: Moment },
    /// Nothing happens until the application asks.
    Offline,
    /// Nothing will ever happen.
    Ended,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Open {
    heard: Moment,
    /// How long the server may say nothing.
    patience: Duration,
    acks: Acks,
    probe: Probe,
    /// The transport was of use: it has brought a message that was news, an acknowledgement of something, or a
    /// heartbeat.
    settled: bool,
    offer: StateTurn,
}

/// Whether a transport is the one to offer the application's copy of the state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum StateTurn {
    /// There is no copy, or the server does not take one as long.
    Not,
    /// It goes out behind the first acknowledgement, before any message.
    Due,
    /// It has gone out.
    Said,
}

impl Client {
    /// Creates a client that wants to connect at once.
    pub fn new(config: Config, random: &Random, now: Moment) -> Self {
        let mut client = Self {
            config,
            id: name(random),
            phase: Phase::Offline,
            transport: TransportNumber(0),
            known: None,
            inbound: Inbound::default(),
            outbound: Outbound::new(),
            hold: Hold::default(),
            in_doubt: Vec::new(),
            attempt: 0,
            failures: 0,
            retry: None,
            too_big: None,
            facts: Facts::default(),
            renaming: false,
            closing: false,
            state: None,
            actions: VecDeque::new(),
        };
        client.connect(now);
        client
    }

    /// Queues a message for the server.
    ///
    /// # Errors
    ///
    /// Returns [`SendError`] if it was not taken; the message can be offered again when that is
    /// [`SendError::Full`] and something has been acknowledged.
    pub fn send(&mut self, message: Message) -> Result<(), SendError> {
        if self.closing || matches!(self.phase, Phase::Over { .. } | Phase::Ended) {
            return Err(SendError::Closed);
        }
        self.outbound.push(message, &self.config.limits)
    }

    /// Hands the next event to the application; a message counts as taken and will be acknowledged.
    ///
    /// With this call the application has had its say about the [`Event::NewSession`] before.
    pub fn take(&mut self, now: Moment) -> Option<Event> {
        if self.hold == Hold::Looked {
            self.end_hold();
        }
        let event = self.inbound.take()?;
        self.note_taken(&event);
        if let Phase::Open(open) = &mut self.phase {
            let bytes = match &event {
                Event::Message(message) => message.len(),
                _ => 0,
            };
            open.acks.note(self.inbound.position(), bytes, now);
        }
        Some(event)
    }

    /// Ends once the server has acknowledged every message sent so far.
    ///
    /// The session itself goes on. Until then the client reconnects as its mode says. A queue that waits for the
    /// application waits no longer.
    pub fn close(&mut self) {
        self.closing = true;
        self.end_hold();
        if matches!(self.phase, Phase::Offline) {
            self.end(Event::Closed);
        }
        if let Phase::Open(open) = &mut self.phase {
            open.acks.hurry(self.inbound.position());
        }
        self.close_if_acknowledged();
    }

    /// Sets the application's own copy of the session's state; `None` takes it back.
    ///
    /// It is offered at each hello from now on, before any message, and the server's policy decides what becomes of it.
    /// A copy is not offered where it is longer than the server takes, or where the server does not say what it takes:
    /// [`Event::StateTooBig`].
    pub fn offer_state(&mut self, offer: Option<StateOffer>) {
        self.state = offer
            .map(|state| ClientControl { state: Some(state), ..ClientControl::default() }.encode());
    }

    /// Connects without waiting any longer: the user asked, or the network has come back.
    ///
    /// Does nothing while a transport is there or under way, and after the end.
    pub fn reconnect_now(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Offline if self.renaming => self.draw(Pace::AtOnce, Cause::Copied),
            Phase::Waiting { .. } | Phase::Offline => self.connect(now),
            Phase::Drawing { pace, .. } => *pace = Pace::AtOnce,
            Phase::Connecting { .. } | Phase::Open(_) | Phase::Over { .. } | Phase::Ended => {}
        }
    }

    /// Replaces the open transport by another, because a better path is there: attaches again at once, with the cursor.
    ///
    /// Does nothing where no transport is open. The application is told as at any attempt.
    pub fn replace_transport(&mut self, now: Moment) {
        if let Phase::Open(open) = &self.phase {
            if open.settled {
                self.begin_row();
            }
            self.drop_transport(Some(Close::GOODBYE));
            self.connect(now);
        }
    }

    /// Takes in the bytes that [`Action::Randomize`] asked for.
    pub fn handle_random(&mut self, random: &Random, now: Moment) {
        let Phase::Drawing { pace, cause } = &self.phase else {
            return;
        };
        if self.renaming {
            self.renaming = false;
            self.id = name(random);
        }
        if *pace == Pace::AtOnce {
            return self.connect(now);
        }
        let draw = u64::from_le_bytes(std::array::from_fn(|n| random[n]));
        let hint = detach::hint(cause).or(self.retry);
        let delay = match hint {
            // All clients were told the same time: the first step spreads them.
            Some(hint) => hint.saturating_add(self.config.backoff.delay(1, draw)),
            None => self.config.backoff.delay(self.failures, draw),
        };
        let attempt = self.attempt.saturating_add(1);
        self.inbound.push(Event::Waiting { attempt, delay, cause: cause.clone() });
        self.phase = Phase::Waiting { until: now + delay };
    }

    /// Takes in that the attempt for `transport` failed before it was open.
    pub fn handle_connect_failed(&mut self, transport: TransportNumber, cause: Cause) {
        if self.is_newest(transport) {
            self.detach(cause);
        }
    }

    /// Takes in that `transport` has brought a message that is over the limit of what reads it: the transport is
    /// of no use any more.
    pub fn handle_too_big(&mut self, transport: TransportNumber) {
        if self.is_newest(transport) {
            self.drop_transport(Some(Close::TOO_BIG));
            self.detach(Cause::TooBig);
        }
    }

    /// Takes in that another has `transport`, so that this client is a copy: a pipe was answered 409. The client goes on
    /// under a new id.
    pub fn handle_copied(&mut self, transport: TransportNumber) {
        if self.is_newest(transport) {
            self.drop_transport(None);
            self.detach(Cause::Copied);
        }
    }

    /// Takes in that `transport` has brought what is no frame at all.
    pub fn handle_broken(&mut self, transport: TransportNumber) {
        if self.is_newest(transport) {
            self.drop_transport(Some(Close::PROTOCOL_ERROR));
            self.detach(Cause::Protocol(ProtocolError::NoFrame));
        }
    }

    /// Takes in that `transport` is gone; `close` is what the server said.
    pub fn handle_closed(&mut self, transport: TransportNumber, close: Option<Close>) {
        if self.is_newest(transport) {
            self.detach(close.map_or(Cause::Lost, Cause::Closed));
        }
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        match &mut self.phase {
            Phase::Waiting { until } if now >= *until => self.connect(now),
            Phase::Connecting { deadline, .. } if now >= *deadline => {
                self.drop_transport(None);
                self.detach(Cause::TimedOut);
            }
            Phase::Open(open) => {
                let under_way = self.outbound.under_way();
                if now >= open.heard + open.patience
                    || open.probe.handle_timeout(open.heard, under_way, now)
                {
                    // No close frame: a peer that answers nothing would never take it.
                    self.drop_transport(None);
                    return self.detach(Cause::Silent);
                }
                open.acks.handle_timeout(now);
            }
            Phase::Over { deadline, .. } if now >= *deadline => {
                self.drop_transport(Some(Close::DONE));
                self.detach(Cause::Silent);
            }
            Phase::Drawing { .. }
            | Phase::Waiting { .. }
            | Phase::Connecting { .. }
            | Phase::Over { .. }
            | Phase::Offline
            | Phase::Ended => {}
        }
    }

    /// Returns the next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns the next frame for the newest transport.
    ///
    /// Call it when that transport can take a frame, so that what counts as sent was really handed on.
    /// Flush when this returns `None`, not after every frame.
    pub fn poll_transmit(&mut self, now: Moment) -> Option<(TransportNumber, Message)> {
        let Phase::Open(open) = &mut self.phase else {
            return None;
        };
        let told = open.acks.poll(self.inbound.position(), now);
        if told.is_some() {
            let ack = ClientControl { ack: told, ..ClientControl::default() };
            self.close_if_acknowledged();
            return Some((self.transport, Message::Text(ack.encode())));
        }
        if open.offer == StateTurn::Due {
            open.offer = StateTurn::Said;
            if let Some(state) = self.state.clone() {
                self.close_if_acknowledged();
                return Some((self.transport, Message::Text(state)));
            }
        }
        if open.probe.poll() {
            let ping = ClientControl { ping: Some(true), ..ClientControl::default() };
            return Some((self.transport, Message::Text(ping.encode())));
        }
        if self.hold != Hold::None {
            return None;
        }
        let message = self.outbound.poll_transmit()?;
        open.probe.note_sent(now);
        Some((self.transport, message))
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Waiting { until } => Some(*until),
            Phase::Connecting { deadline, .. } | Phase::Over { deadline, .. } => Some(*deadline),
            Phase::Open(open) => {
                let silent = open.heard + open.patience;
                let due = [open.acks.due(), open.probe.due(open.heard)];
                due.into_iter().flatten().chain([silent]).min()
            }
            Phase::Drawing { .. } | Phase::Offline | Phase::Ended => None,
        }
    }

    /// Returns which attempt in a row the newest is, from 1. A row begins with the first attempt of all, after a transport
    /// that was of use, and when the application connects again after a stop.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Returns the client's present id.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Returns whether [`take`](Self::take) has something to hand over.
    pub fn has_events(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// Returns how many messages the server has not acknowledged, sent or not.
    pub fn unacknowledged(&self) -> usize {
        self.outbound.len()
    }

    /// Returns whether the newest transport is there and has had its hello.
    pub fn is_attached(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Over { .. })
    }

    /// Returns whether nothing will happen until the application asks.
    pub fn is_offline(&self) -> bool {
        matches!(self.phase, Phase::Offline)
    }

    /// Returns whether nothing will ever happen again.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    fn is_newest(&self, transport: TransportNumber) -> bool {
        let attached =
            matches!(self.phase, Phase::Connecting { .. } | Phase::Open(_) | Phase::Over { .. });
        attached && transport == self.transport
    }
}

/// Makes a client id of 24 characters, 144 random bits.
fn name(random: &Random) -> ClientId {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let text: String =
        random[8..].iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect();
    ClientId::parse(&text).expect("24 characters of the alphabet")
}
