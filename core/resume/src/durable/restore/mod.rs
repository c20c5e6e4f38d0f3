//! Sessions from the store, and back into it. With `snapshot`, the only module that touches it.

mod evict;
mod hand_over;
mod lookup;
mod rebuild;
mod store_away;
mod unreadable;
mod whose;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use session_resume_proto::WireId;
use tokio::time::Instant;

use self::whose::Found;
pub use self::whose::{OwnerState, Whereabouts};
pub(crate) use self::{lookup::InStore, whose::Apart};
use crate::{
    Outcome, OutcomeStatus, RequestView, SessionId,
    durable::snapshot::record::{self, IdRecord, KeyRecord, OutcomeRecord, SessionRecord},
    live::{
        ended::Ended,
        registry::{Registry, Reservation},
        session::{Place, Pointer, Purpose, Seat, Shared},
    },
    words::{
        cluster::Arrival,
        context::RequestContext,
        key::SessionKey,
        millis::Millis,
        node::Incarnation,
        observe::{
            self,
            nodes::{Claimed, claimed},
        },
        refusal::Refusal,
        reuse::{Candidate, Phase, Residence, ReuseDecision},
        store::{
            ErrorKind, StoreError, Versioned,
            named::{Store, is},
        },
        wall::{self, later},
    },
};

/// What a request brings that may lead to a stored session.
pub(crate) struct Asks<'a> {
    pub(crate) context: &'a RequestContext,
    pub(crate) req: RequestView<'a>,
    /// The session and epoch of its cursor: a continuation is not put to the reuse policy.
    pub(crate) continues: Option<(SessionId, WireId)>,
    /// Only looks, so the policy is not asked either.
    pub(crate) looks: bool,
}

/// A record with what it says.
struct Loaded {
    stored: Versioned,
    record: SessionRecord,
    /// What the record under its id says: that this is where it is, or nothing.
    pointer: Pointer,
}

/// What a request does that a stored session had to give way to.
enum Way {
    /// Nothing is in its way.
    Free,
    /// Another process has changed the record: look again.
    Taken,
}

impl Way {
    /// After the attempt to end the stored session.
    fn after(ended: Result<(), StoreError>) -> Result<Self, Refusal> {
        match ended {
            Ok(()) => Ok(Self::Free),
            Err(error) if error.kind() == ErrorKind::Stale => Ok(Self::Taken),
            Err(error) => Err(Refusal::by_store(&error)),
        }
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Makes sure that the request's session, if the store has it, is in memory, and claimed: no other process
    /// owns it. Returns it, taken for `purpose`, if it had to be restored.
    ///
    /// Single flight per key. Nothing is said to the client before the claim is on disk.
    pub(crate) async fn ready(
        &self,
        asks: &Asks<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Arc<Shared<T>>>, Apart> {
        match &self.config().store {
            Some(store) if !self.needs_no_store(asks.context) => {
                // Boxed: most requests find their session in memory, and need not move all this about.
                self.bring_here(store.clone(), asks, purpose).boxed().await
            }
            _ => Ok(None),
        }
    }

    /// Whether the store need not be asked for the request's key: there is no store, or the store is ours alone and the
    /// session is in memory, or the key is that of an identity that was made for this request.
    ///
    /// A node of a cluster that holds its lease need not ask for what it has in memory.
    pub(crate) fn needs_no_store(&self, context: &RequestContext) -> bool {
        let key = context.key();
        let is_new = !context.is_known() && !key.is_shared();
        let Some(store) = &self.config().store else {
            return true;
        };
        match self.node() {
            None => is_new || store.store.is_exclusive() && self.is_here(key),
            Some(node) => node.holds() && (is_new || self.is_here(key)),
        }
    }

    async fn bring_here(
        &self,
        store: Store,
        asks: &Asks<'_>,
        purpose: &Purpose,
    ) -> Result<Option<Arc<Shared<T>>>, Apart> {
        let key = asks.context.key();
        let until = self.node().map(|node| whose::patience(node));
        if let (Some(node), Some(until)) = (self.node(), until) {
            if !node.holds() && !whose::waits(node.held_by(until)).await {
                return Err(whose::no_lease().into());
            }
        } else if !store.store.is_exclusive() {
            self.confirm(&store, key).await;
        }
        if self.is_here(key) {
            return Ok(None);
        }
        let _alone = self.alone(key).await;
        if self.is_here(key) || self.drain.is_draining() {
            return Ok(None);
        }
        let mut cleared = None;
        loop {
            let loaded = match self.load(&store, key, cleared).await {
                Ok(Found::Stored(loaded)) => *loaded,
                Ok(Found::Nothing) => {
                    let (Some(node), Some(until), false) = (self.node(), until, asks.looks) else {
                        return Ok(None);
                    };
                    match whose::waits(node.may_begin_by(until)).await {
                        Some(false) => return Ok(None),
                        // The owner may have made its record anew meanwhile.
                        Some(true) => continue,
                        None => return Err(whose::no_lease().into()),
                    }
                }
                Ok(Found::Elsewhere(node)) => return Err(Apart::Elsewhere(node)),
                Ok(Found::Orphan(owner)) => {
                    if let (Some(node), Some(until)) = (self.node(), until)
                        && whose::waits(node.may_claim_by(until)).await
                    {
                        cleared = Some(owner);
                        continue;
                    }
                    return Err(whose::no_claim().into());
                }
                // Another process has been faster; what is there now?
                Err(error) if error.kind() == ErrorKind::Stale => continue,
                Err(error) => return Err(Refusal::by_store(&error).into()),
            };
            let state = match self.read_state(&loaded.record) {
                Ok(state) => state,
                Err(unreadable) => match self.give_way(&store, &loaded, asks, unreadable).await? {
                    Way::Free => return Ok(None),
                    Way::Taken => continue,
                },
            };
            match self.may_restore(&store, &loaded, asks).await? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Way::Free) => return Ok(None),
                ControlFlow::Break(Way::Taken) => continue,
            }
            let (identity, id) = (loaded.record.identity, loaded.record.session);
            let room = self.reserve(identity, key, id, Seat::Known)?;
            match self.claim(&store, loaded, state, room, asks, purpose).await {
                Ok(session) => {
                    if !asks.looks {
                        session.take(purpose, asks.context, self.clock().now());
                    }
                    return Ok(session.outcome().is_none().then_some(session));
                }
                // Another process has just claimed it; what is there now?
                Err(error) if error.kind() == ErrorKind::Stale => {}
                Err(error) => return Err(Refusal::by_store(&error).into()),
            }
        }
    }

    /// Whether a live session that is not on its way to the store has the key.
    fn is_here(&self, key: &SessionKey) -> bool {
        self.by_key(key).is_some_and(|session| !session.lock().life().is_on_its_way())
    }

    /// Loads what may be restored; clears away what may not. `cleared`: an owner that is gone, from which this node may claim.
    async fn load(
        &self,
        store: &Store,
        key: &SessionKey,
        cleared: Option<Incarnation>,
    ) -> Result<Found, StoreError> {
        let bytes = key.to_bytes();
        let at = store.session_key(&bytes);
        let Some(stored) = store.store.load(&at).await? else {
            return Ok(Found::Nothing);
        };
        let record = match record::decode(&stored.bytes)? {
            KeyRecord::Live(record) => *record,
            KeyRecord::Ended(outcome) => {
                // The key is free; the session that begins claims over this.
                store.publish(&stored, outcome).await?;
                return Ok(Found::Nothing);
            }
        };
        match self.arrival(stored.stamp.owner, record.clean, cleared).await? {
            Arrival::Claim => {}
            Arrival::Elsewhere(node) => return Ok(Found::Elsewhere(node)),
            Arrival::Wait => {
                return Ok(Found::Orphan(Incarnation::from_number(stored.stamp.owner)));
            }
        }
        // It has ended, or moved to another key; its old record is still there for a moment.
        if self.by_id(record.session).is_some() {
            return Ok(Found::Nothing);
        }
        let by_id = store.store.load(&store.id_key(record.session)).await?;
        let by_id = by_id.map(|stored| record::decode::<IdRecord>(&stored.bytes)).transpose()?;
        let pointer = match by_id {
            None => Pointer::None,
            Some(IdRecord::Pointer(there)) if there == bytes => Pointer::Wanted,
            // The process died before it could remove this record. A session that has ended does not start again,
            // and a client that has only the old key gets nothing.
            Some(IdRecord::Pointer(_) | IdRecord::Ended(_)) => {
                store.store.remove(&at, stored.stamp).await?;
                return Ok(Found::Nothing);
            }
        };
        let loaded = Loaded { stored, record, pointer };
        if self.is_over(&loaded.stored, &loaded.record) {
            let outcome = Outcome::by_rule(OutcomeStatus::Expired);
            let ended = ended_of(key, &loaded.stored, &loaded.record, outcome);
            // For as long as it could be asked for before the key was wanted again.
            let expires_in = loaded.stored.expires_in;
            self.end_stored(store, &loaded, &ended, expires_in).await?;
            return Ok(Found::Nothing);
        }
        Ok(Found::Stored(Box::new(loaded)))
    }

    /// Whether a stored session's time is up.
    fn is_over(&self, stored: &Versioned, record: &SessionRecord) -> bool {
        let lifetime = self.rules().max_lifetime;
        let outlived =
            lifetime.is_some_and(|lifetime| record.created.age(Millis::now()) >= lifetime);
        let expired = stored.expires_in <= self.config().outcome_lifetime;
        self.trusts_the_clock() && (outlived || expired)
    }

    /// Asks the reuse policy about the stored session: goes on if it is to be restored. A fresh start ends it.
    async fn may_restore(
        &self,
        store: &Store,
        loaded: &Loaded,
        asks: &Asks<'_>,
    ) -> Result<ControlFlow<Way>, Refusal> {
        let record = &loaded.record;
        let continues = asks.continues.is_some_and(|(session, epoch)| {
            session == record.session
                && record.machine.knows_epoch(&epoch)
                && record.is_known_to(asks.context.identity())
        });
        if asks.looks || continues {
            return Ok(ControlFlow::Continue(()));
        }
        match self.decide(Residence::Stored, record, asks) {
            ReuseDecision::Reuse => Ok(ControlFlow::Continue(())),
            ReuseDecision::Refuse(status) => Err(Refusal::by_policy(status)),
            ReuseDecision::Fresh => {
                let outcome =
                    Outcome::with_error(OutcomeStatus::Closed, "a fresh session was asked for");
                let ended = ended_of(asks.context.key(), &loaded.stored, record, outcome);
                let lifetime = self.config().outcome_lifetime;
                let ended = self.end_stored(store, loaded, &ended, lifetime).await;
                Way::after(ended).map(ControlFlow::Break)
            }
        }
    }

    /// Puts a stored session to the reuse policy.
    fn decide(
        &self,
        residence: Residence,
        record: &SessionRecord,
        asks: &Asks<'_>,
    ) -> ReuseDecision {
        let candidate = || Candidate {
            residence,
            phase: Phase::Suspended,
            age: record.created.age(Millis::now()),
            transports: 0,
            same_identity: record.identity == asks.context.identity(),
            same_handler: None,
        };
        self.config().reuse.decide(residence, candidate, asks.req)
    }

    /// Ends a session that is not in memory: claims it with its final record.
    async fn end_stored(
        &self,
        store: &Store,
        loaded: &Loaded,
        ended: &Ended,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let found = loaded.stored.stamp;
        let stamp = found.taken_by(self.new_owner());
        let at = store.session_key(&ended.key.to_bytes());
        let bytes = record::encode(&KeyRecord::Ended(OutcomeRecord::of(ended)));
        store.store.claim(&at, Some(found), stamp, bytes, expires_in).await?;
        let outcome = IdRecord::Ended(OutcomeRecord::of(ended));
        store.put_by_id(loaded.record.session, stamp.next(), &outcome, expires_in).await
    }

    /// Takes the session over: the next generation of its record, without the clean mark, is put over the one
    /// that was found, and only then is the session there.
    async fn claim(
        &self,
        store: &Store,
        loaded: Loaded,
        state: T,
        room: Reservation<'_, T>,
        asks: &Asks<'_>,
        purpose: &Purpose,
    ) -> Result<Arc<Shared<T>>, StoreError> {
        let key = asks.context.key();
        let Loaded { stored, mut record, pointer } = loaded;
        let stamp = stored.stamp.taken_by(self.new_owner());
        let clean = record.clean;
        let name = asks.context.cookie_name();
        let session = self.rebuild(key, &record, state, stamp, pointer, name);
        session.with_durable(|durable| {
            durable.expires_as_before = asks.looks.then(|| later(wall::now(), stored.expires_in));
        });
        let (machine, covered) = session.prepare(|core| {
            if matches!(purpose, Purpose::Restore) {
                core.machine.expect_hello();
            }
            core.machine.snapshot(false)
        });
        record.machine = machine;
        record.clean = false;
        record.working = false;
        let expires_in = self.record_expires_in(&session);
        let at = store.session_key(&key.to_bytes());
        let bytes = record::encode(&KeyRecord::Live(Box::new(record)));
        let (losses, begun) = (store.store.losses(), Instant::now());
        store.store.claim(&at, Some(stored.stamp), stamp, bytes, expires_in).await?;
        if self.node().is_some() {
            let what = if clean { Claimed::Stored } else { Claimed::Gone };
            claimed(what, begun.elapsed());
        }
        session.with_durable(|durable| durable.losses = losses);
        if !store.store.is_exclusive() {
            // From here on the former owner cannot put anything under the session's id.
            let stamp = stamp.next();
            let pointer = IdRecord::Pointer(key.to_bytes());
            store.put_by_id(session.id(), stamp, &pointer, expires_in).await?;
            session.with_durable(|durable| {
                (durable.stamp, durable.pointer) = (stamp, Pointer::Saved);
            });
        }
        let now = self.clock().now();
        session.prepare(|core| core.machine.handle_committed(&covered, now));
        self.insert_restored(key, &session, room);
        observe::restored(clean);
        tracing::debug!(session = %session.id().short(), clean, "session restored");
        self.saver().into_iter().for_each(|saver| saver.give_turns(&session));
        Ok(session)
    }

    /// On a store that others can use, too, an attach confirms that the session is still ours.
    async fn confirm(&self, store: &Store, key: &SessionKey) {
        let Some(session) = self.by_key(key) else {
            return;
        };
        let Some((stamp, place)) =
            session.lock().durable.as_ref().map(|durable| (durable.stamp, durable.place.clone()))
        else {
            return;
        };
        if place != Place::Ours(key.clone()) {
            // It has not been put there yet.
            return;
        }
        let expires_in = self.record_expires_in(&session);
        let at = store.session_key(&key.to_bytes());
        let touched = store.store.touch(&at, stamp, expires_in).await;
        // What is not found may be put again. Anything else is the next save's to tell.
        if is(&touched, ErrorKind::Stale) {
            self.taken_over(&session);
        }
    }
}

fn ended_of(
    key: &SessionKey,
    stored: &Versioned,
    record: &SessionRecord,
    outcome: Outcome,
) -> Ended {
    Ended {
        identities: record.identities(),
        key: key.clone(),
        counts: record.machine.final_counts(record.clean),
        generation: stored.stamp.generation,
        outcome: Arc::new(outcome),
    }
}
