use std::sync::Arc;

use http::{StatusCode, header, request::Parts};
use session_resume::{
    Identity, IdentityChange, Session,
    adapter::{self, Door, Refusal, ResumeStart, ResumeUpgrade},
};
use warp::{Filter, Rejection, Reply, reject, reply::Response};

use crate::{ResumeConnection, ResumeRejection};

const NO_SERVICE: &str = "the filters of session-resume need session_resume_warp::service(routes), with the \
                          layer around it, in place of warp::service or warp::serve";

/// The request as it came to [`service`](crate::service()): warp's filters have no other way to all of it.
#[derive(Clone)]
pub(crate) struct Incoming(pub(crate) Arc<Parts>);

/// Yields the session of the request, starting one if there is none.
pub fn session<T>() -> impl Filter<Extract = (Session<T>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    extract(|parts| async move { adapter::open(&parts).await })
}

/// Yields the session of the request if there is one, without starting one and without counting as activity.
pub fn optional_session<T>()
-> impl Filter<Extract = (Option<Session<T>>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    extract(|parts| async move { adapter::look(&parts).await })
}

/// Yields the request's head as it came to [`service`](crate::service()), with the extension of the layer: for calls of
/// `session_resume::adapter`.
pub fn parts() -> impl Filter<Extract = (Arc<Parts>,), Error = Rejection> + Clone {
    extract(|parts| async move { Ok(parts) })
}

/// Yields who the browser is. Starts no session.
pub fn identity() -> impl Filter<Extract = (Identity,), Error = Rejection> + Clone {
    extract(|parts| async move { adapter::identity(&parts) })
}

/// Yields a WebSocket upgrade on the request's session.
///
/// The filter and what is mapped behind it run on every connect; the handler of
/// [`ResumeUpgrade::on_session`] once per session.
pub fn resume<T>() -> impl Filter<Extract = (ResumeUpgrade<T>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    extract(|parts| async move { ResumeUpgrade::prepare(&parts).await })
}

/// Yields a connection to the request's session, whichever way it comes: a WebSocket upgrade, or plain HTTP.
///
/// The filter and what is mapped behind it run on every request; the handler of
/// [`ResumeConnection::on_session`] once per session. It takes the request's body.
pub fn connect<T>() -> impl Filter<Extract = (ResumeConnection<T>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    extract(|parts| async move { Ok(parts) }).and(warp::body::stream()).and_then(
        |parts: Arc<Parts>, body| async move {
            ResumeConnection::prepare(&parts, body).await.map_err(rejected)
        },
    )
}

/// Yields a request of plain HTTP that starts its session's handler: see [`ResumeStart`]. It takes the request's body.
///
/// ```
/// use session_resume::{LiveSession, adapter::Refusal};
/// use session_resume_warp::ResumeStart;
/// use warp::{Filter as _, Reply as _};
///
/// async fn order(start: ResumeStart) -> Result<(), Refusal> {
///     let (identity, order) = (start.identity(), start.text()?);
///     start.start(work).await?.post(identity, order)?;
///     Ok(())
/// }
///
/// async fn work(mut session: LiveSession) -> session_resume::Result {
///     while let Some(order) = session.recv().await {
///         session.send(order).await?;
///     }
///     Ok(())
/// }
///
/// let orders = warp::path!("orders").and(warp::post()).and(session_resume_warp::start()).then(
///     |start: ResumeStart| async {
///         match order(start).await {
///             Ok(()) => "ordered".into_response(),
///             Err(refusal) => session_resume_warp::reply(refusal.into_body_response()),
///         }
///     },
/// );
/// # drop(orders);
/// ```
pub fn start<T>() -> impl Filter<Extract = (ResumeStart<T>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    extract(|parts| async move { Ok(parts) }).and(warp::body::stream()).and_then(
        |parts: Arc<Parts>, body| async move {
            let body = crate::connection::from_warp(body);
            ResumeStart::prepare(&parts, body).await.map_err(rejected)
        },
    )
}

/// Serves `GET /sessions/{id}`, which answers with the outcome of a session of the caller's, and
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
pub fn outcomes<T>() -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    let get = || warp::get().or(warp::head()).unify();
    let list = warp::path!("sessions").and(get());
    let list = list.and(extract(|parts| async move { adapter::list::<T>(&parts).await }));
    let poll = warp::path!("sessions" / String).and(get());
    let poll = poll.and(extract(|parts| async move { Ok(parts) })).and_then(
        |id: String, parts: Arc<Parts>| async move {
            adapter::poll::<T>(&parts, &id).await.map_err(rejected)
        },
    );
    list.or(poll).unify().map(adapter::Answer::into_response)
}

/// Serves `/streams/{session}`, which gives out what a session of the caller's sends to all its clients, by the read half of
/// the [Durable Streams](https://github.com/durable-streams/durable-streams) protocol.
///
/// `GET` reads from `?offset=` on, `-1` (the beginning), `now`, or one that an answer gave out; with `live=long-poll` it
/// waits for at most 25 s, and `live=sse` is a stream of events of a minute. `HEAD` says where the stream ends. 404 for
/// sessions that are unknown or not the caller's, alike; 410 for what is not kept any more, see
/// [`Retain`](session_resume::Retain). [`adapter::read_stream`] says more. For a route that decides itself who may read,
/// there is [`Door::read`].
pub fn streams<T>(door: Door) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    let read = warp::path!("streams" / String).and(extract(|parts| async move { Ok(parts) }));
    read.then(move |id: String, parts: Arc<Parts>| {
        let door = door.clone();
        async move { reply(adapter::read_stream::<T>(&parts, &id, &door).await) }
    })
}

/// Makes a reply of an answer of [`session_resume::adapter`].
pub fn reply(response: http::Response<adapter::Body>) -> Response {
    crate::connection::reply(response)
}

/// Sets the cookie of a new identity on a reply; see [`Session::cycle_identity`].
#[expect(clippy::needless_pass_by_value, reason = "a change of identity is spent on one reply")]
pub fn with_identity_change(reply: impl Reply, change: IdentityChange) -> Response {
    let mut response = reply.into_response();
    if let Some(cookie) = change.set_cookie() {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response
}

fn extract<R, F, Fut>(extract: F) -> impl Filter<Extract = (R,), Error = Rejection> + Clone
where
    R: Send,
    F: Fn(Arc<Parts>) -> Fut + Clone + Send + Sync,
    Fut: Future<Output = Result<R, Refusal>> + Send,
{
    warp::ext::optional().and_then(move |incoming: Option<Incoming>| {
        let extracted = incoming.map(|Incoming(parts)| extract(parts));
        async move {
            match extracted {
                Some(extracted) => extracted.await.map_err(rejected),
                None => Err(rejected(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, NO_SERVICE))),
            }
        }
    })
}

fn rejected(refusal: Refusal) -> Rejection {
    reject::custom(ResumeRejection::from(refusal))
}
