//! A file that is mostly free gets smaller, and nothing is lost by it.

use std::{
    pin::pin,
    task::{Context, Waker},
    thread,
    time::Duration,
};

use futures_util::future::{join, join_all};
use session_resume::store::{ErrorKind, SnapshotStore};

use super::{Disk, FIRST, LATER, Trouble, key, put};
use crate::RedbStore;

const RECORDS: usize = 100;
/// Every tenth record stays.
const KEEP: usize = 10;

/// Long enough for a test to prepare what is to happen when the store is idle.
const SOON: Duration = Duration::from_secs(2);

fn body(n: usize) -> Vec<u8> {
    vec![u8::try_from(n % 251).unwrap(); 20_000]
}

async fn fill(store: &RedbStore) {
    let claims = (0..RECORDS).map(async |n| {
        store.claim(&key(n), None, FIRST, body(n).into(), LATER).await.unwrap();
    });
    join_all(claims).await;
}

async fn remove_most(store: &RedbStore) {
    let removed = (0..RECORDS).filter(|n| n % KEEP != 0);
    join_all(removed.map(async |n| store.remove(&key(n), FIRST.next()).await.unwrap())).await;
}

/// Asserts that exactly the records are there that must be there.
async fn expect_kept(store: &RedbStore) {
    for n in 0..RECORDS {
        let record = store.load(&key(n)).await.unwrap_or_else(|err| panic!("{n}: {err:?}"));
        assert_eq!(record.map(|record| record.bytes), (n % KEEP == 0).then(|| body(n).into()));
    }
}

fn len(disk: &Disk) -> usize {
    disk.state().current.len()
}

/// A closed store that is mostly free.
async fn mostly_free() -> Disk {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    fill(&store).await;
    remove_most(&store).await;
    drop(store);
    disk
}

/// Waits for what the store does by itself.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if done() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within a minute");
}

#[tokio::test]
async fn a_file_that_is_mostly_free_is_smaller_when_it_is_opened() {
    let disk = mostly_free().await;
    let before = len(&disk);
    let store = disk.open().unwrap();
    assert_eq!(store.stats().compactions, 1);
    assert!(len(&disk) * 3 < before, "{before} to {}", len(&disk));
    expect_kept(&store).await;
    put(&store, 1000).await.unwrap();
    expect_kept(&disk.after_power_failure().open().unwrap()).await;
    drop(store);
    // Once is enough.
    let store = disk.open().unwrap();
    assert_eq!(store.stats().compactions, 0);
    expect_kept(&store).await;
}

#[tokio::test]
async fn a_file_that_is_in_use_is_left_alone() {
    let disk = Disk::default();
    let store = disk.open_idle().unwrap();
    fill(&store).await;
    // Some removals, fewer than what is left.
    for n in 0..RECORDS / 3 {
        store.remove(&key(n), FIRST.next()).await.unwrap();
    }
    drop(store);
    let store = disk.open_idle().unwrap();
    store.remove(&key(RECORDS - 1), FIRST.next()).await.unwrap();
    assert_eq!(store.stats().compactions, 0);
}

#[tokio::test]
async fn an_idle_store_makes_its_file_smaller_and_answers() {
    let disk = Disk::default();
    let store = disk.open_idle().unwrap();
    fill(&store).await;
    let before = len(&disk);
    remove_most(&store).await;
    // Calls come all the time, from before the compaction until after it.
    let mut rounds = 0;
    while store.stats().compactions == 0 {
        rounds += 1;
        assert!(rounds < 100_000, "{:?}", store.stats());
        let loaded = store.load(&key(0)).await.unwrap().unwrap();
        assert_eq!(loaded.bytes, body(0));
        store.touch(&key(KEEP), FIRST, LATER).await.unwrap();
        thread::sleep(Duration::from_millis(rounds % 20));
    }
    assert!(len(&disk) * 3 < before, "{before} to {}", len(&disk));
    assert_eq!(store.stats().failures, 0);
    expect_kept(&store).await;
    expect_kept(&disk.after_power_failure().open().unwrap()).await;
    // And it does so again.
    for round in 2..4 {
        let claims = (0..RECORDS).filter(|n| n % KEEP != 0).map(async |n| {
            store.claim(&key(n), None, FIRST, body(n).into(), LATER).await.unwrap();
        });
        join_all(claims).await;
        remove_most(&store).await;
        wait_until("compacted again", || store.stats().compactions == round);
    }
    expect_kept(&store).await;
}

#[tokio::test]
async fn a_call_in_the_middle_of_a_compaction_is_answered_after_it() {
    let disk = Disk::default();
    let store = disk.open_at(Duration::ZERO, SOON).unwrap();
    fill(&store).await;
    remove_most(&store).await;
    disk.state().trouble = Some((5, Trouble::Pauses));
    wait_until("in the middle", || disk.state().paused);
    let (one, two) = (key(0), key(1));
    let load = store.load(&one);
    let claim = store.claim(&two, None, FIRST, body(1).into(), LATER);
    let mut calls = pin!(join(load, claim));
    let first_poll = calls.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(first_poll.is_pending());
    disk.state().paused = false;
    let (loaded, claimed) = calls.await;
    assert_eq!(loaded.unwrap().unwrap().bytes, body(0));
    claimed.unwrap();
    assert_eq!((store.stats().compactions, store.stats().failures), (1, 0));
    assert_eq!(store.load(&key(1)).await.unwrap().unwrap().bytes, body(1));
}

/// A store that is never idle is not compacted while it is open.
#[tokio::test]
async fn no_call_compacts() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    fill(&store).await;
    remove_most(&store).await;
    for n in 0..50 {
        put(&store, 1000 + n).await.unwrap();
        assert_eq!(store.delete_expired(9).await.unwrap(), 0);
    }
    assert_eq!(store.stats().compactions, 0);
}

/// One write of opening and compacting fails, or redb panics in it.
#[tokio::test]
async fn a_compaction_that_fails_at_open_loses_nothing() {
    let mostly_free = mostly_free().await;
    let (mut given_up, mut compacted) = (0, 0);
    // Our own writes, of opening, come first: nothing panics there.
    for (trouble, first) in [(Trouble::Fails, 0), (Trouble::Panics, 10)] {
        for writes in (first..120).step_by(5) {
            let disk = mostly_free.after_kill();
            disk.state().trouble = Some((writes, trouble));
            match disk.open() {
                Ok(store) => {
                    let stats = store.stats();
                    given_up += stats.failures;
                    compacted += stats.compactions;
                    assert_eq!(stats.failures + stats.compactions, 1, "{stats:?}");
                    expect_kept(&store).await;
                    disk.state().trouble = None;
                    put(&store, 1000).await.unwrap();
                }
                // Before the compaction.
                Err(reason) => assert!(writes < 10, "{writes} {trouble:?}: {reason:?}"),
            }
            for left in [disk.after_power_failure(), disk.after_kill()] {
                expect_kept(&left.open().unwrap()).await;
            }
        }
    }
    assert!(given_up > 5 && compacted > 1, "{given_up} {compacted}");
}

#[tokio::test]
async fn a_compaction_that_fails_while_idle_loses_nothing() {
    let mut given_up = 0;
    for trouble in [Trouble::Fails, Trouble::Panics] {
        for writes in [0, 1, 2, 5, 10, 20, 30, 40, 60] {
            let disk = Disk::default();
            let store = disk.open_at(Duration::ZERO, Duration::from_millis(200)).unwrap();
            fill(&store).await;
            remove_most(&store).await;
            disk.state().trouble = Some((writes, trouble));
            wait_until("tried", || {
                let stats = store.stats();
                stats.failures + stats.compactions > 0
            });
            given_up += store.stats().failures;
            disk.state().trouble = None;
            // It may be opened anew just now; a load waits for that.
            expect_kept(&store).await;
            put(&store, 1000).await.unwrap();
            for left in [disk.after_power_failure(), disk.after_kill()] {
                expect_kept(&left.open().unwrap()).await;
            }
        }
    }
    assert!(given_up > 6, "{given_up}");
}

/// A compaction that meets a damaged page ends in the middle of a transaction: it is not begun.
#[tokio::test]
async fn a_damaged_page_keeps_the_file_from_being_compacted() {
    // A page that redb has in its cache is not read from the disk. Which pages these are is redb's to choose.
    let mut tries = 0;
    while !is_damage_seen().await {
        tries += 1;
        assert!(tries < 20, "the damaged page is in the cache each time");
    }
}

/// Damages record 50 and waits until the store has looked at the file. Returns whether the store has seen the damage.
async fn is_damage_seen() -> bool {
    let disk = Disk::default();
    let store = disk.open_at(Duration::ZERO, SOON).unwrap();
    fill(&store).await;
    remove_most(&store).await;
    let syncs = {
        let mut state = disk.state();
        // A page that was written anew stands in the file twice: which of them counts is redb's to know.
        for page in state.current.chunks_mut(4096) {
            if page.chunks(64).any(|bytes| bytes == [50; 64]) {
                page[..64].fill(0xA5);
            }
        }
        state.syncs
    };
    wait_until("looked", || {
        let stats = store.stats();
        stats.failures + stats.compactions > 0
    });
    match (store.stats().failures, store.stats().compactions) {
        (1, 0) => {}
        // The page was written from the cache: nothing is damaged any more.
        (0, 1) => {
            expect_kept(&store).await;
            return false;
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(disk.state().syncs, syncs, "something was written");
    for n in (0..RECORDS).step_by(KEEP).filter(|n| *n != 50) {
        assert!(store.load(&key(n)).await.unwrap().is_some(), "record {n}");
    }
    match store.load(&key(50)).await {
        Ok(record) => assert_eq!(record.unwrap().bytes, body(50), "it was in the cache"),
        Err(err) => assert_eq!(err.kind(), ErrorKind::Corrupt, "{err:?}"),
    }
    put(&store, 1000).await.unwrap();
    true
}
