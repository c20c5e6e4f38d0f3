//! Random scripts against a small honest server: exactly once, in order, both ways.
//!
//! Message `k` of either side is the text of `k`, so what arrives says by itself what is missing.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{
    Gap, GapReason, Position,
    wire::{Hello, Inbound as Frame, Offer, ServerControl, Status, Window, decode_client_text},
};

const WINDOW: Window = Window { messages: 5, bytes: 12 };

#[derive(Clone, Copy, Debug)]
enum Op {
    ClientSends,
    ServerSends,
    /// The application takes so many events.
    ClientTakes(usize),
    HandlerTakes(usize),
    /// The server writes so many messages to its transport.
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
    /// The connection is dead, and nobody knows.
    Freeze,
    /// The connection ends; what the client has sent still arrives.
    HalfClose,
    /// The server comes back from its last commit.
    Restarts,
    /// The server lets go of so many of the oldest messages.
    DropsOldest(u64),
    Advances(u64),
    Reconnects,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::ClientSends),
        4 => Just(Op::ServerSends),
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
    /// What the client has acknowledged on this transport.
    acked: Option<u64>,
    from: u64,
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
    base: u64,
    head: u64,
    accepted: u64,
    handled: u64,

    sent: u64,
    /// The position the application expects.
    expects: u64,
    draws: u8,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            client: Client::new(Config::default(), &[1; 32], Moment::ZERO),
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
            base: 0,
            head: 0,
            accepted: 0,
            handled: 0,
            sent: 0,
            expects: 0,
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
            Op::ServerSends => self.head += 1,
            Op::ClientTakes(count) => (0..count).for_each(|_| self.take()),
            Op::HandlerTakes(count) => {
                self.handled = self.accepted.min(self.handled + count as u64);
            }
            Op::Writes(count) => self.write(count),
            Op::Acknowledges => {
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
            Op::Restarts => {
                self.accepted = self.handled;
                self.to_server.clear();
                self.attached = None;
                self.cut();
            }
            Op::DropsOldest(count) => {
                self.base = self.head.min(self.base + count);
            }
            Op::Advances(millis) => self.advance(Duration::from_millis(millis)),
            Op::Reconnects => self.client.reconnect_now(self.now),
        }
        self.act();
    }

    /// Does what the client asks for, and takes over what it transmits.
    fn act(&mut self) {
        loop {
            match self.client.poll_action() {
                None => break,
                Some(Action::Randomize) => {
                    self.draws = self.draws.wrapping_mul(37).wrapping_add(11);
                    self.client.handle_random(self.now, &[self.draws; 32]);
                }
                Some(Action::Connect { transport, offer }) => {
                    self.transport = Some(transport);
                    self.frozen = false;
                    self.pending = Some((transport, offer));
                }
                Some(Action::Close { close, .. }) => {
                    assert_eq!(close, None, "nobody broke the protocol");
                    self.transport = None;
                    self.late.extend(self.pending.take());
                }
            }
        }
        while let Some(frame) = self.client.poll_transmit(self.now) {
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
                assert_eq!(message, self.expects.to_string().into());
                self.expects += 1;
            }
            Some(Event::Gap(gap)) => {
                assert_eq!(gap.from.get(), self.expects);
                self.expects = gap.to.expect("the session is never gone").get();
                assert!(self.expects <= self.base, "what is there is no gap");
            }
            Some(Event::Connecting | Event::Open { .. } | Event::Waiting { .. }) | None => {}
            other => panic!("{other:?}"),
        }
    }

    fn deliver_to_client(&mut self, count: usize) {
        if self.frozen {
            return;
        }
        for (transport, frame) in self.to_client.drain(..count.min(self.to_client.len())) {
            match frame {
                Ok(frame) => self.client.handle_frame(self.now, transport, frame),
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
                    assert!(ack <= attached.next, "acknowledged what was not sent");
                    attached.acked = Some(ack);
                    self.base = self.base.max(ack);
                }
                Frame::Data(text) => {
                    assert!(attached.acked.is_some(), "data before the first ack");
                    assert_eq!(&*text, self.accepted.to_string());
                    self.accepted += 1;
                    let bytes: usize =
                        (self.handled..self.accepted).map(|n| n.to_string().len()).sum();
                    assert!(self.accepted - self.handled <= WINDOW.messages);
                    assert!(bytes as u64 <= WINDOW.bytes);
                }
            }
        }
    }

    fn attach(&mut self, transport: TransportNumber, offer: &Offer) {
        let close = |close| (transport, Err(close));
        let (received, status) = match offer {
            Offer::Resume { cursor, attachment, .. } => {
                assert!(cursor.received.get() <= self.head);
                if attachment.unwrap().get() < self.heard {
                    assert_ne!(self.transport, Some(transport), "this is no copy");
                    return self.to_client.push_back(close(Close::STALE));
                }
                (Some(cursor.received.get()), Status::Resumed)
            }
            _ => (None, Status::Reused),
        };
        if let Some(old) = self.attached.take() {
            let replaced = Err(Close::REPLACED);
            self.to_client.push_back((old.transport, replaced));
        }
        self.attachments += 1;
        let from = received.unwrap_or(0).max(self.base);
        let gap = received.filter(|&received| received < from).map(|received| Gap {
            from: Position::new(received),
            to: Some(Position::new(from)),
            reason: GapReason::Overflow,
        });
        self.attached = Some(Attached {
            transport,
            attachment: self.attachments,
            next: from,
            acked: None,
            from,
        });
        // A fresh client starts where the session does; for this one that must be where it is, too.
        if received.is_none() && self.transport == Some(transport) {
            self.expects = from;
        }
        let hello = Hello {
            v: 1,
            session: Token::parse("s").unwrap(),
            epoch: Token::parse("e").unwrap(),
            attachment: AttachmentNumber::new(self.attachments),
            status,
            from: Position::new(from),
            received: Some(self.accepted),
            gap,
            heartbeat_ms: 30_000,
            lifetime_ms: 120_000,
            window: WINDOW,
            limit: None,
        };
        self.tell(|_| ServerControl { hello: Some(hello), ..ServerControl::default() });
    }

    fn write(&mut self, count: usize) {
        let Some(attached) = &mut self.attached else {
            return;
        };
        let transport = attached.transport;
        if attached.next < self.base {
            let gap = Gap {
                from: Position::new(attached.next),
                to: Some(Position::new(self.base)),
                reason: GapReason::Overflow,
            };
            attached.next = self.base;
            self.tell(|_| ServerControl { gap: Some(gap), ..ServerControl::default() });
        }
        let attached = self.attached.as_mut().expect("still there");
        for _ in 0..count {
            if attached.next < self.head {
                let message = Message::from(attached.next.to_string());
                attached.next += 1;
                self.to_client.push_back((transport, Ok(message)));
            }
        }
    }

    fn tell(&mut self, control: impl FnOnce(u64) -> ServerControl) {
        if let Some(attached) = &self.attached {
            let frame = Message::Text(control(self.handled).encode());
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
        assert_eq!(self.expects, self.head, "received");
        assert_eq!(self.handled, self.sent, "handled");
        assert_eq!(self.client.unacknowledged(), 0, "acknowledged");
        assert_eq!(self.base, self.head, "acknowledged to the server");
    }

    fn is_exact(&self) -> bool {
        self.expects == self.head
            && self.base == self.head
            && self.handled == self.sent
            && self.client.unacknowledged() == 0
    }
}

proptest! {
    #[test]
    fn everything_arrives_once_and_in_order(ops in prop::collection::vec(op(), 0..150)) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.calm();
    }
}
