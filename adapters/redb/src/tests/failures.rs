//! What a store says when its disk fails, and what it does next.

use std::{
    error::Error,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use session_resume::store::{ErrorKind, SnapshotStore};

use super::{Disk, FIRST, LATER, expect, key, put};
use crate::{
    OpenErrorKind,
    open::{self, Expect},
};

#[tokio::test]
async fn a_full_disk_fails_the_call_and_is_recovered_from() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    let mut acknowledged = vec![0];
    put(&store, 0).await.unwrap();
    // Full after any number of writes: in the middle of a commit, or of a recovery.
    for n in 1..40 {
        disk.state().writes_left = Some(n % 9);
        match put(&store, n).await {
            Ok(()) => acknowledged.push(n),
            Err(err) => {
                let kinds = [ErrorKind::Io, ErrorKind::Unavailable];
                assert!(kinds.contains(&err.kind()), "{err:?}");
            }
        }
        expect(&disk.after_power_failure(), &acknowledged).await;
    }
    assert!(store.stats().failures > 5, "{:?}", store.stats());
    disk.state().writes_left = None;
    put(&store, 40).await.unwrap();
    acknowledged.push(40);
    for n in &acknowledged {
        assert!(store.load(&key(*n)).await.unwrap().is_some(), "record {n}");
    }
    drop(store);
    expect(&disk, &acknowledged).await;
}

#[tokio::test]
async fn every_call_of_a_failed_batch_is_told() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    put(&store, 0).await.unwrap();
    disk.state().writes_left = Some(0);
    let mut puts = tokio::task::JoinSet::new();
    for n in 1..50 {
        let store = store.clone();
        puts.spawn(async move { put(&store, n).await });
    }
    for result in puts.join_all().await {
        let err = result.unwrap_err();
        assert!(!err.kind().is_refusal(), "{err:?}");
        assert!(Error::source(&err).is_some(), "the cause is kept");
    }
    assert_eq!(store.stats().writes, 1);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    put(&store, 0).await.unwrap();
    disk.state().syncs_fail = true;
    assert_eq!(put(&store, 1).await.unwrap_err().kind(), ErrorKind::Io);
    // The next sync would say that all is well, and would be wrong about what came before it.
    disk.state().syncs_fail = false;
    for n in 2..5 {
        let err = put(&store, n).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unavailable);
        let cause = Error::source(&err).unwrap().to_string();
        assert!(cause.contains("restart the process"), "{cause}");
    }
    expect(&disk.after_power_failure(), &[0]).await;
}

#[tokio::test]
async fn a_failed_read_is_told_and_recovered_from() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    // More than the cache of pages holds.
    let large = vec![7; 32_000];
    for n in 0..80 {
        store.claim(&key(n), None, FIRST, large.clone().into(), LATER).await.unwrap();
    }
    disk.state().reads_fail = true;
    let mut failed = 0;
    for n in 0..80 {
        match store.load(&key(n)).await {
            Ok(record) => assert!(record.is_some_and(|record| record.bytes == large)),
            Err(err) => {
                assert!([ErrorKind::Io, ErrorKind::Unavailable].contains(&err.kind()), "{err:?}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "all of it was in the cache");
    disk.state().reads_fail = false;
    // A write is what finds out and recovers; the store's owner writes all the time.
    while put(&store, 99).await.is_err() {}
    for n in 0..80 {
        assert!(store.load(&key(n)).await.unwrap().is_some_and(|record| record.bytes == large));
    }
}

#[tokio::test]
async fn recovery_is_not_tried_all_the_time() {
    let disk = Disk::default();
    let store = disk.open_with(Duration::MAX).unwrap();
    put(&store, 0).await.unwrap();
    disk.state().writes_left = Some(0);
    put(&store, 1).await.unwrap_err();
    put(&store, 1).await.unwrap_err();
    disk.state().writes_left = None;
    let err = put(&store, 1).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Unavailable, "not before `retry_after`");
}

#[tokio::test]
async fn recovery_takes_no_other_file_for_its_own() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    put(&store, 0).await.unwrap();
    let other = Disk::default();
    drop(other.open().unwrap());
    let foreign = other.state().current.clone();
    for content in [foreign, Vec::new()] {
        disk.state().writes_left = Some(0);
        put(&store, 1).await.unwrap_err();
        disk.state().current.clone_from(&content);
        disk.state().writes_left = None;
        let err = put(&store, 1).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unavailable, "{err:?}");
        assert!(disk.state().current == content, "it was changed");
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_not_called_damaged() {
    let disk = Disk::default();
    drop(disk.open().unwrap());
    disk.state().reads_fail = true;
    let reason =
        open::open(Box::new(disk.clone()), &Expect::Any, &Arc::new(AtomicBool::new(false)));
    assert_eq!(reason.err().map(|reason| reason.kind), Some(OpenErrorKind::Io));
}
