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

mod cluster;
mod expiry;
mod large;
mod late;
mod rules;
mod suite;

use std::pin::Pin;

use bytes::Bytes;

pub use self::cluster::check_cluster;
use self::suite::{HOUR, Suite, key_text, ok, refusal};
use super::{ErrorKind, SnapshotStore, StoreError, StoreKey};

#[cfg(test)]
mod tests;

/// A writing call of the store under test.
pub type Call<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// What lets a call arrive that was held.
pub type Late<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What is between the store under test and its records, as a test can disturb it.
pub trait Wire: Sync {
    /// Makes `call` so that it is on its way, does not arrive, and its caller loses the connection.
    ///
    /// Other calls arrive meanwhile. What is returned lets this one arrive, and has resolved when it has
    /// happened.
    fn hold<'a>(&'a self, call: Call<'a>) -> Pin<Box<dyn Future<Output = Late<'a>> + Send + 'a>>;
}

/// Nothing is between the store under test and its records: a call that is not polled is on its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct InProcess;

impl Wire for InProcess {
    fn hold<'a>(&'a self, call: Call<'a>) -> Pin<Box<dyn Future<Output = Late<'a>> + Send + 'a>> {
        let late: Late<'a> = Box::pin(async {
            // No caller waits for the answer.
            drop(call.await);
        });
        Box::pin(std::future::ready(late))
    }
}

/// Checks all rules that show while a store is open.
///
/// Nothing else may use the store meanwhile, and nothing in it may expire within a day. What the
/// suite put there is gone at the end. It blocks its thread for some seconds, to let time pass.
///
/// # Panics
///
/// At the first rule that does not hold.
pub async fn check<S: SnapshotStore>(store: &S) {
    check_over(store, &InProcess).await;
}

/// As [`check`], for a store that talks to another process: `wire` loses connections, and lets calls arrive
/// late that were sent on them.
///
/// # Panics
///
/// At the first rule that does not hold.
pub async fn check_over<S: SnapshotStore>(store: &S, wire: &impl Wire) {
    let suite = Suite::new(store, wire);
    suite.what_is_written_is_loaded_whole().await;
    suite.keys_do_not_collide().await;
    suite.a_claim_is_over_exactly_what_was_found().await;
    suite.a_record_is_its_owners_alone().await;
    suite.an_owner_heals_what_is_behind().await;
    suite.writes_have_an_order().await;
    suite.a_touch_moves_the_expiry_alone().await;
    suite.nothing_comes_back().await;
    suite.concurrent_writes_are_all_kept().await;
    suite.one_of_concurrent_claims_wins().await;
    suite.a_late_write_changes_nothing().await;
    suite.a_late_write_of_a_former_owner_changes_nothing().await;
    suite.a_late_claim_is_over_what_was_found().await;
    suite.a_call_sent_again_happens_once().await;
    suite.a_dropped_call_is_whole().await;
    suite.a_large_value_is_as_it_was_put().await;
    suite.a_large_value_is_its_owners_alone().await;
    suite.identity_key_and_exclusiveness_are_constant();
    suite.clean_up().await;
    suite.what_is_left_counts_down().await;
    suite.what_is_due_is_deleted_and_nothing_else().await;
    suite.expiry_follows_the_last_write().await;
    suite.a_large_value_goes_alone().await;
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
    let suite = Suite::new(&first, &InProcess);
    let layer = suite.layer.clone();
    let [kept, touched, removed, large] =
        ["kept", "touched", "removed", "large"].map(|id| suite.key(id));
    let mut stamp = None;
    for key in [&kept, &touched, &removed] {
        stamp = Some(suite.make(key, key_text(key)).await);
    }
    let stamp = stamp.expect("three records were made");
    ok(first.touch(&touched, stamp, 9 * HOUR).await);
    ok(first.remove(&removed, stamp.next()).await);
    let theirs = stamp.taken_by(suite::B);
    ok(first.claim(&kept, Some(stamp), theirs, key_text(&kept), HOUR).await);
    let value = Bytes::from(key_text(&large).repeat(10_000));
    let large_stamp = suite.make(&large, value.slice(1..)).await.next();
    suite.put(&large, large_stamp, &value, HOUR).await;
    let identity_key = first.identity_key();
    // Of a store in use: those that are there are left alone.
    let keys = StoreKey::identity_keys();
    let of_suite = ok(first.load(&keys).await).is_none();
    if of_suite {
        ok(first.claim(&keys, None, stamp, key_text(&keys), HOUR).await);
    }
    drop(first);

    let second = open().await;
    let suite = Suite::resumed(&second, &InProcess, layer.clone());
    assert!(
        second.identity_key() == identity_key,
        "identity_key: another one after opening the store again"
    );
    if identity_key.is_some() {
        let record = ok(second.load(&keys).await).map(|record| record.bytes);
        assert!(
            second.identity_keys() == record,
            "identity_keys: not what was there when the store was opened"
        );
    }
    if of_suite {
        ok(second.remove(&keys, stamp.next()).await);
    }
    suite.expect("rule 2 (durable)", &kept, theirs, &key_text(&kept), HOUR).await;
    let text = key_text(&touched);
    suite.expect("rule 2 (durable), touch", &touched, stamp, &text, 9 * HOUR).await;
    suite.expect_none("rule 2 (durable), remove", &removed).await;
    suite.expect("rule 2 (durable), large values", &large, large_stamp, &value, HOUR).await;
    let refused = second.put(&kept, stamp.next(), Bytes::new(), HOUR).await;
    refusal("rule 3 (owned), after opening again", refused, ErrorKind::Stale);
    let again = second.put(&kept, theirs, Bytes::new(), HOUR).await;
    suite::fine("rule 4 (in order), after opening again", again);
    suite.expect("rule 4, after opening again", &kept, theirs, &key_text(&kept), HOUR).await;
    ok(second.remove(&kept, theirs).await);
    drop(second);

    let third = open().await;
    let suite = Suite::resumed(&third, &InProcess, layer);
    suite.expect_none("rule 2 (durable), remove", &suite.key("kept")).await;
    suite
        .expect("rule 2 (durable), large values", &suite.key("large"), large_stamp, &value, HOUR)
        .await;
    suite.key("touched");
    suite.clean_up().await;
}
