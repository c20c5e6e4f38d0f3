//! Every interleaving of a few messages, one of which kills the process: it ends, and nothing else does.
//!
//! The server's machine and its snapshots are the real ones. The client is as short as the rules allow. The server
//! sends no data. An earlier model of the rule found a hole in each of the planted faults.

use std::{
    collections::{HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{
    AttachmentNumber, ClientId, Moment, Position, WireId,
    session::{
        Access, Arrival, Budget, Claim, ClientName, Epoch, Event, Frame, IdentityTag, Incoming,
        Rules, Session, SessionOrigin, Snapshot,
    },
    wire::{self, Inbound, ServerControl},
};

const NOW: Moment = Moment::from_millis(1_000_000);
/// The message that kills.
const POISON: u8 = 0;
/// It, and two innocent ones.
const MESSAGES: u8 = 3;
/// The number of messages that may be under way. The server has room for one that was accepted before a fresh offer, too.
const WINDOW: u64 = 2;
/// A message ends after this many deaths with it in hand. One more death may go unnoticed: as long as there was no
/// crash, nothing is written before a message is handed over.
const NOTED: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// The drop is told from memory alone.
    DropIsNotInTheRecord,
    /// The message is known by its number alone.
    NumberAlone,
    /// No record names what is in hand.
    NothingIsNamed,
    /// A count is told before the drop that it covers.
    CountBeforeDrop,
    /// A message is dropped one death too early.
    DroppedEarly,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Attaches, kills that no message is the cause of, fresh offers, and cuts.
    attaches: u8,
    kills: u8,
    fresh: u8,
    cuts: u8,
}

/// The client: `base <= next <= sent`, and its messages from `base` on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Client {
    queue: VecDeque<u8>,
    base: u64,
    next: u64,
    sent: u64,
    epoch: Option<WireId>,
    attachment: AttachmentNumber,
    /// Told to the application.
    dropped: Vec<u8>,
    in_doubt: Vec<u8>,
    /// The numbers that it was told and has not let go of.
    noted: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Process {
    session: Session<()>,
    /// What has arrived and the handler has not taken, as the client knows it.
    inbox: VecDeque<u8>,
    in_hand: Option<u8>,
    applied: Vec<u8>,
    marked: bool,
}

#[derive(Clone, Debug)]
struct State {
    disk: Snapshot,
    /// What the state on disk has applied.
    applied: Vec<u8>,
    process: Option<Process>,
    client: Client,
    /// The transport, and what is under way on it.
    link: Option<(AttachmentNumber, VecDeque<Frame>)>,
    bounds: [u8; 4],
    /// Deaths with each message in hand.
    deaths: [u32; MESSAGES as usize],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Restart,
    Attach,
    AttachFresh,
    Say,
    Down,
    Cut,
    Receive,
    /// The saver names what is in hand in the record.
    Mark,
    Save,
    Kill,
}

fn rules() -> Arc<Rules> {
    let mut rules = Rules::default();
    rules.durable_inbox = true;
    // Half of it is one message: every ack is due at once, so no clock is needed.
    rules.bounds.inbox_messages = 3;
    Arc::new(rules)
}

fn name() -> ClientName {
    ClientName::named(IdentityTag::new([1; 16]), ClientId::parse(&"a".repeat(16)).unwrap())
}

/// Changes what a snapshot says, as JSON.
fn planted(snapshot: &Snapshot, change: impl Fn(&mut serde_json::Value)) -> Snapshot {
    let mut json = serde_json::to_value(snapshot).unwrap();
    json["clients"].as_array_mut().unwrap().iter_mut().for_each(change);
    serde_json::from_value(json).unwrap()
}

impl State {
    fn new(bounds: Bounds) -> Self {
        let mut session = Session::new(rules(), Epoch::new(1, 1), NOW);
        session.start_handler(NOW);
        let (disk, covered) = session.snapshot(false);
        session.handle_committed(&covered, NOW);
        let process = Process {
            session,
            inbox: VecDeque::new(),
            in_hand: None,
            applied: Vec::new(),
            marked: false,
        };
        Self {
            disk,
            applied: Vec::new(),
            process: Some(process),
            client: Client {
                queue: (0..MESSAGES).collect(),
                base: 0,
                next: 0,
                sent: 0,
                epoch: None,
                attachment: AttachmentNumber::default(),
                dropped: Vec::new(),
                in_doubt: Vec::new(),
                noted: Vec::new(),
            },
            link: None,
            bounds: [bounds.attaches, bounds.kills, bounds.fresh, bounds.cuts],
            deaths: [0; MESSAGES as usize],
        }
    }

    fn deeds(&self) -> Vec<Deed> {
        let [attaches, kills, fresh, cuts] = self.bounds;
        let Some(process) = &self.process else {
            return vec![Deed::Restart];
        };
        let client = &self.client;
        let mut deeds = Vec::new();
        if process.in_hand.is_none() {
            deeds.push(Deed::Save);
        } else if !process.marked && process.session.in_hand().is_some() {
            deeds.push(Deed::Mark);
        }
        deeds.push(Deed::Receive);
        match &self.link {
            None if attaches > 0 => {
                deeds.push(Deed::Attach);
                if fresh > 0 && client.epoch.is_some() {
                    deeds.push(Deed::AttachFresh);
                }
            }
            None => {}
            Some((_, down)) => {
                if !down.is_empty() {
                    deeds.push(Deed::Down);
                } else if client.next - client.base < WINDOW.min(client.queue.len() as u64) {
                    deeds.push(Deed::Say);
                }
                if cuts > 0 && attaches > 0 {
                    deeds.push(Deed::Cut);
                }
            }
        }
        if kills > 0 && attaches > 0 {
            deeds.push(Deed::Kill);
        }
        deeds
    }

    fn act(&mut self, deed: Deed, fault: Option<Fault>) {
        match deed {
            Deed::Restart => self.restart(),
            Deed::Attach => self.attach(false),
            Deed::AttachFresh => {
                self.bounds[2] -= 1;
                self.attach(true);
            }
            Deed::Say => self.say(fault),
            Deed::Down => {
                let frame = self.link.as_mut().and_then(|(_, down)| down.pop_front()).unwrap();
                self.told(frame);
            }
            Deed::Cut => {
                self.bounds[3] -= 1;
                let (number, _) = self.link.take().unwrap();
                let process = self.process.as_mut().unwrap();
                process.session.detach(number, NOW);
            }
            Deed::Receive => self.receive(),
            Deed::Mark => {
                let process = self.process.as_mut().unwrap();
                process.marked = true;
                if fault != Some(Fault::NothingIsNamed) {
                    let in_hand = process.session.in_hand().unwrap();
                    self.disk.accuse(&in_hand);
                }
            }
            Deed::Save => self.save(fault),
            Deed::Kill => {
                self.bounds[1] -= 1;
                self.die();
            }
        }
        self.settle(fault);
    }

    fn die(&mut self) {
        let process = self.process.take().unwrap();
        if let Some(message) = process.in_hand {
            self.deaths[usize::from(message)] += 1;
        }
        assert!(self.deaths[usize::from(POISON)] <= NOTED + 1 + 2, "it kills on and on");
        self.link = None;
    }

    fn restart(&mut self) {
        let age = Duration::ZERO;
        // Each death makes it larger.
        let life = 100 + u64::from(self.deaths.iter().sum::<u32>()) - u64::from(self.bounds[1]);
        let disk = self.disk.clone();
        let mut session = Session::restore(rules(), disk, false, life, age, NOW, |_| ());
        session.start_handler(NOW);
        // The claim.
        let (disk, covered) = session.snapshot(false);
        self.disk = disk;
        session.handle_committed(&covered, NOW);
        self.process = Some(Process {
            session,
            inbox: VecDeque::new(),
            in_hand: None,
            applied: self.applied.clone(),
            marked: false,
        });
    }

    fn attach(&mut self, fresh: bool) {
        self.bounds[0] -= 1;
        let process = self.process.as_mut().unwrap();
        let client = &mut self.client;
        let claim = match client.epoch {
            Some(epoch) if !fresh => Claim::Cursor {
                epoch,
                received: Position::ZERO,
                attachment: Some(client.attachment),
            },
            _ => Claim::Fresh,
        };
        let offered = matches!(claim, Claim::Cursor { .. });
        let arrival = Arrival {
            client: name(),
            access: Access::Full,
            info: (),
            origin: SessionOrigin::Reused,
            claim,
            nonce: [0; 8],
        };
        let session = WireId::parse("s").unwrap();
        let attached = process.session.attach(arrival, &session, NOW).expect("an honest client");
        let mut frames = Vec::new();
        let all = Budget { messages: usize::MAX, bytes: usize::MAX };
        process.session.poll_transmit(attached.number, all, NOW, &mut frames);
        let mut frames = VecDeque::from(frames);
        let hello = match frames.pop_front() {
            Some(Frame::Control(text)) => match wire::decode_server_text(text) {
                Ok(Inbound::Control(ServerControl { hello: Some(hello), .. })) => hello,
                other => panic!("no hello: {other:?}"),
            },
            other => panic!("no hello: {other:?}"),
        };
        let received = hello.received.expect("nobody was pushed out");
        if !offered {
            let sent = usize::try_from(client.sent - client.base).unwrap();
            let told = std::mem::take(&mut client.noted);
            for (number, message) in (client.base..).zip(client.queue.drain(..sent)) {
                if !told.contains(&number) {
                    client.in_doubt.push(message);
                }
            }
            (client.base, client.sent) = (received, received);
        } else if received < client.base {
            // Acknowledged messages were taken back: what is kept has other numbers now.
            (client.base, client.sent) = (received, received);
            client.noted.clear();
        }
        assert!(received <= client.sent, "more than was sent");
        client.next = received;
        client.epoch = Some(hello.epoch);
        client.attachment = hello.attachment;
        self.link = Some((attached.number, frames));
        let ack = format!("\u{1}{{\"ack\":{}}}", hello.from);
        let _ = process.session.handle_frame(attached.number, Incoming::Text(ack.into()), NOW);
    }

    fn say(&mut self, fault: Option<Fault>) {
        let client = &mut self.client;
        let message = client.queue[usize::try_from(client.next - client.base).unwrap()];
        client.next += 1;
        client.sent = client.sent.max(client.next);
        let text = match fault {
            // All look alike.
            Some(Fault::NumberAlone) => "m".to_owned(),
            _ => message.to_string(),
        };
        let process = self.process.as_mut().unwrap();
        let (number, _) = self.link.as_ref().unwrap();
        let _ = process.session.handle_frame(*number, Incoming::Text(text.into()), NOW);
        process.inbox.push_back(message);
    }

    /// The client is told something.
    fn told(&mut self, frame: Frame) {
        let client = &mut self.client;
        let Frame::Control(text) = frame else {
            assert!(matches!(frame, Frame::Close(_)), "{frame:?}");
            return;
        };
        let Ok(Inbound::Control(control)) = wire::decode_server_text(text) else {
            panic!("no control frame");
        };
        if let Some(k) = control.dropped {
            assert!(k < client.next, "{k} was never sent");
            if k >= client.base && !client.noted.contains(&k) {
                let message = client.queue[usize::try_from(k - client.base).unwrap()];
                client.noted.push(k);
                client.dropped.push(message);
                assert!(!self.applied.contains(&message), "{message} was handled");
                let deaths = self.deaths[usize::from(message)];
                assert!(deaths >= NOTED, "{message} was dropped after {deaths} deaths");
            }
        }
        let done = control.done.as_ref().map(|done| done.received);
        if let Some(n) = control.ack.or(control.hb).or(done) {
            assert!(n <= client.next, "{n} acknowledged, not written");
            while client.base < n {
                let message = client.queue.pop_front().unwrap();
                let known = self.applied.contains(&message) || client.noted.contains(&client.base);
                assert!(known, "lets go of {message}: neither handled nor told to be dropped");
                client.base += 1;
            }
            client.noted.retain(|&k| k >= client.base);
        }
    }

    fn receive(&mut self) {
        let process = self.process.as_mut().unwrap();
        if let Some(message) = process.in_hand.take() {
            assert!(!process.applied.contains(&message), "{message} was applied twice");
            process.applied.push(message);
            process.marked = false;
        }
        let before = process.session.inbox_messages();
        let event = process.session.poll_receive(NOW);
        match event {
            Some(Event::Message { .. }) => {
                let message = process.inbox.pop_front().unwrap();
                process.in_hand = Some(message);
                if message == POISON {
                    self.die();
                }
            }
            Some(_) | None => {
                if process.session.inbox_messages() < before {
                    // Dropped.
                    process.inbox.pop_front();
                }
            }
        }
    }

    fn save(&mut self, fault: Option<Fault>) {
        let process = self.process.as_mut().unwrap();
        let (disk, covered) = process.session.snapshot(false);
        self.disk = match fault {
            Some(Fault::DropIsNotInTheRecord) => {
                planted(&disk, |client| client["dropped"] = serde_json::json!([]))
            }
            Some(Fault::NothingIsNamed) => {
                planted(&disk, |client| client["suspect"] = serde_json::Value::Null)
            }
            Some(Fault::DroppedEarly) => planted(&disk, |client| {
                if let Some(deaths) = client["suspect"].get_mut("deaths") {
                    *deaths = (deaths.as_u64().unwrap() + 1).into();
                }
            }),
            _ => disk,
        };
        self.applied.clone_from(&process.applied);
        process.session.handle_committed(&covered, NOW);
    }

    /// What needs no choice.
    fn settle(&mut self, fault: Option<Fault>) {
        let Some(process) = &mut self.process else {
            return;
        };
        if process.session.take_wake().trial {
            process.session.grant_turn();
            let _ = process.session.take_wake();
        }
        let Some((number, down)) = &mut self.link else {
            return;
        };
        let mut frames = Vec::new();
        let all = Budget { messages: usize::MAX, bytes: usize::MAX };
        process.session.poll_transmit(*number, all, NOW, &mut frames);
        if fault == Some(Fault::CountBeforeDrop) {
            frames.reverse();
        }
        down.extend(frames);
    }

    /// From here on nothing else goes wrong: the innocent ones are handled, and the poison ends.
    fn calm(mut self, fault: Option<Fault>) {
        self.bounds = [40, 0, 0, 0];
        for _ in 0..400 {
            let ended =
                self.process.as_ref().is_some_and(|process| process.session.ended().is_some());
            if self.client.queue.is_empty() || ended {
                for message in 0..MESSAGES {
                    let client = &self.client;
                    let handled = self.applied.contains(&message);
                    let told =
                        client.dropped.contains(&message) || client.in_doubt.contains(&message);
                    assert!(handled || told || ended, "{message} is lost");
                }
                return;
            }
            let deeds = self.deeds();
            let first = [Deed::Restart, Deed::Down, Deed::Attach, Deed::Say];
            let deed = first.into_iter().find(|deed| deeds.contains(deed));
            if let Some(deed) = deed {
                self.act(deed, fault);
                continue;
            }
            self.act(Deed::Receive, fault);
            if self.process.as_ref().is_some_and(|process| process.in_hand.is_none()) {
                self.act(Deed::Save, fault);
            }
        }
        panic!("no rest: {self:#?}");
    }

    /// What tells one state from another.
    fn key(&self) -> impl std::hash::Hash + Eq + use<> {
        let disk = serde_json::to_string(&self.disk).unwrap();
        let link = self.link.as_ref().map(|(number, down)| (*number, down.clone()));
        (
            disk,
            self.applied.clone(),
            self.process.clone(),
            self.client.clone(),
            link,
            self.bounds,
            self.deaths,
        )
    }
}

fn explore(bounds: Bounds, fault: Option<Fault>) -> usize {
    let first = State::new(bounds);
    let mut seen = HashSet::from([first.key()]);
    let mut queue = VecDeque::from([(first, Vec::new())]);
    while let Some((state, path)) = queue.pop_front() {
        for deed in state.deeds() {
            let mut path: Vec<Deed> = path.clone();
            path.push(deed);
            let mut next = state.clone();
            let checked = catch_unwind(AssertUnwindSafe(|| {
                next.act(deed, fault);
                next.clone().calm(fault);
            }));
            if let Err(cause) = checked {
                println!("{path:?}");
                std::panic::resume_unwind(cause);
            }
            if seen.insert(next.key()) {
                queue.push_back((next, path));
            }
        }
    }
    seen.len()
}

/// Kills by the poison alone need no budget.
const KILLS: Bounds = Bounds { attaches: 6, kills: 1, fresh: 0, cuts: 1 };
const FRESH: Bounds = Bounds { attaches: 6, kills: 0, fresh: 1, cuts: 1 };

#[test]
fn a_message_that_kills_ends_and_nothing_else_does() {
    for bounds in [KILLS, FRESH] {
        println!("{} states within {bounds:?}", explore(bounds, None));
    }
}

#[test]
fn every_planted_fault_about_poison_is_found() {
    for (fault, bounds) in [
        (Fault::DropIsNotInTheRecord, KILLS),
        (Fault::NumberAlone, FRESH),
        (Fault::NothingIsNamed, KILLS),
        (Fault::CountBeforeDrop, KILLS),
        (Fault::DroppedEarly, KILLS),
    ] {
        let found = catch_unwind(AssertUnwindSafe(|| explore(bounds, Some(fault)))).is_err();
        println!("{fault:?} found: {found}");
        assert!(found, "{fault:?} is not found");
    }
}
