//! The owner is asked to hand a session over, and lives.

use http::{Request, StatusCode};
use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Browser, Socket};
use session_resume_tests::{Framework, Testee, scenarios};

use super::node::{end_of, node_with, told};

const PAGE: &str = "0123456789abcdef";

/// A client with a session at `a`, cut off there; its hello.
async fn begun(a: &Testee) -> (Browser, serde_json::Value) {
    let at_a = Browser::at(a.addr);
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    ws.cut().await;
    (at_a, hello)
}

/// It comes to `b`, and goes on there: the same stream, without a gap.
async fn goes_on_at_b(at_b: &Browser, hello: &serde_json::Value) {
    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, hello, 1)).await;
    let again = ws.member("hello").await;
    assert_eq!(again["status"], "resumed", "{again}");
    assert_eq!(again["session"], hello["session"]);
    assert!(again["gap"].is_null(), "{again}");
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:b generation:2");
    ws.send("add 1").await;
    assert_eq!(ws.data().await, "total:6");
    assert_eq!(told(at_b, "/node").await["relays"], 0, "no hop is left");
    let place = told(at_b, "/where").await;
    assert_eq!((&place["here"], &place["owner"]), (&true.into(), &"b".into()), "{place}");
}

/// `--elsewhere reroute`: the platform is told which node has the session, whatever kind of request it is.
async fn every_request_is_sent_to_its_owner_by_the_platform(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let flags = "--elsewhere reroute --plain-http";
    let a = node_with(&engine, framework, "a", flags).await;
    let b = node_with(&engine, framework, "b", flags).await;
    let (at_a, _) = begun(&a).await;
    let at_b = at_a.moved_to_address(b.addr);
    let plain = || Request::post("/live").header("content-type", "text/plain");
    for (request, body) in [
        (Request::get("/"), ""),
        (Request::post("/add/1"), ""),
        (Request::post("/add/1"), "has a body"),
        (plain(), "add 1"),
    ] {
        let answer = at_b.request(request, body).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{body}: {answer:?}");
        assert_eq!(answer.headers["x-owner"], "a", "{body}");
    }
    assert_eq!(told(&at_a, "/").await["total"], 5, "none of them was relayed");
}

/// `--elsewhere hand-over`: no request is sent on.
async fn a_session_moves_to_the_node_where_its_client_is(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = node_with(&engine, framework, "a", "--elsewhere hand-over").await;
    let b = node_with(&engine, framework, "b", "--elsewhere hand-over").await;
    let (at_a, hello) = begun(&a).await;
    // Another client of it stays at the owner, and is told to come back.
    let mut stays = at_a.resumable("/live", &Socket::cursor(PAGE, &hello, 1)).await;
    let hello = stays.member("hello").await;
    let at_b = at_a.moved_to_address(b.addr);
    goes_on_at_b(&at_b, &hello).await;
    assert_eq!(end_of(&mut stays).await, Some(4112));
    // A request finds it there, too.
    assert_eq!(told(&at_b, "/").await["total"], 6);
}

/// The nodes do not reach each other, but the engine: after a lease the owner is asked to hand over.
async fn an_owner_that_is_not_reached_hands_over(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    // Nobody listens there.
    let nowhere = "--hops 127.0.0.1:0 --advertise 127.0.0.1:1";
    let a = node_with(&engine, framework, "a", nowhere).await;
    let b = node_with(&engine, framework, "b", "").await;
    let (at_a, hello) = begun(&a).await;
    goes_on_at_b(&at_a.moved_to_address(b.addr), &hello).await;
}

scenarios!(
    every_request_is_sent_to_its_owner_by_the_platform,
    a_session_moves_to_the_node_where_its_client_is,
    an_owner_that_is_not_reached_hands_over,
);
