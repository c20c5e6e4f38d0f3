//! The state: an engine with its replica, nodes, and one client. What each deed does to it.

use std::fmt;

use super::{
    case::{Case, Clocks, Plant},
    client::{Client, Down, HopStage, Stage, Transport, UNDER_WAY},
    engine::{Engine, LeaseReply, Reply},
    session::{Outbox, Output, Session, Snap},
};
use crate::{
    Moment,
    ownership::{
        Answer, Asks, Call, Command, Dropped, Elsewhere, Event, Fault, Found, Hop, Incarnation,
        Lease, LeaseCommand, LeaseState, Leave, Looked, Over, Ownership, Permit, Put, Rules, Stand,
        Standing, Then, Via, Visit,
    },
};

pub(super) const NODES: usize = 3;
/// Positions of an epoch at most.
pub(super) const OUT: usize = 5;
const RULES: Rules =
    Rules { lease: std::time::Duration::from_secs(8), elsewhere: Elsewhere::Relay };
/// What every event happens at, as far as a machine can tell.
const NOW: Moment = Moment::from_millis(1_000_000);
/// When everything that waits is due.
const LATER: Moment = Moment::from_millis(2_000_000);

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Up {
    Runs,
    /// SIGSTOP: its sockets are there.
    Stopped,
    Dead,
}

/// A call to the engine.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Asked {
    call: Call,
    snap: Option<Snap>,
    by: Incarnation,
    reply: Option<Reply>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Node {
    up: Up,
    link: bool,
    lease: Lease,
    ownership: Ownership,
    session: Option<Session>,
    /// What was asked; the answers come in any order.
    asked: Vec<Asked>,
    lease_asked: Option<(LeaseCommand, Option<LeaseReply>)>,
    /// A call that the engine does later: its sender has given it up.
    late: Option<Asked>,
    /// Answers that the machine has allowed.
    serves: Vec<(usize, Permit)>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct World {
    engine: Engine,
    replica: Engine,
    nodes: Vec<Node>,
    /// The client's transport, and the one that it has let go of.
    transports: [Option<Transport>; 2],
    client: Client,
    histories: u8,
    epochs: u8,
    incarnations: [u8; NODES],
    left: super::case::Budget,
    /// A failover has lost writes.
    lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    Connect(usize),
    LetGo,
    Break,
    Send,
    Read,
    HopArrives(usize),
    HopLost(usize),
    HopTold(usize),
    /// The engine does a node's call.
    Apply(usize, usize),
    ApplyLease(usize),
    ApplyLate(usize),
    LeaseEnds(usize),
    Take(usize, usize),
    TakeLease(usize),
    Lapse(usize),
    Renew(usize),
    HoldsForLong(usize),
    Timer(usize),
    Hello(usize),
    Put(usize),
    Boundary(usize),
    Receive(usize),
    Say(usize),
    Acknowledge(usize),
    // Faults, and what is possible and never needed.
    GoOn(usize),
    Restart(usize),
    Reach(usize),
    Kill(usize),
    Stop(usize),
    Cut(usize),
    CutLate(usize, usize),
    CutDone(usize, usize),
    Leave(usize),
    Overdue(usize),
    Stay(usize),
    Replicate,
    Failover,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(super) fn node_of(incarnation: Incarnation) -> usize {
    usize::try_from(incarnation.get() - 1).expect("small") % NODES
}

fn incarnation(node: usize, life: u8) -> Incarnation {
    Incarnation::new((node + 1 + usize::from(life) * NODES) as u64).expect("from 1")
}

impl Node {
    fn new(incarnation: Incarnation, case: &Case) -> Self {
        let mut lease = Lease::new(RULES.lease);
        lease.handle_connected(NOW);
        assert_eq!(lease.poll_command(NOW), Some(LeaseCommand::Draw));
        lease.handle_drawn(incarnation.get());
        assert!(matches!(lease.poll_command(NOW), Some(LeaseCommand::Enlist { .. })));
        lease.handle_enlisted(incarnation, 0, NOW);
        let mut ownership = Ownership::new(RULES);
        ownership.plant(case.machine_fault());
        Self {
            up: Up::Runs,
            link: true,
            lease,
            ownership,
            session: None,
            asked: Vec::new(),
            lease_asked: None,
            late: None,
            serves: Vec::new(),
        }
    }

    fn standing(&self) -> Standing {
        self.lease.standing(NOW)
    }

    fn runs(&self) -> bool {
        self.up == Up::Runs
    }

    fn has_nothing_on_its_way(&self) -> bool {
        self.asked.is_empty()
            && self.lease_asked.is_none()
            && !self.lease.is_resuming()
            && self
                .session
                .is_none_or(|session| !session.dirty && session.taken == session.taken_committed)
    }
}

type Done = Result<(), String>;

impl World {
    pub(super) fn new(case: &Case) -> Self {
        let first = incarnation(0, 0);
        let snap = Snap { taken: 0, epoch: 1, outbox: case.exact.then(Default::default) };
        let mut engine = Engine::new(first, snap);
        let mut nodes = Vec::new();
        for at in 0..case.nodes {
            engine.leases[at] = Some(incarnation(at, 0));
            let mut node = Node::new(incarnation(at, 0), case);
            node.lease.hold_for_long(NOW);
            nodes.push(node);
        }
        let mut world = Self {
            engine,
            replica: engine,
            nodes,
            transports: [None, None],
            client: Client::default(),
            histories: 0,
            epochs: 1,
            incarnations: [0; NODES],
            left: case.budget,
            lost: false,
        };
        world.first_session(case);
        world
    }

    /// Node 0 has the session: it is as if it had just made it.
    fn first_session(&mut self, case: &Case) {
        let by = incarnation(0, 0);
        let standing = self.nodes[0].lease.standing(NOW);
        let machine = &mut self.nodes[0].ownership;
        let visit = Visit(9);
        machine.handle_event(
            Event::Arrived { visit, asks: Asks::Open, via: Via::Client },
            standing,
            NOW,
        );
        assert_eq!(machine.poll_command(), Some(Command::Call(Call::Look { by })));
        let answer = Answer::Looked(Looked::Absent);
        machine.handle_event(Event::Answered { call: Call::Look { by }, answer }, standing, NOW);
        let call = Call::Claim { over: Over::Nothing, by };
        assert_eq!(machine.poll_command(), Some(Command::Call(call)));
        let claimed =
            crate::ownership::Claimed { fence: self.engine.fence(), version: 1, found: Found::New };
        machine.handle_event(
            Event::Answered { call, answer: Answer::Claimed(claimed) },
            standing,
            NOW,
        );
        assert_eq!(machine.poll_command(), Some(Command::Build(claimed)));
        machine.handle_event(Event::Built, standing, NOW);
        assert!(matches!(machine.poll_command(), Some(Command::Serve { .. })));
        assert_eq!(machine.poll_command(), None);
        self.histories = 1;
        self.nodes[0].session = Some(Session { history: 1, epoch: 1, ..Session::default() });
        self.canonical(case);
    }

    // What is there.

    fn good(&self) -> usize {
        self.nodes.iter().filter(|node| node.runs() && node.link).count()
    }

    pub(super) fn is_at_goal(&self, case: &Case) -> bool {
        if self.client.done {
            return true;
        }
        if case.ends {
            return self.engine.has_ended();
        }
        let Some(Transport { stage: Stage::Open, at: Some(at), .. }) = &self.transports[0] else {
            return false;
        };
        self.client.hello
            && self.client.base == case.messages
            && self.nodes[*at].session.is_some_and(|session| {
                session.at == Some(0)
                    && session.epoch == self.client.epoch
                    && session.outbox.len == self.client.got.len
            })
    }

    /// What may happen next, and whether it happens by itself sooner or later.
    pub(super) fn deeds(&self, case: &Case) -> Vec<(Deed, bool)> {
        let mut deeds = Vec::new();
        self.client_deeds(case, &mut deeds);
        for at in 0..self.nodes.len() {
            self.engine_deeds(at, case, &mut deeds);
            if self.nodes[at].runs() {
                self.node_deeds(at, case, &mut deeds);
                self.session_deeds(at, case, &mut deeds);
                self.fault_deeds(at, case, &mut deeds);
            }
        }
        if self.left.failovers > 0 && self.replica != self.engine {
            deeds.push((Deed::Replicate, true));
        }
        if self.left.failovers > 0 {
            deeds.push((Deed::Failover, false));
        }
        deeds
    }

    fn client_deeds(&self, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let client = &self.client;
        if let Some(transport) = &self.transports[0] {
            let via = &self.nodes[transport.via];
            let owner = &self.nodes[transport.at.or(transport.hop_to()).unwrap_or(transport.via)];
            let mute = |node: &Node| !node.link || node.standing().lease != LeaseState::Held;
            let silent = !owner.runs()
                || !via.runs()
                || !client.hello && (mute(owner) || mute(via))
                || transport.stage == Stage::Closed && transport.down.is_empty();
            if silent {
                deeds.push((Deed::LetGo, true));
            }
            if self.left.drops > 0 {
                deeds.push((Deed::Break, false));
            }
            if client.hello
                && transport.stage == Stage::Open
                && client.next < case.messages
                && transport.up.len() < UNDER_WAY
            {
                deeds.push((Deed::Send, true));
            }
            // What the owner has written comes, though it be stopped or gone; through a relay only while that runs.
            let passes = match transport.hop {
                HopStage::No => true,
                HopStage::Copies { .. } | HopStage::Ended => via.runs(),
                _ => false,
            };
            if !transport.down.is_empty() && passes {
                deeds.push((Deed::Read, true));
            }
        } else if !client.done {
            let up = (0..self.nodes.len()).filter(|at| self.nodes[*at].runs());
            deeds.extend(up.map(|at| (Deed::Connect(at), true)));
        }
        for (which, transport) in self.transports.iter().enumerate() {
            let Some(transport) = transport else {
                continue;
            };
            match transport.hop {
                HopStage::Sent { to } => {
                    if case.no_hops || self.nodes[to].up != Up::Runs {
                        deeds.push((Deed::HopLost(which), true));
                    } else {
                        deeds.push((Deed::HopArrives(which), true));
                    }
                }
                HopStage::There { to } if !self.nodes[to].runs() => {
                    deeds.push((Deed::HopLost(which), true));
                }
                HopStage::Misdirected
                | HopStage::Answered { .. }
                | HopStage::Lost
                | HopStage::Ended
                    if self.nodes[transport.via].runs() =>
                {
                    deeds.push((Deed::HopTold(which), true));
                }
                _ => {}
            }
        }
    }

    fn engine_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        if node.link {
            for (which, asked) in node.asked.iter().enumerate() {
                if asked.reply.is_none() {
                    deeds.push((Deed::Apply(at, which), true));
                }
            }
            if matches!(node.lease_asked, Some((_, None))) {
                deeds.push((Deed::ApplyLease(at), true));
            }
        }
        if node.late.is_some() {
            deeds.push((Deed::ApplyLate(at), false));
        }
        if self.engine.leases[at].is_some() {
            let lapsed = node.standing().lease != LeaseState::Held;
            let natural = !node.runs() || !node.link && (lapsed || case.clocks == Clocks::Wrong);
            if natural || case.clocks == Clocks::Skewed && self.left.cuts > 0 {
                deeds.push((Deed::LeaseEnds(at), natural));
            }
        }
        match node.up {
            Up::Stopped => deeds.push((Deed::GoOn(at), false)),
            Up::Dead if self.left.restarts > 0 => deeds.push((Deed::Restart(at), false)),
            Up::Runs | Up::Dead => {}
        }
        if !node.link {
            deeds.push((Deed::Reach(at), false));
        }
    }

    fn node_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        let standing = node.standing();
        for (which, asked) in node.asked.iter().enumerate() {
            if asked.reply.is_some() {
                deeds.push((Deed::Take(at, which), true));
            }
        }
        if matches!(node.lease_asked, Some((_, Some(_)))) {
            deeds.push((Deed::TakeLease(at), true));
        }
        if !node.link && standing.lease == LeaseState::Held {
            deeds.push((Deed::Lapse(at), true));
        }
        let gone = standing.incarnation != self.engine.leases[at];
        let wanted = self.engine.wanted && standing.incarnation == self.engine.fence().owner;
        let needed = standing.lease != LeaseState::Held
            || node.lease.is_resuming()
            || wanted
            || gone && case.clocks != Clocks::Right;
        if node.link && node.lease_asked.is_none() && needed {
            deeds.push((Deed::Renew(at), true));
        }
        if node.link
            && !gone
            && node.ownership.stand() == Stand::Seeking
            && !node.lease.is_held_for_long(NOW)
            && standing.lease == LeaseState::Held
        {
            deeds.push((Deed::HoldsForLong(at), true));
        }
        if node.ownership.poll_timeout().is_some_and(|due| due <= LATER) {
            deeds.push((Deed::Timer(at), true));
        }
        if !node.serves.is_empty() {
            deeds.push((Deed::Hello(at), true));
        }
    }

    fn session_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        let Some(session) = &node.session else {
            return;
        };
        let puts = node.asked.iter().any(|asked| matches!(asked.call, Call::Put(_)));
        let news = session.dirty || session.taken != session.taken_committed;
        if node.link && !puts && news && node.ownership.clone().begin_put(node.standing()).is_some()
        {
            deeds.push((Deed::Put(at), true));
        }
        if session.freezes {
            deeds.push((Deed::Boundary(at), true));
        }
        if node.ownership.may_speak(node.standing()) {
            if let Some(which) = session.at
                && let Some(transport) = &self.transports[which]
            {
                let passes = transport.via == at || which == 1 || self.nodes[transport.via].runs();
                if passes
                    && !transport.up.is_empty()
                    && transport.stage == Stage::Open
                    && !session.finished
                {
                    deeds.push((Deed::Receive(at), true));
                }
                let room = which == 1 || transport.down.len() < UNDER_WAY;
                let early = case.plants(Plant::SendEarly) || !case.exact;
                let end = if early { session.outbox.len } else { session.said_committed };
                if room && session.sent < end {
                    deeds.push((Deed::Say(at), true));
                }
                if room && session.acked < acknowledges(session, case) {
                    deeds.push((Deed::Acknowledge(at), true));
                }
            }
            if self.left.leaves > 0 && node.ownership.stand() == Stand::Serving && !session.freezes
            {
                deeds.push((if case.overdue { Deed::Overdue(at) } else { Deed::Leave(at) }, false));
            }
        }
        if case.stays && node.ownership.may_have_put_clean() {
            deeds.push((Deed::Stay(at), false));
        }
    }

    fn fault_deeds(&self, at: usize, case: &Case, deeds: &mut Vec<(Deed, bool)>) {
        let node = &self.nodes[at];
        let others = self.good() - usize::from(node.link);
        if others == 0 {
            return;
        }
        let may_fall = !case.quiet || node.has_nothing_on_its_way() && self.replica == self.engine;
        if self.left.kills > 0 && may_fall {
            deeds.push((Deed::Kill(at), false));
        }
        if self.left.stops > 0 && may_fall {
            deeds.push((Deed::Stop(at), false));
        }
        if self.left.cuts > 0 && node.link && case.clocks != Clocks::Skewed {
            deeds.push((Deed::Cut(at), false));
            for (which, asked) in node.asked.iter().enumerate() {
                if asked.reply.is_none() {
                    deeds.push((Deed::CutDone(at, which), false));
                    if case.late_calls && node.late.is_none() {
                        deeds.push((Deed::CutLate(at, which), false));
                    }
                }
            }
        }
    }

    // What happens.

    pub(super) fn act(&mut self, deed: Deed, case: &Case) -> Done {
        match deed {
            Deed::Connect(at) => self.connect(at, case)?,
            Deed::LetGo => self.let_go(case)?,
            Deed::Break => {
                self.left.drops -= 1;
                self.let_go(case)?;
            }
            Deed::Send => {
                let next = self.client.next;
                self.client.next += 1;
                self.present().up.push(next);
            }
            Deed::Read => self.read(case)?,
            Deed::HopArrives(which) => self.hop_arrives(which, case)?,
            Deed::HopLost(which) => self.hop_lost(which, case)?,
            Deed::HopTold(which) => self.hop_told(which, case)?,
            Deed::Apply(at, which) => {
                let asked = self.nodes[at].asked[which].clone();
                let reply = self.apply(&asked, case)?;
                let node = &mut self.nodes[at];
                if node.up == Up::Dead {
                    node.asked.remove(which);
                } else {
                    node.asked[which].reply = Some(reply);
                }
            }
            Deed::ApplyLease(at) => {
                let Some((command, None)) = self.nodes[at].lease_asked else {
                    unreachable!("it is asked");
                };
                let before = self.engine;
                let (reply, wrote) = self.engine.apply_lease(command, case);
                self.replica = wrote.replicate(before, self.engine, self.replica, case);
                self.nodes[at].lease_asked = Some((command, Some(reply)));
            }
            Deed::ApplyLate(at) => {
                let asked = self.nodes[at].late.take().expect("it is late");
                self.apply(&asked, case)?;
            }
            Deed::LeaseEnds(at) => {
                let lapsed = self.nodes[at].standing().lease != LeaseState::Held;
                let node = &self.nodes[at];
                let natural =
                    !node.runs() || !node.link && (lapsed || case.clocks == Clocks::Wrong);
                if !natural {
                    self.left.cuts -= 1;
                }
                if self.replica.leases[at] == self.engine.leases[at] {
                    self.replica.leases[at] = None;
                }
                self.engine.leases[at] = None;
            }
            Deed::Take(at, which) => self.take(at, which, case)?,
            Deed::TakeLease(at) => self.take_lease(at, case)?,
            Deed::Lapse(at) => {
                self.nodes[at].lease.lapse(NOW);
                self.event(at, Event::Lease, NOW, case)?;
            }
            Deed::Renew(at) => self.renew(at, case)?,
            Deed::HoldsForLong(at) => self.nodes[at].lease.hold_for_long(NOW),
            Deed::Timer(at) => self.event(at, Event::Timeout, LATER, case)?,
            Deed::Hello(at) => self.hello(at, case)?,
            Deed::Put(at) => self.put(at, case),
            Deed::Boundary(at) => {
                self.session(at).freezes = false;
                self.event(at, Event::AtBoundary, NOW, case)?;
            }
            Deed::Receive(at) => self.receive(at, case)?,
            Deed::Say(at) => self.say(at, case)?,
            Deed::Acknowledge(at) => {
                let session = self.session(at);
                let acked = acknowledges(session, case);
                session.acked = acked;
                let which = session.at.expect("it is attached");
                self.down(which, Down::Ack(acked));
            }
            Deed::GoOn(at) => {
                self.nodes[at].up = Up::Runs;
                let gone = self.nodes[at].standing().incarnation != self.engine.leases[at];
                if case.clocks != Clocks::Wrong && gone {
                    self.nodes[at].lease.lapse(NOW);
                }
                // Whatever it does first, it looks at its clock before.
                self.event(at, Event::Lease, NOW, case)?;
            }
            Deed::Restart(at) => {
                self.left.restarts -= 1;
                self.incarnations[at] += 1;
                let incarnation = incarnation(at, self.incarnations[at]);
                self.nodes[at] = Node::new(incarnation, case);
                self.engine.leases[at] = Some(incarnation);
                self.replica.leases[at] = Some(incarnation);
            }
            Deed::Reach(at) => {
                self.nodes[at].link = true;
                self.nodes[at].lease.handle_connected(NOW);
            }
            Deed::Kill(at) => self.kill(at, case)?,
            Deed::Stop(at) => {
                self.left.stops -= 1;
                self.nodes[at].up = Up::Stopped;
            }
            Deed::Cut(at) => self.cut(at),
            Deed::CutLate(at, which) => {
                self.nodes[at].late = Some(self.nodes[at].asked[which].clone());
                self.cut(at);
            }
            Deed::CutDone(at, which) => {
                let asked = self.nodes[at].asked[which].clone();
                self.apply(&asked, case)?;
                self.cut(at);
            }
            Deed::Leave(at) => {
                self.left.leaves -= 1;
                self.event(at, Event::Leave(Leave::HandOver), NOW, case)?;
            }
            Deed::Overdue(at) => {
                self.left.leaves -= 1;
                self.event(at, Event::Overdue, NOW, case)?;
            }
            Deed::Stay(at) => self.event(at, Event::Stay, NOW, case)?,
            Deed::Replicate => self.replica = self.engine,
            Deed::Failover => {
                self.left.failovers -= 1;
                self.lost |= self.engine.record != self.replica.record;
                self.engine = self.replica;
                for node in &mut self.nodes {
                    if node.up != Up::Dead {
                        node.fail_calls();
                        node.lease.handle_disconnected();
                        if node.link {
                            node.lease.handle_connected(NOW);
                        }
                    } else {
                        node.asked.clear();
                    }
                    node.late = None;
                }
            }
        }
        if self.left.failovers == 0 {
            self.replica = self.engine;
        }
        self.canonical(case);
        Ok(())
    }

    /// Moments that a machine cannot tell apart are the same moment.
    fn canonical(&mut self, _case: &Case) {
        for node in &mut self.nodes {
            node.ownership.canonical(NOW, LATER);
            node.lease.canonical(NOW);
        }
    }

    fn present(&mut self) -> &mut Transport {
        self.transports[0].as_mut().expect("the client has a transport")
    }

    fn session(&mut self, at: usize) -> &mut Session {
        self.nodes[at].session.as_mut().expect("the node has the session")
    }

    /// Tells a machine what has happened, and does what it says.
    fn event(&mut self, at: usize, event: Event, now: Moment, case: &Case) -> Done {
        let node = &mut self.nodes[at];
        let standing = node.standing();
        node.ownership.handle_event(event, standing, now);
        while let Some(command) = self.nodes[at].ownership.poll_command() {
            self.command(at, command, case)?;
        }
        Ok(())
    }

    fn command(&mut self, at: usize, command: Command, case: &Case) -> Done {
        match command {
            Command::Call(call) => self.call(at, call, None, case)?,
            Command::Build(claimed) => unreachable!("built with its answer: {claimed:?}"),
            Command::Serve { visit, permit } => {
                self.nodes[at].serves.push((usize::try_from(visit.0).unwrap(), permit));
            }
            Command::Relay { visit, to } => {
                let transport = self.transport(visit);
                transport.hop = HopStage::Sent { to: node_of(to) };
            }
            Command::Misdirected { visit, .. } => self.transport(visit).hop = HopStage::Misdirected,
            Command::Over { visit, .. } => {
                let which = usize::try_from(visit.0).unwrap();
                self.down(which, Down::Done);
                let transport = self.transport(visit);
                transport.stage = Stage::Closed;
                if transport.via != at {
                    transport.hop = HopStage::Copies { to: at };
                }
                self.event(at, Event::Left(visit), NOW, case)?;
            }
            Command::Refuse { visit, .. } => {
                let transport = self.transport(visit);
                transport.stage = Stage::Closed;
                transport.down.clear();
                transport.hop = HopStage::No;
            }
            Command::Cut(visit) => {
                let transport = self.transport(visit);
                transport.stage = Stage::Closed;
                transport.hop = HopStage::No;
                self.detach(usize::try_from(visit.0).unwrap());
            }
            Command::Silence | Command::Thaw => {
                if let Some(session) = &mut self.nodes[at].session {
                    session.freezes = false;
                }
            }
            Command::Freeze => self.session(at).freezes = true,
            Command::Save => {
                if let Some(session) = &mut self.nodes[at].session {
                    session.dirty = true;
                }
            }
            Command::CloseTransports => {
                if let Some(Session { at: Some(which), .. }) = self.nodes[at].session {
                    self.close(which);
                    self.session(at).at = None;
                }
            }
            Command::Drop(dropped) => {
                let by = self.nodes[at].standing().incarnation;
                if dropped == Dropped::Lost
                    && !self.lost
                    && by.is_some()
                    && self.engine.fence().owner == by
                {
                    return Err("P7: a handler ends although nobody else was there".into());
                }
                self.drop_session(at, dropped);
            }
            Command::Reroute { .. } | Command::Nothing(_) => unreachable!("not in these rules"),
        }
        Ok(())
    }

    fn transport(&mut self, visit: Visit) -> &mut Transport {
        let which = usize::try_from(visit.0).unwrap();
        self.transports[which].as_mut().expect("the machine forgets those that have left")
    }

    fn call(&mut self, at: usize, call: Call, snap: Option<Snap>, case: &Case) -> Done {
        if let Call::Claim { over: Over::Session(_), .. } = call
            && case.plants(Plant::HelloClaim)
        {
            self.hello_before_claim(at, case)?;
        }
        let node = &mut self.nodes[at];
        let by = node.standing().incarnation.unwrap_or(incarnation(at, self.incarnations[at]));
        if node.link {
            node.asked.push(Asked { call, snap, by, reply: None });
            return Ok(());
        }
        self.event(at, Event::Answered { call, answer: Answer::Unknown }, NOW, case)
    }

    fn apply(&mut self, asked: &Asked, case: &Case) -> Result<Reply, String> {
        let before = self.engine;
        let (reply, wrote) = self.engine.apply(asked.call, asked.snap, asked.by, case)?;
        self.replica = wrote.replicate(before, self.engine, self.replica, case);
        Ok(reply)
    }

    /// A node takes the engine's answer.
    fn take(&mut self, at: usize, which: usize, case: &Case) -> Done {
        let Asked { call, snap, reply, .. } = self.nodes[at].asked.remove(which);
        let Reply { answer, snap: stored } = reply.expect("it is answered");
        if let Call::Put(put) = call {
            self.note_put(at, put, answer, &snap.expect("a put brings bytes"));
        }
        let node = &mut self.nodes[at];
        let standing = node.standing();
        node.ownership.handle_event(Event::Answered { call, answer }, standing, NOW);
        while let Some(command) = self.nodes[at].ownership.poll_command() {
            if let Command::Build(claimed) = command {
                self.build(at, &stored.expect("a claim brings bytes"), claimed, case);
                self.event(at, Event::Built, NOW, case)?;
                if self.nodes[at].session.is_some_and(|session| session.finished) {
                    self.event(at, Event::Finished, NOW, case)?;
                }
            } else {
                self.command(at, command, case)?;
            }
        }
        Ok(())
    }

    /// What a put that has succeeded covers, if the claim under which it was made is still the present one.
    fn note_put(&mut self, at: usize, put: Put, answer: Answer, snap: &Snap) {
        let node = &mut self.nodes[at];
        let is_present = node.ownership.fence() == Some(put.fence);
        if let Some(session) = &mut node.session
            && answer == Answer::Done
            && is_present
        {
            session.taken_committed = session.taken_committed.max(snap.taken);
            if let Some(outbox) = &snap.outbox
                && snap.epoch == session.epoch
            {
                session.said_committed = session.said_committed.max(outbox.len);
            }
            session.dirty |= session.taken != snap.taken;
        }
    }

    fn build(&mut self, at: usize, snap: &Snap, claimed: crate::ownership::Claimed, case: &Case) {
        let goes_on = claimed.found == Found::Clean || case.exact;
        let session = self.restored(snap, goes_on, claimed.fence.generation, case);
        self.nodes[at].session = Some(session);
    }

    fn restored(&mut self, snap: &Snap, goes_on: bool, generation: u64, case: &Case) -> Session {
        self.histories += 1;
        let mut session = Session {
            history: self.histories,
            taken: snap.taken,
            taken_committed: snap.taken,
            finished: case.ends && snap.taken == case.messages,
            ..Session::default()
        };
        match (snap.outbox, goes_on) {
            (Some(outbox), true) => {
                session.epoch = snap.epoch;
                session.outbox = outbox;
                session.said_committed = outbox.len;
            }
            _ if case.plants(Plant::EpochNext) => session.epoch = snap.epoch + 1,
            _ if case.plants(Plant::EpochGeneration) => {
                session.epoch = u8::try_from(generation).unwrap();
            }
            _ => {
                self.epochs += 1;
                session.epoch = self.epochs;
            }
        }
        // A new epoch is worth a put.
        session.dirty = session.epoch != snap.epoch || session.finished;
        session
    }

    /// A planted fault: hello first, and then it is made true.
    fn hello_before_claim(&mut self, at: usize, case: &Case) -> Done {
        let Some(which) = (0..2).find(|which| {
            self.transports[*which].as_ref().is_some_and(|transport| {
                transport.stage == Stage::Offered
                    && transport.via == at
                    && transport.hop == HopStage::No
            })
        }) else {
            return Ok(());
        };
        let Engine { record, .. } = self.engine;
        let session = self.restored(&record.snap, case.exact, 0, case);
        self.nodes[at].session = Some(session);
        self.attach(at, which, case)
    }

    fn drop_session(&mut self, at: usize, dropped: Dropped) {
        let Some(session) = self.nodes[at].session.take() else {
            return;
        };
        let Some(which) = session.at else {
            return;
        };
        match dropped {
            Dropped::Ended if which == 0 => {
                self.down(0, Down::Done);
            }
            Dropped::Ended => self.transports[1] = None,
            Dropped::Released | Dropped::Lost | Dropped::Broken => self.close(which),
        }
    }

    /// The owner closes a transport.
    fn close(&mut self, which: usize) {
        if which == 1 {
            return self.forget_old();
        }
        self.down(which, Down::Close);
        let transport = self.present();
        transport.stage = Stage::Closed;
        transport.at = None;
    }

    /// A frame for the client; what matters is never lost behind a full queue.
    fn down(&mut self, which: usize, frame: Down) {
        // Nobody reads an old one.
        if which == 0 {
            let transport = self.present();
            if transport.down.len() == UNDER_WAY {
                transport.down.pop();
            }
            transport.down.push(frame);
        }
    }

    fn renew(&mut self, at: usize, case: &Case) -> Done {
        let life = self.incarnations[at] + 1;
        let node = &mut self.nodes[at];
        node.lease.hurry(NOW);
        while let Some(command) = node.lease.poll_command(NOW) {
            match command {
                LeaseCommand::Draw => {
                    self.incarnations[at] = life;
                    node.lease.handle_drawn(incarnation(at, life).get());
                }
                LeaseCommand::Renew(_) | LeaseCommand::Enlist { .. } => {
                    node.lease_asked = Some((command, None));
                }
                LeaseCommand::PutAgain => unreachable!("not before a renewal"),
                LeaseCommand::Reconnect | LeaseCommand::Retire(_) => unreachable!("{command:?}"),
            }
        }
        let _ = case;
        Ok(())
    }

    fn take_lease(&mut self, at: usize, case: &Case) -> Done {
        let node = &mut self.nodes[at];
        let Some((command, Some(reply))) = node.lease_asked.take() else {
            unreachable!("it is answered");
        };
        let mut wanted = false;
        match (command, reply) {
            (LeaseCommand::Renew(incarnation), LeaseReply::Renewed(renewed, wants)) => {
                node.lease.handle_renewed(incarnation, renewed, NOW);
                wanted = wants;
            }
            (LeaseCommand::Enlist { incarnation, .. }, LeaseReply::Enlisted) => {
                node.lease.handle_enlisted(incarnation, 0, NOW);
            }
            // Its connection was lost, and the lease was told.
            (_, LeaseReply::Unknown) => {}
            (command, reply) => unreachable!("{command:?}: {reply:?}"),
        }
        self.event(at, Event::Lease, NOW, case)?;
        if wanted {
            self.event(at, Event::Leave(Leave::HandOver), NOW, case)?;
        }
        if self.nodes[at].lease.take_put_again() {
            self.event(at, Event::Resumed, NOW, case)?;
        }
        Ok(())
    }

    fn put(&mut self, at: usize, case: &Case) {
        let node = &mut self.nodes[at];
        let put = node.ownership.begin_put(node.lease.standing(NOW)).expect("it may");
        let session = node.session.as_mut().expect("the node has the session");
        session.dirty = false;
        let whole = case.exact || put.then == Then::Release;
        let snap = Snap {
            taken: session.taken,
            epoch: session.epoch,
            outbox: whole.then_some(session.outbox),
        };
        let by = put.fence.owner.expect("it is owned");
        node.asked.push(Asked { call: Call::Put(put), snap: Some(snap), by, reply: None });
    }

    fn receive(&mut self, at: usize, case: &Case) -> Done {
        let which = self.session(at).at.expect("it is attached");
        let message = self.transports[which].as_mut().expect("it is there").up.remove(0);
        let session = self.session(at);
        if message != session.taken {
            let taken = session.taken;
            return Err(format!("P2: message {message} is taken by a session that has {taken}"));
        }
        session.taken += 1;
        session.outbox.push(Output { message, history: session.history });
        if case.ends && session.taken == case.messages {
            session.finished = true;
            session.freezes = false;
            self.event(at, Event::Finished, NOW, case)?;
        }
        Ok(())
    }

    fn say(&mut self, at: usize, case: &Case) -> Done {
        self.check_owner(at, "data", case)?;
        let session = self.session(at);
        let output = session.outbox.as_slice()[usize::from(session.sent)];
        session.sent += 1;
        let frame = Down::Data { output, epoch: session.epoch };
        let which = session.at.expect("it is attached");
        self.down(which, frame);
        Ok(())
    }

    fn check_owner(&self, at: usize, what: &str, case: &Case) -> Done {
        if case.one_speaks && self.nodes[at].ownership.fence() != Some(self.engine.fence()) {
            return Err(format!("P6: {what} from one who is not the owner"));
        }
        Ok(())
    }

    // Offers and hops.

    fn connect(&mut self, at: usize, case: &Case) -> Done {
        let client = &self.client;
        let cursor = client.has.then_some((client.epoch, client.got.len));
        self.transports[0] = Some(Transport::to(at, cursor));
        self.arrive(at, 0, Via::Client, case)
    }

    fn arrive(&mut self, at: usize, which: usize, via: Via, case: &Case) -> Done {
        if case.plants(Plant::RefuseFirst)
            && let Some(session) = &self.nodes[at].session
            && let Some((epoch, position)) = self.transports[which].as_ref().unwrap().cursor
            && epoch == session.epoch
            && position > session.outbox.len
        {
            return Err("P3: a client is refused for a cursor of its own session".into());
        }
        let visit = Visit(which as u64);
        self.event(at, Event::Arrived { visit, asks: Asks::Upgrade, via }, NOW, case)
    }

    fn hop_arrives(&mut self, which: usize, case: &Case) -> Done {
        let transport = self.transports[which].as_mut().expect("it is there");
        let HopStage::Sent { to } = transport.hop else {
            unreachable!("it is on its way");
        };
        transport.hop = HopStage::There { to };
        match self.nodes[to].standing().incarnation {
            // It names the incarnation that the node before has found; a later one answers for itself.
            Some(incarnation) => self.arrive(to, which, Via::Hop { to: incarnation }, case),
            None => {
                self.transport(Visit(which as u64)).hop = HopStage::Misdirected;
                Ok(())
            }
        }
    }

    fn hop_lost(&mut self, which: usize, case: &Case) -> Done {
        let transport = self.transports[which].as_mut().expect("it is there");
        if let HopStage::There { to } = transport.hop {
            self.forget(to, which, case)?;
        }
        self.transport(Visit(which as u64)).hop = HopStage::Lost;
        Ok(())
    }

    /// The node in between learns what became of its hop.
    fn hop_told(&mut self, which: usize, case: &Case) -> Done {
        let transport = self.transports[which].as_mut().expect("it is there");
        let via = transport.via;
        let visit = Visit(which as u64);
        let (is, next) = match transport.hop {
            HopStage::Misdirected => (Hop::Misdirected, HopStage::No),
            HopStage::Lost => (Hop::Unreachable, HopStage::No),
            HopStage::Answered { to } => (Hop::Answered, HopStage::Copies { to }),
            HopStage::Ended => {
                transport.silent = case.plants(Plant::Retarget);
                transport.at = None;
                if case.machine_fault() == Some(Fault::Rehello) {
                    transport.stage = Stage::Offered;
                }
                (Hop::Ended, HopStage::No)
            }
            HopStage::No
            | HopStage::Sent { .. }
            | HopStage::There { .. }
            | HopStage::Copies { .. } => {
                unreachable!("no news")
            }
        };
        transport.hop = next;
        // The second time a lease is over: then the owner is asked to hand over.
        let now =
            if case.no_hops && self.nodes[via].ownership.knows_unreachable() { LATER } else { NOW };
        self.event(via, Event::Hop { visit, is }, now, case)
    }

    fn hello(&mut self, at: usize, case: &Case) -> Done {
        let (which, permit) = self.nodes[at].serves.remove(0);
        let standing = self.nodes[at].standing();
        if self.nodes[at].ownership.permits(permit, standing) {
            self.attach(at, which, case)
        } else {
            let transport = self.transports[which].as_ref().expect("it is there");
            let via = match (transport.via == at, standing.incarnation) {
                (true, _) => Via::Client,
                (false, Some(to)) => Via::Hop { to },
                (false, None) => {
                    self.transport(Visit(which as u64)).hop = HopStage::Misdirected;
                    return Ok(());
                }
            };
            self.arrive(at, which, via, case)
        }
    }

    fn attach(&mut self, at: usize, which: usize, case: &Case) -> Done {
        let mut session = self.nodes[at].session.ok_or("a hello of no session")?;
        if let Some(old) = session.at
            && old != which
        {
            if old == 1 {
                self.forget_old();
            } else {
                self.close(old);
            }
        }
        let client = self.client;
        let transport = self.transports[which].as_mut().expect("it is there");
        let (mut resumed, mut from, mut fine) = (false, 0, true);
        match transport.cursor {
            Some((epoch, position)) if epoch == session.epoch => {
                let head = session.outbox.len;
                if position > head {
                    return Err(format!(
                        "P3: the cursor {position} is above the head {head} of its epoch"
                    ));
                }
                (resumed, from) = (true, position);
                if which == 0 {
                    let had = usize::from(from);
                    fine = client.got.as_slice()[..had] == session.outbox.as_slice()[..had];
                }
            }
            Some(_) if case.exact && !self.lost => {
                return Err("P3: under Exact, and its epoch is gone".into());
            }
            Some(_) | None => {}
        }
        session.at = Some(which);
        session.sent = from;
        session.acked = 0;
        transport.stage = Stage::Open;
        transport.at = Some(at);
        if transport.via != at {
            transport.hop = HopStage::Answered { to: at };
        }
        if std::mem::take(&mut transport.silent) {
            session.sent = client.got.len.min(session.outbox.len);
            self.nodes[at].session = Some(session);
            return Ok(());
        }
        transport.up.clear();
        transport.down.clear();
        self.nodes[at].session = Some(session);
        self.check_owner(at, "hello", case)?;
        let hello =
            Down::Hello { resumed, fine, epoch: session.epoch, from, received: session.taken };
        self.down(which, hello);
        Ok(())
    }

    // The client.

    fn read(&mut self, case: &Case) -> Done {
        let frame = self.present().down.remove(0);
        let client = &mut self.client;
        match frame {
            Down::Hello { resumed, fine, epoch, from, received } => {
                if received < client.base {
                    let base = client.base;
                    return Err(format!(
                        "P1: received {received} is below what was acknowledged, {base}"
                    ));
                }
                if resumed && !fine {
                    return Err("P3: resumed over another history".into());
                }
                if !resumed {
                    client.epoch = epoch;
                    client.got = Outbox::default();
                    if from != 0 {
                        return Err("P3: a new epoch begins at 0".into());
                    }
                }
                client.has = true;
                client.hello = true;
                client.next = received;
            }
            Down::Data { output, epoch } => {
                if epoch != client.epoch {
                    return Err("P3: data of another epoch, and no hello".into());
                }
                let first = client.got.as_slice().first().map(|first| first.message);
                if first.is_some_and(|first| output.message != first + client.got.len) {
                    return Err("P3: out of order".into());
                }
                if case.exact && !self.lost && output.message != client.got.len {
                    return Err("P3: under Exact, and an output is missing or doubled".into());
                }
                client.got.push(output);
            }
            Down::Ack(acked) => {
                client.base = client.base.max(acked);
                let stored = self.engine.record.snap.taken;
                if !self.lost && acked > stored {
                    return Err(format!("P4: ack {acked}, but the record has {stored}"));
                }
            }
            Down::Close => self.let_go(case)?,
            Down::Done => {
                client.done = true;
                if !self.lost && !self.engine.has_ended() {
                    return Err("P4: done, but the record goes on".into());
                }
            }
        }
        Ok(())
    }

    /// The client lets go of its transport; what it has written may still arrive.
    fn let_go(&mut self, case: &Case) -> Done {
        self.forget_transport(1, case)?;
        let transport = self.present();
        let keeps = match transport.stage {
            Stage::Open => matches!(transport.hop, HopStage::No | HopStage::Copies { .. }),
            Stage::Offered => case.late_offers,
            Stage::Closed => false,
        };
        if keeps {
            let mut old = self.transports[0].take().expect("it is there");
            old.down.clear();
            self.transports[1] = Some(old);
            for node in &mut self.nodes {
                node.ownership.rename(Visit(0), Visit(1));
                for serve in &mut node.serves {
                    serve.0 = 1;
                }
                if let Some(session) = &mut node.session
                    && session.at == Some(0)
                {
                    session.at = Some(1);
                }
            }
        } else {
            self.forget_transport(0, case)?;
        }
        self.client.hello = false;
        self.client.next = 0;
        Ok(())
    }

    /// An old transport ends for good.
    fn forget_transport(&mut self, which: usize, case: &Case) -> Done {
        if self.transports[which].is_some() {
            self.detach(which);
            for at in 0..self.nodes.len() {
                self.forget(at, which, case)?;
            }
            self.transports[which] = None;
        }
        Ok(())
    }

    fn forget_old(&mut self) {
        self.detach(1);
        self.transports[1] = None;
        for node in &mut self.nodes {
            node.ownership.forget(Visit(1));
            node.serves.retain(|serve| serve.0 != 1);
        }
    }

    fn forget(&mut self, at: usize, which: usize, case: &Case) -> Done {
        self.nodes[at].serves.retain(|serve| serve.0 != which);
        if self.nodes[at].up == Up::Dead {
            return Ok(());
        }
        self.event(at, Event::Left(Visit(which as u64)), NOW, case)
    }

    fn detach(&mut self, which: usize) {
        for node in &mut self.nodes {
            if let Some(session) = &mut node.session
                && session.at == Some(which)
            {
                session.at = None;
            }
        }
    }

    // Faults.

    fn cut(&mut self, at: usize) {
        self.left.cuts -= 1;
        let node = &mut self.nodes[at];
        node.link = false;
        node.fail_calls();
        node.lease.handle_disconnected();
    }

    fn kill(&mut self, at: usize, case: &Case) -> Done {
        self.left.kills -= 1;
        let node = &mut self.nodes[at];
        node.up = Up::Dead;
        node.session = None;
        node.serves.clear();
        node.asked.retain(|asked| asked.reply.is_none());
        node.lease_asked = None;
        node.ownership = Ownership::new(RULES);
        // Its kernel closes what it had; what is under way to the client may still come.
        for which in [1, 0] {
            let Some(transport) = &mut self.transports[which] else {
                continue;
            };
            if transport.via == at {
                let owner = transport.hop_to();
                self.detach(which);
                if let Some(owner) = owner {
                    self.forget(owner, which, case)?;
                }
                if which == 1 {
                    self.transports[1] = None;
                } else {
                    let transport = self.present();
                    transport.stage = Stage::Closed;
                    transport.down.clear();
                    transport.hop = HopStage::No;
                    transport.at = None;
                }
            } else if transport.hop_to() == Some(at) {
                match transport.hop {
                    HopStage::Copies { .. } if transport.stage != Stage::Closed => {
                        transport.hop = HopStage::Ended;
                        transport.at = None;
                    }
                    HopStage::Answered { .. } | HopStage::There { .. } => {
                        transport.hop = HopStage::Lost;
                        transport.stage = Stage::Offered;
                        transport.at = None;
                        transport.down.clear();
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl Node {
    /// What is on its way is not answered.
    fn fail_calls(&mut self) {
        for asked in &mut self.asked {
            asked.reply = Some(Reply { answer: Answer::Unknown, snap: None });
        }
        if self.up == Up::Dead {
            self.asked.clear();
        }
        if let Some((_, reply)) = &mut self.lease_asked {
            *reply = Some(LeaseReply::Unknown);
        }
    }
}

/// How many messages a session may acknowledge.
fn acknowledges(session: &Session, case: &Case) -> u8 {
    if case.plants(Plant::AckEarly) { session.taken } else { session.taken_committed }
}
