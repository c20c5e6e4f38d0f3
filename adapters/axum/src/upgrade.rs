use std::borrow::Cow;

use axum::{
    extract::{FromRequestParts, WebSocketUpgrade},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use session_resume::{BlockingSession, Identity, IntoOutcome, LiveSession, adapter::Upgrade};

use crate::{ResumeRejection, socket::Socket};

/// tungstenite zeroes its read buffer before every read: at 4 KiB instead of axum's 128 KiB an echo costs a
/// third of the CPU, and a connection a twentieth of the memory.
const READ_BUFFER: usize = 4 << 10;
/// Written out at this size or when the pump flushes, whichever comes first.
const WRITE_BUFFER: usize = 16 << 10;

/// Extracts a WebSocket upgrade on the request's session.
///
/// The framework's handler runs on every connect; [`on_session`](Self::on_session)'s once per session. Route
/// it with [`any`](axum::routing::any): WebSockets over HTTP/2 come as `CONNECT`.
#[derive(Debug)]
#[must_use = "answer the request with what on_session or refuse returns"]
pub struct ResumeUpgrade<T: Send + 'static = ()> {
    upgrade: Upgrade<T>,
    socket: WebSocketUpgrade,
}

impl<T: Send + 'static> ResumeUpgrade<T> {
    /// Returns who the browser is.
    pub fn identity(&self) -> Identity {
        self.upgrade.identity()
    }

    /// Selects one of the application's own subprotocols, as
    /// [`WebSocketUpgrade::protocols`] does. Clients that offer to resume get `session-resume.v1` instead.
    pub fn protocols<I>(mut self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        self.socket = self.socket.protocols(protocols);
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
        let (upgrade, socket) = self.into_parts();
        match upgrade.on_session(handler) {
            Ok(attach) => socket.on_upgrade(move |socket| attach.run(Socket(socket))),
            Err(refusal) => ResumeRejection::from(refusal).into_response(),
        }
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own and may
    /// block.
    pub fn on_session_blocking<F, R>(self, handler: F) -> Response
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        let (upgrade, socket) = self.into_parts();
        match upgrade.on_session_blocking(handler) {
            Ok(attach) => socket.on_upgrade(move |socket| attach.run(Socket(socket))),
            Err(refusal) => ResumeRejection::from(refusal).into_response(),
        }
    }

    /// Refuses the client: 403, or 4101 with the reason for one that offers to resume.
    pub fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Response {
        let (upgrade, socket) = self.into_parts();
        match upgrade.refuse(reason) {
            Ok(attach) => socket.on_upgrade(move |socket| attach.run_refused(Socket(socket))),
            Err(refusal) => ResumeRejection::from(refusal).into_response(),
        }
    }

    fn into_parts(self) -> (Upgrade<T>, WebSocketUpgrade) {
        let Self { upgrade, mut socket } = self;
        if let Some(protocol) = upgrade.subprotocol() {
            socket = socket.protocols([protocol]);
        }
        let max = upgrade.max_message_size();
        let socket = socket
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_message_size(max)
            .max_frame_size(max);
        (upgrade, socket)
    }
}

impl<T, S> FromRequestParts<S> for ResumeUpgrade<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = ResumeRejection;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let socket = WebSocketUpgrade::from_request_parts(parts, state).await?;
        Ok(Self { upgrade: Upgrade::prepare(parts).await?, socket })
    }
}
