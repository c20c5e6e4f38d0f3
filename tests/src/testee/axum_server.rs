use std::time::Instant;

use axum::{
    Json, Router,
    body::{self, Body},
    extract::{Path, Request, State},
    http::StatusCode,
    response::{AppendHeaders, Html, IntoResponse, Response},
    routing::{any, get, post},
    serve::ListenerExt as _,
};
use serde_json::json;
use session_resume::SessionResume;
use session_resume_axum::{
    Identity, ResumeConnection, ResumeRejection, ResumeStart, Session, UiStream,
};
use tokio::net::TcpListener;

use crate::{
    answers::{LONGEST_BODY, PAGE, PUBLIC},
    chat,
    flags::Doors,
    live,
    node::{self, Node},
    observe,
    tally::{self, Count, Overview, Tally},
};

pub(crate) fn router(resume: SessionResume<Tally>, doors: Doors) -> Router {
    let mut router = Router::new()
        .route("/", get(overview))
        .route("/peek", get(peek))
        .route("/observe", get(observe))
        .route("/add/{k}", post(add).route_layer(resume.at_owner()))
        .route("/node", get(node))
        .route("/where", get(whereabouts))
        .route("/ready", get(ready))
        .route("/plain", get(|| async { "ok" }))
        .route("/page", get(|| async { Html(PAGE) }))
        .route("/asset", get(|| async { ([("cache-control", PUBLIC)], "asset") }))
        .route("/cookies", get(cookies))
        .route("/panic-read", get(panic_read))
        .route("/count", get(count))
        .route("/login", post(login))
        .route("/revoke", post(revoke))
        .route("/broadcast", post(broadcast))
        .route("/api/chat", post(chat))
        .route("/api/chat/{id}/stream", get(present))
        .route("/live", any(live))
        .route("/live/{*anything}", any(live_anywhere))
        .route("/watch", any(watch))
        .route("/brief", any(brief))
        .route("/other", any(other))
        .merge(session_resume_axum::outcomes::<Tally, _>());
    if let Some(door) = doors.door {
        router = router.merge(session_resume_axum::streams::<Tally, _>(door));
    }
    if let Some(shim) = doors.shim {
        let by_name = any(async move |Path(name): Path<String>, request: Request| {
            let (parts, body) = request.into_parts();
            match body::to_bytes(body, LONGEST_BODY).await {
                Ok(body) => shim.answer(&parts, &name, body).await.map(Body::new),
                Err(_) => StatusCode::PAYLOAD_TOO_LARGE.into_response(),
            }
        });
        router = router.route("/v1/stream/{*name}", by_name);
    }
    router.with_state(resume.clone()).layer(resume)
}

pub(crate) async fn serve(listener: TcpListener, resume: SessionResume<Tally>, doors: Doors) {
    // A flushed message leaves at once: with Nagle's algorithm it may wait for a delayed ACK of the one before.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router(resume, doors)).await.expect("axum serves until it is dropped");
}

pub(crate) async fn serve_hops(listener: TcpListener, resume: SessionResume<Tally>, doors: Doors) {
    let app = router(resume.clone(), doors);
    let ended = session_resume_axum::serve_hops(listener, app, &resume).await;
    ended.expect("the layer has a cluster");
}

async fn node(State(resume): State<SessionResume<Tally>>) -> Response {
    match Node::of(&resume) {
        Some(node) => Json(node).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn whereabouts(request: Request) -> Response {
    let (parts, _) = request.into_parts();
    match node::whereabouts(&parts).await {
        Ok(found) => Json(found).into_response(),
        Err(status) => status.into_response(),
    }
}

async fn ready(State(resume): State<SessionResume<Tally>>) -> StatusCode {
    node::ready(&resume)
}

async fn overview(session: Session<Tally>) -> Json<Overview> {
    Json(Overview::of(&session))
}

async fn peek(session: Option<Session<Tally>>) -> Response {
    match session {
        Some(session) => Json(Overview::of(&session)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn observe(session: Option<Session<Tally>>, request: Request) -> Response {
    match observe::observe(session, request.uri().query(), request.headers()) {
        Ok(pieces) => {
            (AppendHeaders(observe::HEADERS), axum::body::Body::from_stream(pieces)).into_response()
        }
        Err(status) => status.into_response(),
    }
}

// The path first: a request that cannot be read starts no session.
async fn add(Path(k): Path<i64>, session: Session<Tally>) -> Response {
    let total = session.update(|tally| tally.add(k));
    // With a message in hand it is saved together with that: waiting could take as long as the handler.
    if !session.is_message_in_hand() && session.saved().await.is_err() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    Json(json!({ "total": total })).into_response()
}

async fn cookies(session: Session<Tally>) -> impl IntoResponse {
    let own = AppendHeaders([("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    (own, Json(Overview::of(&session)))
}

async fn panic_read(session: Session<Tally>) {
    tally::panic_read(&session);
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
    (change, Json(json!({ "session": session.id(), "identity": identity }))).into_response()
}

async fn revoke(State(resume): State<SessionResume<Tally>>, identity: Identity) -> Response {
    let told = resume.everywhere().close_identity(identity, "revoked").await;
    Json(json!({ "closed": told.count, "unanswered": told.unanswered })).into_response()
}

async fn broadcast(State(resume): State<SessionResume<Tally>>, text: String) -> Response {
    let told = resume.everywhere().broadcast(text).await;
    Json(json!({ "told": told.count, "unanswered": told.unanswered })).into_response()
}

async fn count(State(resume): State<SessionResume<Tally>>) -> Json<Count> {
    Json(Count::of(&resume))
}

async fn live(connection: ResumeConnection<Tally>) -> Response {
    connection.named(live::NAME).on_urgent(live::is_urgent).on_session(live::live).await
}

/// The session of `/live`.
async fn live_anywhere(connection: ResumeConnection<Tally>) -> Response {
    live(connection.any_path()).await
}

/// The session of `/live`, for a client that may only read.
async fn watch(connection: ResumeConnection<Tally>) -> Response {
    live(connection.any_path().read_only()).await
}

/// The session of `/live`, for a client whose credentials run out soon.
async fn brief(connection: ResumeConnection<Tally>) -> Response {
    live(connection.any_path().valid_until(Instant::now() + live::BRIEF)).await
}

async fn chat(start: ResumeStart<Tally>) -> Result<UiStream<Tally>, ResumeRejection> {
    chat::post(start).await
}

async fn present(
    Path(id): Path<String>,
    start: ResumeStart<Tally>,
) -> Result<Response, ResumeRejection> {
    Ok(chat::present(start, id).await?.map(Body::new))
}

async fn other(connection: ResumeConnection<Tally>) -> Response {
    connection.on_session(live::other).await
}
