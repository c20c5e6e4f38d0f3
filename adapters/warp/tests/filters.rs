//! The filters among warp's own, without a server.

use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use session_resume::{Identity, Limits, Session, SessionResume};
use session_resume_warp::{ResumeRejection, optional_session, resume, service, session};
use tower::{Layer as _, ServiceExt as _};
use warp::{Filter, Rejection, Reply, reply::Response};

type Body = Empty<bytes::Bytes>;

#[tokio::test]
async fn a_session_is_started_by_the_filter_that_asks_for_one() {
    let layer = SessionResume::new();
    let routes = warp::path!("identity")
        .and(session_resume_warp::identity())
        .map(|identity: Identity| identity.to_string())
        .or(warp::path!("peek")
            .and(optional_session::<()>())
            .map(|session: Option<Session>| format!("{}", session.is_some())))
        .or(warp::path!("open")
            .and(session::<()>())
            .map(|session: Session| session.identity().to_string()));
    let app = layer.layer(service(routes));
    let (cookie, identity) = {
        let response = app.clone().oneshot(get("/identity", None)).await.unwrap();
        (cookie(&response), text(response).await)
    };
    let ask = async |path| text(app.clone().oneshot(get(path, Some(&cookie))).await.unwrap()).await;
    assert_eq!(ask("/identity").await, identity);
    assert_eq!(ask("/peek").await, "false");
    assert!(layer.sessions().is_empty());
    assert_eq!(ask("/open").await, identity);
    assert_eq!(ask("/peek").await, "true");
    assert_eq!(layer.sessions().len(), 1);
}

#[tokio::test]
async fn other_filters_may_take_what_got_no_session() {
    let layer = SessionResume::new().with_limits(Limits::default().with_max_sessions(0));
    let routes = warp::path!("page")
        .and(session::<()>())
        .map(|_: Session| "with a session")
        .or(warp::path!("page").map(|| "without one"));
    let response = layer.layer(service(routes)).oneshot(get("/page", None)).await.unwrap();
    assert_eq!(text(response).await, "without one");
}

#[tokio::test]
async fn a_recover_of_the_application_sees_the_rejection() {
    async fn recover(rejection: Rejection) -> Result<Response, Rejection> {
        let ours = rejection.find::<ResumeRejection>().cloned().ok_or(rejection)?;
        Ok(warp::reply::with_header(ours, "x-seen", "yes").into_response())
    }
    let layer = SessionResume::new().with_limits(Limits::default().with_max_sessions(0));
    let routes = session::<()>().map(|_: Session| "with a session").recover(recover);
    let response = layer.layer(service(routes)).oneshot(get("/", None)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["x-seen"], "yes");
    assert!(response.headers().contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn a_plain_warp_service_is_told_what_to_use() {
    let routes = session::<()>().map(|_: Session| "with a session");
    let app = SessionResume::new().layer(warp::service(routes));
    let response = app.oneshot(get("/", None)).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(text(response).await.contains("session_resume_warp::service(routes)"));
}

#[tokio::test]
async fn a_server_without_upgrades_is_told_so() {
    let routes = resume::<()>()
        .map(|upgrade: session_resume_warp::ResumeUpgrade| upgrade.on_session(|_session| async {}));
    let app = SessionResume::new().layer(service(routes));
    let mut request = get("/", None);
    for (name, value) in [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = app.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
}

#[test]
fn what_tower_wants_is_there() {
    fn assert_bounds<T: Clone + Send + Sync + 'static>(_: &T) {}
    fn assert_send<T: Send + std::fmt::Debug>() {}
    let app = service(session::<()>().map(|_: Session| ""));
    assert_bounds(&app);
    assert_bounds(&SessionResume::new().layer(app));
    assert_send::<session_resume_warp::ResumeUpgrade>();
    assert_send::<ResumeRejection>();
}

fn get(path: &str, cookie: Option<&str>) -> Request<Body> {
    let request = cookie
        .iter()
        .fold(Request::get(path), |request, cookie| request.header(header::COOKIE, *cookie));
    request.body(Body::new()).unwrap()
}

fn cookie(response: &Response) -> String {
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}
