//! Asks all other nodes the same.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

use super::{
    head::Hop,
    sending::{For, Sending},
};
use crate::live::registry::Registry;

/// A node that takes longer is left out.
const LONGEST: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: usize = 1 << 20;

/// Sends a request without a body to all other nodes of the directory, once; returns the bodies of those that have answered
/// 200. A request that another node has sent on is asked nowhere else.
pub(crate) async fn ask_all<T: Send + 'static>(
    registry: &Registry<T>,
    parts: &Parts,
) -> Vec<Bytes> {
    let Some(node) = registry.node().filter(|_| parts.extensions.get::<Hop>().is_none()) else {
        return Vec::new();
    };
    // A node that has just begun is not in what is remembered.
    if let Ok(Ok(nodes)) =
        timeout(LONGEST, node.config().store.nodes(&registry.config().name)).await
    {
        node.learn_all(nodes);
    }
    // What the client has is the lists of all nodes together, and each answer is read here.
    let mut parts = parts.clone();
    for name in [header::IF_NONE_MATCH, header::ACCEPT_ENCODING] {
        parts.headers.remove(name);
    }
    let parts = &parts;
    let ours = node.incarnation();
    let others = node.nodes().into_iter().filter(|other| other.incarnation != ours);
    let asked = others.map(|other| async move {
        let sending = Sending { registry, node, parts, asks_for: For::Session };
        let answered = async {
            let relayed = sending.to(&other).await.ok()?;
            let (head, body) = relayed.response.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await.ok()?;
            (head.status == StatusCode::OK).then(|| body.to_bytes())
        };
        let answered = timeout(LONGEST, answered).await.ok().flatten();
        if answered.is_none() {
            tracing::debug!(node = %other.name, "a node is left out of a list: it does not answer");
        }
        answered
    });
    join_all(asked).await.into_iter().flatten().collect()
}
