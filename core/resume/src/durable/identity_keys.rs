//! Reads the keys that sign identities from the store, and changes them there.

use std::time::Duration;

use crate::{
    live::registry::{Reading, Registry},
    words::{
        identity::{
            IdentityKeysError, IdentityKeysErrorKind, KeyRotation, StoredKeys,
            ring::{NotRotated, Ring, WAIT},
        },
        millis::Millis,
        observe, random,
        store::{ErrorKind, Stamp, StoreError, StoreKey, named::Store},
    },
};

/// As long as a store keeps anything. The record is written again when half of it is over.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// All rings are of one line.
const LINE: u128 = 1;
/// How often a change is tried while other processes change the keys, too.
const ATTEMPTS: usize = 8;

/// What is in the store.
struct Found {
    stamp: Option<Stamp>,
    ring: Result<Ring, StoreError>,
    expires_in: Duration,
}

impl<T: Send + 'static> Registry<T> {
    /// Reads the keys. What the store has lost of them is put back.
    pub(crate) async fn read_identity_keys(&self) -> Result<(), IdentityKeysError> {
        let (store, stored) = self.key_store()?;
        let read = Reading::now();
        let found = find(store, stored).await?;
        let stored_ring = found.ring?;
        let known = self.known_ring().filter(|known| known.is_newer_than(&stored_ring));
        // An engine without a disk was started again, or a replica took its place.
        let is_lost = known.is_some();
        let grows_old = found.stamp.is_some() && found.expires_in < LIFETIME / 2;
        let ring = known.unwrap_or(stored_ring);
        if is_lost || grows_old {
            match write(store, found.stamp, &ring).await {
                Ok(()) if is_lost => {
                    tracing::warn!("the store had lost a change of the identity keys: put back");
                }
                Ok(()) => {}
                // Another process was faster. The next reading sees what it has written.
                Err(error) if error.kind() == ErrorKind::Stale => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.keys_were_read(ring, read);
        Ok(())
    }

    /// Adds a key, unless one waits already.
    pub(crate) async fn rotate_identity_keys(&self) -> Result<KeyRotation, IdentityKeysError> {
        let life = self.config().cookie.max_age();
        let secret = random::bytes();
        let changed = self
            .change_keys(|found| {
                let ring = found?;
                let now = Millis::now();
                Ok(ring.rotated(secret, now, life).map(|ring| (ring, now)))
            })
            .await?;
        match changed {
            Ok((keys, now)) => {
                let signs_from = now.later(WAIT).time();
                observe::keys_changed("rotate");
                tracing::info!(
                    keys,
                    "identity keys: there is a new one, which signs in 10 minutes"
                );
                Ok(KeyRotation::Made { signs_from })
            }
            Err(NotRotated::Waits(from)) => Ok(KeyRotation::Waiting { signs_from: from.time() }),
            Err(NotRotated::Full(until)) => {
                let until = until.time();
                Err(IdentityKeysError::new(IdentityKeysErrorKind::TooMany { until }))
            }
        }
    }

    /// Drops all keys for a new one.
    pub(crate) async fn revoke_identity_keys(&self) -> Result<(), IdentityKeysError> {
        let (_, stored) = self.key_store()?;
        let secret = random::bytes();
        let changed: Result<_, std::convert::Infallible> = self
            .change_keys(|found| {
                let ring = match found {
                    Ok(ring) => ring,
                    // There is nothing to be kept in it.
                    Err(error) if error.kind() == ErrorKind::Corrupt => {
                        self.known_ring().unwrap_or_else(|| Ring::of_first(stored.first))
                    }
                    Err(error) => return Err(error),
                };
                let now = Millis::now();
                Ok(Ok((ring.revoked(secret, now), now)))
            })
            .await?;
        let Ok(_) = changed;
        observe::keys_changed("revoke");
        tracing::warn!("identity keys: all were revoked; each browser gets a new identity");
        Ok(())
    }

    /// Writes what `change` makes of the newest keys; returns how many keys there are then.
    async fn change_keys<E>(
        &self,
        change: impl Fn(Result<Ring, StoreError>) -> Result<Result<(Ring, Millis), E>, StoreError>,
    ) -> Result<Result<(usize, Millis), E>, IdentityKeysError> {
        let (store, stored) = self.key_store()?;
        for _ in 0..ATTEMPTS {
            let read = Reading::now();
            let found = find(store, stored).await?;
            let newest = found.ring.map(|ring| match self.known_ring() {
                Some(known) if known.is_newer_than(&ring) => known,
                _ => ring,
            });
            if let Ok(ring) = &newest {
                self.keys_were_read(ring.clone(), read);
            }
            let (ring, now) = match change(newest)? {
                Ok(changed) => changed,
                Err(not) => return Ok(Err(not)),
            };
            match write(store, found.stamp, &ring).await {
                Ok(()) => {
                    let keys = ring.keys().len();
                    self.keys_were_read(ring, read);
                    return Ok(Ok((keys, now)));
                }
                Err(error) if error.kind() == ErrorKind::Stale => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(IdentityKeysError::new(IdentityKeysErrorKind::Busy))
    }

    fn key_store(&self) -> Result<(&Store, &StoredKeys), IdentityKeysError> {
        let config = self.config();
        let kept = config.store.as_ref().zip(config.stored_keys());
        kept.ok_or_else(|| IdentityKeysError::new(IdentityKeysErrorKind::NotStored))
    }
}

async fn find(store: &Store, stored: &StoredKeys) -> Result<Found, StoreError> {
    let record = store.store.load(&StoreKey::identity_keys()).await?;
    let of_first =
        || Found { stamp: None, ring: Ok(Ring::of_first(stored.first)), expires_in: LIFETIME };
    Ok(record.map_or_else(of_first, |record| Found {
        stamp: Some(record.stamp),
        ring: Ring::decode(&record.bytes),
        expires_in: record.expires_in,
    }))
}

/// Writes the keys over exactly what was found.
async fn write(store: &Store, found: Option<Stamp>, ring: &Ring) -> Result<(), StoreError> {
    let owner = u64::from_be_bytes(random::bytes());
    let stamp = found.map_or(Stamp::first(LINE, owner), |found| found.taken_by(owner));
    let key = StoreKey::identity_keys();
    store.store.claim(&key, found, stamp, ring.encode(), LIFETIME).await
}
