//! A large state that changes a little: what each change writes to the disk, and for how long it locks the state.

use std::{
    fs,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::get};
use serde::{Deserialize, Serialize};
use session_resume::{Session, SessionResume, store::SnapshotStore};
use session_resume_benches::measure::{self, Samples};
use session_resume_engine::{Engine, Flavour};
use session_resume_redb::RedbStore;
use session_resume_redis::RedisStore;
use tower_layer::Layer as _;
use tower_service::Service as _;

use super::micros;
use crate::report::Report;

const CHANGES: usize = 100;
/// About 0.9 MB of JSON, and 1 KiB.
const LARGE: usize = 5_000;
const SMALL: usize = 5;

/// As an application has them: read and written as JSON. Clones share the entries.
#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    revision: u64,
    entries: Vec<Arc<Entry>>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: usize,
    name: String,
    text: String,
    count: usize,
    done: bool,
}

/// Reproducible numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits fit") % bound
    }

    fn entry(&mut self) -> Arc<Entry> {
        const WORDS: [&str; 8] =
            ["alpha", "session", "order", "customer", "open", "large", "price", "resume"];
        let words: Vec<_> = (0..8 + self.below(20)).map(|_| WORDS[self.below(8)]).collect();
        Arc::new(Entry {
            id: self.below(1_000_000),
            name: format!("{} {}", WORDS[self.below(8)], self.below(100_000)),
            text: words.join(" "),
            count: self.below(100_000),
            done: self.below(2) == 0,
        })
    }
}

/// Where a change is made.
#[derive(Clone, Copy)]
enum Change {
    /// An entry anywhere is replaced.
    Anywhere,
    /// An entry is inserted before the others.
    InFront,
}

pub(super) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let rows = [
        ("state of 0.9 MB, an entry anywhere", LARGE, Change::Anywhere),
        ("state of 0.9 MB, one inserted in front", LARGE, Change::InFront),
        ("state of 1 KiB, an entry anywhere", SMALL, Change::Anywhere),
    ];
    for (what, entries, change) in rows {
        let (mut times, mut bytes) = (Samples::default(), 0.0);
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let (_resume, session) = session(file(&directory), entries).await;
            let before = written();
            changes(&session, change, &mut times).await;
            bytes = (written() - before) as f64;
        });
        report.add(
            what,
            "redb, written for each change",
            "KB",
            (bytes / CHANGES as f64 / 1e3).into(),
        );
        report.add(what, "redb, until it is saved", "ms", times);
    }
    runtime.block_on(on_redis(report));
    locked(report);
}

fn file(directory: &tempfile::TempDir) -> RedbStore {
    RedbStore::open(directory.path().join("large.redb")).expect("a new store")
}

/// A session with such a state.
async fn session(
    store: impl SnapshotStore,
    entries: usize,
) -> (SessionResume<State>, Session<State>) {
    let resume = SessionResume::new()
        .with_state::<State>()
        .with_flush_interval(Duration::ZERO)
        .with_unused_lifetime(Duration::from_secs(3600))
        .with_store(store);
    let mut service = resume.layer(Router::new().route("/", get(begin)).with_state(()));
    let Ok(response) = service.call(http::Request::new(Body::empty())).await;
    let id = axum::body::to_bytes(response.into_body(), 64).await.expect("a short body");
    let id = std::str::from_utf8(&id).expect("an id is ASCII");
    let session = resume.get(id.parse().expect("an id")).expect("it has just begun");
    let mut random = Random(1);
    session.update(|state| state.entries = (0..entries).map(|_| random.entry()).collect());
    session.saved().await.expect("the disk has room");
    (resume, session)
}

async fn begin(session: Session<State>) -> String {
    session.id().to_string()
}

async fn changes(session: &Session<State>, change: Change, times: &mut Samples) {
    let mut random = Random(2);
    for _ in 0..CHANGES {
        let begun = Instant::now();
        session.update(|state| {
            state.revision += 1;
            match change {
                Change::Anywhere => {
                    let at = random.below(state.entries.len());
                    state.entries[at] = random.entry();
                }
                Change::InFront => state.entries.insert(0, random.entry()),
            }
        });
        session.saved().await.expect("the disk has room");
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
}

/// What goes to the engine, and what it writes to its append-only file.
async fn on_redis(report: &mut Report) {
    const WHAT: &str = "state of 0.9 MB, an entry anywhere";
    let keeps = ["--appendonly", "yes", "--appendfsync", "everysec"];
    // The file is not begun anew, so that its length tells what was written.
    let arguments = [&keeps[..], &["--auto-aof-rewrite-percentage", "0"]].concat();
    let engine = Engine::with(Flavour::Redis, &arguments);
    let store = RedisStore::connect(engine.url()).await.expect("it is there");
    let (_resume, session) = session(store, LARGE).await;
    let count = |section: &str, name: &str| -> f64 {
        let info = engine.command(&format!("INFO {section}"));
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|number| number.trim().parse().ok()).expect("a number")
    };
    let sent = || count("stats", "total_net_input_bytes:");
    let kept = || count("persistence", "aof_current_size:");
    let (sent_before, kept_before) = (sent(), kept());
    let mut times = Samples::default();
    changes(&session, Change::Anywhere, &mut times).await;
    let each = |bytes: f64| Samples::from(bytes / CHANGES as f64 / 1e3);
    report.add(WHAT, "Redis, sent for each change", "KB", each(sent() - sent_before));
    report.add(WHAT, "Redis, in its append-only file", "KB", each(kept() - kept_before));
    report.add(WHAT, "Redis, until it is saved", "ms", times);
}

/// For how long a snapshot locks the state: until its JSON is written, or a copy is made. By the thread's own clock, because
/// one that waits for a processor holds up its readers, too, but by no fault of ours.
fn locked(report: &mut Report) {
    let mut random = Random(1);
    let entries: Vec<_> = (0..LARGE).map(|_| random.entry()).collect();
    let state = State { revision: 1, entries };
    let (mut json, mut copies) = (Samples::default(), Samples::default());
    for _ in 0..CHANGES {
        let begun = measure::thread_cpu();
        let written = serde_json::to_vec(black_box(&state)).expect("it is JSON");
        json.push(micros(measure::thread_cpu() - begun));
        drop(black_box(written));
        let begun = measure::thread_cpu();
        let copy = black_box(&state).clone();
        copies.push(micros(measure::thread_cpu() - begun));
        drop(black_box(copy));
    }
    report.add("state of 0.9 MB", "read and update wait: until it is JSON", "µs", json);
    report.add("state of 0.9 MB", "the same with snapshots of copies", "µs", copies);
}

/// How many bytes this process has written.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").expect("Linux");
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a count");
    line.parse().expect("a number")
}
