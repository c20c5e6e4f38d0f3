//! Asking for a session's outcome with no socket at all.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use serde::Serialize;

use crate::{
    Outcome, SessionId,
    layer::RequestContext,
    refusal::Refusal,
    registry::Registry,
    reuse::Phase,
    session::{phase, shared::Shared},
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
        // Who asks again wants to know what has changed since.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn ended(id: SessionId, outcome: &Outcome) -> Self {
        Self { status: StatusCode::OK, body: body(id, Status::Ended(outcome)), retry_after: None }
    }

    fn pending(id: SessionId, phase: Phase) -> Self {
        let status = if phase == Phase::Running { "running" } else { "suspended" };
        Self {
            status: StatusCode::ACCEPTED,
            body: body(id, Status::Pending { status }),
            retry_after: Some(RETRY_AFTER),
        }
    }

    /// Unknown, not yours and too old are one answer: a stranger finds out nothing.
    fn not_found() -> Self {
        Self {
            status: StatusCode::NOT_FOUND,
            body: r#"{"error":"no such session"}"#.to_owned(),
            retry_after: None,
        }
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
        if session.outcome().is_none() {
            let _ = tokio::time::timeout(wait.min(LONGEST_WAIT), ended).await;
        }
    }
    Ok(answer(&registry, context, id))
}

fn answer<T: Send + 'static>(
    registry: &Arc<Registry<T>>,
    context: &RequestContext,
    id: SessionId,
) -> Poll {
    let now = registry.clock().now();
    if let Some(ended) = registry.outcomes().get(id, now) {
        return if ended.identities.contains(&context.identity()) {
            Poll::ended(id, &ended.outcome)
        } else {
            Poll::not_found()
        };
    }
    match registry.by_id(id).filter(|session| is_known_to(session, context)) {
        // An outcome that has outlived its lifetime is gone, whatever else is left of the session.
        Some(session) if session.outcome().is_none() => {
            Poll::pending(id, phase(session.lock().machine.phase()))
        }
        Some(_) | None => Poll::not_found(),
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
