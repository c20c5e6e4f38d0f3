//! The truth is told: hello fields, statuses, gaps.

use serde_json::{Value, json};
use session_resume_testkit::{Browser, Close, Socket, until};
use session_resume_tests::{Framework, scenarios};

use crate::{client, testee};

scenarios!(
    the_hello_says_all_a_client_needs,
    a_client_that_has_received_nothing_resumes,
    data_that_begins_with_a_mark_and_data_of_any_size_pass_unchanged,
    drop_oldest_tells_exactly_the_missing_positions,
    cursors_of_other_sessions_and_epochs_are_told_the_truth,
    a_cursor_above_the_head_is_4103,
    a_stale_offer_supersedes_nothing,
    one_of_three_shared_clients_drops_and_catches_up,
    a_fresh_client_starts_at_the_checkpoint,
);

async fn the_hello_says_all_a_client_needs(framework: Framework) {
    let flags = "--ping 7000 --unused-lifetime 90000 --inbox-messages 17 --max-message 65536";
    let testee = testee(framework, flags).await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    let (session, epoch) = (hello["session"].clone(), hello["epoch"].clone());
    let expected = json!({
        "v": 1, "session": session, "epoch": epoch, "attachment": 1, "status": "new",
        "from": 0, "received": 0, "gap": null, "heartbeat_ms": 7000, "lifetime_ms": 90000,
        "window": {"messages": 17, "bytes": 1_048_576}, "limit": 65_536, "ping": true,
    });
    assert_eq!(hello, expected);
    assert_eq!(browser.get("/").await.json()["session"], session);
}

async fn a_client_that_has_received_nothing_resumes(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    ws.control(r#"{"ack":0}"#).await;
    ws.cut().await;
    let mut ws = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    let again = ws.member("hello").await;
    assert_eq!((&again["status"], &again["from"]), (&json!("resumed"), &json!(0)));
    assert_eq!((&again["gap"], &again["received"]), (&Value::Null, &json!(0)));
    assert_eq!(again["attachment"], 2);
}

async fn data_that_begins_with_a_mark_and_data_of_any_size_pass_unchanged(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    let mut position = 0;
    // A megabyte is all that the outbox keeps, so everything is acknowledged at once.
    let mut say = async |ws: &mut Socket, sent: &str, expected: &str| {
        ws.send(sent).await;
        assert!(ws.data().await == expected, "{} bytes back as they are", expected.len());
        position += 1;
        ws.control(&format!(r#"{{"ack":{position}}}"#)).await;
    };
    for text in ["\u{1}{\"ack\":5}", "\u{1}", "\u{1}\u{1}", "", "ä\u{0}", "{\"hello\":1}"] {
        say(&mut ws, &format!("say {text}"), text).await;
    }
    // A message that itself begins with the mark is escaped on its way in.
    say(&mut ws, "\u{1}\u{1}{x", "unknown:\u{1}{x").await;
    let big = "x".repeat((1 << 20) - 5);
    say(&mut ws, &format!("echo {big}"), &format!("echo:{big}")).await;
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
        ws.send(bytes.clone()).await;
        assert!(ws.binary().await == bytes, "{size} bytes");
        position += 1;
        ws.control(&format!(r#"{{"ack":{position}}}"#)).await;
    }
}

async fn drop_oldest_tells_exactly_the_missing_positions(framework: Framework) {
    let testee = testee(framework, "--overflow drop-oldest --outbox-messages 10").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    ws.send("every 1 35").await;
    assert_eq!(ws.data().await, "e:0:");
    ws.cut().await;
    let info = browser.clone();
    until("all are sent", async || testee.count().await["suspended"] == 1).await;
    // The state counts the messages that were sent.
    loop {
        let mut probe = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 1)).await;
        let told = probe.member("hello").await;
        if told["gap"]["to"] == 25 {
            assert_eq!(told["gap"], json!({"from": 1, "to": 25, "reason": "overflow"}));
            assert_eq!((&told["from"], &told["status"]), (&json!(25), &json!("resumed")));
            for i in 25..35 {
                assert_eq!(probe.data().await, format!("e:{i}:"));
            }
            break;
        }
        probe.cut().await;
    }
    assert_eq!(info.get("/").await.json()["origin"], "reused");
}

async fn cursors_of_other_sessions_and_epochs_are_told_the_truth(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    let (session, epoch) = (hello["session"].as_str().unwrap(), hello["epoch"].as_str().unwrap());
    let gap = |reason: &str| json!({"from": 7, "to": null, "reason": reason});
    let unknown = "00000000-0000-4000-8000-000000000000";
    for (at, reason) in [
        (format!("{}.{unknown}.{epoch}.7", client('b')), "expired"),
        (format!("{}.no-uuid.{epoch}.7", client('c')), "expired"),
        (format!("{}.{session}.other-epoch.7", client('d')), "restarted"),
        (format!("{}.{session}.0000000000000000-0.7", client('e')), "restarted"),
    ] {
        let mut ws = browser.resumable("/live", &at).await;
        let told = ws.member("hello").await;
        assert_eq!(told["gap"], gap(reason), "{at}");
        assert_eq!((&told["status"], &told["session"]), (&json!("reused"), &json!(session)));
    }
    // The session of another browser is as unknown as a session that never was.
    let thief = Browser::at(testee.addr);
    let mut ws = thief.resumable("/live", &Socket::cursor(&client('a'), &hello, 7)).await;
    let told = ws.member("hello").await;
    assert_eq!((&told["gap"], &told["status"]), (&gap("expired"), &json!("new")));
    assert_ne!(told["session"], hello["session"]);
}

async fn a_cursor_above_the_head_is_4103(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    for above in [1, 9_007_199_254_740_991, 9_999_999_999_999_999] {
        let mut bad =
            browser.resumable("/live", &Socket::cursor(&client('a'), &hello, above)).await;
        assert_eq!(bad.closed().await.code, 4103);
    }
    ws.send("echo still here").await;
    assert_eq!(ws.data().await, "echo:still here");
}

async fn a_stale_offer_supersedes_nothing(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut old = browser.resumable("/live", &client('a')).await;
    let hello = old.member("hello").await;
    let mut new = browser.resumable("/live", &client('a')).await;
    new.member("hello").await;
    new.send("echo mine").await;
    assert_eq!(new.data().await, "echo:mine");
    let mut copy = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    assert_eq!(copy.closed().await, Close::new(4113, "stale"));
    new.send("echo still mine").await;
    assert_eq!(new.data().await, "echo:still mine");
}

async fn one_of_three_shared_clients_drops_and_catches_up(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let mut clients = Vec::new();
    for letter in ['a', 'b', 'c'] {
        let mut ws = browser.resumable("/live", &client(letter)).await;
        let hello = ws.member("hello").await;
        clients.push((ws, hello));
    }
    clients[0].0.send("emit 50 10").await;
    for (ws, _) in &mut clients {
        for i in 0..50 {
            assert!(ws.data().await.starts_with(&format!("e:{i}:")));
        }
        ws.control(r#"{"ack":50}"#).await;
    }
    let (dropped, hello) = clients.remove(1);
    dropped.cut().await;
    clients[0].0.send("emit 50 10").await;
    for (ws, _) in &mut clients {
        for i in 50..100 {
            assert!(ws.data().await.starts_with(&format!("e:{i}:")));
        }
    }
    let mut back = browser.resumable("/live", &Socket::cursor(&client('b'), &hello, 50)).await;
    let told = back.member("hello").await;
    assert_eq!(
        (&told["status"], &told["from"], &told["gap"]),
        (&json!("resumed"), &json!(50), &Value::Null)
    );
    for i in 50..100 {
        assert!(back.data().await.starts_with(&format!("e:{i}:")));
    }
    clients[1].0.send("say all").await;
    assert_eq!(back.data().await, "all");
    for (ws, _) in &mut clients {
        assert_eq!(ws.data().await, "all", "the others have stayed");
    }
}

async fn a_fresh_client_starts_at_the_checkpoint(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    ws.send("emit 5 10").await;
    ws.send("checkpoint now").await;
    ws.send("say after").await;
    while ws.data().await != "after" {}
    ws.control(r#"{"ack":7}"#).await;
    let mut fresh = browser.resumable("/live", &client('b')).await;
    let hello = fresh.member("hello").await;
    assert_eq!((&hello["status"], &hello["from"]), (&json!("reused"), &json!(5)));
    assert_eq!(fresh.data().await, "cp:now");
    assert_eq!(fresh.data().await, "after");
}
