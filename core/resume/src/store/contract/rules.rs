//! The rules about one record and its owners.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;

use super::suite::{HOUR, MINUTE, Suite, key_text, ok, refusal};
use crate::store::{ErrorKind, Generation, MAX_KEY_LEN, RecordKind, SnapshotStore, StoreError};

impl<S: SnapshotStore> Suite<'_, S> {
    pub(super) async fn a_put_is_loaded_whole(&self) {
        let key = self.key("whole");
        self.expect_none("load: nothing was put", &key).await;
        let large = Bytes::from(vec![0xA5; 1 << 20]);
        for (generation, bytes) in
            [(1, Bytes::from_static(b"state")), (2, large), (3, Bytes::new())]
        {
            let expires = self.base + MINUTE * u32::try_from(generation).unwrap_or(0);
            self.put(&key, generation, bytes.clone(), expires).await;
            self.expect("rule 1 (atomic)", &key, generation, bytes, expires).await;
        }
        for generation in [0, u64::MAX] {
            let key = self.key(&format!("generation {generation}"));
            self.put(&key, generation, Bytes::new(), self.base).await;
            self.expect(
                "load: every u64 is a generation",
                &key,
                generation,
                Bytes::new(),
                self.base,
            )
            .await;
        }
        let fine = self.base + Duration::from_micros(1500);
        self.put(&key, 3, Bytes::new(), fine).await;
        let loaded = self.load(&key).await.map(|record| record.expires);
        assert!(
            loaded.is_some_and(|at| at >= fine && at <= self.base + Duration::from_millis(2)),
            "rule 5 (expiry): kept to the millisecond, rounded up; {fine:?} became {loaded:?}"
        );
    }

    pub(super) async fn keys_do_not_collide(&self) {
        let long = vec![b'k'; MAX_KEY_LEN - 3 - self.layer.len()];
        let (mut longer, mut other) = (long.clone(), long.clone());
        longer.pop();
        *other.last_mut().expect("a long key is not empty") = b'l';
        let keys = [
            self.key_of(RecordKind::Session, b"k"),
            self.key_of(RecordKind::Outcome, b"k"),
            self.key_of(RecordKind::Session, b""),
            self.key_of(RecordKind::Session, b"\0"),
            self.key_of(RecordKind::Session, b"\xff\0:/*"),
            self.key_of(RecordKind::Session, &long),
            self.key_of(RecordKind::Session, &longer),
            self.key_of(RecordKind::Session, &other),
        ];
        for key in &keys {
            self.put(key, 1, key_text(key), self.base).await;
        }
        for key in &keys {
            self.expect("keys: each names its own record", key, 1, key_text(key), self.base).await;
        }
    }

    pub(super) async fn an_older_generation_is_stale(&self) {
        const RULE: &str = "rule 3 (fenced)";
        let key = self.key("fenced");
        let old = Generation::new(4);
        let bytes = Bytes::from_static(b"equal");
        self.put(&key, 4, Bytes::from_static(b"first"), self.base).await;
        self.put(&key, 4, bytes.clone(), self.base).await;
        self.expect("rule 3: an equal generation overwrites", &key, 4, bytes, self.base).await;
        let newer = Bytes::from_static(b"newer");
        self.put(&key, 6, newer.clone(), self.base).await;

        let put = self.store.put(&key, old, Bytes::from_static(b"old"), self.base + HOUR);
        refusal(RULE, put.await, ErrorKind::Stale);
        let touch = self.store.touch(&key, old, self.base + HOUR);
        refusal(RULE, touch.await, ErrorKind::Stale);
        refusal(RULE, self.store.remove(&key, old).await, ErrorKind::Stale);
        self.expect("rule 3: a refused call changes nothing", &key, 6, newer, self.base).await;
    }

    pub(super) async fn a_touch_moves_the_expiry_alone(&self) {
        let key = self.key("touched");
        let absent = self.store.touch(&key, Generation::new(1), self.base).await;
        refusal("touch: there is no record", absent, ErrorKind::NotFound);
        self.expect_none("touch: it makes no record", &key).await;

        let bytes = Bytes::from_static(b"state");
        self.put(&key, 2, bytes.clone(), self.base).await;
        for (generation, expires) in
            [(2, self.base + HOUR), (2, self.base - MINUTE), (9, self.base)]
        {
            ok(self.store.touch(&key, Generation::new(generation), expires).await);
            self.expect("touch: moves the expiry alone", &key, 2, bytes.clone(), expires).await;
        }
    }

    pub(super) async fn a_removal_forgets(&self) {
        const RULE: &str = "rule 4 (removal forgets)";
        let key = self.key("removed");
        ok(self.store.remove(&key, Generation::new(1)).await);
        self.put(&key, 8, Bytes::from_static(b"eight"), self.base).await;
        ok(self.store.remove(&key, Generation::new(8)).await);
        self.expect_none(RULE, &key).await;
        ok(self.store.remove(&key, Generation::new(8)).await);
        let bytes = Bytes::from_static(b"two");
        self.put(&key, 2, bytes.clone(), self.base).await;
        self.expect(RULE, &key, 2, bytes, self.base).await;
        ok(self.store.remove(&key, Generation::new(3)).await);
        self.expect_none("remove: a newer generation may", &key).await;
    }

    pub(super) async fn concurrent_puts_are_all_kept(&self) {
        let keys: Vec<_> = (0..300).map(|n| self.key(&format!("many {n}"))).collect();
        join_all(keys.iter().map(|key| self.put(key, 1, key_text(key), self.base))).await;
        for key in &keys {
            self.expect("rule 1: concurrent calls", key, 1, key_text(key), self.base).await;
        }
    }

    pub(super) async fn the_newest_of_concurrent_owners_wins(&self) {
        let key = self.key("contended");
        // Neither rising nor falling: 7 is coprime to 64.
        let contended = &key;
        let results = join_all((0..64_u64).map(|n| async move {
            let generation = n * 7 % 64;
            let bytes = Bytes::from(generation.to_string());
            let owner = Generation::new(generation);
            (generation, self.store.put(contended, owner, bytes, self.base).await)
        }))
        .await;
        for (generation, result) in results {
            if generation == 63 {
                ok(result);
            } else if result.is_err() {
                refusal("rule 3 (fenced), concurrent owners", result, ErrorKind::Stale);
            }
        }
        self.expect("rule 3 (fenced), concurrent owners", &key, 63, Bytes::from("63"), self.base)
            .await;
    }

    pub(super) async fn a_dropped_call_is_whole_and_not_late(&self) {
        const RULE: &str = "rule 6 (dropped futures)";
        let key = self.key("dropped");
        let (old, new) = (Bytes::from(vec![1; 100_000]), Bytes::from(vec![2; 200_000]));
        let three = Generation::new(3);
        self.put(&key, 3, old.clone(), self.base).await;
        poll_once(self.store.put(&key, three, new.clone(), self.base + HOUR));
        let record = self.load(&key).await;
        let whole = record.as_ref().is_some_and(|record| {
            (record.bytes == old && record.expires == self.base)
                || (record.bytes == new && record.expires == self.base + HOUR)
        });
        assert!(whole, "{RULE}: neither the old record nor the new one: {record:?}");

        for round in 0..20 {
            poll_once(self.store.put(&key, three, new.clone(), self.base + HOUR));
            let bytes = Bytes::from(format!("later {round}"));
            self.put(&key, 3, bytes.clone(), self.base).await;
            self.expect(RULE, &key, 3, bytes.clone(), self.base).await;
            poll_once(self.store.remove(&key, three));
            self.put(&key, 3, bytes.clone(), self.base).await;
            self.expect(RULE, &key, 3, bytes, self.base).await;
        }
    }

    pub(super) fn identity_key_and_exclusiveness_are_constant(&self) {
        let key = self.store.identity_key();
        assert!(key == self.store.identity_key(), "identity_key: always the same");
        assert!(key != Some([0; 64]), "identity_key: it is random");
        let exclusive = self.store.is_exclusive();
        assert_eq!(exclusive, self.store.is_exclusive(), "is_exclusive: always the same");
    }
}

/// Starts a call and lets go of it, as a request does whose client has hung up.
fn poll_once(call: impl Future<Output = Result<(), StoreError>>) {
    if let Poll::Ready(result) = pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        ok(result);
    }
}
