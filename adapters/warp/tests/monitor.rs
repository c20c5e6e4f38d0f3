//! The monitor among warp's filters.

#![cfg(feature = "monitor")]

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use session_resume::{Session, SessionResume};
use session_resume_warp::{service, session};
use tower::{Layer as _, ServiceExt as _};
use warp::Filter;

async fn ask(
    resume: &SessionResume,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (StatusCode, String) {
    let monitor = session_resume_warp::monitor(resume)
        .with_guard(|request| request.headers.contains_key("x-operator"));
    let routes = warp::path!("open")
        .and(session::<()>())
        .map(|session: Session| session.id().to_string())
        .or(warp::path("monitor").and(monitor));
    let request = Request::builder().method(method).uri(path).header(header::HOST, "host.example");
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = resume.layer(service(routes)).oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn an_operator_sees_a_session_and_ends_it() {
    const OPERATOR: (&str, &str) = ("x-operator", "yes");
    let resume = SessionResume::new();
    let (_, id) = ask(&resume, Method::GET, "/open", &[]).await;
    let path = format!("/monitor/sessions/{id}");
    assert_eq!(ask(&resume, Method::GET, &path, &[]).await.0, StatusCode::NOT_FOUND);
    let (status, one) = ask(&resume, Method::GET, &path, &[OPERATOR]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(one.contains(&id) && one.contains("\"suspended\""), "{one}");
    let (_, list) = ask(&resume, Method::GET, "/monitor/sessions?limit=5", &[OPERATOR]).await;
    assert!(list.contains(&id), "{list}");

    let end = format!("{path}/end?reason=enough");
    let foreign = [OPERATOR, ("origin", "https://evil.example")];
    assert_eq!(ask(&resume, Method::POST, &end, &foreign).await.0, StatusCode::FORBIDDEN);
    assert_eq!(ask(&resume, Method::GET, &end, &[OPERATOR]).await.0, 405);
    let session = resume.sessions()[0].id;
    assert!(resume.get(session).unwrap().outcome().is_none());
    assert_eq!(ask(&resume, Method::POST, &end, &[OPERATOR]).await.0, StatusCode::OK);
    let outcome = resume.get(session).unwrap().outcome().unwrap();
    assert_eq!(outcome.error(), Some("enough"));
    assert_eq!(ask(&resume, Method::GET, "/overview", &[OPERATOR]).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_page_finds_its_script_with_and_without_a_slash_at_its_end() {
    const OPERATOR: (&str, &str) = ("x-operator", "yes");
    let resume = SessionResume::new();
    for (path, script) in
        [("/monitor", "\"./monitor/monitor.js\""), ("/monitor/", "\"monitor.js\"")]
    {
        let (status, page) = ask(&resume, Method::GET, path, &[OPERATOR]).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(page.contains(script), "{path}: {page}");
        assert_eq!(ask(&resume, Method::GET, path, &[]).await.0, StatusCode::NOT_FOUND);
    }
    let (status, _) = ask(&resume, Method::GET, "/monitor/monitor.js", &[OPERATOR]).await;
    assert_eq!(status, StatusCode::OK);
}
