//! Stored sessions that this process cannot read: refused and kept, or kept aside while a new one has their place.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use session_resume::{
    Attach, Limits, LiveSession, SessionId, SessionResume, Unreadable,
    adapter::{self, Refusal, Upgrade},
    key::{self, KeyFn},
    reuse::{self, ReuseDecision, ReusePolicy},
    store::{
        ErrorKind, MemoryStore, RecordKind, SetAside, SnapshotStore as _, Stamp, StoreKey,
        Versioned,
    },
};

use crate::{
    A, B,
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
            assert!(!text.contains("::"), "no type of the program is told to a stranger: {text}");
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

    /// A process that can read it finds it as it was.
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

/// A process of a later version of the program.
fn later(disk: &MemoryStore) -> SessionResume<Later> {
    SessionResume::new().with_state::<Later>().with_store(TestStore::new(disk))
}

/// The status of a poll of the later version, and what it says.
async fn polled_later(layer: &SessionResume<Later>, browser: &Browser, id: &str) -> String {
    let request = parts(layer, &mut browser.clone(), None).await;
    adapter::poll::<Later>(&request, id).await.unwrap().body
}

/// Connects to a process of the later version, with a handler that says its state.
async fn connect_later(
    layer: &SessionResume<Later>,
    browser: &Browser,
    at: Option<&str>,
) -> Result<Client, Refusal> {
    let offer = at.map(|at| format!("session-resume.v1, at.{at}"));
    let request = parts(layer, &mut browser.clone(), offer.as_deref()).await;
    let upgrade = Upgrade::<Later>::prepare(&request).await?;
    let attach = upgrade.on_session(async |mut live: LiveSession<Later>| {
        while live.recv().await.is_some() {
            let _ = live.send(live.read(|state| format!("later:{}", state.total))).await;
        }
    });
    attach.map(Client::start)
}

impl Stored {
    /// What is kept aside, with where it is and for how long.
    async fn aside(&self) -> Vec<(StoreKey, Versioned)> {
        let keys = self.disk.first(RecordKind::Unreadable, "default", 10).await.unwrap();
        let mut all = Vec::new();
        for key in keys {
            let kept = self.disk.load(&key).await.unwrap().unwrap();
            all.push((key, kept));
        }
        all
    }

    /// A new session has its place, for every client that knew the old one; nothing of that is lost.
    async fn gives_way_to_a_new_one(&self, layer: SessionResume<Later>, who: &str) {
        let before = self.bytes().await;
        let mut client = connect_later(&layer, &self.browser, Some(&self.cursor)).await.unwrap();
        let hello = client.hello().await;
        let gap = &hello["gap"];
        assert_eq!((&hello["status"], hello["from"].as_u64()), (&"new".into(), Some(0)), "{who}");
        assert_eq!((&gap["reason"], &gap["to"]), (&"expired".into(), &Value::Null), "{who}");
        let new = client.session();
        assert_ne!(new, self.id, "{who}");
        client.send("get");
        assert_eq!(client.data().await.as_deref(), Some("later:"), "{who}");
        // Another page of the browser that had been in the old one: told the same, not that all is over.
        let other = self.cursor.replacen(A, B, 1);
        let mut other = connect_later(&layer, &self.browser, Some(&other)).await.unwrap();
        let hello = other.hello().await;
        assert_eq!((&hello["status"], &hello["session"]), (&"reused".into(), &new.as_str().into()));
        assert_eq!(hello["gap"]["reason"], "expired", "{who}");

        let polled = polled_later(&layer, &self.browser, &self.id).await;
        assert!(polled.contains("\"expired\"") && polled.contains("could not be read"), "{polled}");
        let aside = self.aside().await;
        let [(_, kept)] = &aside[..] else { panic!("{who}: one record is kept, not {aside:?}") };
        assert_eq!(kept.bytes, before, "{who}: as it was");
        let kept = SetAside::read(&kept.bytes).unwrap();
        assert_eq!(kept.session().to_string(), self.id);
        assert_eq!(kept.state(), format!("{{\"total\":{SECRET}}}").as_bytes());
        assert!(kept.created() <= kept.updated() && kept.handler().is_none());
        let text = format!("{kept:?}");
        assert!(!text.contains(&SECRET.to_string()), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_of_another_type_is_refused_and_kept() {
    let stored = Stored::new().await;
    // The type's name is for the log.
    let wrong =
        "its state does not fit the program's type any more (the log says where, and what to do)";
    stored.is_refused(later(&stored.disk), &[wrong]).await;
    let reuses = reuse::from_fn(|_, _| ReuseDecision::Reuse);
    stored.is_refused(later(&stored.disk).with_reuse(reuses), &[wrong]).await;
    assert!(stored.aside().await.is_empty());
    // Its record can be read, so what needs no state goes on.
    let polled = polled_later(&later(&stored.disk), &stored.browser, &stored.id).await;
    assert!(polled.contains("stored"), "{polled:?}");
    stored.is_there().await;
}

#[tokio::test(start_paused = true)]
async fn a_deserialize_that_panics_is_no_more_than_its_error() {
    #[derive(Default, Serialize)]
    struct Bomb;
    impl<'de> Deserialize<'de> for Bomb {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            std::panic::resume_unwind(Box::new("boom"))
        }
    }
    let stored = Stored::new().await;
    let layer =
        || SessionResume::new().with_state::<Bomb>().with_store(TestStore::new(&stored.disk));
    stored.is_refused(layer(), &["does not fit"]).await;
    let layer = layer().with_reuse(reuse::always());
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    let session = adapter::open::<Bomb>(&request).await.unwrap();
    assert_ne!(session.id().to_string(), stored.id);
}

#[tokio::test(start_paused = true)]
async fn a_new_session_has_the_place_of_one_that_cannot_be_read_if_the_policy_says_so() {
    for policy in [
        reuse::always(),
        reuse::never(),
        reuse::if_idle(),
        reuse::younger_than(Duration::MAX),
        reuse::same_identity(),
        reuse::from_fn(|candidate, _| {
            if candidate.unreadable() { ReuseDecision::Fresh } else { ReuseDecision::Reuse }
        }),
    ] {
        let stored = Stored::new().await;
        let who = format!("{policy:?}");
        // Two pages of one browser, so that the second one does not end the session of the first.
        let layer = later(&stored.disk).with_reuse(policy).with_attach(Attach::Share);
        if who.contains("never") || who.contains("if_idle") {
            let client = connect_later(&layer, &stored.browser, Some(&stored.cursor)).await;
            assert_eq!(client.unwrap().hello().await["status"], "new", "{who}");
            assert_eq!(stored.aside().await.len(), 1, "{who}");
        } else {
            stored.gives_way_to_a_new_one(layer, &who).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn start_anew_holds_where_the_policy_would_reuse() {
    for policy in [ReusePolicy::default(), reuse::from_fn(|_, _| ReuseDecision::Reuse)] {
        let stored = Stored::new().await;
        let layer = later(&stored.disk).with_unreadable(Unreadable::StartAnew);
        let who = format!("{policy:?}");
        let layer = layer.with_reuse(policy).with_attach(Attach::Share);
        stored.gives_way_to_a_new_one(layer, &who).await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_a_socket_follow_the_same_rule() {
    let stored = Stored::new().await;
    let layer = later(&stored.disk).with_unreadable(Unreadable::StartAnew);
    let before = stored.bytes().await;
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    // A look finds nothing and changes nothing.
    assert!(adapter::look::<Later>(&request).await.unwrap().is_none());
    assert_eq!((stored.bytes().await, stored.aside().await.len()), (before, 0));
    // Two at once get one new session.
    let (a, b) = tokio::join!(adapter::open::<Later>(&request), adapter::open::<Later>(&request));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.id(), b.id());
    assert_ne!(a.id().to_string(), stored.id);
    assert_eq!(stored.aside().await.len(), 1);
    a.update(|state| state.total.push('x'));
    a.saved().await.unwrap();
    // A plain client is in it, too; and a process that starts again finds it.
    let mut plain = connect_later(&layer, &stored.browser, None).await.unwrap();
    plain.send("get");
    assert_eq!(plain.data().await.as_deref(), Some("later:x"));
    let again = later(&stored.disk);
    let mut client = connect_later(&again, &stored.browser, Some(A)).await.unwrap();
    assert_eq!(client.hello().await["session"], a.id().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_ones_own_may_refuse_what_cannot_be_read() {
    let stored = Stored::new().await;
    let before = stored.bytes().await;
    let layer = later(&stored.disk).with_unreadable(Unreadable::StartAnew);
    let layer = layer.with_reuse(reuse::from_fn(|candidate, _| {
        assert!(candidate.unreadable() && candidate.is_stored() && candidate.same_identity());
        ReuseDecision::Refuse(StatusCode::GONE)
    }));
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    assert_eq!(adapter::open::<Later>(&request).await.err().unwrap().status(), 410);
    assert_eq!(adapter::look::<Later>(&request).await.err().unwrap().status(), 410);
    let mut client = connect_later(&layer, &stored.browser, Some(&stored.cursor)).await.unwrap();
    assert_eq!(client.rest().await, [Got::Close(4101)]);
    assert_eq!((stored.bytes().await, stored.aside().await.len()), (before, 0));
    stored.is_there().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_aside_expires_as_sessions_do() {
    let stored = Stored::new().await;
    let lifetime = Duration::from_secs(3 * 24 * 3600);
    let layer = later(&stored.disk).with_reuse(reuse::always()).with_stored_lifetime(lifetime);
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    adapter::open::<Later>(&request).await.unwrap();
    let left = stored.aside().await[0].1.expires_in;
    let minute = Duration::from_secs(60);
    assert!(left <= lifetime && left + minute > lifetime, "{left:?}");
    stored.disk.advance(lifetime);
    stored.disk.delete_expired(100).await.unwrap();
    assert!(stored.aside().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_records_that_are_kept_aside_are_bounded() {
    let stored = Stored::new().await;
    let before = stored.bytes().await;
    let other = StoreKey::new(RecordKind::Unreadable, "default", b"another one").unwrap();
    let hour = Duration::from_secs(3600);
    stored.disk.claim(&other, None, Stamp::first(1, 1), Bytes::new(), hour).await.unwrap();
    let mut limits = Limits::default();
    limits.max_stored = 1;
    let layer = later(&stored.disk).with_reuse(reuse::always()).with_limits(limits);
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    let refused = adapter::open::<Later>(&request).await.err().unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.to_string().contains("max_stored"), "{refused}");
    assert_eq!((stored.bytes().await, stored.aside().await.len()), (before, 1));
    stored.is_there().await;
}

/// A rolling deploy: while one process sets the session aside, one of the old version goes on with it.
#[tokio::test(start_paused = true)]
async fn a_session_that_another_process_has_changed_meanwhile_is_kept_as_it_is_then() {
    let stored = Stored::new().await;
    let store = TestStore::new(&stored.disk);
    let process = store.process();
    process.shares.store(true, SeqCst);
    process.hold();
    let layer = SessionResume::new().with_state::<Later>().with_store(store);
    let layer = layer.with_reuse(reuse::always());
    let request = parts(&layer, &mut stored.browser.clone(), None).await;
    let opened = tokio::spawn(async move {
        adapter::open::<Later>(&request).await.map(|session| session.id().to_string())
    });
    // The copy is on its way to the store.
    while !process.calls().contains(&"put id".to_owned()) {
        tokio::task::yield_now().await;
    }
    let node = Node::start(&stored.disk);
    let session = node.open(&mut stored.browser.clone()).await.unwrap();
    session.update(|tally| tally.total = SECRET + 1);
    session.saved().await.unwrap();
    let newer = stored.bytes().await;
    process.release();
    assert_ne!(opened.await.unwrap().unwrap(), stored.id);
    let aside = stored.aside().await;
    assert_eq!(aside.len(), 1);
    assert_eq!(aside[0].1.bytes, newer, "the newest");
    node.kill();
}

/// A process died after it had made the copy: its successor takes the newer one and ends the session.
#[tokio::test(start_paused = true)]
async fn a_copy_that_is_there_already_hinders_nothing() {
    for is_older in [false, true] {
        let stored = Stored::new().await;
        let found = stored.disk.load(&stored.key).await.unwrap().unwrap();
        let id: SessionId = stored.id.parse().unwrap();
        let at = StoreKey::new(RecordKind::Unreadable, "default", id.as_uuid().as_bytes()).unwrap();
        let (stamp, bytes) = if is_older {
            (Stamp { number: found.stamp.number - 1, ..found.stamp }, "old".into())
        } else {
            (found.stamp, found.bytes.clone())
        };
        let hour = Duration::from_secs(3600);
        stored.disk.claim(&at, None, stamp, bytes, hour).await.unwrap();
        let layer = later(&stored.disk).with_reuse(reuse::always());
        let request = parts(&layer, &mut stored.browser.clone(), None).await;
        let session = adapter::open::<Later>(&request).await.unwrap();
        assert_ne!(session.id(), id);
        let aside = stored.aside().await;
        assert_eq!((aside.len(), &aside[0].1.bytes), (1, &found.bytes), "older: {is_older}");
    }
}
