//! Sends a request on to the node that it names.

use std::error::Error;

use http::request::Parts;
use hyper::body::Body;

use super::{
    forward::{Attempts, reroute},
    head::Hop,
    sending::{Failed, For, Sending, has_body},
};
use crate::{
    live::registry::Registry,
    words::{cluster::Membership, node::NodeInfo, refusal::Refusal, store::StoreError},
};

/// Sends a request of a pipe on to the node whose name this is true of. `Ok`: that is this node, or no node that lives.
///
/// # Errors
///
/// Returns what the request is answered: a refusal, or the answer of that node.
pub(crate) async fn at_named<T, B>(
    registry: &Registry<T>,
    parts: &Parts,
    is_named: impl Fn(&str) -> bool,
    body: B,
) -> Result<(), Refusal>
where
    T: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let Some(node) = registry.node() else {
        return Ok(());
    };
    if is_named(&node.config().name) {
        return Ok(());
    }
    let mut attempts = Attempts::new();
    let greeted = loop {
        let found = find(registry, node, &is_named).await;
        let Some(owner) = found.map_err(|error| Refusal::by_store(&error))? else {
            return Ok(());
        };
        // One hop: the node that has sent this one on looks anew.
        if parts.extensions.get::<Hop>().is_some() {
            return Err(Refusal::not_the_owner(&owner));
        }
        reroute(node, &owner)?;
        let sending = Sending { registry, node, parts, asks_for: For::Pipe };
        let why = if has_body(parts) {
            match sending.connection(&owner).await {
                Ok(greeted) => break (greeted, owner),
                Err(_) => "not reached",
            }
        } else {
            match sending.to(&owner).await {
                Ok(relayed) => return Err(sending.answer(relayed).await),
                Err(Failed::Refused(refusal)) => return Err(refusal),
                Err(Failed::NotTheOwner) => "it is another life",
                Err(Failed::Unreachable(why)) => why,
            }
        };
        tracing::debug!(node = %owner.name, address = %owner.address, why, "no hop");
        attempts.failed(node, &owner).await?;
    };
    let (greeted, owner) = greeted;
    let sending = Sending { registry, node, parts, asks_for: For::Pipe };
    let response = sending.once(greeted, &owner, body).await?;
    Err(sending.answer_to_body(&owner, response).await)
}

/// Sends a request with a body on to the node that has its session; `Ok`: it is to be answered here, and has its body.
///
/// # Errors
///
/// As [`at_named`].
pub(crate) async fn with_body<T, B>(
    registry: &Registry<T>,
    parts: &Parts,
    context: &crate::words::context::RequestContext,
    body: B,
) -> Result<B, Refusal>
where
    T: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let Some(node) = registry.node() else {
        return Ok(body);
    };
    let mut attempts = Attempts::new();
    loop {
        let Some(owner) = registry.owner_elsewhere(context).await? else {
            return Ok(body);
        };
        if parts.extensions.get::<Hop>().is_some() {
            return Err(Refusal::not_the_owner(&owner));
        }
        reroute(node, &owner)?;
        let sending = Sending { registry, node, parts, asks_for: For::Session };
        match sending.connection(&owner).await {
            Ok(greeted) => {
                let response = sending.once(greeted, &owner, body).await?;
                return Err(sending.answer_to_body(&owner, response).await);
            }
            Err(error) => {
                tracing::debug!(node = %owner.name, address = %owner.address, %error, "no hop");
                attempts.failed(node, &owner).await?;
            }
        }
    }
}

/// Looks for a node that lives: in the directory as it was last read, then in the directory.
async fn find<T>(
    registry: &Registry<T>,
    node: &Membership,
    is_named: impl Fn(&str) -> bool,
) -> Result<Option<NodeInfo>, StoreError> {
    let known = |node: &Membership| node.nodes().into_iter().find(|other| is_named(&other.name));
    if let Some(found) = known(node) {
        return Ok(Some(found));
    }
    let nodes = node.config().store.nodes(&registry.config().name).await?;
    node.learn_all(nodes);
    Ok(known(node))
}
