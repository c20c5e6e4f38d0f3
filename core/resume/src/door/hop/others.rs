//! The other nodes, all of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, Full, Limited};
use tokio::time::timeout;

use super::{
    call::{Call, read_count},
    head::Hop,
    pool::dial,
    sending::{For, Sending},
};
use crate::{
    live::registry::Registry,
    words::{cluster::Membership, node::NodeInfo},
};

/// A node that takes longer is left out.
const LONGEST: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: usize = 1 << 20;
const LONGEST_COUNT: usize = 64;

/// Sends a request without a body to all other nodes of the directory, once; returns the bodies of those that have answered
/// 200. A request that another node has sent on is asked nowhere else.
pub(crate) async fn ask_all<T: Send + 'static>(
    registry: &Registry<T>,
    parts: &Parts,
) -> Vec<Bytes> {
    let Some(node) = registry.node().filter(|_| parts.extensions.get::<Hop>().is_none()) else {
        return Vec::new();
    };
    let (others, _) = others(registry, node).await;
    // What the client has is the lists of all nodes together, and each answer is read here.
    let mut parts = parts.clone();
    for name in [header::IF_NONE_MATCH, header::ACCEPT_ENCODING] {
        parts.headers.remove(name);
    }
    let parts = &parts;
    let asked = others.into_iter().map(|other| async move {
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

/// What the other nodes have answered to a call.
pub(super) struct Answered {
    /// The sum of what they have told.
    pub(super) count: usize,
    /// The names of those that have not answered.
    pub(super) unanswered: Vec<String>,
    /// Whether the engine has told which nodes there are.
    pub(super) is_directory_read: bool,
}

/// Calls all other nodes, each once.
pub(super) async fn call_all<T: Send + 'static>(registry: &Registry<T>, call: &Call) -> Answered {
    let mut answered = Answered { count: 0, unanswered: Vec::new(), is_directory_read: true };
    let Some(node) = registry.node() else {
        return answered;
    };
    let (others, is_told) = others(registry, node).await;
    answered.is_directory_read = is_told;
    let (parts, ()) = Call::request().into_parts();
    let (parts, body) = (&parts, &call.body());
    let called = others.into_iter().map(|other| async move {
        let sending = Sending { registry, node, parts, asks_for: For::Node };
        let count = async {
            // A new connection: of one that waited it would not be known whether the call has gone through.
            let greeted = dial(&other.address).await.ok()?;
            let response = sending.once(greeted, &other, Full::new(body.clone())).await.ok()?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LONGEST_COUNT).collect().await.ok()?;
            read_count(head.status, &body.to_bytes())
        };
        timeout(LONGEST, count).await.ok().flatten().ok_or(other.name)
    });
    for told in join_all(called).await {
        match told {
            Ok(count) => answered.count += count,
            Err(name) => answered.unanswered.push(name),
        }
    }
    answered
}

/// The other nodes, and whether the engine has told of them just now.
async fn others<T: Send + 'static>(
    registry: &Registry<T>,
    node: &Arc<Membership>,
) -> (Vec<NodeInfo>, bool) {
    // A node that has just begun is not in what is remembered.
    let told = timeout(LONGEST, node.config().store.nodes(&registry.config().name)).await;
    let is_told = matches!(told, Ok(Ok(_)));
    if let Ok(Ok(nodes)) = told {
        node.learn_all(nodes);
    }
    let ours = node.incarnation();
    let others = node.nodes().into_iter().filter(|other| other.incarnation != ours);
    (others.collect(), is_told)
}
