//! What holds off expiry: guards and tasks. An unused session is gone after 120 to 125 s.

use std::time::Duration;

use session_resume::{Limits, SessionResume};

use crate::support::{Browser, idle, settle, sleep};

/// Longer than an unused session is kept.
const GONE: f64 = 126.0;

#[tokio::test(start_paused = true)]
async fn of_two_overlapping_guards_the_last_one_counts() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let first = session.block_expiration("first");
    let second = session.block_expiration("second");
    assert_eq!(session.info().guards, ["first", "second"]);
    sleep(1000.0).await;
    drop(first);
    sleep(1000.0).await;
    assert!(session.outcome().is_none(), "the second holds on");
    drop(second);
    sleep(119.0).await;
    assert!(session.outcome().is_none(), "the clock has started anew");
    sleep(7.0).await;
    assert!(session.outcome().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_lets_go_of_its_guard() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let guard = session.block_expiration("risky");
    let task = tokio::spawn(async move {
        let _guard = guard;
        sleep(300.0).await;
        panic!("risk");
    });
    sleep(299.0).await;
    assert!(session.outcome().is_none());
    assert!(task.await.is_err());
    assert!(session.info().guards.is_empty());
    sleep(GONE).await;
    assert!(session.outcome().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_guard_past_its_deadline_holds_nothing() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let guard = session.block_expiration("slow").with_timeout(Duration::from_secs(300));
    sleep(299.0).await;
    assert_eq!(session.info().guards, ["slow"]);
    sleep(2.0).await;
    assert!(session.info().guards.is_empty());
    sleep(117.0).await;
    assert!(session.outcome().is_none(), "the clock runs from the deadline");
    sleep(8.0).await;
    assert!(session.outcome().is_some(), "although the guard is still there");
    drop(guard);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_a_guard_holds_nothing_and_says_so() {
    let resume = SessionResume::new().with_limits(Limits::default().with_guards(2));
    let session = Browser::default().get(&resume).await.unwrap();
    let held = [session.block_expiration("a"), session.block_expiration("b")];
    let third = session.block_expiration("c");
    assert!(held.iter().all(session_resume::ExpirationGuard::is_active) && !third.is_active());
    drop(held);
    sleep(GONE).await;
    assert!(session.outcome().is_some());
    assert!(session.block_expiration("late").is_active(), "harmless on an ended session");
}

#[tokio::test(start_paused = true)]
async fn a_spawned_task_is_work_and_ends_with_its_session() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    assert!(session.spawn("long", sleep(500.0)));
    let (alive, gone) = tokio::sync::oneshot::channel::<()>();
    assert!(session.spawn("for ever", async move {
        let _alive = alive;
        sleep(1e6).await;
    }));
    sleep(900.0).await;
    assert!(session.outcome().is_none());
    session.close("enough");
    assert!(gone.await.is_err(), "cancelled, not completed");
    assert!(!session.spawn("late", async { unreachable!() }));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_task_restarts_the_clock() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    session.spawn("long", sleep(500.0));
    sleep(615.0).await;
    assert!(session.outcome().is_none());
    sleep(12.0).await;
    assert!(session.outcome().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_keeps_no_session() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let wire = browser.connect(&resume, None, idle).await.unwrap();
    wire.text("done at once");
    settle().await;
    wire.cut();
    sleep(GONE).await;
    assert!(resume.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_ticker_beside_recv_keeps_no_session() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let wire = browser
        .connect(&resume, None, |mut live| async move {
            loop {
                tokio::select! {
                    message = live.recv() => if message.is_none() { return },
                    () = sleep(1.0) => { let _ = live.try_send("tick"); }
                }
            }
        })
        .await
        .unwrap();
    sleep(60.0).await;
    wire.cut();
    sleep(GONE).await;
    assert!(resume.sessions().is_empty());
}
