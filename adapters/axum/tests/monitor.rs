//! The monitor, mounted in a router, beside clients on sockets.

#![cfg(feature = "monitor")]

use std::time::Duration;

use axum::{Router, body::Body, response::Response, routing::any};
use http::{Method, Request, StatusCode, header};
use serde_json::Value;
use session_resume::{OutcomeStatus, SessionResume};
use session_resume_axum::ResumeUpgrade;
use session_resume_testkit::TestServer;
use tower::ServiceExt as _;

async fn live(upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(async |mut session| while session.recv().await.is_some() {})
}

fn app(resume: &SessionResume) -> Router {
    let monitor = session_resume_axum::monitor(resume)
        .with_guard(|request| request.headers.contains_key("x-operator"));
    Router::new().route("/live", any(live)).nest("/monitor", monitor).layer(resume.clone())
}

async fn ask(app: &Router, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "host.example");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

const OPERATOR: (&str, &str) = ("x-operator", "yes");

async fn get(app: &Router, path: &str) -> Value {
    let response = ask(app, Method::GET, path, &[OPERATOR]).await;
    assert_eq!(response.status(), StatusCode::OK, "{path}");
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&body).expect("JSON")
}

#[tokio::test(start_paused = true)]
async fn an_operator_sees_a_session_with_its_clients_and_ends_it() {
    let resume = SessionResume::new();
    let app = app(&resume);
    let routes = app.clone();
    let server = TestServer::new(move || routes.clone());
    let mut page = server.browser().open("/live").await;
    // Until a heartbeat has brought a ping.
    tokio::time::sleep(Duration::from_secs(60)).await;

    let overview = get(&app, "/monitor/overview").await;
    assert_eq!((&overview["sessions"]["running"], &overview["ready"]), (&1.into(), &true.into()));
    let minutes = overview["minutes"].as_array().unwrap();
    assert_eq!(minutes.iter().map(|minute| minute["new"].as_u64().unwrap()).sum::<u64>(), 1);

    let list = get(&app, "/monitor/sessions?phase=running").await;
    assert_eq!(list["sessions"][0]["id"], page.session());
    let path = format!("/monitor/sessions/{}", page.session());
    let one = get(&app, &path).await;
    let client = &one["clients"][0];
    assert_eq!((&client["transport"], &client["transports"]), (&"websocket".into(), &1.into()));
    assert!(client["attached_ms"].as_u64().unwrap() >= 60_000, "{client}");
    assert!(client["round_trip_ms"].is_number(), "{client}");

    let end = format!("{path}/end?reason=enough");
    let stranger = ask(&app, Method::POST, &end, &[]).await;
    assert_eq!(stranger.status(), StatusCode::NOT_FOUND);
    let foreign =
        ask(&app, Method::POST, &end, &[OPERATOR, ("origin", "https://evil.example")]).await;
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert_eq!(get(&app, &path).await["phase"], "running");
    let own = ask(&app, Method::POST, &end, &[OPERATOR, ("origin", "https://host.example")]).await;
    assert_eq!(own.status(), StatusCode::OK);
    assert_eq!(page.done().await, OutcomeStatus::Closed);
    assert_eq!(get(&app, "/monitor/overview").await["ends"][0]["reason"], "enough");
}

#[tokio::test(start_paused = true)]
async fn it_answers_below_its_path_alone() {
    let app = app(&SessionResume::new());
    for (path, status) in [
        ("/overview", 404),
        ("/sessions", 404),
        ("/monitor/overview", 200),
        ("/monitor/sessions/", 200),
        ("/monitor/nothing", 404),
    ] {
        assert_eq!(ask(&app, Method::GET, path, &[OPERATOR]).await.status(), status, "{path}");
    }
}

async fn body(response: Response) -> String {
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Behind another router, too: the browser knows the whole path alone.
#[tokio::test(start_paused = true)]
async fn the_page_finds_its_script_with_and_without_a_slash_at_its_end() {
    let resume = SessionResume::new();
    let monitor = || {
        session_resume_axum::monitor(&resume)
            .with_guard(|request| request.headers.contains_key("x-operator"))
    };
    let nested = Router::new().nest("/ops", app(&resume).nest_service("/seen", monitor()));
    let served = Router::new().nest_service("/monitor", monitor());
    for (app, path, script) in [
        (&nested, "/ops/monitor", "\"./monitor/monitor.js\""),
        (&nested, "/ops/seen", "\"./seen/monitor.js\""),
        (&nested, "/ops/seen/", "\"monitor.js\""),
        (&served, "/monitor", "\"./monitor/monitor.js\""),
        (&served, "/monitor/", "\"monitor.js\""),
    ] {
        let page = ask(app, Method::GET, path, &[OPERATOR]).await;
        assert_eq!(page.status(), StatusCode::OK, "{path}");
        let page = body(page).await;
        assert!(page.contains(script), "{path}: {page}");
        assert_eq!(ask(app, Method::GET, path, &[]).await.status(), StatusCode::NOT_FOUND);
    }
    for (app, script) in [(&nested, "/ops/monitor/monitor.js"), (&served, "/monitor/monitor.js")] {
        let script = ask(app, Method::GET, script, &[OPERATOR]).await;
        assert_eq!(script.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    }
}
