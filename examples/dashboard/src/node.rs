//! The dashboard as one of several nodes: the listener for the others, and what the node says of itself.

use std::{error::Error, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use session_resume::{Cluster, IdentityCookie, SessionResume};
use session_resume_redis::RedisStore;
use tokio::net::TcpListener;

use crate::state::Dashboard;

/// How long the engine may take to let the node in.
const ENLISTED: Duration = Duration::from_secs(10);
/// Short, so that one sees what happens when a node is gone.
const LEASE: Duration = Duration::from_secs(2);

/// Which node this is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Where the other nodes come in; port 0 picks one.
    pub(crate) hops: String,
}

/// Makes the layer of a node, and listens for the others.
pub(crate) async fn layer(
    resume: SessionResume<Dashboard>,
    url: &str,
    node: &Node,
) -> Result<(SessionResume<Dashboard>, TcpListener), Box<dyn Error>> {
    let hops = session_resume_axum::bind(&node.hops).await;
    let hops = hops.map_err(|error| format!("{}: {error}", node.hops))?;
    let cluster = Cluster::new(RedisStore::connect(url).await?)
        .with_name(node.name.clone())
        .with_advertise(hops.local_addr()?.to_string())
        .with_lease(LEASE);
    // All nodes are behind one name and port, whatever their own ports are.
    let cookie = IdentityCookie::new("sr_dashboard");
    Ok((resume.with_identity(cookie).with_cluster(cluster), hops))
}

/// Waits until the engine has let the node in.
pub(crate) async fn enlisted(resume: &SessionResume<Dashboard>) -> Result<(), Box<dyn Error>> {
    if resume.start(ENLISTED).await {
        return Ok(());
    }
    Err("the engine has not let this node in".into())
}

/// `GET /ready`, which a balancer asks, and `GET /node`.
pub(crate) fn routes(resume: SessionResume<Dashboard>) -> Router {
    Router::new().route("/ready", get(ready)).route("/node", get(about)).with_state(resume)
}

async fn ready(State(resume): State<SessionResume<Dashboard>>) -> StatusCode {
    if resume.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) lease: String,
    pub(crate) is_ready: bool,
    /// Sessions whose handlers run here.
    pub(crate) owns: usize,
    /// Pages that are connected to these, at whatever node they came in.
    pub(crate) attached: usize,
    /// Pages that came in here, and whose session another node owns.
    pub(crate) relays: usize,
}

async fn about(State(resume): State<SessionResume<Dashboard>>) -> Response {
    let Some(view) = resume.cluster() else { return StatusCode::NOT_FOUND.into_response() };
    let sessions = resume.sessions();
    let lease = view.lease.as_str().to_owned();
    let attached = sessions.iter().map(|session| session.transports).sum();
    let (is_ready, owns, relays) = (resume.is_ready(), sessions.len(), view.relays);
    Json(About { lease, is_ready, owns, attached, relays }).into_response()
}
