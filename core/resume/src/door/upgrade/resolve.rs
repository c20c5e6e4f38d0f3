//! Which session an upgrade belongs to, and whether it may go on.

use std::{iter, sync::Arc, time::Duration};

use session_resume_proto::{
    WireId,
    session::{Claim, ClientName},
    wire::Offer,
};
use tokio::time::Instant;

use super::{
    STORING, Upgrade,
    stand::{Hold, Stand},
};
use crate::{
    OutcomeStatus, RequestView, SessionId, SessionOrigin,
    durable::restore::{Apart, Asks},
    live::{
        ended::Ended,
        registry::Registry,
        session::{Keeper as _, Purpose, Shared},
    },
    words::{
        context::RequestContext, handler_type::HandlerType, key::SessionKey, refusal::Refusal,
    },
};

/// Looks for the session of a request whose handler is not known yet; the table is asked again only after a wait.
pub(super) async fn look<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    req: RequestView<'_>,
    offer: &Offer,
) -> Result<Option<Stand<T>>, Apart> {
    let mut here = registry.by_key(context.key());
    let moved = registry.check_moved(context, offer, continued_session(offer), here.as_ref());
    let delay =
        here.as_ref().filter(|_| *offer == Offer::Plain).map_or(Duration::ZERO, |session| {
            session.lock().machine.plain_delay(registry.clock().now())
        });
    if !delay.is_zero() {
        drop(here);
        tokio::time::sleep(delay).await;
        here = registry.by_key(context.key());
    }
    moved?;
    let held = hold(registry, context, req, offer, here).await?;
    let is_held = |id| held.as_ref().is_some_and(|(hold, _)| hold.session.id() == id);
    let elsewhere =
        continued_session(offer).filter(|id| !is_held(*id) && registry.by_id(*id).is_none());
    if let Some(id) = elsewhere {
        let ended = registry.find_ended(id).await.map_err(|error| Refusal::by_store(&error))?;
        if let Some(ended) = ended.filter(|ended| is_told(ended, context.key())) {
            return Ok(Some(Stand::Ended(id, ended)));
        }
    }
    Ok(held.map(|(hold, origin)| Stand::Here(hold, origin)))
}

/// Takes hold of the session: of the one that is `here`, or of the store's.
async fn hold<T: Send + 'static>(
    registry: &Registry<T>,
    context: &RequestContext,
    req: RequestView<'_>,
    offer: &Offer,
    mut here: Option<Arc<Shared<T>>>,
) -> Result<Option<(Hold<T>, SessionOrigin)>, Apart> {
    let asks = Asks { context, req, continues: continuation(offer), looks: false };
    loop {
        if !registry.needs_no_store(context) {
            drop(here);
            // Which handler asks is not known yet; the attach checks it.
            if let Some(session) = registry.ready(&asks, &Purpose::Restore).await? {
                return Ok(Some((Hold::counted(session), SessionOrigin::Restored)));
            }
            here = registry.by_key(context.key());
        }
        let Some(session) = here else {
            return Ok(None);
        };
        let (taken, on_its_way) = session.with_core(|core, now| {
            let taken = Purpose::Restore.take(core, context.key(), now);
            (taken, core.life().is_on_its_way())
        });
        if taken {
            if context.comes_back() {
                registry.has_come_back(&session);
            }
            return Ok(Some((Hold::counted(session), SessionOrigin::Reused)));
        }
        if !on_its_way {
            return Ok(None);
        }
        // On its way to the store: wait for it there.
        here = None;
    }
}

impl<T: Send + 'static> Upgrade<T> {
    /// Finds out whether this handler may have the session, or starts one. `found`: where the attach stood before the
    /// handler was known.
    pub(super) fn resolve(
        &self,
        found: Option<Stand<T>>,
        handler: HandlerType,
    ) -> Result<Stand<T>, Refusal> {
        let (here, ended) = match found {
            Some(Stand::Refused(refused)) => return Ok(Stand::Refused(refused)),
            _ if self.valid_until.is_some_and(|at| at <= Instant::now()) => {
                return Err(Refusal::run_out());
            }
            Some(Stand::Here(hold, origin)) => (Some((hold, origin)), None),
            Some(Stand::Ended(_, ended)) => (None, Some(ended)),
            None => (None, None),
        };
        match self.continued(here.as_ref(), ended)? {
            Some(Stand::Here(hold, origin)) => self.admit(hold, origin, handler),
            Some(told) => Ok(told),
            None => {
                let (hold, origin) = self.open(here.as_ref(), handler)?;
                self.admit(hold, origin, handler)
            }
        }
    }

    /// Finds the session of the cursor, if it is the one under the request's own key.
    ///
    /// A continuation is not put to the reuse policy: a cursor of an epoch that the session has had, from an
    /// identity that is in it.
    fn continued(
        &self,
        here: Option<&(Hold<T>, SessionOrigin)>,
        ended: Option<Ended>,
    ) -> Result<Option<Stand<T>>, Refusal> {
        let (Offer::Resume { cursor, .. }, Some(id)) =
            (&self.offer, continued_session(&self.offer))
        else {
            return Ok(None);
        };
        let here = here.filter(|(hold, _)| hold.session.id() == id);
        let origin = here.map_or(SessionOrigin::Reused, |(_, origin)| *origin);
        let here = here.map(|(hold, _)| Arc::clone(&hold.session));
        // One that has ended is not under its key any more.
        let by_id = iter::once_with(|| self.registry.by_id(id)).flatten();
        let continues = |session: &Arc<Shared<T>>| {
            session.step(|core| {
                let ours = core.key == *self.context.key() && core.is_continued();
                let continues = ours
                    && core.machine.knows_epoch(&cursor.epoch)
                    && core.is_known_to(self.context.identity());
                if continues {
                    core.machine.hold();
                }
                continues
            })
        };
        if let Some(session) = here.into_iter().chain(by_id).find(continues) {
            let hold = Hold::counted(session);
            if self.registry.drain.is_draining() {
                return Err(Refusal::draining(self.registry.drain.retry()));
            }
            return Ok(Some(Stand::Here(hold, origin)));
        }
        let now = self.registry.clock().now();
        let ended = self.registry.outcomes().get(id, now).cloned().or(ended);
        let ended = ended.filter(|ended| is_told(ended, self.context.key()));
        if ended.is_none() && !self.context.comes_back() {
            self.registry.has_missed_cookie();
        }
        Ok(ended.map(|ended| Stand::Ended(id, ended)))
    }

    /// Takes the session that is held already, if the reuse policy lets it, or starts another.
    fn open(
        &self,
        here: Option<&(Hold<T>, SessionOrigin)>,
        handler: HandlerType,
    ) -> Result<(Hold<T>, SessionOrigin), Refusal> {
        let purpose = Purpose::Upgrade(handler);
        let here = here.map(|(hold, origin)| (Arc::clone(&hold.session), *origin));
        let now = self.registry.clock().now();
        let found = match here {
            // The policy has been asked before it was restored.
            Some((session, SessionOrigin::Restored))
                if session.take(&purpose, &self.context, now) =>
            {
                return Ok((Hold::counted(session), SessionOrigin::Restored));
            }
            // It may have ended since.
            here => here.map(|(session, _)| session).filter(|session| session.goes_on()),
        };
        let req = RequestView::from_parts(&self.parts);
        let opened = self.registry.open(&self.context, req, &purpose, found)?;
        let (session, origin) = opened
            .ok_or_else(|| Refusal::busy("the session is being stored, try again", STORING))?;
        Ok((Hold::counted(session), origin))
    }

    /// Checks whether a session that was found may go on with this handler.
    #[cfg(feature = "http")]
    pub(super) fn readmit(
        &self,
        hold: Hold<T>,
        origin: SessionOrigin,
        handler: HandlerType,
    ) -> Result<Stand<T>, Refusal> {
        if self.registry.drain.is_draining() {
            return Err(Refusal::draining(self.registry.drain.retry()));
        }
        self.admit(hold, origin, handler)
    }

    /// Checks whether the session is this handler's.
    fn admit(
        &self,
        mut hold: Hold<T>,
        origin: SessionOrigin,
        handler: HandlerType,
    ) -> Result<Stand<T>, Refusal> {
        let session = Arc::clone(&hold.session);
        session.with_core(|core, now| {
            match core.handler_type {
                Some(runs) if runs != handler => return Err(Refusal::another_handler()),
                _ if core.handler_name().is_some_and(|name| Some(name) != self.name.as_ref()) => {
                    return Err(Refusal::another_handler());
                }
                _ => {}
            }
            if !self.path.may_enter(core.handler_path, session.id()) {
                return Err(Refusal::another_path());
            }
            hold.will_start = core.handler_type.is_none();
            core.handler_type = Some(handler);
            if !core.machine.has_handler() {
                self.path.claim(&mut core.handler_path, session.id());
            }
            // A plain client is told before the 101; one that offers to resume when it attaches.
            if !self.offer.is_resumable() {
                let client = client_name(&self.offer, &self.context);
                let claim = claim_on(&self.offer, session.id());
                core.machine.admit(client, self.access, &claim, now).map_err(Refusal::by_attach)?;
            }
            Ok(())
        })?;
        Ok(Stand::Here(hold, origin))
    }
}

/// Whether the outcome is told to a client whose session has this key. An expired session is not told of: the client
/// gets a new one.
fn is_told(ended: &Ended, key: &SessionKey) -> bool {
    ended.key == *key && ended.outcome.status() != OutcomeStatus::Expired
}

/// Returns what the offer claims of this session.
pub(super) fn claim_on(offer: &Offer, session: SessionId) -> Claim {
    match offer {
        Offer::Plain => Claim::Plain,
        Offer::PlainAt(at) => Claim::PlainAt(*at),
        Offer::Fresh { .. } => Claim::Fresh,
        Offer::Resume { cursor, attachment, .. } if continued_session(offer) == Some(session) => {
            Claim::Cursor {
                epoch: cursor.epoch,
                received: cursor.received,
                attachment: *attachment,
            }
        }
        Offer::Resume { cursor, .. } => Claim::Lost { received: cursor.received },
    }
}

pub(super) fn client_name(offer: &Offer, context: &RequestContext) -> ClientName {
    let identity = context.identity().tag();
    match offer.client() {
        None => ClientName::plain(identity),
        Some(id) => ClientName::named(identity, *id),
    }
}

/// What a cursor claims to continue, if it can be a session of ours.
fn continuation(offer: &Offer) -> Option<(SessionId, WireId)> {
    match offer {
        Offer::Resume { cursor, .. } => Some((continued_session(offer)?, cursor.epoch)),
        Offer::Plain | Offer::PlainAt(_) | Offer::Fresh { .. } => None,
    }
}

/// The session that a cursor names, if it can be one of ours.
pub(super) fn continued_session(offer: &Offer) -> Option<SessionId> {
    match offer {
        Offer::Resume { cursor, .. } => cursor.session.as_str().parse().ok(),
        Offer::Plain | Offer::PlainAt(_) | Offer::Fresh { .. } => None,
    }
}
