//! Every refusal as the table of the design has it, and nothing else disturbed.

use session_resume_testkit::{Browser, Close};
use session_resume_tests::{Framework, scenarios};

use crate::{client, open, testee};

scenarios!(
    malformed_offers_are_400,
    another_handler_is_409_or_4101,
    another_path_is_409_or_4101,
    a_route_says_what_it_speaks_to_a_client_that_does_not_upgrade,
    a_foreign_origin_is_403,
    limits_are_503_or_4113,
    attach_refuse_is_409_or_4101,
    protocol_errors_are_4103_and_end_the_transport_alone,
    a_message_over_the_limit_is_1009,
    a_superseded_client_is_told_4100,
);

async fn malformed_offers_are_400(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let c = client('a');
    for offer in [
        "session-resume.v1".to_owned(),
        format!("at.{c}"),
        format!("session-resume.v2, at.{c}"),
        format!("session-resume.v1, session-resume.v1, at.{c}"),
        format!("session-resume.v1, at.{c}, at.{c}"),
        "session-resume.v1, at.short".to_owned(),
        format!("session-resume.v1, at.{c}.s"),
        format!("session-resume.v1, at.{c}.s.e"),
        format!("session-resume.v1, at.{c}.s.e.01"),
        format!("session-resume.v1, at.{c}.s.e.-1"),
        format!("session-resume.v1, at.{c}.s.e.1.2.3"),
    ] {
        let refused = open(&browser, "/live", Some(&offer)).await.unwrap_err();
        assert_eq!(refused.status, 400, "{offer}");
        assert_eq!(refused.header("retry-after").count(), 0, "{offer}");
    }
    assert_eq!(testee.count().await["live"], 0);
    let ws = open(&browser, "/live", Some(&format!("chat, session-resume.v1, at.{c}"))).await;
    assert_eq!(ws.unwrap().member("hello").await["status"], "new");
}

async fn another_handler_is_409_or_4101(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.plain("/live").await;
    ws.send("echo a").await;
    assert_eq!(ws.recv().await, "echo:a");
    assert_eq!(open(&browser, "/other", None).await.unwrap_err().status, 409);
    let mut other = browser.resumable("/other", &client('b')).await;
    assert_eq!(other.closed().await, Close::new(4101, "another handler"));
    ws.send("echo b").await;
    assert_eq!(ws.recv().await, "echo:b");
}

async fn another_path_is_409_or_4101(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.plain("/live/a").await;
    ws.send("whoami").await;
    let who = ws.recv().await;
    assert_eq!(open(&browser, "/live", None).await.unwrap_err().status, 409);
    let mut other = browser.resumable("/live", &client('b')).await;
    let Close { code, reason } = other.closed().await;
    assert_eq!(code, 4101);
    for named in ["key::by_path()", "ResumeUpgrade::any_path()"] {
        assert!(reason.contains(named), "{reason}");
    }
    let answer = open(&browser, "/live", None).await.unwrap_err();
    for named in ["key::by_path()", "ResumeUpgrade::any_path()"] {
        assert!(answer.status == 409 && answer.text().contains(named), "{answer:?}");
    }
    ws.send("echo a").await;
    assert_eq!(ws.recv().await, "echo:a", "nothing is disturbed");
    // These come on any path, and to the same session.
    for path in ["/live/b", "/live/a?x=1"] {
        let mut ws = browser.plain(path).await;
        ws.send("whoami").await;
        assert_eq!(ws.recv().await, who, "{path}");
    }
}

async fn a_route_says_what_it_speaks_to_a_client_that_does_not_upgrade(framework: Framework) {
    let testee = testee(framework, "").await;
    for (method, path, status, speaks) in
        [("GET", "/live", 400, true), ("POST", "/live", 400, true), ("GET", "/plain", 200, false)]
    {
        let request = http::Request::builder().method(method).uri(path);
        let answer = Browser::at(testee.addr).request(request, "").await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        let spoken =
            answer.header("sec-websocket-protocol").any(|name| name == "session-resume.v1");
        assert_eq!(spoken, speaks, "{method} {path}");
    }
    assert_eq!(testee.count().await["live"], 0, "no session was touched");
}

async fn a_foreign_origin_is_403(framework: Framework) {
    let testee = testee(framework, "--origin https://friend.example").await;
    let foreign = |request: http::request::Builder| request.header("origin", "https://foe.example");
    let refused = Browser::at(testee.addr).plain_with("/live", foreign).await.unwrap_err();
    assert_eq!(refused.answer().unwrap().status, 403);
    assert_eq!(testee.count().await["live"], 0);
}

async fn limits_are_503_or_4113(framework: Framework) {
    let testee = testee(framework, "--max-sessions 1").await;
    Browser::at(testee.addr).get("/").await;
    let second = Browser::at(testee.addr);
    let answer = second.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after").count()), (503, 1));
    let refused = open(&second, "/live", None).await.unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.header("retry-after").count()), (503, 1));
    let mut ws = second.resumable("/live", &client('a')).await;
    assert!(ws.member("retry").await.as_u64().unwrap() > 0);
    assert_eq!(ws.closed().await.code, 4113);
}

async fn attach_refuse_is_409_or_4101(framework: Framework) {
    let testee = testee(framework, "--attach refuse").await;
    let browser = Browser::at(testee.addr);
    let mut holder = browser.resumable("/live", &client('a')).await;
    holder.member("hello").await;
    assert_eq!(open(&browser, "/live", None).await.unwrap_err().status, 409);
    let mut other = browser.resumable("/live", &client('b')).await;
    assert_eq!(other.closed().await, Close::new(4101, "refused"));
    holder.send("echo mine").await;
    assert_eq!(holder.data().await, "echo:mine");
}

async fn protocol_errors_are_4103_and_end_the_transport_alone(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let bystander = Browser::at(testee.addr);
    let mut other = bystander.plain("/live").await;
    let mut session = None;
    for bad in [
        "\u{1}x",
        "\u{1}",
        "\u{1}{",
        "\u{1}{\"ack\":-1}",
        "\u{1}{\"ack\":\"1\"}",
        "\u{1}{\"ack\":9007199254740992}",
        "\u{1}{\"ack\":1000}",
        "\u{1}[]",
    ] {
        let mut ws = browser.resumable("/live", &client('a')).await;
        let hello = ws.member("hello").await;
        assert_eq!(session.get_or_insert(hello["session"].clone()), &hello["session"], "{bad:?}");
        ws.send(bad).await;
        assert_eq!(ws.closed().await.code, 4103, "{bad:?}");
    }
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    ws.control(r#"{"ack":0,"something":"new"}"#).await;
    ws.send("echo fine").await;
    assert_eq!(ws.data().await, "echo:fine", "unknown members are ignored");
    other.send("echo undisturbed").await;
    assert_eq!(other.recv().await, "echo:undisturbed");
}

async fn a_message_over_the_limit_is_1009(framework: Framework) {
    let testee = testee(framework, "--max-message 1000").await;
    let browser = Browser::at(testee.addr);
    for at in [None, Some(format!("session-resume.v1, at.{}", client('a')))] {
        for size in [1001, 200_000] {
            let mut ws = open(&browser, "/live", at.as_deref()).await.unwrap();
            // A server that has closed need not read to the end.
            let _ = ws.try_send("x".repeat(size)).await;
            assert_eq!(ws.closed().await.code, 1009, "{size} {at:?}");
        }
    }
    let mut ws = browser.plain("/live").await;
    ws.send(format!("echo {}", "x".repeat(990))).await;
    assert_eq!(ws.recv().await.len(), 995);
}

async fn a_superseded_client_is_told_4100(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut one = browser.resumable("/live", &client('a')).await;
    one.member("hello").await;
    let mut same = browser.resumable("/live", &client('a')).await;
    assert_eq!(one.closed().await, Close::new(4100, "replaced"));
    same.member("hello").await;
    let mut other = browser.resumable("/live", &client('b')).await;
    assert_eq!(same.closed().await, Close::new(4100, "superseded"));
    assert_eq!(other.member("hello").await["status"], "reused");
    let mut plain = browser.plain("/live").await;
    assert_eq!(other.closed().await, Close::new(4100, "superseded"));
    plain.send("echo newest").await;
    assert_eq!(plain.recv().await, "echo:newest");
}
