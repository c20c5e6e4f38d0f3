//! The engine has lost writes: the owner's memory heals that.

use std::time::Duration;

use session_resume_testkit::{Socket, until};
use session_resume_tests::{Framework, scenarios};
use tokio::time::{sleep, timeout};

use super::node::Two;

const PAGE: &str = "0123456789abcdef";

/// What was acknowledged and then lost by the engine, as by a failover, is there again before the owner dies.
async fn what_the_engine_has_lost_is_put_again(framework: Framework) {
    let Some(Two { engine, a, b: _b, at_a, at_b }) = Two::start(framework).await else {
        return;
    };
    let mut ws = at_a.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    let keys = engine.command("keys *");
    let is_record = |key: &&str| {
        let of_nodes = [":n:", ":m:", ":w:", "nodes", "mark", "identity"];
        key.starts_with("sr:") && !of_nodes.iter().any(|part| key.contains(part))
    };
    let records: Vec<_> = keys.split_whitespace().filter(is_record).collect();
    assert!(!records.is_empty(), "{keys}");
    for (at, key) in records.iter().enumerate() {
        assert_eq!(engine.command(&format!("copy {key} before{at}")).trim(), ":1", "{key}");
    }
    ws.send("add 2").await;
    assert_eq!(ws.data().await, "total:7");
    assert_eq!(ws.member("ack").await, 2);
    let is_same = |what: &str, at: usize, key: &str| {
        let same = "\"return(redis.call('GET',KEYS[1])==redis.call('GET',KEYS[2]))\"";
        engine.command(&format!("eval {same} 2 {what}{at} {key}")).trim() == ":1"
    };
    // What follows the acknowledgement is put, too. Later nothing but the break has the session put.
    until("nothing more is put", async || {
        for (at, key) in records.iter().enumerate() {
            engine.command(&format!("copy {key} now{at} replace"));
        }
        sleep(Duration::from_millis(300)).await;
        records.iter().enumerate().all(|(at, key)| is_same("now", at, key))
    })
    .await;
    // The engine forgets it, and the connections break.
    for (at, key) in records.iter().enumerate() {
        engine.command(&format!("copy before{at} {key} replace"));
    }
    engine.command("client kill type normal skipme yes");
    let again = until("it is put again", async || {
        records.iter().enumerate().all(|(at, key)| !is_same("before", at, key))
    });
    // A session that rests is put after about a minute in any case.
    timeout(Duration::from_secs(20), again).await.expect("the break has it put again");
    a.kill().await;
    let mut ws = at_b.resumable("/live", &Socket::cursor(PAGE, &hello, 2)).await;
    assert_eq!(ws.member("hello").await["status"], "restored");
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:7 n:2");
}

scenarios!(what_the_engine_has_lost_is_put_again);
