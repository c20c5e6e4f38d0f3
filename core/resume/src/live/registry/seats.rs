//! Limits on live sessions, in all and of one identity.

use std::{
    collections::hash_map::Entry,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{Registry, lock};
use crate::{
    Identity, SessionId,
    live::session::{Seat, Shared},
    words::{key::SessionKey, refusal::Refusal, store::named::Store},
};

/// What a refused request is told to wait: a session may have expired by then.
const BUSY_RETRY: Duration = Duration::from_secs(5);

impl<T> Registry<T> {
    /// Whether there is room for one more live session. A look, to be followed by [`reserve`](Self::reserve).
    pub(super) fn has_room(
        &self,
        identity: Identity,
        key: &SessionKey,
        seat: Seat,
    ) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let chosen = || lock(&self.chosen).get(&identity).map_or(0, Vec::len);
        if self.live.load(Ordering::Relaxed) >= limits.max_sessions {
            Err(too_many_in_all())
        } else if seat == Seat::Visitor
            && self.visitors.load(Ordering::Relaxed) >= self.max_visitors()
        {
            Err(too_many_visitors())
        } else if !key.is_own() && chosen() >= limits.max_sessions_per_identity {
            Err(too_many_of_one())
        } else {
            Ok(())
        }
    }

    /// Takes room for one more live session.
    pub(crate) fn reserve(
        &self,
        identity: Identity,
        key: &SessionKey,
        id: SessionId,
        seat: Seat,
    ) -> Result<Reservation<'_, T>, Refusal> {
        if !take_one(&self.live, self.config.limits.max_sessions) {
            return Err(too_many_in_all());
        }
        if seat == Seat::Visitor && !take_one(&self.visitors, self.max_visitors()) {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return Err(too_many_visitors());
        }
        if !self.choose(identity, key, id) {
            self.give_back(seat);
            return Err(too_many_of_one());
        }
        Ok(Reservation { registry: self, identity, key: key.clone(), id, seat, kept: false })
    }

    /// Whether one more session may be stored. As long as there are sessions to which no client has come back, these
    /// make room, at the next sweep.
    pub(super) fn has_room_in_store(&self) -> Result<(), Refusal> {
        let census = self.config.store.as_ref().and_then(Store::census);
        let full = census.is_some_and(|(stored, visitors)| {
            stored >= self.config.limits.max_stored.saturating_add(visitors)
        });
        if full { Err(too_many_stored()) } else { Ok(()) }
    }

    /// Whether the record of one more session that cannot be read may be kept aside.
    pub(crate) fn has_room_aside(&self) -> Result<(), Refusal> {
        let aside = self.config.store.as_ref().and_then(Store::count_aside);
        let full = aside.is_some_and(|count| count >= self.config.limits.max_stored);
        if full { Err(too_many_aside()) } else { Ok(()) }
    }

    fn give_back(&self, seat: Seat) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        if seat == Seat::Visitor {
            self.visitors.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Half of all. If there is one place in all, it is that one.
    fn max_visitors(&self) -> usize {
        self.config.limits.max_sessions.div_ceil(2)
    }

    /// Returns the live sessions that this identity has started.
    pub(crate) fn started_by(&self, identity: Identity) -> Vec<Arc<Shared<T>>> {
        let ids = lock(&self.chosen).get(&identity).cloned().unwrap_or_default();
        let own = self.by_key(&SessionKey::own(identity));
        own.into_iter().chain(ids.into_iter().filter_map(|id| self.by_id(id))).collect()
    }

    /// Counts a session under a key of the identity's own choosing; `false` if there are too many.
    pub(super) fn choose(&self, identity: Identity, key: &SessionKey, id: SessionId) -> bool {
        if key.is_own() {
            return true;
        }
        let mut chosen = lock(&self.chosen);
        let ids = chosen.entry(identity).or_default();
        let fits = ids.len() < self.config.limits.max_sessions_per_identity;
        if fits {
            ids.push(id);
        } else if ids.is_empty() {
            chosen.remove(&identity);
        }
        fits
    }

    pub(super) fn unchoose(&self, identity: Identity, key: &SessionKey, id: SessionId) {
        if key.is_own() {
            return;
        }
        if let Entry::Occupied(mut ids) = lock(&self.chosen).entry(identity) {
            if let Some(at) = ids.get().iter().position(|other| *other == id) {
                ids.get_mut().swap_remove(at);
            }
            if ids.get().is_empty() {
                ids.remove();
            }
        }
    }
}

impl<T: Send + 'static> Registry<T> {
    /// The session takes no room any more. A second call does nothing.
    pub(super) fn leave_room(&self, session: &Shared<T>) {
        let seat = session.step(|core| core.seat.take());
        if let Some(seat) = seat {
            self.give_back(seat);
        }
    }
}

/// Counts one more, unless `max` are counted already.
fn take_one(count: &AtomicUsize, max: usize) -> bool {
    let more = |count| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

fn too_many_in_all() -> Refusal {
    Refusal::full("too many sessions (limits.max_sessions), try again later", BUSY_RETRY)
}

fn too_many_stored() -> Refusal {
    let text = "too many stored sessions (limits.max_stored), try again later";
    Refusal::full(text, BUSY_RETRY)
}

fn too_many_aside() -> Refusal {
    let text =
        "too many sessions that cannot be read are kept aside (limits.max_stored), try again later";
    tracing::warn!("{text}");
    Refusal::full(text, BUSY_RETRY)
}

fn too_many_visitors() -> Refusal {
    let text = "too many sessions of new visitors (half of limits.max_sessions), try again later";
    Refusal::full(text, BUSY_RETRY)
}

fn too_many_of_one() -> Refusal {
    let text =
        "too many sessions of one identity (limits.max_sessions_per_identity), try again later";
    Refusal::full(text, BUSY_RETRY)
}

/// Reservation for a session that is about to be live; given back if dropped.
pub(crate) struct Reservation<'a, T> {
    registry: &'a Registry<T>,
    identity: Identity,
    key: SessionKey,
    id: SessionId,
    seat: Seat,
    kept: bool,
}

impl<T> Reservation<'_, T> {
    /// The session is there; leaving its key gives the room back.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl<T> Drop for Reservation<'_, T> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.registry.give_back(self.seat);
        self.registry.unchoose(self.identity, &self.key, self.id);
    }
}
