//! The keys that sign and prove identities, and what requests ask of them.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use tokio::{sync::Notify, time::Instant};

use super::{Registry, keys::Known, lock};
use crate::{
    live::session::Keeper as _,
    words::{
        config::Config,
        identity::{
            Hour, IdentityKey, KeySet, Signature, Token,
            ring::{OVERDUE, Ring},
        },
        millis::Millis,
        wall,
    },
};

/// The keys of a layer.
pub(super) struct IdentityKeys {
    present: RwLock<Arc<KeySet>>,
    /// What the store keeps; `None` if the keys do not come from there.
    kept: Option<Kept>,
}

struct Kept {
    /// The keys as they were read last; `None` if they could not be read since the start.
    ring: Mutex<Option<Ring>>,
    is_unread: AtomicBool,
    read: Mutex<Reading>,
    /// Something suggests that the keys are others by now.
    wanted: Arc<Notify>,
}

/// When the keys were read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    wall: SystemTime,
    /// The wall clock may be set back.
    pub(crate) instant: Instant,
}

impl Reading {
    /// A reading that begins now.
    pub(crate) fn now() -> Self {
        Self { wall: wall::now(), instant: Instant::now() }
    }

    /// Whether keys may sign by now that were not there then. By either clock: the monotonic one stands still while the
    /// machine is suspended.
    fn is_overdue(self) -> bool {
        self.instant.elapsed() >= OVERDUE
            || wall::now().duration_since(self.wall).is_ok_and(|since| since >= OVERDUE)
    }
}

impl IdentityKeys {
    pub(super) fn new<T>(config: &Config<T>) -> Self {
        let kept = config.stored_keys().map(|stored| Kept {
            is_unread: AtomicBool::new(stored.ring.is_err()),
            ring: Mutex::new(stored.ring.as_ref().ok().cloned()),
            read: Mutex::new(Reading::now()),
            wanted: Arc::new(Notify::new()),
        });
        Self { present: RwLock::new(Arc::new(config.key_set())), kept }
    }

    fn present(&self) -> Arc<KeySet> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_present(&self, keys: &Arc<KeySet>) -> bool {
        Arc::ptr_eq(&self.present.read().unwrap_or_else(PoisonError::into_inner), keys)
    }
}

impl<T> Registry<T> {
    /// Returns the keys that sign and prove identities now.
    pub(crate) fn key_set(&self) -> Arc<KeySet> {
        self.identity_keys.present()
    }

    /// Returns whether the keys are the store's.
    pub(crate) fn has_stored_keys(&self) -> bool {
        self.identity_keys.kept.is_some()
    }

    /// Returns the keys that the store keeps, as they were read last.
    pub(crate) fn known_ring(&self) -> Option<Ring> {
        self.identity_keys.kept.as_ref().and_then(|kept| lock(&kept.ring).clone())
    }

    /// Returns what an operator is told of the keys; nothing if the store keeps none.
    pub(crate) fn identity_key_list(&self) -> Vec<IdentityKey> {
        let life = self.config.cookie.max_age();
        self.known_ring().map_or_else(Vec::new, |ring| IdentityKey::all(&ring, Millis::now(), life))
    }

    /// Returns when the keys were read last, and what is notified when they should be read again; `None` if they are
    /// not the store's.
    pub(crate) fn key_reading(&self) -> Option<(Reading, Arc<Notify>)> {
        let kept = self.identity_keys.kept.as_ref()?;
        Some((*lock(&kept.read), Arc::clone(&kept.wanted)))
    }

    /// The keys have been read, or changed.
    pub(crate) fn keys_were_read(&self, ring: Ring, read: Reading) {
        let Some(kept) = &self.identity_keys.kept else {
            return;
        };
        {
            let mut known = lock(&kept.ring);
            // A reading that began earlier may end later.
            if known.as_ref().is_none_or(|known| !known.is_newer_than(&ring)) {
                *known = Some(ring);
            }
        }
        *lock(&kept.read) = read;
        self.arrange_keys();
        kept.is_unread.store(false, Ordering::Release);
    }

    /// Lets each key do what it does at this time.
    pub(crate) fn arrange_keys(&self) {
        let Some(kept) = &self.identity_keys.kept else {
            return;
        };
        // One at a time, so that the last one has seen the newest ring.
        let ring = lock(&kept.ring);
        let Some(ring) = &*ring else {
            return;
        };
        let now = Millis::now();
        if self.key_set().is_of(ring, &ring.roles(now, self.config.cookie.max_age())) {
            return;
        }
        let keys = Arc::new(KeySet::of_ring(&self.config.cookie, ring, now));
        *self.identity_keys.present.write().unwrap_or_else(PoisonError::into_inner) = keys;
        // In this order: a proof under the former keys is noted before this, or not at all.
        self.keys.forget_proofs();
    }

    /// The keys may be others than those that are known here. They are read soon, but not more often than once a second:
    /// strangers can bring this about.
    pub(crate) fn wants_keys(&self) {
        if let Some(kept) = &self.identity_keys.kept {
            kept.wanted.notify_one();
        }
    }

    /// Returns whether this process cannot tell who comes: the keys could not be read since the start, or so long ago that
    /// a cookie by an unknown key (`foreign`) may be one of another process.
    pub(crate) fn cannot_tell(&self, foreign: bool) -> bool {
        let Some(kept) = &self.identity_keys.kept else {
            return false;
        };
        let is_alone = || self.config.store.as_ref().is_some_and(|it| it.store.is_exclusive());
        kept.is_unread.load(Ordering::Acquire)
            || (foreign && lock(&kept.read).is_overdue() && !is_alone())
    }

    /// Returns the hour. Asking the wall clock in every request would be a good part of what a request costs.
    pub(crate) fn hour(&self) -> Hour {
        match self.hour.load(Ordering::Relaxed) {
            // The sweeper does not run yet.
            0 => Hour::of(wall::now()),
            number => Hour::from_number(number),
        }
    }

    /// The sweeper tells the hour.
    pub(crate) fn tell_hour(&self) {
        self.hour.store(Hour::of(wall::now()).number(), Ordering::Relaxed);
    }

    /// A cookie of our name has come with the MAC of another key.
    #[cold]
    pub(crate) fn has_seen_foreign_cookie(&self) {
        self.wants_keys();
        if !self.foreign_cookie.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                cookie = self.config.cookie.name(),
                "an identity cookie was signed with another key: another application on this host may use the \
                 same name (give this one a name: with_identity(IdentityCookie::new(..))), or the key was lost \
                 with an earlier process (with_store, or IdentityCookie::with_key, keeps it), or revoked. Told once"
            );
        }
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Returns by which of this layer's keys the token was signed.
    ///
    /// Computed once for a session under the identity's own key: from then on it knows this token. A token that fits
    /// is its cookie, come back.
    pub(crate) fn signature(&self, token: &Token) -> Signature {
        match self.keys.knows(token) {
            Known::Proved => Signature::Present,
            Known::Nothing => self.key_set().signature(token),
            Known::Unproved => {
                let keys = self.key_set();
                let signature = keys.signature(token);
                let session = match signature {
                    Signature::Foreign => None,
                    // Computed again each time: an answer is to replace this cookie.
                    Signature::Old => self.keys.own(token.identity),
                    Signature::Present => {
                        self.keys.keep(token, || self.identity_keys.is_present(&keys))
                    }
                };
                if let Some(session) = session {
                    self.has_come_back(&session);
                }
                signature
            }
        }
    }
}
