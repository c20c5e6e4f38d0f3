use std::hash::{BuildHasher as _, RandomState};

use uuid::Uuid;

use crate::{
    SessionId,
    words::{key::SessionKey, random},
};

/// Hashes what sessions are found by.
///
/// Nearly all keys and all ids are random numbers of our own making: one multiplication by a secret spreads them,
/// and no client can choose one that falls where others are. What clients can choose takes SipHash.
pub(super) struct Hasher {
    chosen: RandomState,
    /// Odd.
    factor: u128,
}

impl Hasher {
    pub(super) fn new() -> Self {
        Self { chosen: RandomState::new(), factor: u128::from_be_bytes(random::bytes()) | 1 }
    }

    pub(super) fn key(&self, key: &SessionKey) -> u64 {
        match key.owner() {
            Some(identity) => self.minted(identity.as_uuid()),
            None => self.chosen.hash_one(key),
        }
    }

    pub(super) fn id(&self, id: SessionId) -> u64 {
        self.minted(id.as_uuid())
    }

    pub(super) fn minted(&self, uuid: &Uuid) -> u64 {
        // The upper half of a product is where all bits of both factors meet.
        (uuid.as_u128().wrapping_mul(self.factor) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Identity;

    /// In the bits that choose a shard, a bucket and a tag.
    #[test]
    fn minted_numbers_are_spread() {
        let secret = Hasher::new();
        let minted = || *Identity::mint(random::bytes()).as_uuid();
        let hashes = (0..1 << 12).map(|_| secret.minted(&minted())).collect::<Vec<_>>();
        for shift in [0, 20, 40, 52] {
            let parts = hashes.iter().map(|hash| hash >> shift & 0xfff).collect::<HashSet<_>>();
            // Of 4096 in 4096 places, 63 % of the places are taken.
            assert!(parts.len() > 1 << 11, "{} at {shift}", parts.len());
        }
    }

    #[test]
    fn numbers_that_are_alike_have_hashes_of_their_own() {
        let secret = Hasher::new();
        for shift in [0, 31, 64, 100] {
            let hashes = (0..1_u128 << 12).map(|n| secret.minted(&Uuid::from_u128(n << shift)));
            assert!(hashes.collect::<HashSet<_>>().len() > 4000, "at {shift}");
        }
    }

    #[test]
    fn each_registry_has_its_own_hash() {
        let identity = Identity::mint(random::bytes());
        let (one, other) = (Hasher::new(), Hasher::new());
        let key = SessionKey::own(identity);
        assert_eq!(one.key(&key), one.key(&key.clone()));
        assert_ne!(one.key(&key), other.key(&key));
    }
}
