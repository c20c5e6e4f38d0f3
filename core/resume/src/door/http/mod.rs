//! Sessions over HTTP, on the route of their WebSocket: from any request to its answer.
//!
//! `gate` says which pages may ask. A client of ours comes by a `pipe`. Where plain readers and writers are let in, `events` writes what the session says, and
//! `message` takes one message. `start` is for routes of the application's own. `tube` joins
//! the two ends of a stream.

mod body;
mod events;
mod gate;
mod message;
mod pipe;
mod plain;
mod start;
pub(crate) mod tube;

use std::{borrow::Cow, error::Error, sync::Arc, time::Instant};

use bytes::Buf;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use session_resume_proto::wire::SUBPROTOCOL;

pub use self::{body::Body, start::ResumeStart};
use self::{
    message::Writer,
    pipe::{Is, Visit},
    plain::Reader,
};
use crate::{
    BlockingSession, Identity, IntoOutcome, LiveSession, Message, RequestView,
    door::{
        upgrade::Upgrade,
        websocket::{Probe, ResumeUpgrade},
    },
    live::{handler, session::IsUrgent},
    words::{context::RequestContext, refusal::Refusal},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// What is said of a request that is none of those that a session takes.
const WAYS: &str = "expected a WebSocket upgrade, or a POST with the headers Session-Resume-Offer and \
                    Session-Resume-Pipe, or a GET or POST with Session-Resume-Pipe; a plain EventSource or POST only \
                    where the layer allows it: with_plain_http(true)";

/// A request on a session's route, whichever way it comes: a WebSocket upgrade, or plain HTTP.
///
/// The framework's handler runs on every request; [`on_session`](Self::on_session)'s once per session.
#[derive(Debug)]
#[must_use = "answer the request with what on_session or refuse returns"]
pub struct ResumeConnection<T: Send + 'static = ()> {
    way: Way<T>,
    /// What every answer over HTTP has.
    headers: HeaderMap,
}

#[derive(Debug)]
enum Way<T: Send + 'static> {
    WebSocket(Box<ResumeUpgrade<T>>),
    /// A WebSocket that only asks whether frames pass.
    Probe(Box<Probe>, Identity),
    Pipe(Box<Visit<T>>),
    Reader(Box<Reader<T>>),
    Writer(Box<Writer<T>>),
}

/// Which way a request comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A WebSocket upgrade.
    WebSocket,
    /// A WebSocket upgrade of a client of ours that only asks whether frames pass: it touches no session.
    Probe,
    /// A stream of events for a client of ours.
    Sse,
    /// A request of a client of ours for messages.
    Poll,
    /// A request of a client of ours with messages.
    Post,
    /// A stream of events for a reader without a client of ours, such as a browser's `EventSource`.
    PlainEvents,
    /// One message of a writer without a client of ours.
    PlainMessage,
}

impl<T: Send + 'static> ResumeConnection<T> {
    /// Checks a request and makes its session ready; for adapters.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with. For an `OPTIONS` that is the answer that says what the route takes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been done for this request yet.
    pub async fn prepare<B>(parts: &Parts, body: B) -> Result<Self, Refusal>
    where
        B: http_body::Body<Data: Buf + Send, Error: Into<BoxError>> + Send + 'static,
    {
        let req = RequestView::from_parts(parts);
        let is_handshake = req.is_upgrade()
            || parts.headers.contains_key(header::SEC_WEBSOCKET_KEY)
            || parts.headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL);
        if is_handshake {
            let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
            if !registry.config().http.websocket {
                let text = "this route takes no WebSocket";
                return Err(Refusal::new(StatusCode::FORBIDDEN, text).counted());
            }
            let way = if Probe::is_asked_for(parts) {
                let probe = Probe::prepare::<T>(parts).map_err(Refusal::counted)?;
                Way::Probe(Box::new(probe), context.identity())
            } else {
                Way::WebSocket(Box::new(ResumeUpgrade::prepare(parts).await?))
            };
            return Ok(Self { way, headers: HeaderMap::new() });
        }
        let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
        if parts.method == Method::OPTIONS {
            return Err(gate::options(registry, parts));
        }
        gate::check(registry, parts).map_err(Refusal::counted)?;
        let readable = |refusal| gate::readable(refusal, parts);
        let config = registry.config();
        let takes_ours = config.http.sse || config.http.poll;
        let way = if takes_ours && pipe::is_marked(parts) {
            let visit = Visit::prepare(registry, context, parts, body).await;
            Way::Pipe(Box::new(visit.map_err(|refusal| readable(refusal.counted()))?))
        } else if config.plain_http && plain::asks_for_events(parts) {
            let reader = Reader::prepare(registry, context, parts).await;
            Way::Reader(Box::new(reader.map_err(readable)?))
        } else if config.plain_http && message::is_one(parts) {
            let writer = Writer::prepare(registry, context, parts, body).await;
            Way::Writer(Box::new(writer.map_err(|refusal| readable(refusal.counted()))?))
        } else {
            // Some browsers hide how an upgrade was refused, and ask again without one: a route that speaks the protocol
            // says so.
            let refusal = Refusal::new(StatusCode::BAD_REQUEST, WAYS);
            let refusal = refusal.wanting(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
            return Err(readable(refusal.counted()));
        };
        let mut headers = HeaderMap::new();
        gate::mark(&mut headers, parts);
        Ok(Self { way, headers })
    }

    /// Returns which way the request comes.
    pub fn kind(&self) -> Kind {
        match &self.way {
            Way::WebSocket(_) => Kind::WebSocket,
            Way::Probe(..) => Kind::Probe,
            Way::Pipe(visit) => match visit.is() {
                Is::Stream => Kind::Sse,
                Is::Poll => Kind::Poll,
                Is::Post => Kind::Post,
            },
            Way::Reader(_) => Kind::PlainEvents,
            Way::Writer(_) => Kind::PlainMessage,
        }
    }

    /// Returns the browser's identity.
    pub fn identity(&self) -> Identity {
        match &self.way {
            Way::WebSocket(upgrade) => upgrade.identity(),
            Way::Probe(_, identity) => *identity,
            Way::Pipe(visit) => visit.identity(),
            Way::Reader(reader) => reader.identity(),
            Way::Writer(writer) => writer.identity(),
        }
    }

    fn map(
        self,
        upgrade: impl FnOnce(ResumeUpgrade<T>) -> ResumeUpgrade<T>,
        plain: impl FnOnce(Upgrade<T>) -> Upgrade<T>,
    ) -> Self {
        let way = match self.way {
            Way::WebSocket(it) => Way::WebSocket(Box::new(upgrade(*it))),
            Way::Probe(..) => self.way,
            Way::Pipe(it) => Way::Pipe(Box::new(it.map(plain))),
            Way::Reader(it) => Way::Reader(Box::new(it.map(plain))),
            Way::Writer(it) => Way::Writer(Box::new(it.map(plain))),
        };
        Self { way, ..self }
    }

    /// Selects one of the application's own subprotocols, as
    /// [`ResumeUpgrade::protocols`](crate::adapter::ResumeUpgrade::protocols). It concerns WebSockets alone.
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        self.map(|upgrade| upgrade.protocols(protocols), |plain| plain)
    }

    /// Names the handler, for sessions in a store: after a restart they go on only with a handler of this name.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        let name = name.into();
        self.map(|upgrade| upgrade.named(name.clone()), |plain| plain.named(name.clone()))
    }

    /// Lets this request into its session whatever the path of the one that started the session's handler: see
    /// [`ResumeUpgrade::any_path`](crate::adapter::ResumeUpgrade::any_path).
    pub fn any_path(self) -> Self {
        self.map(ResumeUpgrade::any_path, Upgrade::any_path)
    }

    /// Lets this client read, and not write: see [`Upgrade::read_only`](crate::adapter::Upgrade::read_only). A plain `POST` is answered
    /// with 403.
    pub fn read_only(self) -> Self {
        let mut this = self.map(ResumeUpgrade::read_only, Upgrade::read_only);
        if let Way::Pipe(visit) = &mut this.way {
            visit.may_only_read();
        }
        this
    }

    /// Lets this client stay until then: see [`Upgrade::valid_until`](crate::adapter::Upgrade::valid_until).
    pub fn valid_until(self, until: Instant) -> Self {
        let mut this = self.map(|it| it.valid_until(until), |plain| plain.valid_until(until));
        if let Way::Pipe(visit) = &mut this.way {
            visit.may_stay_until(until);
        }
        this
    }

    /// Says which messages the handler may take before their turn, while it works: see
    /// [`Upgrade::on_urgent`](crate::adapter::Upgrade::on_urgent).
    pub fn on_urgent(self, is_urgent: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        let is_urgent: IsUrgent = Arc::new(is_urgent);
        self.map(
            |upgrade| upgrade.with_urgent(Arc::clone(&is_urgent)),
            |plain| plain.with_urgent(Arc::clone(&is_urgent)),
        )
    }

    /// Sets the path of the request as the client sent it; for adapters, see
    /// [`Upgrade::at_path`](crate::adapter::Upgrade::at_path).
    pub fn at_path(self, path: &str) -> Self {
        self.map(|upgrade| upgrade.at_path(path), |plain| plain.at_path(path))
    }

    /// Answers the request on its session. The first time, the handler starts; it outlives the connection, and later the
    /// closure is dropped uncalled. So what the closure captures is of the request that started the handler:
    /// [what that means](crate::adapter::Upgrade::on_session).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is as the client's hanging up.
    pub async fn on_session<F, Fut>(self, handler: F) -> Response<Body>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let Self { way, headers } = self;
        let response = match way {
            Way::WebSocket(upgrade) => return upgrade.on_session(handler).map(Body::from),
            Way::Probe(probe, _) => return probe.answer().map(Body::from),
            Way::Pipe(visit) => visit.on_session(handler).await,
            Way::Reader(reader) => reader.on_session(handler),
            Way::Writer(writer) => writer.on_session(handler).await,
        };
        marked(response, headers)
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own and may block.
    ///
    /// # Cancel safety
    ///
    /// As [`on_session`](Self::on_session).
    pub async fn on_session_blocking<F, R>(self, handler: F) -> Response<Body>
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        self.on_session(handler::on_thread(handler)).await
    }

    /// Refuses the client: 403, or 4101 with the reason for one that offers to resume.
    ///
    /// # Cancel safety
    ///
    /// As [`on_session`](Self::on_session).
    pub async fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Response<Body> {
        let Self { way, headers } = self;
        let response = match way {
            Way::WebSocket(upgrade) => return upgrade.refuse(reason).map(Body::from),
            Way::Probe(..) => {
                let reason = reason.into();
                return Refusal::by_application(reason).counted().into_response().map(Body::from);
            }
            Way::Pipe(visit) => visit.refuse(reason.into()).await,
            Way::Reader(reader) => reader.refuse(reason.into()),
            Way::Writer(writer) => writer.refuse(reason.into()),
        };
        marked(response, headers)
    }
}

/// Adds what every answer has, and keeps what this one has of its own.
fn marked(mut response: Response<Body>, headers: HeaderMap) -> Response<Body> {
    let own = std::mem::replace(response.headers_mut(), headers);
    response.headers_mut().extend(own);
    response
}
