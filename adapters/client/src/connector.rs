use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Uri, header};
use session_resume_proto::wire::{Offer, PROBE, SUBPROTOCOL};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        error::ProtocolError,
        handshake::client::{Request as Handshake, Response},
        protocol::WebSocketConfig,
    },
};

#[cfg(feature = "http")]
pub(crate) use self::requests::Connection;
use crate::{
    Attempt, Cause, CookieJar,
    request::{self, Prepare, Preparing, Target},
};

#[cfg(feature = "http")]
mod requests;

/// tungstenite zeroes its whole read buffer before every read, so a small one costs less time, too.
const READ_BUFFER: usize = 4096;

/// A WebSocket that has been upgraded.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<Io>>;

/// A stream of bytes, made by TCP or as [`Builder::with_connector`](crate::Builder::with_connector) says.
pub(crate) type Io = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Makes streams of bytes.
pub(crate) type Connect = Arc<dyn Fn(Uri) -> Connecting + Send + Sync>;

type Connecting = Pin<Box<dyn Future<Output = io::Result<Io>> + Send>>;

/// A stream of bytes, with TLS if the URL says so.
type Secured = MaybeTlsStream<Io>;

/// Makes transports.
pub(crate) struct Connector {
    /// Where attempts go, as far as `prepare` says nothing else.
    pub(crate) base: Arc<Target>,
    /// What is asked before each attempt.
    pub(crate) prepare: Option<Prepare>,
    pub(crate) cookies: CookieJar,
    /// `None`: TCP.
    pub(crate) connect: Option<Connect>,
    /// The longest message that is read, in bytes.
    pub(crate) max_received: usize,
    /// How long an attempt may take.
    pub(crate) attach_timeout: Duration,
}

/// What is offered, as `Sec-WebSocket-Protocol` has it.
pub(crate) fn protocols(offer: &Offer) -> String {
    format!("{SUBPROTOCOL}, {offer}")
}

impl Connector {
    /// Finds out where an attempt goes. The machine limits the time that this may take.
    pub(crate) fn prepare(&self, attempt: Attempt) -> Preparing {
        request::prepare(&self.base, self.prepare.as_ref(), attempt)
    }

    /// Looks whether a WebSocket passes, in the time of an attempt. It touches no session. `None`: the application did not
    /// say where to look.
    pub(crate) async fn probe(&self) -> Option<bool> {
        let prepared = tokio::time::timeout(self.attach_timeout, self.prepare(Attempt::LOOK)).await;
        let target = prepared.ok()?.ok()?;
        let echoed = async {
            let offered = format!("{SUBPROTOCOL}, {PROBE}");
            let Ok(mut socket) = self.connect(&target, &offered).await else {
                return false;
            };
            let said = matches!(socket.next().await, Some(Ok(tungstenite::Message::Text(_))));
            let frame = tungstenite::Message::binary(vec![0; 9]);
            let echoed = said
                && socket.send(frame).await.is_ok()
                && matches!(socket.next().await, Some(Ok(tungstenite::Message::Binary(_))));
            // The server closes it after that.
            while echoed && socket.next().await.is_some_and(|read| read.is_ok()) {}
            echoed
        };
        Some(tokio::time::timeout(self.attach_timeout, echoed).await.unwrap_or(false))
    }

    /// Opens a WebSocket that offers `protocols`. The machine limits the time that this may take.
    pub(crate) async fn connect(&self, target: &Target, protocols: &str) -> Result<Socket, Cause> {
        // A message may come in one frame. The limit is for what the application gets: an escaped message is longer.
        let longest = Some(self.max_received.saturating_add(1));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_frame_size(longest)
            .max_message_size(longest);
        let request = self.request(target, protocols).map_err(|err| cause_of(&err))?;
        match client_async_with_config(request, self.stream(target).await?, Some(config)).await {
            Ok((socket, response)) => {
                self.cookies.store(response.headers());
                if speaks_ours(&response) { Ok(socket) } else { Err(Cause::NotSpoken) }
            }
            Err(err) => {
                if let tungstenite::Error::Http(response) = &err {
                    self.cookies.store(response.headers());
                }
                Err(cause_of(&err))
            }
        }
    }

    /// Makes the stream of bytes on which the WebSocket is opened, or requests go.
    async fn stream(&self, Target { url, .. }: &Target) -> Result<Secured, Cause> {
        let secured = async {
            let stream = match &self.connect {
                Some(connect) => connect(url.clone()).await,
                None => tcp(url).await,
            };
            secured(url, stream?).await
        };
        secured.await.map_err(|err| Cause::Unreachable(err.to_string().into()))
    }

    fn request(&self, target: &Target, protocols: &str) -> Result<Handshake, tungstenite::Error> {
        let mut request = target.url.clone().into_client_request()?;
        let headers = request.headers_mut();
        headers.extend(target.headers.clone());
        let protocols = HeaderValue::try_from(protocols).expect("an offer is ASCII");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols);
        if let Some(cookies) = self.cookie_header() {
            headers.insert(header::COOKIE, cookies);
        }
        Ok(request)
    }

    fn cookie_header(&self) -> Option<HeaderValue> {
        let cookies = Some(self.cookies.header()).filter(|cookies| !cookies.is_empty())?;
        let mut value = HeaderValue::try_from(cookies).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Returns the host. An IPv6 address is written in brackets in a URL alone.
fn host(url: &Uri) -> &str {
    url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

async fn tcp(url: &Uri) -> io::Result<Io> {
    let port = if url.scheme_str() == Some("wss") { 443 } else { 80 };
    let stream = TcpStream::connect((host(url), url.port_u16().unwrap_or(port))).await?;
    // Without Nagle's algorithm: the machine knows best what belongs into one packet.
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[cfg(feature = "rustls-tls-webpki-roots")]
async fn secured(url: &Uri, stream: Io) -> io::Result<Secured> {
    use rustls::pki_types::ServerName;

    if url.scheme_str() != Some("wss") {
        return Ok(MaybeTlsStream::Plain(stream));
    }
    let host = ServerName::try_from(host(url).to_owned()).map_err(io::Error::other)?;
    let stream = tokio_rustls::TlsConnector::from(tls()).connect(host, stream).await?;
    Ok(MaybeTlsStream::Rustls(stream))
}

/// With our own crypto provider: a process that has two, or none installed, would panic.
#[cfg(feature = "rustls-tls-webpki-roots")]
fn tls() -> Arc<rustls::ClientConfig> {
    use std::sync::LazyLock;

    use rustls::{ClientConfig, RootCertStore, crypto::ring};

    static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    });
    TLS.clone()
}

#[cfg(not(feature = "rustls-tls-webpki-roots"))]
#[expect(clippy::unused_async, reason = "with TLS it waits")]
async fn secured(_: &Uri, stream: Io) -> io::Result<Secured> {
    Ok(MaybeTlsStream::Plain(stream))
}

fn speaks_ours(response: &Response) -> bool {
    let selected = response.headers().get(header::SEC_WEBSOCKET_PROTOCOL);
    selected.is_some_and(|name| name == SUBPROTOCOL)
}

fn cause_of(err: &tungstenite::Error) -> Cause {
    match err {
        tungstenite::Error::Http(response) => Cause::Http {
            status: response.status().as_u16(),
            retry_after: retry_after(response.headers()),
        },
        tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            Cause::NotSpoken
        }
        other => Cause::Unreachable(other.to_string().into()),
    }
}

/// Reads `Retry-After` in seconds; a date would need the server's clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Without header values: they may be secrets.
impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("host", &self.base.url.host()).finish_non_exhaustive()
    }
}
