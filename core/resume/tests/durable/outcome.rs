use std::time::Duration;

use serde_json::Value;
use session_resume::{
    Limits, adapter, reuse,
    store::{ErrorKind, MemoryStore},
};

use crate::{
    A,
    node::{Browser, Got, Node, Tally},
    store::Fault,
};

#[tokio::test(start_paused = true)]
async fn done_is_told_only_when_the_outcome_is_on_disk() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.session();
    node.store.set(Fault::Fail(ErrorKind::Io));
    client.send("finish well");
    assert!(client.is_quiet().await);
    let (status, body) = node.poll(&mut browser, &id, 0).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("running")));
    let mut other = browser.clone();
    let recover = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.store.set(Fault::None);
    };
    let (polled, ()) = tokio::join!(node.poll(&mut other, &id, 40), recover);
    assert_eq!(
        (polled.0, polled.1["result"].as_str()),
        (200, Some("well")),
        "a long poll waits for it"
    );
    let rest = client.rest().await;
    assert!(
        rest.iter()
            .any(|got| matches!(got, Got::Other(control) if control["done"]["status"] == "done"))
    );
    assert_eq!(rest.last(), Some(&Got::Close(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_long_poll_waits_for_a_stored_session_too() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.session();
    client.cut();
    let mut other = browser.clone();
    let start = tokio::time::Instant::now();
    let (status, body) = node.poll(&mut other, &id, 40).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("suspended")));
    tokio::time::sleep(Duration::from_secs(100)).await;
    let (status, body) = node.poll(&mut other, &id, 30).await;
    assert_eq!((status, body["status"].as_str()), (202, Some("stored")));
    assert_eq!(start.elapsed().as_secs(), 170);
    let comes_back = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
        client.hello().await;
        client.send("finish well");
        client.rest().await;
    };
    let ((status, body), ()) = tokio::join!(node.poll(&mut other, &id, 30), comes_back);
    assert_eq!((status, body["result"].as_str()), (200, Some("well")));
    assert!(start.elapsed().as_secs() < 190, "told at once");
}

/// The process lives: it was its session's time that was up.
#[tokio::test(start_paused = true)]
async fn who_is_stored_in_the_middle_of_work_was_not_interrupted() {
    let limits = Limits::default().with_max_unattended(Duration::from_secs(600));
    let node = Node::new(&MemoryStore::new(), |layer| layer.with_limits(limits));
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.session();
    client.send("work");
    assert!(client.is_quiet().await);
    client.cut();
    tokio::time::sleep(Duration::from_secs(620)).await;
    assert!(node.layer.sessions().is_empty());
    assert_eq!(node.poll(&mut browser, &id, 0).await.1["status"], "stored");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_just_ended_is_not_called_running() {
    let node = Node::new(&MemoryStore::new(), |layer| layer.with_reuse(reuse::never()));
    let mut browser = Browser::default();
    let id = node.open(&mut browser).await.unwrap().id().to_string();
    node.open(&mut browser).await.unwrap();
    let (status, body) = node.poll(&mut browser, &id, 0).await;
    assert_eq!((status, body["status"].as_str()), (200, Some("closed")));
}

#[tokio::test(start_paused = true)]
async fn outcomes_outlive_the_process_and_404s_are_alike() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let (id, cursor) = (client.session(), client.cursor(A));
    client.send("finish well");
    client.rest().await;
    let live = node.poll(&mut browser, &id, 0).await;
    node.kill();
    let node = Node::start(&disk);
    assert_eq!(node.poll(&mut browser, &id, 0).await, live);
    let unknown = node.poll(&mut browser, "00000000-0000-4000-8000-000000000000", 0).await;
    assert_eq!(unknown.0, 404);
    assert_eq!(node.poll(&mut Browser::default(), &id, 0).await, unknown, "not yours");
    assert_eq!(node.poll(&mut browser, "nonsense", 0).await, unknown);
    // A client that comes back with a cursor is told the end; its key is free for a new session.
    let mut client = node.connect(&mut browser, Some(&cursor)).await.unwrap();
    let rest = client.rest().await;
    assert_eq!(rest.last(), Some(&Got::Close(1000)), "{rest:?}");
    let mut fresh = node.connect(&mut browser, Some("cccccccccccccccc")).await.unwrap();
    assert_eq!(fresh.hello().await["status"], "new");
    assert_ne!(fresh.session(), id);
    assert_eq!(node.poll(&mut browser, &id, 0).await, live, "the new session does not hide it");
}

#[tokio::test(start_paused = true)]
async fn who_has_ended_does_not_start_again() {
    // The process dies between the outcome and the removal of the snapshot.
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.session();
    node.store.set(Fault::Tear);
    client.send("finish well");
    assert!(client.is_quiet().await);
    node.kill();
    let node = Node::start(&disk);
    let session = node.open(&mut browser).await.unwrap();
    assert_ne!(session.id().to_string(), id);
    let (status, body) = node.poll(&mut browser, &id, 0).await;
    assert_eq!((status, body["result"].as_str()), (200, Some("well")));
}

#[tokio::test(start_paused = true)]
async fn callers_list_their_own_sessions() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let ended = client.session();
    client.send("finish well");
    client.rest().await;
    let live = node.open(&mut browser).await.unwrap();
    live.update(|tally| tally.total = 1);
    live.saved().await.unwrap();
    node.open(&mut Browser::default()).await.unwrap();
    let mut expected = vec![(ended, "done"), (live.id().to_string(), "suspended")];
    expected.sort();
    let expected: Vec<_> =
        expected.into_iter().map(|(id, status)| (id, status.to_owned())).collect();
    assert_eq!(list(&node, &mut browser, None, 10).await, (expected.clone(), Value::Null));
    let (first, next) = list(&node, &mut browser, None, 1).await;
    assert_eq!(first, expected[..1]);
    let (second, end) = list(&node, &mut browser, next.as_str(), 1).await;
    assert_eq!((second, end), (expected[1..].to_vec(), Value::Null));
    let id = live.id().to_string();
    node.kill();
    let node = Node::start(&disk);
    assert_eq!(list(&node, &mut browser, None, 10).await.0, [(id, "stored".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn who_has_the_answer_already_is_told_so() {
    let node = Node::start(&MemoryStore::new());
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.session();
    let ask = async |known: Option<&str>| {
        let mut parts = node.parts(&mut browser.clone(), None).await;
        if let Some(known) = known {
            parts.headers.insert("if-none-match", known.parse().unwrap());
        }
        let polls = [
            adapter::poll::<Tally>(&parts, &id).await.unwrap(),
            adapter::list::<Tally>(&parts).await.unwrap(),
        ];
        polls.map(|poll| {
            let etag = poll.etag.clone();
            let response = poll.into_response();
            assert_eq!(response.headers()["etag"], etag);
            assert_eq!(response.headers()["cache-control"], "private, no-cache");
            (response.status().as_u16(), etag, response.into_body())
        })
    };
    let [running, _] = ask(None).await;
    assert_eq!(ask(Some(&running.1)).await[0].0, 202, "not an answer yet: ask again");
    client.send("finish well");
    client.rest().await;
    let ended = ask(None).await;
    assert_eq!([ended[0].0, ended[1].0], [200, 200]);
    assert_ne!(ended[0].1, running.1);
    for (at, (_, etag, _)) in ended.iter().enumerate() {
        let strong = etag.strip_prefix("W/").expect("compression must not keep a strong one");
        for known in [etag.clone(), strong.to_owned(), format!("\"other\", {etag}")] {
            let (status, same, body) = &ask(Some(&known)).await[at];
            assert_eq!((*status, same, body.as_str()), (304, etag, ""), "{known}");
        }
    }
    assert_eq!(ask(Some("\"other\"")).await, ended);
}

async fn list(
    node: &Node,
    browser: &mut Browser,
    after: Option<&str>,
    limit: usize,
) -> (Vec<(String, String)>, Value) {
    let mut parts = node.parts(browser, None).await;
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    parts.uri = format!("/sessions?limit={limit}{after}").parse().unwrap();
    let page = adapter::list::<Tally>(&parts).await.unwrap();
    let page: Value = serde_json::from_str(&page.body).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sessions = page["sessions"].as_array().unwrap().iter();
    (
        sessions.map(|row| (text(&row["session"]), text(&row["status"]))).collect(),
        page["next"].clone(),
    )
}
