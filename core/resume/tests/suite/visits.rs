//! Browsers whose cookie has not come back yet weigh little.

use http::Request;
use session_resume::{Limits, SessionResume, key, reuse::Phase};

use crate::support::{Browser, idle, pair, settle, sleep};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Nothing,
    Looks,
    ComesBack,
    Update,
    Message,
}

#[tokio::test(start_paused = true)]
async fn a_blank_session_lives_for_half_a_minute() {
    for (then, lives) in [
        (Then::Nothing, 30.0),
        (Then::Looks, 120.0),
        (Then::ComesBack, 120.0),
        (Then::Update, 120.0),
        (Then::Message, 120.0),
    ] {
        let resume = SessionResume::new().with_memory_state(|_| 0_u32);
        let mut browser = Browser::default();
        let session = browser.first_get(&resume).await.unwrap();
        match then {
            Then::Nothing => {}
            // Its cookie has come back.
            Then::Looks => drop(browser.look(&resume).await.unwrap()),
            Then::ComesBack => drop(browser.get(&resume).await.unwrap()),
            Then::Update => session.update(|n| *n += 1),
            Then::Message => session.try_send("hello").unwrap(),
        }
        drop(session);
        // Without a store an outcome is left of it, for polling.
        let live =
            || resume.sessions().iter().filter(|info| info.phase != Phase::Completed).count();
        sleep(lives - 1.0).await;
        assert_eq!(live(), 1, "{then:?}");
        sleep(7.0).await;
        assert_eq!(live(), 0, "{then:?}");
    }
}

/// A program that opens its WebSocket with its very first request has a session like any other.
#[tokio::test(start_paused = true)]
async fn a_session_with_a_transport_is_not_blank() {
    let resume = SessionResume::new();
    let upgrade = Browser::default().first_upgrade(&resume, None).await.unwrap();
    let (socket, wire) = pair();
    tokio::spawn(upgrade.on_session(idle).unwrap().run(socket));
    settle().await;
    wire.cut();
    sleep(119.0).await;
    assert_eq!(resume.sessions().len(), 1);
    sleep(7.0).await;
    assert!(resume.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn visitors_take_half_of_the_room_and_leave_it() {
    let limits = Limits::default().with_max_sessions(10);
    let resume = SessionResume::new().with_limits(limits);
    for round in 0..3 {
        let mut visitors = vec![Browser::default(); 5];
        for visitor in &mut visitors {
            visitor.first_get(&resume).await.unwrap();
        }
        let refusal = Browser::default().first_get(&resume).await.unwrap_err();
        assert_eq!(refusal.status(), 503, "{round}");
        assert!(refusal.to_string().contains("new visitors"), "{refusal}");
        // One has come back: that is a place for another visitor.
        visitors[0].get(&resume).await.unwrap();
        Browser::default().first_get(&resume).await.unwrap();
        assert!(Browser::default().first_get(&resume).await.is_err());
        // And the rest of the room is for those whose cookie has come back.
        for _ in 0..4 {
            Browser::default().get(&resume).await.unwrap();
        }
        let refusal = Browser::default().get(&resume).await.unwrap_err();
        assert!(refusal.to_string().contains("limits.max_sessions"), "{refusal}");
        visitors[1].get(&resume).await.unwrap();
        sleep(200.0).await;
        assert!(resume.sessions().is_empty());
    }
}

/// If there is room for one session, half of the room is one session.
#[tokio::test(start_paused = true)]
async fn a_visitor_finds_room_in_the_smallest_layer() {
    let resume = SessionResume::new().with_limits(Limits::default().with_max_sessions(1));
    let mut visitor = Browser::default();
    visitor.first_get(&resume).await.unwrap();
    assert!(Browser::default().first_get(&resume).await.is_err());
    visitor.get(&resume).await.unwrap();
}

/// Those of blank sessions go first; of the others, the oldest of the identity that has most.
#[tokio::test(start_paused = true)]
async fn strangers_do_not_push_out_an_outcome() {
    let limits = Limits::default().with_outcomes(100);
    let resume =
        SessionResume::new().with_reuse(session_resume::reuse::never()).with_limits(limits);
    let mut ann = Browser::default();
    let wire = ann
        .connect(&resume, None, |mut live: session_resume::LiveSession| async move {
            live.recv().await;
            session_resume::Result::Ok("an hour's work")
        })
        .await
        .unwrap();
    let id = resume.sessions()[0].id.to_string();
    wire.text("go");
    settle().await;
    let second = std::time::Duration::from_secs(1);
    assert_eq!(ann.poll(&resume, &id, second).await.0, 200);
    // One identity, again and again.
    let mut mallory = Browser::default();
    for _ in 0..150 {
        mallory.get(&resume).await.unwrap();
    }
    assert_eq!(ann.poll(&resume, &id, second).await.0, 200);
    // Many that never come back.
    for _ in 0..150 {
        Browser::default().first_get(&resume).await.unwrap();
    }
    sleep(40.0).await;
    assert_eq!(ann.poll(&resume, &id, second).await.0, 200);
}

/// Programs behind a proxy may keep no cookies: the key that the application takes from a header tells them apart.
#[tokio::test(start_paused = true)]
async fn under_a_shared_key_another_request_is_a_return() {
    let limits = Limits::default().with_max_sessions(2);
    let resume =
        SessionResume::new().with_key(key::by_header("x-user").shared()).with_limits(limits);
    let ask = async |user: &str| {
        let request = Request::get("/").header("x-user", user);
        let parts = Browser::default().send(&resume, request).await;
        session_resume::adapter::open::<()>(&parts).await
    };
    let ann = ask("ann").await.unwrap().id();
    assert!(ask("bob").await.is_err(), "half is for those who have come once");
    assert_eq!(ask("ann").await.unwrap().id(), ann);
    ask("bob").await.unwrap();
    sleep(36.0).await;
    let left = resume.sessions().into_iter().filter(|info| info.phase != Phase::Completed);
    assert_eq!(left.map(|info| info.id).collect::<Vec<_>>(), [ann]);
}
