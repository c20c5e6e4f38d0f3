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

mod expiry;
mod rules;
mod suite;

use bytes::Bytes;

use self::suite::{HOUR, Suite, key_text, ok, refusal};
use super::{ErrorKind, Generation, SnapshotStore};

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
    let (kept, touched, removed) = (suite.key("kept"), suite.key("touched"), suite.key("removed"));
    for key in [&kept, &touched, &removed] {
        suite.put(key, 3, key_text(key), base).await;
    }
    ok(first.touch(&touched, Generation::new(3), base + HOUR).await);
    ok(first.remove(&removed, Generation::new(3)).await);
    let identity_key = first.identity_key();
    drop(first);

    let second = open().await;
    let suite = Suite { store: &second, layer: layer.clone(), base };
    assert!(
        second.identity_key() == identity_key,
        "identity_key: another one after opening the store again"
    );
    suite.expect("rule 2 (durable)", &kept, 3, key_text(&kept), base).await;
    let text = key_text(&touched);
    suite.expect("rule 2 (durable), touch", &touched, 3, text, base + HOUR).await;
    suite.expect_none("rule 2 (durable), remove", &removed).await;
    let refused = second.put(&kept, Generation::new(2), Bytes::new(), base).await;
    refusal("rule 3 (fenced), after opening again", refused, ErrorKind::Stale);
    let deleted = ok(second.delete_expired(base, 9).await);
    assert_eq!(deleted, 1, "rule 5 (expiry), after opening again: one record is due");
    drop(second);

    let third = open().await;
    let suite = Suite { store: &third, layer, base };
    suite.expect_none("rule 2 (durable), delete_expired", &kept).await;
    suite.clean_up().await;
}
