use std::{
    fmt,
    time::{Duration, Instant},
};

use futures_core::future::BoxFuture;

use super::{ClusterStore, Renewed, SnapshotStore, StoreError};
use crate::words::{
    node::{Incarnation, NodeInfo},
    observe,
};

/// [`ClusterStore`] as an object; every such store is one.
pub(crate) trait ErasedClusterStore: fmt::Debug + Send + Sync + 'static {
    fn enlist<'a>(
        &'a self,
        layer: &'a str,
        node: &'a NodeInfo,
        instead_of: Option<Incarnation>,
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn named<'a>(
        &'a self,
        layer: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Incarnation>, StoreError>>;

    fn renew<'a>(
        &'a self,
        layer: &'a str,
        node: Incarnation,
        lease: Duration,
        within: Duration,
    ) -> BoxFuture<'a, Result<Renewed, StoreError>>;

    fn retire<'a>(
        &'a self,
        layer: &'a str,
        node: Incarnation,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn find<'a>(
        &'a self,
        layer: &'a str,
        node: Incarnation,
    ) -> BoxFuture<'a, Result<Option<NodeInfo>, StoreError>>;

    fn nodes<'a>(&'a self, layer: &'a str) -> BoxFuture<'a, Result<Vec<NodeInfo>, StoreError>>;

    #[cfg(feature = "tungstenite")]
    fn want<'a>(
        &'a self,
        layer: &'a str,
        owner: Incarnation,
        key: &'a super::StoreKey,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    fn losses(&self) -> u64;
}

/// The call, which tells how long it has taken.
fn timed<'a, R: 'a>(
    name: &'static str,
    call: impl Future<Output = R> + Send + 'a,
) -> BoxFuture<'a, R> {
    Box::pin(async move {
        let begun = Instant::now();
        let answer = call.await;
        observe::nodes::engine_call(name, begun.elapsed());
        answer
    })
}

impl<S: ClusterStore> ErasedClusterStore for S {
    fn enlist<'a>(
        &'a self,
        layer: &'a str,
        node: &'a NodeInfo,
        instead_of: Option<Incarnation>,
        lease: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        timed("enlist", ClusterStore::enlist(self, layer, node, instead_of, lease))
    }

    fn named<'a>(
        &'a self,
        layer: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<Incarnation>, StoreError>> {
        timed("named", ClusterStore::named(self, layer, name))
    }

    fn renew<'a>(
        &'a self,
        layer: &'a str,
        node: Incarnation,
        lease: Duration,
        within: Duration,
    ) -> BoxFuture<'a, Result<Renewed, StoreError>> {
        timed("renew", ClusterStore::renew(self, layer, node, lease, within))
    }

    fn retire<'a>(
        &'a self,
        layer: &'a str,
        node: Incarnation,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        timed("retire", ClusterStore::retire(self, layer, node))
    }

    fn find<'a>(
        &'a self,
        layer: &'a str,
        node: Incarnation,
    ) -> BoxFuture<'a, Result<Option<NodeInfo>, StoreError>> {
        timed("find", ClusterStore::find(self, layer, node))
    }

    fn nodes<'a>(&'a self, layer: &'a str) -> BoxFuture<'a, Result<Vec<NodeInfo>, StoreError>> {
        timed("nodes", ClusterStore::nodes(self, layer))
    }

    #[cfg(feature = "tungstenite")]
    fn want<'a>(
        &'a self,
        layer: &'a str,
        owner: Incarnation,
        key: &'a super::StoreKey,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        timed("want", ClusterStore::want(self, layer, owner, key))
    }

    fn losses(&self) -> u64 {
        SnapshotStore::losses(self)
    }
}
