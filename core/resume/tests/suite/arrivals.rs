//! Which session a request gets, or why none.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use http::Request;
use session_resume::{Limits, LiveSession, SessionResume, key, reuse, transport::Frame};
use tokio::sync::Notify;

use crate::support::{Browser, Wire, busy, echo, idle, pair, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";

#[tokio::test(start_paused = true)]
async fn two_hundred_requests_that_use_no_session_create_none() {
    let resume = SessionResume::new();
    for _ in 0..200 {
        Browser::default().enter(&resume, Request::get("/plain")).await;
        assert!(Browser::default().look(&resume).await.is_none());
    }
    assert!(resume.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn too_many_sessions_are_503_with_retry_after_and_none_in_use_is_evicted() {
    let resume = SessionResume::new().with_limits(Limits::default().with_max_sessions(2));
    let mut browsers = [Browser::default(), Browser::default()];
    for browser in &mut browsers {
        browser.get(&resume).await.unwrap();
    }
    let mut third = Browser::default();
    let refusal = third.get(&resume).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(5)));
    let refusal = third.connect(&resume, None, idle).await.unwrap_err();
    assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(5)));
    let mut wire = third.connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert_eq!(wire.next_control().await["retry"], 5000);
    assert_eq!(wire.closed().await.0, 4113);
    browsers[0].get(&resume).await.unwrap().close("make room");
    third.get(&resume).await.unwrap();
    browsers[1].get(&resume).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_identity_starts_so_many_sessions_under_keys_of_its_choice() {
    let limits = Limits::default().with_max_sessions_per_identity(2);
    let resume = SessionResume::new().with_limits(limits).with_key(key::by_header("x-room"));
    let mut browser = Browser::default();
    browser.get(&resume).await.unwrap();
    for (room, granted) in [("a", true), ("b", true), ("c", false), ("a", true)] {
        let parts = browser.enter(&resume, Request::get("/").header("x-room", room)).await;
        let opened = session_resume::adapter::open::<()>(&parts).await;
        assert_eq!(opened.is_ok(), granted, "{room}");
        if let Err(refusal) = opened {
            assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(5)));
        }
    }
    sleep(130.0).await;
    let parts = browser.enter(&resume, Request::get("/").header("x-room", "c")).await;
    session_resume::adapter::open::<()>(&parts).await.expect("the others have expired");
}

#[tokio::test(start_paused = true)]
async fn a_state_factory_that_panics_takes_no_place() {
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let resume = SessionResume::new()
        .with_limits(Limits::default().with_max_sessions(1).with_max_sessions_per_identity(1))
        .with_key(key::by_path())
        .with_memory_state(move |_| assert!(!breaks.load(Ordering::Relaxed), "no state today"));
    let mut browser = Browser::default();
    for _ in 0..3 {
        assert!(AssertUnwindSafe(browser.get(&resume)).catch_unwind().await.is_err());
    }
    broken.store(false, Ordering::Relaxed);
    browser.get(&resume).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_handler_is_a_409_that_names_the_fix() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let wire = browser.connect(&resume, None, idle).await.unwrap();
    settle().await;
    let refusal = browser.connect(&resume, None, echo).await.unwrap_err();
    assert_eq!(refusal.status(), 409);
    assert!(refusal.to_string().contains("key::by_path()"), "{refusal}");
    let mut told = browser.connect(&resume, Some(CLIENT), echo).await.unwrap();
    assert_eq!(told.closed().await, (4101, "another handler".to_owned()));
    drop(wire);
    assert_eq!(resume.sessions()[0].transports, 1, "nothing is disturbed");
}

#[tokio::test(start_paused = true)]
async fn of_two_handlers_that_come_at_once_one_runs_and_the_other_is_told() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let first = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let gives_up = browser.upgrade(&resume, Some("client-bbbbbbbbbb")).await.unwrap();
    let first = first.on_session(idle).unwrap();
    let gives_up = gives_up.on_session(idle).unwrap();
    // One upgrade of the first handler fails while the other is under way: a gap for another handler.
    drop(gives_up);
    let second = browser.upgrade(&resume, Some("client-cccccccccc")).await.unwrap();
    let second = second.on_session(busy).unwrap();
    let (socket, mut one) = pair();
    tokio::spawn(first.run(socket));
    settle().await;
    let (socket, mut two) = pair();
    tokio::spawn(second.run(socket));
    assert_eq!(one.next_control().await["hello"]["status"], "new");
    assert_eq!(two.closed().await, (4101, "another handler".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_fails_leaves_the_session_to_any_handler() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, None).await.unwrap();
    drop(upgrade.on_session(idle).unwrap());
    browser.connect(&resume, None, echo).await.unwrap();
    assert_eq!(resume.sessions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_not_removed_while_an_upgrade_is_under_way() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let attach = upgrade.on_session(idle).unwrap();
    sleep(1000.0).await;
    assert_eq!(resume.sessions().len(), 1);
    drop(attach);
    sleep(130.0).await;
    assert!(resume.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_reuse_policy_decides_about_fresh_arrivals_and_no_others() {
    let mut browser = Browser::default();
    let fresh = SessionResume::new().with_reuse(reuse::never());
    let first = browser.get(&fresh).await.unwrap();
    let second = browser.get(&fresh).await.unwrap();
    assert_ne!(first.id(), second.id());
    assert_eq!(first.outcome().unwrap().error(), Some("a fresh session was asked for"));
    let mut wire = browser.connect(&fresh, Some(CLIENT), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    wire.cut();
    settle().await;
    let at = crate::blocked::cursor(CLIENT, &hello, 0);
    let mut wire = browser.connect(&fresh, Some(&at), idle).await.unwrap();
    assert_eq!(wire.next_control().await["hello"]["session"], hello["session"], "continued");

    let mut browser = Browser::default();
    let idle_only = SessionResume::new().with_reuse(reuse::if_idle());
    let id = browser.get(&idle_only).await.unwrap().id();
    let _wire = browser.connect(&idle_only, None, idle).await.unwrap();
    assert!(idle_only.get(id).is_some(), "reused while idle");
    settle().await;
    assert_ne!(browser.get(&idle_only).await.unwrap().id(), id);

    let mut browser = Browser::default();
    let young = SessionResume::new().with_reuse(reuse::younger_than(Duration::from_secs(60)));
    let id = browser.get(&young).await.unwrap().id();
    sleep(59.0).await;
    assert_eq!(browser.get(&young).await.unwrap().id(), id);
    sleep(2.0).await;
    assert_ne!(browser.get(&young).await.unwrap().id(), id);
}

#[tokio::test(start_paused = true)]
async fn under_a_shared_key_a_stranger_does_not_end_the_owners_session() {
    let resume = SessionResume::new()
        .with_key(key::from_fn(|_, _| "document").shared())
        .with_reuse(reuse::same_identity());
    let (mut owner, mut stranger) = (Browser::default(), Browser::default());
    let session = owner.get(&resume).await.unwrap();
    assert_eq!(stranger.get(&resume).await.unwrap_err().status(), 409);
    let mut wire = stranger.connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert_eq!(wire.closed().await, (4101, "refused".to_owned()));
    assert_eq!(owner.get(&resume).await.unwrap().id(), session.id());
    let (status, _) = stranger.poll(&resume, &session.id().to_string(), Duration::ZERO).await;
    assert_eq!(status, 404);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_opens_no_session_but_the_one_under_ones_own_key() {
    let (resume, mut victim) = (SessionResume::new(), Browser::default());
    let mut wire = victim.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    let at = crate::blocked::cursor(CLIENT, &hello, 0);
    let mut thief = Browser::default();
    let mut stolen = thief.connect(&resume, Some(&at), idle).await.unwrap();
    let told = stolen.next_control().await["hello"].clone();
    assert_eq!(told["status"], "new");
    assert_ne!(told["session"], hello["session"]);
    assert_eq!(told["gap"], serde_json::json!({"from": 0, "to": null, "reason": "expired"}));
    assert_eq!(wire.now(), None, "the victim notices nothing");
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_takes_the_session_along() {
    let (resume, mut before) = (SessionResume::new(), Browser::default());
    let session = before.get(&resume).await.unwrap();
    let change = session.cycle_identity();
    let cookie = change.set_cookie().unwrap().to_str().unwrap();
    let mut after = Browser { cookie: Some(cookie.split(';').next().unwrap().to_owned()) };
    assert!(before.look(&resume).await.is_none(), "the old cookie no longer gets in");
    assert_eq!(after.get(&resume).await.unwrap().id(), session.id());
    let id = session.id().to_string();
    assert_eq!(before.poll(&resume, &id, Duration::ZERO).await.0, 404);
    assert_eq!(after.poll(&resume, &id, Duration::ZERO).await.0, 202);
}

#[test]
fn identity_changes_at_once_leave_the_session_under_one_key() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let resume = SessionResume::new();
        for _ in 0..200 {
            let session = Browser::default().get(&resume).await.unwrap();
            let barrier = Arc::new(std::sync::Barrier::new(4));
            let cookies: Vec<_> = (0..4)
                .map(|_| {
                    let (session, barrier) = (session.clone(), Arc::clone(&barrier));
                    std::thread::spawn(move || {
                        barrier.wait();
                        for _ in 0..50 {
                            let _ = session.cycle_identity();
                        }
                        let cookie = session.cycle_identity();
                        let cookie = cookie.set_cookie().unwrap().to_str().unwrap().to_owned();
                        cookie.split(';').next().unwrap().to_owned()
                    })
                })
                .collect();
            let cookies: Vec<_> =
                cookies.into_iter().map(|cookie| cookie.join().unwrap()).collect();
            let mut finds = 0;
            for cookie in cookies {
                let mut browser = Browser { cookie: Some(cookie) };
                finds += usize::from(browser.look(&resume).await.is_some());
            }
            assert_eq!(finds, 1, "the last identity has it, and only that");
            session.close("next");
        }
    });
}

/// A peer that says a lot and leaves has said it, though the handler is busy and the inbox small.
#[tokio::test(start_paused = true)]
async fn what_was_said_before_the_end_counts_also_when_the_inbox_is_full() {
    let resume = SessionResume::new().with_limits(Limits::default().with_inbox_messages(5));
    for ending in [|wire: &Wire| wire.send(Frame::Close(None)), Wire::cut] {
        let mut browser = Browser::default();
        let gate = Arc::new(Notify::new());
        let taken = Arc::new(AtomicUsize::new(0));
        let (opens, counts) = (Arc::clone(&gate), Arc::clone(&taken));
        let handler = move |mut live: LiveSession| async move {
            opens.notified().await;
            while live.recv().await.is_some() {
                counts.fetch_add(1, Ordering::Relaxed);
            }
        };
        let wire = browser.connect(&resume, None, handler).await.unwrap();
        settle().await;
        for _ in 0..30 {
            wire.text("x");
        }
        ending(&wire);
        // Longer than anything that the transport itself waits for.
        sleep(100.0).await;
        assert_eq!(taken.load(Ordering::Relaxed), 0);
        gate.notify_one();
        sleep(1.0).await;
        assert_eq!(taken.load(Ordering::Relaxed), 30);
        assert_eq!(browser.get(&resume).await.unwrap().info().transports, 0, "and then it is gone");
    }
}

/// A peer that sends too fast and leaves has said it: it is only read more slowly.
#[tokio::test(start_paused = true)]
async fn what_was_said_too_fast_counts_also_after_the_end() {
    let limits = Limits::default().with_messages_per_second(2).with_message_burst(5);
    let resume = SessionResume::new().with_limits(limits);
    for ending in [|wire: &Wire| wire.send(Frame::Close(None)), Wire::cut] {
        let mut browser = Browser::default();
        let taken = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&taken);
        let handler = move |mut live: LiveSession| async move {
            while live.recv().await.is_some() {
                counts.fetch_add(1, Ordering::Relaxed);
            }
        };
        let wire = browser.connect(&resume, None, handler).await.unwrap();
        settle().await;
        for _ in 0..25 {
            wire.text("x");
        }
        ending(&wire);
        settle().await;
        assert_eq!(taken.load(Ordering::Relaxed), 5);
        sleep(9.9).await;
        assert_eq!(taken.load(Ordering::Relaxed), 5 + 19);
        sleep(0.2).await;
        assert_eq!(taken.load(Ordering::Relaxed), 25);
        assert_eq!(browser.get(&resume).await.unwrap().info().transports, 0, "and then it is gone");
    }
}

/// What a gone peer has sent does not wait for ever for a handler that asks for nothing more.
#[tokio::test(start_paused = true)]
async fn a_gone_peer_does_not_stay_for_ever() {
    let resume = SessionResume::new().with_limits(Limits::default().with_inbox_messages(5));
    let mut browser = Browser::default();
    let wire = browser.connect(&resume, None, busy).await.unwrap();
    for _ in 0..30 {
        wire.text("x");
    }
    wire.cut();
    sleep(110.0).await;
    let session = browser.get(&resume).await.unwrap();
    assert_eq!(session.info().transports, 1);
    sleep(15.0).await;
    assert_eq!(session.info().transports, 0);
}
