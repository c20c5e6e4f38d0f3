//! What connects to the listener for other nodes, and is none.

use std::{io, net::SocketAddr, time::Duration};

use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Browser, soon};
use session_resume_tests::{Framework, scenarios};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::node::{hop_listener, node, told};

/// Says this after the greeting; returns what comes back until the end.
async fn answer(at: SocketAddr, head: &str) -> Vec<u8> {
    let talk = async {
        let mut stream = TcpStream::connect(at).await?;
        let mut greeting = [0; 16];
        stream.read_exact(&mut greeting).await?;
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            // A reset is an end, too.
            Ok(_) => Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(answer),
            Err(error) => Err(error),
        }
    };
    soon("the connection ends", talk).await.unwrap()
}

/// Without the key there is no answer: not to a request, nor to one with a made-up proof.
async fn a_stranger_is_told_nothing(framework: Framework) {
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let mut a = node(&engine, framework, "a").await;
    let (at, incarnation) = hop_listener(&a.next_line().await);
    let browser = Browser::at(a.addr);
    assert_eq!(told(&browser, "/node").await["incarnation"], *incarnation);
    let mac = "0".repeat(64);
    for line in [
        String::new(),
        "session-resume-hop: 1\r\n".to_owned(),
        format!("session-resume-hop: 1 {incarnation} {incarnation} - http {mac}\r\n"),
    ] {
        let head = format!("GET /plain HTTP/1.1\r\nhost: a\r\n{line}\r\n");
        assert!(answer(at, &head).await.is_empty(), "{line}");
    }
    // Two greetings are two: what was said on one connection is worth nothing on another.
    let mut greetings = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut greeting = [0; 16];
        soon("a greeting", stream.read_exact(&mut greeting)).await.unwrap();
        greetings.push(greeting);
    }
    assert_ne!(greetings[0], greetings[1]);
    assert_eq!(told(&browser, "/node").await["hops"], 0);
}

/// Many that say nothing keep nobody out.
async fn silent_connections_keep_no_node_out(framework: Framework) {
    const SILENT: usize = 100;
    if without_redis() {
        return;
    }
    let engine = Engine::durable();
    let (mut a, b) = (node(&engine, framework, "a").await, node(&engine, framework, "b").await);
    let (at, _) = hop_listener(&a.next_line().await);
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let mut greeting = [0; 16];
        soon("a greeting", stream.read_exact(&mut greeting)).await.unwrap();
        silent.push(stream);
    }
    // The oldest are closed.
    let mut first = silent.swap_remove(0);
    let ended = tokio::time::timeout(Duration::from_secs(60), first.read(&mut [0])).await;
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    let at_a = Browser::at(a.addr);
    let session = told(&at_a, "/").await["session"].clone();
    assert_eq!(told(&at_a.moved_to_address(b.addr), "/").await["session"], session);
}

scenarios!(a_stranger_is_told_nothing, silent_connections_keep_no_node_out);
