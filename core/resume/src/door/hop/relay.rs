//! What comes back by a hop: an answer, or a connection whose bytes are copied.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

#[cfg(feature = "http")]
use bytes::Bytes;
#[cfg(feature = "http")]
use futures_core::Stream;
use http::{HeaderMap, Method, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use metrics::Counter;
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, ReadBuf, copy, split},
    time::timeout,
};

#[cfg(feature = "http")]
use session_resume_proto::wire::EVENTS;

#[cfg(feature = "http")]
use super::head::end_to_end;
use crate::words::{
    cluster::{Counted, Membership},
    node::Incarnation,
    observe::nodes::{Direction, hop_bytes},
};
#[cfg(feature = "http")]
use crate::words::{
    refusal::{AnswerStream, BoxError},
    request::is_media_type,
};

/// The answer of the node that owns the session.
pub(crate) struct Relayed {
    pub(super) response: Response<Incoming>,
    pub(super) owner: Incarnation,
    /// Counts the relay of an upgrade or of a stream.
    pub(super) counted: Option<Counted>,
    pub(super) node: Arc<Membership>,
}

impl Relayed {
    /// Whether the connection is the client's and the owner's from now on.
    pub(super) fn is_upgrade(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Connects both ends once the answer is out; returns the answer's head.
    pub(super) fn join(self, parts: &Parts) -> (StatusCode, HeaderMap) {
        let Self { mut response, owner, counted, node } = self;
        let by_owner = hyper::upgrade::on(&mut response);
        let mut headers = std::mem::take(response.headers_mut());
        let status = if parts.method == Method::CONNECT {
            // HTTP/2 says by its status alone what HTTP/1.1 says with these.
            for name in [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT] {
                headers.remove(name);
            }
            StatusCode::OK
        } else {
            StatusCode::SWITCHING_PROTOCOLS
        };
        if let Some(by_client) = parts.extensions.get::<OnUpgrade>().cloned() {
            // Ends with either end's connection, or when the owner is gone.
            tokio::spawn(async move {
                join(by_client, by_owner, &node, owner).await;
                drop(counted);
            });
        }
        (status, headers)
    }
}

#[cfg(feature = "http")]
impl Relayed {
    /// Whether the answer goes on for as long as there is something to say.
    pub(super) fn is_stream(&self) -> bool {
        let kind = self.response.headers().get(header::CONTENT_TYPE);
        kind.is_some_and(|kind| is_media_type(kind.as_bytes(), EVENTS.as_bytes()))
    }

    /// Returns the answer's head, and its body as it comes.
    pub(super) fn into_stream(self) -> (StatusCode, HeaderMap, AnswerStream) {
        let Self { response, owner, counted, node } = self;
        let (head, body) = response.into_parts();
        let mut headers = head.headers;
        end_to_end(&mut headers);
        let ends = async move {
            tokio::select! {
                // It ends between two pieces; the client asks for the next ones elsewhere.
                () = node.is_cut() => None,
                () = node.is_gone_for_good(owner) => Some("the node that has the session is gone".into()),
            }
        };
        let stream = Streaming { body: Some(body), ends: Box::pin(ends), _counted: counted };
        (head.status, headers, Box::pin(stream))
    }
}

/// The body of an answer, as the owner says it.
#[cfg(feature = "http")]
struct Streaming<F> {
    /// `None` when it is over.
    body: Option<Incoming>,
    /// The relay ends; with an error if that is no end of the stream.
    ends: Pin<Box<F>>,
    _counted: Option<Counted>,
}

#[cfg(feature = "http")]
impl<F: Future<Output = Option<BoxError>>> Stream for Streaming<F> {
    type Item = Result<Bytes, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(cut) = this.ends.as_mut().poll(cx) {
            this.body = None;
            return Poll::Ready(cut.map(Err));
        }
        loop {
            let frame = ready!(hyper::body::Body::poll_frame(Pin::new(&mut *body), cx));
            let piece = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    // Trailers are of that connection.
                    Err(_) => continue,
                },
                Some(Err(error)) => Some(Err(error.into())),
                None => None,
            };
            this.body = None;
            return Poll::Ready(piece);
        }
    }
}

/// A reader whose bytes are counted for operators.
struct Metered<R> {
    reader: R,
    bytes: Counter,
}

impl<R> Metered<R> {
    fn new(reader: R, direction: Direction) -> Self {
        Self { reader, bytes: hop_bytes(direction) }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Metered<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, into))?;
        let read = into.filled().len() - before;
        self.bytes.increment(u64::try_from(read).unwrap_or(u64::MAX));
        Poll::Ready(Ok(()))
    }
}

/// When one direction has ended, the other one has this long: as long as a session waits for the answer to its close.
const LINGER: Duration = Duration::from_secs(5);

/// Copies bytes both ways. The connection never changes its owner: when the hop ends, the client's ends.
async fn join(by_client: OnUpgrade, by_owner: OnUpgrade, node: &Membership, owner: Incarnation) {
    let ends = async {
        let (client, owner) = (by_client.await?, by_owner.await?);
        let (from_client, mut to_client) = split(TokioIo::new(client));
        let (from_owner, mut to_owner) = split(TokioIo::new(owner));
        let mut from_client = Metered::new(from_client, Direction::ToOwner);
        let mut from_owner = Metered::new(from_owner, Direction::ToClient);
        let up = async {
            let _ = copy(&mut from_client, &mut to_owner).await;
            let _ = to_owner.shutdown().await;
        };
        let down = async {
            let _ = copy(&mut from_owner, &mut to_client).await;
            let _ = to_client.shutdown().await;
        };
        let (mut up, mut down) = (pin!(up), pin!(down));
        // The end of one direction is soon the end of both: a client that never closes holds no relay.
        let _ = tokio::select! {
            () = &mut up => timeout(LINGER, down).await,
            () = &mut down => timeout(LINGER, up).await,
        };
        Ok::<_, hyper::Error>(())
    };
    tokio::select! {
        ended = ends => if let Err(error) = ended {
            tracing::debug!(%error, "a relayed connection was not upgraded");
        },
        // The client finds another way to its session.
        () = node.is_cut() => {}
        () = node.is_gone_for_good(owner) => {
            tracing::debug!(%owner, "a relayed connection is cut: its owner is gone");
        }
    }
}
