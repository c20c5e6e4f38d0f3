//! A transport that is not a WebSocket, made of the public API alone: events go down, posts come up.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use http::{Request, header};
use session_resume::{
    SessionResume,
    adapter::{Offer, Refusal, Upgrade},
    key,
    transport::{Frame, TransportError, TransportErrorKind},
};
use tokio::sync::mpsc;

use crate::{
    blocked::cursor,
    support::{Browser, echo, idle},
};

const CLIENT: &str = "client-aaaaaaaaaa";
const OFFER: &str = "x-offer";

/// The server's end: one stream of events, and what the posts have brought.
struct Events {
    down: mpsc::UnboundedSender<Frame>,
    up: mpsc::UnboundedReceiver<Frame>,
}

impl Stream for Events {
    type Item = Result<Frame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.up.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

impl Sink<Frame> for Events {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, frame: Frame) -> Result<(), Self::Error> {
        self.down.send(frame).map_err(|gone| TransportError::new(TransportErrorKind::Broken, gone))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}

/// The client's end.
struct Page {
    events: mpsc::UnboundedReceiver<Frame>,
    posts: mpsc::UnboundedSender<Frame>,
}

fn pair() -> (Events, Page) {
    let ((down, events), (posts, up)) = (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    (Events { down, up }, Page { events, posts })
}

impl Page {
    /// The next text frame, after those for which this is `None`.
    async fn next<R>(&mut self, wanted: impl Fn(&str) -> Option<R>) -> R {
        loop {
            match self.events.recv().await.expect("the stream goes on") {
                Frame::Text(text) => {
                    if let Some(wanted) = wanted(&text) {
                        return wanted;
                    }
                }
                Frame::Ping(payload) => self.post(Frame::Pong(payload)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next message: control frames are passed over.
    async fn next_text(&mut self) -> String {
        self.next(|text| (!text.starts_with('\u{1}')).then(|| text.to_owned())).await
    }

    async fn hello(&mut self) -> serde_json::Value {
        let control: serde_json::Value = self
            .next(|text| Some(serde_json::from_str(text.strip_prefix('\u{1}')?).unwrap()))
            .await;
        control["hello"].clone()
    }

    fn post(&self, frame: Frame) {
        self.posts.send(frame).unwrap();
    }
}

/// What an adapter for this transport does: the offer is in a header of its own.
async fn prepare(
    resume: &SessionResume,
    browser: &mut Browser,
    path: &str,
    offer: &str,
    origin: &str,
) -> Result<Upgrade, Refusal> {
    let request = Request::post(path)
        .header(header::HOST, "app.example")
        .header(header::ORIGIN, origin)
        .header(OFFER, offer);
    let parts = browser.enter(resume, request).await;
    let offer = parts.headers[OFFER].to_str().unwrap().split(',').map(str::trim);
    let offer = Offer::parse(offer)
        .map_err(|malformed| Refusal::new(http::StatusCode::BAD_REQUEST, malformed.to_string()))?;
    Upgrade::prepare_with(&parts, offer).await
}

async fn open(resume: &SessionResume, browser: &mut Browser, path: &str, at: &str) -> Page {
    let offer = format!("session-resume.v1, at.{at}");
    let upgrade = prepare(resume, browser, path, &offer, "http://app.example").await.unwrap();
    let (events, page) = pair();
    tokio::spawn(upgrade.on_session(echo).unwrap().run(events));
    page
}

#[tokio::test(start_paused = true)]
async fn a_session_goes_on_over_any_transport() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut page = open(&resume, &mut browser, "/live", CLIENT).await;
    let told = page.hello().await;
    assert_eq!(told["status"], "new");
    page.post(Frame::Text("one".into()));
    assert_eq!(page.next_text().await, "one");
    drop(page);
    let session = browser.get(&resume).await.unwrap();
    session.send("missed").await.unwrap();
    // The next transport, of the same kind or a WebSocket.
    let mut page = open(&resume, &mut browser, "/live", &cursor(CLIENT, &told, 1)).await;
    let again = page.hello().await;
    assert_eq!((&again["status"], &again["session"]), (&"resumed".into(), &told["session"]));
    assert_eq!(page.next_text().await, "missed");
    drop(page);
    let mut wire = browser.connect(&resume, Some(&cursor(CLIENT, &told, 1)), echo).await.unwrap();
    assert_eq!(wire.next_control().await["hello"]["status"], "resumed");
    assert_eq!(wire.next_control().await["ack"], 1);
    assert_eq!(wire.next_text().await, "missed");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_of_a_websocket_is_asked_of_each_transport() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let offer = format!("session-resume.v1, at.{CLIENT}");
    let foreign = prepare(&resume, &mut browser, "/live", &offer, "http://evil.example").await;
    assert_eq!(foreign.unwrap_err().status(), 403);
    let malformed =
        prepare(&resume, &mut browser, "/live", "session-resume.v1", "http://app.example").await;
    assert_eq!(malformed.unwrap_err().status(), 400);
    assert!(resume.sessions().is_empty());

    let own = "http://app.example";
    let upgrade = prepare(&resume, &mut browser, "/live", &offer, own).await.unwrap();
    let (events, mut page) = pair();
    tokio::spawn(upgrade.refuse("not today").unwrap().run(events));
    let Some(Frame::Close(Some((code, reason)))) = page.events.recv().await else { panic!() };
    assert_eq!((code, &*reason), (4101, "not today"));

    let mut page = open(&resume, &mut browser, "/live", CLIENT).await;
    page.hello().await;
    let elsewhere = prepare(&resume, &mut browser, "/other", &offer, own).await.unwrap();
    let (events, mut other) = pair();
    tokio::spawn(elsewhere.on_session(echo).unwrap().run(events));
    let Some(Frame::Close(Some((code, reason)))) = other.events.recv().await else { panic!() };
    assert!(code == 4101 && reason.starts_with("another path"), "{reason}");
}

/// The session is there before its first upgrade, and two upgrades are under way for two handlers.
#[tokio::test(start_paused = true)]
async fn the_upgrade_that_comes_first_keeps_its_session_for_its_handler() {
    let resume = SessionResume::new().with_key(key::by_identity());
    let mut browser = Browser::default();
    browser.get(&resume).await.unwrap();
    let first = browser.upgrade(&resume, None).await.unwrap().on_session(echo).unwrap();
    let second = browser.upgrade(&resume, None).await.unwrap();
    assert_eq!(second.on_session(idle).unwrap_err().status(), 409);
    let third = browser.upgrade_at(&resume, "/other", None).await.unwrap();
    assert_eq!(third.on_session(echo).unwrap_err().status(), 409);
    // It has failed: the session is open to others again.
    drop(first);
    let fourth = browser.upgrade_at(&resume, "/other", None).await.unwrap();
    drop(fourth.on_session(idle).unwrap());
}
