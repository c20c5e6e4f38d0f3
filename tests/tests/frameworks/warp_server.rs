//! How a server of warp ends.

use std::{sync::Arc, time::Duration};

use session_resume::SessionResume;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, oneshot},
};
use tower_layer::Layer as _;
use warp::Filter as _;

use crate::{
    apps::{Log, routes},
    client::Client,
};

#[tokio::test]
async fn a_server_of_warp_that_is_dropped_ends_its_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let resume = SessionResume::new().with_state::<Log>();
    let app = resume.layer(session_resume_warp::service(routes()));
    let server = tokio::spawn(session_resume_warp::serve(listener, app).into_future());
    let mut connection = TcpStream::connect(addr).await.unwrap();
    connection.write_all(b"GET /sessions/1 HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_ne!(connection.read(&mut [0; 1024]).await.unwrap(), 0, "kept alive");
    server.abort();
    assert_eq!(connection.read(&mut [0; 1024]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_graceful_shutdown_of_warp_drains_inside_its_signal() {
    let resume = SessionResume::new().with_state::<Log>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let app = resume.layer(session_resume_warp::service(routes()));
    let server = session_resume_warp::serve(listener, app).with_graceful_shutdown(async move {
        stopped.await.unwrap();
        resume.drain(Duration::from_secs(60)).await;
    });
    let server = tokio::spawn(server.into_future());
    let client = Client::fresh(addr, "/live", None).await;
    stop.send(()).unwrap();
    assert_eq!(client.closed().await, (4112, "restarting".to_owned()));
    // Ends although the socket was open when it was told to.
    server.await.unwrap();
}

#[tokio::test]
async fn a_request_under_way_is_answered_after_the_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (started, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (starts, goes) = (Arc::clone(&started), Arc::clone(&go));
    let route = warp::path::end().then(move || {
        let (started, go) = (Arc::clone(&starts), Arc::clone(&goes));
        async move {
            started.notify_one();
            go.notified().await;
            "answered"
        }
    });
    let (stop, stopped) = oneshot::channel();
    let server = session_resume_warp::serve(listener, session_resume_warp::service(route))
        .with_graceful_shutdown(async move { stopped.await.unwrap() });
    let server = tokio::spawn(server.into_future());
    let mut connection = TcpStream::connect(addr).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    started.notified().await;
    stop.send(()).unwrap();
    // Once the port is closed, the server has seen the signal.
    while TcpStream::connect(addr).await.is_ok() {}
    go.notify_one();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("answered"), "{answer}");
    server.await.unwrap();
}
