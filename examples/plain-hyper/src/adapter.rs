//! All that session-resume needs of a web framework, for hyper: an adapter on a page.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use session_resume::{
    IntoOutcome, LiveSession,
    adapter::{Refusal, Upgrade},
    transport::{Frame, Transport, TransportError, TransportErrorKind},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::ProtocolError,
        handshake::server::create_response_with_body,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

/// Opens the request's WebSocket on its session; `handler` runs once per session.
pub(crate) async fn on_session<T, B, F, Fut>(
    mut request: Request<B>,
    handler: F,
) -> Result<Response<String>, Refusal>
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    // First of all: the session must not keep what it takes out of the request.
    let on_upgrade = hyper::upgrade::on(&mut request);
    let mut response = create_response_with_body(&request, String::new)
        .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let upgrade = Upgrade::<T>::prepare(&request.into_parts().0).await?;
    if let Some(protocol) = upgrade.subprotocol() {
        let protocol = HeaderValue::from_static(protocol);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let max = Some(upgrade.max_message_size());
    let config = WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .max_message_size(max)
        .max_frame_size(max);
    let attach = upgrade.on_session(handler)?;
    tokio::spawn(async move {
        if let Ok(io) = on_upgrade.await {
            let io = TokioIo::new(io);
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
            attach.run(transport(socket)).await;
        }
    });
    Ok(response)
}

/// Any stream and sink of messages is a transport, once its types are converted.
fn transport<S>(socket: WebSocketStream<S>) -> impl Transport
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    socket
        .sink_map_err(error)
        .with(|frame| future::ok::<_, TransportError>(message(frame)))
        .map(|message| message.map(frame).map_err(error))
}

fn frame(message: Message) -> Frame {
    match message {
        // Copied: the library's message keeps its whole read buffer alive.
        Message::Text(text) => Frame::Text(text.as_str().into()),
        Message::Binary(bytes) => Frame::Binary(bytes),
        Message::Ping(payload) => Frame::Ping(payload),
        Message::Pong(payload) => Frame::Pong(payload),
        Message::Close(close) => {
            Frame::Close(close.map(|close| (close.code.into(), close.reason.to_string().into())))
        }
        Message::Frame(_) => unreachable!("tungstenite reads whole messages"),
    }
}

fn message(frame: Frame) -> Message {
    match frame {
        Frame::Text(text) => Message::Text(utf8(text.into_bytes())),
        Frame::Binary(bytes) => Message::Binary(bytes),
        Frame::Ping(payload) => Message::Ping(payload),
        Frame::Pong(payload) => Message::Pong(payload),
        Frame::Close(close) => Message::Close(close.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: utf8(Bytes::from(reason.into_owned())),
        })),
    }
}

fn utf8(bytes: Bytes) -> Utf8Bytes {
    Utf8Bytes::try_from(bytes).expect("a ByteString and a String are UTF-8")
}

fn error(error: Error) -> TransportError {
    let kind = match &error {
        Error::Capacity(_) => TransportErrorKind::TooBig,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => TransportErrorKind::Broken,
        Error::Protocol(_) | Error::Utf8(_) => TransportErrorKind::Protocol,
        _ => TransportErrorKind::Broken,
    };
    TransportError::new(kind, error)
}
