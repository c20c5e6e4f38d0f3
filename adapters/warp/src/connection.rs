use std::{borrow::Cow, time::Instant};

use bytes::Buf;
use futures_util::{Stream, StreamExt as _};
use http_body::{Body, Frame};
use http_body_util::{BodyStream, StreamBody};
use session_resume::{BlockingSession, Identity, IntoOutcome, LiveSession, Message, adapter};
use sync_wrapper::SyncStream;
use warp::{Reply, reply::Response};

/// A connection to the request's session, whichever way it comes: a WebSocket upgrade, or plain HTTP. Made by
/// [`connect`](crate::connect()).
#[derive(Debug)]
#[must_use = "answer the request with what on_session or refuse returns"]
pub struct ResumeConnection<T: Send + 'static = ()>(adapter::ResumeConnection<T>);

impl<T: Send + 'static> ResumeConnection<T> {
    pub(crate) async fn prepare<S, D>(
        parts: &http::request::Parts,
        body: S,
    ) -> Result<Self, adapter::Refusal>
    where
        S: Stream<Item = Result<D, warp::Error>> + Send + 'static,
        D: Buf + Send + 'static,
    {
        adapter::ResumeConnection::prepare(parts, from_warp(body)).await.map(Self)
    }

    /// Returns which way the request comes.
    pub fn kind(&self) -> adapter::Kind {
        self.0.kind()
    }

    /// Returns who the browser is.
    pub fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// Selects one of the application's own subprotocols, of a WebSocket: see
    /// [`ResumeUpgrade::protocols`](crate::ResumeUpgrade::protocols).
    pub fn protocols<I>(self, protocols: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<Cow<'static, str>>,
    {
        Self(self.0.protocols(protocols))
    }

    /// Names the handler, for sessions in a store: after a restart they go on only with a handler of this name.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self(self.0.named(name))
    }

    /// Lets this request into its session whatever the path of the one that started the session's handler: see
    /// [`ResumeUpgrade::any_path`](crate::ResumeUpgrade::any_path).
    pub fn any_path(self) -> Self {
        Self(self.0.any_path())
    }

    /// Lets this client read, and not write: see [`adapter::Upgrade::read_only`]. A plain `POST` is answered
    /// with 403.
    pub fn read_only(self) -> Self {
        Self(self.0.read_only())
    }

    /// Lets this client stay until then, and closes its transport with a code on which a client of ours comes back at once,
    /// with fresh credentials: see [`adapter::Upgrade::valid_until`].
    pub fn valid_until(self, until: Instant) -> Self {
        Self(self.0.valid_until(until))
    }

    /// Says which messages the handler may take before their turn, while it works: see [`adapter::Upgrade::on_urgent`].
    pub fn on_urgent(self, is_urgent: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        Self(self.0.on_urgent(is_urgent))
    }

    /// Answers the request on its session. The first time, the handler starts; it outlives the connection, and on later
    /// requests the closure is dropped uncalled: see [`ResumeUpgrade::on_session`](crate::ResumeUpgrade::on_session).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is as the client's hanging up.
    pub async fn on_session<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        reply(self.0.on_session(handler).await)
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own and may block.
    ///
    /// # Cancel safety
    ///
    /// As [`on_session`](Self::on_session).
    pub async fn on_session_blocking<F, R>(self, handler: F) -> Response
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        reply(self.0.on_session_blocking(handler).await)
    }

    /// Refuses the client with 403. A client that offers to resume is closed with 4101 and the reason.
    ///
    /// # Cancel safety
    ///
    /// As [`on_session`](Self::on_session).
    pub async fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Response {
        reply(self.0.refuse(reason).await)
    }
}

/// The body of a request, as warp gives it.
pub(crate) fn from_warp<S, D>(body: S) -> impl Body<Data = D, Error = warp::Error> + Send + 'static
where
    S: Stream<Item = Result<D, warp::Error>> + Send + 'static,
    D: Buf + Send + 'static,
{
    StreamBody::new(body.map(|piece| piece.map(Frame::data)))
}

/// warp takes a body as a stream of pieces. An answer that is whole keeps its length.
pub(crate) fn reply(response: http::Response<adapter::Body>) -> Response {
    let (parts, body) = response.into_parts();
    let body = match body.into_whole() {
        Ok(whole) => http::Response::new(whole).into_response().into_body(),
        Err(body) => {
            let pieces = BodyStream::new(body).filter_map(|piece| async move {
                piece.map(|piece| piece.into_data().ok()).transpose()
            });
            // warp wants bodies that are Sync.
            warp::reply::stream(SyncStream::new(pieces)).into_response().into_body()
        }
    };
    Response::from_parts(parts, body)
}
