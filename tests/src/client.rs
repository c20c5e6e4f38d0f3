use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        http::{HeaderValue, header},
    },
};

use crate::{Answer, http, soon};

/// One browser profile: it keeps the identity cookie.
#[derive(Clone, Debug)]
pub struct Browser {
    addr: SocketAddr,
    /// As it goes into a `Cookie` header.
    pub cookie: Option<String>,
}

/// The upgrade was answered with this status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// Whether the answer says when to come back.
    pub retry_after: bool,
}

impl Browser {
    /// A browser that visits the server at `addr` for the first time.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, cookie: None }
    }

    /// The same browser through another address: a proxy.
    #[must_use]
    pub fn through(&self, addr: SocketAddr) -> Self {
        Self { addr, cookie: self.cookie.clone() }
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path).await
    }

    /// `GET path` as a browser asks for a page.
    pub async fn navigate(&mut self, path: &str) -> Answer {
        self.ask_with("GET", path, "accept: text/html\r\nsec-fetch-mode: navigate\r\n").await
    }

    /// `POST path`.
    pub async fn post(&mut self, path: &str) -> Answer {
        self.ask("POST", path).await
    }

    async fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, "").await
    }

    async fn ask_with(&mut self, method: &str, path: &str, lines: &str) -> Answer {
        let cookie = self.cookie.as_ref().map(|cookie| format!("cookie: {cookie}\r\n"));
        let lines = cookie.unwrap_or_default() + lines;
        let answer = http::request(self.addr, method, path, Some(&lines)).await;
        let set: Vec<_> = answer.header("set-cookie").map(str::to_owned).collect();
        for set in set {
            self.keep(&set);
        }
        answer
    }

    fn keep(&mut self, set_cookie: &str) {
        let pair = set_cookie.split(';').next().unwrap_or_default();
        // With the port of the server behind it, unless a flag says otherwise.
        if pair.starts_with("sr_id=") || pair.starts_with("sr_id-") {
            self.cookie = Some(pair.to_owned());
        }
    }

    /// Opens a plain WebSocket.
    ///
    /// # Panics
    ///
    /// Panics if it is refused.
    pub async fn plain(&mut self, path: &str) -> Ws {
        self.open(path, None).await.expect("the upgrade is accepted")
    }

    /// Opens a resumable WebSocket; `at` is what follows `at.`.
    ///
    /// # Panics
    ///
    /// Panics if it is refused with a status.
    pub async fn resumable(&mut self, path: &str, at: &str) -> Ws {
        let offer = format!("session-resume.v1, at.{at}");
        self.open(path, Some(&offer)).await.expect("the upgrade is accepted")
    }

    /// Opens a WebSocket with these subprotocols.
    ///
    /// # Errors
    ///
    /// Returns [`Refused`] if the server answers with another status than 101.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer at all.
    pub async fn open(&mut self, path: &str, protocols: Option<&str>) -> Result<Ws, Refused> {
        self.try_open(path, protocols).await.expect("the server answers")
    }

    /// As [`Self::open`], through a network that may break.
    ///
    /// # Errors
    ///
    /// Returns the error of a connection that broke before the answer.
    pub async fn try_open(
        &mut self,
        path: &str,
        protocols: Option<&str>,
    ) -> Result<Result<Ws, Refused>, Error> {
        let mut request = format!("ws://{}{path}", self.addr).into_client_request()?;
        let value = |text: &str| HeaderValue::from_str(text).expect("header text");
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(header::COOKIE, value(cookie));
        }
        if let Some(protocols) = protocols {
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value(protocols));
        }
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        match soon("an upgrade", client_async(request, stream)).await {
            Ok((stream, response)) => {
                for set in response.headers().get_all(header::SET_COOKIE) {
                    self.keep(set.to_str().unwrap_or_default());
                }
                Ok(Ok(Ws { stream }))
            }
            Err(Error::Http(response)) => Ok(Err(Refused {
                status: response.status().as_u16(),
                retry_after: response.headers().contains_key(header::RETRY_AFTER),
            })),
            Err(error) => Err(error),
        }
    }
}

/// A WebSocket client of which nothing is ours: a stock stack.
#[derive(Debug)]
pub struct Ws {
    stream: WebSocketStream<TcpStream>,
}

impl Ws {
    /// Sends a text message.
    ///
    /// # Panics
    ///
    /// Panics if the connection is gone.
    pub async fn send(&mut self, text: &str) {
        self.try_send(text).await.expect("the connection is there");
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// Returns why the connection is gone.
    pub async fn try_send(&mut self, text: &str) -> Result<(), Error> {
        soon("a send", self.stream.send(Message::text(text))).await
    }

    /// Sends a binary message.
    ///
    /// # Panics
    ///
    /// Panics if the connection is gone.
    pub async fn send_binary(&mut self, bytes: Vec<u8>) {
        soon("a send", self.stream.send(Message::binary(bytes))).await.expect("it is there");
    }

    /// Sends a control frame: U+0001 and this JSON.
    pub async fn control(&mut self, json: &str) {
        self.send(&format!("\u{1}{json}")).await;
    }

    /// Returns the next data or close message; `None` once the connection is gone.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            match self.stream.next().await? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(message) => return Some(message),
                Err(_) => return None,
            }
        }
    }

    /// Returns the next text, whatever it is.
    ///
    /// # Panics
    ///
    /// Panics if something else comes.
    pub async fn text(&mut self) -> String {
        match soon("a text", self.next()).await {
            Some(Message::Text(text)) => text.as_str().to_owned(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// Returns the next data text; control frames are passed over.
    pub async fn data(&mut self) -> String {
        loop {
            let text = self.text().await;
            match text.strip_prefix('\u{1}') {
                None => return text,
                Some(escaped) if escaped.starts_with('\u{1}') => return escaped.to_owned(),
                Some(_) => {}
            }
        }
    }

    /// Returns the next binary message; control frames are passed over.
    ///
    /// # Panics
    ///
    /// Panics if data text comes.
    pub async fn binary(&mut self) -> Vec<u8> {
        loop {
            match soon("a binary message", self.next()).await {
                Some(Message::Binary(bytes)) => return bytes.to_vec(),
                Some(Message::Text(text)) if text.starts_with("\u{1}{") => {}
                other => panic!("expected binary, got {other:?}"),
            }
        }
    }

    /// Returns the next control frame that has this member, and that member; data must not come first.
    ///
    /// # Panics
    ///
    /// Panics if data comes.
    pub async fn member(&mut self, name: &str) -> Value {
        loop {
            let text = self.text().await;
            let json = text.strip_prefix("\u{1}{").unwrap_or_else(|| panic!("no control: {text}"));
            let mut control: Value = serde_json::from_str(&format!("{{{json}")).expect("JSON");
            if !control[name].is_null() {
                return control[name].take();
            }
        }
    }

    /// Returns code and reason of the close; everything before it is passed over.
    ///
    /// # Panics
    ///
    /// Panics if the connection breaks without one.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon("a close", self.next()).await {
                Some(Message::Close(Some(close))) => {
                    // The stack has its answer ready, and sends it with the next thing it does.
                    let _ = self.stream.flush().await;
                    return (close.code.into(), close.reason.as_str().to_owned());
                }
                Some(_) => {}
                None => panic!("no close frame"),
            }
        }
    }

    /// Breaks the connection with a reset, without a close.
    pub fn reset(self) {
        let stream = self.stream.get_ref();
        let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }

    /// Returns what follows `at.` in an offer that resumes after `received`.
    pub fn cursor(client: &str, hello: &Value, received: u64) -> String {
        let text = |name: &str| hello[name].as_str().unwrap_or_default().to_owned();
        format!("{client}.{}.{}.{received}.{}", text("session"), text("epoch"), hello["attachment"])
    }
}
