//! Messages that kill the process.

use std::time::Duration;

use session_resume::store::MemoryStore;

use crate::{
    A,
    node::{Browser, Got, Node, in_hand},
    restart::stored,
};

/// What a client is told about messages that were dropped.
fn dropped(told: &[Got]) -> Vec<u64> {
    let number = |got: &Got| match got {
        Got::Other(control) => control["dropped"].as_u64(),
        _ => None,
    };
    told.iter().filter_map(number).collect()
}

#[tokio::test(start_paused = true)]
async fn a_message_ends_after_three_deaths_with_it_in_hand_and_the_session_goes_on() {
    let (disk, mut browser, cursor) = stored().await;
    let id = cursor.split('.').nth(1).unwrap().to_owned();
    for _ in 0..3 {
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        client.hello().await;
        client.send("work");
        assert!(client.is_quiet().await);
        assert!(in_hand(&node));
        // The message has killed it.
        node.kill();
    }
    let node = Node::start(&disk);
    let (status, body) = node.poll(&mut browser, &id, 0).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("interrupted")));
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    client.hello().await;
    client.send("work");
    client.send("get");
    let all = client.rest().await;
    assert_eq!(dropped(&all), [1], "{all:?}");
    let at = |got: &dyn Fn(&Got) -> bool| all.iter().position(got).unwrap();
    assert!(
        at(&|got| matches!(got, Got::Other(_))) < at(&|got| matches!(got, Got::Ack(n) if *n > 1))
    );
    assert!(all.contains(&Got::Data("total:1".into())), "its last boundary: {all:?}");
    assert_eq!(*node.drops.lock().unwrap(), [1], "the handler is told");
    assert_eq!(client.session(), id);
    // Neither told the handler again nor forgotten for the client.
    node.kill();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let all = client.rest().await;
    assert_eq!(dropped(&all), [1], "{all:?}");
    client.send("get");
    assert_eq!(client.data().await.unwrap(), "total:1");
    assert!(node.drops.lock().unwrap().is_empty());
}

/// The very first death is noted, too, if the message was at work for longer than a flush interval.
#[tokio::test(start_paused = true)]
async fn three_deaths_are_enough_also_where_nothing_had_gone_wrong_before() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let mut at = A.to_owned();
    for _ in 0..3 {
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, Some(&at)).await.unwrap();
        client.hello().await;
        client.send("work");
        assert!(client.is_quiet().await && in_hand(&node));
        at = client.cursor(A);
        node.kill();
    }
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&at)).await.unwrap();
    client.send("work");
    assert_eq!(dropped(&client.rest().await), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_long_message_that_is_cut_off_twice_is_handled_in_the_end() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let mut at = A.to_owned();
    for death in 0..3 {
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, Some(&at)).await.unwrap();
        client.hello().await;
        client.send("work");
        assert!(client.is_quiet().await && in_hand(&node));
        at = client.cursor(A);
        if death == 2 {
            node.gate.notify_one();
            assert_eq!(client.data().await.as_deref(), Some("worked"));
            assert!(client.is_acked(1).await);
        }
        node.kill();
    }
}

/// A state that kills on every message costs three deaths for each, but not without end.
#[tokio::test(start_paused = true)]
async fn two_drops_with_nothing_handled_between_end_the_session() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let mut at = A.to_owned();
    let mut lives = 0;
    let (node, client, all) = loop {
        lives += 1;
        assert!(lives < 9, "it kills without end");
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, Some(&at)).await.unwrap();
        let hello = client.hello().await;
        let first = hello["received"].as_u64().unwrap();
        (first..2).for_each(|_| client.send("work"));
        let all = client.rest().await;
        if all.contains(&Got::Close(1000)) {
            break (node, client, all);
        }
        assert!(in_hand(&node));
        at = client.cursor(A);
        node.kill();
    };
    assert_eq!(dropped(&all), [0, 1], "{all:?}");
    assert!(
        all.iter()
            .any(|got| matches!(got, Got::Other(control) if control["done"]["status"] == "failed")),
        "{all:?}"
    );
    let (status, body) = node.poll(&mut browser, &client.session(), 0).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("failed")));
    assert!(body["error"].as_str().unwrap().contains("in hand"), "{body}");
    assert!(node.drops.lock().unwrap().len() <= 1);
    // A client that comes back later is told the same.
    let mut client = node.connect(&mut browser, Some(&client.cursor(A))).await.unwrap();
    assert_eq!(dropped(&client.rest().await), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_plain_clients_message_ends_too() {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    for _ in 0..3 {
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, None).await.unwrap();
        client.send("add 1");
        client.send("work");
        client.rest().await;
        assert!(in_hand(&node));
        node.kill();
    }
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, None).await.unwrap();
    client.send("add 1");
    client.send("work");
    client.send("get");
    let mut all = Vec::new();
    while let Some(text) = client.data().await {
        all.push(text);
    }
    // What the first life had added was not on disk when it was killed.
    assert_eq!(all.last().map(String::as_str), Some("total:3"), "{all:?}");
    assert_eq!(node.drops.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_poison_message_takes_nobody_with_it() {
    let disk = MemoryStore::new();
    let (mut poison, mut innocent) = (Browser::default(), Browser::default());
    let node = Node::start(&disk);
    let mut cursors = Vec::new();
    for browser in [&mut poison, &mut innocent] {
        let mut client = node.connect(browser, Some(A)).await.unwrap();
        client.hello().await;
        client.send("add 1");
        assert!(client.is_acked(1).await);
        cursors.push(client.cursor(A));
    }
    node.kill();
    // The server cannot tell whose message is to blame: both are on trial.
    for _ in 0..2 {
        let node = Node::start(&disk);
        for (browser, cursor) in [&mut poison, &mut innocent].into_iter().zip(&cursors) {
            let mut client = node.connect(browser, Some(cursor)).await.unwrap();
            client.hello().await;
            client.send("work");
            assert!(client.is_quiet().await);
        }
        assert_eq!(at_work(&node), 2);
        node.kill();
    }
    // One at a time now.
    let node = Node::start(&disk);
    let mut first = node.connect(&mut poison, Some(&cursors[0])).await.unwrap();
    first.hello().await;
    first.send("work");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(at_work(&node), 1);
    let mut second = node.connect(&mut innocent, Some(&cursors[1])).await.unwrap();
    second.hello().await;
    second.send("work");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(at_work(&node), 1);
    node.kill();
    let node = Node::start(&disk);
    let mut first = node.connect(&mut poison, Some(&cursors[0])).await.unwrap();
    first.send("work");
    assert_eq!(dropped(&first.rest().await), [1]);
    let mut second = node.connect(&mut innocent, Some(&cursors[1])).await.unwrap();
    second.send("work");
    node.gate.notify_one();
    assert_eq!(second.data().await.unwrap(), "worked");
}

#[tokio::test(start_paused = true)]
async fn suspects_take_turns_and_a_long_one_does_not_hold_up_the_others() {
    const USERS: usize = 5;
    let disk = MemoryStore::new();
    let mut browsers: Vec<_> = std::iter::repeat_with(Browser::default).take(USERS).collect();
    let mut cursors = vec![String::from(A); USERS];
    for life in 0..4 {
        let node = Node::start(&disk);
        let mut clients = Vec::new();
        for (browser, cursor) in browsers.iter_mut().zip(&mut cursors) {
            let mut client = node.connect(browser, Some(cursor)).await.unwrap();
            client.hello().await;
            if life == 0 {
                client.send("add 1");
                assert!(client.is_acked(1).await);
                *cursor = client.cursor(A);
            } else {
                client.send("work");
            }
            clients.push(client);
        }
        for client in &mut clients {
            while (1..3).contains(&life) && !client.is_quiet().await {}
        }
        if life == 3 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(at_work(&node), 1);
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(at_work(&node), 2);
            tokio::time::sleep(Duration::from_secs(USERS as u64)).await;
            assert_eq!(at_work(&node), USERS);
        }
        node.kill();
    }
}

#[tokio::test(start_paused = true)]
async fn an_innocent_message_never_fails() {
    let (disk, mut browser, cursor) = stored().await;
    for _ in 0..10 {
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        client.hello().await;
        client.send("add 1");
        client.data().await.unwrap();
        // Handled, and that is on disk.
        client.is_acked(u64::MAX).await;
        node.kill();
    }
    // The message was cut off by a drain: it is not to blame.
    for _ in 0..10 {
        let node = Node::start(&disk);
        let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
        client.hello().await;
        client.send("work");
        assert!(client.is_quiet().await);
        assert_eq!(node.layer.drain(Duration::from_secs(1)).await.cut.len(), 1);
        node.kill();
    }
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    client.send("get");
    assert_eq!(client.data().await.unwrap(), "total:11");
}

/// How many sessions have a message in hand.
fn at_work(node: &Node) -> usize {
    let sessions = node.layer.sessions().into_iter();
    sessions
        .filter(|info| node.layer.get(info.id).is_some_and(|session| session.is_message_in_hand()))
        .count()
}
