use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use session_resume::{
    BlockingSession, Identity, IntoOutcome, LiveSession,
    adapter::{Refusal, Upgrade},
};
use tokio_tungstenite::tungstenite::{
    Error as WsError, error::ProtocolError, handshake::server::create_response_with_body,
    protocol::WebSocketConfig,
};
use warp::{Reply as _, reply::Response};

use crate::{filters::Incoming, socket::Socket};

/// tungstenite zeroes its read buffer before every read: 4 KiB instead of 128 make a connection cost a
/// twentieth of the memory.
const READ_BUFFER: usize = 4 << 10;
/// Written out at this size or when the pump flushes, whichever comes first.
const WRITE_BUFFER: usize = 16 << 10;

/// A WebSocket upgrade on the request's session; [`resume`](crate::resume) yields it.
#[derive(Debug)]
#[must_use = "answer the request with what on_session or refuse returns"]
pub struct ResumeUpgrade<T: Send + 'static = ()> {
    upgrade: Upgrade<T>,
    offered: Vec<HeaderValue>,
    handshake: Handshake,
}

impl<T: Send + 'static> ResumeUpgrade<T> {
    pub(crate) async fn prepare(incoming: Incoming) -> Result<Self, Refusal> {
        let Incoming { parts, on_upgrade } = incoming;
        let handshake = Handshake::new(&Request::from_parts((*parts).clone(), ()), on_upgrade)?;
        let upgrade = Upgrade::prepare(&parts).await?;
        Ok(Self { upgrade, offered: offered(&parts.headers), handshake })
    }

    /// Returns who the browser is.
    pub fn identity(&self) -> Identity {
        self.upgrade.identity()
    }

    /// Selects one of the application's own subprotocols: the first of these that the client offers. Clients
    /// that offer to resume get `session-resume.v1` instead.
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        let mut protocols = protocols.into_iter().map(Into::into);
        let chosen = protocols.find_map(|protocol| {
            self.offered.iter().find(|offered| *offered == &*protocol).cloned()
        });
        self.handshake.protocol = chosen.or(self.handshake.protocol);
        self
    }

    /// Opens the WebSocket on the session. The first time, the handler starts; it outlives the socket, and on
    /// later connects the closure is dropped uncalled.
    ///
    /// Another handler than the one that runs is answered with 409: two routes that mean two things need two
    /// session keys.
    pub fn on_session<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let (upgrade, handshake) = self.into_parts();
        match upgrade.on_session(handler) {
            Ok(attach) => handshake.accept(move |socket| attach.run(socket)),
            Err(refusal) => refusal.into_response().into_response(),
        }
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own and may
    /// block.
    pub fn on_session_blocking<F, R>(self, handler: F) -> Response
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        let (upgrade, handshake) = self.into_parts();
        match upgrade.on_session_blocking(handler) {
            Ok(attach) => handshake.accept(move |socket| attach.run(socket)),
            Err(refusal) => refusal.into_response().into_response(),
        }
    }

    /// Refuses the client: 403, or 4101 with the reason for one that offers to resume.
    pub fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Response {
        let (upgrade, handshake) = self.into_parts();
        match upgrade.refuse(reason) {
            Ok(attach) => handshake.accept(move |socket| attach.run_refused(socket)),
            Err(refusal) => refusal.into_response().into_response(),
        }
    }

    fn into_parts(self) -> (Upgrade<T>, Handshake) {
        let Self { upgrade, mut handshake, .. } = self;
        if let Some(protocol) = upgrade.subprotocol() {
            handshake.protocol = Some(HeaderValue::from_static(protocol));
        }
        let max = Some(upgrade.max_message_size());
        handshake.config = handshake.config.max_message_size(max).max_frame_size(max);
        (upgrade, handshake)
    }
}

/// The WebSocket's opening handshake, not yet answered.
#[derive(Debug)]
struct Handshake {
    response: http::Response<String>,
    protocol: Option<HeaderValue>,
    config: WebSocketConfig,
    on_upgrade: OnUpgrade,
}

impl Handshake {
    fn new(request: &Request<()>, on_upgrade: Option<OnUpgrade>) -> Result<Self, Refusal> {
        let response = create_response_with_body(request, String::new).map_err(|error| {
            let status = match error {
                WsError::Protocol(ProtocolError::WrongHttpMethod) => StatusCode::METHOD_NOT_ALLOWED,
                _ => StatusCode::BAD_REQUEST,
            };
            Refusal::new(status, error.to_string())
        })?;
        let on_upgrade = on_upgrade.ok_or_else(|| {
            let text = "the server does not upgrade connections: use session_resume_warp::serve";
            Refusal::new(StatusCode::UPGRADE_REQUIRED, text)
        })?;
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER);
        Ok(Self { response, protocol: None, config, on_upgrade })
    }

    /// Answers with 101, and runs the socket once it is there.
    fn accept<R>(self, run: impl FnOnce(Socket) -> R + Send + 'static) -> Response
    where
        R: Future<Output = ()> + Send + 'static,
    {
        let Self { mut response, protocol, config, on_upgrade } = self;
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        // Ends with its socket, which the session's rules and a drain close.
        tokio::spawn(async move {
            match on_upgrade.await {
                Ok(upgraded) => run(Socket::new(upgraded, config).await).await,
                Err(error) => tracing::debug!(%error, "the connection was not upgraded"),
            }
        });
        response.into_response()
    }
}

fn offered(headers: &HeaderMap) -> Vec<HeaderValue> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let names = lines.iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    names.filter_map(|name| HeaderValue::from_bytes(name.trim_ascii()).ok()).collect()
}
