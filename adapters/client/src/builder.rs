use std::{fmt, io, sync::Arc, time::Duration};

use http::{HeaderMap, Uri};
use session_resume_proto::{
    client::{Config, Meeting},
    pipe::Choice,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    Attempt, Backoff, Client, ConfigError, ConnectError, CookieJar, Limits, Message, Modes,
    Request, StateOffer, Transport,
    connector::{Connect, Connector, Io},
    driver::Initial,
    request::{Prepare, Target, parse_header, parse_url},
};

/// The settings of a [`Client`]; see the [crate docs](crate).
#[must_use = "a builder does nothing until it connects"]
pub struct Builder {
    url: String,
    config: Config,
    headers: HeaderMap,
    cookies: CookieJar,
    connect: Option<Connect>,
    prepare: Option<Prepare>,
    initial: Option<Initial>,
    max_received: usize,
    state: Option<StateOffer>,
    transports: Vec<Transport>,
    /// The first setting that cannot work.
    broken: Option<ConfigError>,
}

impl Client {
    /// Returns the settings of a client for `url`, `ws://…` or `wss://…`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }
}

impl Builder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            config: Config::default(),
            headers: HeaderMap::new(),
            cookies: CookieJar::new(),
            connect: None,
            prepare: None,
            initial: None,
            max_received: 64 << 20,
            state: None,
            transports: vec![Transport::WebSocket],
            broken: None,
        }
    }

    /// Sets what to do when the connection is gone. Default: [`Modes::Auto`].
    pub fn with_mode(mut self, mode: Modes) -> Self {
        self.config.mode = mode;
        self
    }

    /// Sets how long to wait between attempts. Default: full jitter from 0.5 s to 20 s.
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.config.backoff = backoff;
        self
    }

    /// Sets what may be queued for the server. Default: 1,024 messages, 1 MiB, 1 MiB per message.
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.config.limits = limits;
        self
    }

    /// Sets the longest message that the client takes from the server, in bytes. Default: 64 MiB.
    ///
    /// A longer message ends the connection ([`Cause::TooBig`](crate::Cause::TooBig)), and the server will send
    /// it again: the client comes back ever more slowly until the limit is raised by a new start, or the server
    /// gives the message up.
    pub fn with_max_received(mut self, bytes: usize) -> Self {
        self.max_received = bytes;
        self
    }

    /// Offers this program's own copy of the session's state from the first connection on; see
    /// [`Client::offer_state`]. Default: none.
    pub fn with_state(mut self, copy: StateOffer) -> Self {
        self.state = Some(copy);
        self
    }

    /// Sets how long an attempt may take, from the call of [`with_request`](Self::with_request)'s function or the name
    /// lookup to the server's hello. Default: 20 s.
    pub fn with_attach_timeout(mut self, timeout: Duration) -> Self {
        self.config.attach_timeout = timeout;
        self
    }

    /// Adds a header to every upgrade request, and to every other request of a session over HTTP.
    ///
    /// Cookies go to [`with_cookies`](Self::with_cookies); the headers of the handshake cannot be set.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        match parse_header(name, value) {
            Ok((name, value)) => {
                self.headers.append(name, value);
            }
            Err(err) => {
                self.broken.get_or_insert(err);
            }
        }
        self
    }

    /// Sets a function that is called before each attempt and returns its URL and headers: a ticket, or a token that is
    /// still good. Default: none; each attempt has what this builder has.
    ///
    /// What the [`Request`] does not name is as this builder has it. A function that does not wait returns
    /// [`std::future::ready`]. It runs in the client's task, so it must not block; a panic in it ends the client.
    ///
    /// A server that lets a client stay until its credentials run out (`valid_until`) closes the connection at that
    /// moment. The client comes back at once, and the function is called for that attempt, too.
    ///
    /// One attempt may use what it got more than once: for a WebSocket and then for a session over HTTP, and there for
    /// every request until the next attempt. So a ticket that is good for one use needs a client that comes by a WebSocket
    /// alone, which is the default.
    ///
    /// A client that comes over HTTP looks for a WebSocket from time to time. The function is called for each look, too
    /// ([`Attempt::is_look`]). An error puts the look off.
    ///
    /// # Errors
    ///
    /// An error of the function fails the attempt, and so does a setting of the request that cannot work:
    /// [`Event::Waiting`](crate::Event::Waiting) has [`Cause::Unprepared`](crate::Cause::Unprepared) with the error's
    /// text. The next attempt calls the function again. Where the server answers 401 or 403, the client stops
    /// ([`Event::Refused`](crate::Event::Refused)); [`Client::reconnect`] calls the function again.
    ///
    /// # Cancel safety
    ///
    /// The call is part of the attempt: its future is dropped when [the attempt's time](Self::with_attach_timeout) is over,
    /// and when the client ends.
    ///
    /// # Example
    ///
    /// ```no_run
    /// use session_resume_client::{Client, Request};
    ///
    /// # async fn ticket() -> std::io::Result<String> { Ok(String::new()) }
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder("ws://127.0.0.1:3000/live")
    ///     .with_request(|_attempt| async {
    ///         // From where the user is logged in.
    ///         let ticket = ticket().await?;
    ///         Ok::<_, std::io::Error>(Request::new().with_header("authorization", &format!("Bearer {ticket}")))
    ///     })
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_request<P, F, E>(mut self, prepare: P) -> Self
    where
        P: Fn(Attempt) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Request, E>> + Send + 'static,
        E: fmt::Display,
    {
        self.prepare = Some(Arc::new(move |attempt| {
            let asking = prepare(attempt);
            Box::pin(async move { asking.await.map_err(|err| err.to_string()) })
        }));
        self
    }

    /// Asks the application before queued messages go to a session that has nothing of this client's: the first one, a new
    /// one, or one that does not know the client any more. Default: they go at once.
    ///
    /// [`Event::NewSession`](crate::Event::NewSession) comes behind all that tells what has become of the session before.
    /// Until the application takes the next event, the queue waits. Meanwhile it can look at
    /// [what is queued](Client::queued) and [what is in doubt](Client::in_doubt), [take it out](Client::take_queued), and
    /// send; what it sends is appended. A session that is resumed or restored is no new one.
    ///
    /// So the application must take events, or nothing is sent. Where the queue is full while it waits for the
    /// application, [`Client::send`] does not wait for room, and returns the message. [`Client::close`] ends the wait.
    pub fn with_new_session_event(mut self) -> Self {
        self.config.meeting = self.config.meeting.max(Meeting::NewSession);
        self
    }

    /// Sets a function whose messages go to a session that has nothing of this client's, before what is queued. It is called
    /// for each such session, after the application's say ([`with_new_session_event`](Self::with_new_session_event)).
    /// Default: none.
    ///
    /// [`Limits`] do not hold for how many messages it returns. A message that is too long is told as
    /// [`Event::TooBig`](crate::Event::TooBig). The function runs in the client's task, so it must not block; a panic in it
    /// ends the client.
    ///
    /// ```no_run
    /// use session_resume_client::Client;
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder("ws://127.0.0.1:3000/live")
    ///     .with_initial(|| ["subscribe"])
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_initial<F, I>(mut self, mut initial: F) -> Self
    where
        F: FnMut() -> I + Send + 'static,
        I: IntoIterator,
        I::Item: Into<Message>,
    {
        self.config.meeting = self.config.meeting.max(Meeting::Initial);
        self.initial = Some(Box::new(move || initial().into_iter().map(Into::into).collect()));
        self
    }

    /// Adds cookies, written `name=value; name=value` as [`Client::cookies`] returns them.
    ///
    /// What the server sets later replaces them.
    pub fn with_cookies(mut self, cookies: &str) -> Self {
        if let Err(err) = self.cookies.add(cookies) {
            self.broken.get_or_insert(err);
        }
        self
    }

    /// Sets where the cookies are, in place of a jar of this client's own: clients that share one are one browser to
    /// the server. What [`with_cookies`](Self::with_cookies) adds after this goes into `jar`.
    pub fn with_cookie_jar(mut self, jar: &CookieJar) -> Self {
        self.cookies = jar.clone();
        self
    }

    /// Sets what makes the connections, in place of TCP: a Unix socket, a tunnel, a pipe in memory. It is given the URL.
    ///
    /// The client opens its WebSocket on the stream that comes, with TLS if the URL says `wss`. An attempt counts from
    /// the call on. For a session over HTTP it makes more than one.
    pub fn with_connector<C, F, S>(mut self, connect: C) -> Self
    where
        C: Fn(Uri) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        self.connect = Some(Arc::new(move |url| {
            let connecting = connect(url);
            Box::pin(async move { connecting.await.map(|stream| Box::new(stream) as Io) })
        }));
        self
    }

    /// Sets by which ways the client may come to the server; none given means all. Default: a WebSocket alone.
    ///
    /// The order is always [`Transport::WebSocket`], [`Transport::Sse`], [`Transport::Poll`]. Where a WebSocket gets no
    /// session, because something on the way refuses it or swallows it, the client tries over HTTP in the same attempt. It
    /// looks for a WebSocket after 5 s, 30 s, 5 min, and then every 30 min, and goes back to it when one passes. The session
    /// is the same, and nothing is lost or doubled on the way. A stream that something on the way holds back becomes polls.
    /// [`Client::transport`] tells how the client comes.
    ///
    /// Over HTTP the client has two connections, HTTP/1.1 on the streams that a WebSocket would have
    /// ([`with_connector`](Self::with_connector), TLS). The server must take transports over HTTP at this route:
    /// `ResumeConnection` does, `ResumeUpgrade` does not.
    ///
    /// ```no_run
    /// use session_resume_client::{Client, Transport};
    ///
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder("ws://127.0.0.1:3000/live")
    ///     .transports([Transport::WebSocket, Transport::Sse, Transport::Poll])
    ///     .connect()
    ///     .await?;
    /// println!("{}", client.transport().map_or("gone again", Transport::name));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "http")]
    pub fn transports(mut self, transports: impl IntoIterator<Item = Transport>) -> Self {
        self.transports = transports.into_iter().collect();
        self
    }

    /// Starts a client and returns at once; what becomes of it is told by
    /// [`Client::recv_event`].
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] if a setting cannot work.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime with I/O and time enabled.
    pub fn start(self) -> Result<Client, ConfigError> {
        if let Some(err) = self.broken {
            return Err(err);
        }
        let url = parse_url(&self.url)?;
        let Self { config, headers, cookies, connect, prepare, initial, state, transports, .. } =
            self;
        let connector = Connector {
            base: Arc::new(Target { url, headers }),
            prepare,
            cookies,
            connect,
            max_received: self.max_received,
            attach_timeout: config.attach_timeout,
        };
        Ok(Client::spawn(config, state, connector, Choice::new(&transports, None), initial))
    }

    /// Starts a client and waits for its session.
    ///
    /// Later attempts follow the mode. The caller repeats the first attempt.
    ///
    /// # Errors
    ///
    /// Returns [`ConnectError`] if a setting cannot work or the first attempt fails.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// The client ends when the future is dropped.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let mut client = self.start()?;
        client.opened().await?;
        Ok(client)
    }
}

/// Without header values: they may be secrets.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("url", &self.url)
            .field("config", &self.config)
            .field("cookies", &self.cookies)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(builder: Builder) -> Option<ConfigError> {
        builder.start().err()
    }

    #[test]
    fn settings_that_cannot_work_are_found_before_anything_happens() {
        for url in ["", "live", "http://localhost/live", "ws://", "ws:///live"] {
            let expected = ConfigError::Url { url: url.into() };
            assert_eq!(broken(Client::builder(url)), Some(expected), "{url}");
        }
        let builder = || Client::builder("ws://localhost/live");
        for (name, value) in [("a b", "c"), ("a", "b\r\nc: d"), ("Cookie", "a=b"), ("host", "h")] {
            let expected = ConfigError::Header { name: name.into() };
            assert_eq!(broken(builder().with_header(name, value)), Some(expected));
        }
        let cookie = builder().with_cookies("nonsense");
        assert_eq!(broken(cookie), Some(ConfigError::Cookie));
        let url = "wss://localhost/live";
        if !cfg!(feature = "rustls-tls-webpki-roots") {
            let expected = ConfigError::NoTls { url: url.into() };
            assert_eq!(broken(Client::builder(url)), Some(expected));
        }
    }
}
