//! Credentials that run out (`valid_until`), in paused time.

use std::time::Duration;

use serde_json::json;
use session_resume::{
    Attach, SessionResume, adapter::Upgrade, reuse::Phase, store::MemoryStore, transport::Frame,
};
use tokio::time::Instant;

use crate::support::{Browser, Watch, Wire, echo, idle, open, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";
const RUN_OUT: u16 = 4106;

/// Lets the client stay for this long from now on.
fn lasting(upgrade: Upgrade, seconds: f64) -> Upgrade {
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    upgrade.valid_until(until.into_std())
}

async fn connect(
    browser: &mut Browser,
    resume: &SessionResume,
    at: Option<&str>,
    seconds: f64,
) -> Wire {
    let upgrade = browser.upgrade(resume, at).await.unwrap();
    open(lasting(upgrade, seconds), echo).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_transport_is_closed_at_that_moment_and_the_session_goes_on() {
    for at in [None, Some(CLIENT)] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        let mut wire = connect(&mut browser, &resume, at, 70.0).await;
        let session = browser.get(&resume).await.unwrap();
        let watch = Watch::start();
        assert_eq!(wire.closed().await, (RUN_OUT, "reauthenticate".to_owned()));
        assert_eq!(watch.seconds(), 70.0);
        settle().await;
        assert_eq!(session.info().phase, Phase::Suspended);
        assert!(session.outcome().is_none());
        // Back with fresh credentials, for as long as these say.
        let mut wire = connect(&mut browser, &resume, at, 40.0).await;
        assert_eq!(browser.get(&resume).await.unwrap().id(), session.id());
        let watch = Watch::start();
        assert_eq!(wire.closed().await.0, RUN_OUT);
        assert_eq!(watch.seconds(), 40.0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_later_is_not_taken_on_this_transport() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = connect(&mut browser, &resume, Some(CLIENT), 1.0).await;
    wire.next_control().await;
    wire.text("in time");
    assert_eq!(wire.next_text().await, "in time");
    // The clock is past the moment before the pump has run again.
    tokio::time::advance(Duration::from_secs(1)).await;
    wire.text("too late");
    assert_eq!(wire.closed().await.0, RUN_OUT);
    let session = browser.get(&resume).await.unwrap();
    settle().await;
    let mut wire = browser.connect(&resume, Some(CLIENT), echo).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    // Of two messages the session has taken one.
    assert_eq!((&hello["session"], &hello["received"]), (&json!(session.id()), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_closed_all_the_same() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = connect(&mut browser, &resume, Some(CLIENT), 3.0).await;
    wire.next_control().await;
    wire.narrow(1);
    let session = browser.get(&resume).await.unwrap();
    for n in 0..20 {
        session.send(format!("{n}")).await.unwrap();
    }
    sleep(2.9).await;
    assert_eq!(session.info().phase, Phase::Running);
    sleep(0.2).await;
    assert_eq!(session.clients().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_the_process_prolongs_nothing() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = connect(&mut browser, &resume, Some(CLIENT), 60.0).await;
    wire.next_control().await;
    sleep(10.0).await;
    // Nothing has run for that long: the session's own deadlines move, this one does not.
    tokio::time::advance(Duration::from_secs(50)).await;
    let watch = Watch::start();
    assert_eq!(wire.closed().await.0, RUN_OUT);
    assert_eq!(watch.seconds(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_moment_that_has_passed_lets_nobody_in_and_takes_nobodys_place() {
    let resume = SessionResume::new().with_attach(Attach::Takeover);
    let mut browser = Browser::default();
    let upgrade = browser.upgrade(&resume, None).await.unwrap();
    let refusal = lasting(upgrade, 0.0).on_session(idle).unwrap_err();
    assert_eq!(refusal.into_response().status(), 401);
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let mut refused = open(lasting(upgrade, 0.0), idle).unwrap();
    assert_eq!(refused.closed().await, (RUN_OUT, "reauthenticate".to_owned()));
    assert!(browser.look(&resume).await.is_none(), "no session was made");

    let mut holder = browser.connect(&resume, None, idle).await.unwrap();
    for at in [None, Some(CLIENT)] {
        // It runs out between the answer and the socket.
        let upgrade = browser.upgrade(&resume, at).await.unwrap();
        let accepted = lasting(upgrade, 5.0).on_session(idle).unwrap();
        sleep(5.0).await;
        let (socket, mut wire) = crate::support::pair();
        tokio::spawn(accepted.run(socket));
        assert_eq!(wire.closed().await.0, RUN_OUT);
    }
    let session = browser.get(&resume).await.unwrap();
    assert_eq!(session.info().transports, 1, "the holder has stayed");
    session.send("still here").await.unwrap();
    while holder.next_text().await != "still here" {}
}

#[tokio::test(start_paused = true)]
async fn a_session_that_stands_still_keeps_nobody_beyond_it() {
    let resume = SessionResume::new().with_store(MemoryStore::new());
    let mut browser = Browser::default();
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let mut wire = open(lasting(upgrade.named("busy"), 3.0), crate::support::busy).unwrap();
    wire.next_control().await;
    wire.text("work");
    settle().await;
    // A drain waits for the handler.
    let drain = tokio::spawn(async move { resume.drain(Duration::from_secs(60)).await });
    let watch = Watch::start();
    loop {
        if let Frame::Close(Some((code, _))) = wire.next().await.expect("a close") {
            assert_eq!(code, RUN_OUT);
            break;
        }
    }
    assert_eq!(watch.seconds(), 3.0);
    drain.abort();
}
