//! Readers that are no clients, and the store.

use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use session_resume::{
    Durability,
    observe::{From, Observe, ObserveError, Observed},
    store::{ErrorKind, MemoryStore},
};

use crate::{
    node::{Browser, Node, Tally},
    store::Fault,
};

async fn quiet(observer: &mut Observe<Tally>) -> bool {
    tokio::time::sleep(Duration::from_secs(1)).await;
    observer.next().now_or_never().is_none()
}

async fn text(observer: &mut Observe<Tally>) -> String {
    match observer.next().await {
        Some(Observed::Message { message, .. }) => message.as_text().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// No client has ever come, and no hello has named the epoch.
#[tokio::test(start_paused = true)]
async fn under_exact_an_observer_gets_what_is_on_disk_and_goes_on_after_a_kill() {
    let exact = |layer: session_resume::SessionResume<_>| {
        layer.with_durability(Durability::Exact).with_store_timeout(Duration::from_secs(3600))
    };
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::new(&disk, exact);
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.send("zero").await.unwrap();
    session.saved().await.unwrap();
    let mut observer = session.observe(From::Kept).unwrap();
    assert_eq!(text(&mut observer).await, "zero");
    // The record says now that a cursor names the epoch.
    assert!(quiet(&mut observer).await);
    assert!(!session.info().waits_for_store);
    node.store.hold();
    session.send("one").await.unwrap();
    assert!(quiet(&mut observer).await, "it is not on disk");
    assert!(session.info().waits_for_store, "an operator is told so");
    node.store.release();
    assert_eq!(text(&mut observer).await, "one");
    node.store.set(Fault::Fail(ErrorKind::Io));
    session.send("lost").await.unwrap();
    assert!(quiet(&mut observer).await);
    let cursor = observer.cursor();
    node.kill();

    let node = Node::new(&disk, exact);
    let session = node.open(&mut browser).await.unwrap();
    let mut observer = session.observe(From::Position(cursor)).unwrap();
    assert!(quiet(&mut observer).await);
    session.send("two").await.unwrap();
    assert_eq!(text(&mut observer).await, "two");
    assert_eq!(observer.cursor().position(), 3);
    session.close("enough");
    assert_eq!(observer.next().await, Some(Observed::Ended));
}

#[tokio::test(start_paused = true)]
async fn without_its_outbox_a_restored_session_tells_a_gap() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.send("zero").await.unwrap();
    session.saved().await.unwrap();
    let mut observer = session.observe(From::Kept).unwrap();
    assert_eq!(text(&mut observer).await, "zero");
    let cursor = observer.cursor();
    node.kill();
    let node = Node::start(&disk);
    let session = node.open(&mut browser).await.unwrap();
    let mut observer = session.observe(From::Position(cursor)).unwrap();
    let gap = observer.next().await.map(|it| format!("{it:?}"));
    assert_eq!(gap.as_deref(), Some("Gap { from: None, to: 0 }"));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_leaves_memory_ends_its_observers() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.saved().await.unwrap();
    let id = session.id();
    let mut observer = session.observe(From::Now).unwrap();
    drop(session);
    assert_eq!(observer.next().await, None);
    assert!(node.layer.get(id).is_none(), "an observer keeps it not");
    let session = node.open(&mut browser).await.unwrap();
    assert_eq!(session.id(), id);
    let mut observer = session.observe(From::Position(observer.cursor())).unwrap();
    session.send("goes on").await.unwrap();
    assert_eq!(text(&mut observer).await, "goes on");
    node.layer.drain(Duration::from_secs(1)).await;
    assert_eq!(observer.next().await, None);
    assert_eq!(session.observe(From::Kept).unwrap_err(), ObserveError::NotHere);
}
