//! The embedded store: commits with and without company, and the way of a session back from disk.

use std::time::{Duration, Instant};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, header};
use session_resume::{
    SessionResume,
    store::{RecordKind, SnapshotStore as _, Stamp, StoreKey},
};
use session_resume_axum::Session;
use session_resume_benches::{counting, measure::Samples, services};
use session_resume_redb::RedbStore;
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::micros;
use crate::report::Report;

const STORED: usize = 100_000;
const RESTORED: usize = 500;
const TOGETHER: usize = 256;
const ROUNDS: usize = 5;

pub(super) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    runtime.block_on(commits(&directory.path().join("commits.redb"), report));
    runtime.block_on(restores(&directory.path().join("restores.redb"), report));
}

async fn commits(path: &std::path::Path, report: &mut Report) {
    let store = RedbStore::open(path).expect("a new store");
    let (mut alone, mut together) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        let before = Instant::now();
        for record in 0..100 {
            put(&store, round, record).await;
        }
        alone.push(100.0 / before.elapsed().as_secs_f64());
        let before = Instant::now();
        let all = stream::iter(0..10 * TOGETHER).map(|record| put(&store, round, 1_000 + record));
        all.buffer_unordered(TOGETHER).count().await;
        together.push((10 * TOGETHER) as f64 / before.elapsed().as_secs_f64());
    }
    report.add("store, 1 KiB records", "one after the other: a commit each", "records/s", alone);
    report.add("store, 1 KiB records", "256 at a time: commits are shared", "records/s", together);
}

async fn put(store: &RedbStore, round: usize, record: usize) {
    let name = (round * 1_000_000 + record).to_be_bytes();
    let key = StoreKey::new(RecordKind::Session, "bench", &name).expect("a short key");
    let hour = Duration::from_secs(3600);
    let bytes = Bytes::from(vec![7; 1024]);
    let claim = store.claim(&key, None, Stamp::first(1, 1), bytes, hour);
    claim.await.expect("the disk has room");
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Tally {
    total: u64,
}

async fn add(session: Session<Tally>) -> String {
    session.update(|tally| tally.total += 1);
    session.read(|tally| tally.total.to_string())
}

async fn restores(path: &std::path::Path, report: &mut Report) {
    let cookies = store_many(path, report).await;
    let before = Instant::now();
    let counter = counting::start();
    let store = RedbStore::open(path).expect("the store is whole");
    let opened = Samples::from(before.elapsed().as_secs_f64() * 1e3);
    report.add("store of 100,000 sessions", "open and check the file", "ms", opened);
    let heap = counter.stop().live_bytes as f64 / 1024.0;
    report.add("store of 100,000 sessions", "open", "KiB heap", heap.into());
    let resume = SessionResume::new().with_state::<Tally>().with_store(store);
    let mut service = resume.layer(Router::new().route("/", get(add)).with_state(()));
    let mut samples = Samples::default();
    let counter = counting::start();
    for cookie in cookies.iter().step_by(STORED / RESTORED) {
        let before = Instant::now();
        let Ok(response) = service.call(services::request(Some(cookie))).await;
        samples.push(micros(before.elapsed()));
        let body = axum::body::to_bytes(response.into_body(), 64).await.expect("a short body");
        assert_eq!(&body[..], b"2", "the session is the stored one");
    }
    let heap = counter.stop().live_bytes as f64 / 1024.0 / RESTORED as f64;
    report.add("store of 100,000 sessions", "restore one", "µs", samples);
    let subject = "restore one, what the store caches included";
    report.add("store of 100,000 sessions", subject, "KiB heap", heap.into());
    resume.drain(Duration::from_secs(30)).await;
}

/// Fills a store, and returns the cookies of its sessions.
async fn store_many(path: &std::path::Path, report: &mut Report) -> Vec<HeaderValue> {
    let store = RedbStore::open(path).expect("a new store");
    let resume = SessionResume::new().with_state::<Tally>().with_store(store);
    let service = resume.layer(Router::new().route("/", get(add)).with_state(()));
    let before = Instant::now();
    let visits = stream::iter(0..STORED).map(|_| {
        let mut service = service.clone();
        async move {
            let Ok(response) = service.call(http::Request::new(Body::empty())).await;
            let cookie = &response.headers()[header::SET_COOKIE];
            let pair = cookie.to_str().ok().and_then(|text| text.split(';').next());
            HeaderValue::try_from(pair.expect("a cookie")).expect("ASCII")
        }
    });
    let cookies = visits.buffer_unordered(TOGETHER).collect().await;
    let saved = resume.drain(Duration::from_secs(60)).await;
    let each = STORED as f64 / before.elapsed().as_secs_f64();
    eprintln!("{saved:?}");
    report.add("store of 100,000 sessions", "started and drained", "sessions/s", each.into());
    cookies
}
