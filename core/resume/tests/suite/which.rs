//! What a cursor is worth to a reuse policy, and two requests at once.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use session_resume::{
    Limits, SessionResume,
    adapter::{self, Refusal},
    key,
    reuse::{self, ReuseDecision},
};

use crate::{
    blocked::cursor,
    support::{Browser, Wire, echo, idle},
};

const CLIENT: &str = "client-aaaaaaaaaa";
const OTHER: &str = "client-bbbbbbbbbb";

async fn hello(wire: &mut Wire) -> serde_json::Value {
    wire.next_control().await["hello"].take()
}

/// A client that knows no epoch of the session continues nothing, and is a fresh arrival like any other.
#[tokio::test(start_paused = true)]
async fn an_invented_epoch_is_put_to_the_policy() {
    for (policy, status) in [(reuse::always(), "reused"), (reuse::never(), "new")] {
        let resume = SessionResume::new().with_reuse(policy);
        let mut browser = Browser::default();
        let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
        let mut told = hello(&mut wire).await;
        told["epoch"] = "00000000000000aa-0000000000000001".into();
        let mut other =
            browser.connect(&resume, Some(&cursor(OTHER, &told, 3)), idle).await.unwrap();
        let fresh = hello(&mut other).await;
        assert_eq!(fresh["status"], status);
        assert_eq!(fresh["session"] == told["session"], status == "reused");
        // An epoch that is not of this session at all, or a session that is not the browser's any more.
        let reason = if status == "reused" { "restarted" } else { "expired" };
        let gap = serde_json::json!({ "from": 3, "to": null, "reason": reason });
        assert_eq!(fresh["gap"], gap);
    }
}

/// A session that was found for an upgrade, and has ended when its handler is known, is not put to the policy.
#[tokio::test(start_paused = true)]
async fn a_session_that_ends_meanwhile_makes_way() {
    let locked = reuse::from_fn(|_, _| ReuseDecision::Refuse(StatusCode::LOCKED));
    let (resume, mut browser) = (SessionResume::new().with_reuse(locked), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let refused = browser.upgrade(&resume, None).await.unwrap().on_session(idle).unwrap_err();
    assert_eq!(refused.status(), 423, "while it is there");
    let upgrade = browser.upgrade(&resume, None).await.unwrap();
    session.close("enough");
    drop(upgrade.on_session(idle).unwrap());
    assert!(resume.sessions().iter().any(|other| other.id != session.id()));
}

/// A client that names a session under its key is told how it has ended. That lets no client into another session.
#[tokio::test(start_paused = true)]
async fn an_invented_epoch_of_an_ended_session_is_told_of_its_end() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let told = hello(&mut wire).await;
    browser.get(&resume).await.unwrap().close("enough");
    let mut invented = told.clone();
    invented["epoch"] = "00000000000000aa-0000000000000001".into();
    for claim in [&told, &invented] {
        let mut back =
            browser.connect(&resume, Some(&cursor(OTHER, claim, 0)), idle).await.unwrap();
        let answer = hello(&mut back).await;
        assert_eq!((&answer["status"], &answer["session"]), (&"resumed".into(), &told["session"]));
        assert_eq!(back.next_control().await["done"]["status"], "closed");
    }
}

/// The key lets several identities in; the policy lets one in. A cursor does not help another identity past it.
#[tokio::test(start_paused = true)]
async fn anothers_cursor_is_put_to_the_policy() {
    let resume =
        SessionResume::new().with_key(key::by_path().shared()).with_reuse(reuse::same_identity());
    let (mut owner, mut stranger) = (Browser::default(), Browser::default());
    let mut wire = owner.connect(&resume, Some(CLIENT), echo).await.unwrap();
    let told = hello(&mut wire).await;
    let stolen = cursor(CLIENT, &told, 0);
    let mut refused = stranger.connect(&resume, Some(&stolen), echo).await.unwrap();
    assert_eq!(refused.closed().await.0, 4101);
    wire.text("still mine");
    assert_eq!(wire.next_text().await, "still mine");
    let mut back = owner.connect(&resume, Some(&stolen), echo).await.unwrap();
    assert_eq!(hello(&mut back).await["status"], "resumed");
}

type Once = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Two requests of one browser start its session at once: the faster one takes the last room, for both.
#[tokio::test(start_paused = true)]
async fn the_slower_of_two_requests_needs_no_room_of_its_own() {
    let meanwhile = Once::default();
    let runs = Arc::clone(&meanwhile);
    let resume = SessionResume::new()
        .with_memory_state(move |_| {
            // The state is made outside all locks: another request may overtake this one here.
            let other = runs.lock().unwrap().take();
            if let Some(other) = other {
                other();
            }
        })
        .with_limits(Limits::default().with_max_sessions(1));
    let mut browser = Browser::default();
    let parts = browser.enter(&resume, Request::get("/")).await;
    let overtakes = parts.clone();
    let faster = Arc::new(Mutex::new(None));
    let id = Arc::clone(&faster);
    *meanwhile.lock().unwrap() = Some(Box::new(move || {
        let opened: Result<_, Refusal> =
            adapter::open::<()>(&overtakes).now_or_never().expect("nothing to wait for");
        *id.lock().unwrap() = Some(opened.unwrap().id());
    }));
    let slower = adapter::open::<()>(&parts).await.unwrap();
    assert_eq!(Some(slower.id()), *faster.lock().unwrap());
    let mut stranger = Browser::default();
    assert_eq!(stranger.get(&resume).await.unwrap_err().status(), 503);
}
