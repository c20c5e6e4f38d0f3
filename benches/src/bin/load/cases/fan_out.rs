//! Many messages to one or 200 connections: the server's CPU time per message.

use std::{cell::Cell, rc::Rc};

use session_resume_benches::measure::Samples;
use tokio::{sync::Notify, task::LocalSet};

use super::{Speech, Subject, client_runtime, micros, ours, with_peer};
use crate::{
    client::{Connection, Server},
    report::{Baseline, Bound, Report},
};

const ROUNDS: usize = 9;
/// Messages per round, over all connections.
const MESSAGES: usize = 200_000;
/// Fewer for the peer, which takes many times as long for each message.
const PEER_MESSAGES: usize = 20_000;

pub(super) fn run(report: &mut Report) {
    for (connections, size, target) in [
        (1, 64, Some((0.5, 0.42))),
        (200, 64, Some((0.5, 0.45))),
        (1, 1024, None),
        (200, 1024, Some((1.2, 1.11))),
    ] {
        let case = format!("fan-out to {connections}, {size} B");
        let measured =
            client_runtime().block_on(LocalSet::new().run_until(measure(connections, size)));
        if let (Some((bound, design)), [(_, axum), ..]) = (target, &measured[..]) {
            let baseline = Baseline { design, here: axum.median() };
            report.target_beside(&case, "µs", ours(&measured), Bound::AtMost(bound), baseline);
        }
        report.compare(&case, "µs CPU / message", measured);
    }
}

async fn measure(connections: usize, size: usize) -> Vec<(String, Samples)> {
    let subjects = [
        ("axum, feed and one flush", "raw-batch", Speech::Plain),
        ("axum, feed and one flush, 4 KiB read buffer", "raw-batch-4k", Speech::Plain),
        ("axum, send each", "raw-each", Speech::Plain),
        ("session-resume, plain client", "resume", Speech::Plain),
        ("session-resume, resuming client", "resume", Speech::Resumable),
    ];
    let mut crowds = Vec::new();
    for subject in with_peer(&subjects, "Socket.IO with recovery") {
        crowds.push(Crowd::gather(Subject::start(subject), connections).await);
    }
    let mut samples = vec![Samples::default(); crowds.len()];
    for _ in 0..ROUNDS {
        for (crowd, samples) in crowds.iter().zip(&mut samples) {
            let peer = crowd.speech == Speech::SocketIo;
            let messages = if peer { PEER_MESSAGES } else { MESSAGES } / connections;
            let cpu = crowd.round(messages, size).await;
            samples.push(cpu / (messages * connections) as f64);
            crowd.speech.rest().await;
        }
    }
    crowds.iter().map(|crowd| crowd.name.to_owned()).zip(samples).collect()
}

/// The clients of one server.
struct Crowd {
    name: &'static str,
    server: Server,
    speech: Speech,
    connections: usize,
    received: Rc<Received>,
}

#[derive(Default)]
struct Received {
    count: Cell<u64>,
    wanted: Cell<u64>,
    all: Notify,
}

impl Crowd {
    async fn gather(subject: Subject, connections: usize) -> Self {
        let Subject { name, server, speech } = subject;
        let received = Rc::new(Received::default());
        for client in 0..connections {
            let mode = speech.fresh(client);
            let opened = Connection::open(server.addr, "/fan", mode, None, 64 << 10);
            let mut connection = opened.await.expect("the server takes all clients");
            connection.greeted().await.expect("the server greets");
            let received = Rc::clone(&received);
            tokio::task::spawn_local(async move {
                while let Ok(count) = connection.receive().await {
                    received.count.set(received.count.get() + count);
                    if received.count.get() == received.wanted.get() {
                        received.all.notify_one();
                    }
                }
            });
        }
        Self { name, server, speech, connections, received }
    }

    /// Returns the server's CPU time in microseconds.
    async fn round(&self, messages: usize, size: usize) -> f64 {
        let wanted = (messages * self.connections) as u64;
        self.received.count.set(0);
        self.received.wanted.set(wanted);
        let before = self.server.stats().await.cpu;
        self.server.get(&format!("/fan-out?count={messages}&size={size}")).await;
        while self.received.count.get() < wanted {
            self.received.all.notified().await;
        }
        assert_eq!(self.received.count.get(), wanted, "each comes once");
        micros(self.server.stats().await.cpu - before)
    }
}
