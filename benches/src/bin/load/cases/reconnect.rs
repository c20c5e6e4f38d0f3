//! One client comes back and has missed 0, 100, or 10,000 messages of 200 B: from TCP connect to the last one.

use std::time::{Duration, Instant};

use session_resume_benches::measure::Samples;

use super::{Speech, Subject, client_runtime, micros, ours, with_peer};
use crate::{
    client::{Connection, Mode},
    report::{Baseline, Bound, Report},
};

pub(super) fn run(report: &mut Report) {
    for (missed, rounds, bound, design) in
        [(0, 200, 250.0, 201.0), (100, 200, 250.0, 173.0), (10_000, 40, 2_000.0, 1_542.0)]
    {
        let case = format!("reconnect, {missed} missed");
        let measured = client_runtime().block_on(measure(missed, rounds));
        if let [(_, axum), ..] = &measured[..] {
            let baseline = Baseline { design, here: axum.median() };
            report.target_beside(&case, "µs", ours(&measured), Bound::AtMost(bound), baseline);
        }
        report.compare(&case, "µs", measured);
    }
}

async fn measure(missed: u64, rounds: usize) -> Vec<(String, Samples)> {
    let subjects = [
        ("axum, feed and one flush", "raw-batch", Speech::Plain),
        ("axum, feed and one flush, 4 KiB read buffer", "raw-batch-4k", Speech::Plain),
        ("session-resume, resuming client", "resume", Speech::Resumable),
    ];
    let subjects = with_peer(&subjects, "Socket.IO with recovery");
    let subjects = subjects.into_iter().map(Subject::start).collect::<Vec<_>>();
    let path = format!("/missed/{missed}");
    let mut returning = Vec::new();
    for subject in &subjects {
        returning.push(first_visit(subject, &path).await);
        miss(subject, missed).await;
    }
    let mut samples = vec![Samples::default(); subjects.len()];
    for _ in 0..rounds {
        for ((subject, (cookie, mode)), samples) in
            subjects.iter().zip(&returning).zip(&mut samples)
        {
            let start = Instant::now();
            let cookie = cookie.as_deref();
            let opened =
                Connection::open(subject.server.addr, &path, mode.clone(), cookie, 1 << 20);
            let mut connection = opened.await.expect("the server takes the client");
            // Without acknowledgements the server sends all of it again the next time.
            connection.acknowledges = false;
            receive_missed(&mut connection, subject.speech, missed).await;
            samples.push(micros(start.elapsed()));
            // The client's acknowledgement and the drop are not part of the measurement.
            connection.flush().await.expect("the connection holds");
            drop(connection);
            subject.settle(Duration::from_millis(3)).await;
        }
    }
    subjects.iter().map(|subject| subject.name.to_owned()).zip(samples).collect()
}

/// Makes the session; returns how its client comes back.
pub(super) async fn first_visit(subject: &Subject, path: &str) -> (Option<String>, Mode) {
    if subject.speech == Speech::Plain {
        return (None, Mode::Plain);
    }
    let mode = subject.speech.fresh(0);
    let opened = Connection::open(subject.server.addr, path, mode, None, 4 << 10).await;
    let mut connection = opened.expect("the server takes the client");
    connection.acknowledges = false;
    let early = connection.greeted().await.expect("the server greets");
    if subject.speech == Speech::SocketIo && early == 0 {
        connection.receive_all(1).await.expect("the first event, which names an offset");
    }
    (connection.cookie.clone(), connection.returning().expect("greeted"))
}

/// Makes the peer's server send `count` messages to each client that is gone. The other servers do so by
/// themselves.
pub(super) async fn miss(subject: &Subject, count: u64) {
    if subject.speech == Speech::SocketIo {
        subject.server.get(&format!("/miss?count={count}&size=200")).await;
    }
}

/// Receives what was missed. Our server greets first, raw axum sends as many messages, the peer greets last.
pub(super) async fn receive_missed(connection: &mut Connection, speech: Speech, missed: u64) {
    let greeted = connection.greeted().await.expect("the server greets");
    let more = match speech {
        Speech::Plain => missed + 1,
        Speech::Resumable => missed.saturating_sub(greeted),
        Speech::SocketIo => {
            assert_eq!(greeted, missed, "all that was missed comes before the greeting");
            0
        }
    };
    connection.receive_all(more).await.expect("all that was missed comes");
}
