//! What is kept after each client that matters has acknowledged it.

use serde_json::{Value, json};
use session_resume_testkit::{Browser, Close, Received, Socket};
use session_resume_tests::{Framework, scenarios};

use crate::{client, testee};

scenarios!(
    a_tab_that_was_taken_over_from_has_missed_nothing_that_is_kept,
    what_is_kept_is_bounded_in_bytes,
    a_checkpoint_bounds_what_is_kept,
);

/// Tab a attaches, tab b takes over and gets `messages`, and acknowledges them. Returns what tab a is told when it comes
/// back, and the texts that it gets.
async fn away(framework: Framework, flags: &str, messages: &[&str]) -> (Value, Vec<String>) {
    let testee = testee(framework, flags).await;
    let browser = Browser::at(testee.addr);
    let mut a = browser.resumable("/live", &client('a')).await;
    let hello = a.member("hello").await;
    let mut b = browser.resumable("/live", &client('b')).await;
    assert_eq!(a.closed().await, Close::new(4100, "superseded"));
    while a.next().await != Received::Gone {}
    let mut head = 0;
    for message in messages {
        b.send(*message).await;
        b.data().await;
        head += 1;
    }
    b.control(&format!(r#"{{"ack":{head},"ping":true}}"#)).await;
    b.member("hb").await;
    let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    let told = a.member("hello").await;
    let mut texts = Vec::new();
    for _ in told["from"].as_u64().unwrap()..head {
        texts.push(a.data().await);
    }
    (told, texts)
}

async fn a_tab_that_was_taken_over_from_has_missed_nothing_that_is_kept(framework: Framework) {
    let messages = ["say 0", "say 1", "say 2", "say 3"];
    for (flags, from) in
        [("--retain last:4", 0), ("--retain last:3", 1), ("--retain done", 0), ("", 4)]
    {
        let (told, texts) = away(framework, flags, &messages).await;
        let gap = json!({"from": 0, "to": from, "reason": "evicted"});
        assert_eq!(told["gap"], if from > 0 { gap } else { Value::Null }, "{flags}");
        assert_eq!((&told["status"], &told["from"]), (&json!("resumed"), &json!(from)), "{flags}");
        let expected: Vec<_> = (from..4).map(|n| n.to_string()).collect();
        assert_eq!(texts, expected, "{flags}");
    }
}

async fn what_is_kept_is_bounded_in_bytes(framework: Framework) {
    let messages = ["say 0", "say 1", "say 2", "say 3"];
    // A message takes 48 bytes more than its length.
    for (bytes, from) in [(196, 0), (195, 1), (10, 4)] {
        let flags = format!("--retain done --retain-bytes {bytes}");
        let (told, _) = away(framework, &flags, &messages).await;
        assert_eq!(told["from"], from, "{flags}");
    }
}

async fn a_checkpoint_bounds_what_is_kept(framework: Framework) {
    // A small outbox lets go of what only the checkpoint keeps.
    let flags = "--retain checkpoint --outbox-messages 4";
    let messages = ["say 0", "checkpoint 1", "say 2", "say 3"];
    let (told, texts) = away(framework, flags, &messages).await;
    let gap = json!({"from": 0, "to": 1, "reason": "evicted"});
    assert_eq!(told["gap"], gap);
    assert_eq!(texts, ["cp:1", "2", "3"]);
}
