//! Many sessions at once.

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Browser, soon, until};
use session_resume_tests::{Framework, Testee, scenarios};

use super::node::{is_long, node, told};

/// At most this many requests of a test are under way.
const AT_ONCE: usize = 64;

async fn each<R>(items: Vec<Browser>, each: impl AsyncFn(Browser) -> R) -> Vec<R> {
    let each = &each;
    let all = stream::iter(items).map(|item| async move { each(item).await });
    soon("all are answered", all.buffered(AT_ONCE).collect()).await
}

/// Asks until it is not told to come later.
async fn overview(browser: &Browser) -> Value {
    let mut found = Value::Null;
    until("an answer", async || {
        let answer = browser.get("/").await;
        assert!([200, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        if answer.status == 200 {
            found = answer.json();
        }
        answer.status == 200
    })
    .await;
    found
}

/// Sessions of as many browsers, with this sum in each.
async fn sessions(at: &Testee, count: usize) -> Vec<Browser> {
    let browsers = (0..count).map(|_| Browser::at(at.addr)).collect();
    each(browsers, async |browser| {
        told(&browser, "/").await;
        assert_eq!(browser.post("/add/3", "").await.text(), r#"{"total":3}"#);
        browser
    })
    .await
}

/// 10, 18: a node dies with all its sessions, and each of them is asked for at two nodes at the same moment: one of them
/// has it, both answer alike.
async fn two_nodes_that_restore_a_session_at_once_have_one_session(framework: Framework) {
    if without_redis() {
        return;
    }
    let count = if is_long() { 2_000 } else { 200 };
    let engine = Engine::durable();
    let dies = node(&engine, framework, "dies").await;
    let a = node(&engine, framework, "a").await;
    let b = node(&engine, framework, "b").await;
    let browsers = sessions(&dies, count).await;
    dies.kill().await;
    let restored = each(browsers, async |browser| {
        let (at_a, at_b) = (browser.moved_to_address(a.addr), browser.moved_to_address(b.addr));
        let (one, other) = tokio::join!(overview(&at_a), overview(&at_b));
        for (member, value) in [("session", &one["session"]), ("total", &3.into())] {
            assert_eq!(&other[member], value, "{one} {other}");
        }
        let (at_a, at_b) = (told(&at_a, "/where").await, told(&at_b, "/where").await);
        assert_ne!(at_a["here"], at_b["here"], "{at_a} {at_b}");
        assert_eq!((&at_a["owner"], &at_a["generation"]), (&at_b["owner"], &2.into()));
        at_a["here"] == true
    })
    .await;
    assert_eq!(restored.len(), count);
}

/// 10: two nodes begin a session of one browser at the same moment: it is one session.
async fn two_nodes_that_begin_a_session_at_once_have_one_session(framework: Framework) {
    if without_redis() {
        return;
    }
    let count = if is_long() { 1_000 } else { 100 };
    let engine = Engine::durable();
    let a = node(&engine, framework, "a").await;
    let b = node(&engine, framework, "b").await;
    let browsers = sessions(&a, count).await;
    each(browsers, async |browser| {
        // The cookie is known from here on; its session has ended.
        let mut ws = browser.plain("/live").await;
        ws.send("finish").await;
        super::node::end_of(&mut ws).await;
        let (at_a, at_b) = (browser.moved_to_address(a.addr), browser.moved_to_address(b.addr));
        let (one, other) = tokio::join!(overview(&at_a), overview(&at_b));
        assert_eq!((&one["session"], &one["total"]), (&other["session"], &0.into()));
    })
    .await;
}

scenarios!(
    two_nodes_that_restore_a_session_at_once_have_one_session,
    two_nodes_that_begin_a_session_at_once_have_one_session,
);
