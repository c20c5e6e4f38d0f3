//! What one node is asked for, and all nodes do.

use serde_json::json;
use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Browser, until};
use session_resume_tests::{Framework, scenarios};

use super::node::{Two, Wired, node_with, told};

const PAGE: &str = "0123456789abcdef";
const OTHER: &str = "fedcba9876543210";

/// A message that is broadcast at one node is sent to the sessions of all, once to each.
async fn a_broadcast_reaches_the_sessions_of_every_node(framework: Framework) {
    let Some(Two { engine: _engine, a, b, at_a, at_b: _ }) = Two::start(framework).await else {
        return;
    };
    let mut here = at_a.resumable("/live", PAGE).await;
    here.member("hello").await;
    let mut there = Browser::at(b.addr).resumable("/live", OTHER).await;
    there.member("hello").await;
    for node in [&a, &b] {
        let answer = Browser::at(node.addr).post("/broadcast", "h\u{e9}llo").await.json();
        assert_eq!(answer, json!({ "told": 2, "unanswered": [] }));
    }
    for ws in [&mut here, &mut there] {
        for _ in 0..2 {
            assert_eq!(ws.data().await, "h\u{e9}llo");
        }
        ws.send("get").await;
        assert_eq!(ws.data().await, "total:0 n:0", "each came once");
    }
    // Nothing of it is left over.
    assert_eq!(told(&at_a, "/node").await["hops"], 0);
}

/// The sessions of one identity are at two nodes: its login is revoked at one of them.
async fn a_revoked_identity_s_transports_are_closed_at_every_node(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = node_with(&engine, framework, "a", "--key path").await;
    let b = node_with(&engine, framework, "b", "--key path").await;
    let at_a = Browser::at(a.addr);
    let at_b = at_a.moved_to_address(b.addr);
    let mut one = at_a.resumable("/live", PAGE).await;
    one.member("hello").await;
    let mut two = at_b.resumable("/live/two", OTHER).await;
    two.member("hello").await;
    let mut stranger = Browser::at(b.addr).resumable("/live/two", PAGE).await;
    stranger.member("hello").await;
    let answer = at_a.post("/revoke", "").await.json();
    assert_eq!(answer, json!({ "closed": 2, "unanswered": [] }));
    for ws in [&mut one, &mut two] {
        let close = ws.closed().await;
        assert_eq!((close.code, &*close.reason), (4101, "revoked"));
    }
    stranger.send("get").await;
    assert_eq!(stranger.data().await, "total:0 n:0");
}

/// A node that is cut off, or gone, is named; the others have done it.
async fn a_node_that_does_not_answer_is_named(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    ws.member("hello").await;
    until("they know each other", async || {
        at_a.post("/broadcast", "ready").await.json()["unanswered"] == json!([])
    })
    .await;
    b.hops.set_target(engine.address());
    let answer = at_a.post("/broadcast", "now").await.json();
    assert_eq!(answer, json!({ "told": 1, "unanswered": ["b"] }));
    while ws.data().await != "now" {}
}

scenarios!(
    a_broadcast_reaches_the_sessions_of_every_node,
    a_node_that_does_not_answer_is_named,
    a_revoked_identity_s_transports_are_closed_at_every_node,
);
