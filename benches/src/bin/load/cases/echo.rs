//! 64 messages in flight on one connection, each sent back: the server's CPU time per message there and back.

use session_resume_benches::measure::Samples;

use super::{Speech, Subject, client_runtime, micros, ours, with_peer};
use crate::{
    client::Connection,
    report::{Baseline, Bound, Report},
};

const ROUNDS: usize = 9;
const MESSAGES: u64 = 50_000;
/// Fewer for the peer, which takes many times as long for each message.
const PEER_MESSAGES: u64 = 10_000;
const IN_FLIGHT: u64 = 64;
const PAYLOAD: [u8; 64] = [b'm'; 64];

pub(super) fn run(report: &mut Report) {
    let (measured, allocated) = client_runtime().block_on(measure());
    if let [_, (_, small), ..] = &measured[..] {
        let baseline = Baseline { design: 4.5, here: small.median() };
        let (ours, bound) = (ours(&measured), Bound::AtMost(5.5));
        report.target_beside("echo, 64 in flight", "µs", ours, bound, baseline);
    }
    report.compare("echo, 64 in flight, 64 B", "µs CPU / message", measured);
    for (subject, allocated) in allocated {
        report.add("echo, 64 in flight, 64 B", &subject, "allocations / message", allocated);
    }
}

type Measured = Vec<(String, Samples)>;

async fn measure() -> (Measured, Measured) {
    let subjects = [
        ("axum", "raw-each", Speech::Plain),
        ("axum, 4 KiB read buffer", "raw-each-4k", Speech::Plain),
        ("session-resume, plain client", "resume", Speech::Plain),
        ("session-resume, resuming client", "resume", Speech::Resumable),
    ];
    let subjects = with_peer(&subjects, "Socket.IO with recovery");
    let subjects = subjects.into_iter().map(Subject::start).collect::<Vec<_>>();
    let mut connections = Vec::new();
    for subject in &subjects {
        let mode = subject.speech.fresh(0);
        let opened = Connection::open(subject.server.addr, "/echo", mode, None, 64 << 10).await;
        let mut connection = opened.expect("the server takes the client");
        connection.greeted().await.expect("the server greets");
        connections.push(connection);
    }
    let mut samples = vec![Samples::default(); subjects.len()];
    for _ in 0..ROUNDS {
        for ((subject, connection), samples) in
            subjects.iter().zip(&mut connections).zip(&mut samples)
        {
            let peer = subject.speech == Speech::SocketIo;
            let messages = if peer { PEER_MESSAGES } else { MESSAGES };
            let before = subject.server.stats().await.cpu;
            round(connection, messages).await.expect("the connection holds");
            let cpu = subject.server.stats().await.cpu - before;
            samples.push(micros(cpu) / messages as f64);
            subject.speech.rest().await;
        }
    }
    let names = || subjects.iter().map(|subject| subject.name.to_owned());
    let mut allocated = Vec::new();
    let ours = subjects.iter().filter(|subject| subject.speech != Speech::SocketIo);
    for (subject, connection) in ours.zip(&mut connections) {
        // Last: to count takes time.
        let before = subject.server.heap().await.allocations;
        round(connection, MESSAGES).await.expect("the connection holds");
        let count = subject.server.heap().await.allocations - before;
        allocated.push(Samples::from(count / MESSAGES as f64));
    }
    (names().zip(samples).collect(), names().zip(allocated).collect())
}

async fn round(connection: &mut Connection, messages: u64) -> std::io::Result<()> {
    let (mut sent, mut received) = (IN_FLIGHT, 0);
    connection.queue_text(&PAYLOAD, IN_FLIGHT);
    connection.flush().await?;
    while received < messages {
        let back = connection.receive().await?;
        received += back;
        let more = back.min(messages - sent);
        sent += more;
        connection.queue_text(&PAYLOAD, more);
        connection.flush().await?;
    }
    assert_eq!(received, messages, "each comes back once");
    Ok(())
}
