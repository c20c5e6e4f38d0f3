//! What is known of a cluster: its nodes, and which node has which slot.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::Client;
use tokio::task::JoinSet;

use crate::{
    address::{Address, Login},
    connection::{Live, bytes, strange},
    error::{Failure, FailureKind},
    keys::Keys,
    slots::{self, Map, Range},
};

/// Marks of a node. Two, because the slot of one may be on its way to another node when the node comes back.
const MARKS: usize = 2;

/// What is known of a cluster.
pub(crate) struct Cluster {
    /// Nodes that the URL names.
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

impl Cluster {
    pub(crate) fn new(seeds: Vec<Address>, login: Login) -> Arc<Self> {
        Arc::new(Self { seeds, login, map: Mutex::new(Map::new()) })
    }

    // No code can panic half way through a change, so a poisoned lock guards a whole map.
    pub(crate) fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn node(self: &Arc<Self>, address: &Address) -> Result<Node, Failure> {
        let client = self.login.client_of(address);
        let client = client.map_err(|error| Failure::new(FailureKind::Strange, error))?;
        Ok(Node { address: address.clone(), client, cluster: Arc::clone(self) })
    }

    /// Asks the nodes that the URL names which node has which slot.
    pub(crate) async fn look(&self) -> Result<(), Failure> {
        let ranges = self.ask_any(self.seeds.clone()).await?;
        self.map().learn(&ranges);
        Ok(())
    }

    /// Asks nodes which node has which slot, all at once. The first one that knows is believed: a caller that asks the wrong node for a key is
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

/// Asks a node for its id, and which node has which slot.
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

    /// Asks the node which node has which slot. Returns the keys of its marks, and whether it has the key that signs cookies.
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

    /// Asks the other nodes which node has which slot.
    pub(crate) async fn look_around(&self) {
        let mut others = self.cluster.map().owners();
        others.extend(self.cluster.seeds.iter().cloned());
        others.retain(|address| *address != self.address);
        if let Ok(ranges) = self.cluster.ask_any(others).await {
            self.cluster.map().learn(&ranges);
        }
    }
}
