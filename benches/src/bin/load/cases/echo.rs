//! 64 messages in flight on one connection, each sent back: the server's CPU time per message there and back.

use session_resume_benches::measure::Samples;

use super::{Speech, Subject, client_runtime, micros};
use crate::{
    client::{Connection, Mode},
    report::{Baseline, Bound, Report},
};

const ROUNDS: usize = 9;
const MESSAGES: u64 = 50_000;
const IN_FLIGHT: u64 = 64;
const PAYLOAD: [u8; 64] = [b'm'; 64];

pub(super) fn run(report: &mut Report) {
    let measured = client_runtime().block_on(measure());
    if let [_, (_, small), .., (_, ours)] = &measured[..] {
        let baseline = Baseline { design: 4.5, here: small.median() };
        let (ours, bound) = (ours.median(), Bound::AtMost(5.5));
        report.target_beside("echo, 64 in flight", "µs", ours, bound, baseline);
    }
    report.compare("echo, 64 in flight, 64 B", "µs CPU / message", measured);
}

async fn measure() -> Vec<(String, Samples)> {
    let subjects = [
        ("axum", "raw-each", Speech::Plain),
        ("axum, 4 KiB read buffer", "raw-each-4k", Speech::Plain),
        ("session-resume, plain client", "resume", Speech::Plain),
        ("session-resume, resuming client", "resume", Speech::Resumable),
    ]
    .map(Subject::start);
    let mut connections = Vec::new();
    for subject in &subjects {
        let mode = if subject.speech == Speech::Plain { Mode::Plain } else { Mode::fresh(0) };
        let opened = Connection::open(subject.server.addr, "/echo", mode, None, 64 << 10).await;
        let mut connection = opened.expect("the server takes the client");
        if subject.speech == Speech::Resumable {
            connection.greeted().await.expect("the server greets");
        }
        connections.push(connection);
    }
    let mut samples = vec![Samples::default(); subjects.len()];
    for _ in 0..ROUNDS {
        for ((subject, connection), samples) in
            subjects.iter().zip(&mut connections).zip(&mut samples)
        {
            let before = subject.server.stats().await.cpu;
            round(connection).await.expect("the connection holds");
            let cpu = subject.server.stats().await.cpu - before;
            samples.push(micros(cpu) / MESSAGES as f64);
        }
    }
    subjects.iter().map(|subject| subject.name.to_owned()).zip(samples).collect()
}

async fn round(connection: &mut Connection) -> std::io::Result<()> {
    let (mut sent, mut received) = (IN_FLIGHT, 0);
    connection.queue_text(&PAYLOAD, IN_FLIGHT);
    connection.flush().await?;
    while received < MESSAGES {
        let back = connection.receive().await?;
        received += back;
        let more = back.min(MESSAGES - sent);
        sent += more;
        connection.queue_text(&PAYLOAD, more);
        connection.flush().await?;
    }
    Ok(())
}
