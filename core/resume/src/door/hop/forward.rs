//! Sends a request on to the node that owns its session.

use std::{sync::OnceLock, time::Duration};

#[cfg(feature = "axum")]
use super::head::end_to_end;
use http::request::Parts;
#[cfg(feature = "axum")]
use http::{Request, Response};
#[cfg(feature = "axum")]
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, sleep, timeout};

use super::{
    head::Hop,
    sending::{Failed, For, Sending},
};
use crate::{
    live::registry::Registry,
    words::{
        cluster::{Elsewhere, Membership},
        context::RequestContext,
        node::{Incarnation, NodeInfo},
        random,
        refusal::Refusal,
    },
};

/// Between two attempts; doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Until a session that is wanted is looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Clients give up after 20 s.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The attempts of one request to reach the node that owns its session.
pub(crate) struct Attempts {
    begun: Instant,
    pause: Duration,
    /// The owner that was not reached, and since when.
    unreached: Option<(Incarnation, Instant)>,
    /// Whether the request is for the session of its key, and when the owner was asked last to hand that over.
    may_want: bool,
    wanted: Option<Instant>,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        let (begun, pause) = (Instant::now(), FIRST_PAUSE);
        Self { begun, pause, unreached: None, may_want: true, wanted: None }
    }

    /// Those of a request that only asks for a session by its id.
    pub(crate) fn of_poll() -> Self {
        Self { may_want: false, ..Self::new() }
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
        if let Err(refusal) = reroute(node, owner) {
            return Some(refusal);
        }
        if matches!(node.config().elsewhere, Elsewhere::HandOver) && self.may_want {
            return self.has_handed_over(registry, parts, owner).await.err();
        }
        let context = RequestContext::of::<T>(&parts.extensions).ok();
        let answered = context.and_then(|(context, _)| Some(&context.asked.as_ref()?.answered));
        if let Some(answer) = answered.and_then(OnceLock::get) {
            return Some(answer.clone());
        }
        let sending = Sending { registry, node, parts, asks_for: For::Session };
        let answer = match sending.to(owner).await {
            Ok(relayed) => sending.answer(relayed).await,
            Err(Failed::Refused(refusal)) => refusal,
            Err(Failed::NotTheOwner) => {
                tracing::debug!(node = %owner.name, "the session is not there any more");
                self.unreached = None;
                return self.failed(node, owner).await.err();
            }
            Err(Failed::Unreachable(why)) => {
                tracing::debug!(node = %owner.name, address = %owner.address, why, "no hop");
                if self.unreached_for(owner) >= node.config().lease {
                    // It lives, says the engine.
                    self.want(registry, parts, owner).await;
                }
                return self.failed(node, owner).await.err();
            }
        };
        if let Some(told) = answered {
            let _ = told.set(answer.clone());
        }
        Some(answer)
    }

    /// Has the owner asked to hand the session over, and waits a moment before it is looked for again.
    async fn has_handed_over<T: Send + 'static>(
        &mut self,
        registry: &Registry<T>,
        parts: &Parts,
        owner: &NodeInfo,
    ) -> Result<(), Refusal> {
        let lease = registry.node().map_or(Duration::ZERO, |node| node.config().lease);
        if self.begun.elapsed() > (lease + Duration::from_secs(5)).min(LONGEST_WAIT) {
            let text = "the node that has the session is busy with it, try again later";
            return Err(Refusal::busy(text, some_seconds()));
        }
        self.want(registry, parts, owner).await;
        sleep(LOOK_AGAIN).await;
        Ok(())
    }

    /// Asks the owner to hand the session over, unless it was asked a moment ago: it reads that with its next renewal.
    async fn want<T: Send + 'static>(
        &mut self,
        registry: &Registry<T>,
        parts: &Parts,
        owner: &NodeInfo,
    ) {
        let (Some(node), Some(store)) = (registry.node(), &registry.config().store) else {
            return;
        };
        let pause = node.config().lease / 4;
        let is_new = self.wanted.is_none_or(|before| before.elapsed() >= pause);
        let Ok((context, _)) = RequestContext::of::<T>(&parts.extensions) else {
            return;
        };
        if !self.may_want || !is_new {
            return;
        }
        self.wanted = Some(Instant::now());
        let key = store.session_key(&context.key().to_bytes());
        let wanted = node.config().store.want(&store.name, owner.incarnation, &key);
        match timeout(pause, wanted).await {
            Ok(Ok(())) => {
                tracing::debug!(node = %owner.name, "the owner is asked to hand a session over");
            }
            Ok(Err(error)) => tracing::debug!(%error, "the owner is not asked to hand over"),
            Err(_) => tracing::debug!("the owner is not asked to hand over in time"),
        }
    }

    /// This owner is not reached: returns for how long.
    fn unreached_for(&mut self, owner: &NodeInfo) -> Duration {
        let since = match self.unreached {
            Some((before, since)) if before == owner.incarnation => since,
            _ => Instant::now(),
        };
        self.unreached = Some((owner.incarnation, since));
        since.elapsed()
    }

    /// An attempt has failed; waits before the next one. An owner that has died is gone after a lease.
    pub(super) async fn failed(
        &mut self,
        node: &Membership,
        owner: &NodeInfo,
    ) -> Result<(), Refusal> {
        node.doubt(owner.incarnation);
        let lease = node.config().lease;
        let most = lease + lease / 4 + LONGEST_PAUSE;
        if self.unreached_for(owner) > most || self.begun.elapsed() > most.max(LONGEST_WAIT) {
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
            if let Some(node) = registry.node() {
                reroute(node, &owner)?;
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
    end_to_end(response.headers_mut());
    Ok(AtOwner::Answered(response))
}

/// Refuses the request if the platform is to send it to the owner, see [`Elsewhere::Reroute`].
pub(super) fn reroute(node: &Membership, owner: &NodeInfo) -> Result<(), Refusal> {
    match node.config().elsewhere {
        Elsewhere::Reroute(headers) => Err(Refusal::rerouted(headers(owner))),
        Elsewhere::Relay | Elsewhere::HandOver => Ok(()),
    }
}

/// The client is told to come back: another node may reach the owner.
fn unreachable(owner: &NodeInfo) -> Refusal {
    tracing::warn!(node = %owner.name, address = %owner.address, "the node that has a session is not reached");
    let text = "the session is at another node, which is not reached from here, try again later";
    Refusal::busy(text, some_seconds())
}

fn some_seconds() -> Duration {
    Duration::from_secs(1 + u64::from(random::bytes::<1>()[0]) % 3)
}
