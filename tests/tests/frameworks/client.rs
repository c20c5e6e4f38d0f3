//! Two small clients: one that speaks `session-resume.v1`, and one that shows an HTTP answer as far as it must be equal.

use std::net::SocketAddr;

use http::{Request, header};
use serde_json::Value;
use session_resume_testkit::{Browser, Close, Socket};

const CLIENT: &str = "0123456789abcdef";

/// A WebSocket client that counts messages.
pub(crate) struct Client {
    socket: Socket,
    /// The cookie that the upgrade has set.
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
        let mut socket = connect(addr, path, offer, cookie).await;
        let cookie = socket.headers().get(header::SET_COOKIE).map(|value| {
            let value = value.to_str().unwrap();
            value.split(';').next().unwrap().to_owned()
        });
        let hello = socket.member("hello").await;
        let mut client = Self { socket, cookie, hello };
        client.ack(client.hello["from"].as_u64().unwrap()).await;
        client
    }

    /// The offer of this client when it comes again and expects the message at `received` next.
    pub(crate) fn offer_from(&self, received: u64) -> String {
        format!("at.{}", Socket::cursor(CLIENT, &self.hello, received))
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(text).await;
    }

    pub(crate) async fn ack(&mut self, position: u64) {
        self.socket.control(&format!("{{\"ack\":{position}}}")).await;
    }

    /// Returns the next message of the handler.
    pub(crate) async fn hear(&mut self) -> String {
        self.socket.data().await
    }

    /// Reads to the end; returns the code and reason of the close.
    pub(crate) async fn closed(mut self) -> (u16, String) {
        told(self.socket.closed().await)
    }
}

fn told(close: Close) -> (u16, String) {
    (close.code, close.reason.into_owned())
}

async fn connect(addr: SocketAddr, path: &str, offer: &str, cookie: Option<&str>) -> Socket {
    let browser = Browser::at(addr);
    if let Some(cookie) = cookie {
        browser.cookies().add(cookie).unwrap();
    }
    let protocols = format!("session-resume.v1, {offer}");
    let set =
        |request: http::request::Builder| request.header(header::SEC_WEBSOCKET_PROTOCOL, protocols);
    let socket = browser.plain_with(path, set).await.unwrap();
    assert_eq!(socket.headers()[header::SEC_WEBSOCKET_PROTOCOL], "session-resume.v1");
    socket
}

/// Offers to resume and is refused; returns the code and reason of the close.
pub(crate) async fn refused(addr: SocketAddr, path: &str, cookie: Option<&str>) -> (u16, String) {
    told(connect(addr, path, &format!("at.{CLIENT}"), cookie).await.closed().await)
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
    let (method, path) = line.split_once(' ').unwrap();
    let request = Request::builder().method(method).uri(path);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = Browser::at(addr).request(request, body.to_owned()).await;
    let one = |name| answer.header(name).next().map(str::to_owned);
    let shown = Answer {
        status: answer.status.as_u16(),
        content_type: one(header::CONTENT_TYPE),
        retry_after: one(header::RETRY_AFTER),
        protocol: one(header::SEC_WEBSOCKET_PROTOCOL),
        text: answer.text().to_owned(),
    };
    (shown, answer.header(header::SET_COOKIE).map(str::to_owned).collect())
}
