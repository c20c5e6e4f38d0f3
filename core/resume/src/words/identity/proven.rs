use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ctutils::CtEq as _;
use uuid::Uuid;

use super::{Hour, Identity, Token};

/// Whose a session under an identity's own key is, and by which token that was proved last.
///
/// A MAC that was computed once need not be computed again for each request: that is a good part of what a
/// request costs.
///
/// Read and written under a lock of its owner's, which is what makes a pair of numbers one value.
#[derive(Default)]
pub(crate) struct Proven {
    identity: Number,
    /// Zero if nothing has been proved yet. If a token's MAC is zero, the MAC is computed each time.
    mac: Number,
    /// The hour of that token.
    issued: AtomicU32,
}

/// 128 bits in two halves.
#[derive(Default)]
struct Number([AtomicU64; 2]);

impl Proven {
    /// It is this identity's now, and no token has proved it yet.
    pub(crate) fn start(&self, identity: Option<Identity>) {
        self.identity.set(identity.map_or(0, |identity| identity.as_uuid().as_u128()));
        self.mac.set(0);
    }

    /// A token of this identity was found to be ours.
    pub(crate) fn keep(&self, token: &Token) {
        debug_assert!(self.is_of(token.identity));
        self.mac.set(u128::from_be_bytes(token.mac));
        self.issued.store(token.issued.number(), Ordering::Relaxed);
    }

    /// The keys have changed: the next token is looked at.
    pub(crate) fn forget(&self) {
        self.mac.set(0);
    }

    /// Returns whether this is the token that has proved it last, in constant time. Another one may be ours, too: a
    /// cookie that was renewed is a token of its own.
    pub(crate) fn is_by(&self, token: &Token) -> bool {
        let mac = self.mac.get();
        let issued = Hour::from_number(self.issued.load(Ordering::Relaxed));
        mac != 0 && issued == token.issued && mac.to_be_bytes().ct_eq(&token.mac).to_bool()
    }

    pub(crate) fn is_of(&self, identity: Identity) -> bool {
        self.identity() == *identity.as_uuid()
    }

    pub(crate) fn identity(&self) -> Uuid {
        Uuid::from_u128(self.identity.get())
    }
}

impl Number {
    fn get(&self) -> u128 {
        let [high, low] = self.0.each_ref().map(|half| u128::from(half.load(Ordering::Relaxed)));
        high << 64 | low
    }

    fn set(&self, number: u128) {
        let (high, low) = Uuid::from_u128(number).as_u64_pair();
        for (half, value) in self.0.iter().zip([high, low]) {
            half.store(value, Ordering::Relaxed);
        }
    }
}
