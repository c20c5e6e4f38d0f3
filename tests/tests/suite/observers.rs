//! Readers that are no clients: what `GET /observe` sends.

use serde_json::{Value, json};
use session_resume_testkit::{Browser, Socket, until};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::{client, requests::EventSource, testee};

scenarios!(
    an_observer_reads_along_and_takes_nobodys_place,
    an_observer_begins_where_it_asks_to,
    no_send_waits_for_observers_that_have_stalled,
    there_is_nothing_to_observe_without_a_session,
    an_observer_goes_on_after_a_kill,
);

async fn observe(testee: &Testee, browser: &Browser, query: &str) -> EventSource {
    let source = EventSource::open_at(testee, browser, &format!("/observe{query}"), None).await;
    assert_eq!(source.answer.status, 200, "{query}");
    source
}

async fn observers(browser: &Browser) -> Value {
    browser.get("/count").await.json()["observers"].clone()
}

async fn attached(browser: &Browser, letter: char) -> Socket {
    let mut ws = browser.resumable("/live", &client(letter)).await;
    ws.member("hello").await;
    ws
}

async fn an_observer_reads_along_and_takes_nobodys_place(framework: Framework) {
    let testee = testee(framework, "--attach refuse").await;
    let browser = Browser::at(testee.addr);
    let mut ws = attached(&browser, 'a').await;
    let mut source = observe(&testee, &browser, "").await;
    assert_eq!(source.named("").await.retry, "1000");
    assert_eq!(observers(&browser).await, 1);
    ws.send("say hello\nyou").await;
    assert_eq!(source.named("message").await.data, "hello\nyou");
    ws.send("tell for one").await;
    ws.send("who").await;
    let who = source.named("message").await;
    assert_eq!(who.data, format!("who:1:{}", client('a')), "it is no client");
    assert!(who.id.ends_with(".3"), "{}", who.id);
    ws.send("finish well").await;
    source.named("ended").await;
    assert_eq!(source.event().await, None);
    until("nobody observes", async || observers(&browser).await == 0).await;
}

async fn an_observer_begins_where_it_asks_to(framework: Framework) {
    let testee = testee(framework, "--max-observers 2").await;
    let browser = Browser::at(testee.addr);
    let mut ws = attached(&browser, 'a').await;
    let none = browser.get("/observe?from=checkpoint").await;
    assert_eq!(none.status, 204);
    for text in ["say before", "turn", "say after"] {
        ws.send(text).await;
        ws.data().await;
    }
    let mut from_checkpoint = observe(&testee, &browser, "?from=checkpoint").await;
    let told = from_checkpoint.named("checkpoint").await;
    assert_eq!(told.data, r#"{"position":1}"#);
    assert_eq!(from_checkpoint.named("message").await.data, "turn");
    let last = from_checkpoint.last.clone();
    let mut now = observe(&testee, &browser, "?from=now").await;
    assert_eq!(browser.get("/observe").await.status, 503, "as many as the limit says");
    ws.send("say last").await;
    ws.send("endturn").await;
    assert_eq!(now.named("message").await.data, "last");
    assert_eq!(from_checkpoint.named("message").await.data, "after");
    assert_eq!(from_checkpoint.named("message").await.data, "last");
    let cleared = from_checkpoint.named("checkpoint").await;
    assert_eq!(cleared.data, r#"{"position":null}"#);
    drop(now);
    until("one is gone", async || observers(&browser).await == 1).await;
    // It goes on where it was.
    let mut again = EventSource::open_at(&testee, &browser, "/observe", Some(&last)).await;
    assert_eq!(again.named("message").await.data, "after");
    drop((again, from_checkpoint));
    until("all are gone", async || observers(&browser).await == 0).await;
    let wrong = EventSource::open_at(&testee, &browser, "/observe", Some("e.x")).await;
    assert_eq!(wrong.answer.status, 400);
}

async fn no_send_waits_for_observers_that_have_stalled(framework: Framework) {
    // More than the buffers of a connection and the outbox together.
    const MESSAGES: u64 = 2500;
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = attached(&browser, 'a').await;
    let mut stalled = Vec::new();
    for _ in 0..64 {
        stalled.push(observe(&testee, &browser, "?from=now").await);
    }
    assert_eq!(browser.get("/observe").await.status, 503);
    ws.send(format!("emit {MESSAGES} 2000")).await;
    for n in 0..MESSAGES {
        assert!(ws.data().await.starts_with(&format!("e:{n}:")));
        if n % 100 == 99 {
            ws.control(&format!(r#"{{"ack":{}}}"#, n + 1)).await;
        }
    }
    // One that reads on is told what it has missed.
    let mut late = stalled.pop().unwrap();
    let (mut next, mut gaps) = (0, 0);
    while next < MESSAGES {
        let event = late.event().await.unwrap();
        match &*event.name {
            "message" => {
                assert!(event.data.starts_with(&format!("e:{next}:")), "{next}");
                next += 1;
            }
            "gap" => {
                let gap: Value = serde_json::from_str(&event.data).unwrap();
                assert_eq!(gap["from"], json!(next));
                next = gap["to"].as_u64().unwrap();
                gaps += 1;
            }
            _ => {}
        }
    }
    assert!(gaps > 0);
    drop(stalled);
}

async fn there_is_nothing_to_observe_without_a_session(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    assert_eq!(browser.get("/observe").await.status, 404);
    assert_eq!(browser.get("/count").await.json()["live"], 0, "none is started");
}

async fn an_observer_goes_on_after_a_kill(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sessions.redb");
    let flags =
        format!("--durability exact --store {} --secret {}", store.display(), "5".repeat(128));
    let first = testee(framework, &flags).await;
    let browser = Browser::at(first.addr);
    let mut ws = attached(&browser, 'a').await;
    let mut source = observe(&first, &browser, "").await;
    ws.send("say one").await;
    assert_eq!(source.named("message").await.data, "one");
    assert_eq!(ws.data().await, "one");
    let last = source.last.clone();
    ws.send("say two").await;
    assert_eq!(ws.data().await, "two");
    first.kill().await;
    let testee = crate::testee(framework, &flags).await;
    let browser = browser.moved_to_address(testee.addr);
    let mut source = EventSource::open_at(&testee, &browser, "/observe", Some(&last)).await;
    assert_eq!(source.named("message").await.data, "two");
}
