//! One session, its clients and the network between them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use session_resume_proto::{
    AttachmentNumber, Message, Moment, Position, Token,
    session::{
        Arrival, Attach, Budget, Claim, ClientName, Epoch, Event, Frame, Incoming,
        MESSAGE_OVERHEAD, NotSent, Origin, Overflow, PlainAck, Reception, Rules, Session,
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
    /// Whose it is: an index of a peer, or `PLAIN`.
    client: usize,
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
    late: Vec<(usize, Claim)>,
    plains: u32,
    // What should be.
    head: u64,
    checkpoint: Option<u64>,
    acknowledged: u64,
    records: Vec<Record>,
    last_attached: Option<usize>,
    usage: Use,
    told: Told,
    /// What the handler has taken of each peer.
    taken: Vec<Option<u64>>,
    plain_taken: std::collections::BTreeMap<u32, u64>,
    in_hand: Option<usize>,
    waiting: Option<Message>,
    // Who is awake.
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
            session: Session::new(rules.clone(), Epoch::first(1), now),
            rules,
            now,
            sockets: Vec::new(),
            peers: (0..PEERS).map(|who| Peer::new(u8::try_from(who).unwrap())).collect(),
            late: Vec::new(),
            plains: 1000,
            head: 0,
            checkpoint: None,
            acknowledged: 0,
            records: vec![Record::default(); PEERS + 1],
            last_attached: None,
            usage: Use::new(now),
            told: Told::default(),
            taken: vec![None; PEERS],
            plain_taken: std::collections::BTreeMap::new(),
            in_hand: None,
            waiting: None,
            pump: true,
            handler: true,
            sender: true,
            sweep_at: now,
        }
    }

    /// Does one deed and checks everything that must hold after it.
    pub(crate) fn step(&mut self, op: Op) {
        self.usage.passed(self.now);
        self.act(op);
        self.after();
        if self.session.ended().is_some() {
            self.finish();
            *self = Self::new(self.setting);
        }
    }

    fn act(&mut self, op: Op) {
        match op {
            Op::Connect(who) => {
                let who = usize::from(who) % PEERS;
                self.peers[who].superseded = false;
                let claim = self.peers[who].offer(self.session.epoch());
                self.abandon(who);
                self.arrive(who, claim, true);
            }
            Op::OfferLate(who) => {
                let who = usize::from(who) % PEERS;
                let claim = self.peers[who].offer(self.session.epoch());
                self.abandon(who);
                self.late.push((who, claim));
            }
            Op::ArriveLate(at) if !self.late.is_empty() => {
                let (who, claim) = self.late.remove(usize::from(at) % self.late.len());
                self.arrive(who, claim, false);
            }
            Op::Restart(who) => {
                let who = usize::from(who) % PEERS;
                self.peers[who].restart();
                self.abandon(who);
                // An offer without a cursor that arrives late would speak for a program that is gone.
                self.late.retain(|(of, claim)| *of != who || *claim != Claim::Fresh);
            }
            Op::ConnectPlain => self.connect_plain(),
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

    // Attaching.

    /// The peer listens to none of its sockets any more.
    fn abandon(&mut self, who: usize) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.client == who) {
            socket.open = false;
            socket.down.clear();
        }
    }

    fn arrive(&mut self, who: usize, claim: Claim, live: bool) {
        let name = self.peers[who].name();
        let others = self.sockets.iter().any(|s| s.attached && s.client != who);
        let record = &self.records[who];
        let cursor = match &claim {
            Claim::Cursor { received, attachment, .. } => Some((received.get(), *attachment)),
            Claim::Plain | Claim::Fresh | Claim::Lost { .. } => None,
        };
        let stale = cursor.and_then(|(_, n)| n).is_some_and(|n| n.get() < record.heard);
        let superseded = cursor.is_some() && record.takeover == Some(false);
        let seen = self.session.newest_attachment();
        let base = self.base();
        match self.attach(name, u32::try_from(who).unwrap(), claim) {
            Err(close) => {
                if stale {
                    assert_eq!(close, Close::STALE);
                    assert!(!live, "the present holder is not stale");
                } else if superseded {
                    assert_eq!(close, Close::SUPERSEDED);
                    // Sometimes the answer arrives.
                    if live && self.head % 2 == 0 {
                        self.session.handle_refusal_answered(name, seen);
                        self.records[who].takeover = Some(true);
                    }
                } else {
                    assert!(others && self.setting.attach == Attach::Refuse, "refused: {close:?}");
                }
            }
            Ok(number) => {
                assert!(!stale && !superseded);
                let from = match cursor {
                    Some((received, _)) => {
                        self.acknowledged = self.acknowledged.max(received);
                        received.max(base)
                    }
                    None => self.fresh_start(base),
                };
                let record = &self.records[who];
                let received = (!record.unknown).then_some(record.accepted);
                self.attached(number, who, u32::try_from(who).unwrap(), live);
                self.records[who].keep = Some(from);
                let socket = self.sockets.last_mut().unwrap();
                socket.hello = Some((from, received));
                socket.start = from;
                socket.next = from;
            }
        }
    }

    fn connect_plain(&mut self) {
        let share = self.setting.attach == Attach::Share;
        if share && self.sockets.iter().filter(|s| s.client == PLAIN).count() >= 2 {
            return;
        }
        let others = self.sockets.iter().any(|s| s.attached && s.client != PLAIN);
        let info = self.plains;
        self.plains += 1;
        let base = self.base();
        match self.attach(ClientName::Plain, info, Claim::Plain) {
            Err(close) => {
                assert!(others && self.setting.attach == Attach::Refuse, "refused: {close:?}");
            }
            Ok(number) => {
                if !share {
                    self.abandon(PLAIN);
                }
                let kept = self.records[PLAIN].keep;
                self.attached(number, PLAIN, info, true);
                self.records[PLAIN].keep = match (self.setting.plain_ack, kept) {
                    _ if share => None,
                    (PlainAck::Off, _) => None,
                    (_, Some(kept)) => Some(kept),
                    (_, None) => Some(self.head.min(self.fresh_start(base).max(self.head))),
                };
            }
        }
    }

    fn attach(
        &mut self,
        client: ClientName,
        info: u32,
        claim: Claim,
    ) -> Result<AttachmentNumber, Close> {
        let admitted = self.session.admit(client, &claim, self.now);
        let nonce = u64::from(info).to_be_bytes();
        let arrival = Arrival { client, info, origin: Origin::Reused, claim, nonce };
        let session = Token::parse("session").unwrap();
        let newest = self.session.newest_attachment();
        let result = self.session.attach(arrival, &session, self.now);
        assert_eq!(admitted.err(), result.clone().err());
        if let Ok(number) = result {
            assert_eq!(number, newest.next());
        }
        result.map_err(|refusal| refusal.close)
    }

    /// Ends the turns that the newest one ends.
    fn attached(&mut self, number: AttachmentNumber, client: usize, info: u32, open: bool) {
        let takeover = self.setting.attach == Attach::Takeover;
        let lone = client == PLAIN && self.setting.attach == Attach::Share;
        for socket in self.sockets.iter_mut().filter(|socket| socket.attached) {
            if (socket.client == client && !lone) || takeover {
                socket.attached = false;
                socket.superseded = socket.client != client;
                socket.stuck = None;
            }
        }
        if takeover {
            for (_, other) in self.records.iter_mut().enumerate().filter(|(of, _)| *of != client) {
                other.keep = None;
                if other.newest > 0 {
                    other.takeover.get_or_insert(false);
                }
            }
        }
        let record = &mut self.records[client];
        record.takeover = None;
        record.newest = number.get();
        self.last_attached = Some(client);
        self.sockets.push(Socket {
            number,
            client,
            info,
            open,
            attached: true,
            superseded: false,
            said_close: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            stuck: None,
            hello: None,
            start: u64::MAX,
            next: u64::MAX,
            made: 0,
        });
    }

    /// What a client has not been sent it cannot have: an ack of where it starts says nothing.
    fn acknowledged(&mut self, start: u64, position: u64) {
        if position > start {
            self.acknowledged = self.acknowledged.max(position);
        }
    }

    /// In a stand-off what was written to a plain client counts as confirmed.
    fn confirmed(&mut self, at: usize) {
        self.records[PLAIN].keep = None;
        let (start, next) = (self.sockets[at].start, self.sockets[at].next);
        self.acknowledged(start, next);
    }

    fn fresh_start(&self, base: u64) -> u64 {
        self.checkpoint.unwrap_or(self.acknowledged).max(base)
    }

    // The network.

    /// Mostly one that somebody still cares for.
    fn pick(&self, at: u8) -> Option<usize> {
        let cared = |socket: &Socket| at >= 224 || socket.open || socket.attached;
        let sockets = self.sockets.iter().enumerate().filter(|(_, socket)| cared(socket));
        let sockets: Vec<_> = sockets.map(|(at, _)| at).collect();
        Some(sockets[usize::from(at).checked_rem(sockets.len())?])
    }

    fn notice(&mut self, at: usize) {
        let socket = self.sockets.remove(at);
        if socket.open && socket.client < PEERS {
            self.peers[socket.client].next = None;
        }
        self.session.detach(socket.number, self.now);
        self.session.detach(socket.number, self.now);
    }

    fn write_up(&mut self, who: usize, frame: Incoming) {
        if let Some(socket) = self.sockets.iter_mut().rfind(|s| s.client == who && s.open) {
            socket.up.push_back(Up::Frame(frame));
        }
    }

    fn make(&mut self, who: usize, count: u8) {
        if who == PLAIN {
            if let Some(socket) = self.sockets.iter_mut().rfind(|s| s.client == PLAIN && s.open) {
                let text = format!("{}:{}", socket.info, socket.made);
                socket.made += 1;
                socket.up.push_back(Up::Frame(Incoming::Text(text.into())));
            }
            return;
        }
        for _ in 0..count {
            if self.peers[who].queue.len() < 8 {
                self.peers[who].make();
            }
        }
        while let Some(frame) = self.peers[who].write() {
            self.write_up(who, frame);
        }
    }

    /// One frame reaches the peer.
    fn down(&mut self, at: usize) {
        let socket = &mut self.sockets[at];
        let Some(frame) = socket.down.pop_front() else {
            return;
        };
        assert!(socket.open);
        if socket.client == PLAIN {
            match frame {
                Frame::Ping(payload) => {
                    socket.up.push_back(Up::Frame(Incoming::Pong(payload.to_vec().into())));
                }
                Frame::Close(_) => {
                    socket.open = false;
                    socket.down.clear();
                    socket.up.push_back(Up::CloseAnswered);
                }
                Frame::Data(_) => {}
                Frame::Control(text) => panic!("a plain peer was told {text:?}"),
            }
            return;
        }
        let who = socket.client;
        match self.peers[who].take(frame, &mut Vec::new()) {
            Reaction::Nothing => {}
            Reaction::Answer(frame) => socket.up.push_back(Up::Frame(frame)),
            Reaction::Closed(code, reason) => {
                socket.open = false;
                socket.down.clear();
                socket.up.push_back(Up::CloseAnswered);
                self.peers[who].next = None;
                self.peers[who].superseded = (code, &*reason) == (4100, "superseded");
            }
        }
        // What its window has let through.
        while let Some(frame) = self.peers[who].write() {
            self.write_up(who, frame);
        }
    }

    /// One frame reaches the server.
    fn up(&mut self, at: usize) {
        if self.sockets[at].stuck.is_some() {
            return;
        }
        match self.sockets[at].up.pop_front() {
            None => {}
            Some(Up::Frame(frame)) => self.handle(at, frame),
            Some(Up::CloseAnswered) => {
                let socket = &self.sockets[at];
                self.session.handle_close_answered(socket.number);
                let record = &mut self.records[socket.client];
                let told = socket.superseded && socket.said_close;
                if told && record.newest == socket.number.get() && record.takeover == Some(false) {
                    record.takeover = Some(true);
                }
                self.notice(at);
            }
        }
    }

    fn handle(&mut self, at: usize, frame: Incoming) {
        let socket = self.sockets[at].clone();
        let before = (!socket.attached).then(|| self.session.clone());
        let transports = self.session.transports();
        let reception = self.session.handle_frame(socket.number, frame.clone(), self.now);
        if let Some(before) = before {
            assert!(self.session == before, "late news changed something");
            return;
        }
        let record = &mut self.records[socket.client];
        match reception {
            Reception::Full(back) => {
                assert_eq!(back, frame);
                self.sockets[at].stuck = Some(back);
                if socket.client == PLAIN && self.usage.waits {
                    self.confirmed(at);
                }
                return;
            }
            Reception::State(_) => panic!("nobody offered a state"),
            Reception::Done => self.sockets[at].stuck = None,
        }
        if self.session.transports() < transports {
            assert!(self.usage.waits && socket.client != PLAIN, "an honest client was closed");
            self.sockets[at].attached = false;
            return;
        }
        match frame {
            Incoming::Pong(payload) => {
                let position = u64::from_be_bytes(payload[9..].try_into().unwrap());
                let position = match self.setting.plain_ack {
                    PlainAck::Trust => position,
                    PlainAck::Margin(margin) => position.saturating_sub(margin),
                    _ => 0,
                };
                if socket.client == PLAIN {
                    record.keep = record.keep.map(|keep| keep.max(position));
                    self.acknowledged(socket.start, position);
                }
            }
            Incoming::Text(text) if text.starts_with('\u{1}') => {
                record.heard = record.heard.max(socket.number.get());
                record.unknown = false;
                let ack = text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
                record.keep = record.keep.map(|keep| keep.max(ack));
                self.acknowledged(socket.start, ack);
            }
            _ if self.session.ended().is_some() => {}
            _ => {
                record.heard = record.heard.max(socket.number.get());
                record.unknown = false;
                record.accepted += 1;
                assert!(
                    record.accepted - record.taken <= 4 || self.setting.attach == Attach::Share
                );
            }
        }
    }

    /// A client breaks the rules: its transport ends, nothing else does.
    fn break_rules(&mut self, at: u8, how: u8) {
        let Some(at) = self.pick(at) else { return };
        let socket = self.sockets[at].clone();
        let holds = socket.client == PLAIN
            || self.peers[socket.client].attachment == Some(socket.number.get());
        if !socket.attached || !socket.open || !holds || socket.stuck.is_some() {
            return;
        }
        let head = self.head;
        let frame = match how % 4 {
            0 => Incoming::Pong("S foreign".into()),
            1 => Incoming::Text("x".repeat(101).into()),
            _ if socket.client == PLAIN => return,
            2 => Incoming::Text(format!("\u{1}{{\"ack\":{}}}", head + 1).into()),
            _ => Incoming::Text("\u{1}nonsense".into()),
        };
        let ends = !matches!(frame, Incoming::Pong(_));
        let transports = self.session.transports();
        assert!(matches!(
            self.session.handle_frame(socket.number, frame, self.now),
            Reception::Done
        ));
        assert_eq!(self.session.transports(), transports - usize::from(ends));
        self.sockets[at].attached = !ends;
        if how % 4 == 2 {
            let record = &mut self.records[socket.client];
            record.heard = record.heard.max(socket.number.get());
            record.unknown = false;
        }
    }

    // The server's pump.

    /// Writes until nothing comes; then only a wake or a timer makes it write again.
    fn pump(&mut self) {
        for _ in 0..100 {
            self.pump = false;
            for at in 0..self.sockets.len() {
                self.timeout(at);
                if let Some(frame) = self.sockets[at].stuck.take() {
                    self.handle(at, frame);
                }
                let calls = (0..100).take_while(|_| self.transmit(at, ALL)).count();
                assert!(calls < 100, "the same again and again");
            }
            self.take_wake();
            if !self.pump {
                for socket in &self.sockets {
                    let due = self.session.poll_transport_timeout(socket.number);
                    assert!(due.is_none_or(|due| due > self.now), "due, and nothing comes of it");
                }
                return;
            }
        }
        panic!("the pump never rests");
    }

    fn timeout(&mut self, at: usize) {
        let number = self.sockets[at].number;
        if self.session.poll_transport_timeout(number).is_none_or(|due| due > self.now) {
            return;
        }
        let transports = self.session.transports();
        self.session.handle_transport_timeout(number, self.now);
        if self.session.transports() < transports {
            self.sockets[at].attached = false;
            self.sockets[at].stuck = None;
        }
    }

    /// Returns whether anything was written.
    fn transmit(&mut self, at: usize, budget: Budget) -> bool {
        let number = self.sockets[at].number;
        let transports = self.session.transports();
        let mut frames = Vec::new();
        self.session.poll_transmit(number, self.now, budget, &mut frames);
        if self.session.transports() < transports {
            self.sockets[at].attached = false;
        }
        for frame in &frames {
            self.written(at, frame);
        }
        let socket = &self.sockets[at];
        if socket.client == PLAIN && socket.stuck.is_some() && self.usage.waits {
            self.confirmed(at);
        }
        let socket = &mut self.sockets[at];
        if socket.open {
            socket.down.extend(frames.iter().cloned());
        }
        !frames.is_empty()
    }

    /// Checks one frame as it leaves.
    fn written(&mut self, at: usize, frame: &Frame) {
        let attached = self.sockets[at].attached;
        let socket = &mut self.sockets[at];
        assert!(!socket.said_close, "nothing follows a close");
        match frame {
            Frame::Data(message) => {
                let position = content(message.as_text().unwrap());
                if socket.next != u64::MAX && position != socket.next {
                    let told = socket.client != PLAIN;
                    let may = self.setting.overflow == Overflow::DropOldest;
                    assert!(
                        !told && may && position > socket.next,
                        "{position} for {}",
                        socket.next
                    );
                }
                if socket.next == u64::MAX {
                    self.plain_starts(position);
                }
                self.sockets[at].start = self.sockets[at].start.min(position);
                self.sockets[at].next = position + 1;
            }
            Frame::Ping(payload) => {
                let position = u64::from_be_bytes(payload[9..].try_into().unwrap());
                // A plain peer is not told what was dropped.
                let skipped = socket.client == PLAIN && position > socket.next;
                assert!(position == socket.next || socket.next == u64::MAX || skipped);
                assert!(!skipped || self.setting.overflow == Overflow::DropOldest);
                assert!(socket.client != PLAIN || self.setting.plain_ack != PlainAck::Off);
            }
            Frame::Close(_) => {
                assert!(!attached);
                socket.said_close = true;
            }
            Frame::Control(text) => {
                let Ok(Inbound::Control(control)) = wire::decode_server_text(text.clone()) else {
                    panic!("no control frame");
                };
                self.control_written(at, &control);
            }
        }
    }

    fn plain_starts(&self, position: u64) {
        if self.setting.overflow != Overflow::DropOldest
            && let Some(keep) = self.records[PLAIN].keep
        {
            assert!(position <= keep, "a plain client starts at {position}, has all before {keep}");
        }
    }

    fn control_written(&mut self, at: usize, control: &ServerControl) {
        let socket = &mut self.sockets[at];
        let record = &mut self.records[socket.client];
        if let Some((from, received)) = socket.hello.take() {
            if control.hello.is_none() {
                assert!(!socket.attached, "the hello comes first");
                return;
            }
            let hello = control.hello.as_ref().unwrap();
            assert_eq!((hello.from.get(), hello.received), (from, received));
            assert_eq!(hello.attachment, socket.number);
        } else {
            assert!(control.hello.is_none());
        }
        if let Some(n) = control.ack.or(control.hb) {
            assert_eq!(n, if self.setting.durable { record.committed } else { record.taken });
        }
        if let Some(gap) = &control.gap {
            assert_eq!(self.setting.overflow, Overflow::DropOldest);
            assert_eq!(gap.from.get(), socket.next);
            let base = self.head - self.session.outbox_messages() as u64;
            assert_eq!(gap.to, Some(Position::new(base)), "exactly what is missing");
            socket.next = base;
        }
        if let Some(done) = &control.done {
            assert_eq!(done.received, record.taken);
            assert_eq!(socket.next, self.head, "done comes after the last message");
        }
    }

    // The application.

    fn message(&self, size: u8) -> Message {
        let size = if size > 250 { 90 } else { usize::from(size % 12) };
        Message::from(format!("{}.{}", self.head, "x".repeat(size)))
    }

    fn send(&mut self, size: u8, waits: bool, checkpoint: bool) {
        if self.waiting.is_some() {
            return;
        }
        let message = self.message(size);
        if let Some(message) = self.try_send(message, checkpoint)
            && waits
        {
            self.waiting = Some(message);
            self.sender = false;
            self.session.send_waits(self.now);
            self.usage.waits = true;
            for at in 0..self.sockets.len() {
                let socket = &mut self.sockets[at];
                if !socket.attached || socket.stuck.is_none() {
                    continue;
                }
                if socket.client == PLAIN {
                    self.confirmed(at);
                } else {
                    socket.attached = false;
                    socket.stuck = None;
                }
            }
        }
    }

    fn retry(&mut self) {
        if !self.sender {
            return;
        }
        if let Some(message) = self.waiting.take() {
            // Others may have sent since it was made.
            let message = Message::from(format!(
                "{}.{}",
                self.head,
                "x".repeat(message.len().saturating_sub(3))
            ));
            self.waiting = self.try_send(message, false);
            if self.waiting.is_none() {
                self.session.send_goes_on();
                self.usage.waits = false;
            }
            self.sender = false;
        }
    }

    /// Returns the message if there is no room.
    fn try_send(&mut self, message: Message, checkpoint: bool) -> Option<Message> {
        let full = self.is_full(message.len() + MESSAGE_OVERHEAD);
        if full {
            self.checkpoint = None;
            let any = self.sockets.iter().any(|socket| socket.attached);
            for client in 0..=PEERS {
                let gone = !self.sockets.iter().any(|s| s.attached && s.client == client);
                if gone && (any || self.last_attached != Some(client)) {
                    self.records[client].keep = None;
                }
            }
        }
        let sent = if checkpoint {
            self.session.send_checkpoint(message, self.now)
        } else {
            self.session.send(message, self.now)
        };
        match sent {
            Ok(position) => {
                assert_eq!(position.get(), self.head, "positions are counted");
                self.head += 1;
                if checkpoint {
                    self.checkpoint = Some(position.get());
                }
                None
            }
            Err(NotSent::Full(message)) => {
                assert!(full);
                assert_ne!(self.setting.overflow, Overflow::DropOldest);
                Some(message)
            }
            Err(NotSent::Ended) => {
                assert_eq!(self.session.ended(), Some(OutcomeStatus::Overflow));
                None
            }
            Err(NotSent::Uncommitted) => {
                assert!(full && self.setting.durable);
                None
            }
            Err(NotSent::TooLarge(_)) => panic!("under the limit"),
        }
    }

    fn is_full(&self, cost: usize) -> bool {
        let bounds = &self.rules.bounds;
        self.session.outbox_messages() > 0
            && (self.session.outbox_messages() >= bounds.outbox_messages
                || self.session.outbox_bytes() + cost > bounds.outbox_bytes)
    }

    fn receive(&mut self) {
        if self.usage.handler == Handler::Absent {
            self.act(Op::StartHandler);
        }
        let may = match self.usage.handler {
            Handler::Absent | Handler::Working => true,
            Handler::Waiting => self.handler,
        };
        if !may {
            return;
        }
        self.handed_back();
        match self.session.poll_receive(self.now) {
            None => {
                self.end_of_work();
                self.handler = false;
                let attached = self.sockets.iter().filter(|socket| socket.attached);
                let attached: std::collections::BTreeSet<u32> = attached.map(|s| s.info).collect();
                assert_eq!(attached, self.told.attached, "told of everybody");
            }
            Some(Event::Attached { who, .. }) => {
                self.told.attached(who);
                self.end_of_work();
                self.handler = true;
            }
            Some(Event::Detached { who }) => {
                self.told.detached(who);
                self.end_of_work();
                self.handler = true;
            }
            Some(Event::Message { message, from }) => self.took(&message, from),
            Some(_) => panic!("an event that did not exist"),
        }
    }

    fn end_of_work(&mut self) {
        if self.usage.handler == Handler::Working {
            self.usage.touch_used(self.now);
        }
        self.usage.handler = Handler::Waiting;
    }

    /// The handler has taken a message: exactly once and in order.
    fn took(&mut self, message: &Message, from: u32) {
        self.usage.handler = Handler::Working;
        let (of, k) = message.as_text().unwrap().split_once(':').unwrap();
        assert_eq!(of, from.to_string());
        let k: u64 = k.parse().unwrap();
        let client = usize::try_from(from).unwrap().min(PLAIN);
        self.records[client].taken += 1;
        self.in_hand = Some(client);
        if client == PLAIN {
            let next = self.plain_taken.entry(from).or_default();
            assert_eq!(k, *next);
            *next += 1;
            return;
        }
        let next = self.taken[client].map_or(0, |last| last + 1);
        assert!(k >= next, "{k} again");
        let doubted = &self.peers[client].in_doubt;
        assert!((next..k).all(|skipped| doubted.contains(&skipped)), "{next}..{k} were lost");
        self.taken[client] = Some(k);
    }

    fn handed_back(&mut self) {
        if let Some(client) = self.in_hand.take() {
            self.records[client].handled = self.records[client].taken;
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

    fn nobody_sleeps_who_could_go_on(&self) {
        let due = |s: &Socket| {
            self.session.poll_transport_timeout(s.number).is_some_and(|due| due <= self.now)
        };
        if !self.pump && !self.sockets.iter().any(due) {
            let mut probe = self.session.clone();
            let mut frames = Vec::new();
            for socket in &self.sockets {
                probe.poll_transmit(socket.number, self.now, ALL, &mut frames);
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
            assert!(matches!(again, Err(NotSent::Full(_))), "a sender sleeps: {again:?}");
        }
    }

    /// The session is over: whoever is attached gets the rest and learns it.
    fn finish(&mut self) {
        assert!(self.session.send("late".into(), self.now).is_err());
        assert!(self.session.poll_receive(self.now).is_none());
        self.handed_back();
        self.act(Op::Commit);
        let attached: Vec<_> =
            self.sockets.iter().filter(|s| s.attached).map(|s| s.number).collect();
        self.take_wake();
        assert!(self.pump || attached.is_empty());
        self.pump();
        for socket in self.sockets.iter().filter(|s| attached.contains(&s.number)) {
            assert!(socket.said_close && !socket.attached);
        }
        assert_eq!(self.session.transports(), 0);
    }
}
