//! The same rules with large values: a store may keep them in parts.

use std::{thread, time::Duration};

use bytes::Bytes;

use super::{
    Wire,
    suite::{A, B, HOUR, Suite, fine, ok, refusal},
};
use crate::words::store::{ErrorKind, SnapshotStore, Stamp};

/// Some of a value that a store keeps in one part, and of one that it may keep in many.
const SMALL: usize = 1000;
const LARGE: usize = 200_000;

impl<S: SnapshotStore, W: Wire> Suite<'_, S, W> {
    /// A value changes a little, and grows and shrinks past all limits of a store.
    pub(super) async fn a_large_value_is_as_it_was_put(&self) {
        const RULE: &str = "rule 1 (atomic), large values";
        let key = self.key("large");
        let value = bytes(LARGE, 1);
        let mut stamp = self.make(&key, value.clone()).await;
        self.expect(RULE, &key, stamp, &value, HOUR).await;
        let middle = LARGE / 2;
        let next = [
            ("one byte is another", with(&value, middle, 1, b"?")),
            ("inserted in front", with(&value, 0, 0, b"in front")),
            ("inserted in the middle", with(&value, middle, 0, &bytes(5000, 2))),
            ("removed from the middle", with(&value, middle, 5000, b"")),
            ("appended", with(&value, LARGE, 0, b"behind")),
            ("cut off", value.slice(..LARGE - 10_000)),
            ("halves in another order", with(&value.slice(middle..), middle, 0, &value[..middle])),
            ("the same again and again", Bytes::from(value[..1000].repeat(300))),
            ("five times as long", bytes(5 * LARGE, 3)),
            ("as before", value.clone()),
            ("small", value.slice(..SMALL)),
            ("large again", value.clone()),
            ("empty", Bytes::new()),
            ("another", bytes(LARGE, 4)),
        ];
        for (what, value) in next {
            stamp = stamp.next();
            self.put(&key, stamp, &value, HOUR).await;
            self.expect(&format!("{RULE}: {what}"), &key, stamp, &value, HOUR).await;
        }
    }

    /// A refused call and a touch leave each part as it was, and a later owner's value is its own.
    pub(super) async fn a_large_value_is_its_owners_alone(&self) {
        const RULE: &str = "rule 3 (owned), large values";
        let key = self.key("large owned");
        let ours = bytes(LARGE, 1);
        let made = self.make(&key, ours.clone()).await;
        let changed = with(&ours, LARGE / 2, 100, b"theirs");
        let other = Stamp { owner: B, number: 9, ..made };
        refusal(RULE, self.store.put(&key, other, changed.clone(), HOUR).await, ErrorKind::Stale);
        let claim = self.store.claim(&key, None, Stamp::first(8, B), changed.clone(), HOUR);
        refusal(RULE, claim.await, ErrorKind::Stale);
        self.expect(RULE, &key, made, &ours, HOUR).await;
        ok(self.store.touch(&key, made, 9 * HOUR).await);
        self.expect("touch: a large value stays", &key, made, &ours, 9 * HOUR).await;
        fine("rule 4, large values", self.store.put(&key, made, changed.clone(), HOUR).await);
        self.expect("rule 4, large values", &key, made, &ours, 9 * HOUR).await;

        let theirs = made.taken_by(B);
        ok(self.store.claim(&key, Some(made), theirs, changed.clone(), HOUR).await);
        self.expect(RULE, &key, theirs, &changed, HOUR).await;
        let late = self.store.put(&key, made.next(), ours.clone(), HOUR).await;
        refusal(RULE, late, ErrorKind::Stale);
        self.expect(RULE, &key, theirs, &changed, HOUR).await;
        // It ends, and the next line begins with a large value of its own.
        let last = Bytes::from_static(b"ended");
        self.put(&key, theirs.next(), &last, HOUR).await;
        self.expect(RULE, &key, theirs.next(), &last, HOUR).await;
        let next = Stamp::first(8, A);
        ok(self.store.claim(&key, Some(theirs.next()), next, ours.clone(), HOUR).await);
        self.expect("rule 3: a new line, large values", &key, next, &ours, HOUR).await;
    }

    /// What goes with one record is not missing in another, and does not come back.
    pub(super) async fn a_large_value_goes_alone(&self) {
        const RULE: &str = "rule 5, large values: what goes takes nothing of others";
        let [stays, removed, expired] =
            ["large stays", "large removed", "large expired"].map(|id| self.key(id));
        let value = bytes(LARGE, 1);
        for key in [&stays, &removed] {
            self.make(key, value.clone()).await;
        }
        let first = Stamp::first(7, A);
        let moment = Duration::from_millis(1);
        ok(self.store.claim(&expired, None, first, value.clone(), moment).await);
        ok(self.store.remove(&removed, first.next()).await);
        thread::sleep(5 * moment);
        self.delete(99).await;
        for key in [&removed, &expired] {
            self.expect_none("rule 5, large values", key).await;
        }
        self.expect(RULE, &stays, first, &value, HOUR).await;
        // Nothing of the old value is taken for a part of the new one.
        let other = with(&value, LARGE / 2, 100, b"other");
        for key in [&removed, &expired] {
            let stamp = self.make(key, other.clone()).await;
            self.expect("rule 5, large values: made again", key, stamp, &other, HOUR).await;
        }
        self.put(&stays, first.next(), &other, HOUR).await;
        self.expect(RULE, &stays, first.next(), &other, HOUR).await;
    }
}

/// Bytes without a pattern, the same for each seed.
fn bytes(len: usize, mut seed: u64) -> Bytes {
    let next = || {
        // Knuth's MMIX.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Replaces some bytes of a value.
fn with(value: &[u8], at: usize, removed: usize, inserted: &[u8]) -> Bytes {
    [&value[..at], inserted, &value[at + removed..]].concat().into()
}
