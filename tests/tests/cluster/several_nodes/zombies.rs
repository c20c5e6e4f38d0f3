//! Owners that stood still and do not know yet that they are none.

use http::Request;
use session_resume_testkit::{Received, Socket, soon, until};
use session_resume_tests::{Framework, scenarios};

use super::node::{Two, comes_back, told};

const PAGE: &str = "0123456789abcdef";

/// 11: a handler ends where its session is not any more. Nobody is told, and the session goes on.
async fn the_end_of_a_handler_whose_session_has_moved_on_is_not_told(framework: Framework) {
    let Some(Two { engine: _engine, a, b, at_a, at_b: _ }) = Two::start(framework).await else {
        return;
    };
    let mut sessions = Vec::new();
    for end in ["finish badly", "fail badly", "panic"] {
        let browser = session_resume_testkit::Browser::at(a.addr);
        let mut ws = browser.resumable("/live", PAGE).await;
        let hello = ws.member("hello").await;
        ws.send("add 1").await;
        assert_eq!(ws.data().await, "total:1");
        assert_eq!(ws.member("ack").await, 1);
        sessions.push((end, browser, ws, hello));
    }
    a.stop().await;
    for (end, _, ws, _) in &mut sessions {
        // On its way to a process that stands still.
        ws.send(*end).await;
    }
    let mut moved = Vec::new();
    for (_, browser, _, hello) in &sessions {
        let at_b = browser.moved_to_address(b.addr);
        let (mut ws, again) = comes_back(&at_b, &Socket::cursor(PAGE, hello, 1)).await;
        assert_eq!(again["status"], "restored", "{again}");
        ws.send("add 10").await;
        assert_eq!(ws.data().await, "total:11");
        moved.push((at_b, ws, again));
    }
    a.go_on().await;
    for (end, _, ws, _) in &mut sessions {
        loop {
            match ws.next().await {
                Received::Message(message) => {
                    let text = message.as_text().unwrap_or_default();
                    assert!(!text.contains("\"done\""), "{end}: {text}");
                    assert!(!text.contains("\"ack\":2"), "{end}: {text}");
                }
                Received::Close(close) => {
                    assert_eq!(close.code, 4112, "{end}: {close:?}");
                    break;
                }
                Received::Gone => break,
            }
        }
    }
    until("it has a new life", async || told(&at_a, "/node").await["lease"] == "held").await;
    for (at_b, mut ws, again) in moved {
        let path = format!("/sessions/{}", again["session"].as_str().unwrap());
        for browser in [&at_b, &at_b.moved_to_address(a.addr)] {
            let poll = browser.get(&path).await;
            assert_eq!(poll.status, 202, "{}", poll.text());
        }
        ws.send("get").await;
        assert_eq!(ws.data().await, "total:11 n:2");
    }
}

/// 17: a login at a node that has lost the session meanwhile gives it to nobody.
async fn a_login_at_a_node_that_has_lost_the_session_changes_nothing(framework: Framework) {
    let Some(Two { engine: _engine, a, b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 1").await;
    assert_eq!(ws.data().await, "total:1");
    assert_eq!(ws.member("ack").await, 1);
    // A browser of its own keeps the old cookie, whatever the answer sets.
    let cookie = at_a.cookies().header();
    let request = Request::post("/login")
        .header("origin", format!("http://{}", a.addr))
        .header("cookie", cookie);
    a.stop().await;
    let logs_in = session_resume_testkit::Browser::at(a.addr);
    let moves = async {
        let (mut ws, again) = comes_back(&at_b, &Socket::cursor(PAGE, &hello, 1)).await;
        assert_eq!(again["status"], "restored", "{again}");
        ws.send("add 10").await;
        assert_eq!(ws.data().await, "total:11");
        a.go_on().await;
        (ws, again)
    };
    let (answer, (mut ws, again)) =
        soon("both end", Box::pin(async { tokio::join!(logs_in.request(request, ""), moves) }))
            .await;
    assert_ne!(answer.status, 200, "{}", answer.text());
    until("it has a new life", async || told(&at_a, "/node").await["lease"] == "held").await;
    // The old cookie has it, at both nodes.
    for browser in [&at_a, &at_b] {
        let found = told(browser, "/").await;
        assert_eq!(
            (&found["session"], &found["total"]),
            (&again["session"], &11.into()),
            "{found}"
        );
    }
    assert_ne!(told(&logs_in, "/").await["session"], again["session"]);
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:11 n:2");
    drop(b);
}

scenarios!(
    the_end_of_a_handler_whose_session_has_moved_on_is_not_told,
    a_login_at_a_node_that_has_lost_the_session_changes_nothing,
);
