//! Sends a request on to the node that owns its session.

use std::{sync::OnceLock, time::Duration};

use http::request::Parts;
#[cfg(feature = "axum")]
use http::{Request, Response, header};
#[cfg(feature = "axum")]
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, sleep};

use super::{
    head::Hop,
    sending::{Failed, For, Sending},
};
use crate::{
    live::registry::Registry,
    words::{
        cluster::Membership, context::RequestContext, node::NodeInfo, random, refusal::Refusal,
    },
};

/// Between two attempts; doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The attempts of one request to reach the node that owns its session.
pub(crate) struct Attempts {
    begun: Instant,
    pause: Duration,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Sends the request to the owner, and returns its answer; `None`: the session is to be looked for anew.
    pub(crate) async fn send<T: Send + 'static>(
        &mut self,
        registry: &Registry<T>,
        parts: &Parts,
        owner: &NodeInfo,
    ) -> Option<Refusal> {
        // One hop: the node that has sent this one on looks anew.
        if parts.extensions.get::<Hop>().is_some() {
            return Some(Refusal::not_the_owner(owner));
        }
        let Some(node) = registry.node() else {
            return Some(Refusal::elsewhere());
        };
        let context = RequestContext::of::<T>(&parts.extensions).ok();
        let answered = context.and_then(|(context, _)| Some(&context.asked.as_ref()?.answered));
        if let Some(answer) = answered.and_then(OnceLock::get) {
            return Some(answer.clone());
        }
        let sending = Sending { registry, node, parts, asks_for: For::Session };
        let answer = match sending.to(owner).await {
            Ok(relayed) => sending.answer(relayed).await,
            Err(Failed::Refused(refusal)) => refusal,
            Err(Failed::Unreachable(why)) => {
                tracing::debug!(node = %owner.name, address = %owner.address, why, "no hop");
                return self.failed(node, owner).await.err();
            }
        };
        if let Some(told) = answered {
            let _ = told.set(answer.clone());
        }
        Some(answer)
    }

    /// An attempt has failed; waits before the next one. An owner that has died is gone after a lease.
    pub(super) async fn failed(
        &mut self,
        node: &Membership,
        owner: &NodeInfo,
    ) -> Result<(), Refusal> {
        node.doubt(owner.incarnation);
        let lease = node.config().lease;
        if self.begun.elapsed() > lease + lease / 4 + LONGEST_PAUSE {
            return Err(unreachable(owner));
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// What becomes of a request that is to be answered where its session is.
#[cfg(feature = "axum")]
pub(crate) enum AtOwner<B> {
    /// Here.
    Here(Request<B>),
    /// It was answered there.
    Answered(Response<Incoming>),
}

/// Sends a request on to the node that has its session, with its body, if that is another one.
#[cfg(feature = "axum")]
pub(crate) async fn at_owner<T, B>(request: Request<B>) -> Result<AtOwner<B>, Refusal>
where
    T: Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    // A WebSocket is relayed where its session is extracted.
    if crate::RequestView::from_parts(&parts).is_upgrade() {
        return Ok(AtOwner::Here(Request::from_parts(parts, body)));
    }
    let (owner, greeted) = {
        let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
        let mut attempts = Attempts::new();
        loop {
            let Some(owner) = registry.owner_elsewhere(context).await? else {
                return Ok(AtOwner::Here(Request::from_parts(parts, body)));
            };
            if parts.extensions.get::<Hop>().is_some() {
                return Err(Refusal::not_the_owner(&owner));
            }
            match super::pool::dial(&owner.address).await {
                Ok(greeted) => break (owner, greeted),
                Err(error) => {
                    tracing::debug!(node = %owner.name, %error, "no hop");
                    let Some(node) = registry.node() else {
                        return Err(Refusal::elsewhere());
                    };
                    attempts.failed(node, &owner).await?;
                }
            }
        }
    };
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    let Some(node) = registry.node() else {
        return Err(Refusal::elsewhere());
    };
    if !context.is_known() {
        context.has_used();
    }
    let sending = Sending { registry, node, parts: &parts, asks_for: For::Session };
    let mut response = sending.once(greeted, &owner, body).await?;
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    Ok(AtOwner::Answered(response))
}

/// The client is told to come back: another node may reach the owner.
fn unreachable(owner: &NodeInfo) -> Refusal {
    tracing::warn!(node = %owner.name, address = %owner.address, "the node that has a session is not reached");
    let seconds = 1 + u64::from(random::bytes::<1>()[0]) % 3;
    let text = "the session is at another node, which is not reached from here, try again later";
    Refusal::busy(text, Duration::from_secs(seconds))
}
