//! Tables over the session machine, by concept. [`Sim`] drives one session on a virtual clock and writes
//! what comes out as one line per frame.

#![expect(clippy::unchecked_time_subtraction, reason = "constants; a test would panic")]

mod attach;
mod audience;
mod compact;
mod events;
mod flow;
mod history;
mod identities;
mod lives;
mod observers;
mod outbox;
mod plain;
mod poison;
mod readers;
mod reading;
mod reattach;
mod skips;
mod trouble;
mod urgent;
mod usage;
mod watchers;

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use super::*;
use crate::{
    ClientId, WireId,
    wire::{self, Close, Inbound, ServerControl},
};

const HEARTBEAT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// One session, its clock, and the pings that its transports have not answered yet.
struct Sim {
    session: Session<&'static str>,
    now: Moment,
    pings: BTreeMap<u64, [u8; 17]>,
    /// What timers have made a transport write, until the test reads it.
    written: BTreeMap<u64, Vec<String>>,
    guard: Option<GuardId>,
}

impl Sim {
    /// Takes a snapshot, and it becomes durable.
    fn commit(&mut self) {
        let (_, covered) = self.session.snapshot(false);
        self.session.handle_committed(&covered, self.now);
    }

    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules::default();
        change(&mut rules);
        let now = Moment::from_millis(1_000_000);
        Self {
            session: Session::new(Arc::new(rules), Epoch::new(7, 1), now),
            now,
            pings: BTreeMap::new(),
            written: BTreeMap::new(),
            guard: None,
        }
    }

    // Attaching.

    fn offer(&mut self, who: &'static str, claim: Claim) -> Result<u64, String> {
        self.arrive(who, claim, SessionOrigin::Reused)
    }

    fn arrive(
        &mut self,
        who: &'static str,
        claim: Claim,
        origin: SessionOrigin,
    ) -> Result<u64, String> {
        self.come(who, Access::Full, claim, origin)
    }

    /// It comes, and may only read.
    fn watch(&mut self, who: &'static str, claim: Claim) -> Result<u64, String> {
        self.come(who, Access::ReadOnly, claim, SessionOrigin::Reused)
    }

    fn come(
        &mut self,
        who: &'static str,
        access: Access,
        claim: Claim,
        origin: SessionOrigin,
    ) -> Result<u64, String> {
        let mut nonce = [0; 8];
        nonce[7] = u8::try_from(self.session.transports() + 1).unwrap();
        let arrival = Arrival { client: name(who), access, info: who, origin, claim, nonce };
        let session = WireId::parse("s").unwrap();
        match self.session.attach(arrival, &session, self.now) {
            Ok(attached) => Ok(attached.number.get()),
            Err(Refusal { close, retry }) => Err(match retry {
                Some(retry) => format!("{} {} retry {retry:?}", close.code, close.reason),
                None => format!("{} {}", close.code, close.reason),
            }),
        }
    }

    fn fresh(&mut self, who: &'static str) -> u64 {
        self.offer(who, Claim::Fresh).unwrap()
    }

    fn plain(&mut self) -> u64 {
        self.offer("plain", Claim::Plain).unwrap()
    }

    fn resume(&mut self, who: &'static str, received: u64) -> u64 {
        self.offer(who, at(received)).unwrap()
    }

    // What goes out.

    /// Everything the transport has written since the last look.
    fn out(&mut self, number: u64) -> Vec<String> {
        self.out_within(number, Budget { messages: usize::MAX, bytes: usize::MAX })
    }

    fn out_within(&mut self, number: u64, budget: Budget) -> Vec<String> {
        self.write(number, budget);
        self.written.remove(&number).unwrap_or_default()
    }

    fn write(&mut self, number: u64, budget: Budget) {
        let mut frames = Vec::new();
        self.session.poll_transmit(AttachmentNumber::new(number), budget, self.now, &mut frames);
        for frame in &frames {
            if let Frame::Ping(payload) = frame {
                self.pings.insert(number, *payload);
            }
        }
        self.written.entry(number).or_default().extend(frames.iter().map(line));
    }

    /// The data that the transport writes now, without hello, acks and pings.
    fn data(&mut self, number: u64) -> Vec<String> {
        let told = ["hello", "ack", "hb", "ping"];
        let data = |line: &String| !told.iter().any(|start| line.starts_with(start));
        self.out(number).into_iter().filter(data).collect()
    }

    // What comes in.

    fn frame(&mut self, number: u64, frame: Incoming) -> Reception {
        self.session.handle_frame(AttachmentNumber::new(number), frame, self.now)
    }

    /// A data message of the client; returns whether there was room.
    fn say(&mut self, number: u64, text: &str) -> bool {
        matches!(self.frame(number, Incoming::Text(text.into())), Reception::Done)
    }

    fn ack(&mut self, number: u64, position: u64) {
        let text = format!("\u{1}{{\"ack\":{position}}}");
        assert!(self.say(number, &text));
    }

    /// Answers the ping that is outstanding.
    fn pong(&mut self, number: u64) {
        let payload = self.pings.remove(&number).expect("a ping is outstanding");
        let frame = Incoming::Pong(payload.to_vec().into());
        assert!(matches!(self.frame(number, frame), Reception::Done));
    }

    fn detach(&mut self, number: u64) {
        self.session.detach(AttachmentNumber::new(number), self.now);
    }

    /// The peer ends its transport, with a close of this code or without one; returns the position that it cannot
    /// take.
    fn peer_ends(&mut self, number: u64, code: Option<u16>) -> Option<u64> {
        let given_up = self.session.handle_peer_end(AttachmentNumber::new(number), code, self.now);
        self.detach(number);
        given_up.map(|message| message.position.get())
    }

    fn close_answered(&mut self, number: u64) {
        self.session.handle_close_answered(AttachmentNumber::new(number));
    }

    // The application.

    fn send(&mut self, text: &str) -> Result<u64, NotSent> {
        let sent = self.session.send(text.into(), self.now);
        sent.map(Position::get).map_err(|unsent| unsent.why)
    }

    /// Sends `m<from>`, …, `m<to - 1>`.
    fn send_range(&mut self, range: std::ops::Range<u64>) {
        for i in range {
            assert_eq!(self.send(&format!("m{i}")), Ok(i));
        }
    }

    fn send_more<const N: usize>(&mut self, texts: [&str; N]) {
        for text in texts {
            self.send(text).expect("there is room");
        }
    }

    /// Sends a message to one client alone; `None` if it is not there.
    fn tell(&mut self, who: &'static str, text: &str) -> Option<u64> {
        let to = self.session.addressee(name(who), |info| *info == who)?;
        let terms = Terms { to: Some(to), ..Terms::default() };
        let sent = self.session.send_on(text.into(), terms, self.now);
        Some(sent.expect("there is room").get())
    }

    fn latest(&mut self, slot: &'static str, text: &str) -> u64 {
        let terms = Terms { slot: Some(slot.into()), ..Terms::default() };
        let sent = self.session.send_on(text.into(), terms, self.now);
        sent.expect("there is room").get()
    }

    fn brief(&mut self, time: Duration, text: &str) -> u64 {
        let terms = Terms { until: Some(self.now + time), ..Terms::default() };
        let sent = self.session.send_on(text.into(), terms, self.now);
        sent.expect("there is room").get()
    }

    fn is_full(&mut self) -> bool {
        self.session
            .clone()
            .send("x".into(), self.now)
            .is_err_and(|unsent| unsent.why == NotSent::Full)
    }

    /// The handler takes one message, and has it in hand.
    fn take_one(&mut self) {
        while !self.event().expect("a message waits").contains(':') {}
    }

    /// What the handler is told next, after handing back what it has.
    fn event(&mut self) -> Option<String> {
        Some(match self.session.poll_receive(self.now)? {
            Event::Message { message, from } => {
                format!("{}:{}", from.info, message.as_text().unwrap_or("binary"))
            }
            Event::Attached { who, access, resumed, checkpoint } => {
                let watches = if access == Access::ReadOnly { " watches" } else { "" };
                let resumed = if resumed { " resumed" } else { "" };
                let checkpoint = if checkpoint { " checkpoint" } else { "" };
                format!("+{}{watches}{resumed}{checkpoint}", who.info)
            }
            Event::Detached { who } => format!("-{}", who.info),
            Event::Undeliverable { who, position, bytes } => {
                format!("!{} {position} {bytes}", who.info)
            }
            Event::Dropped { number, from } => format!("dropped {} {number}", from.info),
        })
    }

    fn events(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.event()).collect()
    }

    /// Lets the handler take everything, messages only.
    fn messages(&mut self) -> Vec<String> {
        self.events().into_iter().filter(|event| event.contains(':')).collect()
    }

    // Time.

    /// Moves the clock; every transport acts on its timers, and writes, when they are due.
    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        for _ in 0..10_000 {
            let due = self
                .numbers()
                .filter_map(|number| Some((self.session.poll_transport_timeout(number)?, number)))
                .filter(|(at, _)| *at <= end)
                .min();
            let Some((at, number)) = due else {
                self.now = end;
                return;
            };
            self.now = self.now.max(at);
            self.session.handle_transport_timeout(number, self.now);
            self.write(number.get(), Budget { messages: usize::MAX, bytes: usize::MAX });
        }
        panic!("timers without end");
    }

    fn numbers(&self) -> impl Iterator<Item = AttachmentNumber> + use<> {
        (1..=self.session.last_attachment.get()).map(AttachmentNumber::new)
    }

    /// Whether the session's time is up, and why.
    fn expiry(&mut self) -> Option<Expiry> {
        self.session.check_expiry(self.now).err()
    }
}

fn name(who: &str) -> ClientName {
    // `bob/a` is the client a of bob; without a name it is everybody's own.
    let (identity, which) = who.split_once('/').unwrap_or(("", who));
    let mut tag = [0; 16];
    tag[..identity.len()].copy_from_slice(identity.as_bytes());
    let identity = IdentityTag::new(tag);
    if which.starts_with("plain") {
        ClientName::plain(identity)
    } else {
        ClientName::named(identity, ClientId::parse(&which.repeat(16)[..16]).unwrap())
    }
}

fn epoch() -> WireId {
    Epoch::new(7, 1).token()
}

/// A cursor of the session's epoch.
fn at(received: u64) -> Claim {
    Claim::Cursor { epoch: epoch(), received: Position::new(received), attachment: None }
}

/// The same with the attachment number of the last hello.
fn at_n(received: u64, attachment: u64) -> Claim {
    Claim::Cursor {
        epoch: epoch(),
        received: Position::new(received),
        attachment: Some(AttachmentNumber::new(attachment)),
    }
}

/// A frame as one line.
fn line(frame: &Frame) -> String {
    match frame {
        Frame::Data(message) => message.as_text().unwrap_or("binary").to_owned(),
        Frame::Ping(payload) => {
            assert_eq!(payload[0], b'S');
            format!("ping @{}", u64::from_be_bytes(payload[9..].try_into().unwrap()))
        }
        Frame::Close(close) => format!("close {} {}", close.code, close.reason),
        Frame::Control(text) => {
            let Ok(Inbound::Control(control)) = wire::decode_server_text(text.clone()) else {
                panic!("a control frame that a client cannot read: {text:?}");
            };
            control_line(&control)
        }
    }
}

fn control_line(control: &ServerControl) -> String {
    let gap = |gap: &crate::Gap| {
        let to = gap.to.map_or("gone".to_owned(), |to| to.to_string());
        format!("gap {}..{to} {:?}", gap.from, gap.reason).to_lowercase()
    };
    if let Some(hello) = &control.hello {
        let received = hello.received.map_or("null".to_owned(), |received| received.to_string());
        let gap = hello.gap.as_ref().map_or(String::new(), |g| format!(" {}", gap(g)));
        let status = format!("{:?}", hello.status).to_lowercase();
        return format!("hello {status} from {} received {received}{gap}", hello.from);
    }
    if let Some(n) = control.ack {
        return format!("ack {n}");
    }
    if let Some(n) = control.hb {
        return format!("hb {n}");
    }
    if let Some(g) = &control.gap {
        return gap(g);
    }
    if let Some(position) = control.skip {
        return format!("skip {position}");
    }
    if let Some(k) = control.dropped {
        return format!("dropped {k}");
    }
    if let Some(ms) = control.retry {
        return format!("retry {ms}");
    }
    let done = control.done.as_ref().expect("the server sends one member at a time");
    format!("done {:?} {}", done.status, done.received).to_lowercase()
}

/// A client has acknowledged three messages of six; what it has is kept or not.
fn half_way(retain: Retain) -> Sim {
    let mut sim = Sim::with(|rules| rules.retention.retain = retain);
    let a = sim.fresh("a");
    sim.send_range(0..6);
    sim.out(a);
    sim.ack(a, 3);
    sim
}
