//! Plain `POST`s that wait for the handler.

use std::time::Duration;

use http::Response;
use session_resume::{
    LiveSession, SessionResume,
    adapter::{Body, ResumeConnection},
    store::MemoryStore,
};
use tokio::{task::JoinHandle, time::Instant};

use crate::node::{Browser, Node, in_hand, send};

const WAITS: (&str, &str) = ("prefer", "wait=20");
/// A drain that waits at most this long.
const DEADLINE: Duration = Duration::from_secs(5);

fn node(disk: &MemoryStore) -> Node {
    Node::new(disk, |layer| layer.with_plain_http(true))
}

async fn status(post: JoinHandle<Response<Body>>) -> u16 {
    post.await.unwrap().status().as_u16()
}

/// Everything that can happen without waiting has happened.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

async fn post_to<F>(
    layer: &SessionResume,
    browser: &mut Browser,
    handler: impl FnOnce(LiveSession) -> F + Send + 'static,
) -> JoinHandle<Response<Body>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let request = http::Request::post("http://a.example/live")
        .header("content-type", "text/plain")
        .header(WAITS.0, WAITS.1);
    let parts = send(layer, browser, request).await;
    tokio::spawn(async move {
        let connection = ResumeConnection::<()>::prepare(&parts, "go".to_owned()).await.unwrap();
        connection.on_session(handler).await
    })
}

#[tokio::test(start_paused = true)]
async fn it_is_answered_the_moment_the_handler_takes_it() {
    let layer = SessionResume::new().with_plain_http(true);
    let mut browser = Browser::default();
    let begun = Instant::now();
    let post = post_to(&layer, &mut browser, async |mut live| {
        tokio::time::sleep(Duration::from_millis(1234)).await;
        live.recv().await;
        std::future::pending::<()>().await;
    });
    assert_eq!(status(post.await).await, 204);
    assert_eq!(begun.elapsed(), Duration::from_millis(1234));
}

#[tokio::test(start_paused = true)]
async fn it_is_accepted_when_its_wait_is_over() {
    let layer = SessionResume::new().with_plain_http(true);
    let mut browser = Browser::default();
    let begun = Instant::now();
    let post = post_to(&layer, &mut browser, async |_live| std::future::pending().await).await;
    assert_eq!(status(post).await, 202);
    assert_eq!(begun.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_drain_answers_one_that_no_handler_will_take() {
    let layer = SessionResume::new().with_plain_http(true);
    let mut browser = Browser::default();
    let post = post_to(&layer, &mut browser, async |_live| std::future::pending().await).await;
    settle().await;
    let begun = Instant::now();
    layer.drain(DEADLINE).await;
    let answer = post.await.unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_the_commit_of_what_is_in_hand_and_no_longer() {
    for finishes in [true, false] {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = node(&disk);
        let taken = node.post(&mut browser, &[WAITS], "work").await;
        settle().await;
        assert!(in_hand(&node));
        let waits = node.post(&mut browser, &[WAITS], "add 1").await;
        settle().await;
        let begun = Instant::now();
        let (layer, gate) = (node.layer.clone(), node.gate.clone());
        let drain = tokio::spawn(async move { layer.drain(DEADLINE).await });
        assert_eq!(status(waits).await, 503);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!taken.is_finished());
        if finishes {
            gate.notify_one();
        }
        assert_eq!(status(taken).await, if finishes { 204 } else { 503 });
        assert!(begun.elapsed() <= DEADLINE);
        drain.await.unwrap();
        // What was said is so.
        node.kill();
        let node = self::node(&disk);
        let session = node.open(&mut browser).await.unwrap();
        assert_eq!(session.read(|tally| tally.total), if finishes { 100 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_no_handler_takes_is_told_the_end() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = node(&disk);
    let working = node.post(&mut browser, &[WAITS], "work").await;
    settle().await;
    let last = node.post(&mut browser, &[WAITS], "finish well").await;
    let late = node.post(&mut browser, &[WAITS], "add 1").await;
    settle().await;
    let begun = Instant::now();
    node.gate.notify_one();
    assert_eq!(status(late).await, 410);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // The end is durable, and with it the messages that were handled.
    assert_eq!([status(working).await, status(last).await], [204; 2]);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_is_handled_all_the_same() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = node(&disk);
    let post = node.post(&mut browser, &[WAITS], "work").await;
    settle().await;
    post.abort();
    assert!(post.await.unwrap_err().is_cancelled());
    node.gate.notify_one();
    assert_eq!(status(node.post(&mut browser, &[WAITS], "add 1").await).await, 204);
    let session = node.open(&mut browser).await.unwrap();
    assert_eq!(session.read(|tally| tally.total), 101);
}
