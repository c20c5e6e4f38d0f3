//! Bytes as they are on the wire.

use session_resume_testkit::{Browser, soon};
use session_resume_tests::{Framework, scenarios};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{client, testee};

scenarios!(no_byte_is_added_to_an_ordinary_data_message);

/// Reads an unmasked frame; returns its first byte and its payload.
async fn frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let first = stream.read_u8().await.unwrap();
    let length = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        127 => usize::try_from(stream.read_u64().await.unwrap()).unwrap(),
        length => usize::from(length),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

/// Sends a masked text frame; with a mask of zeros the payload is readable.
async fn send(stream: &mut TcpStream, text: &str) {
    let length = u8::try_from(text.len()).unwrap();
    let mut bytes = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    bytes.extend_from_slice(text.as_bytes());
    stream.write_all(&bytes).await.unwrap();
}

async fn no_byte_is_added_to_an_ordinary_data_message(framework: Framework) {
    let testee = testee(framework, "").await;
    for offer in [String::new(), format!("session-resume.v1, at.{}", client('a'))] {
        let browser = Browser::at(testee.addr);
        browser.get("/").await;
        let mut stream = TcpStream::connect(testee.addr).await.unwrap();
        let mut head = format!(
            "GET /live HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\ncookie: {}\r\n",
            testee.addr,
            browser.cookies().header(),
        );
        if !offer.is_empty() {
            head.extend(["sec-websocket-protocol: ", &offer, "\r\n"]);
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(soon("the 101", stream.read_u8()).await.unwrap());
        }
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(!answer.contains("sec-websocket-extensions"), "it is not compressed: {answer}");
        if !offer.is_empty() {
            let (first, hello) = soon("the hello", frame(&mut stream)).await;
            assert!(first == 0x81 && hello.starts_with(b"\x01{\"hello\":"), "{hello:?}");
            send(&mut stream, "\u{1}{\"ack\":0}").await;
        }
        for text in ["x", "{\"hello\":1}", "\u{2}", "äö"] {
            send(&mut stream, &format!("say {text}")).await;
            let mut data = soon("the data", frame(&mut stream)).await;
            while data.0 == 0x89 || data.1.starts_with(b"\x01{") {
                data = soon("the data", frame(&mut stream)).await;
            }
            assert_eq!(data, (0x81, text.as_bytes().to_vec()));
        }
    }
}
