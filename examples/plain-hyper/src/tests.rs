use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, StatusCode, header};
use session_resume::{SessionResume, adapter::serve};
use tokio::net::TcpListener;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tower::{ServiceBuilder, ServiceExt as _};

use crate::{Counter, route};

#[tokio::test]
async fn the_handler_goes_on_when_the_socket_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/live", listener.local_addr().unwrap());
    let resume = SessionResume::new().with_state::<Counter>();
    let app = ServiceBuilder::new().layer(resume.clone()).service_fn(route);
    tokio::spawn(serve(listener, app).into_future());
    let mut cookie = None;
    for clicks in ["1", "2", "3"] {
        let mut request = url.as_str().into_client_request().unwrap();
        if let Some(cookie) = &cookie {
            request.headers_mut().insert(header::COOKIE, HeaderValue::clone(cookie));
        }
        let (mut socket, response) = connect_async(request).await.unwrap();
        cookie = cookie.or_else(|| response.headers().get(header::SET_COOKIE).cloned());
        socket.send(Message::text("click")).await.unwrap();
        // A plain client may see again what it had when it left.
        loop {
            if let Message::Text(text) = socket.next().await.unwrap().unwrap()
                && text == clicks
            {
                break;
            }
        }
    }
    assert_eq!(resume.sessions().len(), 1);
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
