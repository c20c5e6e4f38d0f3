//! One client has slept through 20,000 events of 4 KB, with one checkpoint at their end: from TCP connect to the last
//! message, beside one that has missed 100, and beside a replay of all. And what an update of a slot costs.

use std::time::{Duration, Instant};

use session_resume_benches::measure::Samples;

use super::{Speech, client_runtime, micros};
use crate::{
    client::{Connection, Server},
    report::{Bound, Report},
};

const ROUNDS: usize = 12;
const SLOT_UPDATES: u64 = 100_000;

/// What was measured of one way to come back.
#[derive(Default)]
struct Return {
    micros: Samples,
    bytes: u64,
}

pub(super) fn run(report: &mut Report) {
    let [few, caught_up, all] = client_runtime().block_on(measure());
    let case = "20,000 events of 4 KB slept through, one checkpoint at the end";
    let ratio = caught_up.micros.median() / few.micros.median();
    report.target(&format!("{case}: time, of 100 missed"), "×", ratio, Bound::AtMost(1.5));
    let megabytes = |of: &Return| of.bytes as f64 / 1e6;
    report.target(&format!("{case}: sent"), "MB", megabytes(&caught_up), Bound::AtMost(1.0));
    report.compare(
        "slept through, sent",
        "MB",
        vec![
            ("100 missed".to_owned(), one(megabytes(&few))),
            ("20,000 missed, from the checkpoint".to_owned(), one(megabytes(&caught_up))),
            ("20,000 missed, everything".to_owned(), one(megabytes(&all))),
        ],
    );
    report.compare(
        "slept through, back",
        "µs",
        vec![
            ("100 missed".to_owned(), few.micros),
            ("20,000 missed, from the checkpoint".to_owned(), caught_up.micros),
            ("20,000 missed, everything".to_owned(), all.micros),
        ],
    );
    let slots = client_runtime().block_on(measure_slots());
    report.compare("update of one of 100 slots", "ns", vec![("send_latest".to_owned(), slots)]);
}

fn one(value: f64) -> Samples {
    let mut samples = Samples::default();
    samples.push(value);
    samples
}

async fn measure() -> [Return; 3] {
    let server = Server::start("resume");
    let mut returns: [Return; 3] = Default::default();
    for round in 0..ROUNDS {
        let ways = [("/slept/100", 101), ("/caught-up/20000", 1), ("/slept/20000", 20_001)];
        for (way, (path, messages)) in ways.into_iter().enumerate() {
            let (took, bytes) = come_back(&server, path, round * ways.len() + way, messages).await;
            returns[way].micros.push(micros(took));
            returns[way].bytes = bytes;
        }
    }
    returns
}

/// A client sleeps through it all and comes back; returns how long that took, and what was sent to it.
async fn come_back(server: &Server, path: &str, client: usize, messages: u64) -> (Duration, u64) {
    let mode = Speech::Resumable.fresh(client);
    let opened = Connection::open(server.addr, path, mode, None, 4 << 10).await;
    let mut first = opened.expect("the server takes the client");
    first.greeted().await.expect("the server greets");
    first.queue_text(b"go", 1);
    first.flush().await.expect("the connection holds");
    let (cookie, mode) = (first.cookie.clone(), first.returning().expect("greeted"));
    drop(first);
    // Long enough for 80 MB.
    tokio::time::sleep(Duration::from_millis(700)).await;

    let start = Instant::now();
    let opened = Connection::open(server.addr, path, mode, cookie.as_deref(), 1 << 20).await;
    let mut connection = opened.expect("the server takes the client");
    let greeted = connection.greeted().await.expect("the server greets");
    connection.receive_all(messages.saturating_sub(greeted)).await.expect("all comes");
    let took = start.elapsed();
    let bytes = connection.received;

    connection.queue_text(b"end", 1);
    connection.flush().await.expect("the connection holds");
    tokio::time::sleep(Duration::from_millis(100)).await;
    (took, bytes)
}

/// What an update of a slot takes, in nanoseconds, as the server says: with a client that is away.
async fn measure_slots() -> Samples {
    let server = Server::start("resume");
    let path = format!("/slots/{SLOT_UPDATES}");
    let mut samples = Samples::default();
    for client in 0..ROUNDS {
        let mode = Speech::Resumable.fresh(client);
        let opened = Connection::open(server.addr, &path, mode, None, 4 << 10).await;
        let mut connection = opened.expect("the server takes the client");
        connection.greeted().await.expect("the server greets");
        connection.queue_text(b"go", 1);
        connection.flush().await.expect("the connection holds");
        drop(connection);
        let nanos = loop {
            let text = server.get("/slot-nanos").await;
            match text.parse::<f64>().expect("a number") {
                0.0 => tokio::time::sleep(Duration::from_millis(5)).await,
                nanos => break nanos,
            }
        };
        samples.push(nanos);
    }
    samples
}
