//! Two small clients: one that speaks `session-resume.v1`, and one that shows an HTTP answer whole.

use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::Response;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A close takes no longer.
const PATIENCE: Duration = Duration::from_secs(20);
const CLIENT: &str = "0123456789abcdef";

/// A WebSocket client that counts messages.
pub(crate) struct Client {
    socket: Socket,
    pub(crate) cookie: Option<String>,
    pub(crate) hello: Value,
}

impl Client {
    /// Connects as a client that comes for the first time.
    pub(crate) async fn fresh(addr: SocketAddr, path: &str, cookie: Option<&str>) -> Self {
        Self::offer(addr, path, &format!("at.{CLIENT}"), cookie).await
    }

    pub(crate) async fn offer(
        addr: SocketAddr,
        path: &str,
        offer: &str,
        cookie: Option<&str>,
    ) -> Self {
        let (socket, response) = connect(addr, path, offer, cookie).await;
        let cookie = response.headers().get("set-cookie").map(|value| {
            let value = value.to_str().unwrap();
            value.split(';').next().unwrap().to_owned()
        });
        let mut client = Self { socket, cookie, hello: Value::Null };
        let hello = client.socket.next().await.unwrap().unwrap();
        let hello = hello.to_text().unwrap().strip_prefix('\u{1}').unwrap();
        client.hello = serde_json::from_str::<Value>(hello).unwrap()["hello"].take();
        client.ack(client.hello["from"].as_u64().unwrap()).await;
        client
    }

    /// The offer of this client when it comes again and expects the message at `received` next.
    pub(crate) fn offer_from(&self, received: u64) -> String {
        let text = |name: &str| self.hello[name].as_str().unwrap();
        format!("at.{CLIENT}.{}.{}.{received}", text("session"), text("epoch"))
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn ack(&mut self, position: u64) {
        self.say(&format!("\u{1}{{\"ack\":{position}}}")).await;
    }

    /// Returns the next message of the handler.
    pub(crate) async fn hear(&mut self) -> String {
        loop {
            let frame = self.socket.next().await.unwrap().unwrap();
            if let Message::Text(text) = frame
                && !text.starts_with('\u{1}')
            {
                return text.to_string();
            }
        }
    }

    /// Reads to the end; returns the code and reason of the close.
    pub(crate) async fn closed(mut self) -> (u16, String) {
        let close = async {
            loop {
                if let Message::Close(close) = self.socket.next().await.unwrap().unwrap() {
                    let close = close.unwrap();
                    return (close.code.into(), close.reason.to_string());
                }
            }
        };
        tokio::time::timeout(PATIENCE, close).await.expect("a client that is refused is closed")
    }
}

async fn connect(
    addr: SocketAddr,
    path: &str,
    offer: &str,
    cookie: Option<&str>,
) -> (Socket, Response<Option<Vec<u8>>>) {
    let mut request = format!("ws://{addr}{path}").into_client_request().unwrap();
    let offer = format!("session-resume.v1, {offer}");
    request.headers_mut().insert("sec-websocket-protocol", offer.parse().unwrap());
    if let Some(cookie) = cookie {
        request.headers_mut().insert("cookie", cookie.parse().unwrap());
    }
    let (socket, response) = connect_async(request).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "session-resume.v1");
    (socket, response)
}

/// Offers to resume and is refused; returns the code and reason of the close.
pub(crate) async fn refused(addr: SocketAddr, path: &str, cookie: Option<&str>) -> (u16, String) {
    Client {
        socket: connect(addr, path, &format!("at.{CLIENT}"), cookie).await.0,
        cookie: None,
        hello: Value::Null,
    }
    .closed()
    .await
}

/// An HTTP answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) text: String,
}

/// Sends one request; returns the answer, and the cookies it sets.
pub(crate) async fn ask(
    addr: SocketAddr,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (Answer, Vec<String>) {
    let mut request =
        format!("{line} HTTP/1.1\r\nhost: {addr}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    loop {
        if let Some(answer) = parse(&answer, line.starts_with("HEAD ")) {
            return answer;
        }
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "cut off: {answer:?}");
    }
}

/// Parses an answer once it is whole.
fn parse(answer: &[u8], head_only: bool) -> Option<(Answer, Vec<String>)> {
    // Lossy: what follows a 101 is frames.
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let fields: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let all = |wanted: &str| {
        let found = fields.iter().filter(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned()).collect::<Vec<_>>()
    };
    let one = |wanted: &str| all(wanted).pop();
    let length = one("content-length").filter(|_| !head_only);
    let length = length.map_or(0, |length| length.parse().unwrap());
    let text = body.get(..length)?.to_owned();
    let [content_type, retry_after, protocol] =
        ["content-type", "retry-after", "sec-websocket-protocol"].map(one);
    Some((Answer { status, content_type, retry_after, protocol, text }, all("set-cookie")))
}
