//! The owner is alive, and its client lands on another node.

use http::{Request, StatusCode};
use session_resume_testkit::{Browser, Socket, until};
use session_resume_tests::{Framework, scenarios};

use session_resume_engine::{Engine, without_redis};

use super::node::{Two, node_with, told};

const PAGE: &str = "0123456789abcdef";

/// A client that was at node a comes to node b with its cursor: one hop, and the messages that it has missed.
async fn a_client_that_lands_on_another_node_goes_on_where_its_handler_runs(framework: Framework) {
    let Some(Two { engine: _engine, a: _a, b: _b, at_a, at_b }) = Two::start(framework).await
    else {
        return;
    };

    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:a generation:1");
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    // Two messages more, which this transport never brings to its client.
    ws.send("emit 2 10").await;
    ws.cut().await;
    drop(ws);

    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 2)).await;
    let again = ws.member("hello").await;
    assert_eq!(again["status"], "resumed", "{again}");
    assert_eq!(again["epoch"], hello["epoch"], "the same life of the same session");
    assert!(again["gap"].is_null(), "{again}");
    for i in 0..2 {
        let missed = ws.data().await;
        assert!(missed.starts_with(&format!("e:{i}:")), "{missed}");
    }
    // The same handler, at the same node.
    ws.send("where").await;
    assert_eq!(ws.data().await, "node:a generation:1");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:5 n:1");
    assert_eq!(told(&at_b, "/node").await["relays"], 1);
    assert_eq!(told(&at_a, "/node").await["hops"], 1);
    let place = told(&at_b, "/where").await;
    assert_eq!((&place["here"], &place["owner"]), (&false.into(), &"a".into()), "{place}");
    assert_eq!(place["state"], "held");
    assert_eq!(told(&at_a, "/where").await["here"], true);

    // The end of the hop is the end of the client's connection, and the other way round.
    ws.cut().await;
    drop(ws);
    until("the relay ends", async || told(&at_b, "/node").await["relays"] == 0).await;
    until("and the hop", async || told(&at_a, "/node").await["hops"] == 0).await;
}

/// Pages, forms and polls find the session from any node.
async fn requests_find_their_session_from_any_node(framework: Framework) {
    let Some(Two { engine: _engine, a: _a, b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let first = told(&at_a, "/").await;
    assert_eq!(first["origin"], "new");
    // The page and its next request land on two nodes: one session.
    let second = told(&at_b, "/").await;
    assert_eq!((&second["session"], &second["origin"]), (&first["session"], &"reused".into()));
    assert_eq!(told(&at_b, "/peek").await["session"], first["session"]);
    assert_eq!(at_b.post("/add/3", "").await.text(), r#"{"total":3}"#);
    assert_eq!(told(&at_a, "/").await["total"], 3);
    for browser in [&at_a, &at_b] {
        let id = first["session"].as_str().unwrap();
        let poll = browser.get(&format!("/sessions/{id}")).await;
        assert_eq!(poll.status, 202, "{}", poll.text());
    }
    for (name, browser) in [("a", &at_a), ("b", &at_b)] {
        let node = told(browser, "/node").await;
        assert_eq!((&node["node"], &node["lease"]), (&name.into(), &"held".into()), "{node}");
        assert_eq!(browser.get("/ready").await.status, 200);
    }
    // A stranger's session is its own.
    let stranger = told(&Browser::at(b.addr), "/").await;
    assert_ne!(stranger["session"], first["session"]);
}

/// Each node lists all sessions of a browser, wherever they are: here those of two paths, begun at two nodes.
async fn each_node_lists_all_sessions_of_a_browser(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let a = node_with(&engine, framework, "a", "--key path").await;
    let b = node_with(&engine, framework, "b", "--key path").await;
    let at_a = Browser::at(a.addr);
    let at_b = at_a.moved_to_address(b.addr);
    let mut one = at_a.resumable("/live", PAGE).await;
    let one_hello = one.member("hello").await;
    let mut two = at_b.resumable("/live/two", PAGE).await;
    let two_hello = two.member("hello").await;
    assert_ne!(one_hello["session"], two_hello["session"]);
    for (ws, name) in [(&mut one, "a"), (&mut two, "b")] {
        ws.send("where").await;
        assert_eq!(ws.data().await, format!("node:{name} generation:1"));
        assert_eq!(ws.member("ack").await, 1);
    }
    let mut ids =
        [&one_hello, &two_hello].map(|hello| hello["session"].as_str().unwrap().to_owned());
    ids.sort();
    let list = told(&at_a, "/sessions").await;
    let listed: Vec<_> = list["sessions"].as_array().unwrap().iter().collect();
    assert_eq!(listed.iter().map(|it| &it["session"]).collect::<Vec<_>>(), ids.each_ref());
    for session in &listed {
        assert_eq!((&session["status"], &session["attached"]), (&"running".into(), &1.into()));
        assert!(session["head"]["epoch"].is_string(), "{session}");
    }
    let other = told(&at_b, "/sessions").await;
    let without_ages = |list: &serde_json::Value| {
        let mut list = list.clone();
        for session in list["sessions"].as_array_mut().unwrap() {
            session.as_object_mut().unwrap().remove("created_ms");
        }
        list
    };
    assert_eq!(without_ages(&list), without_ages(&other));
    // Page by page, too.
    for browser in [&at_a, &at_b] {
        let first = told(browser, "/sessions?limit=1").await;
        assert_eq!(
            (&first["sessions"][0]["session"], &first["next"]),
            (&ids[0].as_str().into(), &ids[0].as_str().into())
        );
        let second = told(browser, &format!("/sessions?limit=1&after={}", ids[0])).await;
        assert_eq!(
            (&second["sessions"][0]["session"], &second["next"]),
            (&ids[1].as_str().into(), &serde_json::Value::Null)
        );
    }
    // Nobody else sees them.
    assert_eq!(told(&Browser::at(a.addr), "/sessions").await["sessions"], serde_json::json!([]));
    // A node that is gone is left out, and holds nothing up.
    b.kill().await;
    let list = told(&at_a, "/sessions").await;
    assert_eq!(list["sessions"].as_array().unwrap().len(), 1, "{list}");
}

/// What a client has is the list of all nodes: a node that has all of it must answer the one that asks.
async fn a_list_that_has_not_changed_is_not_sent_again(framework: Framework) {
    let Some(Two { engine: _engine, a: _a, b: _b, at_a, at_b }) = Two::start(framework).await
    else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    ws.member("hello").await;
    let list = at_b.get("/sessions").await;
    let tag = list.headers["etag"].clone();
    let again = Request::get("/sessions").header("if-none-match", &tag);
    assert_eq!(at_b.request(again, "").await.status, StatusCode::NOT_MODIFIED);
    let other = Request::get("/sessions").header("if-none-match", "\"other\"");
    let answer = at_b.request(other, "").await;
    assert_eq!((answer.status, &answer.headers["etag"]), (StatusCode::OK, &tag));
}

scenarios!(
    a_list_that_has_not_changed_is_not_sent_again,
    each_node_lists_all_sessions_of_a_browser,
    a_client_that_lands_on_another_node_goes_on_where_its_handler_runs,
    requests_find_their_session_from_any_node,
);
