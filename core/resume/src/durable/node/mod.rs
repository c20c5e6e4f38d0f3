//! A node of several: its lease at the engine, and what follows for its sessions.
//!
//! What is to be done for the lease, and when, says the machine in [`Membership`]; here it is done.

mod put_again;
mod reclaim;

use std::{
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use session_resume_proto::ownership::{self, LeaseCommand};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::{put_again::put_again, reclaim::reclaim};
use crate::{
    live::registry::Registry,
    words::{
        cluster::{ClusterConfig, Membership},
        errors::chain,
        node::Incarnation,
        observe,
        store::{Renewed, StoreError},
    },
};

/// The directory is read again with every second renewal.
const DIRECTORY: u32 = 2;
/// How often a task that waits for the engine looks whether its layer is still there.
const MOMENT: Duration = Duration::from_secs(1);

/// What the engine has said.
enum Said {
    /// Something: there is a connection.
    Connected,
    Enlisted(ownership::Incarnation, Result<(), NotEnlisted>),
    Renewed(ownership::Incarnation, Result<Renewed, StoreError>),
    /// The process that had the node's name is gone.
    NameIsFree,
}

/// Why a life is not enlisted.
enum NotEnlisted {
    /// Another process has the name, and lives.
    NameIsTaken,
    Failed(StoreError),
}

impl From<StoreError> for NotEnlisted {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Does what the lease of a node asks for.
struct Keeper<T> {
    registry: Weak<Registry<T>>,
    node: Arc<Membership>,
    layer: Arc<str>,
    /// What the engine is being asked for the lease.
    asking: Option<BoxFuture<'static, Said>>,
    /// The directory is being read.
    reading: Option<BoxFuture<'static, ()>>,
    renewals: u32,
    /// This process has been enlisted before.
    has_lived: bool,
    /// The log knows that something is wrong.
    told: bool,
}

/// Keeps the node's lease until the layer is gone.
pub(crate) async fn keep_lease<T: Send + 'static>(
    registry: Weak<Registry<T>>,
    node: Arc<Membership>,
    layer: Arc<str>,
) {
    let asking = Some(connect(Arc::clone(&node), Arc::clone(&layer), Duration::ZERO));
    let (reading, renewals, has_lived, told) = (None, 0, false, false);
    let mut keeper = Keeper { registry, node, layer, asking, reading, renewals, has_lived, told };
    while keeper.registry.strong_count() > 0 && !keeper.node.is_retired() {
        keeper.obey();
        keeper.listen().await;
    }
}

impl<T: Send + 'static> Keeper<T> {
    /// Does all that the lease asks for now.
    fn obey(&mut self) {
        while let Some(command) = self.node.poll_lease() {
            match command {
                LeaseCommand::Draw => self.node.draw(),
                LeaseCommand::Enlist { incarnation, instead_of } => {
                    let is_first = instead_of.is_none();
                    let (node, layer) = (Arc::clone(&self.node), Arc::clone(&self.layer));
                    let enlisted = async move {
                        let enlisted = enlist(&node, &layer, is_first).await;
                        Said::Enlisted(incarnation, enlisted)
                    };
                    self.asking = Some(enlisted.boxed());
                }
                LeaseCommand::Renew(incarnation) => {
                    let (node, layer) = (Arc::clone(&self.node), Arc::clone(&self.layer));
                    let renewed = async move {
                        let ClusterConfig { store, lease, .. } = node.config();
                        let by = Incarnation::from_number(incarnation.get());
                        let renewed = store.renew(&layer, by, *lease, *lease / 4).await;
                        Said::Renewed(incarnation, renewed)
                    };
                    self.asking = Some(renewed.boxed());
                }
                LeaseCommand::Reconnect => {
                    if !std::mem::replace(&mut self.told, true) {
                        let node = &self.node.config().name;
                        tracing::warn!(%node, "the engine has not answered for the lease in time");
                    }
                    self.reconnect();
                }
                LeaseCommand::PutAgain => {
                    // Ends with the layer.
                    tokio::spawn(put_again(self.registry.clone()));
                }
                // The drain tells the engine.
                LeaseCommand::Retire(_) => {}
            }
        }
        if self.asking.is_none() && self.node.is_name_taken() {
            self.asking = Some(name_is_free(Arc::clone(&self.node), Arc::clone(&self.layer)));
        }
    }

    /// The last call is dropped: its answer does not count.
    fn reconnect(&mut self) {
        let pause = self.node.config().lease / 32;
        self.asking = Some(connect(Arc::clone(&self.node), Arc::clone(&self.layer), pause));
    }

    /// Waits until something happens.
    async fn listen(&mut self) {
        let latest = Instant::now() + MOMENT;
        let due = self.node.lease_is_due().map_or(latest, |due| due.min(latest));
        tokio::select! {
            biased;
            said = answer(&mut self.asking) => {
                self.asking = None;
                self.node.has_lost(self.node.config().store.losses());
                self.hear(said);
            }
            () = answer(&mut self.reading) => self.reading = None,
            () = self.node.hurries() => {}
            () = sleep_until(due) => self.node.lease_timeout(),
        }
    }

    fn hear(&mut self, said: Said) {
        let name = Arc::clone(&self.node.config().name);
        match said {
            Said::Connected => self.node.is_connected(),
            Said::NameIsFree => self.node.name_is_free(),
            Said::Enlisted(incarnation, Ok(())) => {
                self.node.is_enlisted(incarnation);
                self.told = false;
                tracing::info!(node = %name, %incarnation, "enlisted");
                if std::mem::replace(&mut self.has_lived, true) {
                    let by = Incarnation::from_number(incarnation.get());
                    // Renewals go on meanwhile. Ends with the layer, or with this life.
                    tokio::spawn(reclaim(self.registry.clone(), Arc::clone(&self.node), by));
                }
                self.renewals = 0;
                self.read_directory();
            }
            Said::Enlisted(incarnation, Err(NotEnlisted::NameIsTaken)) => {
                tracing::warn!(node = %name, "another process has this node's name, and lives");
                self.node.name_is_taken(incarnation);
            }
            Said::Enlisted(_, Err(NotEnlisted::Failed(error))) => {
                self.has_failed(&error, "this node is not enlisted; it tries again");
            }
            Said::Renewed(incarnation, Ok(renewed)) => {
                self.node.is_renewed(incarnation, &renewed);
                match renewed {
                    Renewed::Held { wanted, .. } => {
                        self.told = false;
                        self.renewals = self.renewals.wrapping_add(1);
                        if self.renewals.is_multiple_of(DIRECTORY) {
                            self.read_directory();
                        }
                        if let Some(registry) = self.registry.upgrade() {
                            registry.hand_over_all(&wanted);
                        }
                    }
                    Renewed::Gone => {
                        tracing::warn!(node = %name, %incarnation, "the engine has let go of this node");
                        // What comes next is a new life. Until it has taken a session back, that is silent.
                        if let Some(registry) = self.registry.upgrade() {
                            registry.freeze_all();
                        }
                    }
                }
            }
            Said::Renewed(_, Err(error)) => self.has_failed(&error, "lease not renewed"),
        }
    }

    fn has_failed(&mut self, error: &StoreError, what: &str) {
        if !std::mem::replace(&mut self.told, true) {
            let (node, error) = (&self.node.config().name, chain(error));
            tracing::warn!(%node, %error, "{what}");
        }
        self.node.is_disconnected();
        self.reconnect();
    }

    fn read_directory(&mut self) {
        if self.reading.is_some() {
            return;
        }
        let (node, layer) = (Arc::clone(&self.node), Arc::clone(&self.layer));
        let reading = async move {
            match timeout(node.config().lease / 4, read_directory(&node, &layer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = %chain(&error), "no directory"),
                Err(_) => tracing::debug!("no directory in time"),
            }
        };
        self.reading = Some(reading.boxed());
    }
}

/// Waits for the answer of a call; for ever if there is none.
async fn answer<R>(call: &mut Option<BoxFuture<'static, R>>) -> R {
    match call {
        Some(call) => call.await,
        None => pending().await,
    }
}

/// Asks until the engine has answered anything: only then is it asked for the lease.
fn connect(node: Arc<Membership>, layer: Arc<str>, pause: Duration) -> BoxFuture<'static, Said> {
    let connected = async move {
        let ClusterConfig { store, name, lease, .. } = node.config();
        sleep(pause).await;
        while !matches!(timeout(*lease / 4, store.named(&layer, name)).await, Ok(Ok(_))) {
            sleep(*lease / 32).await;
        }
        Said::Connected
    };
    connected.boxed()
}

/// Waits until the process that has the node's name is gone.
fn name_is_free(node: Arc<Membership>, layer: Arc<str>) -> BoxFuture<'static, Said> {
    let is_free = async move {
        let ClusterConfig { store, name, lease, .. } = node.config();
        loop {
            sleep(*lease / 2).await;
            let owner = match store.named(&layer, name).await {
                Ok(Some(owner)) => store.find(&layer, owner).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error),
            };
            if matches!(owner, Ok(None)) {
                return Said::NameIsFree;
            }
        }
    };
    is_free.boxed()
}

/// Enlists the node's present life. A process that starts takes the name from any owner; later it takes it only from its
/// own earlier lives and from processes that are gone.
async fn enlist(node: &Membership, layer: &str, is_first: bool) -> Result<(), NotEnlisted> {
    let ClusterConfig { store, name, lease, .. } = node.config();
    let named = store.named(layer, name).await?;
    if let Some(other) = named
        && !is_first
        && node.is_foreign(other)
        && store.find(layer, other).await?.is_some()
    {
        return Err(NotEnlisted::NameIsTaken);
    }
    Ok(store.enlist(layer, &node.info(), named, *lease).await?)
}

/// Reads which nodes there are. A node that is not listed any more is asked for by itself: only that tells that it is gone.
async fn read_directory(node: &Membership, layer: &str) -> Result<(), StoreError> {
    let store = &node.config().store;
    let missing = node.learn_all(store.nodes(layer).await?);
    for incarnation in missing {
        node.learn(incarnation, store.find(layer, incarnation).await?);
    }
    Ok(())
}

/// Silences the sessions whenever the lease is not held, and lets them go on when it is held again.
pub(crate) async fn watch_lease<T: Send + 'static>(
    registry: Weak<Registry<T>>,
    node: Arc<Membership>,
) {
    // A node holds no lease before it has one, nor any session.
    loop {
        while !node.held_by(Instant::now() + Duration::from_secs(60)).await {
            if registry.upgrade().is_none() {
                return;
            }
        }
        match registry.upgrade() {
            Some(registry) => registry.thaw_all(),
            None => return,
        }
        while node.holds() {
            sleep_until(Instant::now() + node.left().max(Duration::from_millis(1))).await;
            if registry.upgrade().is_none() {
                return;
            }
        }
        let Some(here) = registry.upgrade() else {
            return;
        };
        observe::nodes::lapsed();
        tracing::warn!(node = %node.config().name, "the lease has lapsed: sessions are silent until it is back");
        here.freeze_all();
        drop(here);
        // A client that waits for long goes elsewhere.
        if !node.held_by(Instant::now() + node.config().lease).await
            && let Some(registry) = registry.upgrade()
        {
            registry.send_away();
        }
    }
}
