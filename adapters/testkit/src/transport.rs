//! For the tests of an adapter, of a transport, or of the layer itself: a request behind the layer without HTTP
//! ([`behind`]), and a WebSocket of whole frames ([`pair`]), whose peer the test controls.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures_util::{Sink, Stream};
use http::{Request, Response, header, request::Parts};
use session_resume::{
    SessionResume,
    transport::{Frame, TransportError, TransportErrorKind},
};
use tower_layer::Layer as _;
use tower_service::Service;

/// Sends a request through the layer to a handler that uses nothing and answers with a page; returns the request as that
/// handler sees it. [`adapter::open`](session_resume::adapter::open) and
/// [`Upgrade::prepare`](session_resume::adapter::Upgrade::prepare) go on from there.
///
/// `cookie` is the browser's cookie, as it goes into a `Cookie` header. It is sent, and replaced by the one that the
/// answer sets.
///
/// # Panics
///
/// Panics if the request is malformed.
pub async fn behind<T: Send + 'static>(
    layer: &SessionResume<T>,
    cookie: &mut Option<String>,
    mut request: http::request::Builder,
) -> Parts {
    request = request.header(header::ACCEPT, "text/html");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, &*cookie);
    }
    let seen = Arc::default();
    let mut service = layer.layer(Handler { seen: Arc::clone(&seen) });
    let request = request.body(()).expect("a well-formed request");
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
    let Ok(response) = service.call(request).await;
    if let Some(set) = response.headers().get(header::SET_COOKIE) {
        let pair = set.to_str().ok().and_then(|set| set.split(';').next());
        *cookie = pair.map(str::to_owned);
    }
    let parts = lock(&seen).take();
    parts.expect("the layer has called the handler")
}

/// Shows what it sees.
#[derive(Clone)]
struct Handler {
    seen: Arc<Mutex<Option<Parts>>>,
}

impl Service<Request<()>> for Handler {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        *lock(&self.seen) = Some(request.into_parts().0);
        let page = Response::builder().header(header::CONTENT_TYPE, "text/html").body(());
        ready(Ok(page.expect("a well-formed answer")))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Pipe {
    to_server: VecDeque<Option<Frame>>,
    to_client: VecDeque<Frame>,
    /// The peer's stack answers pings and closes, and its window is open.
    answers: bool,
    /// How many frames the peer's window still takes; `None` for any number.
    window: Option<usize>,
    /// Frames are taken but not flushed.
    holds_flush: bool,
    /// Writing fails: the peer has reset the connection.
    refuses: bool,
    server_gone: bool,
    /// The peer has ended the stream.
    finished: bool,
    /// How often the server has tried to read.
    polls: usize,
    /// How often it has flushed: each is a write to the network.
    flushes: usize,
    reader: Option<Waker>,
    writer: Option<Waker>,
    client: Option<Waker>,
}

impl Pipe {
    fn wake_server(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

/// The server's end.
#[derive(Debug)]
pub struct ServerEnd(Arc<Mutex<Pipe>>);

/// The client's end.
#[derive(Debug)]
pub struct ClientEnd(Arc<Mutex<Pipe>>);

/// Makes a WebSocket in memory. The client's stack answers pings and closes, and has room for any number of frames, until the
/// test says otherwise.
pub fn pair() -> (ServerEnd, ClientEnd) {
    let pipe = Arc::new(Mutex::new(Pipe { answers: true, ..Pipe::default() }));
    (ServerEnd(Arc::clone(&pipe)), ClientEnd(pipe))
}

impl ClientEnd {
    fn with<R>(&self, f: impl FnOnce(&mut Pipe) -> R) -> R {
        let mut pipe = lock(&self.0);
        let result = f(&mut pipe);
        pipe.wake_server();
        result
    }

    /// Sends a frame.
    pub fn send(&self, frame: Frame) {
        self.with(|pipe| pipe.to_server.push_back(Some(frame)));
    }

    /// Sends a text frame.
    pub fn text(&self, text: &str) {
        self.send(Frame::Text(text.into()));
    }

    /// Sends a control frame of `session-resume.v1`.
    pub fn control(&self, json: &str) {
        self.text(&format!("\u{1}{json}"));
    }

    /// Returns how often the server has tried to read.
    pub fn polls(&self) -> usize {
        lock(&self.0).polls
    }

    /// The connection breaks; the server notices.
    pub fn cut(&self) {
        self.with(|pipe| pipe.to_server.push_back(None));
    }

    /// The peer ends the stream without a close frame, as a program does that dies.
    pub fn finish(&self) {
        self.with(|pipe| pipe.finished = true);
    }

    /// The peer's stack is gone, and nothing says so: no pong, no close.
    pub fn fall_silent(&self) {
        self.with(|pipe| pipe.answers = false);
    }

    /// The peer's window takes this many frames more.
    pub fn narrow(&self, frames: usize) {
        self.with(|pipe| pipe.window = Some(frames));
    }

    /// Frames are taken, but flushing does not come to an end.
    pub fn hold_flush(&self, holds: bool) {
        self.with(|pipe| pipe.holds_flush = holds);
    }

    /// Every write fails from now on; what is there to read can still be read.
    pub fn refuse_writes(&self) {
        self.with(|pipe| pipe.refuses = true);
    }

    /// Returns how often the server has flushed.
    pub fn flushes(&self) -> usize {
        lock(&self.0).flushes
    }

    /// Returns the next frame; `None` once the server has let go of the socket.
    pub async fn next(&mut self) -> Option<Frame> {
        poll_fn(|cx| {
            let mut pipe = lock(&self.0);
            match pipe.to_client.pop_front() {
                Some(frame) => Poll::Ready(Some(frame)),
                None if pipe.server_gone => Poll::Ready(None),
                None => {
                    pipe.client = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// Returns the next frame if it is there already.
    pub fn now(&mut self) -> Option<Frame> {
        lock(&self.0).to_client.pop_front()
    }

    /// Returns the next text frame; pings in between are passed over.
    ///
    /// # Panics
    ///
    /// Panics if something else comes.
    pub async fn next_text(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Frame::Text(text)) => return text.into(),
                Some(Frame::Ping(_)) => {}
                other => panic!("expected text, got {other:?}"),
            }
        }
    }

    /// Returns the next control frame's JSON.
    ///
    /// # Panics
    ///
    /// Panics if something else comes.
    pub async fn next_control(&mut self) -> serde_json::Value {
        let text = self.next_text().await;
        let json = text.strip_prefix('\u{1}').unwrap_or_else(|| panic!("a control frame: {text}"));
        serde_json::from_str(json).unwrap()
    }

    /// Returns code and reason of the close; everything before it is passed over.
    ///
    /// # Panics
    ///
    /// Panics if none comes.
    pub async fn closed(&mut self) -> (u16, String) {
        // In virtual time heartbeats would come for ever.
        for _ in 0..10_000 {
            match self.next().await {
                Some(Frame::Close(Some((code, reason)))) => return (code, reason.into_owned()),
                Some(_) => {}
                None => break,
            }
        }
        panic!("no close frame");
    }

    /// Waits until the server lets go of the socket.
    pub async fn gone(&mut self) {
        while self.next().await.is_some() {}
    }
}

impl Stream for ServerEnd {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut pipe = lock(&self.0);
        pipe.polls += 1;
        match pipe.to_server.pop_front() {
            Some(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(None) => {
                Poll::Ready(Some(Err(TransportError::new(TransportErrorKind::Broken, "reset"))))
            }
            None if pipe.finished => Poll::Ready(None),
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Sink<Frame> for ServerEnd {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut pipe = lock(&self.0);
        if pipe.refuses {
            let reset = TransportError::new(TransportErrorKind::Broken, "reset");
            return Poll::Ready(Err(reset));
        }
        if pipe.window == Some(0) {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        let mut pipe = lock(&self.0);
        if let Some(window) = &mut pipe.window {
            *window = window.checked_sub(1).expect("the pump asks before it sends");
        }
        if pipe.answers {
            let answer = match &frame {
                Frame::Ping(payload) => Some(Frame::Pong(payload.clone())),
                Frame::Close(close) => Some(Frame::Close(close.clone())),
                Frame::Text(_) | Frame::Binary(_) | Frame::Pong(_) => None,
            };
            if let Some(answer) = answer {
                pipe.to_server.push_back(Some(answer));
                pipe.reader.take().into_iter().for_each(Waker::wake);
            }
        }
        pipe.to_client.push_back(frame);
        pipe.client.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let mut pipe = lock(&self.0);
        if pipe.holds_flush {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.flushes += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.poll_flush(cx)
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut pipe = lock(&self.0);
        pipe.server_gone = true;
        pipe.client.take().into_iter().for_each(Waker::wake);
    }
}
