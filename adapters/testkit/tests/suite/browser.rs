//! Cookies, pages and requests.

use session_resume_client::Modes;
use session_resume_testkit::{Event, OutcomeStatus, Socket, Status};

use crate::apps::{axum, each, in_memory, layer, router, taken, warp};

#[tokio::test(start_paused = true)]
async fn pages_and_requests_of_one_browser_share_its_cookie() {
    for (resume, server) in each() {
        let browser = server.browser();
        assert_eq!(browser.get("/").await.text(), "");
        let cookie = browser.cookies().header();
        assert!(cookie.starts_with("sr_id="), "{cookie}");
        let mut page = browser.open("/live").await;
        page.send("say it");
        assert_eq!(page.recv().await, "it");
        assert_eq!(browser.get("/").await.text(), "say it");
        let another = browser.open("/live").await;
        assert_eq!(another.session(), page.session());
        assert_eq!(another.statuses(), [Status::Reused]);
        assert_eq!(page.recv_event().await, Event::Superseded);
        assert_eq!(resume.sessions().len(), 1);
        assert_eq!(browser.cookies().header(), cookie);
    }
}

#[tokio::test(start_paused = true)]
async fn two_browsers_are_two_visitors() {
    for (resume, server) in each() {
        let [one, other] = [server.browser(), server.browser()];
        let (one, other) = (one.open("/live").await, other.open("/live").await);
        assert_ne!(one.session(), other.session());
        assert_eq!(resume.sessions().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_moves_to_another_server_with_its_cookies() {
    let resume = layer();
    let (axum, warp) = (axum(&resume), warp(&resume));
    let browser = axum.browser();
    let page = browser.open("/live").await;
    let there = browser.moved_to(&warp).open("/live").await;
    assert_eq!(there.session(), page.session());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_its_answer() {
    let (resume, server) = in_memory();
    let browser = server.browser();
    let foreign = browser
        .plain_with("/live", |request| request.header("origin", "https://foe.example"))
        .await;
    let foreign = foreign.unwrap_err();
    assert_eq!(foreign.answer().unwrap().status, 403, "{foreign}");
    let missing = browser.plain_with("/nowhere", |request| request).await.unwrap_err();
    assert_eq!(missing.answer().unwrap().status, 404);
    assert!(resume.sessions().is_empty());
    let answer = browser.navigate("/nowhere").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test(start_paused = true)]
async fn the_end_is_told_and_can_be_polled() {
    let server = session_resume_testkit::TestServer::new(|| router().layer(layer()));
    let browser = server.browser();
    let mut page = browser.open("/live").await;
    page.send("finish");
    page.cut().await;
    assert_eq!(page.done().await, OutcomeStatus::Done);
    let outcome = browser.get(&format!("/sessions/{}?wait=10", page.session())).await.json();
    assert_eq!(outcome["status"], "done");
}

#[tokio::test(start_paused = true)]
async fn messages_of_any_size_and_kind_pass() {
    for (resume, server) in each() {
        let mut page = server.browser().open("/live").await;
        let big = "x".repeat((1 << 20) - 4);
        page.send(format!("say {big}"));
        assert!(page.recv().await == big, "more than the network holds at a time");
        page.send(vec![1, 2, 3]);
        page.send("say {\"a\":[1]}");
        page.send("say \u{1}{\"ack\":7}");
        assert_eq!(page.recv_message().await, vec![1, 2, 3].into());
        assert_eq!(page.recv_json().await["a"][0], 1);
        assert_eq!(page.recv().await, "\u{1}{\"ack\":7}");
        assert_eq!(taken(&resume).len(), 4);
        page.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_can_be_set_as_a_client_can() {
    let (_resume, server) = in_memory();
    let mut page =
        server.browser().open_with("/live", |client| client.with_mode(Modes::Prompt)).await;
    page.cut().await;
    let told = page.recv_event().await;
    assert!(matches!(told, Event::Offline { .. }), "{told:?}");
    page.client().reconnect();
    assert_eq!(page.hello().await.status, Status::Resumed);
}

#[tokio::test(start_paused = true)]
async fn the_protocol_can_be_spoken_by_hand() {
    let (_resume, server) = in_memory();
    let browser = server.browser();
    let id = "0123456789abcdef";
    let mut socket = browser.resumable("/live", id).await;
    let hello = socket.member("hello").await;
    socket.control(r#"{"ack":0}"#).await;
    socket.send("say \u{1}it").await;
    assert_eq!(socket.data().await, "\u{1}it");
    socket.cut().await;
    let mut socket = browser.resumable("/live", &Socket::cursor(id, &hello, 0)).await;
    assert_eq!(socket.member("hello").await["status"], "resumed");
    assert_eq!(socket.data().await, "\u{1}it");
    let mut newer = browser.plain("/live").await;
    assert_eq!(socket.closed().await.code, 4100);
    assert_eq!(newer.recv().await, "\u{1}it");
}
