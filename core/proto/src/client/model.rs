//! Random scripts against a small honest server: exactly once, in order, both ways; and the truth about a server
//! whose store goes back in time.
//!
//! Every message of either side is the text of a number that is never used again, so what arrives shows
//! what is missing.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::{
    Gap, GapReason, Position,
    wire::{
        CloseKind, Hello, Inbound as Frame, Offer, ServerControl, Status, VERSION, Window,
        decode_client_text,
    },
};

/// What a message says that is not for the client.
const ANOTHERS: u64 = u64::MAX;
const WINDOW: Window = Window { messages: 5, bytes: 12 };

#[derive(Clone, Copy, Debug)]
enum Op {
    ClientSends,
    ServerSends,
    /// The server sends something that is for another client.
    ServerSendsToAnother,
    /// The application takes this many events.
    ClientTakes(usize),
    HandlerTakes(usize),
    /// The server writes this many messages to its transport.
    Writes(usize),
    Acknowledges,
    ToClient(usize),
    ToServer(usize),
    /// The pending upgrade reaches the server.
    Attaches,
    /// An upgrade that the client has given up reaches the server.
    AttachesLate,
    /// The connection ends, and both ends know.
    Cut,
    /// The connection is dead, and neither end knows.
    Freeze,
    /// The connection ends; what the client has sent still arrives.
    HalfClose,
    /// The server comes back from its last commit, in another life.
    Restarts,
    /// Its store is copied.
    Copies,
    /// The copy is put back, and the server comes back from that.
    GoesBack,
    /// The server lets go of this many of the oldest messages.
    DropsOldest(u64),
    Advances(u64),
    Reconnects,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::ClientSends),
        4 => Just(Op::ServerSends),
        2 => Just(Op::ServerSendsToAnother),
        3 => (1..4_usize).prop_map(Op::ClientTakes),
        3 => (1..4_usize).prop_map(Op::HandlerTakes),
        3 => (1..4_usize).prop_map(Op::Writes),
        2 => Just(Op::Acknowledges),
        4 => (1..6_usize).prop_map(Op::ToClient),
        4 => (1..6_usize).prop_map(Op::ToServer),
        4 => Just(Op::Attaches),
        1 => Just(Op::AttachesLate),
        1 => Just(Op::Cut),
        1 => Just(Op::Freeze),
        1 => Just(Op::HalfClose),
        1 => Just(Op::Restarts),
        1 => Just(Op::Copies),
        1 => Just(Op::GoesBack),
        1 => (1..4_u64).prop_map(Op::DropsOldest),
        3 => (0..30_000_u64).prop_map(Op::Advances),
        1 => Just(Op::Reconnects),
    ]
}

/// The server's end of one attached transport.
#[derive(Debug)]
struct Attached {
    transport: TransportNumber,
    attachment: u64,
    /// The position of the message to write next.
    next: u64,
    /// The position that the client has been told, or will be with the next message.
    told: u64,
    /// What the client has acknowledged on this transport.
    acked: Option<u64>,
    from: u64,
}

/// What the server's store holds.
#[derive(Clone, Debug)]
struct Store {
    /// Which life of the session this is.
    life: u64,
    /// The earlier lives whose history goes on, and where each ends.
    earlier: Vec<(u64, u64)>,
    base: u64,
    /// The content of every position.
    said: Vec<u64>,
    /// The content of every message that was handled.
    handled: Vec<u64>,
}

#[derive(Debug)]
struct World {
    client: Client,
    now: Moment,
    /// The transport as the client sees it; `frozen`: nothing passes any more.
    transport: Option<TransportNumber>,
    frozen: bool,
    pending: Option<(TransportNumber, Offer)>,
    late: Vec<(TransportNumber, Offer)>,
    to_client: VecDeque<(TransportNumber, Result<Message, Close>)>,
    to_server: VecDeque<(TransportNumber, Message)>,

    attached: Option<Attached>,
    attachments: u64,
    /// The newest attachment on which a frame has arrived.
    heard: u64,
    store: Store,
    copy: Option<Store>,
    /// The content of every message that was accepted.
    accepted: Vec<u64>,
    /// How many messages the server has said in all its histories.
    words: u64,
    /// The position of each.
    places: BTreeMap<u64, u64>,
    lives: u64,

    sent: u64,
    /// The position the application expects, and what it has had before in this stream.
    expects: u64,
    stream: Vec<(u64, u64)>,
    /// Where streams start that the application has not been told of.
    openings: VecDeque<u64>,
    taken_back: u64,
    /// How often the application was told that there is another session.
    new_sessions: u64,
    draws: u8,
}

impl World {
    fn new(meeting: Meeting) -> Self {
        let config = Config { meeting, ..Config::default() };
        let mut world = Self {
            client: Client::new(config, &[1; 32], Moment::ZERO),
            new_sessions: 0,
            now: Moment::ZERO,
            transport: None,
            frozen: false,
            pending: None,
            late: Vec::new(),
            to_client: VecDeque::new(),
            to_server: VecDeque::new(),
            attached: None,
            attachments: 0,
            heard: 0,
            store: Store { life: 0, earlier: vec![], base: 0, said: vec![], handled: vec![] },
            copy: None,
            accepted: vec![],
            words: 0,
            places: BTreeMap::new(),
            lives: 0,
            sent: 0,
            expects: 0,
            stream: vec![],
            openings: VecDeque::new(),
            taken_back: 0,
            draws: 0,
        };
        world.act();
        world
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::ClientSends => {
                self.client.send(self.sent.to_string().into()).unwrap();
                self.sent += 1;
            }
            Op::ServerSends => {
                self.places.insert(self.words, self.head());
                self.store.said.push(self.words);
                self.words += 1;
            }
            Op::ServerSendsToAnother => self.store.said.push(ANOTHERS),
            Op::ClientTakes(count) => (0..count).for_each(|_| self.take()),
            Op::HandlerTakes(count) => {
                let handled = self.accepted.len().min(self.store.handled.len() + count);
                self.store.handled = self.accepted[..handled].to_vec();
            }
            Op::Writes(count) => self.write(count),
            Op::Acknowledges => {
                self.skip();
                self.tell(|handled| ServerControl {
                    hb: Some(handled),
                    ..ServerControl::default()
                });
            }
            Op::ToClient(count) => self.deliver_to_client(count),
            Op::ToServer(count) => self.deliver_to_server(count),
            Op::Attaches => {
                if let Some((transport, offer)) = self.pending.take() {
                    self.attach(transport, &offer);
                }
            }
            Op::AttachesLate => {
                if let Some((transport, offer)) = self.late.pop() {
                    self.attach(transport, &offer);
                }
            }
            Op::Cut => {
                self.to_server.clear();
                self.cut();
            }
            Op::HalfClose => self.cut(),
            Op::Freeze => self.frozen = true,
            Op::Restarts => self.restart(),
            Op::Copies => self.copy = Some(self.store.clone()),
            Op::GoesBack => {
                if let Some(copy) = self.copy.clone() {
                    self.store = copy;
                    self.restart();
                }
            }
            Op::DropsOldest(count) => {
                self.store.base = self.head().min(self.store.base + count);
            }
            Op::Advances(millis) => self.advance(Duration::from_millis(millis)),
            Op::Reconnects => self.client.reconnect_now(self.now),
        }
        self.act();
    }

    fn head(&self) -> u64 {
        self.store.said.len() as u64
    }

    fn restart(&mut self) {
        self.store.earlier.push((self.store.life, self.head()));
        self.lives += 1;
        self.store.life = self.lives;
        self.accepted = self.store.handled.clone();
        self.to_server.clear();
        self.attached = None;
        self.cut();
    }

    /// Does what the client asks for, and takes over what it transmits.
    fn act(&mut self) {
        loop {
            match self.client.poll_action() {
                None => break,
                Some(Action::Randomize) => {
                    self.draws = self.draws.wrapping_mul(37).wrapping_add(11);
                    self.client.handle_random(&[self.draws; 32], self.now);
                }
                Some(Action::Initial) => self.client.handle_initial(vec![]),
                Some(Action::Connect { transport, offer }) => {
                    self.transport = Some(transport);
                    self.frozen = false;
                    self.pending = Some((transport, offer));
                }
                Some(Action::Close { close, .. }) => {
                    let kind = close.map(|close| close.kind());
                    assert_ne!(kind, Some(CloseKind::ProtocolError), "nobody broke the protocol");
                    self.transport = None;
                    self.late.extend(self.pending.take());
                }
            }
        }
        while let Some(frame) = self.client.poll_transmit(self.now) {
            let is_control = frame.1.as_text().is_some_and(|text| text.starts_with('\u{1}'));
            assert!(is_control || !self.client.is_held(), "sent before the application's say");
            self.to_server.push_back(frame);
        }
    }

    fn cut(&mut self) {
        self.to_client.clear();
        self.late.extend(self.pending.take());
        if let Some(transport) = self.transport.take() {
            self.client.handle_closed(transport, None);
        }
    }

    fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.client.poll_timeout().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.act();
        }
        self.now = end;
    }

    fn take(&mut self) {
        match self.client.take(self.now) {
            Some(Event::Message(message)) => {
                let said = message.as_text().unwrap().parse().unwrap();
                self.pass(self.places[&said]);
                self.stream.push((self.expects, said));
                self.expects += 1;
            }
            Some(Event::Gap(Gap { from, to: Some(to), .. })) => {
                self.pass(from.get());
                self.expects = to.get();
                // A store that goes back may have again what was gone.
                assert!(
                    to.get() <= self.store.base || self.copy.is_some(),
                    "a gap in what is there"
                );
            }
            Some(Event::Gap(gap)) => {
                self.pass(gap.from.get());
                assert_eq!(gap.reason, GapReason::Restarted);
                assert!(self.copy.is_some(), "the stream goes on through every restart");
                self.expects = self.openings.pop_front().expect("a hello has said so");
                self.stream.clear();
            }
            // Through every restart and rollback it is one session.
            Some(Event::NewSession { .. }) => {
                self.new_sessions += 1;
                assert_eq!(self.new_sessions, 1);
            }
            Some(Event::TakenBack { count }) => {
                assert!(self.copy.is_some() && count > 0);
                self.taken_back += count;
            }
            Some(Event::Connecting | Event::Open { .. } | Event::Waiting { .. }) | None => {}
            other => panic!("{other:?}"),
        }
    }

    /// The application is at `position`: what is before and did not come was another's.
    fn pass(&mut self, position: u64) {
        assert!(position >= self.expects, "{position} after {}", self.expects);
        for passed in std::mem::replace(&mut self.expects, position)..position {
            let said = self.store.said.get(usize::try_from(passed).unwrap());
            // A store that has gone back does not have it any more.
            assert!(said == Some(&ANOTHERS) || self.copy.is_some(), "{passed} was passed over");
        }
    }

    fn deliver_to_client(&mut self, count: usize) {
        if self.frozen {
            return;
        }
        for (transport, frame) in self.to_client.drain(..count.min(self.to_client.len())) {
            match frame {
                Ok(frame) => {
                    if self.transport == Some(transport)
                        && let Message::Text(text) = &frame
                        && let Ok(Frame::Control(control)) =
                            crate::wire::decode_server_text(text.clone())
                        && let Some(hello) = control.hello
                        && hello.gap.is_some_and(|gap| gap.to.is_none())
                    {
                        self.openings.push_back(hello.from.get());
                    }
                    self.client.handle_frame(transport, frame, self.now);
                }
                Err(close) => {
                    if self.transport == Some(transport) {
                        self.transport = None;
                    }
                    self.client.handle_closed(transport, Some(close));
                }
            }
        }
    }

    fn deliver_to_server(&mut self, count: usize) {
        if self.frozen {
            return;
        }
        for (transport, frame) in self.to_server.drain(..count.min(self.to_server.len())) {
            let attached = self.attached.as_mut();
            let Some(attached) = attached.filter(|attached| attached.transport == transport) else {
                continue;
            };
            self.heard = self.heard.max(attached.attachment);
            let Message::Text(text) = frame else { panic!("only text is sent here") };
            match decode_client_text(text).unwrap() {
                Frame::Control(control) => {
                    let ack = control.ack.unwrap().get();
                    match attached.acked {
                        None => assert_eq!(ack, attached.from, "the first frame answers the hello"),
                        Some(before) => assert!(ack >= before),
                    }
                    assert!(ack <= attached.told, "acknowledged what was not sent");
                    attached.acked = Some(ack);
                    self.store.base = self.store.base.max(ack);
                }
                Frame::Data(text) => {
                    assert!(attached.acked.is_some(), "data before the first ack");
                    let said = text.parse().unwrap();
                    let last = self.accepted.last().copied();
                    assert!(last.is_none_or(|last| last < said), "{said} after {last:?}");
                    // Only what was taken back may be missing.
                    let next = last.map_or(0, |last| last + 1);
                    assert!(said == next || self.copy.is_some(), "{said}, {next} was next");
                    self.accepted.push(said);
                    let waiting = &self.accepted[self.store.handled.len()..];
                    let bytes: usize = waiting.iter().map(|n| n.to_string().len()).sum();
                    assert!(waiting.len() as u64 <= WINDOW.messages);
                    assert!(bytes as u64 <= WINDOW.bytes);
                }
            }
        }
    }

    fn attach(&mut self, transport: TransportNumber, offer: &Offer) {
        let close = |close| (transport, Err(close));
        let (received, status) = match offer {
            Offer::Resume { cursor, attachment, .. } => {
                if attachment.unwrap().get() < self.heard {
                    assert_ne!(self.transport, Some(transport), "this is no copy");
                    return self.to_client.push_back(close(Close::STALE));
                }
                let received = cursor.received.get();
                let life: u64 = cursor.epoch.as_str()[1..].parse().unwrap();
                let mut lives = self.store.earlier.iter().copied();
                let end = if life == self.store.life {
                    assert!(received <= self.head());
                    Some(self.head())
                } else {
                    lives.find(|(of, _)| *of == life).map(|(_, end)| end)
                };
                if end.is_some_and(|end| received <= end) {
                    (Some(received), Status::Resumed)
                } else {
                    (Some(received), Status::Restored)
                }
            }
            _ => (None, Status::Reused),
        };
        if let Some(old) = self.attached.take() {
            let replaced = Err(Close::REPLACED);
            self.to_client.push_back((old.transport, replaced));
        }
        self.attachments += 1;
        let broken = status == Status::Restored;
        let from = received.filter(|_| !broken).unwrap_or(0).max(self.store.base);
        let gap = received.filter(|&received| broken || received < from).map(|received| Gap {
            from: Position::new(received),
            to: (!broken).then_some(Position::new(from)),
            reason: if broken { GapReason::Restarted } else { GapReason::Overflow },
        });
        self.attached = Some(Attached {
            transport,
            attachment: self.attachments,
            next: from,
            told: from,
            acked: None,
            from,
        });
        // A fresh client starts where the session does; for this one that must be where it is, too.
        if received.is_none() && self.transport == Some(transport) {
            self.expects = from;
        }
        let hello = Hello {
            v: VERSION,
            session: WireId::parse("s").unwrap(),
            epoch: WireId::parse(&format!("e{}", self.store.life)).unwrap(),
            attachment: AttachmentNumber::new(self.attachments),
            status,
            from: Position::new(from),
            received: Some(self.accepted.len() as u64),
            gap,
            heartbeat_ms: 30_000,
            lifetime_ms: 120_000,
            window: WINDOW,
            limit: None,
            ping: false,
            absent_ms: None,
            hold_ms: None,
        };
        self.tell(|_| ServerControl { hello: Some(hello), ..ServerControl::default() });
    }

    fn write(&mut self, count: usize) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let transport = attached.transport;
        let base = self.store.base;
        if attached.next < base {
            self.skip();
            let attached = self.attached.as_mut().expect("still there");
            let gap = Gap {
                from: Position::new(attached.next),
                to: Some(Position::new(base)),
                reason: GapReason::Overflow,
            };
            attached.next = base;
            attached.told = base;
            self.tell(|_| ServerControl { gap: Some(gap), ..ServerControl::default() });
        }
        for _ in 0..count {
            let attached = self.attached.as_mut().expect("still there");
            let said = self.store.said.get(usize::try_from(attached.next).unwrap()).copied();
            match said {
                Some(ANOTHERS) => attached.next += 1,
                Some(said) => {
                    self.skip();
                    let attached = self.attached.as_mut().expect("still there");
                    attached.next += 1;
                    attached.told = attached.next;
                    let message = Message::from(said.to_string());
                    self.to_client.push_back((transport, Ok(message)));
                }
                None => {}
            }
        }
    }

    /// Tells the client that it is past what is not for it.
    fn skip(&mut self) {
        if let Some(attached) = &mut self.attached
            && attached.told < attached.next
        {
            attached.told = attached.next;
            let skip = Some(Position::new(attached.next));
            self.tell(|_| ServerControl { skip, ..ServerControl::default() });
        }
    }

    fn tell(&mut self, control: impl FnOnce(u64) -> ServerControl) {
        if let Some(attached) = &self.attached {
            let handled = self.store.handled.len() as u64;
            let frame = Message::Text(control(handled).encode());
            self.to_client.push_back((attached.transport, Ok(frame)));
        }
    }

    /// Lets the network be calm until everything has arrived.
    fn calm(&mut self) {
        self.late.clear();
        // Enough for the watchdog of 75 s and the longest wait after it.
        for _ in 0..100 {
            for op in [
                Op::Attaches,
                Op::Writes(1000),
                Op::ToClient(1000),
                Op::ClientTakes(1000),
                Op::ToServer(1000),
                Op::HandlerTakes(1000),
                Op::Acknowledges,
                Op::ToClient(1000),
                Op::Advances(3000),
            ] {
                self.run(op);
            }
            if self.is_exact() {
                break;
            }
        }
        self.pass(self.head());
        let told = u64::from(self.client.config.meeting == Meeting::NewSession);
        assert!(self.sent == 0 || self.new_sessions == told, "no message goes before that");
        for &(position, said) in &self.stream {
            let at = usize::try_from(position).unwrap();
            assert_eq!(self.store.said[at], said, "one cursor has two histories: {position}");
        }
        let handled = self.store.handled.len() as u64;
        assert_eq!(handled + self.taken_back, self.sent, "handled, or taken back");
        assert_eq!(self.client.unacknowledged(), 0, "acknowledged");
        assert_eq!(self.store.base, self.head(), "acknowledged to the server");
    }

    fn is_exact(&self) -> bool {
        let at = usize::try_from(self.expects).unwrap();
        self.store.said.iter().skip(at).all(|said| *said == ANOTHERS)
            && self.store.base == self.head()
            && self.store.handled.len() as u64 + self.taken_back == self.sent
            && self.client.unacknowledged() == 0
    }
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order(
        meeting in prop::sample::select(vec![
            Meeting::AtOnce,
            Meeting::Initial,
            Meeting::NewSession,
        ]),
        ops in prop::collection::vec(op(), 0..150),
    ) {
        let mut world = World::new(meeting);
        for op in ops {
            world.run(op);
        }
        world.calm();
    }
}
