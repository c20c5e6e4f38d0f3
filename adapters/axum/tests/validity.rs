//! Credentials that a client brings with each request, and that run out while its transport is open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::State, response::Response, routing::any};
use http::Request;
use session_resume::SessionResume;
use session_resume_axum::ResumeConnection;
use session_resume_testkit::TestServer;

type RunOut = Arc<AtomicBool>;

async fn live(State(run_out): State<RunOut>, connection: ResumeConnection) -> Response {
    let left = if run_out.load(Ordering::Relaxed) { 0 } else { 60 };
    let connection = connection.valid_until(Instant::now() + Duration::from_secs(left));
    connection
        .on_session(|mut session| async move { while session.recv().await.is_some() {} })
        .await
}

#[tokio::test]
async fn a_later_request_of_a_pipe_ends_it() {
    let run_out = RunOut::default();
    let app = Router::new().route("/live", any(live)).with_state(Arc::clone(&run_out));
    let browser = TestServer::new(move || app.clone().layer(SessionResume::new())).browser();
    let open = |nonce: &str| {
        Request::post("/live")
            .header("content-type", "application/vnd.session-resume")
            .header("session-resume-offer", "session-resume.v1, at.client-aaaaaaaaaa")
            .header("session-resume-pipe", nonce)
    };
    let opened = browser.request(open("aaaaaaaaaaaaaaaaaaaaaa"), "").await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    let token = opened.header("session-resume-pipe").next().unwrap().to_owned();
    let post = || {
        Request::post("/live")
            .header("content-type", "application/vnd.session-resume")
            .header("session-resume-pipe", &token)
            .header("session-resume-up", 0)
            .header("session-resume-down", 1)
    };
    assert_eq!(browser.request(post(), "").await.status, 204);
    run_out.store(true, Ordering::Relaxed);
    let ended = browser.request(post(), "").await;
    assert_eq!(ended.status, 410);
    assert_eq!(ended.header("session-resume-close").collect::<Vec<_>>(), ["4106 reauthenticate"]);
    // Nor is another one opened.
    let refused = browser.request(open("bbbbbbbbbbbbbbbbbbbbbb"), "").await;
    assert_eq!(refused.status, 200);
    assert!(refused.text().ends_with("reauthenticate"), "{}", refused.text());
    let plain = browser.plain_with("/live", |request| request).await.unwrap_err();
    assert_eq!(plain.answer().unwrap().status, 401);
}
