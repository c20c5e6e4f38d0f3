//! Sessions from the store, and back into it. With `snapshot`, the only module that touches it.

use std::{sync::Arc, time::SystemTime};

use session_resume_proto::session::Expiry;

use crate::{
    Outcome, OutcomeStatus, RequestView, SessionId,
    key::SessionKey,
    layer::RequestContext,
    observe,
    outcomes::Ended,
    refusal::Refusal,
    registry::{Purpose, Registry, Room},
    reuse::{Candidate, Phase, Residence, ReuseDecision},
    session::shared::{CancelHandler, Shared},
    snapshot::{
        MAX_TRIALS, Pointer, Urgency,
        record::{self, IdRecord, Millis, SessionRecord},
        saver::{Store, amend, chain},
    },
    store::{ErrorKind, StoreError, Versioned},
    wall,
};

/// What a request brings that may lead to a stored session.
pub(crate) struct Asks<'a> {
    pub(crate) context: &'a RequestContext,
    pub(crate) req: RequestView<'a>,
    /// The session of its cursor: a continuation is not put to the reuse policy.
    pub(crate) continues: Option<SessionId>,
    /// Only looks, so the policy is not asked either.
    pub(crate) looks: bool,
}

/// What polling finds in the store.
pub(crate) enum Found {
    /// An outcome, and who may see it.
    Ended(Ended),
    /// A session that waits for somebody to come back; whether its handler was at work when it got here.
    Stored { interrupted: bool },
}

/// A record with what it says.
struct Loaded {
    stored: Versioned,
    record: SessionRecord,
    /// What the record under its id says: that this is where it is, or nothing.
    pointer: Pointer,
}

impl<T: Send + 'static> Registry<T> {
    /// Makes sure that the request's session, if the store has it, is in memory, and claimed: nobody else
    /// owns it. Returns it, taken for `purpose`, if it had to be restored.
    ///
    /// Single flight per key. Nothing is said to the client before the claim is on disk.
    pub(crate) async fn ready(
        self: &Arc<Self>,
        asks: &Asks<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Arc<Shared<T>>>, Refusal> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let key = asks.context.key();
        if !store.store.is_exclusive() {
            self.confirm(&store, key).await;
        }
        if self.is_here(key) {
            return Ok(None);
        }
        let _alone = self.alone(key).await;
        if self.is_here(key) || self.drain.is_draining() {
            return Ok(None);
        }
        loop {
            let loaded = self.load(&store, key).await.map_err(|error| Refusal::by_store(&error))?;
            let Some(loaded) = loaded else {
                return Ok(None);
            };
            if !self.may_restore(&store, &loaded, asks).await? {
                return Ok(None);
            }
            let (identity, id) = (loaded.record.identity, loaded.record.session);
            let room = self.reserve(identity, key, id)?;
            match self.claim(&store, key, loaded, room).await {
                Ok(session) => {
                    session.with_core(|core, now| purpose.take(core, now));
                    return Ok(session.outcome().is_none().then_some(session));
                }
                // Somebody else has just claimed it; what is there now?
                Err(error) if error.kind() == ErrorKind::Stale => {}
                Err(error) => return Err(Refusal::by_store(&error)),
            }
        }
    }

    /// Whether a live session has the key that is not on its way to the store.
    fn is_here(&self, key: &SessionKey) -> bool {
        self.by_key(key).is_some_and(|session| !session.lock().leaving)
    }

    /// Loads what may be restored; clears away what may not.
    async fn load(&self, store: &Store, key: &SessionKey) -> Result<Option<Loaded>, StoreError> {
        let bytes = key.to_bytes();
        let at = store.session_key(&bytes);
        let Some(stored) = store.store.load(&at).await? else {
            return Ok(None);
        };
        self.has_seen(stored.generation);
        let record = record::decode::<SessionRecord>(&stored.bytes)?;
        // It has ended, or moved to another key; its old record is still there for a moment.
        if self.by_id(record.session).is_some() {
            return Ok(None);
        }
        let by_id = store.store.load(&store.id_key(record.session)).await?;
        let by_id = by_id.map(|stored| record::decode::<IdRecord>(&stored.bytes)).transpose()?;
        let pointer = match by_id {
            None => Pointer::None,
            Some(IdRecord::Pointer(there)) if there == bytes => Pointer::Wanted,
            // The process died before it could remove this: who has ended does not start again, and who knows
            // only the old key gets nothing.
            Some(IdRecord::Pointer(_) | IdRecord::Ended(_)) => {
                store.store.remove(&at, stored.generation).await?;
                return Ok(None);
            }
        };
        let loaded = Loaded { stored, record, pointer };
        if self.is_over(&loaded.stored, &loaded.record) {
            let ended = ended_of(key, &loaded.record, Outcome::by_rule(OutcomeStatus::Expired));
            // For as long as it could be asked for before the key was wanted again.
            let expires = loaded.stored.expires;
            self.end_stored(store, &loaded, &ended, expires).await?;
            return Ok(None);
        }
        Ok(Some(loaded))
    }

    /// Whether a stored session's time is up.
    fn is_over(&self, stored: &Versioned, record: &SessionRecord) -> bool {
        let now = wall::now();
        let until = stored.expires.checked_sub(self.config().outcome_lifetime);
        let lifetime = self.rules().max_lifetime;
        let outlived =
            lifetime.is_some_and(|lifetime| record.created.age(Millis::of(now)) >= lifetime);
        self.trusts_the_clock() && (outlived || until.is_none_or(|until| until <= now))
    }

    /// Asks the reuse policy about the stored session. A fresh start ends it.
    async fn may_restore(
        &self,
        store: &Store,
        loaded: &Loaded,
        asks: &Asks<'_>,
    ) -> Result<bool, Refusal> {
        let record = &loaded.record;
        if asks.looks || asks.continues == Some(record.session) {
            return Ok(true);
        }
        let candidate = Candidate {
            residence: Residence::Stored,
            phase: Phase::Suspended,
            age: record.created.age(Millis::now()),
            transports: 0,
            same_identity: record.identity == asks.context.identity(),
            same_handler: None,
        };
        match self.config().reuse.decide(|| candidate, asks.req) {
            ReuseDecision::Reuse => Ok(true),
            ReuseDecision::Refuse(status) => Err(Refusal::by_policy(status)),
            ReuseDecision::Fresh => {
                let outcome =
                    Outcome::with_error(OutcomeStatus::Closed, "a fresh session was asked for");
                let ended = ended_of(asks.context.key(), record, outcome);
                let expires = record::later(wall::now(), self.config().outcome_lifetime);
                self.end_stored(store, loaded, &ended, expires)
                    .await
                    .map_err(|error| Refusal::by_store(&error))?;
                Ok(false)
            }
        }
    }

    async fn end_stored(
        &self,
        store: &Store,
        loaded: &Loaded,
        ended: &Ended,
        expires: SystemTime,
    ) -> Result<(), StoreError> {
        let generation = loaded.stored.generation;
        let bytes = record::encode(&IdRecord::Ended(record::OutcomeRecord::of(ended)));
        store.store.put(&store.id_key(loaded.record.session), generation, bytes, expires).await?;
        store.store.remove(&store.session_key(&ended.key.to_bytes()), generation).await
    }

    /// Takes the session over: the record with the next generation and without the clean mark is put, and only
    /// then is the session there.
    async fn claim(
        self: &Arc<Self>,
        store: &Store,
        key: &SessionKey,
        loaded: Loaded,
        room: Room<'_, T>,
    ) -> Result<Arc<Shared<T>>, StoreError> {
        let Loaded { stored, mut record, pointer } = loaded;
        let generation = stored.generation.next();
        self.has_seen(generation);
        let (clean, trials) = (record.clean, record.trials);
        let session = self.rebuild(key, &record, generation, pointer)?;
        let (machine, _) = session.lock().machine.snapshot(false);
        record.machine = machine;
        record.clean = false;
        record.working = false;
        let expires = self.record_expires(&session);
        let bytes = record::encode(&record);
        store.store.put(&store.session_key(&key.to_bytes()), generation, bytes, expires).await?;
        self.insert_restored(key, &session, room);
        observe::restored(clean);
        tracing::debug!(session = %session.id().short(), clean, "session restored");
        if !clean && trials >= MAX_TRIALS {
            let text = "a message has killed the process again and again";
            session.finish(Outcome::with_error(OutcomeStatus::Failed, text), CancelHandler::Yes);
        }
        Ok(session)
    }

    /// On a store that others can use, too, an attach confirms that the session is still ours.
    async fn confirm(&self, store: &Store, key: &SessionKey) {
        let Some(session) = self.by_key(key) else {
            return;
        };
        let Some(generation) = session.lock().durable.as_ref().map(|durable| durable.generation)
        else {
            return;
        };
        let expires = self.record_expires(&session);
        let touched =
            store.store.touch(&store.session_key(&key.to_bytes()), generation, expires).await;
        // NotFound: it has never been put. Anything else is the next save's to tell.
        if touched.is_err_and(|error| error.kind() == ErrorKind::Stale) {
            self.lose(&session);
        }
    }

    /// Looks for what a poll asks for.
    pub(crate) async fn find_stored(
        &self,
        id: SessionId,
        context: &RequestContext,
    ) -> Result<Option<Found>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let by_id = store.store.load(&store.id_key(id)).await?;
        let key =
            match by_id.map(|stored| (record::decode::<IdRecord>(&stored.bytes), stored.expires)) {
                Some((Ok(IdRecord::Ended(outcome)), expires)) => {
                    let ended = outcome.into_ended()?;
                    return Ok((expires > wall::now()).then_some(Found::Ended(ended)));
                }
                Some((Ok(IdRecord::Pointer(key)), _)) => key,
                Some((Err(error), _)) => return Err(error.into()),
                // The identity's own session needs no pointer.
                None => SessionKey::own(context.identity()).to_bytes(),
            };
        let Some(stored) = store.store.load(&store.session_key(&key)).await? else {
            return Ok(None);
        };
        let record = record::decode::<SessionRecord>(&stored.bytes)?;
        let caller = context.identity();
        let knows = record.identity == caller || record.guests.contains(&caller);
        if record.session != id || !knows {
            return Ok(None);
        }
        if self.is_over(&stored, &record) {
            // Its record is kept for as long as this can be asked.
            let gone = stored.expires <= wall::now();
            let key = SessionKey::from_bytes(&key).filter(|_| !gone);
            let outcome = Outcome::by_rule(OutcomeStatus::Expired);
            return Ok(key.map(|key| Found::Ended(ended_of(&key, &record, outcome))));
        }
        Ok(Some(Found::Stored { interrupted: record.working && !record.clean }))
    }

    /// Looks for the outcome of a session that is not in memory.
    pub(crate) async fn find_ended(&self, id: SessionId) -> Result<Option<Ended>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let Some(stored) = store.store.load(&store.id_key(id)).await? else {
            return Ok(None);
        };
        let record = record::decode::<IdRecord>(&stored.bytes)?;
        match record {
            IdRecord::Ended(outcome) if stored.expires > wall::now() => {
                Ok(Some(outcome.into_ended()?))
            }
            IdRecord::Ended(_) | IdRecord::Pointer(_) => Ok(None),
        }
    }

    /// Looks for the caller's own stored session; others can only be asked for by their ids.
    pub(crate) async fn find_own(
        &self,
        context: &RequestContext,
    ) -> Result<Option<(SessionId, Found)>, StoreError> {
        let Some(store) = self.config().store.clone() else {
            return Ok(None);
        };
        let key = SessionKey::own(context.identity()).to_bytes();
        let Some(stored) = store.store.load(&store.session_key(&key)).await? else {
            return Ok(None);
        };
        let record = record::decode::<SessionRecord>(&stored.bytes)?;
        let found = self.find_stored(record.session, context).await?;
        Ok(found.map(|found| (record.session, found)))
    }

    /// Sessions whose time is up leave memory for the store.
    pub(crate) async fn store_away(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let key = session.lock().key.clone();
        let _alone = self.alone(&key).await;
        let leaves = session.with_core(|core, now| {
            let due =
                matches!(core.machine.check_expiry(now), Err(Expiry::Unused | Expiry::Unattended));
            let leaves = due && core.key == key && !core.removed && !core.is_over();
            if leaves {
                core.leaving = true;
                core.machine.freeze_at_boundary();
                if core.machine.is_frozen() {
                    core.changed(Urgency::Now);
                }
            }
            leaves
        });
        if !leaves {
            self.look_again(self.clock().now(), session);
            return;
        }
        loop {
            // With a message in hand its last boundary stays on disk; the message counts as not handled.
            let frozen = session.lock().machine.is_frozen();
            if frozen && session.wait_saved(Urgency::Now).await.is_err() {
                session.with_core(|core, _| {
                    core.leaving = false;
                    // What a drain has frozen stays so.
                    if !self.drain.is_draining() {
                        core.machine.thaw();
                    }
                });
                self.look_again(self.clock().now() + self.config().check_interval, session);
                return;
            }
            // What is on its way to the store must be there before anybody restores from it, and nothing
            // may follow.
            let progress = {
                let mut core = session.lock();
                let core = &mut *core;
                let in_hand = core.machine.is_message_in_hand();
                let Some(durable) = &core.durable else {
                    return;
                };
                if durable.is_settled() || (in_hand && !durable.is_writing()) {
                    core.departed = true;
                    break;
                }
                // Without a message in hand any more, it is at a boundary: frozen, and saved once more.
                in_hand.then(|| durable.progress().notified_owned())
            };
            if let Some(progress) = progress {
                progress.await;
            }
        }
        self.forgive(session).await;
        tracing::debug!(session = %session.id().short(), "session stored");
        self.let_go(session);
    }

    /// The message in hand is cut off by us: that it did not come to its end does not count against it.
    pub(crate) async fn forgive(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let tried = {
            let core = session.lock();
            let tried = core.durable.as_ref().is_some_and(|durable| durable.trials() > 0);
            tried && core.machine.is_message_in_hand()
        };
        if let (true, Some(store)) = (tried, &self.config().store) {
            amend(store, session, |record| record.trials = 0).await;
        }
    }

    /// Deletes what nobody can ask for any more.
    pub(crate) async fn delete_expired(&self) {
        const AT_ONCE: usize = 1024;
        let Some(store) = &self.config().store else {
            return;
        };
        if !self.trusts_the_clock() {
            return;
        }
        loop {
            match store.store.delete_expired(wall::now(), AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    observe::store_failed();
                    tracing::warn!(error = %chain(&error), "expired records not deleted");
                    return;
                }
            }
        }
    }
}

fn ended_of(key: &SessionKey, record: &SessionRecord, outcome: Outcome) -> Ended {
    Ended {
        identities: [record.identity].iter().chain(&record.guests).copied().collect(),
        key: key.clone(),
        record: record.machine.record(),
        outcome: Arc::new(outcome),
    }
}
