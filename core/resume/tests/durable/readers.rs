//! Plain readers of events, and a store that does not answer them.

use bytes::Bytes;
use http::{Request, Response};
use session_resume::{
    LiveSession,
    adapter::{Body, ResumeConnection},
    store::{ErrorKind, MemoryStore},
};

use crate::{
    node::{Browser, Node, Tally, send},
    store::Fault,
};

async fn handler(mut session: LiveSession<Tally>) {
    while session.recv().await.is_some() {}
}

/// What an `EventSource` gets that comes back from here.
async fn comes_back(node: &Node, browser: &mut Browser) -> Response<Body> {
    let request = Request::get("http://a.example/live")
        .header("accept", "text/event-stream")
        .header("last-event-id", "0123456789abcdef-1.3.1");
    let parts = send(&node.layer, browser, request).await;
    match ResumeConnection::<Tally>::prepare(&parts, String::new()).await {
        Ok(connection) => connection.on_session(handler).await,
        Err(refusal) => refusal.into_body_response(),
    }
}

/// An `EventSource` gives up for good on any other status than 200.
#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_does_not_end_a_reader() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::new(&disk, |layer| layer.with_plain_http(true));
    node.open(&mut browser).await.unwrap().saved().await.unwrap();
    node.kill();
    let node = Node::new(&disk, |layer| layer.with_plain_http(true));
    node.store.set(Fault::FailToLoad(ErrorKind::Unavailable));
    let response = comes_back(&node, &mut browser).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.into_body().into_whole().unwrap(), Bytes::from("retry: 1000\n\n"));
    // What cannot be read does not get better by asking again.
    node.store.set(Fault::FailToLoad(ErrorKind::Corrupt));
    assert_eq!(comes_back(&node, &mut browser).await.status(), 500);
    node.store.set(Fault::None);
    let response = comes_back(&node, &mut browser).await;
    assert_eq!(response.status(), 200);
    assert!(response.into_body().into_whole().is_err(), "it reads");
}
