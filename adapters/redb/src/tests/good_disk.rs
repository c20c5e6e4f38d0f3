//! What a store does with its disk when nothing fails.

use std::{
    pin::pin,
    task::{Context, Waker},
};

use futures_util::future::join_all;
use session_resume::store::contract;
use tokio::task::unconstrained;

use super::{Disk, put};

#[tokio::test]
async fn the_contract_holds_on_a_good_disk() {
    let disk = Disk::default();
    contract::check(&disk.open().unwrap()).await;
    contract::check_reopen(async || disk.open().unwrap()).await;
}

#[tokio::test]
async fn a_commit_is_one_sync() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    let before = disk.state().syncs;
    for n in 0..10 {
        put(&store, n).await.unwrap();
    }
    assert_eq!(store.stats().commits, 10);
    let syncs = disk.state().syncs - before;
    // And one when the file grows.
    assert!((10..=11).contains(&syncs), "{syncs}");
}

#[tokio::test]
async fn calls_that_wait_share_a_commit() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    // Unconstrained: tokio would otherwise let only the first few poll their channel.
    let mut puts = pin!(unconstrained(join_all((0..900).map(|n| put(&store, n)))));
    {
        // While we hold the disk, the first commit cannot end; all that comes meanwhile is the second.
        let _held = disk.state();
        let first_poll = puts.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(first_poll.is_pending());
    }
    assert!(puts.await.iter().all(Result::is_ok));
    let stats = store.stats();
    assert_eq!((stats.writes, stats.failures), (900, 0));
    assert!((1..=2).contains(&stats.commits), "{stats:?}");
}
