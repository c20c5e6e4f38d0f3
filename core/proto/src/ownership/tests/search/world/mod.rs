//! The state: an engine with its replica, nodes, and one client. What each deed does to it.

mod client;
mod deeds;
mod faults;
mod nodes;
mod offers;

use std::time::Duration;

use super::{
    case::{Budget, Case, Clocks, Plant},
    client::{Client, Down, Stage, Transport},
    engine::{Engine, LeaseReply, Reply},
    session::{Session, Snap},
};
use crate::{
    Moment,
    ownership::{
        Answer, Asks, Call, Claimed, Command, Elsewhere, Event, Found, Incarnation, Lease,
        LeaseCommand, LeaseState, Leave, Looked, Over, Ownership, Permit, Rules, Standing, Via,
        Visit,
    },
};

pub(super) const NODES: usize = 3;
/// Positions of an epoch at most.
pub(super) const OUT: usize = 5;
const RULES: Rules = Rules { lease: Duration::from_secs(8), elsewhere: Elsewhere::Relay };
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
    left: Budget,
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
        lease.handle_enlisted(incarnation, NOW);
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
        world.first_session();
        world
    }

    /// Node 0 has the session: it is as if it had just made it.
    fn first_session(&mut self) {
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
        let claimed = Claimed { fence: self.engine.fence(), version: 1, found: Found::New };
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
        self.canonical();
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

    #[expect(clippy::too_many_lines, reason = "one arm a deed")]
    pub(in super::super) fn act(&mut self, deed: Deed, case: &Case) -> Done {
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
            Deed::Renew(at) => self.renew(at),
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
                let lease = self.engine.leases[at];
                let gone = lease.is_none() || lease != self.nodes[at].standing().incarnation;
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
                    node.fail_calls();
                    if node.up != Up::Dead {
                        node.lease.handle_disconnected();
                        if node.link {
                            node.lease.handle_connected(NOW);
                        }
                    }
                    node.late = None;
                }
            }
        }
        if self.left.failovers == 0 {
            self.replica = self.engine;
        }
        self.canonical();
        Ok(())
    }

    /// Moments that a machine cannot tell apart are the same moment.
    pub(super) fn canonical(&mut self) {
        for node in &mut self.nodes {
            node.ownership.canonical(NOW, LATER);
            node.lease.canonical(NOW);
        }
    }

    pub(super) fn present(&mut self) -> &mut Transport {
        self.transports[0].as_mut().expect("the client has a transport")
    }

    pub(super) fn session(&mut self, at: usize) -> &mut Session {
        self.nodes[at].session.as_mut().expect("the node has the session")
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
