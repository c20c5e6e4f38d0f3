//! Why a request gets no session: every status and text that the layer answers with.

use std::{borrow::Cow, error::Error as _, fmt, time::Duration};
#[cfg(feature = "http")]
use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
#[cfg(feature = "http")]
use futures_core::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use session_resume_proto::wire::Close;
#[cfg(feature = "http")]
use session_resume_proto::wire::CloseKind;

pub(crate) use crate::words::cause::Cause;
use crate::words::{
    errors::chain,
    observe,
    record_error::RecordError,
    store::{ErrorKind, StoreError},
};

/// Why a request gets no session, as an answer to give: adapters turn it into a response.
///
/// `Display` is a text for the developer or operator that names the remedy; it holds no secret and
/// nothing that the client sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    status: StatusCode,
    text: Cow<'static, str>,
    /// What it is counted under.
    cause: Cause,
    retry_after: Option<Duration>,
    /// What the client should have sent instead, as headers of the answer.
    wanted: Vec<(HeaderName, HeaderValue)>,
    /// How a client that offers to resume is told: accepted first, then closed, because browsers hide the
    /// status of a refused upgrade. `None`: with the status after all.
    close: Option<Close>,
    /// It is no refusal of this node: another one has answered.
    relayed: Option<Box<Answered>>,
}

/// What another node has answered.
#[derive(Clone, PartialEq, Eq)]
struct Answered {
    headers: HeaderMap,
    body: AnsweredBody,
}

#[derive(Clone)]
#[cfg_attr(not(feature = "tungstenite"), allow(dead_code, reason = "hops need hyper"))]
enum AnsweredBody {
    Whole(Bytes),
    /// The body still comes; the first caller takes it.
    #[cfg(feature = "http")]
    Streams(Arc<Mutex<Option<AnswerStream>>>),
}

impl PartialEq for AnsweredBody {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(bytes), Self::Whole(others)) => bytes == others,
            #[cfg(feature = "http")]
            (Self::Streams(stream), Self::Streams(others)) => Arc::ptr_eq(stream, others),
            #[cfg(feature = "http")]
            _ => false,
        }
    }
}

impl Eq for AnsweredBody {}

#[cfg(feature = "http")]
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of another node's answer, as it comes.
#[cfg(feature = "http")]
pub(crate) type AnswerStream = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

// By hand: cookies and bodies are nobody's to read.
impl fmt::Debug for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answered").finish_non_exhaustive()
    }
}

impl Refusal {
    /// Creates a refusal of an adapter's own, such as for a request that is not an upgrade.
    pub fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        let (text, cause) = (text.into(), Cause::Request);
        Self {
            status,
            text,
            cause,
            retry_after: None,
            wanted: Vec::new(),
            close: None,
            relayed: None,
        }
    }

    fn with_cause(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }

    /// It leaves this crate, to be answered with.
    #[cold]
    pub(crate) fn counted(self) -> Self {
        if self.relayed.is_none() {
            observe::refused(self.cause, self.status.as_u16());
        }
        self
    }

    /// The session is at another node, and that node has answered.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn relayed(status: StatusCode, headers: HeaderMap, body: Bytes) -> Self {
        Self::answered(status, headers, AnsweredBody::Whole(body))
    }

    /// The same, with an answer that goes on.
    #[cfg(feature = "http")]
    pub(crate) fn relayed_stream(
        status: StatusCode,
        headers: HeaderMap,
        body: AnswerStream,
    ) -> Self {
        let body = AnsweredBody::Streams(Arc::new(Mutex::new(Some(body))));
        Self::answered(status, headers, body)
    }

    #[cfg(feature = "tungstenite")]
    fn answered(status: StatusCode, headers: HeaderMap, body: AnsweredBody) -> Self {
        let text = "the session is at another node, which has answered";
        Self { relayed: Some(Box::new(Answered { headers, body })), ..Self::new(status, text) }
    }

    /// The session is at another node, and by these headers the platform sends the request there.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn rerouted(headers: HeaderMap) -> Self {
        Self::relayed(StatusCode::MISDIRECTED_REQUEST, headers, Bytes::new())
    }

    /// Whether another node has answered, or this one tells a node that it has not the session.
    pub(crate) fn is_relayed(&self) -> bool {
        self.relayed.is_some() || self.status == StatusCode::MISDIRECTED_REQUEST
    }

    /// The session has gone to another node while the body of this request was read.
    pub(crate) fn moved_meanwhile() -> Self {
        let text = "the session has just moved to another node, try again";
        Self::busy(text, Duration::from_secs(1))
    }

    /// The session is at another node, and there is no way to it.
    pub(crate) fn elsewhere() -> Self {
        let text = "the session is at another node, and this request cannot be sent on: the adapter needs the feature \
                    tungstenite of session-resume";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text).with_cause(Cause::Setup)
    }

    /// A node has sent a request on, and this one is not the owner.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn not_the_owner(owner: &crate::words::node::NodeInfo) -> Self {
        let text = "the session is at another node by now";
        let refusal = Self::new(StatusCode::MISDIRECTED_REQUEST, text).with_cause(Cause::Busy);
        let value = HeaderValue::try_from(owner.incarnation.to_string());
        let value = value.expect("digits are ASCII");
        let name = HeaderName::from_static("session-resume-hop");
        Self { wanted: vec![(name, value)], ..refusal }
    }

    /// An extractor comes too late to send a request with a body on.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn needs_at_owner() -> Self {
        let text = "the session is at another node, and a request with a body cannot be sent on from here: put \
                    at_owner around the route";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text).with_cause(Cause::Setup)
    }

    #[cfg(feature = "tungstenite")]
    pub(crate) fn too_many_relays() -> Self {
        let text =
            "too many clients here whose sessions are at other nodes (max_relays), try again later";
        Self::full(text, Duration::from_secs(1))
    }

    /// Adds a header that says what is accepted, such as `Allow`.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn wanting(mut self, name: HeaderName, value: &'static str) -> Self {
        self.wanted.push((name, HeaderValue::from_static(value)));
        self
    }

    /// An answer that is no refusal, to a request that is for no session.
    #[cfg(feature = "http")]
    pub(crate) fn answer(status: StatusCode, headers: HeaderMap) -> Self {
        Self::new(status, "").with_headers(headers)
    }

    /// Adds headers of the answer.
    #[cfg(feature = "http")]
    pub(crate) fn with_headers(mut self, headers: HeaderMap) -> Self {
        let named = |(name, value): (Option<HeaderName>, HeaderValue)| Some((name?, value));
        self.wanted.extend(headers.into_iter().filter_map(named));
        self
    }

    /// Come back later: 503 with `Retry-After`; 4113 to a client that offers to resume.
    pub(crate) fn busy(text: &'static str, retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            close: Some(Close::TRY_AGAIN),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text).with_cause(Cause::Busy)
        }
    }

    /// One of the [`Limits`](crate::Limits) is reached: come back later.
    pub(crate) fn full(text: &'static str, retry_after: Duration) -> Self {
        Self::busy(text, retry_after).with_cause(Cause::Limit)
    }

    /// The keys that prove identities are not known, so it is not known whose the session is.
    pub(crate) fn keys_not_read() -> Self {
        let text = "the session store does not answer, so this browser cannot be told from others, try again later";
        Self::busy(text, Duration::from_secs(1)).with_cause(Cause::Store)
    }

    /// The inbox has no room for a message.
    pub(crate) fn inbox_full() -> Self {
        let text = "the session has no room for a message now, try again later";
        Self::full(text, Duration::from_secs(1))
    }

    pub(crate) fn too_many_observers() -> Self {
        let text = "the session has as many readers that wait as it may have (Limits::observers), try again later";
        Self::full(text, Duration::from_secs(1))
    }

    pub(crate) fn too_big() -> Self {
        let text = "the message is over the limit (Limits::message)";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    }

    /// The server restarts: 503 with `Retry-After`; 4112 to a client that offers to resume.
    pub(crate) fn draining(retry_after: Duration) -> Self {
        let text = "the server is restarting, come back in a moment";
        let refusal = Self::busy(text, retry_after).with_cause(Cause::Draining);
        Self { close: Some(Close::RESTARTING), ..refusal }
    }

    pub(crate) fn foreign_origin(foreign: crate::words::origin::ForeignOrigin) -> Self {
        Self::new(StatusCode::FORBIDDEN, foreign.to_string()).with_cause(Cause::ForeignOrigin)
    }

    /// The application has said no.
    pub(crate) fn by_application(reason: Cow<'static, str>) -> Self {
        Self {
            close: Some(Close::refused(reason.clone())),
            ..Self::new(StatusCode::FORBIDDEN, reason).with_cause(Cause::Application)
        }
    }

    /// The credentials with which the client has come have run out.
    pub(crate) fn run_out() -> Self {
        let text = "these credentials have run out (valid_until)";
        Self {
            close: Some(Close::REAUTHENTICATE),
            ..Self::new(StatusCode::UNAUTHORIZED, text).with_cause(Cause::Application)
        }
    }

    pub(crate) fn by_policy(status: StatusCode) -> Self {
        let text = "the session may not be reused by this request (reuse policy)";
        Self { close: Some(Close::REFUSED), ..Self::new(status, text).with_cause(Cause::Policy) }
    }

    pub(crate) fn another_handler() -> Self {
        let text = "this session runs another handler: two routes that mean two things need two session keys, \
                    for example with_key(key::by_path())";
        let refusal = Self::new(StatusCode::CONFLICT, text).with_cause(Cause::Handler);
        Self { close: Some(Close::ANOTHER_HANDLER), ..refusal }
    }

    /// Which path it is instead is not said: the session may be another's, under a shared key.
    pub(crate) fn another_path() -> Self {
        let text = "this session's handler was started by an upgrade on another path: two rooms need two session keys, \
                    for example with_key(key::by_path()); a route that serves its session on every path says \
                    ResumeUpgrade::any_path()";
        let refusal = Self::new(StatusCode::CONFLICT, text).with_cause(Cause::Path);
        Self { close: Some(Close::ANOTHER_PATH), ..refusal }
    }

    pub(crate) fn missing_layer() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no session-resume layer around this route: add .layer(SessionResume::new()) to the router",
        )
        .with_cause(Cause::Setup)
    }

    pub(crate) fn another_state(expected: &'static str) -> Self {
        // The type is for the log: a stranger must not read how the program is built.
        tracing::error!(
            expected,
            "no session-resume layer around this route has state of the type that its handler asks for"
        );
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no session-resume layer around this route has state of the type that its handler asks for (the log names \
             it): add .layer(SessionResume::new().with_state::<..>()) with that type, or extract the layer's own type",
        )
        .with_cause(Cause::Setup)
    }

    /// The store failed: 503; 500 if what it has cannot be read, for asking again does not help.
    pub(crate) fn by_store(error: &StoreError) -> Self {
        observe::store_failed();
        if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::TooNew) {
            tracing::error!(error = %chain(error), "the store does not answer");
            let text = "the session store does not answer, try again later";
            return Self::busy(text, Duration::from_secs(1)).with_cause(Cause::Store);
        }
        tracing::error!(error = %chain(error), "a stored session cannot be read");
        // A cause of ours quotes nothing that is stored; a backend's may.
        Self::unread(error.source().and_then(|cause| cause.downcast_ref::<RecordError>()))
    }

    /// What is stored has another form than what is expected of it: 500, for asking again does not help.
    pub(crate) fn unreadable(error: &RecordError) -> Self {
        observe::store_failed();
        tracing::error!(%error, "a stored session cannot be read");
        Self::unread(Some(error))
    }

    /// Refuses a session that cannot be read. Its record is not overwritten: a server that is rolled back, or forward,
    /// finds it.
    fn unread(cause: Option<&RecordError>) -> Self {
        let text = match cause {
            Some(cause) => format!("the stored session cannot be read: {}", cause.told()).into(),
            None => Cow::Borrowed("the stored session cannot be read"),
        };
        Self {
            close: Some(Close::INTERNAL_ERROR),
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, text).with_cause(Cause::Unreadable)
        }
    }

    /// The attach rules said no before a plain transport was accepted.
    pub(crate) fn by_attach(refusal: session_resume_proto::session::Refusal) -> Self {
        let cause = Cause::of_close(&refusal.close);
        let (status, text) = if cause == Cause::Busy {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the session has no place for this client now, try again later",
            )
        } else {
            (StatusCode::CONFLICT, "the session is held by another client")
        };
        let answer = Self::new(status, text).with_cause(cause);
        Self { retry_after: refusal.retry, close: Some(refusal.close), ..answer }
    }

    /// Returns the status to answer with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the value of `Retry-After` to answer with: whole seconds, rounded up.
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after.map(|delay| delay.as_secs() + u64::from(delay.subsec_nanos() > 0))
    }

    /// As [`into_response`](Self::into_response), for a framework whose bodies are bytes: what another node has answered may
    /// be no text.
    ///
    /// A stream of another node is not there as a whole; it is answered with 500. What extracts
    /// [`ResumeConnection`](crate::adapter::ResumeConnection) answers with
    #[cfg_attr(feature = "http", doc = "[`into_body_response`](Self::into_body_response).")]
    #[cfg_attr(not(feature = "http"), doc = "`into_body_response`.")]
    pub fn into_bytes_response(mut self) -> Response<Bytes> {
        let Some(answered) = self.relayed.take() else {
            return self.into_response().map(Bytes::from);
        };
        let body = match answered.body {
            AnsweredBody::Whole(body) => body,
            #[cfg(feature = "http")]
            AnsweredBody::Streams(_) => {
                let text = "another node answers with a stream: the adapter needs Refusal::into_body_response";
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                return Self::new(status, text).into_response().map(Bytes::from);
            }
        };
        let mut response = Response::new(body);
        (*response.status_mut(), *response.headers_mut()) = (self.status, answered.headers);
        response
    }

    /// Takes the stream that another node answers with, if there is one: its head, and its body as it comes.
    #[cfg(feature = "http")]
    pub(crate) fn take_stream(&mut self) -> Option<Response<AnswerStream>> {
        let answered = self.relayed.as_deref()?;
        let AnsweredBody::Streams(stream) = &answered.body else {
            return None;
        };
        let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let mut response = Response::new(stream);
        *response.status_mut() = self.status;
        response.headers_mut().clone_from(&answered.headers);
        Some(response)
    }

    /// Makes the response to answer with: status, text, and `Retry-After` where that helps.
    pub fn into_response(self) -> Response<String> {
        if self.relayed.is_some() {
            let response = self.into_bytes_response();
            return response.map(|body| String::from_utf8_lossy(&body).into_owned());
        }
        let text = if self.text.is_empty() { String::new() } else { format!("{self}\n") };
        let mut response = Response::new(text);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if !self.text.is_empty() {
            let plain = HeaderValue::from_static("text/plain; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, plain);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers.extend(self.wanted);
        response
    }

    /// Whether another client has the session, and is not to be disturbed.
    #[cfg(feature = "http")]
    pub(crate) fn is_superseded(&self) -> bool {
        self.close.as_ref().is_some_and(|close| close.kind() == CloseKind::Superseded)
    }

    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry_after
    }

    pub(crate) fn close(&self) -> Option<&Close> {
        self.close.as_ref()
    }

    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}
