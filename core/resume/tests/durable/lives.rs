//! A store that goes back in time: no cursor ever has two histories.

use std::time::Duration;

use session_resume::{
    Attach, Durability,
    store::{MemoryStore, SnapshotStore as _, StoreKey, Versioned},
};

use crate::{
    A, B,
    node::{Browser, Client, Node},
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
        // What the copy has, it has for everybody.
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

/// Every restore is another life, also after a clean end; the stream goes on all the same, also for whoever has
/// slept through several.
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
