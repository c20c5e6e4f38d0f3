use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use session_resume::adapter;

use crate::ResumeRejection;

/// Returns a router with `GET /sessions/{id}`, which answers with the outcome of a session of the caller's, and
/// `GET /sessions`, which lists them.
///
/// The former: 200 with the outcome; 202 with `Retry-After` while there is none; 404 for sessions that are
/// unknown, too old, or not the caller's, alike. `?wait=SECONDS` waits for the outcome, at most 50 s.
///
/// The latter: 200 with `{"sessions":[{"session","status"}],"next"}`, at most 100 at a time; `?limit=N` for fewer,
/// `?after=SESSION` for what follows (`next` of the page before; null on the last). In it are live sessions and
/// outcomes in memory; of stored ones only the caller's own, not those under other keys.
///
/// Merge it into a router inside the layer: `.merge(session_resume_axum::outcomes::<Counter, _>())`.
pub fn outcomes<T, S>() -> Router<S>
where
    T: Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    Router::new().route("/sessions/{id}", get(poll::<T>)).route("/sessions", get(list::<T>))
}

async fn poll<T: Send + 'static>(request: Request) -> Result<Response, ResumeRejection> {
    let (mut parts, _) = request.into_parts();
    let id = Path::<String>::from_request_parts(&mut parts, &()).await;
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    let wait = number(&parts, "wait").unwrap_or(0);
    let answer = adapter::poll::<T>(&parts, &id, Duration::from_secs(wait)).await?;
    Ok(respond(&parts, answer))
}

async fn list<T: Send + 'static>(request: Request) -> Result<Response, ResumeRejection> {
    let (parts, _) = request.into_parts();
    let limit = number(&parts, "limit").and_then(|limit| usize::try_from(limit).ok());
    let after = parameter(&parts, "after");
    let answer = adapter::list::<T>(&parts, after, limit.unwrap_or(usize::MAX)).await?;
    Ok(respond(&parts, answer))
}

fn respond(parts: &Parts, answer: adapter::Poll) -> Response {
    let etag = HeaderValue::try_from(answer.etag()).expect("hexadecimal digits in quotes");
    let mut response = if is_known(parts, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let json = HeaderValue::from_static("application/json");
        (answer.status, [(header::CONTENT_TYPE, json)], answer.body).into_response()
    };
    let headers = response.headers_mut();
    // Nobody else's, and to be asked for again each time.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::ETAG, etag);
    if let Some(seconds) = answer.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Whether the caller has this answer already.
fn is_known(parts: &Parts, etag: &HeaderValue) -> bool {
    let known = parts.headers.get_all(header::IF_NONE_MATCH).iter();
    known.flat_map(|line| line.as_bytes().split(|&byte| byte == b',')).any(|known| {
        let known = known.trim_ascii();
        // The comparison is the weak one.
        known.strip_prefix(b"W/").unwrap_or(known) == etag.as_bytes()
    })
}

fn number(parts: &Parts, name: &str) -> Option<u64> {
    parameter(parts, name)?.parse().ok()
}

fn parameter<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let mut pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| (key == name).then_some(value))
}
