//! A drain stops sessions at a boundary, and only then tells their clients.

use std::time::Duration;

use session_resume::{Session, SessionResume, transport::Frame};

use crate::support::{Browser, Watch, busy, idle, pair, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";
const DEADLINE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn clients_are_told_when_to_come_back_and_closed_with_1012() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut named = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    named.next_control().await;
    let mut plain = Browser::default().connect(&resume, None, idle).await.unwrap();
    settle().await;
    let report = resume.drain(DEADLINE).await;
    assert_eq!((report.drained, report.cut.len()), (2, 0));
    let retry = named.next_control().await["retry"].as_u64().unwrap();
    assert!((500..=1000).contains(&retry), "{retry}");
    assert_eq!(named.closed().await, (4112, "restarting".to_owned()));
    assert_eq!(plain.next().await, Some(Frame::Close(Some((1012, "restarting".into())))));
    assert_eq!(resume.drain(DEADLINE).await.drained, 2, "the same report");
}

#[tokio::test(start_paused = true)]
async fn nothing_new_begins_during_a_drain() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let under_way = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let under_way = under_way.on_session(idle).unwrap();
    resume.drain(DEADLINE).await;
    let refusal = browser.get(&resume).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(1)));
    let mut late = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert!(late.next_control().await["retry"].is_u64());
    assert_eq!(late.closed().await.0, 4112);
    let (socket, mut wire) = pair();
    tokio::spawn(under_way.run(socket));
    assert!(wire.next_control().await["retry"].is_u64(), "it was accepted before the drain");
    assert_eq!(wire.closed().await.0, 4112);
    assert!(session.try_send("late").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_busy_at_the_deadline_is_named() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), busy).await.unwrap();
    wire.next_control().await;
    wire.text("work");
    settle().await;
    let watch = Watch::start();
    let report = resume.drain(DEADLINE).await;
    assert_eq!(report.cut, [resume.sessions()[0].id]);
    assert_eq!(report.drained, 0);
    assert!((5.0..5.5).contains(&watch.seconds()), "{}", watch.seconds());
    assert_eq!(wire.closed().await.0, 4112);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_during_a_drain_is_not_taken() {
    async fn slow(mut live: session_resume::LiveSession<u32>) {
        while live.recv().await.is_some() {
            sleep(2.0).await;
            live.update(|n| *n += 1);
        }
    }
    let resume = SessionResume::new().with_memory_state(|_| 0_u32);
    let mut browser = Browser::default();
    let mut wire = browser.connect(&resume, Some(CLIENT), slow).await.unwrap();
    wire.next_control().await;
    let session: Session<u32> = browser.get(&resume).await.unwrap();
    wire.text("in hand");
    wire.text("waits");
    settle().await;
    let drain = tokio::spawn({
        let resume = resume.clone();
        async move { resume.drain(DEADLINE).await }
    });
    sleep(1.0).await;
    wire.text("comes late");
    let report = drain.await.unwrap();
    assert_eq!((report.drained, report.cut.len()), (1, 0));
    sleep(60.0).await;
    assert_eq!(session.read(|n| *n), 1);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_session_does_not_spin_while_others_finish() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut other = Browser::default();
    let mut holds_up = other.connect(&resume, Some(CLIENT), busy).await.unwrap();
    holds_up.next_control().await;
    holds_up.text("work");
    for at in [None, Some(CLIENT)] {
        let wire = browser.connect(&resume, at, idle).await.unwrap();
        settle().await;
        wire.text("to be acknowledged");
        settle().await;
        let before = wire.polls();
        let frozen = resume.clone();
        let drain = tokio::spawn(async move { frozen.drain(Duration::from_secs(100)).await });
        sleep(90.0).await;
        assert!(wire.polls() - before < 20, "{} polls", wire.polls() - before);
        if at.is_some() {
            drain.await.unwrap();
        } else {
            drain.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn long_polls_wake_on_a_drain() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let id = browser.get(&resume).await.unwrap().id().to_string();
    let watch = Watch::start();
    let drains = resume.clone();
    tokio::spawn(async move {
        sleep(3.0).await;
        drains.drain(DEADLINE).await
    });
    assert_eq!(browser.poll(&resume, &id, Duration::from_secs(40)).await.0, 202);
    assert_eq!(watch.seconds(), 3.0);
}
