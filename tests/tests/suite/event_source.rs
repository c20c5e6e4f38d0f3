//! Readers without a client of ours: what a browser's `EventSource` sends and gets.

use http::{Request, request::Builder};
use serde_json::{Value, json};
use session_resume_testkit::{Browser, until};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::{
    client,
    requests::{EventSource, only},
    testee,
};

scenarios!(
    an_event_source_gets_each_message_with_its_place,
    an_event_source_that_comes_back_goes_on,
    what_it_missed_too_long_is_told_as_a_gap,
    two_pages_do_not_fight,
    it_ends_with_its_session,
    an_end_is_known_after_a_kill,
    after_an_expiry_it_reads_a_new_session,
    a_client_of_ours_takes_over_from_it,
    pages_read_side_by_side_where_that_is_allowed,
    a_server_that_stops_says_when_to_come_back,
    a_server_that_is_full_says_when_to_come_back,
    it_is_off_unless_asked_for,
    a_plain_post_is_a_message,
    a_post_with_a_key_counts_once,
    a_post_that_waits_is_answered_when_it_is_handled,
    a_post_with_a_key_counts_once_through_a_kill,
);

/// Commands come by a WebSocket of the same browser, under `Share`.
const SHARED: &str = "--plain-http --attach share";

async fn an_event_source_gets_each_message_with_its_place(framework: Framework) {
    let testee = testee(framework, SHARED).await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    let headers = &source.answer.headers;
    assert_eq!(source.answer.status, 200);
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("content-encoding", "identity"),
    ] {
        assert_eq!(only(headers, name), Some(value), "{name}");
    }
    assert!(headers.contains_key("set-cookie"));
    let first = source.event().await.unwrap();
    assert_eq!((&*first.retry, &*first.name, &*first.data), ("1000", "", ""));
    let session = source.event().await.unwrap();
    assert_eq!(session.name, "session");
    let told: Value = serde_json::from_str(&session.data).unwrap();
    assert_eq!(told["status"], "new");
    let id = browser.get("/").await.json()["session"].clone();
    assert_eq!(told, json!({ "session": id, "status": "new" }));
    let (epoch, place) = session.id.split_once('.').unwrap();
    assert_eq!(place, "0.1");
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    for (n, (said, read)) in [
        ("one", "one"),
        ("two\nlines", "two\nlines"),
        ("a\rb", "a\nb"),
        ("", ""),
        ("\u{1}{}", "\u{1}{}"),
    ]
    .into_iter()
    .enumerate()
    {
        ws.send(&*format!("say {said}")).await;
        let event = source.event().await.unwrap();
        assert_eq!((&*event.name, &*event.data), ("", read));
        assert_eq!(event.id, format!("{epoch}.{}.1", n + 1));
    }
    ws.send(vec![0_u8, 255]).await;
    let event = source.event().await.unwrap();
    assert_eq!((&*event.name, &*event.data), ("b64", "AP8="));
}

async fn an_event_source_that_comes_back_goes_on(framework: Framework) {
    let testee = testee(framework, SHARED).await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    ws.send("emit 100 10").await;
    for i in 0..50 {
        assert!(source.message().await.starts_with(&format!("e:{i}:")));
    }
    // The rest was written, and is lost on the way.
    let last = source.last.clone();
    drop(source);
    ws.send("emit 100 10").await;
    let mut source = EventSource::open(&testee, &browser, Some(&last)).await;
    let session = source.named("session").await;
    let told: Value = serde_json::from_str(&session.data).unwrap();
    assert_eq!(told["status"], "resumed");
    for i in 50..200 {
        assert!(source.message().await.starts_with(&format!("e:{i}:")));
    }
}

async fn what_it_missed_too_long_is_told_as_a_gap(framework: Framework) {
    let testee = testee(framework, "--plain-http --attach share --outbox-messages 10").await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    let start = source.named("session").await.id;
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    ws.send("every 1 30").await;
    for i in 0..30 {
        assert_eq!(ws.data().await, format!("e:{i}:"));
        ws.control(&format!(r#"{{"ack":{}}}"#, i + 1)).await;
        assert_eq!(source.message().await, format!("e:{i}:"));
    }
    drop(source);
    let mut source = EventSource::open(&testee, &browser, Some(&start)).await;
    source.named("session").await;
    let gap = source.event().await.unwrap();
    assert_eq!(gap.name, "gap");
    let gap: Value = serde_json::from_str(&gap.data).unwrap();
    assert_eq!(gap["from"], 0);
    // By whether the server knows already that the first stream is gone, and with it its client.
    assert!([json!("overflow"), json!("evicted")].contains(&gap["reason"]), "{gap}");
    let to = gap["to"].as_u64().unwrap();
    assert!((1..=20).contains(&to), "{to}");
    for i in to..30 {
        assert_eq!(source.message().await, format!("e:{i}:"));
    }
}

async fn two_pages_do_not_fight(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let mut first = EventSource::open(&testee, &browser, None).await;
    first.named("session").await;
    let mut second = EventSource::open(&testee, &browser, None).await;
    second.named("session").await;
    assert_eq!(first.event().await, None, "its stream ends");
    let again = EventSource::open(&testee, &browser, Some(&first.last)).await;
    assert_eq!(again.answer.status, 204);
    // The second page comes back as often as it must.
    for _ in 0..3 {
        let last = second.last.clone();
        drop(second);
        second = EventSource::open(&testee, &browser, Some(&last)).await;
        assert_eq!(second.answer.status, 200);
    }
    second.named("session").await;
}

async fn it_ends_with_its_session(framework: Framework) {
    let testee = testee(framework, SHARED).await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    ws.send("say last").await;
    ws.send("finish well").await;
    assert_eq!(source.message().await, "last");
    let done = source.named("done").await;
    let done: Value = serde_json::from_str(&done.data).unwrap();
    assert_eq!(done["status"], "done");
    assert_eq!(source.event().await, None);
    let again = EventSource::open(&testee, &browser, Some(&source.last)).await;
    assert_eq!(again.answer.status, 204);
    // A page that is loaded anew begins a new session.
    let mut new = EventSource::open(&testee, &browser, None).await;
    let told: Value = serde_json::from_str(&new.named("session").await.data).unwrap();
    assert_eq!(told["status"], "new");
}

async fn an_end_is_known_after_a_kill(framework: Framework) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let flags = format!("--plain-http --store {} --secret {}", store.display(), "5".repeat(128));
    let server = testee(framework, &flags).await;
    let browser = Browser::at(server.addr);
    let mut source = EventSource::open(&server, &browser, None).await;
    source.named("session").await;
    assert_eq!(browser.request(post(&server, "text/plain"), "finish well").await.status, 202);
    source.named("done").await;
    server.kill().await;
    let server = testee(framework, &flags).await;
    let browser = browser.moved_to_address(server.addr);
    let again = EventSource::open(&server, &browser, Some(&source.last)).await;
    assert_eq!(again.answer.status, 204);
    assert_eq!(server.count().await["live"], 0);
    let mut new = EventSource::open(&server, &browser, None).await;
    let told: Value = serde_json::from_str(&new.named("session").await.data).unwrap();
    assert_eq!(told["status"], "new");
}

/// A machine that has slept for too long.
async fn after_an_expiry_it_reads_a_new_session(framework: Framework) {
    let flags = "--plain-http --unused-lifetime 200 --check-interval 20";
    let testee = testee(framework, flags).await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    let (last, answer) =
        (source.last.clone(), browser.request(post(&testee, "text/plain"), "say a"));
    assert_eq!(answer.await.status, 202);
    drop(source);
    until("it has expired", async || testee.count().await["live"] == 0).await;
    let mut source = EventSource::open(&testee, &browser, Some(&last)).await;
    assert_eq!(source.answer.status, 200);
    let told: Value = serde_json::from_str(&source.named("session").await.data).unwrap();
    assert_eq!(told["status"], "new");
    let gap: Value = serde_json::from_str(&source.named("gap").await.data).unwrap();
    assert_eq!(gap, json!({ "from": 0, "to": null, "reason": "expired" }));
}

async fn a_client_of_ours_takes_over_from_it(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    assert_eq!(source.event().await, None);
    let again = EventSource::open(&testee, &browser, Some(&source.last)).await;
    assert_eq!(again.answer.status, 204);
    ws.send("echo mine").await;
    assert_eq!(ws.data().await, "echo:mine");
    let held = testee_that_refuses(framework).await;
    let browser = Browser::at(held.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    let refused = EventSource::open(&held, &browser, None).await;
    assert_eq!(refused.answer.status, 409);
}

async fn testee_that_refuses(framework: Framework) -> Testee {
    testee(framework, "--plain-http --attach refuse").await
}

async fn pages_read_side_by_side_where_that_is_allowed(framework: Framework) {
    let testee = testee(framework, SHARED).await;
    let browser = Browser::at(testee.addr);
    let mut first = EventSource::open(&testee, &browser, None).await;
    first.named("session").await;
    let mut second = EventSource::open(&testee, &browser, None).await;
    second.named("session").await;
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    ws.send("say to all").await;
    assert_eq!(first.message().await, "to all");
    assert_eq!(second.message().await, "to all");
}

async fn a_server_that_stops_says_when_to_come_back(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    testee.terminate().await;
    let retry = source.event().await.unwrap();
    assert!(retry.retry.parse::<u64>().is_ok(), "{retry:?}");
    assert_eq!(source.event().await, None);
    assert!(testee.exit().await.success());
}

/// Any other status would end an `EventSource` for good.
async fn a_server_that_is_full_says_when_to_come_back(framework: Framework) {
    let testee = testee(framework, "--plain-http --max-sessions 1").await;
    let browser = Browser::at(testee.addr);
    let mut there = EventSource::open(&testee, &browser, None).await;
    there.named("session").await;
    let mut full = EventSource::open(&testee, &Browser::at(testee.addr), None).await;
    assert_eq!(full.answer.status, 200);
    let retry = full.event().await.unwrap();
    assert!(retry.retry.parse::<u64>().is_ok(), "{retry:?}");
    assert_eq!(full.event().await, None);
}

async fn it_is_off_unless_asked_for(framework: Framework) {
    let off = testee(framework, "").await;
    let browser = Browser::at(off.addr);
    let refused = EventSource::open(&off, &browser, None).await;
    assert_eq!(refused.answer.status, 400);
    assert_eq!(off.count().await["live"], 0);
    let on = testee(framework, "--plain-http").await;
    let browser = Browser::at(on.addr);
    // A script that asks what the route is, or a page that is loaded, reads no events. By http beyond loopback a browser
    // says no more than `Accept`.
    let get = || Request::get("/live");
    let asks = get().header("sec-fetch-mode", "cors").header("sec-fetch-site", "same-origin");
    for request in [
        asks.header("accept", "*/*"),
        get().header("accept", "*/*"),
        get().header("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
        get(),
    ] {
        assert_eq!(browser.request(request, "").await.status, 400);
    }
    assert_eq!(on.count().await["live"], 0);
    let source = EventSource::open(&on, &browser, None).await;
    assert_eq!(source.answer.status, 200);
    until("it is attached", async || on.count().await["running"] == 1).await;
    drop(source);
    until("it is gone", async || on.count().await["suspended"] == 1).await;
}

fn post(testee: &Testee, kind: &str) -> Builder {
    let origin = format!("http://{}", testee.addr);
    Request::post("/live").header("origin", origin).header("content-type", kind)
}

async fn a_plain_post_is_a_message(framework: Framework) {
    let testee = testee(framework, "--plain-http --max-message 1000").await;
    let browser = Browser::at(testee.addr);
    let answer = browser.request(post(&testee, "text/plain"), "add 1").await;
    assert_eq!(answer.status, 202);
    assert!(answer.header("set-cookie").next().is_some(), "it starts the session");
    let answer = browser.request(post(&testee, "application/json; charset=utf-8"), "add 2").await;
    assert_eq!(answer.status, 202);
    until("they are taken", async || browser.get("/").await.json()["total"] == 3).await;
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    assert_eq!(source.message().await, "total:1");
    assert_eq!(source.message().await, "total:3");
    let answer = browser.request(post(&testee, "application/octet-stream"), vec![1_u8, 2]).await;
    assert_eq!(answer.status, 202);
    assert_eq!(source.named("b64").await.data, "AQI=");
    for (request, body, status) in [
        (post(&testee, "application/x-www-form-urlencoded"), "add=1".to_owned(), 415),
        (Request::post("/live"), "add 1".to_owned(), 415),
        (post(&testee, "text/plain"), "x".repeat(1001), 413),
        (post(&testee, "text/plain").header("idempotency-key", ""), "add 1".to_owned(), 400),
        (
            post(&testee, "text/plain").header("idempotency-key", "x".repeat(65)),
            "add 1".to_owned(),
            400,
        ),
    ] {
        let answer = browser.request(request, body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
    let answer = browser.request(post(&testee, "text/plain"), vec![0xff_u8]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(browser.get("/").await.json()["total"], 3);
}

async fn a_post_with_a_key_counts_once(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let keyed = |key: &str| post(&testee, "text/plain").header("idempotency-key", key);
    for _ in 0..3 {
        assert_eq!(browser.request(keyed("a"), "add 1").await.status, 202);
    }
    assert_eq!(browser.request(keyed("b"), "add 1").await.status, 202);
    assert_eq!(browser.request(keyed("a"), "add 5").await.status, 422);
    let waits = keyed("a").header("prefer", "respond-async, wait=10");
    assert_eq!(browser.request(waits, "add 1").await.status, 204);
    until("both are taken", async || browser.get("/").await.json()["total"] == 2).await;
    // Another browser's keys are its own.
    let other = Browser::at(testee.addr);
    assert_eq!(other.request(keyed("a"), "add 7").await.status, 202);
    until("it is taken", async || other.get("/").await.json()["total"] == 7).await;
}

async fn a_post_that_waits_is_answered_when_it_is_handled(framework: Framework) {
    let testee = testee(framework, "--plain-http --inbox-messages 2").await;
    let browser = Browser::at(testee.addr);
    let waiting =
        |seconds: u32| post(&testee, "text/plain").header("prefer", format!("wait={seconds}"));
    assert_eq!(browser.request(waiting(10), "add 1").await.status, 204);
    assert_eq!(browser.get("/").await.json()["total"], 1);
    assert_eq!(browser.request(waiting(10), "busy 3000").await.status, 204, "it is in hand");
    assert_eq!(browser.request(waiting(1), "add 1").await.status, 202, "the handler is busy");
    assert_eq!(browser.request(waiting(0), "add 1").await.status, 202);
    let full = browser.request(waiting(0), "add 1").await;
    assert_eq!(full.status, 503);
    assert!(full.header("retry-after").next().is_some());
    until("all are taken", async || browser.get("/").await.json()["total"] == 3).await;
}

async fn a_post_with_a_key_counts_once_through_a_kill(framework: Framework) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let flags = format!("--plain-http --store {} --secret {}", store.display(), "5".repeat(128));
    let testee = testee(framework, &flags).await;
    let browser = Browser::at(testee.addr);
    let keyed = |testee: &Testee, key: &str| {
        post(testee, "text/plain").header("idempotency-key", key).header("prefer", "wait=20")
    };
    assert_eq!(browser.request(keyed(&testee, "a"), "add 1").await.status, 204);
    testee.kill().await;
    let testee = crate::testee(framework, &flags).await;
    let browser = browser.moved_to_address(testee.addr);
    // The answer was lost: the same again.
    assert_eq!(browser.request(keyed(&testee, "a"), "add 1").await.status, 204);
    assert_eq!(browser.request(keyed(&testee, "b"), "add 1").await.status, 204);
    assert_eq!(browser.get("/").await.json()["total"], 2);
}
