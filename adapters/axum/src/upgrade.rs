use std::{borrow::Cow, time::Instant};

use axum::{
    extract::{FromRequestParts, OriginalUri},
    response::{IntoResponse, Response},
};
use http::request::Parts;
use session_resume::{BlockingSession, Identity, IntoOutcome, LiveSession, Message, adapter};

use crate::ResumeRejection;

/// Extracts a WebSocket upgrade on the request's session.
///
/// The framework's handler runs on every connect; [`on_session`](Self::on_session)'s once per session. Route
/// it with [`any`](axum::routing::any): WebSockets over HTTP/2 come as `CONNECT`.
#[derive(Debug)]
#[must_use = "answer the request with what on_session or refuse returns"]
pub struct ResumeUpgrade<T: Send + 'static = ()>(adapter::ResumeUpgrade<T>);

impl<T: Send + 'static> ResumeUpgrade<T> {
    /// Returns who the browser is.
    pub fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// Selects one of the application's own subprotocols: the first of these that the client offers. Clients
    /// that offer to resume get `session-resume.v1` instead.
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

    /// Lets this upgrade into its session whatever the path of the upgrade that started the session's handler.
    ///
    /// Without it, an upgrade on another path is answered with 409: `/ws/{room}` under the default key would put two
    /// rooms into one session. Use it where one session is meant to be on several paths. It is not asked where the
    /// application has chosen the session key ([`key::by_path`](session_resume::key::by_path),
    /// [`by_header`](session_resume::key::by_header), [`from_fn`](session_resume::key::from_fn)).
    ///
    /// What counts is what the *arriving* upgrade says: one without it is refused on another path than the one on which
    /// the handler was started, though that upgrade had it. The path is that of [`OriginalUri`], compared literally
    /// (`/a`, `/a/` and `/%61` are three): what `nest` takes away counts, wherever the layer is.
    pub fn any_path(self) -> Self {
        Self(self.0.any_path())
    }

    /// Lets this client read, and not write: see [`adapter::Upgrade::read_only`].
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

    /// Opens the WebSocket on the session. The first time, the handler starts; it outlives the socket, and on
    /// later connects the closure is dropped uncalled.
    ///
    /// # What the closure captures
    ///
    /// What the closure captures is of the request that *started* the handler, for as long as the session lives. Wrong: to
    /// extract the user, capture it, and use it for every message; after the next login in the same browser the handler
    /// still has the first user. Right: check on every connect, before `on_session`, and make the user part of the
    /// [session key](session_resume::key). What belongs to a connection is in
    /// [`Event::Attached`](session_resume::Event::Attached); what is the same for all requests may be captured.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use axum::{Extension, extract::State, response::Response};
    /// use session_resume::{SessionResume, key};
    /// use session_resume_axum::ResumeUpgrade;
    ///
    /// #[derive(Clone)]
    /// struct User { id: u64, may_edit: bool }             // your login's middleware puts it into the request
    /// # struct Database;
    ///
    /// async fn live(
    ///     State(database): State<Arc<Database>>,
    ///     Extension(user): Extension<User>,
    ///     upgrade: ResumeUpgrade,
    /// ) -> Response {
    ///     // This runs on every connect, with the user of this request.
    ///     if !user.may_edit {
    ///         return upgrade.refuse("you may only read");
    ///     }
    ///     // This runs once per session: the database is the same for all requests, and the user is left out.
    ///     upgrade.on_session(move |mut session| async move {
    ///         while let Some(message) = session.recv().await {
    ///             // database.store(message) ..
    ///             # let _ = &database;
    ///             session.send(message).await?;
    ///         }
    ///         Ok(())
    ///     })
    /// }
    ///
    /// // Two users of one browser have two sessions.
    /// let resume = SessionResume::new().with_key(key::from_fn(|req, _identity| {
    ///     req.extensions().get::<User>().map(|user| user.id)
    /// }));
    /// # let _: axum::Router = axum::Router::new()
    /// #     .route("/live", axum::routing::any(live)).layer(resume).with_state(Arc::new(Database));
    /// ```
    ///
    /// # Another handler or path
    ///
    /// A route with another handler than the running one is answered with 409: two different handlers need two
    /// session keys. So is a route on another path than the one on which the handler was started
    /// ([`any_path`](Self::any_path)).
    #[must_use = "return this response, or the WebSocket is not opened"]
    pub fn on_session<F, Fut>(self, handler: F) -> Response
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        self.0.on_session(handler).into_response()
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own and may
    /// block.
    #[must_use = "return this response, or the WebSocket is not opened"]
    pub fn on_session_blocking<F, R>(self, handler: F) -> Response
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        self.0.on_session_blocking(handler).into_response()
    }

    /// Refuses the client with 403. A client that offers to resume is closed with 4101 and the reason.
    #[must_use = "return this response, or the client is not told"]
    pub fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Response {
        self.0.refuse(reason).into_response()
    }
}

impl<T, S> FromRequestParts<S> for ResumeUpgrade<T>
where
    T: Send + 'static,
    S: Send + Sync,
{
    type Rejection = ResumeRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let upgrade = adapter::ResumeUpgrade::prepare(parts).await?;
        // The layer sees what a router outside it has left of the path.
        Ok(Self(match parts.extensions.get::<OriginalUri>() {
            Some(original) => upgrade.at_path(original.path()),
            None => upgrade,
        }))
    }
}
