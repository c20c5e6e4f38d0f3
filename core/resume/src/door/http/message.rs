//! One message in a plain `POST`, from writers without a client of ours.

use std::{borrow::Cow, error::Error, time::Duration};

use bytes::{Buf, Bytes};
use bytestring::ByteString;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use session_resume_proto::{
    Message,
    session::{Access, DeliveryKey, DeliveryProgress},
    wire::Offer,
};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    body::Body,
    pipe::{self, SLOWEST_BODY, Whole, whole},
};
use crate::{
    Identity, IntoOutcome, LiveSession, RequestView,
    door::{
        hop,
        upgrade::{InInbox, Upgrade},
    },
    live::registry::Registry,
    words::{
        context::RequestContext,
        refusal::Refusal,
        request::{is_media_type, list_items},
    },
};

/// A writer waits at most this long for the handler.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// When to try again where there is no room.
const RETRY: Duration = Duration::from_secs(1);
/// The longest `Idempotency-Key`.
const LONGEST_KEY: usize = 64;

/// A request that brings one message.
pub(super) struct Writer<T: Send + 'static> {
    upgrade: Upgrade<T>,
    message: Message,
    key: Option<DeliveryKey>,
    /// For how long the answer may wait for the handler.
    wait: Duration,
}

/// Without the message: what a user has written is for no log.
impl<T: Send + 'static> std::fmt::Debug for Writer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("wait", &self.wait).finish_non_exhaustive()
    }
}

/// Whether a request brings one message.
pub(super) fn is_one(parts: &Parts) -> bool {
    parts.method == Method::POST && !pipe::is_marked(parts)
}

impl<T: Send + 'static> Writer<T> {
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
        let is_text = is_text(parts)?;
        let named = key(parts)?;
        let body = hop::with_body(registry, parts, context, body).await?;
        let most = registry.rules().bounds.message;
        let body = read(body, most).await?;
        let key = named.map(|named| digests(context.identity(), named, is_text, &body));
        let message = if is_text {
            let text = ByteString::try_from(body);
            Message::Text(
                text.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the text is not UTF-8"))?,
            )
        } else {
            Message::Binary(body)
        };
        let upgrade = Upgrade::prepare_with(parts, Offer::PlainAt(None)).await?;
        Ok(Self { upgrade, message, key, wait: wait(parts) })
    }

    pub(super) fn identity(&self) -> Identity {
        self.upgrade.identity()
    }

    pub(super) fn map(self, change: impl FnOnce(Upgrade<T>) -> Upgrade<T>) -> Self {
        Self { upgrade: change(self.upgrade), ..self }
    }

    pub(super) async fn on_session<F, Fut>(self, handler: F) -> Response<Body>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        if self.upgrade.access() == Access::ReadOnly {
            return self.refuse("read only".into());
        }
        let Self { upgrade, message, key, wait } = self;
        let accepted = match upgrade.on_session(handler) {
            Ok(accepted) => accepted,
            // Counted there.
            Err(refusal) => return refusal.into_response().map(Body::from),
        };
        match accepted.deliver(message, key).await {
            Ok(message) => match fate(message, wait).await {
                Fate::Handled => empty(StatusCode::NO_CONTENT),
                Fate::Waits => empty(StatusCode::ACCEPTED),
                Fate::Dropped => {
                    let text = "the session ended before its handler took the message";
                    answered(Refusal::new(StatusCode::GONE, text))
                }
                Fate::Unknown(retry) => answered(Refusal::draining(retry)),
            },
            Err(not_delivered) => answered(not_delivered.refusal()),
        }
    }

    pub(super) fn refuse(self, reason: Cow<'static, str>) -> Response<Body> {
        match self.upgrade.refuse(reason) {
            // A plain client is told by the status.
            Ok(_) => empty(StatusCode::FORBIDDEN),
            Err(refusal) => refusal.into_response().map(Body::from),
        }
    }
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    response
}

fn answered(refusal: Refusal) -> Response<Body> {
    refusal.counted().into_response().map(Body::from)
}

/// Reads a body that becomes a message.
pub(super) async fn read<B>(body: B, most: usize) -> Result<Bytes, Refusal>
where
    B: http_body::Body<Data: Buf>,
{
    match tokio::time::timeout(SLOWEST_BODY, whole(body, most)).await {
        Ok(Whole::Bytes(bytes)) => Ok(bytes),
        Ok(Whole::TooBig) => Err(Refusal::too_big()),
        Ok(Whole::Cut) => Err(Refusal::new(StatusCode::BAD_REQUEST, "the body was cut")),
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "the body was too slow")),
    }
}

fn is_text(parts: &Parts) -> Result<bool, Refusal> {
    let kind = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let kind = kind.unwrap_or_default();
    if is_media_type(kind, b"text/plain") || is_media_type(kind, b"application/json") {
        Ok(true)
    } else if is_media_type(kind, b"application/octet-stream") {
        Ok(false)
    } else {
        let text = "a message is text/plain, application/json or application/octet-stream";
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
    }
}

fn key(parts: &Parts) -> Result<Option<&str>, Refusal> {
    if !parts.headers.contains_key("idempotency-key") {
        return Ok(None);
    }
    let key = RequestView::from_parts(parts).header("idempotency-key");
    let is_good = |key: &&str| {
        (1..=LONGEST_KEY).contains(&key.len())
            && key.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    };
    let bad = || {
        let text = "an Idempotency-Key is 1 to 64 printable characters of ASCII, once";
        Refusal::new(StatusCode::BAD_REQUEST, text)
    };
    key.filter(is_good).map(Some).ok_or_else(bad)
}

fn digests(identity: Identity, key: &str, is_text: bool, body: &[u8]) -> DeliveryKey {
    let first = |hash: Sha256| {
        let hash = hash.finalize();
        let (first, _) = hash.split_first_chunk().expect("a hash has 32 bytes");
        u64::from_be_bytes(*first)
    };
    let key = Sha256::new().chain_update(identity.tag().bytes()).chain_update(key);
    let message = Sha256::new().chain_update([u8::from(is_text)]).chain_update(body);
    DeliveryKey { key: first(key), message: first(message) }
}

/// Reads `Prefer: wait=N`.
fn wait(parts: &Parts) -> Duration {
    let wanted = list_items(&parts.headers, &header::HeaderName::from_static("prefer"));
    let mut seconds = wanted.filter_map(|item| {
        let item = std::str::from_utf8(item).ok()?;
        let (name, value) = item.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| value.trim().parse().ok()).flatten()
    });
    Duration::from_secs(seconds.next().unwrap_or(0)).min(LONGEST_WAIT)
}

/// What has become of a message that is in the inbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// The handler has taken it; with a store, that is durable.
    Handled,
    /// It waits, or is in hand.
    Waits,
    /// The session has ended, and no handler takes it.
    Dropped,
    /// Nobody here will ever know: the server stops, or the session has gone elsewhere.
    Unknown(Duration),
}

/// Waits at most this long until it is known what becomes of a message.
///
/// During a drain no handler takes a message any more. One that is in hand may still be handled for as long as the drain
/// waits.
async fn fate<T: Send + 'static>(message: InInbox<T>, wait: Duration) -> Fate {
    let InInbox { registry, session, delivery } = message;
    if wait.is_zero() {
        return Fate::Waits;
    }
    // An earlier life has handled it.
    let Some(delivery) = delivery else { return Fate::Handled };
    let until = Instant::now() + wait;
    loop {
        let stage = session.lock().stage(delivery);
        let drain = registry.drain.until();
        let ends = match (stage.progress, drain) {
            (DeliveryProgress::Committed, _) => return Fate::Handled,
            (DeliveryProgress::Dropped, _) => return Fate::Dropped,
            _ if stage.life.has_left() => return Fate::Unknown(RETRY),
            (DeliveryProgress::Waits, Some(_)) => return Fate::Unknown(registry.drain.retry()),
            (DeliveryProgress::Taken, Some(drained)) => until.min(drained),
            (DeliveryProgress::Waits | DeliveryProgress::Taken, None) => until,
        };
        if tokio::time::timeout_at(ends, session.leaves_stage(delivery, stage)).await.is_err() {
            let retry = drain.map(|_| registry.drain.retry());
            return retry.map_or(Fate::Waits, Fate::Unknown);
        }
    }
}
