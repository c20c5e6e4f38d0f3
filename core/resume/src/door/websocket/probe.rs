//! A WebSocket that asks only whether frames pass. It touches no session.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Response, header, request::Parts};
use hyper::upgrade::OnUpgrade;
use session_resume_proto::wire::{Offer, PROBE_GREETING, SUBPROTOCOL};

use super::handshake::{Handshake, take_on_upgrade};
use crate::{
    door::upgrade::Upgrade,
    words::{
        refusal::Refusal,
        request::list_items,
        transport::{Frame, Transport},
    },
};

/// The longest frame that is echoed.
const LONGEST: usize = 4 << 10;
/// A probe is over after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A WebSocket upgrade that is a probe.
#[derive(Debug)]
pub(crate) struct Probe {
    handshake: Handshake,
    on_upgrade: OnUpgrade,
}

impl Probe {
    /// Whether the request offers the subprotocols of a probe.
    pub(crate) fn is_asked_for(parts: &Parts) -> bool {
        let names = list_items(&parts.headers, &header::SEC_WEBSOCKET_PROTOCOL);
        Offer::is_probe(names.filter_map(|name| std::str::from_utf8(name).ok()))
    }

    pub(crate) fn prepare<T: Send + 'static>(parts: &Parts) -> Result<Self, Refusal> {
        let mut handshake = Handshake::check(parts)?;
        Upgrade::<T>::check_origin(parts)?;
        let on_upgrade = take_on_upgrade(&mut parts.extensions.clone())?;
        handshake.protocol = Some(HeaderValue::from_static(SUBPROTOCOL));
        Ok(Self { handshake, on_upgrade })
    }

    pub(crate) fn answer(self) -> Response<String> {
        self.handshake.accept(self.on_upgrade, LONGEST, |socket| async move {
            // Nothing is lost with it.
            let _ = tokio::time::timeout(PATIENCE, echo(socket)).await;
        })
    }
}

/// Greets, says one binary frame back, closes, and waits for the peer to close.
async fn echo(mut socket: impl Transport) {
    if socket.send(Frame::Text(PROBE_GREETING.into())).await.is_err() {
        return;
    }
    while let Some(Ok(frame)) = socket.next().await {
        if let Frame::Binary(bytes) = frame {
            let _ = socket.send(Frame::Binary(bytes)).await;
            let _ = socket.send(Frame::Close(Some((1000, "".into())))).await;
            break;
        }
    }
    while let Some(Ok(_)) = socket.next().await {}
}
