//! One session over requests: streams of events, polls and posts.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use session_resume_proto::wire::{PipeFrame, StreamItem, encode_frames};
use session_resume_testkit::{Browser, Socket, until};
use session_resume_tests::{Framework, scenarios};
use tokio::time::Instant;

use crate::{
    client,
    requests::{FRAMES, Pipe, PipeStream, Streamed, only, text},
    testee,
};

scenarios!(
    a_session_goes_on_over_polls_and_posts,
    a_stream_flows_and_goes_on_after_a_cut,
    every_post_sent_again_counts_once,
    an_answer_that_is_lost_is_given_again,
    an_open_sent_twice_is_one_pipe,
    what_others_send_on_a_pipe_touches_nothing,
    what_cannot_be_read_closes_the_pipe,
    a_pipe_that_nobody_asks_is_gone,
    transports_of_all_kinds_follow_each_other,
    a_tab_on_a_socket_and_one_on_a_stream_meet,
    a_server_that_stops_answers_what_waits,
    a_page_of_another_origin_touches_no_session,
    there_is_room_for_so_many_pipes,
    pipes_that_are_over_take_no_room_for_ever,
    the_route_says_what_it_takes,
    a_probe_says_whether_frames_pass_and_touches_no_session,
);

async fn a_session_goes_on_over_polls_and_posts(framework: Framework) {
    let testee = testee(framework, "--absent 9000 --hold 300").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::new(&testee, &browser);
    let answer = pipe.send_open(&client('a')).await;
    assert_eq!(answer.status, 200);
    for (name, value) in [
        ("content-type", FRAMES),
        ("cache-control", "no-store, no-transform"),
        ("x-accel-buffering", "no"),
        ("x-content-type-options", "nosniff"),
        ("vary", "Origin"),
    ] {
        assert_eq!(only(&answer.headers, name), Some(value), "{name}");
    }
    assert!(answer.header("set-cookie").next().is_some());
    pipe.heard(&answer);
    let (nonce, tag) = pipe.token.split_once('.').unwrap();
    assert!(nonce == pipe.nonce && (11..=40).contains(&tag.len()), "{}", pipe.token);
    let hello = pipe.hello().await;
    assert_eq!((&hello["absent_ms"], &hello["hold_ms"]), (&json!(9000), &json!(300)));
    assert_eq!((&hello["status"], &hello["attachment"]), (&json!("new"), &json!(1)));
    pipe.say("echo one").await;
    assert_eq!(pipe.data().await, "echo:one");
    // Nothing is there: it waits as long as it may.
    let asked = Instant::now();
    let empty = loop {
        let answer = pipe.get().await;
        if answer.body.is_empty() {
            break answer;
        }
    };
    assert!(asked.elapsed() >= Duration::from_millis(250));
    assert_eq!(empty.status, 200);
    let quick = pipe.get_request().header("session-resume-wait", "0");
    let quick = browser.request(quick, "").await;
    assert_eq!((quick.status.as_u16(), quick.body.len()), (200, 0));
    assert_eq!(testee.count().await["pipes"], 1);
    // A client leaves by a close.
    pipe.post(&[PipeFrame::Close(session_resume_proto::wire::Close::new(1000, ""))]).await;
    until("the pipe is gone", async || testee.count().await["pipes"] == 0).await;
    assert_eq!(testee.count().await["suspended"], 1);
    let mut back = Pipe::open(&testee, &browser, &Socket::cursor(&client('a'), &hello, 1)).await;
    let again = back.hello().await;
    assert_eq!((&again["status"], &again["received"]), (&json!("resumed"), &json!(1)));
}

async fn a_stream_flows_and_goes_on_after_a_cut(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::new(&testee, &browser);
    let request = pipe.open_request(&client('a')).header("accept", "text/event-stream");
    let mut stream = PipeStream::new(Streamed::ask(testee.addr, &browser, request).await);
    let headers = &stream.answer.headers;
    assert_eq!(only(headers, "content-type"), Some("text/event-stream"));
    assert_eq!(only(headers, "content-encoding"), Some("identity"));
    only(headers, "session-resume-pipe").unwrap().clone_into(&mut pipe.token);
    assert_eq!(stream.item().await, Some(StreamItem::Comment("session-resume".into())));
    let PipeFrame::Text(hello) = stream.frame().await else { panic!() };
    assert!(hello.starts_with("\u{1}{\"hello\":"));
    assert_eq!(stream.item().await, Some(StreamItem::Comment("flow".into())));
    pipe.down = 1;
    let mut messages = ["two\nlines", "a\rb", "", " x", "ends\n"].iter();
    for message in &mut messages {
        pipe.say(&format!("say {message}")).await;
        loop {
            let frame = stream.frame().await;
            pipe.down += 1;
            match frame {
                PipeFrame::Text(text) if text.starts_with('\u{1}') => {}
                frame => break assert_eq!(frame, text(message)),
            }
        }
    }
    pipe.post(&[PipeFrame::Binary(vec![0, 13, 10, 255].into())]).await;
    drop(stream);
    // The same pipe, from where it was.
    let mut stream = pipe.stream().await;
    assert_eq!(only(&stream.answer.headers, "session-resume-down"), Some(&*pipe.down.to_string()));
    loop {
        match stream.frame().await {
            PipeFrame::Text(_) => {}
            frame => break assert_eq!(frame, PipeFrame::Binary(vec![0, 13, 10, 255].into())),
        }
    }
    assert_eq!(testee.count().await["running"], 1);
}

async fn every_post_sent_again_counts_once(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    pipe.hello().await;
    let mut late = None;
    for k in 1..=5 {
        let body = Bytes::from(encode_frames(&[text("add 1"), text("get")]));
        let request = || pipe.post_request();
        let first = browser.request(request(), body.clone()).await;
        let again = browser.request(request(), body.clone()).await;
        assert_eq!((first.status.as_u16(), again.status.as_u16()), (204, 204));
        let earlier: Option<(http::request::Builder, Bytes)> = late.replace((request(), body));
        if let Some((request, body)) = earlier {
            // The one before the last is not the last again.
            assert_eq!(browser.request(request, body).await.status, 409);
        }
        pipe.up += 2;
        assert_eq!(pipe.data().await, format!("total:{k}"));
        assert_eq!(pipe.data().await, format!("total:{k} n:{k}"));
    }
    assert_eq!(browser.get("/").await.json()["total"], 5);
}

async fn an_answer_that_is_lost_is_given_again(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    pipe.hello().await;
    pipe.say("emit 600 100").await;
    let mut seen = 0;
    while seen < 600 {
        let (down, frames) = (pipe.down, pipe.frames.clone());
        // Every second answer is lost after the server has written it.
        pipe.get().await;
        pipe.down = down;
        pipe.frames = frames;
        let answer = pipe.get().await;
        assert_eq!(answer.status, 200);
        while let Some(frame) = pipe.frames.pop_front() {
            match frame {
                PipeFrame::Text(text) if text.starts_with('\u{1}') => {}
                PipeFrame::Text(text) => {
                    assert!(text.starts_with(&format!("e:{seen}:")), "{seen}: {text}");
                    seen += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        pipe.say(&format!("\u{1}{{\"ack\":{seen}}}")).await;
    }
    // What is confirmed is let go of: nobody who has this pipe asks for it.
    pipe.down = 0;
    assert_eq!(pipe.get().await.status, 409);
}

async fn an_open_sent_twice_is_one_pipe(framework: Framework) {
    let testee = testee(framework, "--absent 400").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::new(&testee, &browser);
    // Two at once, as a browser sends again when a connection drops: it has no cookie yet.
    let fresh = Browser::at(testee.addr);
    let (first, again) = tokio::join!(
        browser.request(pipe.open_request(&client('a')), ""),
        fresh.request(pipe.open_request(&client('a')), "")
    );
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (200, 200));
    let token = only(&first.headers, "session-resume-pipe");
    assert_eq!(token, only(&again.headers, "session-resume-pipe"));
    let third = Browser::at(testee.addr).request(pipe.open_request(&client('a')), "").await;
    let cookies: Vec<_> = first.header("set-cookie").collect();
    let identity = |cookie: &&str| cookie.split(';').next().map(str::to_owned);
    let told = third.header("set-cookie").next().as_ref().and_then(identity);
    let own = cookies.first().and_then(identity);
    let other = again.header("set-cookie").next().as_ref().and_then(identity);
    assert!(told == own || told == other, "the cookie of the open that attached");
    let answer = if told == own { &first } else { &again };
    pipe.browser = if told == own { browser.clone() } else { fresh.clone() };
    pipe.down = 0;
    pipe.heard(answer);
    let hello = pipe.hello().await;
    pipe.say("add 1").await;
    assert_eq!(pipe.data().await, "total:1");
    let late = pipe.open_request(&Socket::cursor(&client('a'), &hello, 0));
    until("it is absent", async || testee.count().await["pipes"] == 0).await;
    let mut back =
        Pipe::open(&testee, &pipe.browser, &Socket::cursor(&client('a'), &hello, 1)).await;
    assert_eq!(back.hello().await["status"], "resumed");
    back.say("add 1").await;
    assert_eq!(back.data().await, "total:2");
    // The second copy of the open, late: its number keeps it out.
    let late = pipe.browser.request(late, "").await;
    assert_ne!(only(&late.headers, "session-resume-pipe"), Some(&*pipe.token));
    let frames = session_resume_proto::wire::decode_frames(late.body).unwrap();
    assert!(
        matches!(frames.last(), Some(PipeFrame::Close(close)) if close.code == 4113),
        "{frames:?}"
    );
    back.say("get").await;
    assert_eq!(back.data().await, "total:2 n:2");
}

async fn what_others_send_on_a_pipe_touches_nothing(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    pipe.hello().await;
    // Another browser, with an identity of its own.
    let thief = Browser::at(testee.addr);
    thief.get("/").await;
    assert_eq!(thief.request(pipe.get_request(), "").await.status, 410);
    assert_eq!(
        thief.request(pipe.post_request(), encode_frames(&[text("add 7")])).await.status,
        410
    );
    // One without cookies holds the token, as it would hold a socket.
    let bare = Browser::at(testee.addr);
    let quick = |request: http::request::Builder| request.header("session-resume-wait", "0");
    assert_eq!(bare.request(quick(pipe.get_request()), "").await.status, 200);
    // A token that never was, and a number that is not there.
    let token = std::mem::replace(&mut pipe.token, format!("{}.{}", pipe.nonce, "x".repeat(22)));
    assert_eq!(pipe.get().await.status, 410);
    assert_eq!(pipe.send(encode_frames(&[text("add 7")])).await.status, 410);
    pipe.token = token;
    let down = std::mem::replace(&mut pipe.down, 99);
    assert_eq!(pipe.get().await.status, 409);
    assert_eq!(pipe.send(encode_frames(&[text("add 7")])).await.status, 409);
    pipe.down = down;
    let up = std::mem::replace(&mut pipe.up, 5);
    assert_eq!(pipe.send(encode_frames(&[text("add 7")])).await.status, 409);
    pipe.up = up;
    // On another route.
    let other = Request::get("/other")
        .header("session-resume-pipe", &pipe.token)
        .header("session-resume-down", pipe.down);
    assert_eq!(browser.request(other, "").await.status, 410);
    pipe.say("get").await;
    assert_eq!(pipe.data().await, "total:0 n:0");
}

async fn what_cannot_be_read_closes_the_pipe(framework: Framework) {
    let testee = testee(framework, "--max-message 1000").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    pipe.hello().await;
    let whole = encode_frames(&[text("add 1"), text("add 2")]);
    let cut = Bytes::copy_from_slice(&whole[..whole.len() - 1]);
    assert_eq!(pipe.send(cut).await.status, 400);
    assert_eq!(pipe.closed().await.code, 4103);
    assert_eq!(pipe.get().await.status, 200, "the get that confirms the close is answered");
    until("the pipe is gone", async || testee.count().await["pipes"] == 0).await;
    assert_eq!(pipe.get().await.status, 410);
    assert_eq!(browser.get("/").await.json()["total"], 0);

    let mut pipe = Pipe::open(&testee, &browser, &client('b')).await;
    pipe.hello().await;
    assert_eq!(pipe.send(vec![0; 400_000]).await.status, 413);
    assert_eq!(pipe.closed().await.code, 1009);

    let pipe = Pipe::new(&testee, &browser);
    for (request, status) in [
        (Request::post("/live").header("session-resume-pipe", &pipe.nonce), 400),
        (
            Request::post("/live")
                .header("session-resume-pipe", &pipe.nonce)
                .header("session-resume-offer", format!("session-resume.v1, at.{}", client('a'))),
            415,
        ),
        (pipe.open_request("short"), 400),
        (pipe.open_request(&client('a')).header("session-resume-pipe", "again"), 400),
        (Request::put("/live").header("session-resume-pipe", &pipe.nonce), 405),
    ] {
        let answer = browser.request(request, "").await;
        assert_eq!(answer.status, status, "{}", answer.text());
    }
}

async fn a_pipe_that_nobody_asks_is_gone(framework: Framework) {
    let testee = testee(framework, "--absent 300 --hold 2000").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    let hello = pipe.hello().await;
    // While a get waits it is there.
    let waits = pipe.get().await;
    assert!(waits.status == 200 && waits.body.is_empty());
    assert_eq!(testee.count().await["running"], 1);
    until("it is absent", async || testee.count().await["suspended"] == 1).await;
    assert_eq!(pipe.get().await.status, 410);
    let mut ws = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    assert_eq!(ws.member("hello").await["status"], "resumed");
}

async fn transports_of_all_kinds_follow_each_other(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let mut hello = ws.member("hello").await;
    ws.send("every 1 400").await;
    let (mut seen, mut said) = (0_u64, 1_u64);
    let mut emitted = 0;
    // A message from the handler: the next one of those that it emits, or the answer to a word of ours.
    let mut take = |data: &str| {
        if !data.starts_with("total:") {
            assert_eq!(data, format!("e:{emitted}:"));
            emitted += 1;
        }
        seen += 1;
        (seen, emitted)
    };
    let mut received = take(&ws.data().await).0;
    for round in 0.. {
        let at = Socket::cursor(&client('a'), &hello, received);
        let rest = received + 20;
        let emitted = match round % 3 {
            0 => {
                let mut pipe = Pipe::open(&testee, &browser, &at).await;
                hello = pipe.hello().await;
                pipe.say("add 1").await;
                loop {
                    let (seen, emitted) = take(&pipe.data().await);
                    received = seen;
                    if seen >= rest || emitted == 400 {
                        break emitted;
                    }
                }
            }
            1 => {
                let mut pipe = Pipe::open(&testee, &browser, &at).await;
                hello = pipe.hello().await;
                let mut frames: Vec<_> = pipe.frames.drain(..).collect();
                let mut stream = pipe.stream().await;
                pipe.say("add 1").await;
                loop {
                    let frame =
                        if frames.is_empty() { stream.frame().await } else { frames.remove(0) };
                    let PipeFrame::Text(text) = frame else { continue };
                    if text.starts_with('\u{1}') {
                        continue;
                    }
                    let (seen, emitted) = take(&text);
                    received = seen;
                    if seen >= rest || emitted == 400 {
                        break emitted;
                    }
                }
            }
            _ => {
                let mut ws = browser.resumable("/live", &at).await;
                hello = ws.member("hello").await;
                ws.send("add 1").await;
                loop {
                    let (seen, emitted) = take(&ws.data().await);
                    received = seen;
                    if seen >= rest || emitted == 400 {
                        break emitted;
                    }
                }
            }
        };
        assert_eq!((&hello["status"], &hello["received"]), (&json!("resumed"), &json!(said)));
        said += 1;
        if emitted == 400 {
            break;
        }
    }
    // Each word counted once: the socket's first, and one on each transport since.
    until("all are taken", async || browser.get("/").await.json()["total"] == json!(said - 1))
        .await;
}

async fn a_tab_on_a_socket_and_one_on_a_stream_meet(framework: Framework) {
    let shared = testee(framework, "--attach share").await;
    let browser = Browser::at(shared.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    let mut pipe = Pipe::open(&shared, &browser, &client('b')).await;
    assert_eq!(pipe.hello().await["status"], "reused");
    pipe.say("say to all").await;
    assert_eq!(pipe.data().await, "to all");
    assert_eq!(ws.data().await, "to all");

    let taken = testee(framework, "").await;
    let browser = Browser::at(taken.addr);
    let mut pipe = Pipe::open(&taken, &browser, &client('a')).await;
    pipe.hello().await;
    let mut ws = browser.resumable("/live", &client('b')).await;
    ws.member("hello").await;
    assert_eq!(pipe.closed().await.code, 4100);

    let held = testee(framework, "--attach refuse").await;
    let browser = Browser::at(held.addr);
    let mut pipe = Pipe::open(&held, &browser, &client('a')).await;
    pipe.hello().await;
    let mut ws = browser.resumable("/live", &client('b')).await;
    assert_eq!(ws.closed().await.code, 4101);
    let mut other = Pipe::open(&held, &browser, &client('c')).await;
    assert_eq!(other.closed().await.code, 4101);
    pipe.say("echo mine").await;
    assert_eq!(pipe.data().await, "echo:mine");
}

async fn a_server_that_stops_answers_what_waits(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
    pipe.hello().await;
    let mut more = Vec::new();
    for _ in 0..20 {
        let browser = Browser::at(testee.addr);
        let mut pipe = Pipe::open(&testee, &browser, &client('a')).await;
        pipe.hello().await;
        let request = pipe.get_request();
        more.push(tokio::spawn(async move { browser.request(request, "").await }));
    }
    let mut streams = Vec::new();
    let other = Browser::at(testee.addr);
    let mut streamed = Pipe::open(&testee, &other, &client('a')).await;
    streamed.hello().await;
    streams.push(streamed.stream().await);
    let waits = pipe.get();
    let terminate = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        testee.terminate().await;
    };
    let (answer, ()) = tokio::join!(waits, terminate);
    let told = Instant::now();
    assert_eq!(answer.status, 200);
    assert!(pipe.control().await.retry.is_some());
    assert_eq!(pipe.closed().await.code, 4112);
    for waits in more {
        assert_eq!(waits.await.unwrap().status, 200);
    }
    let mut stream = streams.remove(0);
    while !matches!(stream.frame().await, PipeFrame::Close(close) if close.code == 4112) {}
    assert_eq!(stream.item().await, None);
    drop((pipe, streamed));
    assert!(testee.exit().await.success());
    assert!(told.elapsed() < Duration::from_secs(3), "{:?}", told.elapsed());
}

async fn a_page_of_another_origin_touches_no_session(framework: Framework) {
    let testee = testee(framework, "--plain-http --origin https://friend.example").await;
    let browser = Browser::at(testee.addr);
    let pipe = Pipe::new(&testee, &browser);
    let events = || Request::get("/live").header("accept", "text/event-stream");
    let preflight = |origin: &str| {
        Request::options("/live")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,session-resume-pipe")
    };
    let foe = "https://foe.example";
    let offered = |origin: &str| {
        Request::post("/live")
            .header("origin", origin)
            .header("content-type", FRAMES)
            .header("session-resume-offer", format!("session-resume.v1, at.{}", client('a')))
            .header("session-resume-pipe", &pipe.nonce)
    };
    for (what, request) in [
        ("same-site, no-cors", events().header("sec-fetch-site", "same-site")),
        ("cross-site, no-cors", events().header("sec-fetch-site", "cross-site")),
        ("with an origin", events().header("origin", foe)),
        (
            "a plain post",
            Request::post("/live").header("origin", foe).header("content-type", "text/plain"),
        ),
        ("an open", offered(foe)),
        ("an open of nowhere", offered("null")),
        ("a preflight", preflight(foe)),
        ("a question", Request::options("/live").header("origin", foe)),
    ] {
        let answer = browser.request(request, "").await;
        assert_eq!(answer.status, 403, "{what}");
        assert_eq!(answer.header("access-control-allow-origin").next(), None, "{what}");
    }
    assert_eq!(testee.count().await["live"], 0);

    let friend = "https://friend.example";
    let answer = browser.request(preflight(friend), "").await;
    assert_eq!(answer.status, 204);
    assert!(answer.body.is_empty());
    for (name, value) in [
        ("access-control-allow-origin", friend),
        ("access-control-allow-credentials", "true"),
        ("access-control-max-age", "7200"),
        ("vary", "Origin"),
    ] {
        assert_eq!(only(&answer.headers, name), Some(value), "{name}");
    }
    let allowed = only(&answer.headers, "access-control-allow-headers").unwrap().to_lowercase();
    for name in [
        "content-type",
        "authorization",
        "session-resume-offer",
        "session-resume-pipe",
        "session-resume-up",
    ] {
        assert!(allowed.contains(name), "{allowed}");
    }
    assert_eq!(testee.count().await["live"], 0);
    let answer = browser.request(offered(friend), "").await;
    assert_eq!(answer.status, 200);
    assert_eq!(only(&answer.headers, "access-control-allow-origin"), Some(friend));
    let exposed = only(&answer.headers, "access-control-expose-headers").unwrap();
    assert!(exposed.contains("Session-Resume-Pipe") && exposed.contains("Retry-After"));
}

async fn there_is_room_for_so_many_pipes(framework: Framework) {
    let testee = testee(framework, "--max-pipes 1 --attach share").await;
    let browser = Browser::at(testee.addr);
    let mut one = Pipe::open(&testee, &browser, &client('a')).await;
    one.hello().await;
    let mut two = Pipe::open(&testee, &browser, &client('b')).await;
    assert!(two.control().await.retry.is_some());
    assert_eq!(two.closed().await.code, 4113);
    one.say("echo here").await;
    assert_eq!(one.data().await, "echo:here");
}

/// A pipe whose close nobody reads counts for a while, and then no more.
async fn pipes_that_are_over_take_no_room_for_ever(framework: Framework) {
    let testee = testee(framework, "--max-pipes 1 --absent 200 --attach refuse").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    ws.member("hello").await;
    // It is refused, and is gone before it has read that.
    let _refused = Pipe::new(&testee, &browser).send_open(&client('b')).await;
    let mut attempts = 0;
    loop {
        let mut next = Pipe::open(&testee, &browser, &client('c')).await;
        let close = loop {
            match next.frame().await {
                PipeFrame::Close(close) => break close,
                PipeFrame::Text(_) | PipeFrame::Binary(_) | PipeFrame::Ping => {}
            }
        };
        if close.code != 4113 {
            assert_eq!(close.code, 4101, "the session is in use");
            break;
        }
        attempts += 1;
        assert!(attempts < 200, "there is never room again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn the_route_says_what_it_takes(framework: Framework) {
    let all = testee(framework, "").await;
    let answer = Browser::at(all.addr).request(Request::options("/live"), "").await;
    assert_eq!(answer.status, 204);
    let transports = |answer: &session_resume_testkit::Answer| {
        only(&answer.headers, "session-resume-transports").map(str::to_owned)
    };
    assert_eq!(transports(&answer).unwrap(), "websocket, sse, poll");
    let polls = testee(framework, "--transports poll").await;
    let browser = Browser::at(polls.addr);
    let answer = browser.request(Request::options("/live"), "").await;
    assert_eq!(transports(&answer).unwrap(), "poll");
    assert!(browser.plain_with("/live", |request| request).await.is_err());
    let pipe = Pipe::new(&polls, &browser);
    let stream = pipe.open_request(&client('a')).header("accept", "text/event-stream");
    assert_eq!(browser.request(stream, "").await.status, 406);
    let hello: Value = Pipe::open(&polls, &browser, &client('a')).await.hello().await;
    assert_eq!(hello["status"], "new");
    // A plain GET is none of these ways, unless the layer lets it in.
    let answer = browser.get("/live").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("Session-Resume-Offer"), "{}", answer.text());
}

async fn a_probe_says_whether_frames_pass_and_touches_no_session(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", "probe").await;
    assert_eq!(only(ws.headers(), "sec-websocket-protocol"), Some("session-resume.v1"));
    assert_eq!(only(ws.headers(), "set-cookie"), None);
    assert_eq!(ws.recv().await, "\u{1}{\"probe\":true}");
    ws.send(vec![7_u8, 0]).await;
    assert_eq!(ws.binary().await, [7_u8, 0][..]);
    assert_eq!(ws.closed().await.code, 1000);
    assert_eq!(testee.count().await["live"], 0);
}
