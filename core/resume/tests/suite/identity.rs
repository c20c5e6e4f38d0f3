//! A browser that gets another identity, as after a login.

use std::time::Duration;

use http::Request;
use session_resume::{Attach, IdentityChange, SessionResume, adapter, key};

use crate::{
    blocked::cursor,
    support::{Browser, Wire, echo, idle, settle, sleep},
};

const CLIENT: &str = "client-aaaaaaaaaa";
const OTHER: &str = "client-bbbbbbbbbb";

fn with(change: &IdentityChange) -> Browser {
    let cookie = change.set_cookie().expect("it has changed").to_str().unwrap();
    Browser { cookie: Some(cookie.split(';').next().unwrap().to_owned()) }
}

async fn hello(wire: &mut Wire) -> serde_json::Value {
    wire.next_control().await["hello"].take()
}

/// A client that planted the identity before the login is out at once and learns nothing more. The page that logged in
/// comes back with the new cookie and has everything.
#[tokio::test(start_paused = true)]
async fn what_came_with_the_old_identity_is_out() {
    for attach in [Attach::Share, Attach::Takeover] {
        let resume = SessionResume::new().with_attach(attach);
        let mut planted = Browser::default();
        let mut wire = planted.connect(&resume, Some(CLIENT), echo).await.unwrap();
        let told = hello(&mut wire).await;
        wire.text("before");
        assert_eq!(wire.next_text().await, "before");
        let session = planted.get(&resume).await.unwrap();
        let change = session.cycle_identity();
        let mut new = with(&change);
        assert_eq!(change.identity(), Some(session.identity()));
        session.send("a secret").await.unwrap();
        wire.text("transfer money");
        assert_eq!(wire.closed().await, (4112, "moved".to_owned()));
        // For ten seconds a cursor waits: an honest page has the new cookie by then.
        let at = cursor(CLIENT, &told, 1);
        for at in [at.clone(), cursor(OTHER, &told, 0)] {
            let mut early = planted.connect(&resume, Some(&at), echo).await.unwrap();
            assert_eq!(early.next_control().await, serde_json::json!({ "retry": 500 }));
            assert_eq!(early.closed().await, (4113, "try again later".to_owned()));
        }
        let refused = planted.connect(&resume, None, echo).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.retry_after()), (503, Some(1)));
        let mut back = new.connect(&resume, Some(&at), echo).await.unwrap();
        let now = hello(&mut back).await;
        assert_eq!((&now["session"], &now["status"]), (&told["session"], &"resumed".into()));
        // "transfer money" was not heard.
        assert_eq!(now["received"], 1);
        assert_eq!(back.next_text().await, "\u{1}{\"ack\":1}");
        assert_eq!(back.next_text().await, "a secret");
        sleep(10.1).await;
        let mut stranger = planted.connect(&resume, Some(&at), echo).await.unwrap();
        let told = hello(&mut stranger).await;
        assert_eq!((&told["status"], &told["gap"]["reason"]), (&"new".into(), &"expired".into()));
        assert!(planted.connect(&resume, None, echo).await.is_ok(), "a plain one, too");
        assert_eq!(session.info().transports, 1, "the honest page is still there");
    }
}

/// A plain page is closed 1012, and an upgrade that was under way when the identity changed is not let in.
#[tokio::test(start_paused = true)]
async fn upgrades_under_way_are_too_late() {
    let resume = SessionResume::new().with_attach(Attach::Share);
    let mut planted = Browser::default();
    let mut plain = planted.connect(&resume, None, idle).await.unwrap();
    settle().await;
    let upgrade = planted.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let (fresh, plain_too) = (
        upgrade.on_session(idle).unwrap(),
        planted.upgrade(&resume, None).await.unwrap().on_session(idle).unwrap(),
    );
    let session = planted.get(&resume).await.unwrap();
    let _ = session.cycle_identity();
    assert_eq!(plain.closed().await.0, 1012);
    let (socket, mut wire) = crate::support::pair();
    tokio::spawn(fresh.run(socket));
    assert_eq!(wire.next_control().await, serde_json::json!({ "retry": 500 }));
    assert_eq!(wire.closed().await.0, 4113);
    let (socket, mut wire) = crate::support::pair();
    tokio::spawn(plain_too.run(socket));
    assert_eq!(wire.closed().await.0, 1013);
    assert_eq!(session.info().transports, 0);
}

/// Under a shared key only the client that logs in moves.
#[tokio::test(start_paused = true)]
async fn in_a_shared_session_the_others_stay() {
    let resume = SessionResume::new().with_key(key::from_fn(|_, _| "document").shared());
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    let mut his = bob.connect(&resume, Some(CLIENT), echo).await.unwrap();
    hello(&mut his).await;
    let mut hers = ann.connect(&resume, Some(CLIENT), echo).await.unwrap();
    let told = hello(&mut hers).await;
    let session = ann.get(&resume).await.unwrap();
    let first = session.cycle_identity();
    assert_eq!(hers.closed().await, (4112, "moved".to_owned()));
    his.text("still here");
    assert_eq!(his.next_text().await, "still here");
    assert_eq!(ann.connect(&resume, None, echo).await.unwrap_err().status(), 503);
    // The handle is of a request of hers: a second change goes on from the first.
    let mut new = with(&session.cycle_identity());
    let at = cursor(CLIENT, &told, 0);
    let mut between = with(&first);
    let mut early = between.connect(&resume, Some(&at), echo).await.unwrap();
    assert_eq!(early.next_control().await, serde_json::json!({ "retry": 500 }));
    let mut back = new.connect(&resume, Some(&at), echo).await.unwrap();
    assert_eq!(hello(&mut back).await["status"], "resumed");
    let id = session.id();
    assert_eq!(new.poll(&resume, &id.to_string(), Duration::ZERO).await.0, 202);
    let handle = resume.get(id).unwrap();
    assert!(handle.cycle_identity().set_cookie().is_none(), "whose would it be?");
}

/// A session that has ended belongs to no identity any more: no cookie would lead to it.
#[tokio::test(start_paused = true)]
async fn an_ended_session_has_no_new_identity() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    session.close("enough");
    assert!(session.cycle_identity().set_cookie().is_none());
    let parts = browser.enter(&resume, Request::get("/")).await;
    assert_ne!(adapter::open::<()>(&parts).await.unwrap().id(), session.id());
}

/// Real threads: identities change just as sessions leave; afterwards nothing is left, and no place is taken.
#[test]
fn changes_while_sessions_leave_leak_nothing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let resume = SessionResume::new()
            .with_unused_lifetime(Duration::from_millis(4))
            .with_check_interval(Duration::from_millis(1));
        for _ in 0..20 {
            let tasks = (0..40_u64).map(|k| {
                let resume = resume.clone();
                tokio::spawn(async move {
                    let session = Browser::default().get(&resume).await.unwrap();
                    tokio::time::sleep(Duration::from_micros(3000 + k * 150)).await;
                    for _ in 0..20 {
                        let _ = session.cycle_identity();
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        }
        for _ in 0..1000 {
            if resume.sessions().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(resume.sessions().is_empty());
        assert!(format!("{resume:?}").contains("sessions: 0"), "{resume:?}");
    });
}
