//! The servers of the socket cases: raw axum in several ways, and ours.

use std::{
    io::Write as _,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{Path, Query, State, WebSocketUpgrade, ws},
    response::Response,
    routing::{any, get},
};
use futures_util::SinkExt as _;
use serde::Deserialize;
use session_resume::{CatchUp, Limits, LiveSession, Message, SessionResume};
use session_resume_axum::ResumeUpgrade;
use session_resume_benches::{
    counting::{self, Counter},
    measure,
};
use tokio::{sync::mpsc, task::JoinSet};

/// As many as our outbox takes by default.
const QUEUE: usize = 1024;
/// As many as our pump takes at once.
const BATCH: usize = 256;

/// What stands behind a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flush {
    /// `send`, hence a flush, for every message.
    Each,
    /// `feed` what there is, then flush once.
    Once,
}

/// Serves until the process is ended.
pub(crate) fn run(kind: &str, threads: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .expect("a runtime");
    let app = match kind {
        "raw-each" => raw(Flush::Each, None),
        "raw-batch" => raw(Flush::Once, None),
        "raw-each-4k" => raw(Flush::Each, Some(4 << 10)),
        "raw-batch-4k" => raw(Flush::Once, Some(4 << 10)),
        "resume" => ours(),
        _ => panic!("no server of this kind: {kind}"),
    };
    runtime.block_on(async {
        // As the README does.
        let listener = session_resume_axum::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("a bound socket"));
        std::io::stdout().flush().expect("somebody reads");
        // As a server of small messages should: else partial segments wait for delayed ACKs.
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
            let _ = stream.set_nodelay(true);
        });
        let app = app.route("/stats", get(stats)).route("/count", get(count));
        axum::serve(listener, app).await.expect("serving goes on");
    });
}

/// CPU time in microseconds, resident bytes.
async fn stats() -> String {
    format!("{} {}", measure::process_cpu().as_micros(), measure::resident_bytes())
}

/// Bytes on the heap and allocations since the first call. Before it nothing is counted: that would take time.
async fn count() -> String {
    static COUNTER: OnceLock<Counter> = OnceLock::new();
    let heap = COUNTER.get_or_init(counting::start).so_far();
    format!("{} {}", heap.live_bytes, heap.allocations)
}

#[derive(Clone, Copy, Deserialize)]
struct Fan {
    count: usize,
    size: usize,
}

// Raw axum.

#[derive(Clone)]
struct Raw {
    flush: Flush,
    read_buffer: Option<usize>,
    hub: Arc<Mutex<Vec<mpsc::Sender<ws::Utf8Bytes>>>>,
}

fn raw(flush: Flush, read_buffer: Option<usize>) -> Router {
    let state = Raw { flush, read_buffer, hub: Arc::default() };
    Router::new()
        .route("/fan", any(raw_fan))
        .route("/fan-out", get(raw_fan_out))
        .route("/echo", any(raw_echo))
        .route("/missed/{count}", any(raw_missed))
        .with_state(state)
}

impl Raw {
    fn buffers(&self, upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
        match self.read_buffer {
            Some(size) => upgrade.read_buffer_size(size),
            None => upgrade,
        }
    }
}

async fn raw_fan(State(raw): State<Raw>, upgrade: WebSocketUpgrade) -> Response {
    raw.buffers(upgrade).on_upgrade(move |mut socket| async move {
        let (sender, mut queue) = mpsc::channel(QUEUE);
        raw.hub.lock().expect("no panic").push(sender);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                message = socket.recv() => if !matches!(message, Some(Ok(_))) { return },
                taken = queue.recv_many(&mut batch, BATCH) => {
                    if taken == 0 || write(&mut socket, raw.flush, &mut batch).await.is_err() {
                        return;
                    }
                }
            }
        }
    })
}

async fn write(
    socket: &mut ws::WebSocket,
    flush: Flush,
    batch: &mut Vec<ws::Utf8Bytes>,
) -> Result<(), axum::Error> {
    for message in batch.drain(..) {
        match flush {
            Flush::Each => socket.send(ws::Message::Text(message)).await?,
            Flush::Once => socket.feed(ws::Message::Text(message)).await?,
        }
    }
    socket.flush().await
}

/// One producer for each connection, as fast as its queue takes.
async fn raw_fan_out(State(raw): State<Raw>, Query(fan): Query<Fan>) {
    let queues = raw.hub.lock().expect("no panic").clone();
    let message = ws::Utf8Bytes::from("m".repeat(fan.size));
    let mut producers = JoinSet::new();
    for queue in queues {
        let message = message.clone();
        producers.spawn(async move {
            for _ in 0..fan.count {
                // An error means that the client is gone.
                let _ = queue.send(message.clone()).await;
            }
        });
    }
    producers.join_all().await;
}

async fn raw_echo(State(raw): State<Raw>, upgrade: WebSocketUpgrade) -> Response {
    raw.buffers(upgrade).on_upgrade(|mut socket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            let ws::Message::Text(_) = message else {
                continue;
            };
            if socket.send(message).await.is_err() {
                return;
            }
        }
    })
}

/// What an application without our layer does: it finds out by itself what a client has missed.
/// Here it knows.
async fn raw_missed(
    State(raw): State<Raw>,
    Path(count): Path<usize>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let flush = raw.flush;
    raw.buffers(upgrade).on_upgrade(move |mut socket| async move {
        // As many messages as ours sends: a hello comes first.
        let message = ws::Utf8Bytes::from(missed_message());
        let mut all = vec![message; count + 1];
        if write(&mut socket, flush, &mut all).await.is_err() {
            return;
        }
        while let Some(Ok(_)) = socket.recv().await {}
    })
}

fn missed_message() -> String {
    "m".repeat(200)
}

// Ours.

fn ours() -> Router {
    let limits =
        Limits::default().with_outbox_messages(QUEUE.max(10_240)).with_outbox_bytes(8 << 20);
    let long = Duration::from_secs(3600);
    let missed = SessionResume::new().with_limits(limits).with_unused_lifetime(long);
    // The defaults where nothing must be kept for long.
    let resume = SessionResume::new();
    let live = Router::new()
        .route("/fan", any(our_fan))
        .route("/fan-out", get(our_fan_out))
        .route("/echo", any(our_echo))
        .with_state(resume.clone());
    let missed = Router::new().route("/missed/{count}", any(our_missed)).layer(missed);
    // A client that sleeps through a long stream, and one checkpoint at its end.
    let limits = Limits::default().with_outbox_messages(1 << 15).with_outbox_bytes(1 << 27);
    let slept = SessionResume::new().with_limits(limits).with_unused_lifetime(long);
    let catch_up = slept.clone().with_catch_up(CatchUp::FromCheckpoint { after: 200 });
    let everything = Router::new().route("/slept/{count}", any(our_slept)).layer(slept);
    let caught_up = Router::new().route("/caught-up/{count}", any(our_slept)).layer(catch_up);
    let slots = Router::new()
        .route("/slots/{count}", any(our_slots))
        .layer(SessionResume::new())
        .route("/slot-nanos", get(slot_nanos));
    live.layer(resume).merge(missed).merge(everything).merge(caught_up).merge(slots)
}

async fn our_fan(upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(async |mut live: LiveSession| while live.recv().await.is_some() {})
}

async fn our_fan_out(State(resume): State<SessionResume>, Query(fan): Query<Fan>) {
    let sessions = resume.sessions();
    let message = Message::from("m".repeat(fan.size));
    let mut producers = JoinSet::new();
    for session in sessions.iter().filter_map(|info| resume.get(info.id)) {
        let message = message.clone();
        producers.spawn(async move {
            for _ in 0..fan.count {
                // An error means that the client is gone.
                let _ = session.send(message.clone()).await;
            }
        });
    }
    producers.join_all().await;
}

async fn our_echo(upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(async |mut live: LiveSession| {
        while let Some(message) = live.recv().await {
            if live.send(message).await.is_err() {
                return;
            }
        }
    })
}

async fn our_missed(Path(count): Path<usize>, upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(async move |mut live: LiveSession| {
        let message = Message::from(missed_message());
        for _ in 0..count {
            if live.send(message.clone()).await.is_err() {
                return;
            }
        }
        while live.recv().await.is_some() {}
    })
}

/// Begins when the client says so: this many events of 4 KB, and one checkpoint that makes them obsolete.
async fn our_slept(Path(count): Path<usize>, upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(async move |mut live: LiveSession| {
        if live.recv().await.is_none() {
            return;
        }
        for _ in 0..count {
            if live.send("e".repeat(4096)).await.is_err() {
                return;
            }
        }
        let _ = live.send_checkpoint("checkpoint").await;
        // The next word of the client ends the session, and its memory is free.
        let _ = live.recv().await;
    })
}

/// What an update of a slot has taken, in nanoseconds; 0: the handler is not there yet.
static SLOT_NANOS: AtomicU64 = AtomicU64::new(0);

/// This many updates of 100 slots, whenever the client says a word; its client is away meanwhile.
async fn our_slots(Path(count): Path<u32>, upgrade: ResumeUpgrade) -> Response {
    upgrade.on_session(async move |mut live: LiveSession| {
        let slots: Vec<_> = (0..100).map(|slot| format!("slot {slot}")).collect();
        while live.recv().await.is_some() {
            let start = Instant::now();
            for slot in slots.iter().cycle().take(count as usize) {
                if live.send_latest(slot.as_str(), "m".repeat(64)).await.is_err() {
                    return;
                }
            }
            let nanos = (start.elapsed() / count).as_nanos();
            SLOT_NANOS.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    })
}

async fn slot_nanos() -> String {
    SLOT_NANOS.swap(0, Ordering::Relaxed).to_string()
}
