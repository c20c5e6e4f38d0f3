//! A test that fails says why, and where.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use session_resume_testkit::TestServer;

use crate::apps::{in_memory, layer, router};

/// The text of the panic that must come.
async fn panics<F: Future<Output: std::fmt::Debug>>(future: F) -> String {
    let panicked = AssertUnwindSafe(future).catch_unwind().await.expect_err("it panics");
    *panicked.downcast::<String>().expect("with a text")
}

#[tokio::test(start_paused = true)]
async fn a_wait_in_vain_says_where_and_what_was_told() {
    let (_resume, server) = in_memory();
    let mut page = server.browser().open("/live").await;
    page.send("say it");
    assert_eq!(page.recv().await, "it");
    page.set_deadline(Duration::from_secs(10));
    let line = line!() + 1;
    let text = panics(page.recv()).await;
    assert!(text.starts_with(&format!("{}:{line}:", file!())), "{text}");
    assert!(text.contains("the page at /live has waited 10s for a message"), "{text}");
    assert!(text.contains("Open {") && text.contains(r#"Message(Text("it"))"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_loss_is_never_passed_over() {
    let server = TestServer::new(|| router().layer(layer()));
    let mut page = server.browser().open("/live").await;
    page.send("say it");
    assert_eq!(page.recv().await, "it");
    server.restart().await;
    page.send("say more");
    let text = panics(page.recv()).await;
    assert!(text.contains("something else than a message: InDoubt(["), "{text}");
    let text = panics(page.recv()).await;
    assert!(text.contains("something else than a message: Gap(Gap {"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_not_expected_is_told() {
    let (_resume, server) = in_memory();
    let browser = server.browser();
    let mut page = browser.open("/live").await;
    page.send("finish");
    let text = panics(page.recv()).await;
    assert!(text.contains("something else than a message: Done {"), "{text}");
    let text = panics(page.recv()).await;
    assert!(text.contains("nothing comes any more"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_gets_no_session_says_what_the_server_answered() {
    let (_resume, server) = in_memory();
    let text = panics(server.browser().open("/nowhere")).await;
    assert!(text.contains("the page at /nowhere gets no session"), "{text}");
    assert!(text.contains("status: 404"), "{text}");
    let text = panics(server.browser().plain("/nowhere")).await;
    assert!(text.contains("/nowhere: upgrade answered with 404"), "{text}");
}

/// Pings and heartbeats come for ever, and a client tries for ever. No wait does.
#[tokio::test(start_paused = true)]
async fn every_wait_ends() {
    let (_resume, server) = in_memory();
    let browser = server.browser();
    let mut socket = browser.plain("/live").await;
    let text = panics(socket.recv()).await;
    assert!(text.contains("a message or an end: still waiting after 120s"), "{text}");
    let text = panics(socket.closed()).await;
    assert!(text.contains("a close: still waiting after 120s"), "{text}");
    drop(socket);
    let mut socket = browser.resumable("/live", "0123456789abcdef").await;
    let text = panics(socket.data()).await;
    assert!(text.contains("a data text: still waiting after 120s"), "{text}");
    drop(socket);

    let mut page = browser.open("/live").await;
    page.go_offline().await;
    let text = panics(page.recv()).await;
    assert!(text.contains("has waited 120s for a message"), "{text}");
    let text = panics(page.hello()).await;
    assert!(text.contains("has waited 120s for a hello"), "{text}");
}
