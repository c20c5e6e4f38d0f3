//! Real sockets. The proxy does what it says: otherwise the scenarios behind it would prove nothing.

use std::{io, sync::atomic::Ordering};

use session_resume_testkit::{
    Browser, Received, Status, soon,
    tcp::{End, Fate, Proxy, Stall},
    until,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A server that says `says` bytes and then reads, and a proxy before it with one fate.
async fn conversation(says: usize, fate: Fate) -> (Proxy, TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::with_fates(listener.local_addr().unwrap(), move || fate).await;
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = soon("the other end", listener.accept()).await.unwrap();
    server.write_all(&vec![7; says]).await.unwrap();
    (proxy, client, server)
}

#[tokio::test]
async fn a_cut_comes_after_the_byte_and_as_a_reset_or_an_end() {
    for at in [1, 2, 99, 5000, 9999] {
        for end in [End::Reset, End::Close] {
            let (proxy, mut client, mut server) = conversation(10_000, Fate::cut(at, end)).await;
            let mut got = Vec::new();
            let read = soon("the other end", client.read_to_end(&mut got)).await;
            let other = soon("the other end", server.read(&mut [0; 1])).await;
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
    soon("the other end", client.read_exact(&mut got)).await.unwrap();
    client.write_all(b"meanwhile").await.unwrap();
    while proxy.counts().stalls.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(proxy.counts().gone_on.load(Ordering::SeqCst), 0);
    proxy.go_on();
    let mut rest = vec![0; 10_000 - 4321];
    soon("the other end", client.read_exact(&mut rest)).await.unwrap();
    let mut word = [0; 9];
    soon("the other end", server.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"meanwhile");
    assert_eq!(proxy.counts().gone_on.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_frozen_goes_on_in_both_directions() {
    let (proxy, mut client, mut server) = conversation(3, Fate::CALM).await;
    client.read_exact(&mut [0; 3]).await.unwrap();
    proxy.freeze();
    client.write_all(b"up").await.unwrap();
    server.write_all(b"down").await.unwrap();
    // Longer than a loopback takes.
    let (mut up, mut down) = ([0; 2], [0; 4]);
    let wait = std::time::Duration::from_millis(100);
    assert!(tokio::time::timeout(wait, server.read_exact(&mut up)).await.is_err());
    assert!(tokio::time::timeout(wait, client.read_exact(&mut down)).await.is_err());
    proxy.thaw();
    soon("what was held", server.read_exact(&mut up)).await.unwrap();
    soon("what was held", client.read_exact(&mut down)).await.unwrap();
    assert_eq!((&up, &down), (b"up", b"down"));
}

#[tokio::test]
async fn what_was_held_arrives_after_its_client_is_gone() {
    let (proxy, mut client, mut server) = conversation(1, Fate::CALM).await;
    client.read_exact(&mut [0; 1]).await.unwrap();
    proxy.hold();
    client.write_all(b"late").await.unwrap();
    proxy.held().await;
    server.write_all(b"!").await.unwrap();
    soon("the other direction passes", client.read_exact(&mut [0; 1])).await.unwrap();
    let late = proxy.cut_held();
    let cut = soon("a reset", client.read(&mut [0; 1])).await;
    assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let answered = async {
        let mut late = [0; 4];
        server.read_exact(&mut late).await.unwrap();
        server.write_all(b"too late").await.unwrap();
        late
    };
    let ((), late) = soon("its arrival", async { tokio::join!(late.arrive(), answered) }).await;
    assert_eq!(&late, b"late");
}

#[tokio::test]
async fn what_is_swallowed_never_comes_and_who_is_offline_cannot_come_back() {
    let (proxy, mut client, mut server) = conversation(1, Fate::CALM).await;
    client.read_exact(&mut [0; 1]).await.unwrap();
    proxy.swallow();
    client.write_all(b"question").await.unwrap();
    let mut question = [0; 8];
    soon("the question", server.read_exact(&mut question)).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    proxy.thaw();
    server.write_all(b"next").await.unwrap();
    let mut next = [0; 4];
    soon("the next", client.read_exact(&mut next)).await.unwrap();
    assert_eq!(&next, b"next");

    proxy.go_offline();
    assert!(soon("a reset", client.read(&mut [0; 1])).await.is_err());
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    assert!(soon("a reset", refused.read(&mut [0; 1])).await.is_err());
    assert_eq!(proxy.connections(), 1);
    proxy.go_online();
    let _back = TcpStream::connect(proxy.address()).await.unwrap();
    until("it is taken", async || proxy.connections() == 2).await;
}

#[tokio::test]
async fn drawn_fates_are_the_same_for_the_same_seed_and_end_in_calm() {
    let draw = |seed| {
        let mut fates = Fate::drawn(seed, 1000, 50);
        (0..51).map(|_| fates()).collect::<Vec<_>>()
    };
    let fates = draw(7);
    assert_eq!(format!("{fates:?}"), format!("{:?}", draw(7)));
    assert_ne!(format!("{fates:?}"), format!("{:?}", draw(8)));
    assert!(fates[..50].iter().all(|fate| fate.bytes < 1000));
    assert_eq!(fates[50].bytes, u64::MAX);
    for end in [End::Reset, End::Close] {
        assert!(fates.iter().filter(|fate| fate.end == end).count() > 5, "{end:?}");
    }
}

/// The verbs of pages, to a server on a port.
#[tokio::test]
async fn pages_break_on_real_sockets_as_in_memory() {
    let live = axum::routing::any(async |upgrade: session_resume_axum::ResumeUpgrade| {
        upgrade.on_session(|mut session| async move {
            while let Some(message) = session.recv().await {
                session.send(message).await?;
            }
            Ok(())
        })
    });
    let app = axum::Router::new().route("/live", live).layer(session_resume::SessionResume::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let browser = Browser::at(address);
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut page = browser.open("/live").await;
    for n in 0..12 {
        page.send(n.to_string());
        match n % 4 {
            0 => page.cut().await,
            1 => page.lose(1).await,
            2 => page.half_open().await,
            _ => {}
        }
        assert_eq!(page.recv().await, n.to_string());
    }
    assert!(page.statuses()[1..].iter().all(|status| *status == Status::Resumed));
    let mut socket = Browser::at(address).plain("/live").await;
    socket.cut().await;
    assert_eq!(socket.next().await, Received::Gone);
    assert_eq!(browser.get("/nowhere").await.status, 404);
}
