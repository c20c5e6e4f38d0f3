//! What comes back by a hop: an answer, or a connection whose bytes are copied.

use std::{pin::pin, sync::Arc, time::Duration};

use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncWriteExt as _, copy, split},
    time::timeout,
};

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
                join(by_client, by_owner, &node, owner).await;
                drop(counted);
            });
        }
        (status, headers)
    }
}

/// When one direction has ended, the other one has this long: as long as a session waits for the answer to its close.
const LINGER: Duration = Duration::from_secs(5);

/// Copies bytes both ways. The connection never changes its owner: when the hop ends, the client's ends.
async fn join(by_client: OnUpgrade, by_owner: OnUpgrade, node: &Membership, owner: Incarnation) {
    let ends = async {
        let (client, owner) = (by_client.await?, by_owner.await?);
        let (mut from_client, mut to_client) = split(TokioIo::new(client));
        let (mut from_owner, mut to_owner) = split(TokioIo::new(owner));
        let up = async {
            let _ = copy(&mut from_client, &mut to_owner).await;
            let _ = to_owner.shutdown().await;
        };
        let down = async {
            let _ = copy(&mut from_owner, &mut to_client).await;
            let _ = to_client.shutdown().await;
        };
        let (mut up, mut down) = (pin!(up), pin!(down));
        // The end of one direction is soon the end of both: a client that never closes holds no relay.
        let _ = tokio::select! {
            () = &mut up => timeout(LINGER, down).await,
            () = &mut down => timeout(LINGER, up).await,
        };
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
