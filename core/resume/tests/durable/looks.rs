use std::time::Duration;

use session_resume::{
    Session, adapter,
    store::{MemoryStore, SnapshotStore as _},
};

use crate::node::{Browser, Node, Tally};

async fn look(node: &Node, browser: &mut Browser) -> Option<Session<Tally>> {
    adapter::look(&node.parts(browser, None).await).await.unwrap()
}

async fn expires_in(disk: &MemoryStore, node: &Node) -> Duration {
    let key = node.store.last.lock().unwrap().clone().unwrap();
    disk.load(&key).await.unwrap().unwrap().expires_in
}

/// A stored session may be looked at again and again: that keeps it neither in memory nor in the store.
#[tokio::test(start_paused = true)]
async fn looking_at_a_stored_session_is_no_activity() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 7);
    session.saved().await.unwrap();
    let before = expires_in(&disk, &node).await;
    node.kill();

    let longer = Duration::from_secs(60 * 24 * 3600);
    let node = Node::new(&disk, |layer| layer.with_stored_lifetime(longer));
    for _ in 0..3 {
        let seen = look(&node, &mut browser).await.unwrap();
        assert_eq!(seen.read(|tally| tally.total), 7);
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(node.layer.sessions().is_empty(), "the looks have not kept it");
    // Some time has passed, but that is all: each write rounds up to a millisecond.
    let rounded = before + Duration::from_millis(10);
    let after = expires_in(&disk, &node).await;
    assert!(after <= rounded && after + Duration::from_secs(3600) > before, "{before:?} {after:?}");

    // Asked for, it is used, and lives on.
    look(&node, &mut browser).await.unwrap();
    node.open(&mut browser).await.unwrap().saved().await.unwrap();
    assert!(expires_in(&disk, &node).await > before + longer / 4);
}
