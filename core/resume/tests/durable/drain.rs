use std::time::Duration;

use session_resume::store::{ErrorKind, MemoryStore};

use crate::{
    A, B,
    node::{Browser, Got, Node},
    store::Fault,
};

#[tokio::test(start_paused = true)]
async fn a_drain_is_invisible() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("emit 3");
    client.data().await.unwrap();
    let cursor = client.cursor(A);
    let session = node.open(&mut browser).await.unwrap();
    let report = node.layer.drain(Duration::from_secs(5)).await;
    assert_eq!((report.drained, report.cut.len()), (1, 0));
    let rest = client.rest().await;
    assert!(matches!(rest.last(), Some(Got::Close(4112))), "{rest:?}");
    let retry =
        rest.iter().any(|got| matches!(got, Got::Other(control) if control["retry"].is_u64()));
    assert!(retry, "{rest:?}");
    assert!(node.open(&mut browser).await.is_err(), "no new work");
    assert!(session.try_send("late").is_err(), "frozen");
    assert_eq!(node.layer.drain(Duration::ZERO).await.drained, 1, "the same report");
    node.kill();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let hello = client.hello().await;
    assert_eq!((&hello["status"], hello["from"].as_u64()), (&"resumed".into(), Some(1)));
    assert!(hello["gap"].is_null());
    assert_eq!(client.data().await.unwrap(), "e:1");
    assert_eq!(client.data().await.unwrap(), "e:2");
    assert_eq!(client.data().await, None, "each once");
}

#[tokio::test(start_paused = true)]
async fn only_who_is_busy_is_cut_and_goes_on_from_its_last_boundary() {
    let disk = MemoryStore::new();
    let (mut busy, mut calm) = (Browser::default(), Browser::default());
    let node = Node::start(&disk);
    let mut working = node.connect(&mut busy, Some(A)).await.unwrap();
    let mut waiting = node.connect(&mut calm, Some(B)).await.unwrap();
    working.hello().await;
    waiting.hello().await;
    working.send("add 1");
    working.data().await.unwrap();
    assert!(working.is_acked(1).await);
    waiting.send("add 2");
    waiting.data().await.unwrap();
    working.send("work");
    assert!(working.is_quiet().await);
    let cursors = [working.cursor(A), waiting.cursor(B)];
    let report = node.layer.drain(Duration::from_secs(5)).await;
    assert_eq!((report.drained, &report.cut), (1, &vec![working.id()]), "nobody else");
    assert!(working.rest().await.contains(&Got::Close(4112)));
    assert_eq!(working.acked, 1, "the message in hand is not acknowledged");
    node.kill();
    let node = Node::start(&disk);
    let mut working = node.connect(&mut busy, Some(&cursors[0])).await.unwrap();
    let hello = working.hello().await;
    assert_eq!(hello["status"], "restored");
    assert_eq!(hello["gap"]["reason"], "restarted");
    assert_eq!(hello["received"], 1, "the client sends it again");
    working.send("get");
    assert_eq!(working.data().await.unwrap(), "total:1", "nothing of it is in the state");
    let mut waiting = node.connect(&mut calm, Some(&cursors[1])).await.unwrap();
    assert_eq!(waiting.hello().await["status"], "resumed");
}

#[tokio::test(start_paused = true)]
async fn who_comes_to_a_boundary_in_time_stops_there() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("work");
    client.send("add 1");
    assert!(client.is_quiet().await);
    let cursor = client.cursor(A);
    let drain = node.layer.drain(Duration::from_secs(5));
    let finish = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.gate.notify_one();
    };
    let (report, ()) = tokio::join!(drain, finish);
    assert_eq!((report.drained, report.cut.len()), (1, 0));
    node.kill();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert_eq!(client.hello().await["received"], 1, "the second was not taken");
    assert_eq!(client.data().await.unwrap(), "worked", "sent before the boundary");
    client.send("get");
    assert_eq!(client.data().await.unwrap(), "total:100");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_makes_a_drain_honest() {
    let node = Node::start(&MemoryStore::new());
    let mut client = node.connect(&mut Browser::default(), Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    client.data().await.unwrap();
    node.store.hold();
    let report = node.layer.drain(Duration::from_secs(5)).await;
    assert_eq!((report.drained, report.cut.len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_costs_a_drain_nothing() {
    let node = Node::start(&MemoryStore::new());
    let mut client = node.connect(&mut Browser::default(), Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    client.data().await.unwrap();
    node.store.set(Fault::Fail(ErrorKind::Io));
    let recovers = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        node.store.set(Fault::None);
    };
    let (report, ()) = tokio::join!(node.layer.drain(Duration::from_secs(5)), recovers);
    assert_eq!((report.drained, report.cut.len()), (1, 0));
}

/// Else the message would count as one that has killed the process.
#[tokio::test(start_paused = true)]
async fn a_message_that_is_handled_at_the_deadline_is_not_held_against_itself() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    // So long in hand that the record names it.
    client.send("work");
    assert!(client.is_quiet().await);
    let cursor = client.cursor(A);
    client.cut();
    let drain = node.layer.drain(Duration::from_secs(1));
    let late = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        node.store.hold();
        node.gate.notify_one();
        tokio::time::sleep(Duration::from_millis(550)).await;
        node.store.release();
    };
    let (report, ()) = tokio::join!(drain, late);
    assert_eq!((report.drained, report.cut.len()), (0, 1), "not in time");
    node.kill();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    assert_eq!(client.hello().await["received"], 1, "the store has it all the same");
}

/// A session that waits for its store says nothing, but a client must not take its connection for dead.
#[tokio::test(start_paused = true)]
async fn clients_hear_heartbeats_while_a_drain_waits_for_its_store() {
    let node = Node::start(&MemoryStore::new());
    let mut client = node.connect(&mut Browser::default(), Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    client.data().await.unwrap();
    assert!(client.is_acked(1).await);
    node.store.set(Fault::Fail(ErrorKind::Io));
    let drain = node.layer.drain(Duration::from_secs(110));
    let listen = async {
        let until = tokio::time::Instant::now() + Duration::from_secs(100);
        let mut heard = Vec::new();
        while tokio::time::Instant::now() < until {
            heard.extend(client.next().await);
        }
        heard
    };
    let (_, heard) = tokio::join!(drain, listen);
    assert_eq!(heard, [Got::Ack(1), Got::Ack(1), Got::Ack(1)], "one in each heartbeat of 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_drain_wakes_long_polls() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let (id, start) = (client.session(), tokio::time::Instant::now());
    let drain = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.layer.drain(Duration::from_secs(5)).await
    };
    let mut other = browser.clone();
    let (answer, _) =
        tokio::join!(async { (node.poll(&mut other, &id, 40).await.0, start.elapsed()) }, drain);
    assert_eq!(answer.0, 202);
    assert!(answer.1 < Duration::from_secs(2), "{:?}", answer.1);
}
