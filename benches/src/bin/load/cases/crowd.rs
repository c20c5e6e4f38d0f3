//! 2,000 clients come back at once, each having missed 0 or 100 messages of its own: until the last has all.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use session_resume_benches::measure::Samples;
use tokio::task::{JoinSet, LocalSet};

use super::{Speech, Subject, client_runtime, ours, reconnect, with_peer};
use crate::{
    client::{Connection, Mode},
    report::{Baseline, Bound, Report},
};

const CLIENTS: usize = 2_000;
const ROUNDS: usize = 7;

type Returning = Rc<Vec<(Option<String>, Mode)>>;

pub(super) fn run(report: &mut Report) {
    for (missed, bound, design) in [(0, 120.0, 80.0), (100, 200.0, 145.0)] {
        let case = format!("{CLIENTS} clients at once, {missed} missed each");
        let measured = client_runtime().block_on(LocalSet::new().run_until(measure(missed)));
        if let [(_, axum), ..] = &measured[..] {
            let baseline = Baseline { design, here: axum.median() };
            report.target_beside(&case, "ms", ours(&measured), Bound::AtMost(bound), baseline);
        }
        report.compare(&case, "ms", measured);
    }
}

async fn measure(missed: u64) -> Vec<(String, Samples)> {
    let subjects = [
        ("axum, feed and one flush, 4 KiB read buffer", "raw-batch-4k", Speech::Plain),
        ("session-resume, resuming clients", "resume", Speech::Resumable),
    ];
    // The peer searches the messages of all clients for those of each client. One such round takes long
    // enough.
    let (peer, peer_rounds) = match missed {
        0 => ("Socket.IO with recovery", ROUNDS),
        _ => ("Socket.IO with recovery (1 round)", 1),
    };
    let subjects = with_peer(&subjects, peer);
    let subjects = subjects.into_iter().map(Subject::start).collect::<Vec<_>>();
    let path: Arc<str> = format!("/missed/{missed}").into();
    let mut crowds: Vec<Returning> = Vec::new();
    for subject in &subjects {
        let mut returning = Vec::new();
        for _ in 0..CLIENTS {
            returning.push(reconnect::first_visit(subject, &path).await);
        }
        reconnect::miss(subject, missed).await;
        crowds.push(Rc::new(returning));
    }
    let mut samples = vec![Samples::default(); subjects.len()];
    for round in 0..ROUNDS {
        for ((subject, returning), samples) in subjects.iter().zip(&crowds).zip(&mut samples) {
            if subject.speech == Speech::SocketIo && round >= peer_rounds {
                continue;
            }
            let start = Instant::now();
            let connections =
                come_back(subject.server.addr, subject.speech, &path, returning, missed);
            let connections = connections.await;
            samples.push(start.elapsed().as_secs_f64() * 1e3);
            drop(connections);
            // The drops are not part of the measurement.
            subject.settle(Duration::from_millis(500)).await;
        }
    }
    subjects.iter().map(|subject| subject.name.to_owned()).zip(samples).collect()
}

async fn come_back(
    addr: SocketAddr,
    speech: Speech,
    path: &Arc<str>,
    returning: &Returning,
    missed: u64,
) -> Vec<Connection> {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (path, returning) = (Arc::clone(path), Rc::clone(returning));
        clients.spawn_local(async move {
            let (cookie, mode) = &returning[client];
            let opened = Connection::open(addr, &path, mode.clone(), cookie.as_deref(), 32 << 10);
            let mut connection = opened.await.expect("the server takes all clients");
            connection.acknowledges = false;
            reconnect::receive_missed(&mut connection, speech, missed).await;
            // Each client's acknowledgement falls into the time of the other clients.
            connection.flush().await.expect("the connection holds");
            connection
        });
    }
    clients.join_all().await
}
