//! The listener for the other nodes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    error::Error,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{self, FORWARDED},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tower_service::Service;

use super::{
    call::Call,
    head::{Asker, Greeting, Hop, HopKey, LONGEST, NAME, end_of},
};
use crate::{
    SessionResume,
    door::serve::accept,
    live::registry::Registry,
    tasks,
    words::{
        cluster::{Counted, Membership},
        peer_addr::PeerAddr,
        random,
    },
};

const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// A head that has begun is whole within this time.
const HEAD: Duration = Duration::from_secs(5);
/// At most this many connections have proved nothing yet; one more ends the oldest.
const UNPROVED: usize = 64;

/// Serves the requests that other nodes send on: the same application as for clients, on a listener of its own.
///
/// Await it beside the server for clients; it never ends by itself. What connects must prove that it has the key with which
/// this layer signs identities, or is closed unanswered. The bytes are not encrypted: keep the listener where only the other
/// nodes reach it.
///
/// # Errors
///
/// [`InvalidInput`](io::ErrorKind::InvalidInput) if the layer has no cluster.
///
/// # Cancel safety
///
/// When the future is dropped, the listener and the requests under way end; WebSockets that were opened go on.
pub fn serve_hops<S, T>(
    listener: TcpListener,
    service: S,
    resume: &SessionResume<T>,
) -> ServeHops<S>
where
    T: Send + 'static,
{
    let registry = resume.registry();
    let node = registry.node().map(|node| {
        // It is enlisted from now on.
        tasks::start(registry);
        let resume = resume.clone();
        Here {
            node: Arc::clone(node),
            open: opener(Arc::clone(registry)),
            perform: Arc::new(move |call: Call| call.perform(&resume)),
        }
    });
    ServeHops { listener, service, node }
}

/// A server for other nodes; made by [`serve_hops`].
#[must_use = "a server does nothing until it is awaited"]
pub struct ServeHops<S> {
    listener: TcpListener,
    service: S,
    node: Option<Here>,
}

/// What connections of other nodes find here.
#[derive(Clone)]
struct Here {
    node: Arc<Membership>,
    open: Opener,
    /// Does what another node asks for by itself; returns to how many.
    perform: Arc<dyn Fn(Call) -> usize + Send + Sync>,
}

impl<S, B> IntoFuture for ServeHops<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { listener, service, node } = self;
        Box::pin(async move {
            let Some(here) = node else {
                let text = "serve_hops is for a layer with_cluster";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            let mut connections = JoinSet::new();
            let unproved = Arc::new(Unproved::default());
            for number in 0_u64.. {
                let (stream, _) = accept(&listener).await;
                while connections.try_join_next().is_some() {}
                let hop =
                    Connection { number, here: here.clone(), unproved: Arc::clone(&unproved) };
                unproved.add(number, || connections.spawn(hop.serve(stream, service.clone())));
            }
            Ok(())
        })
    }
}

impl<S> fmt::Debug for ServeHops<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServeHops").field("listener", &self.listener).finish_non_exhaustive()
    }
}

/// Connections that have proved nothing, the oldest first.
#[derive(Default)]
struct Unproved(Mutex<BTreeMap<u64, AbortHandle>>);

impl Unproved {
    /// Starts the connection of this number.
    fn add(&self, number: u64, start: impl FnOnce() -> AbortHandle) {
        // Under the lock: a connection that is soon done is added before it is removed.
        let mut tasks = self.lock();
        tasks.insert(number, start());
        if tasks.len() > UNPROVED
            && let Some((_, oldest)) = tasks.pop_first()
        {
            oldest.abort();
        }
    }

    fn remove(&self, number: u64) {
        self.lock().remove(&number);
    }

    // No code can panic half way through a change.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the hop of a head, if its MAC is right: under one of the keys that prove identities now.
type Opener = Arc<dyn Fn(&Greeting, &[u8]) -> Option<Hop> + Send + Sync>;

fn opener<T: Send + 'static>(registry: Arc<Registry<T>>) -> Opener {
    Arc::new(move |greeting, head| {
        let keys = registry.key_set();
        let hop = keys.all().find_map(|key| HopKey::of(key).open(greeting, head));
        if hop.is_none() {
            // The other node may know newer keys.
            registry.wants_keys();
        }
        hop
    })
}

struct Connection {
    number: u64,
    here: Here,
    unproved: Arc<Unproved>,
}

impl Connection {
    async fn serve<S, B>(self, mut stream: TcpStream, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let proved = self.prove(&mut stream).await;
        self.unproved.remove(self.number);
        let Ok((hop, read)) = proved else {
            tracing::debug!("a connection for hops was closed: it has proved nothing");
            return;
        };
        let ours = self.here.node.incarnation();
        if hop.to != ours {
            let answer = format!(
                "HTTP/1.1 421 Misdirected Request\r\n{NAME}: {ours}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            return;
        }
        let Some(counted) = Counted::new(&self.here.node, |node| &node.hops, usize::MAX) else {
            return;
        };
        let builder = Builder::new(TokioExecutor::new()).http1_only();
        let io = TokioIo::new(Begun { read, at: 0, stream, _counted: counted });
        if hop.asker == Asker::Node {
            let perform = self.here.perform;
            let service = service_fn(move |request| answer_call(Arc::clone(&perform), request));
            if let Err(error) = builder.serve_connection(io, service).await {
                tracing::debug!(error, "a call of another node ended");
            }
            return;
        }
        let inner = TowerToHyperService::new(service);
        let service = service_fn(move |mut request: Request<Incoming>| {
            let headers = request.headers_mut();
            headers.remove(NAME);
            // The client's connection was encrypted up to the node that has sent this.
            if hop.asker == Asker::Https
                && !headers.contains_key(PROTO)
                && !headers.contains_key(FORWARDED)
            {
                headers.insert(PROTO, HeaderValue::from_static("https"));
            }
            let extensions = request.extensions_mut();
            extensions.insert(hop);
            if let Some(peer) = hop.peer {
                extensions.insert(PeerAddr(peer));
            }
            let answered = inner.call(request);
            async {
                let mut response = answered.await?;
                // One proof, one request: the connection carries no second one.
                if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let served = builder.serve_connection_with_upgrades(io, service).await;
        if let Err(error) = served {
            tracing::debug!(error, "a hop ended");
        }
    }

    /// Greets, and reads the head; returns whose hop it is, and all that was read.
    async fn prove(&self, stream: &mut TcpStream) -> io::Result<(Hop, Bytes)> {
        let greeting: Greeting = random::bytes();
        stream.write_all(&greeting).await?;
        // In the other node's pool it says nothing.
        stream.readable().await?;
        let read = timeout(HEAD, whole_head(stream)).await.map_err(|_| io::ErrorKind::TimedOut)?;
        let (bytes, end) = read?;
        let hop = (self.here.open)(&greeting, &bytes[..end]);
        hop.map(|hop| (hop, bytes.into())).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }
}

/// The longest call: a message, and some.
const LONGEST_CALL: usize = 64 << 20;

/// Does what another node asks for. The number of the answer is to how many that has gone.
async fn answer_call(
    perform: Arc<dyn Fn(Call) -> usize + Send + Sync>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = Limited::new(request.into_body(), LONGEST_CALL).collect().await;
    let call = body.ok().and_then(|body| Call::parse(&body.to_bytes()));
    let mut response = Response::new(Full::default());
    match call {
        Some(call) => *response.body_mut() = Full::from(perform(call).to_string()),
        None => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    // One proof, one call.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    Ok(response)
}

/// Reads until a head is whole; returns all that was read, and where the head ends.
async fn whole_head(stream: &mut TcpStream) -> io::Result<(Vec<u8>, usize)> {
    let mut bytes = Vec::with_capacity(2048);
    loop {
        let from = bytes.len();
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(end) = end_of(&bytes, from) {
            return Ok((bytes, end));
        }
        if bytes.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

/// A connection whose beginning was read already.
struct Begun {
    read: Bytes,
    at: usize,
    stream: TcpStream,
    _counted: Counted,
}

impl AsyncRead for Begun {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.read.len() - self.at;
        if left == 0 {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let now = left.min(buf.remaining());
        buf.put_slice(&self.read[self.at..self.at + now]);
        self.at += now;
        if self.at == self.read.len() {
            (self.read, self.at) = (Bytes::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Begun {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        store::MemoryStore,
        words::{cluster::Cluster, identity::TokenKey, node::Incarnation},
    };

    #[tokio::test]
    async fn connections_that_prove_nothing_leave_nothing_behind() {
        let unproved = Unproved::default();
        for number in 0..UNPROVED as u64 + 2 {
            unproved.add(number, || tokio::spawn(std::future::pending::<()>()).abort_handle());
        }
        assert_eq!(unproved.lock().len(), UNPROVED);
        // The oldest were closed just as they were done.
        for number in 0..UNPROVED as u64 + 2 {
            unproved.remove(number);
        }
        assert!(unproved.lock().is_empty());
    }

    /// Nodes believe each other whichever of them has read the newest keys, and after a revocation when they have read it.
    #[tokio::test(start_paused = true)]
    async fn hops_are_believed_while_the_keys_change() {
        use crate::{door::hop::sending::hop_key, words::wall};

        const MINUTE: Duration = Duration::from_secs(60);
        let engine = MemoryStore::new();
        let node = |name| {
            let cluster = Cluster::new(engine.for_another_process()).with_name(name);
            let cluster = cluster.with_advertise("127.0.0.1:1");
            SessionResume::new().with_cluster(cluster)
        };
        let nodes = [node("one"), node("other")];
        let [one, other] = nodes.each_ref().map(SessionResume::registry);
        let (from, to) = (Incarnation::from_number(1), Incarnation::from_number(2));
        let head = |key: &HopKey| {
            let value = Hop { from, to, peer: None, asker: Asker::Http }.unsealed();
            let value = value.to_str().unwrap();
            let mut head = format!("GET / HTTP/1.1\r\n{NAME}: {value}\r\n\r\n").into_bytes();
            assert!(key.seal(&[7; 16], &mut head));
            head
        };
        let believes = |by: &Arc<Registry<()>>, key: &HopKey| {
            opener(Arc::clone(by))(&[7; 16], &head(key)).is_some()
        };
        let before = hop_key(other);
        nodes[0].rotate_identity_keys().await.unwrap();
        wall::shift::set(11 * MINUTE);
        nodes[0].load_identity_keys().await.unwrap();
        let after = hop_key(one);
        assert!(!believes(other, &after), "it does not know the key yet");
        nodes[1].load_identity_keys().await.unwrap();
        for by in [one, other] {
            assert!(believes(by, &before) && believes(by, &after));
        }
        nodes[0].revoke_identity_keys().await.unwrap();
        let revoked = hop_key(one);
        assert!(!believes(one, &before) && !believes(one, &after) && believes(one, &revoked));
        // A hop that it cannot read makes it read the keys.
        assert!(!believes(other, &revoked));
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(believes(other, &revoked) && !believes(other, &after));
        wall::shift::set(Duration::ZERO);
    }

    /// A proof is for one request. What follows it on the connection has proved nothing.
    #[tokio::test]
    async fn a_connection_carries_one_request() {
        let (config, _store) = Cluster::new(MemoryStore::new()).into_config();
        let node = Membership::new(config);
        // Its hops are sealed under a key that this node signs nothing with.
        let [other, key] = [1, 2].map(|byte| HopKey::of(&TokenKey::new(&[byte; 64])));
        let unproved = Arc::<Unproved>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let keys = [other, key.clone()];
        let open: Opener =
            Arc::new(move |greeting, head| keys.iter().find_map(|key| key.open(greeting, head)));
        let here = Here { node: Arc::clone(&node), open, perform: Arc::new(|_| 0) };
        let hop = Connection { number: 0, here, unproved };
        let answers = tower::service_fn(async |_| Ok(Response::new(Full::from("ok"))));
        let served = tokio::spawn(hop.serve(stream, answers));
        let mut greeting = Greeting::default();
        client.read_exact(&mut greeting).await.unwrap();
        let ours = node.incarnation();
        let value = Hop { from: ours, to: ours, peer: None, asker: Asker::Http }.unsealed();
        let value = value.to_str().unwrap();
        let mut head = format!("GET / HTTP/1.1\r\nhost: a\r\n{NAME}: {value}\r\n\r\n").into_bytes();
        assert!(key.seal(&greeting, &mut head));
        head.extend(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.write_all(&head).await.unwrap();
        let mut answered = String::new();
        let read = timeout(Duration::from_secs(30), client.read_to_string(&mut answered)).await;
        // It may be reset, because something of what was sent is not read.
        assert!(read.is_ok(), "it is not closed: {answered}");
        assert_eq!(answered.matches("HTTP/1.1 ").count(), 1, "{answered}");
        served.await.unwrap();
    }
}
