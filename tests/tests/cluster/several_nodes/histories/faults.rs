//! Nodes, an engine and networks that break, by a plan that is drawn from a seed.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use session_resume_engine::Engine;
use session_resume_testkit::tcp::Proxy;
use session_resume_tests::{Framework, Rng};

use super::super::node::{LEASE, Wired};

const NAMES: [&str; 3] = ["a", "b", "c"];

/// What may break.
#[derive(Clone, Copy, Debug)]
pub(super) enum Plan {
    Nodes,
    Failovers,
}

/// What has broken.
pub(super) struct Broken {
    pub(super) told: String,
    pub(super) count: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    /// `kill -9`; it starts again under its name.
    Kill(usize),
    /// SIGTERM: it hands its sessions over, ends, and starts again.
    Drain(usize),
    /// It stands still.
    Stop(usize),
    /// Its connections to the engine are reset, and it gets no new ones.
    LosesEngine(usize),
    /// Nothing passes between it and the engine.
    HearsNoEngine(usize),
    /// The engine hears it, and it hears nothing on the connections that it has.
    SpeaksIntoTheVoid(usize),
    /// The other nodes do not reach it.
    LosesHops(usize),
    /// Nothing passes between it and the others.
    HearsNoHops(usize),
    /// The engine is killed, and starts again with what it has on disk.
    EngineDies,
    EngineStops,
    /// The primary dies, the replica takes its place, and the dead one comes back as the replica.
    Failover,
}

impl Fault {
    fn drawn(plan: Plan, rng: &mut Rng) -> Self {
        use Fault::{
            Drain, EngineDies, EngineStops, Failover, HearsNoEngine, HearsNoHops, Kill,
            LosesEngine, LosesHops, SpeaksIntoTheVoid, Stop,
        };
        let node = rng.one_of(&[0, 1, 2]);
        match plan {
            Plan::Nodes => rng.one_of(&[
                Kill(node),
                Kill(node),
                Kill(node),
                Drain(node),
                Stop(node),
                Stop(node),
                LosesEngine(node),
                HearsNoEngine(node),
                SpeaksIntoTheVoid(node),
                LosesHops(node),
                HearsNoHops(node),
                EngineDies,
                EngineStops,
            ]),
            Plan::Failovers => {
                rng.one_of(&[Failover, Failover, LosesHops(node), HearsNoHops(node), EngineStops])
            }
        }
    }

    /// The node that it is about.
    fn node(self) -> Option<usize> {
        match self {
            Self::Kill(node)
            | Self::Drain(node)
            | Self::Stop(node)
            | Self::LosesEngine(node)
            | Self::HearsNoEngine(node)
            | Self::SpeaksIntoTheVoid(node)
            | Self::LosesHops(node)
            | Self::HearsNoHops(node) => Some(node),
            Self::EngineDies | Self::EngineStops | Self::Failover => None,
        }
    }
}

/// Three nodes on one engine, and the ways of users to them.
pub(super) struct Cluster {
    framework: Framework,
    plan: Plan,
    engine: Engine,
    /// Under `Plan::Failovers`.
    replica: Option<Engine>,
    /// A node that is down is `None`.
    nodes: [Option<Wired>; 3],
    ways: Vec<Arc<Proxy>>,
}

impl Cluster {
    pub(super) async fn start(framework: Framework, plan: Plan) -> Self {
        let engine = Engine::durable();
        let replica = match plan {
            Plan::Nodes => None,
            Plan::Failovers => {
                let replica = Engine::durable();
                follows(&replica, &engine);
                Some(replica)
            }
        };
        let mut this =
            Self { framework, plan, engine, replica, nodes: [None, None, None], ways: Vec::new() };
        for node in 0..NAMES.len() {
            this.starts(node).await;
        }
        this
    }

    async fn starts(&mut self, node: usize) {
        let replicas = match self.plan {
            Plan::Nodes => "",
            Plan::Failovers => "--replicas 1",
        };
        let flags = format!("--key path --shared-key --attach share --durability exact {replicas}");
        let started = Wired::start(&self.engine, self.framework, NAMES[node], &flags).await;
        self.nodes[node] = Some(started);
    }

    /// A user's way to some node.
    pub(super) async fn way_in(&mut self, rng: &mut Rng) -> Arc<Proxy> {
        let way = Arc::new(Proxy::start(self.living(rng)).await);
        self.ways.push(Arc::clone(&way));
        way
    }

    pub(super) fn forget_ways(&mut self) {
        self.ways.clear();
    }

    fn living(&self, rng: &mut Rng) -> SocketAddr {
        let living: Vec<_> = self.nodes.iter().flatten().map(|node| node.testee.addr).collect();
        rng.one_of(&living)
    }

    /// Users land at another node: those whose node is down, and some others.
    fn moves(&self, rng: &mut Rng) {
        for way in &self.ways {
            let is_up = self.nodes.iter().flatten().any(|node| node.testee.addr == way.target());
            if !is_up || rng.below(3) == 0 {
                way.set_target(self.living(rng));
                drop(way.cut());
            }
        }
    }

    /// For some seconds one or two things are broken at a time; then all is well.
    pub(super) async fn breaks(&mut self, rng: &mut Rng) -> Broken {
        let mut broken = Broken { told: String::new(), count: 0 };
        for _ in 0..3 {
            let first = Fault::drawn(self.plan, rng);
            let mut faults = vec![first];
            let second = Fault::drawn(self.plan, rng);
            // Of one node or of the engine one thing at a time.
            if second.node() != first.node() {
                faults.push(second);
            }
            // Shorter than a lease, or longer.
            let time = LEASE.mul_f64(rng.one_of(&[0.1, 0.5, 1.2, 1.6]));
            writeln!(broken.told, "  {faults:?} for {time:?}").unwrap();
            broken.count += faults.len();
            for &fault in &faults {
                self.begin(fault).await;
                self.moves(rng);
            }
            for _ in 0..3 {
                tokio::time::sleep(time / 3).await;
                self.moves(rng);
            }
            // The engine first: a node does not start without it.
            faults.sort_by_key(|fault| fault.node().is_some());
            for &fault in &faults {
                self.end(fault).await;
            }
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(rng.below(500))).await;
                self.moves(rng);
            }
        }
        broken
    }

    async fn begin(&mut self, fault: Fault) {
        use Fault::{
            Drain, EngineDies, EngineStops, Failover, HearsNoEngine, HearsNoHops, Kill,
            LosesEngine, LosesHops, SpeaksIntoTheVoid, Stop,
        };
        if let Some(node) = fault.node() {
            let wired = self.nodes[node].as_ref().expect("it lives");
            match fault {
                Kill(_) => self.nodes[node].take().expect("it lives").testee.kill().await,
                Drain(_) => {
                    let leaves = self.nodes[node].take().expect("it lives");
                    leaves.testee.terminate().await;
                    leaves.testee.exit().await;
                }
                Stop(_) => wired.testee.stop().await,
                LosesEngine(_) => wired.engine.go_offline(),
                HearsNoEngine(_) => wired.engine.freeze(),
                SpeaksIntoTheVoid(_) => wired.engine.swallow(),
                LosesHops(_) => wired.hops.go_offline(),
                HearsNoHops(_) => wired.hops.freeze(),
                EngineDies | EngineStops | Failover => unreachable!("it is about no node"),
            }
            return;
        }
        match fault {
            EngineDies => self.engine.kill(),
            EngineStops => self.engine.stop(),
            Failover => {
                let replica = self.replica.as_mut().expect("there is one");
                std::mem::swap(&mut self.engine, replica);
                replica.kill();
                assert_eq!(self.engine.command("REPLICAOF NO ONE"), "+OK");
                for node in self.nodes.iter().flatten() {
                    node.engine.set_target(self.engine.address());
                    drop(node.engine.cut());
                }
                // A lease that no replica has is not held, so it may not be away for long.
                replica.restart();
                follows(replica, &self.engine);
            }
            _ => unreachable!("it is about a node"),
        }
    }

    async fn end(&mut self, fault: Fault) {
        use Fault::{
            Drain, EngineDies, EngineStops, Failover, HearsNoEngine, HearsNoHops, Kill,
            LosesEngine, LosesHops, SpeaksIntoTheVoid, Stop,
        };
        match fault {
            Kill(node) | Drain(node) => self.starts(node).await,
            Stop(node) => self.node(node).testee.go_on().await,
            LosesEngine(node) => self.node(node).engine.go_online(),
            HearsNoEngine(node) => self.node(node).engine.thaw(),
            LosesHops(node) => self.node(node).hops.go_online(),
            HearsNoHops(node) => self.node(node).hops.thaw(),
            EngineDies => self.engine.restart(),
            EngineStops => self.engine.go_on(),
            // It has dialled again by itself, or does so now.
            SpeaksIntoTheVoid(node) => drop(self.node(node).engine.cut()),
            Failover => {}
        }
    }

    fn node(&self, node: usize) -> &Wired {
        self.nodes[node].as_ref().expect("it lives")
    }
}

/// Waits until the replica has all, and the primary counts on it.
fn follows(replica: &Engine, primary: &Engine) {
    let order = format!("REPLICAOF 127.0.0.1 {}", primary.address().port());
    assert_eq!(replica.command(&order), "+OK");
    let began = Instant::now();
    let says = |engine: &Engine, what: &str| engine.command("INFO replication").contains(what);
    while !(says(replica, "master_link_status:up") && says(primary, "state=online")) {
        assert!(began.elapsed() < Duration::from_secs(30), "the replica does not follow");
        std::thread::sleep(Duration::from_millis(20));
    }
}
