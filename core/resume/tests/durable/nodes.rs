//! Several processes on one store: each session belongs to one process. A process that has lost it says nothing more.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use session_resume::{reuse, store::MemoryStore};

use crate::{
    A, B,
    node::{Browser, Client, Got, Node},
};

/// A process that shares the store.
fn sharing(disk: &MemoryStore) -> Node {
    let node = Node::start(disk);
    node.store.shares.store(true, SeqCst);
    node
}

/// Connects, and has `text` handled and acknowledged.
async fn begun(node: &Node, browser: &mut Browser, text: &str) -> Client {
    let mut client = node.connect(browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send(text);
    assert!(client.is_acked(1).await);
    client
}

/// A session that is stored; its process is gone.
async fn stored(disk: &MemoryStore) -> (Browser, String) {
    let mut browser = Browser::default();
    let node = sharing(disk);
    let client = begun(&node, &mut browser, "add 1").await;
    let cursor = client.cursor(A);
    node.kill();
    (browser, cursor)
}

async fn total(node: &Node, browser: &mut Browser) -> i64 {
    node.open(browser).await.unwrap().read(|tally| tally.total)
}

fn is_told_done(rest: &[Got]) -> bool {
    rest.iter().any(|got| matches!(got, Got::Other(control) if control["done"].is_object()))
}

#[tokio::test(start_paused = true)]
async fn of_two_that_restore_at_once_one_owns_it() {
    let disk = MemoryStore::new();
    let (browser, cursor) = stored(&disk).await;
    let (one, two) = (sharing(&disk), sharing(&disk));
    let (mut b1, mut b2) = (browser.clone(), browser.clone());
    let (s1, s2) = tokio::join!(one.open(&mut b1), two.open(&mut b2));
    assert_eq!(s1.unwrap().id(), s2.unwrap().id());
    let mut c1 = one.connect(&mut b1, Some(&cursor)).await.unwrap();
    c1.hello().await;
    c1.send("add 10");
    let acked = c1.is_acked(2).await;
    let mut c2 = two.connect(&mut b2, Some(B)).await.unwrap();
    c2.hello().await;
    c2.send("add 100");
    assert!(acked && c2.is_acked(1).await);
    one.kill();
    two.kill();
    assert_eq!(total(&sharing(&disk), &mut browser.clone()).await, 111, "what was acknowledged");
}

/// The same, again and again, with changes at both: none that was acknowledged is lost.
#[tokio::test(start_paused = true)]
async fn what_two_processes_acknowledge_adds_up() {
    let disk = MemoryStore::new();
    let (browser, _) = stored(&disk).await;
    let (one, two) = (sharing(&disk), sharing(&disk));
    let mut expected = 1;
    for round in 0..20 {
        let (mut b1, mut b2) = (browser.clone(), browser.clone());
        let (s1, s2) = tokio::join!(one.open(&mut b1), two.open(&mut b2));
        let sessions = [s1.unwrap(), s2.unwrap()];
        let save = async |at: usize, amount: i64| {
            sessions[at].update(|tally| tally.total += amount);
            if sessions[at].saved().await.is_ok() { amount } else { 0 }
        };
        let (first, second) = if round % 2 == 0 {
            tokio::join!(save(0, 10), save(1, 100))
        } else {
            (save(0, 10).await, save(1, 100).await)
        };
        assert!(first == 0 || second == 0, "one of them owns it");
        expected += first + second;
    }
    assert!(expected > 1);
    let last = sharing(&disk);
    assert_eq!(total(&last, &mut browser.clone()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn of_two_that_begin_at_once_one_owns_the_key() {
    let disk = MemoryStore::new();
    let (one, two) = (sharing(&disk), sharing(&disk));
    let mut browser = Browser::default();
    // A browser that has its cookie already, and no session.
    one.parts(&mut browser, None).await;
    let (mut b1, mut b2) = (browser.clone(), browser.clone());
    let (s1, s2) = tokio::join!(one.open(&mut b1), two.open(&mut b2));
    let (s1, s2) = (s1.unwrap(), s2.unwrap());
    s1.update(|tally| tally.total += 1);
    s2.update(|tally| tally.total += 1);
    let (r1, r2) = tokio::join!(s1.saved(), s2.saved());
    assert!(r1.is_ok() != r2.is_ok(), "one of them owns it: {r1:?} {r2:?}");
    let winner = if r1.is_ok() { s1.id() } else { s2.id() };
    for node in [&one, &two] {
        let session = node.open(&mut browser.clone()).await.unwrap();
        assert_eq!(session.id(), winner, "the other one is given up for it");
        assert_eq!(session.read(|tally| tally.total), 1);
    }
}

/// The second one finds that the stored session has ended already, and looks again.
#[tokio::test(start_paused = true)]
async fn of_two_that_ask_for_a_fresh_session_at_once_none_is_turned_away() {
    let disk = MemoryStore::new();
    let (browser, _) = stored(&disk).await;
    let before = total(&sharing(&disk), &mut browser.clone()).await;
    assert_eq!(before, 1);
    let fresh = || {
        let node = Node::new(&disk, |layer| layer.with_reuse(reuse::never()));
        node.store.shares.store(true, SeqCst);
        node
    };
    let (one, two) = (fresh(), fresh());
    let (mut b1, mut b2) = (browser.clone(), browser.clone());
    let (s1, s2) = tokio::join!(one.open(&mut b1), two.open(&mut b2));
    for session in [s1, s2] {
        assert_eq!(session.unwrap().read(|tally| tally.total), 0, "a new one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_neither_tells_nor_stores_an_outcome() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let old = sharing(&disk);
    let mut client = begun(&old, &mut browser, "add 1").await;
    let id = client.session();
    // Another process takes the session over: the old one does not know yet.
    let new = sharing(&disk);
    let mut other = browser.clone();
    new.open(&mut other).await.unwrap();
    client.send("finish zombie");
    let rest = client.rest().await;
    assert!(!is_told_done(&rest), "{rest:?}");
    assert!(matches!(rest.last(), Some(Got::Close(_) | Got::Gone)), "{rest:?}");

    for node in [&new, &sharing(&disk)] {
        let (status, body) = node.poll(&mut other.clone(), &id, 0).await;
        assert_eq!(status, 202, "{body}");
    }
    let mut client = new.connect(&mut other, Some(B)).await.unwrap();
    client.hello().await;
    client.send("add 10");
    assert!(client.is_acked(1).await);
    assert_eq!(client.session(), id);
    // Its true end is told, and found everywhere.
    client.send("finish well");
    assert!(is_told_done(&client.rest().await));
    for node in [&old, &new, &sharing(&disk)] {
        let (status, body) = node.poll(&mut other.clone(), &id, 0).await;
        assert_eq!((status, body["result"].as_str()), (200, Some("well")), "{body}");
    }
}

/// The new owner has the key, and has not come to putting its pointer under the id. What is there is still the
/// former owner's, so only the final record can refuse it.
#[tokio::test(start_paused = true)]
async fn a_former_owner_tells_no_outcome_between_the_claim_and_the_pointer() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let old = sharing(&disk);
    let mut client = begun(&old, &mut browser, "add 1").await;
    let id = client.session();
    let new = sharing(&disk);
    new.store.hold();
    // One write gets through: the claim.
    new.store.gate.add_permits(1);
    let mut other = browser.clone();
    let opening = tokio::time::timeout(Duration::from_millis(100), new.open(&mut other)).await;
    assert!(opening.is_err(), "it waits for the pointer");
    assert_eq!((new.store.puts(), new.store.id_puts.load(SeqCst)), (1, 0));
    client.send("finish zombie");
    let rest = client.rest().await;
    assert!(!is_told_done(&rest), "{rest:?}");
    new.kill();
    for node in [&old, &sharing(&disk)] {
        let (status, body) = node.poll(&mut other.clone(), &id, 0).await;
        assert_eq!(status, 202, "{body}");
    }
    assert_eq!(total(&sharing(&disk), &mut other).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_former_owner_removes_nothing() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let old = sharing(&disk);
    let mut client = begun(&old, &mut browser, "add 1").await;
    let new = sharing(&disk);
    let mut other = browser.clone();
    let id = new.open(&mut other).await.unwrap().id();
    for end in ["finish zombie", "nonsense"] {
        client.send(end);
    }
    client.rest().await;
    // The new owner is killed before it has anything to save.
    new.kill();
    let third = sharing(&disk);
    let session = third.open(&mut other).await.unwrap();
    assert_eq!((session.id(), session.read(|tally| tally.total)), (id, 1));
}

/// A session that has ended elsewhere is not brought back by a process that has slept through the end.
#[tokio::test(start_paused = true)]
async fn who_wakes_after_the_end_brings_nothing_back() {
    for again in [false, true] {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let old = sharing(&disk);
        let client = begun(&old, &mut browser, "add 1").await;
        let id = client.session();
        let new = sharing(&disk);
        let mut other = browser.clone();
        let mut ender = new.connect(&mut other, Some(B)).await.unwrap();
        ender.hello().await;
        ender.send("finish well");
        assert!(is_told_done(&ender.rest().await));
        let mut third = Browser::clone(&other);
        if again {
            // The key has a new session, or nothing is left of the old one.
            new.open(&mut third).await.unwrap().saved().await.unwrap();
        } else {
            disk.advance(Duration::from_secs(100 * 24 * 3600));
            new.layer.drain(Duration::from_secs(1)).await;
            session_resume::store::SnapshotStore::delete_expired(&disk, 99).await.unwrap();
        }
        let mut client = client;
        client.send("add 1000");
        assert!(!client.is_acked(2).await, "not its session any more");
        let last = sharing(&disk);
        let session = last.open(&mut other.clone()).await.unwrap();
        assert_ne!(session.id().to_string(), id);
        assert_eq!(session.read(|tally| tally.total), 0);
    }
}

/// Everything that is stored is gone.
async fn lose_everything(disk: &MemoryStore) {
    disk.advance(Duration::from_secs(100 * 24 * 3600));
    session_resume::store::SnapshotStore::delete_expired(disk, usize::MAX).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_owner_puts_again_what_its_store_has_lost() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = sharing(&disk);
    let mut client = begun(&node, &mut browser, "add 1").await;
    for round in 2..=4 {
        lose_everything(&disk).await;
        node.store.losses.fetch_add(1, SeqCst);
        client.send("add 1000");
        assert!(client.is_acked(round).await, "its handler goes on");
    }
    let other = sharing(&disk);
    let session = other.open(&mut browser).await.unwrap();
    assert_eq!(session.id().to_string(), client.session());
    assert_eq!(session.read(|tally| tally.total), 3001);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_although_the_store_has_lost_everything() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = sharing(&disk);
    let mut client = begun(&node, &mut browser, "add 1").await;
    lose_everything(&disk).await;
    node.store.losses.fetch_add(1, SeqCst);
    client.send("finish well");
    assert!(is_told_done(&client.rest().await));
}

/// A loss that was before the session's last write says nothing: if the record is gone, another process has ended it.
#[tokio::test(start_paused = true)]
async fn a_loss_of_long_ago_brings_nothing_back() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let first = sharing(&disk);
    begun(&first, &mut browser, "add 1").await;
    let restored = sharing(&disk);
    restored.store.losses.fetch_add(1, SeqCst);
    let mut client = restored.connect(&mut browser, Some(B)).await.unwrap();
    client.hello().await;
    lose_everything(&disk).await;
    client.send("add 1000");
    assert!(!client.is_acked(1).await, "not its session any more");
}

/// The process dies between the two halves of an end.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_only_half_written_is_one() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = sharing(&disk);
    let mut client = begun(&node, &mut browser, "add 1").await;
    let (id, cursor) = (client.session(), client.cursor(A));
    node.store.hold();
    client.send("finish well");
    // One put: that under the key.
    node.store.gate.add_permits(1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_told_done(&[client.next().await.unwrap_or(Got::Gone)]));
    node.kill();

    // It has ended for all processes: found by its id, and its key is free.
    let (status, body) = sharing(&disk).poll(&mut browser.clone(), &id, 0).await;
    assert_eq!((status, body["result"].as_str()), (200, Some("well")), "{body}");
    let next = sharing(&disk);
    let mut other = browser.clone();
    let mut fresh = next.connect(&mut other, Some(B)).await.unwrap();
    assert_eq!(fresh.hello().await["status"], "new");
    fresh.send("add 5");
    assert!(fresh.is_acked(1).await);
    let (status, body) = next.poll(&mut browser.clone(), &id, 0).await;
    assert_eq!((status, body["result"].as_str()), (200, Some("well")), "{body}");
    let mut back = next.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert!(is_told_done(&back.rest().await) || back.hello["gap"].is_object());
}
