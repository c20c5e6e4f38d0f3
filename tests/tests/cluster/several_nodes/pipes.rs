//! Transports that are made of requests, each of which lands on another node.

use bytes::Bytes;
use serde_json::Value;
use session_resume_engine::{Engine, without_redis};
use session_resume_proto::wire::{PipeFrame, encode_frames};
use session_resume_testkit::{Browser, Socket, until};
use session_resume_tests::{Framework, Testee, scenarios};

use super::{
    node::{node_with, told},
    requests::{EventSource, Pipe, PipeStream, Streamed, only, text},
};

const PAGE: &str = "0123456789abcdef";

/// Three nodes; a balancer sends each request to the next of them.
struct Three {
    _engine: Engine,
    nodes: Vec<Testee>,
}

impl Three {
    async fn start(framework: Framework, flags: &str) -> Option<Self> {
        if without_redis() {
            return None;
        }
        let engine = Engine::durable();
        let mut nodes = Vec::new();
        for name in ["a", "b", "c"] {
            nodes.push(node_with(&engine, framework, name, flags).await);
        }
        Some(Self { _engine: engine, nodes })
    }

    /// Where the request of this number lands; the first one at node a.
    fn turn(&self, number: usize) -> &Testee {
        &self.nodes[number % self.nodes.len()]
    }

    fn browser(&self, browser: &Browser, number: usize) -> Browser {
        browser.moved_to_address(self.turn(number).addr)
    }
}

/// What follows goes to this node.
fn go_to<'a>(pipe: &mut Pipe<'a>, node: &'a Testee) {
    pipe.testee = node;
    pipe.browser = pipe.browser.moved_to_address(node.addr);
}

/// An open, gets, posts, all of them sent twice, and streams that are cut: one pipe, wherever they land.
async fn each_request_of_a_pipe_lands_on_another_node(framework: Framework) {
    let Some(three) = Three::start(framework, "--hold 300").await else {
        return;
    };
    let browser = Browser::at(three.nodes[0].addr);
    let mut pipe = Pipe::new(&three.nodes[0], &browser);
    let opened = pipe.send_open(PAGE).await;
    assert_eq!(opened.status, 200, "{}", opened.text());
    pipe.heard(&opened);
    let (_, tag) = pipe.token.split_once('.').unwrap();
    assert!(tag.starts_with("a-"), "{tag}");
    // The answer was lost; the same open comes again, elsewhere.
    go_to(&mut pipe, three.turn(1));
    let again = pipe.send_open(PAGE).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(only(&again.headers, "session-resume-pipe"), Some(&*pipe.token));
    let hello = pipe.hello().await;
    assert_eq!(hello["status"], "new", "{hello}");

    let mut total = 0;
    for k in 1..=9 {
        go_to(&mut pipe, three.turn(k));
        let body = Bytes::from(encode_frames(&[text(&format!("add {k}"))]));
        let first = pipe.send(body.clone()).await;
        go_to(&mut pipe, three.turn(k + 1));
        let second = pipe.send(body).await;
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (204, 204), "{}", first.text());
        pipe.up += 1;
        total += k;
        assert_eq!(pipe.data().await, format!("total:{total}"));
    }
    pipe.say("where").await;
    assert_eq!(pipe.data().await, "node:a generation:1");
    // What others make up is answered as on one node.
    let mine = std::mem::replace(&mut pipe.token, format!("{}.z-0123456789abcdef", pipe.nonce));
    assert_eq!(pipe.get().await.status, 410, "there is no such node");
    pipe.token = mine.replace(tag_of(&mine), "a-0123456789abcdef");
    assert_eq!(pipe.get().await.status, 410, "the node has no such pipe");
    pipe.token = mine;
    let stranger = Browser::at(three.nodes[1].addr);
    told(&stranger, "/").await;
    assert_eq!(stranger.request(pipe.get_request(), "").await.status, 410, "it is another's");

    // Polls.
    pipe.say("emit 300 100").await;
    for i in 0..300 {
        go_to(&mut pipe, three.turn(i));
        let data = pipe.data().await;
        assert!(data.starts_with(&format!("e:{i}:")), "{i}: {data}");
    }
    // Streams, each of them cut.
    pipe.say("emit 300 100").await;
    let mut i = 300;
    for turn in 1..4 {
        go_to(&mut pipe, three.turn(turn));
        let mut stream = pipe.stream().await;
        assert_eq!(only(&stream.answer.headers, "content-type"), Some("text/event-stream"));
        let here = told(&pipe.browser, "/node").await;
        assert_eq!(here["relays"], u32::from(turn != 3), "{here}");
        while i < 300 + 100 * turn {
            let frame = stream.frame().await;
            pipe.down += 1;
            match frame {
                PipeFrame::Text(text) if text.starts_with('\u{1}') => {}
                PipeFrame::Text(text) => {
                    assert!(text.starts_with(&format!("e:{i}:")), "{i}: {text}");
                    i += 1;
                }
                PipeFrame::Ping => {}
                other => panic!("{other:?}"),
            }
        }
    }
    go_to(&mut pipe, three.turn(1));
    pipe.say("get").await;
    assert_eq!(pipe.data().await, format!("total:{total} n:9"));
    until("no relay is left", async || {
        let mut relays = 0;
        for turn in 0..3 {
            let node = told(&three.browser(&browser, turn), "/node").await;
            relays += node["relays"].as_u64().unwrap();
        }
        relays == 0
    })
    .await;
}

fn tag_of(token: &str) -> &str {
    token.split_once('.').unwrap().1
}

/// A client comes back with its cursor by an open that lands elsewhere; and after its node has died.
async fn a_pipe_is_opened_where_its_session_is(framework: Framework) {
    let Some(mut three) = Three::start(framework, "--hold 300").await else {
        return;
    };
    let browser = Browser::at(three.nodes[0].addr);
    let mut ws = browser.resumable("/live", PAGE).await;
    let hello = ws.member("hello").await;
    ws.send("add 5").await;
    assert_eq!(ws.data().await, "total:5");
    assert_eq!(ws.member("ack").await, 1);
    ws.cut().await;
    // A stream, through node b.
    let at = Socket::cursor(PAGE, &hello, 1);
    let b = &three.nodes[1];
    let mut pipe = Pipe::new(b, &browser.moved_to_address(b.addr));
    let request = pipe.open_request(&at).header("accept", "text/event-stream");
    let mut stream = PipeStream::new(Streamed::ask(b.addr, &pipe.browser, request).await);
    assert_eq!(stream.answer.status, 200);
    only(&stream.answer.headers, "session-resume-pipe").unwrap().clone_into(&mut pipe.token);
    assert!(tag_of(&pipe.token).starts_with("a-"), "{}", pipe.token);
    let PipeFrame::Text(first) = stream.frame().await else { panic!() };
    let hello = serde_json::from_str::<Value>(&first[1..]).unwrap()["hello"].take();
    assert_eq!(hello["status"], "resumed", "{hello}");
    pipe.down = 1;
    // Its posts go through node c, and the stream shows what comes of them.
    let mut by_c = Pipe::new(&three.nodes[2], &browser.moved_to_address(three.nodes[2].addr));
    by_c.token.clone_from(&pipe.token);
    by_c.down = 1;
    by_c.say("add 2").await;
    loop {
        match stream.frame().await {
            PipeFrame::Text(text) if text.starts_with('\u{1}') => {}
            frame => break assert_eq!(frame, text("total:7")),
        }
    }
    let token = pipe.token.clone();
    drop((stream, pipe, by_c));

    // The owner dies: 503 until its lease is over, then 410; and the session comes up where its client knocks.
    three.nodes.remove(0).kill().await;
    let b = &three.nodes[0];
    let mut pipe = Pipe::new(b, &browser.moved_to_address(b.addr));
    pipe.token = token;
    until("the pipe is gone", async || {
        let status = pipe.browser.request(pipe.get_request(), "").await.status;
        assert!(status == 410 || status == 503, "{status}");
        status == 410
    })
    .await;
    let at = Socket::cursor(PAGE, &hello, 1);
    let mut pipe = Pipe::open(b, &pipe.browser, &at).await;
    let again = pipe.hello().await;
    assert_eq!((&again["status"], &again["session"]), (&"restored".into(), &hello["session"]));
    pipe.say("get").await;
    assert!(pipe.data().await.starts_with("total:"));
}

/// Node b has set the cookie; the owner has none to give, and lets no client go on without.
async fn an_open_whose_answer_is_lost_leaves_no_client_without_a_cookie(framework: Framework) {
    let flags = "--hold 300 --key path --shared-key --attach share";
    let Some(three) = Three::start(framework, flags).await else {
        return;
    };
    let [a, b, _] = &three.nodes[..] else { panic!() };
    let mut owner = Pipe::new(a, &Browser::at(a.addr)).at("/live/room");
    owner.heard(&owner.send_open(PAGE).await);
    owner.hello().await;
    // A browser that is new opens through node b. The answer, with its cookie, is lost.
    let lost = Pipe::new(b, &Browser::at(b.addr)).at("/live/room");
    let answer = lost.send_open("fedcba9876543210").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(only(&answer.headers, "session-resume-pipe").unwrap().contains(".a-"));
    // It knocks again, at the owner itself.
    let mut again = Pipe::new(a, &Browser::at(a.addr)).at("/live/room");
    again.nonce.clone_from(&lost.nonce);
    let answer = again.send_open("fedcba9876543210").await;
    assert_eq!(answer.status, 410, "{}", answer.text());
    // Another pipe brings a cookie.
    let mut other = Pipe::new(a, &Browser::at(a.addr)).at("/live/room");
    let answer = other.send_open("fedcba9876543210").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(only(&answer.headers, "set-cookie").is_some());
    other.heard(&answer);
    other.hello().await;
}

/// What comes without a client of ours: a stream of events through one node, posts through another.
async fn plain_streams_and_posts_find_their_session_from_any_node(framework: Framework) {
    let Some(three) = Three::start(framework, "--plain-http --attach share").await else {
        return;
    };
    let [a, b, c] = &three.nodes[..] else { panic!() };
    let browser = Browser::at(a.addr);
    let session = told(&browser, "/").await["session"].clone();
    let mut source = EventSource::open(b, &browser.moved_to_address(b.addr), None).await;
    assert_eq!(source.answer.status, 200);
    let first = source.named("session").await;
    assert!(first.data.contains(session.as_str().unwrap()), "{} {session}", first.data);
    for k in 1..=6 {
        let node = three.turn(k);
        let request = http::Request::post("/live")
            .header("origin", format!("http://{}", node.addr))
            .header("content-type", "text/plain")
            .header("idempotency-key", format!("k{k}"));
        let answer = three.browser(&browser, k).request(request, "add 1").await;
        assert!([202, 204].contains(&answer.status.as_u16()), "{}", answer.text());
        assert_eq!(source.message().await, format!("total:{k}"));
    }
    // It is cut, and comes back elsewhere with what it has.
    let last = source.last.clone();
    drop(source);
    let request = http::Request::post("/live")
        .header("origin", format!("http://{}", b.addr))
        .header("content-type", "text/plain");
    let answer = browser.moved_to_address(b.addr).request(request, "emit 50 10").await;
    assert_eq!(answer.status, 202);
    let mut source = EventSource::open(c, &browser.moved_to_address(c.addr), Some(&last)).await;
    assert!(source.named("session").await.data.contains("resumed"));
    for i in 0..50 {
        assert!(source.message().await.starts_with(&format!("e:{i}:")));
    }
    assert_eq!(told(&browser, "/where").await["here"], true);
}

scenarios!(
    each_request_of_a_pipe_lands_on_another_node,
    a_pipe_is_opened_where_its_session_is,
    an_open_whose_answer_is_lost_leaves_no_client_without_a_cookie,
    plain_streams_and_posts_find_their_session_from_any_node,
);
