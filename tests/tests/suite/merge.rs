//! A client that comes back with its own copy of the state.

use serde_json::json;
use session_resume_client::{Client, StateOffer};
use session_resume_testkit::{Browser, soon};
use session_resume_tests::{Framework, scenarios};

use crate::testee;

scenarios!(the_policy_decides_about_a_newer_copy);

async fn heard(client: &mut Client) -> String {
    let message = soon("a message", client.recv()).await.unwrap();
    message.as_text().unwrap().to_owned()
}

async fn the_policy_decides_about_a_newer_copy(framework: Framework) {
    for (policy, ahead, total) in [("newest", 1, 42), ("newest", 0, 5), ("server", 1, 5)] {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("sessions.redb");
        let flags = format!("--store {} --merge {policy}", store.display());
        let first = testee(framework, &flags).await;
        let addr = first.addr;
        let mut client = Client::connect(format!("ws://{addr}/live")).await.unwrap();
        client.send("add 5").await.unwrap();
        assert_eq!(heard(&mut client).await, "total:5");
        let browser = Browser::at(addr);
        browser.cookies().add(&client.cookies()).unwrap();
        let iteration = browser.get("/").await.json()["iteration"].as_u64().unwrap();
        // Set on an open connection, it is for the next one.
        let copy = json!({ "total": 42, "log": [42], "next": 0 });
        client.offer_state(Some(StateOffer::new(iteration + ahead, 0, &copy).unwrap()));
        first.terminate().await;
        assert!(first.exit().await.success());
        let _second = testee(framework, &format!("{flags} --listen {addr}")).await;
        client.send("get").await.unwrap();
        assert_eq!(heard(&mut client).await, format!("total:{total} n:1"), "{policy} {ahead}");
        assert_eq!(browser.get("/").await.json()["total"], total, "{policy} {ahead}");
    }
}
