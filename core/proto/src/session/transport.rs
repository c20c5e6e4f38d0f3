//! One attachment: what is known of its transport, its timers, and its end.

use std::{collections::VecDeque, time::Duration};

use bytestring::ByteString;

use super::{
    Bounds, ClientName, Incoming, PlainAck, Rules, Session,
    client::{ClientUid, Takeover},
    outbox::MESSAGE_OVERHEAD,
    plain::Window,
    report::Report,
    usage::Handler,
};
use crate::{
    AttachmentNumber, Message, Moment, Position,
    compact::Rare,
    numbers::{self, ACK_AFTER, ACK_BYTES, ACK_MESSAGES},
    wire::{Close, CloseKind, Hello, OutcomeStatus, ServerControl},
};

/// A plain transport is pinged at most this long after an unconfirmed message.
const PLAIN_CONFIRM_AFTER: Duration = Duration::from_secs(1);
/// A holder that keeps others out and has been silent must answer a ping within this time.
pub(super) const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// The first byte of our ping payloads.
pub(super) const PING_MARK: u8 = b'S';

/// A frame that goes out.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Frame {
    /// A data frame, already escaped where the mode asks for it.
    Data(Message),
    /// A control frame of ours: a text frame.
    Control(ByteString),
    /// A WebSocket ping.
    Ping([u8; 17]),
    /// A WebSocket close; nothing follows.
    Close(Close),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Transport {
    pub(super) number: AttachmentNumber,
    pub(super) client: ClientUid,
    pub(super) mode: Mode,
    pub(super) state: State,
    /// The position that the peer is at: that of the next data message, or of one that is not for it.
    pub(super) sent: Position,
    /// What is between `sent` and this is not for the peer. It is told so before it is sent anything else.
    pub(super) passed: Position,
    /// Counted since the last ping (plain).
    pub(super) unpinged_messages: u64,
    pub(super) unpinged_bytes: usize,
    pub(super) unpinged_since: Option<Moment>,
    pub(super) ping: Option<OutstandingPing>,
    /// It is to be written still.
    pub(super) ping_now: bool,
    /// A pong has shown that everything before this arrived, or it was not sent here (plain).
    pub(super) confirmed: Position,
    /// Pings that count as answered although their pongs have not been read: see `confirm_written`.
    pub(super) unread_pings: u8,
    /// How much may be written beyond the ping (plain).
    pub(super) window: Window,
    pub(super) last_ping: Moment,
    pub(super) last_heard: Moment,
    /// The last text or binary frame: what a frozen page does not send.
    pub(super) last_frame: Moment,
    pub(super) last_heartbeat: Moment,
    /// The client has asked for a sign of life.
    pub(super) heartbeat_now: bool,
    /// Since when the client owes an ack.
    pub(super) owed_since: Option<Moment>,
    /// The last ack frame, or the hello (resumable). A client sends one every heartbeat, whatever else it sends.
    pub(super) last_ack: Moment,
    /// It keeps others out and must acknowledge until then (resumable).
    pub(super) ack_by: Option<Moment>,
    /// When the client last acknowledged anything, or attached.
    pub(super) last_progress: Moment,
    /// The last ack told on this transport, and what has come to be told since. What was told on an
    /// earlier one may have been lost with it, and the client lets go of a message only on an ack.
    pub(super) told: u64,
    /// Dropped messages below this number have been told.
    pub(super) told_dropped: u64,
    pub(super) untold_bytes: usize,
    pub(super) untold_since: Option<Moment>,
    pub(super) ack_now: bool,
    /// It has sent neither data nor its state: it may still offer that.
    pub(super) may_offer_state: bool,
    /// Why nothing is read; `None`: the session reads.
    pub(super) pause: Option<Pause>,
    /// What the outbox has forgotten when it attached. Freed when the client has its hello and what follows.
    pub(super) forgotten: Rare<VecDeque<ByteString>>,
    pub(super) report: Report,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Mode {
    /// With the random part of its ping payloads.
    Plain([u8; 8]),
    /// A plain reader of events: it confirms nothing, and is told the control frames. What was written counts as passed.
    Events([u8; 8], Option<Box<Hello>>),
    /// With the hello while it has not been sent.
    Resumable([u8; 8], Option<Box<Hello>>),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum State {
    Attached,
    /// Superseded, refused, broken or done: nothing that it does touches the session any more.
    Over {
        close: Close,
        retry: Option<Duration>,
        said: bool,
    },
}

/// Why the session does not read from a transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pause {
    /// The inbox is full, since then.
    ForRoom(Moment),
    /// The client has sent faster than it may: until then.
    Until(Moment),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct OutstandingPing {
    pub(super) position: Position,
    /// When it was sent, or reading went on after that.
    pub(super) since: Moment,
    pub(super) deadline: Moment,
}

impl Transport {
    pub(super) fn new(
        number: AttachmentNumber,
        client: ClientUid,
        mode: Mode,
        start: Position,
        acknowledged: u64,
        now: Moment,
    ) -> Self {
        Self {
            number,
            client,
            mode,
            state: State::Attached,
            sent: start,
            passed: start,
            unpinged_messages: 0,
            unpinged_bytes: 0,
            unpinged_since: None,
            ping: None,
            ping_now: false,
            confirmed: start,
            unread_pings: 0,
            window: Window::default(),
            last_ping: now,
            last_heard: now,
            last_frame: now,
            last_heartbeat: now,
            heartbeat_now: false,
            owed_since: None,
            last_ack: now,
            ack_by: None,
            last_progress: now,
            told: 0,
            told_dropped: 0,
            untold_bytes: 0,
            untold_since: None,
            ack_now: acknowledged > 0,
            may_offer_state: true,
            pause: None,
            forgotten: Rare::none(),
            report: Report::new(now),
        }
    }

    pub(super) fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached)
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.mode, Mode::Plain(_))
    }

    /// Whether nothing is read, so that no answer of the peer can be seen.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether nothing is read because the inbox is full.
    pub(super) fn waits_for_room(&self) -> bool {
        matches!(self.pause, Some(Pause::ForRoom(_)))
    }

    /// When it is read again, if its client has sent faster than it may.
    fn reads_again(&self) -> Option<Moment> {
        match self.pause? {
            Pause::Until(at) => Some(at),
            Pause::ForRoom(_) => None,
        }
    }

    /// Reading goes on: the pong that is due was behind what had to wait.
    pub(super) fn go_on(&mut self, rules: &Rules, now: Moment) {
        self.pause = None;
        self.report.has_paused();
        self.unread_pings = 0;
        let timeout = self.pong_timeout(rules);
        if let Some(ping) = &mut self.ping {
            ping.since = now;
            ping.deadline = now + timeout;
        }
    }

    /// The session was frozen, so nothing was read: every deadline of the peer begins anew.
    pub(super) fn thaw(&mut self, rules: &Rules, now: Moment) {
        (self.last_heard, self.last_frame, self.last_ack) = (now, now, now);
        self.report.has_paused();
        self.ack_by = self.ack_by.map(|_| now + PROBE_DEADLINE);
        if self.waits_for_room() {
            self.pause = Some(Pause::ForRoom(now));
        }
        let timeout = self.pong_timeout(rules);
        if let Some(ping) = &mut self.ping {
            ping.since = now;
            ping.deadline = now + timeout;
        }
    }

    /// Something has arrived. It proves life, and the pong may be queued behind it. But the deadline is not
    /// extended for ever: a peer that never answers pings confirms nothing.
    pub(super) fn note_life(&mut self, frame: &Incoming, rules: &Rules, now: Moment) {
        self.last_heard = now;
        let (plain, timeout) = (self.is_plain(), self.pong_timeout(rules));
        let waits_to_be_written = self.ping_now;
        let Some(ping) = &mut self.ping else {
            return;
        };
        let latest = ping.since + 2 * timeout;
        let extended = match frame {
            _ if plain => (now + timeout).min(latest),
            // Another's pong proves nothing.
            Incoming::Pong(_) => return,
            _ if waits_to_be_written => now + timeout.min(PROBE_DEADLINE),
            _ => (now + timeout.min(PROBE_DEADLINE)).min(latest),
        };
        ping.deadline = ping.deadline.max(extended);
    }

    pub(super) fn pong_timeout(&self, rules: &Rules) -> Duration {
        if self.is_plain() { rules.plain_pong_timeout } else { rules.pong_timeout }
    }

    /// Ends the turn; returns whether it was not over yet.
    pub(super) fn end(&mut self, close: Close, retry: Option<Duration>) -> bool {
        if !self.is_attached() {
            return false;
        }
        self.state = State::Over { close, retry, said: false };
        true
    }

    /// Whether nothing has shown for a heartbeat that the client takes part. From a client that acknowledges only
    /// an acknowledgement counts: a client that never acknowledges sends other frames, too.
    pub(super) fn is_silent(&self, heartbeat: Duration, now: Moment) -> bool {
        let shown = if self.owes_acks() { self.last_ack } else { self.last_heard };
        shown + heartbeat <= now
    }

    /// Whether it has been told the hello. After the hello a client acknowledges every heartbeat.
    fn owes_acks(&self) -> bool {
        matches!(self.mode, Mode::Resumable(_, None))
    }

    /// Pings a silent holder at once, with a short deadline. A client that acknowledges must do so by then.
    pub(super) fn probe(&mut self, plain_ack: PlainAck, now: Moment) {
        let deadline = now + PROBE_DEADLINE;
        if self.owes_acks() {
            self.ack_by.get_or_insert(deadline);
        }
        if let Some(ping) = &mut self.ping {
            ping.deadline = ping.deadline.min(deadline);
        } else if self.pings(plain_ack) {
            self.ping_now = true;
            // Noted before it is out: where nothing can be written any more, it never will be.
            self.ping = Some(OutstandingPing { position: self.sent, since: now, deadline });
        }
    }

    /// Tells the client, soon, that more of its messages were taken.
    pub(super) fn note_taken(
        &mut self,
        total: u64,
        bytes: usize,
        window: (u64, usize),
        now: Moment,
    ) -> bool {
        if self.is_plain() {
            return false;
        }
        self.untold_bytes += bytes;
        let untold = total.saturating_sub(self.told);
        if untold == 0 {
            return false;
        }
        let due = untold >= ACK_MESSAGES.min((window.0 / 2).max(1))
            || self.untold_bytes >= ACK_BYTES.min((window.1 / 2).max(1));
        let first = self.untold_since.is_none();
        self.untold_since.get_or_insert(now);
        let wake = first || (due && !self.ack_now);
        self.ack_now |= due;
        wake
    }

    pub(super) fn nonce(&self) -> [u8; 8] {
        match self.mode {
            Mode::Plain(nonce) | Mode::Events(nonce, _) | Mode::Resumable(nonce, _) => nonce,
        }
    }

    fn ping_payload(&self, position: Position) -> [u8; 17] {
        let mut payload = [PING_MARK; 17];
        payload[1..9].copy_from_slice(&self.nonce());
        payload[9..].copy_from_slice(&position.get().to_be_bytes());
        payload
    }

    /// Whether this is the answer to the ping that is outstanding.
    pub(super) fn is_answer(&self, payload: &[u8]) -> bool {
        self.ping.is_some_and(|ping| payload == self.ping_payload(ping.position))
    }

    /// Whether pings may be sent at all. Some stacks end a connection with more than 60 to answer.
    pub(super) fn pings(&self, plain_ack: PlainAck) -> bool {
        !self.is_plain() || (plain_ack != PlainAck::Off && self.unread_pings < 32)
    }

    /// Whether a confirmation is due: at half an outbox at the latest, as a client's acks come at half a window. A
    /// small outbox must not stand still until the second is over.
    pub(super) fn confirmation_due(&self, bounds: &Bounds, now: Moment) -> bool {
        let messages = usize::try_from(self.unpinged_messages).unwrap_or(usize::MAX);
        let held = messages.saturating_mul(MESSAGE_OVERHEAD).saturating_add(self.unpinged_bytes);
        self.is_plain()
            && (self.unpinged_messages >= ACK_MESSAGES
                || self.unpinged_bytes >= ACK_BYTES
                || messages >= (bounds.outbox_messages / 2).max(1)
                || held >= (bounds.outbox_bytes / 2).max(1)
                || self.unpinged_since.is_some_and(|since| since + PLAIN_CONFIRM_AFTER <= now))
    }

    pub(super) fn push_ping(&mut self, rules: &Rules, now: Moment, out: &mut Vec<Frame>) {
        out.push(Frame::Ping(self.ping_payload(self.sent)));
        let timeout = self.pong_timeout(rules);
        let timeout = if self.ping_now { timeout.min(PROBE_DEADLINE) } else { timeout };
        let deadline = now + timeout;
        self.ping = Some(OutstandingPing { position: self.sent, since: now, deadline });
        self.ping_now = false;
        self.last_ping = now;
        self.report.pings(now);
        self.has_nothing_unpinged();
    }

    pub(super) fn has_nothing_unpinged(&mut self) {
        self.unpinged_messages = 0;
        self.unpinged_bytes = 0;
        self.unpinged_since = None;
    }

    pub(super) fn push_control(&self, control: &ServerControl, out: &mut Vec<Frame>) {
        if !self.is_plain() {
            out.push(Frame::Control(control.encode()));
        }
    }
}

impl<I: Clone> Session<I> {
    /// Returns when [`Self::handle_transport_timeout`] and [`Self::poll_transmit`] are next due; `None` if
    /// the turn is over. While the session is frozen it is the next heartbeat alone.
    pub fn poll_transport_timeout(&self, number: AttachmentNumber) -> Option<Moment> {
        if self.frozen {
            return self.frozen_heartbeat_due(self.transport_index(number)?);
        }
        let t = self.transport_with_deadlines(number)?;
        let rules = &self.rules;
        let ping = match t.ping {
            Some(ping) => (!t.is_paused()).then_some(ping.deadline),
            None => self.ping_due(t),
        };
        let (ack, heartbeat) = if t.is_plain() || self.waits_for_commit(number) {
            (None, None)
        } else {
            (
                t.untold_since.map(|since| since + ACK_AFTER),
                Some(t.last_heartbeat + rules.heartbeat),
            )
        };
        [ping, ack, heartbeat, self.end_deadline(t)].into_iter().flatten().min()
    }

    /// As [`Self::poll_transport_timeout`], for a transport that cannot be written to now: only what ends
    /// it is a deadline. What is to be written must wait, and must not hide that the peer is gone.
    pub fn poll_blocked_timeout(&self, number: AttachmentNumber) -> Option<Moment> {
        let t = self.transport_with_deadlines(number)?;
        [self.answer_deadline(t), self.end_deadline(t)].into_iter().flatten().min()
    }

    /// When a frame of this transport that came [too fast](super::Reception::TooFast) is to be offered again, for
    /// a transport whose peer is gone and that has no other deadline any more.
    #[must_use]
    pub fn poll_reading_timeout(&self, number: AttachmentNumber) -> Option<Moment> {
        self.transports[self.transport_index(number)?].reads_again()
    }

    /// When the transport ends for another reason than an unanswered ping, or the session has something to decide.
    fn end_deadline(&self, t: &Transport) -> Option<Moment> {
        let own = [self.silence_deadline(t), self.pause_deadline(t), t.reads_again(), t.ack_by];
        let sessions = [self.overflow_deadline(), self.returns_by(), self.room_by_expiry()];
        own.into_iter().chain(sessions).flatten().min()
    }

    /// When a client that has been told its hello is next told that the server is there although the session is frozen:
    /// else the client would take the connection for dead.
    pub(super) fn frozen_heartbeat_due(&self, at: usize) -> Option<Moment> {
        let t = &self.transports[at];
        let told = t.is_attached() && t.owes_acks();
        told.then(|| t.last_heartbeat + self.rules.heartbeat)
    }

    /// When the next ping is to be written.
    fn ping_due(&self, t: &Transport) -> Option<Moment> {
        let rules = &self.rules;
        if !t.pings(rules.plain_ack) {
            return None;
        }
        let heartbeat = rules.pings.then(|| t.last_ping + rules.heartbeat);
        let confirm = t.unpinged_since.filter(|_| t.is_plain()).map(|at| at + PLAIN_CONFIRM_AFTER);
        [heartbeat, confirm].into_iter().flatten().min()
    }

    fn transport_with_deadlines(&self, number: AttachmentNumber) -> Option<&Transport> {
        // A frozen session reads nothing, so that nobody could answer in time.
        let at = self.transport_index(number).filter(|_| !self.frozen)?;
        Some(&self.transports[at]).filter(|t| t.is_attached())
    }

    /// Until when the peer must have answered a ping, or one that is due and finds no way out.
    fn answer_deadline(&self, t: &Transport) -> Option<Moment> {
        if t.is_paused() {
            return None;
        }
        let Some(ping) = t.ping else {
            let due = self.ping_due(t)?;
            let timeout = t.pong_timeout(&self.rules);
            // Whatever arrives proves life, as with a ping that is under way.
            let extended = if t.is_plain() {
                (t.last_heard + timeout).min(due + 2 * timeout)
            } else {
                t.last_heard + timeout.min(PROBE_DEADLINE)
            };
            return Some(extended.max(due + timeout));
        };
        Some(ping.deadline)
    }

    /// Until when a transport may wait with a frame that found no room: a peer of which nothing is read may be
    /// gone. As long as the session itself would wait without a transport.
    fn pause_deadline(&self, t: &Transport) -> Option<Moment> {
        let Some(Pause::ForRoom(since)) = t.pause else {
            return None;
        };
        let works = self.usage.handler() == Handler::Working;
        let patience = if works { self.rules.max_unattended } else { self.rules.unused_lifetime };
        Some(since + patience)
    }

    /// A resumable client that owes an ack and sends no frame is a frozen page: it answers pings and
    /// acknowledges nothing.
    fn silence_deadline(&self, t: &Transport) -> Option<Moment> {
        if t.is_paused() || !matches!(t.mode, Mode::Resumable(..)) {
            return None;
        }
        let owed = t.owed_since?;
        Some(owed.max(t.last_frame) + numbers::silence(self.rules.heartbeat))
    }

    /// Deals with whatever deadline of the transport has passed; a call too many does nothing.
    pub fn handle_transport_timeout(&mut self, number: AttachmentNumber, now: Moment) {
        self.note_no_return(now);
        self.expire_messages(now);
        self.end_if_overflowed(now);
        let Some(at) = self.transport_index(number) else {
            return;
        };
        let t = &mut self.transports[at];
        if !t.is_attached() || self.frozen {
            return;
        }
        if t.reads_again().is_some_and(|at| at <= now) {
            t.go_on(&self.rules, now);
        }
        let t = &self.transports[at];
        let unanswered = self.answer_deadline(t).is_some_and(|deadline| deadline <= now);
        if unanswered {
            self.go_one_by_one(at);
        }
        let t = &self.transports[at];
        let passed = |deadline: Option<Moment>| deadline.is_some_and(|deadline| deadline <= now);
        let silent = passed(self.silence_deadline(t)) || passed(t.ack_by);
        if unanswered || silent || passed(self.pause_deadline(t)) {
            self.end_transport(at, Close::TRY_AGAIN, None, now);
        }
    }

    /// Ends one transport's turn and, with it, its client's presence.
    pub(super) fn end_transport(
        &mut self,
        at: usize,
        close: Close,
        retry: Option<Duration>,
        now: Moment,
    ) {
        let t = &mut self.transports[at];
        if !t.end(close, retry) {
            return;
        }
        let uid = t.client;
        self.wake.transports = true;
        self.client_gone(uid, now);
    }

    /// Closes one transport from outside the rules: its library has found something wrong with it.
    pub fn close_transport(&mut self, number: AttachmentNumber, close: Close, now: Moment) {
        if let Some(at) = self.transport_index(number) {
            self.end_transport(at, close, None, now);
        }
    }

    /// The peer has answered our close: it knows.
    ///
    /// Only now may a client that was taken over take the session back.
    pub fn handle_close_answered(&mut self, number: AttachmentNumber) {
        let Some(at) = self.transport_index(number) else {
            return;
        };
        let t = &self.transports[at];
        if let State::Over { close, said: true, .. } = &t.state
            && close.kind() == CloseKind::Superseded
            && let Some(client) = self.clients.get_mut(t.client)
            && client.newest == number
            && client.takeover == Takeover::Untold
        {
            client.takeover = Takeover::Told;
        }
    }

    /// The peer has answered the close of a [`Refusal`](super::Refusal) with [`Close::SUPERSEDED`]: it
    /// knows.
    ///
    /// `seen` is what [`Self::newest_attachment`] was when the refusal was given.
    pub fn handle_refusal_answered(&mut self, client: ClientName, seen: AttachmentNumber) {
        let known = self.clients.iter_mut().find(|known| known.who.name == client);
        if let Some(known) = known
            && known.newest <= seen
            && known.takeover == Takeover::Untold
        {
            known.takeover = Takeover::Told;
        }
    }

    /// The transport is gone, for whatever reason; a call too many does nothing.
    pub fn detach(&mut self, number: AttachmentNumber, now: Moment) {
        let Some(at) = self.transport_index(number) else {
            return;
        };
        let t = self.transports.remove(at);
        if t.is_attached() {
            self.client_gone(t.client, now);
        }
    }

    /// A client has no transport any more.
    fn client_gone(&mut self, uid: ClientUid, now: Moment) {
        self.clients.set_gone(uid, now);
        if self.clients.get(uid).is_some_and(|client| self.is_lone_plain(client.who.name)) {
            // The next plain transport is another client.
            self.let_go_of_own(uid);
        }
        if !self.clients.any_attached() {
            self.usage.transport_left(now);
        }
        if self.usage.ended.is_none()
            && let Some(client) = self.clients.get_mut(uid)
        {
            client.untold_start = self.inbox.push_detached(uid, client.who.clone());
            self.wake.handler = true;
        }
        if self.overflow_since().is_some() && !self.clients.any_attached() && !self.frozen {
            self.end(OutcomeStatus::Overflow, now);
        }
        // Its quota may have kept a client waiting, and its absence may let gone clients make room.
        self.wake.room |= self.usage.waits_for_room();
        self.outbox.shrink();
    }

    /// Returns whether the transport's turn is over: all that is left to write is its close.
    pub fn is_turn_over(&self, number: AttachmentNumber) -> bool {
        self.transport_index(number).is_none_or(|at| !self.transports[at].is_attached())
    }

    /// Returns the transports whose turn is not over.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Transport> {
        self.transports.iter().filter(|t| t.is_attached())
    }

    pub(super) fn transport_index(&self, number: AttachmentNumber) -> Option<usize> {
        // Each is newer than those before it.
        self.transports.binary_search_by_key(&number, |t| t.number).ok()
    }
}
