//! A request of plain HTTP that starts its session's handler, on a route of the application's own.

use std::{borrow::Cow, error::Error, fmt, sync::Arc};

use bytes::{Buf, Bytes};
use http::{StatusCode, request::Parts};
use session_resume_proto::wire::Offer;

use super::{body::Body, gate, message};
use crate::{
    BlockingSession, Identity, IntoOutcome, LiveSession, Message, Session,
    door::{hop, upgrade::Upgrade},
    key::IntoSessionKey,
    live::{handler, session::IsUrgent},
    words::{
        context::{RequestContext, Requester},
        refusal::Refusal,
    },
};

/// A request of plain HTTP, on a route of the application's own, that starts its session's handler or finds it running. It
/// attaches nothing: the route answers the request itself.
///
/// It is checked as an upgrade is, and pages of foreign origins are refused as on a session's own route: their `Origin` is checked
/// for every method, and without it `Sec-Fetch-Site`.
///
/// The body is read, up to [`Limits::message`](crate::Limits::message) and for at most 20 s. Of several nodes the request is sent
/// on to the one that has the session, with its body; no `at_owner` is needed.
///
/// # Example
///
/// With axum, where it is an extractor (the last argument, because it reads the body). `session_resume_warp::start` is the filter.
///
/// ```
/// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> session_resume::Result {
/// use session_resume::{LiveSession, SessionResume, adapter::{Refusal, ResumeStart}};
///
/// /// `POST /orders`: the work goes on when the request has been answered.
/// async fn order(start: ResumeStart) -> Result<&'static str, Refusal> {
///     let (identity, order) = (start.identity(), start.body().clone());
///     let session = start.start(work).await?;
///     session.post(identity, order)?;
///     Ok("ordered")
/// }
///
/// async fn work(mut session: LiveSession) -> session_resume::Result {
///     while let Some(order) = session.recv().await {
///         session.send(format!("done: {} bytes", order.len())).await?;
///     }
///     Ok(())
/// }
///
/// # let resume = SessionResume::new();
/// # let mut browser = browser::Browser::default();
/// # browser.get(&resume).await;
/// # let parts = browser.request(&resume, http::Request::post("/orders")).await;
/// # let body = session_resume::adapter::Body::from("a chair".to_owned());
/// # let start = ResumeStart::<()>::prepare(&parts, body).await.unwrap();
/// # assert_eq!(order(start).await.unwrap(), "ordered");
/// # let parts = browser.request(&resume, http::Request::get("/live")).await;
/// # let upgrade = session_resume::adapter::Upgrade::<()>::prepare(&parts).await.unwrap();
/// # let mut tab = browser::Tab::run(upgrade.any_path().on_session(work).unwrap());
/// # assert_eq!(tab.receive().await, "done: 7 bytes");
/// # Ok(())
/// # }
/// ```
#[must_use = "it starts nothing until `start` is called"]
pub struct ResumeStart<T: Send + 'static = ()> {
    parts: Box<Parts>,
    body: Bytes,
    identity: Identity,
    name: Option<Cow<'static, str>>,
    any_path: bool,
    path: Option<String>,
    is_urgent: Option<IsUrgent>,
    of: std::marker::PhantomData<fn() -> T>,
}

impl<T: Send + 'static> ResumeStart<T> {
    /// Checks a request and reads its body; for adapters.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with: the layer is missing (500), the page's origin is foreign (403), or the body is
    /// too long (413), too slow (408) or cut (400).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been done for this request yet.
    pub async fn prepare<B>(parts: &Parts, body: B) -> Result<Self, Refusal>
    where
        B: http_body::Body<Data: Buf + Send, Error: Into<Box<dyn Error + Send + Sync>>>
            + Send
            + 'static,
    {
        let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
        gate::check(registry, parts).map_err(Refusal::counted)?;
        let most = registry.rules().bounds.message;
        let body = message::read(body, most).await.map_err(Refusal::counted)?;
        Ok(Self {
            identity: context.identity(),
            parts: Box::new(parts.clone()),
            body,
            name: None,
            any_path: false,
            path: None,
            is_urgent: None,
            of: std::marker::PhantomData,
        })
    }

    /// Returns who the browser is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the body of the request.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the body as a text.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with if it is not UTF-8: 400.
    pub fn text(&self) -> Result<String, Refusal> {
        let text = std::str::from_utf8(&self.body).map(str::to_owned);
        text.map_err(|_| Refusal::new(StatusCode::BAD_REQUEST, "the body is not UTF-8").counted())
    }

    /// Takes the session that a [key function](crate::key) would call so, in place of the one that the layer's function has
    /// chosen: for requests whose body names their session. Keys are [shared](crate::key::KeyFn::shared) if those of the layer are.
    ///
    /// The handler may be the same on all paths then, as with a key function of the application's own.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with if there is no layer around the route.
    pub fn keyed(mut self, name: impl IntoSessionKey) -> Result<Self, Refusal> {
        let extensions = &mut self.parts.extensions;
        let renamed = RequestContext::rename::<T>(extensions, name.into_key_name());
        renamed.map_err(Refusal::counted)?;
        Ok(Self { any_path: true, ..self })
    }

    /// Names the handler, for sessions in a store: after a restart they go on only with a handler of this name.
    pub fn named(self, name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Lets this request into its session whatever the path of the one that started the session's handler: see
    /// [`Upgrade::any_path`](crate::adapter::Upgrade::any_path).
    pub fn any_path(self) -> Self {
        Self { any_path: true, ..self }
    }

    /// Sets the path of the request as the client sent it: see [`Upgrade::at_path`](crate::adapter::Upgrade::at_path).
    pub fn at_path(self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self }
    }

    /// Says which messages the handler may take before their turn, while it works: see
    /// [`Upgrade::on_urgent`](crate::adapter::Upgrade::on_urgent).
    pub fn on_urgent(self, is_urgent: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        Self { is_urgent: Some(Arc::new(is_urgent)), ..self }
    }

    /// Finds the session of the request, or starts one, and starts the handler if none runs; else the closure is dropped
    /// uncalled: see [what that means](crate::adapter::Upgrade::on_session).
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with: the session runs another handler (409), there is no room for it or the server is
    /// restarting (503), and so on. Of several nodes it may be the answer of the one that has the session: answer with
    /// [`Refusal::into_body_response`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a session may have been started, and is then found by the next request.
    pub async fn start<F, Fut>(self, handler: F) -> Result<Session<T>, Refusal>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let (upgrade, by) = self.upgrade().await?;
        let started = upgrade.on_session(handler)?.start(by).await;
        started.map_err(|not| not.refusal().counted())
    }

    /// As [`start`](Self::start), if the request's session is there: in memory, or in the store, from where it is restored. If
    /// there is none, none is started: `None`.
    ///
    /// So what was at work when the server was killed goes on when somebody asks for it: the handler begins anew, and finds in
    /// its state, and in what the session [has sent](Session::observe), how far it has come.
    ///
    /// The reuse policy is not asked about a session that is in memory.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the session may have been restored, and is then found by the next request.
    pub async fn resume<F, Fut>(self, handler: F) -> Result<Option<Session<T>>, Refusal>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let (upgrade, by) = self.upgrade().await?;
        let Some(accepted) = upgrade.on_found_session(handler)? else {
            return Ok(None);
        };
        accepted.start(by).await.map(Some).map_err(|not| not.refusal().counted())
    }

    /// As [`start`](Self::start), with a handler that runs on a plain thread of its own and may block.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// As [`start`](Self::start).
    pub async fn start_blocking<F, R>(self, handler: F) -> Result<Session<T>, Refusal>
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        self.start(handler::on_thread(handler)).await
    }

    /// Looks for the session. Of several nodes the request is answered by the one that has it.
    async fn upgrade(self) -> Result<(Upgrade<T>, Requester), Refusal> {
        let Self { parts, body, name, any_path, path, is_urgent, .. } = self;
        let by = {
            let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
            let body = hop::with_body(registry, &parts, context, Body::from(body)).await;
            let _here: Body = body.map_err(Refusal::counted)?;
            context.requester()
        };
        let mut upgrade = Upgrade::<T>::prepare_with(&parts, Offer::PlainAt(None)).await?;
        if let Some(name) = name {
            upgrade = upgrade.named(name);
        }
        if let Some(path) = path {
            upgrade = upgrade.at_path(&path);
        }
        if any_path {
            upgrade = upgrade.any_path();
        }
        if let Some(is_urgent) = is_urgent {
            upgrade = upgrade.with_urgent(is_urgent);
        }
        Ok((upgrade, by))
    }
}

/// Without the body: what a user has written is for no log.
impl<T: Send + 'static> fmt::Debug for ResumeStart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumeStart").field("identity", &self.identity).finish_non_exhaustive()
    }
}
