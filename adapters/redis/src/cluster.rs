//! A cluster: a lane to each node, and who has which slot.
//!
//! A node that says `MOVED` or `ASK` has not executed the call, so the call goes on to the node that it names, a few
//! times. A call whose answer is lost does not, as everywhere.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::Client;
use session_resume::store::Stamp;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    address::{Address, Login},
    builder::{Builder, PAUSE, refused},
    check,
    connection::{Call, Live, bytes, strange},
    engine::Engine,
    error::{ConnectError, ConnectErrorKind, Failure, FailureKind},
    keys::Keys,
    lane::{Lane, Router, Settings},
    queue::{Answer, Waiting},
    slots::{self, Map, Range},
    target::{Place, Target},
};

/// How often a call is sent on to another node. More than a few: while a slot gets its new owner, two nodes name each
/// other for a moment.
const MOST_REDIRECTS: u8 = 8;

/// Before a call is sent on for the third time; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Marks of a node. Two, because the slot of one may be on its way to another node when the node comes back.
const MARKS: usize = 2;

/// What is known of a cluster.
pub(crate) struct Cluster {
    engine: Arc<Engine>,
    seeds: Vec<Address>,
    login: Login,
    map: Mutex<Map>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

/// One node of it.
pub(crate) struct Node {
    address: Address,
    client: Client,
    cluster: Arc<Cluster>,
}

/// A lane to each node.
pub(crate) struct Nodes {
    this: Weak<Self>,
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

impl Cluster {
    pub(crate) fn new(engine: Arc<Engine>, seeds: Vec<Address>, login: Login) -> Arc<Self> {
        Arc::new(Self { engine, seeds, login, map: Mutex::new(Map::new()) })
    }

    // No code can panic half way through a change, so a poisoned lock guards a whole map.
    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(self: &Arc<Self>, address: &Address) -> Result<Target, Failure> {
        let client = self.login.client_of(address);
        let client = client.map_err(|error| Failure::new(FailureKind::Strange, error))?;
        let node = Node { address: address.clone(), client, cluster: Arc::clone(self) };
        Ok(Target::new(Arc::clone(&self.engine), address.to_string(), Place::Node(node)))
    }

    /// Connects to each node that has slots, and looks at it. Returns the lanes for calls and for writes.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        builder: &Builder,
        settings: Settings,
    ) -> Result<(Arc<Nodes>, Arc<Nodes>), ConnectError> {
        let until = Instant::now() + settings.timeout;
        let mut reason = format!("no answer within {:?}", settings.timeout);
        let calls = Nodes::new(Arc::clone(self), Settings { replicas: 0, ..settings });
        let attempts = async {
            loop {
                let ready = async {
                    let lives = self.gather(builder, settings).await?;
                    self.ask_identity(&calls).await?;
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
            let name = &self.engine.name;
            return Err(ConnectError::new(ConnectErrorKind::Unreachable, name, reason));
        };
        let writes = Nodes::new(Arc::clone(self), settings);
        writes.begin_with(gathered?);
        Ok((calls, writes))
    }

    async fn gather(
        self: &Arc<Self>,
        builder: &Builder,
        settings: Settings,
    ) -> Result<Vec<(Address, Arc<Target>, Live)>, Trouble> {
        let refused = |failure, name: &str| Trouble::Refused(refused(failure, name));
        match self.ask_any(self.seeds.clone()).await {
            Ok(ranges) => self.map().learn(&ranges),
            Err(failure) if failure.kind == FailureKind::NotNow => {
                return Err(Trouble::NotYet(failure));
            }
            Err(failure) => return Err(refused(failure, &self.engine.name)),
        }
        let owners = self.map().owners();
        if owners.is_empty() {
            let text = "no node of the cluster has slots";
            return Err(Trouble::NotYet(Failure::new(FailureKind::NotNow, text)));
        }
        let mut lives = Vec::new();
        for address in owners {
            let target =
                self.target(&address).map_err(|failure| refused(failure, &self.engine.name))?;
            match target.dial(settings.timeout).await {
                Ok(mut live) => {
                    let looked = check::engine(&mut live, &target, builder).await;
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
    async fn ask_identity(&self, calls: &Nodes) -> Result<(), Trouble> {
        // The connection to the node that has it has begun with it, unless its slot is on its way.
        if self.engine.identity().is_none() {
            let identity = calls.call(self.engine.keep_identity(), None).await;
            let met = identity.and_then(bytes).and_then(|it| self.engine.meet_identity(&it));
            met.map_err(Trouble::NotYet)?;
        }
        Ok(())
    }

    /// Asks nodes who has which slot, all at once. The first one that knows is believed: who asks the wrong node for a key is
    /// told so.
    async fn ask_any(&self, addresses: Vec<Address>) -> Result<Vec<Range>, Failure> {
        let mut asked = JoinSet::new();
        for address in addresses {
            let client = self.login.client_of(&address);
            asked.spawn(async move {
                let client = client.map_err(|error| Failure::new(FailureKind::Strange, error));
                let told = async { Ok(ask(&mut Live::open(&client?).await?, &address).await?.1) };
                told.await.map_err(|failure: Failure| failure.of(&format!("node {address}: ")))
            });
        }
        let mut trouble = Failure::new(FailureKind::Connection, "no other node is known");
        while let Some(told) = asked.join_next().await {
            match told {
                Ok(Ok(ranges)) => return Ok(ranges),
                // One that answers says more than one that is not reached.
                Ok(Err(failure)) if trouble.kind == FailureKind::Connection => trouble = failure,
                Ok(Err(_)) => {}
                Err(error) => trouble = Failure::new(FailureKind::Strange, error.to_string()),
            }
        }
        Err(trouble)
    }
}

/// Asks a node for its id, and who has which slot.
async fn ask(live: &mut Live, address: &Address) -> Result<(String, Vec<Range>), Failure> {
    let mut pipe = redis::pipe();
    pipe.cmd("CLUSTER").arg("MYID");
    pipe.cmd("CLUSTER").arg("SLOTS");
    let answers = live.send(&pipe).await?;
    let [id, slots] = <[_; 2]>::try_from(answers).map_err(|_| strange())?;
    let id = String::from_utf8(bytes(id?)?).map_err(|_| strange())?;
    Ok((id, slots::ranges(slots?, address)?))
}

impl Node {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the node who has which slot. Returns the keys of its marks, and whether it has the key that signs cookies.
    pub(crate) async fn look(
        &self,
        live: &mut Live,
        keys: &Keys,
    ) -> Result<(Vec<Vec<u8>>, bool), Failure> {
        let (id, ranges) = ask(live, &self.address).await?;
        let marks = slots::keys_of(&ranges, &id, MARKS, |n| keys.mark_of_node(n));
        let has_identity = slots::has(&ranges, &id, slots::slot(&keys.identity()));
        self.cluster.map().learn(&ranges);
        Ok((marks, has_identity))
    }

    /// Asks the other nodes who has which slot.
    pub(crate) async fn look_around(&self) {
        let mut others = self.cluster.map().owners();
        others.extend(self.cluster.seeds.iter().cloned());
        others.retain(|address| *address != self.address);
        if let Ok(ranges) = self.cluster.ask_any(others).await {
            self.cluster.map().learn(&ranges);
        }
    }
}

impl Nodes {
    fn new(cluster: Arc<Cluster>, settings: Settings) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            cluster,
            settings,
            lanes: Mutex::default(),
        })
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
    pub(crate) async fn call(&self, call: Call, stamp: Option<Stamp>) -> Answer {
        let slot = slots::slot(&call.key);
        let timeout = self.settings.timeout;
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
            let target = match self.cluster.target(address) {
                Ok(target) => Arc::new(target),
                Err(failure) => return waiting.answer(&Err(failure)),
            };
            let lane = self.start(target, None);
            lanes.by_address.insert(address.clone(), lane);
        }
        lanes.by_address[address].push(waiting);
    }

    /// Sends a call to the node that has its key, or, if it is said to ask for it, to `asked`.
    fn send(&self, waiting: Waiting, asked: Option<Address>) {
        let mut lanes = self.lanes();
        let slot = slots::slot(&waiting.call.key);
        let owner = asked.or_else(|| self.cluster.map().owner(slot).cloned());
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
        self.send(waiting, None);
    }

    fn redirect(&self, mut waiting: Waiting, said: Failure, from: &str) {
        let from = from.rsplit_once(':').map(|(host, port)| Address {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.parse().unwrap_or_default(),
        });
        let named = from.and_then(|from| slots::redirect(&said.text, &from));
        let Some((slot, address)) = named else {
            return waiting.answer(&Err(said));
        };
        waiting.redirects += 1;
        if waiting.redirects > MOST_REDIRECTS {
            let text = format!("{MOST_REDIRECTS} nodes have named another one: {}", said.text);
            return waiting.answer(&Err(Failure::new(FailureKind::NotNow, text)));
        }
        waiting.call.asking = said.kind == FailureKind::Ask;
        if said.kind == FailureKind::Moved {
            self.cluster.map().moved(slot, &address);
        }
        let asked = waiting.call.asking.then_some(address);
        let Some(doubled) = waiting.redirects.checked_sub(3) else {
            return self.send(waiting, asked);
        };
        let this = Weak::clone(&self.this);
        tokio::spawn(async move {
            sleep(FIRST_PAUSE * 2_u32.pow(doubled.into())).await;
            if let Some(this) = this.upgrade() {
                this.send(waiting, asked);
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
            self.send(waiting, None);
        }
    }
}
