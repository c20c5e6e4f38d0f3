//! What the registry has to do with the store.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Flight, Item, Registry, Reservation, lock};
use crate::{
    live::session::{Seat, Shared},
    words::{
        durability::Urgency,
        key::SessionKey,
        observe::{self, nodes::Lost},
        wall,
    },
};

impl<T: Send + 'static> Registry<T> {
    /// Queues something for the saver.
    pub(crate) fn push(&self, item: Item<T>, urgency: Urgency) {
        if let Some(saver) = self.saver() {
            saver.push(item, urgency);
        }
    }

    /// Another process has taken the session over.
    pub(crate) fn taken_over(&self, session: &Arc<Shared<T>>) {
        self.lost(session, Lost::Stale);
    }

    /// As [`taken_over`](Self::taken_over); says how.
    pub(crate) fn lost(&self, session: &Arc<Shared<T>>, how: Lost) {
        if !session.taken_over() {
            return;
        }
        observe::nodes::lost(how);
        tracing::warn!(session = %session.id().short(), "another process has taken the session over");
        self.vacate_key(session);
        self.leave_room(session);
        self.forget(session);
    }

    /// The session is stored, and leaves memory.
    pub(crate) fn stored(&self, session: &Arc<Shared<T>>) {
        session.stored();
        self.vacate_key(session);
        self.forget(session);
    }

    /// A session has been claimed; the caller is alone with its key.
    pub(crate) fn insert_restored(
        &self,
        key: &SessionKey,
        session: &Arc<Shared<T>>,
        room: Reservation<'_, T>,
    ) {
        room.keep();
        // A client has come back to it.
        let now = self.clock().now();
        let expiry = session.prepare(|core| {
            core.seat = Some(Seat::Known);
            core.machine.check_expiry(now)
        });
        self.keys.insert(key, session);
        // It is as old as it was.
        let first_look = expiry.unwrap_or(now);
        self.insert_by_id(session, now, first_look);
        // Counted from now on.
        session.step(|_| ());
    }

    /// Waits until no other task brings this key's session from the store or back.
    pub(crate) async fn alone(&self, key: &SessionKey) -> Flight<'_> {
        self.flights.start(key).await
    }

    /// Returns for how long the session's record must be kept: until no client can restore it any more, nor poll
    /// that it has expired.
    pub(crate) fn record_expires_in(&self, session: &Shared<T>) -> Duration {
        let (as_before, created) = {
            let core = session.lock();
            let durable = core.durable.as_ref();
            (durable.and_then(|it| it.expires_as_before), durable.map(|it| it.created.time()))
        };
        if let Some(as_before) = as_before {
            return wall::until(as_before);
        }
        // Its place among nodes, and no more.
        if self.node().is_some() && session.is_blank() {
            return self.rules().unproven_lifetime;
        }
        let mut left = self.config.stored_lifetime;
        if let (Some(lifetime), Some(created)) = (self.rules().max_lifetime, created) {
            left = left.min(wall::until(wall::later(created, lifetime)));
        }
        left.saturating_add(self.config.outcome_lifetime)
    }

    /// Whether to believe the wall clock that something has expired: the process has been up for `unused_lifetime`, and
    /// the clock has not jumped for as long. No client is to lose its session by a long outage or a wrong clock.
    pub(crate) fn trusts_the_clock(&self) -> bool {
        let mut trust = lock(&self.trust);
        // Looked at here, too: a request may come between a jump and the sweeper.
        trust.look(wall::now(), Instant::now());
        trust.has_lasted(self.rules().unused_lifetime, Instant::now())
    }

    /// Looks at the wall clock; returns whether it has jumped since this was last asked.
    pub(crate) fn take_clock_jump(&self) -> bool {
        let mut trust = lock(&self.trust);
        trust.look(wall::now(), Instant::now());
        trust.take_jump()
    }
}
