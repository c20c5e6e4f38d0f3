use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Uri, header};
use session_resume_proto::wire::{Offer, SUBPROTOCOL};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{
        self,
        client::IntoClientRequest,
        error::ProtocolError,
        handshake::client::{Request, Response},
        protocol::WebSocketConfig,
    },
};

use crate::{Cause, CookieJar};

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

/// Makes transports.
pub(crate) struct Connector {
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) cookies: CookieJar,
    /// `None`: TCP.
    pub(crate) connect: Option<Connect>,
    /// The longest message that is read, in bytes.
    pub(crate) max_received: usize,
}

impl Connector {
    /// Opens a transport. The machine limits the time that this may take.
    pub(crate) async fn connect(&self, offer: &Offer) -> Result<Socket, Cause> {
        // A message may come in one frame. The limit is for what the application gets: an escaped message is longer.
        let longest = Some(self.max_received.saturating_add(1));
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_frame_size(longest)
            .max_message_size(longest);
        let request = self.request(offer).map_err(|err| cause_of(&err))?;
        match open(request, self.stream().await?, config).await {
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

    /// Makes the stream of bytes on which the WebSocket is opened.
    async fn stream(&self) -> Result<Io, Cause> {
        let stream = match &self.connect {
            Some(connect) => connect(self.url.clone()).await,
            None => tcp(&self.url).await,
        };
        stream.map_err(|err| Cause::Unreachable(err.to_string().into()))
    }

    fn request(&self, offer: &Offer) -> Result<Request, tungstenite::Error> {
        let mut request = self.url.clone().into_client_request()?;
        let headers = request.headers_mut();
        headers.extend(self.headers.clone());
        let protocols = HeaderValue::try_from(format!("{SUBPROTOCOL}, {offer}"));
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocols.expect("an offer is ASCII"));
        let cookies = self.cookies.header();
        if !cookies.is_empty() {
            let mut value = HeaderValue::try_from(cookies).map_err(http::Error::from)?;
            value.set_sensitive(true);
            headers.insert(header::COOKIE, value);
        }
        Ok(request)
    }
}

async fn tcp(url: &Uri) -> io::Result<Io> {
    // An IPv6 address is written in brackets in a URL alone.
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = if url.scheme_str() == Some("wss") { 443 } else { 80 };
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(port))).await?;
    // Without Nagle's algorithm: the machine knows best what belongs into one packet.
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

#[cfg(feature = "rustls-tls-webpki-roots")]
async fn open(
    request: Request,
    stream: Io,
    config: WebSocketConfig,
) -> Result<(Socket, Response), tungstenite::Error> {
    let tls = if request.uri().scheme_str() == Some("wss") {
        tls()
    } else {
        tokio_tungstenite::Connector::Plain
    };
    tokio_tungstenite::client_async_tls_with_config(request, stream, Some(config), Some(tls)).await
}

/// With our own crypto provider: a process that has two, or none installed, would panic.
#[cfg(feature = "rustls-tls-webpki-roots")]
fn tls() -> tokio_tungstenite::Connector {
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
    tokio_tungstenite::Connector::Rustls(TLS.clone())
}

#[cfg(not(feature = "rustls-tls-webpki-roots"))]
async fn open(
    request: Request,
    stream: Io,
    config: WebSocketConfig,
) -> Result<(Socket, Response), tungstenite::Error> {
    let stream = MaybeTlsStream::Plain(stream);
    tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await
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
        f.debug_struct("Connector").field("host", &self.url.host()).finish_non_exhaustive()
    }
}
