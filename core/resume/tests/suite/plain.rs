//! Plain clients whose libraries answer pings only while the application reads, in paused time.

use std::time::Duration;

use bytes::Bytes;
use session_resume::{Event, LiveSession, Session, SessionResume, transport::Frame};
use tokio::time::Instant;

use crate::support::{Browser, Wire, idle, settle, sleep};

/// A client whose application takes one frame at a time, and works on each message for `works`. Meanwhile its
/// library reads nothing.
struct SlowReader {
    wire: Wire,
    works: Duration,
    shown: Vec<String>,
    connections: usize,
}

impl SlowReader {
    async fn connect(browser: &mut Browser, resume: &SessionResume, works: Duration) -> Self {
        let wire = Self::open(browser, resume).await;
        Self { wire, works, shown: Vec::new(), connections: 1 }
    }

    async fn open(browser: &mut Browser, resume: &SessionResume) -> Wire {
        let wire = browser.connect(resume, None, idle).await.unwrap();
        wire.fall_silent();
        wire
    }

    /// Reads for this long, and connects again whenever it is closed.
    async fn read(&mut self, browser: &mut Browser, resume: &SessionResume, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let frame = tokio::time::timeout_at(end, self.wire.next()).await;
            match frame {
                Err(_) => return,
                Ok(Some(Frame::Text(text))) => {
                    self.shown.push(text.to_string());
                    tokio::time::sleep(self.works).await;
                }
                Ok(Some(Frame::Ping(payload))) => self.wire.send(Frame::Pong(payload)),
                Ok(Some(Frame::Close(_)) | None) => {
                    self.wire = Self::open(browser, resume).await;
                    self.connections += 1;
                }
                Ok(Some(other)) => panic!("{other:?}"),
            }
        }
    }
}

async fn produce(session: Session, every: Duration) {
    for n in 0_u64.. {
        tokio::time::sleep(every).await;
        if session.send(format!("new {n}")).await.is_err() {
            return;
        }
    }
}

/// What took 25 s of work was begun 5 times in 120 s when the deadline was 20 s.
#[tokio::test(start_paused = true)]
async fn a_message_that_takes_25_s_of_work_comes_once() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let work = Duration::from_secs(25);
    let mut reader = SlowReader::connect(&mut browser, &resume, work).await;
    let session = browser.get(&resume).await.unwrap();
    session.send("0").await.unwrap();
    reader.read(&mut browser, &resume, Duration::from_secs(120)).await;
    // The client is known to be slow by now, so many messages at once do no harm.
    for n in 1..8 {
        session.send(format!("{n}")).await.unwrap();
    }
    reader.read(&mut browser, &resume, Duration::from_secs(300)).await;
    let expected: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    assert_eq!((reader.shown, reader.connections), (expected, 1));
    settle().await;
    assert_eq!(session.info().outbox_messages, 0, "all is confirmed");
}

/// Eight of them behind one ping take longer than its deadline: the next transport brings them one by one.
#[tokio::test(start_paused = true)]
async fn many_messages_that_take_long_come_to_an_end() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let resume = resume.with_unused_lifetime(Duration::from_secs(600));
    let work = Duration::from_secs(25);
    let mut reader = SlowReader::connect(&mut browser, &resume, work).await;
    let session = browser.get(&resume).await.unwrap();
    for n in 0..8 {
        session.send(format!("{n}")).await.unwrap();
    }
    reader.read(&mut browser, &resume, Duration::from_secs(600)).await;
    let expected: Vec<_> = (0..8).map(|n| n.to_string()).collect();
    // What its library has read before it saw the close.
    assert_eq!(reader.connections, 2);
    assert_eq!(reader.shown[..8], expected);
    assert_eq!(reader.shown[8..], expected);
    settle().await;
    assert_eq!(session.info().outbox_messages, 0, "all is confirmed");
}

/// A pong that comes when its transport has just been given up still counts.
#[tokio::test(start_paused = true)]
async fn a_pong_while_the_close_lingers_confirms() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    wire.fall_silent();
    let session = browser.get(&resume).await.unwrap();
    session.send("a").await.unwrap();
    assert_eq!(wire.next_text().await, "a");
    let Some(Frame::Ping(payload)) = wire.next().await else { panic!() };
    assert_eq!(wire.closed().await.0, 1013);
    sleep(2.0).await;
    assert_eq!(session.info().outbox_messages, 1);
    wire.send(Frame::Pong(Bytes::from_static(b"another")));
    wire.send(Frame::Pong(payload));
    settle().await;
    assert_eq!(session.info().outbox_messages, 0);
}

/// 1,000 behind, 20 messages a second taken of 16.7 produced: it was shown 5,521 messages, 1,344 of them distinct,
/// in 290 s when all of the outbox was written beyond one ping.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_catches_up() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    for n in 0..1000 {
        session.send(format!("old {n}")).await.unwrap();
    }
    let producer = tokio::spawn(produce(session.clone(), Duration::from_millis(60)));
    let work = Duration::from_millis(50);
    let mut reader = SlowReader::connect(&mut browser, &resume, work).await;
    reader.read(&mut browser, &resume, Duration::from_secs(400)).await;
    producer.abort();
    let mut distinct = reader.shown.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!((reader.connections, distinct.len()), (1, reader.shown.len()), "each once");
    assert!(distinct.len() > 6600, "caught up: {} of about 7,666", distinct.len());
    let behind = session.info().outbox_messages;
    assert!(behind < 130, "{behind} are not confirmed");
}

/// 100 connections and 30 MB in 15 s, before.
#[tokio::test(start_paused = true)]
async fn a_message_over_the_clients_own_limit_is_not_replayed_for_ever() {
    for too_big in [true, false] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let mut shown = Vec::new();
        let mut connections = 0;
        while shown.last().is_none_or(|last| *last != "last") {
            connections += 1;
            assert!(connections < 10, "{shown:?}");
            let told = told.clone();
            let handler = move |mut live: LiveSession| async move {
                while let Some(event) = live.recv_event().await {
                    if let Event::Undeliverable { position, bytes, client, .. } = event {
                        assert_eq!(client.id(), None);
                        let _ = told.send((position, bytes));
                    }
                }
            };
            let mut wire = browser.connect(&resume, None, handler).await.unwrap();
            wire.fall_silent();
            if connections == 1 {
                let session = browser.get(&resume).await.unwrap();
                for message in ["first", &"x".repeat(300_000), "last"] {
                    session.send(message).await.unwrap();
                }
            }
            while let Ok(Some(frame)) =
                tokio::time::timeout(Duration::from_secs(3), wire.next()).await
            {
                match frame {
                    Frame::Text(text) if text.len() > 100_000 => {
                        // Its library reads nothing more.
                        if too_big {
                            wire.send(Frame::Close(Some((1009, "message too big".into()))));
                        } else {
                            wire.cut();
                        }
                        settle().await;
                        break;
                    }
                    Frame::Text(text) => shown.push(text.to_string()),
                    Frame::Ping(payload) => wire.send(Frame::Pong(payload)),
                    other => panic!("{other:?}"),
                }
            }
        }
        // The first end with all of it unconfirmed, then three with it alone.
        assert_eq!(connections, if too_big { 2 } else { 5 });
        assert!(shown.iter().filter(|shown| *shown == "first").count() <= 2, "{shown:?}");
        settle().await;
        assert_eq!((tells.try_recv(), tells.try_recv().is_err()), (Ok((1, 300_000)), true));
    }
}

/// What is written beyond an unanswered ping is what comes twice after a drop.
#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_is_written_128_messages() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, None, idle).await.unwrap();
    wire.fall_silent();
    let session = browser.get(&resume).await.unwrap();
    for n in 0..1000 {
        session.send(format!("{n}")).await.unwrap();
    }
    settle().await;
    let written = std::iter::from_fn(|| wire.now()).filter(|f| matches!(f, Frame::Text(_))).count();
    assert_eq!(written, 128);
}
