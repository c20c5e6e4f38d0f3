//! The proxy does what it says: otherwise the scenarios behind it would prove nothing.

use std::{io, sync::atomic::Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    proxy::{End, Fate, Proxy, Stall},
    server::within,
};

/// A server that says `says` bytes and then reads, and a proxy before it with one fate.
async fn conversation(says: usize, fate: Fate) -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), move || fate).await;
    let client = TcpStream::connect(proxy.address).await.unwrap();
    let (mut server, _) = within(listener.accept()).await.unwrap();
    server.write_all(&vec![7; says]).await.unwrap();
    (proxy, client, server)
}

#[tokio::test]
async fn a_cut_comes_after_the_byte_and_as_a_reset_or_an_end() {
    for at in [1, 2, 99, 5000, 9999] {
        for end in [End::Reset, End::Close] {
            let (proxy, mut client, mut server) = conversation(10_000, Fate::cut(at, end)).await;
            let mut got = Vec::new();
            let read = within(client.read_to_end(&mut got)).await;
            let other = within(server.read(&mut [0; 1])).await;
            // A reset may destroy what is still under way.
            assert!(got.len() as u64 <= at, "{at} {end:?}");
            let counts = proxy.counts();
            let (resets, closes) = (&counts.resets, &counts.closes);
            if end == End::Reset {
                assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{at}");
                assert_eq!(other.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{at}");
                assert_eq!(resets.load(Ordering::SeqCst), 1);
            } else {
                assert_eq!((read.unwrap() as u64, got.len() as u64), (at, at));
                assert_eq!(other.unwrap(), 0, "an end for the other side, too");
                assert_eq!(closes.load(Ordering::SeqCst), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_stall_goes_on_where_it_was() {
    let stall = Some(Stall { at: 4321, wait: None });
    let (proxy, mut client, mut server) = conversation(10_000, Fate { stall, ..Fate::CALM }).await;
    let mut got = vec![0; 4321];
    within(client.read_exact(&mut got)).await.unwrap();
    client.write_all(b"meanwhile").await.unwrap();
    while proxy.counts().stalls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.counts().gone_on.load(Ordering::SeqCst), 0);
    proxy.go_on();
    let mut rest = vec![0; 10_000 - 4321];
    within(client.read_exact(&mut rest)).await.unwrap();
    let mut word = [0; 9];
    within(server.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"meanwhile");
    assert_eq!(proxy.counts().gone_on.load(Ordering::SeqCst), 1);
}
