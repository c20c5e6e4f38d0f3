//! A session as a stream and a sink: with the combinators of `futures`, across reconnects, and with no room.

use std::{future::poll_fn, pin::pin, task::Poll};

use futures_util::{SinkExt as _, StreamExt as _, sink::Sink, stream::FusedStream as _};
use session_resume::{
    Limits, LiveSession, Message, Overflow, SendErrorKind, SessionResume, SessionSink,
};

use crate::support::{Browser, Wire, idle, settle, sleep, waits};

const CLIENT: &str = "client-aaaaaaaaaa";

fn small() -> SessionResume {
    SessionResume::new().with_limits(Limits::default().with_outbox_messages(2))
}

async fn is_ready(sink: &mut SessionSink) -> bool {
    poll_fn(|cx| Poll::Ready(sink.poll_ready_unpin(cx).is_ready())).await
}

async fn start(resume: &SessionResume) -> (session_resume::Session, Wire) {
    let mut browser = Browser::default();
    let mut wire = browser.connect(resume, Some(CLIENT), idle).await.unwrap();
    wire.next_control().await;
    (browser.get(resume).await.unwrap(), wire)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_forwarded_to_the_sink_is_an_echo_across_reconnects() {
    async fn echo(mut live: LiveSession) -> session_resume::Result<&'static str> {
        let sink = live.sink();
        assert!(!live.is_terminated());
        live.by_ref().take(2).map(Ok).forward(sink).await?;
        assert!(!live.is_terminated());
        // The same as one value.
        let (sink, stream) = live.into_duplex().split();
        stream
            .take_while(|message| std::future::ready(message.as_text() != Some("end")))
            .map(Ok)
            .forward(sink)
            .await?;
        Ok("ended by the client")
    }
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    for n in 0..4 {
        let mut wire = browser.connect(&resume, None, echo).await.unwrap();
        let text = format!("{n}");
        wire.text(&text);
        // It is sent again what it has not confirmed.
        while wire.next_text().await != text {}
    }
    let wire = browser.connect(&resume, None, echo).await.unwrap();
    wire.text("end");
    settle().await;
    assert_eq!(session.outcome().unwrap().result().unwrap().get(), r#""ended by the client""#);
}

#[tokio::test(start_paused = true)]
async fn the_stream_ends_with_the_session() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let (tell, told) = tokio::sync::oneshot::channel();
    let handler = async move |mut live: LiveSession| {
        let session = live.handle();
        // Not in this task: it is aborted with the session.
        tokio::spawn(async move {
            let before = live.is_terminated();
            let next = live.next().await;
            let after = live.is_terminated();
            let again = live.next().await;
            tell.send((before, next, after, again)).unwrap();
        });
        session.close("enough");
        std::future::pending::<()>().await;
    };
    let _wire = browser.connect(&resume, None, handler).await.unwrap();
    assert_eq!(told.await.unwrap(), (false, None, true, None));
}

#[tokio::test(start_paused = true)]
async fn a_sink_is_ready_while_the_outbox_has_room() {
    let resume = small();
    let (session, mut wire) = start(&resume).await;
    let mut sink = session.sink();
    for text in ["0", "1"] {
        assert!(is_ready(&mut sink).await);
        sink.send(text.into()).await.unwrap();
    }
    assert!(!is_ready(&mut sink).await);
    {
        let mut given_up = pin!(sink.send("never".into()));
        waits(given_up.as_mut()).await;
    }
    let mut waiting = pin!(sink.send("2".into()));
    waits(waiting.as_mut()).await;
    settle().await;
    wire.control(r#"{"ack":1}"#);
    waiting.await.unwrap();
    for n in 0..3 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_waits_holds_no_other_send_up_once_it_is_dropped() {
    let resume = small();
    let (session, wire) = start(&resume).await;
    session.send("0").await.unwrap();
    session.send("1").await.unwrap();
    let mut dropped = session.sink();
    assert!(!is_ready(&mut dropped).await);
    let mut other = session.sink();
    let mut waiting = pin!(other.send("2".into()));
    waits(waiting.as_mut()).await;
    drop(dropped);
    settle().await;
    wire.control(r#"{"ack":1}"#);
    waiting.await.unwrap();
    assert_eq!(session.info().outbox_messages, 2);
}

/// Work that only waits for room, with no client attached, does not keep a session. What a sink no longer waits for must
/// not count as that.
#[tokio::test(start_paused = true)]
async fn a_sink_that_waited_and_was_dropped_does_not_count_as_work_that_waits() {
    let resume = small();
    let (session, wire) = start(&resume).await;
    session.send("0").await.unwrap();
    session.send("1").await.unwrap();
    let mut dropped = session.sink();
    assert!(!is_ready(&mut dropped).await);
    drop(dropped);
    assert!(session.spawn("long", sleep(500.0)));
    wire.cut();
    sleep(400.0).await;
    assert!(session.outcome().is_none(), "the task keeps it");
}

#[tokio::test(start_paused = true)]
async fn a_sink_whose_room_was_taken_keeps_one_message_until_there_is_room() {
    let resume = small();
    let (session, mut wire) = start(&resume).await;
    let mut sink = session.sink();
    session.send("0").await.unwrap();
    assert!(is_ready(&mut sink).await);
    session.send("1").await.unwrap();
    sink.start_send_unpin("2".into()).unwrap();
    assert_eq!(session.info().outbox_messages, 2, "it is not in the outbox");
    assert!(!is_ready(&mut sink).await, "and no other is taken");
    let mut flushed = pin!(sink.flush());
    waits(flushed.as_mut()).await;
    settle().await;
    wire.control(r#"{"ack":1}"#);
    flushed.await.unwrap();
    sink.close().await.unwrap();
    for n in 0..3 {
        assert_eq!(wire.next_text().await, format!("{n}"));
    }
    assert!(session.outcome().is_none(), "closing the sink does not end the session");
}

/// A caller that asks for room and flushes in turn, as tarpc does, would ask for ever in one poll.
#[tokio::test(start_paused = true)]
async fn a_sink_that_is_not_ready_is_not_flushed_either() {
    let resume = small();
    let (session, wire) = start(&resume).await;
    let mut sink = session.sink();
    for text in ["0", "1"] {
        // The outbox is full with the second, and that has been sent all the same.
        sink.send(text.into()).await.unwrap();
    }
    let is_flushed = async |sink: &mut SessionSink| {
        poll_fn(|cx| Poll::Ready(sink.poll_flush_unpin(cx).is_ready())).await
    };
    assert!(is_flushed(&mut sink).await);
    assert!(!is_ready(&mut sink).await);
    assert!(!is_flushed(&mut sink).await);
    settle().await;
    wire.control(r#"{"ack":1}"#);
    settle().await;
    assert!(is_flushed(&mut sink).await && is_ready(&mut sink).await);
    // Nor when the task has had its share and must let others run.
    let stays = poll_fn(|cx| {
        for _ in 0..1_000 {
            if sink.poll_ready_unpin(cx).is_pending() {
                return Poll::Ready(sink.poll_flush_unpin(cx).is_pending());
            }
        }
        panic!("it never lets others run");
    });
    assert!(stays.await);
}

#[tokio::test(start_paused = true)]
async fn asking_a_sink_whether_it_is_ready_drops_no_message_and_ends_no_session() {
    for overflow in [Overflow::DropOldest, Overflow::Close] {
        let resume = small().with_overflow(overflow);
        let session = Browser::default().get(&resume).await.unwrap();
        let mut sink = session.sink();
        for text in ["0", "1"] {
            sink.send(text.into()).await.unwrap();
        }
        assert!(is_ready(&mut sink).await, "a send would not wait");
        assert_eq!(session.info().outbox_messages, 2);
        assert!(session.outcome().is_none());
        let sent = sink.send("2".into()).await;
        assert_eq!(sent.is_ok(), overflow == Overflow::DropOldest);
    }
}

#[tokio::test(start_paused = true)]
async fn the_sink_of_a_session_that_has_ended_gives_the_message_back() {
    fn is_a_sink<S: Sink<Message> + Clone + Send + Sync + Unpin + 'static>(_: &S) {}

    let resume = SessionResume::new();
    let session = Browser::default().get(&resume).await.unwrap();
    let mut sink = session.sink();
    session.close("enough");
    let error = sink.send("late".into()).await.unwrap_err();
    assert_eq!((error.kind(), error.into_message()), (SendErrorKind::Ended, Some("late".into())));
    is_a_sink(&sink);
}
