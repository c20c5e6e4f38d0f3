//! The least that the contract asks of a request, by hand: for one key function, one policy and one framework.
//!
//! It finds a signed identity among all cookies, takes it to the handler, and there finds the session in a table that
//! is locked in parts, unless that is an upgrade from a foreign page; sees that the session has not ended, notes
//! when it was used, and reads the state under a lock of its own that notices nesting. No configuration, no store,
//! no drain, no WebSocket. What our layer costs beyond this is the price of being general; what this costs beyond a
//! bare router is what those promises cost on this machine.

use std::{
    cell::Cell,
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::{Router, body::Body, extract::FromRequestParts, response::Response, routing::get};
use data_encoding::BASE64URL_NOPAD;
use hashbrown::HashTable;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header, request::Parts};
use pin_project_lite::pin_project;
use sha2::Sha256;
use tower_service::Service;
use uuid::Uuid;

use crate::services::{Pair, State, Subject};

const SHARDS: usize = 64;
/// A version, a UUID, half a MAC.
const MAC_START: usize = 17;
const TOKEN: usize = 33;
const TEXT: usize = TOKEN / 3 * 4;

/// A service whose handler reads, and one whose handler writes, on the same sessions.
pub fn least() -> Pair {
    least_among(0)
}

/// The same, where each session has `rest` more bytes of memory, which requests do not touch. This shows the cost of
/// sessions that lie further apart.
pub fn least_among(rest: usize) -> Pair {
    let table = Arc::new(Table {
        rest,
        key: Hmac::new_from_slice(&[7; 64]).expect("HMAC takes keys of any length"),
        factor: Uuid::new_v4().as_u128() | 1,
        shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        origin: Instant::now(),
    });
    let wrap = |router: Router| {
        Subject::new(Layered { inner: router.with_state(()), table: Arc::clone(&table) })
    };
    Pair {
        read: wrap(Router::new().route("/", get(read))),
        write: wrap(Router::new().route("/", get(write))),
    }
}

type Shard = HashTable<(Uuid, Arc<Session>)>;

struct Table {
    key: Hmac<Sha256>,
    /// A secret: a client that cannot compute the hashes cannot make them collide.
    factor: u128,
    shards: Vec<Mutex<Shard>>,
    origin: Instant,
    rest: usize,
}

#[derive(Default)]
struct Session {
    life: Mutex<Life>,
    state: Mutex<State>,
    /// Never touched.
    _rest: Vec<u8>,
}

#[derive(Default)]
struct Life {
    ended: bool,
    idle_since: u64,
    unattended_since: u64,
}

impl Table {
    fn mac(&self, raw: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(raw);
        mac
    }

    fn find(&self, headers: &HeaderMap) -> Option<Uuid> {
        for line in headers.get_all(header::COOKIE) {
            let mut rest = line.as_bytes();
            loop {
                let pair = rest.trim_ascii_start();
                if let Some((token, after)) =
                    pair.strip_prefix(b"id=").and_then(|value| value.split_at_checked(TEXT))
                    && matches!(after.trim_ascii_start(), [] | [b';', ..])
                    && let Some(id) = self.verify(token)
                {
                    return Some(id);
                }
                let Some(end) = memchr::memchr(b';', pair) else {
                    break;
                };
                rest = &pair[end + 1..];
            }
        }
        None
    }

    fn verify(&self, token: &[u8]) -> Option<Uuid> {
        let mut raw = [0; TOKEN];
        BASE64URL_NOPAD.decode_mut(token, &mut raw).ok()?;
        let id = Uuid::from_slice(&raw[1..MAC_START]).ok()?;
        if raw[0] != 1 || id.get_version_num() != 4 {
            return None;
        }
        self.mac(&raw[..MAC_START]).verify_truncated_left(&raw[MAC_START..]).ok()?;
        Some(id)
    }

    fn set_cookie(&self, id: Uuid) -> HeaderValue {
        let mut raw = [0; TOKEN];
        raw[0] = 1;
        raw[1..MAC_START].copy_from_slice(id.as_bytes());
        let mac = self.mac(&raw[..MAC_START]).finalize().into_bytes();
        raw[MAC_START..].copy_from_slice(&mac[..TOKEN - MAC_START]);
        let text = format!("id={}; HttpOnly; Path=/", BASE64URL_NOPAD.encode(&raw));
        HeaderValue::try_from(text).expect("ASCII")
    }

    fn session(&self, id: Uuid) -> Arc<Session> {
        let hash = self.hash(id);
        let shard = usize::try_from((hash >> 40) % SHARDS as u64).expect("it is below 64");
        let mut shard = lock(&self.shards[shard]);
        let rehash = |(id, _): &(Uuid, _)| self.hash(*id);
        let start = || {
            let rest = Vec::with_capacity(self.rest);
            (id, Arc::new(Session { _rest: rest, ..Session::default() }))
        };
        let entry = shard.entry(hash, |(other, _)| *other == id, rehash);
        Arc::clone(&entry.or_insert_with(start).get().1)
    }

    fn hash(&self, id: Uuid) -> u64 {
        (id.as_u128().wrapping_mul(self.factor) >> 64) as u64
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone)]
struct Layered<S> {
    inner: S,
    table: Arc<Table>,
}

/// What the layer hands to the handler.
#[derive(Clone)]
struct Known {
    id: Uuid,
    table: Arc<Table>,
}

impl<S> Service<Request<Body>> for Layered<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = WithCookie<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let known = self.table.find(request.headers());
        let id = known.unwrap_or_else(Uuid::new_v4);
        let cookie = known.is_none().then(|| self.table.set_cookie(id));
        request.extensions_mut().insert(Known { id, table: Arc::clone(&self.table) });
        WithCookie { inner: self.inner.call(request), cookie }
    }
}

pin_project! {
    struct WithCookie<F> {
        #[pin]
        inner: F,
        cookie: Option<HeaderValue>,
    }
}

impl<F: Future<Output = Result<Response, Infallible>>> Future for WithCookie<F> {
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.cookie.is_none() {
            return this.inner.poll(cx);
        }
        let Ok(mut response) = ready!(this.inner.poll(cx));
        if let Some(cookie) = this.cookie.take() {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        Poll::Ready(Ok(response))
    }
}

/// The extractor.
struct Live(Arc<Session>);

impl<S: Sync> FromRequestParts<S> for Live {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let known = parts.extensions.get::<Known>().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
        let upgrades = parts.headers.get_all(header::UPGRADE).iter().next().is_some();
        if upgrades && parts.headers.get(header::ORIGIN).is_some() {
            return Err(StatusCode::FORBIDDEN);
        }
        let session = known.table.session(known.id);
        let now = known.table.now();
        let mut life = lock(&session.life);
        if life.ended {
            return Err(StatusCode::GONE);
        }
        (life.idle_since, life.unattended_since) = (now, now);
        drop(life);
        Ok(Self(session))
    }
}

thread_local! {
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

impl Session {
    fn with_state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        let address = std::ptr::from_ref(self).addr();
        assert_ne!(INSIDE.replace(address), address, "nested");
        let result = f(&mut lock(&self.state));
        INSIDE.set(0);
        result
    }
}

async fn read(Live(session): Live) -> &'static str {
    std::hint::black_box(session.with_state(|state| state.count));
    "ok"
}

async fn write(Live(session): Live) -> &'static str {
    session.with_state(|state| state.count += 1);
    "ok"
}
