use std::{future::Future, sync::Arc, time::Duration};

use super::{SnapshotStore, StoreError, StoreKey};
use crate::words::node::{Incarnation, NodeInfo};

/// A store that several nodes share, and that knows which of them live.
///
/// An *incarnation* is one life of a node. Its *lease* keeps it alive here: as long as it is renewed, what it owns is its own.
/// These are the rules, beside those of [`SnapshotStore`]:
///
/// 1. **Gone is for good.** [`renew`](Self::renew) extends only what is there. An incarnation whose lease has ended, that has
///    [retired](Self::retire), or whose name was [enlisted](Self::enlist) again is gone, and nothing brings it back.
/// 2. **By the engine's clock.** A lease ends when the engine says so, and never before it has lasted as long as was asked for.
/// 3. **At the primary.** No call is answered from a replica, or from an engine that does not take writes now: a node that
///    reads *gone* there would claim from one that lives.
/// 4. **A lease is not delayed.** Calls about leases do not wait behind large records.
pub trait ClusterStore: SnapshotStore {
    /// Makes an incarnation live. Repeated by the same incarnation it has happened already.
    ///
    /// `instead_of` is the incarnation that has the node's name now: it is gone from then on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Stale`](super::ErrorKind::Stale) if another incarnation has the name. Other kinds when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// The incarnation lives for one lease, or does not.
    fn enlist(
        &self,
        layer: &str,
        node: &NodeInfo,
        instead_of: Option<Incarnation>,
        lease: Duration,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns which incarnation has this name, be it alive or not.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    fn named(
        &self,
        layer: &str,
        name: &str,
    ) -> impl Future<Output = Result<Option<Incarnation>, StoreError>> + Send;

    /// Extends the lease of an incarnation that lives, from now on. The call ends within `within`.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails: then it is not known whether the lease was extended.
    ///
    /// # Cancel safety
    ///
    /// The lease was extended, or was not.
    fn renew(
        &self,
        layer: &str,
        node: Incarnation,
        lease: Duration,
        within: Duration,
    ) -> impl Future<Output = Result<Renewed, StoreError>> + Send;

    /// Ends an incarnation: what it owns is free at once.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// It lives, or is gone.
    fn retire(
        &self,
        layer: &str,
        node: Incarnation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Returns what the directory says of an incarnation; `None`: it is gone, for good.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// Reads only.
    fn find(
        &self,
        layer: &str,
        node: Incarnation,
    ) -> impl Future<Output = Result<Option<NodeInfo>, StoreError>> + Send;

    /// Returns the nodes that live.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// What it clears away of those that are gone may be left.
    fn nodes(&self, layer: &str) -> impl Future<Output = Result<Vec<NodeInfo>, StoreError>> + Send;

    /// Asks an owner to hand the session of this key over: it reads that with its next renewal.
    ///
    /// # Errors
    ///
    /// Any kind that is not a refusal when the backend fails.
    ///
    /// # Cancel safety
    ///
    /// It was asked, or was not.
    fn want(
        &self,
        layer: &str,
        owner: Incarnation,
        key: &StoreKey,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Names a run of the engine: another one answers after a failover or a restart, and a store names a new one after it has lost
/// a connection, too. Whatever was written before may be lost then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineRun(u64);

impl EngineRun {
    /// The run of this number. Two that may differ in what they have must have two numbers.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Returns its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a [renewal](ClusterStore::renew) has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The lease is extended.
    Held {
        /// The keys of sessions that other nodes have [wanted](ClusterStore::want) since the renewal before; each is told once.
        wanted: Vec<StoreKey>,
        /// The run of the engine that has answered. If it is another one than before, the node puts all its sessions again.
        run: EngineRun,
    },
    /// The incarnation is gone.
    Gone,
}

impl<S: ClusterStore> ClusterStore for Arc<S> {
    async fn enlist(
        &self,
        layer: &str,
        node: &NodeInfo,
        instead_of: Option<Incarnation>,
        lease: Duration,
    ) -> Result<(), StoreError> {
        S::enlist(self, layer, node, instead_of, lease).await
    }

    async fn named(&self, layer: &str, name: &str) -> Result<Option<Incarnation>, StoreError> {
        S::named(self, layer, name).await
    }

    async fn renew(
        &self,
        layer: &str,
        node: Incarnation,
        lease: Duration,
        within: Duration,
    ) -> Result<Renewed, StoreError> {
        S::renew(self, layer, node, lease, within).await
    }

    async fn retire(&self, layer: &str, node: Incarnation) -> Result<(), StoreError> {
        S::retire(self, layer, node).await
    }

    async fn find(&self, layer: &str, node: Incarnation) -> Result<Option<NodeInfo>, StoreError> {
        S::find(self, layer, node).await
    }

    async fn nodes(&self, layer: &str) -> Result<Vec<NodeInfo>, StoreError> {
        S::nodes(self, layer).await
    }

    async fn want(
        &self,
        layer: &str,
        owner: Incarnation,
        key: &StoreKey,
    ) -> Result<(), StoreError> {
        S::want(self, layer, owner, key).await
    }
}
