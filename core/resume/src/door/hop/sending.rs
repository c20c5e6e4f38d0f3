//! One request, sent to another node.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use data_encoding::BASE64;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header, request::Parts};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::{
    body::{Body, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use session_resume_proto::wire::EVENTS;
use tokio::time::timeout;

use super::{
    head::{Asker, Hop, HopKey, NAME, end_to_end},
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
        observe::nodes::{Hopped, hopped},
        peer_addr::PeerAddr,
        random,
        refusal::Refusal,
        request::{OFFER, is_media_type, list_items},
    },
};

/// How long an owner may take to answer an upgrade: clients give up after 20 s.
const UPGRADE: Duration = Duration::from_secs(15);
/// And any other request: the longest poll, and some.
const REQUEST: Duration = Duration::from_secs(70);
/// An answer that is no stream is held whole; a longer one needs `at_owner`.
const LONGEST_ANSWER: usize = 16 << 20;

/// Why there is no answer.
pub(super) enum Failed {
    /// The node was reached, and says that the session is not there.
    NotTheOwner,
    /// The owner was not reached, or has not answered.
    Unreachable(&'static str),
    Refused(Refusal),
}

/// What a request asks another node for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// The session of its identity: the cookie that this node has made for it is shown there.
    Session,
    /// A pipe, which knows whose it is. A request without a cookie stays one.
    #[cfg(feature = "http")]
    Pipe,
    /// What the node itself wants. There is no client.
    Node,
}

pub(super) struct Sending<'a, T> {
    pub(super) registry: &'a Registry<T>,
    pub(super) node: &'a Arc<Membership>,
    pub(super) parts: &'a Parts,
    pub(super) asks_for: For,
}

impl<T: Send + 'static> Sending<'_, T> {
    /// Sends it without a body.
    pub(super) async fn to(&self, owner: &NodeInfo) -> Result<Relayed, Failed> {
        let sent = self.without_body(owner).await;
        hopped(match sent {
            Ok(_) => Hopped::Ok,
            Err(Failed::NotTheOwner) => Hopped::Elsewhere,
            Err(Failed::Unreachable(_)) => Hopped::Unreachable,
            Err(Failed::Refused(_)) => Hopped::Refused,
        });
        sent
    }

    async fn without_body(&self, owner: &NodeInfo) -> Result<Relayed, Failed> {
        let view = RequestView::from_parts(self.parts);
        // What an open brings is in its headers.
        let is_open = self.parts.headers.contains_key(OFFER);
        if !view.is_upgrade() && !is_open && has_body(self.parts) {
            return Err(Failed::Refused(Refusal::needs_at_owner()));
        }
        let counted = self.counted().map_err(Failed::Refused)?;
        let patience = if view.is_upgrade() { UPGRADE } else { REQUEST };
        // An upgrade or an open may be sent twice: the session takes a repeated offer for what it is.
        let may_repeat = view.is_upgrade() || is_open || self.parts.method.is_safe();
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
            // An upgrade is cut when it is there; a request that waits is asked again elsewhere.
            () = self.node.is_cut(), if !view.is_upgrade() => {
                return Err(Failed::Refused(Refusal::draining(self.registry.drain.retry())));
            }
        };
        let response = response.unwrap_or_else(|_| Err(failed("no answer in time")))?;
        if is_misdirected(&response) {
            return Err(Failed::NotTheOwner);
        }
        let (owner, node) = (owner.incarnation, Arc::clone(self.node));
        Ok(Relayed { response, owner, counted, node })
    }

    /// Sends it with its body, which is there once.
    ///
    /// # Errors
    ///
    /// Then it is not known what has become of it.
    pub(super) async fn once<B>(
        &self,
        greeted: Greeted,
        owner: &NodeInfo,
        body: B,
    ) -> Result<Response<Incoming>, Refusal>
    where
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let sent = self.send(greeted, owner, body);
        let answered = tokio::select! {
            sent = timeout(REQUEST, sent) => sent.ok().and_then(Result::ok),
            () = self.node.is_gone_for_good(owner.incarnation) => None,
        };
        let misdirected = answered.as_ref().map(is_misdirected);
        hopped(match misdirected {
            Some(false) => Hopped::Ok,
            Some(true) => Hopped::Elsewhere,
            None => Hopped::Unreachable,
        });
        answered.filter(|_| misdirected == Some(false)).ok_or_else(lost)
    }

    /// A connection that is ready, or a new one.
    #[cfg(feature = "http")]
    pub(super) async fn connection(&self, owner: &NodeInfo) -> std::io::Result<Greeted> {
        let pool = pool(self.node);
        let greeted = match pool.take(&owner.address) {
            Some(ready) => Ok(ready),
            None => dial(&owner.address).await,
        };
        if greeted.is_ok() {
            pool.refill(&owner.address);
        }
        greeted
    }

    /// Counts what stays for long: an upgrade, or a stream of events.
    fn counted(&self) -> Result<Option<Counted>, Refusal> {
        let stays = RequestView::from_parts(self.parts).is_upgrade()
            || list_items(&self.parts.headers, &header::ACCEPT)
                .any(|item| is_media_type(item, EVENTS.as_bytes()));
        if !stays {
            return Ok(None);
        }
        let config = self.registry.config();
        let most = self.node.config().max_relays.unwrap_or(config.limits.max_sessions);
        let counted = Counted::new(self.node, |node| &node.relays, most);
        counted.map(Some).ok_or_else(Refusal::too_many_relays)
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
        let Self { registry, node, parts, asks_for } = self;
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
        if let Some(context) = context.filter(|_| *asks_for == For::Session) {
            add_cookie(&mut headers, context);
        }
        let peer = parts.extensions.get::<PeerAddr>().map(|PeerAddr(peer)| *peer);
        let hop = Hop {
            from: node.incarnation(),
            to: owner.incarnation,
            peer,
            asker: if *asks_for == For::Node {
                Asker::Node
            } else if registry.config().cookie.request_is_secure(view) {
                Asker::Https
            } else {
                Asker::Http
            },
        };
        headers.insert(NAME, hop.unsealed());
        *request.headers_mut() = headers;
        request
    }

    /// As [`answer`](Self::answer), of a request that was sent with its body.
    #[cfg(feature = "http")]
    pub(super) async fn answer_to_body(
        &self,
        owner: &NodeInfo,
        response: Response<Incoming>,
    ) -> Refusal {
        let (owner, node) = (owner.incarnation, Arc::clone(self.node));
        self.answer(Relayed { response, owner, counted: None, node }).await
    }

    /// The owner's answer, as the answer of this request.
    pub(super) async fn answer(&self, relayed: Relayed) -> Refusal {
        if self.asks_for == For::Session
            && let Ok((context, _)) = RequestContext::of::<T>(&self.parts.extensions)
            && !context.is_known()
        {
            // The owner has been shown the cookie that this node sets.
            context.has_used();
        }
        if relayed.is_upgrade() {
            let (status, headers) = relayed.join(self.parts);
            return Refusal::relayed(status, headers, Bytes::new());
        }
        #[cfg(feature = "http")]
        if relayed.is_stream() {
            let (status, headers, body) = relayed.into_stream();
            return Refusal::relayed_stream(status, headers, body);
        }
        let (head, body) = relayed.response.into_parts();
        let mut headers = head.headers;
        end_to_end(&mut headers);
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
pub(super) fn has_body(parts: &Parts) -> bool {
    let length = parts.headers.get(header::CONTENT_LENGTH);
    let is_empty = length.is_none_or(|length| length.as_bytes() == b"0");
    !is_empty || parts.headers.contains_key(header::TRANSFER_ENCODING)
}

/// Whether the node that was asked is not, or is no more, the one that the request is for.
fn is_misdirected(response: &Response<Incoming>) -> bool {
    response.status() == StatusCode::MISDIRECTED_REQUEST && response.headers().contains_key(NAME)
}

/// It is not known whether the owner has handled the request, or it is not the owner any more.
pub(super) fn lost() -> Refusal {
    let text = "the node that has the session did not answer, try again later";
    Refusal::busy(text, Duration::from_secs(1))
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

/// The key that seals this node's hops.
pub(super) fn hop_key<T>(registry: &Registry<T>) -> HopKey {
    HopKey::of(registry.key_set().signs())
}

fn pool(node: &Membership) -> Arc<Pool> {
    let door = node.door.get_or_init(|| Arc::new(Pool::default()));
    Arc::clone(door).downcast().unwrap_or_else(|_| Arc::new(Pool::default()))
}
