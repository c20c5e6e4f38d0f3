use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    Message,
    numbers::{PIPE_KEPT_FRAMES, PIPE_POST_GIVEN_UP, PIPE_POST_WAITS},
    session::Frame,
    wire::encode_frames,
};

const START: Moment = Moment::from_millis(1_000_000);

fn at(millis: u64) -> Moment {
    START + Duration::from_millis(millis)
}

fn pipe() -> Server {
    Server::new(Settings::default(), START)
}

fn push(server: &mut Server, text: &str) {
    server.push(Frame::Data(Message::text(text))).unwrap();
}

fn close(server: &mut Server, close: Close) {
    server.push(Frame::Close(close)).unwrap();
}

fn ask(server: &mut Server, id: u64, down: u64, form: Form, now: Moment) -> Result<(), Refusal> {
    server.handle_get(RequestId(id), Get { down, form, wait: None, ack: None }, now)
}

fn texts(step: GetStep) -> Vec<String> {
    let GetStep::Frames(frames) = step else { panic!("{step:?}") };
    let text = |frame: &PipeFrame| match frame {
        PipeFrame::Text(text) => text.to_string(),
        PipeFrame::Binary(bytes) => format!("{bytes:?}"),
        PipeFrame::Ping => "ping".into(),
        PipeFrame::Close(close) => close.to_line(),
    };
    frames.iter().map(text).collect()
}

fn poll(server: &mut Server, id: u64, now: Moment) -> GetStep {
    server.poll_get(RequestId(id), now)
}

fn body(frames: &[PipeFrame]) -> Bytes {
    encode_frames(frames).into()
}

fn text(text: &str) -> PipeFrame {
    PipeFrame::Text(text.into())
}

fn post(server: &mut Server, up: u64, down: u64, frames: &[PipeFrame]) -> Posted {
    server.handle_post(&Post::read(up, down, body(frames)).unwrap(), at(0))
}

fn read(server: &mut Server) -> Vec<Incoming> {
    std::iter::from_fn(|| server.poll_incoming()).collect()
}

const CONFLICT: Posted = Posted::Refused(Refusal::Conflict);

#[test]
fn a_poll_is_answered_as_soon_as_there_is_a_frame_else_after_hold() {
    let mut server = pipe();
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    assert_eq!(poll(&mut server, 1, at(0)), GetStep::Wait);
    assert_eq!(server.poll_timeout(), Some(at(25_000)));
    push(&mut server, "a");
    push(&mut server, "b");
    assert_eq!(texts(poll(&mut server, 1, at(5))), ["a", "b"]);
    assert!(!server.has_listener());
    // Not confirmed: it is there still.
    ask(&mut server, 2, 0, Form::Poll, at(10)).unwrap();
    assert_eq!(texts(poll(&mut server, 2, at(10))), ["a", "b"]);
    ask(&mut server, 3, 1, Form::Poll, at(20)).unwrap();
    assert_eq!(texts(poll(&mut server, 3, at(20))), ["b"]);
    ask(&mut server, 4, 2, Form::Poll, at(30)).unwrap();
    assert_eq!(poll(&mut server, 4, at(25_029)), GetStep::Wait);
    assert_eq!(poll(&mut server, 4, at(25_030)), GetStep::End);
    assert_eq!(server.unconfirmed(), 0);
    for (wait, until) in [(0, 0), (100, 100), (60_000, 25_000)] {
        let wait = Some(Duration::from_millis(wait));
        let get = Get { down: 2, form: Form::Poll, wait, ack: None };
        server.handle_get(RequestId(5), get, at(30_000)).unwrap();
        assert_eq!(server.poll_timeout(), Some(at(30_000 + until)));
    }
}

#[test]
fn an_answer_has_at_most_256_frames_or_64_kib_but_one_frame_at_least() {
    let mut server = pipe();
    for n in 0..300 {
        push(&mut server, &n.to_string());
    }
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    assert_eq!(texts(poll(&mut server, 1, at(0))).len(), 256);
    ask(&mut server, 2, 256, Form::Poll, at(0)).unwrap();
    assert_eq!(texts(poll(&mut server, 2, at(0))).len(), 44);
    let mut server = pipe();
    for length in [40_000, 25_000, 600, 300_000, 1] {
        push(&mut server, &"x".repeat(length));
    }
    let mut lengths = Vec::new();
    let mut down = 0;
    while down < 5 {
        ask(&mut server, 1, down, Form::Poll, at(0)).unwrap();
        lengths.push(texts(poll(&mut server, 1, at(0))).len());
        down += *lengths.last().unwrap() as u64;
    }
    assert_eq!(lengths, [2, 1, 1, 1]);
}

#[test]
fn a_full_pipe_is_not_ready_until_something_is_confirmed() {
    let mut server = pipe();
    for _ in 0..PIPE_KEPT_FRAMES {
        assert!(server.is_ready());
        push(&mut server, "");
    }
    assert!(!server.is_ready());
    assert_eq!(post(&mut server, 0, 1, &[]), Posted::Taken { next: 0 });
    assert!(server.is_ready());
    let mut server = pipe();
    push(&mut server, &"x".repeat((256 << 10) - 1));
    assert!(server.is_ready());
    push(&mut server, "one frame may exceed");
    assert!(!server.is_ready());
}

#[test]
fn a_get_below_what_is_confirmed_or_above_the_head_is_refused_and_touches_nothing() {
    let mut server = pipe();
    push(&mut server, "a");
    push(&mut server, "b");
    ask(&mut server, 1, 1, Form::Poll, at(0)).unwrap();
    for down in [0, 3] {
        let before = server.clone();
        assert_eq!(ask(&mut server, 2, down, Form::Poll, at(9)), Err(Refusal::Conflict));
        assert_eq!(server, before);
    }
    assert_eq!(texts(poll(&mut server, 1, at(9))), ["b"]);
}

#[test]
fn the_last_one_to_ask_is_answered() {
    let mut server = pipe();
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    ask(&mut server, 2, 0, Form::Stream, at(0)).unwrap();
    assert_eq!(poll(&mut server, 1, at(0)), GetStep::End);
    push(&mut server, "a");
    assert_eq!(texts(poll(&mut server, 2, at(0))), ["a"]);
    // A connection that breaks is not the one that is answered now.
    server.handle_hang_up(RequestId(1), at(0));
    assert!(server.has_listener());
    ask(&mut server, 3, 0, Form::Poll, at(0)).unwrap();
    assert_eq!(poll(&mut server, 2, at(0)), GetStep::End);
    assert_eq!(texts(poll(&mut server, 3, at(0))), ["a"]);
}

#[test]
fn a_stream_goes_on_marks_its_flow_and_ends_cleanly() {
    let mut server = pipe();
    ask(&mut server, 1, 0, Form::Stream, at(0)).unwrap();
    assert_eq!(poll(&mut server, 1, at(0)), GetStep::Wait);
    push(&mut server, "hello");
    assert_eq!(texts(poll(&mut server, 1, at(10))), ["hello"]);
    assert_eq!(poll(&mut server, 1, at(10)), GetStep::Wait);
    assert_eq!(server.poll_timeout(), Some(at(110)));
    push(&mut server, "a");
    assert_eq!(texts(poll(&mut server, 1, at(50))), ["a"]);
    assert_eq!(poll(&mut server, 1, at(110)), GetStep::Flow);
    assert_eq!(poll(&mut server, 1, at(110)), GetStep::Wait);
    assert_eq!(server.unconfirmed(), 2);
    assert_eq!(poll(&mut server, 1, at(600_000)), GetStep::End);
    // The next one does not have the hello, and no mark.
    ask(&mut server, 2, 1, Form::Stream, at(600_000)).unwrap();
    assert_eq!(texts(poll(&mut server, 2, at(600_000))), ["a"]);
    assert_eq!(poll(&mut server, 2, at(600_200)), GetStep::Wait);
}

#[test]
fn rotation_is_drawn_from_a_tenth_less_to_a_tenth_more() {
    let rotate = Duration::from_secs(600);
    let drawn = |random| Settings::default().with_rotate(rotate, random).rotate.as_secs();
    assert_eq!((drawn(0), drawn(1 << 63), drawn(u64::MAX)), (540, 600, 659));
}

#[test]
fn a_post_counts_once_whole_and_in_order() {
    let mut server = pipe();
    let (a, b) = (text("a"), text("b"));
    let first = [a.clone(), PipeFrame::Binary(Bytes::from_static(b"x")), PipeFrame::Ping];
    assert_eq!(post(&mut server, 0, 0, &first), Posted::Taken { next: 3 });
    // Exactly that again is answered, and forgotten.
    assert_eq!(post(&mut server, 0, 0, &first), Posted::Taken { next: 3 });
    for (up, frames) in [
        (0, &first[..2]),
        (0, &[b.clone(), b.clone(), PipeFrame::Ping]),
        (1, &first[1..]),
        (2, &first),
        (4, std::slice::from_ref(&b)),
        (0, &[]),
    ] {
        let before = server.clone();
        assert_eq!(post(&mut server, up, 0, frames), CONFLICT, "{up} {frames:?}");
        assert_eq!(server, before);
    }
    let expected =
        [Incoming::Text("a".into()), Incoming::Binary(Bytes::from_static(b"x")), Incoming::Ping];
    assert_eq!(read(&mut server), expected);
    // An empty one is not remembered as the last body.
    assert_eq!(post(&mut server, 3, 0, &[]), Posted::Taken { next: 3 });
    assert_eq!(post(&mut server, 0, 0, &first), Posted::Taken { next: 3 });
    // The same bytes at the next number are another post.
    assert_eq!(post(&mut server, 3, 0, &first), Posted::Taken { next: 6 });
    assert_eq!(post(&mut server, 0, 0, &first), CONFLICT);
    assert_eq!(read(&mut server).len(), 3);
}

#[test]
fn a_post_confirms_a_lower_number_is_no_news_and_a_higher_one_is_refused() {
    let mut server = pipe();
    for _ in 0..3 {
        push(&mut server, "");
    }
    assert_eq!(post(&mut server, 0, 2, &[]), Posted::Taken { next: 0 });
    assert_eq!(server.unconfirmed(), 1);
    assert_eq!(post(&mut server, 0, 0, &[]), Posted::Taken { next: 0 });
    assert_eq!(post(&mut server, 0, 4, &[text("a")]), CONFLICT);
    assert_eq!(server.unconfirmed(), 1);
    assert_eq!(read(&mut server), []);
}

#[test]
fn a_post_without_room_waits_and_confirms_all_the_same() {
    let mut server = pipe();
    push(&mut server, "a");
    // One may exceed.
    let long = text(&"x".repeat(100_000));
    assert_eq!(post(&mut server, 0, 0, &[long]), Posted::Taken { next: 1 });
    assert_eq!(post(&mut server, 1, 1, &[text("b")]), Posted::Full);
    assert_eq!(server.unconfirmed(), 0);
    assert!(server.poll_incoming().is_some());
    assert_eq!(post(&mut server, 1, 1, &[text("b")]), Posted::Taken { next: 2 });
    assert_eq!(read(&mut server), [Incoming::Text("b".into())]);
    let many = vec![text(""); 200];
    assert_eq!(post(&mut server, 2, 1, &many), Posted::Taken { next: 202 });
    assert_eq!(post(&mut server, 202, 1, &many), Posted::Full);
    for _ in 0..144 {
        server.poll_incoming();
    }
    assert_eq!(post(&mut server, 202, 1, &many), Posted::Taken { next: 402 });
    // The client that gives it up has been told.
    const { assert!(PIPE_POST_WAITS.as_millis() < PIPE_POST_GIVEN_UP.as_millis()) };
}

#[test]
fn a_position_on_a_get_is_a_control_frame_without_a_number() {
    let mut server = pipe();
    let told = |server: &mut Server, ack| {
        let ack = Some(Position::new(ack));
        server.handle_get(RequestId(1), Get { down: 0, form: Form::Poll, wait: None, ack }, at(0))
    };
    told(&mut server, 5).unwrap();
    told(&mut server, 7).unwrap();
    told(&mut server, 6).unwrap();
    assert_eq!(read(&mut server), [Incoming::Text("\u{1}{\"ack\":7}".into())]);
    assert_eq!(post(&mut server, 0, 0, &[text("a")]), Posted::Taken { next: 1 });
}

#[test]
fn a_confirmed_ping_is_a_pong_and_a_confirmed_close_a_close() {
    let mut server = pipe();
    let payload = std::array::from_fn(|n| u8::try_from(n).unwrap());
    server.push(Frame::Ping(payload)).unwrap();
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    assert_eq!(texts(poll(&mut server, 1, at(0))), ["ping"]);
    assert_eq!(read(&mut server), []);
    ask(&mut server, 2, 1, Form::Poll, at(0)).unwrap();
    assert_eq!(read(&mut server), [Incoming::Pong(payload.to_vec().into())]);
    close(&mut server, Close::SUPERSEDED);
    assert_eq!(texts(poll(&mut server, 2, at(0))), ["4100 superseded"]);
    assert!(!server.is_gone());
    ask(&mut server, 3, 2, Form::Poll, at(0)).unwrap();
    // An empty 200, at once.
    assert_eq!(poll(&mut server, 3, at(0)), GetStep::End);
    assert_eq!(read(&mut server), [Incoming::Close(Close::SUPERSEDED)]);
    assert!(server.is_gone());
    let gone = Refusal::Gone { close: None };
    assert_eq!(ask(&mut server, 4, 2, Form::Poll, at(0)), Err(gone.clone()));
    server.handle_dropped(at(0));
    assert!(server.is_forgotten(at(0)));
    assert_eq!(post(&mut server, 0, 2, &[]), Posted::Refused(gone));
}

#[test]
fn until_its_close_is_confirmed_a_pipe_answers_posts_and_forgets_them() {
    let mut server = pipe();
    assert_eq!(post(&mut server, 0, 0, &[text("queued")]), Posted::Taken { next: 1 });
    ask(&mut server, 1, 0, Form::Stream, at(0)).unwrap();
    close(&mut server, Close::REPLACED);
    assert_eq!(server.push(Frame::Data(Message::text("late"))), Err(Gone));
    assert_eq!(read(&mut server), []);
    assert_eq!(post(&mut server, 1, 0, &[text("late")]), Posted::Taken { next: 2 });
    assert_eq!(read(&mut server), []);
    // The stream ends behind it.
    assert_eq!(texts(poll(&mut server, 1, at(0))), ["4100 replaced"]);
    assert_eq!(poll(&mut server, 1, at(0)), GetStep::End);
    assert_eq!(post(&mut server, 2, 1, &[]), Posted::Taken { next: 2 });
    assert_eq!(read(&mut server), [Incoming::Close(Close::REPLACED)]);
}

#[test]
fn a_close_that_nobody_has_read_is_told_for_a_while() {
    let mut server = pipe();
    close(&mut server, Close::RESTARTING);
    server.handle_dropped(at(5000));
    let told = |close| Err(Refusal::Gone { close });
    assert_eq!(ask(&mut server, 1, 0, Form::Poll, at(14_999)), told(Some(Close::RESTARTING)));
    assert!(!server.is_forgotten(at(14_999)));
    assert_eq!(server.poll_timeout(), Some(at(15_000)));
    assert!(server.is_forgotten(at(15_000)));
    assert_eq!(ask(&mut server, 1, 0, Form::Poll, at(15_000)), told(None));
    // A get that waits when the transport lets go.
    let mut server = pipe();
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    server.handle_dropped(at(0));
    assert_eq!(poll(&mut server, 1, at(0)), GetStep::End);
    assert_eq!(ask(&mut server, 2, 0, Form::Poll, at(0)), told(None));
    assert_eq!(server.push(Frame::Data(Message::text("a"))), Err(Gone));
}

#[test]
fn a_pipe_that_nobody_asks_is_absent() {
    let mut server = pipe();
    assert_eq!(server.poll_timeout(), Some(at(10_000)));
    ask(&mut server, 1, 0, Form::Stream, at(9000)).unwrap();
    server.handle_timeout(at(100_000));
    assert!(!server.is_gone());
    server.handle_hang_up(RequestId(1), at(100_000));
    server.handle_timeout(at(109_999));
    assert!(!server.is_gone());
    // A body that comes slowly keeps it.
    server.handle_request(at(109_999));
    assert_eq!(post(&mut server, 0, 0, &[text("a")]), Posted::Taken { next: 1 });
    assert_eq!(server.poll_timeout(), Some(at(119_999)));
    server.handle_timeout(at(119_999));
    // What had come before still counts.
    assert!(server.is_gone());
    assert_eq!(read(&mut server), [Incoming::Text("a".into())]);
    let gone = Err(Refusal::Gone { close: None });
    assert_eq!(ask(&mut server, 2, 0, Form::Poll, at(120_000)), gone);
    assert_eq!(server.push(Frame::Data(Message::text("a"))), Err(Gone));
    // It is found so by a request, too, and not only by the timer.
    assert_eq!(ask(&mut pipe(), 1, 0, Form::Poll, at(10_000)), gone);
}

#[test]
fn what_is_no_sequence_of_frames_closes_the_pipe() {
    for (breach, pumps, status, expected) in [
        (Breach::Malformed, Close::new(1002, "protocol error"), 400, Close::PROTOCOL_ERROR),
        (Breach::TooBig, Close::TOO_BIG, 413, Close::TOO_BIG),
    ] {
        let mut server = pipe();
        assert_eq!(post(&mut server, 0, 0, &[text("a")]), Posted::Taken { next: 1 });
        server.handle_breach(breach, at(0)).unwrap();
        server.handle_breach(breach, at(0)).unwrap();
        assert_eq!(breach.status(), status);
        assert_eq!(read(&mut server), [Incoming::Text("a".into()), Incoming::Broken(breach)]);
        close(&mut server, pumps);
        ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
        assert_eq!(texts(poll(&mut server, 1, at(0))), [expected.to_line()]);
    }
    // A close that is due for another reason stays what it is.
    let mut server = pipe();
    server.handle_breach(Breach::Malformed, at(0)).unwrap();
    close(&mut server, Close::SUPERSEDED);
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    assert_eq!(texts(poll(&mut server, 1, at(0))), ["4100 superseded"]);
}

#[test]
fn a_hello_is_told_the_times_of_the_pipe_and_no_other_frame_is_touched() {
    let hello = "\u{1}{\"hello\":{\"v\":1,\"session\":\"s\",\"epoch\":\"e\",\"attachment\":1,\"status\":\"new\",\"from\":0,\
                 \"received\":0,\"gap\":null,\"heartbeat_ms\":30000,\"lifetime_ms\":1,\"window\":{\"messages\":1,\"bytes\":1}}}";
    let mut server = pipe();
    for frame in [hello, "\u{1}{\"retry\":5}", hello] {
        server.push(Frame::Control(frame.into())).unwrap();
    }
    ask(&mut server, 1, 0, Form::Poll, at(0)).unwrap();
    let frames = texts(poll(&mut server, 1, at(0)));
    let told = hello.replace("}}}", "},\"absent_ms\":10000,\"hold_ms\":25000}}");
    assert_eq!(frames, [&*told, "\u{1}{\"retry\":5}", hello]);
}

proptest! {
    /// Whatever is asked in whatever order: each frame has one number for ever, and what is confirmed never comes again.
    #[test]
    fn a_frame_keeps_its_number(
        deeds in prop::collection::vec((0u8..4, 0u64..8), 1..60),
    ) {
        let mut server = pipe();
        let (mut pushed, mut confirmed) = (0u64, 0u64);
        for (deed, n) in deeds {
            match deed {
                0 => {
                    push(&mut server, &pushed.to_string());
                    pushed += 1;
                }
                1 => {
                    let taken = post(&mut server, 0, n, &[]);
                    prop_assert_eq!(taken == CONFLICT, n > pushed);
                    confirmed = confirmed.max(if n > pushed { 0 } else { n });
                }
                _ => {
                    let form = if deed == 2 { Form::Poll } else { Form::Stream };
                    let asked = ask(&mut server, n, n, form, at(0));
                    prop_assert_eq!(asked.is_ok(), (confirmed..=pushed).contains(&n));
                    if asked.is_ok() {
                        confirmed = n;
                        match poll(&mut server, n, at(0)) {
                            GetStep::Wait => prop_assert_eq!(n, pushed),
                            step => {
                                let expected: Vec<_> = (n..pushed).map(|n| n.to_string()).collect();
                                prop_assert_eq!(texts(step), expected);
                            }
                        }
                    }
                }
            }
            prop_assert_eq!(server.unconfirmed() as u64, pushed - confirmed);
        }
    }
}

#[test]
fn frames_that_a_copy_has_confirmed_are_not_told_under_other_numbers() {
    let mut server = pipe();
    for n in 0..3 {
        push(&mut server, &n.to_string());
    }
    ask(&mut server, 1, 0, Form::Stream, at(0)).unwrap();
    assert_eq!(texts(poll(&mut server, 1, at(0))), ["0", "1", "2"]);
    // A copy asks from the same number, and is slow; the first one confirms meanwhile.
    ask(&mut server, 2, 0, Form::Stream, at(1)).unwrap();
    assert_eq!(post(&mut server, 0, 3, &[]), Posted::Taken { next: 0 });
    push(&mut server, "3");
    assert_eq!(poll(&mut server, 2, at(2)), GetStep::End);
    assert_eq!(ask(&mut server, 3, 0, Form::Stream, at(3)), Err(Refusal::Conflict));
}
