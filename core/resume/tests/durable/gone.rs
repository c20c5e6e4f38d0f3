//! All handles of a layer are dropped without a drain: what runs for it ends.

use std::{future::Future, time::Duration};

use session_resume::{BlockingSession, Overflow, Session, store::MemoryStore};
use tokio::sync::oneshot;

use crate::node::{Browser, Node, Tally};

/// Only a handler that waits for ever takes a minute: threads go by real time.
async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("hangs: {what}"))
}

/// Starts a handler on a plain thread, drops the layer when the handler says so, and returns what it returns.
async fn ends<R: Send + 'static>(
    node: Node,
    handler: impl FnOnce(BlockingSession<Tally>, oneshot::Sender<()>) -> R + Send + 'static,
) -> R {
    let ((waits, is_waiting), (ended, has_ended)) = (oneshot::channel(), oneshot::channel());
    let client = node
        .connect_blocking(&mut Browser::default(), move |session| {
            let _ = ended.send(handler(session, waits));
        })
        .await;
    within("the handler's start", is_waiting).await.unwrap();
    // Most probably it waits by now; it must end in any case.
    tokio::task::yield_now().await;
    drop(node);
    let returned = within("the handler's end", has_ended).await.unwrap();
    drop(client);
    returned
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_receives_is_told() {
    let received = ends(Node::start(&MemoryStore::new()), |mut session, waits| {
        waits.send(()).unwrap();
        (session.recv().is_some(), session.recv_event().is_some())
    });
    assert_eq!(received.await, (false, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_sends_is_told() {
    let sent = ends(
        Node::new(&MemoryStore::new(), |layer| layer.with_overflow(Overflow::Backpressure)),
        |session, waits| {
            while session.try_send("full").is_ok() {}
            waits.send(()).unwrap();
            session.send("one more").is_ok()
        },
    );
    assert!(!sent.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_commits_to_a_store_that_hangs_is_told() {
    let node = Node::start(&MemoryStore::new());
    let store = std::sync::Arc::clone(&node.store);
    let committed = ends(node, move |mut session, waits| {
        store.hold();
        session.update(|tally| tally.total += 1);
        let waiting = Session::clone(&session);
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move {
            // Under way: the store has been asked and does not answer.
            while !store.calls().iter().any(|call| call == "put session") {
                waiting.update(|tally| tally.total += 1);
                tokio::task::yield_now().await;
            }
            waits.send(()).unwrap();
        });
        let committed = session.commit().is_ok();
        (committed, session.saved().is_ok(), session.recv().is_some())
    });
    assert_eq!(committed.await, (false, false, false));
}
