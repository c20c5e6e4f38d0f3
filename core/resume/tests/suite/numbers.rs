//! What is counted for operators, and what their logs carry.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, StatusCode, header, request::Builder};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use session_resume::{
    Attach, Cluster, Limits, SessionResume,
    adapter::{self, Upgrade},
    reuse::{self, ReuseDecision},
    store::MemoryStore,
};
use tracing::{Instrument as _, Subscriber, span};
use tracing_subscriber::{Layer, layer::SubscriberExt as _, registry::LookupSpan};

use crate::support::{Browser, echo, idle, open, settle, sleep};

const CLIENT: &str = "client-aaaaaaaaaa";

/// Everything that is counted, by name and labels.
#[derive(Clone, Default)]
struct Numbers {
    counters: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
    gauges: Arc<Mutex<BTreeMap<String, Arc<AtomicU64>>>>,
}

impl Numbers {
    fn count(&self, key: &str) -> u64 {
        self.counters.lock().unwrap().get(key).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    fn gauge(&self, key: &str) -> f64 {
        let gauges = self.gauges.lock().unwrap();
        gauges.get(key).map_or(0.0, |gauge| f64::from_bits(gauge.load(Ordering::Relaxed)))
    }

    /// What has been refused: causes and codes, and how often.
    fn refusals(&self) -> Vec<(String, u64)> {
        let counters = self.counters.lock().unwrap();
        let refused = counters.iter().filter_map(|(key, count)| {
            let labels = key.strip_prefix("session_resume_refusals_total ")?;
            Some((labels.to_owned(), count.load(Ordering::Relaxed)))
        });
        refused.collect()
    }

    /// Running and suspended sessions.
    fn phases(&self) -> [f64; 2] {
        ["running", "suspended"]
            .map(|phase| self.gauge(&format!("session_resume_sessions phase={phase}")))
    }

    fn attaches(&self, status: &str, mode: &str) -> u64 {
        self.count(&format!("session_resume_attaches_total mode={mode} status={status}"))
    }
}

fn named(key: &Key) -> String {
    let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
    [key.name().to_owned()].into_iter().chain(labels).collect()
}

impl Recorder for Numbers {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::clone(self.counters.lock().unwrap().entry(named(key)).or_default()))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(self.gauges.lock().unwrap().entry(named(key)).or_default()))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let mut counters = self.counters.lock().unwrap();
        Histogram::from_arc(Arc::new(Recorded(Arc::clone(counters.entry(named(key)).or_default()))))
    }
}

/// How often something was recorded.
struct Recorded(Arc<AtomicU64>);

impl HistogramFn for Recorded {
    fn record(&self, _: f64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_by_phase_and_attaches_by_status() {
    let numbers = Numbers::default();
    let _metrics = metrics::set_default_local_recorder(&numbers);
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    assert_eq!(numbers.phases(), [0.0, 1.0], "nobody is attached");

    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    assert_eq!(numbers.phases(), [1.0, 0.0]);
    assert_eq!(numbers.attaches("reused", "resumable"), 1);

    wire.cut();
    settle().await;
    assert_eq!(numbers.phases(), [0.0, 1.0]);
    session.try_send("a").unwrap();
    session.try_send("b").unwrap();
    let at = crate::blocked::cursor(CLIENT, &hello, 0);
    let wire = browser.connect(&resume, Some(&at), idle).await.unwrap();
    settle().await;
    assert_eq!(numbers.phases(), [1.0, 0.0]);
    assert_eq!(numbers.attaches("resumed", "resumable"), 1);
    assert_eq!(numbers.count("session_resume_replayed_messages_total"), 2);
    let replays = ["session_resume_replay_messages", "session_resume_replay_seconds"];
    assert_eq!(
        replays.map(|name| numbers.count(name)),
        [1, 1],
        "an attach that replays nothing is not recorded"
    );

    wire.cut();
    let unknown = format!("{CLIENT}.{}.0123456789abcdef-7.1", hello["session"].as_str().unwrap());
    let wire = browser.connect(&resume, Some(&unknown), idle).await.unwrap();
    settle().await;
    assert_eq!(numbers.count("session_resume_gaps_total reason=restarted"), 1);

    let mut other = Browser::default();
    let plain = other.connect(&resume, None, idle).await.unwrap();
    settle().await;
    assert_eq!(numbers.attaches("new", "plain"), 1);
    assert_eq!(numbers.phases(), [2.0, 0.0]);

    session.close("done with it");
    plain.cut();
    settle().await;
    assert_eq!(numbers.phases(), [0.0, 1.0], "one has ended, the other waits");
    sleep(130.0).await;
    assert_eq!(numbers.phases(), [0.0, 0.0]);
    assert_eq!(numbers.count("session_resume_sessions_ended_total status=expired"), 1);
    drop(wire);
}

#[tokio::test(start_paused = true)]
async fn what_outboxes_hold_is_counted_in_steps() {
    let numbers = Numbers::default();
    let _metrics = metrics::set_default_local_recorder(&numbers);
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let session = browser.get(&resume).await.unwrap();
    let held = || numbers.gauge("session_resume_outbox_bytes");
    session.try_send("m".repeat(10_000)).unwrap();
    assert_eq!(held(), 0.0, "less than a step");
    session.try_send("m".repeat(40_000)).unwrap();
    assert_eq!(held(), 3.0 * 16_384.0);

    let mut wire = browser.connect(&resume, Some(CLIENT), idle).await.unwrap();
    let hello = wire.next_control().await["hello"].clone();
    wire.control(&format!(r#"{{"ack":{}}}"#, hello["from"]));
    settle().await;
    session.try_send("m".repeat(20_000)).unwrap();
    settle().await;
    let newest = hello["from"].as_u64().unwrap() + 1;
    let before = held();
    wire.control(&format!(r#"{{"ack":{newest}}}"#));
    settle().await;
    assert!(held() < before, "what is acknowledged is not held");
    drop(resume);
    drop(session);
    assert_eq!(held(), 0.0, "nor what is gone");
    assert_eq!(numbers.phases(), [0.0, 0.0]);
}

fn upgrade_from(origin: &str) -> Builder {
    Request::get("/live")
        .header(header::UPGRADE, "websocket")
        .header(header::HOST, "here.example")
        .header(header::ORIGIN, origin)
}

/// Counts what is told to a plain client, and to one that offers to resume: that one is accepted to be told.
async fn refused_both_ways(resume: &SessionResume, mut browser: Browser) -> Vec<(String, u64)> {
    let numbers = Numbers::default();
    let _metrics = metrics::set_default_local_recorder(&numbers);
    assert!(browser.connect(resume, None, idle).await.is_err());
    let mut wire = browser.connect(resume, Some("client-bbbbbbbbbb"), idle).await.unwrap();
    wire.closed().await;
    numbers.refusals()
}

fn refused_at(causes: &[&str]) -> Vec<(String, u64)> {
    causes.iter().map(|cause| (format!("cause={cause}"), 1)).collect()
}

/// Each refusal is counted once, under its cause and the code that the client is answered with.
#[tokio::test(start_paused = true)]
async fn refusals_are_counted_by_cause() {
    let numbers = Numbers::default();
    let metrics = metrics::set_default_local_recorder(&numbers);
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let parts = browser.enter(&resume, upgrade_from("https://there.example")).await;
    assert!(Upgrade::<()>::prepare(&parts).await.is_err());
    assert!(browser.connect(&resume, Some("client-aaaaaaaaaa.bad"), idle).await.is_err());
    let plain = browser.upgrade(&resume, None).await.unwrap();
    assert!(plain.refuse("not you").is_err());
    let (bare, ()) = Request::new(()).into_parts();
    assert!(adapter::open::<()>(&bare).await.is_err());
    assert!(adapter::look::<()>(&bare).await.is_err());
    assert!(adapter::identity(&bare).is_err());
    assert!(adapter::poll::<()>(&bare, "x").await.is_err());
    assert!(adapter::list::<()>(&bare).await.is_err());
    let mut counted =
        refused_at(&["application code=403", "foreign_origin code=403", "request code=400"]);
    counted.push(("cause=setup code=500".to_owned(), 5));
    assert_eq!(numbers.refusals(), counted);
    drop(metrics);

    let full = Limits::default().with_max_sessions(1).with_max_sessions_per_identity(1);
    let no = reuse::from_fn(|_, _| ReuseDecision::Refuse(StatusCode::FORBIDDEN));
    let rows = [
        // The layer, whether the session's own browser comes again, what is counted.
        (SessionResume::new().with_reuse(no), true, ["policy code=403", "policy code=4101"]),
        (
            SessionResume::new().with_attach(Attach::Refuse),
            true,
            ["held code=409", "held code=4101"],
        ),
        (SessionResume::new().with_limits(full), false, ["limit code=4113", "limit code=503"]),
    ];
    for (resume, is_own, causes) in rows {
        let mut holder = Browser::default();
        let _wire = holder.connect(&resume, Some(CLIENT), idle).await.unwrap();
        settle().await;
        let browser = if is_own { holder } else { Browser::default() };
        assert_eq!(refused_both_ways(&resume, browser).await, refused_at(&causes));
    }

    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let _wire = browser.connect(&resume, Some(CLIENT), echo).await.unwrap();
    let causes = refused_at(&["handler code=409", "handler code=4101"]);
    assert_eq!(refused_both_ways(&resume, browser).await, causes);

    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let room = browser.upgrade_at(&resume, "/ws/a", None).await.unwrap();
    let _wire = open(room, idle).unwrap();
    settle().await;
    let causes = refused_at(&["path code=409", "path code=4101"]);
    assert_eq!(refused_both_ways(&resume, browser).await, causes);

    let (resume, browser) = (SessionResume::new(), Browser::default());
    let _ = resume.drain(std::time::Duration::ZERO).await;
    let causes = refused_at(&["draining code=4112", "draining code=503"]);
    assert_eq!(refused_both_ways(&resume, browser).await, causes);
}

/// The names and ids of the spans that were entered.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_enter(&self, id: &span::Id, context: tracing_subscriber::layer::Context<'_, S>) {
        let name = context.span(id).map_or("", |span| span.name());
        self.0.lock().unwrap().push(name.to_owned());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_runs_in_its_session_s_span() {
    let spans = Spans::default();
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(spans.clone()));
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let _wire = browser.connect(&resume, None, idle).await.unwrap();
    settle().await;
    assert!(spans.0.lock().unwrap().contains(&"session".to_owned()));
}

/// Which span follows from which, by their names.
#[derive(Clone, Default)]
struct Links(Arc<Mutex<Vec<(String, String)>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Links {
    fn on_new_span(
        &self,
        _: &span::Attributes<'_>,
        id: &span::Id,
        context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let span = context.span(id).unwrap();
        assert!(span.name() != "session" || span.parent().is_none(), "it outlives its request");
    }

    fn on_follows_from(
        &self,
        id: &span::Id,
        follows: &span::Id,
        context: tracing_subscriber::layer::Context<'_, S>,
    ) {
        // A span that is closed already cannot be found: no trace would have it.
        let name = |id| context.span(id).map_or("", |span| span.name()).to_owned();
        self.0.lock().unwrap().push((name(id), name(follows)));
    }
}

/// A collector of traces makes a link of it, to the trace that the request's `traceparent` names.
#[tokio::test(start_paused = true)]
async fn a_session_s_span_follows_from_the_request_that_starts_its_handler() {
    let links = Links::default();
    let _log = tracing::subscriber::set_default(tracing_subscriber::registry().with(links.clone()));
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    for span in [tracing::info_span!("first"), tracing::info_span!("second")] {
        let upgrade = browser.upgrade(&resume, None).instrument(span.clone()).await.unwrap();
        let opened = span.in_scope(|| open(upgrade, idle).unwrap());
        // The framework has answered; the request's span is over for it.
        drop(span);
        settle().await;
        opened.cut();
        settle().await;
    }
    let one = ("session".to_owned(), "first".to_owned());
    assert_eq!(*links.0.lock().unwrap(), [one], "the second finds the handler running");
}

fn node_of(engine: &MemoryStore, name: &str) -> SessionResume {
    let cluster = Cluster::new(engine.clone()).with_name(name).with_advertise("127.0.0.1:7946");
    SessionResume::new().with_cluster(cluster)
}

#[tokio::test(start_paused = true)]
async fn a_node_counts_its_lease_and_what_it_claims() {
    let numbers = Numbers::default();
    let _metrics = metrics::set_default_local_recorder(&numbers);
    let (engine, mut browser) = (MemoryStore::new(), Browser::default());
    let claims = |why: &str| numbers.count(&format!("session_resume_claims_total why={why}"));
    let lease = || numbers.gauge("session_resume_lease_seconds");

    let one = node_of(&engine, "one");
    let session = browser.get(&one).await.unwrap();
    session.saved().await.unwrap();
    assert_eq!(claims("new"), 1);
    assert!(lease() > 3.0, "most of 5 s is left: {}", lease());
    assert_eq!(numbers.count("session_resume_lapses_total"), 0);
    let call = |call: &str| numbers.count(&format!("session_resume_engine_seconds call={call}"));
    assert_eq!((call("enlist"), call("claim")), (1, 1), "each call is timed");

    // The process does not run for a while: the engine lets go of it, and it takes back what it has in memory.
    tokio::time::advance(Duration::from_secs(30)).await;
    sleep(1.0).await;
    assert_eq!(claims("reclaim"), 1);
    assert_eq!(numbers.gauge("session_resume_frozen"), 0.0, "all go on");

    // Longer than the lease.
    sleep(6.0).await;
    assert!(call("renew") > 0);

    // It dies, and its client comes to another node when the lease is over.
    drop((session, one));
    sleep(6.0).await;
    let two = node_of(&engine.for_another_process(), "two");
    browser.get(&two).await.unwrap();
    assert_eq!(claims("gone"), 1);

    // A session that is put into the store has no owner.
    two.drain(Duration::from_secs(5)).await;
    let three = node_of(&engine.for_another_process(), "three");
    browser.get(&three).await.unwrap();
    assert_eq!(claims("stored"), 1);
    assert_eq!(numbers.gauge("session_resume_waiting"), 0.0);
    assert_eq!(numbers.count("session_resume_claim_seconds"), 4);
}

#[tokio::test(start_paused = true)]
async fn changes_of_the_identity_keys_are_counted() {
    let numbers = Numbers::default();
    let _recorder = metrics::set_default_local_recorder(&numbers);
    let resume = SessionResume::new().with_store(MemoryStore::new());
    let counts = || {
        ["rotate", "revoke"].map(|how| {
            numbers.count(&format!("session_resume_identity_keys_changed_total how={how}"))
        })
    };
    for expected in [[1, 0], [1, 0]] {
        resume.rotate_identity_keys().await.unwrap();
        assert_eq!(counts(), expected, "a key that waits is not made twice");
    }
    resume.revoke_identity_keys().await.unwrap();
    assert_eq!(counts(), [1, 1]);
}
