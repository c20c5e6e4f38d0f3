//! What an operator sees of the keys that a store keeps.

use std::{error::Error, fmt, time::SystemTime};

use super::ring::{Ring, Role};
use crate::words::{millis::Millis, store::StoreError};

/// One of the keys that a store keeps, without the key itself; returned by
/// [`SessionResume::identity_keys`](crate::SessionResume::identity_keys).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct IdentityKey {
    /// When it was made; `None` for the key that the store was made with.
    pub made: Option<SystemTime>,
    /// From when on it signs cookies; `None` as above.
    pub signs_from: Option<SystemTime>,
    /// What it does now.
    pub role: IdentityKeyRole,
}

/// What a key does now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IdentityKeyRole {
    /// It is believed, and will sign. All processes that share the store read it meanwhile.
    Waiting,
    /// It signs cookies.
    Signing,
    /// It is believed, and signs none any more. A cookie that it has signed is replaced when it is used.
    Old {
        /// Until then it is believed. Browsers have deleted its cookies by then.
        until: SystemTime,
    },
}

impl IdentityKey {
    pub(crate) fn all(ring: &Ring, now: Millis, life: Option<std::time::Duration>) -> Vec<Self> {
        let roles = ring.roles(now, life);
        let key = |(at, role)| {
            let key = &ring.keys()[at];
            let date = |date: Millis| (date.get() > 0).then(|| date.time());
            let role = match role {
                Role::Waiting => IdentityKeyRole::Waiting,
                Role::Signs => IdentityKeyRole::Signing,
                Role::Old => IdentityKeyRole::Old { until: ring.proves_until(at, life)?.time() },
                Role::Over => return None,
            };
            Some(Self { made: date(key.made), signs_from: date(key.signs_from), role })
        };
        roles.into_iter().enumerate().filter_map(key).collect()
    }
}

/// What a rotation has come to; returned by
/// [`SessionResume::rotate_identity_keys`](crate::SessionResume::rotate_identity_keys).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRotation {
    /// There is a new key.
    Made {
        /// From then on it signs.
        signs_from: SystemTime,
    },
    /// There was a new key already, perhaps of another process, which does not sign yet.
    Waiting {
        /// From then on it signs.
        signs_from: SystemTime,
    },
}

/// The keys that sign identities were not read or changed.
#[derive(Debug)]
pub struct IdentityKeysError {
    kind: IdentityKeysErrorKind,
    source: Option<StoreError>,
}

/// Why the keys were not read or changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IdentityKeysErrorKind {
    /// No store keeps them: they are given by [`IdentityCookie::with_key`](crate::IdentityCookie::with_key), or there is no
    /// store that keeps any.
    NotStored,
    /// There are as many keys as there may be.
    TooMany {
        /// The oldest is dropped then, and there is room for another one.
        until: SystemTime,
    },
    /// The store has failed, or what it has cannot be read. A change may have happened all the same.
    Store,
    /// Other processes have changed the keys again and again meanwhile.
    Busy,
}

impl IdentityKeysError {
    pub(crate) fn new(kind: IdentityKeysErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Returns why.
    pub fn kind(&self) -> IdentityKeysErrorKind {
        self.kind
    }
}

impl From<StoreError> for IdentityKeysError {
    fn from(error: StoreError) -> Self {
        Self { kind: IdentityKeysErrorKind::Store, source: Some(error) }
    }
}

impl fmt::Display for IdentityKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            IdentityKeysErrorKind::NotStored => {
                "no store keeps the keys that sign identities: change IdentityCookie::with_key and with_old_keys instead"
            }
            IdentityKeysErrorKind::TooMany { .. } => {
                "there are 16 keys that sign or have signed identities: rotate less often, or give the cookie a shorter \
                 Max-Age"
            }
            IdentityKeysErrorKind::Store => "the store did not read or change the keys that sign identities",
            IdentityKeysErrorKind::Busy => "other processes have changed the keys that sign identities meanwhile",
        })
    }
}

impl Error for IdentityKeysError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
