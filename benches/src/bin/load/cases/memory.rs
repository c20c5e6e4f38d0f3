//! Resident memory per live connection, and heap per suspended session.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, routing::any};
use futures_core::Stream;
use futures_sink::Sink;
use session_resume::{
    LiveSession, SessionResume,
    adapter::Upgrade,
    transport::{Frame, TransportError},
};
use session_resume_benches::{counting, measure::Samples};
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::{Named, Speech, Subject, client_runtime, ours, reconnect, with_peer};
use crate::{
    client::{Connection, Mode},
    report::{Baseline, Bound, Report},
};

const CONNECTIONS: usize = 2_000;
const SESSIONS: usize = 20_000;
/// Fewer: raw axum keeps a megabyte for each.
const USED: usize = 1_000;
const ROUNDS: usize = 3;
/// A burst that each connection echoes, how many messages of which size it has, and the most KB of RSS after it.
const BURSTS: [(&str, u64, usize, f64); 2] =
    [("100 × 1 KiB", 100, 1 << 10, 8.0), ("1 × 500 KB", 1, 500_000, 12.0)];
/// Until then the server has asked a plain client for a confirmation. It does so within a second.
const ASKED: Duration = Duration::from_millis(1_500);
/// Until then the server has read what the clients have written.
const READ: Duration = Duration::from_millis(200);
/// The most heap that a suspended session takes, in bytes.
const SUSPENDED: f64 = 1024.0;
/// And the most that 100 messages of 200 B take there.
const SUSPENDED_FULL: f64 = 24_000.0;
/// Fewer for the peer: each session comes over a real socket.
const PEER_SESSIONS: usize = 3_000;
const PEER_WARM_UP: usize = 1_000;
const MISSED: &str = "/missed/100";

pub(super) fn run(report: &mut Report) {
    let measured = client_runtime().block_on(live_connections());
    if let [_, (_, small), ..] = &measured[..] {
        let baseline = Baseline { design: 5.7, here: small.median() };
        let (ours, bound) = (ours(&measured), Bound::AtMost(5.0));
        report.target_beside("RSS per live connection", "KB", ours, bound, baseline);
    }
    report.compare("live connection, idle", "KB RSS", measured);

    for (burst, count, size, most) in BURSTS {
        let (resident, heap) = client_runtime().block_on(used_connections(count, size));
        let (bound, target) = (Bound::AtMost(most), format!("RSS per connection after {burst}"));
        report.target(&target, "KB", ours(&resident), bound);
        let case = format!("live connection after {burst}");
        report.compare(&case, "KB RSS", resident);
        report.compare(&case, "KB heap", heap);
    }

    let (empty, full) = client_runtime().block_on(suspended_sessions(SESSIONS));
    report.target("heap per suspended session", "B", empty, Bound::AtMost(SUSPENDED));
    report.target("with 100 × 200 B more", "B", full, Bound::AtMost(SUSPENDED_FULL));
    report.add("suspended session", "handler in recv, empty", "B heap", empty.into());
    report.add("suspended session", "100 × 200 B more", "B heap", full.into());
    for subject in with_peer(&[], "Socket.IO with recovery") {
        client_runtime().block_on(suspended_at_peer(report, subject));
    }
}

async fn live_connections() -> Vec<(String, Samples)> {
    let subjects = [
        ("axum", "raw-each", Speech::Plain),
        ("axum, 4 KiB read buffer", "raw-each-4k", Speech::Plain),
        ("session-resume, plain clients", "resume", Speech::Plain),
        ("session-resume, resuming clients", "resume", Speech::Resumable),
    ];
    let subjects = with_peer(&subjects, "Socket.IO with recovery");
    let mut samples = vec![Samples::default(); subjects.len()];
    for _ in 0..ROUNDS {
        for (subject, samples) in subjects.iter().zip(&mut samples) {
            // A new process: what an earlier round has freed would hide what this one takes.
            let subject = Subject::start(*subject);
            subject.server.get("/stats").await;
            let before = subject.server.stats().await.resident;
            let mut connections = Vec::new();
            for client in 0..CONNECTIONS {
                connections.push(connect(&subject, client).await);
            }
            let after = subject.server.stats().await.resident;
            samples.push((after - before) / 1e3 / CONNECTIONS as f64);
        }
    }
    subjects.iter().map(|(name, ..)| (*name).to_owned()).zip(samples).collect()
}

/// Resident memory and heap of each connection after a burst. Its client has read and acknowledged all of it.
async fn used_connections(
    count: u64,
    size: usize,
) -> (Vec<(String, Samples)>, Vec<(String, Samples)>) {
    let subjects = [
        ("axum, 4 KiB read buffer", "raw-each-4k", Speech::Plain),
        ("session-resume, plain clients", "resume", Speech::Plain),
        ("session-resume, resuming clients", "resume", Speech::Resumable),
    ];
    let named = subjects.map(|(name, ..)| (name.to_owned(), Samples::default()));
    let (mut resident, mut heap) = (named.to_vec(), named.to_vec());
    for _ in 0..ROUNDS {
        for (at, subject) in subjects.into_iter().enumerate() {
            let subject = Subject::start(subject);
            subject.server.heap().await;
            let heap_before = subject.server.heap().await.bytes;
            let before = subject.server.stats().await.resident;
            let mut connections = Vec::new();
            for client in 0..USED {
                let mut connection = connect(&subject, client).await;
                burst(&mut connection, count, size).await.expect("the connection holds");
                connections.push(connection);
            }
            tokio::time::sleep(ASKED).await;
            for connection in &mut connections {
                connection.settle().await.expect("the connection holds");
            }
            tokio::time::sleep(READ).await;
            let after = subject.server.stats().await.resident;
            let heap_after = subject.server.heap().await.bytes;
            let of_each = |bytes: f64| bytes / 1e3 / USED as f64;
            resident[at].1.push(of_each(after - before));
            heap[at].1.push(of_each(heap_after - heap_before));
        }
    }
    (resident, heap)
}

/// Has messages of this size echoed, which leave all at once.
async fn burst(connection: &mut Connection, count: u64, size: usize) -> io::Result<()> {
    connection.resize(size + (4 << 10));
    connection.queue_text(&vec![b'm'; size], count);
    connection.flush().await?;
    connection.receive_all(count).await?;
    connection.settle().await?;
    connection.resize(1 << 10);
    Ok(())
}

/// Connects and has one message echoed, so that every buffer has been used.
async fn connect(subject: &Subject, client: usize) -> Connection {
    let mode = subject.speech.fresh(client);
    let opened = Connection::open(subject.server.addr, "/echo", mode, None, 1 << 10).await;
    let mut connection = opened.expect("the server takes all clients");
    connection.greeted().await.expect("the server greets");
    connection.queue_text(b"hello", 1);
    connection.flush().await.expect("the connection holds");
    connection.receive().await.expect("the server echoes");
    connection
}

/// Returns bytes per empty session, and how many more 100 messages of 200 B take.
async fn suspended_sessions(sessions: usize) -> (f64, f64) {
    let resume = SessionResume::new();
    let router = Router::new().route("/", any(attach_and_leave)).with_state(());
    let mut service = resume.layer(router);
    let mut start = |sessions: usize| {
        let calls = (0..sessions).map(|_| {
            // Without a cookie each request is a browser of its own.
            let Ok(_) = futures_executor::block_on(service.call(Request::new(Body::empty())));
        });
        calls.count()
    };
    // First what the registry makes once, and the first pages of the tasks.
    start(1_000);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let counter = counting::start();
    start(sessions);
    // Until then the handlers come to their `recv`.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let made = counter.stop().live_bytes;
    let counter = counting::start();
    for info in resume.sessions() {
        let session = resume.get(info.id).expect("it was listed");
        for _ in 0..100 {
            session.try_send("m".repeat(200)).expect("an outbox has room for 100");
        }
    }
    let sent = counter.stop().live_bytes;
    let all = resume.sessions().len() as f64;
    (made as f64 / sessions as f64, sent as f64 / all)
}

/// The same for the peer: by how much its process grows, without garbage. Each of its sessions has received one
/// message, which the log keeps: a client comes back with the offset of a message.
async fn suspended_at_peer(report: &mut Report, subject: Named) {
    let subject = Subject::start(subject);
    // First what the peer makes once.
    visit(&subject, PEER_WARM_UP).await;
    let before = kept(&subject).await;
    let (cookie, mode) = visit(&subject, PEER_SESSIONS).await;
    let empty = kept(&subject).await;
    reconnect::miss(&subject, 100).await;
    let full = kept(&subject).await;
    // All messages must be there.
    let addr = subject.server.addr;
    let opened = Connection::open(addr, MISSED, mode, cookie.as_deref(), 32 << 10).await;
    let mut connection = opened.expect("the server takes the client");
    reconnect::receive_missed(&mut connection, subject.speech, 100).await;
    let all = PEER_WARM_UP + PEER_SESSIONS;
    for (unit, of) in [("B heap", 0), ("B RSS", 1)] {
        let mut add = |what: &str, bytes: f64, sessions: usize| {
            let name = format!("{}, {what}", subject.name);
            report.add("suspended session", &name, unit, (bytes / sessions as f64).into());
        };
        add("empty but for its offset", empty[of] - before[of], PEER_SESSIONS);
        add("100 × 200 B more", full[of] - empty[of], all);
    }
}

/// Makes `clients` first visits, one after the other. Returns how the last of these clients comes back.
async fn visit(subject: &Subject, clients: usize) -> (Option<String>, Mode) {
    for _ in 1..clients {
        reconnect::first_visit(subject, MISSED).await;
    }
    reconnect::first_visit(subject, MISSED).await
}

/// The peer's heap and resident bytes when all are gone.
async fn kept(subject: &Subject) -> [f64; 2] {
    subject.settle(Duration::ZERO).await;
    let text = subject.server.get("/heap").await;
    let (heap, resident) = text.split_once(' ').expect("two numbers");
    [heap, resident].map(|number| number.parse().expect("a number"))
}

/// A plain client that is gone at once; the session and its handler stay.
async fn attach_and_leave(request: Request) -> &'static str {
    let (parts, _) = request.into_parts();
    let upgrade = Upgrade::<()>::prepare(&parts).await.expect("there is room");
    let handler = async |mut live: LiveSession| while live.recv().await.is_some() {};
    let attach = upgrade.on_session(handler).expect("nobody else has it");
    attach.run(Gone).await;
    "ok"
}

/// A transport whose peer has left.
struct Gone;

impl Stream for Gone {
    type Item = Result<Frame, TransportError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

impl Sink<Frame> for Gone {
    type Error = TransportError;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, _: Frame) -> Result<(), TransportError> {
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It counts what the whole process allocates, so it is the only test of this program. A new field of a session that is
    /// too large turns it red, and so does a box that a suspended session keeps for nothing.
    #[test]
    fn a_suspended_session_is_small() {
        // Of tables that double, the places are most when they have just grown. These are as many as the bench has.
        let (empty, full) = client_runtime().block_on(suspended_sessions(SESSIONS));
        assert!((600.0..=SUSPENDED).contains(&empty), "{empty} B");
        assert!((20_000.0..=SUSPENDED_FULL).contains(&full), "{full} B more with 100 messages");
    }
}
