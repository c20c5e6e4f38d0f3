//! The application's code panics, fails or takes its time where the library calls it: no other session suffers.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use session_resume::{
    BlockingSession, Durability, LiveSession, OutcomeStatus, Session, SessionResume,
    adapter::{self, Upgrade},
    store::MemoryStore,
};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    A,
    leaving::in_virtual_time,
    node::{self, Browser, Client, Node},
    store::TestStore,
};

const SOON: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_secs(600);

/// Panics, and says nothing on standard error.
fn quiet() -> ! {
    resume_unwind(Box::new("boom"))
}

fn read_and_panic(session: &Session<node::Tally>) {
    let read = AssertUnwindSafe(|| session.read(|_| -> () { quiet() }));
    assert!(catch_unwind(read).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_read_ends_nothing() {
    let disk = MemoryStore::new();
    let node = Node::start(&disk);
    let mut browser = Browser::default();
    let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
    client.hello().await;
    client.send("add 1");
    assert!(client.is_acked(1).await);
    let session = node.layer.get(client.id()).unwrap();
    read_and_panic(&session);
    client.send("add 1");
    assert!(client.is_acked(2).await, "messages are still acknowledged");
    read_and_panic(&session);
    session.update(|tally| tally.total += 1);
    timeout(SOON, session.saved()).await.expect("saved() resolves").unwrap();
    assert!(session.outcome().is_none());
    node.kill();
    let node = Node::start(&disk);
    assert_eq!(node.open(&mut browser).await.unwrap().read(|tally| tally.total), 3);
}

#[tokio::test(start_paused = true)]
async fn panics_in_reads_keep_nobody_out() {
    let node = Node::start(&MemoryStore::new());
    let mut browsers = Vec::new();
    for _ in 0..300 {
        let mut browser = Browser::default();
        let session = node.open(&mut browser).await.unwrap();
        read_and_panic(&session);
        session.update(|tally| tally.total = 2);
        browsers.push(browser);
    }
    tokio::time::sleep(LONG).await;
    assert!(node.layer.sessions().is_empty(), "all have left for the store");
    for browser in browsers.iter_mut().take(10).chain(&mut [Browser::default()]) {
        timeout(SOON, node.open(browser)).await.expect("answered").unwrap();
    }
}

/// How a state is written.
#[derive(Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
enum Mood {
    #[default]
    Fine,
    Fails,
    Panics,
}

#[derive(Default, Deserialize)]
struct Moody {
    mood: Mood,
}

impl Serialize for Moody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.mood {
            Mood::Fine => serializer.serialize_map(Some(0)).and_then(serde::ser::SerializeMap::end),
            Mood::Fails => Err(S::Error::custom("a moody state")),
            Mood::Panics => quiet(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_state_cannot_be_written_ends() {
    for mood in [Mood::Fails, Mood::Panics] {
        let layer = moody_layer();
        let (mut one, mut two) = (Browser::default(), Browser::default());
        let other = open(&layer, &mut two).await;
        let session = open(&layer, &mut one).await;
        session.saved().await.unwrap();
        session.update(|state| state.mood = mood);
        other.update(|_| ());
        assert!(timeout(LONG, session.saved()).await.expect("saved() resolves").is_err());
        let outcome = session.outcome().expect("it has ended");
        assert_eq!(outcome.status(), OutcomeStatus::Panicked);
        let text = if mood == Mood::Fails { "a moody state" } else { "boom" };
        assert!(outcome.error().unwrap().contains(text), "{outcome:?}");
        timeout(LONG, other.saved()).await.expect("others go on").unwrap();
        // The browser starts anew.
        assert_ne!(open(&layer, &mut one).await.id(), session.id());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_commits_what_cannot_be_written_is_told() {
    let layer = moody_layer();
    let (tell, told) = oneshot::channel();
    let mut client = connect(&layer, &mut Browser::default(), async |mut live| {
        live.recv().await;
        live.update(|state: &mut Moody| state.mood = Mood::Panics);
        let _ = tell.send(live.commit().await.is_err());
        live.recv().await;
    })
    .await;
    client.hello().await;
    client.send("go");
    assert!(timeout(LONG, told).await.expect("commit() resolves").unwrap_or(true));
    let rest = client.rest().await;
    assert!(format!("{rest:?}").contains("panicked"), "{rest:?}");
}

fn moody_layer() -> SessionResume<Moody> {
    SessionResume::new().with_state::<Moody>().with_store(TestStore::new(&MemoryStore::new()))
}

async fn open<T: Send + 'static>(layer: &SessionResume<T>, browser: &mut Browser) -> Session<T> {
    adapter::open(&node::parts(layer, browser, None).await).await.unwrap()
}

async fn connect<T: Send + 'static, Fut>(
    layer: &SessionResume<T>,
    browser: &mut Browser,
    handler: impl FnOnce(LiveSession<T>) -> Fut + Send + 'static,
) -> Client
where
    Fut: Future<Output: session_resume::IntoOutcome> + Send + 'static,
{
    let offer = format!("session-resume.v1, at.{A}");
    let parts = node::parts(layer, browser, Some(&offer)).await;
    let upgrade = Upgrade::<T>::prepare(&parts).await.unwrap();
    Client::start(upgrade.on_session(handler).unwrap())
}

/// A state that uses its session while it is written.
#[derive(Default, Deserialize)]
struct Chatty {
    #[serde(skip)]
    own: OnceLock<Session<Chatty>>,
}

impl Serialize for Chatty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(own) = self.own.get() {
            let _ = own.try_send("written");
            assert!(own.outcome().is_none() && own.info().outbox_messages > 0);
        }
        serializer.serialize_map(Some(0)).and_then(serde::ser::SerializeMap::end)
    }
}

#[test]
fn a_state_may_use_its_session_while_it_is_written() {
    in_virtual_time(async {
        let layer = SessionResume::new()
            .with_state::<Chatty>()
            .with_store(TestStore::new(&MemoryStore::new()));
        let session = open(&layer, &mut Browser::default()).await;
        let own = session.clone();
        session.update(move |state| {
            let _ = state.own.set(own);
        });
        timeout(LONG, session.saved()).await.expect("saved() resolves").unwrap();
        assert!(session.outcome().is_none());
        session.update(|state| drop(state.own.take()));
    });
}

/// A state whose drop panics once it is armed.
#[derive(Default, Serialize, Deserialize)]
struct Bomb {
    #[serde(skip)]
    armed: bool,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.armed {
            quiet();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_panics_when_it_is_dropped_ends_neither_sweeper_nor_saver() {
    let disk = MemoryStore::new();
    let stores = [TestStore::new(&disk), TestStore::new(&disk)];
    for store in &stores {
        store.process().shares.store(true, SeqCst);
    }
    let [layer, elsewhere] =
        stores.map(|store| SessionResume::new().with_state::<Bomb>().with_store(store));
    let arm = async |browser: &mut Browser| {
        let bomb = open(&layer, browser).await;
        bomb.update(|_| ());
        bomb.saved().await.unwrap();
        bomb
    };
    // The sweeper drops one that leaves.
    arm(&mut Browser::default()).await.update(|bomb| bomb.armed = true);
    tokio::time::sleep(LONG).await;
    assert!(layer.sessions().is_empty());
    // The saver drops one that another process has taken.
    let mut browser = Browser::default();
    let bomb = arm(&mut browser).await;
    drop(open(&elsewhere, &mut browser).await);
    bomb.update(|bomb| bomb.armed = true);
    drop(bomb);
    tokio::time::sleep(SOON).await;
    assert!(layer.sessions().is_empty());
    // Both go on.
    let session = open(&layer, &mut Browser::default()).await;
    session.update(|_| ());
    timeout(LONG, session.saved()).await.expect("the saver lives").unwrap();
    drop(session);
    tokio::time::sleep(LONG).await;
    assert!(layer.sessions().is_empty(), "the sweeper lives");
}

/// What a handler returns, and what of it panics.
struct Loud {
    written: bool,
}

impl Serialize for Loud {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.written { quiet() } else { serializer.serialize_unit() }
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        if !self.written {
            quiet();
        }
    }
}

#[derive(Debug)]
struct LoudError;

impl fmt::Display for LoudError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        quiet()
    }
}

impl std::error::Error for LoudError {}

#[tokio::test(start_paused = true)]
async fn whatever_panics_of_what_a_handler_returns_is_its_outcome() {
    let results: [fn() -> session_resume::Result<Loud>; 3] =
        [|| Ok(Loud { written: true }), || Ok(Loud { written: false }), || Err(LoudError.into())];
    for result in results {
        let layer = SessionResume::new().with_state::<node::Tally>();
        let mut client = connect(&layer, &mut Browser::default(), async move |mut live| {
            live.recv().await;
            result()
        })
        .await;
        client.hello().await;
        client.send("go");
        let rest = client.rest().await;
        assert!(format!("{rest:?}").contains("panicked"), "{rest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_spawned_on_a_session_that_has_left() {
    let node = Node::start(&MemoryStore::new());
    let id = node.open(&mut Browser::default()).await.unwrap().id();
    // Not a request's handle: that would keep the session in memory.
    let session = node.layer.get(id).unwrap();
    tokio::time::sleep(LONG).await;
    assert!(node.layer.get(id).is_none(), "it has left");
    let (alive, dropped) = oneshot::channel::<()>();
    let runs = session.spawn("late", async move {
        let _alive = alive;
        std::future::pending::<()>().await;
    });
    assert!(!runs);
    assert!(timeout(SOON, dropped).await.expect("its future is dropped").is_err());
}

/// A handler on a thread cannot be cancelled: it must be told, also while its message is on trial.
#[tokio::test(start_paused = true)]
async fn a_thread_is_told_of_the_end_while_a_trial_is_recorded() {
    for taken in [false, true] {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = Node::start(&disk);
        let first = |mut session: BlockingSession<node::Tally>| while session.recv().is_some() {};
        node.connect_blocking(&mut browser, first).await.send("a");
        tokio::time::sleep(SOON).await;
        node.kill();
        let node = Node::start(&disk);
        node.store.shares.store(true, SeqCst);
        let (end, mut ended) = oneshot::channel();
        let second = move |mut session: BlockingSession<node::Tally>| {
            while session.recv().is_some() {}
            let _ = end.send(());
        };
        let client = node.connect_blocking(&mut browser, second).await;
        tokio::time::sleep(SOON).await;
        let session = node.open(&mut browser).await.unwrap();
        node.store.hold();
        client.send("b");
        tokio::time::sleep(SOON).await;
        if taken {
            let other = Node::start(&disk);
            other.store.shares.store(true, SeqCst);
            other.open(&mut browser).await.unwrap();
        } else {
            session.close("bye");
        }
        node.store.release();
        tokio::time::sleep(SOON).await;
        // Threads go by real time.
        let told = tokio::task::spawn_blocking(move || {
            (0..600).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                ended.try_recv().is_ok()
            })
        });
        assert!(told.await.unwrap(), "taken: {taken}");
    }
}

#[derive(Default, Deserialize)]
struct Counted {}

static WRITTEN: AtomicUsize = AtomicUsize::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WRITTEN.fetch_add(1, SeqCst);
        serializer.serialize_map(Some(0)).and_then(serde::ser::SerializeMap::end)
    }
}

/// A handler that asks for messages in a loop with other things comes to its boundary again and again.
#[tokio::test(start_paused = true)]
async fn asking_again_writes_nothing_again() {
    let store = TestStore::new(&MemoryStore::new());
    let process = store.process();
    let layer = SessionResume::new().with_state::<Counted>();
    let layer = layer.with_durability(Durability::Exact).with_store(store);
    let mut client = connect(&layer, &mut Browser::default(), async |mut live| {
        loop {
            match timeout(Duration::from_millis(10), live.recv()).await {
                Ok(None) => return,
                Ok(Some(message)) => {
                    let _ = live.send(message).await;
                }
                Err(_) => {}
            }
        }
    })
    .await;
    client.hello().await;
    let written = WRITTEN.load(SeqCst);
    process.hold();
    client.send("hello");
    tokio::time::sleep(SOON).await;
    assert_eq!(WRITTEN.load(SeqCst), written + 1);
    process.release();
    assert_eq!(client.data().await.as_deref(), Some("hello"));
}
