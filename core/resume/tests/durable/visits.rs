//! Blank sessions, which leave nothing in the store, and a store that is down.

use std::{
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use session_resume::{
    Limits, SessionOrigin, SessionResume, adapter, reuse,
    store::{ErrorKind, MemoryStore, RecordKind, SnapshotStore as _},
};
use tokio::time::sleep;

use crate::{
    node::{self, Browser, Node},
    store::{Fault, TestStore},
};

async fn seconds(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn visits_leave_nothing_in_the_store() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    for _ in 0..20 {
        node.first_open(&mut Browser::default()).await.unwrap();
    }
    seconds(40).await;
    assert!(node.layer.sessions().is_empty());
    node.first_open(&mut Browser::default()).await.unwrap();
    let report = node.layer.drain(Duration::from_secs(1)).await;
    assert_eq!((report.drained, report.cut.len()), (1, 0));
    assert!(!node.store.calls().iter().any(|call| call.starts_with("put")));
}

#[tokio::test(start_paused = true)]
async fn what_was_put_into_a_visit_is_stored() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut visitor = Browser::default();
    let session = node.first_open(&mut visitor).await.unwrap();
    session.update(|tally| tally.total = 3);
    session.saved().await.unwrap();
    let id = session.id();
    drop(session);
    seconds(200).await;
    assert!(node.layer.sessions().is_empty());
    let session = node.open(&mut visitor).await.unwrap();
    assert_eq!((session.id(), session.origin()), (id, SessionOrigin::Restored));
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_to_a_stored_session_finds_room_beside_any_number_of_visitors() {
    let disk = MemoryStore::new();
    let limits = Limits::default().with_max_sessions(10);
    let node = Node::new(&disk, |layer| layer.with_limits(limits));
    let mut ann = Browser::default();
    node.open(&mut ann).await.unwrap().update(|tally| tally.total = 7);
    seconds(200).await;
    let mut refused = 0;
    for _ in 0..50 {
        refused += usize::from(node.first_open(&mut Browser::default()).await.is_err());
    }
    assert_eq!(refused, 45);
    let session = node.open(&mut ann).await.unwrap();
    assert_eq!((session.origin(), session.read(|tally| tally.total)), (SessionOrigin::Restored, 7));
}

/// A state whose living ones are counted.
#[derive(Serialize, Deserialize)]
struct Counted {}

static LIVING: AtomicUsize = AtomicUsize::new(0);

impl Default for Counted {
    fn default() -> Self {
        LIVING.fetch_add(1, SeqCst);
        Self {}
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        LIVING.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn ended_sessions_do_not_pile_up_while_the_store_is_down() {
    let disk = MemoryStore::new();
    let store = TestStore::new(&disk);
    let process = store.process();
    let limits = Limits::default().with_max_sessions(100).with_outcomes(100);
    let layer = SessionResume::new()
        .with_state::<Counted>()
        .with_limits(limits)
        .with_reuse(reuse::never())
        .with_store(store);
    process.set(Fault::Fail(ErrorKind::Io));
    let mut browser = Browser::default();
    let mut refused = 0;
    for n in 0..1000 {
        let parts = node::parts(&layer, &mut browser, None).await;
        match adapter::open::<Counted>(&parts).await {
            Ok(session) => drop(session.try_send("x".repeat(1000))),
            Err(refusal) => {
                assert_eq!(refusal.status(), 503);
                refused += 1;
            }
        }
        if n % 100 == 0 {
            seconds(1).await;
        }
    }
    seconds(3600).await;
    assert!(refused > 800, "{refused}");
    assert!(LIVING.load(SeqCst) <= 101, "{}", LIVING.load(SeqCst));
    // The store is back, and so is the room.
    process.set(Fault::None);
    seconds(60).await;
    let parts = node::parts(&layer, &mut browser, None).await;
    adapter::open::<Counted>(&parts).await.unwrap();
    drop(parts);
    seconds(200).await;
    assert!(LIVING.load(SeqCst) <= 100, "{}", LIVING.load(SeqCst));
    assert!(format!("{layer:?}").contains("sessions: 0"), "{layer:?}");
}

#[tokio::test(start_paused = true)]
async fn in_a_full_store_those_go_first_to_which_nobody_came_back() {
    let disk = MemoryStore::new();
    let limits = Limits::default().with_max_stored(4);
    let node = Node::new(&disk, |layer| layer.with_limits(limits));
    let stored = || disk.count(RecordKind::Session, "default").unwrap();
    let marked = || disk.count(RecordKind::Visitor, "default").unwrap();
    let fill = async |known: bool| {
        let mut browser = Browser::default();
        let session = if known {
            node.open(&mut browser).await?
        } else {
            node.first_open(&mut browser).await?
        };
        session.update(|tally| tally.total = 1);
        session.saved().await.unwrap();
        Ok::<_, session_resume::adapter::Refusal>(browser)
    };
    let mut users = vec![fill(true).await.unwrap(), fill(true).await.unwrap()];
    let mut visitors = Vec::new();
    for _ in 0..4 {
        visitors.push(fill(false).await.unwrap());
        seconds(1).await;
    }
    assert_eq!((stored(), marked()), (6, 4), "those in memory stay");
    seconds(200).await;
    assert_eq!((stored(), marked()), (4, 2), "half is theirs");
    let mut back = Vec::new();
    for mut visitor in visitors {
        let parts = node.parts(&mut visitor, None).await;
        if adapter::look::<node::Tally>(&parts).await.unwrap().is_some() {
            back.push(visitor);
        }
    }
    assert_eq!(back.len(), 2);
    // Two have come back, by a look: they stay, and the store is full of such.
    seconds(200).await;
    users.extend(fill(true).await);
    seconds(200).await;
    assert_eq!(marked(), 0, "what the marks say is not true any more");
    for known in [true, false] {
        let refusal = fill(known).await.err().expect("refused");
        assert_eq!(refusal.status(), 503);
        assert!(refusal.to_string().contains("limits.max_stored"), "{refusal}");
    }
    // A mark of a claim before counts for nothing.
    for user in users.iter_mut().chain(&mut back) {
        let session = node.open(user).await.unwrap();
        assert_eq!(
            (session.origin(), session.read(|tally| tally.total)),
            (SessionOrigin::Restored, 1)
        );
    }
}

/// A mark goes when the cookie comes back while the session is in memory, and with the session.
#[tokio::test(start_paused = true)]
async fn a_mark_goes_with_what_it_says() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let marked = || disk.count(RecordKind::Visitor, "default").unwrap();
    for comes_back in [true, false] {
        let mut visitor = Browser::default();
        let session = node.first_open(&mut visitor).await.unwrap();
        session.update(|tally| tally.total = 1);
        session.saved().await.unwrap();
        assert_eq!(marked(), 1);
        if comes_back {
            node.open(&mut visitor).await.unwrap();
        } else {
            session.close("over");
        }
        seconds(1).await;
        assert_eq!(marked(), 0, "{comes_back}");
        session.close("over");
    }
}
