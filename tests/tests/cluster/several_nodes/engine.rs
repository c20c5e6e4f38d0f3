//! What happens between a node and the engine, and to the engine.

use std::time::Duration;

use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Received, Socket, until};
use session_resume_tests::{Framework, scenarios};

use super::node::{LEASE, Wired, comes_back, end_of, told};

const PAGE: &str = "0123456789abcdef";

/// 3: a put is held on its way, and let go after another node has taken the session over.
async fn a_put_that_arrives_after_the_takeover_changes_nothing(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let c = Wired::start(&engine, framework, "c", "").await;
    let at_a = a.browser();
    let mut old = at_a.resumable("/live", PAGE).await;
    let hello = old.member("hello").await;
    old.send("add 5").await;
    assert_eq!(old.data().await, "total:5");
    assert_eq!(old.member("ack").await, 1);
    a.engine.hold();
    old.send("add 70").await;
    a.engine.held().await;
    // Nor does it dial again.
    a.testee.stop().await;
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 1)).await;
    assert_eq!((&again["status"], &again["received"]), (&"restored".into(), &1.into()));
    ws.send("add 2").await;
    assert_eq!(ws.data().await, "total:7");
    assert_eq!(ws.member("ack").await, 2);
    // What is cut in the middle of a command is never answered.
    let _ = tokio::time::timeout(LEASE, a.engine.cut_held().arrive()).await;
    a.testee.go_on().await;
    // What the old owner says does not acknowledge.
    while let Received::Message(message) = old.next().await {
        let text = message.as_text().unwrap_or_default();
        assert!(!text.contains("\"ack\":2"), "{text}");
    }
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:7 n:2");
    // And so the record says.
    b.testee.kill().await;
    let at = Socket::cursor(PAGE, &again, again["from"].as_u64().unwrap() + 2);
    let (mut ws, _) = comes_back(&c.same(&at_a), &at).await;
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:7 n:2");
}

/// 3: the same owner has put again on a new connection when the first put arrives.
async fn a_put_that_arrives_after_its_successor_changes_nothing(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    a.engine.hold();
    ws.send("add 2").await;
    a.engine.held().await;
    let late = a.engine.cut_held();
    // On a new connection.
    assert_eq!(ws.data().await, "total:7");
    ws.send("add 10").await;
    assert_eq!(ws.data().await, "total:17");
    while ws.member("ack").await != 3 {}
    late.arrive().await;
    a.testee.kill().await;
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 3)).await;
    assert_eq!((&again["status"], &again["received"]), (&"restored".into(), &3.into()));
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:17 n:3");
}

/// How the engine is lost.
#[derive(Clone, Copy)]
enum Cut {
    Reset,
    BlackHole,
}

impl Cut {
    fn begin(self, node: &Wired) {
        match self {
            Self::Reset => node.engine.go_offline(),
            Self::BlackHole => node.engine.freeze(),
        }
    }

    fn end(self, node: &Wired) {
        match self {
            Self::Reset => node.engine.go_online(),
            Self::BlackHole => node.engine.thaw(),
        }
    }
}

/// 4: one node loses the engine: it is silent in time, tells its clients to come back, and the session goes on elsewhere.
async fn cut_off(framework: Framework, cut: Cut) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let at_a = a.browser();
    let mut old = at_a.resumable("/live", PAGE).await;
    let hello = old.member("hello").await;
    old.send("add 5").await;
    assert_eq!(old.data().await, "total:5");
    assert_eq!(old.member("ack").await, 1);
    // Shorter than a lease: nobody notices.
    cut.begin(&a);
    tokio::time::sleep(LEASE / 4).await;
    cut.end(&a);
    old.send("add 5").await;
    assert_eq!(old.data().await, "total:10");
    assert_eq!(old.member("ack").await, 2);
    assert_eq!(told(&at_a, "/node").await["lease"], "held");
    // And longer.
    cut.begin(&a);
    until("the lease lapses", async || told(&at_a, "/node").await["lease"] == "lapsed").await;
    old.send("add 1000").await;
    // Another node may not claim before the engine has let go of this one.
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 2)).await;
    assert_eq!((&again["status"], &again["received"]), (&"restored".into(), &2.into()));
    assert_eq!(end_of(&mut old).await, Some(4112), "after one more lease it is told to come back");
    ws.send("add 7").await;
    assert_eq!(ws.data().await, "total:17");
    assert_eq!(ws.member("ack").await, 3);
    cut.end(&a);
    until("a new life", async || told(&at_a, "/node").await["lease"] == "held").await;
    until("it has let go", async || told(&at_a, "/where").await["here"] == false).await;
    assert_eq!(told(&at_a, "/where").await["owner"], "b");
    // By a hop, through the node that had it.
    let at = Socket::cursor(PAGE, &again, again["from"].as_u64().unwrap() + 1);
    let (mut ws, last) = comes_back(&at_a, &at).await;
    assert_eq!(last["status"], "resumed", "{last}");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:17 n:3");
}

async fn a_node_whose_engine_is_reset_falls_silent(framework: Framework) {
    cut_off(framework, Cut::Reset).await;
}

async fn a_node_whose_engine_is_a_black_hole_falls_silent(framework: Framework) {
    cut_off(framework, Cut::BlackHole).await;
}

/// 4: what the node says arrives, and it hears nothing.
async fn a_node_that_hears_nothing_from_the_engine_doubles_nothing(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    a.engine.swallow();
    ws.send("add 7").await;
    // It gives that connection up, and dials again.
    assert_eq!(ws.data().await, "total:12");
    assert_eq!(ws.member("ack").await, 2);
    a.testee.kill().await;
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 2)).await;
    assert_eq!(again["received"], 2);
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:12 n:2");
}

/// 7: the engine is full: nothing is acknowledged, and the node keeps its lease.
async fn a_full_engine_acknowledges_nothing_and_keeps_leases(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    assert_eq!(engine.command("CONFIG SET maxmemory 1"), "+OK");
    ws.send("add 7").await;
    assert_eq!(ws.data().await, "total:12");
    tokio::time::sleep(LEASE * 2).await;
    for browser in [&at_a, &b.same(&at_a)] {
        assert_eq!(told(browser, "/node").await["lease"], "held");
        assert_eq!(browser.get("/ready").await.status, 200);
    }
    // It is found from the other node all the same.
    assert_eq!(told(&b.same(&at_a), "/where").await["owner"], "a");
    assert_eq!(engine.command("CONFIG SET maxmemory 0"), "+OK");
    assert_eq!(ws.member("ack").await, 2, "only now");
    a.testee.kill().await;
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 2)).await;
    assert_eq!(again["received"], 2);
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:12 n:2");
}

/// 7: every reply of the engine takes its time.
async fn a_slow_engine_costs_no_lease(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, framework, "a", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    ws.member("hello").await;
    for k in 1..=10 {
        assert_eq!(engine.command("CLIENT PAUSE 350 ALL"), "+OK");
        ws.send("add 1").await;
        assert_eq!(ws.data().await, format!("total:{k}"));
        assert_eq!(ws.member("ack").await, k);
        assert_eq!(told(&at_a, "/node").await["lease"], "held");
    }
}

/// 8: the primary dies, and the replica lacks what came last. The owner lives, and puts again.
async fn a_failover_with_a_living_owner_loses_nothing(framework: Framework) {
    if without_redis() {
        return;
    }
    let mut primary = Engine::durable();
    let replica = Engine::durable();
    let link = session_resume_testkit::tcp::Proxy::start(primary.address()).await;
    let to_link = format!("REPLICAOF 127.0.0.1 {}", link.address().port());
    assert_eq!(replica.command(&to_link), "+OK");
    let a = Wired::start(&primary, framework, "a", "").await;
    let b = Wired::start(&primary, framework, "b", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    until("the replica has it", async || {
        replica.command("INFO replication").contains("master_link_status:up")
            && !replica.command("KEYS *").contains("*0")
    })
    .await;
    link.freeze();
    ws.send("add 7").await;
    assert_eq!(ws.data().await, "total:12");
    assert_eq!(ws.member("ack").await, 2);
    primary.kill();
    assert_eq!(replica.command("REPLICAOF NO ONE"), "+OK");
    for node in [&a, &b] {
        node.engine.set_target(replica.address());
        drop(node.engine.cut());
    }
    // The same handler, at the same owner or after a reclaim; then its record is put again.
    drop(ws);
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 2)).await;
    assert_eq!((&again["status"], &again["epoch"]), (&"resumed".into(), &hello["epoch"]));
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:12 n:2");
    // Every live session is put again within two seconds, and some.
    tokio::time::sleep(Duration::from_secs(3)).await;
    a.testee.kill().await;
    let (mut ws, last) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &again, 2)).await;
    // With the question for the sum.
    assert_eq!(last["received"], 3, "{last}");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:12 n:2");
}

/// 9: the engine starts again with nothing. Owners live, and make their records anew.
async fn an_engine_that_starts_empty_costs_nothing_while_owners_live(framework: Framework) {
    if without_redis() {
        return;
    }
    let mut engine = Engine::start();
    let a = Wired::start(&engine, framework, "a", "").await;
    let b = Wired::start(&engine, framework, "b", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    engine.restart();
    until("a new life", async || {
        told(&at_a, "/node").await["lease"] == "held" && told(&at_a, "/where").await["owner"] == "a"
    })
    .await;
    ws.send("add 7").await;
    // On the old connection, or on a new one.
    let at = Socket::cursor(PAGE, &hello, 1);
    let (mut ws, again) = comes_back(&b.same(&at_a), &at).await;
    assert_eq!((&again["status"], &again["epoch"]), (&"resumed".into(), &hello["epoch"]));
    if again["received"] == 1 {
        ws.send("add 7").await;
    }
    assert_eq!(ws.data().await, "total:12");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:12 n:2");
    assert_eq!(told(&b.same(&at_a), "/where").await["owner"], "a");
}

scenarios!(
    a_put_that_arrives_after_the_takeover_changes_nothing,
    a_put_that_arrives_after_its_successor_changes_nothing,
    a_node_whose_engine_is_reset_falls_silent,
    a_node_whose_engine_is_a_black_hole_falls_silent,
    a_node_that_hears_nothing_from_the_engine_doubles_nothing,
    a_full_engine_acknowledges_nothing_and_keeps_leases,
    a_slow_engine_costs_no_lease,
    a_failover_with_a_living_owner_loses_nothing,
    an_engine_that_starts_empty_costs_nothing_while_owners_live,
);
