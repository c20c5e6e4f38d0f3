//! Which live session is under which key.

use std::sync::{Arc, Mutex, MutexGuard};

use hashbrown::{HashTable, hash_table::OccupiedEntry};

use super::{SHARDS, hasher::Hasher, lock, shard};
use crate::{
    live::session::Shared,
    words::{
        identity::{Identity, Token},
        key::SessionKey,
    },
};

/// The live sessions, by key; locked in parts.
///
/// No session is locked while a part is locked: code that has locked a session may ask for it by its key.
pub(super) struct Keys<T> {
    hasher: Hasher,
    parts: Box<[Mutex<Part<T>>]>,
}

struct Part<T> {
    /// Those under an identity's own key, which nearly all are. The session says whose it is: of a million,
    /// each request has to fetch both the entry and the session, and the smaller the entries, the more of them
    /// are in the processor's cache.
    own: HashTable<Arc<Shared<T>>>,
    others: HashTable<Other<T>>,
}

struct Other<T> {
    key: SessionKey,
    session: Arc<Shared<T>>,
}

/// What is known of a token without computing anything.
pub(super) enum Known {
    /// It is the one that has proved the identity last.
    Proved,
    /// There is a session of this identity, but another token, or none, has proved it since it is in memory.
    Unproved,
    Nothing,
}

impl<T> Keys<T> {
    pub(super) fn new() -> Self {
        let part = || Mutex::new(Part { own: HashTable::new(), others: HashTable::new() });
        Self { hasher: Hasher::new(), parts: (0..SHARDS).map(|_| part()).collect() }
    }

    pub(super) fn hash(&self, key: &SessionKey) -> u64 {
        self.hasher.key(key)
    }

    pub(super) fn get(&self, key: &SessionKey) -> Option<Arc<Shared<T>>> {
        let (part, hash) = self.part(key);
        part.get(key, hash).map(Arc::clone)
    }

    /// Inserts a session unless there is one under its key; asks `room` before.
    pub(super) fn insert_with<R, E>(
        &self,
        key: &SessionKey,
        session: &Arc<Shared<T>>,
        room: impl FnOnce() -> Result<R, E>,
    ) -> Result<Option<R>, E> {
        let (mut part, hash) = self.part(key);
        if part.get(key, hash).is_some() {
            return Ok(None);
        }
        // Under the lock under which it is inserted: a request that finds no room finds the session that took it.
        let room = room()?;
        self.insert_into(&mut part, key, hash, session);
        Ok(Some(room))
    }

    /// Inserts a session under a key that the caller knows to be free.
    pub(super) fn insert(&self, key: &SessionKey, session: &Arc<Shared<T>>) {
        let (mut part, hash) = self.part(key);
        self.insert_into(&mut part, key, hash, session);
    }

    fn insert_into(
        &self,
        part: &mut Part<T>,
        key: &SessionKey,
        hash: u64,
        session: &Arc<Shared<T>>,
    ) {
        let session = Arc::clone(session);
        // The session is in no table yet: no other thread reads this.
        session.proven.start(key.owner());
        if key.is_own() {
            part.own
                .insert_unique(hash, session, |other| self.hasher.minted(&other.proven.identity()));
        } else {
            let other = Other { key: key.clone(), session };
            part.others.insert_unique(hash, other, |other| self.hasher.key(&other.key));
        }
    }

    /// Takes this very session from its key, if it is there. To be dropped outside of all locks: with it may go
    /// the application's state.
    pub(super) fn remove(&self, key: &SessionKey, session: &Shared<T>) -> Option<Arc<Shared<T>>> {
        let is_it = |other: &Arc<Shared<T>>| std::ptr::eq(Arc::as_ptr(other), session);
        let (mut part, hash) = self.part(key);
        if key.is_own() {
            part.own.find_entry(hash, is_it).ok().map(take)
        } else {
            let entry = part.others.find_entry(hash, |other| is_it(&other.session)).ok();
            entry.map(|entry| take(entry).session)
        }
    }

    pub(super) fn knows(&self, token: &Token) -> Known {
        let key = SessionKey::own(token.identity);
        let (part, hash) = self.part(&key);
        match part.get(&key, hash) {
            Some(session) if session.proven.is_by(token) => Known::Proved,
            Some(_) => Known::Unproved,
            None => Known::Nothing,
        }
    }

    /// Notes that a token is ours, for the next time; returns the session that it has proved.
    ///
    /// Asks under the lock whether the token's key is `still` one of ours: [`forget_proofs`](Self::forget_proofs) comes before
    /// this, and is seen, or after it.
    #[cold]
    pub(super) fn keep(
        &self,
        token: &Token,
        still: impl FnOnce() -> bool,
    ) -> Option<Arc<Shared<T>>> {
        let key = SessionKey::own(token.identity);
        let (part, hash) = self.part(&key);
        let session = part.get(&key, hash)?;
        if still() {
            session.proven.keep(token);
        }
        Some(Arc::clone(session))
    }

    /// The keys that sign identities have changed: every token is looked at once more.
    pub(super) fn forget_proofs(&self) {
        for part in &self.parts {
            lock(part).own.iter().for_each(|session| session.proven.forget());
        }
    }

    /// Returns the session under an identity's own key.
    #[cold]
    pub(super) fn own(&self, identity: Identity) -> Option<Arc<Shared<T>>> {
        let key = SessionKey::own(identity);
        let (part, hash) = self.part(&key);
        part.get(&key, hash).cloned()
    }

    fn part(&self, key: &SessionKey) -> (MutexGuard<'_, Part<T>>, u64) {
        let hash = self.hash(key);
        (lock(&self.parts[shard(hash)]), hash)
    }
}

fn take<V>(entry: OccupiedEntry<'_, V>) -> V {
    entry.remove().0
}

impl<T> Part<T> {
    fn get(&self, key: &SessionKey, hash: u64) -> Option<&Arc<Shared<T>>> {
        if let Some(identity) = key.owner() {
            return self.own.find(hash, |session| session.proven.is_of(identity));
        }
        self.others.find(hash, |other| other.key == *key).map(|other| &other.session)
    }
}
