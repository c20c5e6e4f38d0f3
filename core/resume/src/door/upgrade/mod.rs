//! An upgrade request on its way to an attachment, for adapters. Suggested reading order: `stand` (where an attach
//! stands, phase by phase), `Upgrade`, `resolve` (which session), `accepted` (attach), `come` (without a transport).

mod accepted;
#[cfg(feature = "http")]
mod come;
mod resolve;
mod stand;

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{Method, StatusCode, header, request::Parts};
use session_resume_proto::{
    Message,
    session::{Access, Carrier},
    wire::{Offer, SUBPROTOCOL},
};
use tokio::time::Instant;
use tracing::Span;

#[cfg(feature = "http")]
pub(crate) use self::come::InInbox;
pub use self::{accepted::Accepted, stand::Refused};
use self::{
    accepted::{Arriving, Newcomer, Pass},
    stand::Stand,
};
use crate::{
    BlockingSession, LiveSession, RequestView,
    door::elsewhere::Elsewhere,
    durable::restore::Apart,
    live::{
        handler::{self, OnThread},
        registry::Registry,
        session::{AttachRequest, IsUrgent, Peer},
    },
    words::{
        cause::Cause,
        context::RequestContext,
        handler_type::HandlerType,
        outcome::IntoOutcome,
        path::{PathDigest, UpgradePath},
        refusal::Refusal,
    },
};

/// An upgrade waits at most this long until the store has a new session. If the client's session is just leaving
/// memory for the store, the client is told to come back after this time.
const STORING: Duration = Duration::from_secs(1);

/// A request to open a transport, such as a WebSocket, on a session of a layer with state `T`.
///
/// For adapters: [`prepare`](Self::prepare) it from the request, let the application call
/// [`on_session`](Self::on_session), answer the upgrade with [`subprotocol`](Self::subprotocol) selected, and
/// [`run`](Accepted::run) what came of it with the socket. A transport that is not a WebSocket begins with
/// [`prepare_with`](Self::prepare_with).
pub struct Upgrade<T: Send + 'static = ()> {
    registry: Arc<Registry<T>>,
    context: RequestContext,
    offer: Offer,
    pub(crate) parts: Box<Parts>,
    /// The handler's name, for sessions that outlive the process.
    name: Option<Cow<'static, str>>,
    path: UpgradePath,
    access: Access,
    /// Until when the client may stay.
    valid_until: Option<Instant>,
    is_urgent: Option<IsUrgent>,
    /// `None`: there is no session yet.
    stand: Option<Stand<T>>,
}

impl<T: Send + 'static> Upgrade<T> {
    /// Checks a request for an upgrade and makes its session ready.
    ///
    /// Waits while plain WebSockets that supersede each other in a circle are slowed down.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with: the layer is missing (500), the page's origin is foreign
    /// (403), the offer is malformed (400), or, to a plain client, the store does not answer (503).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been done for this request yet.
    pub async fn prepare(parts: &Parts) -> Result<Self, Refusal> {
        Self::look(parts, websocket_offer).await.map_err(Refusal::counted)
    }

    /// As [`prepare`](Self::prepare), for a transport that is not a WebSocket: its client says the offer elsewhere than in
    /// the headers of a WebSocket.
    ///
    /// [`Offer::parse`] reads the text of an offer, which is the same for every transport. What
    /// [`run`](Accepted::run) is given is any [`Transport`](crate::transport::Transport): a stream and a sink of frames.
    ///
    /// (A key by [`key::per_client`](crate::key::per_client) is computed by the layer, from the WebSocket's headers.)
    ///
    /// # Errors
    ///
    /// As [`prepare`](Self::prepare), without the malformed offer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing has been done for this request yet.
    pub async fn prepare_with(parts: &Parts, offer: Offer) -> Result<Self, Refusal> {
        Self::look(parts, |_| Ok(offer)).await.map_err(Refusal::counted)
    }

    /// Whether a page of this request's origin may open transports.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn check_origin(parts: &Parts) -> Result<(), Refusal> {
        let (_, registry) = RequestContext::of::<T>(&parts.extensions)?;
        registry.check_origin(RequestView::from_parts(parts))
    }

    async fn look(
        parts: &Parts,
        offer: impl FnOnce(&Parts) -> Result<Offer, Refusal>,
    ) -> Result<Self, Refusal> {
        let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
        let req = RequestView::from_parts(parts);
        registry.check_origin(req)?;
        let offer = offer(parts)?;
        let context = context.clone();
        let mut elsewhere = Elsewhere::new();
        let stand = loop {
            let refusal = match resolve::look(registry, &context, req, &offer).await {
                Ok(stand) => break stand,
                // A message, whose body was read.
                Err(Apart::Elsewhere(_))
                    if *req.method() == Method::POST && !offer.is_resumable() =>
                {
                    Refusal::moved_meanwhile()
                }
                Err(apart) => match elsewhere.ask(registry, parts, apart).await {
                    Ok(()) => continue,
                    Err(answer) => answer,
                },
            };
            break Some(Stand::Refused(Refused::by_close(refusal, offer.is_resumable())?));
        };
        // The layer looks at the paths of upgrades alone.
        let by = &registry.config().key;
        let path = || (!by.is_of_the_application()).then(|| PathDigest::of(req.path()));
        let path = UpgradePath::new(context.path().or_else(path));
        let mut parts = Box::new(parts.clone());
        parts.extensions.remove::<RequestContext>();
        let registry = registry.arc();
        let access = Access::Full;
        Ok(Self {
            registry,
            context,
            offer,
            parts,
            name: None,
            path,
            access,
            valid_until: None,
            is_urgent: None,
            stand,
        })
    }

    /// Names the handler: a session that was stored goes on only with a handler of the same name.
    ///
    /// Without names, a process that restores a session cannot tell for which handler it was.
    #[must_use]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Lets this upgrade into its session whatever the path of the upgrade that started the session's handler.
    ///
    /// Without it, an upgrade on another path is refused (409), unless the application has chosen the session key
    /// ([`key::by_path`](crate::key::by_path), [`by_header`](crate::key::by_header),
    /// [`from_fn`](crate::key::from_fn)): `/ws/{room}` under the default key would put two rooms into one session.
    /// What counts is what the *arriving* upgrade says; what the upgrade said that started the handler does not open
    /// the session to others.
    #[must_use]
    pub fn any_path(mut self) -> Self {
        self.path.allow_any();
        self
    }

    /// Lets this client read, and not write: it is a *watcher*.
    ///
    /// What the session sends reaches it as it reaches any client, and what it acknowledges counts for where it goes on
    /// after a drop. A data message of it is not taken: it closes the transport with 4104 `read only`, and clients
    /// of ours then stop. Its copy of the state ([`MergePolicy`](crate::MergePolicy)) does not count either.
    ///
    /// A watcher takes nobody's place, and nobody takes its place: watchers are attached beside the clients that
    /// [`Attach`](crate::Attach) lets in, and beside each other. Each plain transport that may only read is a client of
    /// its own. Watchers count in [`Limits::max_clients`](crate::Limits::max_clients), but always leave room for one client
    /// that may write; where that is 1 there is no room for a watcher. As under [`Attach::Share`](crate::Attach::Share), the outbox keeps what an
    /// attached watcher has not acknowledged, and a `send` that finds it full waits for that. A watcher is an attached
    /// transport: it starts a session that is not there, and keeps one alive.
    ///
    /// It is asked on every attach: a client may come back with other rights. Over HTTP it is asked on every request: one that may
    /// only read, on a transport that was opened by one that may write, ends that transport with 4106
    /// `reauthenticate`, and a client of ours opens another at once.
    ///
    /// The handler sees it in [`Event::Attached`](crate::Event::Attached), and in
    /// [`Session::clients`](crate::Session::clients).
    ///
    /// # Example
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use session_resume::{Event, LiveSession, SessionResume};
    ///
    /// async fn live(mut session: LiveSession) -> session_resume::Result {
    ///     while let Some(event) = session.recv_event().await {
    ///         match event {
    ///             Event::Attached { read_only: true, .. } => session.send("a guest has come").await?,
    ///             Event::Message { message, .. } => session.send(message).await?,
    ///             _ => {}
    ///         }
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let mut host = browser.open(&resume, http::Request::get("/live"), live).await;
    /// # let parts = browser.request(&resume, http::Request::get("/live")).await;
    /// # let upgrade = session_resume::adapter::Upgrade::<()>::prepare(&parts).await.unwrap();
    /// // The route's handler knows who asks.
    /// let is_guest = true;
    /// let upgrade = if is_guest { upgrade.read_only() } else { upgrade };
    /// let accepted = upgrade.on_session(live);
    /// # let mut guest = browser::Tab::run(accepted.unwrap());
    /// # assert_eq!(host.receive().await, "a guest has come");
    /// # host.send("to all");
    /// # assert_eq!(host.receive().await, "to all");
    /// # assert_eq!(guest.receive().await, "a guest has come");
    /// # assert_eq!(guest.receive().await, "to all");
    /// # guest.send("not heard");
    /// # assert_eq!(guest.closed().await, (4104, "read only".to_owned()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.access = Access::ReadOnly;
        self
    }

    /// Lets this client stay until then: for credentials that run out.
    ///
    /// At that moment the transport is closed with 4106 `reauthenticate`, a plain one, too. The session goes on, and nothing is
    /// lost. A client of ours comes back at once, the route's handler runs again, and decides anew by the credentials that the
    /// client brings now. A message that arrives after that moment is not taken on this transport; a client of ours sends it
    /// again on the next one.
    ///
    /// A moment that has passed refuses the client: a plain one is answered with 401; one that offers to resume is told 4106,
    /// and comes back at its usual pace if it is told so a second time.
    ///
    /// Over HTTP the request that opens the transport decides, as with a WebSocket. A later request of the same transport can end it, by a
    /// moment that has passed, and cannot prolong it. An `EventSource` comes back by itself after a second.
    ///
    /// An [`Instant`](std::time::Instant) does not follow the wall clock when that is set, and on some systems it does not count
    /// the time for which the whole machine was suspended.
    ///
    /// # Example
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use std::time::{Duration, Instant, SystemTime};
    /// use session_resume::{LiveSession, SessionResume};
    ///
    /// async fn live(mut session: LiveSession) -> session_resume::Result {
    ///     while let Some(message) = session.recv().await {
    ///         session.send(message).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// /// When a token runs out that names its end in seconds since 1970, as the `exp` of a JWT.
    /// fn end_of(exp: u64) -> Instant {
    ///     let end = SystemTime::UNIX_EPOCH + Duration::from_secs(exp);
    ///     Instant::now() + end.duration_since(SystemTime::now()).unwrap_or_default()
    /// }
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let parts = browser.request(&resume, http::Request::get("/live")).await;
    /// # let upgrade = session_resume::adapter::Upgrade::<()>::prepare(&parts).await.unwrap();
    /// # let exp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() + 60;
    /// // In the route's handler, after the token was checked:
    /// let accepted = upgrade.valid_until(end_of(exp)).on_session(live);
    /// # let mut tab = browser::Tab::run(accepted.unwrap());
    /// # tab.send("hello");
    /// # assert_eq!(tab.receive().await, "hello");
    /// # assert_eq!(tab.closed().await, (4106, "reauthenticate".to_owned()));
    /// # let upgrade = session_resume::adapter::Upgrade::<()>::prepare(&parts).await.unwrap();
    /// # let refusal = upgrade.valid_until(end_of(1)).on_session(live).unwrap_err();
    /// # assert_eq!(refusal.into_response().status(), 401);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn valid_until(mut self, until: std::time::Instant) -> Self {
        self.valid_until = Some(Instant::from_std(until));
        self
    }

    /// Says which messages are urgent: while the handler works, it may take these before their turn, by
    /// [`LiveSession::urgent`] or [`BlockingSession::try_urgent`](crate::BlockingSession::try_urgent).
    ///
    /// An urgent message overtakes what waits for the handler, and nothing else: it arrives in order with the other messages of its
    /// client, once all before it have arrived. It counts in the limits of the inbox, as any message. A client that has
    /// filled the inbox is not read, so nothing of it is urgent then.
    ///
    /// An urgent message that the handler does not take by `urgent` comes from [`recv`](LiveSession::recv) in its turn. So does
    /// each of the first messages that a client sends after a crash: one of them may have caused it, so they are tried one by one.
    ///
    /// As the [handler](Self::on_session), the closure belongs to the session: that of the upgrade that starts the handler is kept, and
    /// those of later upgrades are dropped. It runs in the handler's task or thread, at most once for each message, and only if the
    /// handler calls `urgent`. A session that does not costs nothing more for it.
    ///
    /// See [`LiveSession::urgent`] for an example.
    #[must_use]
    pub fn on_urgent(self, is_urgent: impl Fn(&Message) -> bool + Send + Sync + 'static) -> Self {
        self.with_urgent(Arc::new(is_urgent))
    }

    pub(crate) fn with_urgent(self, is_urgent: IsUrgent) -> Self {
        Self { is_urgent: Some(is_urgent), ..self }
    }

    /// What this client may do.
    #[cfg(feature = "http")]
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// For adapters: sets the path of the request as the client sent it, percent-encoded, without the query.
    ///
    /// Without it, it is the path that the layer saw. A router outside the layer may have taken a part of it away;
    /// where the framework still knows it whole, such as axum's `OriginalUri`, hand it over.
    #[must_use]
    pub fn at_path(mut self, path: &str) -> Self {
        self.path.set(path);
        self
    }

    /// Returns the subprotocol that the server must select; `None` leaves the choice to the application.
    pub fn subprotocol(&self) -> Option<&'static str> {
        self.offer.is_resumable().then_some(SUBPROTOCOL)
    }

    /// Returns the largest message that the WebSocket library must let through, in bytes.
    ///
    /// It lies 64 KiB above [`Limits::message`](crate::Limits::message): control frames of `session-resume.v1`
    /// are longer than what they carry, and a message a little too big is read whole and closed with 1009.
    pub fn max_message_size(&self) -> usize {
        self.registry.rules().bounds.message.saturating_add(64 << 10)
    }

    /// Returns the identity of the browser that asks.
    pub fn identity(&self) -> crate::Identity {
        self.context.has_used();
        self.context.identity()
    }

    /// Finds or starts the session for this handler.
    ///
    /// # What the closure captures
    ///
    /// The closure is called once per session, by the upgrade that starts the handler. Every later upgrade drops its
    /// closure uncalled. So what the closure captures is of the request that *started* the handler, for as long as the
    /// session lives.
    ///
    /// Wrong: to take a user, a token or a language from the request, capture it, and use it for every message. After the
    /// next login in the same browser the handler still has the first user.
    ///
    /// Right: check on every upgrade, before `on_session`, whether the client may come in, and [`refuse`](Self::refuse)
    /// it if not. Make part of the [key](crate::key) what tells sessions apart. Read from
    /// [`Event::Attached`](crate::Event::Attached) what belongs to a connection. What is the same for all requests, such as a
    /// database handle, may be captured.
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use session_resume::{Event, LiveSession, SessionResume};
    ///
    /// async fn live(mut session: LiveSession) -> session_resume::Result {
    ///     let mut language = "en".to_owned();
    ///     while let Some(event) = session.recv_event().await {
    ///         match event {
    ///             // Of this connection, whichever request started the handler.
    ///             Event::Attached { request: Some(request), .. } => {
    ///                 if let Some(header) = request.headers().get("accept-language") {
    ///                     language = header.to_str()?.to_owned();
    ///                 }
    ///             }
    ///             Event::Message { .. } => session.send(format!("hello in {language}")).await?,
    ///             _ => {}
    ///         }
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let request = |language| http::Request::get("/live").header("accept-language", language);
    /// # for language in ["fr", "de"] {
    /// # let mut tab = browser.open(&resume, request(language), live).await;
    /// # tab.send("hello");
    /// # while tab.receive().await != format!("hello in {language}") {}
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with. A client that offers to resume is accepted instead, because
    /// browsers hide the status of a refused upgrade, and told when [run](Accepted::run).
    pub fn on_session<F, Fut>(mut self, handler: F) -> Result<Accepted<T, F>, Refusal>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let found = self.stand.take();
        let resolved = self.resolve(found, HandlerType::of::<F>());
        self.go_on(resolved, handler)
    }

    /// As [`on_session`](Self::on_session) for a session that is there: `None` if there is none, and none is started. The
    /// reuse policy is not asked about one that is in memory.
    #[cfg(feature = "http")]
    pub(crate) fn on_found_session<F, Fut>(
        mut self,
        handler: F,
    ) -> Result<Option<Accepted<T, F>>, Refusal>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let resolved = match self.stand.take() {
            Some(Stand::Here(hold, origin)) if hold.session.goes_on() => {
                self.readmit(hold, origin, HandlerType::of::<F>())
            }
            Some(Stand::Refused(refused)) => Ok(Stand::Refused(refused)),
            // It has ended since, or before.
            Some(Stand::Here(..) | Stand::Ended(..)) | None => return Ok(None),
        };
        self.go_on(resolved, handler).map(Some)
    }

    fn go_on<F, Fut>(
        self,
        resolved: Result<Stand<T>, Refusal>,
        handler: F,
    ) -> Result<Accepted<T, F>, Refusal>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let stand = match resolved {
            Ok(stand) => stand,
            Err(refusal) => {
                if matches!(refusal.cause(), Cause::Handler | Cause::Path) {
                    self.registry.routes_have_met(&refusal);
                }
                let refused = Refused::by_close(refusal, self.offer.is_resumable());
                Stand::Refused(refused.map_err(Refusal::counted)?)
            }
        };
        Ok(self.accept(stand, handler))
    }

    /// As [`on_session`](Self::on_session), with a handler that runs on a plain thread of its own.
    ///
    /// # Errors
    ///
    /// As [`on_session`](Self::on_session).
    #[expect(clippy::type_complexity, reason = "a handler's type cannot be named")]
    pub fn on_session_blocking<F, R>(
        self,
        handler: F,
    ) -> Result<
        Accepted<
            T,
            impl FnOnce(LiveSession<T>) -> BoxFuture<'static, OnThread<R>> + Send + 'static,
        >,
        Refusal,
    >
    where
        F: FnOnce(BlockingSession<T>) -> R + Send + 'static,
        R: IntoOutcome + Send + 'static,
    {
        self.on_session(handler::on_thread(handler))
    }

    /// Refuses the client: the handler of the framework runs on every connect and may check authority anew.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer a plain client with: 403. A client that offers to resume is accepted
    /// and told 4101 with the reason.
    pub fn refuse(self, reason: impl Into<Cow<'static, str>>) -> Result<Refused, Refusal> {
        let refusal = Refusal::by_application(reason.into());
        let refused = Refused::by_close(refusal, self.offer.is_resumable());
        // The 101 carries the cookie.
        refused.inspect(|_| self.context.has_used()).map_err(Refusal::counted)
    }

    fn accept<F: 'static>(self, stand: Stand<T>, handler: F) -> Accepted<T, F> {
        // The 101 carries the cookie.
        self.context.has_used();
        let client = resolve::client_name(&self.offer, &self.context);
        let key = self.context.key().clone();
        let Self { registry, offer, name, path, access, valid_until, is_urgent, parts, .. } = self;
        let from = parts.extensions.get().copied();
        let (peer, request) = (Peer::new(), AttachRequest::of(*parts));
        let pass = Pass { peer, request, key, path, handler: HandlerType::of::<F>(), name };
        let asked_in = Span::current();
        let newcomer = Newcomer {
            registry,
            client,
            access,
            valid_until,
            offer,
            from,
            asked_in,
            carrier: Carrier::default(),
            pass,
        };
        Accepted(Box::new(Arriving { stand, newcomer, handler, is_urgent }))
    }
}

/// Reads the offer of a WebSocket, which is in the list of its subprotocols.
fn websocket_offer(parts: &Parts) -> Result<Offer, Refusal> {
    let values = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    // Names of subprotocols are ASCII. A header that is not ASCII must not be read as no offer.
    let lines = values.iter().map(|value| value.to_str()).collect::<Result<Vec<_>, _>>();
    let lines = lines.map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, "the header sec-websocket-protocol is not ASCII")
    })?;
    Offer::parse(lines.into_iter().flat_map(|line| line.split(',')).map(str::trim))
        .map_err(|malformed| Refusal::new(StatusCode::BAD_REQUEST, malformed.to_string()))
}

impl<T: Send + 'static> fmt::Debug for Upgrade<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("context", &self.context).finish_non_exhaustive()
    }
}
