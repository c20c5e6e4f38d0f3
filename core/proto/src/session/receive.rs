//! What comes in on a transport.

use bytes::Bytes;
use bytestring::ByteString;

use super::{Session, client::Client, transport::Pause};
use crate::{
    AttachmentNumber, Message, Moment, Position,
    wire::{self, ClientControl, Close, Inbound, ProtocolError, StateOffer},
};

/// A frame that came in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Incoming {
    /// A text frame.
    Text(ByteString),
    /// A binary frame.
    Binary(Bytes),
    /// A pong with its payload.
    Pong(Bytes),
    /// Anything else that shows life.
    Ping,
}

/// What became of an incoming frame.
#[derive(Debug)]
#[must_use = "a frame that found no room must be offered again"]
pub enum Reception {
    /// It has been dealt with; if it was wrong, `poll_transmit` says how to close.
    Done,
    /// The inbox is full: stop reading, offer the frame again when woken.
    Full(Incoming),
    /// The client has sent faster than it may: stop reading, offer the frame again at the transport's next timeout.
    TooFast {
        /// The frame.
        frame: Incoming,
        /// It has not been offered before.
        is_news: bool,
    },
    /// The client offers its copy of the state.
    State(StateOffer),
}

impl<I: Clone> Session<I> {
    /// Takes in a frame of a transport.
    ///
    /// News of a turn that is over changes nothing.
    pub fn handle_frame(
        &mut self,
        number: AttachmentNumber,
        frame: Incoming,
        now: Moment,
    ) -> Reception {
        let Some(at) = self.transport_index(number) else {
            return Reception::Done;
        };
        if !self.transports[at].is_attached() {
            if let Incoming::Pong(payload) = &frame {
                self.handle_late_pong(at, payload, now);
            }
            return Reception::Done;
        }
        if self.frozen {
            return Reception::Full(frame);
        }
        self.transports[at].note_life(&frame, &self.rules, now);
        match frame {
            Incoming::Ping => Reception::Done,
            Incoming::Pong(payload) => {
                self.handle_pong(at, &payload, now);
                Reception::Done
            }
            Incoming::Binary(bytes) => self.handle_data(at, Message::Binary(bytes), now),
            Incoming::Text(text) if self.transports[at].is_plain() => {
                self.handle_data(at, Message::Text(text), now)
            }
            Incoming::Text(text) => match wire::decode_client_text(text) {
                Ok(Inbound::Data(text)) => self.handle_data(at, Message::Text(text), now),
                Ok(Inbound::Control(control)) => self.handle_control(at, control, now),
                Err(error) => self.protocol_error(at, error, now),
            },
        }
    }

    fn handle_data(&mut self, at: usize, message: Message, now: Moment) -> Reception {
        if self.is_watchers(at) && self.usage.ended.is_none() {
            self.end_transport(at, Close::READ_ONLY, None, now);
            return Reception::Done;
        }
        if message.len() > self.rules.bounds.message {
            self.end_transport(at, Close::TOO_BIG, None, now);
            return Reception::Done;
        }
        if self.usage.ended.is_some() {
            return Reception::Done;
        }
        let bounds = &self.rules.bounds;
        let t = &mut self.transports[at];
        let Some(client) = self.clients.get_mut(t.client) else {
            return Reception::Done;
        };
        // Counts the payload only, as the window does that the client was told: what keeps to the window always
        // fits.
        let bytes = message.len();
        let fits = client.waiting() == 0
            || (client.waiting() < bounds.inbox_messages as u64
                && client.inbox_bytes + bytes <= bounds.inbox_bytes.max(bytes));
        if !fits {
            if !t.waits_for_room() {
                t.pause = Some(Pause::ForRoom(now));
            }
            let plain = t.is_plain();
            self.resolve_standoff(now);
            // A transport that is closed instead of waiting need not keep the frame: the frame was never counted.
            if !self.transports[at].is_attached() {
                return Reception::Done;
            }
            return Reception::Full(frame_of(message, plain));
        }
        if let Some(Err(until)) = bounds.pace.map(|pace| client.keep_pace(pace, now)) {
            let is_news = !matches!(t.pause, Some(Pause::Until(_)));
            t.pause = Some(Pause::Until(until));
            return Reception::TooFast { frame: frame_of(message, t.is_plain()), is_news };
        }
        if t.is_paused() {
            t.go_on(&self.rules, now);
        }
        t.may_offer_state = false;
        client.received += 1;
        client.inbox_bytes += bytes;
        let (uid, from) = (client.uid, client.who.clone());
        let again = client.is_early(client.received - 1);
        if again {
            client.inbox_bytes -= bytes;
        }
        self.heard_frame(at, now);
        if again {
            self.comes_again(uid, now);
            return Reception::Done;
        }
        self.inbox.push_message(uid, message, from);
        self.wake.handler = true;
        Reception::Done
    }

    /// A text or binary frame of the client has arrived on this attachment.
    fn heard_frame(&mut self, at: usize, now: Moment) {
        let t = &mut self.transports[at];
        t.last_frame = now;
        let number = t.number;
        if let Some(client) = self.clients.get_mut(t.client) {
            client.heard = client.heard.max(number);
            // It speaks only after the hello.
            client.held = client.shown;
            client.counts_unknown = false;
        }
    }

    fn handle_control(&mut self, at: usize, control: ClientControl, now: Moment) -> Reception {
        self.heard_frame(at, now);
        if let Some(position) = control.ack {
            if position > self.transports[at].sent {
                return self.protocol_error(at, ProtocolError::OverAck, now);
            }
            let t = &mut self.transports[at];
            t.last_ack = now;
            t.ack_by = None;
            self.outbox.acknowledge(position);
            self.acknowledge(at, position, now);
        }
        // Said with what is written next: the pump writes after it has read.
        self.transports[at].heartbeat_now |= control.ping == Some(true);
        let Some(state) = control.state else {
            return Reception::Done;
        };
        // Once, and before any data: what the client has sent since would not be in its copy.
        if !std::mem::replace(&mut self.transports[at].may_offer_state, false) {
            return self.protocol_error(at, ProtocolError::Unexpected, now);
        }
        // A client offers its copy by itself, not knowing that it may only read. The copy of a watcher does not count.
        if self.is_watchers(at) { Reception::Done } else { Reception::State(state) }
    }

    fn is_watchers(&self, at: usize) -> bool {
        self.clients.get(self.transports[at].client).is_some_and(Client::is_watcher)
    }

    fn handle_pong(&mut self, at: usize, payload: &[u8], now: Moment) {
        let Some(ping) =
            self.transports[at].ping.filter(|_| self.transports[at].is_answer(payload))
        else {
            return;
        };
        self.transports[at].ping = None;
        self.transports[at].report.is_answered(now);
        if self.transports[at].is_plain() {
            self.confirmed_after(at, ping.position, now.since(ping.since), now);
        }
    }

    fn protocol_error(&mut self, at: usize, error: ProtocolError, now: Moment) -> Reception {
        self.end_transport(at, Close::breach(error), None, now);
        Reception::Done
    }

    /// The client of this transport has everything before `position`.
    pub(super) fn acknowledge(&mut self, at: usize, position: Position, now: Moment) {
        if self.needs_only_from(at, position, now) {
            self.outbox.acknowledge(position);
        }
    }

    /// The client of this transport needs nothing before `position`, whether or not it has it; returns whether that
    /// is news.
    pub(super) fn needs_only_from(&mut self, at: usize, position: Position, now: Moment) -> bool {
        let t = &mut self.transports[at];
        let Some(client) = self.clients.get_mut(t.client) else {
            return false;
        };
        if position >= t.sent {
            t.owed_since = None;
        }
        if position <= client.acked {
            return false;
        }
        let before = std::mem::replace(&mut client.acked, position);
        t.last_progress = now;
        t.owed_since = if position >= t.sent { None } else { Some(now) };
        let forgot = self.outbox.take_own(client.recipient(), before, position);
        self.note_forgot(forgot);
        self.trim();
        true
    }

    /// Breaks the circle in which the handler waits for outbox room and a client for the handler.
    ///
    /// Acknowledgements come behind the data that the session does not read. A resumable client that kept to its window
    /// could not have filled the inbox, and the cursor of its next offer is the acknowledgement; for a
    /// plain one what was written counts as confirmed.
    pub(super) fn resolve_standoff(&mut self, now: Moment) {
        if !self.usage.waits_for_room() {
            return;
        }
        for at in 0..self.transports.len() {
            let t = &self.transports[at];
            if !t.is_attached() || !t.waits_for_room() {
                continue;
            }
            if t.is_plain() {
                self.confirm_written(at, now);
            } else {
                self.end_transport(at, Close::TRY_AGAIN, None, now);
            }
        }
    }
}

/// The frame that the message came in.
fn frame_of(message: Message, plain: bool) -> Incoming {
    let message = if plain { message } else { wire::escape(message) };
    match message {
        Message::Binary(bytes) => Incoming::Binary(bytes),
        Message::Text(text) => Incoming::Text(text),
    }
}
