//! The layer among common middleware: tower-http's Trace, CatchPanic, Cors, Timeout and Compression,
//! inside and outside of the layer.

use std::{future::pending, time::Duration};

use axum::{
    Router,
    body::Body,
    response::{AppendHeaders, IntoResponse, Response},
    routing::{any, get},
};
use http::{HeaderValue, Request, StatusCode, header};
use session_resume::SessionResume;
use session_resume_axum::{ResumeUpgrade, Session};
use session_resume_testkit::TestServer;
use tower::{ServiceBuilder, ServiceExt as _};
use tower_http::{
    catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer,
    timeout::TimeoutLayer, trace::TraceLayer,
};

const TIMEOUT: Duration = Duration::from_secs(10);
const FRIEND: HeaderValue = HeaderValue::from_static("https://friend.example");

type State = u32;

#[tokio::test(start_paused = true)]
async fn a_response_keeps_the_cookies_of_both() {
    for (order, resume, app) in stacks() {
        let response = app.clone().oneshot(request("/cookies", None)).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip", "{order}");
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], FRIEND, "{order}");
        let cookies = cookies(&response);
        assert_eq!(cookies.len(), 3, "{order}: {cookies:?}");
        assert_eq!(cookies[..2], ["a=1", "b=2"], "{order}");
        let ours = &cookies[2];
        let response = app.clone().oneshot(request("/cookies", Some(ours))).await.unwrap();
        assert_eq!(self::cookies(&response), ["a=1", "b=2"], "{order}: known by now");
        assert_eq!(resume.sessions().len(), 1, "{order}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fails_leaves_the_session_as_it_is() {
    for (order, resume, app) in stacks() {
        let response = app.clone().oneshot(request("/cookies", None)).await.unwrap();
        let cookie = cookies(&response).pop();
        for (path, status) in [
            ("/slow", StatusCode::REQUEST_TIMEOUT),
            ("/panic", StatusCode::INTERNAL_SERVER_ERROR),
            ("/panic-in-update", StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            let response = app.clone().oneshot(request(path, cookie.as_deref())).await.unwrap();
            assert_eq!(response.status(), status, "{order}");
            let live = usize::from(path != "/panic-in-update");
            assert_eq!(live_sessions(&resume), live, "{order}: {path}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_preflight_starts_no_session() {
    for (order, resume, app) in stacks() {
        let mut preflight = request("/cookies", None);
        *preflight.method_mut() = http::Method::OPTIONS;
        preflight
            .headers_mut()
            .insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET"));
        let response = app.oneshot(preflight).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{order}");
        assert!(resume.sessions().is_empty(), "{order}");
    }
}

/// A page whose WebSocket fails again and again first asks by a plain request whether the server is there.
#[tokio::test(start_paused = true)]
async fn a_page_that_knocks_touches_no_session() {
    for (order, resume, app) in stacks() {
        let knock = |method: http::Method, cookie: Option<&str>| {
            let mut knock = request("/live", cookie);
            *knock.method_mut() = method;
            app.clone().oneshot(knock)
        };
        for method in [http::Method::OPTIONS, http::Method::HEAD] {
            let response = knock(method.clone(), None).await.unwrap();
            assert!(!response.status().is_server_error(), "{order}: {method}");
            assert!(cookies(&response).is_empty(), "{order}: {method}");
            assert!(resume.sessions().is_empty(), "{order}: {method}");
        }
        let response = app.clone().oneshot(request("/cookies", None)).await.unwrap();
        let cookie = cookies(&response).pop();
        // Known by now: its session lives as long as one that is used.
        app.clone().oneshot(request("/cookies", cookie.as_deref())).await.unwrap();
        let lifetime = Duration::from_secs(120);
        for _ in 0..6 {
            tokio::time::sleep(lifetime / 6).await;
            for method in [http::Method::OPTIONS, http::Method::HEAD] {
                let response = knock(method.clone(), cookie.as_deref()).await.unwrap();
                assert!(cookies(&response).is_empty(), "{order}: {method}");
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(resume.sessions().is_empty(), "{order}: a knock does not keep it");
    }
}

/// Browsers hide why they got no WebSocket. With this method they name their page's origin, so the page may ask.
#[tokio::test(start_paused = true)]
async fn a_foreign_page_is_told_so_if_it_asks() {
    let app = Router::new().route(
        "/live",
        any(async |upgrade: ResumeUpgrade<State>| {
            upgrade.on_session(async |mut session| while session.recv().await.is_some() {})
        }),
    );
    let app = app.layer(SessionResume::new().with_state::<State>());
    for (origin, status) in
        [("https://host.example", 405), ("https://foreign.example", 403), ("null", 403)]
    {
        let ask = Request::options("/live").header(header::HOST, "host.example");
        let ask = ask.header(header::ORIGIN, origin).body(Body::empty()).unwrap();
        let answer = app.clone().oneshot(ask).await.unwrap();
        assert_eq!(answer.status(), status, "{origin}");
        assert!(cookies(&answer).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_websocket_outlives_the_timeout_of_requests() {
    for (order, _resume, app) in stacks() {
        let browser = TestServer::new(move || app.clone()).browser();
        let gzip =
            |request: http::request::Builder| request.header(header::ACCEPT_ENCODING, "gzip");
        let mut socket = browser.plain_with("/live", gzip).await.unwrap();
        assert!(socket.headers().contains_key(header::SET_COOKIE), "{order}");
        assert!(!socket.headers().contains_key(header::CONTENT_ENCODING), "{order}");
        for text in ["before", "after"] {
            socket.send(text).await;
            assert_eq!(socket.recv().await, text, "{order}");
            tokio::time::advance(TIMEOUT + Duration::from_secs(1)).await;
        }
    }
}

/// The layer innermost, and outermost.
fn stacks() -> [(&'static str, SessionResume<State>, Router); 2] {
    let cors = || CorsLayer::new().allow_origin(FRIEND).allow_credentials(true);
    let timeout = || TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TIMEOUT);
    let resume = [(); 2].map(|()| SessionResume::new().with_state::<State>());
    let inner = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::new())
        .layer(cors())
        .layer(timeout())
        .layer(CompressionLayer::new())
        .layer(resume[0].clone());
    let outer = ServiceBuilder::new()
        .layer(resume[1].clone())
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::new())
        .layer(cors())
        .layer(timeout())
        .layer(CompressionLayer::new());
    let apps = [routes().layer(inner), routes().layer(outer)];
    let [first, last] = resume;
    let [innermost, outermost] = apps;
    [("innermost", first, innermost), ("outermost", last, outermost)]
}

fn routes() -> Router {
    async fn cookies(_: Session<State>) -> impl IntoResponse {
        let own = AppendHeaders([("set-cookie", "a=1"), ("set-cookie", "b=2")]);
        (own, "long enough to be worth the work. ".repeat(100))
    }
    async fn slow(_: Session<State>) {
        pending::<()>().await;
    }
    async fn panic(_: Session<State>) {
        panic!("told to panic");
    }
    async fn panic_in_update(session: Session<State>) {
        session.update(|_| panic!("told to panic"));
    }
    async fn live(upgrade: ResumeUpgrade<State>) -> Response {
        upgrade.on_session(|mut session| async move {
            while let Some(message) = session.recv().await {
                session.send(message).await?;
            }
            Ok(())
        })
    }
    Router::new()
        .route("/cookies", get(cookies))
        .route("/slow", get(slow))
        .route("/panic", get(panic))
        .route("/panic-in-update", get(panic_in_update))
        .route("/live", any(live))
}

fn request(path: &str, cookie: Option<&str>) -> Request<Body> {
    let request =
        Request::get(path).header(header::ORIGIN, FRIEND).header(header::ACCEPT_ENCODING, "gzip");
    let request = match cookie {
        Some(cookie) => request.header(header::COOKIE, cookie),
        None => request,
    };
    request.body(Body::empty()).unwrap()
}

/// The cookies that a response sets, without their attributes.
fn cookies(response: &Response) -> Vec<String> {
    let values = response.headers().get_all(header::SET_COOKIE).iter();
    values.map(|value| value.to_str().unwrap().split(';').next().unwrap().to_owned()).collect()
}

fn live_sessions(resume: &SessionResume<State>) -> usize {
    let sessions = resume.sessions();
    sessions
        .iter()
        .filter(|session| session.phase != session_resume::reuse::Phase::Completed)
        .count()
}
