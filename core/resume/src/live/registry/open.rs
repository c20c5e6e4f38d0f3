//! The session of a request: found, or started.

use std::{sync::Arc, time::Duration};

use super::Registry;
use crate::{
    live::session::{CancelHandler, Durable, Owner, Purpose, Seat, SessionOrigin, Shared, phase},
    words::{
        context::RequestContext,
        id::SessionId,
        millis::Millis,
        observe,
        outcome::{Outcome, OutcomeStatus},
        refusal::Refusal,
        request::RequestView,
        reuse::{Candidate, Residence, ReuseDecision},
        store::Stamp,
    },
};

/// A session, and how its request has found it.
pub(crate) type Opened<T> = (Arc<Shared<T>>, SessionOrigin);

impl<T: Send + 'static> Registry<T> {
    /// Finds the session for a request, or starts it: the reuse policy decides. `None` if it is on its way to
    /// the store: it must be restored. `found` is a session that the request has found under its key already.
    pub(crate) fn open(
        &self,
        context: &RequestContext,
        req: RequestView<'_>,
        purpose: &Purpose,
        mut found: Option<Arc<Shared<T>>>,
    ) -> Result<Option<Opened<T>>, Refusal> {
        loop {
            if self.drain.is_draining() {
                return Err(Refusal::draining(self.drain.retry()));
            }
            let Some(session) = found.take().or_else(|| self.by_key(context.key())) else {
                if let Some(session) = self.start(context, req, purpose)? {
                    return Ok(Some((session, SessionOrigin::New)));
                }
                // Another request was faster.
                continue;
            };
            match self.config.reuse.decide(
                Residence::Live,
                || self.candidate(&session, context, purpose),
                req,
            ) {
                ReuseDecision::Reuse => {
                    if session.take(purpose, context, self.clock().now()) {
                        return Ok(Some((session, SessionOrigin::Reused)));
                    }
                }
                ReuseDecision::Fresh => {
                    let outcome =
                        Outcome::with_error(OutcomeStatus::Closed, "a fresh session was asked for");
                    session.end(outcome, CancelHandler::Yes);
                }
                ReuseDecision::Refuse(status) => return Err(Refusal::by_policy(status)),
            }
            {
                let core = session.lock();
                if core.key != *context.key() {
                    continue;
                }
                if core.life().is_on_its_way() {
                    // Into the store: only there will it be found whole.
                    return Ok(None);
                }
            }
            // The session is on its way out. The code that ended it may not have taken it out yet.
            self.vacate_key(&session);
        }
    }

    /// Finds the session without starting it, and without counting as activity.
    pub(crate) fn look(&self, context: &RequestContext) -> Option<Arc<Shared<T>>> {
        self.by_key(context.key()).filter(|session| session.lock().machine.ended().is_none())
    }

    fn candidate(
        &self,
        session: &Shared<T>,
        context: &RequestContext,
        purpose: &Purpose,
    ) -> Candidate {
        let now = self.clock().now();
        let core = session.lock();
        Candidate {
            residence: Residence::Live,
            phase: phase(core.machine.phase()),
            age: core.machine.age(now),
            transports: core.machine.transports(),
            same_identity: core.identity() == context.identity(),
            same_handler: core.handler_type.zip(purpose.handler()).map(|(runs, asks)| runs == asks),
        }
    }

    /// Starts a session unless there is one by now.
    fn start(
        &self,
        context: &RequestContext,
        req: RequestView<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Arc<Shared<T>>>, Refusal> {
        let (identity, key) = (context.identity(), context.key().clone());
        let id = SessionId::random();
        let seat = if context.is_known() { Seat::Known } else { Seat::Visitor };
        if let Err(full) = self.has_room(identity, &key, seat) {
            // Another request of this browser may have taken the last room, for the session that is asked for.
            return if self.by_key(&key).is_some() { Ok(None) } else { Err(full) };
        }
        self.has_room_in_store()?;
        // The application's code, so outside the locks; it may panic.
        let state = (self.config.state.make)(req);
        let via = context.via(&self.config.cookie, req);
        let owner = Owner { identity, key: key.clone(), via };
        let durable = self.config.store.is_some().then(|| {
            // Nothing is written yet.
            let stamp = Stamp { number: 0, ..Stamp::first(id.line(), self.new_owner()) };
            Durable::new(stamp, Millis::now(), &key)
        });
        // The time is asked for once: where that is slow, it would be a good part of what a first visit costs.
        let now = self.clock().now();
        let session = Shared::new(Arc::clone(self.home()), id, owner, state, durable, now);
        session.prepare(|core| {
            purpose.take(core, &key, now);
            core.seat = Some(seat);
        });
        let reserve = || self.reserve(identity, &key, id, seat);
        let room = self.keys.insert_with(&key, &session, reserve)?;
        let Some(room) = room else {
            return Ok(None);
        };
        room.keep();
        let mut lifetime = self.rules().max_lifetime.unwrap_or(Duration::MAX);
        if seat == Seat::Visitor {
            lifetime = lifetime.min(self.rules().unproven_lifetime);
        }
        let first_look = now + lifetime;
        self.insert_by_id(&session, now, first_look);
        // Counted from now on.
        session.step(|_| ());
        observe::started();
        self.last_minutes.started(now);
        tracing::debug!(session = %session.id().short(), "session started");
        Ok(Some(session))
    }
}
