//! What a handler knows of its clients, and does to one of them.

use session_resume_testkit::{Browser, until};
use session_resume_tests::{Framework, scenarios};

use crate::{client, testee};

scenarios!(
    a_receipt_comes_when_every_client_has_acknowledged,
    without_a_client_there_is_no_receipt_to_wait_for,
    one_client_is_closed_with_a_code_and_the_others_go_on,
    plain_clients_are_listed_and_closed_one_by_one,
    a_revoked_identity_s_transports_are_closed_everywhere_and_its_sessions_stay,
);

async fn a_receipt_comes_when_every_client_has_acknowledged(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let mut a = browser.resumable("/live", &client('a')).await;
    let mut b = browser.resumable("/live", &client('b')).await;
    for ws in [&mut a, &mut b] {
        ws.member("hello").await;
    }
    a.send("say one").await;
    for ws in [&mut a, &mut b] {
        assert_eq!(ws.data().await, "one");
    }
    a.send("delivered").await;
    a.control(r#"{"ack":1}"#).await;
    // It would come first if there were no wait.
    a.send("say behind").await;
    b.control(r#"{"ack":1}"#).await;
    for ws in [&mut a, &mut b] {
        assert_eq!(ws.data().await, "delivered");
        assert_eq!(ws.data().await, "behind");
    }
}

async fn without_a_client_there_is_no_receipt_to_wait_for(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut a = browser.resumable("/live", &client('a')).await;
    a.member("hello").await;
    a.send("say one").await;
    a.send("delivered").await;
    a.send("add 2").await;
    assert_eq!(a.data().await, "one");
    // It acknowledges nothing, and leaves: the handler's wait is over. A client that came before the handler has noticed
    // would be one more to wait for.
    drop(a);
    until("the handler goes on", async || browser.get("/peek").await.json()["total"] == 2).await;
    let mut a = browser.resumable("/live", &client('a')).await;
    for text in [
        "one",
        "not delivered: no client is attached, and not all have acknowledged everything",
        "total:2",
    ] {
        assert_eq!(a.data().await, text);
    }
}

async fn one_client_is_closed_with_a_code_and_the_others_go_on(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let (name_a, name_b) = (client('a'), client('b'));
    let mut a = browser.resumable("/live", &name_a).await;
    a.member("hello").await;
    let mut b = browser.resumable("/live", &name_b).await;
    b.member("hello").await;
    b.send("who").await;
    assert_eq!(b.data().await, format!("who:2:{name_a},{name_b}"));
    b.send(format!("kick {name_a}")).await;
    assert_eq!(b.data().await, "kicked");
    let close = a.closed().await;
    assert_eq!((close.code, &*close.reason), (4000, "kicked"));
    b.send("who").await;
    assert_eq!(b.data().await, format!("who:1:{name_b}"));
}

async fn plain_clients_are_listed_and_closed_one_by_one(framework: Framework) {
    let testee = testee(framework, "--attach share").await;
    let browser = Browser::at(testee.addr);
    let mut a = browser.plain("/live").await;
    a.send("who").await;
    let who = a.recv().await;
    let name_a = who.strip_prefix("who:1:").expect("one").to_owned();
    let mut b = browser.plain("/live").await;
    b.send(format!("kick {name_a}")).await;
    // A first attach is sent what is kept for it.
    while b.recv().await != "kicked" {}
    let close = a.closed().await;
    assert_eq!((close.code, &*close.reason), (4000, "kicked"));
    b.send("who").await;
    let who = b.recv().await;
    assert!(who.starts_with("who:1:plain-") && !who.contains(&name_a), "{who}");
}

async fn a_revoked_identity_s_transports_are_closed_everywhere_and_its_sessions_stay(
    framework: Framework,
) {
    // One session for each path, so the identity has two.
    let testee = testee(framework, "--key path --attach share").await;
    let revoked = Browser::at(testee.addr);
    let mut wires = [
        revoked.resumable("/live/one", &client('a')).await,
        revoked.resumable("/live/one", &client('b')).await,
        revoked.resumable("/live/two", &client('c')).await,
    ];
    for ws in &mut wires {
        ws.member("hello").await;
    }
    wires[2].send("add 7").await;
    assert_eq!(wires[2].data().await, "total:7");
    let other = Browser::at(testee.addr);
    let mut bystander = other.resumable("/live/one", &client('a')).await;
    bystander.member("hello").await;

    assert_eq!(revoked.post("/revoke", "").await.json()["closed"], 3);
    for ws in &mut wires {
        let close = ws.closed().await;
        assert_eq!((close.code, &*close.reason), (4101, "revoked"));
    }
    assert_eq!(revoked.post("/revoke", "").await.json()["closed"], 0);
    bystander.send("echo still here").await;
    assert_eq!(bystander.data().await, "echo:still here");
    // The session is there for a client that the application lets in again.
    let mut back = revoked.resumable("/live/two", &client('d')).await;
    back.send("get").await;
    let answers = [back.data().await, back.data().await];
    assert!(answers.contains(&"total:7 n:1".to_owned()), "{answers:?}");
}
