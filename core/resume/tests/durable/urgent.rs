//! Messages that the handler takes before their turn, and what a crash leaves of that.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use session_resume::{Durability, LiveSession, Message, Result, store::MemoryStore};
use tokio::time::timeout;

use crate::{
    A,
    node::{Browser, Client, Node, Tally},
};

/// How long work takes that is not stopped.
const WORK: Duration = Duration::from_secs(600);

/// What a process has handed to its handler, and how.
type Taken = Arc<Mutex<Vec<String>>>;

fn is_urgent(message: &Message) -> bool {
    message.as_text().is_some_and(|text| text.starts_with('!'))
}

/// What the handler does with an urgent message.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// It goes on to the next message.
    GoesOn,
    /// It works on, and never comes to say that the message is handled.
    WorksOn,
}

async fn handle(mut live: LiveSession<Tally>, taken: Taken, then: Then) -> Result {
    let note = |how: &str, message: &Message| {
        taken.lock().unwrap().push(format!("{how} {}", message.as_text().unwrap()));
    };
    while let Some(message) = live.recv().await {
        note("turn", &message);
        if message.as_text() == Some("work")
            && let Ok(Some(stop)) = timeout(WORK, live.urgent()).await
        {
            note("urgent", &stop);
            live.update(|tally| tally.total += 1);
            live.send("stopped").await?;
            if then == Then::WorksOn {
                std::future::pending::<()>().await;
            }
        }
        if message.as_text() == Some("wait") {
            tokio::time::sleep(WORK).await;
        }
        live.send(message).await?;
    }
    Ok(())
}

async fn connect(node: &Node, browser: &mut Browser, at: &str, then: Then) -> (Client, Taken) {
    let taken = Taken::default();
    let given = Arc::clone(&taken);
    let upgrade = node.upgrade(browser, "/live", Some(at)).await.unwrap().on_urgent(is_urgent);
    let accepted = upgrade.on_session(move |live| handle(live, given, then)).unwrap();
    let mut client = Client::start(accepted);
    client.hello().await;
    (client, taken)
}

fn node(disk: &MemoryStore) -> Node {
    Node::new(disk, |layer| layer.with_durability(Durability::Exact))
}

/// The next data message, however long it takes.
async fn data(client: &mut Client) -> String {
    loop {
        if let Some(text) = client.data().await {
            return text;
        }
    }
}

/// Sends what the session has not acknowledged, as a client of ours does.
fn send_again(client: &Client, sent: &[&str]) {
    let received = client.hello["received"].as_u64().unwrap();
    for text in &sent[usize::try_from(received).unwrap()..] {
        client.send(text);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_was_committed_is_not_handed_out_again_though_one_before_it_is() {
    const SENT: [&str; 4] = ["work", "wait", "!stop", "last"];
    let (disk, mut browser) = (MemoryStore::new(), Browser::default());
    let node = node(&disk);
    let (mut client, taken) = connect(&node, &mut browser, A, Then::GoesOn).await;
    for text in SENT {
        client.send(text);
    }
    assert_eq!(client.data().await.unwrap(), "stopped");
    assert_eq!(client.data().await.unwrap(), "work");
    assert!(client.is_quiet().await);
    assert_eq!(*taken.lock().unwrap(), ["turn work", "urgent !stop", "turn wait"]);
    assert_eq!(client.acked, 1, "the one before it is not handled");
    let cursor = client.cursor(A);
    node.kill();

    let node = self::node(&disk);
    let (mut client, taken) = connect(&node, &mut browser, &cursor, Then::GoesOn).await;
    send_again(&client, &SENT);
    assert_eq!(data(&mut client).await, "wait");
    assert_eq!(data(&mut client).await, "last");
    assert!(client.is_acked(4).await);
    assert_eq!(*taken.lock().unwrap(), ["turn wait", "turn last"]);
    assert_eq!(node.open(&mut browser).await.unwrap().read(|tally| tally.total), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_taken_and_not_committed_is_handed_out_again() {
    const SENT: [&str; 2] = ["work", "!stop"];
    let (disk, mut browser) = (MemoryStore::new(), Browser::default());
    let node = node(&disk);
    let (mut client, taken) = connect(&node, &mut browser, A, Then::WorksOn).await;
    for text in SENT {
        client.send(text);
    }
    assert!(client.is_quiet().await, "nothing leaves before its commit");
    assert_eq!(*taken.lock().unwrap(), ["turn work", "urgent !stop"]);
    assert_eq!(client.acked, 0);
    let cursor = client.cursor(A);
    node.kill();

    let node = self::node(&disk);
    let (mut client, taken) = connect(&node, &mut browser, &cursor, Then::GoesOn).await;
    send_again(&client, &SENT);
    // The first messages after a crash are tried one by one: nothing overtakes them.
    assert_eq!(data(&mut client).await, "work");
    assert_eq!(data(&mut client).await, "!stop");
    assert_eq!(*taken.lock().unwrap(), ["turn work", "turn !stop"]);
    assert!(client.is_acked(2).await);
    // What follows is as before.
    for text in ["say", "say", "say", "say", "say", "say", "say", "say", "work", "!more"] {
        client.send(text);
    }
    while data(&mut client).await != "stopped" {}
}

#[tokio::test(start_paused = true)]
async fn what_it_led_to_is_saved_with_the_message_that_was_in_hand() {
    let (disk, mut browser) = (MemoryStore::new(), Browser::default());
    let node = node(&disk);
    let (client, taken) = connect(&node, &mut browser, A, Then::WorksOn).await;
    for text in ["work", "!stop"] {
        client.send(text);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(*taken.lock().unwrap(), ["turn work", "urgent !stop"]);
    node.kill();
    let node = self::node(&disk);
    let session = node.open(&mut browser).await.unwrap();
    assert_eq!(session.read(|tally| tally.total), 0, "half of it");
}
