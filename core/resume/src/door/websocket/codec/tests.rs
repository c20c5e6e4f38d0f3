use std::io;

use bytes::Bytes;
use proptest::prelude::*;
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message, WebSocket as Oracle,
    error::ProtocolError,
    protocol::{Role, WebSocketConfig},
};

use super::{Decoder, Outgoing, Violation};
use crate::words::transport::{Frame, TransportErrorKind};

/// The limit of a message here.
const MAX: usize = 300;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame; the first byte is as on the wire.
fn sent(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0x80, payload.len());
    bytes.extend(KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn head(first: u8, masked: u8, length: usize) -> Vec<u8> {
    match length {
        0..126 => vec![first, masked | u8::try_from(length).unwrap()],
        126..0x1_0000 => {
            [&[first, masked | 0x7e][..], &u16::try_from(length).unwrap().to_be_bytes()].concat()
        }
        _ => [&[first, masked | 0x7f][..], &(length as u64).to_be_bytes()].concat(),
    }
}

/// What comes out of these bytes, handed over in pieces that end at the cuts, until there is a violation or a close.
fn read(bytes: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<Violation>) {
    let mut decoder = Decoder::new(MAX);
    let mut frames = Vec::new();
    let mut from = 0;
    for to in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[from..to].to_vec();
        from = to;
        let mut rest = &mut piece[..];
        loop {
            match decoder.decode(rest) {
                Ok((taken, Some(frame))) => {
                    rest = &mut rest[taken..];
                    let is_close = matches!(frame, Frame::Close(_));
                    frames.push(frame);
                    if is_close {
                        return (frames, None);
                    }
                }
                Ok((taken, None)) => {
                    assert_eq!(taken, rest.len(), "all is taken");
                    break;
                }
                Err(violation) => return (frames, Some(violation)),
            }
        }
    }
    (frames, None)
}

fn text(text: &str) -> Frame {
    Frame::Text(text.into())
}

fn close(code: u16, reason: &'static str) -> Frame {
    Frame::Close(Some((code, reason.into())))
}

const FIN: u8 = 0x80;

/// What RFC 6455 allows, and what comes of it. Each row is also cut at every byte.
#[test]
fn what_may_come_comes_out_wherever_it_is_cut() {
    let ping = || Frame::Ping(Bytes::from_static(b"?"));
    let rows: Vec<(Vec<Vec<u8>>, Vec<Frame>)> = vec![
        (vec![sent(FIN | 1, b"")], vec![text("")]),
        (vec![sent(FIN | 2, b"")], vec![Frame::Binary(Bytes::new())]),
        (vec![sent(FIN | 1, &[b'a'; 125])], vec![text(&"a".repeat(125))]),
        (vec![sent(FIN | 1, &[b'a'; 126])], vec![text(&"a".repeat(126))]),
        (vec![sent(FIN | 2, &[9; MAX])], vec![Frame::Binary(vec![9; MAX].into())]),
        (vec![sent(FIN | 9, b"")], vec![Frame::Ping(Bytes::new())]),
        (vec![sent(FIN | 9, &[1; 125])], vec![Frame::Ping(vec![1; 125].into())]),
        (vec![sent(FIN | 0xa, b"x")], vec![Frame::Pong(Bytes::from_static(b"x"))]),
        // A message in fragments, empty ones among them, with control frames between them.
        (vec![sent(1, b"a"), sent(FIN, b"b")], vec![text("ab")]),
        (vec![sent(2, b"a"), sent(0, b""), sent(FIN, b"")], vec![Frame::Binary("a".into())]),
        (vec![sent(1, b""), sent(0, b""), sent(FIN, b"")], vec![text("")]),
        (
            vec![
                sent(1, b"a"),
                sent(FIN | 9, b"?"),
                sent(0, b"b"),
                sent(FIN | 9, b"?"),
                sent(FIN, b""),
            ],
            vec![ping(), ping(), text("ab")],
        ),
        (vec![sent(2, &[1; 200]), sent(FIN, &[1; 100])], vec![Frame::Binary(vec![1; MAX].into())]),
        // One message does not count for the next.
        (
            vec![sent(1, &[b'a'; 200]), sent(FIN, b""), sent(1, &[b'b'; 200]), sent(FIN, b"")],
            vec![text(&"a".repeat(200)), text(&"b".repeat(200))],
        ),
        // A character over fragments, and over more than two.
        (vec![sent(1, b"\xe2\x82"), sent(FIN, b"\xac!")], vec![text("\u{20ac}!")]),
        (
            vec![sent(1, b"\xf0"), sent(0, b"\x9f"), sent(0, b"\x98"), sent(FIN, b"\x80")],
            vec![text("\u{1f600}")],
        ),
        (
            vec![sent(FIN | 1, "\u{10ffff}\u{fffe}\u{0}".as_bytes())],
            vec![text("\u{10ffff}\u{fffe}\u{0}")],
        ),
        // What is binary need not be UTF-8.
        (
            vec![sent(2, b"\xff"), sent(FIN, b"\xfe")],
            vec![Frame::Binary(Bytes::from_static(b"\xff\xfe"))],
        ),
        // A length may be written longer than need be.
        (vec![b"\x81\xfe\x00\x01\x00\x00\x00\x00a".to_vec()], vec![text("a")]),
        (
            vec![b"\x81\xff\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00a".to_vec()],
            vec![text("a")],
        ),
        // Closes, and nothing after them.
        (vec![sent(FIN | 8, b"")], vec![Frame::Close(None)]),
        (vec![sent(FIN | 8, b"\x03\xe8")], vec![close(1000, "")]),
        (vec![sent(FIN | 8, b"\x13\x87bye \xc3\xa4")], vec![close(4999, "bye \u{e4}")]),
        (
            vec![sent(FIN | 8, &[b"\x03\xe8", &[b'r'; 123][..]].concat())],
            vec![Frame::Close(Some((1000, "r".repeat(123).into())))],
        ),
        (
            vec![sent(1, b"a"), sent(FIN | 8, b"\x0b\xb8"), sent(FIN | 3, b"")],
            vec![close(3000, "")],
        ),
    ];
    for (bytes, frames) in rows {
        comes_out_wherever_it_is_cut(&bytes.concat(), &frames, None);
    }
}

/// Codes that must not be sent are answered with 1002.
#[test]
fn each_code_of_a_close_is_told_as_it_is_or_as_1002() {
    let allowed = |code: u16| matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
    for code in 0..=u16::MAX {
        let bytes = sent(FIN | 8, &code.to_be_bytes());
        let told = if allowed(code) { close(code, "") } else { close(1002, "Protocol violation") };
        assert_eq!(read(&bytes, &[]), (vec![told], None), "{code}");
    }
}

/// What RFC 6455 forbids. What stands before it comes out, wherever it is cut.
#[test]
fn what_must_not_come_is_told_wherever_it_is_cut() {
    use TransportErrorKind::{InvalidText, Protocol, TooBig};
    let unmasked = [head(FIN | 1, 0, 1), b"a".to_vec()].concat();
    let mut rows: Vec<(Vec<Vec<u8>>, TransportErrorKind)> = vec![
        (vec![unmasked], Protocol),
        // Reserved bits, on each kind of frame.
        (vec![sent(FIN | 0x40 | 1, b"a")], Protocol),
        (vec![sent(FIN | 0x20 | 2, b"a")], Protocol),
        (vec![sent(FIN | 0x10 | 9, b"a")], Protocol),
        (vec![sent(1, b"a"), sent(FIN | 0x40, b"a")], Protocol),
        // Control frames in fragments, or too long.
        (vec![sent(9, b"a")], Protocol),
        (vec![sent(8, b"")], Protocol),
        (vec![sent(FIN | 9, &[0; 126])], Protocol),
        (vec![sent(FIN | 0xa, &[0; 126])], Protocol),
        (vec![sent(FIN | 8, &[&[3, 0xe8][..], &[b'r'; 124]].concat())], Protocol),
        // Fragments out of their order.
        (vec![sent(0, b"a")], Protocol),
        (vec![sent(FIN, b"a")], Protocol),
        (vec![sent(1, b"a"), sent(1, b"b")], Protocol),
        (vec![sent(2, b"a"), sent(FIN | 2, b"b")], Protocol),
        (vec![sent(1, b"a"), sent(FIN | 1, b"b")], Protocol),
        // Half a code; a reason that is not UTF-8.
        (vec![sent(FIN | 8, b"\x03")], Protocol),
        (vec![sent(FIN | 8, b"\x03\xe8\xff")], InvalidText),
        (vec![sent(FIN | 8, b"\x03\xe8\xe2\x82")], InvalidText),
        // Text that is not UTF-8: alone, at the end, in the second of two fragments; a character that is not ended.
        (vec![sent(FIN | 1, b"\xff")], InvalidText),
        (vec![sent(FIN | 1, b"ab\xc3")], InvalidText),
        (vec![sent(1, b"ab"), sent(FIN, b"\xff")], InvalidText),
        (vec![sent(1, b"\xe2\x82"), sent(FIN, b"a")], InvalidText),
        (vec![sent(1, b"\xe2\x82"), sent(FIN, b"")], InvalidText),
        // A surrogate; beyond the last code point; two bytes where one would do.
        (vec![sent(FIN | 1, b"\xed\xa0\x80")], InvalidText),
        (vec![sent(FIN | 1, b"\xf4\x90\x80\x80")], InvalidText),
        (vec![sent(FIN | 1, b"\xc0\xaf")], InvalidText),
        // Too big: alone, with its second fragment, and said so only.
        (vec![sent(FIN | 2, &[0; MAX + 1])], TooBig),
        (vec![sent(2, &[0; 200]), sent(FIN, &[0; 101])], TooBig),
        (vec![sent(1, &[b'a'; MAX]), sent(0, b""), sent(FIN, b"a")], TooBig),
        (vec![head(FIN | 2, 0x80, usize::MAX), KEY.to_vec()], TooBig),
    ];
    for opcode in (3..=7).chain(11..=15) {
        rows.push((vec![sent(FIN | opcode, b"a")], Protocol));
    }
    for (bytes, kind) in rows {
        let bytes = [&[sent(FIN | 1, b"before")], &bytes[..]].concat().concat();
        comes_out_wherever_it_is_cut(&bytes, &[text("before")], Some(kind));
    }
}

fn comes_out_wherever_it_is_cut(bytes: &[u8], frames: &[Frame], kind: Option<TransportErrorKind>) {
    let check = |cuts: &[usize]| {
        let (read, violation) = read(bytes, cuts);
        assert_eq!(read, frames, "{bytes:02x?} {cuts:?}");
        assert_eq!(violation.map(Violation::kind), kind, "{bytes:02x?} {cuts:?}");
    };
    check(&[]);
    for cut in 0..=bytes.len() {
        check(&[cut]);
        check(&[cut, (cut + 1).min(bytes.len())]);
    }
    check(&(0..bytes.len()).collect::<Vec<_>>());
}

#[test]
fn text_that_is_not_utf_8_is_told_before_its_frame_is_whole() {
    for bytes in [sent(1, b"ab\xff...")[..9].to_vec(), sent(FIN | 1, b"\xf4\x90..")[..8].to_vec()] {
        assert_eq!(read(&bytes, &[]), (Vec::new(), Some(Violation::NotUtf8)));
    }
}

#[test]
fn a_message_is_too_big_before_its_last_fragment_has_come() {
    let bytes = [sent(1, &[b'a'; MAX]), head(FIN, 0x80, 1), KEY.to_vec()].concat();
    assert_eq!(read(&bytes, &[]), (Vec::new(), Some(Violation::TooBig)));
}

/// Empty fragments hold nothing, but a message must come to an end.
#[test]
fn the_headers_of_fragments_count() {
    let most = MAX + MAX / 8 + (8 << 10);
    let mut bytes = sent(2, b"");
    while bytes.len() + 6 <= most {
        bytes.extend(sent(0, b""));
    }
    let (frames, violation) = read(&bytes, &[]);
    assert_eq!((frames, violation), (Vec::new(), None));
    let ended = [&bytes[..], &sent(FIN, b"")].concat();
    assert_eq!(read(&ended, &[]).1, Some(Violation::TooBig));
    // The next message begins anew.
    let with_room = [&bytes[..bytes.len() - 6], &sent(FIN, b""), &bytes[..]].concat();
    assert_eq!(read(&with_room, &[]), (vec![Frame::Binary(Bytes::new())], None));
}

#[test]
fn control_frames_are_not_counted_with_a_message() {
    let pongs = sent(FIN | 0xa, &[0; 125]).repeat(2 * (MAX + (8 << 10)) / 125);
    let bytes = [sent(2, b"a"), pongs, sent(FIN, b"b")].concat();
    let (frames, violation) = read(&bytes, &[]);
    assert_eq!((frames.last(), violation), (Some(&Frame::Binary("ab".into())), None));
}

/// A stranger says how long a frame will be: that alone makes no room for it.
#[test]
fn a_frame_that_was_only_announced_holds_nothing() {
    const MANY: usize = 1 << 30;
    let mut decoder = Decoder::new(MANY);
    let mut bytes = [head(FIN | 2, 0x80, MANY), KEY.to_vec(), vec![0; 1000]].concat();
    assert_eq!(decoder.decode(&mut bytes).unwrap(), (bytes.len(), None));
    assert_eq!(decoder.missing(), MANY - 1000);
    assert!(decoder.held() <= 2000, "{}", decoder.held());
}

#[test]
fn a_message_takes_no_more_memory_than_it_is_long() {
    for first in [1, 2] {
        let payload = vec![b'a'; 100_000];
        let mut decoder = Decoder::new(1 << 20);
        let bytes = [sent(first, &payload[..60_000]), sent(FIN, &payload[60_000..])].concat();
        let mut come = Vec::new();
        for piece in bytes.chunks(7_000) {
            let (_, frame) = decoder.decode(&mut piece.to_vec()).unwrap();
            come.extend(frame);
        }
        let bytes = match come.pop().unwrap() {
            Frame::Text(text) => text.into_bytes(),
            Frame::Binary(bytes) => bytes,
            other => panic!("{other:?}"),
        };
        assert_eq!(bytes, payload);
        assert_eq!(Vec::from(bytes).capacity(), payload.len());
        assert_eq!(decoder.held(), 0);
    }
}

/// Each frame's bytes, as a server sends them.
fn said(frame: &Frame) -> Vec<u8> {
    let (opcode, payload) = match frame.clone() {
        Frame::Text(text) => (1, text.into_bytes().to_vec()),
        Frame::Binary(bytes) => (2, bytes.to_vec()),
        Frame::Ping(bytes) => (9, bytes.to_vec()),
        Frame::Pong(bytes) => (10, bytes.to_vec()),
        Frame::Close(None) => (8, Vec::new()),
        Frame::Close(Some((code, reason))) => {
            (8, [&code.to_be_bytes()[..], reason.as_bytes()].concat())
        }
    };
    [head(FIN | opcode, 0, payload.len()), payload].concat()
}

fn frames() -> impl Strategy<Value = Frame> {
    let length = prop_oneof![0..130_usize, 250..300_usize, Just(65_535), Just(65_536)];
    prop_oneof![
        any::<String>().prop_map(|text| Frame::Text(text.into())),
        length.prop_map(|length| Frame::Binary(vec![7; length].into())),
        Just(Frame::Ping(Bytes::from_static(b"p"))),
        Just(Frame::Pong(Bytes::new())),
        Just(Frame::Close(None)),
        ".{0,30}".prop_map(|reason| Frame::Close(Some((4100, reason.into())))),
    ]
}

/// A frame of a client, right or wrong, as bytes.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        8 => prop_oneof![Just(0_u8), Just(1), Just(2), Just(FIN), Just(FIN | 1), Just(FIN | 2)],
        4 => prop_oneof![Just(FIN | 9), Just(FIN | 0xa)],
        1 => Just(FIN | 8),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        6 => "[a-z\u{e4}\u{20ac}\u{1f600}]{0,12}".prop_map(String::into_bytes),
        // The parts of characters.
        3 => prop::collection::vec(
            prop_oneof![Just(0xf0_u8), Just(0x9f), Just(0x98), Just(0x80), Just(0xe2), Just(0x82), Just(b'a')],
            0..4
        ),
        1 => prop::collection::vec(any::<u8>(), 0..10),
        1 => (120..130_usize).prop_map(|length| vec![b'a'; length]),
        1 => (290..305_usize).prop_map(|length| vec![b'a'; length]),
        1 => any::<u16>().prop_map(|code| code.to_be_bytes().to_vec()),
        1 => (995..1020_u16).prop_map(|code| code.to_be_bytes().to_vec()),
    ];
    (first, payload, prop::bool::weighted(0.02)).prop_map(|(first, payload, bare)| {
        if bare { [head(first, 0, payload.len()), payload].concat() } else { sent(first, &payload) }
    })
}

/// A connection that has brought these bytes and has ended then.
struct Come(io::Cursor<Vec<u8>>);

impl io::Read for Come {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl io::Write for Come {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What tungstenite makes of the same bytes.
fn read_by_tungstenite(bytes: &[u8]) -> (Vec<Frame>, Option<TransportErrorKind>) {
    let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
    let come = Come(io::Cursor::new(bytes.to_vec()));
    let mut oracle = Oracle::from_raw_socket(come, Role::Server, Some(config));
    let mut frames = Vec::new();
    loop {
        let kind = match oracle.read() {
            Ok(Message::Text(text)) => {
                frames.push(Frame::Text(text.as_str().into()));
                continue;
            }
            Ok(Message::Binary(bytes)) => {
                frames.push(Frame::Binary(bytes));
                continue;
            }
            Ok(Message::Ping(bytes)) => {
                frames.push(Frame::Ping(bytes));
                continue;
            }
            Ok(Message::Pong(bytes)) => {
                frames.push(Frame::Pong(bytes));
                continue;
            }
            Ok(Message::Close(close)) => {
                let close = close.map(|close| (close.code.into(), close.reason.to_string().into()));
                frames.push(Frame::Close(close));
                return (frames, None);
            }
            Ok(Message::Frame(frame)) => panic!("{frame}"),
            Err(WsError::Capacity(_)) => Some(TransportErrorKind::TooBig),
            Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => None,
            Err(WsError::Protocol(_)) => Some(TransportErrorKind::Protocol),
            Err(WsError::Utf8(_)) => Some(TransportErrorKind::InvalidText),
            Err(error) => panic!("{error}"),
        };
        return (frames, kind);
    }
}

fn cuts_of(length: usize, cuts: &[prop::sample::Index]) -> Vec<usize> {
    let mut cuts = cuts.iter().map(|cut| cut.index(length + 1)).collect::<Vec<_>>();
    cuts.sort_unstable();
    cuts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What is whole is read as tungstenite reads it, wherever it is cut. It may be refused before tungstenite does so.
    #[test]
    fn tungstenite_reads_the_same(
        frames in prop::collection::vec(any_frame(), 0..12),
        end in any::<prop::sample::Index>(),
        is_cut_off in prop::bool::weighted(0.2),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut bytes = frames.concat();
        if is_cut_off {
            bytes.truncate(end.index(bytes.len() + 1));
        }
        let (expected, kind) = read_by_tungstenite(&bytes);
        let (ours, violation) = read(&bytes, &cuts_of(bytes.len(), &cuts));
        prop_assert_eq!(&ours, &expected);
        match kind {
            Some(kind) => prop_assert_eq!(violation.map(Violation::kind), Some(kind)),
            // Only what was cut off may be known to be wrong already.
            None => prop_assert!(violation.is_none() || is_cut_off, "{:?}", violation),
        }
    }

    /// Bytes that mean nothing do no harm, and cuts do not matter.
    #[test]
    fn any_bytes_are_read_the_same_wherever_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        prop_assert_eq!(read(&bytes, &cuts_of(bytes.len(), &cuts)), read(&bytes, &[]));
    }

    /// Whatever is taken at a time, and however much of that is written.
    #[test]
    fn what_is_pushed_is_what_is_written(
        frames in prop::collection::vec(frames(), 0..8),
        room in 1..70_000_usize,
        taken in prop::collection::vec(1..70_000_usize, 1..20),
    ) {
        let mut outgoing = Outgoing::default();
        let mut written = Vec::new();
        let mut scratch = vec![0; room];
        let mut taken = taken.iter().cycle();
        let expected = frames.iter().flat_map(said).collect::<Vec<_>>();
        for frame in frames {
            outgoing.push(frame);
            // Some of it is written before the next one comes.
            let filled = outgoing.fill(&mut scratch);
            let count = filled.min(*taken.next().unwrap()) / 2;
            written.extend_from_slice(&scratch[..count]);
            outgoing.advance(count);
        }
        while !outgoing.is_empty() {
            let filled = outgoing.fill(&mut scratch);
            prop_assert_eq!(filled, room.min(outgoing.len()));
            let count = filled.min(*taken.next().unwrap());
            written.extend_from_slice(&scratch[..count]);
            outgoing.advance(count);
        }
        prop_assert!(written == expected);
        prop_assert_eq!(outgoing.capacity(), 0);
    }
}
