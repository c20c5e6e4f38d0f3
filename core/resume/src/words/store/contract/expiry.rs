//! The rules about the end of records.

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Wire,
    suite::{A, HOUR, Suite, ok},
};
use crate::words::store::{SnapshotStore, Stamp, StoreKey};

const MILLI: Duration = Duration::from_millis(1);

impl<S: SnapshotStore, W: Wire> Suite<'_, S, W> {
    /// Makes a record that expires in `left`.
    async fn make_for(&self, key: &StoreKey, left: Duration) -> Stamp {
        let stamp = Stamp::first(7, A);
        ok(self.store.claim(key, None, stamp, Bytes::new(), left).await);
        stamp
    }

    /// How many of these are still there; a backend may let go of what has expired by itself.
    async fn count(&self, keys: &[StoreKey]) -> usize {
        let mut there = 0;
        for key in keys {
            there += usize::from(self.load(key).await.is_some());
        }
        there
    }

    pub(super) async fn what_is_left_counts_down(&self) {
        const RULE: &str = "rule 6 (expiry)";
        let key = self.key("left");
        let given = Duration::from_micros(5_900_900);
        let before = Instant::now();
        self.make_for(&key, given).await;
        let left = self.load(&key).await.map(|record| record.expires_in);
        let earliest = given.saturating_sub(before.elapsed());
        assert!(
            left.is_some_and(|left| left + MILLI >= earliest && left <= given + MILLI),
            "{RULE}: not a moment less than was given; {given:?} became {left:?}"
        );
        // It has ended when its time is up, and not before.
        let short = self.key("short");
        self.make_for(&short, 30 * MILLI).await;
        thread::sleep(40 * MILLI);
        let left = self.load(&short).await.map(|record| record.expires_in);
        assert!(left.is_none_or(|left| left.is_zero()), "{RULE}: its time is up, not {left:?}");
        for (id, long) in [("ten years", 87_660 * HOUR), ("for ever", Duration::MAX)] {
            let key = self.key(id);
            self.make_for(&key, long).await;
            let left = self.load(&key).await.map(|record| record.expires_in);
            let years = 87_599 * HOUR;
            assert!(
                left.is_some_and(|left| left >= years),
                "{RULE}: ten years at least; {left:?} is left"
            );
        }
        // Expired ones would be counted by what follows.
        self.clean_up().await;
    }

    pub(super) async fn what_is_due_is_deleted_and_nothing_else(&self) {
        const RULE: &str = "rule 6 (expiry)";
        let keys: Vec<_> = (0..5).map(|n| self.key(&format!("due {n}"))).collect();
        let later = self.key("later");
        let stamp = self.make_for(&later, HOUR).await;
        assert_eq!(self.delete(99).await, 0, "{RULE}: nothing is due yet");
        // The last one is the first to expire.
        for key in keys.iter().rev() {
            self.make_for(key, MILLI).await;
            thread::sleep(3 * MILLI);
        }
        let there = self.count(&keys).await;
        assert_eq!(self.delete(0).await, 0, "{RULE}: at most `limit` are deleted");
        let first = self.delete(2).await;
        assert_eq!(first, there.min(2), "{RULE}: as many as `limit` are deleted");
        if there == keys.len() {
            for (key, n) in keys.iter().zip(0..) {
                let there = self.load(key).await.is_some();
                assert_eq!(there, n < 3, "{RULE}: the longest expired go first");
            }
        }
        let rest = self.delete(99).await;
        assert_eq!(rest, there - first, "{RULE}: what has expired is due, and counted");
        assert_eq!(self.delete(99).await, 0, "{RULE}: what was deleted is not counted again");
        for key in &keys {
            self.expect_none("rule 6 (expiry): what was due is gone", key).await;
        }
        let rule = "rule 6 (expiry): what is not due stays";
        self.expect(rule, &later, stamp, &Bytes::new(), HOUR).await;
        let again = self.make_for(&keys[0], HOUR).await;
        let rule = "rule 5: deletion leaves no trace, either";
        self.expect(rule, &keys[0], again, &Bytes::new(), HOUR).await;
        self.clean_up().await;
    }

    pub(super) async fn expiry_follows_the_last_write(&self) {
        const RULE: &str = "rule 6 (expiry): the last write counts";
        let (soon, far) = (500 * MILLI, HOUR);
        let [put_on, put_back, touched_on, touched_back, removed, again] =
            ["put on", "put back", "touched on", "touched back", "removed", "again"]
                .map(|id| self.key(id));
        let first = Stamp::first(7, A);
        let second = first.next();
        for key in [&put_on, &touched_on, &removed, &again] {
            self.make_for(key, soon).await;
        }
        for key in [&put_back, &touched_back] {
            self.make_for(key, far).await;
        }
        self.put(&put_on, second, &Bytes::new(), far).await;
        self.put(&put_back, second, &Bytes::new(), Duration::ZERO).await;
        ok(self.store.touch(&touched_on, first, far).await);
        ok(self.store.touch(&touched_back, first, Duration::ZERO).await);
        ok(self.store.remove(&removed, second).await);
        // The same call once more: its time does not begin anew, nor end.
        self.put(&again, first, &Bytes::new(), Duration::ZERO).await;
        thread::sleep(5 * MILLI);
        let due = self.count(&[put_back.clone(), touched_back.clone()]).await;
        assert_eq!(self.delete(99).await, due, "{RULE}");
        thread::sleep(soon);
        let due = self.count(std::slice::from_ref(&again)).await;
        assert_eq!(self.delete(99).await, due, "{RULE}");
        self.expect(RULE, &put_on, second, &Bytes::new(), far).await;
        self.expect(RULE, &touched_on, first, &Bytes::new(), far).await;
        for key in [&put_back, &touched_back, &removed, &again] {
            self.expect_none(RULE, key).await;
        }
    }
}
