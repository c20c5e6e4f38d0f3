//! An upgrade whose session is known, and its attachment.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use session_resume_proto::{
    AttachmentNumber, Moment,
    session::{
        Access, Arrival, Attached, Carrier, ClientName, MOVED_RETRY, Refusal as AttachRefusal,
    },
    wire::{Close, CloseKind, Offer},
};
use tokio::time::Instant;
use tracing::Span;

use super::{STORING, resolve::claim_on, stand::Stand};
use crate::{
    Identity, LiveSession, SessionId, SessionOrigin,
    live::{
        ended::Ended,
        handler, pump,
        registry::{Registry, soon},
        session::{AttachRequest, Core, IsUrgent, Peer, Shared},
    },
    words::{
        cause::Cause,
        durability::{SavedBy, Urgency},
        handler_type::HandlerType,
        key::SessionKey,
        observe,
        outcome::IntoOutcome,
        path::UpgradePath,
        peer_addr::PeerAddr,
        random,
        transport::Transport,
    },
};

/// An upgrade that may become an attachment once its socket is there.
#[must_use = "run it with the socket, or the client waits for nothing"]
pub struct Accepted<T: Send + 'static, F>(pub(super) Box<Arriving<T, F>>);

/// Boxed: adapters carry it through futures that live as long as the connection.
pub(super) struct Arriving<T: Send + 'static, F> {
    pub(super) stand: Stand<T>,
    pub(super) newcomer: Newcomer<T>,
    pub(super) handler: F,
    pub(super) is_urgent: Option<IsUrgent>,
}

/// The client of an upgrade, and what is known of it.
pub(super) struct Newcomer<T> {
    pub(super) registry: Arc<Registry<T>>,
    pub(super) client: ClientName,
    pub(super) access: Access,
    /// Until when it may stay.
    pub(super) valid_until: Option<Instant>,
    pub(super) offer: Offer,
    /// Where it comes from, if the server has told.
    pub(super) from: Option<PeerAddr>,
    /// The span of its request, which stays open until the client is attached.
    pub(super) asked_in: Span,
    /// What carries its frames.
    pub(super) carrier: Carrier,
    pub(super) pass: Pass,
}

/// What the session is given when the client attaches, or compares.
pub(super) struct Pass {
    pub(super) peer: Peer,
    pub(super) request: Box<AttachRequest>,
    /// The key of its request.
    pub(super) key: SessionKey,
    pub(super) path: UpgradePath,
    pub(super) handler: HandlerType,
    pub(super) name: Option<Cow<'static, str>>,
}

impl<T, F, Fut> Accepted<T, F>
where
    T: Send + 'static,
    F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
    Fut: Future<Output: IntoOutcome> + Send + 'static,
{
    /// Says what carries the frames of the transport that it will be run with; otherwise a WebSocket does.
    pub fn carried_by(mut self, carrier: Carrier) -> Self {
        self.0.newcomer.carrier = carrier;
        self
    }

    /// Attaches the socket and moves its frames until it is gone. The first attach of a session starts the
    /// handler; on later ones the closure is dropped uncalled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future detaches the transport; the session and its handler go on.
    pub fn run<S: Transport + 'static>(self, socket: S) -> BoxFuture<'static, ()> {
        // Boxed apart: the future of a live connection need not hold the memory of all that is done before.
        let begin = self.begin(socket).boxed();
        async move {
            if let Some(pump) = begin.await {
                pump.await;
            }
        }
        .boxed()
    }

    /// Attaches the socket, and returns what moves its frames; `None` if it was refused.
    ///
    /// What most attachments do not wait for is boxed, so that they need not hold its memory.
    async fn begin<S: Transport + 'static>(self, socket: S) -> Option<BoxFuture<'static, ()>> {
        let Arriving { stand, newcomer, handler, is_urgent } = *self.0;
        let (hold, origin) = match stand {
            Stand::Here(hold, origin) => (hold, origin),
            Stand::Ended(id, ended) => {
                newcomer.farewell(id, &ended, socket).boxed().await;
                return None;
            }
            Stand::Refused(refused) => {
                refused.run(socket).boxed().await;
                return None;
            }
        };
        let session = Arc::clone(&hold.session);
        if newcomer.registry.node().is_some() {
            // The hello after the confirm, which is begun after the offer has come.
            if let Err(close) = newcomer.registry.confirm_attach(&session).boxed().await {
                drop(hold);
                newcomer.sent_away(close, socket).boxed().await;
                return None;
            }
        } else if session.is_durable() {
            is_in_the_store(&session).boxed().await;
        }
        let attached = newcomer.attach(&session, origin);
        // Only now: the transport holds the session from here on.
        drop(hold);
        match attached {
            Ok(Entered { turn, starts }) => {
                match starts {
                    Some((origin, asked_in)) => {
                        handler::start(&session, origin, handler, is_urgent, &asked_in);
                    }
                    None => drop(handler),
                }
                Some(pump::run(turn, socket))
            }
            Err(turned_away) => {
                turned_away.tell(&session, socket).boxed().await;
                None
            }
        }
    }
}

/// A client that has its turn.
struct Entered<T: Send + 'static> {
    turn: pump::Turn<T>,
    /// It is the first, so it starts the handler: how the session came to be, and the span of the request.
    starts: Option<(SessionOrigin, Span)>,
}

/// A client that has come to its session and may not attach.
struct TurnedAway {
    refusal: AttachRefusal,
    resumable: bool,
    client: ClientName,
    /// The newest attachment when it was turned away.
    seen: AttachmentNumber,
}

impl<T: Send + 'static> Newcomer<T> {
    /// Attaches the client to the session, or finds out why not.
    fn attach(
        self,
        session: &Arc<Shared<T>>,
        origin: SessionOrigin,
    ) -> Result<Entered<T>, TurnedAway> {
        let Self { registry, client, access, valid_until, offer, from, asked_in, carrier, pass } =
            self;
        let (id, resumable) = (session.id(), offer.is_resumable());
        let arrival = Arrival {
            client,
            access,
            info: pass.peer,
            origin,
            claim: claim_on(&offer, id),
            nonce: random::bytes(),
        };
        let attached = session.with_core(|core, now| {
            let seen = core.machine.newest_attachment();
            // It may have waited for the store. A client that may not stay takes no other client's place.
            if valid_until.is_some_and(|at| at <= Instant::now()) {
                let refusal = AttachRefusal { close: Close::REAUTHENTICATE, retry: None };
                return Err((Cause::Application, refusal, seen));
            }
            let (attached, starts) = pass
                .attach(&registry, (id, core), arrival, now)
                .map_err(|(cause, refusal)| (cause, refusal, seen))?;
            core.machine.note_carrier(attached.number, carrier);
            Ok((attached, starts))
        });
        let attached = attached.map(|(attached, starts)| {
            let (number, behind) = (attached.number, attached.behind);
            let turn = pump::Turn::new(Arc::clone(session), number, behind, valid_until);
            observe::attached(&attached, resumable);
            registry.last_minutes.attached(&attached, registry.clock().now());
            tracing::debug!(
                session = %id.short(),
                identity = %Identity::of_tag(client.identity).short_hash(),
                attachment = attached.number.get(),
                resumable,
                read_only = access == Access::ReadOnly,
                status = observe::status(attached.status),
                replaying = attached.behind,
                gap = attached.gap.is_some(),
                peer = from.map(|PeerAddr(addr)| tracing::field::display(addr.ip())),
                active = registry.attached(),
                "attached"
            );
            Entered { turn, starts: starts.map(|origin| (origin, asked_in)) }
        });
        attached.map_err(|(cause, refusal, seen)| {
            observe::refused(cause, refusal.close.code);
            tracing::debug!(session = %id.short(), code = refusal.close.code, "attach refused");
            TurnedAway { refusal, resumable, client, seen }
        })
    }

    /// Tells the client to come back: another node has the session, or this one may not speak for it now.
    async fn sent_away<S: Transport>(self, close: Close, socket: S) {
        let retry = Some(newcomer_retry(&close));
        let refusal = AttachRefusal { close, retry };
        observe::refused(Cause::of_close(&refusal.close), refusal.close.code);
        pump::refuse(socket, refusal, self.offer.is_resumable()).await;
    }

    /// Tells the client the outcome of its session.
    async fn farewell<S: Transport>(self, id: SessionId, ended: &Ended, socket: S) {
        let farewell = ended.counts.farewell(
            self.client,
            &id.wire_id(),
            &claim_on(&self.offer, id),
            ended.outcome.status(),
            self.registry.rules(),
        );
        match farewell {
            Ok(frames) => pump::say(socket, frames).await,
            Err(refusal) => {
                if refusal.close.kind() != CloseKind::Done {
                    observe::refused(Cause::of_close(&refusal.close), refusal.close.code);
                }
                pump::refuse(socket, refusal, true).await;
            }
        }
    }
}

/// When a client that is sent away shall come back.
pub(super) fn newcomer_retry(close: &Close) -> Duration {
    const BUSY: Duration = Duration::from_secs(1);
    // Many may be told at the same time.
    let jitter = soon();
    let is_moved = close.kind() == CloseKind::Moved;
    if is_moved { jitter } else { BUSY + jitter * 8 }
}

impl Pass {
    /// Attaches the client under the session's lock. Returns how the session came to be if the handler starts now.
    fn attach<T: Send + 'static>(
        self,
        registry: &Registry<T>,
        (session, core): (SessionId, &mut Core),
        arrival: Arrival<Peer>,
        now: Moment,
    ) -> Result<(Attached, Option<SessionOrigin>), (Cause, AttachRefusal)> {
        self.check(registry, session, core)?;
        let (serial, origin) = (arrival.info.serial, arrival.origin);
        let attached = core
            .machine
            .attach(arrival, &session.wire_id(), now)
            .map_err(|refusal| (Cause::of_close(&refusal.close), refusal))?;
        let starts = self.start(session, core, origin, now);
        core.keep_request(serial, self.request);
        let waits = core.machine.waits_for_commit(attached.number);
        core.changed(if waits { Urgency::Now } else { Urgency::Soon });
        Ok((attached, starts))
    }

    /// Notes that the handler starts now, if it does; returns how the session came to be.
    pub(super) fn start(
        &self,
        session: SessionId,
        core: &mut Core,
        origin: SessionOrigin,
        now: Moment,
    ) -> Option<SessionOrigin> {
        if !core.machine.start_handler(now) {
            return None;
        }
        core.handler_type = Some(self.handler);
        self.path.start(&mut core.handler_path, session);
        if self.name.is_some() || core.handler_name().is_some() {
            core.rare_mut().handler_name.clone_from(&self.name);
        }
        let restored = core.durable.as_ref().is_some_and(|it| it.is_restored);
        Some(if restored { SessionOrigin::Restored } else { origin })
    }

    /// Asks again under the lock: a drain closes every transport that it finds there, and another upgrade may have
    /// started another handler, or this one on another path.
    pub(super) fn check<T: Send + 'static>(
        &self,
        registry: &Registry<T>,
        session: SessionId,
        core: &Core,
    ) -> Result<(), (Cause, AttachRefusal)> {
        let refused = |cause, close, retry| Err((cause, AttachRefusal { close, retry }));
        if registry.drain.is_draining() || core.life().has_left() {
            return refused(Cause::Draining, Close::RESTARTING, Some(registry.drain.retry()));
        }
        // The identity was changed meanwhile, and the session is not under this key any more.
        if core.key != self.key {
            return refused(Cause::Busy, Close::TRY_AGAIN, Some(MOVED_RETRY));
        }
        if !core.machine.has_handler() {
            return Ok(());
        }
        if core.handler_type != Some(self.handler) {
            return refused(Cause::Handler, Close::ANOTHER_HANDLER, None);
        }
        if !self.path.may_enter(core.handler_path, session) {
            return refused(Cause::Path, Close::ANOTHER_PATH, None);
        }
        Ok(())
    }
}

impl TurnedAway {
    /// Tells the client why, and the session if the client has heard that it was superseded.
    async fn tell<T: Send + 'static, S: Transport>(self, session: &Shared<T>, socket: S) {
        let Self { refusal, resumable, client, seen } = self;
        let superseded = refusal.close.kind() == CloseKind::Superseded;
        let told = pump::refuse(socket, refusal, resumable).await;
        if told && superseded {
            session.step(|core| core.machine.handle_refusal_answered(client, seen));
        }
    }
}

/// A client that has been told of a session must find it after a crash. A store that fails or hangs is no
/// reason to keep it out.
pub(super) async fn is_in_the_store<T: Send + 'static>(session: &Shared<T>) {
    let new = session.step(|core| {
        let new = core.durable.as_ref().is_some_and(|durable| !durable.is_stored());
        // Where the outbox is durable the machine holds the hello, for the client's record, too.
        let new = new && !core.machine.rules().durable_outbox;
        if new {
            core.changed(Urgency::Now);
        }
        new
    });
    if new {
        let _ =
            tokio::time::timeout(STORING, session.wait_saved(Urgency::Now, SavedBy::Layer)).await;
    }
}

impl<T: Send + 'static, F> fmt::Debug for Accepted<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = &self.0.newcomer.pass.peer;
        f.debug_struct("Accepted").field("peer", peer).finish_non_exhaustive()
    }
}
