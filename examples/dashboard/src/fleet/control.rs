//! The page that shows the nodes, and its buttons.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::Body,
    extract::{Path, Request, State},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HOST},
    },
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::TcpStream, sync::Mutex, time::timeout};

use super::machine::{Deed, Machine};
use crate::{app, node::About};

type Shared = Arc<Mutex<Machine>>;

/// A node that stands still does not answer.
const PATIENCE: Duration = Duration::from_millis(300);

pub(super) fn router(machine: Shared) -> Router {
    let script = include_str!("../../page/fleet.js");
    let style = include_str!("../../page/fleet.css");
    Router::new()
        .route("/", get(page))
        .route("/fleet.js", get(async || app::file("text/javascript; charset=utf-8", script)))
        .route("/fleet.css", get(async || app::file("text/css; charset=utf-8", style)))
        .route("/nodes", get(nodes))
        .route("/nodes/{name}/{deed}", post(act))
        .layer(middleware::from_fn(only_this_machine))
        .with_state(machine)
}

/// Its buttons end processes: they are for pages of our own on this machine.
async fn only_this_machine(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let is_own = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.is_none_or(|value| matches!(value, "same-origin" | "none"))
    };
    if app::is_of_this_machine(headers) && headers.contains_key(HOST) && is_own("sec-fetch-site") {
        return next.run(request).await;
    }
    StatusCode::FORBIDDEN.into_response()
}

async fn page(State(machine): State<Shared>) -> impl IntoResponse {
    let address = machine.lock().await.address();
    let headers = [(CONTENT_SECURITY_POLICY, app::POLICY), (CACHE_CONTROL, "no-store")];
    let html = include_str!("../../page/fleet.html");
    (headers, Html(html.replace("{{dashboard}}", &format!("http://{address}"))))
}

/// A node, as the page shows it.
#[derive(Serialize)]
struct Shown {
    name: &'static str,
    doing: &'static str,
    /// `None`: it does not answer.
    about: Option<About>,
    /// What can be done to it now.
    deeds: Vec<&'static str>,
}

async fn nodes(State(machine): State<Shared>) -> Json<Vec<Shown>> {
    let mut known = Vec::new();
    for (name, node) in &mut machine.lock().await.nodes {
        known.push((*name, node.doing(), node.address));
    }
    let mut shown = Vec::with_capacity(known.len());
    for (name, doing, address) in known {
        let about = timeout(PATIENCE, ask(address)).await.ok().flatten();
        let deeds = Deed::ALL.into_iter().filter(|deed| doing.allows(*deed));
        shown.push(Shown {
            name,
            doing: doing.name(),
            about,
            deeds: deeds.map(Deed::name).collect(),
        });
    }
    Json(shown)
}

/// Asks a node itself, past the balancer.
async fn ask(address: std::net::SocketAddr) -> Option<About> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let request = Request::get("/node").header(HOST, address.to_string()).body(Body::empty());
    let response = sender.send_request(request.ok()?).await.ok()?;
    let body = Limited::new(response.into_body(), 4096).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}

async fn act(
    State(machine): State<Shared>,
    Path((name, deed)): Path<(String, String)>,
) -> Response {
    let Some(deed) = Deed::ALL.into_iter().find(|known| known.name() == deed) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match machine.lock().await.does(&name, deed).await {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => StatusCode::CONFLICT.into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
