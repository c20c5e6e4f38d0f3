//! The rules of [`SnapshotStore`] as a suite that every backend runs.
//!
//! A backend's test is two lines, under the executor it is written for:
//!
//! ```
//! use session_resume::store::{MemoryStore, contract};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! contract::check(&MemoryStore::new()).await;
//! # });
//! ```
//!
//! A store that outlives the process also runs [`check_reopen`], and adds what is special to it: what
//! a crash leaves behind, and how it says that its file or server cannot be used.
//!
//! The suite panics at the first broken rule, with a text that names it.

use std::{
    pin::pin,
    task::{Context, Waker},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{
    ErrorKind, Generation, MAX_KEY_LEN, RecordKind, SnapshotStore, StoreError, StoreKey, Versioned,
};

#[cfg(test)]
mod tests;

/// Checks all rules that show while a store is open.
///
/// Nothing else may use the store meanwhile, and nothing in it may expire within a day. What the
/// suite put there is gone at the end.
///
/// # Panics
///
/// At the first rule that does not hold.
pub async fn check<S: SnapshotStore>(store: &S) {
    let suite = Suite::new(store);
    suite.a_put_is_loaded_whole().await;
    suite.keys_do_not_collide().await;
    suite.an_older_generation_is_stale().await;
    suite.a_touch_moves_the_expiry_alone().await;
    suite.a_removal_forgets().await;
    suite.what_is_due_is_deleted_and_nothing_else().await;
    suite.expiry_follows_the_last_write().await;
    suite.concurrent_puts_are_all_kept().await;
    suite.the_newest_of_concurrent_owners_wins().await;
    suite.a_dropped_call_is_whole_and_not_late().await;
    suite.identity_key_and_exclusiveness_are_constant();
    suite.clean_up().await;
}

/// Checks that what was put is there when the store is opened again.
///
/// `open` is called several times, each time after the last store was dropped. Under the same
/// conditions as [`check`].
///
/// # Panics
///
/// At the first rule that does not hold.
pub async fn check_reopen<S: SnapshotStore>(open: impl AsyncFn() -> S) {
    let first = open().await;
    let suite = Suite::new(&first);
    let layer = suite.layer.clone();
    let base = suite.base;
    let (kept, touched, removed) = (
        suite.key("kept"),
        suite.key("touched"),
        suite.key("removed"),
    );
    for key in [&kept, &touched, &removed] {
        suite.put(key, 3, key_text(key), base).await;
    }
    ok(first.touch(&touched, Generation::new(3), base + HOUR).await);
    ok(first.remove(&removed, Generation::new(3)).await);
    let identity_key = first.identity_key();
    drop(first);

    let second = open().await;
    let suite = Suite {
        store: &second,
        layer: layer.clone(),
        base,
    };
    assert!(
        second.identity_key() == identity_key,
        "identity_key: another one after opening the store again"
    );
    suite
        .expect("rule 2 (durable)", &kept, 3, key_text(&kept), base)
        .await;
    let text = key_text(&touched);
    suite
        .expect("rule 2 (durable), touch", &touched, 3, text, base + HOUR)
        .await;
    suite
        .expect_none("rule 2 (durable), remove", &removed)
        .await;
    let refused = second
        .put(&kept, Generation::new(2), Bytes::new(), base)
        .await;
    refusal(
        "rule 3 (fenced), after opening again",
        refused,
        ErrorKind::Stale,
    );
    let deleted = ok(second.delete_expired(base, 9).await);
    assert_eq!(
        deleted, 1,
        "rule 5 (expiry), after opening again: one record is due"
    );
    drop(second);

    let third = open().await;
    let suite = Suite {
        store: &third,
        layer,
        base,
    };
    suite
        .expect_none("rule 2 (durable), delete_expired", &kept)
        .await;
    suite.clean_up().await;
}

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

struct Suite<'a, S> {
    store: &'a S,
    /// Made anew for every run: the remains of one that failed do not make the next fail.
    layer: String,
    /// In the future, because a backend may let go of what has expired; whole seconds.
    base: SystemTime,
}

impl<'a, S: SnapshotStore> Suite<'a, S> {
    fn new(store: &'a S) -> Self {
        let run = getrandom::u64().expect("the operating system has random bytes");
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            store,
            layer: format!("contract-{run:016x}"),
            base: SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs()) + HOUR,
        }
    }

    async fn a_put_is_loaded_whole(&self) {
        let key = self.key("whole");
        self.expect_none("load: nothing was put", &key).await;
        let large = Bytes::from(vec![0xA5; 1 << 20]);
        for (generation, bytes) in [
            (1, Bytes::from_static(b"state")),
            (2, large),
            (3, Bytes::new()),
        ] {
            let expires = self.base + MINUTE * u32::try_from(generation).unwrap_or(0);
            self.put(&key, generation, bytes.clone(), expires).await;
            self.expect("rule 1 (atomic)", &key, generation, bytes, expires)
                .await;
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

    async fn keys_do_not_collide(&self) {
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
            self.expect(
                "keys: each names its own record",
                key,
                1,
                key_text(key),
                self.base,
            )
            .await;
        }
    }

    async fn an_older_generation_is_stale(&self) {
        const RULE: &str = "rule 3 (fenced)";
        let key = self.key("fenced");
        let old = Generation::new(4);
        let bytes = Bytes::from_static(b"equal");
        self.put(&key, 4, Bytes::from_static(b"first"), self.base)
            .await;
        self.put(&key, 4, bytes.clone(), self.base).await;
        self.expect(
            "rule 3: an equal generation overwrites",
            &key,
            4,
            bytes,
            self.base,
        )
        .await;
        let newer = Bytes::from_static(b"newer");
        self.put(&key, 6, newer.clone(), self.base).await;

        let put = self
            .store
            .put(&key, old, Bytes::from_static(b"old"), self.base + HOUR);
        refusal(RULE, put.await, ErrorKind::Stale);
        let touch = self.store.touch(&key, old, self.base + HOUR);
        refusal(RULE, touch.await, ErrorKind::Stale);
        refusal(RULE, self.store.remove(&key, old).await, ErrorKind::Stale);
        self.expect(
            "rule 3: a refused call changes nothing",
            &key,
            6,
            newer,
            self.base,
        )
        .await;
    }

    async fn a_touch_moves_the_expiry_alone(&self) {
        let key = self.key("touched");
        let absent = self.store.touch(&key, Generation::new(1), self.base).await;
        refusal("touch: there is no record", absent, ErrorKind::NotFound);
        self.expect_none("touch: it makes no record", &key).await;

        let bytes = Bytes::from_static(b"state");
        self.put(&key, 2, bytes.clone(), self.base).await;
        for (generation, expires) in [
            (2, self.base + HOUR),
            (2, self.base - MINUTE),
            (9, self.base),
        ] {
            ok(self
                .store
                .touch(&key, Generation::new(generation), expires)
                .await);
            self.expect(
                "touch: moves the expiry alone",
                &key,
                2,
                bytes.clone(),
                expires,
            )
            .await;
        }
    }

    async fn a_removal_forgets(&self) {
        const RULE: &str = "rule 4 (removal forgets)";
        let key = self.key("removed");
        ok(self.store.remove(&key, Generation::new(1)).await);
        self.put(&key, 8, Bytes::from_static(b"eight"), self.base)
            .await;
        ok(self.store.remove(&key, Generation::new(8)).await);
        self.expect_none(RULE, &key).await;
        ok(self.store.remove(&key, Generation::new(8)).await);
        let bytes = Bytes::from_static(b"two");
        self.put(&key, 2, bytes.clone(), self.base).await;
        self.expect(RULE, &key, 2, bytes, self.base).await;
        ok(self.store.remove(&key, Generation::new(3)).await);
        self.expect_none("remove: a newer generation may", &key)
            .await;
    }

    async fn what_is_due_is_deleted_and_nothing_else(&self) {
        const RULE: &str = "rule 5 (expiry)";
        self.clean_up().await;
        let due = self.base;
        let keys: Vec<_> = (0..5).map(|n| self.key(&format!("due {n}"))).collect();
        let later = self.key("later");
        for (key, n) in keys.iter().zip(0..) {
            self.put(key, 1, Bytes::new(), due - MINUTE * n).await;
        }
        self.put(&later, 1, Bytes::new(), due + Duration::from_millis(1))
            .await;

        assert_eq!(
            self.delete(due - HOUR, 99).await,
            0,
            "{RULE}: nothing is due yet"
        );
        assert_eq!(
            self.delete(due, 0).await,
            0,
            "{RULE}: at most `limit` are deleted"
        );
        assert_eq!(
            self.delete(due, 2).await,
            2,
            "{RULE}: as many as `limit` are deleted"
        );
        for (key, n) in keys.iter().zip(0..) {
            let there = self.load(key).await.is_some();
            assert_eq!(there, n < 3, "{RULE}: the longest expired go first");
        }
        assert_eq!(
            self.delete(due, 99).await,
            3,
            "{RULE}: `expires <= now` is due, and counted"
        );
        assert_eq!(
            self.delete(due, 99).await,
            0,
            "{RULE}: what was deleted is not counted again"
        );
        for key in &keys {
            self.expect_none("rule 5 (expiry): what was due is gone", key)
                .await;
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
        self.expect(
            "rule 4: deletion forgets, too",
            &keys[0],
            0,
            Bytes::new(),
            due,
        )
        .await;
    }

    async fn expiry_follows_the_last_write(&self) {
        const RULE: &str = "rule 5 (expiry): the last write counts";
        self.clean_up().await;
        let (due, far) = (self.base, self.base + HOUR);
        let [put_on, put_back, touched_on, touched_back, removed] = [
            "put on",
            "put back",
            "touched on",
            "touched back",
            "removed",
        ]
        .map(|id| self.key(id));
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

    async fn concurrent_puts_are_all_kept(&self) {
        let keys: Vec<_> = (0..300).map(|n| self.key(&format!("many {n}"))).collect();
        join_all(
            keys.iter()
                .map(|key| self.put(key, 1, key_text(key), self.base)),
        )
        .await;
        for key in &keys {
            self.expect("rule 1: concurrent calls", key, 1, key_text(key), self.base)
                .await;
        }
    }

    async fn the_newest_of_concurrent_owners_wins(&self) {
        let key = self.key("contended");
        // Neither rising nor falling: 7 is coprime to 64.
        let contended = &key;
        let results = join_all((0..64_u64).map(|n| async move {
            let generation = n * 7 % 64;
            let bytes = Bytes::from(generation.to_string());
            let owner = Generation::new(generation);
            (
                generation,
                self.store.put(contended, owner, bytes, self.base).await,
            )
        }))
        .await;
        for (generation, result) in results {
            if generation == 63 {
                ok(result);
            } else if result.is_err() {
                refusal(
                    "rule 3 (fenced), concurrent owners",
                    result,
                    ErrorKind::Stale,
                );
            }
        }
        self.expect(
            "rule 3 (fenced), concurrent owners",
            &key,
            63,
            Bytes::from("63"),
            self.base,
        )
        .await;
    }

    async fn a_dropped_call_is_whole_and_not_late(&self) {
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
        assert!(
            whole,
            "{RULE}: neither the old record nor the new one: {record:?}"
        );

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

    fn identity_key_and_exclusiveness_are_constant(&self) {
        let key = self.store.identity_key();
        assert!(
            key == self.store.identity_key(),
            "identity_key: always the same"
        );
        assert!(key != Some([0; 64]), "identity_key: it is random");
        let exclusive = self.store.is_exclusive();
        assert_eq!(
            exclusive,
            self.store.is_exclusive(),
            "is_exclusive: always the same"
        );
    }

    /// Everything that the suite puts expires within two hours of `base`.
    async fn clean_up(&self) {
        while self.delete(self.base + 2 * HOUR, 1000).await == 1000 {}
    }

    fn key(&self, id: &str) -> StoreKey {
        self.key_of(RecordKind::Session, id.as_bytes())
    }

    fn key_of(&self, kind: RecordKind, id: &[u8]) -> StoreKey {
        ok(StoreKey::new(kind, &self.layer, id))
    }

    async fn put(&self, key: &StoreKey, generation: u64, bytes: Bytes, expires: SystemTime) {
        let generation = Generation::new(generation);
        ok(self.store.put(key, generation, bytes, expires).await);
    }

    async fn load(&self, key: &StoreKey) -> Option<Versioned> {
        ok(self.store.load(key).await)
    }

    async fn delete(&self, now: SystemTime, limit: usize) -> usize {
        ok(self.store.delete_expired(now, limit).await)
    }

    async fn expect(
        &self,
        rule: &str,
        key: &StoreKey,
        generation: u64,
        bytes: Bytes,
        expires: SystemTime,
    ) {
        let expected = Versioned {
            generation: Generation::new(generation),
            bytes,
            expires,
        };
        let loaded = self.load(key).await;
        assert!(
            loaded.as_ref() == Some(&expected),
            "{rule}: expected {expected:?}, loaded {loaded:?}"
        );
    }

    async fn expect_none(&self, rule: &str, key: &StoreKey) {
        let loaded = self.load(key).await;
        assert!(
            loaded.is_none(),
            "{rule}: expected no record, loaded {loaded:?}"
        );
    }
}

/// Different bytes for different keys.
fn key_text(key: &StoreKey) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

fn ok<T>(result: Result<T, StoreError>) -> T {
    match result {
        Ok(value) => value,
        Err(err) => panic!("this call should have succeeded: {err} ({err:?})"),
    }
}

fn refusal(rule: &str, result: Result<(), StoreError>, kind: ErrorKind) {
    match result {
        Err(err) if err.kind() == kind => {}
        other => panic!("{rule}: expected a refusal as {kind:?}, got {other:?}"),
    }
}

/// Starts a call and lets go of it, as a request does whose client has hung up.
fn poll_once(call: impl Future<Output = Result<(), StoreError>>) {
    if let std::task::Poll::Ready(result) = pin!(call).poll(&mut Context::from_waker(Waker::noop()))
    {
        ok(result);
    }
}
