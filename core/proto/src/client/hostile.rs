//! Random scripts against a server that keeps to nothing: the client stands, and keeps to its own rules.

use proptest::prelude::*;

use super::*;
use crate::{
    Gap, GapReason, MAX_INTEGER, Position,
    wire::{
        Done, Hello, Inbound as Frame, OutcomeStatus, ServerControl, StateOffer, Status, Window,
        decode_client_text,
    },
};

#[derive(Clone, Debug)]
enum Op {
    Control(Box<ServerControl>),
    Frame(Message),
    Closed(u16, &'static str),
    Lost,
    Http(u16),
    Send(usize),
    Take,
    TakeQueued,
    Advance(u64),
    Reconnect,
    Close,
    /// Offers a copy of the state of this length, or none.
    State(Option<usize>),
}

/// Mostly numbers that fit somewhere, sometimes the largest.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![9 => 0..6_u64, 1 => Just(MAX_INTEGER)]
}

fn gap() -> impl Strategy<Value = Gap> {
    (number(), prop::option::of(number())).prop_map(|(from, to)| Gap {
        from: Position::new(from),
        to: to.map(Position::new),
        reason: GapReason::Overflow,
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let names = (prop::sample::select(vec!["s", "t"]), prop::sample::select(vec!["e", "f"]));
    let counts = (number(), prop::option::of(number()), number(), number(), number());
    let version = prop_oneof![20 => Just(1), 1 => number()];
    (names, counts, version, prop::option::of(gap())).prop_map(
        |((session, epoch), (from, received, heartbeat_ms, messages, bytes), v, gap)| Hello {
            v,
            session: WireId::parse(session).unwrap(),
            epoch: WireId::parse(epoch).unwrap(),
            attachment: AttachmentNumber::new(from),
            status: Status::Resumed,
            from: Position::new(from),
            received,
            gap,
            heartbeat_ms,
            lifetime_ms: 0,
            window: Window { messages, bytes },
            limit: received.map(|received| received * 20),
            ping: heartbeat_ms.is_multiple_of(2),
            absent_ms: received,
            hold_ms: None,
        },
    )
}

fn control() -> impl Strategy<Value = ServerControl> {
    let empty = ServerControl::default;
    prop_oneof![
        6 => hello().prop_map(move |hello| ServerControl { hello: Some(hello), ..empty() }),
        2 => number().prop_map(move |ack| ServerControl { ack: Some(ack), ..empty() }),
        2 => number().prop_map(move |hb| ServerControl { hb: Some(hb), ..empty() }),
        2 => gap().prop_map(move |gap| ServerControl { gap: Some(gap), ..empty() }),
        1 => number().prop_map(move |retry| ServerControl { retry: Some(retry), ..empty() }),
        1 => number().prop_map(move |received| ServerControl {
            done: Some(Done { status: OutcomeStatus::Done, received }),
            ..empty()
        }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let codes = vec![1000, 1001, 1009, 1012, 1013, 4100, 4101, 4103, 4104, 4106, 4112, 4113];
    let reasons = vec!["", "stale", "replaced"];
    let junk = vec!["", "data", "\u{1}", "\u{1}x", "\u{1}{", "\u{1}\u{1}"];
    prop_oneof![
        10 => control().prop_map(|control| Op::Control(Box::new(control))),
        3 => prop::sample::select(junk).prop_map(|text| Op::Frame(text.into())),
        1 => Just(Op::Frame(Message::binary(vec![1, b'{']))),
        3 => (prop::sample::select(codes), prop::sample::select(reasons))
            .prop_map(|(code, reason)| Op::Closed(code, reason)),
        2 => Just(Op::Lost),
        1 => (400..504_u16).prop_map(Op::Http),
        5 => (0..9_usize).prop_map(Op::Send),
        4 => Just(Op::Take),
        1 => Just(Op::TakeQueued),
        4 => (0..40_000_u64).prop_map(Op::Advance),
        3 => Just(Op::Reconnect),
        1 => Just(Op::Close),
        2 => prop::option::of(0..9_usize).prop_map(Op::State),
    ]
}

/// What the present transport has seen.
#[derive(Debug, Default)]
struct Seen {
    transport: Option<TransportNumber>,
    hello: bool,
    /// The first acknowledgement has gone out.
    acked: bool,
    /// A copy of the state may no longer be offered.
    state_over: bool,
}

fn offered(length: usize) -> StateOffer {
    StateOffer::new(1, 1, &"x".repeat(length)).unwrap()
}

fn meeting() -> impl Strategy<Value = Meeting> {
    prop::sample::select(vec![Meeting::AtOnce, Meeting::Initial, Meeting::NewSession])
}

fn run(meeting: Meeting, ops: Vec<Op>) {
    let limits = Limits { messages: 4, bytes: 20, message: 7 };
    let config = Config { limits, meeting, ..Config::default() };
    let mut now = Moment::ZERO;
    let mut client = Client::new(config, &[1; 32], now);
    let mut seen = Seen::default();
    for op in ops {
        if let Some(transport) = seen.transport {
            match &op {
                Op::Control(control) => {
                    seen.hello |= control.hello.is_some();
                    client.handle_frame(transport, Message::Text(control.encode()), now);
                }
                Op::Frame(frame) => client.handle_frame(transport, frame.clone(), now),
                Op::Closed(code, reason) => {
                    client.handle_closed(transport, Some(Close::new(*code, *reason)));
                }
                Op::Lost => client.handle_closed(transport, None),
                Op::Http(status) => {
                    let cause = Cause::Http { status: *status, retry_after: None };
                    client.handle_connect_failed(transport, cause);
                }
                _ => {}
            }
        }
        match op {
            Op::Send(length) => {
                let _ = client.send(Message::binary(vec![0; length]));
                assert!(client.unacknowledged() <= 4);
            }
            Op::Take => drop(client.take(now)),
            Op::TakeQueued => {
                let queued = client.queued().cloned().collect::<Vec<_>>();
                assert_eq!(client.take_queued(), queued);
                assert_eq!(client.queued().len(), 0);
            }
            Op::Advance(millis) => {
                now = now + Duration::from_millis(millis);
                client.handle_timeout(now);
            }
            Op::Reconnect => client.reconnect_now(now),
            Op::Close => client.close(),
            Op::State(length) => client.offer_state(length.map(offered)),
            _ => {}
        }
        step(&mut client, now, &mut seen);
    }
    // Whatever happened, the client ends when it is told to.
    client.close();
    while client.take(now).is_some() {}
    if !client.is_ended() {
        assert!(client.unacknowledged() > 0 || client.poll_timeout().is_some());
    }
}

fn step(client: &mut Client, now: Moment, seen: &mut Seen) {
    loop {
        while let Some((transport, frame)) = client.poll_transmit(now) {
            assert_eq!(Some(transport), seen.transport);
            assert!(seen.hello, "sent before the hello");
            let control = match frame {
                Message::Text(text) => match decode_client_text(text) {
                    Ok(Frame::Control(control)) => Some(control),
                    _ => None,
                },
                Message::Binary(_) => None,
            };
            let is_ack = control.as_ref().is_some_and(|control| control.ack.is_some());
            assert!(seen.acked || is_ack, "sent before the first ack");
            assert!(control.is_some() || !client.is_held(), "sent before the application's say");
            seen.acked = true;
            let offers = control.as_ref().is_some_and(|control| control.state.is_some());
            assert!(!offers || !seen.state_over, "a state twice, or behind a message");
            seen.state_over |= offers || control.is_none();
        }
        match client.poll_action() {
            None => break,
            Some(Action::Randomize) => client.handle_random(&[9; 32], now),
            Some(Action::Initial) => {
                assert!(!client.is_held());
                client.handle_initial(vec![]);
            }
            Some(Action::Connect { transport, .. }) => {
                assert!(seen.transport < Some(transport), "numbers grow");
                *seen = Seen { transport: Some(transport), ..Seen::default() };
            }
            Some(Action::Close { transport, .. }) => assert_eq!(Some(transport), seen.transport),
        }
    }
}

proptest! {
    #[test]
    fn no_server_confuses_a_client(
        meeting in meeting(),
        ops in prop::collection::vec(op(), 0..60),
    ) {
        run(meeting, ops);
    }
}
