//! What comes in on a transport.

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    PlainAck, Session,
    transport::{PING_MARK, PROBE_DEADLINE},
};
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
        let Some(at) = self.transport_index(number).filter(|&at| self.transports[at].is_attached())
        else {
            return Reception::Done;
        };
        if self.frozen {
            return Reception::Full(frame);
        }
        let t = &mut self.transports[at];
        t.last_heard = now;
        let timeout = self.rules.pong_timeout;
        let (last_ping, waits_to_be_written) = (t.last_ping, t.ping_now);
        if let Some(ping) = t.ping.as_mut().filter(|_| !matches!(frame, Incoming::Pong(_))) {
            // Whatever arrives proves life, and the pong may be queued behind it; but not for ever: who never
            // answers pings confirms nothing.
            let latest = last_ping + 2 * timeout;
            let extended = now + timeout.min(PROBE_DEADLINE);
            let extended = if waits_to_be_written { extended } else { extended.min(latest) };
            ping.deadline = ping.deadline.max(extended);
        }
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
        if message.len() > self.rules.bounds.message {
            self.end_transport(at, Close::TOO_BIG, None, now);
            return Reception::Done;
        }
        if self.life.ended.is_some() {
            return Reception::Done;
        }
        let bounds = &self.rules.bounds;
        let t = &mut self.transports[at];
        let Some(client) = self.clients.get_mut(t.client) else {
            return Reception::Done;
        };
        // Payload only, as the window that the client was told: what keeps to it always fits.
        let bytes = message.len();
        let fits = client.waiting() == 0
            || (client.waiting() < bounds.inbox_messages as u64
                && client.inbox_bytes + bytes <= bounds.inbox_bytes.max(bytes));
        if !fits {
            t.paused = true;
            let plain = t.is_plain();
            self.resolve_standoff(now);
            // Whoever is closed instead of waiting need not keep the frame: it was never counted.
            if !self.transports[at].is_attached() {
                return Reception::Done;
            }
            return Reception::Full(match message {
                Message::Binary(bytes) => Incoming::Binary(bytes),
                Message::Text(text) if plain => Incoming::Text(text),
                Message::Text(text) => match wire::escape(Message::Text(text)) {
                    Message::Text(text) => Incoming::Text(text),
                    Message::Binary(bytes) => Incoming::Binary(bytes),
                },
            });
        }
        if t.paused {
            t.go_on(self.rules.pong_timeout, now);
        }
        t.may_offer_state = false;
        client.received += 1;
        client.inbox_bytes += bytes;
        let (uid, from) = (client.uid, client.who.clone());
        self.heard_frame(at, now);
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
            self.outbox.acknowledge(position);
            self.acknowledge(at, position, now);
        }
        let Some(state) = control.state else {
            return Reception::Done;
        };
        // Once, and before any data: what the client has sent since would not be in its copy.
        if !std::mem::replace(&mut self.transports[at].may_offer_state, false) {
            return self.protocol_error(at, ProtocolError::Unexpected, now);
        }
        Reception::State(state)
    }

    fn handle_pong(&mut self, at: usize, payload: &[u8], now: Moment) {
        let t = &mut self.transports[at];
        let Some(ping) = t.ping else {
            return;
        };
        let expected = {
            let mut expected = [PING_MARK; 17];
            expected[1..9].copy_from_slice(&t.nonce());
            expected[9..].copy_from_slice(&ping.position.get().to_be_bytes());
            expected
        };
        if payload != expected {
            return;
        }
        t.ping = None;
        // What was written meanwhile may need a ping of its own.
        self.wake.transports |= t.confirmation_due(&self.rules.bounds, now);
        if t.is_plain() {
            t.confirmed = ping.position;
            let position = match self.rules.plain_ack {
                PlainAck::Trust => ping.position,
                PlainAck::Margin(margin) => {
                    // Whoever waits for room takes it from the margin.
                    self.wake.room |= self.life.waits_for_room();
                    Position::new(ping.position.get().saturating_sub(margin))
                }
                PlainAck::Off => return,
            };
            self.acknowledge(at, position, now);
        }
    }

    fn protocol_error(&mut self, at: usize, error: ProtocolError, now: Moment) -> Reception {
        let close = Close::new(Close::CODE_PROTOCOL_ERROR, format!("protocol error: {error}"));
        self.end_transport(at, close, None, now);
        Reception::Done
    }

    /// The client of this transport has everything before `position`.
    fn acknowledge(&mut self, at: usize, position: Position, now: Moment) {
        let t = &mut self.transports[at];
        let Some(client) = self.clients.get_mut(t.client) else {
            return;
        };
        if position > client.acked {
            client.acked = position;
            t.last_progress = now;
            t.owed_since = if position >= t.sent { None } else { Some(now) };
            self.outbox.acknowledge(position);
            self.trim();
        } else if position >= t.sent {
            t.owed_since = None;
        }
    }

    /// Breaks the circle in which the handler waits for outbox room and a client for the handler.
    ///
    /// Acknowledgements come behind the data that nobody reads. A resumable client that kept to its window
    /// could not have filled the inbox, and the cursor of its next offer is the acknowledgement; for a
    /// plain one what was written counts as confirmed.
    pub(super) fn resolve_standoff(&mut self, now: Moment) {
        if !self.life.waits_for_room() {
            return;
        }
        for at in 0..self.transports.len() {
            let t = &self.transports[at];
            if !t.is_attached() || !t.paused {
                continue;
            }
            if t.is_plain() {
                self.confirm_written(at, now);
            } else {
                self.end_transport(at, Close::TRY_AGAIN, None, now);
            }
        }
    }

    pub(super) fn confirm_written(&mut self, at: usize, now: Moment) {
        if self.transports[at].is_plain() {
            let sent = self.transports[at].sent;
            self.acknowledge(at, sent, now);
        }
    }
}
