//! One session, its clients and the network between them.

mod application;
mod arrivals;
mod network;
mod pump;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{
    AttachmentNumber, Message, Moment, Position, WireId,
    session::{
        Access, Arrival, Attach, Budget, Claim, ClientName, Epoch, Event, Frame, IdentityTag,
        Incoming, MESSAGE_OVERHEAD, NotSent, Overflow, PlainAck, Reception, Rules, Session,
        SessionOrigin, Terms, Unsent,
    },
    wire::{self, Close, Inbound, OutcomeStatus, ServerControl},
};

use crate::{
    ledger::{Handler, Record, Told, Use},
    peer::{Peer, Reaction, content},
    script::{Op, Setting},
};

const PEERS: usize = 3;
/// The record of the one plain client; under `Share` nothing is promised to any of them.
const PLAIN: usize = PEERS;
/// The record of all plain clients that may only read. Nothing is promised to any of them.
const WATCHERS: usize = PEERS + 1;
const ALL: Budget = Budget { messages: usize::MAX, bytes: usize::MAX };

/// What travels from a peer to the server.
#[derive(Clone, Debug)]
enum Up {
    Frame(Incoming),
    CloseAnswered,
}

/// One WebSocket, as the network sees it.
#[derive(Clone, Debug)]
struct Socket {
    number: AttachmentNumber,
    /// Whose it is: an index of a peer, `PLAIN`, or `WATCHERS`.
    client: usize,
    /// It may only read.
    watches: bool,
    info: u32,
    /// Whether the peer's end is there.
    open: bool,
    /// Whether its turn is not over.
    attached: bool,
    superseded: bool,
    said_close: bool,
    down: VecDeque<Frame>,
    up: VecDeque<Up>,
    /// Reading has stopped with this frame in hand.
    stuck: Option<Incoming>,
    /// What the hello must say: from, received.
    hello: Option<(u64, Option<u64>)>,
    /// The first and the next position on it; `u64::MAX` before a plain one's first message.
    start: u64,
    next: u64,
    /// Everything before this was confirmed by a pong.
    confirmed: u64,
    /// Messages that a plain peer has made on it.
    made: u64,
}

pub(crate) struct World {
    setting: Setting,
    rules: Arc<Rules>,
    session: Session<u32>,
    now: Moment,
    sockets: Vec<Socket>,
    peers: Vec<Peer>,
    late: Vec<(usize, Access, Claim)>,
    plains: u32,
    // What should be.
    head: u64,
    checkpoint: Option<u64>,
    had_checkpoint: bool,
    /// Everything before this is in a durable snapshot.
    committed: u64,
    acknowledged: u64,
    records: Vec<Record>,
    last_attached: Option<usize>,
    usage: Use,
    told: Told,
    /// What the handler has taken of each peer.
    taken: Vec<Option<u64>>,
    plain_taken: BTreeMap<u32, u64>,
    /// What plain clients, or plain watchers, cannot take, and how often each message was the only unconfirmed one
    /// when a transport ended.
    undeliverable: BTreeSet<(usize, u64)>,
    strikes: BTreeMap<(usize, u64), u32>,
    in_hand: Option<usize>,
    /// The head when that was handed over.
    boundary: u64,
    waiting: Option<Message>,
    // What is awake.
    pump: bool,
    handler: bool,
    sender: bool,
    sweep_at: Moment,
}

impl World {
    pub(crate) fn new(setting: Setting) -> Self {
        let mut rules = Rules::default();
        rules.attach = setting.attach;
        rules.overflow = setting.overflow;
        rules.plain_ack = setting.plain_ack;
        rules.durable_inbox = setting.durable;
        rules.durable_outbox = setting.durable;
        rules.max_lifetime = Some(Duration::from_secs(1500));
        rules.max_unattended = Duration::from_secs(400);
        rules.bounds.outbox_messages = 8;
        rules.bounds.outbox_bytes = 8 * MESSAGE_OVERHEAD + 60;
        rules.bounds.inbox_messages = 4;
        rules.bounds.inbox_bytes = 30;
        rules.bounds.message = 100;
        rules.bounds.clients = 6;
        rules.bounds.guards = 2;
        let rules = Arc::new(rules);
        let now = Moment::from_millis(10_000_000);
        Self {
            setting,
            session: Session::new(rules.clone(), Epoch::new(1, 1), now),
            rules,
            now,
            sockets: Vec::new(),
            peers: (0..PEERS).map(|who| Peer::new(u8::try_from(who).unwrap())).collect(),
            late: Vec::new(),
            plains: 1000,
            head: 0,
            checkpoint: None,
            had_checkpoint: false,
            committed: 0,
            acknowledged: 0,
            records: vec![Record::default(); WATCHERS + 1],
            last_attached: None,
            usage: Use::new(now),
            told: Told::default(),
            taken: vec![None; PEERS],
            plain_taken: BTreeMap::new(),
            undeliverable: BTreeSet::new(),
            strikes: BTreeMap::new(),
            in_hand: None,
            boundary: 0,
            waiting: None,
            pump: true,
            handler: true,
            sender: true,
            sweep_at: now,
        }
    }

    /// Does one operation and checks everything that must hold after it.
    pub(crate) fn step(&mut self, op: Op) {
        self.usage.passed(self.now);
        self.act(op);
        self.after();
        if self.session.ended().is_some() {
            self.finish();
            *self = Self::new(self.setting);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each deed")]
    fn act(&mut self, op: Op) {
        match op {
            Op::Connect(who) => self.connect(who, Access::Full),
            Op::Watch(who) => self.connect(who, Access::ReadOnly),
            Op::OfferLate(who) => self.offer_late(who, Access::Full),
            Op::WatchLate(who) => self.offer_late(who, Access::ReadOnly),
            Op::ArriveLate(at) if !self.late.is_empty() => {
                let (who, access, claim) = self.late.remove(usize::from(at) % self.late.len());
                self.arrive(who, access, claim, false);
            }
            Op::Restart(who) => {
                let who = usize::from(who) % PEERS;
                self.peers[who].restart();
                self.abandon(who);
                // An offer without a cursor that arrives late would speak for a program that is gone.
                self.late.retain(|(of, _, claim)| *of != who || *claim != Claim::Fresh);
            }
            Op::ConnectPlain => self.connect_plain(),
            Op::WatchPlain => self.watch_plain(),
            Op::Lose(at) => {
                if let Some(at) = self.pick(at) {
                    let socket = &mut self.sockets[at];
                    let (client, open) = (socket.client, socket.open);
                    socket.open = false;
                    socket.down.clear();
                    if open && client < PEERS {
                        self.peers[client].next = None;
                    }
                }
            }
            Op::Notice(at) => {
                if let Some(at) = self.pick(at) {
                    self.peer_ends(at);
                    self.notice(at);
                }
            }
            Op::Transmit(at, messages) => {
                if let Some(at) = self.pick(at) {
                    self.transmit(at, Budget { messages: messages.into(), bytes: 40 });
                }
            }
            Op::TransmitAll => self.pump(),
            Op::Down(at, frames) => {
                if let Some(at) = self.pick(at) {
                    for _ in 0..frames {
                        self.down(at);
                    }
                }
            }
            Op::Up(at, frames) => {
                if let Some(at) = self.pick(at) {
                    let number = self.sockets[at].number;
                    for _ in 0..frames {
                        if let Some(at) = self.sockets.iter().position(|s| s.number == number) {
                            self.up(at);
                        }
                    }
                }
            }
            Op::Flow => {
                self.pump();
                for at in 0..self.sockets.len() {
                    while !self.sockets[at].down.is_empty() {
                        self.down(at);
                    }
                }
                for number in self.sockets.iter().map(|s| s.number).collect::<Vec<_>>() {
                    for _ in 0..64 {
                        if let Some(at) = self.sockets.iter().position(|s| s.number == number) {
                            self.up(at);
                        }
                    }
                }
            }
            Op::Make(who, count) => self.make(usize::from(who) % (PEERS + 1), count),
            Op::Ack(who) => {
                let who = usize::from(who) % PEERS;
                if let Some(frame) = self.peers[who].ack() {
                    self.write_up(who, frame);
                }
            }
            Op::Break(at, how) => self.break_rules(at, how),
            Op::Send(size) => self.send(size, false, false),
            Op::SendOrWait(size) => self.send(size, true, false),
            Op::Checkpoint => self.send(1, false, true),
            Op::Retry => self.retry(),
            Op::GiveUp => {
                if self.waiting.take().is_some() {
                    self.session.send_goes_on();
                    self.usage.waits = false;
                }
            }
            Op::StartHandler => {
                let may = self.session.start_handler(self.now);
                assert_eq!(may, self.usage.handler == Handler::Absent);
                if may {
                    self.usage.handler = Handler::Working;
                }
            }
            Op::Receive(count) => {
                for _ in 0..count {
                    self.receive();
                }
            }
            Op::HandBack => {
                self.session.hand_back();
                self.handed_back();
            }
            // A snapshot is taken at a boundary alone.
            Op::Commit if self.session.is_message_in_hand() => {}
            Op::Commit => {
                let (_, covered) = self.session.snapshot(false);
                self.session.handle_committed(&covered, self.now);
                self.committed = self.session.head().get();
                self.records.iter_mut().for_each(|record| record.committed = record.handled);
            }
            Op::Guard(millis) => {
                let deadline = millis.map(|ms| self.now + Duration::from_millis(ms.into()) * 8);
                let id = self.session.guard("script", deadline, self.now);
                assert_eq!(id.is_none(), self.usage.guards.len() >= 2);
                self.usage.guards.extend(id.map(|id| (id, deadline)));
            }
            Op::ReleaseGuard => {
                if let Some((id, _)) = self.usage.guards.pop() {
                    self.session.release_guard(id, self.now);
                    self.session.release_guard(id, self.now);
                    self.usage.touch(self.now);
                }
            }
            Op::Task(true) => {
                self.session.task_started();
                self.usage.tasks += 1;
            }
            Op::Task(false) if self.usage.tasks > 0 => {
                self.session.task_ended(self.now);
                self.usage.tasks -= 1;
                self.usage.touch_used(self.now);
            }
            Op::Hold(true) => {
                self.session.hold();
                self.usage.holds += 1;
            }
            Op::Hold(false) if self.usage.holds > 0 => {
                self.session.release_hold(self.now);
                self.usage.holds -= 1;
                self.usage.touch(self.now);
            }
            Op::Touch => {
                self.session.touch(self.now);
                self.usage.touch(self.now);
            }
            Op::Pass(millis) => self.pass(Duration::from_millis(millis.into())),
            Op::End => {
                self.session.end(OutcomeStatus::Closed, self.now);
            }
            Op::Idle | Op::ArriveLate(_) | Op::Task(false) | Op::Hold(false) => {}
        }
    }

    // Time, and what holds always.

    fn pass(&mut self, by: Duration) {
        self.now = self.now + by;
        self.usage.passed(self.now);
        if self.sweep_at <= self.now && self.session.ended().is_none() {
            self.sweep();
        }
        for at in 0..self.sockets.len() {
            self.timeout(at);
        }
    }

    fn sweep(&mut self) {
        let expected = self.usage.expiry(&self.rules, self.now);
        let ended = self.session.ended();
        match self.session.check_expiry(self.now) {
            Ok(next) => {
                if self.session.ended() == ended {
                    assert_eq!(expected, None);
                }
                assert!(next > self.now);
                self.sweep_at = next;
            }
            Err(why) => {
                assert_eq!(Some(why), expected);
                self.session.end(OutcomeStatus::Expired, self.now);
            }
        }
    }

    fn take_wake(&mut self) {
        let wake = self.session.take_wake();
        self.pump |= wake.transports;
        self.handler |= wake.handler;
        self.sender |= wake.room;
    }

    fn base(&self) -> u64 {
        self.head - self.session.outbox_messages() as u64
    }

    fn after(&mut self) {
        self.take_wake();
        let attached = self.sockets.iter().filter(|socket| socket.attached).count();
        self.usage.attached = attached > 0;
        self.usage.passed(self.now);
        self.note_gone();
        assert_eq!(self.session.head().get(), self.head);
        assert_eq!(self.session.transports(), attached);
        let base = self.base();
        self.checkpoint = self.checkpoint.filter(|&checkpoint| checkpoint >= base);
        if self.session.ended().is_some() {
            return;
        }
        let bounds = &self.rules.bounds;
        assert!(self.session.outbox_messages() <= bounds.outbox_messages);
        assert!(
            self.session.outbox_bytes() <= bounds.outbox_bytes
                || self.session.outbox_messages() == 1
        );
        assert!(self.session.inbox_messages() <= bounds.inbox_messages * (PEERS + 2));
        if matches!(self.setting.plain_ack, PlainAck::Margin(_)) {
            self.margin_made_way(base);
        }
        if self.setting.overflow != Overflow::DropOldest {
            for (client, record) in self.records.iter().enumerate() {
                let keep = record.keep.unwrap_or(base);
                assert!(base <= keep, "{client} needs {keep}, the oldest is {base}");
            }
        }
        if self.usage.expiry(&self.rules, self.now).is_some() {
            assert!(self.sweep_at <= self.now, "the sweeper sleeps too long");
            self.sweep();
        }
        self.nobody_sleeps_who_could_go_on();
    }

    fn note_gone(&mut self) {
        for (client, record) in self.records.iter_mut().enumerate() {
            if self.sockets.iter().any(|socket| socket.attached && socket.client == client) {
                record.gone = None;
            } else if record.newest > 0 {
                record.gone.get_or_insert(self.now);
            }
        }
    }

    /// What a margin keeps leaves when the outbox is full, as far as it is confirmed.
    fn margin_made_way(&mut self, base: u64) {
        let plain = self.sockets.iter().filter(|socket| socket.attached && socket.client == PLAIN);
        let confirmed = plain.map(|socket| socket.confirmed).max().unwrap_or(0);
        let keep = &mut self.records[PLAIN].keep;
        *keep = keep.map(|keep| keep.max(confirmed.min(base)));
        self.passed_over();
    }

    fn nobody_sleeps_who_could_go_on(&self) {
        let due = |s: &Socket| {
            self.session.poll_transport_timeout(s.number).is_some_and(|due| due <= self.now)
        };
        if !self.pump && !self.sockets.iter().any(due) {
            let mut probe = self.session.clone();
            let mut frames = Vec::new();
            for socket in &self.sockets {
                probe.poll_transmit(socket.number, ALL, self.now, &mut frames);
                assert_eq!(frames, [], "the pump sleeps");
                if let Some(frame) = &socket.stuck {
                    let again = probe.handle_frame(socket.number, frame.clone(), self.now);
                    assert!(matches!(again, Reception::Full(_)), "a reader sleeps");
                }
            }
        }
        if self.usage.handler == Handler::Waiting && !self.handler {
            assert!(self.session.clone().poll_receive(self.now).is_none(), "the handler sleeps");
        }
        if let Some(message) = &self.waiting
            && !self.sender
        {
            let again = self.session.clone().send(message.clone(), self.now);
            let full = again.as_ref().is_err_and(|unsent| unsent.why == NotSent::Full);
            assert!(full, "a sender sleeps: {again:?}");
        }
    }

    /// The session is over: each attached client gets the rest of the messages and learns of the end.
    fn finish(&mut self) {
        assert!(self.session.send("late".into(), self.now).is_err());
        assert!(self.session.poll_receive(self.now).is_none());
        self.handed_back();
        self.session.handle_outcome_committed(self.now);
        self.records.iter_mut().for_each(|record| record.committed = record.handled);
        for socket in self.sockets.iter_mut().filter(|s| s.client >= PLAIN && !s.open) {
            // No peer is there to confirm anything.
            self.session.detach(socket.number, self.now);
            socket.attached = false;
        }
        let attached: Vec<_> =
            self.sockets.iter().filter(|s| s.attached).map(|s| s.number).collect();
        self.take_wake();
        assert!(self.pump || attached.is_empty());
        self.pump();
        // A plain peer gets the rest as it confirms what came before.
        for _ in 0..100 {
            for at in 0..self.sockets.len() {
                if self.sockets[at].client >= PLAIN {
                    (0..100).for_each(|_| self.down(at));
                    (0..100).for_each(|_| self.up_frame(at));
                }
            }
            self.pump();
        }
        for socket in self.sockets.iter().filter(|s| attached.contains(&s.number)) {
            assert!(socket.said_close && !socket.attached);
        }
        assert_eq!(self.session.transports(), 0);
    }
}
