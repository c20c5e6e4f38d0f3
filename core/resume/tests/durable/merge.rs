use std::time::{Duration, SystemTime};

use session_resume::{Attach, ConfigErrorKind, MergePolicy, SessionResume, store::MemoryStore};

use crate::{
    A,
    node::{Browser, Client, Got, Node, Tally},
};

/// A client of a session with `total:1`, iteration 1.
async fn offering(policy: MergePolicy<Tally>, offer: &str) -> (Node, Client) {
    let node = Node::new(&MemoryStore::new(), |layer| layer.with_merge(policy));
    let mut browser = Browser::default();
    let session = node.open(&mut browser).await.unwrap();
    session.update(|tally| tally.total = 1);
    session.saved().await.unwrap();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send(&format!("\u{1}{{\"state\":{offer}}}"));
    (node, client)
}

async fn total_after(policy: MergePolicy<Tally>, offer: &str) -> String {
    let (_node, mut client) = offering(policy, offer).await;
    client.send("get");
    match client.next().await {
        Some(Got::Close(code)) => format!("close:{code}"),
        Some(Got::Data(text)) => text,
        other => format!("{other:?}"),
    }
}

#[test]
fn a_policy_set_before_the_state_stays() {
    let layer = SessionResume::new().with_merge(MergePolicy::Newest).with_state::<Tally>();
    let text = format!("{layer:?}");
    assert!(text.contains("merge: Newest"), "{text}");
}

#[test]
fn a_function_of_another_state_is_refused() {
    let layer = SessionResume::new().with_merge(MergePolicy::custom(|_, (), ()| None));
    let error = layer.with_state::<Tally>().validate().unwrap_err();
    assert_eq!(*error.kind(), ConfigErrorKind::MergeOfAnotherState);
}

#[tokio::test(start_paused = true)]
async fn the_newer_copy_wins() {
    let later = SystemTime::now() + Duration::from_secs(3600);
    let later = later.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let value = r#""value":{"total":7}"#;
    let rows = [
        (format!(r#"{{"iteration":2,"updated":0,{value}}}"#), "total:7"),
        (format!(r#"{{"iteration":0,"updated":{later},{value}}}"#), "total:1"),
        (format!(r#"{{"iteration":1,"updated":0,{value}}}"#), "total:1"),
        (format!(r#"{{"iteration":1000001,"updated":0,{value}}}"#), "total:7"),
        (format!(r#"{{"iteration":1000002,"updated":0,{value}}}"#), "total:1"),
        (format!(r#"{{"iteration":9007199254740991,"updated":0,{value}}}"#), "total:1"),
        (r#"{"iteration":2,"updated":0,"value":{"total":"seven"}}"#.into(), "total:1"),
        (r#"{"iteration":2,"updated":0,"value":null}"#.into(), "total:1"),
        (r#"{"iteration":2,"updated":0,"value":{"total":1e400}}"#.into(), "total:1"),
        (format!(r#"{{"iteration":2,"updated":0,"value":{}}}"#, "[".repeat(500)), "close:4103"),
        (r#"{"iteration":-1,"updated":0,"value":{"total":7}}"#.into(), "close:4103"),
        (r#"{"iteration":9007199254740992,"updated":0,"value":{"total":7}}"#.into(), "close:4103"),
    ];
    for (offer, expected) in rows {
        assert_eq!(total_after(MergePolicy::Newest, &offer).await, expected, "{offer}");
    }
    let offer = format!(r#"{{"iteration":5,"updated":0,{value}}}"#);
    assert_eq!(total_after(MergePolicy::ServerWins, &offer).await, "total:1");
    let sum = MergePolicy::custom(|_, server: &Tally, client: Tally| {
        Some(Tally { total: server.total + client.total })
    });
    assert_eq!(total_after(sum, &offer).await, "total:8");
}

#[tokio::test(start_paused = true)]
async fn a_second_offer_is_a_protocol_error() {
    let offer = r#"{"iteration":5,"updated":0,"value":{"total":7}}"#;
    let (_node, mut client) = offering(MergePolicy::Newest, offer).await;
    client.send(&format!("\u{1}{{\"state\":{offer}}}"));
    assert!(client.rest().await.contains(&Got::Close(4103)));
}

/// They wait together for the boundary, and each is judged by itself.
#[tokio::test(start_paused = true)]
async fn offers_that_wait_do_not_replace_each_other() {
    let good = r#"{"iteration":100,"updated":1,"value":{"total":7}}"#;
    for other in [
        r#"{"iteration":50,"updated":1,"value":{"total":50}}"#,
        r#"{"iteration":1000,"updated":1,"value":{"total":"x"}}"#,
        r#"{"iteration":0,"updated":1,"value":null}"#,
        r#"{"iteration":1000000000,"updated":1,"value":{"total":9}}"#,
    ] {
        let node = Node::new(&MemoryStore::new(), |layer| {
            layer.with_merge(MergePolicy::Newest).with_attach(Attach::Share)
        });
        let mut browser = Browser::default();
        let mut first = node.connect(&mut browser, Some(A)).await.unwrap();
        first.hello().await;
        first.send("work");
        assert!(first.is_quiet().await);
        for (name, offer) in [("bbbbbbbbbbbbbbbb", good), ("cccccccccccccccc", other)] {
            let mut client = node.connect(&mut browser, Some(name)).await.unwrap();
            client.hello().await;
            client.send(&format!("\u{1}{{\"state\":{offer}}}"));
            assert!(client.is_quiet().await);
        }
        node.gate.notify_one();
        first.send("get");
        assert_eq!(first.data().await.unwrap(), "worked");
        assert_eq!(first.data().await.unwrap(), "total:7", "{other}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_merged_at_a_boundary_only() {
    let node = Node::new(&MemoryStore::new(), |layer| layer.with_merge(MergePolicy::Newest));
    let mut browser = Browser::default();
    let mut first = node.connect(&mut browser, Some(A)).await.unwrap();
    first.hello().await;
    first.send("work");
    assert!(first.is_quiet().await);
    let mut second = node.connect(&mut browser, Some("bbbbbbbbbbbbbbbb")).await.unwrap();
    second.hello().await;
    second.send("\u{1}{\"state\":{\"iteration\":9,\"updated\":0,\"value\":{\"total\":7}}}");
    assert!(second.is_quiet().await);
    let session = node.open(&mut browser).await.unwrap();
    assert_eq!(session.read(|tally| tally.total), 100, "a message is in hand");
    node.gate.notify_one();
    second.send("get");
    assert_eq!(second.data().await.unwrap(), "worked");
    assert_eq!(second.data().await.unwrap(), "total:7");
}
