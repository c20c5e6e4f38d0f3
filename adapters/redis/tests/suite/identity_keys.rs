//! Keys that several processes have in common.

use session_resume::{
    KeyRotation, SessionResume,
    store::{SnapshotStore as _, StoreKey},
};
use session_resume_engine::{Engine, without_redis};
use session_resume_redis::RedisStore;

use crate::support::until_ok;

async fn node(engine: &Engine) -> (SessionResume, RedisStore) {
    let store = RedisStore::connect(engine.url()).await.unwrap();
    (SessionResume::new().with_store(store.clone()), store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_rotate_at_once_make_one_key_and_all_know_it() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let [(one, _), (other, _)] = [node(&engine).await, node(&engine).await];
    let (first, second) = tokio::join!(one.rotate_identity_keys(), other.rotate_identity_keys());
    let made = [first.unwrap(), second.unwrap()].map(|it| matches!(it, KeyRotation::Made { .. }));
    assert_ne!(made[0], made[1], "one of them made it");
    let (third, _) = node(&engine).await;
    let keys = [one, other, third].map(|it| it.identity_keys());
    assert_eq!(keys[0].len(), 2);
    assert!(keys.iter().all(|it| *it == keys[0]), "{keys:?}");
}

/// An engine without a disk is started again, and what a revocation has dropped does not come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_outlive_an_engine_that_loses_everything() {
    if without_redis() {
        return;
    }
    let mut engine = Engine::start();
    let (layer, store) = node(&engine).await;
    layer.revoke_identity_keys().await.unwrap();
    layer.rotate_identity_keys().await.unwrap();
    let keys = layer.identity_keys();
    engine.restart();
    let stored = until_ok(async || store.load(&StoreKey::identity_keys()).await).await;
    assert!(stored.is_none(), "it is lost");
    assert_eq!(layer.load_identity_keys().await.unwrap(), keys);
    assert_eq!(node(&engine).await.0.identity_keys(), keys);
}
