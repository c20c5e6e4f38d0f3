//! What comes back by a hop: an answer, or a connection whose bytes are copied.

use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;

use crate::words::{
    cluster::{Counted, Membership},
    node::Incarnation,
};

/// The answer of the node that owns the session.
pub(crate) struct Relayed {
    pub(super) response: Response<Incoming>,
    pub(super) owner: Incarnation,
    /// Counts the relay of an upgrade.
    pub(super) counted: Option<Counted>,
    pub(super) node: Arc<Membership>,
}

impl Relayed {
    /// Whether the connection is the client's and the owner's from now on.
    pub(super) fn is_upgrade(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Connects both ends once the answer is out; returns the answer's head.
    pub(super) fn join(self, parts: &Parts) -> (StatusCode, HeaderMap) {
        let Self { mut response, owner, counted, node } = self;
        let by_owner = hyper::upgrade::on(&mut response);
        let mut headers = std::mem::take(response.headers_mut());
        let status = if parts.method == Method::CONNECT {
            // HTTP/2 says by its status alone what HTTP/1.1 says with these.
            for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
                headers.remove(name);
            }
            StatusCode::OK
        } else {
            StatusCode::SWITCHING_PROTOCOLS
        };
        if let Some(by_client) = parts.extensions.get::<OnUpgrade>().cloned() {
            // Ends with either end's connection, or when the owner is gone.
            tokio::spawn(async move {
                copy(by_client, by_owner, &node, owner).await;
                drop(counted);
            });
        }
        (status, headers)
    }
}

/// Copies bytes both ways. The connection never changes its owner: when the hop ends, the client's ends.
async fn copy(by_client: OnUpgrade, by_owner: OnUpgrade, node: &Membership, owner: Incarnation) {
    let ends = async {
        let (client, owner) = (by_client.await?, by_owner.await?);
        let (mut client, mut owner) = (TokioIo::new(client), TokioIo::new(owner));
        // An error is the end of both, as is the end of one.
        let _ = copy_bidirectional(&mut client, &mut owner).await;
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        ended = ends => if let Err(error) = ended {
            tracing::debug!(%error, "a relayed connection was not upgraded");
        },
        // The client finds another way to its session.
        () = node.is_cut() => {}
        () = node.is_gone_for_good(owner) => {
            tracing::debug!(%owner, "a relayed connection is cut: its owner is gone");
        }
    }
}
