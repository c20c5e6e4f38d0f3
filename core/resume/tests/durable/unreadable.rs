//! Stored sessions that this process cannot read: never overwritten, never taken for new ones.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use session_resume::{
    SessionResume,
    adapter::{self, Upgrade},
    key::{self, KeyFn},
    reuse,
    store::{ErrorKind, MemoryStore, SnapshotStore as _, StoreKey},
};

use crate::{
    A,
    node::{Browser, Client, Got, Node, parts},
    store::{Fault, TestStore},
};

/// What a later version of the application has instead of a tally.
#[derive(Default, Serialize, Deserialize)]
struct Later {
    total: String,
}

/// A state that must not be told.
const SECRET: i64 = 987_654_321;

/// A session that was killed, its browser and its place in the store.
struct Stored {
    disk: MemoryStore,
    browser: Browser,
    /// What its client offers when it comes back.
    cursor: String,
    id: String,
    key: StoreKey,
}

impl Stored {
    async fn new() -> Self {
        Self::under(key::by_identity()).await.0
    }

    /// As [`Self::new`], with a key function; also returns where it is known by its id.
    async fn under(key: KeyFn) -> (Self, Option<StoreKey>) {
        let disk = MemoryStore::new();
        let mut browser = Browser::default();
        let node = Node::new(&disk, |layer| layer.with_key(key));
        let mut client = node.connect(&mut browser, Some(A)).await.unwrap();
        client.hello().await;
        client.send(&format!("add {SECRET}"));
        assert!(client.is_acked(1).await);
        let key = node.store.last.lock().unwrap().clone().unwrap();
        let (cursor, id) = (client.cursor(A), client.session());
        let by_id = node.store.last_id.lock().unwrap().clone();
        node.kill();
        (Self { disk, browser, cursor, id, key }, by_id)
    }

    async fn bytes(&self) -> Bytes {
        self.disk.load(&self.key).await.unwrap().unwrap().bytes
    }

    /// Changes what is stored, as if another program had written it.
    async fn rewrite(&self, change: impl FnOnce(&mut Vec<u8>)) {
        self.rewrite_at(&self.key, change).await;
    }

    async fn rewrite_at(&self, key: &StoreKey, change: impl FnOnce(&mut Vec<u8>)) {
        let stored = self.disk.load(key).await.unwrap().unwrap();
        let mut bytes = stored.bytes.to_vec();
        change(&mut bytes);
        let stamp = stored.stamp.next();
        self.disk.put(key, stamp, bytes.into(), stored.expires_in).await.unwrap();
    }

    /// Asks for it in every way; each is told what is wrong, and nothing else happens.
    async fn is_refused<T>(&self, layer: SessionResume<T>, wrong: &[&str])
    where
        T: Default + Serialize + for<'de> Deserialize<'de> + Send + 'static,
    {
        let before = self.bytes().await;
        let mut browser = self.browser.clone();
        let says = |text: String| {
            assert!(wrong.iter().all(|wrong| text.contains(wrong)), "{text}");
            assert!(!text.contains(&SECRET.to_string()), "{text}");
        };
        for _ in 0..2 {
            let request = parts(&layer, &mut browser, None).await;
            let refused = adapter::open::<T>(&request).await.err().unwrap();
            assert_eq!((refused.status().as_u16(), refused.retry_after()), (500, None));
            says(refused.to_string());
            let refused = Upgrade::<T>::prepare(&request).await.err().unwrap();
            assert_eq!(refused.status(), 500, "a plain client is told with the status");
            says(refused.to_string());
            // One that offers to resume would not see it: accepted and closed, to come back with backoff.
            for at in [A, &self.cursor] {
                let offer = format!("session-resume.v1, at.{at}");
                let request = parts(&layer, &mut browser, Some(&offer)).await;
                let upgrade = Upgrade::<T>::prepare(&request).await.unwrap();
                let attach = upgrade.on_session(async |_live| unreachable()).unwrap();
                assert_eq!(Client::start(attach).rest().await, [Got::Close(1011)]);
            }
        }
        assert_eq!(layer.sessions().len(), 0);
        assert_eq!(self.bytes().await, before, "untouched");
    }

    /// Whoever can read it finds it as it was.
    async fn is_there(&self) {
        let session = Node::start(&self.disk).open(&mut self.browser.clone()).await.unwrap();
        assert_eq!(session.id().to_string(), self.id);
        assert_eq!(session.read(|tally| tally.total), SECRET);
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_cannot_be_read_nobody_starts_anew() {
    let stored = Stored::new().await;
    let node = Node::start(&stored.disk);
    node.store.set(Fault::FailToLoad(ErrorKind::Unavailable));
    let mut browser = stored.browser.clone();
    let refused = node.open(&mut browser).await.err().unwrap();
    assert_eq!((refused.status().as_u16(), refused.retry_after()), (503, Some(1)));
    for at in [A, &stored.cursor] {
        let mut client = node.connect(&mut browser, Some(at)).await.unwrap();
        let rest = client.rest().await;
        assert!(matches!(&rest[0], Got::Other(control) if control["retry"].is_u64()), "{rest:?}");
        assert_eq!(rest[1..], [Got::Close(4113)]);
    }
    assert_eq!((node.layer.sessions().len(), node.store.puts()), (0, 0));
    node.store.set(Fault::None);
    let mut client = node.connect(&mut browser, Some(&stored.cursor)).await.unwrap();
    assert_eq!(client.hello().await["status"], "restored");
    node.kill();
    stored.is_there().await;
}

fn unreachable() {
    panic!("no handler runs");
}

#[tokio::test(start_paused = true)]
async fn a_record_of_another_version_is_refused_and_kept() {
    let stored = Stored::new().await;
    let version = stored.bytes().await[0];
    for (other, text) in [(version + 1, "newer version"), (version - 1, "older version")] {
        stored.rewrite(|bytes| bytes[0] = other).await;
        let node = Node::start(&stored.disk);
        let says = format!("from an {text} (got {other}, know {version})").replace("an n", "a n");
        stored.is_refused(node.layer.clone(), &[&says]).await;
        let mut parts = node.parts(&mut stored.browser.clone(), None).await;
        parts.uri = format!("/sessions/{}", stored.id).parse().unwrap();
        let refused = adapter::poll::<crate::node::Tally>(&parts, &stored.id).await.err().unwrap();
        assert_eq!(refused.status(), 500);
        assert!(refused.to_string().contains(&says), "{refused}");
        node.kill();
    }
    stored.rewrite(|bytes| bytes[0] = version).await;
    stored.is_there().await;
}

/// The status of a poll, and what it says.
async fn polled(node: &Node, browser: &Browser, id: &str) -> (u16, String) {
    let parts = node.parts(&mut browser.clone(), None).await;
    match adapter::poll::<crate::node::Tally>(&parts, id).await {
        Ok(poll) => (poll.status.as_u16(), poll.body),
        Err(refused) => (refused.status().as_u16(), refused.to_string()),
    }
}

#[tokio::test(start_paused = true)]
async fn strangers_learn_nothing_of_what_cannot_be_read() {
    let stranger = Browser::default();
    let (stored, by_id) = Stored::under(key::by_path()).await;
    let node = Node::new(&stored.disk, |layer| layer.with_key(key::by_path()));
    let unknown = polled(&node, &stranger, "00000000-0000-4000-8000-000000000000").await;
    assert_eq!(unknown.0, 404);
    stored.rewrite(|bytes| bytes[0] += 1).await;
    assert_eq!(polled(&node, &stored.browser, &stored.id).await.0, 500, "theirs");
    assert_eq!(polled(&node, &stranger, &stored.id).await, unknown);
    stored.rewrite(|bytes| bytes[0] -= 1).await;
    stored.rewrite_at(&by_id.unwrap(), |bytes| bytes[0] += 1).await;
    assert_eq!(polled(&node, &stranger, &stored.id).await, unknown);
    // Nor by a cursor: a stranger starts as with one that never was.
    let mut client = node.connect(&mut stranger.clone(), Some(&stored.cursor)).await.unwrap();
    let hello = client.hello().await;
    assert_eq!((&hello["status"], &hello["gap"]["reason"]), (&"new".into(), &"expired".into()));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_refused_and_kept() {
    let stored = Stored::new().await;
    let whole = stored.bytes().await;
    stored.rewrite(|bytes| bytes.truncate(bytes.len() / 2)).await;
    let node = Node::start(&stored.disk);
    stored.is_refused(node.layer.clone(), &["damaged"]).await;
    node.kill();
    stored.rewrite(|bytes| *bytes = whole.to_vec()).await;
    stored.is_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_of_another_type_is_refused_and_kept() {
    let stored = Stored::new().await;
    // Each a process of its own.
    let layer =
        || SessionResume::new().with_state::<Later>().with_store(TestStore::new(&stored.disk));
    stored.is_refused(layer(), &["Later", "#[serde(default)]"]).await;
    // Its record can be read, so what needs no state goes on.
    let layer = layer().with_reuse(reuse::never());
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    let polled = adapter::poll::<Later>(&request, &stored.id).await.unwrap();
    assert!(polled.body.contains("stored"), "{polled:?}");
    stored.is_there().await;
    // The way out, if nobody wants it any more.
    let session = adapter::open::<Later>(&request).await.unwrap();
    assert_ne!(session.id().to_string(), stored.id);
    let polled = adapter::poll::<Later>(&request, &stored.id).await.unwrap();
    assert!(polled.body.contains("closed"), "{polled:?}");
}
