//! Outcomes of sessions that are gone, for polling and for clients that come back too late.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{Moment, session::FinalCounts};

use crate::{
    Identity, SessionId,
    words::{key::SessionKey, outcome::Outcome},
};

/// At most this many expired outcomes are removed with each use of the table. That is more than come, and nothing waits
/// long for the table's lock.
const AT_ONCE: usize = 16;

/// A bounded table. When it is full, an outcome that is worth little goes, or else the oldest of the identity that
/// has most of them. So one identity cannot push out the few of others.
///
/// Trees, because a hash table moves all its entries at once when it grows: milliseconds under the one lock.
#[derive(Debug)]
pub(crate) struct EndedSessions {
    limit: usize,
    lifetime: Duration,
    by_id: BTreeMap<SessionId, Kept>,
    /// In no order; never an empty list.
    by_identity: BTreeMap<Identity, Vec<SessionId>>,
    /// The oldest first.
    order: BTreeMap<Serial, SessionId>,
    next: Serial,
    /// Those of [`Worth::Blank`], the oldest first.
    blanks: BTreeSet<Serial>,
    /// The others, by the identity that started the session, the oldest first. Never an empty set.
    by_owner: BTreeMap<Identity, BTreeSet<Serial>>,
    /// How many each of these has.
    counts: BTreeSet<(usize, Identity)>,
}

/// In which order outcomes have come.
type Serial = u64;

/// What an outcome is worth when there are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Worth {
    /// Nothing was put into the session, and no client came back to it.
    Blank,
    Work,
}

#[derive(Debug)]
struct Kept {
    until: Moment,
    owner: Identity,
    ended: Ended,
}

/// What is left of a session.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// The identities that may poll it.
    pub(crate) identities: Vec<Identity>,
    pub(crate) key: SessionKey,
    pub(crate) counts: FinalCounts,
    /// How often the session had been claimed in its store.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only offsets have it"))]
    pub(crate) generation: u64,
    pub(crate) outcome: Arc<Outcome>,
}

impl EndedSessions {
    pub(crate) fn new(limit: usize, lifetime: Duration) -> Self {
        Self {
            limit,
            lifetime,
            by_id: BTreeMap::new(),
            by_identity: BTreeMap::new(),
            order: BTreeMap::new(),
            next: 0,
            blanks: BTreeSet::new(),
            by_owner: BTreeMap::new(),
            counts: BTreeSet::new(),
        }
    }

    /// Adds an outcome of a session that `owner` has started; returns the sessions whose outcomes had to make room for
    /// it before their time.
    pub(crate) fn insert(
        &mut self,
        id: SessionId,
        owner: Identity,
        worth: Worth,
        ended: Ended,
        now: Moment,
    ) -> Vec<SessionId> {
        self.drop_overdue(now);
        let mut forgotten = Vec::new();
        while self.order.len() >= self.limit.max(1) {
            forgotten.extend(self.make_room());
        }
        let serial = self.next;
        self.next += 1;
        self.order.insert(serial, id);
        match worth {
            Worth::Blank => {
                self.blanks.insert(serial);
            }
            Worth::Work => self.recount(owner, |serials| {
                serials.insert(serial);
            }),
        }
        for identity in &ended.identities {
            self.by_identity.entry(*identity).or_default().push(id);
        }
        self.by_id.insert(id, Kept { until: now + self.lifetime, owner, ended });
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

    /// Returns the outcomes that have come last, the newest first.
    pub(crate) fn newest(&self, now: Moment) -> impl Iterator<Item = (SessionId, &Ended)> {
        let ids = self.order.values().rev();
        ids.filter_map(move |id| Some((*id, self.kept(*id, now)?)))
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
            let Some((&serial, oldest)) = self.order.first_key_value() else {
                return;
            };
            if self.kept(*oldest, now).is_some() {
                return;
            }
            self.drop(serial);
        }
    }

    fn make_room(&mut self) -> Option<SessionId> {
        let most = || {
            let (_, owner) = self.counts.last()?;
            self.by_owner.get(owner)?.first().copied()
        };
        let serial = self.blanks.first().copied().or_else(most)?;
        self.drop(serial)
    }

    fn drop(&mut self, serial: Serial) -> Option<SessionId> {
        let id = self.order.remove(&serial)?;
        let Kept { ended, owner, .. } = self.by_id.remove(&id)?;
        if !self.blanks.remove(&serial) {
            self.recount(owner, |serials| {
                serials.remove(&serial);
            });
        }
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

    /// Changes what an owner has.
    fn recount(&mut self, owner: Identity, change: impl FnOnce(&mut BTreeSet<Serial>)) {
        let serials = self.by_owner.entry(owner).or_default();
        self.counts.remove(&(serials.len(), owner));
        change(serials);
        if serials.is_empty() {
            self.by_owner.remove(&owner);
        } else {
            self.counts.insert((serials.len(), owner));
        }
    }
}

#[cfg(test)]
mod tests {
    use session_resume_proto::session::Epoch;

    use super::*;
    use crate::{OutcomeStatus, live::session::Machine, words::random};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn identity() -> Identity {
        Identity::mint(random::bytes())
    }

    fn insert(table: &mut EndedSessions, owner: Identity, worth: Worth, now: Moment) -> SessionId {
        let id = SessionId::random();
        let machine = Machine::new(Arc::default(), Epoch::new(7, 7), now);
        let ended = Ended {
            identities: vec![owner],
            key: SessionKey::own(owner),
            counts: machine.final_counts(),
            generation: 0,
            outcome: Arc::new(Outcome::by_rule(OutcomeStatus::Closed)),
        };
        for forgotten in table.insert(id, owner, worth, ended, now) {
            assert!(table.get(forgotten, now).is_none());
        }
        id
    }

    #[test]
    fn when_it_is_full_the_identity_with_most_loses_its_oldest() {
        let now = Moment::default();
        let mut table = EndedSessions::new(10, DAY);
        let (ann, bob, mallory) = (identity(), identity(), identity());
        let of_ann = insert(&mut table, ann, Worth::Work, now);
        let of_bob = [(); 2].map(|()| insert(&mut table, bob, Worth::Work, now));
        let of_mallory =
            (0..100).map(|_| insert(&mut table, mallory, Worth::Work, now)).collect::<Vec<_>>();
        for kept in [of_ann, of_bob[0], of_bob[1]] {
            assert!(table.get(kept, now).is_some());
        }
        let left = of_mallory.iter().map(|id| table.get(*id, now).is_some()).collect::<Vec<_>>();
        assert!(left[..93].iter().all(|kept| !kept) && left[93..].iter().all(|kept| *kept));
        assert_eq!(table.of(mallory, now).count(), 7);
    }

    #[test]
    fn blanks_go_first_the_oldest_before_others() {
        let now = Moment::default();
        let mut table = EndedSessions::new(4, DAY);
        let (ann, visitor) = (identity(), identity());
        let work = [(); 2].map(|()| insert(&mut table, ann, Worth::Work, now));
        let blanks = [(); 2].map(|()| insert(&mut table, visitor, Worth::Blank, now));
        let third = insert(&mut table, identity(), Worth::Blank, now);
        assert!(table.get(blanks[0], now).is_none() && table.get(blanks[1], now).is_some());
        insert(&mut table, identity(), Worth::Work, now);
        insert(&mut table, identity(), Worth::Work, now);
        assert!([blanks[1], third].iter().all(|blank| table.get(*blank, now).is_none()));
        assert!(
            work.iter().all(|work| table.get(*work, now).is_some()),
            "no blank one is left to go"
        );
        insert(&mut table, identity(), Worth::Work, now);
        assert!(table.get(work[0], now).is_none() && table.get(work[1], now).is_some());
    }

    #[test]
    fn what_is_overdue_leaves_nothing_behind() {
        let now = Moment::default();
        let mut table = EndedSessions::new(1000, DAY);
        for n in 0..100_u32 {
            let worth = if n % 3 == 0 { Worth::Blank } else { Worth::Work };
            insert(&mut table, identity(), worth, now);
        }
        for _ in 0..20 {
            table.drop_overdue(now + DAY);
        }
        let empty = EndedSessions { next: table.next, ..EndedSessions::new(1000, DAY) };
        assert_eq!(format!("{table:?}"), format!("{empty:?}"));
    }
}
