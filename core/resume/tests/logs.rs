//! No secret is in any log line. A process of its own: tracing caches which events matter process-wide.

#[allow(dead_code, unused_imports, reason = "the helpers of the suite")]
#[path = "suite/support/mod.rs"]
mod support;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, header};
use session_resume::{Attach, SessionResume, adapter::Upgrade, key};
use tracing::{Level, subscriber::DefaultGuard};
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Browser, echo, idle, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// Collects what this thread logs at this level and above, as long as the guard lives.
    fn of(level: Level) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn no_secret_is_in_any_log_line() {
    let (lines, _default) = Lines::of(Level::TRACE);

    let resume = SessionResume::new().with_key(key::by_header("x-room"));
    let mut browser = Browser::default();
    let room = "room-that-nobody-may-know";
    let parts = browser
        .enter(&resume, Request::get("/?token=secret-in-query").header("x-room", room))
        .await;
    let session = session_resume::adapter::open::<()>(&parts).await.unwrap();
    let client = "client-secret-000";
    let mut secrets = vec![room.to_owned(), "secret-in-query".to_owned(), client.to_owned()];
    secrets.push(session.identity().to_string());
    secrets.push(session.id().to_string());
    secrets.push(browser.cookie.clone().unwrap().split_once('=').unwrap().1.to_owned());
    secrets.push("secret-payload".to_owned());

    let mut wire = browser.connect(&resume, Some(client), echo).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    secrets.push(hello["epoch"].as_str().unwrap().to_owned());
    wire.text("secret-payload");
    settle().await;
    wire.control(r#"{"ack":99,"x":"secret-payload"}"#);
    wire.closed().await;
    // Every kind of refusal.
    for at in [
        format!("{client}.{}.{}.77", hello["session"].as_str().unwrap(), secrets[7]),
        format!("{client}.bad"),
        client.to_owned(),
    ] {
        let _ = browser.connect(&resume, Some(&at), idle).await;
    }
    let foreign = Request::get("/live")
        .header(header::UPGRADE, "websocket")
        .header(header::HOST, "here.example")
        .header(header::ORIGIN, "https://there.example");
    let parts = browser.enter(&resume, foreign).await;
    assert!(Upgrade::<()>::prepare(&parts).await.is_err());
    for _ in 0..9 {
        browser.connect(&resume, None, echo).await.unwrap();
        settle().await;
    }
    let change = session.cycle_identity();
    let cookie = change.set_cookie().unwrap().to_str().unwrap();
    secrets.push(cookie.split(['=', ';']).nth(1).unwrap().to_owned());
    secrets.push(session.identity().to_string());
    // Of another layer: what is signed with another key is told once.
    let foreign = browser.cookie.clone();
    let other = SessionResume::new();
    for _ in 0..3 {
        Browser { cookie: foreign.clone() }.enter(&other, Request::get("/")).await;
    }
    let _ = resume.drain(Duration::from_secs(1)).await;
    session.close("over");
    tokio::time::advance(Duration::from_secs(1000)).await;
    sleep(500.0).await;

    let log = lines.text();
    for event in ["session started", "attached", "superseding", "session ended", "drained"] {
        assert!(log.contains(event), "the log has all events: {event}\n{log}");
    }
    assert_eq!(log.matches("signed with another key").count(), 1, "{log}");
    let debug = format!("{resume:?} {session:?} {parts:?} {change:?}", parts = parts.extensions);
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in\n{log}");
    }
    assert!(!debug.contains("room-that"), "{debug}");
}

/// Two tabs with a library that reconnects by itself: the log says what to do, once a circle.
#[tokio::test(start_paused = true)]
async fn tabs_that_take_the_session_from_each_other_are_told_of_with_the_remedy() {
    let (lines, _default) = Lines::of(Level::WARN);
    for (attach, told) in [(Attach::Takeover, 1), (Attach::Share, 0)] {
        lines.0.lock().unwrap().clear();
        let (resume, mut browser) = (SessionResume::new().with_attach(attach), Browser::default());
        let mut tabs = Vec::new();
        for _ in 0..12 {
            tabs.push(browser.connect(&resume, None, idle).await.unwrap());
            settle().await;
        }
        let log = lines.text();
        assert_eq!(log.matches("with_attach(Attach::Share)").count(), told, "{log}");
    }
}

/// Two rooms under the default key: a browser hides the answer from its console, so the log has it, once.
#[tokio::test(start_paused = true)]
async fn two_routes_that_meet_in_one_session_are_told_of_once() {
    let (lines, _default) = Lines::of(Level::WARN);
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let _wire = browser.connect(&resume, None, echo).await.unwrap();
    for at in [None, Some("client-aaaaaaaaaa"), None] {
        if let Ok(mut wire) = browser.connect(&resume, at, idle).await {
            assert_eq!(wire.closed().await.0, 4101);
        }
    }
    let log = lines.text();
    assert_eq!(log.matches("with_key(key::by_path())").count(), 1, "{log}");
}

/// A page whose cookies are withheld starts anew each time: the log says why, once, and only of those that come back.
#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_without_a_cookie_is_told_of_once_with_the_remedy() {
    let (lines, _default) = Lines::of(Level::WARN);
    let resume = SessionResume::new();
    let mut browser = Browser::default();
    let mut wire = browser.connect(&resume, Some(CLIENT), echo).await.unwrap();
    let told = wire.next_control().await["hello"].take();
    let text = |name: &str| told[name].as_str().unwrap().to_owned();
    let at = format!("{CLIENT}.{}.{}.0.{}", text("session"), text("epoch"), told["attachment"]);
    drop(browser.connect(&resume, Some(&at), echo).await.unwrap());
    drop(Browser::default().connect(&resume, Some(CLIENT), echo).await.unwrap());
    assert_eq!(lines.text(), "", "it comes back with its cookie, or for the first time");
    for _ in 0..3 {
        // It keeps no cookie.
        let upgrade = Browser::default().first_upgrade(&resume, Some(&at)).await.unwrap();
        let mut wire = support::open(upgrade, echo).unwrap();
        assert_eq!(wire.next_control().await["hello"]["status"], "new");
    }
    let log = lines.text();
    assert_eq!(log.matches("with_partitioned(true)").count(), 1, "{log}");
}

/// A developer whose page is refused finds the remedy in the log, once for each origin.
#[tokio::test(start_paused = true)]
async fn a_foreign_origin_is_named_once_with_the_remedy() {
    let (lines, _default) = Lines::of(Level::WARN);
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let many = (0..100).map(|port| format!("https://many.example:{port}"));
    let origins = ["https://there.example", "http://here.example:5173", "https://there.example"];
    for origin in origins.map(str::to_owned).into_iter().chain(many) {
        let upgrade = Request::get("/live")
            .header(header::UPGRADE, "websocket")
            .header(header::HOST, "here.example:3000")
            .header(header::ORIGIN, format!("{origin}{}", "x".repeat(3_000)));
        let parts = browser.enter(&resume, upgrade).await;
        let refusal = Upgrade::<()>::prepare(&parts).await.unwrap_err();
        assert_eq!(refusal.status(), 403);
        // The origin of a request that is not an upgrade is not checked, and nothing is logged.
        let page = Request::get("/").header(header::ORIGIN, &origin);
        browser.enter(&resume, page).await;
    }
    let log = lines.text();
    for (told, times) in [
        ("https://there.example", 1),
        ("http://here.example:5173", 1),
        ("AllowedOrigins::same_origin().allow(..)", 32),
        ("sent_to=\"here.example:3000\"", 32),
        ("foreign origins have been named", 1),
    ] {
        assert_eq!(log.matches(told).count(), times, "{told} in\n{log}");
    }
    assert!(log.len() < 40_000, "what a stranger sends is cut: {}", log.len());
}
