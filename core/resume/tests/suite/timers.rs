//! Every timer, in paused time. Defaults: ping 30 s, pong 20 s (plain 60 s), unused 120 s, check 5 s.

use std::time::Duration;

use bytes::Bytes;
use session_resume::{
    Attach, Heartbeat, Limits, Overflow, SendErrorKind, SessionResume, reuse::Phase,
    transport::Frame,
};

use crate::support::{Browser, Watch, busy, echo, idle, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";

fn layer() -> SessionResume {
    SessionResume::new()
}

fn is_ping(frame: Option<&Frame>) -> bool {
    matches!(frame, Some(Frame::Ping(payload)) if payload.len() == 17 && payload[0] == b'S')
}

#[tokio::test(start_paused = true)]
async fn a_quiet_transport_is_pinged_every_30_s_and_lives() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    let watch = Watch::start();
    for at in [30.0, 60.0, 90.0] {
        assert!(is_ping(wire.next().await.as_ref()));
        assert_eq!(watch.seconds(), at);
    }
    assert_eq!(resume.sessions()[0].transports, 1);
}

#[tokio::test(start_paused = true)]
async fn a_ping_without_answer_ends_the_transport_after_20_s_a_plain_one_after_60() {
    for (client, after, code) in [(Some(CLIENT), 50.0, 4113), (None, 90.0, 1013)] {
        let (resume, mut browser) = (layer(), Browser::default());
        let mut wire = browser.connect(&resume, client, idle).await.unwrap();
        wire.fall_silent();
        let watch = Watch::start();
        assert_eq!(wire.closed().await.0, code);
        assert_eq!(watch.seconds(), after);
        settle().await;
        assert_eq!(resume.sessions()[0].phase, Phase::Suspended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_off_pings_nobody() {
    let resume = layer().with_heartbeat(Heartbeat::off());
    let mut browser = Browser::default();
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    let mut named = Browser::default().connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert_eq!(named.next_control().await["hello"]["heartbeat_ms"], 30_000);
    named.fall_silent();
    let watch = Watch::start();
    for at in [30.0, 60.0, 90.0] {
        let Some(Frame::Text(told)) = named.next().await else { panic!("an hb and nothing else") };
        assert_eq!((&*told, watch.seconds()), ("\u{1}{\"hb\":0}", at));
    }
    assert_eq!(wire.now(), None, "an idle plain transport is told nothing");
    browser.get(&resume).await.unwrap().send("a").await.unwrap();
    assert_eq!(wire.next_text().await, "a");
    assert!(is_ping(wire.next().await.as_ref()), "what it is sent is confirmed");
}

#[test]
fn a_heartbeat_of_nothing_is_refused() {
    let second = Duration::from_secs(1);
    for heartbeat in [
        Heartbeat::every(Duration::ZERO),
        Heartbeat::every(Duration::from_micros(999)),
        Heartbeat::every(second).with_pong_timeout(Duration::ZERO),
        Heartbeat::every(second).with_plain_pong_timeout(Duration::ZERO),
    ] {
        let text = layer().with_heartbeat(heartbeat).validate().unwrap_err().to_string();
        assert!(text.contains("at least 1 ms") && text.contains("Heartbeat::off()"), "{text}");
    }
    let shortest = layer().with_heartbeat(Heartbeat::every(Duration::from_millis(1)));
    assert_eq!(shortest.validate(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_pong_of_another_ping_is_no_answer() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    wire.fall_silent();
    let watch = Watch::start();
    let session = browser.get(&resume).await.unwrap();
    session.send("a").await.unwrap();
    assert_eq!(wire.next_text().await, "a");
    let Some(Frame::Ping(payload)) = wire.next().await else { panic!() };
    assert_eq!(watch.seconds(), 1.0, "asked for a confirmation");
    let mut forged = payload.to_vec();
    forged[16] += 1;
    wire.send(Frame::Pong(Bytes::from(forged)));
    wire.send(Frame::Pong(Bytes::new()));
    settle().await;
    assert_eq!(session.info().outbox_messages, 1, "nothing is confirmed by it");
    wire.send(Frame::Pong(payload));
    settle().await;
    assert_eq!(session.info().outbox_messages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_plain_message_is_confirmed_after_1_s_or_64_messages() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    let session = browser.get(&resume).await.unwrap();
    sleep(5.0).await;
    let watch = Watch::start();
    session.send("lonely").await.unwrap();
    assert_eq!(wire.next_text().await, "lonely");
    assert!(is_ping(wire.next().await.as_ref()));
    assert_eq!(watch.seconds(), 1.0);
    for n in 0..64 {
        session.send(format!("{n}")).await.unwrap();
    }
    let watch = Watch::start();
    for n in 0..64 {
        let Some(Frame::Text(text)) = wire.next().await else { panic!("no ping before it is due") };
        assert_eq!(text, format!("{n}"));
    }
    assert!(is_ping(wire.next().await.as_ref()));
    assert_eq!(watch.seconds(), 0.0);
    settle().await;
    assert_eq!(session.info().outbox_messages, 0);
}

#[tokio::test(start_paused = true)]
async fn a_taken_message_is_acknowledged_within_250_ms_or_at_64() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    assert_eq!(wire.next_control().await["hello"]["status"], "new");
    let watch = Watch::start();
    wire.text("one");
    assert_eq!(wire.next_control().await["ack"], 1);
    assert_eq!(watch.seconds(), 0.25);
    (0..64).for_each(|n| wire.text(&format!("{n}")));
    let watch = Watch::start();
    assert_eq!(wire.next_control().await["ack"], 65);
    assert_eq!(watch.seconds(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_resumable_client_gets_hb_and_ping_every_heartbeat() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    wire.control(r#"{"ack":0}"#);
    let watch = Watch::start();
    for at in [30.0, 60.0] {
        assert_eq!(wire.next_control().await["hb"], 0);
        assert!(is_ping(wire.next().await.as_ref()));
        assert_eq!(watch.seconds(), at);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frozen_page_that_owes_an_ack_is_closed_after_two_and_a_half_heartbeats() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    session.send("unread").await.unwrap();
    let watch = Watch::start();
    assert_eq!(wire.closed().await.0, 4113);
    assert_eq!(watch.seconds(), 75.0);
    assert_eq!(session.info().outbox_messages, 1, "it may come back for it");
}

#[tokio::test(start_paused = true)]
async fn overflow_close_ends_the_session_a_heartbeat_after_the_last_ack() {
    let limits = Limits::default().with_outbox_messages(4);
    let resume = layer().with_overflow(Overflow::Close).with_limits(limits);
    let mut browser = Browser::default();
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    for n in 0..4 {
        session.send(format!("{n}")).await.unwrap();
    }
    let watch = Watch::start();
    assert!(session.send("one too many").await.is_err());
    assert_eq!(watch.seconds(), 30.0);
    for n in 0..4 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
    let hb = wire.next_control().await;
    assert_eq!(hb["hb"], 0);
    assert_eq!(wire.next_control().await["done"]["status"], "overflow");
    assert_eq!(wire.closed().await.0, 1000);
}

#[tokio::test(start_paused = true)]
async fn overflow_close_ends_a_session_without_transport_at_once() {
    let limits = Limits::default().with_outbox_messages(1);
    let resume = layer().with_overflow(Overflow::Close).with_limits(limits);
    let mut browser = Browser::default();
    let session = browser.get(&resume).await.unwrap();
    session.send("fits").await.unwrap();
    assert_eq!(session.try_send("does not").unwrap_err().kind(), SendErrorKind::Ended);
    let (status, body) =
        browser.poll(&resume, &session.id().to_string(), Duration::from_secs(1)).await;
    assert_eq!((status, body.contains("\"overflow\"")), (200, true), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_unused_session_expires_within_lifetime_and_check_interval() {
    let (resume, mut browser) = (layer(), Browser::default());
    let wire = browser.connect(&resume, None, idle).await.unwrap();
    sleep(1000.0).await;
    assert_eq!(resume.sessions().len(), 1, "in use");
    wire.cut();
    settle().await;
    let session = browser.look(&resume).await.unwrap();
    sleep(119.0).await;
    assert!(session.outcome().is_none());
    assert_eq!(browser.poll(&resume, &session.id().to_string(), Duration::ZERO).await.0, 202);
    sleep(7.0).await;
    assert!(resume.sessions().is_empty(), "neither looking nor polling is use");
    let (status, body) = browser.poll(&resume, &session.id().to_string(), Duration::ZERO).await;
    assert_eq!((status, body.contains("\"expired\"")), (200, true), "{body}");
}

#[tokio::test(start_paused = true)]
async fn extracting_a_session_restarts_its_clock() {
    let (resume, mut browser) = (layer(), Browser::default());
    let id = browser.get(&resume).await.unwrap().id();
    for _ in 0..5 {
        sleep(100.0).await;
        assert_eq!(browser.get(&resume).await.unwrap().id(), id);
    }
    sleep(130.0).await;
    assert_ne!(browser.get(&resume).await.unwrap().id(), id);
}

#[tokio::test(start_paused = true)]
async fn a_working_handler_is_cut_off_when_unattended_for_too_long() {
    let limits = Limits::default().with_max_unattended(Duration::from_secs(600));
    let (resume, mut browser) = (layer().with_limits(limits), Browser::default());
    let wire = browser.connect(&resume, None, busy).await.unwrap();
    wire.text("work");
    settle().await;
    sleep(5000.0).await;
    assert_eq!(resume.sessions().len(), 1, "attended");
    wire.cut();
    settle().await;
    sleep(595.0).await;
    assert_eq!(resume.sessions().len(), 1, "working, so in use");
    sleep(15.0).await;
    assert!(resume.sessions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn max_lifetime_ends_a_session_in_use_and_tells_its_client() {
    let limits = Limits::default().with_max_lifetime(Duration::from_secs(300));
    let (resume, mut browser) = (layer().with_limits(limits), Browser::default());
    let watch = Watch::start();
    let mut wire = browser.connect(&resume, Some(CLIENT), echo).await.unwrap();
    wire.next_control().await;
    loop {
        let control = wire.next_control().await;
        if control["done"].is_object() {
            assert_eq!(control["done"]["status"], "expired");
            break;
        }
    }
    assert!((300.0..=305.0).contains(&watch.seconds()), "{}", watch.seconds());
    assert_eq!(wire.closed().await.0, 1000);
}

#[tokio::test(start_paused = true)]
async fn two_plain_tabs_that_kick_each_other_are_slowed_down() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut delays = Vec::new();
    let mut tabs = Vec::new();
    for _ in 0..12 {
        let watch = Watch::start();
        tabs.push(browser.connect(&resume, None, idle).await.unwrap());
        settle().await;
        delays.push(watch.seconds());
    }
    // The first supersedes no client; the sixth supersede within 10 s begins the circle.
    assert_eq!(delays, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0]);
    assert_eq!(tabs[10].closed().await, (4100, "replaced".to_owned()), "the newest still wins");
    assert_eq!(resume.sessions()[0].transports, 1);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_process_stood_still_does_not_count() {
    let (resume, mut browser) = (layer(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    let mut other = Browser::default();
    let suspended = other.get(&resume).await.unwrap().id();
    sleep(29.0).await;
    wire.fall_silent();
    sleep(2.0).await;
    assert!(is_ping(wire.now().as_ref()), "its pong is due in 19 s");
    tokio::time::advance(Duration::from_secs(1000)).await;
    settle().await;
    assert_eq!(wire.now(), None, "the pong deadline has moved");
    assert_eq!(other.look(&resume).await.unwrap().id(), suspended, "so has the session's");
    sleep(25.0).await;
    assert_eq!(wire.closed().await.0, 1013);
    sleep(120.0).await;
    assert!(other.look(&resume).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_silent_holder_is_asked_and_gives_way_within_2_s() {
    for at in [Some("client-bbbbbbbbbb"), None] {
        let (resume, mut browser) = (layer().with_attach(Attach::Refuse), Browser::default());
        let mut holder = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
        holder.next_control().await;
        holder.fall_silent();
        sleep(29.0).await;
        match browser.connect(&resume, at, idle).await {
            Ok(mut refused) => assert_eq!(refused.closed().await.0, 4101),
            Err(refusal) => assert_eq!(refusal.status(), 409),
        }
        sleep(11.0).await;
        let watch = Watch::start();
        match browser.connect(&resume, at, idle).await {
            Ok(mut refused) => {
                assert_eq!(refused.next_control().await["retry"], 2000);
                assert_eq!(refused.closed().await.0, 4113);
            }
            Err(refusal) => {
                assert_eq!((refusal.status().as_u16(), refusal.retry_after()), (503, Some(2)));
            }
        }
        assert_eq!(holder.closed().await.0, 4113, "{at:?}");
        assert_eq!(watch.seconds(), 2.0, "{at:?}");
        let mut next = browser.connect(&resume, Some("client-bbbbbbbbbb"), idle).await.unwrap();
        assert_eq!(next.next_control().await["hello"]["status"], "reused");
    }
}
