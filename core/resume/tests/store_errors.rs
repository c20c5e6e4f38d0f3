//! Every failure of the store is told: in the log, as a number, and to each caller that waits. A process of its own:
//! tracing caches which events matter process-wide.

#![expect(unreachable_pub, reason = "a test binary has no outside")]

#[allow(dead_code, reason = "the helpers of the durable tests")]
#[path = "durable/node.rs"]
mod node;
#[allow(dead_code, reason = "the helpers of the durable tests")]
#[path = "durable/store.rs"]
mod store;

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde::{Deserialize, Serialize};
use session_resume::{
    SessionResume, Unreadable, adapter,
    store::{ErrorKind, MemoryStore},
};
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    node::{Browser, Got, Node},
    store::{Fault, TestStore},
};

const A: &str = "aaaaaaaaaaaaaaaa";

/// What an operator sees.
#[derive(Clone, Default)]
struct Told {
    lines: Arc<Mutex<Vec<u8>>>,
    errors: Arc<AtomicU64>,
}

impl Told {
    /// Expects that since the last call an error was counted, and this was logged.
    fn expect(&self, text: &str) {
        let log = String::from_utf8(std::mem::take(&mut self.lines.lock().unwrap())).unwrap();
        assert!(log.contains(text), "{text:?} is not in\n{log}");
        assert!(self.errors.swap(0, SeqCst) > 0, "counted: {text}");
    }

    fn expect_nothing(&self) {
        let log = String::from_utf8(std::mem::take(&mut self.lines.lock().unwrap())).unwrap();
        assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
        assert_eq!(self.errors.load(SeqCst), 0);
    }
}

impl io::Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Told {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Recorder for Told {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match key.name() {
            "session_resume_store_errors_total" => Counter::from_arc(Arc::clone(&self.errors)),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn every_store_error_surfaces() {
    let told = Told::default();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(told.clone()).finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let _metrics = metrics::set_default_local_recorder(&told);

    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::new(&disk, |layer| layer.with_stored_lifetime(Duration::from_secs(300)));
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    told.expect_nothing();

    // A snapshot: also to the handler that commits, and to a caller that waits elsewhere.
    let session = node.open(&mut browser).await.unwrap();
    for (kind, text) in [
        (ErrorKind::Io, "failed to read or write"),
        (ErrorKind::Full, "the store is full"),
        (ErrorKind::TooLarge, "too large to be stored"),
        (ErrorKind::Unavailable, "cannot be used now"),
    ] {
        node.store.set(Fault::Fail(kind));
        let acked = client.acked;
        client.send("commit");
        assert!(client.is_quiet().await);
        assert_eq!(client.acked, acked, "not acknowledged");
        assert_eq!(node.commits.lock().unwrap().pop(), Some(false));
        session.update(|tally| tally.total += 1);
        let error = session.saved().await.unwrap_err();
        let cause = std::error::Error::source(&error).expect("the store's error").to_string();
        assert!(cause.contains(text), "{cause}");
        told.expect(text);
        node.store.set(Fault::None);
        // It is tried again after a while.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(client.is_acked(acked + 1).await);
    }

    // What is done for a session in use, and for all of them.
    node.store.set(Fault::Fail(ErrorKind::Io));
    client.send("work");
    tokio::time::sleep(Duration::from_secs(1)).await;
    told.expect("record not amended");
    let mut log = String::new();
    for _ in 0..60 {
        while client.next().await.is_some_and(|got| got != Got::Gone) {}
        client.send("\u{1}{\"ack\":0}");
        let lines = std::mem::take(&mut *told.lines.lock().unwrap());
        log.push_str(&String::from_utf8(lines).unwrap());
    }
    for text in ["expiry not moved", "expired records not deleted"] {
        assert!(log.contains(text), "{text:?} is not in\n{log}");
    }
    told.errors.store(0, SeqCst);
    node.gate.notify_one();

    // An outcome.
    client.send("finish well");
    while let Some(got) = client.next().await {
        assert!(matches!(got, Got::Data(_) | Got::Ack(_)), "the end is not told: {got:?}");
    }
    told.expect("outcome not saved");
    node.store.set(Fault::None);
    assert_eq!(client.rest().await.last(), Some(&Got::Close(1000)));

    // What is not in memory.
    session_that_cannot_be_loaded(&told).await;
    state_that_does_not_fit(&told).await;
}

async fn state_that_does_not_fit(told: &Told) {
    #[derive(Default, Serialize, Deserialize)]
    struct Later {
        sum: i64,
    }
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 987654321");
    assert!(client.is_acked(1).await);
    let id = client.session();
    node.kill();
    let deployed = || SessionResume::new().with_state::<Later>().with_store(TestStore::new(&disk));
    let request = node::parts(&deployed(), &mut browser, None).await;
    assert_eq!(adapter::open::<Later>(&request).await.err().unwrap().status(), 500);
    // The type is in the log alone, and the state in neither.
    told.expect("Later (at byte 19 of its JSON)");
    let layer = deployed().with_unreadable(Unreadable::StartAnew);
    let request = node::parts(&layer, &mut browser, None).await;
    for _ in 0..3 {
        let session = adapter::open::<Later>(&request).await.unwrap();
        assert_ne!(session.id().to_string(), id);
    }
    let log = String::from_utf8(std::mem::take(&mut told.lines.lock().unwrap())).unwrap();
    assert_eq!(log.matches("its record is kept aside").count(), 1, "{log}");
    assert_eq!(log.matches(&format!("session={id}")).count(), 1, "{log}");
    assert!(log.contains("WARN") && log.contains("Later") && !log.contains("987654321"), "{log}");
    assert_eq!(told.errors.swap(0, SeqCst), 0, "no failure of the store");
}

async fn session_that_cannot_be_loaded(told: &Told) {
    let disk = MemoryStore::new();
    let mut browser = Browser::default();
    let node = Node::start(&disk);
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    let id = client.session();
    node.kill();
    let node = Node::start(&disk);
    for (kind, status) in
        [(ErrorKind::Unavailable, 503), (ErrorKind::Corrupt, 500), (ErrorKind::TooNew, 500)]
    {
        node.store.set(Fault::FailToLoad(kind));
        told.errors.store(0, SeqCst);
        let refused = node.open(&mut browser).await.err().unwrap();
        assert_eq!(refused.status(), status, "{kind:?}");
        told.expect(if status == 503 { "does not answer" } else { "cannot be read" });
        let parts = node.parts(&mut browser, None).await;
        let refused =
            session_resume::adapter::poll::<node::Tally>(&parts, &id).await.err().unwrap();
        assert_eq!(refused.status(), status, "polled: {kind:?}");
        told.expect(&kind_text(kind));
    }
    // A claim that the store does not take.
    node.store.set(Fault::Fail(ErrorKind::Full));
    assert_eq!(node.open(&mut browser).await.err().unwrap().status(), 503);
    told.expect("the store is full");
    node.store.set(Fault::None);
    assert_eq!(node.open(&mut browser).await.unwrap().id().to_string(), id);
}

fn kind_text(kind: ErrorKind) -> String {
    session_resume::store::StoreError::from(kind).to_string()
}
