use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, request::Parts};
use serde_json::json;
use session_resume::{Session, SessionResume, adapter::Refusal};
use session_resume_warp::{Door, ResumeConnection, ResumeStart, UiStream};
use tokio::net::TcpListener;
use tower_layer::Layer as _;
use warp::{
    Filter, Rejection, Reply,
    path::Tail,
    reply::{self, Response},
};

use crate::{
    answers::{PAGE, PUBLIC},
    chat,
    flags::Doors,
    live,
    node::{self, Node},
    observe,
    tally::{self, Count, Overview, Tally},
};

pub(crate) async fn serve(listener: TcpListener, resume: SessionResume<Tally>, doors: Doors) {
    let service = session_resume_warp::service(routes(resume.clone(), doors));
    session_resume_warp::serve(listener, resume.layer(service)).await;
}

pub(crate) async fn serve_hops(listener: TcpListener, resume: SessionResume<Tally>, doors: Doors) {
    let service = session_resume_warp::service(routes(resume.clone(), doors));
    let service = resume.layer(service);
    let ended = session_resume_warp::serve_hops(listener, service, &resume).await;
    ended.expect("the layer has a cluster");
}

fn routes(
    resume: SessionResume<Tally>,
    doors: Doors,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let session = session_resume_warp::session::<Tally>;
    let connect = session_resume_warp::connect::<Tally>;

    let overview = warp::path::end()
        .and(warp::get())
        .and(session())
        .map(|session| reply::json(&Overview::of(&session)));
    let peek = warp::path!("peek")
        .and(warp::get())
        .and(session_resume_warp::optional_session::<Tally>())
        .map(peek);
    let observe = warp::path!("observe")
        .and(warp::get())
        .and(session_resume_warp::optional_session::<Tally>())
        .and(session_resume_warp::parts())
        .map(|session, parts: Arc<Parts>| observe(session, &parts));
    let add = warp::path!("add" / i64).and(warp::post()).and(session()).then(add);
    let plain = warp::path!("plain").and(warp::get()).map(|| "ok");
    let page = warp::path!("page").and(warp::get()).map(|| reply::html(PAGE));
    let asset = warp::path!("asset")
        .and(warp::get())
        .map(|| reply::with_header("asset", header::CACHE_CONTROL, PUBLIC));
    let cookies =
        warp::path!("cookies").and(warp::get()).and(session()).map(|session| cookies(&session));
    let panic_read = warp::path!("panic-read").and(warp::get()).and(session()).map(|session| {
        tally::panic_read(&session);
        StatusCode::OK
    });
    let login = warp::path!("login").and(warp::post()).and(session()).then(login);
    let told = at_all_nodes(resume.clone());
    let of_node = resume.clone();
    let node = warp::path!("node").and(warp::get()).map(move || match Node::of(&of_node) {
        Some(node) => reply::json(&node).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    });
    let whereabouts =
        warp::path!("where").and(warp::get()).and(session_resume_warp::parts()).then(whereabouts);
    let of_ready = resume.clone();
    let ready = warp::path!("ready").and(warp::get()).map(move || node::ready(&of_ready));
    let count = warp::path!("count").and(warp::get()).map(move || reply::json(&Count::of(&resume)));
    let live = warp::path!("live").and(connect()).then(attach);
    let live_anywhere = warp::path!("live" / ..)
        .and(connect())
        .then(|connection: ResumeConnection<Tally>| attach(connection.any_path()));
    let watch = warp::path!("watch")
        .and(connect())
        .then(|connection: ResumeConnection<Tally>| attach(connection.any_path().read_only()));
    let brief = warp::path!("brief").and(connect()).then(|connection: ResumeConnection<Tally>| {
        attach(connection.any_path().valid_until(Instant::now() + live::BRIEF))
    });
    let other = warp::path!("other")
        .and(connect())
        .then(|connection: ResumeConnection<Tally>| connection.on_session(live::other));

    let has_door = doors.door.is_some();
    let streams = session_resume_warp::streams::<Tally>(doors.door.unwrap_or_else(Door::json));
    let streams = only_if(has_door).and(streams);
    let has_shim = doors.shim.is_some();
    let shim = doors.shim.unwrap_or_default();
    let by_name = only_if(has_shim)
        .and(warp::path!("v1" / "stream" / ..))
        .and(warp::path::tail())
        .and(session_resume_warp::parts())
        .and(warp::body::bytes())
        .then(move |name: Tail, parts: Arc<Parts>, body: Bytes| {
            let shim = Arc::clone(&shim);
            async move {
                session_resume_warp::reply(shim.answer(&parts, name.as_str(), body).await)
            }
        });

    overview
        .or(peek)
        .or(observe)
        .or(add)
        .or(plain)
        .or(node)
        .or(whereabouts)
        .or(ready)
        .or(page)
        .or(asset)
        .or(cookies)
        .or(panic_read)
        .or(count)
        .or(login)
        .or(told)
        .or(live)
        .or(live_anywhere)
        .or(watch)
        .or(brief)
        .or(other)
        .or(chats())
        .or(session_resume_warp::outcomes::<Tally>())
        .or(streams)
        .or(by_name)
}

/// Lets a request on only if its routes are there.
fn only_if(is_there: bool) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::any()
        .and_then(
            move || async move { if is_there { Ok(()) } else { Err(warp::reject::not_found()) } },
        )
        .untuple_one()
}

async fn attach(connection: ResumeConnection<Tally>) -> Response {
    connection.named(live::NAME).on_urgent(live::is_urgent).on_session(live::live).await
}

/// What `useChat` asks for.
fn chats() -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let chat = warp::path!("api" / "chat")
        .and(warp::post())
        .and(session_resume_warp::start::<Tally>())
        .then(chat);
    let present = warp::path!("api" / "chat" / String / "stream")
        .and(warp::get())
        .and(session_resume_warp::start::<Tally>())
        .then(|id: String, start: ResumeStart<Tally>| async move {
            let answered = chat::present(start, id).await;
            session_resume_warp::reply(answered.unwrap_or_else(Refusal::into_body_response))
        });
    chat.or(present)
}

async fn chat(start: ResumeStart<Tally>) -> Response {
    let answered = chat::post(start).await.map(UiStream::into_response);
    session_resume_warp::reply(answered.unwrap_or_else(Refusal::into_body_response))
}

async fn whereabouts(parts: Arc<Parts>) -> Response {
    match node::whereabouts(&parts).await {
        Ok(found) => reply::json(&found).into_response(),
        Err(status) => status.into_response(),
    }
}

fn peek(session: Option<Session<Tally>>) -> Response {
    match session {
        Some(session) => reply::json(&Overview::of(&session)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn observe(session: Option<Session<Tally>>, parts: &Parts) -> Response {
    match observe::observe(session, parts.uri.query(), &parts.headers) {
        Ok(pieces) => {
            let mut response = reply::stream(pieces).into_response();
            for (name, value) in observe::HEADERS {
                response.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            response
        }
        Err(status) => status.into_response(),
    }
}

async fn add(k: i64, session: Session<Tally>) -> Response {
    let total = session.update(|tally| tally.add(k));
    // With a message in hand it is saved together with that: waiting could take as long as the handler.
    if !session.is_message_in_hand() && session.saved().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    reply::json(&json!({ "total": total })).into_response()
}

async fn login(session: Session<Tally>) -> Response {
    let change = session.cycle_identity();
    let Some(identity) = change.identity() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // The record moves with the next snapshot: until then a crash would leave the session to the old cookie.
    if !session.is_message_in_hand() && session.saved().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let reply = reply::json(&json!({ "session": session.id(), "identity": identity }));
    session_resume_warp::with_identity_change(reply, change)
}

fn cookies(session: &Session<Tally>) -> Response {
    let mut response = reply::json(&Overview::of(session)).into_response();
    for cookie in ["a=1", "b=2"] {
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(cookie));
    }
    response
}

/// What one node is asked for, and all do.
fn at_all_nodes(
    resume: SessionResume<Tally>,
) -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let resume = warp::any().map(move || resume.clone());
    let revoke = warp::path!("revoke")
        .and(warp::post())
        .and(resume.clone())
        .and(session_resume_warp::identity())
        .then(|resume: SessionResume<Tally>, identity| async move {
            let told = resume.everywhere().close_identity(identity, "revoked").await;
            reply::json(&json!({ "closed": told.count, "unanswered": told.unanswered }))
        });
    let broadcast =
        warp::path!("broadcast").and(warp::post()).and(resume).and(warp::body::bytes()).then(
            |resume: SessionResume<Tally>, text: Bytes| async move {
                let text = String::from_utf8_lossy(&text).into_owned();
                let told = resume.everywhere().broadcast(text).await;
                reply::json(&json!({ "told": told.count, "unanswered": told.unanswered }))
            },
        );
    revoke.or(broadcast)
}
