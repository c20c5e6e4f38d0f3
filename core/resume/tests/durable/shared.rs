//! A session that many identities share, and its record.

use std::time::Duration;

use session_resume::{
    Limits, key,
    store::{MemoryStore, SnapshotStore as _},
};

use crate::{
    A,
    node::{Browser, Node},
};

fn document(disk: &MemoryStore, limits: Limits) -> Node {
    Node::new(disk, |layer| {
        layer.with_key(key::from_fn(|_, _| "document").shared()).with_limits(limits)
    })
}

async fn record(disk: &MemoryStore, node: &Node) -> usize {
    let key = node.store.last.lock().unwrap().clone().unwrap();
    disk.load(&key).await.unwrap().unwrap().bytes.len()
}

/// A client that came by and is forgotten leaves nothing. A client that is remembered costs less than 80 bytes, with
/// the epoch that it was shown: here each client came in another life of the session.
#[tokio::test(start_paused = true)]
async fn the_record_does_not_grow_with_everybody_who_ever_came_by() {
    let disk = MemoryStore::new();
    let node = document(&disk, Limits::default().with_max_shared_clients(20));
    let mut sizes = Vec::new();
    for n in 0..60 {
        let (mut visitor, id) = (Browser::default(), format!("visitor-{n:08}"));
        let mut client = node.connect(&mut visitor, Some(&id)).await.unwrap();
        client.hello().await;
        client.send("add 1");
        assert!(client.is_acked(1).await);
        client.cut();
        // Unused: into the store, and from there again for the next one.
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert!(node.layer.sessions().is_empty());
        if [10, 20, 40, 60].contains(&(n + 1)) {
            sizes.push(record(&disk, &node).await);
        }
    }
    let each = (sizes[1] - sizes[0]) / 10;
    assert!((16 + 16..80).contains(&each), "{each} bytes for each client that is remembered");
    assert!(sizes[3] < sizes[1] + 32, "record size by visitors: {sizes:?}");
}

/// Two programs of different identities use the same client id: after a restart each is told its own count.
#[tokio::test(start_paused = true)]
async fn a_restart_knows_clients_of_two_identities_apart() {
    let disk = MemoryStore::new();
    let node = document(&disk, Limits::default());
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    let mut hers = node.connect(&mut ann, Some(A)).await.unwrap();
    hers.hello().await;
    let mut his = node.connect(&mut bob, Some(A)).await.unwrap();
    his.hello().await;
    hers.send("add 1");
    hers.send("add 2");
    his.send("add 4");
    assert!(hers.is_acked(2).await && his.is_acked(1).await);
    let (at_hers, at_his) = (hers.cursor(A), his.cursor(A));
    node.kill();
    let node = document(&disk, Limits::default());
    let told = node.connect(&mut ann, Some(&at_hers)).await.unwrap().hello().await;
    assert_eq!(told["received"], 2);
    let told = node.connect(&mut bob, Some(&at_his)).await.unwrap().hello().await;
    assert_eq!(told["received"], 1);
}
