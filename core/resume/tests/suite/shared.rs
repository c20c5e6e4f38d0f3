//! Many identities in one session: a document that all clients that open it share.

use http::Request;
use session_resume::{Event, Limits, LiveSession, SessionResume, adapter, key, reuse::Phase};

use crate::support::{Browser, Wire, echo, idle, open, settle};

const CLIENT: &str = "client-aaaaaaaaaa";

fn document() -> SessionResume {
    SessionResume::new().with_key(key::from_fn(|_, _| "document").shared())
}

async fn hello(wire: &mut Wire) -> serde_json::Value {
    wire.next_control().await["hello"].take()
}

/// Twenty people open one document, half of them with stock WebSockets: the default limits turn no client away, and
/// each client gets what the others say.
#[tokio::test(start_paused = true)]
async fn twenty_people_meet_in_one_document() {
    let resume = document();
    let mut people = Vec::new();
    for n in 0..20 {
        let id = format!("{CLIENT}{n:02}");
        let at = (n % 2 == 0).then_some(&*id);
        let mut wire = Browser::default().connect(&resume, at, echo).await.expect("there is room");
        if at.is_some() {
            assert_eq!(hello(&mut wire).await["status"], if n == 0 { "new" } else { "reused" });
            wire.control("{\"ack\":0}");
        }
        people.push(wire);
    }
    settle().await;
    assert_eq!(resume.sessions().len(), 1);
    assert_eq!(resume.sessions()[0].transports, 20);
    people[3].text("from the fourth");
    for wire in &mut people {
        loop {
            let text = wire.next_text().await;
            if !text.starts_with('\u{1}') {
                assert_eq!(text, "from the fourth");
                break;
            }
        }
    }
}

/// One of them with sixteen tabs takes no place of the others.
#[tokio::test(start_paused = true)]
async fn one_identity_takes_only_its_own_places() {
    let resume = document();
    let mut greedy = Browser::default();
    let mut tabs = Vec::new();
    for n in 0..16 {
        let id = format!("{CLIENT}{n:02}");
        let mut wire = greedy.connect(&resume, Some(&id), idle).await.unwrap();
        assert!(hello(&mut wire).await.is_object());
        tabs.push(wire);
    }
    let mut more = greedy.connect(&resume, Some("client-zzzzzzzzzz"), idle).await.unwrap();
    assert_eq!(more.closed().await, (4113, "try again later".to_owned()));
    assert_eq!(greedy.connect(&resume, None, idle).await.unwrap_err().status(), 503);
    let mut other = Browser::default().connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert!(hello(&mut other).await.is_object());
}

/// And all together have a limit.
#[tokio::test(start_paused = true)]
async fn a_shared_session_is_full_at_its_limit() {
    let resume = document().with_limits(Limits::default().with_max_shared_clients(3));
    let mut inside = Vec::new();
    for _ in 0..3 {
        inside.push(Browser::default().connect(&resume, None, idle).await.unwrap());
        settle().await;
    }
    let mut late = Browser::default();
    assert_eq!(late.connect(&resume, None, idle).await.unwrap_err().status(), 503);
    inside.pop().unwrap().cut();
    settle().await;
    assert!(late.connect(&resume, None, idle).await.is_ok(), "the longest gone makes room");
}

/// Two identities that use one client id are two clients to the handler, too.
#[tokio::test(start_paused = true)]
async fn an_equal_client_id_of_another_identity_is_another_client() {
    let resume = document();
    let names = |mut live: LiveSession| async move {
        let mut known = Vec::new();
        while let Some(event) = live.recv_event().await {
            if let Event::Message { client, identity, .. } = event {
                assert_eq!(client.identity(), identity);
                if !known.contains(&client) {
                    known.push(client);
                }
                let text = format!("{} of {}", client, known.len());
                live.send(text).await?;
            }
        }
        session_resume::Result::Ok(())
    };
    let (mut ann, mut bob) = (Browser::default(), Browser::default());
    let mut hers = ann.connect(&resume, Some(CLIENT), names).await.unwrap();
    hello(&mut hers).await;
    hers.text("I am here");
    assert_eq!(hers.next_text().await, format!("{CLIENT} of 1"));
    let mut his = bob.connect(&resume, Some(CLIENT), names).await.unwrap();
    let told = hello(&mut his).await;
    assert_eq!((&told["status"], &told["received"]), (&"reused".into(), &0.into()));
    his.text("me, too");
    assert_eq!(hers.next_text().await, format!("{CLIENT} of 2"), "she is still attached");
    let parts = bob.enter(&resume, Request::get("/")).await;
    let id = adapter::open::<()>(&parts).await.unwrap().id().to_string();
    assert_eq!(bob.poll(&resume, &id, std::time::Duration::ZERO).await.0, 202, "he is in it");
}

/// What an identity has alone ends. What it shares goes on for the others.
#[tokio::test(start_paused = true)]
async fn a_revoked_identity_loses_its_own_sessions_and_its_place_in_shared_ones() {
    let mut revoked = Browser::default();
    let resume = SessionResume::new().with_key(key::by_path());
    let mut wires = Vec::new();
    for path in ["/ws/a", "/ws/b"] {
        let upgrade = revoked.upgrade_at(&resume, path, None).await.unwrap();
        wires.push(open(upgrade, idle).unwrap());
    }
    let _bystander = Browser::default().connect(&resume, None, idle).await.unwrap();
    settle().await;
    let parts = revoked.enter(&resume, Request::get("/")).await;
    let identity = adapter::identity(&parts).unwrap();
    assert_eq!(resume.end_identity(identity, "logged out"), 2);
    assert_eq!(resume.end_identity(identity, "logged out"), 0, "they have ended");
    settle().await;
    let running = resume.sessions().into_iter().filter(|it| it.phase == Phase::Running);
    assert_eq!(running.count(), 1, "another's session stays");
    for mut wire in wires {
        assert_eq!(wire.closed().await, (1000, "done".to_owned()));
    }

    let resume = document();
    let mut hers = revoked.connect(&resume, Some(CLIENT), echo).await.unwrap();
    hello(&mut hers).await;
    let mut his = Browser::default().connect(&resume, Some(CLIENT), echo).await.unwrap();
    hello(&mut his).await;
    let parts = revoked.enter(&resume, Request::get("/")).await;
    let identity = adapter::identity(&parts).unwrap();
    assert_eq!(resume.end_identity(identity, "logged out"), 0, "others are in it");
    assert_eq!(hers.closed().await, (4101, "logged out".to_owned()));
    his.text("still here");
    assert_eq!(his.next_text().await, "still here");
}
