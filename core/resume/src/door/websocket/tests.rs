use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::WebSocket;

use crate::words::transport::{Frame, TransportErrorKind};

const MAX: usize = 1000;

fn open() -> (WebSocket<DuplexStream>, DuplexStream) {
    let (server, client) = duplex(4096);
    (WebSocket::server(server, MAX), client)
}

/// A masked frame of less than 126 bytes; the mask is zero.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn frames_are_on_the_wire_as_they_were_given() {
    let (mut socket, mut client) = open();
    let frames = [
        (Frame::Text("h\u{e4}".into()), &b"\x81\x03h\xc3\xa4"[..]),
        (Frame::Binary(Bytes::from_static(b"\xff")), b"\x82\x01\xff"),
        (Frame::Ping(Bytes::from_static(b"p")), b"\x89\x01p"),
        (Frame::Close(Some((4100, "replaced".into()))), b"\x88\x0a\x10\x04replaced"),
    ];
    for (frame, bytes) in frames {
        socket.send(frame).await.unwrap();
        let mut sent = vec![0; bytes.len()];
        client.read_exact(&mut sent).await.unwrap();
        assert_eq!(sent, bytes);
    }
}

#[tokio::test]
async fn frames_come_as_they_were_sent() {
    let (mut socket, mut client) = open();
    let rows = [
        (masked(0x81, "h\u{e4}".as_bytes()), Frame::Text("h\u{e4}".into())),
        (masked(0x82, b"\xff"), Frame::Binary(Bytes::from_static(b"\xff"))),
        (masked(0x8a, b"p"), Frame::Pong(Bytes::from_static(b"p"))),
        ([masked(0x01, b"a"), masked(0x80, b"b")].concat(), Frame::Text("ab".into())),
        (masked(0x88, b"\x03\xe8bye"), Frame::Close(Some((1000, "bye".into())))),
    ];
    for (bytes, frame) in rows {
        client.write_all(&bytes).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), frame);
    }
}

/// Dropped with bytes unread, a TCP connection is reset, and the close frame may be lost with it.
#[tokio::test]
async fn what_follows_the_unreadable_is_read_and_forgotten() {
    let too_big = [&[0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0], &[0; MAX + 1][..]].concat();
    for unreadable in [too_big, masked(0x83, b""), masked(0x88, b"\x03\xf1")] {
        let (mut socket, mut client) = open();
        client.write_all(&unreadable).await.unwrap();
        assert!(!matches!(socket.next().await.unwrap(), Ok(Frame::Binary(_))));
        let _ = socket.send(Frame::Close(Some((1009, "".into())))).await;
        socket.flush().await.unwrap();
        let server = tokio::spawn(async move { socket.next().await.is_none() });
        // More than the pipe holds: it goes on only because the server reads.
        client.write_all(&vec![0; 100_000]).await.unwrap();
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"\x88\x02\x03\xf1", "the end follows the close");
        assert!(!server.is_finished(), "until the peer has closed");
        drop(client);
        assert!(server.await.unwrap());
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_apart() {
    let too_big = [&[0x82, 0xfe, 0x03, 0xe9, 0, 0, 0, 0], &[0; MAX + 1][..]].concat();
    let rows = [
        (too_big, TransportErrorKind::TooBig),
        (masked(0x81, b"\xff"), TransportErrorKind::InvalidText),
        (masked(0x83, b""), TransportErrorKind::Protocol),
        // Not masked.
        (b"\x81\x01a".to_vec(), TransportErrorKind::Protocol),
        (Vec::new(), TransportErrorKind::Broken),
    ];
    for (bytes, kind) in rows {
        let (mut socket, mut client) = open();
        client.write_all(&bytes).await.unwrap();
        drop(client);
        assert_eq!(socket.next().await.unwrap().unwrap_err().kind(), kind, "{bytes:?}");
    }
}

/// A frame of any length; the mask is zero.
fn long(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[first, 0xfe, length[0], length[1], 0, 0, 0, 0], payload].concat()
}

/// What a connection holds of a message that is not whole: a message and an eighth, and 8 KiB.
const MOST: usize = MAX + MAX / 8 + (8 << 10);

#[tokio::test]
async fn an_unfinished_message_holds_no_more_than_one() {
    let (server, mut client) = duplex(64 << 10);
    let mut socket = WebSocket::server(server, 20_000);
    let most = 20_000 + 2_500 + (8 << 10);
    // Each within its own limit: 15,000 in a fragment, and then a frame that would be refused only when whole.
    client.write_all(&long(0x02, &[7; 15_000])).await.unwrap();
    client.write_all(&long(0x80, &vec![7; 19_000])[..18_000]).await.unwrap();
    let told = socket.next().await.unwrap().unwrap_err();
    assert_eq!(told.kind(), TransportErrorKind::TooBig);
    assert!(15_000 + 18_000 > most);
    // A close frame can still be sent.
    socket.send(Frame::Close(Some((1009, "".into())))).await.unwrap();
    let mut said = [0; 4];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"\x88\x02\x03\xf1");
}

#[tokio::test]
async fn whole_messages_and_control_frames_are_not_counted_together() {
    let (mut socket, mut client) = open();
    let writes = async {
        for _ in 0..2 * MOST / MAX {
            client.write_all(&long(0x82, &[7; MAX])).await.unwrap();
        }
        client.write_all(&masked(0x02, b"a")).await.unwrap();
        // As many as a plain client answers in hours.
        for _ in 0..2 * MOST / 100 {
            client.write_all(&masked(0x8a, &[7; 100])).await.unwrap();
        }
        client.write_all(&masked(0x80, b"b")).await.unwrap();
    };
    let reads = async {
        let mut messages = 0;
        loop {
            match socket.next().await.unwrap().unwrap() {
                Frame::Binary(bytes) if bytes.len() == MAX => messages += 1,
                Frame::Binary(bytes) => return (messages, bytes),
                _ => {}
            }
        }
    };
    let ((), (messages, last)) = tokio::join!(writes, reads);
    assert_eq!((messages, &last[..]), (2 * MOST / MAX, &b"ab"[..]));
}

/// RFC 6455 §5.5.3 allows to answer only the newest ping while earlier ones are not answered.
#[tokio::test]
async fn pings_are_answered_in_order_and_for_a_peer_that_does_not_read_only_the_newest() {
    let (server, mut client) = duplex(100);
    let mut socket = WebSocket::server(server, MAX);
    let pings = |from: u8| (from..from + 100).map(|n| masked(0x89, &[n; 8]));
    let answers = async |client: &mut DuplexStream, numbers: &[u8]| {
        for number in numbers {
            let mut pong = [0; 10];
            client.read_exact(&mut pong).await.unwrap();
            assert_eq!(pong, [&[0x8a, 8][..], &[*number; 8]].concat()[..]);
        }
    };
    // Three that come at once.
    client.write_all(&pings(0).take(3).flatten().collect::<Vec<_>>()).await.unwrap();
    for number in 0..3 {
        assert_eq!(socket.next().await.unwrap().unwrap(), Frame::Ping(vec![number; 8].into()));
    }
    assert!(socket.next().now_or_never().is_none());
    answers(&mut client, &[0, 1, 2]).await;
    // A hundred, of which the peer reads no answer. Ten fit into the pipe.
    let mut come = 0;
    for ping in pings(0) {
        client.write_all(&ping).await.unwrap();
        while let Some(frame) = socket.next().now_or_never() {
            assert!(matches!(frame.unwrap().unwrap(), Frame::Ping(_)));
            come += 1;
        }
    }
    assert_eq!(come, 100);
    answers(&mut client, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).await;
    socket.flush().await.unwrap();
    answers(&mut client, &[10, 99]).await;
    socket.send(Frame::Text("no more".into())).await.unwrap();
    let mut said = [0; 9];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"\x81\x07no more");
}

#[tokio::test]
async fn what_stands_before_a_violation_is_answered_before_the_close() {
    let (mut socket, mut client) = open();
    let bytes = [masked(0x89, b"?"), masked(0x81, b"a"), masked(0x83, b""), masked(0x89, b"!")];
    client.write_all(&bytes.concat()).await.unwrap();
    assert!(matches!(socket.next().await.unwrap(), Ok(Frame::Ping(_))));
    assert!(matches!(socket.next().await.unwrap(), Ok(Frame::Text(_))));
    assert!(socket.next().await.unwrap().is_err());
    socket.feed(Frame::Text("a".into())).await.unwrap();
    socket.send(Frame::Close(Some((1002, "".into())))).await.unwrap();
    assert!(socket.send(Frame::Text("b".into())).await.is_err(), "nothing follows a close");
    drop(socket);
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"\x8a\x01?\x81\x01a\x88\x02\x03\xea");
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let rows: [(&[u8], &[u8]); 3] = [
        (b"", b"\x88\x00"),
        (b"\x03\xe8bye", b"\x88\x05\x03\xe8bye"),
        (b"\x03\xed", b"\x88\x14\x03\xeaProtocol violation"),
    ];
    for (close, answer) in rows {
        for closes in [true, false] {
            let (mut socket, mut client) = open();
            client.write_all(&masked(0x88, close)).await.unwrap();
            assert!(matches!(socket.next().await.unwrap(), Ok(Frame::Close(_))));
            // Whether it is closed, or only read on.
            if closes {
                socket.close().await.unwrap();
            }
            assert!(socket.next().now_or_never().is_none());
            let mut said = Vec::new();
            client.read_to_end(&mut said).await.unwrap();
            assert_eq!(said, answer);
        }
    }
}

#[tokio::test]
async fn our_close_is_said_once_and_no_ping_is_answered_after_it() {
    let (mut socket, mut client) = open();
    socket.send(Frame::Close(Some((1000, "".into())))).await.unwrap();
    client.write_all(&[masked(0x89, b"?"), masked(0x88, b"\x03\xe8")].concat()).await.unwrap();
    assert!(matches!(socket.next().await.unwrap(), Ok(Frame::Ping(_))));
    assert!(matches!(socket.next().await.unwrap(), Ok(Frame::Close(_))));
    socket.close().await.unwrap();
    drop(socket);
    let mut said = Vec::new();
    client.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, b"\x88\x02\x03\xe8");
}

/// Wherever the pipe cuts what goes in and out, and whatever it takes at a time.
#[tokio::test]
async fn messages_of_all_sizes_pass_pipes_of_all_sizes() {
    const LARGE: usize = 300_000;
    for pipe in [1, 7, 1000, 1 << 20] {
        let (server, mut client) = duplex(pipe);
        let mut socket = WebSocket::server(server, LARGE);
        let sizes = if pipe < 100 { vec![0, 125, 126, 2000] } else { vec![0, 126, 65_535, LARGE] };
        let sent = sizes.iter().flat_map(|size| {
            let length = (*size as u64).to_be_bytes();
            [&[0x82, 0xff][..], &length, &[0; 4], &vec![7; *size][..]].concat()
        });
        let (mut reads, mut writes) = tokio::io::split(&mut client);
        let sent = sent.collect::<Vec<_>>();
        let echo = async {
            for size in &sizes {
                let frame = socket.next().await.unwrap().unwrap();
                assert_eq!(frame, Frame::Binary(vec![7; *size].into()));
                socket.send(frame).await.unwrap();
            }
        };
        let write = async { writes.write_all(&sent).await.unwrap() };
        let read = async {
            for size in &sizes {
                let header = [2, 4, 10][usize::from(*size > 125) + usize::from(*size > 65_535)];
                let mut echo = vec![0; header + size];
                reads.read_exact(&mut echo).await.unwrap();
                assert!(echo[0] == 0x82 && echo[header..].iter().all(|byte| *byte == 7));
            }
        };
        tokio::join!(echo, write, read);
        assert_eq!(socket.held(), 0, "nothing is held by what is idle");
    }
}

/// The stream's half answers a ping while the sink's half, in another task, waits for the same connection.
#[tokio::test]
async fn the_halves_may_be_in_two_tasks() {
    let (server, mut client) = duplex(100);
    let (mut sink, mut stream) = WebSocket::server(server, MAX).split();
    let sends = tokio::spawn(async move {
        for _ in 0..100 {
            sink.send(Frame::Binary(vec![7; 90].into())).await.unwrap();
        }
    });
    let reads = tokio::spawn(async move { while let Some(Ok(_)) = stream.next().await {} });
    let (mut said, mut pongs, mut messages) = ([0; 92], 0, 0);
    // The newest ping is always answered, so there is always something to read.
    while !sends.is_finished() || pongs == 0 {
        client.write_all(&masked(0x89, &[1; 90])).await.unwrap();
        client.read_exact(&mut said).await.unwrap();
        match said[0] {
            0x8a => pongs += 1,
            0x82 => messages += 1,
            other => panic!("{other:02x}"),
        }
    }
    sends.await.unwrap();
    drop(client);
    reads.await.unwrap();
    assert_eq!(messages, 100);
}

/// Another task gets its turn, however much there is to read of what is no frame yet.
#[tokio::test]
async fn a_flood_of_fragments_holds_no_worker() {
    struct Flood;
    impl tokio::io::AsyncRead for Flood {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            buf.put_slice(if buf.remaining() > 0 { &[0; 1] } else { &[] });
            std::task::Poll::Ready(Ok(()))
        }
    }
    let io =
        tokio::io::join(b"\x02\xff\0\0\0\0\x7f\0\0\0\0\0\0\0"[..].chain(Flood), tokio::io::sink());
    let mut socket = WebSocket::server(io, 1 << 40);
    assert!(socket.next().now_or_never().is_none());
}
