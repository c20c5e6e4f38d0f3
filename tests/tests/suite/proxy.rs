//! The proxies of the docs in front of the testee.

use std::{net::SocketAddr, time::Duration};

use http::Request;
use session_resume_client::{Backoff, Client, Transport};
use session_resume_testkit::{Browser, soon};
use session_resume_tests::{Framework, scenarios};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::{
    client,
    proxies::{Kind, Proxy},
    requests::{Streamed, only},
    testee,
};

scenarios!(
    nginx_passes_sessions_on,
    haproxy_passes_sessions_on,
    apache_passes_sessions_on,
    caddy_passes_sessions_on,
    varnish_passes_sessions_on,
);

async fn nginx_passes_sessions_on(framework: Framework) {
    passes_sessions_on(framework, Kind::Nginx).await;
}

async fn haproxy_passes_sessions_on(framework: Framework) {
    passes_sessions_on(framework, Kind::HaProxy).await;
}

async fn apache_passes_sessions_on(framework: Framework) {
    passes_sessions_on(framework, Kind::Apache).await;
}

async fn caddy_passes_sessions_on(framework: Framework) {
    passes_sessions_on(framework, Kind::Caddy).await;
}

async fn varnish_passes_sessions_on(framework: Framework) {
    passes_sessions_on(framework, Kind::Varnish).await;
}

async fn passes_sessions_on(framework: Framework, kind: Kind) {
    let testee = testee(framework, "--plain-http").await;
    let Some(mut proxy) = Proxy::start(kind, testee.addr).await else {
        return;
    };
    upgrades_cookies_and_origins_pass(proxy.address).await;
    a_stream_comes_as_it_is_to_a_browser_that_takes_gzip(proxy.address).await;
    for transport in [Transport::WebSocket, Transport::Sse, Transport::Poll] {
        nothing_is_lost_or_doubled(&mut proxy, transport).await;
    }
}

async fn upgrades_cookies_and_origins_pass(proxy: SocketAddr) {
    let browser = Browser::at(proxy);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    assert_eq!(hello["status"], "new");
    ws.send("add 2").await;
    assert_eq!(ws.data().await, "total:2");
    drop(ws);
    let at = format!(
        "{}.{}.{}.1",
        client('a'),
        hello["session"].as_str().unwrap(),
        hello["epoch"].as_str().unwrap()
    );
    let mut ws = browser.resumable("/live", &at).await;
    assert_eq!(ws.member("hello").await["status"], "resumed");

    // The page's own origin has the port in it, and so has the Host that reaches the server.
    let own = format!("http://{proxy}");
    for (origin, status) in [(own.as_str(), "101"), ("http://foe.example", "403")] {
        assert_eq!(upgrade_from(proxy, origin).await, status, "{origin}");
    }
}

/// Compressed, its first event would wait for many others.
async fn a_stream_comes_as_it_is_to_a_browser_that_takes_gzip(proxy: SocketAddr) {
    let request = Request::get("/live/events").header("accept", "text/event-stream");
    let request = request.header("accept-encoding", "gzip");
    let mut stream = Streamed::ask(proxy, &Browser::at(proxy), request).await;
    assert_eq!(stream.status, 200);
    assert_ne!(only(&stream.headers, "content-encoding"), Some("gzip"));
    let mut text = String::new();
    while !text.contains("event: session\n") {
        text += std::str::from_utf8(&stream.piece().await.expect("it goes on")).unwrap();
    }
}

/// Messages go both ways while the proxy reads its configuration again, and then while it is killed and started again.
async fn nothing_is_lost_or_doubled(proxy: &mut Proxy, transport: Transport) {
    const MESSAGES: u64 = 90;
    let url = format!("ws://{}/live/{}", proxy.address, transport.name());
    let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(200) };
    let client = Client::builder(url).transports([transport]).with_backoff(backoff);
    let mut client = soon("the first hello", client.connect()).await.unwrap();
    assert_eq!(client.transport(), Some(transport));
    client.send(format!("every 10 {MESSAGES}")).await.unwrap();
    let (mut emitted, mut said) = (0, 0);
    while emitted < MESSAGES || said < MESSAGES {
        let message = soon("the next message", client.recv()).await.expect("it goes on");
        let text = message.as_text().unwrap();
        if let Some(number) = text.strip_prefix("e:") {
            assert_eq!(number, format!("{emitted}:"), "{transport:?}");
            emitted += 1;
            client.send(format!("say {emitted}")).await.unwrap();
            match emitted {
                30 => proxy.reload(),
                60 => proxy.restart().await,
                _ => {}
            }
        } else {
            said += 1;
            assert_eq!(text, said.to_string(), "{transport:?}");
        }
    }
    client.close().await.unwrap();
}

/// Returns the status of an upgrade from a page of this origin.
async fn upgrade_from(proxy: SocketAddr, origin: &str) -> String {
    let request = format!(
        "GET /live HTTP/1.1\r\nhost: {proxy}\r\norigin: {origin}\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    soon("the status of an upgrade", async {
        let mut stream = BufReader::new(TcpStream::connect(proxy).await.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    })
    .await
}
