//! Which session an upgrade belongs to, and whether it may go on.

use std::sync::Arc;

use session_resume_proto::{
    WireId,
    session::{Claim, ClientName, Frame, Refusal as AttachRefusal},
    wire::Offer,
};

use super::{STORING, Upgrade};
use crate::{
    RequestView, SessionId, SessionOrigin,
    durable::restore::Asks,
    live::{
        ended::Ended,
        registry::{Purpose, Registry},
        session::shared::Shared,
    },
    words::{cause::Cause, context::RequestContext, handler_type::HandlerType, refusal::Refusal},
};

impl<T: Send + 'static> Upgrade<T> {
    /// Finds out which session the request belongs to and whether it may go on.
    pub(super) fn resolve(&self, handler: HandlerType) -> Result<Plan<T>, Refusal> {
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
                let now = self.registry.clock().now();
                let taken = restored.filter(|session| session.take(&purpose, &self.context, now));
                let (session, origin) = match taken {
                    Some(session) => (session, SessionOrigin::Restored),
                    None => self.registry.open(&self.context, req, &purpose)?.ok_or_else(|| {
                        Refusal::busy("the session is being stored, try again", STORING)
                    })?,
                };
                let claim = self.claim_on(session.id());
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
                _ => {}
            }
            let session = hold.session.id();
            if !self.path.may_enter(core.handler_path, session) {
                return Err(Refusal::another_path());
            }
            core.handler_type = Some(handler);
            if !core.machine.has_handler() {
                self.path.claim(&mut core.handler_path, session);
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
    /// A continuation is not put to the reuse policy: a cursor of an epoch that the session has had, from an
    /// identity that is in it.
    fn continued(&self) -> Result<Option<Continued<T>>, Refusal> {
        let Offer::Resume { cursor, .. } = &self.offer else {
            return Ok(None);
        };
        let Some(id) = continued_session(&self.offer) else {
            return Ok(None);
        };
        let claim = self.claim_on(id);
        if let Some(session) = self.registry.by_id(id) {
            let taken = session.step(|core| {
                let ours = core.key == *self.context.key() && !core.removed && !core.leaving;
                let continues = ours
                    && core.machine.knows_epoch(&cursor.epoch)
                    && core.is_known_to(self.context.identity());
                if continues {
                    core.machine.hold();
                }
                continues
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
        let farewell = ended.counts.farewell(
            self.client_name(),
            &id.wire_id(),
            &claim,
            ended.outcome.status(),
            self.registry.rules(),
        );
        Ok(Some(Continued::Gone(farewell)))
    }

    /// Returns what the offer claims of this session.
    fn claim_on(&self, session: SessionId) -> Claim {
        match &self.offer {
            Offer::Plain => Claim::Plain,
            Offer::Fresh { .. } => Claim::Fresh,
            Offer::Resume { cursor, attachment, .. }
                if continued_session(&self.offer) == Some(session) =>
            {
                Claim::Cursor {
                    epoch: cursor.epoch,
                    received: cursor.received,
                    attachment: *attachment,
                }
            }
            Offer::Resume { cursor, .. } => Claim::Lost { received: cursor.received },
        }
    }

    fn client_name(&self) -> ClientName {
        let identity = self.context.identity().tag();
        match self.offer.client() {
            None => ClientName::plain(identity),
            Some(id) => ClientName::named(identity, *id),
        }
    }
}

/// What has been found for an upgrade before its handler is known.
pub(super) struct Found<T: Send + 'static> {
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
    pub(super) async fn look(
        registry: &Registry<T>,
        context: &RequestContext,
        req: RequestView<'_>,
        offer: &Offer,
    ) -> Result<Self, Refusal> {
        let asks = Asks { context, req, continues: continuation(offer), looks: false };
        // Which handler asks is not known yet; the attach checks it.
        let mut here = None;
        let restored = loop {
            if let Some(session) = registry.ready(&asks, &Purpose::Restore).await? {
                break Some(Hold { session });
            }
            let Some(session) = registry.by_key(context.key()) else {
                break None;
            };
            let (taken, leaving) = session.with_core(|core, now| {
                (Purpose::Restore.take(core, context.key(), now), core.leaving)
            });
            if taken {
                if context.comes_back() {
                    registry.has_come_back(&session);
                }
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

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { restored: None, _here: None, ended: None, refused: Some(refusal) }
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
pub(super) enum Plan<T: Send + 'static> {
    Attach { hold: Hold<T>, origin: SessionOrigin, client: ClientName, claim: Claim },
    Refuse(Cause, AttachRefusal),
    Farewell(Result<Vec<Frame>, AttachRefusal>),
}

/// An upgrade under way: the session is not removed while this lives.
pub(super) struct Hold<T: Send + 'static> {
    pub(super) session: Arc<Shared<T>>,
}

impl<T: Send + 'static> Drop for Hold<T> {
    fn drop(&mut self) {
        self.session.with_core(|core, now| {
            core.machine.release_hold(now);
            if !core.machine.has_handler() {
                core.handler_type = None;
                core.handler_path.release();
            }
        });
    }
}

/// What a cursor claims to continue, if it can be a session of ours.
fn continuation(offer: &Offer) -> Option<(SessionId, WireId)> {
    match offer {
        Offer::Resume { cursor, .. } => Some((continued_session(offer)?, cursor.epoch)),
        Offer::Plain | Offer::Fresh { .. } => None,
    }
}

/// The session that a cursor names, if it can be one of ours.
pub(super) fn continued_session(offer: &Offer) -> Option<SessionId> {
    match offer {
        Offer::Resume { cursor, .. } => cursor.session.as_str().parse().ok(),
        Offer::Plain | Offer::Fresh { .. } => None,
    }
}
