//! Sessions that leave memory while others still use their handles.

use std::{
    fs,
    future::Future,
    sync::mpsc,
    time::{Duration, Instant},
};

use session_resume::{Limits, store::MemoryStore};

use crate::{
    A,
    node::{Browser, Node},
};

const STEP: Duration = Duration::from_millis(10);

/// Runs a test in virtual time. A task that never gives its thread back stops virtual time, too: this thread tells,
/// by how long the other one has been on a processor. Time on the clock says nothing on a busy machine.
pub fn in_virtual_time(test: impl Future<Output = ()> + Send + 'static) {
    let (begun, thread) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let runs = std::thread::spawn(move || {
        // Linux alone has it.
        begun.send(fs::canonicalize("/proc/thread-self/schedstat").ok()).unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(test);
        let _ = done.send(());
    });
    let (thread, begun) = (thread.recv().unwrap(), Instant::now());
    // Nanoseconds on a processor come first.
    let worked = || {
        let numbers = fs::read_to_string(thread.as_ref()?).ok()?;
        numbers.split(' ').next()?.parse().ok().map(Duration::from_nanos)
    };
    while let Err(mpsc::RecvTimeoutError::Timeout) = is_done.recv_timeout(Duration::from_millis(50))
    {
        let worked = worked().unwrap_or_else(|| begun.elapsed() / 20);
        assert!(worked < Duration::from_secs(30), "a task does not give its thread back");
    }
    runs.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn a_save_that_is_asked_for_while_one_is_under_way_is_no_second_one() {
    in_virtual_time(async {
        let node = Node::patient(&MemoryStore::new());
        let session = node.open(&mut Browser::default()).await.unwrap();
        session.update(|tally| tally.total = 1);
        session.saved().await.unwrap();
        let puts = node.store.puts();
        session.update(|tally| tally.total = 2);
        node.store.hold();
        tokio::time::sleep(STEP * 20).await;
        // The put is under way, and covers all there is.
        let saved = tokio::spawn({
            let session = session.clone();
            async move { session.saved().await }
        });
        tokio::time::sleep(STEP * 20).await;
        node.store.release();
        saved.await.unwrap().unwrap();
        tokio::time::sleep(STEP * 20).await;
        assert_eq!(node.store.puts(), puts + 1);
    });
}

#[test]
fn a_session_that_leaves_waits_for_every_put_that_is_under_way() {
    in_virtual_time(async {
        let node = Node::patient(&MemoryStore::new());
        let session = node.open(&mut Browser::default()).await.unwrap();
        session.saved().await.unwrap();
        node.store.calls();
        node.store.hold();
        // Its time is up, and the put that it leaves with is under way.
        while !node.store.calls().contains(&"put session".to_owned()) {
            tokio::time::sleep(STEP).await;
        }
        let waiting = session.clone();
        let saved = tokio::spawn(async move { waiting.saved().await });
        tokio::time::sleep(STEP).await;
        // One put may go on, and no second one.
        node.store.gate.add_permits(1);
        saved.await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(node.layer.sessions().is_empty(), "it has left");
    });
}

#[test]
fn a_session_that_is_closed_while_it_leaves_is_not_waited_for() {
    in_virtual_time(async {
        let disk = MemoryStore::new();
        let node = Node::new(&disk, |layer| {
            layer.with_limits(brief()).with_store_timeout(Duration::from_secs(3600))
        });
        let mut browser = Browser::default();
        let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
        client.hello().await;
        // When its time is up, one put is under way and the next message is in hand.
        node.store.hold();
        client.send("add 1");
        client.data().await.unwrap();
        tokio::time::sleep(STEP * 20).await;
        client.send("work");
        tokio::time::sleep(STEP).await;
        let session = node.layer.get(client.id()).unwrap();
        client.cut();
        tokio::time::sleep(Duration::from_secs(90)).await;
        assert!(session.is_message_in_hand());
        session.close("bye");
        node.store.release();
        let again = tokio::time::timeout(Duration::from_secs(90), node.open(&mut browser)).await;
        assert_ne!(again.expect("answered").unwrap().id(), session.id());
        assert_eq!(node.poll(&mut browser, &session.id().to_string(), 0).await.0, 200);
    });
}

fn brief() -> Limits {
    Limits::default().with_max_unattended(Duration::from_secs(60))
}
