use std::{sync::Arc, time::Duration};

use session_resume::{
    IdentityKeyRole, SessionResume,
    store::{ErrorKind, RecordKind, SnapshotStore, Stamp, StoreKey, contract},
};
use session_resume_redb::{OpenErrorKind, RedbStore};

use crate::support::{FIRST, LATER, directory, filled, key, noise};

#[tokio::test]
async fn the_contract_holds() {
    let (_directory, path) = directory();
    contract::check(&RedbStore::open(&path).unwrap()).await;
    contract::check_reopen(async || RedbStore::open(&path).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_many_threads() {
    let (_directory, path) = directory();
    contract::check(&Arc::new(RedbStore::open(&path).unwrap())).await;
}

#[tokio::test]
async fn an_identity_key_is_made_once_for_each_file() {
    let ((_one, one), (_other, other)) = (directory(), directory());
    let key = RedbStore::open(&one).unwrap().identity_key();
    assert!(key.is_some());
    assert_eq!(RedbStore::open(&one).unwrap().identity_key(), key);
    assert_ne!(RedbStore::open(&other).unwrap().identity_key(), key);
    assert!(RedbStore::open(&one).unwrap().is_exclusive());
}

#[tokio::test]
async fn keys_that_were_changed_are_there_when_the_file_is_opened_again() {
    let (_directory, path) = directory();
    let layer = || SessionResume::new().with_store(RedbStore::open(&path).unwrap());
    let before = layer();
    assert_eq!(before.identity_keys().len(), 1);
    before.rotate_identity_keys().await.unwrap();
    let keys = before.identity_keys();
    drop(before);
    // The task that reads the keys goes with the layer.
    tokio::task::yield_now().await;
    let rotated = layer();
    assert_eq!((rotated.identity_keys(), keys.len()), (keys, 2));
    rotated.revoke_identity_keys().await.unwrap();
    drop(rotated);
    tokio::task::yield_now().await;
    let [revoked] = layer().identity_keys()[..] else { panic!("the others are gone") };
    assert_eq!(revoked.role, IdentityKeyRole::Signing);
    assert!(revoked.made.is_some(), "it is not that of the file");
}

#[tokio::test]
async fn the_lock_goes_with_the_last_handle() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).unwrap();
    let other = store.clone();
    for round in 0..20 {
        drop(RedbStore::open(&path).unwrap_err());
        let (one, two) = (key(format!("one {round}")), key(format!("two {round}")));
        let claim = other.claim(&one, None, FIRST, "a".into(), LATER);
        let (claim, _) = tokio::join!(claim, store.load(&two));
        claim.unwrap();
    }
    drop(store);
    let err = RedbStore::open(&path).unwrap_err();
    assert_eq!(err.kind(), OpenErrorKind::Locked);
    drop(other);
    for _ in 0..20 {
        drop(RedbStore::open(&path).unwrap());
    }
}

#[tokio::test]
async fn dropping_the_last_handle_writes_what_is_queued() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).unwrap();
    let key = key("queued");
    {
        let put = store.claim(&key, None, FIRST, "queued".into(), LATER);
        let mut put = std::pin::pin!(put);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        // Queued now; whether it is answered already does not matter.
        let _ = put.as_mut().poll(&mut cx);
    }
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.load(&key).await.unwrap().unwrap().bytes, "queued");
}

#[tokio::test]
async fn a_file_that_is_mostly_free_is_smaller_when_it_is_opened_again() {
    let (_directory, path) = directory();
    let body = |n: usize| noise(100_000, n as u64);
    let store = RedbStore::open(&path).unwrap();
    for n in 0..100 {
        store.claim(&key(n), None, FIRST, body(n).into(), LATER).await.unwrap();
    }
    for n in (0..100).filter(|n| n % 10 != 0) {
        store.remove(&key(n), FIRST.next()).await.unwrap();
    }
    drop(store);
    let before = std::fs::metadata(&path).unwrap().len();
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.stats().compactions, 1);
    let after = std::fs::metadata(&path).unwrap().len();
    assert!(after * 3 < before, "{before} to {after}");
    for n in 0..100 {
        let record = store.load(&key(n)).await.unwrap();
        assert_eq!(record.map(|record| record.bytes), (n % 10 == 0).then(|| body(n).into()));
    }
}

#[tokio::test]
async fn more_callers_than_the_queue_holds_wait_for_room() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).unwrap();
    let mut puts = tokio::task::JoinSet::new();
    for n in 0..5000 {
        let store = store.clone();
        let key = key(n);
        puts.spawn(async move { store.claim(&key, None, FIRST, "x".into(), LATER).await });
    }
    let results = puts.join_all().await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(store.stats().writes, 5000);
}

#[tokio::test]
async fn what_changes_nothing_is_not_committed() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).unwrap();
    let stamp = FIRST.next();
    store.claim(&key("a"), None, stamp, "a".into(), LATER).await.unwrap();
    let before = store.stats();
    assert_eq!(store.delete_expired(9).await.unwrap(), 0);
    store.remove(&key("absent"), stamp).await.unwrap();
    // Put already, and refused.
    store.put(&key("a"), stamp, "b".into(), LATER).await.unwrap();
    store.put(&key("a"), FIRST, "b".into(), LATER).await.unwrap();
    let other = FIRST.taken_by(2);
    let err = store.claim(&key("a"), None, other, "b".into(), LATER).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Stale);
    assert_eq!(store.stats(), before);
}

/// A page that a load still looks at is freed by a put at the same time: in the dev profile redb checks for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_beside_puts_ends_nothing() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).unwrap();
    let key = key("busy");
    store.claim(&key, None, FIRST, vec![1; 5000].into(), LATER).await.unwrap();
    let putter = tokio::spawn({
        let (store, key) = (store.clone(), key.clone());
        async move {
            let mut stamp = FIRST;
            for n in 0..1500_usize {
                stamp = stamp.next();
                let bytes = vec![7; n * 37 % 9000];
                store.put(&key, stamp, bytes.into(), LATER).await.unwrap();
            }
        }
    });
    let mut loads = 0;
    while !putter.is_finished() {
        assert!(store.load(&key).await.unwrap().is_some());
        loads += 1;
    }
    putter.await.unwrap();
    assert!(loads > 100, "{loads}");
    store.put(&key, FIRST.taken_by(1), "last".into(), LATER).await.unwrap();
}

#[tokio::test]
async fn handles_say_where_they_write_and_not_what() {
    let (_directory, path) = directory();
    filled(&path, 1).await;
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.path(), path);
    let text = format!("{store:?}");
    assert!(text.contains("sessions.redb") && text.contains("commits"), "{text}");
    assert!(!text.contains("identity_key"), "{text}");
}

#[test]
fn handles_may_go_anywhere() {
    fn assert_bounds<T: Clone + Send + Sync + std::fmt::Debug + 'static>() {}
    fn assert_error<T: std::error::Error + Send + Sync + 'static>() {}
    assert_bounds::<RedbStore>();
    assert_error::<session_resume_redb::OpenError>();
}

/// It holds the key of every cookie.
#[cfg(unix)]
#[test]
fn a_new_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let (_directory, path) = directory();
    drop(RedbStore::open(&path).unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A bound on what is stored is asked for every new session: the count is always there, also after a restart.
#[tokio::test]
async fn records_are_counted_by_kind_and_layer() {
    let (_directory, path) = directory();
    let key = |kind, layer: &str, id: u8| StoreKey::new(kind, layer, &[id]).unwrap();
    let (session, visitor) = (RecordKind::Session, RecordKind::Visitor);
    let store = RedbStore::open(&path).unwrap();
    let counts = |store: &RedbStore| {
        [(session, "a"), (session, "ab"), (visitor, "a")]
            .map(|(kind, layer)| store.count(kind, layer).unwrap())
    };
    assert_eq!(counts(&store), [0, 0, 0]);
    let put = async |key: &StoreKey| {
        store.claim(key, None, FIRST, "x".into(), LATER).await.unwrap();
    };
    for id in [3, 1, 2] {
        put(&key(session, "a", id)).await;
        store.claim(&key(visitor, "a", id), None, FIRST, "".into(), Duration::ZERO).await.unwrap();
    }
    put(&key(session, "ab", 7)).await;
    assert_eq!(counts(&store), [3, 1, 3]);
    let first = store.first(visitor, "a", 2).await.unwrap();
    assert_eq!(first, [key(visitor, "a", 1), key(visitor, "a", 2)], "in order, of its own alone");
    assert_eq!(store.first(session, "a", 9).await.unwrap().len(), 3);
    assert_eq!(store.first(session, "b", 9).await.unwrap(), []);
    // Again, refused, touched, removed, removed again, expired.
    store.put(&key(session, "a", 1), FIRST.next(), "y".into(), LATER).await.unwrap();
    let other = Stamp::first(FIRST.line + 1, 1);
    store.put(&key(session, "a", 1), other, "z".into(), LATER).await.unwrap_err();
    store.touch(&key(session, "a", 1), FIRST.next(), LATER).await.unwrap();
    assert_eq!(counts(&store), [3, 1, 3]);
    for _ in 0..2 {
        store.remove(&key(session, "a", 2), FIRST.next()).await.unwrap();
    }
    assert_eq!(store.delete_expired(2).await.unwrap(), 2);
    assert_eq!(counts(&store), [2, 1, 1]);
    drop(store);
    assert_eq!(counts(&RedbStore::open(&path).unwrap()), [2, 1, 1]);
}

#[test]
fn two_layers_on_one_file_need_names() {
    let (_directory, path) = directory();
    let store = RedbStore::open(&path).unwrap();
    let layer =
        || session_resume::SessionResume::new().with_state::<u8>().with_store(store.clone());
    let (first, second) = (layer(), layer());
    first.validate().unwrap();
    assert!(second.validate().is_err());
    let named = layer().with_name("named");
    named.validate().unwrap();
    drop(first);
    second.validate().unwrap();
}
