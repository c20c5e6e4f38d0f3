//! The keys that a store keeps, and the rules about them: which one signs when, which ones prove, what is dropped. Pure.
//!
//! One record for all layers on a store, because layers whose cookies have one name must believe each other:
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 8 | the number of the change: of two records, the one with the larger number is the newer |
//! | 80 for each key | the key (64), when it was made, from when on it signs (8 each, milliseconds since 1970) |
//!
//! Numbers are big-endian. Without a record there is one key: the one that the store was made with.
//! `tests/vectors/identity-keys.json` pins the format.

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::words::{
    millis::Millis,
    store::{ErrorKind, StoreError},
};

/// How long a new key waits before it signs: by then every process has read it.
pub(crate) const WAIT: Duration = Duration::from_secs(10 * 60);
/// How often the keys are read.
pub(crate) const REREAD: Duration = Duration::from_secs(60);
/// A process that has not read the keys for so long may not know a key that signs elsewhere. Clocks that differ by less
/// than what is left of [`WAIT`] do no harm.
pub(crate) const OVERDUE: Duration = Duration::from_secs(8 * 60);
/// Each key costs a MAC for every cookie that no key has signed. So there are at most this many.
pub(crate) const MOST: usize = 16;

/// Browsers keep no cookie for longer.
const LONGEST_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);
/// A process that was cut off from the store goes on signing with the key that it knows.
const GRACE: Duration = Duration::from_secs(24 * 3600);

const VERSION: u8 = 1;
const CHANGE: usize = 8;
const SECRET: usize = 64;
const KEY: usize = SECRET + 8 + 8;

/// The keys that sign and prove identities, with their dates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ring {
    /// The number of the change that made it: of two rings, the one with the larger number is the newer. 0 while there is no record.
    change: u64,
    /// Never empty; in the order in which they sign.
    keys: Vec<RingKey>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RingKey {
    secret: [u8; SECRET],
    pub(crate) made: Millis,
    pub(crate) signs_from: Millis,
}

/// What each key of a ring does at a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It proves, and will sign.
    Waiting,
    Signs,
    /// It proves, and has signed until the next key did.
    Old,
    /// It proves nothing any more: browsers have deleted the cookies that it has signed.
    Over,
}

/// Why there is no new key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotRotated {
    /// There is one already, and it signs from then on.
    Waits(Millis),
    /// There are [`MOST`] keys; the oldest is over then.
    Full(Millis),
}

impl Ring {
    /// The ring of a store that has kept one key since it was made.
    pub(crate) fn of_first(secret: [u8; SECRET]) -> Self {
        let start = Millis::new(0);
        Self { change: 0, keys: vec![RingKey { secret, made: start, signs_from: start }] }
    }

    /// Adds a key that signs from [`WAIT`] on; drops those that are over, where cookies live for `life`.
    ///
    /// While a new key waits, there is no other one: processes that rotate at the same time make one key together.
    pub(crate) fn rotated(
        &self,
        secret: [u8; SECRET],
        now: Millis,
        life: Option<Duration>,
    ) -> Result<Self, NotRotated> {
        let signs_from = now.later(WAIT);
        let waits = |key: &&RingKey| now < key.signs_from && key.signs_from <= signs_from;
        if let Some(key) = self.keys.iter().find(waits) {
            return Err(NotRotated::Waits(key.signs_from));
        }
        let roles = self.roles(now, life);
        let keys = self.keys.iter().zip(&roles).filter(|(_, role)| **role != Role::Over);
        let mut keys: Vec<_> = keys.map(|(key, _)| key.clone()).collect();
        if keys.len() >= MOST {
            return Err(NotRotated::Full(keys[1].signs_from.later(kept_for(life))));
        }
        // Not simply at the end: a process whose clock was wrong may have left a key of the far future.
        let at = keys.partition_point(|key| key.signs_from <= signs_from);
        keys.insert(at, RingKey { secret, made: now, signs_from });
        Ok(Self { change: self.change + 1, keys })
    }

    /// Drops all keys: the new one is the only one, and signs at once.
    ///
    /// Its number is larger than that of any ring of before, also of one that is not known here (the store has lost it, or it
    /// is damaged): the process that knows that one must not put it back.
    pub(crate) fn revoked(&self, secret: [u8; SECRET], now: Millis) -> Self {
        let keys = vec![RingKey { secret, made: now, signs_from: now }];
        Self { change: now.get().max(self.change + 1), keys }
    }

    /// Returns what each key does now, where cookies live for `life` (`None`: until the browser is closed).
    ///
    /// Exactly one signs: the last whose time has come. If that of none has, a clock is wrong, and the first signs.
    pub(crate) fn roles(&self, now: Millis, life: Option<Duration>) -> Vec<Role> {
        let signs = self.keys.iter().rposition(|key| key.signs_from <= now).unwrap_or(0);
        let role = |at: usize| match at.cmp(&signs) {
            std::cmp::Ordering::Greater => Role::Waiting,
            std::cmp::Ordering::Equal => Role::Signs,
            std::cmp::Ordering::Less if self.proves_until(at, life) > Some(now) => Role::Old,
            std::cmp::Ordering::Less => Role::Over,
        };
        (0..self.keys.len()).map(role).collect()
    }

    /// Returns until when a key proves that the next one has followed.
    pub(crate) fn proves_until(&self, at: usize, life: Option<Duration>) -> Option<Millis> {
        Some(self.keys.get(at + 1)?.signs_from.later(kept_for(life)))
    }

    pub(crate) fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.change > other.change
    }

    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = Vec::with_capacity(1 + CHANGE + KEY * self.keys.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.change.to_be_bytes());
        for key in &self.keys {
            bytes.extend_from_slice(&key.secret);
            for date in [key.made, key.signs_from] {
                bytes.extend_from_slice(&date.get().to_be_bytes());
            }
        }
        bytes.into()
    }

    /// Reads a record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let corrupt = || StoreError::from(ErrorKind::Corrupt);
        let (&version, rest) = bytes.split_first().ok_or_else(corrupt)?;
        if version > VERSION {
            return Err(ErrorKind::TooNew.into());
        }
        let (change, rest) = rest.split_first_chunk::<CHANGE>().ok_or_else(corrupt)?;
        let change = u64::from_be_bytes(*change);
        let (keys, none) = rest.as_chunks::<KEY>();
        let keys: Vec<_> = keys.iter().map(RingKey::decode).collect();
        let in_order = keys.is_sorted_by_key(|key| key.signs_from);
        if version != VERSION || change == 0 || keys.is_empty() || !none.is_empty() || !in_order {
            return Err(corrupt());
        }
        Ok(Self { change, keys })
    }
}

impl RingKey {
    pub(crate) fn secret(&self) -> &[u8; SECRET] {
        &self.secret
    }

    fn decode(bytes: &[u8; KEY]) -> Self {
        let mut secret = [0; SECRET];
        let (of_secret, dates) = bytes.split_at(SECRET);
        secret.copy_from_slice(of_secret);
        let date = |at: usize| {
            let mut date = [0; 8];
            date.copy_from_slice(&dates[at..at + 8]);
            Millis::new(u64::from_be_bytes(date))
        };
        Self { secret, made: date(0), signs_from: date(8) }
    }
}

/// How long a key proves after the next one has followed.
fn kept_for(life: Option<Duration>) -> Duration {
    life.unwrap_or(LONGEST_LIFE).min(LONGEST_LIFE) + GRACE
}

// By hand: a key is a secret.
impl fmt::Debug for RingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingKey")
            .field("made", &self.made)
            .field("signs_from", &self.signs_from)
            .finish_non_exhaustive()
    }
}
