//! The path on which a handler was started outlives the process.

use session_resume::{Durability, key, store::MemoryStore};

use crate::{
    A,
    node::{Browser, Got, Node},
};

#[tokio::test(start_paused = true)]
async fn a_restored_session_is_on_its_path_after_a_kill_and_after_a_drain() {
    for (durability, drains) in [
        (Durability::State, false),
        (Durability::State, true),
        (Durability::Exact, false),
        (Durability::Exact, true),
    ] {
        let (disk, mut browser) = (MemoryStore::new(), Browser::default());
        let start = || Node::new(&disk, |layer| layer.with_durability(durability));
        let node = start();
        let mut client = node.connect_at(&mut browser, "/ws/a", Some(A)).await.unwrap();
        client.hello().await;
        client.send("add 1");
        assert!(client.is_acked(1).await);
        let mut cursor = client.cursor(A);
        end(node, drains).await;
        // Twice: what restores it without its handler, an HTTP request, keeps the path, too.
        for _ in 0..2 {
            let node = start();
            node.open(&mut browser).await.unwrap().saved().await.unwrap();
            end(node, drains).await;
            let node = start();
            let elsewhere = node.connect_at(&mut browser, "/ws/b", None).await.unwrap_err();
            assert_eq!(elsewhere.status(), 409, "{durability:?}, {drains}");
            let mut told = node.connect_at(&mut browser, "/ws/b", Some(&cursor)).await.unwrap();
            let close = told.rest().await.pop();
            assert!(matches!(close, Some(Got::Close(4101))), "{close:?}");
            let mut back = node.connect_at(&mut browser, "/ws/a", Some(&cursor)).await.unwrap();
            back.hello().await;
            assert_eq!(back.session(), client.session());
            cursor = back.cursor(A);
            end(node, drains).await;
        }
        // An upgrade on any path restores it, and starts its handler: the path is still that of the first start.
        let node = start();
        let upgrade = node.upgrade(&mut browser, "/watch", Some(&cursor)).await.unwrap().any_path();
        node.attach(upgrade).unwrap().hello().await;
        assert_eq!(node.connect_at(&mut browser, "/watch", None).await.unwrap_err().status(), 409);
        node.connect_at(&mut browser, "/ws/a", None).await.unwrap();
    }
}

async fn end(node: Node, drains: bool) {
    if drains {
        node.layer.drain(std::time::Duration::from_secs(5)).await;
    }
    node.kill();
}

/// Such a session has no path: the first start of its handler is still to come.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_stored_without_a_handler_takes_the_path_of_its_first() {
    let (disk, mut browser) = (MemoryStore::new(), Browser::default());
    let node = Node::start(&disk);
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.saved().await.unwrap();
    node.kill();
    let node = Node::start(&disk);
    // One that fails starts nothing.
    let upgrade = node.upgrade(&mut browser, "/ws/a", None).await.unwrap();
    drop(upgrade.on_session(async |_live| ()).unwrap());
    let mut client = node.connect_at(&mut browser, "/ws/b", Some(A)).await.unwrap();
    assert_eq!(client.hello().await["session"], session.id().to_string());
    assert_eq!(node.connect_at(&mut browser, "/ws/a", None).await.unwrap_err().status(), 409);
}

/// An application that has chosen its key is not asked, whatever the one before it has stored.
#[tokio::test(start_paused = true)]
async fn a_new_key_function_is_not_held_to_an_old_path() {
    let (disk, mut browser) = (MemoryStore::new(), Browser::default());
    let node = Node::start(&disk);
    let mut client = node.connect_at(&mut browser, "/ws/a", Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    node.kill();
    // It names none, so it is the identity's own session.
    let chosen = key::from_fn(|_, _| None::<String>);
    let node = Node::new(&disk, |layer| layer.with_key(chosen));
    let mut back = node.connect_at(&mut browser, "/ws/b", Some(A)).await.unwrap();
    assert_eq!(back.hello().await["session"], client.session());
}
