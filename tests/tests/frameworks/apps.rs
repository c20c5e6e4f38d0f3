//! The same application twice.

use std::net::SocketAddr;

use axum::{
    Router,
    body::Bytes,
    response::{AppendHeaders, IntoResponse},
    routing::{any, get, post},
};
use serde::{Deserialize, Serialize};
use session_resume::{
    BlockingSession, IdentityChange, LiveSession, Result, Session, SessionResume,
};
use session_resume_axum::ResumeUpgrade as AxumUpgrade;
use session_resume_tests::Framework;
use session_resume_warp::ResumeUpgrade as WarpUpgrade;
use tokio::net::TcpListener;
use tower_layer::Layer as _;
use warp::{Filter, Rejection, Reply};

pub(crate) const FRAMEWORKS: [Framework; 2] = [Framework::Axum, Framework::Warp];

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Log {
    starts: u32,
    messages: u32,
}

/// A state that no route asks for.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Other;

/// Serves the application with a layer around it, or with none.
pub(crate) async fn start<T>(framework: Framework, layer: Option<SessionResume<T>>) -> SocketAddr
where
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    match (framework, layer) {
        (Framework::Axum, layer) => {
            let app = match layer {
                Some(layer) => router().layer(layer),
                None => router(),
            };
            tokio::spawn(async move { axum::serve(listener, app).await });
        }
        (Framework::Warp, None) => {
            let app = session_resume_warp::service(routes());
            tokio::spawn(async move { session_resume_warp::serve(listener, app).await });
        }
        (Framework::Warp, Some(layer)) => {
            let app = layer.layer(session_resume_warp::service(routes()));
            tokio::spawn(async move { session_resume_warp::serve(listener, app).await });
        }
    }
    addr
}

pub(crate) fn router() -> Router {
    async fn index(session: Session<Log>) -> String {
        view(&session)
    }
    async fn length(session: Session<Log>, body: Bytes) -> String {
        format!("{} bytes, {}", body.len(), view(&session))
    }
    async fn login(session: Session<Log>) -> impl IntoResponse {
        let change: IdentityChange = session.cycle_identity();
        (AppendHeaders([("set-cookie", "a=1")]), change, "logged in")
    }
    Router::new()
        .route("/", get(index))
        .route("/length", post(length))
        .route("/login", post(login))
        .route(
            "/live",
            any(|upgrade: AxumUpgrade<Log>| async { upgrade.any_path().on_session(live) }),
        )
        .route("/rooms/{room}", any(|upgrade: AxumUpgrade<Log>| async { upgrade.on_session(live) }))
        .route("/other", any(|upgrade: AxumUpgrade<Log>| async { upgrade.on_session(other) }))
        .route(
            "/blocking",
            any(|upgrade: AxumUpgrade<Log>| async { upgrade.on_session_blocking(blocking) }),
        )
        .route("/refused", any(|upgrade: AxumUpgrade<Log>| async { upgrade.refuse("not today") }))
        .route(
            "/chat",
            any(|upgrade: AxumUpgrade<Log>| async {
                upgrade.protocols(["chat.v2", "chat.v1"]).on_session(live)
            }),
        )
        .merge(session_resume_axum::outcomes::<Log, _>())
}

pub(crate) fn routes() -> impl Filter<Extract = (impl Reply,), Error = Rejection> + Clone {
    let session = session_resume_warp::session::<Log>;
    let upgrade = session_resume_warp::resume::<Log>;
    let index = warp::path::end()
        .and(warp::get())
        .and(session())
        .map(|session: Session<Log>| view(&session));
    let length =
        warp::path!("length").and(warp::post()).and(session()).and(warp::body::bytes()).map(
            |session: Session<Log>, body: Bytes| {
                format!("{} bytes, {}", body.len(), view(&session))
            },
        );
    let login =
        warp::path!("login").and(warp::post()).and(session()).map(|session: Session<Log>| {
            let reply = warp::reply::with_header("logged in", "set-cookie", "a=1");
            session_resume_warp::with_identity_change(reply, session.cycle_identity())
        });
    let live_route = warp::path!("live")
        .and(upgrade())
        .map(|upgrade: WarpUpgrade<Log>| upgrade.any_path().on_session(live));
    let room = warp::path!("rooms" / String)
        .and(upgrade())
        .map(|_, upgrade: WarpUpgrade<Log>| upgrade.on_session(live));
    let other = warp::path!("other")
        .and(upgrade())
        .map(|upgrade: WarpUpgrade<Log>| upgrade.on_session(other));
    let blocking = warp::path!("blocking")
        .and(upgrade())
        .map(|upgrade: WarpUpgrade<Log>| upgrade.on_session_blocking(blocking));
    let refused = warp::path!("refused")
        .and(upgrade())
        .map(|upgrade: WarpUpgrade<Log>| upgrade.refuse("not today"));
    let chat = warp::path!("chat").and(upgrade()).map(|upgrade: WarpUpgrade<Log>| {
        upgrade.protocols(["chat.v2", "chat.v1"]).on_session(live)
    });
    index
        .or(length)
        .or(login)
        .or(live_route)
        .or(room)
        .or(other)
        .or(blocking)
        .or(refused)
        .or(chat)
        .or(session_resume_warp::outcomes::<Log>())
}

fn view(session: &Session<Log>) -> String {
    session.read(|log| format!("{} session, {} messages", session.origin(), log.messages))
}

async fn live(mut session: LiveSession<Log>) -> Result {
    session.update(|log| log.starts += 1);
    while let Some(message) = session.recv().await {
        let (start, n) = session.update(|log| {
            log.messages += 1;
            (log.starts, log.messages)
        });
        let text = message.as_text().unwrap_or("binary");
        session.send(format!("start {start}, message {n}: {text}")).await?;
    }
    Ok(())
}

async fn other(mut session: LiveSession<Log>) -> Result {
    while session.recv().await.is_some() {}
    Ok(())
}

fn blocking(mut session: BlockingSession<Log>) -> Result {
    while let Some(message) = session.recv() {
        session.send(message)?;
    }
    Ok(())
}
