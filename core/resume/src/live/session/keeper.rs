//! Who keeps a session.

use std::sync::{Arc, OnceLock, Weak};

use http::HeaderValue;
use session_resume_proto::session::Rules;

use super::shared::Shared;
use crate::words::{
    clock::Clock, cluster::Membership, config::Codec, context::Requester, durability::Urgency,
    identity::Identity, merge::MergePolicy,
};

/// Finds a session for requests, counts it, and has it written to a store. A session says to it what has happened, and
/// knows nothing else of it.
pub(crate) trait Keeper<T>: Send + Sync {
    /// The session has changed, and is to be saved.
    fn save(&self, session: Arc<Shared<T>>, urgency: Urgency);

    /// What waits to be saved is wanted at once after all.
    fn hurry(&self);

    /// The handler has come to a boundary at which a snapshot is due.
    fn take_snapshot(&self, session: &Shared<T>);

    /// The handler is at work, and the session's record does not say so.
    fn watch(&self, session: Arc<Shared<T>>);

    /// The session has ended.
    fn ended(&self, session: &Shared<T>);

    /// The cookie of the session's browser has come back.
    fn has_come_back(&self, session: &Shared<T>);

    /// A transport has its turn.
    fn has_attached(&self);

    /// A transport's turn is over; returns how many still have theirs.
    fn has_detached(&self) -> usize;

    /// The session shall have a new identity; returns it with its cookie. `None` if the session cannot have one.
    fn cycle_identity(
        &self,
        session: &Arc<Shared<T>>,
        by: Option<Requester>,
    ) -> Option<(Identity, HeaderValue)>;

    /// How a client's copy of the state is read and merged; `None` if it cannot be read.
    fn merging(&self) -> Option<(MergePolicy<T>, Codec<T>)>;
}

/// What the sessions of one keeper share. One pointer in each session: a suspended one must take little memory.
pub(crate) struct Home<T> {
    pub(crate) clock: Clock,
    pub(crate) rules: Arc<Rules>,
    /// This process's place among several nodes.
    pub(crate) node: Option<Arc<Membership>>,
    /// Set before the first session is made.
    keeper: OnceLock<Weak<dyn Keeper<T>>>,
}

impl<T> Home<T> {
    pub(crate) fn new(clock: Clock, rules: Rules, node: Option<Arc<Membership>>) -> Self {
        Self { clock, rules: Arc::new(rules), node, keeper: OnceLock::new() }
    }

    /// From now on this keeps the sessions.
    pub(crate) fn set_keeper(&self, keeper: impl FnOnce() -> Weak<dyn Keeper<T>>) {
        self.keeper.get_or_init(keeper);
    }

    /// Returns what keeps the sessions; `None` when it is gone.
    pub(super) fn keeper(&self) -> Option<Arc<dyn Keeper<T>>> {
        self.keeper.get()?.upgrade()
    }
}

#[cfg(feature = "http")]
impl<T: Send + 'static> crate::words::clock::Time for Home<T> {
    fn clock(&self) -> &Clock {
        &self.clock
    }
}
