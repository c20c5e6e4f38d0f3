//! The whole: programs, links, a server, and what goes wrong.

use std::{collections::BTreeMap, time::Duration};

use session_resume_proto::{
    AttachmentNumber, ClientId, Message, Moment,
    client::Action,
    session::{Arrival, Budget, Claim, ClientName, Frame, Incoming, Origin, Reception},
    wire::{self, Close, Inbound, Offer, OutcomeStatus},
};

use crate::{
    ledger::Ledger,
    link::{Down, Link, Pipe, ServerEnd, Up},
    program::Program,
    rng::Rng,
    scenario::{Kind, Scenario},
    server::{Drain, Handler, Live, Server},
};

/// What the handler is told of one that is no program.
pub(crate) const STRANGER: u32 = u32::MAX;
/// Frames that a connection holds before its writer has to wait.
const PIPE: usize = 24;
/// How long the server waits for the answer to its close.
const LINGER: Duration = Duration::from_secs(5);
/// How long the calm may take: many heartbeats, and the longest waits between them.
const CALM: u64 = 1_800_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) rng: Rng,
    pub(crate) now: Moment,
    pub(crate) server: Server,
    pub(crate) programs: Vec<Program>,
    pub(crate) links: Vec<Link>,
    pub(crate) ledger: Ledger,
    names: BTreeMap<ClientId, u32>,
    last_link: u64,
    /// When something goes wrong next; `None`: the network is calm.
    pub(crate) trouble: Option<Moment>,
    pub(crate) steps: u64,
    tells: bool,
}

impl World {
    pub(crate) fn new(kind: Kind, seed: u64, tells: bool) -> Self {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::new(kind, &mut rng);
        if tells {
            eprintln!("{scenario:#?}");
        }
        let now = Moment::from_millis(1_000_000);
        let programs =
            (0..scenario.programs).map(|n| Program::new(n, &scenario, &mut rng, now)).collect();
        Self {
            scenario,
            rng,
            now,
            server: Server::default(),
            programs,
            links: Vec::new(),
            ledger: Ledger::default(),
            names: BTreeMap::new(),
            last_link: 0,
            trouble: Some(now),
            steps: 0,
            tells,
        }
    }

    /// Lives one history to its end and checks it; returns how many steps it took.
    pub(crate) fn live(mut self) -> u64 {
        while self.steps < self.scenario.steps {
            self.step();
        }
        self.calm_down();
        let end = Moment::from_micros(self.now.as_micros() + CALM * 1000);
        while !self.is_settled() {
            self.step();
            assert!(self.now < end, "not settled after half an hour of calm: {self:#?}");
        }
        self.check_all();
        self.steps
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{:?} {}", self.now, what());
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.settle();
        let due = self.due().expect("somebody always has a timer");
        self.now = self.now.max(due);
        self.fire();
    }

    /// Does all that can be done without time passing.
    fn settle(&mut self) {
        loop {
            let before = self.steps;
            for at in 0..self.programs.len() {
                self.act(at);
            }
            let by = self.server.process;
            if let Some(live) = &mut self.server.live {
                self.steps +=
                    live.handle(&self.scenario, &mut self.ledger, by, &mut self.rng, self.now);
            }
            let fails = self.trouble.is_some() && self.rng.percent(self.scenario.store_fails);
            self.server.save(&self.scenario, &self.ledger, fails, &mut self.rng, self.now);
            self.pump();
            self.server.bury();
            if self.steps == before {
                break;
            }
        }
        self.links.retain(|link| !link.is_over());
    }

    fn due(&self) -> Option<Moment> {
        let links = self.links.iter().flat_map(|link| {
            let reads = link.stuck.is_none() && !matches!(link.server_end, ServerEnd::Gone);
            let timer = link
                .turn()
                .and_then(|number| {
                    self.server.live.as_ref()?.machine.poll_transport_timeout(number)
                })
                .map(|at| at.max(link.timer_from));
            [link.up.due().filter(|_| reads), link.down.due().filter(|_| link.client_end), timer]
        });
        let programs = self.programs.iter().filter(|program| !program.dead).flat_map(|program| {
            [program.client.poll_timeout(), Some(program.acts), program.returns]
        });
        let due = links.chain(programs).chain([self.trouble]).flatten().chain(self.server.due());
        due.min()
    }

    fn fire(&mut self) {
        for at in 0..self.links.len() {
            self.deliver_up(at);
        }
        for at in 0..self.links.len() {
            self.deliver_down(at);
            self.time_out(at);
        }
        for at in 0..self.programs.len() {
            self.application(at);
        }
        self.process();
        if self.trouble.is_some_and(|at| at <= self.now) {
            self.trouble = Some(self.now + self.rng.millis(0..2 * self.scenario.peace));
            self.make_trouble();
        }
    }

    // Programs.

    /// Does what the client machine asks for.
    fn act(&mut self, at: usize) {
        if self.programs[at].dead {
            return;
        }
        while let Some(action) = self.programs[at].client.poll_action() {
            self.steps += 1;
            match action {
                Action::Randomize => {
                    let random = self.rng.bytes();
                    self.programs[at].client.handle_random(self.now, &random);
                }
                Action::Connect { transport, offer } => {
                    self.leave(at, false);
                    let info = u32::try_from(at).expect("few");
                    let id = *offer.client().expect("clients name themselves");
                    self.names.insert(id, info);
                    self.connect(Some((at, transport)), id, info, offer);
                }
                Action::Close { transport, close } => {
                    let code = close.as_ref().map_or(1000, |close| close.code);
                    assert_ne!(code, Close::CODE_PROTOCOL_ERROR, "the server broke the protocol");
                    if self.link_of(at).is_some_and(|l| l.program == Some((at, transport))) {
                        self.leave(at, close.is_some());
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        loop {
            let Some(link) = self
                .links
                .iter()
                .position(|l| l.client_end && l.program.is_some_and(|(of, _)| of == at))
            else {
                return;
            };
            if self.links[link].up.len() >= PIPE {
                return;
            }
            let Some((transport, message)) = self.programs[at].client.poll_transmit(self.now)
            else {
                return;
            };
            assert_eq!(self.links[link].program, Some((at, transport)));
            self.steps += 1;
            let due = self.now + Scenario::delay(&mut self.rng);
            self.links[link].up.push(due, Up::Frame(incoming(message)));
        }
    }

    fn link_of(&mut self, program: usize) -> Option<&mut Link> {
        self.links
            .iter_mut()
            .find(|l| l.client_end && l.program.is_some_and(|(of, _)| of == program))
    }

    fn leave(&mut self, program: usize, says_close: bool) {
        let due = self.now + Scenario::delay(&mut self.rng);
        if let Some(link) = self.link_of(program) {
            link.leave(due, says_close);
        }
    }

    pub(crate) fn connect(
        &mut self,
        program: Option<(usize, session_resume_proto::client::TransportNumber)>,
        id: ClientId,
        info: u32,
        offer: Offer,
    ) {
        self.last_link += 1;
        let mut link = Link {
            id: self.last_link,
            program,
            name: ClientName::Named(id),
            info,
            offer,
            client_end: program.is_some(),
            server_end: ServerEnd::Coming,
            up: Pipe::new(),
            down: Pipe::new(),
            stuck: None,
            pump: false,
            lingers: None,
            timer_from: self.now,
        };
        self.tell(|| format!("link {} of {info}: {}", link.id, link.offer));
        let mut delay = Scenario::delay(&mut self.rng);
        // Whom strangers have pushed out is not known any more: its first offer, late, would be believed.
        let may_be_late = self.trouble.is_some() && self.scenario.kind != Kind::Strangers;
        if may_be_late && self.rng.percent(4) {
            // Later, perhaps, than the client waits for it.
            delay = self.rng.millis(0..40_000);
        }
        link.up.push(self.now + delay, Up::Offer);
        self.links.push(link);
    }

    fn application(&mut self, at: usize) {
        let calm = self.trouble.is_none();
        let Self { programs, server, scenario, ledger, rng, now, .. } = self;
        let program = &mut programs[at];
        if program.dead {
            return;
        }
        if program.client.poll_timeout().is_some_and(|due| due <= *now) {
            program.client.handle_timeout(*now);
        }
        if program.client.is_offline() {
            let returns = *program.returns.get_or_insert_with(|| *now + rng.millis(0..20_000));
            if returns <= *now {
                program.client.reconnect_now(*now);
                program.returns = None;
            }
        } else {
            program.returns = None;
        }
        if program.acts > *now {
            return;
        }
        let busy = if rng.percent(90) { 0..400 } else { 0..10_000 };
        program.acts = *now + rng.millis(busy);
        if !calm && rng.percent(70) {
            let most = if rng.percent(90) { 3 } else { 30 };
            let count = rng.below(most);
            program.send(count, scenario);
        }
        let live = server.live.as_ref();
        let base = |stream| live.filter(|live| live.stream == stream).map(Live::base);
        let count = if calm { usize::MAX } else { rng.index(12) };
        program.take(count, *now, scenario, ledger, base);
    }

    fn deliver_down(&mut self, at: usize) {
        while self.links[at].client_end {
            let link = &mut self.links[at];
            let Some(down) = link.down.pop(self.now) else {
                return;
            };
            link.pump = true;
            link.timer_from = self.now;
            self.steps += 1;
            let Some((program, transport)) = link.program else {
                continue;
            };
            if self.tells {
                eprintln!("{:?} link {} to {program}: {down:?}", self.now, link.id);
            }
            let client = &mut self.programs[program].client;
            let back = self.now + Scenario::delay(&mut self.rng);
            match down {
                Down::Frame(Frame::Data(message)) => {
                    client.handle_frame(self.now, transport, message);
                }
                Down::Frame(Frame::Control(text)) => {
                    let control = wire::decode_server_text(text.clone());
                    if let Ok(Inbound::Control(control)) = control
                        && let Some(hello) = control.hello
                    {
                        let stream = self.ledger.stream(hello.session, hello.epoch);
                        self.programs[program].note_hello(&hello, stream);
                    }
                    let client = &mut self.programs[program].client;
                    client.handle_frame(self.now, transport, Message::Text(text));
                }
                Down::Frame(Frame::Ping(payload)) => {
                    client.handle_alive(self.now, transport);
                    link.up.push(back, Up::Frame(Incoming::Pong(payload.to_vec().into())));
                }
                Down::Frame(Frame::Close(close)) => {
                    link.leave(back, true);
                    client.handle_closed(transport, Some(close));
                }
                Down::Refused => {
                    link.leave(back, false);
                    let cause = session_resume_proto::client::Cause::Unreachable("refused".into());
                    client.handle_connect_failed(transport, cause);
                }
                Down::Eof => {
                    link.leave(back, false);
                    client.handle_closed(transport, None);
                }
            }
            // What it does now may be to close this very link.
            self.act(program);
        }
    }

    // The server.

    fn deliver_up(&mut self, at: usize) {
        if matches!(self.links[at].server_end, ServerEnd::Gone) {
            return;
        }
        while self.links[at].stuck.is_none() {
            let Some(up) = self.links[at].up.pop(self.now) else {
                return;
            };
            self.steps += 1;
            if self.tells {
                eprintln!("{:?} link {} up: {up:?}", self.now, self.links[at].id);
            }
            match up {
                Up::Offer => self.arrive(at),
                Up::Frame(frame) => self.frame(at, frame),
                Up::Close => self.closed(at, true),
                Up::Eof => self.closed(at, false),
            }
        }
    }

    fn frame(&mut self, at: usize, frame: Incoming) {
        let link = &mut self.links[at];
        let (Some(number), Some(live)) = (link.turn(), &mut self.server.live) else {
            return;
        };
        live.touch();
        link.pump = true;
        match live.machine.handle_frame(number, frame, self.now) {
            Reception::Done => {}
            Reception::Full(frame) => link.stuck = Some(frame),
            Reception::State(_) => panic!("nobody offers a state"),
        }
    }

    fn closed(&mut self, at: usize, answered: bool) {
        let link = &mut self.links[at];
        if let Some(live) = &mut self.server.live {
            match link.server_end {
                ServerEnd::Turn(number) => {
                    if answered {
                        live.machine.handle_close_answered(number);
                    }
                    live.machine.detach(number, self.now);
                    live.touch();
                }
                ServerEnd::Refused(Some((name, seen))) if answered => {
                    live.machine.handle_refusal_answered(name, seen);
                }
                ServerEnd::Refused(_) | ServerEnd::Coming | ServerEnd::Gone => {}
            }
        }
        link.server_end = ServerEnd::Gone;
        link.lingers = None;
        link.down.push(self.now, Down::Eof);
    }

    fn time_out(&mut self, at: usize) {
        if self.links[at].lingers.is_some_and(|until| until <= self.now) {
            return self.closed(at, false);
        }
        let link = &mut self.links[at];
        if let (Some(number), Some(live)) = (link.turn(), &mut self.server.live)
            && link.timer_from <= self.now
            && live.machine.poll_transport_timeout(number).is_some_and(|due| due <= self.now)
        {
            live.machine.handle_transport_timeout(number, self.now);
            link.pump = true;
            // If it cannot write what is due, other deadlines still matter.
            link.timer_from = Moment::from_micros(self.now.as_micros() + 500_000);
        }
    }

    /// Lets the session write to, and read again from, whoever has room.
    fn pump(&mut self) {
        loop {
            let Some(live) = &mut self.server.live else {
                return;
            };
            if live.wakes_transports() {
                for link in &mut self.links {
                    link.pump = true;
                }
            }
            let mut idle = true;
            for link in &mut self.links {
                let Some(number) = link.turn() else {
                    continue;
                };
                if !std::mem::take(&mut link.pump) {
                    continue;
                }
                if let Some(frame) = link.stuck.take()
                    && let Reception::Full(frame) =
                        live.machine.handle_frame(number, frame, self.now)
                {
                    link.stuck = Some(frame);
                }
                // Where nobody is, the kernel gives up some time and takes all.
                if link.client_end && link.down.len() >= PIPE {
                    continue;
                }
                let mut frames = Vec::new();
                let budget = Budget { messages: 1 + self.rng.index(6), bytes: 400 };
                live.machine.poll_transmit(number, self.now, budget, &mut frames);
                link.pump = !frames.is_empty();
                idle &= frames.is_empty();
                if !frames.is_empty() {
                    link.timer_from = self.now;
                }
                if let Some(Frame::Close(_)) = frames.last() {
                    link.lingers = Some(self.now + LINGER);
                }
                for frame in frames {
                    self.steps += 1;
                    let due = self.now + Scenario::delay(&mut self.rng);
                    link.down.push(due, Down::Frame(frame));
                }
            }
            if idle {
                return;
            }
        }
    }

    fn arrive(&mut self, at: usize) {
        let now = self.now;
        if self.server.starts.is_some() {
            self.links[at].server_end = ServerEnd::Gone;
            self.links[at].down.push(now, Down::Refused);
            return;
        }
        let offer = self.links[at].offer.clone();
        if let Offer::Resume { client, cursor, .. } = &offer
            && let Some((id, record)) =
                self.server.ended.iter().find(|(id, _)| *id == cursor.session)
        {
            let claim = claim(&offer, Some(*id));
            let rules = &self.scenario.rules;
            let farewell = record.farewell(client, id, &claim, OutcomeStatus::Overflow, rules);
            return self.refuse(at, farewell.expect("the cursor is its own"), None);
        }
        let ended = |live: &Live| live.machine.ended().is_some();
        if self.server.live.as_ref().is_some_and(ended) {
            // Its last words are still under way: whoever arrives now waits for it to be gone.
            let later = now + self.rng.millis(50..100);
            return self.links[at].up.put_back(later, Up::Offer);
        }
        let names = &self.names;
        let name = |name| match name {
            ClientName::Named(id) => names.get(&id).copied().unwrap_or(STRANGER),
            ClientName::Plain => STRANGER,
        };
        let origin = self.server.session(
            &self.scenario,
            &mut self.ledger,
            self.programs.len(),
            name,
            &mut self.rng,
            now,
        );
        self.check_what_left(origin);
        let nonce = self.rng.bytes();
        let Some(live) = &mut self.server.live else {
            return;
        };
        live.touch();
        let link = &mut self.links[at];
        let arrival = Arrival {
            client: link.name,
            info: link.info,
            origin,
            claim: claim(&offer, Some(live.id)),
            nonce,
        };
        let seen = live.machine.newest_attachment();
        let told = self.server.drain.is_some().then_some(Close::RESTARTING);
        let id = live.id;
        let attached = match told {
            Some(close) => Err(close),
            None => live.machine.attach(arrival, &id, now).map_err(|refusal| refusal.close),
        };
        match attached {
            Ok(number) => {
                link.server_end = ServerEnd::Turn(number);
                link.pump = true;
                link.timer_from = now;
            }
            Err(close) => {
                if link.program.is_some() {
                    assert_ne!(close.code, Close::CODE_PROTOCOL_ERROR, "{offer}");
                }
                let superseded = (close == Close::SUPERSEDED).then_some((link.name, seen));
                self.refuse(at, vec![Frame::Close(close)], superseded);
            }
        }
    }

    fn refuse(
        &mut self,
        at: usize,
        frames: Vec<Frame>,
        superseded: Option<(ClientName, AttachmentNumber)>,
    ) {
        let due = self.now + Scenario::delay(&mut self.rng);
        self.links[at].server_end = ServerEnd::Refused(superseded);
        self.links[at].lingers = Some(self.now + LINGER);
        for frame in frames {
            self.links[at].down.push(due, Down::Frame(frame));
        }
    }

    /// Nothing has left the server that a crash could take back.
    fn check_what_left(&self, origin: Origin) {
        if origin != Origin::Restored {
            return;
        }
        for program in &self.programs {
            if let Some(place) = program.place {
                assert!(
                    place.expects <= self.ledger.head(place.stream),
                    "{} has {place:?} of what was not committed",
                    program.index
                );
            }
        }
    }

    fn process(&mut self) {
        let now = self.now;
        if self.server.starts.is_some_and(|at| at <= now) {
            self.server.starts = None;
        }
        match self.server.drain {
            Some(Drain::Leaving(at)) if at <= now => self.kill(true),
            Some(Drain::Freezing(at)) if at <= now => {
                if let Some(live) = &mut self.server.live {
                    live.machine.freeze();
                    live.machine.close_transports(&Close::RESTARTING, || None, now);
                }
                self.server.drain = Some(Drain::Leaving(now + self.rng.millis(0..1000)));
            }
            Some(_) | None => {}
        }
        let by = self.server.process;
        if self.trouble.is_some()
            && let Some(live) = &mut self.server.live
            && self.rng.percent(3)
            && live.machine.ended().is_none()
        {
            // Some task beside the handler.
            let _ = live.send(&mut self.ledger, by, now);
        }
    }

    /// The process is gone; `told`: the kernel tells the peers.
    pub(crate) fn kill(&mut self, told: bool) {
        self.tell(|| format!("the process dies, told: {told}"));
        let starts = self.now + self.rng.millis(0..5000);
        let reached = self.rng.percent(50);
        self.server.die(reached, starts);
        for link in &mut self.links {
            if matches!(link.server_end, ServerEnd::Coming) {
                continue;
            }
            link.server_end = ServerEnd::Gone;
            link.lingers = None;
            link.stuck = None;
            let keep = self.rng.index(link.down.len() + 1);
            let news = told.then(|| (self.now + Scenario::delay(&mut self.rng), Down::Eof));
            link.down.cut(keep, news);
        }
    }

    // The end.

    fn is_settled(&self) -> bool {
        if self.programs.iter().any(|program| !program.dead && program.client.has_events()) {
            return false;
        }
        let Some(live) = &self.server.live else {
            return !self.programs.iter().any(Program::is_live);
        };
        let quiet = live.handler == Handler::Waiting
            && live.machine.inbox_messages() == 0
            && self.server.is_saved()
            && self.links.iter().all(|link| link.stuck.is_none());
        quiet
            && self.programs.iter().filter(|program| program.is_live()).all(|program| {
                program.client.unacknowledged() == 0
                    && !program.client.is_offline()
                    && program.place.is_some_and(|place| {
                        place.stream == live.stream
                            && place.expects == self.ledger.head(live.stream)
                    })
            })
    }

    fn check_all(&self) {
        let handled = self.server.handled(self.programs.len());
        for program in &self.programs {
            let (next, skipped) = (handled.next[program.index], &handled.skipped[program.index]);
            assert!(next <= program.made);
            if program.dead {
                continue;
            }
            for k in 0..program.made {
                let arrived = k < next && !skipped.contains(&k);
                let told = program.in_doubt.contains(&k) || program.untaken.contains(&k);
                assert!(arrived || told, "{k} of {} is lost", program.index);
            }
        }
    }
}

fn claim(offer: &Offer, session: Option<session_resume_proto::Token>) -> Claim {
    match offer {
        Offer::Plain => Claim::Plain,
        Offer::Fresh { .. } => Claim::Fresh,
        Offer::Resume { cursor, attachment, .. } if Some(cursor.session) == session => {
            Claim::Cursor {
                epoch: cursor.epoch,
                received: cursor.received,
                attachment: *attachment,
            }
        }
        Offer::Resume { cursor, .. } => Claim::Lost { received: cursor.received },
    }
}

pub(crate) fn incoming(message: Message) -> Incoming {
    match message {
        Message::Text(text) => Incoming::Text(text),
        Message::Binary(bytes) => Incoming::Binary(bytes),
    }
}
