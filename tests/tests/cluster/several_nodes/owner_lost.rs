//! The owner dies, stands still, or leaves.

use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Browser, Received, Socket, until};
use session_resume_tests::{Framework, scenarios};

use super::node::{Two, end_of, node, told};

const PAGE: &str = "0123456789abcdef";

/// `kill -9` of the owner: its client goes on at the other node, with all that was acknowledged.
async fn a_dead_nodes_session_comes_up_where_its_client_knocks(framework: Framework) {
    let Some(Two { engine, a, b: _b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1, "it is in the store");
    // A client at the other node, by a hop.
    let mut by_hop = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let hello = by_hop.member("hello").await;
    assert_eq!(hello["status"], "resumed");
    a.kill().await;
    // The hop ends, and with it the client's connection: nothing is said on it any more.
    assert_eq!(end_of(&mut by_hop).await, None);

    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let again = ws.member("hello").await;
    assert_eq!((&again["status"], &again["session"]), (&"restored".into(), &hello["session"]));
    assert_ne!(again["epoch"], hello["epoch"]);
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:b generation:2");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:5 n:1");
    assert_eq!(told(&at_b, "/where").await["owner"], "b");
    drop(ws);
    // A process that starts again under the name is another life: it relays.
    let a = node(&engine, framework, "a").await;
    let at_a = at_a.moved_to_address(a.addr);
    let mut ws = at_a.resumable("/live", &Socket::cursor(PAGE, &again, 2)).await;
    assert_eq!(ws.member("hello").await["status"], "resumed");
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:b generation:2");
}

/// A process that starts again under its name frees what its last life had at once.
async fn a_node_that_starts_again_takes_its_sessions_back(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = node(&engine, framework, "a").await;
    let browser = Browser::at(a.addr);
    let mut ws = browser.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 7").await;
    assert_eq!(ws.data().await, "total:7");
    assert_eq!(ws.member("ack").await, 1);
    let before = told(&browser, "/node").await["incarnation"].clone();
    a.kill().await;
    let a = node(&engine, framework, "a").await;
    let browser = browser.moved_to_address(a.addr);
    assert_ne!(told(&browser, "/node").await["incarnation"], before);
    let mut ws = browser.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    assert_eq!(ws.member("hello").await["status"], "restored");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:7 n:1");
}

/// The owner is stopped for longer than a lease; its client moves on. When it goes on, it says nothing for the session.
async fn a_node_that_stood_still_says_nothing_for_a_session_that_has_moved_on(
    framework: Framework,
) {
    let Some(Two { engine: _engine, a, b: _b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut old = at_a.resumable("/live", PAGE).await;
    let hello = old.member("hello").await;
    old.send("add 1").await;
    assert_eq!(old.data().await, "total:1");
    assert_eq!(old.member("ack").await, 1);
    a.stop().await;
    // On its way to a process that stands still.
    old.send("add 100").await;
    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let again = ws.member("hello").await;
    assert_eq!(again["status"], "restored", "{again}");
    ws.send("add 10").await;
    assert_eq!(ws.data().await, "total:11");
    assert_eq!(
        ws.member("ack").await,
        2,
        "the first one, which this client has sent before, counts"
    );
    a.go_on().await;
    // Whatever it says: it does not acknowledge, and it ends.
    loop {
        match old.next().await {
            Received::Message(message) => {
                let text = message.as_text().unwrap_or_default();
                assert!(!text.contains("\"ack\":2"), "{text}");
            }
            Received::Close(close) => {
                assert_eq!(close.code, 4112, "{close:?}");
                break;
            }
            Received::Gone => break,
        }
    }
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:11 n:2");
    until("it has a new life", async || told(&at_a, "/node").await["lease"] == "held").await;
    assert_eq!(told(&at_a, "/where").await["owner"], "b");
}

/// `SIGTERM`: the session goes on at the other node, in the same stream, without a gap.
async fn a_drained_node_hands_its_sessions_over(framework: Framework) {
    let Some(Two { engine: _engine, a, b: _b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 3").await;
    assert_eq!(ws.data().await, "total:3");
    a.terminate().await;
    assert_eq!(end_of(&mut ws).await, Some(4112));
    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let again = ws.member("hello").await;
    assert_eq!(again["status"], "resumed", "{again}");
    assert!(again["gap"].is_null(), "{again}");
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:b generation:2");
    assert!(a.exit().await.success());
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:3 n:1");
}

/// The engine stands still for longer than a lease: everything is silent, and then the same handlers go on.
async fn an_outage_of_the_engine_costs_no_handler(framework: Framework) {
    let Some(Two { engine, a: _a, b: _b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 2").await;
    assert_eq!(ws.data().await, "total:2");
    assert_eq!(ws.member("ack").await, 1);
    engine.stop();
    until("the lease lapses", async || told(&at_a, "/node").await["lease"] == "lapsed").await;
    assert_eq!(at_a.get("/ready").await.status, 503);
    assert_eq!(told(&at_a, "/node").await["frozen"], 1);
    assert_eq!(at_a.get("/where").await.status, 503);
    // Nothing is taken: it waits.
    ws.send("add 2").await;
    // After one more lease the client is told to come back.
    assert_eq!(end_of(&mut ws).await, Some(4112));
    engine.go_on();
    until("it is held again", async || told(&at_a, "/node").await["lease"] == "held").await;
    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let again = ws.member("hello").await;
    assert_eq!(again["status"], "resumed", "the handler is the same: {again}");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:2 n:1");
}

scenarios!(
    a_dead_nodes_session_comes_up_where_its_client_knocks,
    a_node_that_starts_again_takes_its_sessions_back,
    a_node_that_stood_still_says_nothing_for_a_session_that_has_moved_on,
    a_drained_node_hands_its_sessions_over,
    an_outage_of_the_engine_costs_no_handler,
);
