//! Where the store has a session.

use crate::words::{key::SessionKey, store::Stamp};

/// Where a session's record is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Nowhere: nothing of it has been written.
    Nowhere,
    /// Perhaps under this key: its claim has not been answered.
    Asked(SessionKey),
    /// Under this key.
    Ours(SessionKey),
    /// It has ended, and this final record says so where it was. Another session may have the key by now.
    Ended(Stamp),
}

/// Where the store has a session that was under another key when it was last put.
///
/// A record that moves is there twice for a moment, and a session may move again meanwhile. What is kept under its id
/// says which one counts: always the one at `home`.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    /// Where the last put has left it.
    pub(crate) home: SessionKey,
    /// Where other records of it may be, which must never be restored again.
    pub(crate) strays: Vec<SessionKey>,
}

impl From<SessionKey> for Moved {
    fn from(home: SessionKey) -> Self {
        Self { home, strays: Vec::new() }
    }
}

impl Moved {
    /// Returns every key under which a record may be.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &SessionKey> {
        [&self.home].into_iter().chain(&self.strays)
    }

    /// A put to this key begins.
    pub(crate) fn begins(&mut self, key: &SessionKey) {
        if !self.strays.contains(key) {
            self.strays.push(key.clone());
        }
    }

    /// It is there, and counts.
    pub(crate) fn is_home(&mut self, key: &SessionKey) {
        self.strays.retain(|stray| stray != key);
        let old = std::mem::replace(&mut self.home, key.clone());
        self.begins(&old);
    }
}

/// Whether a session's id leads to its key in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Pointer {
    /// It need not: the key is the identity's own.
    None,
    /// It must be put before the next record.
    Wanted,
    Saved,
}
