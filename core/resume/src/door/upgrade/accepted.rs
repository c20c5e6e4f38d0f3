//! An upgrade whose session is known, and its attachment.

use std::{borrow::Cow, fmt, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use session_resume_proto::{
    session::{Arrival, MOVED_RETRY, Refusal as AttachRefusal},
    wire::{Close, CloseKind, Offer},
};

use super::{STORING, resolve::Plan};
use crate::words::path::UpgradePath;
use crate::{
    Identity, LiveSession, SessionId, SessionOrigin,
    live::{
        handler, pump,
        registry::Registry,
        session::{AttachRequest, Core, Peer, shared::Shared},
    },
    words::{
        cause::Cause, durability::Urgency, handler_type::HandlerType, key::SessionKey, observe,
        outcome::IntoOutcome, peer_addr::PeerAddr, random, transport::Transport,
    },
};

/// Stands for a handler where there is none to run.
#[derive(Debug)]
pub struct Refused;

/// An upgrade that may become an attachment once its socket is there.
#[must_use = "run it with the socket, or the client waits for nothing"]
pub struct Accepted<T: Send + 'static, F>(pub(super) Box<Arriving<T, F>>);

/// Boxed: adapters carry it through futures that live as long as the connection.
pub(super) struct Arriving<T: Send + 'static, F> {
    pub(super) plan: Plan<T>,
    pub(super) peer: Peer,
    /// The key of its request.
    pub(super) key: SessionKey,
    /// Where it comes from, if the server has told.
    pub(super) from: Option<PeerAddr>,
    pub(super) request: Box<AttachRequest>,
    pub(super) offer: Offer,
    pub(super) name: Option<Cow<'static, str>>,
    pub(super) path: UpgradePath,
    pub(super) registry: Arc<Registry<T>>,
    pub(super) handler: F,
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
        let Arriving { plan, peer, key, from, request, offer, name, path, registry, handler } =
            *self.0;
        let (hold, origin, client, claim) = match plan {
            Plan::Attach { hold, origin, client, claim } => (hold, origin, client, claim),
            Plan::Refuse(cause, refusal) => {
                observe::refused(cause, refusal.close.code);
                pump::refuse(socket, refusal, offer.is_resumable()).boxed().await;
                return None;
            }
            Plan::Farewell(Ok(frames)) => {
                pump::say(socket, frames).boxed().await;
                return None;
            }
            Plan::Farewell(Err(refusal)) => {
                if refusal.close.kind() != CloseKind::Done {
                    observe::refused(Cause::of_close(&refusal.close), refusal.close.code);
                }
                pump::refuse(socket, refusal, true).boxed().await;
                return None;
            }
        };
        let session = Arc::clone(&hold.session);
        if session.is_durable() {
            is_in_the_store(&session).boxed().await;
        }
        let id = session.id().wire_id();
        let arrival = Arrival { client, info: peer, origin, claim, nonce: random::bytes() };
        let attached = session.with_core(|core, now| {
            let seen = core.machine.newest_attachment();
            let handler = HandlerType::of::<F>();
            if let Some((cause, refusal)) =
                refuses(&registry, (session.id(), core), &key, &path, handler)
            {
                return Err((cause, refusal, seen));
            }
            let attached = core.machine.attach(arrival, &id, now).map_err(|refusal| {
                let cause = Cause::of_close(&refusal.close);
                (cause, refusal, seen)
            })?;
            let number = attached.number;
            core.keep_request(peer.serial, request);
            let waits = core.machine.waits_for_commit(number);
            core.changed(if waits { Urgency::Now } else { Urgency::Soon });
            let starts = core.machine.start_handler(now);
            if starts {
                core.handler_type = Some(handler);
                path.start(&mut core.handler_path, session.id());
                if name.is_some() || core.handler_name().is_some() {
                    core.rare_mut().handler_name = name;
                }
            }
            let restored = starts && std::mem::take(&mut core.restored);
            let origin = if restored { SessionOrigin::Restored } else { origin };
            Ok((attached, starts, origin))
        });
        match attached {
            Err((cause, refusal, seen)) => {
                drop(registry);
                observe::refused(cause, refusal.close.code);
                tracing::debug!(session = %session.id().short(), code = refusal.close.code, "attach refused");
                drop(hold);
                let superseded = refusal.close.kind() == CloseKind::Superseded;
                let told = pump::refuse(socket, refusal, offer.is_resumable()).boxed().await;
                if told && superseded {
                    session.step(|core| core.machine.handle_refusal_answered(client, seen));
                }
                None
            }
            Ok((attached, starts, origin)) => {
                let turn = pump::Turn::new(Arc::clone(&session), attached.number);
                observe::attached(&attached, offer.is_resumable());
                tracing::debug!(
                    session = %session.id().short(),
                    identity = %Identity::of_tag(client.identity).short(),
                    attachment = attached.number.get(),
                    resumable = offer.is_resumable(),
                    status = observe::status(attached.status),
                    replaying = attached.behind,
                    gap = attached.gap.is_some(),
                    peer = from.map(|PeerAddr(addr)| tracing::field::display(addr.ip())),
                    active = registry.attached(),
                    "attached"
                );
                drop(registry);
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
        if let Plan::Refuse(cause, refusal) = self.0.plan {
            observe::refused(cause, refusal.close.code);
            pump::refuse(socket, refusal, self.0.offer.is_resumable()).await;
        }
    }
}

/// Asked again under the lock: a drain closes every transport that it finds there, and another upgrade may have
/// started another handler, or this one on another path.
fn refuses<T: Send + 'static>(
    registry: &Registry<T>,
    (session, core): (SessionId, &Core),
    key: &SessionKey,
    path: &UpgradePath,
    handler: HandlerType,
) -> Option<(Cause, AttachRefusal)> {
    let refusal = |cause, close, retry| Some((cause, AttachRefusal { close, retry }));
    if registry.drain.is_draining() || core.departed {
        return refusal(Cause::Draining, Close::RESTARTING, Some(registry.drain.retry()));
    }
    // The identity was changed meanwhile, and the session is not under this key any more.
    if core.key != *key {
        return refusal(Cause::Busy, Close::TRY_AGAIN, Some(MOVED_RETRY));
    }
    if !core.machine.has_handler() {
        return None;
    }
    if core.handler_type != Some(handler) {
        return refusal(Cause::Handler, Close::ANOTHER_HANDLER, None);
    }
    if !path.may_enter(core.handler_path, session) {
        return refusal(Cause::Path, Close::ANOTHER_PATH, None);
    }
    None
}

/// A client that has been told of a session must find it after a crash. A store that fails or hangs is no
/// reason to keep it out.
async fn is_in_the_store<T: Send + 'static>(session: &Shared<T>) {
    let new = session.step(|core| {
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

impl<T: Send + 'static, F> fmt::Debug for Accepted<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accepted").field("peer", &self.0.peer).finish_non_exhaustive()
    }
}
