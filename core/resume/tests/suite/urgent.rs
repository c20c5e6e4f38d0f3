//! Messages that a handler takes before their turn (`on_urgent`, `urgent`), in paused time.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use session_resume::{
    BlockingSession, Limits, LiveSession, Message, NoMessage, Result, Session, SessionResume,
    adapter::Upgrade,
};
use tokio::time::timeout;

use crate::support::{Browser, Watch, Wire, open, pair, settle, sleep, waits};

const CLIENT: &str = "client-aaaaaaaaaa";
const OTHER: &str = "client-bbbbbbbbbb";

fn is_urgent(message: &Message) -> bool {
    message.as_text().is_some_and(|text| text.starts_with('!'))
}

/// Works on each `work` for a minute, or until an urgent message comes; answers each message by how it came.
async fn work(mut live: LiveSession) -> Result {
    while let Some(message) = live.recv().await {
        if message.as_text() != Some("work") {
            live.send(format!("turn {}", message.as_text().unwrap())).await?;
            continue;
        }
        tokio::select! {
            () = sleep(60.0) => live.send("done").await?,
            Some(stop) = live.urgent() => {
                live.send(format!("urgent {}", stop.as_text().unwrap())).await?;
            }
        }
    }
    Ok(())
}

async fn connect(browser: &mut Browser, resume: &SessionResume, at: Option<&str>) -> Wire {
    let upgrade = browser.upgrade(resume, at).await.unwrap();
    open(upgrade.on_urgent(is_urgent), work).unwrap()
}

/// The handler is the test: it may do as it likes with the session.
async fn with_handler<R: Send + 'static>(
    upgrade: Upgrade,
    test: impl AsyncFnOnce(&mut LiveSession, &mut Wire) -> R,
) -> R {
    let (give, given) = tokio::sync::oneshot::channel();
    let wire = open(upgrade, |live: LiveSession| async move {
        let _ = give.send(live);
        std::future::pending::<()>().await;
    });
    let mut live = given.await.unwrap();
    test(&mut live, &mut wire.unwrap()).await
}

/// The next data message that the client gets.
async fn data(wire: &mut Wire) -> String {
    loop {
        let text = wire.next_text().await;
        if !text.starts_with('\u{1}') {
            return text;
        }
    }
}

/// What the handler gets, if there is anything now.
async fn now(receive: impl Future<Output = Option<Message>>) -> Option<String> {
    settle().await;
    let message = timeout(Duration::ZERO, receive).await.ok().flatten()?;
    Some(message.as_text().unwrap().to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_urgent_message_reaches_a_handler_at_work_before_what_waits() {
    for at in [None, Some(CLIENT)] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        let mut wire = connect(&mut browser, &resume, at).await;
        wire.text("work");
        sleep(1.0).await;
        for text in ["one", "work", "!stop", "two"] {
            wire.text(text);
        }
        let watch = Watch::start();
        for expected in ["urgent !stop", "turn one", "done", "turn two"] {
            assert_eq!(data(&mut wire).await, expected, "{at:?}");
        }
        assert_eq!(watch.seconds(), 60.0, "the second work was not stopped");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_nobody_takes_comes_in_its_turn() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut wire = connect(&mut browser, &resume, Some(CLIENT)).await;
    for text in ["one", "!stop", "two"] {
        wire.text(text);
    }
    for expected in ["turn one", "turn !stop", "turn two"] {
        assert_eq!(data(&mut wire).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_given_up_loses_nothing() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap().on_urgent(is_urgent);
    let test = async |live: &mut LiveSession, wire: &mut Wire| {
        // Given up before anything has come, and after it was woken.
        waits(pin!(live.urgent()).as_mut()).await;
        {
            let mut given_up = pin!(live.urgent());
            waits(given_up.as_mut()).await;
            wire.text("!0");
            settle().await;
        }
        assert_eq!(now(live.urgent()).await.as_deref(), Some("!0"));
        waits(pin!(live.urgent()).as_mut()).await;
        wire.text("!1");
        settle().await;
        assert_eq!(now(live.recv()).await.as_deref(), Some("!1"), "in its turn");
        assert_eq!(now(live.urgent()).await, None);
        assert_eq!(now(live.recv()).await, None);
    };
    with_handler(upgrade, test).await;
}

#[tokio::test(start_paused = true)]
async fn asking_for_the_next_hands_back_the_one_before_unless_another_is_in_hand() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap().on_urgent(is_urgent);
    let test = async |live: &mut LiveSession, wire: &mut Wire| {
        wire.text("!0");
        assert_eq!(now(live.urgent()).await.as_deref(), Some("!0"));
        assert!(live.is_message_in_hand());
        assert_eq!(now(live.urgent()).await, None);
        assert!(!live.is_message_in_hand());
        for text in ["work", "!1"] {
            wire.text(text);
        }
        assert_eq!(now(live.recv()).await.as_deref(), Some("work"));
        assert_eq!(now(live.urgent()).await.as_deref(), Some("!1"));
        assert_eq!(now(live.urgent()).await, None);
        assert!(live.is_message_in_hand());
        live.commit().await.unwrap();
        assert!(!live.is_message_in_hand(), "both are handled");
    };
    with_handler(upgrade, test).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_acknowledged_was_taken() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap().on_urgent(is_urgent);
    let test = async |live: &mut LiveSession, wire: &mut Wire| {
        for text in ["work", "one", "!stop"] {
            wire.text(text);
        }
        assert_eq!(now(live.recv()).await.as_deref(), Some("work"));
        assert_eq!(now(live.urgent()).await.as_deref(), Some("!stop"));
        sleep(10.0).await;
        assert_eq!(acked(wire).await, 1, "one waits");
        assert_eq!(now(live.recv()).await.as_deref(), Some("one"));
        sleep(10.0).await;
        assert_eq!(acked(wire).await, 3);
    };
    with_handler(upgrade, test).await;
}

/// The largest number that the client was told.
async fn acked(wire: &mut Wire) -> u64 {
    let mut acked = 0;
    while let Ok(control) = timeout(Duration::from_millis(1), wire.next_control()).await {
        let told = control.get("ack").or(control.get("hb")).and_then(serde_json::Value::as_u64);
        acked = acked.max(told.unwrap_or_default());
    }
    acked
}

/// The application's code runs without the session's lock, and once for each message.
#[tokio::test(start_paused = true)]
async fn the_closure_may_use_the_session_and_is_asked_once() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let handle = Arc::new(OnceLock::<Session>::new());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (of_closure, asks) = (Arc::clone(&handle), Arc::clone(&asked));
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let upgrade = upgrade.on_urgent(move |message| {
        assert_eq!(of_closure.get().unwrap().info().transports, 1);
        asks.lock().unwrap().push(message.as_text().unwrap().to_owned());
        is_urgent(message)
    });
    let test = async |live: &mut LiveSession, wire: &mut Wire| {
        assert!(handle.set(live.handle()).is_ok());
        for text in ["0", "!1", "2"] {
            wire.text(text);
        }
        assert_eq!(now(live.urgent()).await.as_deref(), Some("!1"));
        assert_eq!(now(live.urgent()).await, None);
        wire.text("3");
        assert_eq!(now(live.urgent()).await, None);
        assert_eq!(now(live.recv()).await.as_deref(), Some("0"));
    };
    with_handler(upgrade, test).await;
    assert_eq!(*asked.lock().unwrap(), ["0", "!1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn the_closure_of_the_upgrade_that_starts_the_handler_counts() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let _first = connect(&mut browser, &resume, Some(CLIENT)).await;
    settle().await;
    let upgrade = browser.upgrade(&resume, Some(OTHER)).await.unwrap();
    let mut wire = open(upgrade.on_urgent(|_| true), work).unwrap();
    wire.text("work");
    wire.text("one");
    let watch = Watch::start();
    assert_eq!(data(&mut wire).await, "done");
    assert_eq!(watch.seconds(), 60.0);
    assert_eq!(data(&mut wire).await, "turn one");
}

#[tokio::test(start_paused = true)]
async fn without_a_closure_none_is_urgent() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap();
    let mut wire = open(upgrade, work).unwrap();
    wire.text("work");
    wire.text("!stop");
    assert_eq!(data(&mut wire).await, "done");
    assert_eq!(data(&mut wire).await, "turn !stop");
}

/// The session of one client that has filled the inbox: nothing of it is read, until there is room.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_filled_the_inbox_waits_with_urgent_messages_too() {
    let resume = SessionResume::new().with_limits(Limits::default().with_inbox_messages(2));
    let mut browser = Browser::default();
    let mut wire = connect(&mut browser, &resume, None).await;
    wire.text("work");
    settle().await;
    for text in ["one", "two", "!stop"] {
        wire.text(text);
    }
    for expected in ["done", "turn one", "turn two", "turn !stop"] {
        assert_eq!(data(&mut wire).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_waits_for_one_is_told_the_end() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap().on_urgent(is_urgent);
    let test = async |live: &mut LiveSession, _: &mut Wire| {
        let handle = live.handle();
        let mut urgent = pin!(live.urgent());
        waits(urgent.as_mut()).await;
        handle.close("enough");
        assert!(urgent.await.is_none());
    };
    with_handler(upgrade, test).await;
}

#[tokio::test]
async fn a_thread_looks_for_urgent_messages() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let (said, saw) = channel();
    let (goes_on, go_on) = channel::<()>();
    let handler = move |mut session: BlockingSession| {
        while let Ok(()) = go_on.recv() {
            let seen = match session.try_urgent() {
                Ok(message) => message.as_text().unwrap().to_owned(),
                Err(NoMessage::Yet) => "yet".to_owned(),
                Err(_) => "over".to_owned(),
            };
            said.send(seen).unwrap();
        }
    };
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap().on_urgent(is_urgent);
    let attach = upgrade.on_session_blocking(handler).unwrap();
    let (socket, wire) = pair();
    tokio::spawn(attach.run(socket));
    let session = browser.get(&resume).await.unwrap();
    let look = async || {
        goes_on.send(()).unwrap();
        next(&saw).await
    };
    assert_eq!(look().await, "yet");
    wire.text("one");
    wire.text("!stop");
    while session.info().inbox_messages < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(look().await, "!stop");
    assert_eq!(look().await, "yet");
    session.close("enough");
    assert_eq!(look().await, "over");
}

/// What the thread says next.
async fn next(saw: &Receiver<String>) -> String {
    loop {
        match saw.try_recv() {
            Ok(seen) => return seen,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A drain waits for what is in hand, an urgent message too, and hands out none.
#[tokio::test(start_paused = true)]
async fn a_drain_hands_out_none() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let upgrade = browser.upgrade(&resume, Some(CLIENT)).await.unwrap().on_urgent(is_urgent);
    let layer = resume.clone();
    let test = async |live: &mut LiveSession, wire: &mut Wire| {
        wire.text("!0");
        assert_eq!(now(live.urgent()).await.as_deref(), Some("!0"));
        wire.text("!1");
        settle().await;
        let drain = tokio::spawn(async move { layer.drain(Duration::from_secs(5)).await });
        settle().await;
        assert_eq!(now(live.urgent()).await, None);
        assert_eq!(now(live.recv()).await, None);
        drain.abort();
    };
    with_handler(upgrade, test).await;
}
