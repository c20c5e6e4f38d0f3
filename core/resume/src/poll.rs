//! Asking for a session's outcome with no socket at all.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;
use session_resume_proto::session;
use sha2::{Digest as _, Sha256};

use crate::{
    Outcome, SessionId, layer::RequestContext, outcomes::Ended, refusal::Refusal,
    registry::Registry, restore::Found, session::shared::Shared,
};

/// A long poll waits at most so long: proxies give up on silent requests after about a minute.
const LONGEST_WAIT: Duration = Duration::from_secs(50);
/// When to ask again.
const RETRY_AFTER: u64 = 1;

/// The answer to a poll: a status, a JSON body, and when to ask again.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Poll {
    /// 200 with an outcome, 202 while there is none, 404.
    pub status: StatusCode,
    /// `application/json`.
    pub body: String,
    /// Seconds, for `Retry-After`.
    pub retry_after: Option<u64>,
    /// A validator of the body, quotes included.
    pub etag: String,
}

#[derive(Serialize)]
struct Body<'a> {
    session: SessionId,
    #[serde(flatten)]
    status: Status<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Status<'a> {
    Ended(&'a Outcome),
    Pending { status: &'static str },
}

impl Poll {
    /// Makes the response to answer with.
    pub fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Nobody else's, and to be asked for again each time.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        if let Ok(etag) = HeaderValue::try_from(self.etag) {
            headers.insert(header::ETAG, etag);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn new(status: StatusCode, body: String, retry_after: Option<u64>) -> Self {
        let digest = Sha256::digest(&body);
        let start: [u8; 8] = digest[..8].try_into().expect("a SHA-256 digest has 32 bytes");
        Self { status, body, retry_after, etag: format!("\"{:016x}\"", u64::from_be_bytes(start)) }
    }

    fn ended(id: SessionId, outcome: &Outcome) -> Self {
        Self::new(StatusCode::OK, body(id, Status::Ended(outcome)), None)
    }

    fn pending(id: SessionId, status: &'static str) -> Self {
        Self::new(StatusCode::ACCEPTED, body(id, Status::Pending { status }), Some(RETRY_AFTER))
    }

    /// Unknown, not yours and too old are one answer: a stranger finds out nothing.
    fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, r#"{"error":"no such session"}"#.to_owned(), None)
    }

    /// The client may have this answer already.
    fn unless_known(mut self, parts: &Parts) -> Self {
        let mut known = parts.headers.get_all(header::IF_NONE_MATCH).iter();
        if self.status == StatusCode::OK
            && known.any(|known| known.as_bytes() == self.etag.as_bytes())
        {
            self.status = StatusCode::NOT_MODIFIED;
            self.body = String::new();
        }
        self
    }
}

fn body(session: SessionId, status: Status<'_>) -> String {
    serde_json::to_string(&Body { session, status }).expect("ids, words and JSON are JSON")
}

/// Answers a poll for the session `id` of a layer with state `T`; with `?wait=SECONDS` it waits so long, at
/// most 50 s, for an outcome.
///
/// Polling does not count as activity.
///
/// # Errors
///
/// Returns the [`Refusal`] to answer with if the layer is missing.
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing.
pub async fn poll<T: Send + 'static>(parts: &Parts, id: &str) -> Result<Poll, Refusal> {
    let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
    let wait = parts.uri.query().map_or(Duration::ZERO, wait);
    let Ok(id) = id.parse::<SessionId>() else {
        return Ok(Poll::not_found());
    };
    if let Some(session) = registry.by_id(id).filter(|session| is_known_to(session, context))
        && let Some(end) = session.watch_end()
        && !wait.is_zero()
    {
        // Enabled before the session is looked at again, so that an end in between is not missed.
        let ended = end.notified();
        tokio::pin!(ended);
        ended.as_mut().enable();
        if session.watch_end().is_some() && !registry.drain.is_draining() {
            let _ = tokio::time::timeout(wait.min(LONGEST_WAIT), ended).await;
        }
    }
    Ok(answer(&registry, context, id).await?.unless_known(parts))
}

async fn answer<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    context: &RequestContext,
    id: SessionId,
) -> Result<Poll, Refusal> {
    let now = registry.clock().now();
    if let Some(ended) = registry.outcomes().get(id, now) {
        return Ok(answer_ended(id, ended, context));
    }
    if let Some(session) = registry.by_id(id) {
        if !is_known_to(&session, context) {
            return Ok(Poll::not_found());
        }
        let outcome = session.outcome();
        let core = session.lock();
        return Ok(match (core.machine.phase(), outcome) {
            (session::Phase::Running, _) => Poll::pending(id, "running"),
            (session::Phase::Suspended, _) => Poll::pending(id, "suspended"),
            // An outcome that has outlived its lifetime is gone, whatever else is left of the session.
            (session::Phase::Completed, _) if core.recorded => Poll::not_found(),
            // Its outcome is on its way to the store.
            (session::Phase::Completed, _) if core.durable.is_some() => {
                Poll::pending(id, "running")
            }
            // Between its end and its record.
            (session::Phase::Completed, Some(outcome)) => Poll::ended(id, &outcome),
            (session::Phase::Completed, None) => Poll::not_found(),
        });
    }
    let found =
        registry.find_stored(id, context).await.map_err(|error| Refusal::unavailable(&error))?;
    Ok(match found {
        Some(Found::Ended(ended)) => answer_ended(id, &ended, context),
        Some(Found::Stored { interrupted: true }) => Poll::pending(id, "interrupted"),
        Some(Found::Stored { interrupted: false }) => Poll::pending(id, "stored"),
        None => Poll::not_found(),
    })
}

fn answer_ended(id: SessionId, ended: &Ended, context: &RequestContext) -> Poll {
    if ended.identities.contains(&context.identity()) {
        Poll::ended(id, &ended.outcome)
    } else {
        Poll::not_found()
    }
}

/// Reads `wait=SECONDS` from a query.
fn wait(query: &str) -> Duration {
    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("wait="));
    Duration::from_secs(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0))
}

fn is_known_to<T>(session: &Shared<T>, context: &RequestContext) -> bool {
    session.lock().identities().contains(&context.identity())
}
