//! The nodes that a [`MemoryStore`] knows: the twin, in memory, of what an engine keeps.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::{ClusterStore, EngineRun, ErrorKind, MemoryStore, Renewed, StoreError, StoreKey};
use crate::words::node::{Incarnation, NodeInfo};

/// The nodes of all layers.
#[derive(Default)]
pub(super) struct Nodes {
    by_layer: HashMap<String, OfLayer>,
}

#[derive(Default)]
struct OfLayer {
    alive: HashMap<Incarnation, Alive>,
    names: HashMap<String, Incarnation>,
}

struct Alive {
    node: NodeInfo,
    until: Instant,
    wanted: Vec<StoreKey>,
}

impl Nodes {
    fn of(&mut self, layer: &str) -> &mut OfLayer {
        let of_layer = self.by_layer.entry(layer.to_owned()).or_default();
        let now = Instant::now();
        of_layer.alive.retain(|_, alive| now < alive.until);
        of_layer
    }
}

impl ClusterStore for MemoryStore {
    async fn enlist(
        &self,
        layer: &str,
        node: &NodeInfo,
        instead_of: Option<Incarnation>,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let mut nodes = MemoryStore::nodes(self);
        let nodes = nodes.of(layer);
        let named = nodes.names.get(&node.name).copied();
        if named == Some(node.incarnation) {
            return Ok(());
        }
        if named != instead_of {
            return Err(ErrorKind::Stale.into());
        }
        if let Some(last) = named {
            nodes.alive.remove(&last);
        }
        nodes.names.insert(node.name.clone(), node.incarnation);
        let alive = Alive { node: node.clone(), until: Instant::now() + lease, wanted: Vec::new() };
        nodes.alive.insert(node.incarnation, alive);
        Ok(())
    }

    async fn named(&self, layer: &str, name: &str) -> Result<Option<Incarnation>, StoreError> {
        Ok(MemoryStore::nodes(self).of(layer).names.get(name).copied())
    }

    async fn renew(
        &self,
        layer: &str,
        node: Incarnation,
        lease: Duration,
        _within: Duration,
    ) -> Result<Renewed, StoreError> {
        Ok(match MemoryStore::nodes(self).of(layer).alive.get_mut(&node) {
            None => Renewed::Gone,
            Some(alive) => {
                alive.until = alive.until.max(Instant::now() + lease);
                let wanted = std::mem::take(&mut alive.wanted);
                Renewed::Held { wanted, run: EngineRun::from_number(0) }
            }
        })
    }

    async fn retire(&self, layer: &str, node: Incarnation) -> Result<(), StoreError> {
        MemoryStore::nodes(self).of(layer).alive.remove(&node);
        Ok(())
    }

    async fn find(&self, layer: &str, node: Incarnation) -> Result<Option<NodeInfo>, StoreError> {
        Ok(MemoryStore::nodes(self).of(layer).alive.get(&node).map(|alive| alive.node.clone()))
    }

    async fn nodes(&self, layer: &str) -> Result<Vec<NodeInfo>, StoreError> {
        let mut nodes = MemoryStore::nodes(self);
        Ok(nodes.of(layer).alive.values().map(|alive| alive.node.clone()).collect())
    }

    async fn want(
        &self,
        layer: &str,
        owner: Incarnation,
        key: &StoreKey,
    ) -> Result<(), StoreError> {
        if let Some(alive) = MemoryStore::nodes(self).of(layer).alive.get_mut(&owner)
            && !alive.wanted.contains(key)
        {
            alive.wanted.push(key.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::store::contract;

    #[tokio::test]
    async fn the_contract_of_clusters_holds() {
        let store = MemoryStore::new();
        contract::check_cluster(&store, &store.for_another_process()).await;
    }
}
