//! Sends a request on to the node that owns its session.

use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep, timeout};

use super::{
    head::{Hop, HopKey, NAME},
    pool::{Greeted, Pool, dial},
    relay::Relayed,
    sealed::Sealed,
};
use crate::{
    RequestView,
    live::registry::Registry,
    words::{
        cluster::{Counted, Membership},
        context::RequestContext,
        node::NodeInfo,
        peer_addr::PeerAddr,
        random,
        refusal::Refusal,
    },
};

/// Between two attempts; doubled after each.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long an owner may take to answer an upgrade: clients give up after 20 s.
const UPGRADE: Duration = Duration::from_secs(15);
/// And any other request: the longest poll, and some.
const REQUEST: Duration = Duration::from_secs(70);
/// An answer that goes through an extractor is held whole; a longer one needs `at_owner`.
const LONGEST_ANSWER: usize = 16 << 20;

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
        let sending = Sending { registry, node, parts };
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
    async fn failed(&mut self, node: &Membership, owner: &NodeInfo) -> Result<(), Refusal> {
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
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    // A WebSocket is relayed where its session is extracted.
    if RequestView::from_parts(&parts).is_upgrade() {
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
            match dial(&owner.address).await {
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
    let sending = Sending { registry, node, parts: &parts };
    let sent = sending.send(greeted, &owner, body);
    let answered = tokio::select! {
        sent = timeout(REQUEST, sent) => sent.ok().and_then(Result::ok),
        () = node.is_gone_for_good(owner.incarnation) => None,
    };
    // The body is gone: it is not known what has become of it.
    let mut response = answered.ok_or_else(lost)?;
    if response.status() == StatusCode::MISDIRECTED_REQUEST && response.headers().contains_key(NAME)
    {
        return Err(lost());
    }
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        response.headers_mut().remove(name);
    }
    Ok(AtOwner::Answered(response))
}

/// It is not known whether the owner has handled the request.
fn lost() -> Refusal {
    let text = "the node that has the session did not answer, try again later";
    Refusal::busy(text, Duration::from_secs(1))
}

/// The client is told to come back: another node may reach the owner.
fn unreachable(owner: &NodeInfo) -> Refusal {
    tracing::warn!(node = %owner.name, address = %owner.address, "the node that has a session is not reached");
    let seconds = 1 + u64::from(random::bytes::<1>()[0]) % 3;
    let text = "the session is at another node, which is not reached from here, try again later";
    Refusal::busy(text, Duration::from_secs(seconds))
}

/// Why there is no answer.
enum Failed {
    /// The owner was not reached, or is not the owner any more.
    Unreachable(&'static str),
    Refused(Refusal),
}

struct Sending<'a, T> {
    registry: &'a Registry<T>,
    node: &'a Arc<Membership>,
    parts: &'a Parts,
}

impl<T: Send + 'static> Sending<'_, T> {
    async fn to(&self, owner: &NodeInfo) -> Result<Relayed, Failed> {
        let view = RequestView::from_parts(self.parts);
        if !view.is_upgrade() && has_body(self.parts) {
            return Err(Failed::Refused(Refusal::needs_at_owner()));
        }
        let counted = if view.is_upgrade() {
            let config = self.registry.config();
            let most = self.node.config().max_relays.unwrap_or(config.limits.max_sessions);
            let counted = Counted::new(self.node, |node| &node.relays, most);
            Some(counted.ok_or_else(|| Failed::Refused(Refusal::too_many_relays()))?)
        } else {
            None
        };
        let patience = if view.is_upgrade() { UPGRADE } else { REQUEST };
        // An upgrade may be sent twice: the session takes a repeated offer for what it is.
        let may_repeat = view.is_upgrade() || self.parts.method.is_safe();
        let failed =
            |why| if may_repeat { Failed::Unreachable(why) } else { Failed::Refused(lost()) };
        let answered = async {
            let pool = pool(self.node);
            if let Some(ready) = pool.take(&owner.address) {
                pool.refill(&owner.address);
                // The owner may have closed it meanwhile.
                match self.send(ready, owner, Empty::<Bytes>::new()).await {
                    Ok(response) => return Ok(response),
                    Err(why) if !may_repeat => return Err(failed(why)),
                    Err(_) => {}
                }
            }
            let fresh = dial(&owner.address).await;
            let fresh = fresh.map_err(|_| Failed::Unreachable("not reached"))?;
            pool.refill(&owner.address);
            self.send(fresh, owner, Empty::<Bytes>::new()).await.map_err(failed)
        };
        let response = tokio::select! {
            answered = timeout(patience, answered) => answered,
            () = self.node.is_gone_for_good(owner.incarnation) => return Err(failed("gone")),
        };
        let response = response.unwrap_or_else(|_| Err(failed("no answer in time")))?;
        if response.status() == StatusCode::MISDIRECTED_REQUEST
            && response.headers().contains_key(NAME)
        {
            return Err(Failed::Unreachable("not the owner any more"));
        }
        let (owner, node) = (owner.incarnation, Arc::clone(self.node));
        Ok(Relayed { response, owner, counted, node })
    }

    async fn send<B>(
        &self,
        greeted: Greeted,
        owner: &NodeInfo,
        body: B,
    ) -> Result<Response<Incoming>, &'static str>
    where
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let Greeted { stream, greeting, .. } = greeted;
        let key = hop_key(self.registry);
        let io = TokioIo::new(Sealed::new(stream, key, greeting));
        let (mut sender, connection) =
            http1::handshake(io).await.map_err(|_| "no connection for HTTP")?;
        // Ends with its connection.
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a hop's connection ended");
            }
        });
        let request = self.request(owner, body.is_end_stream()).map(|()| body);
        sender.send_request(request).await.map_err(|_| "the connection was lost")
    }

    /// The same request, once more.
    fn request(&self, owner: &NodeInfo, is_empty: bool) -> Request<()> {
        let Self { registry, node, parts } = self;
        let mut request = Request::new(());
        let view = RequestView::from_parts(parts);
        let context = RequestContext::of::<T>(&parts.extensions).ok().map(|(context, _)| context);
        *request.method_mut() = parts.method.clone();
        let asked = context.and_then(|context| context.asked.as_ref()?.path.clone());
        let asked = asked.or_else(|| parts.uri.path_and_query().cloned());
        *request.uri_mut() = asked.map_or_else(|| Uri::from_static("/"), Uri::from);
        let mut headers = parts.headers.clone();
        headers.remove(NAME);
        for name in [header::TRANSFER_ENCODING, header::EXPECT] {
            headers.remove(name);
        }
        if is_empty {
            headers.remove(header::CONTENT_LENGTH);
        }
        if view.is_upgrade() {
            if parts.method == Method::CONNECT {
                *request.method_mut() = Method::GET;
                let key = BASE64.encode(&random::bytes::<16>());
                let key = HeaderValue::try_from(key).expect("base64 is ASCII");
                headers.insert(header::SEC_WEBSOCKET_KEY, key);
            }
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        } else {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if !headers.contains_key(header::HOST)
            && let Some(authority) = parts.uri.authority()
            && let Ok(host) = HeaderValue::try_from(authority.as_str())
        {
            headers.insert(header::HOST, host);
        }
        if let Some(context) = context {
            add_cookie(&mut headers, context);
        }
        let peer = parts.extensions.get::<PeerAddr>().map(|PeerAddr(peer)| *peer);
        let hop = Hop {
            from: node.incarnation(),
            to: owner.incarnation,
            peer,
            is_https: registry.config().cookie.request_is_secure(view),
        };
        headers.insert(NAME, hop.unsealed());
        *request.headers_mut() = headers;
        request
    }

    /// The owner's answer, as the answer of this request.
    async fn answer(&self, relayed: Relayed) -> Refusal {
        if let Ok((context, _)) = RequestContext::of::<T>(&self.parts.extensions)
            && !context.is_known()
        {
            // The owner has been shown the cookie that this node sets.
            context.has_used();
        }
        if relayed.is_upgrade() {
            let (status, headers) = relayed.join(self.parts);
            return Refusal::relayed(status, headers, Bytes::new());
        }
        let (head, body) = relayed.response.into_parts();
        let mut headers = head.headers;
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(body) => Refusal::relayed(head.status, headers, body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Refusal::needs_at_owner(),
            Err(_) => Refusal::busy(
                "the node that has the session was lost while it answered, try again later",
                Duration::from_secs(1),
            ),
        }
    }
}

/// A body is not there any more where an extractor runs.
fn has_body(parts: &Parts) -> bool {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let is_empty = length.is_none_or(|length| length.as_bytes() == b"0");
    !is_empty || parts.headers.contains_key(header::TRANSFER_ENCODING)
}

/// A cookie that was made on the way is shown to the owner.
fn add_cookie(headers: &mut http::HeaderMap, context: &RequestContext) {
    let Some(pair) = context.visit.as_ref().filter(|_| !context.is_known()) else {
        return;
    };
    let mut cookie = Vec::new();
    for before in headers.get_all(header::COOKIE) {
        cookie.extend_from_slice(before.as_bytes());
        cookie.extend_from_slice(b"; ");
    }
    cookie.extend_from_slice(&pair.pair());
    if let Ok(cookie) = HeaderValue::from_bytes(&cookie) {
        headers.insert(header::COOKIE, cookie);
    }
}

pub(super) fn hop_key<T>(registry: &Registry<T>) -> HopKey {
    HopKey::new(&registry.config().token_key().derive(b"hop v1"))
}

fn pool(node: &Membership) -> Arc<Pool> {
    let door = node.door.get_or_init(|| Arc::new(Pool::default()));
    Arc::clone(door).downcast().unwrap_or_else(|_| Arc::new(Pool::default()))
}
