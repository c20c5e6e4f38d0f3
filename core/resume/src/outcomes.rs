//! Outcomes of sessions that are gone, for polling and for clients that come back too late.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use session_resume_proto::{Moment, session::Record};

use crate::{Identity, SessionId, key::SessionKey, outcome::Outcome};

/// A bounded table, oldest out first.
#[derive(Debug)]
pub(crate) struct Outcomes {
    limit: usize,
    lifetime: Duration,
    by_id: HashMap<SessionId, Ended>,
    order: VecDeque<(Moment, SessionId)>,
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
        Self { limit, lifetime, by_id: HashMap::new(), order: VecDeque::new() }
    }

    /// Adds an outcome; returns whose had to make room for it before their time.
    pub(crate) fn insert(&mut self, id: SessionId, ended: Ended, now: Moment) -> Vec<SessionId> {
        self.drop_overdue(now);
        let mut forgotten = Vec::new();
        while self.order.len() >= self.limit.max(1) {
            forgotten.extend(self.drop_oldest());
        }
        self.order.push_back((now + self.lifetime, id));
        self.by_id.insert(id, ended);
        forgotten
    }

    pub(crate) fn get(&mut self, id: SessionId, now: Moment) -> Option<&Ended> {
        self.drop_overdue(now);
        self.by_id.get(&id)
    }

    fn drop_overdue(&mut self, now: Moment) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> Option<SessionId> {
        let (_, id) = self.order.pop_front()?;
        self.by_id.remove(&id);
        Some(id)
    }
}
