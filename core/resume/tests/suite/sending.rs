//! Sending waits for room, in order, and can be given up; receiving can, too.

use std::pin::pin;

use session_resume::{
    Attach, Limits, LiveSession, NotDelivered, Overflow, Retain, SendErrorKind, SessionResume,
};

use crate::support::{Browser, Watch, idle, settle, sleep, waits};

const CLIENT: &str = "client-aaaaaaaaaa";

fn small() -> SessionResume<Vec<u32>> {
    let limits = Limits::default().with_outbox_messages(2).with_message(100);
    SessionResume::new().with_limits(limits).with_memory_state(|_| Vec::new())
}

#[tokio::test(start_paused = true)]
async fn a_full_outbox_makes_send_wait_until_the_client_has_taken_from_it() {
    let (resume, mut browser) = (small(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    session.send("0").await.unwrap();
    session.send("1").await.unwrap();
    let full = session.try_send("2").unwrap_err();
    assert_eq!((full.kind(), full.into_message()), (SendErrorKind::Full, Some("2".into())));
    let sender = session.clone();
    let sends = tokio::spawn(async move {
        let watch = Watch::start();
        sender.send("2").await.unwrap();
        watch.seconds()
    });
    sleep(7.0).await;
    wire.control(r#"{"ack":1}"#);
    assert_eq!(sends.await.unwrap(), 7.0);
    for n in 0..3 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_given_up_sends_nothing_and_holds_nobody_up() {
    let (resume, mut browser) = (small(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    session.send("0").await.unwrap();
    session.send("1").await.unwrap();
    {
        let mut given_up = pin!(session.send("never"));
        waits(given_up.as_mut()).await;
        let mut with = pin!(session.send_with(|log| {
            log.push(1);
            "never"
        }));
        waits(with.as_mut()).await;
    }
    let mut third = pin!(session.send("2"));
    waits(third.as_mut()).await;
    settle().await;
    wire.control(r#"{"ack":1}"#);
    third.await.unwrap();
    for n in 0..3 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
    assert!(session.read(Vec::is_empty), "its closure has not run");
}

#[tokio::test(start_paused = true)]
async fn nobody_who_waits_for_room_is_forgotten() {
    let (resume, mut browser) = (small(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    let sends: Vec<_> = (0..20)
        .map(|n| {
            let session = session.clone();
            tokio::spawn(async move { session.send(format!("{n}")).await })
        })
        .collect();
    let mut got = Vec::new();
    for n in 1..=20 {
        got.push(wire.next_text().await.parse::<u32>().unwrap());
        wire.control(&format!(r#"{{"ack":{n}}}"#));
    }
    for send in sends {
        send.await.unwrap().unwrap();
    }
    got.sort_unstable();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_send_ends_with_the_session() {
    let (resume, mut browser) = (small(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    session.send("0").await.unwrap();
    session.send("1").await.unwrap();
    let mut waiting = pin!(session.send("2"));
    waits(waiting.as_mut()).await;
    session.close("enough");
    let ended = waiting.await.unwrap_err();
    assert_eq!((ended.kind(), ended.into_message()), (SendErrorKind::Ended, Some("2".into())));
}

#[tokio::test(start_paused = true)]
async fn a_message_over_its_limit_is_an_error_at_once_and_the_session_goes_on() {
    let (resume, mut browser) = (small(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let long = "x".repeat(101);
    let error = session.send(long.as_str()).await.unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::TooLarge);
    assert_eq!(error.to_string(), "message over the limit of 100 bytes");
    assert_eq!(error.into_message(), Some(long.as_str().into()));
    let error = session.send_with(|_| long.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.into_message()), (SendErrorKind::TooLarge, Some(long.into())));
    session.send("x".repeat(100)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn drop_oldest_never_waits() {
    let resume = small().with_overflow(Overflow::DropOldest);
    let session = Browser::default().get(&resume).await.unwrap();
    for n in 0..100 {
        session.try_send(format!("{n}")).unwrap();
    }
    assert_eq!(session.info().outbox_messages, 2);
}

#[tokio::test(start_paused = true)]
async fn state_and_message_are_one_step() {
    let limits = Limits::default().with_outbox_messages(10_000);
    let resume = SessionResume::new().with_limits(limits).with_memory_state(|_| Vec::<u32>::new());
    let mut browser = Browser::default();
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let session = session.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..50 {
                        let send = session.send_with(|log| {
                            log.push(n);
                            format!("{n}")
                        });
                        send.await.unwrap();
                    }
                });
            })
        })
        .collect();
    for task in tasks {
        task.join().unwrap();
    }
    for n in session.read(Clone::clone) {
        assert_eq!(
            wire.next_text().await,
            format!("{n}"),
            "the order of changes and messages is one"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_recv_that_is_given_up_loses_nothing() {
    async fn impatient(mut live: LiveSession) -> session_resume::Result {
        let mut ticks = 0;
        loop {
            let message = tokio::select! {
                biased;
                () = sleep(0.01) => { ticks += 1; continue }
                message = live.recv() => message,
            };
            let Some(message) = message else {
                assert!(ticks > 0);
                return Ok(());
            };
            live.send(message).await?;
        }
    }
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = browser.connect(&resume, None, impatient).await.unwrap();
    for n in 0..50 {
        sleep(0.007).await;
        wire.text(&format!("{n}"));
    }
    for n in 0..50 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_and_a_client_that_both_wait_are_set_free() {
    // The handler waits for room, and the client's messages wait for the handler. Without a rule both wait for ever.
    async fn chatty(mut live: LiveSession<Vec<u32>>) -> session_resume::Result {
        while live.recv().await.is_some() {
            for n in 0..4 {
                live.send(format!("{n}")).await?;
            }
        }
        Ok(())
    }
    let limits = Limits::default().with_outbox_messages(2).with_inbox_messages(2);
    let resume = SessionResume::new().with_limits(limits).with_memory_state(|_| Vec::new());
    for at in [None, Some(CLIENT)] {
        let mut browser = Browser::default();
        let mut wire = browser.connect(&resume, at, chatty).await.unwrap();
        for _ in 0..10 {
            wire.text("more");
        }
        if at.is_some() {
            assert_eq!(wire.closed().await.0, 4113, "it did not keep to its window");
        } else {
            for n in (0..4).cycle().take(40) {
                assert_eq!(wire.next_text().await, format!("{n}"));
            }
        }
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_receipt_comes_with_the_last_ack() {
    let (resume, mut browser) = (small(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    session.send("0").await.unwrap();
    session.send("1").await.unwrap();
    let delivered = tokio::spawn(async move { session.delivered().await });
    for text in ["0", "1"] {
        assert_eq!(wire.next_text().await, text);
    }
    wire.control(r#"{"ack":1}"#);
    settle().await;
    assert!(!delivered.is_finished());
    wire.control(r#"{"ack":2}"#);
    // The ack itself wakes it.
    settle().await;
    assert!(delivered.is_finished());
    assert_eq!(delivered.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_receipt_that_cannot_come() {
    let (resume, mut browser) = (small(), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let session = browser.get(&resume).await.unwrap();
    session.send("0").await.unwrap();
    let waiting = session.clone();
    let delivered = tokio::spawn(async move { waiting.delivered().await });
    settle().await;
    wire.cut();
    assert_eq!(delivered.await.unwrap(), Err(NotDelivered::NobodyAttached));
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    let waiting = session.clone();
    let delivered = tokio::spawn(async move { waiting.delivered().await });
    settle().await;
    session.close("enough");
    assert_eq!(delivered.await.unwrap(), Err(NotDelivered::Ended));
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_was_cleared_is_nobodys_start() {
    for retain in [Retain::nothing(), Retain::since_checkpoint()] {
        let resume = SessionResume::new().with_attach(Attach::Share).with_retention(retain);
        let mut browser = Browser::default();
        let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
        wire.next_control().await;
        let session = browser.get(&resume).await.unwrap();
        session.send_checkpoint("view").await.unwrap();
        assert_eq!(wire.next_text().await, "view");
        wire.control(r#"{"ack":1}"#);
        settle().await;
        for (client, from) in [("client-bbbbbbbbbb", 0), ("client-cccccccccc", 1)] {
            let mut fresh = browser.connect(&resume, Some(client), idle).await.unwrap();
            assert_eq!(fresh.next_control().await["hello"]["from"], from, "{retain:?}");
            fresh.control(r#"{"ack":1}"#);
            session.clear_checkpoint();
        }
    }
}

/// Another client takes over, and what it has acknowledged is kept apart from the outbox, which has room for two.
#[tokio::test(start_paused = true)]
async fn what_is_retained_leaves_the_outbox_its_room() {
    let (resume, mut browser) = (small().with_retention(Retain::last(100)), Browser::default());
    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    let mut other = browser.connect(&resume, Some("client-bbbbbbbbbb"), idle).await.unwrap();
    other.next_control().await;
    assert_eq!(wire.closed().await, (4100, "superseded".to_owned()));
    let session = browser.get(&resume).await.unwrap();
    for n in 0..10 {
        session.try_send(format!("{n}")).unwrap();
        assert_eq!(other.next_text().await, format!("{n}"));
        other.control(&format!(r#"{{"ack":{}}}"#, n + 1));
        settle().await;
    }
    // Of what the first client has missed, two messages fit.
    let at = crate::blocked::cursor(CLIENT, &hello, 0);
    let mut back = browser.connect(&resume, Some(&at), idle).await.unwrap();
    let hello = back.next_control().await["hello"].clone();
    assert_eq!((&hello["from"], &hello["gap"]["to"]), (&8.into(), &8.into()));
    assert_eq!(back.next_text().await, "8");
    assert_eq!(session.try_send("10").unwrap_err().kind(), SendErrorKind::Full);
    back.control(r#"{"ack":9}"#);
    settle().await;
    session.try_send("10").unwrap();
}
