//! What happens between nodes.

use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{
    Browser, Socket,
    tcp::{End, Fate},
    until,
};
use session_resume_tests::{Framework, scenarios};

use super::{
    load::Load,
    node::{Two, Wired, comes_back, node, node_with, told},
};

const PAGE: &str = "0123456789abcdef";

/// 5: two nodes do not reach each other, and both reach the engine: after a lease the
/// owner is asked to hand over, and the client goes on.
async fn a_client_between_two_nodes_that_are_cut_apart_gets_its_session_handed_over(
    framework: Framework,
) {
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
    ws.cut().await;
    a.hops.go_offline();
    let at_b = b.same(&at_a);
    let at = Socket::cursor(PAGE, &hello, 1);
    let mut ws = at_b.resumable("/live", &at).await;
    let again = ws.member("hello").await;
    assert_eq!(again["status"], "resumed", "{again}");
    assert_eq!(again["session"], hello["session"], "{again}");
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:b generation:2");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:5 n:1");
}

/// So long that the owner is not asked to hand over.
const LONG_LEASE: &str = "--lease 20000";

/// 13: a hop ends at each byte of its head and of its first frames.
#[tokio::test]
async fn a_hop_that_ends_at_any_byte_loses_and_doubles_nothing() {
    if without_redis() {
        return;
    }
    let step = if super::node::is_long() { 1 } else { 41 };
    let engine = Engine::durable();
    let mut bytes = 0;
    let a = Wired::with_fates(&engine, Framework::Axum, "a", LONG_LEASE, move || {
        bytes += step;
        let end = if bytes % 2 == 0 { End::Reset } else { End::Close };
        if bytes < 2_000 { Fate::cut(bytes, end) } else { Fate::CALM }
    })
    .await;
    let b = Wired::start(&engine, Framework::Axum, "b", LONG_LEASE).await;
    let mut load = Load::start(&a.testee).await;
    load.moves_to(&b.testee);
    load.add(if super::node::is_long() { 40_000 } else { 1_000 });
    load.is_exact().await;
    let connections = a.hops.connections();
    assert!(connections >= 2_000 / step, "only {connections} hops");
}

/// 13: the owner has died, and another node listens at its address: it does not take the request for its own.
#[tokio::test]
async fn a_hop_to_a_reused_address_is_refused_there() {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = Wired::start(&engine, Framework::Axum, "a", "").await;
    let b = Wired::start(&engine, Framework::Axum, "b", "").await;
    let c = Wired::start(&engine, Framework::Axum, "c", "").await;
    let at_a = a.browser();
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    let Wired { testee, hops, .. } = a;
    testee.kill().await;
    hops.set_target(c.listens);
    let (mut ws, again) = comes_back(&b.same(&at_a), &Socket::cursor(PAGE, &hello, 1)).await;
    assert_eq!(again["status"], "restored", "{again}");
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:b generation:2");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:5 n:1");
}

/// 15: three pages of one session at three nodes, and its owner dies.
#[tokio::test]
async fn pages_at_three_nodes_meet_again_after_their_owner_has_died() {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let framework = Framework::Axum;
    let share = "--attach share";
    let a = node_with(&engine, framework, "a", share).await;
    let b = node_with(&engine, framework, "b", share).await;
    let c = node_with(&engine, framework, "c", share).await;
    let at_a = Browser::at(a.addr);
    let names = ["a", "b", "c"].map(|name| name.repeat(16));
    let mut pages = Vec::new();
    for (name, node) in names.iter().zip([&a, &b, &c]) {
        let mut ws = at_a.moved_to_address(node.addr).resumable("/live", name).await;
        let hello = ws.member("hello").await;
        pages.push((ws, hello));
    }
    for k in 1..=3_usize {
        pages[k - 1].0.send("add 1").await;
        for (ws, _) in &mut pages {
            assert_eq!(ws.data().await, format!("total:{k}"));
        }
    }
    for (ws, _) in &mut pages {
        assert_eq!(ws.member("ack").await, 1);
    }
    a.kill().await;
    let (at_b, at_c) = (at_a.moved_to_address(b.addr), at_a.moved_to_address(c.addr));
    let cursors: Vec<_> =
        pages.iter().zip(&names).map(|((_, hello), name)| Socket::cursor(name, hello, 3)).collect();
    drop(pages);
    let ((mut one, told_one), (mut two, told_two), (mut three, _)) = tokio::join!(
        comes_back(&at_b, &cursors[1]),
        comes_back(&at_c, &cursors[2]),
        comes_back(&at_c, &cursors[0]),
    );
    assert_eq!(told_one["session"], told_two["session"]);
    assert_eq!(told_one["epoch"], told_two["epoch"], "one life");
    one.send("add 1").await;
    for ws in [&mut one, &mut two, &mut three] {
        assert_eq!(ws.data().await, "total:4");
    }
    two.send("where").await;
    let place = two.data().await;
    assert!(place == "node:b generation:2" || place == "node:c generation:2", "{place}");
}

/// 16: a long poll waits at one node while the session moves on to another and ends there.
#[tokio::test]
async fn a_long_poll_is_asked_again_when_its_hop_ends() {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let framework = Framework::Axum;
    let a = node(&engine, framework, "a").await;
    let b = node(&engine, framework, "b").await;
    let c = node(&engine, framework, "c").await;
    let at_a = Browser::at(a.addr);
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    let id = hello["session"].as_str().unwrap();
    let at_b = at_a.moved_to_address(b.addr);
    let path = format!("/sessions/{id}?wait=40");
    let moves = async {
        until("it waits at the owner", async || told(&at_a, "/node").await["hops"] == 1).await;
        a.kill().await;
        let at_c = at_a.moved_to_address(c.addr);
        let (mut ws, _) = comes_back(&at_c, &Socket::cursor(PAGE, &hello, 1)).await;
        ws.send("finish well").await;
        ws.member("done").await
    };
    let (poll, _) = tokio::join!(at_b.get(&path), moves);
    assert_eq!(poll.status, 200, "{}", poll.text());
    assert_eq!(poll.json()["result"], "well", "{}", poll.text());
    // And from any node, once it is stored.
    for node in [&b, &c] {
        let poll = at_a.moved_to_address(node.addr).get(&format!("/sessions/{id}")).await;
        assert_eq!((poll.status.as_u16(), &poll.json()["result"]), (200, &"well".into()));
    }
}

/// 19: a plain client through a relay: its pongs are its own.
#[tokio::test]
async fn a_plain_client_is_heard_through_a_relay() {
    let flags = "--ping 200 --pong-timeout 800";
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = node_with(&engine, Framework::Axum, "a", flags).await;
    let b = node_with(&engine, Framework::Axum, "b", flags).await;
    let at_a = Browser::at(a.addr);
    told(&at_a, "/").await;
    let mut ws = at_a.moved_to_address(b.addr).plain("/live").await;
    ws.send("every 50 50").await;
    for i in 0..50 {
        assert_eq!(ws.recv().await, format!("e:{i}:"), "three times the time for a pong");
    }
    assert_eq!(a.count().await["running"], 1);
    // What it has not answered is told again.
    ws.cut().await;
    let mut ws = at_a.moved_to_address(b.addr).plain("/live").await;
    ws.send("say here").await;
    loop {
        let text = ws.recv().await;
        if text == "here" {
            break;
        }
        let i: u32 = text.strip_prefix("e:").unwrap().trim_end_matches(':').parse().unwrap();
        assert!(i >= 30, "e:{i} was answered by a pong long ago");
    }
}

/// No more relays than may be; requests are no relays.
#[tokio::test]
async fn there_are_so_many_relays() {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = node(&engine, Framework::Axum, "a").await;
    let b = node_with(&engine, Framework::Axum, "b", "--max-relays 1").await;
    let mut sockets = Vec::new();
    for _ in 0..2 {
        let at_a = Browser::at(a.addr);
        let mut ws = at_a.resumable("/live", PAGE).await;
        let hello = ws.member("hello").await;
        sockets.push((at_a.moved_to_address(b.addr), hello));
    }
    let (browser, hello) = &sockets[0];
    let mut first = browser.resumable("/live", &Socket::cursor(PAGE, hello, 0)).await;
    assert_eq!(first.member("hello").await["status"], "resumed");
    let (other, hello) = &sockets[1];
    let mut second = other.resumable("/live", &Socket::cursor(PAGE, hello, 0)).await;
    assert!(second.member("retry").await.is_u64());
    assert_eq!(second.closed().await.code, 4113);
    assert_eq!(told(other, "/").await["session"], hello["session"]);
    drop(first);
    let (_ws, again) = comes_back(other, &Socket::cursor(PAGE, hello, 0)).await;
    assert_eq!(again["status"], "resumed", "{again}");
}

/// A relay whose node drains is cut; the session's handler goes on.
async fn a_drain_cuts_the_relays_through_its_node(framework: Framework) {
    let Some(Two { engine: _engine, a, b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 3").await;
    assert_eq!(ws.data().await, "total:3");
    drop(ws);
    let mut by_b = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let again = by_b.member("hello").await;
    assert_eq!(again["status"], "resumed", "{again}");
    b.terminate().await;
    super::node::end_of(&mut by_b).await;
    assert!(b.exit().await.success());
    let (mut ws, last) = comes_back(&at_a, &Socket::cursor(PAGE, &again, 1)).await;
    assert_eq!((&last["status"], &last["epoch"]), (&"resumed".into(), &hello["epoch"]));
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:a generation:1");
    assert_eq!(told(&Browser::at(a.addr), "/node").await["sessions"], 1);
}

scenarios!(
    a_client_between_two_nodes_that_are_cut_apart_gets_its_session_handed_over,
    a_drain_cuts_the_relays_through_its_node,
);
