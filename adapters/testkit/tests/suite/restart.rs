//! What a killed process leaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use session_resume::{Durability, SessionResume, store::MemoryStore};
use session_resume_testkit::{Event, Received, Status, TestServer};
use tokio::time::{Instant, sleep};

use crate::apps::{Taken, in_memory, layer, newest, router};

/// A server over a store, and the layer of each of its processes.
fn over_store() -> (TestServer, Arc<std::sync::Mutex<Vec<SessionResume<Taken>>>>) {
    let layers = Arc::<std::sync::Mutex<Vec<_>>>::default();
    let made = Arc::clone(&layers);
    let server = TestServer::with_store(MemoryStore::new(), move |store| {
        let resume = layer().with_durability(Durability::Exact).with_store(store);
        made.lock().unwrap().push(resume.clone());
        router().layer(resume)
    });
    (server, layers)
}

#[tokio::test(start_paused = true)]
async fn what_is_in_the_store_is_there_after_a_restart() {
    let (server, layers) = over_store();
    let mut page = server.browser().open("/live").await;
    for n in 0..5 {
        page.send(format!("say {n}"));
        page.send("say more");
        assert_eq!(page.recv().await, n.to_string());
        server.restart().await;
        assert_eq!(page.recv().await, "more", "exactly once through kills");
    }
    assert_eq!(page.statuses()[0], Status::New);
    assert!(page.statuses()[1..].iter().all(|status| *status == Status::Resumed));
    assert_eq!(layers.lock().unwrap().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_was_in_memory_is_gone_and_the_page_is_told() {
    let server = TestServer::new(|| router().layer(layer()));
    let browser = server.browser();
    let mut page = browser.open("/live").await;
    page.send("say it");
    assert_eq!(page.recv().await, "it");
    assert_eq!(browser.get("/").await.text(), "say it");
    let before = page.session().to_owned();
    let start = Instant::now();
    server.restart().await;
    assert_eq!(page.gap().await.to, None);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(browser.get("/").await.text(), "");
    assert_ne!(page.session(), before);
}

#[tokio::test(start_paused = true)]
async fn the_old_process_does_nothing_more() {
    /// Counts the handlers that are alive.
    struct Alive(Arc<AtomicUsize>);
    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&alive);
    let server = TestServer::with_store(MemoryStore::new(), move |store| {
        let alive = Arc::clone(&counted);
        let live = move |upgrade: session_resume_axum::ResumeUpgrade<Taken>| {
            let alive = Arc::clone(&alive);
            async move {
                upgrade.on_session(move |session| async move {
                    alive.fetch_add(1, SeqCst);
                    let _alive = Alive(alive);
                    crate::apps::live(session).await
                })
            }
        };
        axum::Router::new()
            .route("/live", axum::routing::any(live))
            .layer(layer().with_store(store))
    });
    let mut page = server.browser().open("/live").await;
    page.send("say it");
    assert_eq!(page.recv().await, "it");
    assert_eq!(alive.load(SeqCst), 1);
    page.go_offline().await;
    server.restart().await;
    assert_eq!(alive.load(SeqCst), 0, "its handler is gone");
    page.go_online();
    page.hello().await;
    assert_eq!(alive.load(SeqCst), 1);
}

/// The test has kept the layer of a process that is dead: its sessions go on in memory, and reach nothing.
#[tokio::test(start_paused = true)]
async fn nothing_of_the_old_process_reaches_the_store() {
    let (server, layers) = over_store();
    let mut page = server.browser().open("/live").await;
    page.send("say it");
    assert_eq!(page.recv().await, "it");
    let old = newest(&layers.lock().unwrap()[0]);
    server.restart().await;
    old.update(|taken| taken.push("by a dead process".to_owned()));
    let _ = tokio::time::timeout(Duration::from_secs(60), old.saved()).await;
    server.restart().await;
    page.send("say more");
    assert_eq!(page.recv().await, "more");
    let now = newest(&layers.lock().unwrap()[2]);
    assert_eq!(now.read(Clone::clone), ["say it", "say more"]);
}

#[tokio::test(start_paused = true)]
async fn a_restart_is_noticed_by_everything_that_is_open() {
    let (_resume, server) = in_memory();
    let mut socket = server.browser().plain("/live").await;
    let mut page = server.browser().open("/live").await;
    server.restart().await;
    assert_eq!(socket.next().await, Received::Gone);
    let told = page.recv_event().await;
    assert!(matches!(told, Event::Waiting { .. } | Event::Connecting), "{told:?}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(page.hello().await.attachment.get(), 2, "the test kept the layer");
}
