//! The newest transport wins, and nothing that comes late touches the session.

use session_resume::{Attach, SessionResume, transport::Frame};

use crate::support::{Browser, Wire, echo, idle, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";

/// The old transport is half open: its timeout fires, or its late frames arrive, after a newer one came.
async fn late_news_of_the_old_one(at: Option<&str>, news: fn(&Wire)) {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut newest = browser.connect(&resume, at, echo).await.unwrap();
    let session = browser.get(&resume).await.unwrap();
    let mut position = 0;
    for round in 0..5 {
        // By now all is confirmed, so that nothing comes twice.
        sleep(2.0).await;
        let old = newest;
        old.fall_silent();
        sleep(23.0).await;
        newest = browser.connect(&resume, at, echo).await.unwrap();
        settle().await;
        news(&old);
        // Past every deadline that the old one had.
        for step in 0..12 {
            sleep(5.0).await;
            newest.text(&format!("{round}-{step}"));
            assert_eq!(data(&mut newest).await, format!("{round}-{step}"));
            position += 1;
            if at.is_some() {
                newest.control(&format!(r#"{{"ack":{position}}}"#));
            }
            assert_eq!(session.info().transports, 1, "round {round}");
        }
    }
    assert!(session.outcome().is_none());
}

async fn data(wire: &mut Wire) -> String {
    loop {
        let text = wire.next_text().await;
        if !text.starts_with('\u{1}') {
            return text;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_transport_that_times_out_late_changes_nothing_five_times_in_a_row() {
    late_news_of_the_old_one(None, |_| ()).await;
    late_news_of_the_old_one(Some(CLIENT), |_| ()).await;
}

#[tokio::test(start_paused = true)]
async fn late_frames_and_closes_of_an_old_transport_change_nothing() {
    for at in [None, Some(CLIENT)] {
        late_news_of_the_old_one(at, Wire::cut).await;
        late_news_of_the_old_one(at, |old| old.send(Frame::Close(None))).await;
        late_news_of_the_old_one(at, |old| {
            old.text("late");
            old.text("\u{1}{\"ack\":9007199254740991}");
            old.text("\u{1}nonsense");
            old.send(Frame::Pong(bytes::Bytes::from_static(b"S................")));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_client_replaces_itself_and_another_supersedes_it() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut one = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let mut two = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert_eq!(one.closed().await, (4100, "replaced".to_owned()));
    let _three = browser.connect(&resume, Some("client-bbbbbbbbbb"), idle).await.unwrap();
    assert_eq!(two.closed().await, (4100, "superseded".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn shared_transports_all_receive_and_keep_their_own_cursors() {
    let resume = SessionResume::new().with_attach(Attach::Share);
    let mut browser = Browser::default();
    let mut wires = Vec::new();
    for name in ["client-aaaaaaaaaa", "client-bbbbbbbbbb", "client-cccccccccc"] {
        let mut wire = browser.connect(&resume, Some(name), idle).await.unwrap();
        let hello = wire.next_control().await["hello"].clone();
        wires.push((name, wire, hello));
    }
    let session = browser.get(&resume).await.unwrap();
    for n in 0..10 {
        session.send(format!("{n}")).await.unwrap();
    }
    for (_, wire, _) in &mut wires {
        for n in 0..10 {
            assert_eq!(data(wire).await, format!("{n}"));
        }
    }
    wires[0].1.control(r#"{"ack":10}"#);
    wires[1].1.control(r#"{"ack":4}"#);
    wires[1].1.cut();
    settle().await;
    session.send("10").await.unwrap();
    assert_eq!(data(&mut wires[0].1).await, "10");
    assert_eq!(data(&mut wires[2].1).await, "10");
    let (name, _, hello) = &wires[1];
    let at = crate::blocked::cursor(name, hello, 4);
    let mut back = browser.connect(&resume, Some(&at), idle).await.unwrap();
    assert_eq!(back.next_control().await["hello"]["from"], 4);
    for n in 4..=10 {
        assert_eq!(data(&mut back).await, format!("{n}"));
    }
    assert_eq!(session.info().transports, 3, "the others have stayed");
}

#[tokio::test(start_paused = true)]
async fn a_stale_offer_supersedes_nothing() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut one = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = one.next_control().await["hello"].clone();
    let mut two = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    two.next_control().await;
    two.control(r#"{"ack":0}"#);
    settle().await;
    let at = crate::blocked::cursor(CLIENT, &hello, 0);
    let mut copy = browser.connect(&resume, Some(&at), idle).await.unwrap();
    assert_eq!(copy.closed().await, (4113, "stale".to_owned()));
    two.text("still here");
    settle().await;
    assert_eq!(resume.sessions()[0].transports, 1);
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_reset_counts_even_if_a_write_met_the_reset_first() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    for n in 0..10 {
        session.send(format!("{n}")).await.unwrap();
        assert_eq!(data(&mut wire).await, format!("{n}"));
    }
    wire.refuse_writes();
    session.send("10").await.unwrap();
    settle().await;
    // The runtime hears only now that there is more to read.
    wire.control(r#"{"ack":7}"#);
    wire.cut();
    wire.gone().await;
    assert_eq!(session.info().outbox_messages, 4);
    assert_eq!(session.info().transports, 0);
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_cannot_be_written_is_let_go_even_if_reading_never_ends() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    let session = browser.get(&resume).await.unwrap();
    wire.refuse_writes();
    session.send("lost").await.unwrap();
    sleep(6.0).await;
    wire.gone().await;
    assert_eq!(session.info().transports, 0);
    assert_eq!(session.info().outbox_messages, 1);
}

#[tokio::test(start_paused = true)]
async fn hello_and_replay_leave_in_one_write() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    for n in 0..100 {
        session.send(format!("{n}")).await.unwrap();
    }
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert!(wire.next_control().await.get("hello").is_some());
    for n in 0..100 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
    settle().await;
    assert_eq!(wire.flushes(), 1, "and nothing waits for an answer of the client");
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_was_quiet_for_many_heartbeats_resumes() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    let session = browser.get(&resume).await.unwrap();
    session.send("before").await.unwrap();
    assert_eq!(data(&mut wire).await, "before");
    wire.control(r#"{"ack":1}"#);
    sleep(40.0 * 30.0).await;
    assert_eq!(session.info().transports, 1);
    wire.cut();
    wire.gone().await;
    session.send("after").await.unwrap();
    let at = crate::blocked::cursor(CLIENT, &hello, 1);
    let mut wire = browser.connect(&resume, Some(&at), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    assert_eq!((&hello["status"], &hello["gap"]), (&"resumed".into(), &serde_json::Value::Null));
    assert_eq!(data(&mut wire).await, "after");
}
