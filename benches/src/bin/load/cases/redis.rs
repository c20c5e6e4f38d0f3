//! Redis beside the embedded store: a commit while other sessions are busy, memory in the engine, and the way of all sessions
//! back after a restart.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, routing::get};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use http::{HeaderValue, header};
use session_resume::{
    SessionResume,
    store::{RecordKind, SnapshotStore as _, Stamp, StoreKey},
};
use session_resume_axum::Session;
use session_resume_benches::{measure::Samples, services};
use session_resume_engine::{Engine, Flavour};
use session_resume_redb::RedbStore;
use session_resume_redis::RedisStore;
use tower_layer::Layer as _;
use tower_service::Service;

use super::{Speech, Subject, client_runtime, micros};
use crate::{
    client::{Connection, Server},
    peer,
    report::{Bound, Report},
};

/// Sessions that commit at the same time.
const BUSY: usize = 64;
/// Commits of each of them in a round.
const COMMITS: usize = 30;
const ROUNDS: usize = 7;
/// Clients that come back at once.
const CLIENTS: usize = 10_000;
const RESTARTS: usize = 3;
/// Sessions whose memory is counted.
const SUSPENDED: usize = 3_000;
const WARM_UP: usize = 1_000;
/// How long a record lasts.
const LIFETIME: Duration = Duration::from_secs(3600);
/// What each session has of its own, here and at the peer.
const DATA: usize = 200;

#[derive(serde::Serialize, serde::Deserialize)]
struct Note {
    text: String,
}

impl Default for Note {
    fn default() -> Self {
        Self { text: "m".repeat(DATA) }
    }
}

/// Where sessions are kept.
enum Kept {
    File(PathBuf),
    Redis(Engine),
}

impl Kept {
    async fn layer(&self) -> SessionResume<Note> {
        let resume = SessionResume::new().with_state::<Note>();
        match self {
            Self::File(path) => {
                resume.with_store(RedbStore::open(path).expect("the store is whole"))
            }
            Self::Redis(engine) => {
                resume.with_store(RedisStore::connect(engine.url()).await.expect("it is there"))
            }
        }
    }
}

/// As durable as the embedded store: every write is on the disk before it is answered.
fn durable() -> Engine {
    Engine::with(Flavour::Redis, &["--appendonly", "yes", "--appendfsync", "always"])
}

fn everysec() -> Engine {
    Engine::with(Flavour::Redis, &["--appendonly", "yes", "--appendfsync", "everysec"])
}

pub(super) fn run(report: &mut Report) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(commits(report));
    runtime.block_on(restarts(report));
    let (each, record) = runtime.block_on(suspended());
    let case = "suspended session in Redis, 200 B of data";
    report.add(case, "session-resume", "B", each.into());
    report.add(case, "its record alone", "B", record.into());
    report.target("memory in Redis per session", "B", each, Bound::AtMost(record + 450.0));
    if peer::is_there() {
        let peer = client_runtime().block_on(suspended_at_peer());
        report.add(case, "Socket.IO with its adapter for Redis streams", "B", peer.into());
        report.target("the same, to Socket.IO", "×", each / peer, Bound::AtMost(1.0));
    }
}

// A commit.

async fn commits(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a directory");
    let (always, second) = (durable(), everysec());
    let (raw_always, raw_second) = (raw(&always).await, raw(&second).await);
    let direct = [("the store alone, always", &always), ("the store alone, everysec", &second)];
    let mut alone = Vec::new();
    for (name, engine) in direct {
        let store = RedisStore::connect(engine.url()).await.expect("it is there");
        alone.push((name, records(&store).await, Samples::default()));
    }
    // Kept to the end: an engine that is dropped is stopped.
    let stores = [
        ("redb", Kept::File(folder.path().join("commits.redb"))),
        ("Redis, appendfsync always", Kept::Redis(always)),
        ("Redis, appendfsync everysec", Kept::Redis(second)),
    ];
    let mut subjects = Vec::new();
    for (name, store) in &stores {
        subjects.push((*name, busy_sessions(store.layer().await).await, Samples::default()));
    }
    let raw = [("SET alone, always", raw_always), ("SET alone, everysec", raw_second)];
    let mut raw = raw.map(|(name, connection)| (name, connection, Samples::default()));
    // The first round is not counted.
    for round in 0..=ROUNDS {
        for (_, sessions, samples) in &mut subjects {
            let taken = join_all(sessions.1.iter().map(commit)).await;
            push(samples, round, taken);
        }
        for (_, (store, keys), samples) in &mut alone {
            let taken = join_all(keys.iter().map(|key| put(store, key, round))).await;
            push(samples, round, taken);
        }
        for (_, connection, samples) in &mut raw {
            let taken = join_all((0..BUSY).map(|n| set(connection.clone(), n))).await;
            push(samples, round, taken);
        }
    }
    let of_layers = subjects.into_iter().map(|(name, _, samples)| (name.to_owned(), samples));
    let of_raw = raw.into_iter().map(|(name, _, samples)| (name.to_owned(), samples));
    let measured: Vec<_> = of_layers.chain(of_raw).collect();
    if let [redb, always, second, raw_always, raw_second] = &measured[..] {
        let ratio = |of: &(String, Samples), to: &(String, Samples)| of.1.median() / to.1.median();
        let what = "a commit in Redis, 64 sessions busy, to";
        let mut target = |to: &str, ratio, most| {
            report.target(&format!("{what} {to}"), "×", ratio, Bound::AtMost(most));
        };
        target("redb", ratio(always, redb), 1.0);
        target("SET alone, both always", ratio(always, raw_always), 1.5);
        target("SET alone, both everysec", ratio(second, raw_second), 1.5);
    }
    let of_stores = alone.into_iter().map(|(name, _, samples)| (name.to_owned(), samples));
    let measured = measured.into_iter().chain(of_stores).collect();
    report.compare("a commit, 64 sessions busy", "µs", measured);
}

fn push(samples: &mut Samples, round: usize, taken: Vec<Vec<f64>>) {
    if round > 0 {
        taken.into_iter().flatten().for_each(|time| samples.push(time));
    }
}

/// The layer, which holds its sessions, and they.
async fn busy_sessions(
    layer: SessionResume<Note>,
) -> (SessionResume<Note>, Vec<session_resume::Session<Note>>) {
    let mut service = layer.layer(Router::new().route("/", get(look)).with_state(()));
    for _ in 0..BUSY {
        start(&mut service).await;
    }
    let infos = layer.sessions();
    let sessions = infos.iter().map(|info| layer.get(info.id).expect("it was listed")).collect();
    (layer, sessions)
}

async fn look(session: Session<Note>) -> String {
    session.update(|note| note.text.len().to_string())
}

/// Makes a session; returns the cookie of its browser.
async fn start<S>(service: &mut S) -> HeaderValue
where
    S: Service<http::Request<Body>, Response = axum::response::Response>,
    S::Error: std::fmt::Debug,
{
    let response = service.call(http::Request::new(Body::empty())).await.expect("an answer");
    let cookie = &response.headers()[header::SET_COOKIE];
    let pair = cookie.to_str().ok().and_then(|text| text.split(';').next());
    HeaderValue::try_from(pair.expect("a cookie")).expect("ASCII")
}

async fn commit(session: &session_resume::Session<Note>) -> Vec<f64> {
    let mut taken = Vec::with_capacity(COMMITS);
    for n in 0..COMMITS {
        let letter = char::from(b'a' + u8::try_from(n % 26).expect("a letter"));
        session.update(|note| note.text = letter.to_string().repeat(DATA));
        let before = Instant::now();
        session.saved().await.expect("it is saved");
        taken.push(micros(before.elapsed()));
    }
    taken
}

/// As many records as there are busy sessions, without sessions.
async fn records(store: &RedisStore) -> (RedisStore, Vec<StoreKey>) {
    let mut keys = Vec::with_capacity(BUSY);
    for n in 0..BUSY {
        let key = StoreKey::new(RecordKind::Session, "alone", n.to_string().as_bytes());
        let key = key.expect("a short name");
        let claimed = store.claim(&key, None, Stamp::first(7, 1), Bytes::new(), LIFETIME).await;
        claimed.expect("it is new");
        keys.push(key);
    }
    (store.clone(), keys)
}

/// What a commit takes of which the layer has no part.
async fn put(store: &RedisStore, key: &StoreKey, round: usize) -> Vec<f64> {
    let mut taken = Vec::with_capacity(COMMITS);
    let bytes = Bytes::from(vec![7_u8; 2 * DATA]);
    for n in 0..COMMITS {
        let number = 2 + u64::try_from(round * COMMITS + n).expect("a few");
        let stamp = Stamp { number, ..Stamp::first(7, 1) };
        let before = Instant::now();
        store.put(key, stamp, bytes.clone(), LIFETIME).await.expect("it is put");
        taken.push(micros(before.elapsed()));
    }
    taken
}

async fn raw(engine: &Engine) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(engine.url()).expect("a URL");
    client.get_multiplexed_async_connection().await.expect("it is there")
}

/// As many bytes as a record has, on a connection that the others use, too.
async fn set(mut connection: redis::aio::MultiplexedConnection, n: usize) -> Vec<f64> {
    let mut taken = Vec::with_capacity(COMMITS);
    let value = vec![7_u8; 2 * DATA];
    for _ in 0..COMMITS {
        let before = Instant::now();
        let mut set = redis::cmd("SET");
        set.arg(format!("raw:{n}")).arg(&value).arg("PX").arg(3_600_000);
        let () = set.query_async(&mut connection).await.expect("it is set");
        taken.push(micros(before.elapsed()));
    }
    taken
}

// The way back.

async fn restarts(report: &mut Report) {
    let folder = tempfile::tempdir().expect("a directory");
    let file = Kept::File(folder.path().join("restarts.redb"));
    let mut subjects = Vec::new();
    for (name, kept) in [("redb", file), ("Redis, appendfsync always", Kept::Redis(durable()))] {
        let layer = kept.layer().await;
        let service = layer.layer(Router::new().route("/", get(look)).with_state(()));
        let visits = stream::iter(0..CLIENTS).map(|_| {
            let mut service = service.clone();
            async move { start(&mut service).await }
        });
        let cookies: Vec<_> = visits.buffer_unordered(256).collect().await;
        drop(service);
        layer.drain(Duration::from_secs(120)).await;
        drop(layer);
        subjects.push((name, kept, cookies, Samples::default()));
    }
    for _ in 0..RESTARTS {
        for (_, kept, cookies, samples) in &mut subjects {
            let layer = kept.layer().await;
            let service = layer.layer(Router::new().route("/", get(look)).with_state(()));
            let before = Instant::now();
            let visits = cookies.iter().map(|cookie| {
                let mut service = service.clone();
                async move {
                    let Ok(response) = service.call(services::request(Some(cookie))).await;
                    assert!(response.status().is_success(), "{}", response.status());
                }
            });
            join_all(visits).await;
            samples.push(before.elapsed().as_secs_f64() * 1e3);
            drop(service);
            layer.drain(Duration::from_secs(120)).await;
        }
    }
    let measured: Vec<_> =
        subjects.into_iter().map(|(name, _, _, samples)| (name.to_owned(), samples)).collect();
    if let [redb, redis] = &measured[..] {
        let ratio = redis.1.median() / redb.1.median();
        let what = "10,000 clients back after a restart, Redis to redb";
        report.target(what, "×", ratio, Bound::AtMost(1.3));
    }
    report.compare("10,000 clients back after a restart", "ms", measured);
}

// Memory in the engine.

fn used_memory(engine: &Engine) -> f64 {
    let info = engine.command("INFO memory");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok()).expect("a number")
}

/// Bytes of each session in the engine, and bytes of its record.
async fn suspended() -> (f64, f64) {
    let engine = Engine::start();
    let store = RedisStore::connect(engine.url()).await.expect("it is there");
    let layer = SessionResume::new().with_state::<Note>().with_store(store);
    let mut service = layer.layer(Router::new().route("/", get(look)).with_state(()));
    let mut make = async |count: usize| {
        for _ in 0..count {
            let cookie = start(&mut service).await;
            // A client that has come back has no mark of a visitor.
            let Ok(_) = service.call(services::request(Some(&cookie))).await;
        }
        let infos = layer.sessions();
        let sessions = infos.iter().filter_map(|info| layer.get(info.id));
        for session in sessions {
            session.saved().await.expect("it is saved");
        }
    };
    make(WARM_UP).await;
    let before = used_memory(&engine);
    make(SUSPENDED).await;
    let each = (used_memory(&engine) - before) / SUSPENDED as f64;
    let name = loop {
        // Some keys are pointers to records.
        let name = engine.command("RANDOMKEY");
        let name = name.lines().nth(1).expect("a key").to_owned();
        if length(&engine, &name) > DATA as f64 {
            break name;
        }
    };
    (each, length(&engine, &name))
}

fn length(engine: &Engine, name: &str) -> f64 {
    let answer = engine.command(&format!("STRLEN {name}"));
    answer.trim_start_matches(':').parse().expect("a number")
}

/// Bytes of each session that Socket.IO has put into the engine when its client was gone.
async fn suspended_at_peer() -> f64 {
    let engine = Engine::start();
    let server = Server::run(peer::on_redis(&engine.url(), DATA));
    let subject = Subject::with("Socket.IO", server, Speech::SocketIo);
    let make = async |count: usize| {
        let mut connections = Vec::new();
        for client in 0..count {
            let mode = Speech::SocketIo.fresh(client);
            let opened = Connection::open(subject.server.addr, "/idle", mode, None, 1 << 10).await;
            let mut connection = opened.expect("the server takes all clients");
            connection.greeted().await.expect("the server greets");
            connections.push(connection);
        }
        drop(connections);
        subject.settle(Duration::from_secs(1)).await;
    };
    make(WARM_UP).await;
    let keys = |engine: &Engine| -> usize {
        let size = engine.command("DBSIZE");
        size.trim_start_matches(':').parse().expect("a number")
    };
    let (before, had) = (used_memory(&engine), keys(&engine));
    make(SUSPENDED).await;
    assert!(keys(&engine) >= had + SUSPENDED, "each session has been stored");
    (used_memory(&engine) - before) / SUSPENDED as f64
}
