//! The services that are compared in process: the same router behind nothing, behind our layer, and behind others.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::{Extension, Router, body::Body, response::Response, routing::get};
use axum_session::{SessionConfig, SessionLayer, SessionNullPool, SessionStore};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, Request, header};
use session_resume::{Limits, SessionResume};
use session_resume_axum::Session;
use sha2::Sha256;
use tower_layer::Layer;
use tower_service::Service;
use tower_sessions::{MemoryStore, SessionManagerLayer};
use uuid::Uuid;

/// What every session holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Counted up by a write.
    pub count: u64,
}

/// Answers one request.
pub type Call = Box<dyn FnMut(Request<Body>) -> Response + Send>;

/// A service under test: makes callers that share its sessions.
#[derive(Clone)]
pub struct Subject(Arc<dyn Fn() -> Call + Send + Sync>);

impl Subject {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        Self(Arc::new(move || {
            let mut service = service.clone();
            Box::new(move |request| {
                let Ok(response) = futures_executor::block_on(service.call(request));
                response
            })
        }))
    }

    /// Makes a caller.
    pub fn caller(&self) -> Call {
        (self.0)()
    }

    /// Makes `sessions` first visits and returns the cookies that they got.
    pub fn visits(&self, sessions: usize) -> Vec<HeaderValue> {
        let mut call = self.caller();
        (0..sessions).map(|_| given_cookie(&call(request(None)))).collect()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").finish_non_exhaustive()
    }
}

/// Makes a request, with a copy of this cookie: what a socket brings is in memory that was written just now.
pub fn request(cookie: Option<&HeaderValue>) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    if let Some(cookie) = cookie {
        let cookie = HeaderValue::from_bytes(cookie.as_bytes()).expect("it is one");
        request.headers_mut().insert(header::COOKIE, cookie);
    }
    request
}

/// All cookies that a response sets, as a browser would return them.
fn given_cookie(response: &Response) -> HeaderValue {
    let pairs = response.headers().get_all(header::SET_COOKIE).iter().map(|cookie| {
        let cookie = cookie.to_str().expect("cookies are ASCII");
        cookie.split(';').next().unwrap_or(cookie)
    });
    let cookie = pairs.collect::<Vec<_>>().join("; ");
    assert!(!cookie.is_empty(), "the first visit sets a cookie");
    HeaderValue::try_from(cookie).expect("cookies are ASCII")
}

async fn plain() -> &'static str {
    "ok"
}

/// The router alone.
pub fn bare() -> Subject {
    Subject::new(Router::new().route("/", get(plain)).with_state(()))
}

/// The router behind a layer that does nothing.
pub fn noop() -> Subject {
    Subject::new(Noop(Router::new().route("/", get(plain)).with_state(())))
}

#[derive(Clone)]
struct Noop<S>(S);

impl<S: Service<Request<Body>>> Service<Request<Body>> for Noop<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.0.call(request)
    }
}

/// A service whose handler reads the session's state, and one whose handler writes it, on the same sessions.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Reads.
    pub read: Subject,
    /// Writes; for a visitor without a cookie it starts a session.
    pub write: Subject,
}

/// Our layer with nothing extracted, and with the session extracted and read or written. Call inside a runtime.
pub fn ours() -> (Subject, Pair) {
    let layer = our_layer();
    let wrap = |router: Router| Subject::new(layer.layer(router.with_state(())));
    let pair = Pair {
        read: our_read_behind(&layer),
        write: wrap(Router::new().route("/", get(our_write))),
    };
    (wrap(Router::new().route("/", get(plain))), pair)
}

/// Our layer as the benchmarks use it: the defaults, with room for all sessions.
pub fn our_layer() -> SessionResume<State> {
    SessionResume::new()
        .with_memory_state(|_| State::default())
        .with_limits(Limits::default().with_max_sessions(usize::MAX))
}

/// The service whose handler reads, behind this layer.
pub fn our_read_behind(layer: &SessionResume<State>) -> Subject {
    Subject::new(layer.layer(Router::new().route("/", get(our_read)).with_state(())))
}

async fn our_read(session: Session<State>) -> &'static str {
    std::hint::black_box(session.read(|state| state.count));
    "ok"
}

async fn our_write(session: Session<State>) -> &'static str {
    session.update(|state| state.count += 1);
    "ok"
}

/// What one writes by hand when nothing is needed but a signed cookie and a map.
pub fn minimal() -> Pair {
    let table = Arc::new(Minimal {
        key: Hmac::new_from_slice(&[7; 64]).expect("HMAC takes keys of any length"),
        sessions: Mutex::default(),
    });
    let wrap = |router: Router| {
        Subject::new(MinimalService { inner: router.with_state(()), table: Arc::clone(&table) })
    };
    Pair {
        read: wrap(Router::new().route("/", get(minimal_read))),
        write: wrap(Router::new().route("/", get(minimal_write))),
    }
}

type Slot = Arc<Mutex<State>>;

struct Minimal {
    key: Hmac<Sha256>,
    sessions: Mutex<HashMap<Uuid, Slot>>,
}

impl Minimal {
    fn mac(&self, id: &[u8]) -> [u8; 16] {
        let mut mac = self.key.clone();
        mac.update(id);
        *mac.finalize().into_bytes().first_chunk().expect("SHA-256 has 32 bytes")
    }

    fn verify(&self, cookie: Option<&HeaderValue>) -> Option<Uuid> {
        let token = cookie?.as_bytes().strip_prefix(b"id=")?;
        let mut raw = [0; 33];
        let len = URL_SAFE_NO_PAD.decode_slice(token, &mut raw).ok().filter(|len| *len == 32)?;
        let (id, mac) = raw[..len].split_at(16);
        (self.mac(id) == *mac).then(|| Uuid::from_slice(id).ok())?
    }
}

#[derive(Clone)]
struct MinimalService<S> {
    inner: S,
    table: Arc<Minimal>,
}

impl<S> Service<Request<Body>> for MinimalService<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = WithCookie<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let known = self.table.verify(request.headers().get(header::COOKIE));
        let id = known.unwrap_or_else(Uuid::new_v4);
        let cookie = known.is_none().then(|| {
            let token = [id.as_bytes().as_slice(), &self.table.mac(id.as_bytes())].concat();
            let text = format!("id={}; HttpOnly; Path=/", URL_SAFE_NO_PAD.encode(token));
            HeaderValue::try_from(text).expect("ASCII")
        });
        let slot = Arc::clone(self.table.sessions.lock().expect("no panic").entry(id).or_default());
        request.extensions_mut().insert(slot);
        WithCookie { inner: Box::pin(self.inner.call(request)), cookie }
    }
}

/// Boxed, as one does by hand.
struct WithCookie<F> {
    inner: std::pin::Pin<Box<F>>,
    cookie: Option<HeaderValue>,
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for WithCookie<F> {
    type Output = Result<Response, Infallible>;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(mut response) = std::task::ready!(self.inner.as_mut().poll(cx));
        if let Some(cookie) = self.cookie.take() {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Poll::Ready(Ok(response))
    }
}

async fn minimal_read(Extension(slot): Extension<Slot>) -> &'static str {
    std::hint::black_box(slot.lock().expect("no panic").count);
    "ok"
}

async fn minimal_write(Extension(slot): Extension<Slot>) -> &'static str {
    slot.lock().expect("no panic").count += 1;
    "ok"
}

/// tower-sessions with its `MemoryStore` and its default (unsigned) cookie.
pub fn tower_sessions() -> Pair {
    let layer = SessionManagerLayer::new(MemoryStore::default()).with_secure(false);
    let wrap = |router: Router| Subject::new(layer.layer(router.with_state(())));
    Pair {
        read: wrap(Router::new().route("/", get(tower_read))),
        write: wrap(Router::new().route("/", get(tower_write))),
    }
}

async fn tower_read(session: tower_sessions::Session) -> &'static str {
    std::hint::black_box(session.get::<u64>("count").await.ok().flatten());
    "ok"
}

async fn tower_write(session: tower_sessions::Session) -> &'static str {
    let count = session.get::<u64>("count").await.ok().flatten().unwrap_or(0);
    session.insert("count", count + 1).await.expect("memory takes it");
    "ok"
}

/// axum_session with no database, in its default configuration.
pub async fn axum_session() -> Pair {
    let config = SessionConfig::default();
    let store = SessionStore::<SessionNullPool>::new(None, config).await.expect("no database");
    let layer = SessionLayer::new(store);
    let wrap = |router: Router| Subject::new(layer.layer(router.with_state(())));
    Pair {
        read: wrap(Router::new().route("/", get(axum_read))),
        write: wrap(Router::new().route("/", get(axum_write))),
    }
}

async fn axum_read(session: axum_session::Session<SessionNullPool>) -> &'static str {
    std::hint::black_box(session.get::<u64>("count"));
    "ok"
}

async fn axum_write(session: axum_session::Session<SessionNullPool>) -> &'static str {
    let count = session.get::<u64>("count").unwrap_or(0);
    session.set("count", count + 1);
    "ok"
}
