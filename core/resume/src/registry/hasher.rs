use std::hash::{BuildHasher as _, RandomState};

use uuid::Uuid;

use crate::{SessionId, key::SessionKey, random};

/// Hashes what sessions are found by.
///
/// Nearly all keys and all ids are random numbers of our own making: one multiplication by a secret spreads them,
/// and nobody can choose one that falls where others are. What clients can choose takes SipHash.
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
        match key.identity().filter(|_| key.is_own()) {
            Some(identity) => self.minted(identity.as_uuid()),
            None => self.chosen.hash_one(key),
        }
    }

    pub(super) fn id(&self, id: SessionId) -> u64 {
        self.minted(id.as_uuid())
    }

    fn minted(&self, uuid: &Uuid) -> u64 {
        // The upper half of a product is where all bits of both factors meet.
        (uuid.as_u128().wrapping_mul(self.factor) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::Identity;

    /// Also of numbers that differ in few bits, in the bits that choose a shard, a bucket and a tag.
    #[test]
    fn minted_numbers_are_spread() {
        let secret = Hasher::new();
        let random = (0..1_u32 << 12).map(|_| u128::from_be_bytes(random::bytes()));
        let alike = (0..1_u128 << 12).map(|n| n << 40);
        for numbers in [random.collect::<Vec<_>>(), alike.collect()] {
            let hashes = numbers.iter().map(|&n| secret.minted(&Uuid::from_u128(n)));
            let hashes = hashes.collect::<Vec<_>>();
            for shift in [0, 20, 40, 52] {
                let parts = hashes.iter().map(|hash| hash >> shift & 0xfff).collect::<HashSet<_>>();
                // Of 4096 in 4096 places, 63 % of the places are taken.
                assert!(parts.len() > 1 << 11, "{} at {shift}", parts.len());
            }
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
