//! Every interleaving of messages for all, for one client, and of one slot, with two clients, crashes and drops.
//!
//! The states are those of the real machine. Its clients are short here: they show what a client must do about `skip`.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{
    AttachmentNumber, ClientId, Moment, Position, WireId,
    session::{
        Access, Arrival, Attach, Budget, Claim, ClientName, Covered, Epoch, Frame, IdentityTag,
        Incoming, NotSent, Reception, Rules, Session, SessionOrigin, Snapshot, Terms, Unsent,
    },
    wire::{self, ClientControl, Inbound, ServerControl},
};

const NOW: Moment = Moment::from_millis(1_000_000);
const CLIENTS: usize = 2;
const ALL: Budget = Budget { messages: usize::MAX, bytes: usize::MAX };

/// A misreading of a rule, planted between the machine and the network, in the client, or in the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// What is not for a client is not told to it.
    SkipIsNotTold,
    /// It is told, but not again on the next transport.
    SkipIsToldOnce,
    /// A skip moves the client's own position, although it has not taken what has arrived.
    SkipCountsAsTaken,
    /// A skip leads to the head, committed or not.
    SkipLeadsToTheHead,
    /// A message may leave, and replaces an older one, before it is on disk.
    UncommittedLeaves,
    /// What is for the second client is sent to the first.
    AnotherClient,
    /// A message for one client is one for all.
    EveryClient,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    exact: bool,
    sends: u8,
    cuts: u8,
    kills: u8,
    outbox: usize,
    late: Late,
}

/// Which offers arrive after their client has given them up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Late {
    None,
    /// One with a cursor, of the first client. Only its connections end: its program keeps what it has not taken.
    Cursor,
    /// The first client's first offer, which has no cursor.
    Fresh,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    All,
    Second,
    Latest,
}

/// What was said at a position, as the rules promise it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Said {
    kind: Kind,
    /// No two are equal.
    id: u64,
    replaced_by: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct Client {
    epoch: Option<WireId>,
    attachment: Option<AttachmentNumber>,
    /// Its position: what it acknowledges and offers.
    taken: u64,
    /// What its application has got.
    got: Vec<u64>,
    /// What has arrived and is not taken: which position that leads to, and the message.
    held: VecDeque<(u64, u64)>,
    /// Where the next message arrives.
    next: u64,
    /// Everything before has arrived once, or is not for it.
    expected: u64,
    link: Option<Link>,
    /// An offer that is still under way, and that it does not wait for any more.
    late: Option<Offer>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Offer {
    /// None: it has no cursor.
    epoch: Option<WireId>,
    received: u64,
    attachment: Option<AttachmentNumber>,
}

impl Offer {
    fn claim(self) -> Claim {
        match self.epoch {
            None => Claim::Fresh,
            Some(epoch) => Claim::Cursor {
                epoch,
                received: Position::new(self.received),
                attachment: self.attachment,
            },
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Link {
    number: AttachmentNumber,
    /// The position that was offered.
    offered: u64,
    down: VecDeque<Frame>,
    acked: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Disk {
    snapshot: Snapshot,
    said: Vec<Said>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct State {
    session: Session<usize>,
    clients: [Client; CLIENTS],
    said: Vec<Said>,
    /// What may leave.
    committed: u64,
    disk: Option<Disk>,
    ids: u64,
    cuts: u8,
    kills: u8,
    /// An offer may still be given up.
    may_give_up: bool,
    lives: u64,
    path: Path,
}

/// How a state was reached; states that differ in this alone are equal.
#[derive(Clone, Default, Debug)]
struct Path(Vec<Deed>);

impl PartialEq for Path {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Path {}

impl Hash for Path {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Send(Kind),
    Commit,
    Kill,
    Attach(usize),
    Deliver(usize),
    Take(usize),
    Ack(usize),
    /// A client asks for a sign of life: it is told all that it has to be told with a heartbeat.
    Ask(usize),
    Cut(usize),
    /// A client makes an offer and gives it up.
    GiveUp(usize),
    /// That offer arrives.
    Late(usize),
}

fn name(client: usize) -> ClientName {
    let id = ["aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"][client];
    // Two identities: of one, the younger client would count as the newer run of the older.
    let identity = u8::try_from(client).unwrap();
    ClientName::named(IdentityTag::new([identity; 16]), ClientId::parse(id).unwrap())
}

fn arrival(at: usize, offer: Offer) -> Arrival<usize> {
    Arrival {
        client: name(at),
        access: Access::Full,
        info: at,
        origin: SessionOrigin::Reused,
        claim: offer.claim(),
        nonce: [0; 8],
    }
}

impl Client {
    fn offer(&self) -> Offer {
        Offer { epoch: self.epoch, received: self.taken, attachment: self.attachment }
    }
}

fn is_for(said: Said, client: usize, committed: u64) -> bool {
    let is_replaced = said.replaced_by.is_some_and(|by| by < committed);
    !is_replaced && (said.kind != Kind::Second || client == 1)
}

impl State {
    fn new(bounds: Bounds, fault: Option<Fault>) -> Self {
        let mut rules = Rules::default();
        rules.attach = Attach::Share;
        rules.bounds.outbox_messages = bounds.outbox;
        rules.durable_outbox = bounds.exact;
        rules.durable_inbox = bounds.exact;
        let mut state = Self {
            session: Session::new(Arc::new(rules), Epoch::new(1, 1), NOW),
            clients: Default::default(),
            said: Vec::new(),
            committed: 0,
            disk: None,
            ids: 0,
            cuts: bounds.cuts,
            kills: bounds.kills,
            may_give_up: bounds.late == Late::Cursor,
            lives: 1,
            path: Path::default(),
        };
        // Both have a cursor from the start: one that comes back without one is sent what no client has had.
        for client in 0..CLIENTS {
            state.attach(client);
        }
        state.commit(bounds);
        state.settle(bounds, fault);
        for client in 0..CLIENTS {
            state.deliver(client, fault);
        }
        if bounds.late == Late::Fresh {
            state.clients[0].late = Some(Offer::default());
        }
        state
    }

    fn deeds(&self, bounds: Bounds) -> Vec<Deed> {
        let mut deeds = Vec::new();
        if self.ids < u64::from(bounds.sends) {
            deeds.extend([Kind::All, Kind::Second, Kind::Latest].map(Deed::Send));
        }
        if bounds.exact {
            deeds.push(Deed::Commit);
            deeds.extend((self.kills > 0).then_some(Deed::Kill));
        }
        for (at, client) in self.clients.iter().enumerate() {
            if client.late.is_some() {
                deeds.push(Deed::Late(at));
            }
            if !client.held.is_empty() {
                deeds.push(Deed::Take(at));
            }
            let Some(link) = &client.link else {
                deeds.push(Deed::Attach(at));
                if self.may_give_up && at == 0 {
                    deeds.push(Deed::GiveUp(at));
                }
                continue;
            };
            if !link.down.is_empty() {
                deeds.push(Deed::Deliver(at));
            }
            if link.acked.is_some_and(|acked| acked < client.taken.min(client.next)) {
                deeds.push(Deed::Ack(at));
            }
            if link.acked.is_some() && link.down.is_empty() {
                deeds.push(Deed::Ask(at));
            }
            if self.cuts > 0 {
                deeds.push(Deed::Cut(at));
            }
        }
        deeds
    }

    fn act(&mut self, deed: Deed, bounds: Bounds, fault: Option<Fault>) {
        self.path.0.push(deed);
        match deed {
            Deed::Send(kind) => self.send(kind, fault),
            Deed::Commit => self.commit(bounds),
            Deed::Kill => self.kill(),
            Deed::Attach(client) => self.attach(client),
            Deed::Deliver(client) => self.deliver(client, fault),
            Deed::Take(client) => self.take(client),
            Deed::Ack(client) => self.ack(client),
            Deed::Ask(client) => {
                let ask = ClientControl { ping: Some(true), ..ClientControl::default() };
                self.write_up(client, &ask);
            }
            Deed::Cut(client) => {
                self.cuts -= 1;
                self.cut(client, bounds);
            }
            Deed::GiveUp(client) => {
                self.may_give_up = false;
                self.clients[client].late = Some(self.clients[client].offer());
            }
            Deed::Late(client) => self.late(client),
        }
        self.settle(bounds, fault);
        for (at, client) in self.clients.iter().enumerate() {
            for (position, said) in (0..client.taken).zip(&self.said) {
                assert!(
                    !is_for(*said, at, self.committed) || client.got.contains(&said.id),
                    "{at} is at {} and has not got {position}, {said:?} {:?}",
                    client.taken,
                    self.path
                );
            }
        }
    }

    fn send(&mut self, kind: Kind, fault: Option<Fault>) {
        let position = self.said.len() as u64;
        let message = self.ids.to_string().into();
        let to = match (kind, fault) {
            (Kind::All | Kind::Latest, _) | (_, Some(Fault::EveryClient)) => None,
            (Kind::Second, Some(Fault::AnotherClient)) => Some(0),
            (Kind::Second, _) => Some(1),
        };
        let to = to.map(|at| self.session.addressee(name(at), |_| false).expect("it is known"));
        let slot = (kind == Kind::Latest).then(|| "slot".into());
        match self.session.send_on(message, Terms { to, slot, until: None }, NOW) {
            Ok(at) => assert_eq!(at.get(), position),
            Err(Unsent { why: NotSent::Full, .. }) => return,
            Err(error) => panic!("{error:?}"),
        }
        if kind == Kind::Latest {
            for said in self.said.iter_mut().filter(|said| said.kind == Kind::Latest) {
                said.replaced_by.get_or_insert(position);
            }
        }
        self.said.push(Said { kind, id: self.ids, replaced_by: None });
        self.ids += 1;
        if fault == Some(Fault::UncommittedLeaves) {
            let (_, covered) = self.session.snapshot(false);
            self.session.handle_committed(&covered, NOW);
            self.committed = self.said.len() as u64;
        }
    }

    fn commit(&mut self, bounds: Bounds) {
        if !bounds.exact {
            return;
        }
        let (snapshot, covered): (Snapshot, Covered) = self.session.snapshot(false);
        self.session.handle_committed(&covered, NOW);
        self.disk = Some(Disk { snapshot, said: self.said.clone() });
        self.committed = self.said.len() as u64;
    }

    fn kill(&mut self) {
        self.kills -= 1;
        self.lives += 1;
        let disk = self.disk.clone().expect("committed at the start");
        let rules = Arc::clone(self.session.rules());
        let at = |of| (0..CLIENTS).find(|at| name(*at) == of).unwrap();
        let age = Duration::ZERO;
        self.session = Session::restore(rules, disk.snapshot, false, self.lives, age, NOW, at);
        let (snapshot, covered) = self.session.snapshot(false);
        self.session.handle_committed(&covered, NOW);
        self.disk = Some(Disk { snapshot, said: disk.said.clone() });
        self.said = disk.said;
        self.committed = self.said.len() as u64;
        for client in &mut self.clients {
            let head = self.said.len() as u64;
            assert!(client.taken <= head, "at {}, and the record ends at {head}", client.taken);
            client.link = None;
            client.held.clear();
            client.expected = client.taken;
        }
    }

    fn attach(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let offer = client.offer();
        let session = WireId::parse("s").unwrap();
        let arrival = arrival(at, offer);
        let attached = self.session.attach(arrival, &session, NOW).expect("all may share");
        assert!(
            attached.gap.is_none(),
            "nothing was dropped: {:?}, {at} at {}",
            attached.gap,
            client.taken
        );
        let (number, offered) = (attached.number, offer.received);
        client.link = Some(Link { number, offered, down: VecDeque::new(), acked: None });
    }

    /// An offer arrives that its client has given up. Whatever it is told, nobody hears it; and the client's present
    /// transport ends.
    fn late(&mut self, at: usize) {
        let offer = self.clients[at].late.take().expect("under way");
        let session = WireId::parse("s").unwrap();
        let Ok(attached) = self.session.attach(arrival(at, offer), &session, NOW) else {
            return;
        };
        if let Some(link) = self.clients[at].link.take() {
            self.session.detach(link.number, NOW);
        }
        self.session.poll_transmit(attached.number, ALL, NOW, &mut Vec::new());
        self.session.detach(attached.number, NOW);
    }

    fn cut(&mut self, at: usize, bounds: Bounds) {
        let client = &mut self.clients[at];
        if bounds.late == Late::None {
            // What is not taken is gone with the program.
            client.held.clear();
            client.expected = client.taken;
        }
        let link = client.link.take().expect("attached");
        self.session.detach(link.number, NOW);
    }

    fn deliver(&mut self, at: usize, fault: Option<Fault>) {
        let client = &mut self.clients[at];
        let link = client.link.as_mut().expect("attached");
        match link.down.pop_front().expect("there") {
            Frame::Data(message) => {
                let id = message.as_text().unwrap().parse().unwrap();
                let said = self.said[usize::try_from(client.next).unwrap()];
                assert_eq!(said.id, id, "{at} is told another position than {}", client.next);
                assert!(said.kind != Kind::Second || at == 1, "{id} is not for {at}");
                client.next += 1;
                if client.next > client.expected {
                    assert!(!client.got.contains(&id), "{at} gets {id} twice");
                    client.expected = client.next;
                    client.held.push_back((client.next, id));
                }
            }
            Frame::Control(text) => {
                let Ok(Inbound::Control(control)) = wire::decode_server_text(text) else {
                    panic!("no control frame");
                };
                assert!(control.gap.is_none(), "nothing was dropped");
                if let Some(hello) = &control.hello {
                    assert!(control.skip.is_none(), "never in one object");
                    let from = hello.from.get();
                    assert!(client.epoch.is_none() || from == link.offered, "{from}");
                    (client.epoch, client.attachment) = (Some(hello.epoch), Some(hello.attachment));
                    client.next = from;
                    client.taken = client.taken.max(from);
                    client.expected = client.expected.max(from);
                    self.ack(at);
                } else if let Some(to) = control.skip.map(Position::get) {
                    assert!(to > client.next, "no news: {to}");
                    assert!(to <= self.committed, "{to} may not leave yet");
                    client.next = to;
                    if to <= client.expected {
                        return;
                    }
                    client.expected = to;
                    match client.held.back_mut() {
                        Some((reaches, _)) if fault != Some(Fault::SkipCountsAsTaken) => {
                            *reaches = to;
                        }
                        _ => client.taken = to,
                    }
                }
            }
            Frame::Ping(_) => {}
            Frame::Close(close) => panic!("closed: {close:?}"),
        }
    }

    fn take(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let (reaches, id) = client.held.pop_front().expect("held");
        client.taken = client.taken.max(reaches);
        client.got.push(id);
    }

    fn ack(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let position = client.taken.min(client.next);
        client.link.as_mut().expect("attached").acked = Some(position);
        let ack = ClientControl { ack: Some(Position::new(position)), ..ClientControl::default() };
        self.write_up(at, &ack);
    }

    fn write_up(&mut self, at: usize, control: &ClientControl) {
        let number = self.clients[at].link.as_ref().expect("attached").number;
        let frame = Incoming::Text(control.encode());
        let reception = self.session.handle_frame(number, frame, NOW);
        assert!(matches!(reception, Reception::Done));
    }

    /// The server writes what it has.
    fn settle(&mut self, bounds: Bounds, fault: Option<Fault>) {
        if !bounds.exact {
            self.committed = self.said.len() as u64;
        }
        let _ = self.session.take_wake();
        let head = self.session.head();
        for client in &mut self.clients {
            let Some(link) = &mut client.link else {
                continue;
            };
            let mut frames = Vec::new();
            self.session.poll_transmit(link.number, ALL, NOW, &mut frames);
            let mut greets = false;
            for mut frame in frames {
                if let Frame::Control(text) = &mut frame
                    && let Ok(Inbound::Control(mut control)) =
                        wire::decode_server_text(text.clone())
                {
                    greets |= control.hello.is_some();
                    // What a heartbeat says has nothing to do with this.
                    if control.hb.is_some() || control.ack.is_some() {
                        continue;
                    }
                    match fault {
                        Some(Fault::SkipIsNotTold) if control.skip.is_some() => continue,
                        Some(Fault::SkipIsToldOnce) if control.skip.is_some() && greets => continue,
                        Some(Fault::SkipLeadsToTheHead) if control.skip.is_some() => {
                            control =
                                ServerControl { skip: Some(head), ..ServerControl::default() };
                        }
                        _ => {}
                    }
                    *text = control.encode();
                }
                link.down.push_back(frame);
            }
        }
    }

    /// From here on nothing is lost: each client gets everything that is for it, and nothing is kept.
    fn calm(mut self, bounds: Bounds, fault: Option<Fault>) {
        for round in 0.. {
            assert!(round < 50, "no rest");
            let before = self.clone();
            for at in 0..CLIENTS {
                if self.clients[at].link.is_none() {
                    self.act(Deed::Attach(at), bounds, fault);
                }
            }
            while let Some(deed) = self.deeds(bounds).into_iter().find(|deed| {
                matches!(deed, Deed::Deliver(_) | Deed::Take(_) | Deed::Ack(_) | Deed::Late(_))
            }) {
                self.act(deed, bounds, fault);
            }
            if bounds.exact {
                self.act(Deed::Commit, bounds, fault);
            }
            for at in 0..CLIENTS {
                if self.clients[at].link.as_ref().is_some_and(|link| link.acked.is_some()) {
                    self.act(Deed::Ask(at), bounds, fault);
                }
            }
            if self.clients == before.clients && self.session == before.session {
                break;
            }
        }
        for (at, client) in self.clients.iter().enumerate() {
            assert_eq!(client.taken, self.said.len() as u64, "{at} is not at the head");
        }
        assert_eq!(self.session.outbox_messages(), 0, "kept for nobody");
    }
}

/// Visits every state; returns how many there are.
fn explore(bounds: Bounds, fault: Option<Fault>) -> usize {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([State::new(bounds, fault)]);
    while let Some(state) = queue.pop_front() {
        let mut is_last = true;
        for deed in state.deeds(bounds) {
            let mut next = state.clone();
            next.act(deed, bounds, fault);
            if seen.insert(hasher.hash_one(&next)) {
                is_last = false;
                queue.push_back(next);
            }
        }
        // A state with others behind it is calm if they are: but not every one of them says so.
        if is_last || seen.len().is_multiple_of(16) {
            state.calm(bounds, fault);
        }
    }
    seen.len()
}

const STATE: Bounds =
    Bounds { exact: false, sends: 3, cuts: 1, kills: 0, outbox: 8, late: Late::None };
/// Room for two messages alone: what is kept for nobody would make every send wait.
const FULL: Bounds = Bounds { sends: 4, cuts: 0, outbox: 2, ..STATE };
const EXACT: Bounds = Bounds { exact: true, sends: 2, cuts: 0, kills: 1, ..STATE };
const CUT: Bounds = Bounds { exact: true, sends: 2, ..STATE };
/// An offer that its client has given up arrives late.
const LATE: Bounds = Bounds { sends: 2, late: Late::Cursor, ..STATE };
const LATE_FRESH: Bounds = Bounds { sends: 2, late: Late::Fresh, ..STATE };

#[test]
fn every_client_gets_what_is_for_it_and_is_past_the_rest() {
    for bounds in [STATE, FULL, EXACT, CUT, LATE, LATE_FRESH] {
        println!("{} states within {bounds:?}", explore(bounds, None));
    }
}

#[test]
fn every_planted_fault_about_skips_is_found() {
    for (fault, bounds) in [
        (Fault::SkipIsNotTold, STATE),
        (Fault::SkipIsToldOnce, STATE),
        (Fault::SkipCountsAsTaken, STATE),
        (Fault::SkipLeadsToTheHead, EXACT),
        (Fault::UncommittedLeaves, EXACT),
        (Fault::AnotherClient, STATE),
        (Fault::EveryClient, STATE),
    ] {
        let found = catch_unwind(AssertUnwindSafe(move || explore(bounds, Some(fault)))).is_err();
        println!("{fault:?} found: {found}");
        assert!(found, "{fault:?} is not found");
    }
}
