//! Which nodes live: their leases, names and wishes, each under one key.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use bytes::Bytes;
use redis::Value;
use session_resume::store::{
    ClusterStore, EngineRun, ErrorKind, Incarnation, NodeInfo, Renewed, StoreError, StoreKey,
};

use crate::{
    call::Call,
    connection::{bytes, strange},
    record::millis,
    scripts::Script,
    store::RedisStore,
};

/// For how long a node's name is known after it was enlisted last.
const NAME_LASTS: Duration = Duration::from_secs(30 * 24 * 3600);
/// For how long a wish waits for an owner that says nothing.
const WISH_LASTS: Duration = Duration::from_secs(60);
/// A bound on what a process is asked to believe.
const LONGEST_NAME: usize = 4096;

impl RedisStore {
    /// Calls on the connection of leases, on which no large record is in the way.
    async fn lease_call(
        &self,
        script: Script,
        key: Vec<u8>,
        args: Vec<Bytes>,
        within: Option<Duration>,
    ) -> Result<Value, StoreError> {
        let answer = self.leases().call_within(Call::new(script, key, args), None, within).await;
        answer.map_err(|failure| self.error(failure))
    }

    async fn text_of(&self, layer: &str, node: Incarnation) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.keys().node(layer, node);
        match self.lease_call(Script::Load, key, Vec::new(), None).await? {
            Value::Nil => Ok(None),
            Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                Ok([value, _]) => bytes(value).map(Some).map_err(|failure| self.error(failure)),
                Err(_) => Err(self.error(strange())),
            },
            _ => Err(self.error(strange())),
        }
    }

    fn list(&self, answer: Value) -> Result<Vec<Vec<u8>>, StoreError> {
        let Value::Array(items) = answer else {
            return Err(self.error(strange()));
        };
        items.into_iter().map(|item| bytes(item).map_err(|failure| self.error(failure))).collect()
    }
}

impl ClusterStore for RedisStore {
    async fn enlist(
        &self,
        layer: &str,
        node: &NodeInfo,
        instead_of: Option<Incarnation>,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let text = info_text(node)?;
        let ours = node.incarnation.to_string();
        let found = instead_of.map(|last| last.to_string()).unwrap_or_default();
        let args = vec![ours.clone().into(), found.into(), millis(NAME_LASTS).into()];
        let has =
            self.lease_call(Script::Name, self.keys().name(layer, &node.name), args, None).await?;
        if bytes(has).map_err(|failure| self.error(failure))? != ours.as_bytes() {
            return Err(ErrorKind::Stale.into());
        }
        // The order counts: the last one is gone before this one lives.
        if let Some(last) = instead_of.filter(|last| *last != node.incarnation) {
            self.lease_call(Script::Forget, self.keys().node(layer, last), Vec::new(), None)
                .await?;
        }
        let args = vec![text.into(), millis(lease).into()];
        self.lease_call(Script::Announce, self.keys().node(layer, node.incarnation), args, None)
            .await?;
        // Afterwards: a listed node that has no lease is taken off the list by the others.
        let noted = vec![Bytes::from(ours)];
        self.lease_call(Script::NoteNode, self.keys().nodes(layer), noted, None).await.map(drop)
    }

    async fn named(&self, layer: &str, name: &str) -> Result<Option<Incarnation>, StoreError> {
        let key = self.keys().name(layer, name);
        let value = match self.lease_call(Script::Load, key, Vec::new(), None).await? {
            Value::Nil => return Ok(None),
            Value::Array(pair) => pair.into_iter().next().unwrap_or(Value::Nil),
            _ => return Err(self.error(strange())),
        };
        let text = bytes(value).map_err(|failure| self.error(failure))?;
        let text = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
        text.map(Some).ok_or_else(|| ErrorKind::Corrupt.into())
    }

    async fn renew(
        &self,
        layer: &str,
        node: Incarnation,
        lease: Duration,
        within: Duration,
    ) -> Result<Renewed, StoreError> {
        let (renew, wanted) = (self.keys().node(layer, node), self.keys().wanted(layer, node));
        let args = vec![Bytes::from(millis(lease))];
        // Both go in one round trip.
        let (renewed, wanted) = tokio::join!(
            self.lease_call(Script::Renew, renew, args, Some(within)),
            self.lease_call(Script::TakeWanted, wanted, Vec::new(), Some(within)),
        );
        match renewed? {
            Value::Int(1) => {}
            Value::Int(_) => return Ok(Renewed::Gone),
            _ => return Err(self.error(strange())),
        }
        // What cannot be read now is wanted again.
        let mut told = wanted.and_then(|told| self.list(told)).unwrap_or_default().into_iter();
        let mut run_and_breaks = DefaultHasher::new();
        told.next().hash(&mut run_and_breaks);
        // What was on its way on a connection that broke may be lost, too.
        self.breaks().hash(&mut run_and_breaks);
        let wanted = told.filter_map(StoreKey::from_bytes).collect();
        Ok(Renewed::Held { wanted, run: EngineRun::from_number(run_and_breaks.finish()) })
    }

    async fn retire(&self, layer: &str, node: Incarnation) -> Result<(), StoreError> {
        self.lease_call(Script::Forget, self.keys().node(layer, node), Vec::new(), None).await?;
        let dropped = vec![Bytes::from(node.to_string())];
        self.lease_call(Script::DropNode, self.keys().nodes(layer), dropped, None).await.map(drop)
    }

    async fn find(&self, layer: &str, node: Incarnation) -> Result<Option<NodeInfo>, StoreError> {
        let text = self.text_of(layer, node).await?;
        text.map(|text| parse_info(&text)).transpose()
    }

    async fn nodes(&self, layer: &str) -> Result<Vec<NodeInfo>, StoreError> {
        let listed =
            self.lease_call(Script::ListNodes, self.keys().nodes(layer), Vec::new(), None).await?;
        let listed = self.list(listed)?;
        let mut nodes = Vec::with_capacity(listed.len());
        for text in listed {
            let node = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            let Some(node) = node else {
                tracing::warn!("the list of nodes names something that is no node");
                continue;
            };
            if let Some(info) = self.find(layer, node).await? {
                nodes.push(info);
            } else {
                let dropped = vec![Bytes::from(text)];
                self.lease_call(Script::DropNode, self.keys().nodes(layer), dropped, None).await?;
            }
        }
        Ok(nodes)
    }

    async fn want(
        &self,
        layer: &str,
        owner: Incarnation,
        key: &StoreKey,
    ) -> Result<(), StoreError> {
        let args = vec![Bytes::copy_from_slice(key.as_bytes()), millis(WISH_LASTS).into()];
        self.lease_call(Script::Want, self.keys().wanted(layer, owner), args, None).await.map(drop)
    }
}

fn info_text(node: &NodeInfo) -> Result<String, StoreError> {
    let NodeInfo { name, incarnation, address, reads, .. } = node;
    if name.len() + address.len() > LONGEST_NAME {
        return Err(ErrorKind::TooLarge.into());
    }
    // Lines: names have none, and no format is needed.
    if name.contains('\n') || address.contains('\n') {
        return Err(StoreError::new(ErrorKind::TooLarge, "the name of a node is one line"));
    }
    Ok(format!("{incarnation}\n{reads}\n{name}\n{address}"))
}

fn parse_info(text: &[u8]) -> Result<NodeInfo, StoreError> {
    let parse = || {
        let mut lines = std::str::from_utf8(text).ok()?.split('\n');
        let incarnation = lines.next()?.parse().ok()?;
        let reads = lines.next()?.parse().ok()?;
        Some(NodeInfo::new(lines.next()?, incarnation, lines.next()?, reads))
    };
    parse().ok_or_else(|| ErrorKind::Corrupt.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_comes_back_from_its_text() {
        let node = NodeInfo::new("pod 1", Incarnation::from_number(7), "10.0.0.7:7946", 3);
        assert_eq!(parse_info(info_text(&node).unwrap().as_bytes()).unwrap(), node);
        assert!(info_text(&NodeInfo::new("a\nb", node.incarnation, "x", 1)).is_err());
        for text in ["", "x\n1\na\nb", "7\nx\na\nb", "7\n1\na"] {
            assert!(parse_info(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
