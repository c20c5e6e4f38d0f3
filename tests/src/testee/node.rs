//! The testee as one of several nodes.

use std::{net::SocketAddr, time::Duration};

use http::{StatusCode, request::Parts};
use serde::Serialize;
use serde_json::{Value, json};
use session_resume::{LeaseView, SessionResume, adapter, store::Incarnation};
use tokio::{net::TcpListener, time::timeout};

use crate::{flags::ClusterFlags, tally::Tally};

/// How long the engine may take to answer `GET /where`.
const ENGINE: Duration = Duration::from_secs(1);
/// How long a node may take to be enlisted.
const ENLISTED: Duration = Duration::from_secs(10);

/// Where the other nodes come in.
pub(crate) struct Listener {
    pub(crate) listener: TcpListener,
    /// What the directory says.
    pub(crate) advertise: String,
}

impl Listener {
    /// Listens for hops: where the flag says, or at the advertised address. Port 0 picks one.
    pub(crate) async fn bind(of: &ClusterFlags) -> Result<Self, Box<dyn std::error::Error>> {
        let advertise = of.advertise.clone().unwrap_or_default();
        let at = of.hops.clone().unwrap_or_else(|| advertise.clone());
        let listener = adapter::bind(&at).await?;
        let (host, port) = advertise.rsplit_once(':').ok_or("--advertise is host:port")?;
        let advertise = match port {
            "0" => format!("{host}:{}", listener.local_addr()?.port()),
            _ => advertise,
        };
        Ok(Self { listener, advertise })
    }
}

/// Waits until the node has its lease; returns the line that says so.
pub(crate) async fn enlisted(
    resume: &SessionResume<Tally>,
    hops: SocketAddr,
) -> Result<String, Box<dyn std::error::Error>> {
    if !resume.start(ENLISTED).await {
        return Err("the engine has not enlisted this node".into());
    }
    let view = resume.cluster().ok_or("no cluster")?;
    Ok(format!("node {} incarnation {} hops on {hops}", view.name, view.incarnation))
}

/// What `GET /node` answers.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the answer are fixed")]
pub(crate) struct Node {
    node: String,
    incarnation: Incarnation,
    lease: &'static str,
    lease_ms: u64,
    sessions: usize,
    frozen: usize,
    relays: usize,
    hops: usize,
}

impl Node {
    /// `None` without a cluster.
    pub(crate) fn of(resume: &SessionResume<Tally>) -> Option<Self> {
        let view = resume.cluster()?;
        let left = match view.lease {
            LeaseView::Held => view.left,
            LeaseView::Lapsed | LeaseView::Gone => Duration::ZERO,
        };
        Some(Self {
            node: view.name,
            incarnation: view.incarnation,
            lease: view.lease.as_str(),
            lease_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            sessions: resume.sessions().len(),
            frozen: view.frozen,
            relays: view.relays,
            hops: view.hops,
        })
    }
}

/// What `GET /where` answers.
pub(crate) async fn whereabouts(parts: &Parts) -> Result<Value, StatusCode> {
    let asked = timeout(ENGINE, adapter::whereabouts::<Tally>(parts)).await;
    match asked {
        Ok(Ok(found)) => Ok(json!({
            "here": found.here,
            "owner": found.owner,
            "state": found.state.as_str(),
            "generation": found.generation,
        })),
        Ok(Err(refusal)) => Err(refusal.status()),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// What `GET /ready` answers.
pub(crate) fn ready(resume: &SessionResume<Tally>) -> StatusCode {
    if resume.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
