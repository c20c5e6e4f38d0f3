//! Clients that may only read: the testee's `/watch`.

use http::Request;
use session_resume_proto::wire::Close as WireClose;
use session_resume_testkit::{Browser, Close, Socket, until};
use session_resume_tests::{Framework, scenarios};

use crate::{
    client,
    requests::{EventSource, Pipe, text},
    testee,
};

scenarios!(
    a_watcher_reads_and_is_closed_when_it_writes,
    a_plain_watcher_reads_and_is_closed_when_it_writes,
    a_watcher_takes_nobodys_place,
    a_watcher_goes_on_where_it_was,
    a_watcher_over_http_reads_and_is_closed_when_it_writes,
    an_event_source_watches_and_a_plain_post_is_refused,
    a_watcher_starts_the_session_that_is_not_there,
);

const READ_ONLY: (u16, &str) = (4104, "read only");

async fn a_watcher_reads_and_is_closed_when_it_writes(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut writer = browser.resumable("/live", &client('a')).await;
    writer.member("hello").await;
    let mut watcher = browser.resumable("/watch", &client('b')).await;
    let hello = watcher.member("hello").await;
    assert_eq!(hello["status"], "reused");
    writer.send("say one").await;
    for ws in [&mut writer, &mut watcher] {
        assert_eq!(ws.data().await, "one");
    }
    // Its acknowledgement is taken.
    watcher.control(r#"{"ack":1}"#).await;
    watcher.send("add 5").await;
    let (code, reason) = READ_ONLY;
    assert_eq!(watcher.closed().await, Close::new(code, reason));
    writer.send("get").await;
    assert_eq!(writer.data().await, "total:0 n:0");
    // It may come back, and has its place.
    let back = browser.resumable("/watch", &Socket::cursor(&client('b'), &hello, 1)).await;
    let mut back = back;
    let hello = back.member("hello").await;
    assert_eq!((&hello["status"], &hello["received"]), (&"resumed".into(), &0.into()));
    assert_eq!(back.data().await, "total:0 n:0");
}

async fn a_plain_watcher_reads_and_is_closed_when_it_writes(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut writer = browser.plain("/live").await;
    writer.send("say one").await;
    assert_eq!(writer.recv().await, "one");
    let mut watchers = [browser.plain("/watch").await, browser.plain("/watch").await];
    until("they are there", async || testee.count().await["running"] == 1).await;
    writer.send("say two").await;
    assert_eq!(writer.recv().await, "two");
    for watcher in &mut watchers {
        while watcher.recv().await != "two" {}
        watcher.send("add 5").await;
        let (code, reason) = READ_ONLY;
        assert_eq!(watcher.closed().await, Close::new(code, reason));
    }
    writer.send("get").await;
    assert_eq!(writer.recv().await, "total:0 n:0");
}

/// Under each way to attach, and whoever is first.
async fn a_watcher_takes_nobodys_place(framework: Framework) {
    for attach in ["takeover", "share", "refuse"] {
        let testee = testee(framework, &format!("--attach {attach}")).await;
        let browser = Browser::at(testee.addr);
        let mut writer = browser.resumable("/live", &client('a')).await;
        writer.member("hello").await;
        let mut plain = browser.plain("/watch").await;
        let mut watcher = browser.resumable("/watch", &client('b')).await;
        watcher.member("hello").await;
        writer.send("who").await;
        let who = writer.data().await;
        assert!(who.starts_with("who:3:"), "{attach}: {who}");
        assert_eq!(watcher.data().await, who);
        while plain.recv().await != who {}
        // The writer comes again, as another client where that may.
        drop(writer);
        let again = if attach == "refuse" { client('a') } else { client('c') };
        let mut writer = browser.resumable("/live", &again).await;
        writer.member("hello").await;
        writer.send("say one").await;
        while writer.data().await != "one" {}
        while watcher.data().await != "one" {}
        while plain.recv().await != "one" {}
    }
}

async fn a_watcher_goes_on_where_it_was(framework: Framework) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("sessions.redb");
    let flags = format!("--store {} --durability exact", store.display());
    let mut server = testee(framework, &flags).await;
    let browser = Browser::at(server.addr);
    let mut writer = browser.resumable("/live", &client('a')).await;
    writer.member("hello").await;
    let mut watcher = browser.resumable("/watch", &client('b')).await;
    let hello = watcher.member("hello").await;
    writer.send("emit 3 10").await;
    for i in 0..2 {
        assert!(watcher.data().await.starts_with(&format!("e:{i}:")));
    }
    writer.send("commit").await;
    while writer.data().await != "committed" {}
    server.kill().await;
    server = testee(framework, &flags).await;
    let browser = browser.moved_to_address(server.addr);
    let mut watcher = browser.resumable("/watch", &Socket::cursor(&client('b'), &hello, 2)).await;
    let hello = watcher.member("hello").await;
    assert_eq!((&hello["status"], &hello["gap"]), (&"resumed".into(), &serde_json::Value::Null));
    assert!(watcher.data().await.starts_with("e:2:"));
    assert_eq!(watcher.data().await, "committed");
    // It may read, still.
    watcher.send("add 5").await;
    let (code, reason) = READ_ONLY;
    assert_eq!(watcher.closed().await, Close::new(code, reason));
}

async fn a_watcher_over_http_reads_and_is_closed_when_it_writes(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut writer = browser.resumable("/live", &client('a')).await;
    writer.member("hello").await;
    let mut pipe = Pipe::new(&testee, &browser).at("/watch");
    let answer = pipe.send_open(&client('b')).await;
    pipe.heard(&answer);
    pipe.hello().await;
    writer.send("say one").await;
    assert_eq!(writer.data().await, "one");
    assert_eq!(pipe.data().await, "one");
    pipe.post(&[text("\u{1}{\"ack\":1}")]).await;
    pipe.post(&[text("add 5")]).await;
    let (code, reason) = READ_ONLY;
    assert_eq!(pipe.closed().await, WireClose::new(code, reason));
    writer.send("get").await;
    assert_eq!(writer.data().await, "total:0 n:0");
    // A right that is lost in between: its client is to open another transport.
    let mut pipe = Pipe::open(&testee, &browser, &client('c')).await;
    pipe.hello().await;
    let lost = browser.request(pipe.at("/watch").post_request(), "").await;
    assert_eq!(lost.status, 410);
    let close = lost.header("session-resume-close").collect::<Vec<_>>();
    assert_eq!(close, ["4106 reauthenticate"]);
}

async fn an_event_source_watches_and_a_plain_post_is_refused(framework: Framework) {
    let testee = testee(framework, "--plain-http").await;
    let browser = Browser::at(testee.addr);
    let mut writer = browser.resumable("/live", &client('a')).await;
    writer.member("hello").await;
    let mut source = EventSource::open_at(&testee, &browser, "/watch", None).await;
    source.named("session").await;
    writer.send("say one").await;
    assert_eq!(writer.data().await, "one");
    assert_eq!(source.message().await, "one");
    let post = Request::post("/watch").header("content-type", "text/plain");
    let post = post.header("origin", format!("http://{}", testee.addr));
    let refused = browser.request(post, "add 5").await;
    assert_eq!((refused.status.as_u16(), refused.text().trim_end()), (403, "read only"));
    writer.send("get").await;
    assert_eq!(writer.data().await, "total:0 n:0");
}

async fn a_watcher_starts_the_session_that_is_not_there(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut watcher = browser.resumable("/watch", &client('b')).await;
    assert_eq!(watcher.member("hello").await["status"], "new");
    // Another page's session has the path of the first one: the writer must say so, too.
    let mut writer = browser.resumable("/live/x", &client('a')).await;
    assert_eq!(writer.member("hello").await["status"], "reused");
    writer.send("say one").await;
    assert_eq!(watcher.data().await, "one");
}
