//! Clients of ours that come in requests: from each request to its answer.
//!
//! The rules are `session_resume_proto::pipe`. `transport` is the session's end, `asking` a get under way, `tag` what
//! tells one pipe from all others.

mod asking;
mod tag;
mod transport;

use std::{
    borrow::Cow, error::Error, future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts,
};
use session_resume_proto::{
    numbers::PIPE_POST_WAITS,
    pipe::{
        self, Breach, Form, Get, GetStep, Nonce, Post, Posted, Rejection, Request, Server,
        Settings, Token,
    },
    session::{self, Access},
    wire::{self, Close, Offer, PipeFrame, ServerControl},
};
use tokio::time::{Instant, Sleep};

pub(in crate::door::http) use self::asking::Asking;
use self::transport::Transport;
use super::body::Body;
use crate::{
    Carrier, Identity, IntoOutcome, LiveSession, RequestView,
    door::{hop, upgrade::Upgrade},
    live::{
        pipes::{Pipe, Waits},
        registry::Registry,
    },
    words::{
        clock::Time, context::RequestContext, handler_type::HandlerType, random, refusal::Refusal,
        request::list_items,
    },
};

/// A post must be whole within this time.
pub(super) const SLOWEST_BODY: Duration = Duration::from_secs(20);
/// When to come back where there is no room for one more pipe.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// A request of a pipe.
pub(super) struct Visit<T: Send + 'static> {
    stand: Stand<T>,
    /// What the application says of this request.
    access: Access,
    valid_until: Option<Instant>,
    registry: Arc<Registry<T>>,
    context: RequestContext,
}

/// Where it stands before the handler is known.
enum Stand<T: Send + 'static> {
    /// An open that attaches.
    Opens { upgrade: Box<Upgrade<T>>, nonce: Nonce, form: Form, wait: Option<Duration> },
    /// A get, or an open again.
    Asks { pipe: Arc<Pipe>, get: Get, opens: bool },
    /// A post, with its body.
    Posts { pipe: Arc<Pipe>, body: Result<Post, Breach> },
    /// The pipe is not there.
    Gone(Token),
}

/// What a request of a pipe is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Is {
    Stream,
    Poll,
    Post,
}

/// Whether a request is marked as one of a pipe.
pub(super) fn is_marked(parts: &Parts) -> bool {
    Request::is_marked(|name| parts.headers.contains_key(name).then_some(""))
}

impl<T: Send + 'static> Visit<T> {
    pub(super) async fn prepare<B>(
        registry: &Registry<T>,
        context: &RequestContext,
        parts: &Parts,
        body: B,
    ) -> Result<Self, Refusal>
    where
        B: http_body::Body<Data: Buf + Send, Error: Into<Box<dyn Error + Send + Sync>>>
            + Send
            + 'static,
    {
        let request = read(parts)?;
        check_form(registry, request)?;
        let stand = match request {
            Request::Open { nonce, form, wait } => match registry.pipes.opened_by(&nonce) {
                Some(pipe) if opens_again(&pipe, context) => {
                    let get = Get { down: 0, form, wait, ack: None };
                    Stand::Asks { pipe, get, opens: true }
                }
                Some(_) => return Err(gone_unnamed()),
                None => {
                    let offer = offer(parts)?;
                    let upgrade = Box::new(Upgrade::prepare_with(parts, offer).await?);
                    Stand::Opens { upgrade, nonce, form, wait }
                }
            },
            Request::Get { token, down, form, wait, ack } => {
                match find(registry, context, &token) {
                    Some(pipe) => {
                        let now = registry.clock().now();
                        pipe.step(|state| state.server.handle_request(now));
                        Stand::Asks { pipe, get: Get { down, form, wait, ack }, opens: false }
                    }
                    None => gone_everywhere(registry, parts, token, body).await?,
                }
            }
            Request::Post { token, up, down } => match find(registry, context, &token) {
                Some(pipe) => {
                    let now = registry.clock().now();
                    pipe.step(|state| state.server.handle_request(now));
                    let most = registry.rules().bounds.message.saturating_add(128 << 10);
                    let body = tokio::time::timeout(SLOWEST_BODY, whole(body, most)).await;
                    let slow =
                        || Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body was too slow");
                    let body = match body.map_err(|_| slow())? {
                        Whole::Bytes(bytes) => {
                            Post::read(up, down, bytes).map_err(|_| Breach::Malformed)
                        }
                        Whole::TooBig => Err(Breach::TooBig),
                        Whole::Cut => {
                            let text = "the body ended before its end";
                            return Err(Refusal::new(StatusCode::BAD_REQUEST, text));
                        }
                    };
                    Stand::Posts { pipe, body }
                }
                None => gone_everywhere(registry, parts, token, body).await?,
            },
        };
        let (registry, context) = (registry.arc(), context.clone());
        Ok(Self { stand, access: Access::Full, valid_until: None, registry, context })
    }

    pub(super) fn is(&self) -> Is {
        match &self.stand {
            Stand::Opens { form, .. } | Stand::Asks { get: Get { form, .. }, .. } => match form {
                Form::Stream => Is::Stream,
                Form::Poll => Is::Poll,
            },
            Stand::Posts { .. } => Is::Post,
            Stand::Gone(_) => Is::Poll,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        match &self.stand {
            Stand::Opens { upgrade, .. } => upgrade.identity(),
            Stand::Asks { pipe, .. } | Stand::Posts { pipe, .. } => pipe.identity,
            Stand::Gone(_) => self.context.identity(),
        }
    }

    pub(super) fn map(self, change: impl FnOnce(Upgrade<T>) -> Upgrade<T>) -> Self {
        let stand = match self.stand {
            Stand::Opens { upgrade, nonce, form, wait } => {
                Stand::Opens { upgrade: Box::new(change(*upgrade)), nonce, form, wait }
            }
            other => other,
        };
        Self { stand, ..self }
    }

    /// The application lets this request read, and not write.
    pub(super) fn may_only_read(&mut self) {
        self.access = Access::ReadOnly;
    }

    /// The application gives this request's credentials until then.
    pub(super) fn may_stay_until(&mut self, until: std::time::Instant) {
        self.valid_until = Some(Instant::from_std(until));
    }

    pub(super) async fn on_session<F, Fut>(self, handler: F) -> Response<Body>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let Self { stand, access, valid_until, registry, context } = self;
        let time = Arc::clone(registry.home()) as Arc<dyn Time>;
        let is_other =
            |pipe: &Pipe| pipe.handler.is_some_and(|runs| runs != HandlerType::of::<F>());
        let has_lost = |pipe: &Pipe| {
            (access == Access::ReadOnly && pipe.access == Access::Full)
                || valid_until.is_some_and(|at| at <= Instant::now())
        };
        match stand {
            Stand::Opens { upgrade, nonce, form, wait } => {
                let get = Get { down: 0, form, wait, ack: None };
                let identity = upgrade.identity();
                if !has_room(&registry) {
                    return no_room(&registry, nonce, form);
                }
                let accepted = match upgrade.on_session(handler) {
                    Ok(accepted) => accepted.carried_by(Carrier::Pipe),
                    Err(refusal) => return refusal.into_response().map(Body::from),
                };
                let opening = Opening { registry: &registry, context: &context, identity, access };
                let handler = Some(HandlerType::of::<F>());
                // Ends with the pipe, which the session's rules and a drain close.
                let run = |transport| drop(tokio::spawn(accepted.run(transport)));
                opening.open(nonce, handler, get, time, run).await
            }
            Stand::Asks { pipe, .. } | Stand::Posts { pipe, .. } if is_other(&pipe) => {
                gone(&pipe.token, None)
            }
            // Its client has lost a right since. It comes back, and attaches with what it may do now.
            Stand::Asks { pipe, .. } | Stand::Posts { pipe, .. } if has_lost(&pipe) => {
                end(&pipe, &Close::REAUTHENTICATE)
            }
            Stand::Asks { pipe, get, opens } => {
                let mut response = ask(&pipe, get, time).await;
                if let (true, false, Some(cookie)) = (opens, context.is_known(), &pipe.set_cookie) {
                    response.headers_mut().append(header::SET_COOKIE, cookie.clone());
                }
                response
            }
            Stand::Posts { pipe, body: Ok(post) } => take(&pipe, &post, &*time).await,
            Stand::Posts { pipe, body: Err(breach) } => {
                let now = time.clock().now();
                match pipe.step(|state| state.server.handle_breach(breach, now)) {
                    Ok(()) => answer(&pipe.token, breach.status()),
                    Err(refusal) => refused(&pipe.token, &refusal),
                }
            }
            Stand::Gone(token) => gone(&token, None),
        }
    }

    pub(super) async fn refuse(self, reason: Cow<'static, str>) -> Response<Body> {
        let Self { stand, access, registry, context, .. } = self;
        let time = Arc::clone(registry.home()) as Arc<dyn Time>;
        match stand {
            Stand::Opens { upgrade, nonce, form, wait } => {
                let get = Get { down: 0, form, wait, ack: None };
                let identity = upgrade.identity();
                if !has_room(&registry) {
                    return no_room(&registry, nonce, form);
                }
                let refused = match upgrade.refuse(reason) {
                    Ok(refused) => refused,
                    Err(refusal) => return refusal.into_response().map(Body::from),
                };
                let opening = Opening { registry: &registry, context: &context, identity, access };
                let run = |transport| drop(tokio::spawn(refused.run(transport)));
                opening.open(nonce, None, get, time, run).await
            }
            Stand::Asks { pipe, .. } | Stand::Posts { pipe, .. } => {
                end(&pipe, &Close::refused(reason))
            }
            Stand::Gone(token) => gone(&token, None),
        }
    }
}

impl<T: Send + 'static> std::fmt::Debug for Visit<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit").field("is", &self.is()).finish_non_exhaustive()
    }
}

/// An open whose pipe is to be made.
struct Opening<'a, T> {
    registry: &'a Registry<T>,
    context: &'a RequestContext,
    identity: Identity,
    access: Access,
}

impl<T: Send + 'static> Opening<'_, T> {
    /// Makes the pipe, and answers its open. Where another request has opened it meanwhile, this one is that open again.
    async fn open(
        self,
        nonce: Nonce,
        handler: Option<HandlerType>,
        get: Get,
        time: Arc<dyn Time>,
        run: impl FnOnce(Transport),
    ) -> Response<Body> {
        let Self { registry, context, identity, access } = self;
        let now = registry.clock().now();
        let cookie = context.visit.as_ref();
        let cookie = cookie.and_then(|visit| visit.cookie(StatusCode::OK, &HeaderMap::new()));
        let server = Server::new(settings(registry), now);
        let pipe = Pipe::new(
            Token { nonce, tag: tag::new(registry) },
            identity,
            access,
            handler,
            context.is_known(),
            cookie,
            server,
        );
        if let Some(there) = registry.pipes.insert(&pipe, now) {
            drop(run);
            if !opens_again(&there, context) || there.handler != handler {
                return gone(&there.token, None);
            }
            return ask(&there, get, time).await;
        }
        let asking = Asking::begin(Arc::clone(&pipe), Arc::clone(&time), get);
        run(Transport::new(Arc::clone(&pipe), Arc::clone(&registry.pipes), time));
        match asking {
            Ok(asking) => told(&pipe, get, asking).await,
            Err(refusal) => refused(&pipe.token, &refusal),
        }
    }
}

fn has_room<T>(registry: &Registry<T>) -> bool {
    registry.pipes.has_room(registry.config().limits.pipes, registry.clock().now())
}

fn settings<T>(registry: &Registry<T>) -> Settings {
    let http = registry.config().http;
    let hold = http.hold.unwrap_or(Duration::from_secs(25)).min(registry.rules().heartbeat);
    let settings = Settings { absent: http.absent, hold, ..Settings::default() };
    settings.with_rotate(http.rotate, u64::from_ne_bytes(random::bytes()))
}

/// Reads the request's headers. A header of ours that comes twice cannot be read.
fn read(parts: &Parts) -> Result<Request, Refusal> {
    let bad = |rejection: Rejection| {
        let status = match rejection {
            Rejection::Malformed => StatusCode::BAD_REQUEST,
            Rejection::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        };
        Refusal::new(status, rejection.to_string())
    };
    let own = [
        pipe::header::PIPE,
        pipe::header::DOWN,
        pipe::header::UP,
        pipe::header::WAIT,
        pipe::header::ACK,
        "content-type",
    ];
    if own.iter().any(|name| parts.headers.get_all(*name).iter().count() > 1) {
        return Err(bad(Rejection::Malformed));
    }
    let method = match parts.method {
        Method::GET => pipe::Method::Get,
        Method::POST => pipe::Method::Post,
        _ => {
            let text = "a session is asked with GET and POST";
            let refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text);
            return Err(refusal.wanting(header::ALLOW, "GET, POST, OPTIONS"));
        }
    };
    let view = RequestView::from_parts(parts);
    let first = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    Request::read(method, |name| view.header(name).or_else(|| first(name))).map_err(bad)
}

/// Whether the layer lets frames come down in the form that the request asks for.
fn check_form<T>(registry: &Registry<T>, request: Request) -> Result<(), Refusal> {
    let http = registry.config().http;
    let allowed = match request {
        Request::Open { form: Form::Stream, .. } | Request::Get { form: Form::Stream, .. } => {
            http.sse
        }
        Request::Open { form: Form::Poll, .. } | Request::Get { form: Form::Poll, .. } => http.poll,
        Request::Post { .. } => true,
    };
    let other = || Refusal::new(StatusCode::NOT_ACCEPTABLE, "this route has no such transport");
    if allowed { Ok(()) } else { Err(other()) }
}

fn offer(parts: &Parts) -> Result<Offer, Refusal> {
    let bad = |text: String| Refusal::new(StatusCode::BAD_REQUEST, text);
    let names = list_items(&parts.headers, &HeaderName::from_static(pipe::header::OFFER));
    let names = names.map(std::str::from_utf8).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| bad("the offer is not ASCII".into()))?;
    match Offer::parse(names).map_err(|malformed| bad(malformed.to_string()))? {
        offer if offer.is_resumable() => Ok(offer),
        _ => Err(bad("the offer is none of session-resume.v1".into())),
    }
}

/// The pipe of a token, if the request may know of it.
fn find<T>(registry: &Registry<T>, context: &RequestContext, token: &Token) -> Option<Arc<Pipe>> {
    registry.pipes.get(token).filter(|pipe| is_theirs(pipe, context))
}

/// The pipe is not here: if its tag names another node that lives, that one answers.
async fn gone_everywhere<T, B>(
    registry: &Registry<T>,
    parts: &Parts,
    token: Token,
    body: B,
) -> Result<Stand<T>, Refusal>
where
    T: Send + 'static,
    B: http_body::Body<Data: Buf + Send, Error: Into<Box<dyn Error + Send + Sync>>>
        + Send
        + 'static,
{
    if let Some(name) = tag::node_of(&token.tag) {
        let is_named = |node: &str| tag::name_of(node) == name;
        hop::at_named(registry, parts, is_named, body).await?;
    }
    Ok(Stand::Gone(token))
}

/// Whether this is the open of this pipe, sent again.
///
/// A client that has shown its cookie shows it again. One without a cookie gets the cookie that the first answer has set; but
/// where another node has set it, only that node has it, and here the client would go on without one.
fn opens_again(pipe: &Pipe, context: &RequestContext) -> bool {
    is_theirs(pipe, context) && (context.is_known() || !pipe.was_known)
}

/// A request with another identity is a stranger's. One without any comes from a browser that keeps no cookies.
fn is_theirs(pipe: &Pipe, context: &RequestContext) -> bool {
    !context.is_known() || context.identity() == pipe.identity
}

/// At most this much of a body over the limit is read and dropped: a client that is still sending must not be reset before it
/// has the answer.
const MOST_DISCARDED: usize = 8 << 20;

/// A body, as far as it came.
pub(super) enum Whole {
    Bytes(Bytes),
    TooBig,
    Cut,
}

/// Reads a body of at most `most` bytes.
pub(super) async fn whole<B>(body: B, most: usize) -> Whole
where
    B: http_body::Body<Data: Buf>,
{
    let mut body = std::pin::pin!(body);
    let mut bytes = BytesMut::new();
    let mut over = 0;
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(frame) = frame else {
            return Whole::Cut;
        };
        if let Ok(data) = frame.into_data() {
            let mut data = data;
            if over > 0 || bytes.len() + data.remaining() > most {
                over += data.remaining();
                bytes = BytesMut::new();
                if over > MOST_DISCARDED {
                    return Whole::TooBig;
                }
                continue;
            }
            bytes.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
    }
    if over > 0 { Whole::TooBig } else { Whole::Bytes(bytes.freeze()) }
}

/// Answers a get.
async fn ask(pipe: &Arc<Pipe>, get: Get, time: Arc<dyn Time>) -> Response<Body> {
    match Asking::begin(Arc::clone(pipe), time, get) {
        Ok(asking) => told(pipe, get, asking).await,
        Err(refusal) => refused(&pipe.token, &refusal),
    }
}

async fn told(pipe: &Pipe, get: Get, mut asking: Asking) -> Response<Body> {
    let mut response = answer(&pipe.token, 200);
    let headers = response.headers_mut();
    headers.insert(pipe::header::DOWN, HeaderValue::from(get.down));
    match get.form {
        Form::Stream => {
            streams(headers);
            *response.body_mut() = Body::pipe(wire::GREETING, asking);
        }
        Form::Poll => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::FRAMES));
            let frames = match poll_fn(|cx| asking.poll_step(cx)).await {
                GetStep::Frames(frames) => frames,
                GetStep::Flow | GetStep::End | GetStep::Wait => Vec::new(),
            };
            *response.body_mut() = Bytes::from(wire::encode_frames(&frames)).into();
        }
    }
    response
}

fn streams(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(wire::EVENTS));
    // Some compressors hold a stream back to its end.
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("identity"));
}

/// Hands a post to the session, and answers it. Where there is no room it waits.
async fn take(pipe: &Pipe, post: &Post, time: &dyn Time) -> Response<Body> {
    let id = pipe.begin_request();
    let until = Instant::now() + PIPE_POST_WAITS;
    let posted = poll_fn(|cx| {
        let posted = pipe.step_or_wait(
            Waits::Request(id),
            cx,
            |state| state.server.handle_post(post, time.clock().now()),
            |posted| *posted == Posted::Full,
        );
        if posted == Posted::Full { Poll::Pending } else { Poll::Ready(posted) }
    });
    let posted = tokio::time::timeout_at(until, posted).await;
    pipe.end_request(id);
    match posted {
        Ok(Posted::Taken { next }) => {
            let mut response = answer(&pipe.token, 204);
            response.headers_mut().insert(pipe::header::UP, HeaderValue::from(next));
            response
        }
        Ok(Posted::Refused(refusal)) => refused(&pipe.token, &refusal),
        Ok(Posted::Full) | Err(_) => {
            let mut response = answer(&pipe.token, 503);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(1));
            response
        }
    }
}

fn refused(token: &Token, refusal: &pipe::Refusal) -> Response<Body> {
    match refusal {
        pipe::Refusal::Conflict => answer(token, 409),
        pipe::Refusal::Gone { close } => gone(token, close.as_ref()),
    }
}

/// The application ends the pipe.
fn end(pipe: &Pipe, close: &Close) -> Response<Body> {
    pipe.step(|state| {
        let _ = state.server.push(session::Frame::Close(close.clone()));
        state.refused = true;
    });
    gone(&pipe.token, Some(close))
}

fn gone(token: &Token, close: Option<&Close>) -> Response<Body> {
    let mut response = answer(token, 410);
    if let Some(Ok(close)) = close.map(|close| HeaderValue::try_from(close.to_line())) {
        response.headers_mut().insert(pipe::header::CLOSE, close);
    }
    response
}

fn gone_unnamed() -> Refusal {
    Refusal::new(StatusCode::GONE, "another has this pipe")
}

/// There is no room for one more pipe: the client is told all at once.
fn no_room<T>(registry: &Registry<T>, nonce: Nonce, form: Form) -> Response<Body> {
    let refusal = Refusal::full("too many pipes", FULL_RETRY).counted();
    let retry = refusal.retry().and_then(|retry| u64::try_from(retry.as_millis()).ok());
    let retry = ServerControl { retry, ..ServerControl::default() }.encode();
    let frames = [PipeFrame::Text(retry), PipeFrame::Close(Close::TRY_AGAIN)];
    let mut response = answer(&Token { nonce, tag: tag::new(registry) }, 200);
    response.headers_mut().insert(pipe::header::DOWN, HeaderValue::from(0));
    let bytes = match form {
        Form::Stream => {
            streams(response.headers_mut());
            let mut text = wire::GREETING.to_owned();
            for frame in &frames {
                wire::encode_event(frame, &mut text);
            }
            text.into()
        }
        Form::Poll => {
            let frames_type = HeaderValue::from_static(wire::FRAMES);
            response.headers_mut().insert(header::CONTENT_TYPE, frames_type);
            Bytes::from(wire::encode_frames(&frames))
        }
    };
    *response.body_mut() = bytes.into();
    response
}

/// An answer of ours. It names the pipe, so that the client does not take another's page for it.
fn answer(token: &Token, status: u16) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status of ours");
    let mut name = HeaderValue::try_from(token.to_string()).expect("its alphabet is ASCII");
    name.set_sensitive(true);
    response.headers_mut().insert(pipe::header::PIPE, name);
    response
}

/// Sets a timer, and returns it.
fn set(timer: &mut Option<Pin<Box<Sleep>>>, at: Instant) -> Pin<&mut Sleep> {
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
    if timer.deadline() != at {
        timer.as_mut().reset(at);
    }
    timer.as_mut()
}
