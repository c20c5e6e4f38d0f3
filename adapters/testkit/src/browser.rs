use std::{fmt, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request,
    header::{self, SEC_WEBSOCKET_PROTOCOL as PROTOCOL},
};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use session_resume_client::{Backoff, Builder, Client, CookieJar};
use tokio_tungstenite::{
    client_async,
    tungstenite::{self, client::IntoClientRequest as _},
};

use crate::{Answer, Page, Socket, TestServer, server::Target, soon, wire::Wire};

/// A browser: one visitor, with cookies and any number of pages. Cheap to clone; a clone is the same browser.
#[derive(Clone, Debug)]
pub struct Browser {
    target: Target,
    cookies: CookieJar,
}

/// Why a WebSocket was not opened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The server answered with another status than 101.
    Refused(Answer),
    /// The connection broke before the answer; the text is for humans.
    Broken(String),
}

impl TestServer {
    /// Returns a browser that has never been here: it has no cookie.
    pub fn browser(&self) -> Browser {
        Browser::new(Target::Memory(self.clone()))
    }
}

impl Browser {
    pub(crate) fn new(target: Target) -> Self {
        Self { target, cookies: CookieJar::new() }
    }

    /// A browser that has never been at the server at `address`, on real sockets.
    ///
    /// Its pages and sockets can be cut and frozen as those in memory. Do not pause the clock: it would run ahead of
    /// the network.
    #[cfg(feature = "tcp")]
    pub fn at(address: std::net::SocketAddr) -> Self {
        Self::new(Target::Tcp(address))
    }

    /// Returns this browser at another server, to which it shows the same cookies: one behind the same host name.
    #[must_use]
    pub fn moved_to(&self, server: &TestServer) -> Self {
        Self { target: Target::Memory(server.clone()), cookies: self.cookies.clone() }
    }

    /// As [`moved_to`](Self::moved_to), on real sockets: a server that has come back at another port, or a proxy.
    #[cfg(feature = "tcp")]
    #[must_use]
    pub fn moved_to_address(&self, address: std::net::SocketAddr) -> Self {
        Self { target: Target::Tcp(address), cookies: self.cookies.clone() }
    }

    /// Returns the cookies.
    pub fn cookies(&self) -> &CookieJar {
        &self.cookies
    }

    /// Loads a page that opens a resumable WebSocket at `path`, and waits until it has its session.
    ///
    /// # Panics
    ///
    /// Panics, saying why, if it gets none.
    #[track_caller]
    pub fn open(&self, path: &str) -> impl Future<Output = Page> {
        self.open_with(path, |client| client)
    }

    /// As [`open`](Self::open), with settings of the page's client, such as a mode, limits or a header.
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn open_with(
        &self,
        path: &str,
        set: impl FnOnce(Builder) -> Builder,
    ) -> impl Future<Output = Page> {
        self.start_with(path, set).opened()
    }

    /// As [`open_with`](Self::open_with), but waits for nothing: what becomes of the page is in its events.
    ///
    /// # Panics
    ///
    /// Panics if a setting cannot work, or outside a tokio runtime.
    #[track_caller]
    pub fn start_with(&self, path: &str, set: impl FnOnce(Builder) -> Builder) -> Page {
        let wire = Wire::new(self.target.clone());
        let connector = wire.clone();
        let builder = Client::builder(format!("ws://{}{path}", self.target.authority()))
            .with_header("origin", &self.origin())
            .with_backoff(BACKOFF)
            .with_cookie_jar(&self.cookies)
            .with_connector(move |_url| {
                let wire = connector.clone();
                async move { wire.connect().await }
            });
        let client = set(builder).start().unwrap_or_else(|error| panic!("{path}: {error}"));
        Page::new(client, wire, path)
    }

    /// Opens a plain WebSocket at `path`, which knows nothing of sessions and does not come back by itself.
    ///
    /// # Panics
    ///
    /// Panics, saying why, if it is refused.
    pub async fn plain(&self, path: &str) -> Socket {
        self.plain_with(path, |request| request)
            .await
            .unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// Opens a WebSocket that offers to resume, for a test that speaks `session-resume.v1` by hand. `at` is what follows
    /// `at.` in the offer: a client id of 16 to 64 characters, and perhaps a cursor ([`Socket::cursor`]).
    ///
    /// # Panics
    ///
    /// Panics, saying why, if it is refused with a status.
    pub async fn resumable(&self, path: &str, at: &str) -> Socket {
        let offer = format!("session-resume.v1, at.{at}");
        let opened = self.plain_with(path, |request| request.header(PROTOCOL, offer)).await;
        opened.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// As [`plain`](Self::plain), with more headers in the request, such as subprotocols.
    ///
    /// # Errors
    ///
    /// Returns why the WebSocket was not opened.
    ///
    /// # Panics
    ///
    /// Panics if there is no answer for minutes.
    pub async fn plain_with(
        &self,
        path: &str,
        set: impl FnOnce(http::request::Builder) -> http::request::Builder,
    ) -> Result<Socket, OpenError> {
        let wire = Wire::new(self.target.clone());
        let end = wire.connect().await.map_err(OpenError::broken)?;
        let url = format!("ws://{}{path}", self.target.authority());
        let mut request = url.into_client_request().map_err(OpenError::broken)?;
        let more = set(Request::builder()).body(()).map_err(OpenError::broken)?;
        let headers = request.headers_mut();
        headers.insert(header::ORIGIN, value(&self.origin()));
        self.show_cookies(headers);
        headers.extend(more.into_parts().0.headers);
        match soon("the answer to an upgrade", client_async(request, end)).await {
            Ok((stream, response)) => {
                let (answer, _) = response.into_parts();
                self.cookies.store(&answer.headers);
                Ok(Socket::new(stream, answer.headers, wire))
            }
            Err(tungstenite::Error::Http(response)) => {
                let (parts, body) = response.into_parts();
                self.cookies.store(&parts.headers);
                Err(OpenError::Refused(Answer::new(parts, body.unwrap_or_default().into())))
            }
            Err(error) => Err(OpenError::broken(error)),
        }
    }

    /// `GET path`, as a script asks.
    ///
    /// # Panics
    ///
    /// Panics if no answer comes.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Request::get(path), "").await
    }

    /// `GET path`, as a browser asks for a page.
    ///
    /// # Panics
    ///
    /// Panics if no answer comes.
    pub async fn navigate(&self, path: &str) -> Answer {
        let request = Request::get(path).header(header::ACCEPT, "text/html");
        self.request(request.header("sec-fetch-mode", "navigate"), "").await
    }

    /// `POST path`, as a script asks.
    ///
    /// # Panics
    ///
    /// Panics if no answer comes.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post(path).header(header::ORIGIN, self.origin());
        self.request(request, body).await
    }

    /// Sends a request with this browser's cookies, on a connection of its own, and keeps the cookies that the answer
    /// sets.
    ///
    /// # Panics
    ///
    /// Panics if the request is malformed, or if no answer comes.
    pub async fn request(&self, request: http::request::Builder, body: impl Into<Bytes>) -> Answer {
        let mut request = request.body(Full::new(body.into())).expect("a well-formed request");
        let headers = request.headers_mut();
        headers.insert(header::HOST, value(&self.target.authority()));
        self.show_cookies(headers);
        let line = format!("{} {}", request.method(), request.uri());
        let exchange = async {
            let end = Wire::new(self.target.clone()).connect().await?;
            let (mut sender, connection) =
                http1::handshake(TokioIo::new(end)).await.map_err(other)?;
            let connection = tokio::spawn(connection);
            let response = sender.send_request(request).await.map_err(other)?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(other)?.to_bytes();
            connection.abort();
            Ok::<_, io::Error>(Answer::new(parts, body))
        };
        let answer = soon(&line, exchange).await.unwrap_or_else(|error| panic!("{line}: {error}"));
        self.cookies.store(&answer.headers);
        answer
    }

    fn origin(&self) -> String {
        format!("http://{}", self.target.authority())
    }

    fn show_cookies(&self, headers: &mut HeaderMap) {
        let cookies = self.cookies.header();
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, value(&cookies));
        }
    }
}

/// A page is back at once: no test has to wait for a crowd that comes back to spread.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_secs(1) };

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a header's value")
}

fn other(error: hyper::Error) -> io::Error {
    io::Error::other(error)
}

impl OpenError {
    fn broken(error: impl fmt::Display) -> Self {
        Self::Broken(error.to_string())
    }

    /// Returns the server's answer, if it was that.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Refused(answer) => Some(answer),
            Self::Broken(_) => None,
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                write!(f, "upgrade answered with {}: {text}", answer.status)
            }
            Self::Broken(reason) => write!(f, "connection broke before the answer: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}
