use std::sync::Arc;

use http::{StatusCode, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use session_resume::{
    Identity, IdentityChange, Session,
    adapter::{self, Refusal},
};
use warp::{Filter, Rejection, Reply, reject, reply::Response};

use crate::{ResumeRejection, ResumeUpgrade};

const NO_SERVICE: &str = "the filters of session-resume need session_resume_warp::service(routes), with the \
                          layer around it, in place of warp::service or warp::serve";

/// The request as it came to [`service`](crate::service()): warp's filters have no other way to all of it.
#[derive(Clone)]
pub(crate) struct Incoming {
    pub(crate) parts: Arc<Parts>,
    pub(crate) on_upgrade: Option<OnUpgrade>,
}

/// Yields the session of the request, starting one if there is none.
pub fn session<T>() -> impl Filter<Extract = (Session<T>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    incoming().and_then(|incoming: Incoming| async move {
        adapter::open(&incoming.parts).await.map_err(rejected)
    })
}

/// Yields the session of the request if there is one, without starting one and without counting as activity.
pub fn optional_session<T>()
-> impl Filter<Extract = (Option<Session<T>>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    incoming().and_then(|incoming: Incoming| async move {
        adapter::look(&incoming.parts).await.map_err(rejected)
    })
}

/// Yields who the browser is. Starts no session.
pub fn identity() -> impl Filter<Extract = (Identity,), Error = Rejection> + Clone {
    incoming().and_then(|incoming: Incoming| async move {
        adapter::identity(&incoming.parts).map_err(rejected)
    })
}

/// Yields a WebSocket upgrade on the request's session.
///
/// The filter and what is mapped behind it run on every connect; the handler of
/// [`ResumeUpgrade::on_session`] once per session.
pub fn resume<T>() -> impl Filter<Extract = (ResumeUpgrade<T>,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    incoming().and_then(|incoming: Incoming| async move {
        ResumeUpgrade::prepare(incoming).await.map_err(rejected)
    })
}

/// Serves `GET /sessions/{id}`, which answers with the outcome of a session of the caller's.
///
/// 200 with the outcome; 202 with `Retry-After` while there is none; 404 for sessions that are unknown, too
/// old, or not the caller's, alike. `?wait=SECONDS` waits for the outcome, at most 50 s.
pub fn outcomes<T>() -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone
where
    T: Send + 'static,
{
    warp::path!("sessions" / String).and(warp::get()).and(incoming()).and_then(
        |id: String, incoming: Incoming| async move {
            let answer = adapter::poll::<T>(&incoming.parts, &id).await.map_err(rejected)?;
            Ok::<_, Rejection>(answer.into_response())
        },
    )
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

fn incoming() -> impl Filter<Extract = (Incoming,), Error = Rejection> + Clone {
    warp::ext::optional().and_then(|incoming: Option<Incoming>| async move {
        incoming
            .ok_or_else(|| rejected(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, NO_SERVICE)))
    })
}

fn rejected(refusal: Refusal) -> Rejection {
    reject::custom(ResumeRejection::from(refusal))
}
