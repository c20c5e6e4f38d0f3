use proptest::prelude::*;

use super::*;
use crate::wire::{FLOW, GREETING, encode_event, encode_frames};

const START: Moment = Moment::from_millis(1_000_000);
const NONCE: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const HELLO: &str = "\u{1}{\"hello\":{\"v\":1,\"session\":\"s\",\"epoch\":\"e\",\"attachment\":1,\"status\":\"new\",\"from\":0,\
                     \"received\":4,\"gap\":null,\"heartbeat_ms\":30000,\"lifetime_ms\":1,\"window\":{\"messages\":9,\"bytes\":9999},\
                     \"absent_ms\":8000,\"hold_ms\":20000}}";

fn at(millis: u64) -> Moment {
    START + Duration::from_millis(millis)
}

fn pipe(form: Form) -> Client {
    let config = ClientConfig { form, limit: 1000, random: 0 };
    Client::new(config, Nonce::parse(NONCE).unwrap(), "session-resume.v1, at.x".into(), START)
}

fn token() -> Token {
    Token::parse(&format!("{NONCE}.tag")).unwrap()
}

fn answer(status: u16) -> Answer {
    Answer { status, pipe: Some(token()), down: None, up: None, close: None, retry_after: None }
}

fn text(text: &str) -> PipeFrame {
    PipeFrame::Text(text.into())
}

/// What a request is, in one line.
fn line(outgoing: &Outgoing) -> String {
    let millis =
        |wait: Option<Duration>| wait.map_or(String::new(), |w| format!(" wait {}", w.as_millis()));
    match &outgoing.kind {
        OutgoingKind::Open { wait, .. } => format!("open {:?}{}", outgoing.form, millis(*wait)),
        OutgoingKind::Get { down, wait, ack, .. } => {
            let ack = ack.map_or(String::new(), |ack| format!(" ack {ack}"));
            format!("get {down} {:?}{}{ack}", outgoing.form, millis(*wait))
        }
        OutgoingKind::Post { up, down, .. } => {
            let frames = crate::wire::decode_frames(outgoing.body.clone()).unwrap();
            let frames: Vec<_> = frames
                .iter()
                .map(|frame| match frame {
                    PipeFrame::Text(text) => text.replace('\u{1}', "·"),
                    PipeFrame::Binary(_) => "binary".into(),
                    PipeFrame::Close(close) => close.to_line(),
                    PipeFrame::Ping => "ping".into(),
                })
                .collect();
            format!("post {up} {down} [{}]", frames.join(" "))
        }
    }
}

fn requests(client: &mut Client, now: Moment) -> Vec<String> {
    std::iter::from_fn(|| client.poll_request(now)).map(|outgoing| line(&outgoing)).collect()
}

fn arrivals(client: &mut Client) -> Vec<String> {
    let all = std::iter::from_fn(|| client.poll_arrival());
    all.filter_map(|arrival| match arrival {
        Arrival::Message(Message::Text(text)) if text.starts_with("\u{1}{\"hello") => {
            Some("hello".into())
        }
        Arrival::Message(Message::Text(text)) => Some(text.replace('\u{1}', "·")),
        Arrival::Message(Message::Binary(_)) => Some("binary".into()),
        Arrival::Alive => None,
        Arrival::Closed(close) => Some(close.map_or("lost".into(), |close| close.to_line())),
        other => Some(format!("{other:?}")),
    })
    .collect()
}

/// A poll is answered with these frames.
fn polled(client: &mut Client, frames: &[PipeFrame], now: Moment) {
    assert!(client.handle_answer(Lane::Get, &answer(200), now));
    client.handle_body(&encode_frames(frames), now);
    client.handle_end(now);
}

fn streamed(client: &mut Client, frames: &[PipeFrame], now: Moment) {
    let mut text = String::new();
    for frame in frames {
        encode_event(frame, &mut text);
    }
    client.handle_body(text.as_bytes(), now);
}

/// A pipe after its hello.
fn open(form: Form) -> Client {
    let mut client = pipe(form);
    assert_eq!(requests(&mut client, at(0)), [format!("open {form:?}")]);
    match form {
        Form::Poll => polled(&mut client, &[text(HELLO)], at(0)),
        Form::Stream => {
            assert!(client.handle_answer(Lane::Get, &answer(200), at(0)));
            client.handle_body(GREETING.as_bytes(), at(0));
            streamed(&mut client, &[text(HELLO)], at(0));
            client.handle_body(FLOW.as_bytes(), at(100));
        }
    }
    assert_eq!(arrivals(&mut client), ["hello"]);
    client
}

fn send(client: &mut Client, frame: &str) {
    client.send(Message::text(frame));
}

#[test]
fn polls_confirm_by_gets_and_tell_the_first_position_there() {
    let mut client = open(Form::Poll);
    send(&mut client, "\u{1}{\"ack\":0}");
    assert_eq!(requests(&mut client, at(0)), ["get 1 Poll ack 0"]);
    polled(&mut client, &[text("a"), text("b")], at(10));
    assert_eq!(arrivals(&mut client), ["a", "b"]);
    // A get is under way when the next position comes: it is posted.
    assert_eq!(requests(&mut client, at(10)), ["get 3 Poll"]);
    send(&mut client, "\u{1}{\"ack\":1}");
    send(&mut client, "\u{1}{\"ack\":2}");
    assert_eq!(requests(&mut client, at(10)), ["post 0 3 [·{\"ack\":2}]"]);
}

#[test]
fn a_position_whose_get_fails_is_told_by_the_next() {
    let mut client = open(Form::Poll);
    send(&mut client, "\u{1}{\"ack\":0}");
    assert_eq!(requests(&mut client, at(0)), ["get 1 Poll ack 0"]);
    client.handle_failed(Lane::Get, at(0));
    assert_eq!(requests(&mut client, at(100)), [""; 0]);
    assert_eq!(requests(&mut client, at(250)), ["get 1 Poll ack 0"]);
    polled(&mut client, &[], at(20_250));
    assert_eq!(requests(&mut client, at(20_250)), ["get 1 Poll"]);
}

#[test]
fn the_answer_to_the_hello_goes_before_anything_else_that_is_posted() {
    let mut client = open(Form::Poll);
    send(&mut client, "\u{1}{\"ack\":0}");
    send(&mut client, "a");
    assert_eq!(requests(&mut client, at(0)), ["get 1 Poll", "post 0 1 [·{\"ack\":0} a]"]);
}

#[test]
fn one_post_is_under_way_and_it_is_repeated_byte_for_byte() {
    let mut client = open(Form::Stream);
    send(&mut client, "a");
    assert_eq!(requests(&mut client, at(0)), ["post 0 1 [a]"]);
    send(&mut client, "b");
    assert_eq!(requests(&mut client, at(0)), [""; 0]);
    client.handle_failed(Lane::Post, at(0));
    assert_eq!(requests(&mut client, at(250)), ["post 0 1 [a]"]);
    // Given up after 10 s.
    assert_eq!(client.poll_timeout(), Some(at(10_250)));
    client.handle_timeout(at(10_249));
    assert_eq!(client.poll_abort(), None);
    client.handle_answer(Lane::Post, &Answer { up: Some(1), ..answer(204) }, at(10_249));
    assert_eq!(requests(&mut client, at(10_250)), ["post 1 1 [b]"]);
    client.handle_timeout(at(20_250));
    assert_eq!(client.poll_abort(), Some(Lane::Post));
    assert_eq!(requests(&mut client, at(20_500)), ["post 1 1 [b]"]);
}

#[test]
fn a_post_has_at_most_256_frames_or_64_kib() {
    let mut client = open(Form::Stream);
    let mut sent = 0;
    while client.is_ready() {
        send(&mut client, "");
        sent += 1;
    }
    assert_eq!(sent, 256);
    let posted = client.poll_request(at(0)).unwrap();
    assert_eq!(crate::wire::decode_frames(posted.body).unwrap().len(), 256);
    for length in [40_000, 25_536, 100_000, 1] {
        send(&mut client, &"x".repeat(length));
    }
    let mut counts = Vec::new();
    for up in [256, 258, 259, 260] {
        client.handle_answer(Lane::Post, &Answer { up: Some(up), ..answer(204) }, at(0));
        if let Some(posted) = client.poll_request(at(0)) {
            counts.push(crate::wire::decode_frames(posted.body).unwrap().len());
        }
    }
    assert_eq!(counts, [2, 1, 1]);
}

#[test]
fn a_stream_is_confirmed_by_posts() {
    // After 64 frames, or 64 KiB, or a ping, or a heartbeat.
    let mut client = open(Form::Stream);
    assert_eq!(client.poll_timeout(), Some(at(30_000)));
    assert_eq!(requests(&mut client, at(29_999)), [""; 0]);
    assert_eq!(requests(&mut client, at(30_000)), ["post 0 1 []"]);
    client.handle_answer(Lane::Post, &Answer { up: Some(0), ..answer(204) }, at(30_000));
    streamed(&mut client, &vec![text(""); 63], at(30_000));
    assert_eq!(requests(&mut client, at(30_000)), [""; 0]);
    streamed(&mut client, &[text("")], at(30_000));
    assert_eq!(requests(&mut client, at(30_000)), ["post 0 65 []"]);
    client.handle_answer(Lane::Post, &Answer { up: Some(0), ..answer(204) }, at(30_000));
    for _ in 0..66 {
        streamed(&mut client, &[text(&"x".repeat(999))], at(30_000));
    }
    assert_eq!(requests(&mut client, at(30_000)), ["post 0 131 []"]);
    client.handle_answer(Lane::Post, &Answer { up: Some(0), ..answer(204) }, at(30_000));
    streamed(&mut client, &[PipeFrame::Ping], at(30_000));
    assert_eq!(requests(&mut client, at(30_000)), ["post 0 132 []"]);
}

#[test]
fn acknowledgements_wait_for_the_answer_that_covers_them() {
    let mut client = open(Form::Poll);
    send(&mut client, "\u{1}{\"ack\":0}");
    for message in ["4", "5"] {
        send(&mut client, message);
    }
    assert_eq!(requests(&mut client, at(0)), ["get 1 Poll", "post 0 1 [·{\"ack\":0} 4 5]"]);
    // The hello said 4: 5 are two more than are sure.
    let frames = [
        "\u{1}{\"ack\":4}",
        "\u{1}{\"ack\":6}",
        "\u{1}{\"gap\":{\"from\":0,\"to\":2,\"reason\":\"overflow\"},\"hb\":6}",
        "a",
        "\u{1}{\"dropped\":5}",
    ];
    polled(&mut client, &frames.map(text), at(0));
    let gap = "·{\"gap\":{\"from\":0,\"to\":2,\"reason\":\"overflow\"}}";
    assert_eq!(arrivals(&mut client), ["·{\"ack\":4}", gap, "a"]);
    client.handle_answer(Lane::Post, &Answer { up: Some(3), ..answer(204) }, at(0));
    assert_eq!(arrivals(&mut client), ["·{\"ack\":6}", "·{\"hb\":6}", "·{\"dropped\":5}"]);
}

#[test]
fn the_end_waits_behind_them_and_410_lets_go() {
    let end = [
        text("\u{1}{\"done\":{\"status\":\"done\",\"received\":5}}"),
        PipeFrame::Close(Close::DONE),
    ];
    let under_way = || {
        let mut client = open(Form::Poll);
        send(&mut client, "4");
        assert_eq!(requests(&mut client, at(0)), ["get 1 Poll", "post 0 1 [4]"]);
        assert!(client.handle_answer(Lane::Get, &answer(200), at(0)));
        client.handle_body(&encode_frames(&end), at(0));
        assert_eq!(arrivals(&mut client), [""; 0]);
        assert_eq!(requests(&mut client, at(0)), [""; 0]);
        client
    };
    let told = ["·{\"done\":{\"status\":\"done\",\"received\":5}}", "1000 done"];
    let mut client = under_way();
    client.handle_answer(Lane::Post, &Answer { up: Some(1), ..answer(204) }, at(0));
    assert_eq!(arrivals(&mut client), told);
    // The close is confirmed, and nobody waits for the answer long.
    assert_eq!(requests(&mut client, at(0)), ["get 3 Poll wait 0"]);
    client.handle_answer(Lane::Get, &answer(200), at(0));
    assert!(client.is_over());
    let mut client = under_way();
    client.handle_answer(Lane::Post, &answer(410), at(0));
    assert_eq!(arrivals(&mut client), told);
    assert!(client.is_over());
    // Without any answer the close is told alone: the client comes back, and is told the end again.
    let mut client = under_way();
    client.handle_failed(Lane::Post, at(0));
    requests(&mut client, at(250));
    client.handle_failed(Lane::Post, at(8000));
    assert_eq!(arrivals(&mut client), ["1000 done"]);
}

#[test]
fn each_status_has_its_meaning() {
    let closed = Some(Close::STALE);
    for (status, ours, lane, expected) in [
        (409, true, Lane::Post, "Copied"),
        (409, true, Lane::Get, "Copied"),
        (410, true, Lane::Get, "4113 stale"),
        (413, false, Lane::Post, "1009 message too big"),
        (401, false, Lane::Get, "Refused { status: 401 }"),
        (403, true, Lane::Post, "Refused { status: 403 }"),
        (400, true, Lane::Get, "Refused { status: 400 }"),
    ] {
        let mut client = open(Form::Poll);
        send(&mut client, "4");
        requests(&mut client, at(0));
        let answer = Answer { pipe: ours.then(token), close: closed.clone(), ..answer(status) };
        client.handle_answer(lane, &answer, at(0));
        assert_eq!(arrivals(&mut client), [expected], "{status}");
        assert!(client.is_over());
        let aborted: Vec<_> = std::iter::from_fn(|| client.poll_abort()).collect();
        assert_eq!(aborted, [Lane::Get, Lane::Post]);
    }
    for (status, ours, lane) in [
        (200, false, Lane::Get),
        (302, false, Lane::Get),
        (404, false, Lane::Get),
        (408, true, Lane::Get),
        (425, false, Lane::Get),
        (429, false, Lane::Post),
        (500, true, Lane::Get),
        (502, false, Lane::Post),
        (503, false, Lane::Post),
        (200, true, Lane::Post),
        (410, false, Lane::Get),
        (409, false, Lane::Post),
    ] {
        let mut client = open(Form::Poll);
        send(&mut client, "4");
        let before = requests(&mut client, at(0));
        let answer = Answer { pipe: ours.then(token), ..answer(status) };
        assert!(!client.handle_answer(lane, &answer, at(0)));
        assert_eq!(requests(&mut client, at(124)), [""; 0]);
        let again = requests(&mut client, at(250));
        assert_eq!(again, [before[lane as usize].clone()], "{status}");
        assert_eq!(arrivals(&mut client), [""; 0]);
    }
}

#[test]
fn a_busy_server_does_not_end_the_pipe() {
    let mut client = open(Form::Poll);
    send(&mut client, "4");
    requests(&mut client, at(0));
    let busy = Answer { retry_after: Some(Duration::from_secs(2)), ..answer(503) };
    for n in 1..30 {
        assert!(!client.handle_answer(Lane::Post, &busy, at(n * 12_000 - 2000)));
        assert_eq!(requests(&mut client, at(n * 12_000 - 1)).len(), 0);
        client.handle_timeout(at(n * 12_000));
        polled(&mut client, &[], at(n * 12_000));
        assert_eq!(requests(&mut client, at(n * 12_000)), ["get 1 Poll", "post 0 1 [4]"]);
    }
    assert_eq!(arrivals(&mut client), [""; 0]);
}

#[test]
fn what_fails_is_repeated_with_growing_waits_for_as_long_as_the_pipe_lives() {
    let mut client = open(Form::Poll);
    let (mut now, mut waits) = (0, Vec::new());
    loop {
        assert_eq!(requests(&mut client, at(now)), ["get 1 Poll"]);
        client.handle_failed(Lane::Get, at(now));
        let Some(next) = client.poll_timeout() else { break };
        let next = u64::try_from(next.since(START).as_millis()).unwrap();
        waits.push(next - now);
        now = next;
    }
    // The hello has said 8 s.
    assert_eq!((waits, now), (vec![125, 250, 500, 1000, 2000, 4000, 125], 8000));
    assert_eq!(arrivals(&mut client), ["lost"]);
    // An attempt is over sooner: another path may be better.
    let mut client = pipe(Form::Poll);
    let mut now = at(0);
    while !client.is_over() {
        requests(&mut client, now);
        client.handle_failed(Lane::Get, now);
        now = client.poll_timeout().unwrap_or(now);
    }
    assert_eq!(now, at(2000));
    assert_eq!(arrivals(&mut client), ["lost"]);
    assert!(!client.is_open());
}

#[test]
fn an_open_is_repeated_by_its_nonce_until_the_pipe_has_a_name() {
    let mut client = pipe(Form::Poll);
    requests(&mut client, at(0));
    client.handle_failed(Lane::Get, at(0));
    assert_eq!(requests(&mut client, at(250)), ["open Poll"]);
    polled(&mut client, &[], at(20_000));
    assert_eq!(requests(&mut client, at(20_000)), ["get 0 Poll"]);
}

#[test]
fn a_stream_that_is_held_back_becomes_polls_on_the_same_pipe() {
    // Not a byte.
    let mut client = pipe(Form::Stream);
    requests(&mut client, at(0));
    assert_eq!(client.poll_timeout(), Some(at(3000)));
    client.handle_timeout(at(3000));
    assert_eq!(client.poll_abort(), Some(Lane::Get));
    assert_eq!(requests(&mut client, at(3000)), ["open Poll"]);
    // No mark of flow behind the hello.
    let mut client = pipe(Form::Stream);
    requests(&mut client, at(0));
    assert!(client.handle_answer(Lane::Get, &answer(200), at(0)));
    client.handle_body(GREETING.as_bytes(), at(0));
    streamed(&mut client, &[text(HELLO), text("a")], at(1000));
    client.handle_timeout(at(3999));
    assert_eq!((client.form(), client.poll_abort()), (Form::Stream, None));
    client.handle_timeout(at(4000));
    assert_eq!((client.form(), client.poll_abort()), (Form::Poll, Some(Lane::Get)));
    assert_eq!(requests(&mut client, at(4000)), ["get 2 Poll"]);
    assert_eq!(arrivals(&mut client), ["hello", "a"]);
}

#[test]
fn a_stream_that_ends_goes_on_at_once_and_one_that_is_cut_after_a_moment() {
    let mut client = open(Form::Stream);
    client.handle_body(b"data: whole\n\ndata: half", at(200_000));
    client.handle_end(at(200_000));
    assert_eq!(arrivals(&mut client), ["whole"]);
    assert_eq!(requests(&mut client, at(200_000)), ["get 2 Stream"]);
    assert!(client.handle_answer(Lane::Get, &answer(200), at(200_000)));
    client.handle_body(b"data: hal", at(200_001));
    client.handle_failed(Lane::Get, at(200_001));
    assert_eq!(requests(&mut client, at(200_002)), [""; 0]);
    assert_eq!(requests(&mut client, at(200_251)), ["get 2 Stream"]);
}

#[test]
fn gets_are_given_up_some_time_after_they_should_have_been_answered() {
    let mut client = open(Form::Poll);
    requests(&mut client, at(0));
    assert_eq!(client.poll_timeout(), Some(at(25_000)));
    client.handle_timeout(at(25_000));
    assert_eq!(client.poll_abort(), Some(Lane::Get));
    // A stream may be silent for a heartbeat.
    let mut client = open(Form::Stream);
    client.handle_body(b":\n", at(1000));
    requests(&mut client, at(30_000));
    client.handle_answer(Lane::Post, &Answer { up: Some(0), ..answer(204) }, at(30_000));
    assert_eq!(client.poll_timeout(), Some(at(36_000)));
}

#[test]
fn a_get_that_another_displaces_twice_comes_a_second_later() {
    let mut client = open(Form::Poll);
    for now in [100, 200] {
        assert_eq!(requests(&mut client, at(now)), ["get 1 Poll"]);
        polled(&mut client, &[], at(now));
    }
    assert_eq!(requests(&mut client, at(1199)), [""; 0]);
    assert_eq!(requests(&mut client, at(1200)), ["get 1 Poll"]);
    polled(&mut client, &[text("a")], at(1300));
    assert_eq!(requests(&mut client, at(1300)), ["get 2 Poll"]);
}

#[test]
fn a_client_that_may_not_wait_asks_every_second_and_again_when_something_came() {
    let mut client = pipe(Form::Stream);
    client.set_patience(Patience::Asks);
    assert_eq!(requests(&mut client, at(0)), ["open Poll wait 0"]);
    polled(&mut client, &[text(HELLO)], at(0));
    assert_eq!(requests(&mut client, at(0)), ["get 1 Poll wait 0"]);
    polled(&mut client, &[], at(20));
    assert_eq!(requests(&mut client, at(999)), [""; 0]);
    assert_eq!(requests(&mut client, at(1000)), ["get 1 Poll wait 0"]);
}

#[test]
fn leaving_posts_what_there_is_and_a_close_behind_it() {
    let mut client = open(Form::Poll);
    send(&mut client, "\u{1}{\"ack\":0}");
    send(&mut client, "4");
    requests(&mut client, at(0));
    send(&mut client, "5");
    client.close(Close::GOODBYE, at(0));
    assert_eq!(client.poll_abort(), Some(Lane::Get));
    assert_eq!(requests(&mut client, at(0)), [""; 0]);
    client.handle_answer(Lane::Post, &Answer { up: Some(2), ..answer(204) }, at(0));
    assert_eq!(requests(&mut client, at(0)), ["post 2 1 [5 1000]"]);
    client.handle_answer(Lane::Post, &Answer { up: Some(4), ..answer(204) }, at(0));
    assert!(client.is_over());
    // The last position is not lost with its get.
    let mut client = open(Form::Poll);
    send(&mut client, "\u{1}{\"ack\":0}");
    client.close(Close::GOODBYE, at(0));
    assert_eq!(requests(&mut client, at(0)), ["post 0 1 [·{\"ack\":0} 1000]"]);
    client.handle_timeout(at(10_000));
    assert!(client.is_over());
}

#[test]
fn what_is_no_frame_closes_the_pipe() {
    for (body, expected, close) in [
        (&b"\x07\0\0\0\0"[..], "Broken", "4103 protocol error"),
        (b"\x01\0\x01\0\0", "TooBig", "1009 message too big"),
    ] {
        let mut client = open(Form::Poll);
        requests(&mut client, at(0));
        assert!(client.handle_answer(Lane::Get, &answer(200), at(0)));
        client.handle_body(&[&encode_frames([&text("a")])[..], body].concat(), at(0));
        assert_eq!(arrivals(&mut client), ["a", expected]);
        assert_eq!(requests(&mut client, at(0)), [format!("post 0 2 [{close}]")]);
    }
}

#[test]
fn an_answer_that_begins_beyond_what_was_asked_is_not_the_servers() {
    let mut client = open(Form::Poll);
    requests(&mut client, at(0));
    assert!(!client.handle_answer(Lane::Get, &Answer { down: Some(2), ..answer(200) }, at(0)));
    assert_eq!(requests(&mut client, at(250)), ["get 1 Poll"]);
    // One that begins before it brings nothing twice.
    assert!(client.handle_answer(Lane::Get, &Answer { down: Some(0), ..answer(200) }, at(250)));
    client.handle_body(&encode_frames(&[text(HELLO), text("a")]), at(250));
    assert_eq!(arrivals(&mut client), ["a"]);
}

proptest! {
    /// Nothing that a server says makes a client panic, and time never stands still for it.
    #[test]
    fn any_answers_are_survived(
        deeds in prop::collection::vec((0u8..7, any::<u8>(), 0u64..5000), 1..60),
        stream in any::<bool>(),
    ) {
        let mut client = pipe(if stream { Form::Stream } else { Form::Poll });
        let mut now = at(0);
        for (deed, byte, wait) in deeds {
            now = now + Duration::from_millis(wait);
            let lane = if byte % 2 == 0 { Lane::Get } else { Lane::Post };
            match deed {
                0 => {
                    let statuses = [200, 200, 204, 204, 409, 410, 413, 500, 503, 401, 404];
                    let status = statuses[usize::from(byte) % statuses.len()];
                    let answer = Answer {
                        pipe: (byte % 3 > 0).then(token),
                        down: Some(u64::from(byte % 4)),
                        up: Some(u64::from(byte % 5)),
                        ..answer(status)
                    };
                    client.handle_answer(lane, &answer, now);
                }
                1 => client.handle_body(&encode_frames(&[text(HELLO), text("a"), text("\u{1}{\"ack\":9}")]), now),
                2 => client.handle_body(&[byte], now),
                3 => client.handle_end(now),
                4 => client.handle_failed(lane, now),
                5 => client.handle_timeout(now),
                _ => client.send(Message::text(if byte % 2 == 0 { "m" } else { "\u{1}{\"ack\":1}" })),
            }
            while client.poll_abort().is_some() || client.poll_arrival().is_some() {}
            let mut count = 0;
            while client.poll_request(now).is_some() {
                count += 1;
                prop_assert!(count <= 3);
            }
            if !client.is_over() {
                prop_assert!(client.poll_timeout().is_some_and(|due| due > now || due.since(START) <= now.since(START)));
            }
        }
    }
}
