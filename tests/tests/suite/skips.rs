//! Messages for one client, messages that are replaced or whose time is over, and what the other clients are told.

use serde_json::{Value, json};
use session_resume_testkit::{Browser, Close, Received, Socket};
use session_resume_tests::{Framework, scenarios};

use crate::{client, testee};

scenarios!(
    a_reply_to_one_client_is_a_skip_for_the_others,
    a_skip_comes_with_the_next_heartbeat_at_the_latest,
    a_cursor_that_misses_nothing_of_its_own_has_no_gap,
    what_is_for_one_client_is_kept_for_no_other,
    only_the_newest_of_a_slot_is_kept,
    a_message_whose_time_is_over_is_not_sent_any_more,
    a_plain_client_gets_what_is_for_it_and_no_word_of_the_rest,
    a_reply_to_one_that_was_taken_over_from_is_an_error,
    one_that_is_far_behind_starts_with_the_checkpoint,
    replies_and_slots_survive_a_kill_under_exact,
);

/// A client that has its hello and has acknowledged it.
async fn attach(browser: &Browser, letter: char) -> (Socket, Value) {
    let mut ws = browser.resumable("/live", &client(letter)).await;
    let hello = ws.member("hello").await;
    ack(&mut ws, hello["from"].as_u64().unwrap()).await;
    (ws, hello)
}

async fn ack(ws: &mut Socket, position: u64) {
    ws.control(&format!(r#"{{"ack":{position}}}"#)).await;
}

async fn a_reply_to_one_client_is_a_skip_for_the_others(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let (mut a, _) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    for _ in 0..3 {
        b.send("tell x").await;
        assert_eq!(b.data().await, "told:x");
    }
    b.send("say all").await;
    assert_eq!(a.member("skip").await, 3, "before the data that follows");
    assert_eq!(a.data().await, "all");
    ack(&mut a, 4).await;
    a.send("tell y").await;
    assert_eq!(a.data().await, "told:y");
    assert_eq!(b.data().await, "all");
    a.send("say again").await;
    assert_eq!(b.member("skip").await, 5);
    assert_eq!(b.data().await, "again");
}

async fn a_skip_comes_with_the_next_heartbeat_at_the_latest(framework: Framework) {
    let testee = testee(framework, "--attach share --ping 1000").await;
    let browser = Browser::at(testee.addr);
    let (mut a, _) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    b.send("tell x").await;
    assert_eq!(b.data().await, "told:x");
    let mut heartbeats = 0;
    loop {
        let text = a.recv().await;
        let control: Value = serde_json::from_str(&text[1..]).unwrap();
        if control["skip"] == 1 {
            break;
        }
        // One may have been on its way already.
        heartbeats += u32::from(!control["hb"].is_null());
        assert!(heartbeats <= 1, "{text}");
    }
    ack(&mut a, 1).await;
    a.send("echo there").await;
    assert_eq!(a.data().await, "echo:there", "the ack is valid");
}

async fn a_cursor_that_misses_nothing_of_its_own_has_no_gap(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let (a, hello) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    a.cut().await;
    for n in 1..=5 {
        b.send("tell x").await;
        assert_eq!(b.data().await, "told:x");
        ack(&mut b, n).await;
    }
    for _ in 0..2 {
        let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
        let told = a.member("hello").await;
        assert_eq!(
            (&told["status"], &told["from"], &told["gap"]),
            (&json!("resumed"), &json!(0), &Value::Null)
        );
        assert_eq!(a.member("skip").await, 5, "told again on each transport");
        a.cut().await;
    }
    b.send("say all").await;
    let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    assert_eq!(a.member("skip").await, 5);
    assert_eq!(a.data().await, "all");
}

async fn what_is_for_one_client_is_kept_for_no_other(framework: Framework) {
    let testee = testee(framework, "--attach share --outbox-messages 4").await;
    let browser = Browser::at(testee.addr);
    let (_a, _) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    // The first client never says a word.
    for n in 1..=20 {
        b.send(format!("tell {n}")).await;
        assert_eq!(b.data().await, format!("told:{n}"));
        ack(&mut b, n).await;
    }
}

async fn only_the_newest_of_a_slot_is_kept(framework: Framework) {
    let testee = testee(framework, "--attach share --outbox-messages 8").await;
    let browser = Browser::at(testee.addr);
    let (a, hello) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    a.cut().await;
    b.send("latest x 500").await;
    b.send("latest y 500").await;
    b.send("tell ready").await;
    while b.data().await != "told:ready" {}
    let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    let told = a.member("hello").await;
    assert_eq!((&told["from"], &told["gap"]), (&json!(0), &Value::Null));
    assert_eq!(a.member("skip").await, 499);
    assert_eq!(a.data().await, "l:x:499");
    assert_eq!(a.member("skip").await, 999);
    assert_eq!(a.data().await, "l:y:499");
}

async fn a_message_whose_time_is_over_is_not_sent_any_more(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let (a, hello) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    a.cut().await;
    b.send("brief 200 soon over").await;
    b.send("brief 600000 long").await;
    b.send("busy 300").await;
    assert_eq!(b.data().await, "soon over", "the client that is attached gets it");
    assert_eq!(b.data().await, "long");
    assert_eq!(b.data().await, "done-busy");
    let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    assert_eq!(a.member("hello").await["gap"], Value::Null);
    assert_eq!(a.member("skip").await, 1);
    assert_eq!(a.data().await, "long");
    assert_eq!(a.data().await, "done-busy");
}

async fn a_plain_client_gets_what_is_for_it_and_no_word_of_the_rest(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let (mut a, _) = attach(&browser, 'a').await;
    let mut one = browser.plain("/live").await;
    let mut other = browser.plain("/live").await;
    a.send("tell a").await;
    assert_eq!(a.data().await, "told:a");
    one.send("tell one").await;
    assert_eq!(one.recv().await, "told:one");
    other.send("latest x 3").await;
    other.send("say all").await;
    // Those that have come before the next was sent.
    let mut last = String::new();
    while let text = other.recv().await
        && text != "all"
    {
        assert!(text.starts_with("l:x:"), "{text:?}");
        last = text;
    }
    assert_eq!(last, "l:x:2");
    while let text = one.recv().await
        && text != "all"
    {
        assert!(text.starts_with("l:x:"), "{text:?}");
    }
    while a.data().await != "all" {}
}

async fn a_reply_to_one_that_was_taken_over_from_is_an_error(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let (mut a, hello) = attach(&browser, 'a').await;
    a.send("busy 1000").await;
    a.send("tell late").await;
    // The answer says that the server has read both.
    a.control(r#"{"ping":true}"#).await;
    a.member("hb").await;
    let (mut b, _) = attach(&browser, 'b').await;
    assert_eq!(a.closed().await, Close::new(4100, "superseded"));
    assert_eq!(b.data().await, "done-busy");
    b.send("echo on").await;
    assert_eq!(b.data().await, "echo:on", "an error of send_to ends nothing");
    // The server has its answer now: until then its cursor supersedes no client.
    while a.next().await != Received::Gone {}
    let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    let told = a.member("hello").await;
    assert_eq!(told["status"], "resumed", "{told}");
}

async fn one_that_is_far_behind_starts_with_the_checkpoint(framework: Framework) {
    let testee = testee(framework, "--attach share --catch-up 10").await;
    let browser = Browser::at(testee.addr);
    let (a, hello) = attach(&browser, 'a').await;
    let (mut b, _) = attach(&browser, 'b').await;
    a.cut().await;
    b.send("emit 20 10").await;
    b.send("checkpoint view").await;
    b.send("say after").await;
    while b.data().await != "after" {}
    for (received, from) in [(5, 20), (11, 20), (12, 12), (20, 20)] {
        let mut a =
            browser.resumable("/live", &Socket::cursor(&client('a'), &hello, received)).await;
        let told = a.member("hello").await;
        assert_eq!((&told["status"], &told["from"]), (&json!("resumed"), &json!(from)));
        let gap = json!({"from": received, "to": from, "reason": "checkpoint"});
        assert_eq!(told["gap"], if from > received { gap } else { Value::Null });
        for i in from..20 {
            assert!(a.data().await.starts_with(&format!("e:{i}:")));
        }
        assert_eq!(a.data().await, "cp:view");
        assert_eq!(a.data().await, "after");
        a.cut().await;
    }
}

async fn replies_and_slots_survive_a_kill_under_exact(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sessions.redb");
    let secret = "5c".repeat(64);
    let flags = format!(
        "--attach share --durability exact --flush 10 --secret {secret} --cookie sr_id --store {}",
        store.display()
    );
    let first = testee(framework, &flags).await;
    let browser = Browser::at(first.addr);
    let (a, a_hello) = attach(&browser, 'a').await;
    let (mut b, b_hello) = attach(&browser, 'b').await;
    a.cut().await;
    b.send("tell for b").await;
    b.send("latest x 10").await;
    b.send("say all").await;
    assert_eq!(b.data().await, "told:for b");
    while b.data().await != "all" {}
    first.kill().await;
    let second = testee(framework, &flags).await;
    let browser = browser.moved_to_address(second.addr);
    let mut a = browser.resumable("/live", &Socket::cursor(&client('a'), &a_hello, 0)).await;
    let told = a.member("hello").await;
    assert_eq!((&told["status"], &told["gap"]), (&json!("resumed"), &Value::Null));
    assert_eq!(a.member("skip").await, 10);
    assert_eq!(a.data().await, "l:x:9");
    assert_eq!(a.data().await, "all");
    // It has taken nothing: what is for it is there still.
    let mut b = browser.resumable("/live", &Socket::cursor(&client('b'), &b_hello, 0)).await;
    assert_eq!(b.member("hello").await["gap"], Value::Null);
    assert_eq!(b.data().await, "told:for b");
    assert_eq!(b.data().await, "l:x:9");
    assert_eq!(b.data().await, "all");
}
