use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderValue, StatusCode, header};
use session_resume::adapter;

use crate::ResumeRejection;

/// Returns a router with `GET /sessions/{id}`, which answers with the outcome of a session of the caller's.
///
/// 200 with the outcome; 202 with `Retry-After` while there is none; 404 for sessions that are unknown, too
/// old, or not the caller's, alike. `?wait=SECONDS` waits for the outcome, at most 50 s. Merge it into a
/// router inside the layer: `.merge(session_resume_axum::outcomes::<Counter, _>())`.
pub fn outcomes<T, S>() -> Router<S>
where
    T: Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    Router::new().route("/sessions/{id}", get(poll::<T>))
}

async fn poll<T: Send + 'static>(request: Request) -> Result<Response, ResumeRejection> {
    let (mut parts, _) = request.into_parts();
    let id = Path::<String>::from_request_parts(&mut parts, &()).await;
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    let wait = parts.uri.query().map_or(Duration::ZERO, wait);
    let answer = adapter::poll::<T>(&parts, &id, wait).await?;
    let etag = HeaderValue::try_from(answer.etag()).expect("hexadecimal digits in quotes");
    if parts.headers.get_all(header::IF_NONE_MATCH).iter().any(|known| *known == etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let json = HeaderValue::from_static("application/json");
    let mut response = (answer.status, [(header::CONTENT_TYPE, json)], answer.body).into_response();
    // Nobody else's, and to be asked for again each time.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    response.headers_mut().insert(header::ETAG, etag);
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

fn wait(query: &str) -> Duration {
    let seconds = query.split('&').find_map(|pair| pair.strip_prefix("wait="));
    Duration::from_secs(seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0))
}
