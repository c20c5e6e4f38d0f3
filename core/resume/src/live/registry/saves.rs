//! Who writes the sessions of a registry to a store.

use std::sync::Arc;

use crate::{
    live::{ended::Ended, session::Shared},
    words::durability::Urgency,
};

/// Writes sessions to a store. The registry says what there is to write; it does not know how that is done.
pub(crate) trait Saves<T>: Send + Sync {
    /// Queues something.
    fn push(&self, item: Item<T>, urgency: Urgency);

    /// What is queued is wanted at once after all.
    fn hurry(&self);

    /// Takes the snapshot that is due at the boundary to which the session's handler has come.
    fn take_snapshot(&self, session: &Shared<T>);

    /// Looks after a flush interval whether the session's handler is still at work.
    fn watch(&self, session: Arc<Shared<T>>);

    /// A session that may hold what has killed the process tries again alone, if it comes to that.
    fn give_turns(&self, session: &Arc<Shared<T>>);
}

/// Work for the store. One session has at most one [`Item::Session`] in the queue, and what is written of it is
/// written one after the other ([`write_turn`](Shared::write_turn)): so no older snapshot overtakes a newer one.
pub(crate) enum Item<T> {
    /// A session that has changed.
    Session(Arc<Shared<T>>),
    /// A session in use whose record would expire.
    Touch(Arc<Shared<T>>),
    /// A session that has ended, and what is left of it.
    Ended(Arc<Shared<T>>, Ended),
}

impl<T> Item<T> {
    pub(crate) fn session(&self) -> &Arc<Shared<T>> {
        match self {
            Self::Session(session) | Self::Touch(session) | Self::Ended(session, _) => session,
        }
    }
}
