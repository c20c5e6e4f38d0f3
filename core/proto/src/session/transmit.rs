//! What goes out on a transport, in order.

use super::{
    PlainAck, Session,
    client::Client,
    outbox::Outbox,
    transport::{Frame, Mode, State},
};
use crate::{
    AttachmentNumber, Gap, GapReason, Moment, Position,
    compact::Rare,
    numbers::ACK_AFTER,
    wire::{self, Close, Done, ServerControl},
};

/// How much one call of [`Session::poll_transmit`] may hand out.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Data messages.
    pub messages: usize,
    /// Bytes of them; one message may exceed it.
    pub bytes: usize,
}

impl Budget {
    /// About as many messages as one call hands out.
    fn estimate(self, outbox: &Outbox, sent: Position) -> usize {
        let waiting = usize::try_from(outbox.head().since(sent)).unwrap_or(usize::MAX);
        let of_bytes = self.bytes.saturating_mul(outbox.len()) / outbox.bytes().max(1);
        waiting.min(self.messages).min(of_bytes)
    }
}

impl<I: Clone> Session<I> {
    /// Hands out what the transport must write next, in order.
    ///
    /// Call it again after writing until nothing comes: the budget bounds one call only. After a
    /// [`Frame::Close`] nothing follows; wait for the peer's close, then call [`Self::detach`].
    pub fn poll_transmit(
        &mut self,
        number: AttachmentNumber,
        budget: Budget,
        now: Moment,
        out: &mut Vec<Frame>,
    ) {
        let Some(at) = self.transport_index(number) else {
            return;
        };
        if self.frozen && self.transports[at].is_attached() {
            if self.frozen_heartbeat_due(at).is_some_and(|due| due <= now) {
                // With the count that is committed, as ever.
                self.push_acks(at, now, out);
            }
            return;
        }
        let t = &mut self.transports[at];
        if let State::Over { close, retry, said } = &mut t.state {
            if *said {
                return;
            }
            *said = true;
            let mut close = close.clone();
            if matches!(t.mode, Mode::Plain(_)) {
                close = close.for_plain();
            }
            if let Some(retry) = retry.take() {
                let retry = Some(
                    u64::try_from(retry.as_millis()).unwrap_or(u64::MAX).min(crate::MAX_INTEGER),
                );
                t.push_control(&ServerControl { retry, ..ServerControl::default() }, out);
            }
            out.push(Frame::Close(close));
            return;
        }
        if self.waits_for_commit(number) {
            self.push_due_ping(at, now, out);
            return;
        }
        self.expire_messages(now);
        self.rest();
        let t = &mut self.transports[at];
        if let Mode::Resumable(_, hello) | Mode::Events(_, hello) = &mut t.mode
            && let Some(hello) = hello.take()
        {
            t.last_ack = now;
            t.push_control(&ServerControl { hello: Some(*hello), ..ServerControl::default() }, out);
            self.push_skip(at, out);
        } else {
            // The first messages are written.
            t.forgotten = Rare::none();
        }
        self.push_acks(at, now, out);
        let complete = self.push_data(at, budget, now, out);
        if self.transports[at].waits_for_room() && self.usage.waits_for_room() {
            // The handler waits for room and this plain peer for the handler: see `resolve_standoff`.
            self.confirm_written(at, now);
        }
        if complete
            && self.is_end_committed()
            && let Some(status) = self.usage.ended
        {
            let t = &self.transports[at];
            let received = self.clients.get(t.client).map_or(0, |client| client.taken);
            self.push_skip(at, out);
            self.push_dropped(at, received, out);
            let t = &self.transports[at];
            let done =
                ServerControl { done: Some(Done { status, received }), ..ServerControl::default() };
            t.push_control(&done, out);
            let close = self
                .rare
                .get()
                .and_then(|rare| rare.farewell.as_deref().cloned())
                .unwrap_or(Close::DONE);
            out.push(Frame::Close(close.clone()));
            self.end_transport(at, close, None, now);
            if let State::Over { said, .. } = &mut self.transports[at].state {
                *said = true;
            }
        }
    }

    /// Gives the outbox's buffer back when the clients have acknowledged all messages and the handler has taken all of
    /// theirs. While messages come and go, one of the two queues has a message, so that not each message costs a buffer.
    fn rest(&mut self) {
        if !self.inbox.is_in_use() {
            self.outbox.shrink();
        }
    }

    fn push_acks(&mut self, at: usize, now: Moment, out: &mut Vec<Frame>) {
        let t = &self.transports[at];
        if t.is_plain() {
            return;
        }
        let Some(n) = self.clients.get(t.client).map(|client| self.inbound_ack(client)) else {
            return;
        };
        let heartbeat = self.rules.heartbeat;
        let t = &mut self.transports[at];
        let heartbeat_due = t.heartbeat_now || t.last_heartbeat + heartbeat <= now;
        let ack_due = t.ack_now || t.untold_since.is_some_and(|since| since + ACK_AFTER <= now);
        if !heartbeat_due && !ack_due {
            return;
        }
        self.push_skip(at, out);
        self.push_dropped(at, n, out);
        let t = &mut self.transports[at];
        let control = if heartbeat_due {
            t.last_heartbeat = now;
            t.heartbeat_now = false;
            ServerControl { hb: Some(n), ..ServerControl::default() }
        } else {
            ServerControl { ack: Some(n), ..ServerControl::default() }
        };
        t.told = n;
        t.untold_bytes = 0;
        t.untold_since = None;
        t.ack_now = false;
        t.push_control(&control, out);
    }

    /// Tells which of the client's messages before `covered` were dropped, once on each transport, before the count
    /// that covers them: with that count the client lets go of them.
    fn push_dropped(&mut self, at: usize, covered: u64, out: &mut Vec<Frame>) {
        let t = &mut self.transports[at];
        let Some(client) = self.clients.get(t.client).filter(|_| !t.is_plain()) else {
            return;
        };
        for &number in client.dropped().iter().filter(|k| (t.told_dropped..covered).contains(*k)) {
            let dropped = ServerControl { dropped: Some(number), ..ServerControl::default() };
            out.push(Frame::Control(dropped.encode()));
        }
        t.told_dropped = t.told_dropped.max(covered);
    }

    /// Pushes data and pings; returns whether all there is has left.
    fn push_data(&mut self, at: usize, budget: Budget, now: Moment, out: &mut Vec<Frame>) -> bool {
        let plain_ack = self.rules.plain_ack;
        let t = &mut self.transports[at];
        if t.next() < self.outbox.base() {
            t.push_skip(out);
            // Only overflow takes away what an attached client has not been sent.
            let gap =
                Gap { from: t.sent, to: Some(self.outbox.base()), reason: GapReason::Overflow };
            t.sent = self.outbox.base();
            t.push_control(&ServerControl { gap: Some(gap), ..ServerControl::default() }, out);
        }
        let (mut messages, mut bytes) = (0, 0);
        out.reserve(budget.estimate(&self.outbox, t.sent).min(t.window_left()));
        let client = self.clients.get(t.client);
        let trouble = client.and_then(Client::trouble);
        let recipient = client.map(Client::recipient).filter(|_| self.outbox.is_sparse());
        let from = t.sent;
        let mut passed = false;
        while messages < budget.messages && bytes < budget.bytes {
            if let Some(recipient) = recipient {
                t.passed = self.outbox.next_for(t.next(), recipient);
            }
            if t.is_plain() && t.passed > t.sent {
                t.sent = t.passed;
                passed = true;
            }
            let Some(message) = self.outbox.sendable(t.next()) else {
                break;
            };
            if trouble.is_some_and(|trouble| trouble.skips(t.next())) {
                t.passed = t.next().advanced_by(1);
                passed = true;
                continue;
            }
            let trouble = trouble.filter(|_| plain_ack != PlainAck::Off);
            let alone = trouble.is_some_and(|trouble| trouble.goes_alone(t.sent));
            let waits = trouble.is_some_and(|trouble| trouble.waits_for_all_before(t.sent));
            if !t.window_takes(message.len(), waits) {
                break;
            }
            t.push_skip(out);
            messages += 1;
            bytes += message.len();
            t.unpinged_messages += 1;
            t.unpinged_bytes += message.len();
            t.unpinged_since.get_or_insert(now);
            t.owed_since.get_or_insert(now);
            t.sent = t.sent.advanced_by(1);
            out.push(Frame::Data(if t.is_plain() { message } else { wire::escape(message) }));
            // In mid-stream, too: one ping at the end of a long replay would confirm it all or nothing.
            let due = alone || (t.is_plain() && t.confirmation_due(&self.rules.bounds, now));
            if t.ping.is_none() && t.pings(plain_ack) && due {
                t.push_ping(&self.rules, now, out);
            }
        }
        if passed {
            let confirmed = t.confirmed;
            self.confirm(at, confirmed, now);
        }
        self.push_due_ping(at, now, out);
        let t = &self.transports[at];
        let complete = t.next() >= self.outbox.head();
        let (uid, sent) = (t.client, t.sent);
        if sent > from
            && let Some(client) = self.clients.get_mut(uid)
        {
            client.written = sent;
            // The ring may let go of what was written.
            let ring = client.is_passed_when_written(plain_ack);
            self.wake.room |= ring && self.usage.waits_for_room();
        }
        complete
    }

    fn push_due_ping(&mut self, at: usize, now: Moment, out: &mut Vec<Frame>) {
        let rules = &self.rules;
        let t = &mut self.transports[at];
        let due = t.ping_now
            || (rules.pings && t.last_ping + rules.heartbeat <= now)
            || t.confirmation_due(&rules.bounds, now);
        if (t.ping.is_none() || t.ping_now) && t.pings(rules.plain_ack) && due {
            t.push_ping(rules, now, out);
        }
    }

    /// Returns whether the transport's client is told nothing yet, because a crash would take back that it
    /// was ever there.
    ///
    /// Where the outbox is durable, a client's first hello waits for the commit that holds what is known of it: after
    /// a restore without that, the others' acknowledgements would let go of what it still needs. And the first
    /// hello of a life waits for the commit that says that its epoch was named: after a restore without that,
    /// the session would not know the epoch.
    pub fn waits_for_commit(&self, number: AttachmentNumber) -> bool {
        let Some(at) = self.transport_index(number).filter(|_| self.rules.durable_outbox) else {
            return false;
        };
        let t = &self.transports[at];
        Some(t.client) > self.saved_clients() || !(t.is_plain() || self.naming.is_saved())
    }
}
