use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::WebSocket;
use crate::words::transport::{Frame, TransportErrorKind};

const MAX: usize = 1000;

async fn open() -> (WebSocket<DuplexStream>, DuplexStream) {
    let (server, client) = duplex(4096);
    (WebSocket::server(server, MAX).await, client)
}

/// A masked frame of less than 126 bytes; the mask is zero.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

#[tokio::test]
async fn frames_are_on_the_wire_as_they_were_given() {
    let (mut socket, mut client) = open().await;
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
    let (mut socket, mut client) = open().await;
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
        let (mut socket, mut client) = open().await;
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
        let (mut socket, mut client) = open().await;
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
    let mut socket = WebSocket::server(server, 20_000).await;
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
    let (mut socket, mut client) = open().await;
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
