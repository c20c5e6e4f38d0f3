//! A handler that is busy is stopped: the testee's `stop`, which is urgent.

use http::Request;
use session_resume_testkit::{Browser, Socket, tcp::Proxy, until};
use session_resume_tests::{Framework, scenarios};

use crate::{
    client,
    requests::{EventSource, Pipe},
    testee,
};

scenarios!(
    a_stop_is_answered_at_once_while_the_handler_is_busy,
    a_stop_over_http_is_answered_at_once,
    a_stop_in_a_plain_post_is_answered_at_once,
    a_stop_that_finds_nothing_to_stop_comes_in_its_turn,
    a_stop_whose_connection_is_cut_stops_once,
    a_stop_that_was_committed_does_not_come_again_after_a_kill,
    a_stop_that_was_not_committed_comes_again_after_a_kill,
    under_exact_each_stop_stops_once_through_kills,
);

/// Longer than any test takes.
const BUSY: &str = "busy 3600000";

async fn a_stop_is_answered_at_once_while_the_handler_is_busy(framework: Framework) {
    let testee = testee(framework, "").await;
    let mut plain = Browser::at(testee.addr).plain("/live").await;
    for text in [BUSY, "echo one", "stop the work", "echo two"] {
        plain.send(text).await;
    }
    for text in ["stopped:the work", "echo:one", "echo:two"] {
        assert_eq!(plain.recv().await, text);
    }
    let mut ws = Browser::at(testee.addr).resumable("/live", &client('a')).await;
    ws.member("hello").await;
    for text in [BUSY, "echo one", BUSY, "stop 1", "stop 2"] {
        ws.send(text).await;
    }
    for text in ["stopped:1", "echo:one", "stopped:2"] {
        assert_eq!(ws.data().await, text);
    }
}

async fn a_stop_over_http_is_answered_at_once(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    pipe.hello().await;
    for text in [BUSY, "echo one", "stop 1"] {
        pipe.say(text).await;
    }
    for text in ["stopped:1", "echo:one"] {
        assert_eq!(pipe.data().await, text);
    }
}

async fn a_stop_in_a_plain_post_is_answered_at_once(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let mut source = EventSource::open(&testee, &browser, None).await;
    source.named("session").await;
    let post = async |text: &str, wait: &str| {
        let post = Request::post("/live").header("content-type", "text/plain");
        let post = post.header("origin", format!("http://{}", testee.addr));
        browser.request(post.header("prefer", wait), text.to_owned()).await.status
    };
    assert_eq!(post(BUSY, "wait=0").await, 202);
    assert_eq!(post("echo one", "wait=0").await, 202);
    assert_eq!(post("stop 1", "wait=60").await, 204, "it is answered when it is taken");
    for text in ["stopped:1", "echo:one"] {
        assert_eq!(source.message().await, text);
    }
}

async fn a_stop_that_finds_nothing_to_stop_comes_in_its_turn(framework: Framework) {
    let testee = testee(framework, "").await;
    let mut ws = Browser::at(testee.addr).plain("/live").await;
    for text in ["echo one", "stop", "busy 1", "stop late"] {
        ws.send(text).await;
    }
    for text in ["echo:one", "stopped:"] {
        assert_eq!(ws.recv().await, text);
    }
    // The work takes a millisecond: it may be over before the stop is there.
    let mut told = ws.recv().await;
    if told == "done-busy" {
        told = ws.recv().await;
    }
    assert_eq!(told, "stopped:late");
}

/// How the network breaks.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Breaks {
    /// The stop does not arrive.
    Before,
    /// The stop arrives when its client is gone already.
    Late,
    /// The stop is taken, and its client is told nothing.
    After,
}

async fn a_stop_whose_connection_is_cut_stops_once(framework: Framework) {
    for breaks in [Breaks::Before, Breaks::Late, Breaks::After] {
        let testee = testee(framework, "").await;
        let proxy = Proxy::start(testee.addr).await;
        let browser = Browser::at(testee.addr);
        browser.get("/").await;
        let mut page = browser.moved_to_address(proxy.address()).open("/live").await;
        page.send("echo ready");
        assert_eq!(page.recv().await, "echo:ready");
        page.send(BUSY);
        page.send("add 1");
        if breaks == Breaks::After {
            proxy.swallow();
            page.send("stop 1");
            until_stopped(&browser).await;
            drop(proxy.cut());
        } else {
            proxy.hold();
            page.send("stop 1");
            proxy.held().await;
            let late = proxy.cut();
            if breaks == Breaks::Late {
                proxy.go_offline();
                let arrives = tokio::spawn(late.arrive());
                until_stopped(&browser).await;
                proxy.go_online();
                arrives.abort();
            }
        }
        page.send("echo end");
        for text in ["stopped:1", "total:1", "echo:end"] {
            assert_eq!(page.recv().await, text, "{breaks:?}");
        }
    }
}

/// Until what waits behind the work is handled.
async fn until_stopped(browser: &Browser) {
    until("it is stopped", async || browser.get("/").await.json()["total"] == 1).await;
}

/// Sends what the session does not have, as a client of ours does.
async fn send_again(ws: &mut Socket, hello: &serde_json::Value, sent: &[&str]) {
    let received = usize::try_from(hello["received"].as_u64().unwrap()).unwrap();
    for text in &sent[received..] {
        ws.send(*text).await;
    }
}

async fn a_stop_that_was_committed_does_not_come_again_after_a_kill(framework: Framework) {
    // The second one is at work at the kill. The stop has overtaken it.
    const SENT: [&str; 4] = [BUSY, "busy 1500", "stop 1", "echo end"];
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let flags = format!("--store {} --durability exact", store.display());
    let server = testee(framework, &flags).await;
    let browser = Browser::at(server.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    for text in SENT {
        ws.send(text).await;
    }
    // Under Exact what has left is committed.
    assert_eq!(ws.data().await, "stopped:1");
    server.kill().await;
    let server = testee(framework, &flags).await;
    let browser = browser.moved_to_address(server.addr);
    let mut ws = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 1)).await;
    let hello = ws.member("hello").await;
    assert_eq!(hello["status"], "resumed");
    send_again(&mut ws, &hello, &SENT).await;
    for text in ["done-busy", "echo:end"] {
        assert_eq!(ws.data().await, text);
    }
}

/// Under Exact a reply is told once it is committed, which is at once: `core/resume/tests/durable/urgent.rs` has the moment between.
async fn a_stop_that_was_not_committed_comes_again_after_a_kill(framework: Framework) {
    const SENT: [&str; 3] = ["busy 1500", "stop 1", "echo end"];
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let flags = format!("--store {} --durability state", store.display());
    let server = testee(framework, &format!("{flags} --flush 3600000")).await;
    let browser = Browser::at(server.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    for text in SENT {
        ws.send(text).await;
    }
    for text in ["stopped:1", "echo:end"] {
        assert_eq!(ws.data().await, text);
    }
    server.kill().await;
    let server = testee(framework, &flags).await;
    let browser = browser.moved_to_address(server.addr);
    let mut ws = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 2)).await;
    let again = ws.member("hello").await;
    assert_eq!((&again["session"], &again["received"]), (&hello["session"], &0.into()));
    send_again(&mut ws, &again, &SENT).await;
    // The first messages after a crash are tried one by one: nothing overtakes them.
    for text in ["done-busy", "stopped:1", "echo:end"] {
        assert_eq!(ws.data().await, text);
    }
}

/// Killed while it handles the stop, at no moment in particular, and after it.
async fn under_exact_each_stop_stops_once_through_kills(framework: Framework) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let flags = format!("--store {} --durability exact", store.display());
    let mut server = testee(framework, &flags).await;
    let proxy = Proxy::start(server.addr).await;
    let browser = Browser::at(server.addr);
    browser.get("/").await;
    let mut page = browser.moved_to_address(proxy.address()).open("/live").await;
    for round in 0..6 {
        page.send("busy 300");
        page.send(format!("stop {round}"));
        page.send(format!("echo {round}"));
        let stopped = format!("stopped:{round}");
        let waits = round % 3;
        let mut told = Vec::new();
        if waits == 1 {
            told.push(page.recv().await);
        }
        if waits < 2 {
            server.kill().await;
            server = testee(framework, &flags).await;
            proxy.set_target(server.addr);
            drop(proxy.cut());
        }
        let last = format!("echo:{round}");
        while told.last() != Some(&last) {
            told.push(page.recv().await);
        }
        // It has stopped the work, or has come too late for that.
        told.retain(|text| text != "done-busy");
        assert_eq!(told, [stopped, last]);
    }
}
