//! An upgrade request on its way to an attachment, for adapters.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{StatusCode, header, request::Parts};
use session_resume_proto::{
    AttachmentNumber,
    session::{Arrival, Claim, ClientName, Frame, Refusal as AttachRefusal},
    wire::{Close, Offer, SUBPROTOCOL},
};

use crate::handler::{HandlerType, OnThread};
use crate::{
    BlockingSession, LiveSession, RequestView, SessionId, SessionOrigin, handler,
    layer::RequestContext,
    observe,
    outcome::IntoOutcome,
    outcomes::Ended,
    pump, random,
    refusal::Refusal,
    registry::{Purpose, Registry},
    restore::Asks,
    session::{AttachRequest, Peer, shared::Shared},
    snapshot::Urgency,
    transport::Transport,
};

/// So long is waited for the store, and a client whose session is on its way there told to wait.
const STORING: Duration = Duration::from_secs(1);

/// A request to open a WebSocket on a session of a layer with state `T`.
///
/// For adapters: [`prepare`](Self::prepare) it from the request, let the application call
/// [`on_session`](Self::on_session), answer the upgrade with [`subprotocol`](Self::subprotocol) selected, and
/// [`run`](Accepted::run) what came of it with the socket.
pub struct Upgrade<T: Send + 'static = ()> {
    registry: Arc<Registry<T>>,
    context: RequestContext,
    offer: Offer,
    pub(crate) parts: Box<Parts>,
    /// The handler's name, for sessions that outlive the process.
    name: Option<Cow<'static, str>>,
    found: Found<T>,
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
        let (context, registry) = RequestContext::of::<T>(&parts.extensions)?;
        let req = RequestView::from_parts(parts);
        registry.config().origins.check(req).map_err(Refusal::foreign_origin)?;
        let offer = offer(parts)?;
        let context = context.clone();
        if offer == Offer::Plain
            && let Some(session) = registry.by_key(context.key())
        {
            let delay = session.lock().machine.plain_delay(registry.clock().now());
            drop(session);
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
        }
        let found = match Found::look(&registry, &context, req, &offer).await {
            Ok(found) => found,
            // Browsers hide the status of a refused upgrade: told when it is accepted.
            Err(refusal) if offer.is_resumable() && refusal.close().is_some() => {
                Found { refused: Some(refusal), ..Found::default() }
            }
            Err(refusal) => return Err(refusal),
        };
        let mut kept = http::Request::new(()).into_parts().0;
        kept.method = parts.method.clone();
        kept.uri = parts.uri.clone();
        kept.version = parts.version;
        kept.headers = parts.headers.clone();
        kept.extensions = parts.extensions.clone();
        kept.extensions.remove::<RequestContext>();
        let parts = Box::new(kept);
        Ok(Self { registry, context, offer, parts, name: None, found })
    }

    /// Names the handler: a session that was stored goes on only with a handler of the same name.
    ///
    /// Without names, a process that restores a session cannot tell for which handler it was.
    #[must_use]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Returns the subprotocol that the server must select; `None` leaves the choice to the application.
    pub fn subprotocol(&self) -> Option<&'static str> {
        self.offer.is_resumable().then_some(SUBPROTOCOL)
    }

    /// Returns the largest message that the WebSocket library must let through, in bytes.
    ///
    /// It lies above [`Limits::message`](crate::Limits::message), so that a message a little too big is read
    /// whole and closed with 1009.
    pub fn max_message_size(&self) -> usize {
        self.registry.rules().bounds.message.saturating_mul(2).saturating_add(64 << 10)
    }

    /// Returns the identity of the browser that asks.
    pub fn identity(&self) -> crate::Identity {
        self.context.identity()
    }

    /// Finds or starts the session for this handler.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] to answer with. A client that offers to resume is accepted instead, because
    /// browsers hide the status of a refused upgrade, and told when [run](Accepted::run).
    pub fn on_session<F, Fut>(self, handler: F) -> Result<Accepted<T, F>, Refusal>
    where
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let resumable = self.offer.is_resumable();
        let plan = match self.resolve(HandlerType::of::<F>()) {
            Ok(plan) => plan,
            Err(refusal) => match refusal.close() {
                Some(close) if resumable => {
                    Plan::Refuse(AttachRefusal { close: close.clone(), retry: refusal.retry() })
                }
                _ => return Err(refusal),
            },
        };
        let peer = Peer::new(self.context.identity());
        let request = AttachRequest::of(&self.parts);
        let Self { registry, offer, name, .. } = self;
        Ok(Accepted(Box::new(Arriving { plan, peer, request, offer, name, registry, handler })))
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
    pub fn refuse(
        self,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<Accepted<T, Refused>, Refusal> {
        let reason = reason.into();
        if !self.offer.is_resumable() {
            return Err(Refusal::new(StatusCode::FORBIDDEN, reason));
        }
        let peer = Peer::new(self.context.identity());
        let request = AttachRequest::of(&self.parts);
        let close = Close::new(Close::CODE_REFUSED, reason);
        let plan = Plan::Refuse(AttachRefusal { close, retry: None });
        let Self { registry, offer, name, .. } = self;
        let handler = Refused;
        Ok(Accepted(Box::new(Arriving { plan, peer, request, offer, name, registry, handler })))
    }

    /// Finds out which session the request belongs to and whether it may go on.
    fn resolve(&self, handler: HandlerType) -> Result<Plan<T>, Refusal> {
        if let Some(refusal) = &self.found.refused {
            return Err(refusal.clone());
        }
        let purpose = Purpose::Upgrade(handler);
        let found = self.continued()?;
        let restored = self.found.restored.as_ref().map(|hold| Arc::clone(&hold.session));
        let (session, origin, claim) = match found {
            Some(Continued::Here(session, claim)) => {
                let origin = if restored.is_some() {
                    SessionOrigin::Restored
                } else {
                    SessionOrigin::Reused
                };
                (session, origin, claim)
            }
            Some(Continued::Gone(farewell)) => return Ok(Plan::Farewell(farewell)),
            None => {
                let req = RequestView::from_parts(&self.parts);
                // The policy has been asked before it was restored.
                let taken = restored
                    .filter(|session| session.with_core(|core, now| purpose.take(core, now)));
                let (session, origin) = match taken {
                    Some(session) => (session, SessionOrigin::Restored),
                    None => self.registry.open(&self.context, req, &purpose)?.ok_or_else(|| {
                        Refusal::busy("the session is being stored, try again", STORING)
                    })?,
                };
                let claim = match &self.offer {
                    Offer::Plain => Claim::Plain,
                    Offer::Fresh { .. } => Claim::Fresh,
                    Offer::Resume { cursor, .. } => Claim::Lost { received: cursor.received },
                };
                (session, origin, claim)
            }
        };
        let hold = Hold { session };
        let client = self.client_name();
        hold.session.with_core(|core, now| {
            match core.handler_type {
                Some(runs) if runs != handler => return Err(Refusal::another_handler()),
                _ if core.handler_name().is_some_and(|name| Some(name) != self.name.as_ref()) => {
                    return Err(Refusal::another_handler());
                }
                _ => core.handler_type = Some(handler),
            }
            // A plain client is told before the 101; one that offers to resume when it attaches.
            if claim == Claim::Plain {
                core.machine.admit(client, &claim, now).map_err(Refusal::by_attach)?;
            }
            Ok(())
        })?;
        Ok(Plan::Attach { hold, origin, client, claim })
    }

    /// Finds the session of the cursor, if it is the one under the request's own key.
    ///
    /// A continuation is not put to the reuse policy.
    fn continued(&self) -> Result<Option<Continued<T>>, Refusal> {
        let Offer::Resume { client, cursor, attachment } = &self.offer else {
            return Ok(None);
        };
        let Some(id) = continued_session(&self.offer) else {
            return Ok(None);
        };
        let claim = Claim::Cursor {
            epoch: cursor.epoch,
            received: cursor.received,
            attachment: *attachment,
        };
        if let Some(session) = self.registry.by_id(id) {
            let taken = session.with_core(|core, _| {
                let ours = core.key == *self.context.key() && !core.removed && !core.leaving;
                if ours {
                    core.machine.hold();
                }
                ours
            });
            if taken {
                if self.registry.drain.is_draining() {
                    drop(Hold { session });
                    return Err(Refusal::draining(self.registry.drain.retry()));
                }
                return Ok(Some(Continued::Here(session, claim)));
            }
        }
        let now = self.registry.clock().now();
        let ended =
            self.registry.outcomes().get(id, now).cloned().or_else(|| self.found.ended.clone());
        let Some(ended) = ended.filter(|ended| {
            ended.key == *self.context.key()
                && ended.outcome.status() != crate::OutcomeStatus::Expired
        }) else {
            return Ok(None);
        };
        let farewell = ended.record.farewell(
            client,
            &id.token(),
            &claim,
            ended.outcome.status(),
            self.registry.rules(),
        );
        Ok(Some(Continued::Gone(farewell)))
    }

    fn client_name(&self) -> ClientName {
        self.offer.client().map_or(ClientName::Plain, |id| ClientName::Named(*id))
    }
}

/// What has been found for an upgrade before its handler is known.
struct Found<T: Send + 'static> {
    /// The session, if it had to be restored for this request.
    restored: Option<Hold<T>>,
    /// The session that was there, so that it does not leave before the handler is known.
    _here: Option<Hold<T>>,
    /// What is left of the session of its cursor, as the store knows it.
    ended: Option<Ended>,
    /// Nothing, and why.
    refused: Option<Refusal>,
}

impl<T: Send + 'static> Found<T> {
    async fn look(
        registry: &Arc<Registry<T>>,
        context: &RequestContext,
        req: RequestView<'_>,
        offer: &Offer,
    ) -> Result<Self, Refusal> {
        let asks = Asks { context, req, continues: continued_session(offer), looks: false };
        // Which handler asks is not known yet; the attach checks it.
        let mut here = None;
        let restored = loop {
            if let Some(session) = registry.ready(&asks, &Purpose::Restore).await? {
                break Some(Hold { session });
            }
            let Some(session) = registry.by_key(context.key()) else {
                break None;
            };
            let (taken, leaving) =
                session.with_core(|core, now| (Purpose::Restore.take(core, now), core.leaving));
            if taken {
                here = Some(Hold { session });
            }
            // On its way to the store: wait for it there.
            if taken || !leaving {
                break None;
            }
        };
        let ended = match continued_session(offer).filter(|id| registry.by_id(*id).is_none()) {
            Some(id) => registry.find_ended(id).await.map_err(|error| Refusal::by_store(&error))?,
            None => None,
        };
        Ok(Self { restored, _here: here, ended, refused: None })
    }
}

impl<T: Send + 'static> Default for Found<T> {
    fn default() -> Self {
        Self { restored: None, _here: None, ended: None, refused: None }
    }
}

/// Where a cursor leads.
enum Continued<T: Send + 'static> {
    /// To a session that is here, held already.
    Here(Arc<Shared<T>>, Claim),
    /// To one of which only its outcome is left.
    Gone(Result<Vec<Frame>, AttachRefusal>),
}

/// What shall become of the transport.
enum Plan<T: Send + 'static> {
    Attach { hold: Hold<T>, origin: SessionOrigin, client: ClientName, claim: Claim },
    Refuse(AttachRefusal),
    Farewell(Result<Vec<Frame>, AttachRefusal>),
}

/// An upgrade under way: the session is not removed while this lives.
struct Hold<T: Send + 'static> {
    session: Arc<Shared<T>>,
}

impl<T: Send + 'static> Drop for Hold<T> {
    fn drop(&mut self) {
        self.session.with_core(|core, now| {
            core.machine.release_hold(now);
            if !core.machine.has_handler() {
                core.handler_type = None;
            }
        });
    }
}

/// Stands for a handler where there is none to run.
#[derive(Debug)]
pub struct Refused;

/// An upgrade that may become an attachment once its socket is there.
#[must_use = "run it with the socket, or the client waits for nothing"]
pub struct Accepted<T: Send + 'static, F>(Box<Arriving<T, F>>);

/// Boxed: adapters carry it through futures that live as long as the connection.
struct Arriving<T: Send + 'static, F> {
    plan: Plan<T>,
    peer: Peer,
    request: Box<AttachRequest>,
    offer: Offer,
    name: Option<Cow<'static, str>>,
    registry: Arc<Registry<T>>,
    handler: F,
}

impl<T, F, Fut> Accepted<T, F>
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    /// Attaches the socket and moves its frames until it is gone. The first attach of a session starts the
    /// handler; on later ones the closure is dropped uncalled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future detaches the transport; the session and its handler go on.
    pub fn run<S: Transport + 'static>(self, socket: S) -> BoxFuture<'static, ()> {
        // Boxed apart: the future of a live connection need not be as large as all that is done before.
        let begin = self.begin(socket).boxed();
        async move {
            if let Some(pump) = begin.await {
                pump.await;
            }
        }
        .boxed()
    }

    /// Attaches the socket, and returns what moves its frames; `None` if it was refused.
    async fn begin<S: Transport + 'static>(self, socket: S) -> Option<BoxFuture<'static, ()>> {
        let Arriving { plan, peer, request, offer, name, registry, handler } = *self.0;
        let (hold, origin, client, claim) = match plan {
            Plan::Attach { hold, origin, client, claim } => (hold, origin, client, claim),
            Plan::Refuse(refusal) => {
                pump::refuse(socket, refusal, offer.is_resumable()).await;
                return None;
            }
            Plan::Farewell(Ok(frames)) => {
                pump::say(socket, frames).await;
                return None;
            }
            Plan::Farewell(Err(refusal)) => {
                pump::refuse(socket, refusal, true).await;
                return None;
            }
        };
        let session = Arc::clone(&hold.session);
        is_in_the_store(&session).await;
        let token = session.id().token();
        let arrival =
            Arrival { client, info: peer, origin: origin.into(), claim, nonce: random::bytes() };
        let attached = session.with_core(|core, now| {
            let seen = core.machine.newest_attachment();
            // Asked again under the lock: a drain closes every transport that it finds there, and another
            // upgrade may have started another handler.
            if registry.drain.is_draining() || core.departed {
                let retry = Some(registry.drain.retry());
                return Err((AttachRefusal { close: Close::RESTARTING, retry }, seen));
            }
            if core.machine.has_handler() && core.handler_type != Some(HandlerType::of::<F>()) {
                return Err((AttachRefusal { close: Close::ANOTHER_HANDLER, retry: None }, seen));
            }
            let number =
                core.machine.attach(arrival, &token, now).map_err(|refusal| (refusal, seen))?;
            core.keep_request(peer.serial, request);
            let waits = core.machine.waits_for_commit(number);
            core.changed(if waits { Urgency::Now } else { Urgency::Soon });
            let starts = core.machine.start_handler(now);
            if starts {
                core.handler_type = Some(HandlerType::of::<F>());
                if name.is_some() || core.handler_name().is_some() {
                    core.seldom_mut().handler_name = name;
                }
            }
            let restored = starts && std::mem::take(&mut core.restored);
            let origin = if restored { SessionOrigin::Restored } else { origin };
            Ok((number, starts, origin))
        });
        drop(registry);
        match attached {
            Err((refusal, seen)) => {
                observe::refused(refusal.close.code);
                tracing::debug!(session = %session.id().short(), code = refusal.close.code, "attach refused");
                drop(hold);
                let superseded = refusal.close == Close::SUPERSEDED;
                if pump::refuse(socket, refusal, offer.is_resumable()).await && superseded {
                    session.with_core(|core, _| core.machine.handle_refusal_answered(client, seen));
                }
                None
            }
            Ok((number, starts, origin)) => {
                log_attach(&session, number, &offer);
                let turn = pump::Turn::new(Arc::clone(&session), number);
                // Only now: the transport holds the session from here on.
                drop(hold);
                if starts {
                    handler::start(&session, origin, handler);
                } else {
                    drop(handler);
                }
                Some(pump::run(turn, socket))
            }
        }
    }
}

impl<T: Send + 'static> Accepted<T, Refused> {
    /// Accepts the socket and tells the client that it is refused.
    pub async fn run_refused<S: Transport>(self, socket: S) {
        if let Plan::Refuse(refusal) = self.0.plan {
            pump::refuse(socket, refusal, self.0.offer.is_resumable()).await;
        }
    }
}

/// A client that has been told of a session must find it after a crash. A store that fails or hangs is no
/// reason to keep it out.
async fn is_in_the_store<T: Send + 'static>(session: &Shared<T>) {
    let new = session.with_core(|core, _| {
        let new = core.durable.as_ref().is_some_and(|durable| !durable.is_stored());
        // Where the outbox is durable the machine holds the hello, for the client's record, too.
        let new = new && !core.restored && !core.machine.rules().durable_outbox;
        if new {
            core.changed(Urgency::Now);
        }
        new
    });
    if new {
        let _ = tokio::time::timeout(STORING, session.wait_saved(Urgency::Now)).await;
    }
}

fn log_attach<T>(session: &Shared<T>, number: AttachmentNumber, offer: &Offer) {
    observe::attached(offer.is_resumable());
    tracing::debug!(
        session = %session.id().short(),
        attachment = number.get(),
        resumable = offer.is_resumable(),
        "attached"
    );
}

/// The session that a cursor names, if it can be one of ours.
fn continued_session(offer: &Offer) -> Option<SessionId> {
    match offer {
        Offer::Resume { cursor, .. } => cursor.session.as_str().parse().ok(),
        Offer::Plain | Offer::Fresh { .. } => None,
    }
}

fn offer(parts: &Parts) -> Result<Offer, Refusal> {
    let values = parts.headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    // A value that is no text cannot be an offer of ours; the WebSocket library deals with it.
    let names =
        values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    Offer::parse(names.map(str::trim))
        .map_err(|malformed| Refusal::new(StatusCode::BAD_REQUEST, malformed.to_string()))
}

impl<T: Send + 'static> fmt::Debug for Upgrade<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upgrade").field("context", &self.context).finish_non_exhaustive()
    }
}

impl<T: Send + 'static, F> fmt::Debug for Accepted<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
