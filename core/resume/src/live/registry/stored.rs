//! What the registry has to do with the store.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Flight, Registry, Reservation, Seat, lock};
use crate::{
    durable::snapshot::{Durable, Place, Pointer, queue::Item, record::SessionRecord},
    live::session::{
        Machine, Peer,
        shared::{Owner, Shared},
        state::StateCell,
    },
    words::{
        durability::Urgency,
        identity::{CookieName, Via},
        key::SessionKey,
        millis::Millis,
        path::HandlerPath,
        random,
        store::Stamp,
        wall,
    },
};

impl<T: Send + 'static> Registry<T> {
    /// Queues something for the saver.
    pub(crate) fn save(&self, item: Item<T>, urgency: Urgency) {
        if let Some(saver) = &self.saver {
            saver.push(item, urgency);
        }
    }

    /// Looks after a flush interval whether the session's handler is still at work.
    pub(crate) fn watch(&self, session: Arc<Shared<T>>) {
        if let Some(saver) = &self.saver {
            saver.watch(session);
        }
    }

    /// What is queued is wanted at once.
    pub(crate) fn hurry(&self) {
        if let Some(saver) = &self.saver {
            saver.hurry();
        }
    }

    /// A session that may hold what has killed the process tries again alone, if it comes to that.
    pub(crate) fn give_turns(&self, session: &Arc<Shared<T>>) {
        if let Some(saver) = &self.saver {
            saver.give_turns(session);
        }
    }

    /// Another process has taken the session over.
    pub(crate) fn lose(&self, session: &Arc<Shared<T>>) {
        if session.lock().departed {
            return;
        }
        tracing::warn!(session = %session.id().short(), "another process has taken the session over");
        session.lose();
        session.tell_savers();
        self.vacate_key(session);
        self.leave_room(session);
        self.forget(session);
    }

    /// The session is in the store and leaves memory.
    pub(crate) fn let_go(&self, session: &Arc<Shared<T>>) {
        session.stop();
        session.tell_savers();
        self.vacate_key(session);
        self.forget(session);
    }

    /// Rebuilds a session from its record; no request can find it yet.
    pub(crate) fn rebuild(
        &self,
        key: &SessionKey,
        record: &SessionRecord,
        state: T,
        stamp: Stamp,
        pointer: Pointer,
        name: CookieName,
    ) -> Arc<Shared<T>> {
        let identity = record.identity;
        let machine = Machine::restore(
            Arc::clone(&self.rules),
            record.machine.clone(),
            record.clean,
            u64::from_be_bytes(random::bytes()),
            record.created.age(Millis::now()),
            self.clock.now(),
            |_| Peer::gone(),
        );
        let mut durable = Durable::new(stamp, record.created, key);
        durable.place = Place::Ours(key.clone());
        // Its stamp and its expiry are the old owner's.
        durable.pointer = durable.pointer.max(pointer);
        let owner = Owner { identity, key: key.clone(), via: Via { name, secure: record.secure } };
        let state = StateCell::restored(state, record.iteration, record.updated);
        let session = Shared::build(self, record.session, owner, machine, state, Some(durable));
        let mut core = session.lock();
        core.restored = true;
        core.handler_path = HandlerPath::restored(record.path);
        if let Some(handler) = record.handler.clone() {
            core.rare_mut().handler_name = Some(handler.into());
        }
        drop(core);
        session
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
        session.lock().seat = Some(Seat::Known);
        self.ensure_sweeper();
        self.keys.insert(key, session);
        let now = self.clock.now();
        // It is as old as it was.
        let first_look = session.lock().machine.check_expiry(now).unwrap_or(now);
        self.insert_by_id(session, now, first_look);
        session.lock().recount();
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
        let mut left = self.config.stored_lifetime;
        if let (Some(lifetime), Some(created)) = (self.rules.max_lifetime, created) {
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
        trust.has_lasted(self.rules.unused_lifetime, Instant::now())
    }

    /// Looks at the wall clock; returns whether it has jumped since this was last asked.
    pub(crate) fn take_clock_jump(&self) -> bool {
        let mut trust = lock(&self.trust);
        trust.look(wall::now(), Instant::now());
        trust.take_jump()
    }
}
