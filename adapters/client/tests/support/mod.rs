//! A server that does what a test tells it, frame by frame.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use session_resume_client::{Backoff, Builder, Client, Status, WireId};
use session_resume_proto::{
    AttachmentNumber, Position,
    wire::{Hello, ServerControl, VERSION, Window},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

pub(crate) struct Server {
    listener: TcpListener,
}

/// One accepted transport.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: WebSocketStream<TcpStream>,
    /// The `at.…` subprotocol after the client's id.
    pub(crate) cursor: String,
    pub(crate) id: String,
    pub(crate) cookie: Option<String>,
    /// Path and query of the request.
    pub(crate) uri: String,
    /// The request's header `authorization`, all of it.
    pub(crate) authorization: Vec<String>,
}

impl Server {
    pub(crate) async fn bind() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}/live", self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// A client that comes back within milliseconds.
    pub(crate) fn client(&self) -> Builder {
        Client::builder(self.url()).with_backoff(Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(5),
        })
    }

    pub(crate) async fn accept(&self) -> Peer {
        self.accept_with(&[("sec-websocket-protocol", "session-resume.v1")]).await
    }

    /// Accepts with these response headers.
    #[expect(clippy::result_large_err, reason = "the shape of tungstenite's callback")]
    pub(crate) async fn accept_with(&self, headers: &'static [(&str, &str)]) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut offered = String::new();
        let mut cookie = None;
        let (mut uri, mut authorization) = (String::new(), Vec::new());
        let callback = |req: &Request, mut res: Response| {
            let header = |name| req.headers().get(name).map(|value| value.to_str().unwrap());
            offered = header("sec-websocket-protocol").map_or_else(String::new, str::to_owned);
            cookie = header("cookie").map(str::to_owned);
            uri = req.uri().to_string();
            let values = req.headers().get_all("authorization").iter();
            authorization = values.map(|value| value.to_str().unwrap().to_owned()).collect();
            for &(name, value) in headers {
                res.headers_mut().append(name, value.parse().unwrap());
            }
            Ok(res)
        };
        let socket = accept_hdr_async(stream, callback).await.unwrap();
        let at = offered.strip_prefix("session-resume.v1, at.").unwrap();
        let (id, cursor) = at.split_once('.').unwrap_or((at, ""));
        let (cursor, id) = (cursor.to_owned(), id.to_owned());
        Peer { socket, cursor, id, cookie, uri, authorization }
    }

    /// Answers the next request without an upgrade.
    pub(crate) async fn refuse(&self, head: &str) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let response = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(response.as_bytes()).await.unwrap();
    }

    /// Answers the next connection with something that is not a protocol.
    #[cfg(feature = "rustls-tls-webpki-roots")]
    pub(crate) async fn answer_nonsense(&self) {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"nonsense").await.unwrap();
    }
}

impl Peer {
    pub(crate) async fn send(&mut self, text: &str) {
        self.message(Message::text(text)).await;
    }

    pub(crate) async fn message(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    pub(crate) async fn control(&mut self, control: ServerControl) {
        self.send(&control.encode()).await;
    }

    pub(crate) async fn hello(&mut self, hello: Hello) {
        let hello = Some(hello);
        let from = hello.as_ref().unwrap().from;
        self.control(ServerControl { hello, ..ServerControl::default() }).await;
        assert_eq!(self.next().await, Message::text(format!("\u{1}{{\"ack\":{from}}}")));
    }

    pub(crate) async fn ack(&mut self, count: u64) {
        self.control(ServerControl { ack: Some(count), ..ServerControl::default() }).await;
    }

    /// The next frame, whatever it is.
    pub(crate) async fn next(&mut self) -> Message {
        self.socket.next().await.unwrap().unwrap()
    }

    /// The next data frames; acks of the client are passed over.
    pub(crate) async fn data(&mut self, count: usize) -> Vec<Message> {
        let mut data = Vec::new();
        while data.len() < count {
            let message = self.next().await;
            let is_ack = message.is_text() && message.to_text().unwrap().starts_with("\u{1}{");
            if !is_ack {
                data.push(message);
            }
        }
        data
    }

    pub(crate) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        self.socket.close(Some(frame)).await.unwrap();
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The client's close code, once it comes.
    pub(crate) async fn closed(mut self) -> Option<u16> {
        while let Some(Ok(message)) = self.socket.next().await {
            if let Message::Close(frame) = message {
                return frame.map(|frame| frame.code.into());
            }
        }
        None
    }

    /// Ends with FIN, without a close frame.
    pub(crate) async fn finish(mut self) {
        self.socket.get_mut().shutdown().await.unwrap();
    }

    /// Ends with RST.
    pub(crate) fn reset(self) {
        self.socket.get_ref().set_zero_linger().unwrap();
    }
}

pub(crate) fn token(text: &str) -> WireId {
    WireId::parse(text).unwrap()
}

pub(crate) fn hello(status: Status) -> Hello {
    Hello {
        v: VERSION,
        session: token("s"),
        epoch: token("e"),
        attachment: AttachmentNumber::new(1),
        status,
        from: Position::ZERO,
        received: Some(0),
        gap: None,
        heartbeat_ms: 30_000,
        lifetime_ms: 120_000,
        window: Window { messages: 256, bytes: 1 << 20 },
        limit: None,
        ping: false,
        absent_ms: None,
        hold_ms: None,
    }
}

/// The hello that honours a cursor whole.
pub(crate) fn resumed(from: u64, received: u64) -> Hello {
    Hello {
        from: Position::new(from),
        received: Some(received),
        attachment: AttachmentNumber::new(2),
        ..hello(Status::Resumed)
    }
}
