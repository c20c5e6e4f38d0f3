//! Peers whose windows are full: nothing waits for them for ever.

use session_resume::{SessionResume, transport::Frame};

use crate::support::{Browser, Watch, idle, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";
const OTHER: &str = "client-bbbbbbbbbb";

#[tokio::test(start_paused = true)]
async fn a_half_open_peer_with_a_full_window_is_noticed() {
    // A plain one's first message is to be confirmed after a second.
    for (at, gone) in [(None, 61.0), (Some(CLIENT), 50.0)] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        let wire = browser.connect(&resume, at, idle).await.unwrap();
        settle().await;
        wire.fall_silent();
        wire.narrow(1);
        let session = browser.get(&resume).await.unwrap();
        for n in 0..3 {
            session.send(format!("{n}")).await.unwrap();
        }
        sleep(gone - 1.0).await;
        assert_eq!(session.info().transports, 1, "{at:?}");
        sleep(2.0).await;
        assert_eq!(session.info().transports, 0, "{at:?}: a ping was due for the pong timeout");
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_full_window_follows_at_once() {
    // More than the pump takes from the session at a time.
    const MESSAGES: usize = 600;
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    wire.narrow(100);
    let session = browser.get(&resume).await.unwrap();
    for n in 0..MESSAGES {
        session.send(n.to_string()).await.unwrap();
    }
    settle().await;
    let watch = Watch::start();
    wire.narrow(MESSAGES);
    for n in 0..MESSAGES {
        assert_eq!(wire.next_text().await, n.to_string());
    }
    assert_eq!(watch.seconds(), 0.0, "no ack and no timer is waited for");
}

#[tokio::test(start_paused = true)]
async fn a_half_open_peer_with_a_full_window_and_a_ping_under_way_is_noticed() {
    for (at, gone) in [(None, 60.0), (Some(CLIENT), 19.0)] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        let wire = browser.connect(&resume, at, idle).await.unwrap();
        settle().await;
        wire.fall_silent();
        sleep(31.0).await;
        // The ping of 30 s waits for its pong; now the window fills, and acks and heartbeats are due.
        wire.narrow(0);
        wire.text("a message to acknowledge");
        let session = browser.get(&resume).await.unwrap();
        for n in 0..3 {
            session.send(format!("{n}")).await.unwrap();
        }
        sleep(gone - 1.0).await;
        assert_eq!(session.info().transports, 1, "{at:?}");
        sleep(2.0).await;
        assert_eq!(session.info().transports, 0, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_superseded_peer_that_does_not_read_is_let_go_after_the_linger() {
    for flush in [false, true] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        let mut old = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
        old.next_control().await;
        old.fall_silent();
        if flush {
            old.hold_flush(true);
        } else {
            old.narrow(0);
        }
        let session = browser.get(&resume).await.unwrap();
        session.send("stuck").await.unwrap();
        settle().await;
        let watch = Watch::start();
        let mut new = browser.connect(&resume, Some(OTHER), idle).await.unwrap();
        assert_eq!(new.next_control().await["hello"]["status"], "reused");
        old.gone().await;
        assert_eq!(watch.seconds(), 5.0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_whose_flush_had_to_wait_is_answered_all_the_same() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut old = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = old.next_control().await["hello"].clone();
    old.fall_silent();
    old.hold_flush(true);
    let mut new = browser.connect(&resume, Some(OTHER), idle).await.unwrap();
    new.next_control().await;
    let Some(Frame::Close(close)) = old.next().await else { panic!() };
    settle().await;
    old.hold_flush(false);
    settle().await;
    old.send(Frame::Close(close));
    old.gone().await;
    // The page knows that it was superseded: if it comes back, its user wants that.
    let at = cursor(CLIENT, &hello, 0);
    let mut back = browser.connect(&resume, Some(&at), idle).await.unwrap();
    assert_eq!(back.next_control().await["hello"]["status"], "resumed");
    assert_eq!(new.closed().await, (4100, "superseded".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_told_late_that_it_was_superseded_may_come_back() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut old = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = old.next_control().await["hello"].clone();
    // Half open: it never sees its 4100.
    old.fall_silent();
    let mut new = browser.connect(&resume, Some(OTHER), idle).await.unwrap();
    new.next_control().await;
    old.gone().await;
    let at = cursor(CLIENT, &hello, 0);
    let mut told = browser.connect(&resume, Some(&at), idle).await.unwrap();
    assert_eq!(told.closed().await, (4100, "superseded".to_owned()));
    told.gone().await;
    let mut back = browser.connect(&resume, Some(&at), idle).await.unwrap();
    assert_eq!(back.next_control().await["hello"]["status"], "resumed");
    assert_eq!(new.closed().await, (4100, "superseded".to_owned()));
}

pub(crate) fn cursor(client: &str, hello: &serde_json::Value, received: u64) -> String {
    let (session, epoch) = (hello["session"].as_str().unwrap(), hello["epoch"].as_str().unwrap());
    format!("{client}.{session}.{epoch}.{received}.{}", hello["attachment"])
}
