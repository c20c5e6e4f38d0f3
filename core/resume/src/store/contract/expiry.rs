//! The rules about the end of records.

use std::time::Duration;

use bytes::Bytes;

use super::suite::{HOUR, MINUTE, Suite, ok};
use crate::store::{Generation, SnapshotStore};

impl<S: SnapshotStore> Suite<'_, S> {
    pub(super) async fn what_is_due_is_deleted_and_nothing_else(&self) {
        const RULE: &str = "rule 5 (expiry)";
        self.clean_up().await;
        let due = self.base;
        let keys: Vec<_> = (0..5).map(|n| self.key(&format!("due {n}"))).collect();
        let later = self.key("later");
        for (key, n) in keys.iter().zip(0..) {
            self.put(key, 1, Bytes::new(), due - MINUTE * n).await;
        }
        self.put(&later, 1, Bytes::new(), due + Duration::from_millis(1)).await;

        assert_eq!(self.delete(due - HOUR, 99).await, 0, "{RULE}: nothing is due yet");
        assert_eq!(self.delete(due, 0).await, 0, "{RULE}: at most `limit` are deleted");
        assert_eq!(self.delete(due, 2).await, 2, "{RULE}: as many as `limit` are deleted");
        for (key, n) in keys.iter().zip(0..) {
            let there = self.load(key).await.is_some();
            assert_eq!(there, n < 3, "{RULE}: the longest expired go first");
        }
        assert_eq!(self.delete(due, 99).await, 3, "{RULE}: `expires <= now` is due, and counted");
        assert_eq!(self.delete(due, 99).await, 0, "{RULE}: what was deleted is not counted again");
        for key in &keys {
            self.expect_none("rule 5 (expiry): what was due is gone", key).await;
        }
        self.expect(
            "rule 5 (expiry): what is not due stays",
            &later,
            1,
            Bytes::new(),
            due + Duration::from_millis(1),
        )
        .await;
        self.put(&keys[0], 0, Bytes::new(), due).await;
        self.expect("rule 4: deletion forgets, too", &keys[0], 0, Bytes::new(), due).await;
    }

    pub(super) async fn expiry_follows_the_last_write(&self) {
        const RULE: &str = "rule 5 (expiry): the last write counts";
        self.clean_up().await;
        let (due, far) = (self.base, self.base + HOUR);
        let [put_on, put_back, touched_on, touched_back, removed] =
            ["put on", "put back", "touched on", "touched back", "removed"].map(|id| self.key(id));
        let one = Generation::new(1);
        self.put(&put_on, 1, Bytes::new(), due).await;
        self.put(&put_on, 1, Bytes::new(), far).await;
        self.put(&put_back, 1, Bytes::new(), far).await;
        self.put(&put_back, 2, Bytes::new(), due).await;
        self.put(&touched_on, 1, Bytes::new(), due).await;
        ok(self.store.touch(&touched_on, one, far).await);
        self.put(&touched_back, 1, Bytes::new(), far).await;
        ok(self.store.touch(&touched_back, one, due).await);
        self.put(&removed, 1, Bytes::new(), due).await;
        ok(self.store.remove(&removed, one).await);

        assert_eq!(self.delete(due, 99).await, 2, "{RULE}");
        self.expect(RULE, &put_on, 1, Bytes::new(), far).await;
        self.expect(RULE, &touched_on, 1, Bytes::new(), far).await;
        for key in [&put_back, &touched_back, &removed] {
            self.expect_none(RULE, key).await;
        }
    }
}
