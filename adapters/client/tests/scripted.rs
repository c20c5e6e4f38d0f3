//! The client against a server that follows a script, on real sockets.

mod support;

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use session_resume_client::{
    Builder, Cause, Client, Close, ConfigError, ConnectError, CookieJar, Event, Gap, GapReason,
    Limits, Message, Modes, OutcomeStatus, Position, Request, SendErrorKind, StateOffer, Status,
};
use session_resume_proto::wire::{Done, Hello, ServerControl, Window};
use support::{Peer, Server, hello, resumed, token};
use tokio::{
    join,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::tungstenite;

/// A client in an open session, all its events taken, and its transport.
async fn open() -> (Server, Client, Peer) {
    let server = Server::bind().await;
    let (client, peer) = open_at(&server, server.client(), hello(Status::New)).await;
    (server, client, peer)
}

async fn open_at(server: &Server, builder: Builder, hello: Hello) -> (Client, Peer) {
    let attached = async {
        let mut peer = server.accept().await;
        peer.hello(hello).await;
        peer
    };
    let (client, peer) = join!(builder.connect(), attached);
    let mut client = client.unwrap();
    let opened = client.recv_event().await;
    assert!(matches!(opened, Some(Event::Open { .. })), "{opened:?}");
    (client, peer)
}

/// The next event that is not a state of the connection.
async fn told(client: &mut Client) -> Option<Event> {
    loop {
        match client.recv_event().await {
            Some(Event::Connecting | Event::Waiting { .. } | Event::Open { .. }) => {}
            other => return other,
        }
    }
}

async fn failed(connecting: impl Future<Output = Result<Client, ConnectError>>) -> Cause {
    match connecting.await {
        Err(ConnectError::Failed { cause }) => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn data_passes_unchanged_and_nothing_is_added_to_it() {
    let (_server, mut client, mut peer) = open().await;
    let big = "x".repeat(1 << 20);
    let mut count = 0;
    for (data, wire) in [
        ("", ""),
        ("hello", "hello"),
        ("{\"ack\":1}", "{\"ack\":1}"),
        ("\u{1}", "\u{1}\u{1}"),
        ("\u{1}{\"ack\":1}", "\u{1}\u{1}{\"ack\":1}"),
        (big.as_str(), big.as_str()),
    ] {
        client.send(data).await.unwrap();
        assert_eq!(peer.data(1).await, [tungstenite::Message::text(wire)]);
        count += 1;
        peer.ack(count).await;
        peer.send(wire).await;
        assert_eq!(client.recv().await, Some(Message::text(data)));
    }
    for bytes in [vec![], vec![1, b'{'], vec![0; 1 << 20]] {
        client.send(bytes.clone()).await.unwrap();
        let wire = tungstenite::Message::binary(bytes.clone());
        assert_eq!(peer.data(1).await, std::slice::from_ref(&wire));
        count += 1;
        peer.ack(count).await;
        peer.message(wire).await;
        assert_eq!(client.recv().await, Some(Message::binary(bytes)));
    }
}

#[tokio::test]
async fn a_drop_is_invisible_to_the_application() {
    for cut in [Peer::reset, |peer: Peer| {
        tokio::spawn(peer.finish());
    }] {
        let (server, mut client, mut peer) = open().await;
        for text in ["a", "b", "c"] {
            client.send(text).await.unwrap();
        }
        peer.data(3).await;
        peer.send("0").await;
        assert_eq!(client.recv().await, Some("0".into()));
        let id = peer.id.clone();
        cut(peer);
        let mut peer = server.accept().await;
        assert_eq!((peer.id.as_str(), peer.cursor.as_str()), (id.as_str(), "s.e.1.1"));
        peer.hello(resumed(1, 2)).await;
        assert_eq!(peer.data(1).await, [tungstenite::Message::text("c")]);
        peer.send("1").await;
        assert_eq!(client.recv().await, Some("1".into()));
    }
}

#[tokio::test]
async fn a_message_that_is_too_big_is_told_and_not_sent_again() {
    let (server, mut client, mut peer) = open().await;
    for text in ["a", "BIG", "c"] {
        client.send(text).await.unwrap();
    }
    peer.data(3).await;
    let (mut peer, ()) = join!(server.accept(), peer.close(1009, "message too big"));
    peer.hello(resumed(0, 1)).await;
    assert_eq!(told(&mut client).await, Some(Event::TooBig("BIG".into())));
    assert_eq!(peer.data(1).await, [tungstenite::Message::text("c")]);
    peer.ack(2).await;
    let (closed, code) = join!(client.close(), peer.closed());
    assert_eq!((closed, code), (Ok(()), Some(1000)));
}

#[tokio::test]
async fn a_copy_of_the_state_is_offered_at_each_connection_before_any_message() {
    let server = Server::bind().await;
    let copy = |iteration| StateOffer::new(iteration, 7, &[1, 2]).unwrap();
    let client = server.client().with_state(copy(3)).start().unwrap();
    client.send("a").await.unwrap();
    let limited = |hello| Hello { limit: Some(1000), ..hello };
    let offered = |iteration| {
        let text = format!(r#"{{"state":{{"iteration":{iteration},"updated":7,"value":[1,2]}}}}"#);
        tungstenite::Message::text(format!("\u{1}{text}"))
    };
    let mut peer = server.accept().await;
    peer.hello(limited(hello(Status::New))).await;
    assert_eq!([peer.next().await, peer.next().await], [offered(3), "a".into()]);
    client.offer_state(Some(copy(4)));
    peer.reset();
    let mut peer = server.accept().await;
    peer.hello(limited(resumed(0, 0))).await;
    assert_eq!([peer.next().await, peer.next().await], [offered(4), "a".into()]);
}

#[tokio::test]
async fn another_session_and_a_gap_are_told() {
    let (server, mut client, mut peer) = open().await;
    client.send("a").await.unwrap();
    peer.data(1).await;
    peer.reset();
    let mut peer = server.accept().await;
    let gap = Gap { from: Position::ZERO, to: None, reason: GapReason::Expired };
    peer.hello(Hello { session: token("t"), gap: Some(gap), ..hello(Status::New) }).await;
    assert_eq!(told(&mut client).await, Some(Event::InDoubt(vec!["a".into()])));
    assert_eq!(told(&mut client).await, Some(Event::Gap(gap)));
    let overflow = Gap { to: Some(Position::new(3)), reason: GapReason::Overflow, ..gap };
    peer.control(ServerControl { gap: Some(overflow), ..ServerControl::default() }).await;
    peer.send("3").await;
    assert_eq!(told(&mut client).await, Some(Event::Gap(overflow)));
    assert_eq!(client.recv().await, Some("3".into()));
    client.send("b").await.unwrap();
    assert_eq!(peer.data(1).await, [tungstenite::Message::text("b")]);
}

#[tokio::test]
async fn cookies_are_kept_between_attempts_and_can_be_kept_for_the_next_start() {
    const COOKIES: &[(&str, &str)] = &[
        ("sec-websocket-protocol", "session-resume.v1"),
        ("set-cookie", "sr_id=secret; Path=/; HttpOnly"),
        ("set-cookie", "old=; Max-Age=0"),
    ];
    let server = Server::bind().await;
    let builder = server.client().with_cookies("old=1; mine=2");
    let attached = async {
        let mut peer = server.accept_with(COOKIES).await;
        peer.hello(hello(Status::New)).await;
        peer
    };
    let (client, peer) = join!(builder.connect(), attached);
    let client = client.unwrap();
    assert_eq!(peer.cookie.as_deref(), Some("mine=2; old=1"));
    assert_eq!(client.cookies(), "mine=2; sr_id=secret");
    assert!(!format!("{client:?}").contains("secret"));
    peer.reset();
    let peer = server.accept().await;
    assert_eq!(peer.cookie.as_deref(), Some("mine=2; sr_id=secret"));
}

#[tokio::test]
async fn each_attempt_asks_for_its_url_and_its_headers() {
    let server = Server::bind().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (url, numbers) = (server.url(), Arc::clone(&asked));
    let builder = server
        .client()
        .with_header("authorization", "Basic old")
        .with_header("authorization", "Basic older")
        .with_request(move |attempt| {
            let ticket = {
                let mut numbers = numbers.lock().unwrap();
                assert!(!attempt.is_look());
                numbers.push(attempt.number());
                numbers.len()
            };
            let url = format!("{url}?ticket={ticket}");
            async move {
                tokio::task::yield_now().await;
                let bearer = format!("Bearer {ticket}");
                Ok::<_, String>(Request::new().with_url(&url).with_header("authorization", &bearer))
            }
        });
    let (mut client, mut peer) = open_at(&server, builder, hello(Status::New)).await;
    for ticket in 1..4 {
        assert_eq!(peer.uri, format!("/live?ticket={ticket}"));
        assert_eq!(peer.authorization, [format!("Bearer {ticket}")], "alone");
        peer.send("news").await;
        assert_eq!(client.recv().await, Some("news".into()));
        peer.reset();
        if ticket == 3 {
            server.refuse("503 Service Unavailable").await;
        }
        peer = server.accept().await;
        peer.hello(resumed(ticket, 0)).await;
    }
    assert_eq!(peer.uri, "/live?ticket=5");
    assert_eq!(*asked.lock().unwrap(), [1, 1, 1, 1, 2], "a row begins anew after news");
}

#[tokio::test]
async fn an_attempt_that_cannot_be_prepared_is_told_and_the_next_one_asks_anew() {
    let server = Server::bind().await;
    let asked = Arc::new(Mutex::new(0));
    let mut client = server
        .client()
        .with_request(move |_| {
            *asked.lock().unwrap() += 1;
            let prepared = match *asked.lock().unwrap() {
                1 => Err("no token"),
                2 => Ok(Request::new().with_header("Host", "hush")),
                3 => Ok(Request::new().with_url("http://localhost/?hush")),
                _ => Ok(Request::new()),
            };
            async move { prepared }
        })
        .start()
        .unwrap();
    client.send("queued").await.unwrap();
    for (next, expected) in [
        (2, "no token"),
        (3, "header cannot be set: Host"),
        (4, "the URL is not ws:// or wss:// with a host"),
    ] {
        let (attempt, cause) = loop {
            match client.recv_event().await {
                Some(Event::Waiting { attempt, cause, .. }) => break (attempt, cause),
                Some(Event::Connecting) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((attempt, cause), (next, Cause::Unprepared(expected.into())));
    }
    let mut peer = server.accept().await;
    peer.hello(hello(Status::New)).await;
    assert_eq!(peer.data(1).await, [tungstenite::Message::text("queued")]);

    let broken = server.client().with_request(|_| async { Err::<Request, _>("logged out") });
    assert_eq!(failed(broken.connect()).await, Cause::Unprepared("logged out".into()));
    let prompt = server.client().with_mode(Modes::Prompt);
    let prompt = prompt.with_request(|_| async { Err::<Request, _>("logged out") });
    let offline = Event::Offline { cause: Cause::Unprepared("logged out".into()) };
    assert_eq!(told(&mut prompt.start().unwrap()).await, Some(offline));
}

/// No attempt gets as far as a socket.
#[tokio::test(start_paused = true)]
async fn to_prepare_an_attempt_has_the_time_of_the_attempt() {
    let alive = Arc::new(());
    let held = Arc::downgrade(&alive);
    let mut client = Client::builder("ws://nowhere.invalid/live")
        .with_request(move |_| {
            let alive = Arc::clone(&alive);
            async move {
                let never = std::future::pending::<Result<Request, String>>().await;
                drop(alive);
                never
            }
        })
        .start()
        .unwrap();
    let mut start = tokio::time::Instant::now();
    for _ in 0..2 {
        assert_eq!(client.recv_event().await, Some(Event::Connecting));
        let Some(Event::Waiting { delay, cause, .. }) = client.recv_event().await else {
            panic!("it waits");
        };
        assert_eq!(cause, Cause::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 20);
        assert_eq!(held.strong_count(), 1, "what is given up is dropped");
        start = tokio::time::Instant::now() + delay;
    }
    // While it hangs once more.
    assert_eq!(client.recv_event().await, Some(Event::Connecting));
    while held.strong_count() < 2 {
        tokio::task::yield_now().await;
    }
    drop(client);
    timeout(Duration::from_secs(1), async {
        while held.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("what nobody waits for is dropped");
}

#[tokio::test]
async fn a_refused_upgrade_is_told_with_its_status() {
    for (head, status, retry_after) in [
        ("400 Bad Request", 400, None),
        ("403 Forbidden", 403, None),
        ("409 Conflict", 409, None),
        ("503 Service Unavailable\r\nRetry-After: 7", 503, Some(7)),
        ("302 Found\r\nLocation: /", 302, None),
    ] {
        let server = Server::bind().await;
        let (cause, ()) = join!(failed(server.client().connect()), server.refuse(head));
        let retry_after = retry_after.map(Duration::from_secs);
        assert_eq!(cause, Cause::Http { status, retry_after });
    }
}

#[tokio::test]
async fn a_busy_server_is_tried_again_and_a_refusal_is_not() {
    let server = Server::bind().await;
    let mut client = server.client().start().unwrap();
    server.refuse("503 Service Unavailable\r\nRetry-After: 0\r\nSet-Cookie: a=1").await;
    let mut peer = server.accept().await;
    assert_eq!(peer.cookie.as_deref(), Some("a=1"));
    peer.hello(hello(Status::New)).await;
    peer.reset();
    server.refuse("409 Conflict").await;
    let refused = Event::Refused { cause: Cause::Http { status: 409, retry_after: None } };
    assert_eq!(told(&mut client).await, Some(refused));
    assert_eq!(client.recv().await, None);
    client.reconnect();
    assert_eq!(server.accept().await.cursor, "s.e.0.1");
}

#[tokio::test]
async fn close_codes_that_mean_stop_stop_until_the_application_asks() {
    for (code, reason, expected) in [
        (4100, "superseded", Event::Superseded),
        (4101, "another handler", Event::Refused { cause: Cause::Closed(Close::ANOTHER_HANDLER) }),
    ] {
        let (server, mut client, peer) = open().await;
        let (event, ()) = join!(client.recv_event(), peer.close(code, reason));
        assert_eq!(event, Some(expected));
        assert_eq!(client.recv().await, None);
        client.send("later").await.unwrap();
        client.reconnect();
        let mut peer = server.accept().await;
        peer.hello(resumed(0, 0)).await;
        assert_eq!(peer.data(1).await, [tungstenite::Message::text("later")]);
    }
}

#[tokio::test]
async fn a_copy_goes_on_under_another_id() {
    let (server, mut client, mut peer) = open().await;
    client.send("a").await.unwrap();
    peer.data(1).await;
    let id = peer.id.clone();
    peer.reset();
    for _ in 0..2 {
        let peer = server.accept().await;
        assert_eq!((peer.id.as_str(), peer.cursor.as_str()), (id.as_str(), "s.e.0.1"));
        peer.close(4113, "stale").await;
    }
    let peer = server.accept().await;
    assert_ne!(peer.id, id);
    assert_eq!(peer.cursor, "");
    assert_eq!(told(&mut client).await, Some(Event::InDoubt(vec!["a".into()])));
}

#[tokio::test]
async fn a_prompt_client_asks_and_an_off_client_ends() {
    let server = Server::bind().await;
    let prompt = server.client().with_mode(Modes::Prompt);
    let (mut client, peer) = open_at(&server, prompt, hello(Status::New)).await;
    peer.reset();
    let offline = Event::Offline { cause: Cause::Lost };
    assert_eq!(client.recv_event().await, Some(offline));
    assert_eq!(client.recv_event().await, None);
    client.sender().reconnect();
    let mut peer = server.accept().await;
    peer.hello(resumed(0, 0)).await;
    peer.send("0").await;
    assert_eq!(client.recv().await, Some("0".into()));

    let off = server.client().with_mode(Modes::Off);
    let (mut client, peer) = open_at(&server, off, hello(Status::New)).await;
    peer.reset();
    let failed = Event::Failed { cause: Cause::Lost };
    assert_eq!(client.recv_event().await, Some(failed));
    assert_eq!(client.recv().await, None);
    let err = client.send("a").await.unwrap_err();
    assert_eq!((err.kind(), err.into_message()), (SendErrorKind::Closed, "a".into()));
}

#[tokio::test]
async fn the_end_of_a_session_is_told_and_answered() {
    let (_server, mut client, mut peer) = open().await;
    client.send("a").await.unwrap();
    client.send("b").await.unwrap();
    peer.data(2).await;
    peer.send("last").await;
    peer.control(ServerControl {
        done: Some(Done { status: OutcomeStatus::Done, received: 1 }),
        ..ServerControl::default()
    })
    .await;
    assert_eq!(client.recv().await, Some("last".into()));
    let (event, ()) = join!(client.recv_event(), peer.close(4429, "too many"));
    let done = Event::Done {
        status: OutcomeStatus::Done,
        untaken: vec!["b".into()],
        close: Close::new(4429, "too many"),
    };
    assert_eq!(event, Some(done));
    assert_eq!(client.recv_event().await, None);
}

#[tokio::test]
async fn a_message_over_the_limit_of_the_client_is_named_and_the_waits_grow() {
    let server = Server::bind().await;
    let builder = server.client().with_max_received(1000);
    let (mut client, mut peer) = open_at(&server, builder, hello(Status::New)).await;
    peer.send(&"x".repeat(1000)).await;
    assert_eq!(client.recv().await.unwrap().len(), 1000);
    let mut waited = Vec::new();
    for expected in 1..=4 {
        peer.ack(0).await;
        peer.send(&"y".repeat(2000)).await;
        let closed = async {
            assert_eq!(peer.closed().await, Some(1009));
            let mut peer = server.accept().await;
            assert_eq!(peer.cursor, format!("s.e.1.{}", if expected == 1 { 1 } else { 2 }));
            peer.hello(resumed(1, 0)).await;
            peer
        };
        let told = async {
            loop {
                match client.recv_event().await {
                    Some(Event::Waiting { attempt, cause: Cause::TooBig, .. }) => break attempt,
                    Some(Event::Open { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        let (next, attempt) = join!(closed, told);
        peer = next;
        waited.push(attempt);
        assert_eq!(attempt, expected);
    }
    let message = Cause::TooBig.to_string();
    assert!(message.contains("over the limit"), "{message}");
}

#[tokio::test]
async fn a_long_message_in_one_frame_is_read() {
    let (_server, mut client, mut peer) = open().await;
    let long = "x".repeat(20 << 20);
    let (message, ()) = join!(client.recv(), peer.send(&long));
    assert_eq!(message.unwrap().len(), long.len());
}

#[tokio::test]
async fn a_message_over_the_limit_of_the_server_is_an_error_and_not_sent() {
    let server = Server::bind().await;
    let limited = Hello { limit: Some(5), ..hello(Status::New) };
    let (client, mut peer) = open_at(&server, server.client(), limited).await;
    let err = client.send("longer").await.unwrap_err();
    assert_eq!(err.kind(), SendErrorKind::TooBig);
    assert_eq!(err.into_message(), "longer".into());
    client.send("short").await.unwrap();
    assert_eq!(peer.data(1).await, [tungstenite::Message::text("short")]);
}

#[tokio::test]
async fn closing_waits_for_the_handler_and_says_goodbye() {
    let (server, client, mut peer) = open().await;
    client.send("a").await.unwrap();
    let reply = async {
        peer.data(1).await;
        peer.reset();
        let mut peer = server.accept().await;
        peer.hello(resumed(0, 0)).await;
        peer.data(1).await;
        peer.ack(1).await;
        peer.closed().await
    };
    let (closed, code) = join!(client.close(), reply);
    assert_eq!((closed, code), (Ok(()), Some(1000)));
}

#[tokio::test]
async fn closing_acknowledges_nothing_that_nobody_took() {
    let (_server, mut client, mut peer) = open().await;
    peer.send("0").await;
    peer.send("1").await;
    assert_eq!(client.recv().await, Some("0".into()));
    client.send("a").await.unwrap();
    let reply = async {
        let frames = [peer.next().await, peer.next().await];
        peer.ack(1).await;
        (frames, peer.closed().await)
    };
    let (closed, (frames, code)) = join!(client.close(), reply);
    assert_eq!((closed, code), (Ok(()), Some(1000)));
    for text in ["a", "\u{1}{\"ack\":1}"] {
        assert!(frames.contains(&tungstenite::Message::text(text)), "{frames:?}");
    }
}

#[tokio::test]
async fn closing_returns_what_was_not_delivered() {
    let server = Server::bind().await;
    let prompt = server.client().with_mode(Modes::Prompt);
    let narrow = Hello { window: Window { messages: 1, bytes: 100 }, ..hello(Status::New) };
    let (client, mut peer) = open_at(&server, prompt, narrow).await;
    client.send("a").await.unwrap();
    client.send("b").await.unwrap();
    peer.data(1).await;
    let (closed, ()) = join!(client.close(), async { peer.reset() });
    let undelivered = closed.unwrap_err();
    assert_eq!(undelivered.in_doubt, ["a".into()]);
    assert_eq!(undelivered.unsent, ["b".into()]);
}

#[tokio::test]
async fn what_the_application_took_is_acknowledged() {
    let server = Server::bind().await;
    // Every message is half the window, and no heartbeat helps out.
    let quiet = Hello {
        window: Window { messages: 2, bytes: 100 },
        heartbeat_ms: 3_600_000,
        ..hello(Status::New)
    };
    let (mut client, mut peer) = open_at(&server, server.client(), quiet).await;
    for count in 1..4 {
        peer.send("a").await;
        assert_eq!(client.recv().await, Some("a".into()));
        let ack = format!("\u{1}{{\"ack\":{count}}}");
        assert_eq!(peer.next().await, tungstenite::Message::text(ack));
    }
}

#[tokio::test]
async fn dropping_the_client_ends_its_transport_and_its_senders() {
    let (_server, client, peer) = open().await;
    let sender = client.sender();
    drop(client);
    assert_eq!(peer.closed().await, None);
    let err = sender.send("a").await.unwrap_err();
    assert_eq!(err.kind(), SendErrorKind::Closed);
}

#[tokio::test]
async fn send_waits_only_while_the_queue_is_full() {
    let server = Server::bind().await;
    let limits = Limits { messages: 2, bytes: 10, message: 10 };
    let builder = server.client().with_limits(limits);
    let (client, mut peer) = open_at(&server, builder, hello(Status::New)).await;
    client.send("a").await.unwrap();
    client.send("b").await.unwrap();
    let full = client.try_send("c").unwrap_err();
    assert_eq!(full.kind(), SendErrorKind::Full);
    let long = client.send("x".repeat(11)).await.unwrap_err();
    assert_eq!(long.kind(), SendErrorKind::TooBig);
    {
        // Cancelled while it waits: the message is not sent.
        let mut waiting = pin!(client.send("cancelled"));
        let polled = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    let acked = async {
        peer.data(2).await;
        peer.ack(1).await;
        peer.data(1).await
    };
    let (sent, data) = join!(client.send("c"), acked);
    sent.unwrap();
    assert_eq!(data, [tungstenite::Message::text("c")]);
}

#[tokio::test]
async fn a_client_that_is_offline_does_not_wait_for_room() {
    let server = Server::bind().await;
    let limits = Limits { messages: 1, ..Limits::default() };
    let builder = server.client().with_limits(limits).with_mode(Modes::Prompt);
    let (mut client, peer) = open_at(&server, builder, hello(Status::New)).await;
    client.send("a").await.unwrap();
    let sender = client.sender();
    let waiting = tokio::spawn(async move { sender.send("b").await });
    peer.reset();
    assert!(matches!(told(&mut client).await, Some(Event::Offline { .. })));
    let err = waiting.await.unwrap().unwrap_err();
    assert_eq!(err.kind(), SendErrorKind::Full);
}

#[tokio::test]
async fn reading_goes_on_while_writing_is_blocked() {
    const COUNT: usize = 32;
    let big = "x".repeat(1 << 20);
    let server = Server::bind().await;
    let limits = Limits { bytes: COUNT << 20, ..Limits::default() };
    let wide = Hello { window: Window { messages: 256, bytes: 64 << 20 }, ..hello(Status::New) };
    let (mut client, mut peer) = open_at(&server, server.client().with_limits(limits), wide).await;
    for _ in 0..COUNT {
        client.try_send(big.as_str()).unwrap();
    }
    // The server writes all before it reads anything: both directions are full at once.
    let reply = async {
        for _ in 0..COUNT {
            peer.send(&big).await;
        }
        peer.data(COUNT).await.len()
    };
    let received = async {
        for _ in 0..COUNT {
            assert_eq!(client.recv().await.unwrap().len(), big.len());
        }
    };
    assert_eq!(join!(reply, received).0, COUNT);
}

#[tokio::test]
async fn a_silent_server_and_a_silent_attach_are_noticed() {
    let server = Server::bind().await;
    let quick = Hello { heartbeat_ms: 1, ..hello(Status::New) };
    let (mut client, peer) = open_at(&server, server.client(), quick).await;
    let silent = client.recv_event().await;
    assert!(
        matches!(silent, Some(Event::Waiting { cause: Cause::Silent, .. } | Event::Connecting)),
        "{silent:?}"
    );
    assert_eq!(server.accept().await.cursor, "s.e.0.1");
    drop(peer);

    let server = Server::bind().await;
    let builder = server.client().with_attach_timeout(Duration::from_millis(1));
    assert_eq!(failed(builder.connect()).await, Cause::TimedOut);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_or_does_not_speak_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let cause = failed(Client::connect(format!("ws://{address}/"))).await;
    assert!(matches!(cause, Cause::Unreachable(_)), "{cause:?}");

    let server = Server::bind().await;
    let (cause, _peer) = join!(failed(server.client().connect()), server.accept_with(&[]));
    assert_eq!(cause, Cause::NotSpoken);

    let config = Client::connect("http://localhost/").await.unwrap_err();
    let expected = ConfigError::Url { url: "http://localhost/".into() };
    assert_eq!(config, ConnectError::Config(expected));
}

#[tokio::test]
async fn connections_are_made_as_the_application_says() {
    let server = Server::bind().await;
    let (address, asked) = (server.address(), Arc::new(Mutex::new(Vec::new())));
    let urls = Arc::clone(&asked);
    let builder = Client::builder("ws://nowhere.invalid:1/live").with_connector(move |url| {
        urls.lock().unwrap().push(url.to_string());
        TcpStream::connect(address)
    });
    let (mut client, peer) = open_at(&server, builder, hello(Status::New)).await;
    assert_eq!(*asked.lock().unwrap(), ["ws://nowhere.invalid:1/live"]);
    peer.reset();
    let mut peer = server.accept().await;
    peer.hello(resumed(0, 0)).await;
    peer.send("0").await;
    assert_eq!(client.recv().await, Some("0".into()));

    let broken = Client::builder("ws://nowhere.invalid/")
        .with_connector(|_| async { Err::<TcpStream, _>(io::Error::other("no such tunnel")) });
    assert_eq!(failed(broken.connect()).await, Cause::Unreachable("no such tunnel".into()));
}

#[tokio::test]
async fn clients_with_one_jar_are_one_browser() {
    const COOKIE: &[(&str, &str)] =
        &[("sec-websocket-protocol", "session-resume.v1"), ("set-cookie", "sr_id=one")];
    let server = Server::bind().await;
    let jar = CookieJar::new();
    let (first, peer) = join!(server.client().with_cookie_jar(&jar).connect(), async {
        let mut peer = server.accept_with(COOKIE).await;
        peer.hello(hello(Status::New)).await;
        peer
    });
    assert_eq!((first.unwrap().cookies(), peer.cookie), ("sr_id=one".to_owned(), None));
    let builder = server.client().with_cookie_jar(&jar);
    let (_second, peer) = open_at(&server, builder, hello(Status::Reused)).await;
    assert_eq!(peer.cookie.as_deref(), Some("sr_id=one"));
}

#[tokio::test]
async fn an_address_of_ipv6_is_reached() {
    // Not every machine has one.
    let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
    let url = format!("ws://{}/live", listener.local_addr().unwrap());
    let _client = Client::builder(url).start().unwrap();
    listener.accept().await.unwrap();
}

/// No server, so no socket that the paused clock could overtake.
#[tokio::test(start_paused = true)]
async fn attempts_go_on_and_waits_grow_while_there_is_no_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    drop(listener);
    let mut client = Client::builder(url).start().unwrap();
    let mut waits = Vec::new();
    while waits.len() < 10 {
        if let Some(Event::Waiting { attempt, delay, .. }) = client.recv_event().await {
            waits.push((attempt, delay));
        }
    }
    for (failed, (attempt, delay)) in (1..).zip(waits) {
        assert_eq!(attempt, failed + 1);
        assert!(delay <= Duration::from_millis(20_000.min(500 << (failed - 1))));
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_told_so() {
    let server = Server::bind().await;
    let reply = async {
        let mut peer = server.accept().await;
        peer.send("data before the hello").await;
        peer.closed().await
    };
    let (cause, code) = join!(failed(server.client().connect()), reply);
    assert!(matches!(cause, Cause::Protocol(_)), "{cause:?}");
    // The future, and with it the client, may be gone before the close frame is.
    assert!(matches!(code, Some(4103) | None), "{code:?}");
}

#[cfg(feature = "rustls-tls-webpki-roots")]
#[tokio::test]
async fn a_server_without_tls_is_not_reached_by_wss() {
    let server = Server::bind().await;
    let url = format!("wss://{}/live", server.address());
    let connecting = failed(Client::connect(url));
    let (cause, ()) = join!(connecting, server.answer_nonsense());
    assert!(matches!(cause, Cause::Unreachable(_)), "{cause:?}");
}

/// Whether a test's application is asked before its queue goes to another session.
#[derive(PartialEq, Eq)]
enum Says {
    Nothing,
    Something,
}

/// A client whose first session is gone, and the next one with what the server has sent there: of `doubt` it is not known
/// whether it was handled, `one` and `two` are queued.
async fn meets_another(
    says: Says,
    builder: impl FnOnce(Builder) -> Builder,
) -> (Server, Client, Peer) {
    let server = Server::bind().await;
    let new = Hello { received: None, ..hello(Status::New) };
    let (mut client, mut peer) = open_at(&server, builder(server.client()), new.clone()).await;
    client.send("doubt").await.unwrap();
    if says == Says::Something {
        assert_eq!(told(&mut client).await, Some(Event::NewSession { session: token("s") }));
        let next = timeout(Duration::ZERO, client.recv_event()).await;
        assert!(next.is_err(), "{next:?}");
    }
    while peer.data(1).await != [tungstenite::Message::text("doubt")] {}
    peer.reset();
    let mut peer = server.accept().await;
    client.send("one").await.unwrap();
    client.send("two").await.unwrap();
    peer.hello(Hello { session: token("t"), ..new }).await;
    (server, client, peer)
}

#[tokio::test]
async fn an_application_has_its_say_before_the_queue_goes_to_another_session() {
    let asked = Arc::new(Mutex::new(0));
    let times = Arc::clone(&asked);
    let (_server, mut client, mut peer) = meets_another(Says::Something, |builder| {
        builder.with_new_session_event().with_initial(move || {
            *times.lock().unwrap() += 1;
            [format!("initial {}", times.lock().unwrap())]
        })
    })
    .await;
    let doubt = texts(["initial 1", "doubt"]);
    assert_eq!(told(&mut client).await, Some(Event::InDoubt(doubt.clone())));
    assert_eq!(told(&mut client).await, Some(Event::NewSession { session: token("t") }));
    assert_eq!((client.queued(), client.in_doubt()), (texts(["one", "two"]), doubt));
    let queued = client.take_queued();
    let doubt = client.take_in_doubt();
    for message in doubt.into_iter().chain(queued).filter(|message| *message != "one".into()) {
        client.send(message).await.unwrap();
    }
    client.sender().send("three").await.unwrap();
    // The server hears the client, and nothing of the queue.
    peer.message(tungstenite::Message::Ping("?".into())).await;
    assert_eq!(peer.next().await, tungstenite::Message::Pong("?".into()));
    assert_eq!(*asked.lock().unwrap(), 1, "for the first session");
    let rest = async {
        let data = peer.data(5).await;
        peer.send("heard").await;
        data
    };
    // Before the heartbeat, which would send everything, too.
    let heard = timeout(Duration::from_secs(10), async { join!(client.recv(), rest) });
    let (event, data) = heard.await.expect("the queue goes on at once");
    assert_eq!(event, Some("heard".into()));
    let expected = ["initial 2", "initial 1", "doubt", "two", "three"];
    assert_eq!(data, expected.map(tungstenite::Message::text));
    assert_eq!((client.queued(), client.in_doubt()), (vec![], vec![]));
    peer.ack(5).await;
    let (closed, _) = join!(client.close(), peer.closed());
    assert_eq!(closed, Ok(()));
}

#[tokio::test]
async fn what_initial_returns_goes_first_without_an_event() {
    let (_server, client, mut peer) =
        meets_another(Says::Nothing, |builder| builder.with_initial(|| Some("hi"))).await;
    assert_eq!(peer.data(3).await, ["hi", "one", "two"].map(tungstenite::Message::text));
    assert_eq!(client.in_doubt(), []);
    let (_server, client, mut peer) = meets_another(Says::Nothing, |builder| builder).await;
    assert_eq!(peer.data(2).await, ["one", "two"].map(tungstenite::Message::text));
    assert_eq!(client.in_doubt(), []);
}

#[tokio::test]
async fn a_full_queue_that_waits_for_the_application_is_an_error_and_not_a_deadlock() {
    let (_server, mut client, mut peer) = meets_another(Says::Something, |builder| {
        let limits = Limits { messages: 3, ..Limits::default() };
        builder.with_limits(limits).with_new_session_event()
    })
    .await;
    // Before it has taken the event, and before it goes on.
    client.send("three").await.unwrap();
    let full = client.send("four").await.unwrap_err();
    assert_eq!(full.kind(), SendErrorKind::Full);
    while !matches!(told(&mut client).await, Some(Event::NewSession { .. })) {}
    assert_eq!(client.take_queued(), texts(["one", "two", "three"]));
    for text in ["four", "five", "six"] {
        client.send(text).await.unwrap();
    }
    let full = client.send("seven").await.unwrap_err();
    assert_eq!(full.kind(), SendErrorKind::Full);
    // With the next call it goes on, and `send` waits again.
    let next = timeout(Duration::ZERO, client.recv_event()).await;
    assert!(next.is_err(), "{next:?}");
    let served = async {
        let data = peer.data(3).await;
        peer.ack(3).await;
        data
    };
    let (sent, data) = join!(client.send("seven"), served);
    sent.unwrap();
    assert_eq!(data, ["four", "five", "six"].map(tungstenite::Message::text));
    assert_eq!(peer.data(1).await, [tungstenite::Message::text("seven")]);
}

#[tokio::test]
async fn a_client_that_is_closed_in_its_say_delivers_the_queue() {
    let (_server, client, mut peer) =
        meets_another(Says::Something, Builder::with_new_session_event).await;
    let served = async {
        let data = peer.data(2).await;
        peer.ack(2).await;
        peer.closed().await;
        data
    };
    let (closed, data) = join!(client.close(), served);
    assert_eq!(data, ["one", "two"].map(tungstenite::Message::text));
    let undelivered = closed.unwrap_err();
    assert_eq!((undelivered.in_doubt, undelivered.unsent), (texts(["doubt"]), vec![]));
}

#[tokio::test]
async fn what_is_taken_out_makes_room() {
    let server = Server::bind().await;
    let limits = Limits { messages: 1, ..Limits::default() };
    let client = server.client().with_limits(limits).start().unwrap();
    client.send("a").await.unwrap();
    let mut waiting = pin!(client.send("b"));
    // There is nothing else that would wake it: the server answers nothing.
    for _ in 0..100 {
        tokio::task::yield_now().await;
        let polled = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
    }
    assert_eq!(client.take_queued(), texts(["a"]));
    timeout(Duration::from_secs(10), waiting).await.expect("there is room").unwrap();
    assert_eq!(client.queued(), texts(["b"]));
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<Message> {
    texts.into_iter().map(Message::text).collect()
}
