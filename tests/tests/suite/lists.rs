//! What a browser learns of its sessions with no socket at all.

use std::time::Duration;

use http::{Request, header};
use serde_json::{Value, json};
use session_resume_testkit::{Answer, Browser, until};
use session_resume_tests::{Framework, scenarios};
use tokio::time::Instant;

use crate::{client, testee};

scenarios!(
    a_list_says_what_there_is_to_know,
    sessions_are_asked_for_by_their_ids,
    a_list_waits_until_a_status_is_another,
);

async fn a_list_says_what_there_is_to_know(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    ws.send("emit 3 10").await;
    until("they are sent", async || {
        let listed = browser.get("/sessions").await.json();
        listed["sessions"][0]["head"]["position"] == 3
    })
    .await;
    let page = browser.get("/sessions").await.json();
    let [session] = &page["sessions"].as_array().unwrap()[..] else { panic!("{page}") };
    let created = session["created_ms"].as_u64().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now.as_millis().abs_diff(created.into()) < 120_000, "{created}");
    assert_eq!(
        session,
        &json!({
            "session": hello["session"], "status": "running", "name": "live", "created_ms": created,
            "attached": 1, "head": { "epoch": hello["epoch"], "position": 3 },
        })
    );
    assert_eq!(page["next"], Value::Null);
}

async fn sessions_are_asked_for_by_their_ids(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let own = browser.get("/").await.json()["session"].as_str().unwrap().to_owned();
    let foreign = Browser::at(testee.addr).get("/").await.json()["session"].clone();
    let foreign = foreign.as_str().unwrap();
    let unknown = "00000000-0000-4000-8000-000000000000";
    let path = format!("/sessions?id={foreign}&id={own}&id={unknown}&id=no-id");
    let page = browser.get(&path).await.json();
    let [session] = &page["sessions"].as_array().unwrap()[..] else { panic!("{page}") };
    assert_eq!((&session["session"], &session["attached"]), (&json!(own), &json!(0)));
    let many = format!("/sessions?{}", vec![format!("id={own}"); 33].join("&"));
    assert_eq!(browser.get(&many).await.status, 400);
}

async fn a_list_waits_until_a_status_is_another(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    let session = hello["session"].as_str().unwrap();
    let ask = async |etag: &str, wait: u32| -> Answer {
        let path = format!("/sessions?id={session}&wait={wait}");
        let request = Request::get(path).header(header::IF_NONE_MATCH, etag);
        browser.request(request, "").await
    };
    // Without a tag there is nothing to wait for.
    let first = browser.get(&format!("/sessions?id={session}&wait=20")).await;
    assert_eq!(first.json()["sessions"][0]["status"], "running");
    let etag = first.header("etag").next().unwrap().to_owned();
    ws.send("emit 3 10").await;
    assert!(ws.data().await.starts_with("e:0:"));
    let asked = Instant::now();
    assert_eq!(ask(&etag, 1).await.status, 304, "messages are no news");
    assert!(asked.elapsed() >= Duration::from_millis(900));
    let leave = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        ws.cut().await;
    };
    let asked = Instant::now();
    let (answer, ()) = tokio::join!(ask(&etag, 40), leave);
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["sessions"][0]["status"]),
        (200, &json!("suspended"))
    );
    let etag = answer.header("etag").next().unwrap().to_owned();
    let end = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut ws = browser.resumable("/live", &client('b')).await;
        ws.member("hello").await;
        ws.send("finish well").await;
        ws.closed().await;
    };
    let (answer, ()) = tokio::join!(ask(&etag, 40), end);
    assert_eq!(answer.status, 200);
    until("its end is told", async || {
        let page = browser.get(&format!("/sessions?id={session}")).await.json();
        page["sessions"][0]["status"] == "done"
    })
    .await;
}
