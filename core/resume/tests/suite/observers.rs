//! Readers that are no clients.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FusedStream as _};
use session_resume::{
    Event, Limits, LiveSession, PostError, Retain, Session, SessionResume,
    observe::{From, Observe, ObserveError, Observed},
};

use crate::support::{Browser, idle, settle, sleep, waits};

const CLIENT: &str = "client-aaaaaaaaaa";

/// The next message.
async fn text(observer: &mut Observe) -> String {
    match observer.next().await {
        Some(Observed::Message { message, .. }) => message.as_text().unwrap().to_owned(),
        other => panic!("{other:?}"),
    }
}

async fn told(observer: &mut Observe) -> String {
    format!("{:?}", observer.next().await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn an_observer_reads_along_and_is_no_client() {
    let events = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let tell = async move |mut live: LiveSession| {
        while let Some(event) = live.recv_event().await {
            let is_message = matches!(event, Event::Message { .. });
            seen.lock().unwrap().push(format!("{event:?}"));
            if is_message {
                return;
            }
        }
    };
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), tell).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    let mut observer = session.observe(From::Now).unwrap();
    assert_eq!(session.info().observers, 1);
    let mut next = Box::pin(observer.next());
    waits(next.as_mut()).await;
    session.send("one").await.unwrap();
    assert!(next.now_or_never().is_some(), "it is woken");
    session.send_checkpoint("view").await.unwrap();
    assert_eq!(told(&mut observer).await, "Checkpoint { position: Some(1) }");
    assert_eq!(text(&mut observer).await, "view");
    session.clear_checkpoint();
    assert_eq!(told(&mut observer).await, "Checkpoint { position: None }");
    assert_eq!(observer.cursor().position(), 2);
    assert_eq!(session.clients().len(), 1);
    wire.text("end");
    assert_eq!(observer.next().await, Some(Observed::Ended));
    assert!(observer.is_terminated());
    assert_eq!((observer.next().await, session.info().observers), (None, 0));
    assert_eq!(events.lock().unwrap().len(), 2, "{events:?}");
    // What has ended can be read while it is there.
    let mut late = session.observe(From::Kept).unwrap();
    while let Some(Observed::Message { .. }) = late.next().await {}
    assert!(late.is_terminated());
}

#[tokio::test(start_paused = true)]
async fn no_send_waits_for_an_observer() {
    let limits = Limits::default().with_outbox_messages(2).with_observers(64);
    for retain in [Retain::nothing(), Retain::last(5)] {
        let resume = SessionResume::new().with_limits(limits).with_retention(retain);
        let mut browser = Browser::default();
        let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
        wire.next_control().await;
        let session = browser.get(&resume).await.unwrap();
        let mut stalled: Vec<_> = (0..64).map(|_| session.observe(From::Now).unwrap()).collect();
        assert_eq!(session.observe(From::Now).unwrap_err(), ObserveError::TooMany);
        for observer in &mut stalled {
            waits(pin!(observer.next())).await;
        }
        for n in 0..100 {
            session.try_send(format!("{n}")).unwrap();
            assert_eq!(wire.next_text().await, format!("{n}"));
            wire.control(&format!(r#"{{"ack":{}}}"#, n + 1));
            settle().await;
        }
        let to = if retain == Retain::nothing() { 100 } else { 95 };
        for observer in &mut stalled {
            let gap = format!("Gap {{ from: Some(0), to: {to} }}");
            assert_eq!(told(observer).await, gap);
        }
        drop(stalled);
        assert_eq!(session.info().observers, 0);
        session.observe(From::Now).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_keeps_no_session_alive() {
    let lifetime = Duration::from_secs(60);
    let resume = SessionResume::new().with_unused_lifetime(lifetime);
    let mut browser = Browser::default();
    let session: Session = browser.get(&resume).await.unwrap();
    session.send("one").await.unwrap();
    let mut observer = session.observe(From::Kept).unwrap();
    drop(session);
    sleep(30.0).await;
    assert_eq!(text(&mut observer).await, "one");
    assert_eq!(observer.next().now_or_never(), None);
    sleep(40.0).await;
    assert_eq!(observer.next().now_or_never(), Some(Some(Observed::Ended)));
    assert!(resume.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_observers() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session: Session = browser.get(&resume).await.unwrap();
    session.send("one").await.unwrap();
    let mut observer = session.observe(From::Kept).unwrap();
    assert_eq!(text(&mut observer).await, "one");
    let ends = tokio::spawn(async move { observer.next().await });
    settle().await;
    resume.drain(Duration::from_secs(5)).await;
    assert_eq!(ends.await.unwrap(), None);
    assert_eq!(session.observe(From::Kept).unwrap_err(), ObserveError::NotHere);
}

#[tokio::test(start_paused = true)]
async fn what_is_posted_comes_in_its_turn_within_the_limits_of_the_inbox() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<()>();
    let limits = Limits::default().with_inbox_messages(2).with_message(10).with_observers(1);
    let resume = SessionResume::new().with_limits(limits);
    let mut browser = Browser::default();
    let echo = async move |mut live: LiveSession| {
        while told.recv().await.is_some() {
            let Some(message) = live.recv().await else { return };
            live.send(message).await.unwrap();
        }
    };
    let mut wire = browser.connect(&resume, Some(CLIENT), echo).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    let me = session.identity();
    assert_eq!(session.post(me, "more than 10"), Err(PostError::TooLarge));
    session.post(me, "one").unwrap();
    let mut two = session.post_and_observe(me, "two").unwrap();
    assert_eq!(session.post(me, "three"), Err(PostError::Full));
    assert_eq!(
        session.post_and_observe(me, "three").unwrap_err(),
        PostError::TooManyObservers,
        "and it is not in the inbox"
    );
    tell.send(()).unwrap();
    tell.send(()).unwrap();
    assert_eq!(text(&mut two).await, "two", "not the answer to the one before");
    drop(two);
    // One that has no room observes nothing either.
    session.post(me, "three").unwrap();
    session.post(me, "four").unwrap();
    assert_eq!(session.post_and_observe(me, "five").unwrap_err(), PostError::Full);
    assert_eq!(session.info().observers, 0);
    let mut never = session.observe(From::Now).unwrap();
    drop(tell);
    assert_eq!(never.next().await, Some(Observed::Ended));
    assert_eq!(session.post(me, "late"), Err(PostError::Ended));
}
