//! UI message streams: what a session sends from a checkpoint on, until that is cleared, in the form that the AI SDK reads.

use std::{fmt, future::poll_fn, time::Duration};

use bytes::{BufMut as _, BytesMut};
use futures_util::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use tokio::time::timeout;

use super::{
    http::{
        Body, ResumeStart,
        tube::{Heard, Writer, tube},
    },
    look,
};
use crate::{
    Identity, IntoOutcome, LiveSession, Message, OutcomeStatus, RequestView, Session,
    key::IntoSessionKey,
    live::session::{Observe, ObserveError, Observed},
    words::{context::RequestContext, refusal::Refusal},
};

/// A stream that says nothing for this time says a comment: proxies end what is silent for a minute, and only a write finds
/// out that a reader is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// What each stream ends with.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// A UI message of a session, as a stream that the AI SDK reads (`useChat`, protocol `v1` of UI message streams).
///
/// A *UI message* is what a session sends to all its clients from a [checkpoint](Session::send_checkpoint) on, until that is
/// [cleared](Session::clear_checkpoint) or another one begins. Each message is one chunk: a text of JSON
/// (`{"type":"text-delta",..}`). Binary messages are left out.
///
/// A reader is an [observer](Session::observe): as many as [`Limits::observers`](crate::Limits::observers) says may read at the
/// same time, each has the whole message from its first chunk on, and one that hangs up disturbs nobody. If a part is lost for a
/// reader, or the session leaves or fails in mid-message, the stream ends with a chunk `{"type":"error",..}`; the page may ask
/// again.
///
/// # Settings of the layer
///
/// Two are needed where sessions have no clients but readers of this kind:
/// [`Retain::since_checkpoint`](crate::Retain::since_checkpoint) keeps the present message whole, up to its bounds, and
/// [`Overflow::DropOldest`](crate::Overflow::DropOldest) lets older ones go. Without the second, `send` waits for a client once the
/// outbox is full.
///
/// # Example
///
/// The two routes of `useChat({ resume: true })`, one session for each chat. The page sends the whole history; what the handler
/// needs of it is up to the application. With axum, [`ResumeStart`](crate::adapter::ResumeStart) is an extractor and `UiStream` an
/// answer.
///
/// ```
/// use session_resume::{
///     LiveSession, Overflow, Retain, SessionResume,
///     adapter::{self, Refusal, ResumeStart, UiStream},
/// };
///
/// #[derive(serde::Deserialize)]
/// struct Turn { id: String }
///
/// /// `POST /api/chat`
/// async fn chat(start: ResumeStart) -> Result<UiStream, Refusal> {
///     let (identity, body) = (start.identity(), start.text()?);
///     let turn: Turn = serde_json::from_str(&body)
///         .map_err(|_| Refusal::new(http::StatusCode::BAD_REQUEST, "expected {id, messages}"))?;
///     let session = start.keyed(turn.id)?.start(assistant).await?;
///     UiStream::post(&session, identity, body)
/// }
///
/// /// `GET /api/chat/{id}/stream`
/// async fn present(parts: &http::request::Parts, id: String) -> http::Response<adapter::Body> {
///     adapter::ui_stream::<()>(parts, id).await
/// }
///
/// async fn assistant(mut session: LiveSession) -> session_resume::Result {
///     while let Some(_history) = session.recv().await {
///         session.send_checkpoint(r#"{"type":"start"}"#).await?;
///         session.send(r#"{"type":"text-start","id":"0"}"#).await?;
///         for word in ["Good ", "morning"] {
///             let chunk = serde_json::json!({ "type": "text-delta", "id": "0", "delta": word });
///             session.send_json(&chunk).await?;
///         }
///         session.send(r#"{"type":"text-end","id":"0"}"#).await?;
///         session.send(r#"{"type":"finish"}"#).await?;
///         session.clear_checkpoint();
///     }
///     Ok(())
/// }
///
/// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> session_resume::Result {
/// let resume = SessionResume::new()
///     .with_retention(Retain::since_checkpoint())
///     .with_overflow(Overflow::DropOldest);
/// # let mut browser = browser::Browser::default();
/// # let parts = browser.request(&resume, http::Request::post("/api/chat")).await;
/// # let body = adapter::Body::from(r#"{"id":"c1"}"#.to_owned());
/// # let stream = chat(ResumeStart::prepare(&parts, body).await.unwrap()).await.unwrap();
/// # use http_body_util::BodyExt as _;
/// # let said = stream.into_response().into_body().collect().await?.to_bytes();
/// # let said = String::from_utf8_lossy(&said).into_owned();
/// # assert!(said.starts_with("data: {\"type\":\"start\"}\n\ndata: {"), "{said}");
/// # assert!(said.ends_with("data: {\"type\":\"finish\"}\n\ndata: [DONE]\n\n"), "{said}");
/// # let parts = browser.request(&resume, http::Request::get("/api/chat/c1/stream")).await;
/// # assert_eq!(present(&parts, "c1".to_owned()).await.status(), 204);
/// # Ok(())
/// # }
/// ```
#[must_use = "answer the request with it"]
pub struct UiStream<T: Send + 'static = ()> {
    session: Session<T>,
    observe: Observe<T>,
}

impl<T: Send + 'static> UiStream<T> {
    /// Returns the present message, from its first chunk on; `None` if there is none, or if its beginning is not kept.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with: 503 if too many observe the session, or it stands still.
    pub fn present(session: &Session<T>) -> Result<Option<Self>, Refusal> {
        match session.observe_span() {
            Ok(observe) => Ok(Some(Self { session: session.clone(), observe })),
            Err(ObserveError::NoCheckpoint) => Ok(None),
            Err(ObserveError::TooMany) => Err(Refusal::too_many_observers().counted()),
            Err(ObserveError::NotHere) => Err(Refusal::moved_meanwhile().counted()),
        }
    }

    /// [Posts](Session::post) a message to the handler, and returns the first UI message that begins from the moment on at which
    /// the handler takes it. One that is under way for an earlier message is not mistaken for it.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with if the message is not in the inbox: 503, or 413 if it is too long.
    pub fn post(
        session: &Session<T>,
        identity: Identity,
        message: impl Into<Message>,
    ) -> Result<Self, Refusal> {
        let observe = session.post_and_observe_span(identity, message.into())?;
        Ok(Self { session: session.clone(), observe })
    }

    /// Answers a request for the present message, and starts the session's handler if none runs, as after a `kill -9`: the
    /// message goes on, if the handler goes on with it. 204 if there is no message, or no session: none is started.
    ///
    /// What was sent before the kill is there under [`Durability::Exact`](crate::Durability::Exact). The handler finds out how
    /// much that is:
    ///
    /// ```
    /// use session_resume::{Session, observe::From};
    ///
    /// /// How many chunks of the present message were sent; `None`: there is no present message.
    /// fn chunks_sent<T: Send + 'static>(session: &Session<T>) -> Option<u64> {
    ///     let first = session.observe(From::Checkpoint).ok()?.cursor().position();
    ///     let next = session.observe(From::Now).ok()?.cursor().position();
    ///     Some(next - first)
    /// }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`ResumeStart::resume`].
    pub async fn resume<F, Fut>(start: ResumeStart<T>, handler: F) -> Response<Body>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let found = start.resume(handler).await;
        answer(found.and_then(|found| found.map_or(Ok(None), |session| Self::present(&session))))
    }

    /// Returns the answer: 200 with the stream.
    pub fn into_response(self) -> Response<Body> {
        let (writer, reader) = tube("");
        // Ends with the message, with its reader, and with its session.
        tokio::spawn(async move { self.write(&writer).await });
        let mut response = Response::new(Body::stream(reader));
        let text = HeaderValue::from_static;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, text("text/event-stream"));
        headers.insert(header::CONTENT_ENCODING, text("identity"));
        headers.insert(HeaderName::from_static("x-vercel-ai-ui-message-stream"), text("v1"));
        secure(headers);
        response
    }

    async fn write(self, writer: &Writer) {
        let Self { session, mut observe } = self;
        let mut has_begun = false;
        let said = loop {
            if !poll_fn(|cx| writer.poll_room(cx)).await {
                return;
            }
            let observed = tokio::select! {
                observed = timeout(SILENCE, observe.next()) => observed,
                Heard::Gone = poll_fn(|cx| writer.poll_heard(cx)) => return,
            };
            match observed {
                Err(_) => writer.write(|out| out.extend_from_slice(b":\n\n")),
                Ok(Some(Observed::Message { message, .. })) => {
                    if let Some(chunk) = message.as_text() {
                        has_begun = true;
                        writer.write(|out| write_chunk(out, chunk));
                    }
                }
                // It is whole.
                Ok(Some(Observed::Checkpoint { .. })) => break None,
                Ok(Some(Observed::Gap { .. })) => break Some("a part of the answer is lost"),
                Ok(Some(Observed::Ended)) => {
                    let outcome = session.outcome();
                    let is_done = outcome.is_some_and(|it| it.status() == OutcomeStatus::Done);
                    break (!(is_done && has_begun)).then_some("the session has ended");
                }
                Ok(None) => break Some("the server is restarting"),
            }
        };
        writer.write(|out| {
            if let Some(text) = said {
                let chunk = serde_json::json!({ "type": "error", "errorText": text });
                write_chunk(out, &chunk.to_string());
            }
            out.extend_from_slice(DONE);
        });
    }
}

/// Writes a chunk as one event. A line of the format cannot hold the end of a line; in JSON that is white space.
fn write_chunk(out: &mut BytesMut, chunk: &str) {
    out.reserve(chunk.len() + 16);
    for line in chunk.split(['\n', '\r']) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_u8(b'\n');
}

/// No cache keeps the answer, and no proxy holds it back.
fn secure(headers: &mut HeaderMap) {
    let text = HeaderValue::from_static;
    headers.insert(header::CACHE_CONTROL, text("no-store, no-transform"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), text("no"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, text("nosniff"));
    headers.insert(header::VARY, text("Origin"));
}

/// Answers a request for the present UI message of a chat, on a route of the application's own such as `/api/chat/{id}/stream`:
/// 200 with the [stream](UiStream), or 204 if there is none. It starts no session, and is no activity.
///
/// It starts no handler either: after a `kill -9` a message stays as far as it was. [`UiStream::resume`] starts one.
///
/// `name` is what a [key function](crate::key) would call the session, as in
/// [`ResumeStart::keyed`](crate::adapter::ResumeStart::keyed): unless the layer's keys are
/// [shared](crate::key::KeyFn::shared), it is a session of the caller's own.
///
/// Pages of foreign origins are refused. No header of the answer is for pages of other origins: that is for the application's own
/// layer for CORS.
///
/// # Cancel safety
///
/// Cancel safe: it changes nothing. A session may have been restored, and is then found by the next request.
pub async fn ui_stream<T: Send + 'static>(
    parts: &Parts,
    name: impl IntoSessionKey,
) -> Response<Body> {
    answer(find::<T>(parts, name).await)
}

/// Answers with the present message, or 204.
fn answer<T: Send + 'static>(found: Result<Option<UiStream<T>>, Refusal>) -> Response<Body> {
    match found {
        Ok(Some(stream)) => stream.into_response(),
        Ok(None) => {
            let mut response = Response::new(Body::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            secure(response.headers_mut());
            response
        }
        Err(refusal) => refusal.into_body_response(),
    }
}

async fn find<T: Send + 'static>(
    parts: &Parts,
    name: impl IntoSessionKey,
) -> Result<Option<UiStream<T>>, Refusal> {
    let name = name.into_key_name();
    let mut parts = parts.clone();
    {
        let (_, registry) = RequestContext::of::<T>(&parts.extensions).map_err(Refusal::counted)?;
        let checked = registry.check_origin_of_request(RequestView::from_parts(&parts));
        checked.map_err(Refusal::counted)?;
    }
    let renamed = RequestContext::rename::<T>(&mut parts.extensions, name);
    renamed.map_err(Refusal::counted)?;
    match look::find::<T>(&parts).await.map_err(Refusal::counted)? {
        Some(session) => UiStream::present(&session),
        None => Ok(None),
    }
}

impl<T: Send + 'static> fmt::Debug for UiStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UiStream").field("observe", &self.observe).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_one_event() {
        for (chunk, event) in [
            (r#"{"type":"start"}"#, "data: {\"type\":\"start\"}\n\n"),
            ("{\n\"a\":\r\n1}", "data: {\ndata: \"a\":\ndata: \ndata: 1}\n\n"),
        ] {
            let mut out = BytesMut::new();
            write_chunk(&mut out, chunk);
            assert_eq!(out, event);
        }
    }
}
