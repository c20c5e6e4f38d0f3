use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use session_resume::{Durability, Retain, SessionOrigin, store::MemoryStore};

use crate::{
    A, B,
    node::{Browser, Client, Got, Node},
};

const DAY: Duration = Duration::from_secs(24 * 3600);

#[tokio::test(start_paused = true)]
async fn a_kill_loses_nothing_acknowledged_and_doubles_nothing() {
    for durability in [Durability::State, Durability::Exact] {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let mut node = Node::new(&disk, |layer| layer.with_durability(durability));
        let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
        let mut sent = 0_u64;
        client.hello().await;
        for round in 0_u64..8 {
            for _ in 0..10 {
                client.send("add 1");
                sent += 1;
            }
            // Killed at another moment each time.
            tokio::time::sleep(Duration::from_millis(13 * round)).await;
            while tokio::time::timeout(Duration::ZERO, client.next()).await.is_ok() {}
            let (cursor, acked) = (client.cursor(A), client.acked);
            node.kill();
            node = Node::new(&disk, |layer| layer.with_durability(durability));
            client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
            let hello = client.hello().await;
            let received = hello["received"].as_u64().unwrap();
            assert!(received >= acked, "an acknowledged message is never asked for again");
            if durability == Durability::Exact {
                assert_eq!(hello["status"], "resumed");
                assert!(hello["gap"].is_null(), "{hello}");
            }
            for _ in received..sent {
                client.send("add 1");
            }
        }
        assert!(client.is_acked(sent).await);
        client.send("get");
        let mut last = String::new();
        while let Some(text) = client.data().await {
            last = text;
        }
        assert_eq!(last, format!("total:{sent}"), "{durability:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_in_the_store_before_its_client_knows_it() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    let session = client.hello().await["session"].clone();
    client.send("work");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let cursor = client.cursor(A);
    node.kill();
    let node = Node::start(&disk);
    let id = session.as_str().unwrap();
    let (status, body) = node.poll(&mut browser, id, 0).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("interrupted")));
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let hello = client.hello().await;
    assert_eq!((&hello["session"], hello["received"].as_u64()), (&session, Some(0)));
    assert_eq!(node.poll(&mut browser, id, 0).await.1["status"], "running");
}

/// What a poll says of a session whose process has been killed.
async fn killed(node: Node, disk: &MemoryStore, browser: &mut Browser, id: &str) -> String {
    node.kill();
    let (status, body) = Node::start(disk).poll(browser, id, 0).await;
    assert_eq!(status, 202);
    body["status"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_at_work_until_it_waits_whatever_it_has_committed() {
    for durability in [Durability::State, Durability::Exact] {
        for waits in [false, true] {
            let disk = MemoryStore::new();
            let mut browser = Browser::default();
            let node = Node::new(&disk, |layer| layer.with_durability(durability));
            let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
            client.hello().await;
            client.send("toil");
            assert!(client.is_acked(1).await, "the message is not in hand any more");
            assert!(!crate::node::in_hand(&node));
            // Saved meanwhile, as by a task that sends its progress: it is at work all the same.
            let session = node.open(&mut browser).await.unwrap();
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                session.send_with(|tally| format!("{}", tally.total)).await.unwrap();
                session.saved().await.unwrap();
            }
            if waits {
                node.gate.notify_one();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let expected = if waits { "stored" } else { "interrupted" };
            let id = client.session();
            assert_eq!(killed(node, &disk, &mut browser, &id).await, expected, "{durability:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_killed_before_its_first_recv_is_interrupted() {
    let (disk, mut browser, cursor) = stored().await;
    let node = Node::start(&disk);
    let mut client = node.connect_sleeper(&mut browser, &cursor).await;
    client.hello().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id = client.session();
    assert_eq!(killed(node, &disk, &mut browser, &id).await, "interrupted");
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_within_a_flush_interval_is_not_written_down() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    assert!(client.is_quiet().await);
    let puts = node.store.puts();
    client.send("commit");
    assert!(client.is_acked(1).await);
    assert!(client.is_quiet().await);
    assert_eq!(node.store.puts() - puts, 1, "the commit alone");
    let id = client.session();
    assert_eq!(killed(node, &disk, &mut browser, &id).await, "stored");
}

#[tokio::test(start_paused = true)]
async fn restore_claims_before_it_speaks() {
    let (disk, mut browser, cursor) = stored().await;
    let node = Node::patient(&disk);
    node.store.hold();
    let other = browser.clone();
    let connect = node.connect(&mut browser, Some(&cursor));
    assert!(tokio::time::timeout(Duration::from_secs(60), connect).await.is_err(), "not yet");
    let open = async { node.open(&mut other.clone()).await.unwrap().origin() };
    assert!(tokio::time::timeout(Duration::from_secs(60), open).await.is_err(), "nor on HTTP");
    assert_eq!(node.layer.sessions().len(), 0);
    node.store.release();
    node.store.calls();
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let mut calls = node.store.calls();
    calls.retain(|call| call != "delete expired");
    assert_eq!(calls, ["load session", "load id", "put session"]);
    assert_eq!(client.hello().await["status"], "restored");
    client.send("whoami");
    assert_eq!(client.data().await.unwrap(), "origin:restored");
}

#[tokio::test(start_paused = true)]
async fn the_handler_is_told_restored_also_when_http_came_first() {
    let (disk, mut browser, cursor) = stored().await;
    let node = Node::start(&disk);
    assert_eq!(node.open(&mut browser).await.unwrap().origin(), SessionOrigin::Restored);
    assert_eq!(node.open(&mut browser).await.unwrap().origin(), SessionOrigin::Reused);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    client.send("whoami");
    assert_eq!(client.data().await.unwrap(), "origin:restored");
}

#[tokio::test(start_paused = true)]
async fn stale_ends_the_old_owner() {
    let (disk, mut browser, _) = stored().await;
    let old = Node::start(&disk);
    let mut client = old.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let session = old.open(&mut browser).await.unwrap();
    let id = client.session();
    // It does not know of the other one, whose store is not exclusive.
    let new = Node::start(&disk);
    let taken = new.open(&mut browser).await.unwrap();
    assert_eq!(taken.origin(), SessionOrigin::Restored);
    client.send("add 5");
    let rest = client.rest().await;
    assert!(rest.contains(&Got::Close(4112)), "{rest:?}");
    assert!(client.acked <= 1, "no ack");
    assert!(session.saved().await.is_err(), "not an acknowledged write that did not happen");
    session.update(|tally| tally.total = 99);
    session.close("by an old handle");
    old.store.calls();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!old.store.calls().iter().any(|call| call.starts_with("put")), "no further put");
    assert_eq!(old.store.id_puts.load(SeqCst), 0, "no outcome");
    assert_eq!(new.poll(&mut browser, &id, 0).await.1["status"], "suspended");
    assert_eq!(taken.read(|tally| tally.total), 1);
}

#[tokio::test(start_paused = true)]
async fn one_flight_per_key() {
    let (disk, browser, _) = stored().await;
    let node = Node::start(&disk);
    let open = async || node.open(&mut browser.clone()).await.unwrap().id();
    let ids = futures_util::future::join_all((0..100).map(|_| open())).await;
    assert!(ids.windows(2).all(|two| two[0] == two[1]));
    assert_eq!((node.store.loads.load(SeqCst), node.store.puts()), (1, 1));
    assert_eq!(node.layer.sessions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_leaves_memory_is_restored_for_a_client_that_comes() {
    let disk = MemoryStore::new();
    let node = Node::patient(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    client.data().await.unwrap();
    let (cursor, id) = (client.cursor(A), client.session());
    let old = node.layer.get(client.id()).unwrap();
    client.cut();
    node.store.hold();
    tokio::time::sleep(Duration::from_secs(300)).await;
    // On its way: it is not started anew, nor found half.
    let open = async { node.open(&mut browser.clone()).await.unwrap() };
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.store.release();
    };
    let (session, ()) = tokio::join!(open, release);
    assert_eq!(session.origin(), SessionOrigin::Restored);
    assert_eq!(session.id().to_string(), id);
    // What is left of the old object does not speak for the session any more.
    old.close("late");
    assert!(old.saved().await.is_err() && old.send("late").await.is_err());
    assert_eq!(node.poll(&mut browser, &id, 0).await.1["status"], "suspended");
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert_eq!(client.hello().await["status"], "resumed", "stored whole, so the epoch goes on");
    client.send("get");
    assert_eq!(client.data().await.unwrap(), "total:1");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_stored_stays() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.id();
    client.cut();
    node.store.set(crate::store::Fault::Fail(session_resume::store::ErrorKind::Io));
    tokio::time::sleep(Duration::from_secs(1000)).await;
    assert!(node.layer.get(id).is_some());
    node.store.set(crate::store::Fault::None);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(node.layer.get(id).is_none());
    assert_eq!(node.poll(&mut browser, &id.to_string(), 0).await.1["status"], "stored");
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ends_nobody() {
    let (disk, mut browser, cursor) = stored().await;
    let node = Node::start(&disk);
    disk.advance(60 * DAY);
    // Started just now: it trusts no clock yet.
    let mut other = Browser::default();
    node.open(&mut other).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert_eq!(client.hello().await["status"], "restored");
    node.kill();
    // Claimed by the clock as it is now, it is not about to expire.
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert_eq!(client.hello().await["status"], "restored");
}

#[tokio::test(start_paused = true)]
async fn a_stored_session_expires_and_says_so() {
    let (disk, mut browser, cursor) = stored().await;
    let node = Node::start(&disk);
    let keepalive = node.connect(&mut Browser::default(), Some(B)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(150)).await;
    // Beyond the stored lifetime of 30 days, within the outcome's after that.
    disk.advance(30 * DAY + DAY / 2);
    let id = cursor.split('.').nth(1).unwrap();
    let (status, body) = node.poll(&mut browser, id, 0).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("expired")));
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let hello = client.hello().await;
    assert_eq!((&hello["status"], &hello["gap"]["reason"]), (&"new".into(), &"expired".into()));
    client.send("add 1");
    assert!(client.is_acked(1).await, "the old record does not fence the new session off");
    drop(keepalive);
}

/// Two processes on one store: a request never sees what the session was before it left.
#[tokio::test(start_paused = true)]
async fn a_session_that_another_process_has_taken_is_taken_back() {
    let disk = MemoryStore::new();
    let (one, other) = (Node::start(&disk), Node::start(&disk));
    for node in [&one, &other] {
        node.store.shares.store(true, SeqCst);
    }
    let mut browser = Browser::default();
    let id = one.open(&mut browser).await.unwrap().id();
    for (total, node) in [(1, &one), (2, &other), (3, &one), (4, &other)] {
        let session = node.open(&mut browser).await.unwrap();
        assert_eq!((session.id(), session.read(|tally| tally.total)), (id, total - 1));
        session.update(|tally| tally.total = total);
        session.saved().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_cycled_identity_takes_its_record_along() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut old = Browser::default();
    let session = node.open(&mut old).await.unwrap();
    session.update(|tally| tally.total = 3);
    session.saved().await.unwrap();
    let change = session.cycle_identity();
    let cookie =
        change.set_cookie().unwrap().to_str().unwrap().split(';').next().unwrap().to_owned();
    let mut new = Browser { cookie: Some(cookie) };
    // Before the record has moved: a browser that has only the old cookie gets nothing.
    let stranger = node.open(&mut old.clone()).await.unwrap();
    assert_eq!((stranger.origin(), stranger.read(|tally| tally.total)), (SessionOrigin::New, 0));
    session.saved().await.unwrap();
    node.kill();
    let node = Node::start(&disk);
    let found = node.open(&mut new).await.unwrap();
    assert_eq!((found.id(), found.read(|tally| tally.total)), (session.id(), 3));
    assert_ne!(node.open(&mut old).await.unwrap().id(), session.id());
}

#[tokio::test(start_paused = true)]
async fn another_named_handler_does_not_get_a_stored_session() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    node.connect_named(&mut browser, None, Some("live")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.kill();
    let node = Node::start(&disk);
    for name in [Some("other"), None] {
        let refused = node.connect_named(&mut browser, None, name).await.err().unwrap();
        assert_eq!(refused.status(), 409, "{name:?}");
    }
    assert!(node.connect_named(&mut browser, None, Some("live")).await.is_ok());
}

/// A session with `total:1` whose process was killed, and its client's cursor.
pub async fn stored() -> (MemoryStore, Browser, String) {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client: Client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    let cursor = client.cursor(A);
    node.kill();
    (disk, browser, cursor)
}

/// Without `stored`, only what a client needs is in the store.
#[tokio::test(start_paused = true)]
async fn what_is_retained_survives_a_kill_if_it_is_stored() {
    for (retain, from) in [(Retain::last(4).stored(), 1), (Retain::last(4), 5)] {
        let layer = || {
            move |layer: session_resume::SessionResume<_>| {
                layer.with_durability(Durability::Exact).with_retention(retain)
            }
        };
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = Node::new(&disk, layer());
        let mut first = node.connect(&mut browser, Some(A)).await.unwrap();
        first.hello().await;
        let cursor = first.cursor(A);
        let mut second = node.connect(&mut browser, Some(B)).await.unwrap();
        second.hello().await;
        // It has read that another client has taken over.
        first.rest().await;
        let session = node.open(&mut browser).await.unwrap();
        for n in 0..6 {
            session.send(format!("{n}")).await.unwrap();
            assert_eq!(second.data().await, Some(format!("{n}")));
            assert!(second.is_quiet().await);
        }
        node.kill();
        let node = Node::new(&disk, layer());
        let mut first = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        let hello = first.hello().await;
        assert_eq!(hello["from"], from, "{retain:?}: {hello}");
        for n in from..6 {
            assert_eq!(first.data().await, Some(format!("{n}")));
        }
    }
}
