//! Two copies of one client that share a pipe: its name, the client's id, `n` and counts.
//!
//! Each copy sends its own messages. A copy lets go of a message only if the handler has taken *that* message, and in the
//! end each message was taken, or its application was told that it is in doubt.

use std::{
    collections::{HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use session_resume_proto::{
    AttachmentNumber, Message, WireId,
    client::{Action, Client, Config, Event, Random, TransportNumber},
    pipe::{
        self, Answer, Arrival, ClientConfig, Form, Get, GetStep, Lane, Nonce, Outgoing,
        OutgoingKind, Post, Posted, Request, RequestId, Server, Tag, Token,
    },
    session::{
        self, Attach, Budget, Claim, ClientName, Epoch, Frame, IdentityTag, Reception, Rules,
        Session, SessionOrigin,
    },
    wire::{self, Inbound, Offer, PipeFrame, decode_server_text},
};

use crate::world::{DUE, NOW, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// A client that is answered 409 comes back with its cursor.
    ReturnsOnConflict,
    /// Acknowledgements are not held until an answer covers them.
    AcksAreNotHeld,
    /// Any post below the next is taken for the last one again.
    NoDigest,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Pair {
    copies: Vec<Copied>,
    session: Session<u32>,
    pipes: Vec<End>,
    /// What the handler has taken.
    log: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Copied {
    who: u8,
    program: Client,
    transport: TransportNumber,
    pipe: pipe::Client,
    attempts: u8,
    /// Messages to send.
    to_send: VecDeque<String>,
    /// Sent, and neither let go of nor told to be in doubt.
    kept: VecDeque<String>,
    doubted: Vec<String>,
    post: Under,
    /// A get that is under way.
    get: Option<Outgoing>,
    /// How often it may come back.
    returns: u8,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Under {
    Nothing,
    Way(Outgoing),
    Answered(Answer),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct End {
    token: Token,
    machine: Server,
    number: AttachmentNumber,
    next: u64,
    gone: bool,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Send(usize),
    Post(usize),
    PostArrives(usize),
    PostAnswered(usize),
    Get(usize),
    Return(usize),
}

impl Pair {
    fn new(common: usize, own: usize, returns: u8) -> Self {
        let mut rules = Rules::default();
        rules.attach = Attach::Share;
        // Half the window is one message: every acknowledgement is due at once.
        rules.bounds.inbox_messages = 2;
        let mut session = Session::new(Arc::new(rules), Epoch::new(1, 1), NOW);
        session.start_handler(NOW);
        let mut program = Client::new(Config::default(), &Random::default(), NOW);
        let Some(Action::Connect { transport, offer }) = program.poll_action() else {
            panic!("a client connects")
        };
        let first = Copied {
            who: 0,
            program,
            transport,
            pipe: end(0, 0, &offer),
            attempts: 0,
            to_send: VecDeque::new(),
            kept: VecDeque::new(),
            doubted: Vec::new(),
            post: Under::Nothing,
            get: None,
            returns,
        };
        let mut pair = Self { copies: vec![first], session, pipes: Vec::new(), log: Vec::new() };
        // Until the hello is answered.
        pair.act(0, None);
        pair.get(0, None);
        pair.get(0, None);
        let mut original = pair.copies.remove(0);
        for n in 0..common {
            original.send(format!("x{n}"));
        }
        for who in 0..2u8 {
            let mut copy = original.clone();
            copy.who = who;
            copy.to_send =
                (0..own).map(|n| format!("{}{n}", ["a", "b"][usize::from(who)])).collect();
            pair.copies.push(copy);
        }
        for who in 0..2 {
            pair.act(who, None);
        }
        pair
    }

    fn deeds(&self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for (who, copy) in self.copies.iter().enumerate() {
            if !copy.to_send.is_empty() {
                deeds.push(Deed::Send(who));
            }
            match &copy.post {
                Under::Nothing if copy.next_request(Lane::Post).is_some() => {
                    deeds.push(Deed::Post(who));
                }
                Under::Nothing => {}
                Under::Way(_) => deeds.push(Deed::PostArrives(who)),
                Under::Answered(_) => deeds.push(Deed::PostAnswered(who)),
            }
            if let Some(outgoing) = copy.next_request(Lane::Get)
                && self.has_news(&outgoing)
            {
                deeds.push(Deed::Get(who));
            }
            if copy.pipe.is_over() && copy.program.poll_timeout().is_some() && copy.returns > 0 {
                deeds.push(Deed::Return(who));
            }
        }
        deeds
    }

    /// Whether a get would be answered at once.
    fn has_news(&self, outgoing: &Outgoing) -> bool {
        let OutgoingKind::Get { token, down, .. } = &outgoing.kind else {
            return true;
        };
        let Some(end) = self.pipes.iter().find(|end| end.token.is(token)) else {
            return true;
        };
        let mut machine = end.machine.clone();
        let get = Get { down: *down, form: Form::Poll, wait: None, ack: None };
        machine.handle_get(RequestId(0), get, NOW).is_err()
            || machine.poll_get(RequestId(0), NOW) != GetStep::Wait
    }

    fn do_deed(&mut self, deed: Deed, fault: Option<Fault>) {
        let who = match deed {
            Deed::Send(who) => {
                let copy = &mut self.copies[who];
                let text = copy.to_send.pop_front().expect("there is one");
                copy.send(text);
                who
            }
            Deed::Post(who) => {
                let copy = &mut self.copies[who];
                let outgoing = copy.issue(Lane::Post);
                copy.post = Under::Way(outgoing);
                who
            }
            Deed::PostArrives(who) => {
                self.post_arrives(who, fault);
                who
            }
            Deed::PostAnswered(who) => {
                let copy = &mut self.copies[who];
                let post = std::mem::replace(&mut copy.post, Under::Nothing);
                let Under::Answered(answer) = post else { panic!("not answered") };
                copy.pipe.handle_answer(Lane::Post, &answer, NOW);
                who
            }
            Deed::Get(who) => {
                self.get(who, fault);
                who
            }
            Deed::Return(who) => {
                let copy = &mut self.copies[who];
                copy.returns -= 1;
                copy.program.reconnect_now(NOW);
                who
            }
        };
        self.act(who, fault);
    }

    fn post_arrives(&mut self, who: usize, fault: Option<Fault>) {
        let Under::Way(outgoing) = &self.copies[who].post else { panic!("not under way") };
        let OutgoingKind::Post { token, up, down } = outgoing.kind else { panic!("no post") };
        let post = Post::read(up, down, outgoing.body.clone()).expect("frames");
        let frames = wire::decode_frames(outgoing.body.clone()).expect("frames").len() as u64;
        let end = self.pipes.iter_mut().find(|end| end.token.is(&token)).expect("it is there");
        let answer = match end.machine.handle_post(&post, NOW) {
            Posted::Taken { next } => {
                end.next = next;
                Answer { up: Some(next), ..head(204, token) }
            }
            Posted::Full => panic!("there is room"),
            Posted::Refused(_) if fault == Some(Fault::NoDigest) && up < end.next => {
                Answer { up: Some(up + frames), ..head(204, token) }
            }
            Posted::Refused(refusal) => head(refusal.status(), token),
        };
        self.copies[who].post = Under::Answered(answer);
        self.serve();
    }

    /// A get is sent and answered.
    fn get(&mut self, who: usize, fault: Option<Fault>) {
        let outgoing = self.copies[who].issue(Lane::Get);
        let headers = outgoing.headers();
        let find = |name: &str| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        let request = Request::read(outgoing.method(), find).expect("a client knows how to ask");
        let (at, get) = match request {
            Request::Open { nonce, form, wait } => {
                let at = self.open(nonce, find("session-resume-offer").unwrap());
                (at, Get { down: 0, form, wait, ack: None })
            }
            Request::Get { token, down, form, wait, ack } => {
                let at = self.pipes.iter().position(|end| end.token.is(&token)).unwrap();
                (at, Get { down, form, wait, ack })
            }
            Request::Post { .. } => panic!("no get"),
        };
        self.serve();
        let end = &mut self.pipes[at];
        let asked = end.machine.handle_get(RequestId(0), get, NOW);
        let step = match &asked {
            Ok(()) => end.machine.poll_get(RequestId(0), NOW),
            Err(_) => GetStep::End,
        };
        end.machine.handle_hang_up(RequestId(0), NOW);
        let frames = match step {
            GetStep::Frames(frames) => frames,
            GetStep::Wait | GetStep::End | GetStep::Flow => Vec::new(),
        };
        let token = end.token;
        self.serve();
        let copy = &mut self.copies[who];
        if let Err(refusal) = asked {
            copy.pipe.handle_answer(Lane::Get, &head(refusal.status(), token), NOW);
            return;
        }
        let answer = Answer { down: Some(get.down), ..head(200, token) };
        if !copy.pipe.handle_answer(Lane::Get, &answer, NOW) {
            return;
        }
        copy.pipe.handle_body(&wire::encode_frames(&frames), NOW);
        copy.pipe.handle_end(NOW);
        if fault == Some(Fault::AcksAreNotHeld) {
            for frame in frames {
                if let PipeFrame::Text(text) = frame
                    && let Ok(Inbound::Control(control)) = decode_server_text(text.clone())
                    && control.ack.is_some()
                {
                    copy.program.handle_frame(copy.transport, Message::Text(text), NOW);
                }
            }
        }
    }

    fn open(&mut self, nonce: Nonce, offer: &str) -> usize {
        let offer = Offer::parse(offer.split(',').map(str::trim)).expect("an offer");
        let client = *offer.client().expect("a name");
        let claim = match offer {
            Offer::Plain => Claim::Plain,
            Offer::PlainAt(at) => Claim::PlainAt(at),
            Offer::Fresh { .. } => Claim::Fresh,
            Offer::Resume { cursor, attachment, .. } => {
                Claim::Cursor { epoch: cursor.epoch, received: cursor.received, attachment }
            }
        };
        let arrival = session::Arrival {
            client: ClientName::named(IdentityTag::new([1; 16]), client),
            access: session::Access::Full,
            info: 0,
            origin: SessionOrigin::Reused,
            claim,
            nonce: [0; 8],
        };
        let mut machine = Server::new(World::settings(), NOW);
        let number = match self.session.attach(arrival, &WireId::parse("s").unwrap(), NOW) {
            Ok(attached) => attached.number,
            Err(refusal) => {
                machine.push(Frame::Close(refusal.close)).expect("it is new");
                AttachmentNumber::new(0)
            }
        };
        let tag = Tag::parse(&format!("t{}", self.pipes.len())).unwrap();
        let token = Token { nonce, tag };
        self.pipes.push(End { token, machine, number, next: 0, gone: false });
        self.pipes.len() - 1
    }

    fn serve(&mut self) {
        for end in self.pipes.iter_mut().filter(|end| !end.gone) {
            while let Some(incoming) = end.machine.poll_incoming() {
                let frame = match incoming {
                    pipe::Incoming::Text(text) => session::Incoming::Text(text),
                    pipe::Incoming::Binary(bytes) => session::Incoming::Binary(bytes),
                    pipe::Incoming::Ping => session::Incoming::Ping,
                    pipe::Incoming::Pong(payload) => session::Incoming::Pong(payload),
                    pipe::Incoming::Close(_) => {
                        self.session.detach(end.number, NOW);
                        end.machine.handle_dropped(NOW);
                        end.gone = true;
                        break;
                    }
                    pipe::Incoming::Broken(breach) => panic!("{breach:?}"),
                };
                let reception = self.session.handle_frame(end.number, frame, NOW);
                assert!(matches!(reception, Reception::Done));
            }
            let log = &mut self.log;
            while let Some(event) = self.session.poll_receive(NOW) {
                if let session::Event::Message { message, .. } = event {
                    let text = message.as_text().unwrap().to_owned();
                    assert!(text.starts_with('x') || !log.contains(&text), "{text} is taken twice");
                    log.push(text);
                }
            }
        }
        for end in self.pipes.iter_mut().filter(|end| !end.gone) {
            let mut frames = Vec::new();
            let all = Budget { messages: usize::MAX, bytes: usize::MAX };
            self.session.poll_transmit(end.number, all, NOW, &mut frames);
            for frame in frames {
                let _ = end.machine.push(frame);
            }
        }
    }

    /// Does what a copy's machines ask for, and checks what it lets go of.
    fn act(&mut self, who: usize, fault: Option<Fault>) {
        let log = self.log.clone();
        let copy = &mut self.copies[who];
        loop {
            let mut rest = true;
            while let Some(arrival) = copy.pipe.poll_arrival() {
                rest = false;
                let t = copy.transport;
                match arrival {
                    Arrival::Message(message) => copy.program.handle_frame(t, message, NOW),
                    Arrival::Alive => copy.program.handle_alive(t, NOW),
                    Arrival::Closed(close) => copy.program.handle_closed(t, close),
                    Arrival::Copied if fault == Some(Fault::ReturnsOnConflict) => {
                        copy.program.handle_closed(t, None);
                    }
                    Arrival::Copied => copy.program.handle_copied(t),
                    other => panic!("{other:?}"),
                }
            }
            while let Some(event) = copy.program.take(NOW) {
                rest = false;
                if let Event::InDoubt(messages) = event {
                    for message in messages {
                        let first = copy.kept.pop_front();
                        assert_eq!(first.as_deref(), message.as_text());
                        copy.doubted.extend(first);
                    }
                }
            }
            while let Some(action) = copy.program.poll_action() {
                rest = false;
                match action {
                    Action::Randomize => {
                        let byte = 1 + copy.who * 50 + copy.attempts;
                        copy.program.handle_random(&[byte; 32], NOW);
                    }
                    Action::Connect { transport, offer } => {
                        copy.attempts += 1;
                        copy.transport = transport;
                        copy.pipe = end(1 + copy.who, copy.attempts, &offer);
                        (copy.post, copy.get) = (Under::Nothing, None);
                    }
                    Action::Close { .. } => {
                        copy.pipe.abandon();
                        (copy.post, copy.get) = (Under::Nothing, None);
                    }
                    other => panic!("{other:?}"),
                }
            }
            while copy.pipe.is_ready()
                && let Some((_, message)) = copy.program.poll_transmit(NOW)
            {
                rest = false;
                copy.pipe.send(message);
            }
            while let Some(lane) = copy.pipe.poll_abort() {
                match lane {
                    Lane::Get => copy.get = None,
                    Lane::Post => copy.post = Under::Nothing,
                }
            }
            if rest {
                break;
            }
        }
        while copy.kept.len() > copy.program.unacknowledged() {
            let message = copy.kept.pop_front().expect("there is one");
            assert!(log.contains(&message), "let go of {message}, which nobody has taken");
        }
    }

    /// Nothing moves any more: what was not taken was told.
    fn check_end(&self) {
        for copy in &self.copies {
            // One that may not come back any more is not judged.
            if copy.returns == 0 && copy.pipe.is_over() {
                continue;
            }
            for message in &copy.kept {
                assert!(
                    self.log.contains(message),
                    "{message} is neither taken nor told: {self:#?}"
                );
            }
        }
    }
}

impl Copied {
    fn send(&mut self, text: String) {
        self.program.send(Message::from(&*text)).expect("there is room");
        self.kept.push_back(text);
    }

    fn next_request(&self, lane: Lane) -> Option<Outgoing> {
        if lane == Lane::Get && self.get.is_some() {
            return self.get.clone();
        }
        let mut pipe = self.pipe.clone();
        std::iter::from_fn(|| pipe.poll_request(DUE)).find(|outgoing| outgoing.lane() == lane)
    }

    /// Sends the request of this lane. A get that would only wait stays under way.
    fn issue(&mut self, lane: Lane) -> Outgoing {
        if lane == Lane::Get
            && let Some(get) = self.get.take()
        {
            return get;
        }
        loop {
            let outgoing = self.pipe.poll_request(DUE).expect("there is one");
            if outgoing.lane() == lane {
                return outgoing;
            }
            self.get = Some(outgoing);
        }
    }
}

fn end(who: u8, attempt: u8, offer: &Offer) -> pipe::Client {
    let config = ClientConfig { form: Form::Poll, limit: 1000, random: 0 };
    let nonce = Nonce::parse(&format!("{who:011}{attempt:011}")).unwrap();
    pipe::Client::new(config, nonce, format!("session-resume.v1, {offer}"), NOW)
}

fn head(status: u16, token: Token) -> Answer {
    Answer { status, pipe: Some(token), down: None, up: None, close: None, retry_after: None }
}

fn explore(first: Pair, fault: Option<Fault>) -> usize {
    let hash = |pair: &Pair| {
        let mut hasher = DefaultHasher::new();
        pair.hash(&mut hasher);
        hasher.finish()
    };
    let mut seen = HashSet::from([hash(&first)]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        let deeds = state.deeds();
        if deeds.is_empty() {
            state.check_end();
        }
        for deed in deeds {
            let mut next = state.clone();
            next.do_deed(deed, fault);
            if seen.insert(hash(&next)) {
                queue.push_back(next);
            }
        }
    }
    seen.len()
}

#[test]
fn a_copy_learns_that_it_is_one_and_loses_nothing() {
    for (common, own, returns) in [(0, 1, 2), (1, 1, 2), (0, 2, 1)] {
        let states = explore(Pair::new(common, own, returns), None);
        println!("{common} in common, {own} of each: {states} states");
        assert!(states > 50);
    }
}

#[test]
fn every_planted_fault_is_found() {
    for fault in [Fault::ReturnsOnConflict, Fault::AcksAreNotHeld, Fault::NoDigest] {
        let search = || explore(Pair::new(0, 1, 2), Some(fault));
        let found = catch_unwind(AssertUnwindSafe(search)).is_err();
        println!("{fault:?} found: {found}");
        assert!(found, "{fault:?} is not found");
    }
}
