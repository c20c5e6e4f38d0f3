//! What `useChat` of the AI SDK asks for: `POST /api/chat`, and `GET /api/chat/{id}/stream` after a reload.

use http::{Request, request::Builder};
use serde_json::{Value, json};
use session_resume_testkit::{Browser, soon, until};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::{
    requests::{EventSource, Streamed, only},
    testee,
};

scenarios!(
    an_answer_is_a_ui_message_stream,
    the_present_answer_is_whole_for_each_reader,
    without_an_answer_under_way_there_is_nothing,
    an_answer_is_not_mistaken_for_another_ones,
    the_answer_to_a_message_that_waits_is_not_the_one_before_it,
    foreign_pages_touch_no_session,
    a_chat_that_is_not_one_starts_nothing,
    a_long_chat_goes_on_with_readers_alone,
    an_answer_is_read_while_it_is_written_to_disk,
);

/// `start`, `text-start`, 50 times `text-delta`, `text-end`, `finish`.
const CHUNKS: usize = 54;

/// A page of a chat.
struct Chat<'a> {
    testee: &'a Testee,
    browser: Browser,
    id: &'static str,
}

impl<'a> Chat<'a> {
    fn new(testee: &'a Testee, id: &'static str) -> Self {
        Self { testee, browser: Browser::at(testee.addr), id }
    }

    /// What `useChat` posts.
    fn body(&self, text: &str) -> String {
        let message =
            json!({ "id": "u", "role": "user", "parts": [{ "type": "text", "text": text }] });
        json!({ "id": self.id, "messages": [message], "trigger": "submit-message" }).to_string()
    }

    /// From a page of this server.
    fn request(&self) -> Builder {
        Request::post("/api/chat")
            .header("origin", format!("http://{}", self.testee.addr))
            .header("content-type", "application/json")
    }

    async fn say(&self, text: &str) -> UiStream {
        let body = self.body(text);
        let answer =
            Streamed::ask_with(self.testee.addr, &self.browser, self.request(), body).await;
        UiStream::of(answer)
    }

    fn path(&self) -> String {
        format!("/api/chat/{}/stream", self.id)
    }

    /// What a page asks for that was loaded anew.
    async fn resume(&self) -> UiStream {
        let request = Request::get(self.path()).header("sec-fetch-site", "same-origin");
        UiStream::of(Streamed::ask(self.testee.addr, &self.browser, request).await)
    }

    async fn has_nothing(&self) -> bool {
        let answer = self.browser.get(&self.path()).await;
        assert!(answer.status == 204 || answer.status == 200, "{}", answer.text());
        answer.status == 204
    }
}

struct UiStream(EventSource);

impl UiStream {
    fn of(answer: Streamed) -> Self {
        assert_eq!(answer.status, 200);
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("x-vercel-ai-ui-message-stream", "v1"),
            ("cache-control", "no-store, no-transform"),
            ("x-accel-buffering", "no"),
            ("content-encoding", "identity"),
        ] {
            assert_eq!(only(&answer.headers, name), Some(value), "{name}");
        }
        Self(EventSource::of(answer))
    }

    /// The next chunk; `None`: done, and the stream ends.
    async fn chunk(&mut self) -> Option<Value> {
        // Comments come while it waits: each piece by itself would be soon enough.
        let event = soon("a chunk", self.0.event()).await;
        let event = event.expect("it does not end without [DONE]");
        assert_eq!((&*event.name, &*event.id), ("", ""));
        if event.data == "[DONE]" {
            assert_eq!(self.0.event().await, None);
            return None;
        }
        Some(serde_json::from_str(&event.data).unwrap())
    }

    async fn rest(&mut self) -> Vec<Value> {
        let mut chunks = Vec::new();
        while let Some(chunk) = self.chunk().await {
            chunks.push(chunk);
        }
        chunks
    }
}

/// The text of a whole message with this id.
fn text(chunks: &[Value], id: &str) -> String {
    let kinds = chunks.iter().map(|chunk| chunk["type"].as_str().unwrap()).collect::<Vec<_>>();
    assert_eq!(chunks.len(), CHUNKS, "{kinds:?}");
    assert_eq!(chunks[0], json!({ "type": "start", "messageId": id }));
    assert_eq!(kinds[1], "text-start");
    assert!(kinds[2..CHUNKS - 2].iter().all(|kind| *kind == "text-delta"), "{kinds:?}");
    assert_eq!(kinds[CHUNKS - 2..], ["text-end", "finish"]);
    chunks.iter().filter_map(|chunk| chunk["delta"].as_str()).collect()
}

fn whole(said: &str) -> String {
    let rest = (1..50).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    format!("{said}: {rest} ")
}

async fn live(testee: &Testee) -> Value {
    testee.count().await["live"].clone()
}

async fn an_answer_is_a_ui_message_stream(framework: Framework) {
    let testee = testee(framework, "").await;
    let chat = Chat::new(&testee, "c1");
    let mut answer = chat.say("hello").await;
    assert_eq!(text(&answer.rest().await, "m0"), whole("hello"));
    // The same session, and its next message.
    let mut answer = chat.say("and again").await;
    assert_eq!(text(&answer.rest().await, "m1"), whole("and again"));
    assert_eq!(live(&testee).await, 1);
    // Another chat is another session.
    let other = Chat { id: "c2", browser: chat.browser.clone(), testee: &testee };
    let mut answer = other.say("hello").await;
    assert_eq!(text(&answer.rest().await, "m0"), whole("hello"));
    assert_eq!(live(&testee).await, 2);
}

async fn the_present_answer_is_whole_for_each_reader(framework: Framework) {
    let testee = testee(framework, "").await;
    let chat = Chat::new(&testee, "c1");
    let mut first = chat.say("hello").await;
    while first.chunk().await.unwrap()["delta"] != "5 " {}
    // The page is loaded anew, and once more.
    drop(first);
    let mut second = chat.resume().await;
    while second.chunk().await.unwrap()["delta"] != "7 " {}
    drop(second);
    let (mut one, mut two) = (chat.resume().await, chat.resume().await);
    let (one, two) = tokio::join!(one.rest(), two.rest());
    assert_eq!(text(&one, "m0"), whole("hello"));
    assert_eq!(one, two);
    assert!(chat.has_nothing().await);
    until("nobody observes", async || testee.count().await["observers"] == 0).await;
}

async fn without_an_answer_under_way_there_is_nothing(framework: Framework) {
    let testee = testee(framework, "").await;
    let chat = Chat::new(&testee, "c1");
    let answer = chat.browser.get(&chat.path()).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (204, ""));
    assert_eq!(live(&testee).await, 0, "none is started");
    let mut first = chat.say("hello").await;
    first.chunk().await;
    assert!(!chat.has_nothing().await);
    // Of another browser's chats nobody is told.
    let other = Chat::new(&testee, "c1");
    assert!(other.has_nothing().await);
    assert_eq!(live(&testee).await, 1);
    first.rest().await;
    assert!(chat.has_nothing().await, "it is whole");
}

async fn an_answer_is_not_mistaken_for_another_ones(framework: Framework) {
    let testee = testee(framework, "").await;
    let chat = Chat::new(&testee, "c1");
    let mut one = chat.say("one").await;
    while one.chunk().await.unwrap()["delta"] != "5 " {}
    let mut two = chat.say("two").await;
    // The present one is that of the first message.
    let mut present = chat.resume().await;
    assert_eq!(text(&present.rest().await, "m0"), whole("one"));
    one.rest().await;
    assert_eq!(text(&two.rest().await, "m1"), whole("two"));
}

async fn the_answer_to_a_message_that_waits_is_not_the_one_before_it(framework: Framework) {
    let testee = testee(framework, "").await;
    let chat = Chat::new(&testee, "c1");
    let mut one = chat.say("one").await;
    one.chunk().await;
    // Two wait, and the answer to the first of them begins after the second was posted.
    let (mut two, mut three) = (chat.say("two").await, chat.say("three").await);
    let (one, two, three) = tokio::join!(one.rest(), two.rest(), three.rest());
    assert_eq!(one.len(), CHUNKS - 1);
    assert_eq!(text(&two, "m1"), whole("two"));
    assert_eq!(text(&three, "m2"), whole("three"));
}

async fn foreign_pages_touch_no_session(framework: Framework) {
    let testee = testee(framework, "").await;
    let chat = Chat::new(&testee, "c1");
    let foreign = [
        ("origin", "https://foe.example"),
        ("origin", "null"),
        // Another origin of the same site, which browsers send the cookie for.
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-site", "cross-site"),
    ];
    for (name, value) in foreign {
        let post = Request::post("/api/chat").header("content-type", "text/plain");
        let refused = chat.browser.request(post.header(name, value), chat.body("hello")).await;
        assert_eq!(refused.status, 403, "{name}: {value}");
        assert!(!refused.headers.contains_key("set-cookie"));
    }
    assert_eq!(live(&testee).await, 0);
    let mut answer = chat.say("hello").await;
    answer.chunk().await;
    for (name, value) in foreign {
        let get = Request::get(chat.path()).header(name, value);
        let refused = chat.browser.request(get, "").await;
        assert_eq!(refused.status, 403, "{name}: {value}");
    }
    assert_eq!(testee.count().await["observers"], 1);
    assert_eq!(
        text(
            &[vec![json!({ "type": "start", "messageId": "m0" })], answer.rest().await].concat(),
            "m0"
        ),
        whole("hello")
    );
}

async fn a_chat_that_is_not_one_starts_nothing(framework: Framework) {
    let testee = testee(framework, "--max-message 2000").await;
    let chat = Chat::new(&testee, "c1");
    for (body, status) in
        [("", 400), ("{}", 400), ("[1", 400), (&*chat.body(&"long ".repeat(1000)), 413)]
    {
        let refused = chat.browser.request(chat.request(), body.to_owned()).await;
        assert_eq!(refused.status, status, "{body:.20}");
    }
    assert_eq!(live(&testee).await, 0);
}

async fn a_long_chat_goes_on_with_readers_alone(framework: Framework) {
    // An answer is more than the outbox holds.
    let flags = "--overflow drop-oldest --retain checkpoint --outbox-messages 40";
    let testee = testee(framework, flags).await;
    let chat = Chat::new(&testee, "c1");
    for turn in 0..3 {
        let mut answer = chat.say("hello").await;
        while answer.chunk().await.unwrap()["delta"] != "45 " {}
        let mut present = chat.resume().await;
        assert_eq!(text(&present.rest().await, &format!("m{turn}")), whole("hello"));
        answer.rest().await;
    }
}

async fn an_answer_is_read_while_it_is_written_to_disk(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("sessions.redb");
    let flags = format!("--durability exact --store {}", store.display());
    let testee = testee(framework, &flags).await;
    let chat = Chat::new(&testee, "c1");
    let mut answer = chat.say("hello").await;
    answer.chunk().await;
    // It is under way: what is on disk is read before the last chunk is there.
    let mut present = chat.resume().await;
    assert_eq!(text(&present.rest().await, "m0"), whole("hello"));
    assert_eq!(answer.rest().await.len(), CHUNKS - 1);
}
