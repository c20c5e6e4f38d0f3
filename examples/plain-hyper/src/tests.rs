use http::{Request, StatusCode};
use session_resume::SessionResume;
use session_resume_testkit::TestServer;
use tower::{ServiceBuilder, ServiceExt as _};

use crate::{Counter, route};

#[tokio::test(start_paused = true)]
async fn the_handler_goes_on_when_the_socket_does_not() {
    let resume = SessionResume::new().with_state::<Counter>();
    let layer = resume.clone();
    let app = move || ServiceBuilder::new().layer(layer.clone()).service_fn(route);
    let browser = TestServer::new(app).browser();
    for clicks in ["1", "2", "3"] {
        let mut socket = browser.plain("/live").await;
        socket.send("click").await;
        // A plain client may see again what it had when it left.
        while socket.recv().await != clicks {}
        socket.cut().await;
    }
    assert_eq!(resume.sessions().len(), 1);
    assert_eq!(browser.get("/").await.text(), "3 clicks so far");
}

#[tokio::test]
async fn refusals_are_responses() {
    let layered = ServiceBuilder::new()
        .layer(SessionResume::new().with_state::<Counter>())
        .service_fn(route::<()>);
    let bare = ServiceBuilder::new().service_fn(route::<()>);
    let get = |path| Request::get(path).body(()).unwrap();
    for (path, status) in [("/", 200), ("/live", 400), ("/nowhere", 404)] {
        let response = layered.clone().oneshot(get(path)).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}: {}", response.body());
    }
    let response = bare.oneshot(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(response.body().contains("add .layer(SessionResume::new())"), "{}", response.body());
}
