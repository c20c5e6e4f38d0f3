//! Limits on live sessions, in all and of one identity.

use std::{
    collections::hash_map::Entry,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Registry, lock};
use crate::{Identity, SessionId, key::SessionKey, refusal::Refusal, session::shared::Shared};

/// What a refused request is told to wait: a session may have expired by then.
const BUSY_RETRY: Duration = Duration::from_secs(5);

impl<T> Registry<T> {
    /// Whether there is room for one more live session. A look, to be followed by [`reserve`](Self::reserve).
    pub(super) fn has_room(&self, identity: Identity, key: &SessionKey) -> Result<(), Refusal> {
        let limits = &self.config.limits;
        let chosen = || lock(&self.chosen).get(&identity).map_or(0, Vec::len);
        if self.live.load(Ordering::Relaxed) >= limits.max_sessions {
            Err(too_many_in_all())
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
    ) -> Result<Room<'_, T>, Refusal> {
        let room = self.live.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |live| {
            (live < self.config.limits.max_sessions).then_some(live + 1)
        });
        if room.is_err() {
            return Err(too_many_in_all());
        }
        if !self.choose(identity, key, id) {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return Err(too_many_of_one());
        }
        Ok(Room { registry: self, identity, key: key.clone(), id, kept: false })
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

fn too_many_in_all() -> Refusal {
    Refusal::busy("too many sessions (limits.max_sessions), try again later", BUSY_RETRY)
}

fn too_many_of_one() -> Refusal {
    let text =
        "too many sessions of one identity (limits.max_sessions_per_identity), try again later";
    Refusal::busy(text, BUSY_RETRY)
}

/// Room for a session that is about to be live; given back if dropped.
pub(crate) struct Room<'a, T> {
    registry: &'a Registry<T>,
    identity: Identity,
    key: SessionKey,
    id: SessionId,
    kept: bool,
}

impl<T> Room<'_, T> {
    /// The session is there; leaving its key gives the room back.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl<T> Drop for Room<'_, T> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        self.registry.live.fetch_sub(1, Ordering::Relaxed);
        self.registry.unchoose(self.identity, &self.key, self.id);
    }
}
