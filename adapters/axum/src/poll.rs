use axum::{
    Router,
    extract::{FromRequestParts, Path, Request},
    response::{IntoResponse, Response},
    routing::get,
};
use session_resume::adapter;

use crate::ResumeRejection;

/// Returns a router with `GET /sessions/{id}`, which answers with the outcome of a session of the caller's, and
/// `GET /sessions`, which lists them.
///
/// `GET /sessions/{id}` answers 200 with the outcome; 202 with `Retry-After` while there is none; 404 for sessions that
/// are unknown, too old, or not the caller's, alike. `?wait=SECONDS` waits for the outcome, at most 50 s.
///
/// `GET /sessions` answers 200 with `{"sessions":[{"session","status","name","created_ms","attached","head"}],"next"}`, at most 100 at a time;
/// `?limit=N` for fewer, `?after=SESSION` for what follows (`next` of the page before; null on the last). The list has
/// live sessions and outcomes in memory. Of the stored sessions it has only the caller's own, not those under other
/// keys. `?id=A&id=B` asks for these instead, at most 32; with `wait=SECONDS` and `If-None-Match` the answer waits until a
/// status is another one.
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
    Ok(adapter::poll::<T>(&parts, &id).await?.into_response().into_response())
}

async fn list<T: Send + 'static>(request: Request) -> Result<Response, ResumeRejection> {
    let (parts, _) = request.into_parts();
    Ok(adapter::list::<T>(&parts).await?.into_response().into_response())
}
