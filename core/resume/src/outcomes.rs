//! Outcomes of sessions that are gone, for polling and for clients that come back too late.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{Moment, session::Record};

use crate::{Identity, SessionId, key::SessionKey, outcome::Outcome};

/// So many whose time is up leave with each use of the table: more than come, and no long wait for its lock.
const AT_ONCE: usize = 16;

/// A bounded table, oldest out first.
///
/// Trees, because a hash table moves all its entries at once when it grows: milliseconds under the one lock.
#[derive(Debug)]
pub(crate) struct Outcomes {
    limit: usize,
    lifetime: Duration,
    by_id: BTreeMap<SessionId, Kept>,
    /// In no order; never an empty list.
    by_identity: BTreeMap<Identity, Vec<SessionId>>,
    order: VecDeque<SessionId>,
}

#[derive(Debug)]
struct Kept {
    until: Moment,
    ended: Ended,
}

/// What is left of a session.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Who may poll it.
    pub(crate) identities: Vec<Identity>,
    pub(crate) key: SessionKey,
    pub(crate) record: Record,
    pub(crate) outcome: Arc<Outcome>,
}

impl Outcomes {
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        Self {
            limit,
            lifetime,
            by_id: BTreeMap::new(),
            by_identity: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Adds an outcome; returns whose had to make room for it before their time.
    pub(crate) fn insert(&mut self, id: SessionId, ended: Ended, now: Moment) -> Vec<SessionId> {
        self.drop_overdue(now);
        let mut forgotten = Vec::new();
        while self.order.len() >= self.limit.max(1) {
            forgotten.extend(self.drop_oldest());
        }
        self.order.push_back(id);
        for identity in &ended.identities {
            self.by_identity.entry(*identity).or_default().push(id);
        }
        self.by_id.insert(id, Kept { until: now + self.lifetime, ended });
        forgotten
    }

    /// Returns the sessions that this identity may poll.
    pub(crate) fn of(
        &mut self,
        identity: Identity,
        now: Moment,
    ) -> impl Iterator<Item = (SessionId, &Ended)> {
        self.drop_overdue(now);
        let outcomes = &*self;
        let ids = outcomes.by_identity.get(&identity).into_iter().flatten();
        ids.filter_map(move |id| Some((*id, outcomes.kept(*id, now)?)))
    }

    pub(crate) fn get(&mut self, id: SessionId, now: Moment) -> Option<&Ended> {
        self.drop_overdue(now);
        self.kept(id, now)
    }

    fn kept(&self, id: SessionId, now: Moment) -> Option<&Ended> {
        self.by_id.get(&id).filter(|kept| now < kept.until).map(|kept| &kept.ended)
    }

    fn drop_overdue(&mut self, now: Moment) {
        for _ in 0..AT_ONCE {
            // All live equally long: the oldest is the first whose time is up.
            if self.order.front().is_none_or(|oldest| self.kept(*oldest, now).is_some()) {
                return;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> Option<SessionId> {
        let id = self.order.pop_front()?;
        let Kept { ended, .. } = self.by_id.remove(&id)?;
        for identity in ended.identities {
            if let Entry::Occupied(mut own) = self.by_identity.entry(identity) {
                own.get_mut().retain(|other| *other != id);
                if own.get().is_empty() {
                    own.remove();
                }
            }
        }
        Some(id)
    }
}
