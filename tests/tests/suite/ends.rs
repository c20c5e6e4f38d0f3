//! A session always ends in an outcome; a drain is a drop.

use serde_json::json;
use session_resume_testkit::{Browser, Close, Socket, until};
use session_resume_tests::{Framework, scenarios};

use crate::{client, testee};

scenarios!(
    every_end_is_told_and_can_be_polled,
    a_code_of_the_application_reaches_the_client,
    a_client_that_was_away_at_the_end_gets_the_tail,
    a_long_poll_waits_for_the_outcome,
    sigterm_tells_when_to_come_back_and_exits_0,
    a_session_that_was_cut_is_exit_code_1,
    guards_and_silence_decide_about_expiry,
    a_panic_in_a_read_is_its_requests_matter,
);

async fn every_end_is_told_and_can_be_polled(framework: Framework) {
    let testee = testee(framework, "").await;
    for (command, status, key, value) in [
        ("finish all well", "done", "result", "all well"),
        ("fail no luck", "failed", "error", "no luck"),
        ("panic", "panicked", "error", "told to panic"),
        ("close", "closed", "error", "closed by its handler"),
    ] {
        let browser = Browser::at(testee.addr);
        let mut ws = browser.resumable("/live", &client('a')).await;
        let hello = ws.member("hello").await;
        ws.send(command).await;
        assert_eq!(ws.member("done").await, json!({"status": status, "received": 1}));
        assert_eq!(ws.closed().await.code, 1000);
        let path = format!("/sessions/{}", hello["session"].as_str().unwrap());
        let answer = browser.get(&path).await;
        let body = answer.json();
        assert_eq!((answer.status.as_u16(), &body["status"]), (200, &json!(status)));
        assert_eq!(body[key], value);
        assert_eq!(Browser::at(testee.addr).get(&path).await.status, 404, "not yours");
        let mut plain = browser.plain("/live").await;
        plain.send("whoami").await;
        assert!(plain.recv().await.contains("origin:new"), "a fresh session under its key");
    }
}

async fn a_code_of_the_application_reaches_the_client(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    let mut plain = browser.plain("/live").await;
    for taken in ["close 4150 no", "close 1001 no", "close 70000 no", "close now"] {
        ws.send(taken).await;
        assert_eq!(ws.data().await, format!("unknown:{taken}"));
        assert_eq!(plain.recv().await, format!("unknown:{taken}"));
    }
    ws.send("close 4429 too many").await;
    assert_eq!(ws.member("done").await, json!({"status": "closed", "received": 5}));
    assert_eq!(ws.closed().await, Close::new(4429, "too many"));
    assert_eq!(plain.closed().await, Close::new(4429, "too many"));
    let path = format!("/sessions/{}", hello["session"].as_str().unwrap());
    let body = browser.get(&path).await.json();
    assert_eq!((&body["status"], &body["error"]), (&json!("closed"), &json!("too many")));
}

async fn a_client_that_was_away_at_the_end_gets_the_tail(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    ws.send("emit 3 10").await;
    ws.send("busy 200").await;
    ws.send("finish bye").await;
    assert!(ws.data().await.starts_with("e:0:"));
    ws.cut().await;
    until("it has ended", async || testee.count().await["live"] == 0).await;
    for _ in 0..2 {
        let mut ws = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 1)).await;
        let told = ws.member("hello").await;
        assert_eq!((&told["status"], &told["from"]), (&json!("resumed"), &json!(1)));
        assert!(ws.data().await.starts_with("e:1:"));
        assert!(ws.data().await.starts_with("e:2:"));
        assert_eq!(ws.data().await, "done-busy");
        assert_eq!(ws.member("done").await["status"], "done");
        assert_eq!(ws.closed().await.code, 1000);
    }
}

async fn a_long_poll_waits_for_the_outcome(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let session = ws.member("hello").await["session"].as_str().unwrap().to_owned();
    let running = browser.get(&format!("/sessions/{session}")).await;
    assert_eq!((running.status.as_u16(), &running.json()["status"]), (202, &json!("running")));
    assert_eq!(running.header("retry-after").count(), 1);
    let poller = browser.clone();
    let path = format!("/sessions/{session}?wait=30");
    let poll = tokio::spawn(async move { poller.get(&path).await });
    ws.send("finish at last").await;
    let answer = poll.await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["result"]), (200, &json!("at last")));
    for path in ["/sessions/nonsense", "/sessions/00000000-0000-4000-8000-000000000000"] {
        assert_eq!(browser.get(path).await.status, 404);
    }
}

async fn sigterm_tells_when_to_come_back_and_exits_0(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    let mut plain = Browser::at(testee.addr).plain("/live").await;
    plain.send("echo ready").await;
    assert_eq!(plain.recv().await, "echo:ready");
    testee.terminate().await;
    assert!(ws.member("retry").await.as_u64().is_some());
    assert_eq!(ws.closed().await, Close::new(4112, "restarting"));
    assert_eq!(plain.closed().await.code, 1012);
    assert_eq!(testee.exit().await.code(), Some(0));
}

async fn a_session_that_was_cut_is_exit_code_1(framework: Framework) {
    let testee = testee(framework, "").await;
    let mut ws = Browser::at(testee.addr).plain("/live").await;
    ws.send("say working").await;
    ws.send("busy 60000").await;
    assert_eq!(ws.recv().await, "working");
    testee.terminate().await;
    assert_eq!(ws.closed().await.code, 1012);
    assert_eq!(testee.exit().await.code(), Some(1));
}

async fn guards_and_silence_decide_about_expiry(framework: Framework) {
    let testee = testee(framework, "--unused-lifetime 200 --check-interval 50").await;
    let unused = Browser::at(testee.addr);
    let id = unused.get("/").await.json()["session"].as_str().unwrap().to_owned();
    let guarded = Browser::at(testee.addr);
    let mut ws = guarded.plain("/live").await;
    ws.send("block 1500").await;
    assert_eq!(ws.recv().await, "blocked");
    ws.cut().await;
    until("the unused one expires", async || testee.count().await["live"] == 1).await;
    let answer = unused.get(&format!("/sessions/{id}")).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (200, &json!("expired")));
    assert_eq!(guarded.get("/peek").await.status, 200, "held by its guard");
    until("the guarded one expires", async || testee.count().await["live"] == 0).await;
}

async fn a_panic_in_a_read_is_its_requests_matter(framework: Framework) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store.redb");
    let testee = testee(framework, &format!("--store {}", store.display())).await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    let broken = browser.clone();
    let answer = tokio::spawn(async move { broken.get("/panic-read").await.status }).await;
    assert!(answer.is_err() || answer.is_ok_and(|status| status == 500));
    ws.send("add 2").await;
    assert_eq!(ws.data().await, "total:2");
    assert_eq!(ws.member("ack").await, json!(1), "on disk");
    assert_eq!(browser.post("/add/3", "").await.json()["total"], 5, "saved");
    assert_eq!(Browser::at(testee.addr).get("/").await.status, 200);
}
