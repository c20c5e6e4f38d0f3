//! Clients whose credentials run out: the testee's `/brief`.

use http::Request;
use session_resume::OutcomeStatus;
use session_resume_proto::wire::{Close as WireClose, Status};
use session_resume_testkit::{Browser, Close, Socket};
use session_resume_tests::{Framework, scenarios};

use crate::{
    client,
    requests::{EventSource, Pipe},
    testee,
};

scenarios!(
    credentials_that_run_out_close_the_transport_and_the_session_goes_on,
    a_client_of_ours_comes_back_at_once_and_misses_nothing,
    credentials_run_out_over_http,
);

const RUN_OUT: (u16, &str) = (4106, "reauthenticate");

async fn credentials_that_run_out_close_the_transport_and_the_session_goes_on(
    framework: Framework,
) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let (code, reason) = RUN_OUT;
    let mut plain = browser.plain("/brief").await;
    plain.send("add 5").await;
    assert_eq!(plain.recv().await, "total:5");
    assert_eq!(plain.closed().await, Close::new(code, reason));
    let mut ws = browser.resumable("/brief", &client('a')).await;
    let hello = ws.member("hello").await;
    assert_eq!(hello["status"], "reused");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:5 n:1");
    assert_eq!(ws.closed().await, Close::new(code, reason));
    // Here for as long as it likes.
    let mut ws = browser.resumable("/live/x", &Socket::cursor(&client('a'), &hello, 2)).await;
    assert_eq!(ws.member("hello").await["status"], "resumed");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:5 n:1");
}

async fn a_client_of_ours_comes_back_at_once_and_misses_nothing(framework: Framework) {
    let testee = testee(framework, "").await;
    let mut page = Browser::at(testee.addr).open("/brief").await;
    page.send("every 100 30");
    for i in 0..30 {
        assert_eq!(page.recv().await, format!("e:{i}:"));
    }
    let statuses = page.statuses();
    assert!(statuses.len() > 1, "it has come back: {statuses:?}");
    assert!(statuses[1..].iter().all(|status| *status == Status::Resumed), "{statuses:?}");
    page.send("finish done");
    assert_eq!(page.done().await, OutcomeStatus::Done);
}

async fn credentials_run_out_over_http(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::new(&testee, &browser).at("/brief");
    let answer = pipe.send_open(&client('a')).await;
    pipe.heard(&answer);
    pipe.hello().await;
    let (code, reason) = RUN_OUT;
    // The requests in between prolong nothing.
    assert_eq!(pipe.closed().await, WireClose::new(code, reason));
    let mut source = EventSource::open_at(&testee, &browser, "/brief", None).await;
    source.named("session").await;
    while source.event().await.is_some() {}
    let post = Request::post("/brief").header("content-type", "text/plain");
    let post = post.header("origin", format!("http://{}", testee.addr));
    assert_eq!(browser.request(post, "add 5").await.status, 202);
}
