//! The door for readers of Durable Streams: `/streams/{session}`.

use http::Request;
use serde_json::{Value, json};
use session_resume_testkit::{Answer, Browser, Socket, soon, until};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::{
    client,
    requests::{EventSource, Streamed, only},
    testee,
};

scenarios!(
    a_reader_catches_up_from_its_offset,
    what_is_gone_is_told,
    a_long_poll_waits_for_the_next_message,
    a_stream_of_events_goes_on,
    the_last_message_and_the_end_come_together,
    a_foreign_session_is_not_there,
    a_door_is_only_read,
    a_page_of_another_origin_reads_nothing,
    only_so_many_readers_wait,
    a_drain_answers_readers_that_wait,
    an_uncommitted_message_is_never_read,
    an_offset_lives_as_long_as_its_history,
    text_and_bytes_are_given_out_as_they_are,
    a_reader_of_another_key_finds_a_stored_session,
);

const NEXT: &str = "stream-next-offset";

struct Door<'a> {
    browser: &'a Browser,
    path: String,
}

impl<'a> Door<'a> {
    fn of(browser: &'a Browser, hello: &Value) -> Self {
        let id = hello["session"].as_str().unwrap();
        Self { browser, path: format!("/streams/{id}") }
    }

    async fn get(&self, query: &str) -> Answer {
        self.browser.get(&format!("{}{query}", self.path)).await
    }

    async fn from(&self, offset: &str) -> Answer {
        self.get(&format!("?offset={offset}")).await
    }

    async fn events(&self, testee: &Testee, offset: &str) -> EventSource {
        let path = format!("{}?offset={offset}&live=sse", self.path);
        let source = EventSource::open_at(testee, self.browser, &path, None).await;
        assert_eq!(source.answer.status, 200);
        source
    }
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let mut all = answer.header(name);
    let only = all.next().unwrap_or_default();
    assert_eq!(all.next(), None, "{name}");
    only
}

fn next(answer: &Answer) -> String {
    header(answer, NEXT).to_owned()
}

/// The position in an offset.
fn position(offset: &str) -> u64 {
    offset.split('.').nth(1).unwrap().parse().unwrap()
}

async fn attached(browser: &Browser) -> (Socket, Value) {
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    (ws, hello)
}

async fn say<const N: usize>(ws: &mut Socket, texts: [&str; N]) {
    for text in texts {
        ws.send(format!("say {text}")).await;
        assert_eq!(ws.data().await, text);
    }
}

async fn a_reader_catches_up_from_its_offset(framework: Framework) {
    let testee = testee(framework, "--door json").await;
    let browser = Browser::at(testee.addr);
    let (mut ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    let empty = door.get("").await;
    assert_eq!((empty.status.as_u16(), empty.text()), (200, "[]"));
    assert_eq!(header(&empty, "stream-up-to-date"), "true");
    say(&mut ws, ["{\"a\":1}", "no JSON"]).await;
    let all = door.from("-1").await;
    assert_eq!(all.json(), json!([{ "a": 1 }, "no JSON"]));
    assert_eq!(door.from(&next(&empty)).await.json(), all.json());
    for (name, value) in [
        ("content-type", "application/json"),
        ("cache-control", "private, no-store"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        ("stream-up-to-date", "true"),
        ("stream-closed", ""),
        ("set-cookie", ""),
    ] {
        assert_eq!(header(&all, name), value, "{name}");
    }
    say(&mut ws, ["3"]).await;
    let rest = door.from(&next(&all)).await;
    assert_eq!(rest.text(), "[3]");
    assert!(next(&all) < next(&rest), "offsets grow as texts");
    // It is the tail that `HEAD` and `now` tell.
    let head = browser.request(Request::head(&door.path), "").await;
    assert_eq!((head.status.as_u16(), header(&head, NEXT)), (200, &*next(&rest)));
    assert_eq!(header(&head, "cache-control"), "no-store");
    let now = door.from("now").await;
    assert_eq!((now.text(), header(&now, NEXT)), ("[]", &*next(&rest)));
    // Nothing new.
    let again = Request::get(&door.path).header("if-none-match", header(&rest, "etag"));
    assert_eq!(browser.request(again, "").await.status, 200, "that began later");
    let path = format!("{}?offset={}", door.path, next(&all));
    let again = Request::get(path).header("if-none-match", header(&rest, "etag"));
    let again = browser.request(again, "").await;
    assert_eq!((again.status.as_u16(), again.text()), (304, ""));
    // An answer has 64 KiB and ends between two messages.
    ws.send("emit 5 20000").await;
    until("they are sent", async || position(&next(&door.from("now").await)) == 8).await;
    let (mut at, mut messages) = (next(&rest), Vec::new());
    loop {
        let piece = door.from(&at).await;
        assert!(piece.text().len() <= 64 << 10);
        messages.extend(piece.json().as_array().unwrap().iter().cloned());
        at = next(&piece);
        if header(&piece, "stream-up-to-date") == "true" {
            break;
        }
        assert_eq!(messages.len(), 3);
    }
    assert_eq!(messages.len(), 5);
    for offset in ["", "0", "0,1", "-2", &at[1..], "now&offset=now"] {
        let refused = door.from(offset).await;
        assert_eq!(refused.status, 400, "{offset}");
        assert_eq!(header(&refused, "x-content-type-options"), "nosniff");
    }
    assert_eq!(door.get("?live=sse").await.status, 400);
}

async fn what_is_gone_is_told(framework: Framework) {
    let testee = testee(framework, "--door json").await;
    let browser = Browser::at(testee.addr);
    let (mut ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    say(&mut ws, ["0", "1", "2"]).await;
    let second = {
        let first = next(&door.from("-1").await);
        format!("{}1{}", &first[..26], &first[27..])
    };
    assert_eq!(door.from(&second).await.text(), "[1,2]");
    ws.control(r#"{"ack":2}"#).await;
    until("it is gone", async || door.from(&second).await.status == 410).await;
    let gone = door.from("-1").await;
    assert_eq!(gone.status, 410, "a part is not given out as the whole");
    let earliest = header(&gone, "stream-earliest-offset").to_owned();
    assert_eq!(position(&earliest), 2);
    assert_eq!(door.from(&earliest).await.text(), "[2]");
    for live in ["long-poll", "sse"] {
        assert_eq!(door.from(&format!("{second}&live={live}")).await.status, 410, "{live}");
    }
    // What was not said yet, and what another session has said.
    let above = format!("{}9{}", &second[..26], &second[27..]);
    assert_eq!(door.from(&above).await.status, 410);
    let other = Browser::at(testee.addr);
    let (_ws, hello) = attached(&other).await;
    let foreign = next(&Door::of(&other, &hello).from("now").await);
    assert_eq!(door.from(&foreign).await.status, 410);
    // A checkpoint stands for what was before it.
    ws.send("turn").await;
    ws.data().await;
    say(&mut ws, ["4"]).await;
    assert_eq!(door.from("-1").await.json(), json!(["turn", 4]));
}

async fn a_long_poll_waits_for_the_next_message(framework: Framework) {
    let testee = testee(framework, "--door json").await;
    let browser = Browser::at(testee.addr);
    let (mut ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    let at_once = async |query: &str| soon("an answer", door.get(query)).await;
    let waits = async {
        let polled = at_once("?offset=now&live=long-poll").await;
        assert_eq!((polled.status.as_u16(), polled.text()), (200, "[0]"));
        assert_eq!(header(&polled, "stream-up-to-date"), "true");
        polled
    };
    let says = async {
        until("it waits", async || browser.get("/count").await.json()["observers"] == 1).await;
        say(&mut ws, ["0"]).await;
    };
    let (polled, ()) = tokio::join!(waits, says);
    until("nobody waits", async || browser.get("/count").await.json()["observers"] == 0).await;
    // What is there is not waited for, and no cursor comes twice.
    let cursor: u64 = header(&polled, "stream-cursor").parse().unwrap();
    let again = at_once(&format!("?offset=-1&live=long-poll&cursor={cursor}")).await;
    assert_eq!(again.text(), "[0]");
    assert!(header(&again, "stream-cursor").parse::<u64>().unwrap() > cursor);
}

async fn control(source: &mut EventSource) -> Value {
    serde_json::from_str(&source.named("control").await.data).unwrap()
}

async fn a_stream_of_events_goes_on(framework: Framework) {
    let testee = testee(framework, "--door json").await;
    let browser = Browser::at(testee.addr);
    let (mut ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    say(&mut ws, ["0", "a b"]).await;
    let mut source = door.events(&testee, "-1").await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(only(&source.answer.headers, name), Some(value));
    }
    assert_eq!(source.named("data").await.data, "[0,\"a b\"]");
    let told = control(&mut source).await;
    assert_eq!(told["upToDate"], true);
    assert!(told["streamCursor"].as_str().unwrap().parse::<u64>().is_ok());
    say(&mut ws, ["[2]"]).await;
    assert_eq!(source.named("data").await.data, "[[2]]");
    let told = control(&mut source).await;
    let at = told["streamNextOffset"].as_str().unwrap().to_owned();
    assert_eq!(at, next(&door.from("now").await));
    drop(source);
    until("it is gone", async || browser.get("/count").await.json()["observers"] == 0).await;
    say(&mut ws, ["3"]).await;
    let mut source = door.events(&testee, &at).await;
    assert_eq!(source.named("data").await.data, "[3]");
    ws.send("finish").await;
    assert_eq!(control(&mut source).await["upToDate"], true);
    let told = control(&mut source).await;
    assert_eq!((&told["streamClosed"], &told["streamCursor"]), (&json!(true), &Value::Null));
    assert_eq!(source.event().await, None);
}

async fn the_last_message_and_the_end_come_together(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("--store {}", dir.path().join("sessions.redb").display());
    for store in ["", &store] {
        ends_together(framework, store).await;
    }
}

async fn ends_together(framework: Framework, store: &str) {
    let flags = format!("--door json --unused-lifetime 4000 --check-interval 100 {store}");
    let testee = testee(framework, &flags).await;
    let browser = Browser::at(testee.addr);
    let (mut ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    say(&mut ws, ["0", "1"]).await;
    let first = next(&door.from("-1").await);
    ws.send("finish well").await;
    let tail = format!("?offset={first}&live=long-poll");
    let closed = soon("an answer at once", door.get(&tail)).await;
    assert_eq!((closed.status.as_u16(), header(&closed, "stream-closed")), (204, "true"));
    assert_eq!(header(&closed, "stream-cursor"), "");
    let all = door.from("-1").await;
    assert_eq!((all.text(), header(&all, "stream-closed")), ("[0,1]", "true"));
    // After a while only its end is left.
    drop(ws);
    until("it has left memory", async || door.from("-1").await.status == 410).await;
    let head = browser.request(Request::head(&door.path), "").await;
    assert_eq!((header(&head, "stream-closed"), header(&head, NEXT)), ("true", &*first));
    let now = door.from(&first).await;
    assert_eq!((now.text(), header(&now, "stream-closed")), ("[]", "true"));
    let mut source = door.events(&testee, &first).await;
    assert_eq!(control(&mut source).await["streamClosed"], true);
    assert_eq!(source.event().await, None);
}

async fn a_foreign_session_is_not_there(framework: Framework) {
    let testee = testee(framework, "--door json").await;
    let (owner, other) = (Browser::at(testee.addr), Browser::at(testee.addr));
    let (mut ws, hello) = attached(&owner).await;
    let door = Door::of(&other, &hello);
    let unknown = "/streams/00000000-0000-4000-8000-000000000000";
    let queries = ["", "?offset=-1", "?offset=now&live=long-poll", "?offset=now&live=sse"];
    for ended in [false, true] {
        for query in queries {
            let foreign = door.get(query).await;
            let nothing = other.get(&format!("{unknown}{query}")).await;
            let told = |answer: &Answer| (answer.status.as_u16(), answer.text().to_owned());
            assert_eq!(told(&foreign), told(&nothing), "{query} {ended}");
            assert_eq!(foreign.status, 404);
            assert_eq!(header(&foreign, "x-content-type-options"), "nosniff");
        }
        for path in [&door.path, unknown, "/streams/no-id"] {
            assert_eq!(other.request(Request::head(path), "").await.status, 404);
        }
        ws.send("finish").await;
        let id = door.path.strip_prefix("/streams/").unwrap();
        until("it has ended", async || owner.get(&format!("/sessions/{id}")).await.status == 200)
            .await;
    }
    assert_eq!(Door::of(&owner, &hello).from("now").await.status, 200);
}

async fn a_door_is_only_read(framework: Framework) {
    let testee = testee(framework, "--door json").await;
    let browser = Browser::at(testee.addr);
    let (_ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        let request = Request::builder().method(method).uri(&door.path);
        let answer = browser.request(request, "").await;
        assert_eq!((answer.status.as_u16(), header(&answer, "allow")), (405, "GET, HEAD, OPTIONS"));
    }
}

async fn a_page_of_another_origin_reads_nothing(framework: Framework) {
    let testee = testee(framework, "--door json --origin https://friend.example").await;
    let browser = Browser::at(testee.addr);
    let (_ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    let get = || Request::get(&door.path);
    for (request, status) in [
        (get().header("origin", "https://evil.example"), 403),
        // A page of the same site, without `Origin`.
        (get().header("sec-fetch-site", "same-site"), 403),
        (get().header("sec-fetch-site", "same-origin"), 200),
        (get().header("origin", "https://friend.example"), 200),
    ] {
        let answer = browser.request(request, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    }
    let preflight = |origin: &str| {
        let request = Request::options(&door.path).header("origin", origin);
        request
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "if-none-match")
    };
    let friend = browser.request(preflight("https://friend.example"), "").await;
    assert_eq!(friend.status, 204);
    assert_eq!(header(&friend, "access-control-allow-origin"), "https://friend.example");
    assert!(header(&friend, "access-control-allow-headers").contains("If-None-Match"));
    assert!(header(&friend, "access-control-expose-headers").contains("Stream-Next-Offset"));
    assert_eq!(browser.request(preflight("https://evil.example"), "").await.status, 403);
}

async fn only_so_many_readers_wait(framework: Framework) {
    let testee = testee(framework, "--door json --max-observers 1").await;
    let browser = Browser::at(testee.addr);
    let (_ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    let mut source = door.events(&testee, "now").await;
    control(&mut source).await;
    for live in ["long-poll", "sse"] {
        let refused = door.from(&format!("now&live={live}")).await;
        assert_eq!((refused.status.as_u16(), header(&refused, "retry-after")), (503, "1"));
    }
    assert_eq!(door.from("now").await.status, 200, "that does not wait");
    drop(source);
    until("there is room", async || {
        let path = format!("{}?offset=now&live=sse", door.path);
        Streamed::ask(testee.addr, &browser, Request::get(path)).await.status == 200
    })
    .await;
}

async fn a_drain_answers_readers_that_wait(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = format!("--store {}", dir.path().join("sessions.redb").display());
    for store in ["", &store] {
        let testee = testee(framework, &format!("--door json {store}")).await;
        let browser = Browser::at(testee.addr);
        let (_ws, hello) = attached(&browser).await;
        let door = Door::of(&browser, &hello);
        let mut source = door.events(&testee, "now").await;
        control(&mut source).await;
        let stops = async {
            until("both wait", async || browser.get("/count").await.json()["observers"] == 2).await;
            testee.terminate().await;
        };
        let poll = soon("an answer", door.from("now&live=long-poll"));
        let (polled, ()) = tokio::join!(poll, stops);
        assert!([204, 503].contains(&polled.status.as_u16()), "{}", polled.status);
        assert_eq!(source.event().await, None);
    }
}

/// The last position of what the session has sent, committed or not.
async fn head(browser: &Browser) -> u64 {
    let listed = browser.get("/sessions").await.json();
    listed["sessions"][0]["head"]["position"].as_u64().unwrap()
}

async fn an_uncommitted_message_is_never_read(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sessions.redb");
    let flags = format!(
        "--door json --durability exact --retain done --store {} --secret {}",
        store.display(),
        "5".repeat(128)
    );
    let first = testee(framework, &flags).await;
    let browser = Browser::at(first.addr);
    let (mut ws, hello) = attached(&browser).await;
    let door = Door::of(&browser, &hello);
    say(&mut ws, ["0", "1"]).await;
    // A task sends while the handler has a message in hand: there is no boundary.
    ws.send("every 20 1000").await;
    ws.send("busy 600000").await;
    let mut before = door.from("-1").await;
    // What was sent before the handler took the message in hand may still be committed.
    until("nothing more is committed", async || {
        let sent = head(&browser).await;
        let read = door.from("-1").await;
        let is_same = next(&read) == next(&before) && sent >= position(&next(&read)) + 20;
        before = read;
        is_same
    })
    .await;
    let tail = next(&before);
    assert_eq!(next(&door.from("now").await), tail);
    let path = format!("{}?offset={tail}&live=sse", door.path);
    let mut source = EventSource::open_at(&first, &browser, &path, None).await;
    assert_eq!(control(&mut source).await["streamNextOffset"], json!(tail));
    first.kill().await;
    let testee = crate::testee(framework, &flags).await;
    let browser = browser.moved_to_address(testee.addr);
    let door = Door::of(&browser, &hello);
    // The same offset goes on where it was.
    let read = door.from(&tail).await;
    assert_eq!((read.status.as_u16(), read.text()), (200, "[]"), "{}", read.text());
    assert!(next(&read) > tail && position(&next(&read)) == position(&tail));
    assert_eq!(door.from("-1").await.text(), before.text());
}

async fn an_offset_lives_as_long_as_its_history(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sessions.redb");
    let flags = format!("--door json --store {} --secret {}", store.display(), "5".repeat(128));
    let first = testee(framework, &flags).await;
    let browser = Browser::at(first.addr);
    let (mut ws, hello) = attached(&browser).await;
    say(&mut ws, ["0", "1"]).await;
    let door = Door::of(&browser, &hello);
    let tail = next(&door.from("-1").await);
    let second = format!("{}1{}", &tail[..26], &tail[27..]);
    drop(ws);
    // A process that stops puts all there is, and the next one goes on.
    first.terminate().await;
    assert!(first.exit().await.success());
    let second_life = crate::testee(framework, &flags).await;
    let browser = browser.moved_to_address(second_life.addr);
    let door = Door::of(&browser, &hello);
    let read = door.from(&second).await;
    assert_eq!((read.status.as_u16(), read.text()), (200, "[1]"));
    let third = next(&read);
    assert!(third > tail && position(&third) == 2);
    assert_eq!(door.from("-1").await.text(), "[0,1]");
    // One that is killed leaves its state alone, and another history begins.
    second_life.kill().await;
    let third_life = crate::testee(framework, &flags).await;
    let browser = browser.moved_to_address(third_life.addr);
    let door = Door::of(&browser, &hello);
    let gone = door.from(&third).await;
    assert_eq!(gone.status, 410);
    let earliest = header(&gone, "stream-earliest-offset");
    assert!(earliest > &*third, "the order goes on");
    assert_eq!(door.from(earliest).await.text(), "[]");
}

async fn text_and_bytes_are_given_out_as_they_are(framework: Framework) {
    for (kind, content_type) in
        [("text", "text/plain; charset=utf-8"), ("bytes", "application/octet-stream")]
    {
        let testee = testee(framework, &format!("--door {kind}")).await;
        let browser = Browser::at(testee.addr);
        let (mut ws, hello) = attached(&browser).await;
        let door = Door::of(&browser, &hello);
        say(&mut ws, ["one\n", " two"]).await;
        let all = door.from("-1").await;
        assert_eq!((all.text(), header(&all, "content-type")), ("one\n two", content_type));
        let mut source = door.events(&testee, "-1").await;
        let encoding = only(&source.answer.headers, "stream-sse-data-encoding");
        let (expected, data) = match kind {
            "text" => (None, "one\n two"),
            _ => (Some("base64"), "b25lCiB0d28="),
        };
        assert_eq!(encoding, expected);
        assert_eq!(source.named("data").await.data, data);
    }
}

/// The session is under a key that a read does not have: it is found by its id.
async fn a_reader_of_another_key_finds_a_stored_session(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sessions.redb");
    let flags =
        format!("--door json --key path --store {} --secret {}", store.display(), "5".repeat(128));
    let first = testee(framework, &flags).await;
    let browser = Browser::at(first.addr);
    let (mut ws, hello) = attached(&browser).await;
    say(&mut ws, ["0"]).await;
    drop(ws);
    first.terminate().await;
    assert!(first.exit().await.success());
    let testee = crate::testee(framework, &flags).await;
    let other = Browser::at(testee.addr);
    assert_eq!(Door::of(&other, &hello).from("-1").await.status, 404);
    assert_eq!(other.get("/count").await.json()["live"], 0, "no stranger restores it");
    let browser = browser.moved_to_address(testee.addr);
    assert_eq!(Door::of(&browser, &hello).from("-1").await.text(), "[0]");
}
