//! A store that goes back in time: no cursor ever has two histories.

use std::time::Duration;

use session_resume::{
    Attach, Durability,
    store::{ErrorKind, MemoryStore, SnapshotStore as _, StoreKey, Versioned},
};

use tokio::time::Instant;

use crate::{
    A, B,
    node::{Browser, Client, Got, Node},
    store::Fault,
};

const BOTH: [Durability; 2] = [Durability::State, Durability::Exact];

fn start(disk: &MemoryStore, durability: Durability) -> Node {
    Node::new(disk, |layer| layer.with_durability(durability).with_attach(Attach::Share))
}

/// A copy of what is on disk, to be put back.
struct Backup {
    key: StoreKey,
    found: Versioned,
}

impl Backup {
    async fn of(disk: &MemoryStore, node: &Node) -> Self {
        let key = node.store.last.lock().unwrap().clone().unwrap();
        let found = disk.load(&key).await.unwrap().unwrap();
        Self { key, found }
    }

    async fn put_back(self, disk: &MemoryStore) {
        let Self { key, found } = self;
        let now = disk.load(&key).await.unwrap().unwrap();
        disk.remove(&key, now.stamp).await.unwrap();
        disk.claim(&key, None, found.stamp, found.bytes, found.expires_in).await.unwrap();
    }
}

/// What the session says next, `words` by `client`, which sees each.
async fn say(client: &mut Client, words: &[&str]) {
    for word in words {
        client.send(&format!("say {word}"));
        assert_eq!(client.data().await.as_deref(), Some(*word));
    }
}

/// The issue: a viewer is away while the store is brought back from a backup, and others make other history.
#[tokio::test(start_paused = true)]
async fn a_viewer_who_was_away_while_the_store_was_put_back_is_told() {
    for durability in BOTH {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = start(&disk, durability);
        let mut viewer = node.connect(&mut browser, Some(A)).await.unwrap();
        viewer.hello().await;
        say(&mut viewer, &["one", "two"]).await;
        let early = viewer.cursor(B);
        node.layer.drain(Duration::from_secs(5)).await;
        let copy = Backup::of(&disk, &node).await;
        node.kill();
        let node = start(&disk, durability);
        let mut viewer = node.connect(&mut browser, Some(&viewer.cursor(A))).await.unwrap();
        let hello = viewer.hello().await;
        assert_eq!(hello["gap"], serde_json::Value::Null);
        let epoch = hello["epoch"].clone();
        say(&mut viewer, &["three", "four"]).await;
        let cursor = viewer.cursor(A);
        viewer.cut();
        node.kill();
        copy.put_back(&disk).await;
        let node = start(&disk, durability);
        // What is in the copy is there for all clients.
        let mut other = node.connect(&mut browser, Some(&early)).await.unwrap();
        assert_eq!(other.hello().await["status"], "resumed");
        say(&mut other, &["drei", "vier", "fünf", "sechs"]).await;
        let mut viewer = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        let hello = viewer.hello().await;
        assert_eq!(hello["status"], "restored", "{durability:?}");
        let gap = serde_json::json!({"from": 4, "to": null, "reason": "restarted"});
        assert_eq!(hello["gap"], gap, "{durability:?}");
        // Both lives were restored from the same bytes.
        assert_ne!(hello["epoch"], epoch);
    }
}

/// The acknowledged messages that a backup does not have are fewer in the hello's count: the client tells.
#[tokio::test(start_paused = true)]
async fn a_backup_counts_fewer_messages_than_were_acknowledged() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = start(&disk, Durability::State);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    let copy = Backup::of(&disk, &node).await;
    client.send("add 1");
    assert!(client.is_acked(2).await);
    let (cursor, epoch) = (client.cursor(A), client.hello["epoch"].clone());
    client.cut();
    node.kill();
    copy.put_back(&disk).await;
    let node = start(&disk, Durability::State);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let hello = client.hello().await;
    assert_eq!(hello["received"], 1);
    assert_ne!(hello["epoch"], epoch, "so the client knows that it is no mistake");
}

/// Every restore is another life, also after a clean end. The stream goes on all the same, also for a client that has
/// slept through several lives.
#[tokio::test(start_paused = true)]
async fn every_restore_names_another_epoch_and_resumes() {
    for durability in BOTH {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let mut node = start(&disk, durability);
        let mut sleeper = node.connect(&mut browser, Some(B)).await.unwrap();
        sleeper.hello().await;
        let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
        client.hello().await;
        say(&mut client, &["0"]).await;
        assert_eq!(sleeper.data().await.as_deref(), Some("0"));
        let asleep = sleeper.cursor(B);
        sleeper.cut();
        for life in 1..4_u64 {
            node.layer.drain(Duration::from_secs(5)).await;
            node.kill();
            node = start(&disk, durability);
            let (cursor, before) = (client.cursor(A), client.hello["epoch"].clone());
            client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
            let hello = client.hello().await;
            assert_eq!((&hello["status"], &hello["from"]), (&"resumed".into(), &life.into()));
            assert_ne!(hello["epoch"], before);
            say(&mut client, &[&life.to_string()]).await;
        }
        let mut sleeper = node.connect(&mut browser, Some(&asleep)).await.unwrap();
        assert_eq!(sleeper.hello().await["status"], "resumed");
        for word in 1..4 {
            assert_eq!(sleeper.data().await, Some(word.to_string()));
        }
    }
}

/// A client says one word and leaves. When the session is to leave memory, too, its clean put happens, but the store
/// does not say so, and then the disk is gone. Returns the cursor of the client that has left.
async fn torn_clean_put(node: &Node, browser: &mut Browser) -> String {
    let mut client = node.connect(browser, Some(A)).await.unwrap();
    client.hello().await;
    say(&mut client, &["one"]).await;
    assert!(client.is_acked(1).await);
    let cursor = client.cursor(A);
    client.cut();
    tokio::time::sleep(Duration::from_secs(100)).await;
    node.store.set(Fault::Tear);
    let puts = node.store.puts();
    while node.store.puts() == puts {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.store.set(Fault::Fail(ErrorKind::Io));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(node.layer.sessions().len(), 1, "the session stays in memory");
    cursor
}

/// Another client says three words after a restart. Then the client that had left comes back with this cursor.
async fn back_after_others(node: &Node, browser: &mut Browser, cursor: &str) -> Client {
    let mut other = node.connect(browser, Some(B)).await.unwrap();
    other.hello().await;
    // What was said before, it may see first.
    other.is_quiet().await;
    say(&mut other, &["drei", "vier", "fünf"]).await;
    node.connect(browser, Some(cursor)).await.unwrap()
}

/// A clean put of unknown end: the session says nothing until a record without the mark is there, and then goes on in
/// the same epoch.
#[tokio::test(start_paused = true)]
async fn a_clean_put_of_unknown_end_keeps_the_session_silent_until_the_mark_is_gone() {
    for durability in BOTH {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = start(&disk, durability);
        let cursor = torn_clean_put(&node, &mut browser).await;
        let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        client.send("say two");
        assert!(client.is_quiet().await, "the record may be clean");
        // A caller that asks is answered, and others are not held up.
        let session = node.layer.get(cursor.split('.').nth(1).unwrap().parse().unwrap()).unwrap();
        assert!(session.saved().await.is_err());
        let mut stranger = Browser::default();
        assert!(node.open(&mut stranger).await.is_ok_and(|other| other.id() != session.id()));
        // For longer than a session without transports stays in memory.
        let until = Instant::now() + Duration::from_secs(200);
        while Instant::now() < until {
            assert_eq!(client.next().await, None);
        }
        node.store.set(Fault::None);
        let mut got = None;
        while got.is_none() && Instant::now() < until + Duration::from_secs(60) {
            got = client.next().await;
        }
        let Some(Got::Hello(hello)) = got else {
            panic!("the session does not go on but tells {got:?}");
        };
        assert_eq!(
            (&hello["status"], &hello["gap"]),
            (&"resumed".into(), &serde_json::Value::Null)
        );
        assert_eq!(hello["epoch"], cursor.split('.').nth(2).unwrap());
        assert_eq!(client.data().await.as_deref(), Some("two"));
        assert!(client.is_acked(2).await);
        session.saved().await.unwrap();
        // Killed now, it has no clean record: what it has said since counts, or is told to be lost.
        let cursor = client.cursor(A);
        node.kill();
        let node = start(&disk, durability);
        let mut client = back_after_others(&node, &mut browser, &cursor).await;
        let hello = client.hello().await;
        assert_eq!(hello["received"], 2, "{durability:?}");
        if durability == Durability::Exact {
            assert_eq!((&hello["status"], &hello["from"]), (&"resumed".into(), &2.into()));
            assert_eq!(client.data().await.as_deref(), Some("drei"));
        } else {
            assert_eq!(hello["gap"]["reason"], "restarted", "{hello}");
        }
    }
}

/// The process dies while the session is silent: the clean record is all there was.
#[tokio::test(start_paused = true)]
async fn a_clean_record_that_was_not_known_to_be_there_is_the_whole_history() {
    for durability in BOTH {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = start(&disk, durability);
        let cursor = torn_clean_put(&node, &mut browser).await;
        let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        client.send("say two");
        assert!(client.is_quiet().await);
        node.kill();
        let node = start(&disk, durability);
        let mut client = back_after_others(&node, &mut browser, &cursor).await;
        let hello = client.hello().await;
        assert_eq!((&hello["status"], &hello["from"]), (&"resumed".into(), &1.into()), "{hello}");
        assert_eq!(hello["received"], 1, "the client says it again");
        for word in ["drei", "vier", "fünf"] {
            assert_eq!(client.data().await.as_deref(), Some(word));
        }
    }
}

/// A session that waits for a record without the mark may leave all the same: with a drain, or because no client comes.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_silent_leaves_whole() {
    for drains in [true, false] {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = start(&disk, Durability::State);
        let cursor = torn_clean_put(&node, &mut browser).await;
        if drains {
            let layer = node.layer.clone();
            let drain = tokio::spawn(async move { layer.drain(Duration::from_secs(60)).await });
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.store.set(Fault::None);
            assert_eq!(drain.await.unwrap().drained, 1);
        } else {
            tokio::time::sleep(Duration::from_secs(200)).await;
            node.store.set(Fault::None);
            tokio::time::sleep(Duration::from_secs(300)).await;
            assert!(node.layer.sessions().is_empty());
        }
        node.kill();
        let node = start(&disk, Durability::State);
        let mut client = back_after_others(&node, &mut browser, &cursor).await;
        let hello = client.hello().await;
        // Its outbox is in the record.
        assert_eq!((&hello["status"], &hello["from"]), (&"resumed".into(), &1.into()), "{hello}");
        assert_eq!(client.data().await.as_deref(), Some("drei"));
    }
}
