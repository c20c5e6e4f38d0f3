//! A store that does not answer, or panics: each call ends at its deadline, and a call on one key delays no other key.

use std::{error::Error as _, sync::atomic::Ordering::SeqCst, time::Duration};

use session_resume::{CommitErrorKind, SessionResume, store::MemoryStore};
use tokio::time::{Instant, timeout};

use crate::{
    A,
    node::{Browser, Node},
    store::Fault,
};

const SOON: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(600);

/// Whatever asks the store now hangs, and what comes later does not.
async fn hang(node: &Node, call: &str) {
    node.store.calls();
    node.store.hold();
    while !node.store.calls().iter().any(|made| made == call) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.store.gated.store(false, SeqCst);
}

#[tokio::test(start_paused = true)]
async fn a_put_that_hangs_holds_up_no_other_session() {
    let node = Node::start(&MemoryStore::new());
    let session = node.open(&mut Browser::default()).await.unwrap();
    session.update(|tally| tally.total = 1);
    hang(&node, "put session").await;
    let started = Instant::now();
    for _ in 0..20 {
        let other = node.open(&mut Browser::default()).await.unwrap();
        other.update(|tally| tally.total = 1);
        timeout(SOON, other.saved()).await.expect("not held up").unwrap();
    }
    // Its own call fails when its time is up, and is made again.
    let error = timeout(DEADLINE, session.saved()).await.expect("it has a deadline").unwrap_err();
    assert_eq!(error.kind(), CommitErrorKind::Store);
    let cause = error.source().and_then(|by_store| by_store.source()).expect("it has a cause");
    assert!(cause.to_string().contains("with_store_timeout"), "{cause}");
    assert!(started.elapsed() < DEADLINE + SOON);
    timeout(SOON, session.saved()).await.expect("tried again").unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_deadline_is_the_layers_to_set() {
    for before in [true, false] {
        let disk = MemoryStore::new();
        let brief = |layer: SessionResume<_>| layer.with_store_timeout(SOON / 2);
        let mut node = Node::new(&disk, |layer| if before { brief(layer) } else { layer });
        if !before {
            node.layer = brief(node.layer);
        }
        let session = node.open(&mut Browser::default()).await.unwrap();
        session.update(|tally| tally.total = 1);
        node.store.hold();
        assert!(timeout(SOON, session.saved()).await.expect("over by then").is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_hangs_as_it_leaves_holds_up_nobody_else() {
    let node = Node::patient(&MemoryStore::new());
    let session = node.open(&mut Browser::default()).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.saved().await.unwrap();
    // A request that has a session keeps it in memory.
    drop(session);
    tokio::time::sleep(SOON * 60).await;
    // They leave a minute later.
    let mut others = Vec::new();
    for _ in 0..600 {
        let mut other = Browser::default();
        node.open(&mut other).await.unwrap().update(|tally| tally.total = 2);
        others.push(other);
    }
    tokio::time::sleep(SOON).await;
    hang(&node, "put session").await;
    tokio::time::sleep(LONG).await;
    assert_eq!(node.layer.sessions().len(), 1, "the others have left beside it");
    for other in &mut others {
        let back = timeout(SOON, node.open(other)).await.expect("not held up").unwrap();
        assert_eq!(back.read(|tally| tally.total), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_a_session_that_hangs_as_it_leaves_has_it_at_the_deadline() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.saved().await.unwrap();
    hang(&node, "put session").await;
    let back = timeout(DEADLINE + SOON, node.open(&mut browser)).await.expect("answered").unwrap();
    assert_eq!((back.id(), back.read(|tally| tally.total)), (session.id(), 1));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_hangs_is_answered_and_holds_up_nobody_else() {
    let disk = MemoryStore::new();
    let mut browsers: Vec<_> = (0..300).map(|_| Browser::default()).collect();
    let node = Node::start(&disk);
    for browser in &mut browsers {
        node.open(browser).await.unwrap().update(|tally| tally.total += 1);
    }
    node.layer.drain(SOON).await;
    node.kill();
    let node = Node::start(&disk);
    node.store.hold();
    let mut first = browsers[0].clone();
    let hangs = async { timeout(DEADLINE + SOON, node.open(&mut first)).await.expect("answered") };
    let others = async {
        // The claim of the first is under way.
        tokio::time::sleep(SOON).await;
        node.store.gated.store(false, SeqCst);
        for browser in &mut browsers[1..] {
            timeout(SOON, node.open(browser)).await.expect("not held up").unwrap();
        }
    };
    let (refused, ()) = tokio::join!(hangs, others);
    assert_eq!(refused.unwrap_err().status(), 503);
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_over_at_its_deadline_though_the_store_hangs() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    let cursor = client.cursor(A);
    node.kill();
    // After a crash the message in hand is on trial. To cut its handler off would say that the message is not to blame.
    let node = Node::start(&disk);
    let client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    client.send("work");
    tokio::time::sleep(SOON * 5).await;
    assert!(node.layer.get(node.layer.sessions()[0].id).unwrap().is_message_in_hand());
    node.store.hold();
    let started = Instant::now();
    let report = timeout(LONG, node.layer.drain(SOON)).await.expect("it ends");
    assert_eq!((report.drained, report.cut.len()), (0, 1));
    assert!(started.elapsed() < SOON * 2, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn expired_records_are_deleted_beside_a_session_that_hangs() {
    let node = Node::start(&MemoryStore::new());
    let session = node.open(&mut Browser::default()).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.saved().await.unwrap();
    hang(&node, "put session").await;
    tokio::time::sleep(SOON * 6).await;
    assert!(node.store.calls().iter().any(|call| call == "delete expired"));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_is_a_call_that_fails() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    node.store.set(Fault::Panic);
    assert!(timeout(SOON, session.saved()).await.expect("answered").is_err());
    let refused = timeout(SOON, node.open(&mut Browser::default())).await.expect("answered");
    assert_eq!(refused.unwrap_err().status(), 503);
    assert!(session.outcome().is_none());
    node.store.set(Fault::None);
    timeout(SOON * 10, async { while session.saved().await.is_err() {} }).await.expect("goes on");
    drop(session);
    tokio::time::sleep(LONG).await;
    assert!(node.layer.sessions().is_empty(), "the sweeper lives");
    assert_eq!(node.open(&mut browser).await.unwrap().read(|tally| tally.total), 1);
}
