//! What one framework does, the other does: sessions that cross from axum to warp, warp inside axum, and the
//! same answers to requests that get no session.

mod apps;
mod client;
mod warp_server;

use http::StatusCode;
use session_resume::{
    Limits, SessionResume,
    reuse::{self, ReuseDecision},
};
use session_resume_tests::Framework;
use tokio::net::TcpListener;
use tower_layer::Layer as _;

use crate::{
    apps::{FRAMEWORKS, Log, Other, router, routes, start},
    client::{Answer, Client, ask, refused},
};

const ANOTHER_PATH: &str = "another path: see key::by_path() and ResumeUpgrade::any_path()";
const UPGRADE: [(&str, &str); 4] = [
    ("connection", "upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test]
async fn a_session_opened_through_axum_goes_on_through_warp() {
    let resume = layer();
    let axum = start(Framework::Axum, Some(resume.clone())).await;
    let warp = start(Framework::Warp, Some(resume.clone())).await;

    let mut opened = Client::fresh(axum, "/live", None).await;
    assert_eq!(opened.hello["status"], "new");
    opened.say("a").await;
    opened.say("b").await;
    assert_eq!(opened.hear().await, "start 1, message 1: a");
    assert_eq!(opened.hear().await, "start 1, message 2: b");
    let cookie = opened.cookie.clone();
    let offer = opened.offer_from(1);
    drop(opened);

    let mut resumed = Client::offer(warp, "/live", &offer, cookie.as_deref()).await;
    assert_eq!(resumed.hello["status"], "resumed");
    assert_eq!(resumed.hello["received"], 2);
    assert_eq!(resumed.cookie, None, "the identity is known to both");
    // What it had not taken through axum comes again through warp.
    assert_eq!(resumed.hear().await, "start 1, message 2: b");
    resumed.say("c").await;
    assert_eq!(resumed.hear().await, "start 1, message 3: c");
    assert_eq!(resume.sessions().len(), 1);
}

#[tokio::test]
async fn warp_mounted_in_an_axum_router_shares_its_sessions() {
    let resume = layer();
    let warp = session_resume_warp::service(routes());
    let app = router().nest_service("/warp", warp).layer(resume.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    let mut opened = Client::fresh(addr, "/live", None).await;
    opened.say("a").await;
    assert_eq!(opened.hear().await, "start 1, message 1: a");
    let cookie = opened.cookie.clone();
    let offer = opened.offer_from(1);
    drop(opened);
    let mut again = Client::offer(addr, "/warp/live", &offer, cookie.as_deref()).await;
    assert_eq!(again.hello["status"], "resumed");
    again.say("b").await;
    assert_eq!(again.hear().await, "start 1, message 2: b");

    let cookie = cookie.unwrap();
    for path in ["/length", "/warp/length"] {
        let (answer, _) = ask(addr, &format!("POST {path}"), &[("cookie", &cookie)], "hello").await;
        assert_eq!(answer.text, "5 bytes, reused session, 2 messages", "{path}");
    }
    assert_eq!(resume.sessions().len(), 1);
}

#[tokio::test]
async fn a_path_is_the_one_that_was_asked_for_wherever_warp_is_mounted() {
    for layer_is_outside in [true, false] {
        let resume = layer();
        let warp = || session_resume_warp::service(routes());
        let app = if layer_is_outside {
            router().nest_service("/warp", warp()).layer(resume)
        } else {
            router().layer(resume.clone()).nest_service("/warp", resume.layer(warp()))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await });

        let cookie = Client::fresh(addr, "/warp/rooms/a", None).await.cookie.unwrap();
        let again = Client::fresh(addr, "/warp/rooms/a?x=1", Some(&cookie)).await;
        assert_eq!(again.hello["status"], "reused", "{layer_is_outside}");
        let elsewhere = refused(addr, "/rooms/b", Some(&cookie)).await;
        assert_eq!(elsewhere, (4101, ANOTHER_PATH.to_owned()), "{layer_is_outside}");
        // The layer cannot see what a router outside it has taken away, and warp has nobody to ask.
        if layer_is_outside {
            let elsewhere = refused(addr, "/rooms/a", Some(&cookie)).await;
            assert_eq!(elsewhere, (4101, ANOTHER_PATH.to_owned()));
        }
    }
}

#[tokio::test]
async fn a_request_that_gets_no_session_is_told_the_same() {
    let full = || layer().with_limits(Limits::default().with_max_sessions(0));
    let malformed = ("sec-websocket-protocol", "session-resume.v1");
    let foreign = ("origin", "http://elsewhere.example");
    let rows = [
        (None, "GET /", &[][..], 500, "add .layer(SessionResume::new())"),
        (None, "GET /live", &UPGRADE, 500, "add .layer(SessionResume::new())"),
        (None, "GET /sessions/1", &[], 500, "add .layer(SessionResume::new())"),
        (Some(full()), "GET /", &[], 503, "limits.max_sessions"),
        (Some(full()), "GET /live", &UPGRADE, 503, "limits.max_sessions"),
        (Some(layer()), "GET /live", &with(foreign), 403, "foreign origin"),
        (Some(layer()), "GET /live", &with(malformed), 400, "at."),
        (Some(layer()), "GET /refused", &UPGRADE, 403, "not today"),
        (Some(layer()), "GET /sessions/1", &[], 404, "no such session"),
        (None, "GET /sessions", &[], 500, "add .layer(SessionResume::new())"),
    ];
    for (layer, line, headers, status, text) in rows {
        let [axum, warp] = on_both(layer, line, headers).await;
        assert_eq!(axum, warp, "{line} {headers:?}");
        assert_eq!(axum.status, status, "{axum:?}");
        assert!(axum.text.contains(text), "{axum:?}");
        assert_eq!(axum.retry_after.is_some(), status == 503, "{axum:?}");
    }
}

#[tokio::test]
async fn a_layer_with_another_state_is_told_the_same() {
    let other = || Some(SessionResume::new().with_state::<Other>());
    for (line, headers) in [("GET /", &[][..]), ("GET /live", &UPGRADE)] {
        let [axum, warp] = on_both(other(), line, headers).await;
        assert_eq!(axum, warp);
        assert_eq!(axum.status, 500);
        assert!(axum.text.contains("with_state::<..>()"), "{axum:?}");
        assert!(
            !axum.text.contains("frameworks::"),
            "no type of the program is told to a stranger: {axum:?}"
        );
    }
}

#[tokio::test]
async fn what_is_no_upgrade_is_told_the_same() {
    let no_version = [UPGRADE[0], UPGRADE[1], UPGRADE[3]];
    let bad_key = [UPGRADE[0], UPGRADE[1], UPGRADE[2], (UPGRADE[3].0, "not 16 bytes")];
    let rows = [
        ("GET /live", &[][..], 400),
        ("GET /live", &UPGRADE[1..], 400),
        ("GET /live", &no_version, 400),
        ("GET /live", &UPGRADE[..3], 400),
        ("GET /live", &bad_key, 400),
        ("POST /live", &UPGRADE, 405),
        ("GET /nowhere", &[], 404),
    ];
    for (line, headers, status) in rows {
        let [axum, warp] = on_both(Some(layer()), line, headers).await;
        assert_eq!((axum.status, warp.status), (status, status), "{line} {headers:?}");
        if line != "GET /nowhere" {
            assert_eq!(axum, warp, "{line} {headers:?}");
        }
    }
}

#[tokio::test]
async fn outcomes_are_told_the_same() {
    let layer = layer();
    let axum = start(Framework::Axum, Some(layer.clone())).await;
    let warp = start(Framework::Warp, Some(layer)).await;
    let client = Client::fresh(axum, "/live", None).await;
    let cookie = client.cookie.clone().unwrap();
    let session = client.hello["session"].as_str().unwrap();
    for (path, status, text) in [
        (format!("/sessions/{session}"), 202, r#""status":"running""#),
        ("/sessions".to_owned(), 200, session),
        ("/sessions?limit=1".to_owned(), 200, r#""next":null"#),
        ("/sessions/1".to_owned(), 404, "no such session"),
    ] {
        for method in ["GET", "HEAD"] {
            let line = format!("{method} {path}");
            let (answer, _) = ask(axum, &line, &[("cookie", &cookie)], "").await;
            assert_eq!(answer, ask(warp, &line, &[("cookie", &cookie)], "").await.0, "{line}");
            assert_eq!(answer.status, status, "{line}: {answer:?}");
            assert_eq!(answer.text.contains(text), method == "GET", "{line}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_session_in_other_hands_is_told_the_same() {
    let policy = reuse::from_fn(|_, _| ReuseDecision::Refuse(StatusCode::LOCKED));
    let rows = [
        (layer(), "/other", 409, "session runs another handler", (4101, "another handler")),
        (layer(), "/rooms/a", 409, "ResumeUpgrade::any_path()", (4101, ANOTHER_PATH)),
        (layer().with_reuse(policy), "/live", 423, "reuse policy", (4101, "refused")),
    ];
    for (layer, path, status, text, (code, reason)) in rows {
        let mut answers = Vec::new();
        for framework in FRAMEWORKS {
            let addr = start(framework, Some(layer.clone())).await;
            let opened = Client::fresh(addr, "/live", None).await;
            let cookie = opened.cookie.clone().unwrap();
            let headers = with(("cookie", &cookie));
            let (answer, _) = ask(addr, &format!("GET {path}"), &headers, "").await;
            assert!(answer.status == status && answer.text.contains(text), "{answer:?}");
            answers.push(answer);
            // Browsers hide the status of an upgrade, so a client that offers to resume is told by the
            // close.
            let closed = refused(addr, path, Some(&cookie)).await;
            assert_eq!(closed, (code, reason.to_owned()), "{framework:?}");
        }
        assert_eq!(answers[0], answers[1]);
    }
}

#[tokio::test]
async fn a_client_that_resumes_learns_why_it_is_refused() {
    for framework in FRAMEWORKS {
        let addr = start(framework, Some(layer())).await;
        assert_eq!(refused(addr, "/refused", None).await, (4101, "not today".to_owned()));
    }
}

#[tokio::test]
async fn a_subprotocol_of_the_application_is_selected() {
    let rows = [
        ("chat.v1, chat.v2", Some("chat.v2")),
        ("mqtt,chat.v1", Some("chat.v1")),
        ("mqtt", None),
        ("chat.v1, session-resume.v1, at.0123456789abcdef", Some("session-resume.v1")),
    ];
    for (offered, selected) in rows {
        let headers = with(("sec-websocket-protocol", offered));
        for answer in on_both(Some(layer()), "GET /chat", &headers).await {
            assert_eq!(answer.status, 101);
            assert_eq!(answer.protocol.as_deref(), selected, "{offered}");
        }
    }
}

#[tokio::test]
async fn a_handler_on_a_thread_works_on_both() {
    for framework in FRAMEWORKS {
        let addr = start(framework, Some(layer())).await;
        let mut client = Client::fresh(addr, "/blocking", None).await;
        client.say("a").await;
        assert_eq!(client.hear().await, "a");
    }
}

#[tokio::test]
async fn after_a_login_only_the_new_cookie_gets_in() {
    for framework in FRAMEWORKS {
        let addr = start(framework, Some(layer())).await;
        let mut client = Client::fresh(addr, "/live", None).await;
        client.say("a").await;
        client.hear().await;
        let old = client.cookie.clone().unwrap();
        let (answer, cookies) = ask(addr, "POST /login", &[("cookie", &old)], "").await;
        assert_eq!((answer.status, cookies.len()), (200, 2), "{answer:?}");
        assert_eq!(cookies[0], "a=1", "the application's own stays");
        let new = cookies[1].split(';').next().unwrap();
        let (answer, _) = ask(addr, "GET /", &[("cookie", new)], "").await;
        assert_eq!(answer.text, "reused session, 1 messages", "{framework:?}");
        let (answer, _) = ask(addr, "GET /", &[("cookie", &old)], "").await;
        assert_eq!(answer.text, "new session, 0 messages", "{framework:?}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_told_the_same() {
    let limits = Limits::default().with_message(1000);
    // The session closes for a message a little over the limit, the WebSocket library for one far over it.
    for size in [1001, 1 << 20] {
        for framework in FRAMEWORKS {
            let addr = start(framework, Some(layer().with_limits(limits))).await;
            let mut client = Client::fresh(addr, "/blocking", None).await;
            client.say(&"x".repeat(1000)).await;
            assert_eq!(client.hear().await.len(), 1000, "{framework:?}");
            client.say(&"x".repeat(size)).await;
            assert_eq!(client.closed().await.0, 1009, "{framework:?}, {size} bytes");
        }
    }
}

fn layer() -> SessionResume<Log> {
    SessionResume::new().with_state::<Log>()
}

fn with<'a>(header: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    UPGRADE.into_iter().chain([header]).collect()
}

/// Sends the same request through axum and through warp.
async fn on_both<T: Send + 'static>(
    layer: Option<SessionResume<T>>,
    line: &str,
    headers: &[(&str, &str)],
) -> [Answer; 2] {
    let mut answers = Vec::new();
    for framework in FRAMEWORKS {
        let addr = start(framework, layer.clone()).await;
        answers.push(ask(addr, line, headers, "").await.0);
    }
    answers.try_into().unwrap()
}
