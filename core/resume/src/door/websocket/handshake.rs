use data_encoding::BASE64;
use http::{
    Extensions, HeaderName, HeaderValue, Method, Response, StatusCode, Version, header,
    request::Parts,
};
#[cfg(feature = "http2")]
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use session_resume_proto::wire::SUBPROTOCOL;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::WebSocket;
use crate::{
    RequestView,
    words::{refusal::Refusal, request::list_items},
};

/// The answer to a WebSocket's opening handshake.
#[derive(Debug)]
pub(super) struct Handshake {
    response: Response<String>,
    /// The subprotocol that is selected.
    pub(super) protocol: Option<HeaderValue>,
}

impl Handshake {
    /// Checks a request.
    pub(super) fn check(parts: &Parts) -> Result<Self, Refusal> {
        // Some browsers hide how an upgrade was refused, and ask again without one: a route that speaks the
        // protocol says so.
        let speaks =
            |refusal: Refusal| refusal.wanting(header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
        Self::check_request(parts).map_err(speaks)
    }

    fn check_request(parts: &Parts) -> Result<Self, Refusal> {
        let mut response = Response::new(String::new());
        if parts.version < Version::HTTP_2 {
            let accept = check_upgrade(parts)?;
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        } else {
            check_connect(parts)?;
        }
        let req = RequestView::from_parts(parts);
        if req.header(header::SEC_WEBSOCKET_VERSION) != Some("13") {
            // RFC 6455 §4.4.
            let refusal = bad("no WebSocket upgrade: the header sec-websocket-version is not 13");
            return Err(refusal.wanting(header::SEC_WEBSOCKET_VERSION, "13"));
        }
        Ok(Self { response, protocol: None })
    }

    /// Answers the request, and runs the socket once it is there.
    pub(super) fn accept<R>(
        mut self,
        on_upgrade: OnUpgrade,
        max_message_size: usize,
        run: impl FnOnce(WebSocket<TokioIo<Upgraded>>) -> R + Send + 'static,
    ) -> Response<String>
    where
        R: Future<Output = ()> + Send + 'static,
    {
        // Ends with its socket, which the session's rules and a drain close.
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(io) => run(WebSocket::server(TokioIo::new(io), max_message_size)).await,
                Err(error) => tracing::debug!(%error, "the connection was not upgraded"),
            }
        });
        if let Some(protocol) = self.protocol {
            self.response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        self.response
    }
}

/// Takes out of a request what becomes its connection.
pub(super) fn take_on_upgrade(extensions: &mut Extensions) -> Result<OnUpgrade, Refusal> {
    extensions.remove().ok_or_else(|| {
        let text = "the server does not upgrade connections: it must serve them as axum::serve and \
                    session_resume_warp::serve do, with hyper's serve_connection_with_upgrades";
        Refusal::new(StatusCode::UPGRADE_REQUIRED, text)
    })
}

/// RFC 6455 §4.2.1; returns the answer to the client's key.
fn check_upgrade(parts: &Parts) -> Result<HeaderValue, Refusal> {
    if parts.version < Version::HTTP_11 {
        return Err(bad("no WebSocket upgrade: HTTP/1.0 has none"));
    }
    if parts.method != Method::GET {
        let text = "a WebSocket upgrade is a GET";
        return Err(
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).wanting(header::ALLOW, "GET")
        );
    }
    if !lists(parts, &header::CONNECTION, b"upgrade") {
        return Err(bad("no WebSocket upgrade: the header connection does not say upgrade"));
    }
    if !lists(parts, &header::UPGRADE, b"websocket") {
        return Err(bad("no WebSocket upgrade: the header upgrade does not say websocket"));
    }
    let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| bad("no WebSocket upgrade: no header sec-websocket-key"))?;
    // 16 bytes in base64.
    if BASE64.decode(key.as_bytes()).map_or(0, |nonce| nonce.len()) != 16 {
        return Err(bad("no WebSocket upgrade: the header sec-websocket-key is no key"));
    }
    Ok(HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is ASCII"))
}

/// RFC 8441 §4.
fn check_connect(parts: &Parts) -> Result<(), Refusal> {
    if parts.method != Method::CONNECT {
        let text = "a WebSocket upgrade over HTTP/2 is a CONNECT";
        return Err(
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, text).wanting(header::ALLOW, "CONNECT")
        );
    }
    // Without the feature the type cannot be named.
    #[cfg(feature = "http2")]
    if parts.extensions.get().map(Protocol::as_str) != Some("websocket") {
        return Err(bad("no WebSocket upgrade: the pseudo-header :protocol is not websocket"));
    }
    Ok(())
}

fn lists(parts: &Parts, name: &HeaderName, item: &[u8]) -> bool {
    list_items(&parts.headers, name).any(|found| found.eq_ignore_ascii_case(item))
}

fn bad(text: &'static str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, text)
}
