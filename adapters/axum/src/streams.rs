use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Path, Request},
    response::Response,
    routing::any,
};
use session_resume::adapter::{self, Door};

/// Returns a router with `/streams/{session}`, which gives out what a session of the caller's sends to all its clients, by the
/// read half of the [Durable Streams](https://github.com/durable-streams/durable-streams) protocol.
///
/// `GET` reads from `?offset=` on, `-1` (the beginning), `now`, or one that an answer gave out; with `live=long-poll` it
/// waits for at most 25 s, and `live=sse` is a stream of events of a minute. `HEAD` says where the stream ends. 404 for
/// sessions that are unknown or not the caller's, alike; 410 for what is not kept any more, see
/// [`Retain`](session_resume::Retain). [`adapter::read_stream`] says more. For a route that decides itself who may read,
/// there is [`Door::read`].
///
/// Merge it into a router inside the layer:
/// `.merge(session_resume_axum::streams::<Counter, _>(Door::json()))`.
pub fn streams<T, S>(door: Door) -> Router<S>
where
    T: Send + 'static,
    S: Clone + Send + Sync + 'static,
{
    Router::new().route(
        "/streams/{session}",
        any(move |request: Request| {
            let door = door.clone();
            async move { read::<T>(request, &door).await }
        }),
    )
}

async fn read<T: Send + 'static>(request: Request, door: &Door) -> Response {
    let (mut parts, _) = request.into_parts();
    let id = Path::<String>::from_request_parts(&mut parts, &()).await;
    let id = id.map_or_else(|_| String::new(), |Path(id)| id);
    adapter::read_stream::<T>(&parts, &id, door).await.map(Body::new)
}
