//! A session whose identity changes, and its record.

use std::time::Duration;

use session_resume::{IdentityChange, SessionOrigin, adapter, store::MemoryStore};
use tokio::time::sleep;

use crate::{
    A,
    node::{Browser, Got, Node},
};

fn with(change: &IdentityChange) -> Browser {
    let cookie = change.set_cookie().expect("it has changed").to_str().unwrap();
    Browser { cookie: Some(cookie.split(';').next().unwrap().to_owned()) }
}

/// Two logins in a row while the store is slow: the newest cookie finds the session, through a crash or out of memory, and
/// the one in between is worth nothing.
#[tokio::test(start_paused = true)]
async fn two_changes_during_a_put_leave_one_record() {
    for killed in [true, false] {
        let disk = MemoryStore::new();
        let node = Node::start(&disk);
        let mut first = Browser::default();
        let session = node.open(&mut first).await.unwrap();
        session.update(|tally| tally.total = 3);
        session.saved().await.unwrap();
        node.store.hold();
        let second = with(&session.cycle_identity());
        // The saver is in its put now.
        sleep(Duration::from_secs(1)).await;
        let third = with(&session.cycle_identity());
        sleep(Duration::from_secs(1)).await;
        node.store.release();
        session.update(|tally| tally.total = 4);
        session.saved().await.unwrap();
        let id = session.id();
        drop(session);
        let node = if killed {
            node.kill();
            Node::start(&disk)
        } else {
            sleep(Duration::from_secs(300)).await;
            assert!(node.layer.sessions().is_empty());
            node
        };
        for (old, whose) in [(&first, "first"), (&second, "second")] {
            let found = node.open(&mut old.clone()).await.unwrap();
            assert_eq!(found.origin(), SessionOrigin::New, "{whose}, killed: {killed}");
        }
        let found = node.open(&mut third.clone()).await.unwrap();
        assert_eq!((found.id(), found.read(|tally| tally.total)), (id, 4), "killed: {killed}");
    }
}

/// A crash at any moment of a move, or of two: at most one of the cookies finds the session, and what it finds was put.
#[tokio::test(start_paused = true)]
async fn a_crash_in_the_middle_of_two_changes_leaves_at_most_one_owner() {
    for puts in 0..12 {
        let disk = MemoryStore::new();
        let node = Node::start(&disk);
        let mut first = Browser::default();
        let session = node.open(&mut first).await.unwrap();
        session.update(|tally| tally.total = 3);
        session.saved().await.unwrap();
        let id = session.id();
        node.store.hold();
        node.store.gate.add_permits(puts);
        let second = with(&session.cycle_identity());
        sleep(Duration::from_millis(200)).await;
        let third = with(&session.cycle_identity());
        sleep(Duration::from_millis(500)).await;
        node.kill();
        let node = Node::start(&disk);
        let mut owners = 0;
        for browser in [first, second, third] {
            let found = node.open(&mut browser.clone()).await.unwrap();
            if found.id() == id {
                assert_eq!(found.read(|tally| tally.total), 3);
                owners += 1;
            }
        }
        assert_eq!(owners, 1, "after {puts} writes");
    }
}

/// A login that takes longer than a session without use stays in memory: the request that has extracted it is use.
#[tokio::test(start_paused = true)]
async fn a_slow_request_keeps_its_session_in_memory() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    let id = session.id();
    session.update(|tally| tally.total = 3);
    sleep(Duration::from_secs(300)).await;
    session.update(|tally| tally.total = 4);
    session.saved().await.unwrap();
    sleep(Duration::from_secs(300)).await;
    let mut browser = with(&session.cycle_identity());
    // Its end restarts the clock.
    let clone = session.clone();
    drop(session);
    sleep(Duration::from_secs(130)).await;
    drop(clone);
    sleep(Duration::from_secs(115)).await;
    assert_eq!(node.layer.sessions().len(), 1);
    sleep(Duration::from_secs(15)).await;
    assert!(node.layer.sessions().is_empty());
    let found = node.open(&mut browser).await.unwrap();
    assert_eq!((found.id(), found.read(|tally| tally.total)), (id, 4));
    // Not for ever: an hour is enough for a request (`limits.max_unattended`).
    sleep(Duration::from_secs(3700)).await;
    assert!(node.layer.sessions().is_empty());
    found.update(|tally| tally.total = 5);
    assert!(found.saved().await.is_err(), "what is lost is told");
    assert!(found.cycle_identity().set_cookie().is_none(), "a new cookie would find nothing");
    assert_eq!(node.open(&mut browser).await.unwrap().read(|tally| tally.total), 4);
}

/// A request that only looks does not keep the session, nor does a handle that was looked up by the session's id.
#[tokio::test(start_paused = true)]
async fn a_handle_that_nobody_extracted_keeps_nothing() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let id = node.open(&mut browser).await.unwrap().id();
    let parts = node.parts(&mut browser, None).await;
    let seen = adapter::look::<crate::node::Tally>(&parts).await.unwrap().unwrap();
    let got = node.layer.get(id).unwrap();
    sleep(Duration::from_secs(130)).await;
    assert!(node.layer.sessions().is_empty());
    for handle in [seen, got] {
        handle.update(|tally| tally.total = 5);
        assert!(handle.saved().await.is_err());
        let change = handle.cycle_identity();
        assert_eq!((change.set_cookie(), change.identity()), (None, None));
    }
    assert_eq!(node.open(&mut browser).await.unwrap().read(|tally| tally.total), 0);
}

/// A session that is called back on its way to the store goes on.
#[tokio::test(start_paused = true)]
async fn a_change_calls_back_a_session_that_is_leaving() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    let id = session.id();
    session.update(|tally| tally.total = 3);
    session.saved().await.unwrap();
    drop(session);
    let session = node.layer.get(id).unwrap();
    node.store.hold();
    sleep(Duration::from_secs(130)).await;
    let after = with(&session.cycle_identity());
    assert_eq!(node.open(&mut after.clone()).await.unwrap().id(), id, "at once, and no copy");
    node.store.release();
    sleep(Duration::from_secs(10)).await;
    session.update(|tally| tally.total = 4);
    session.saved().await.unwrap();
    node.kill();
    let node = Node::start(&disk);
    let found = node.open(&mut after.clone()).await.unwrap();
    assert_eq!((found.id(), found.read(|tally| tally.total)), (id, 4));
}

/// A session that is called back while the put that says that nothing follows is under way: it says nothing before one
/// without that is there.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_called_back_from_a_clean_put_is_silent_first() {
    let disk = MemoryStore::new();
    let node = Node::patient(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    let (session, cursor) = (node.layer.get(client.id()).unwrap(), client.cursor(A));
    client.cut();
    sleep(Duration::from_secs(100)).await;
    node.store.hold();
    sleep(Duration::from_secs(30)).await;
    let mut after = with(&session.cycle_identity());
    let mut client = node.connect(&mut after, Some(&cursor)).await.unwrap();
    client.send("add 2");
    // The clean put comes to its end, and no other.
    let puts = node.store.puts();
    node.store.gate.add_permits(1);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(node.store.puts(), puts + 1);
    assert_eq!(client.next().await, None);
    node.store.release();
    let told = client.hello().await;
    assert_eq!((&told["status"], &told["received"]), (&"resumed".into(), &1.into()));
    assert!(client.is_acked(2).await);
}

/// What is told of clients goes along, also through a restart.
#[tokio::test(start_paused = true)]
async fn a_client_comes_back_under_its_new_identity() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut old = Browser::default();
    let mut client = node.connect(&mut old, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    client.send("add 2");
    assert!(client.is_acked(2).await);
    let session = node.layer.get(client.id()).unwrap();
    let mut new = with(&session.cycle_identity());
    assert_eq!(client.rest().await, [Got::Close(4112)]);
    let cursor = client.cursor(A);
    session.saved().await.unwrap();
    let told = node.connect(&mut new, Some(&cursor)).await.unwrap().hello().await;
    assert_eq!((&told["status"], &told["received"]), (&"resumed".into(), &2.into()));
    node.kill();
    let node = Node::start(&disk);
    let told = node.connect(&mut new, Some(&cursor)).await.unwrap().hello().await;
    assert_eq!((&told["session"], &told["received"]), (&client.session().into(), &2.into()));
}
