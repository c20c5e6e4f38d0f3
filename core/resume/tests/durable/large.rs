//! While a large state is written as JSON, all that does not need the state goes on.

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    time::Duration,
};

use serde::{Deserialize, Serialize, Serializer};
use session_resume::{
    Attach, LiveSession, Session, SessionResume,
    adapter::{self, Upgrade},
    store::{MemoryStore, RecordKind, SnapshotStore as _},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    A, B,
    node::{self, Browser, Client, Got},
};

const LEN: usize = 1_000_000;

/// Longer than anything here takes. What would wait for the test waits for this long, and then fails.
const LONG: Duration = Duration::from_secs(30);

/// A text that is written as JSON only when the test says so.
#[derive(Clone, Default, Deserialize)]
struct Text {
    text: String,
    #[serde(skip)]
    gate: Option<Arc<Gate>>,
}

struct Gate {
    begun: mpsc::UnboundedSender<()>,
    opened: Mutex<blocking::Receiver<()>>,
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plain<'a> {
            text: &'a str,
        }
        if let Some(gate) = &self.gate {
            gate.begun.send(()).unwrap();
            let opened = gate.opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.recv_timeout(LONG).expect("what the test does meanwhile waits for this");
        }
        Plain { text: &self.text }.serialize(serializer)
    }
}

/// A session whose state is being written, and its clients.
struct Written {
    layer: SessionResume<Text>,
    store: MemoryStore,
    browser: Browser,
    client: Client,
    session: Session<Text>,
    begun: mpsc::UnboundedReceiver<()>,
    open: blocking::Sender<()>,
}

impl Written {
    async fn begin(configure: impl FnOnce(SessionResume<Text>) -> SessionResume<Text>) -> Self {
        let store = MemoryStore::new();
        let layer = SessionResume::new().with_state::<Text>().with_store(store.clone());
        let layer = configure(layer.with_attach(Attach::Share));
        let mut browser = Browser::default();
        let mut client = connect(&layer, &mut browser, A).await;
        client.hello().await;
        let session = layer.get(client.id()).unwrap();
        session.saved().await.unwrap();
        let (begun, has_begun) = mpsc::unbounded_channel();
        let (open, opened) = blocking::channel();
        let gate = Some(Arc::new(Gate { begun, opened: Mutex::new(opened) }));
        let text = "x".repeat(LEN);
        session.update(move |state| *state = Text { text, gate });
        let mut written = Self { layer, store, browser, client, session, begun: has_begun, open };
        written.has_begun().await;
        written
    }

    /// Waits until the state is about to be written.
    async fn has_begun(&mut self) {
        timeout(LONG, self.begun.recv()).await.expect("the state is written").unwrap();
    }

    /// Returns the session's record, once all is saved.
    async fn stored(&self) -> String {
        self.session.saved().await.unwrap();
        let keys = self.store.first(RecordKind::Session, "default", 9).await.unwrap();
        let [key] = &keys[..] else { panic!("{keys:?}") };
        let record = self.store.load(key).await.unwrap().unwrap();
        String::from_utf8_lossy(&record.bytes).into_owned()
    }
}

async fn connect(layer: &SessionResume<Text>, browser: &mut Browser, id: &str) -> Client {
    let offer = format!("session-resume.v1, at.{id}");
    let parts = node::parts(layer, browser, Some(&offer)).await;
    let upgrade = Upgrade::<Text>::prepare(&parts).await.unwrap();
    Client::start(upgrade.on_session(repeat).unwrap())
}

/// Says what it is told.
async fn repeat(mut live: LiveSession<Text>) -> session_resume::Result<()> {
    while let Some(message) = live.recv().await {
        live.send(message).await?;
    }
    Ok(())
}

async fn is_told(client: &mut Client, expected: &str) {
    loop {
        match client.next().await {
            Some(Got::Data(text)) if text == expected => return,
            Some(Got::Ack(_) | Got::Other(_)) => {}
            other => panic!("expected {expected}, got {other:?}"),
        }
    }
}

/// A client that comes without a cursor is told first what is still there because another one has not acknowledged it.
async fn is_told_at_last(client: &mut Client, expected: &str) {
    loop {
        match client.next().await.expect("there is more") {
            Got::Data(text) if text == expected => return,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn messages_and_clients_come_and_go_while_a_state_is_written() {
    let mut written = Written::begin(|layer| layer).await;
    let Written { layer, browser, client, session, .. } = &mut written;
    // Out, from a handle and from the handler; in, to the handler and past its boundary.
    session.try_send("from a handle").unwrap();
    is_told(client, "from a handle").await;
    session.send("waits for room at most").await.unwrap();
    is_told(client, "waits for room at most").await;
    for text in ["one", "two", "three"] {
        client.send(text);
        is_told(client, text).await;
    }
    // A request, an attach of another client, a detach, and the first one again.
    let parts = node::parts(layer, browser, None).await;
    let opened = adapter::open::<Text>(&parts).await.unwrap();
    assert_eq!(opened.id(), session.id());
    let mut other = connect(layer, browser, B).await;
    other.hello().await;
    session.try_send("to both").unwrap();
    is_told(client, "to both").await;
    is_told_at_last(&mut other, "to both").await;
    other.cut();
    let mut again = connect(layer, browser, A).await;
    again.hello().await;
    again.send("again");
    is_told_at_last(&mut again, "again").await;
    assert!(session.info().transports > 0 && session.outcome().is_none());

    written.open.send(()).unwrap();
    // What was handled meanwhile is in a snapshot of its own.
    written.has_begun().await;
    written.open.send(()).unwrap();
    written.session.update(|state| state.gate = None);
    assert!(written.stored().await.contains(&"x".repeat(LEN)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_state_is_read_and_changed_while_a_copy_of_it_is_written() {
    let mut written = Written::begin(SessionResume::with_snapshots_of_copies).await;
    let session = written.session.clone();
    assert_eq!(session.read(|state| state.text.len()), LEN);
    session.update(|state| {
        state.gate = None;
        state.text.push_str("changed");
    });
    assert_eq!(session.read(|state| state.text.len()), LEN + 7);
    session.try_send("meanwhile").unwrap();
    is_told(&mut written.client, "meanwhile").await;
    written.open.send(()).unwrap();
    assert!(written.stored().await.contains("xchanged"), "the change is saved after it");
}
