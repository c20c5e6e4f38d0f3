use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use session_resume::{
    Attach, BlockingSession, CommitError, CommitErrorKind, Durability, Limits, LiveSession,
    Session, SessionResume,
    store::{ErrorKind, MemoryStore},
};
use tokio::time::timeout;

use crate::{
    A, B,
    node::{Browser, Client, ENCODED, Got, Node, Tally},
    store::Fault,
};

#[tokio::test(start_paused = true)]
async fn a_message_is_acknowledged_only_after_its_commit() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    node.store.hold();
    client.send("add 1");
    assert_eq!(client.data().await.unwrap(), "total:1", "under State output does not wait");
    assert!(!client.is_acked(1).await, "not on disk yet");
    node.store.release();
    assert!(client.is_acked(1).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_leaves_before_its_commit_under_exact() {
    let node = exact(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    node.store.hold();
    client.send("add 1");
    assert_eq!(client.data().await, None);
    node.store.release();
    assert_eq!(client.data().await.unwrap(), "total:1");
    assert!(client.is_acked(1).await);
}

#[tokio::test(start_paused = true)]
async fn a_newcomers_hello_waits_for_its_commit_under_exact() {
    let disk = MemoryStore::new();
    let node = Node::new(&disk, exact_share);
    let mut browser = Browser::default();
    let mut first = node.connect(&mut browser, Some(A)).await.unwrap();
    first.hello().await;
    node.store.hold();
    let mut newcomer = node.connect(&mut browser, Some(B)).await.unwrap();
    assert_eq!(newcomer.next().await, None, "a crash would take back that it was ever there");
    let known = first.cursor(A);
    first.cut();
    let mut first = node.connect(&mut browser, Some(&known)).await.unwrap();
    first.hello().await;
    node.store.release();
    newcomer.hello().await;
    first.send("say one");
    assert_eq!(first.data().await.unwrap(), "one");
    assert!(first.is_acked(1).await);
    let (a, b) = (first.cursor(A), newcomer.cursor(B));
    node.kill();
    let node = Node::new(&disk, exact_share);
    let mut first = node.connect(&mut browser, Some(&a)).await.unwrap();
    first.hello().await;
    assert!(first.is_quiet().await);
    let mut newcomer = node.connect(&mut browser, Some(&b)).await.unwrap();
    let hello = newcomer.hello().await;
    assert_eq!((&hello["status"], &hello["gap"]), (&"resumed".into(), &serde_json::Value::Null));
    assert_eq!(newcomer.data().await.unwrap(), "one");
}

/// The handler may have a message in hand for minutes: a client that comes meanwhile does not wait for its end.
#[tokio::test(start_paused = true)]
async fn a_newcomer_does_not_wait_for_the_message_in_hand_under_exact() {
    let disk = MemoryStore::new();
    let node = Node::new(&disk, exact_share);
    let mut browser = Browser::default();
    let mut first = node.connect(&mut browser, Some(A)).await.unwrap();
    first.hello().await;
    first.send("say one");
    assert_eq!(first.data().await.unwrap(), "one");
    first.send("work");
    assert!(first.is_quiet().await);
    // A change that no snapshot can show yet: the boundary is due.
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total += 1);
    assert!(first.is_quiet().await);
    node.store.set(Fault::Fail(ErrorKind::Io));
    let mut newcomer = node.connect(&mut browser, Some(B)).await.unwrap();
    assert_eq!(newcomer.next().await, None);
    node.store.set(Fault::None);
    newcomer.hello().await;
    let (a, b) = (first.cursor(A), newcomer.cursor(B));
    node.kill();
    let node = Node::new(&disk, exact_share);
    let mut first = node.connect(&mut browser, Some(&a)).await.unwrap();
    first.hello().await;
    first.send("say two");
    assert_eq!(first.data().await.unwrap(), "two");
    let mut newcomer = node.connect(&mut browser, Some(&b)).await.unwrap();
    let hello = newcomer.hello().await;
    assert_eq!((&hello["status"], &hello["gap"]), (&"resumed".into(), &serde_json::Value::Null));
    assert_eq!(newcomer.data().await.unwrap(), "two");
}

#[tokio::test(start_paused = true)]
async fn output_of_the_message_in_hand_waits_for_a_boundary_under_exact() {
    let node = exact(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert_eq!(client.data().await.unwrap(), "total:1");
    client.send("emit 10000");
    let got = client.rest().await;
    assert_eq!(got.last(), Some(&Got::Close(1000)), "what was not committed leaves with the end");
    let id = client.session();
    let (status, body) = node.poll(&mut browser, &id, 0).await;
    assert_eq!(status, 200);
    assert_eq!(body["status"], "overflow");
    assert!(body["error"].as_str().unwrap().contains("commit()"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_exact_commit_does_not_wait_for_the_flush_interval() {
    let disk = MemoryStore::new();
    let node = Node::new(&disk, |layer| {
        layer.with_durability(Durability::Exact).with_flush_interval(Duration::from_secs(2))
    });
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let start = tokio::time::Instant::now();
    for i in 1..=20 {
        client.send("add 1");
        assert_eq!(client.data().await.unwrap(), format!("total:{i}"));
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn commit_errors_when_the_store_fails_and_succeeds_later() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    for fault in [ErrorKind::Io, ErrorKind::Full].map(Fault::Fail).into_iter().chain([Fault::Tear])
    {
        node.commits.lock().unwrap().clear();
        node.store.set(fault);
        client.send("commit");
        assert!(client.is_quiet().await);
        assert_eq!(*node.commits.lock().unwrap(), [false], "{fault:?}");
        node.store.set(Fault::None);
        client.send("commit");
        assert!(client.is_quiet().await);
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(*node.commits.lock().unwrap(), [false, true], "{fault:?}");
    }
    assert!(client.is_acked(6).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_while_the_store_fails() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    node.store.set(Fault::Fail(ErrorKind::Unavailable));
    for i in 1..=100 {
        client.send("add 1");
        assert_eq!(client.data().await.unwrap(), format!("total:{i}"), "it goes on meanwhile");
    }
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(client.is_quiet().await);
    assert_eq!(client.acked, 0, "heartbeats went on, too, and said nothing else");
    node.store.set(Fault::None);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(client.is_acked(100).await);
}

#[tokio::test(start_paused = true)]
async fn a_torn_write_is_not_acknowledged_but_may_be_found() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    node.store.set(Fault::Tear);
    client.send("add 1");
    client.data().await.unwrap();
    assert!(!client.is_acked(1).await);
    let cursor = client.cursor(A);
    node.kill();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert_eq!(client.hello().await["received"], 1, "the client need not send it again");
    client.send("get");
    assert_eq!(client.data().await.unwrap(), "total:1");
}

#[tokio::test(start_paused = true)]
async fn one_session_that_cannot_be_stored_holds_up_no_other() {
    // Room for small sessions only.
    let disk = MemoryStore::with_max_bytes(6_000);
    let node = exact(&disk);
    let (mut greedy, mut modest) = (Browser::default(), Browser::default());
    let mut full = node.connect(&mut greedy, Some(A)).await.unwrap();
    let mut other = node.connect(&mut modest, Some(B)).await.unwrap();
    full.hello().await;
    other.hello().await;
    full.send(&format!("say {}", "x".repeat(10_000)));
    assert_eq!(full.data().await, None, "store full: it waits");
    tokio::time::sleep(Duration::from_secs(12)).await;
    let start = tokio::time::Instant::now();
    for _ in 0..3 {
        other.send("add 1");
        other.data().await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn state_is_serialised_only_when_a_flush_is_due() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    assert!(client.is_quiet().await);
    let (puts, encoded) = (node.store.puts(), ENCODED.load(SeqCst));
    for _ in 0..1000 {
        client.send("add 1");
    }
    assert!(client.is_acked(1000).await);
    let puts = node.store.puts() - puts;
    assert!((1..20).contains(&puts), "{puts}");
    // Other tests of this binary may encode at the same time; none does so a thousand times.
    assert!(ENCODED.load(SeqCst) - encoded < 900);
}

#[tokio::test(start_paused = true)]
async fn sessions_commit_together() {
    let node = Node::start(&MemoryStore::new());
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut browser = Browser::default();
        let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
        client.hello().await;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.store.hold();
    node.store.calls();
    for client in &clients {
        client.send("add 1");
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let under_way = node.store.calls().iter().filter(|call| *call == "put session").count();
    assert_eq!(under_way, 50, "all are in one batch before any has finished");
    node.store.release();
    for client in &mut clients {
        assert!(client.is_acked(1).await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_http_handler_changes_is_saved_on_demand() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 7);
    session.saved().await.unwrap();
    node.kill();
    let node = Node::start(&disk);
    assert_eq!(node.open(&mut browser).await.unwrap().read(|tally| tally.total), 7);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_would_wait_for_itself_is_told() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    assert!(client.is_quiet().await);
    client.send("saved");
    assert!(client.is_acked(1).await);
    // Nothing to save; then an update in the message's hand; then committed, and nothing to save again.
    assert_eq!(*node.commits.lock().unwrap(), [true, true, true]);
}

/// Whichever handle it waits with, and whichever way it got it.
#[tokio::test(start_paused = true)]
async fn a_handler_that_would_wait_for_itself_is_told_by_every_handle() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let (layer, id) = (node.layer.clone(), session.id());
    let handler = async move |mut live: LiveSession<Tally>| {
        async fn helper(session: &Session<Tally>) -> Result<(), CommitError> {
            session.saved().await
        }
        while live.recv().await.is_some() {
            live.update(|tally| tally.total += 1);
            let visited = layer.get(id).unwrap();
            let saved = [
                live.saved().await,
                (*live).saved().await,
                live.handle().saved().await,
                helper(&live).await,
                visited.saved().await,
                async { live.handle().saved().await }.await,
            ];
            for saved in saved {
                tell.send(saved.map_err(|error| error.kind())).unwrap();
            }
            // With no message in hand, none of them is an error.
            live.commit().await.unwrap();
            live.update(|tally| tally.total += 1);
            tell.send(helper(&live).await.map_err(|error| error.kind())).unwrap();
        }
    };
    let upgrade = node.upgrade(&mut browser, "/live", Some(A)).await.unwrap();
    let mut client = Client::start(upgrade.on_session(handler).unwrap());
    client.hello().await;
    client.send("work");
    for _ in 0..6 {
        let saved = timeout(Duration::from_secs(60), told.recv()).await.expect("it does not wait");
        assert_eq!(saved, Some(Err(CommitErrorKind::MessageInHand)));
    }
    let saved = timeout(Duration::from_secs(60), told.recv()).await.expect("it does not wait");
    assert_eq!(saved, Some(Ok(())));
}

/// The change comes while the handler waits already.
#[tokio::test(start_paused = true)]
async fn a_task_of_the_handlers_may_wait_for_the_boundary() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handler = async move |mut live: LiveSession<Tally>| {
        while live.recv().await.is_some() {
            live.update(|tally| tally.total += 1);
            let (session, tell) = (live.handle(), tell.clone());
            live.spawn("waits", async move { tell.send(session.saved().await.is_ok()).unwrap() });
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let upgrade = node.upgrade(&mut browser, "/live", Some(A)).await.unwrap();
    let mut client = Client::start(upgrade.on_session(handler).unwrap());
    client.hello().await;
    client.send("work");
    assert_eq!(timeout(Duration::from_secs(60), told.recv()).await.unwrap(), Some(true));
}

#[tokio::test]
async fn a_handler_on_a_thread_that_would_wait_for_itself_is_told() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let runtime = tokio::runtime::Handle::current();
    let handler = move |mut live: BlockingSession<Tally>| {
        while live.recv().is_some() {
            live.update(|tally| tally.total += 1);
            let handle = Session::clone(&live);
            for saved in [live.saved(), runtime.block_on(handle.saved())] {
                tell.send(saved.map_err(|error| error.kind())).unwrap();
            }
        }
    };
    let client = node.connect_blocking(&mut browser, handler).await;
    client.send("work");
    for _ in 0..2 {
        let saved = timeout(Duration::from_secs(60), told.recv()).await.expect("it does not wait");
        assert_eq!(saved, Some(Err(CommitErrorKind::MessageInHand)));
    }
}

/// The next message is there already, and the work on it takes long.
#[tokio::test(start_paused = true)]
async fn what_is_said_of_one_message_does_not_wait_for_the_next() {
    let node = exact(&MemoryStore::new());
    let mut client = node.connect(&mut Browser::default(), Some(A)).await.unwrap();
    client.hello().await;
    for text in ["say a", "say b", "work"] {
        client.send(text);
    }
    assert_eq!(client.data().await.as_deref(), Some("a"));
    assert_eq!(client.data().await.as_deref(), Some("b"));
    assert_eq!(client.data().await, None, "the gate is shut");
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_moves_its_expiry() {
    let node = Node::new(&MemoryStore::new(), |layer| {
        layer.with_stored_lifetime(Duration::from_secs(300))
    });
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("work");
    node.store.calls();
    for _ in 0..60 {
        while client.next().await.is_some_and(|got| got != Got::Gone) {}
        client.send("\u{1}{\"ack\":0}");
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let calls = node.store.calls();
    assert!(calls.iter().filter(|call| *call == "touch session").count() >= 3, "{calls:?}");
}

fn exact(disk: &MemoryStore) -> Node {
    Node::new(disk, |layer| layer.with_durability(Durability::Exact))
}

fn exact_share(layer: SessionResume<Tally>) -> SessionResume<Tally> {
    layer.with_durability(Durability::Exact).with_attach(Attach::Share)
}

/// All that fills the outbox is output of messages that are handled, and its commit is under way: `send` waits.
#[tokio::test(start_paused = true)]
async fn a_slow_commit_ends_no_session_under_exact() {
    let small = Limits::default().with_outbox_messages(8);
    for (limits, messages, each) in [(small, 20_u64, 1), (Limits::default(), 250, 5)] {
        let exact = |layer: SessionResume<Tally>| {
            layer.with_durability(Durability::Exact).with_limits(limits)
        };
        let node = Node::new(&MemoryStore::new(), exact);
        let mut client = node.connect(&mut Browser::default(), Some(A)).await.unwrap();
        client.hello().await;
        node.store.hold();
        for _ in 0..messages {
            client.send(&format!("emit {each}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        // And then it fails for a while: what it has not taken is put again.
        node.store.set(Fault::Fail(ErrorKind::Io));
        node.store.release();
        tokio::time::sleep(Duration::from_millis(500)).await;
        node.store.set(Fault::None);
        for _ in 0..messages * each {
            assert!(client.data().await.is_some());
        }
        assert!(client.is_acked(messages).await);
        assert!(node.layer.get(client.id()).unwrap().outcome().is_none());
    }
}
