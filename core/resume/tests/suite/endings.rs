//! A session always ends in an outcome, and the end ends everything of it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use session_resume::{
    Event, LiveSession, Message, NoMessage, Outcome, OutcomeStatus, SessionResume,
};
use session_resume_testkit::until;
use tokio::sync::mpsc;

use crate::support::{Browser, Watch, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";

/// Runs a handler, sends it `go`, and returns what its session ended in.
async fn outcome_of<F, Fut>(handler: F) -> Outcome
where
    F: FnOnce(LiveSession<u32>) -> Fut + Send + 'static,
    Fut: Future<Output: session_resume::IntoOutcome> + Send + 'static,
{
    let resume = SessionResume::new().with_memory_state(|_| 7_u32);
    let mut browser = Browser::default();
    let mut wire = browser.connect(&resume, Some(CLIENT), handler).await.unwrap();
    let session = resume.sessions()[0].id;
    let session = resume.get(session).unwrap();
    wire.text("go");
    wire.next_control().await;
    let done = loop {
        let control = wire.next_control().await;
        if control["done"].is_object() {
            break control;
        }
    };
    assert_eq!(wire.closed().await.0, 1000);
    let outcome = session.outcome().unwrap();
    let status = serde_json::to_value(outcome.status()).unwrap();
    assert_eq!(done["done"]["status"], status);
    let (code, body) = browser.poll(&resume, &session.id().to_string(), Duration::ZERO).await;
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &body["status"]), (200, &status));
    Outcome::clone(&outcome)
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_returns_is_the_outcome() {
    let done = outcome_of(|mut live| async move {
        live.recv().await;
        Ok(vec![1, 2])
    })
    .await;
    assert_eq!((done.status(), done.result().unwrap().get()), (OutcomeStatus::Done, "[1,2]"));
    let failed = outcome_of(|mut live| async move {
        live.recv().await;
        session_resume::Result::<()>::Err("no luck".into())
    })
    .await;
    assert_eq!((failed.status(), failed.error()), (OutcomeStatus::Failed, Some("no luck")));
}

#[tokio::test(start_paused = true)]
async fn a_panic_anywhere_is_seen() {
    async fn in_handler(mut live: LiveSession<u32>) {
        live.recv().await;
        panic!("in the handler");
    }
    async fn in_task(mut live: LiveSession<u32>) {
        live.recv().await;
        live.spawn("tick", async { panic!("in a task") });
        live.recv().await;
    }
    async fn in_update(mut live: LiveSession<u32>) {
        live.recv().await;
        live.update(|_| panic!("in an update"));
    }
    async fn in_send_with(mut live: LiveSession<u32>) {
        live.recv().await;
        let _ = live.send_with(|_| -> String { panic!("in send_with") }).await;
    }
    async fn nested(mut live: LiveSession<u32>) {
        live.recv().await;
        let handle = live.handle();
        live.update(|_| handle.read(|n| *n));
    }
    fn in_closure(_: LiveSession<u32>) -> std::future::Ready<()> {
        panic!("before the first await")
    }
    for (outcome, error) in [
        (outcome_of(in_handler).await, "in the handler"),
        (outcome_of(in_task).await, "task tick: in a task"),
        (outcome_of(in_update).await, "panic in an update of the state"),
        (outcome_of(in_send_with).await, "panic in an update of the state"),
        (outcome_of(nested).await, "panic in an update of the state"),
        (outcome_of(in_closure).await, "before the first await"),
    ] {
        assert_eq!((outcome.status(), outcome.error()), (OutcomeStatus::Panicked, Some(error)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_update_reaches_an_http_handler_and_ends_the_session_alone() {
    let resume = SessionResume::new().with_memory_state(|_| 0_u32);
    let session = Browser::default().get(&resume).await.unwrap();
    let other = Browser::default().get(&resume).await.unwrap();
    let nested = catch_unwind(AssertUnwindSafe(|| session.update(|_| session.update(|_| ()))));
    let text = nested.unwrap_err();
    let text = text.downcast_ref::<&str>().copied().unwrap_or_default();
    assert!(text.contains("inside another read or update"), "{text}");
    assert_eq!(session.outcome().unwrap().status(), OutcomeStatus::Panicked);
    assert_eq!(session.read(|n| *n), 0, "what is left can be looked at");
    other.update(|n| *n += 1);
    assert!(other.outcome().is_none());
}

#[tokio::test(start_paused = true)]
async fn closing_a_session_cancels_its_handler_and_its_sends() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let (alive, gone) = tokio::sync::oneshot::channel::<()>();
    let mut wire = browser
        .connect(&resume, None, |_live| async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        })
        .await
        .unwrap();
    let session = browser.get(&resume).await.unwrap();
    session.send("last words").await.unwrap();
    session.close("enough");
    assert!(gone.await.is_err());
    assert!(session.send("too late").await.is_err());
    assert_eq!(wire.next_text().await, "last words");
    assert_eq!(wire.closed().await, (1000, "done".to_owned()));
    assert_eq!(session.outcome().unwrap().error(), Some("enough"));
    session.close("again");
    assert_eq!(session.outcome().unwrap().error(), Some("enough"), "the first end counts");
    assert_ne!(browser.get(&resume).await.unwrap().id(), session.id(), "its key is free");
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_wakes_at_the_end() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let id = session.id().to_string();
    let closer = session.clone();
    tokio::spawn(async move {
        sleep(10.0).await;
        closer.close("over");
    });
    let watch = Watch::start();
    let (status, body) = browser.poll(&resume, &id, Duration::from_secs(40)).await;
    assert_eq!((status, watch.seconds()), (200, 10.0));
    assert!(body.contains("\"closed\""), "{body}");
    let mut stranger = Browser::default();
    let watch = Watch::start();
    for id in [id.as_str(), "00000000-0000-4000-8000-000000000000", "no id", ""] {
        let answer = stranger.poll(&resume, id, Duration::from_secs(40)).await;
        assert_eq!(answer, (404, r#"{"error":"no such session"}"#.to_owned()));
    }
    let running = browser.get(&resume).await.unwrap().id().to_string();
    let answer = stranger.poll(&resume, &running, Duration::from_secs(40)).await;
    assert_eq!(
        (answer.0, watch.seconds()),
        (404, 0.0),
        "a stranger learns nothing from time, either"
    );
    let (status, _) = browser.poll(&resume, &running, Duration::from_secs(5)).await;
    assert_eq!((status, watch.seconds()), (202, 5.0));
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_bounded_in_number_and_time_and_so_are_ended_sessions() {
    let limits = session_resume::Limits::default().with_outcomes(3);
    let resume = SessionResume::new()
        .with_limits(limits)
        .with_outcome_lifetime(Duration::from_secs(3600))
        .with_reuse(session_resume::reuse::never());
    let mut browser = Browser::default();
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(browser.get(&resume).await.unwrap().id().to_string());
    }
    assert_eq!(resume.sessions().len(), 4, "one live, three ended");
    let mut statuses = Vec::new();
    for id in &ids {
        statuses.push(browser.poll(&resume, id, Duration::ZERO).await.0);
    }
    assert_eq!(statuses, [404, 404, 404, 404, 404, 404, 200, 200, 200, 202]);
    sleep(3700.0).await;
    assert_eq!(browser.poll(&resume, &ids[8], Duration::ZERO).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn outcomes_whose_time_is_up_are_gone_before_they_have_left_the_table() {
    let resume = SessionResume::new()
        .with_outcome_lifetime(Duration::from_secs(3600))
        .with_reuse(session_resume::reuse::never());
    let mut browser = Browser::default();
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(browser.get(&resume).await.unwrap().id().to_string());
    }
    assert_eq!(browser.poll(&resume, &ids[0], Duration::ZERO).await.0, 200);
    sleep(3700.0).await;
    // The youngest first: only a few of the oldest leave with each look.
    for id in ids[..59].iter().rev() {
        assert_eq!(browser.poll(&resume, id, Duration::ZERO).await.0, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn every_attached_is_followed_by_its_detached() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
    let mut cursor = CLIENT.to_owned();
    for round in 0..3 {
        let told = told.clone();
        // One closure at one place is one handler; the first of them runs.
        let handler = move |mut live: LiveSession| async move {
            while let Some(event) = live.recv_event().await {
                let _ = told.send(match event {
                    Event::Attached { client, resumed, request, .. } => {
                        format!("+{client} {resumed:?} request:{}", request.is_some())
                    }
                    Event::Detached { client, .. } => format!("-{client}"),
                    Event::Message { message, .. } => message.as_text().unwrap().to_owned(),
                    _ => unreachable!(),
                });
            }
        };
        let mut wire = browser.connect(&resume, Some(&cursor), handler).await.unwrap();
        let hello = wire.next_control().await["hello"].clone();
        cursor = crate::blocked::cursor(CLIENT, &hello, 0);
        wire.text(&format!("{round}"));
        settle().await;
        wire.cut();
        settle().await;
    }
    let mut seen = Vec::new();
    while let Ok(event) = tells.try_recv() {
        seen.push(event);
    }
    let mut expected = Vec::new();
    for round in 0..3 {
        let resumed = if round > 0 { "Cursor" } else { "Fresh" };
        expected.push(format!("+{CLIENT} {resumed} request:true"));
        expected.push(format!("{round}"));
        expected.push(format!("-{CLIENT}"));
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_handler_on_a_thread_of_its_own_may_block_spawn_and_panic() {
    let resume = SessionResume::new().with_memory_state(|_| 0_u32);
    let mut browser = Browser::default();
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let attach = upgrade
        .on_session_blocking(|mut session| {
            let (sender, spawned) = std::sync::mpsc::channel();
            assert!(session.spawn("beside", async move { sender.send(()).unwrap() }));
            spawned.recv().unwrap();
            while let Some(message) = session.recv() {
                assert!(message.as_text() != Some("panic"), "on a thread");
                session.update(|n| *n += 1);
                session.send_with(|n| format!("{n}")).unwrap();
            }
        })
        .unwrap();
    let (socket, mut wire) = crate::support::pair();
    tokio::spawn(attach.run(socket));
    wire.next_control().await;
    let session = resume.get(resume.sessions()[0].id).unwrap();
    for n in 1..=3 {
        wire.text("count");
        assert_eq!(next_data(&mut wire).await, format!("{n}"));
    }
    wire.text("panic");
    assert_eq!(wire.closed().await.0, 1000);
    assert_eq!(session.outcome().unwrap().error(), Some("on a thread"));
}

#[tokio::test]
async fn a_thread_looks_for_a_message_without_waiting_for_ever() {
    const AN_HOUR: Duration = Duration::from_secs(3600);
    let resume = SessionResume::new();
    let mut browser = Browser::default();
    let upgrade = browser.upgrade(&resume, None).await.unwrap();
    let (ask, asks) = std::sync::mpsc::channel::<Option<Duration>>();
    let (tell, mut told) = mpsc::unbounded_channel();
    let attach = upgrade
        .on_session_blocking(move |mut session| {
            for wait in asks {
                let received = match wait {
                    None => session.try_recv(),
                    Some(wait) => session.recv_timeout(wait),
                };
                tell.send((received, session.is_message_in_hand())).unwrap();
            }
        })
        .unwrap();
    let (socket, wire) = crate::support::pair();
    tokio::spawn(attach.run(socket));
    let session = resume.get(resume.sessions()[0].id).unwrap();
    let mut look = async |wait| {
        ask.send(wait).unwrap();
        told.recv().await.unwrap()
    };
    let none = (Err(NoMessage::Yet), false);
    assert_eq!(look(None).await, none);
    assert_eq!(look(Some(Duration::ZERO)).await, none);
    for wait in [None, Some(Duration::ZERO), Some(AN_HOUR)] {
        wire.text("here");
        until("in the inbox", async || session.info().inbox_messages == 1).await;
        assert_eq!(look(wait).await, (Ok(Message::from("here")), true), "{wait:?}");
        // Asking says that it is handled.
        assert_eq!(look(Some(Duration::ZERO)).await, none, "{wait:?}");
    }
    // What comes while it waits ends the wait.
    let (came, ()) = tokio::join!(look(Some(AN_HOUR)), async {
        settle().await;
        wire.text("later");
    });
    assert_eq!(came, (Ok(Message::from("later")), true));
    session.close("enough");
    for wait in [None, Some(AN_HOUR)] {
        assert_eq!(look(wait).await, (Err(NoMessage::Over), false), "{wait:?}");
    }
}

async fn next_data(wire: &mut crate::support::Wire) -> String {
    loop {
        let text = wire.next_text().await;
        if !text.starts_with('\u{1}') {
            return text;
        }
    }
}
