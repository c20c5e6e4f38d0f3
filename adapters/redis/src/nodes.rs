//! The nodes of a cluster: a lane to each, and the way of a call between them.
//!
//! A node that says `MOVED` or `ASK` has not executed the call, so the call goes on to the node that it names, a few
//! times. A call whose answer is lost does not, as everywhere.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use session_resume::store::Stamp;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    address::Address,
    call::Call,
    check::{self, Configuration, PAUSE},
    cluster::Cluster,
    connection::{Live, bytes},
    engine::Engine,
    error::{ConnectError, ConnectErrorKind, Failure, FailureKind},
    lane::{Lane, Router, Settings},
    queue::{Answer, Waiting},
    slots,
    target::{Place, Target},
};

/// How often a call is sent on to another node. More than a few: while a slot gets its new owner, two nodes name each
/// other for a moment.
const MOST_REDIRECTS: u8 = 8;

/// Before a call is sent on for the third time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// A lane to each node.
pub(crate) struct Nodes {
    this: Weak<Self>,
    engine: Arc<Engine>,
    cluster: Arc<Cluster>,
    settings: Settings,
    lanes: Mutex<Lanes>,
}

#[derive(Default)]
struct Lanes {
    by_address: HashMap<Address, Lane>,
    /// The version of the map by which calls were last put into the right lanes.
    settled: u64,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Why a cluster cannot be used now.
enum Trouble {
    /// It may be over in a moment.
    NotYet(Failure),
    Refused(ConnectError),
}

impl Nodes {
    /// Connects to each node that has slots, and looks at it. Returns the lanes for calls, for writes and for
    /// leases.
    pub(crate) async fn connect(
        engine: &Arc<Engine>,
        cluster: &Arc<Cluster>,
        configuration: Configuration,
        settings: Settings,
    ) -> Result<[Arc<Self>; 3], ConnectError> {
        let until = Instant::now() + settings.timeout;
        let mut reason = format!("no answer within {:?}", settings.timeout);
        let calls = Self::new(engine, cluster, Settings { replicas: 0, ..settings });
        let attempts = async {
            loop {
                let ready = async {
                    let lives = calls.gather(configuration).await?;
                    calls.ask_identity().await?;
                    Ok(lives)
                };
                match ready.await {
                    Ok(lives) => return Ok(lives),
                    Err(Trouble::Refused(error)) => return Err(error),
                    Err(Trouble::NotYet(failure)) => reason = failure.text,
                }
                sleep(PAUSE).await;
            }
        };
        let Ok(gathered) = timeout_at(until, attempts).await else {
            let name = &engine.name;
            return Err(ConnectError::new(ConnectErrorKind::Unreachable, name, reason));
        };
        let writes = Self::new(engine, cluster, settings);
        writes.begin_with(gathered?);
        let leases = Self::new(engine, cluster, settings);
        Ok([calls, writes, leases])
    }

    async fn gather(
        &self,
        configuration: Configuration,
    ) -> Result<Vec<(Address, Arc<Target>, Live)>, Trouble> {
        let refused = |failure, name: &str| Trouble::Refused(ConnectError::of(failure, name));
        match self.cluster.look().await {
            Ok(()) => {}
            Err(failure) if failure.kind == FailureKind::NotNow => {
                return Err(Trouble::NotYet(failure));
            }
            Err(failure) => return Err(refused(failure, &self.engine.name)),
        }
        let owners = self.cluster.map().owners();
        if owners.is_empty() {
            let text = "no node of the cluster has slots";
            return Err(Trouble::NotYet(Failure::new(FailureKind::NotNow, text)));
        }
        let mut lives = Vec::new();
        for address in owners {
            let target =
                self.target(&address).map_err(|failure| refused(failure, &self.engine.name))?;
            match target.dial(self.settings.timeout).await {
                Ok(mut live) => {
                    let looked = check::engine(&mut live, &target, configuration).await;
                    looked.map_err(Trouble::Refused)?;
                    lives.push((address, Arc::new(target), live));
                }
                Err(failure) if target.waits_for(&failure) => {
                    return Err(Trouble::NotYet(failure));
                }
                Err(failure) => return Err(refused(failure, &target.name)),
            }
        }
        Ok(lives)
    }

    /// Makes sure that it is known which key signs cookies.
    async fn ask_identity(&self) -> Result<(), Trouble> {
        // The connection to the node that has it has begun with it, unless its slot is on its way.
        if self.engine.identity().is_none() {
            let identity = self.call(self.engine.keep_identity(), None, None).await;
            let met = identity.and_then(bytes).and_then(|it| self.engine.meet_identity(&it));
            met.map_err(Trouble::NotYet)?;
        }
        Ok(())
    }

    fn new(engine: &Arc<Engine>, cluster: &Arc<Cluster>, settings: Settings) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            engine: Arc::clone(engine),
            cluster: Arc::clone(cluster),
            settings,
            lanes: Mutex::default(),
        })
    }

    fn target(&self, address: &Address) -> Result<Target, Failure> {
        let place = Place::Node(self.cluster.node(address)?);
        Ok(Target::new(Arc::clone(&self.engine), address.to_string(), place))
    }

    fn begin_with(&self, lives: Vec<(Address, Arc<Target>, Live)>) {
        let mut lanes = self.lanes();
        for (address, target, live) in lives {
            lanes.by_address.insert(address, self.start(target, Some(live)));
        }
    }

    fn start(&self, target: Arc<Target>, live: Option<Live>) -> Lane {
        Lane::start(target, live, self.settings, Some(Weak::clone(&self.this) as Weak<dyn Router>))
    }

    // No code can panic half way through a change, so a poisoned lock guards whole lanes.
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Lane::call`].
    pub(crate) async fn call(
        &self,
        call: Call,
        stamp: Option<Stamp>,
        within: Option<Duration>,
    ) -> Answer {
        let slot = slots::slot(&call.key);
        let timeout = self.settings.timeout;
        let timeout = within.map_or(timeout, |within| within.min(timeout));
        let (waiting, answer) = Waiting::new(call, stamp, timeout);
        self.route(waiting);
        answer
            .wait(|| {
                let owner = self.cluster.map().owner(slot).cloned();
                let lanes = self.lanes();
                match owner.and_then(|owner| lanes.by_address.get(&owner)) {
                    Some(lane) => lane.silence(),
                    None => {
                        Failure::new(FailureKind::Silence, format!("no answer within {timeout:?}"))
                    }
                }
            })
            .await
    }

    fn push(&self, lanes: &mut Lanes, address: &Address, waiting: Waiting) {
        if !lanes.by_address.contains_key(address) {
            let target = match self.target(address) {
                Ok(target) => Arc::new(target),
                Err(failure) => return waiting.answer(&Err(failure)),
            };
            let lane = self.start(target, None);
            lanes.by_address.insert(address.clone(), lane);
        }
        lanes.by_address[address].push(waiting);
    }

    /// Sends a call to the node that has its key.
    fn send(&self, waiting: Waiting) {
        let mut lanes = self.lanes();
        let slot = slots::slot(&waiting.call.key);
        let owner = self.cluster.map().owner(slot).cloned();
        if let Some(address) = owner {
            return self.push(&mut lanes, &address, waiting);
        }
        let text = format!("no node of the cluster has slot {slot}");
        waiting.answer(&Err(Failure::new(FailureKind::NotNow, text)));
    }
}

impl Router for Nodes {
    fn route(&self, mut waiting: Waiting) {
        waiting.call.asking = false;
        self.send(waiting);
    }

    fn redirect(&self, mut waiting: Waiting, said: Failure, from: &str) {
        let from = from.rsplit_once(':').map(|(host, port)| Address {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().unwrap_or_default(),
        });
        let named = from.and_then(|from| slots::redirect(&said.text, &from));
        let Some(address) = named else {
            return waiting.answer(&Err(said));
        };
        waiting.redirects += 1;
        if waiting.redirects > MOST_REDIRECTS {
            let text = format!("{MOST_REDIRECTS} nodes have named another one: {}", said.text);
            return waiting.answer(&Err(Failure::new(FailureKind::NotNow, text)));
        }
        waiting.call.asking = said.kind == FailureKind::Ask;
        // To the node that is named, whatever the map says: the map is learned of the whole cluster at once.
        let Some(doubled) = waiting.redirects.checked_sub(3) else {
            return self.push(&mut self.lanes(), &address, waiting);
        };
        let this = Weak::clone(&self.this);
        tokio::spawn(async move {
            sleep(FIRST_PAUSE * 2_u32.pow(doubled.into())).await;
            if let Some(this) = this.upgrade() {
                this.push(&mut this.lanes(), &address, waiting);
            }
        });
    }

    fn settle(&self) {
        let mut lanes = self.lanes();
        let mut astray = Vec::new();
        {
            let map = self.cluster.map();
            if lanes.settled == map.version() {
                return;
            }
            lanes.settled = map.version();
            for (address, lane) in &lanes.by_address {
                astray.extend(lane.take_if(|call| {
                    !call.asking && map.owner(slots::slot(&call.key)) != Some(address)
                }));
            }
            // What is on the way is still answered.
            let owners = map.owners();
            lanes.by_address.retain(|address, lane| owners.contains(address) || !lane.is_empty());
        }
        drop(lanes);
        for waiting in astray {
            self.send(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address, keys::Keys, scripts::Script};

    const TIMEOUT: Duration = Duration::from_secs(60);

    /// Lanes to nodes that are not there.
    fn nodes() -> Arc<Nodes> {
        let engine = Engine::new("nowhere".to_owned(), Keys::new("sr".to_owned())).unwrap();
        let (_, login) = address::parse("redis-cluster://127.0.0.1:1").unwrap();
        let cluster = Cluster::new(Vec::new(), login);
        let settings = Settings { timeout: TIMEOUT, replicas: 0 };
        Nodes::new(&Arc::new(engine), &cluster, settings)
    }

    fn waiting() -> Waiting {
        let call = Call::new(Script::Load, b"sr:{key}".to_vec(), Vec::new());
        Waiting::new(call, None, TIMEOUT).0
    }

    /// The calls that wait for a node: whether each will ask first.
    fn wait_for(nodes: &Nodes, port: u16) -> Vec<bool> {
        let address = Address { host: "127.0.0.1".to_owned(), port };
        let lanes = nodes.lanes();
        let lane = lanes.by_address.get(&address);
        let calls = lane.map(|lane| lane.take_if(|_| true)).unwrap_or_default();
        calls.iter().map(|waiting| waiting.call.asking).collect()
    }

    /// It does not wait until the owners of all slots are known again.
    #[tokio::test]
    async fn a_call_goes_on_to_the_node_that_is_named_at_once() {
        let nodes = nodes();
        for (code, asks) in [("MOVED", false), ("ASK", true)] {
            let said = || Failure::of_server(code, Some("1 127.0.0.1:2"));
            nodes.redirect(waiting(), said(), "127.0.0.1:1");
            assert_eq!(wait_for(&nodes, 2), [asks], "{code}");
        }
        assert!(wait_for(&nodes, 1).is_empty(), "and not back to the one that has named it");
    }

    #[tokio::test]
    async fn a_call_goes_where_the_map_says_when_the_map_has_changed() {
        let nodes = nodes();
        let said = || Failure::of_server("MOVED", Some("1 127.0.0.1:2"));
        nodes.redirect(waiting(), said(), "127.0.0.1:1");
        let all = |port: u16| slots::all_of(Address { host: "127.0.0.1".to_owned(), port });
        nodes.cluster.map().learn(&[all(3)]);
        nodes.settle();
        assert_eq!((wait_for(&nodes, 2), wait_for(&nodes, 3)), (vec![], vec![false]));
    }
}
