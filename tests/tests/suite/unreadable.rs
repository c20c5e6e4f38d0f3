//! A stored state that no longer fits its type: the session is kept, or gives way to a new one.

use std::path::Path;

use serde_json::Value;
use session_resume::store::{RecordKind, SetAside, SnapshotStore as _};
use session_resume_client::{Client, Event, GapReason, Message, Status};
use session_resume_redb::RedbStore;
use session_resume_testkit::{Browser, Close, Socket, soon};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::{client, testee};

scenarios!(
    a_page_goes_on_with_a_new_session,
    without_a_policy_it_is_refused_and_kept,
    the_native_client_goes_on_with_a_new_session,
);

/// A session with a total, and what a page knows of it, in a store that no process uses.
struct Away {
    store: String,
    browser: Browser,
    hello: Value,
    /// Where the page comes back to.
    port: u16,
    _dir: tempfile::TempDir,
}

impl Away {
    async fn new(framework: Framework) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("--store {}", dir.path().join("sessions.redb").display());
        let testee = testee(framework, &store).await;
        let browser = Browser::at(testee.addr);
        let mut ws = browser.resumable("/live", &client('a')).await;
        let hello = ws.member("hello").await;
        ws.send("add 7").await;
        assert_eq!(ws.data().await, "total:7");
        let port = testee.addr.port();
        // A drain waits for the close of each attached client.
        drop(ws);
        testee.terminate().await;
        assert!(testee.exit().await.success());
        Self { store, browser, hello, port, _dir: dir }
    }

    fn file(&self) -> &Path {
        Path::new(self.store.strip_prefix("--store ").unwrap())
    }

    fn session(&self) -> &str {
        self.hello["session"].as_str().unwrap()
    }

    fn flags(&self, flags: &str) -> String {
        format!("{} --listen 127.0.0.1:{} {flags}", self.store, self.port)
    }

    /// Its cursor, after the one message.
    fn cursor(&self, letter: char) -> String {
        Socket::cursor(&client(letter), &self.hello, 1)
    }

    /// What another version of the program would find, which has another name for the field.
    async fn rename_field(&self, from: &str, to: &str) {
        rename_field(self.file(), from, to).await;
    }
}

async fn rename_field(file: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let store = RedbStore::open(file).unwrap();
    let keys = store.first(RecordKind::Session, "default", 10).await.unwrap();
    let mut renamed = 0;
    for key in keys {
        let found = store.load(&key).await.unwrap().unwrap();
        let mut bytes = found.bytes.to_vec();
        let field = format!("\"{from}\":");
        if let Some(at) = bytes.windows(field.len()).position(|at| at == field.as_bytes()) {
            bytes[at + 1..=at + to.len()].copy_from_slice(to.as_bytes());
            renamed += 1;
            store.put(&key, found.stamp.next(), bytes.into(), found.expires_in).await.unwrap();
        }
    }
    assert_eq!(renamed, 1);
}

async fn a_page_goes_on_with_a_new_session(framework: Framework) {
    for flags in ["", "--reuse default --unreadable start-anew"] {
        let away = Away::new(framework).await;
        away.rename_field("total", "tatal").await;
        let program = env!("CARGO_BIN_EXE_testee");
        let (testee, mut log) =
            Testee::start_logging(program, framework, &away.flags(flags), "warn").await;
        let cursor = away.cursor('a');
        let mut ws = away.browser.resumable("/live", &cursor).await;
        let hello = ws.member("hello").await;
        assert_eq!((hello["status"].as_str(), hello["from"].as_u64()), (Some("new"), Some(0)));
        let gap = &hello["gap"];
        assert_eq!((gap["from"].as_u64(), &gap["to"]), (Some(1), &Value::Null), "{flags}");
        assert_eq!(gap["reason"], "expired");
        assert_ne!(hello["session"], away.hello["session"]);
        ws.send("get").await;
        assert_eq!(ws.data().await, "total:0 n:0");
        let answer = away.browser.get(&format!("/sessions/{}", away.session())).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["status"]),
            (200, &"expired".into()),
            "{flags}"
        );
        // Told once, with the session and without its state.
        let line = soon("the warning", log.next_line()).await.unwrap().unwrap();
        assert!(line.contains(away.session()) && line.contains("kept aside"), "{line}");
        assert!(!line.contains("tatal"), "{line}");
        // The old session's other page is in the new one; so is a plain client after it.
        let cursor = away.cursor('b');
        let mut other = away.browser.resumable("/live", &cursor).await;
        assert_eq!(other.member("hello").await["session"], hello["session"]);
        drop((ws, other));
        testee.terminate().await;
        assert!(testee.exit().await.success());
        assert_eq!(log.next_line().await.unwrap(), None, "{flags}");

        let store = RedbStore::open(away.file()).unwrap();
        let keys = store.first(RecordKind::Unreadable, "default", 10).await.unwrap();
        assert_eq!(keys.len(), 1, "{flags}");
        let kept = store.load(&keys[0]).await.unwrap().unwrap();
        let kept = SetAside::read(&kept.bytes).unwrap();
        assert_eq!(kept.session().to_string(), away.session());
        let state: Value = serde_json::from_slice(kept.state()).unwrap();
        assert_eq!(state["tatal"], 7);
    }
}

async fn without_a_policy_it_is_refused_and_kept(framework: Framework) {
    let away = Away::new(framework).await;
    away.rename_field("total", "tatal").await;
    let wrong = testee(framework, &away.flags("--reuse default")).await;
    let cursor = away.cursor('a');
    let mut ws = away.browser.resumable("/live", &cursor).await;
    assert_eq!(ws.closed().await, Close::new(1011, "internal error"));
    for path in ["/", "/peek"] {
        let answer = away.browser.get(path).await;
        let text = answer.text();
        assert_eq!(answer.status.as_u16(), 500, "{path}");
        assert!(text.contains("does not fit"), "{text}");
        assert!(!text.contains("Tally") && !text.contains("::"), "no type is told: {text}");
    }
    wrong.terminate().await;
    assert!(wrong.exit().await.success());
    // After the next deploy it is where it was.
    away.rename_field("tatal", "total").await;
    let right = testee(framework, &away.flags("--reuse default")).await;
    let mut ws = away.browser.resumable("/live", &cursor).await;
    let hello = ws.member("hello").await;
    assert_eq!((&hello["status"], &hello["gap"]), (&"resumed".into(), &Value::Null));
    assert_eq!(hello["session"], away.hello["session"]);
    ws.send("get").await;
    assert_eq!(ws.data().await, "total:7 n:1");
    right.terminate().await;
}

async fn the_native_client_goes_on_with_a_new_session(framework: Framework) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sessions.redb");
    let store = format!("--store {}", file.display());
    let first = testee(framework, &store).await;
    let addr = first.addr;
    let mut client = Client::connect(format!("ws://{addr}/live")).await.unwrap();
    client.send("add 7").await.unwrap();
    assert_eq!(heard(&mut client).await, "total:7");
    first.terminate().await;
    assert!(first.exit().await.success());
    rename_field(&file, "total", "tatal").await;

    let flags = format!("{store} --listen {addr} --unreadable start-anew");
    let second = testee(framework, &flags).await;
    let mut told = Vec::new();
    client.send("add 1").await.unwrap();
    loop {
        match soon("an event", client.recv_event()).await.unwrap() {
            Event::Message(message) => {
                assert_eq!(message.as_text(), Some("total:1"));
                break;
            }
            Event::Open { status, .. } => told.push(format!("{status:?}")),
            Event::Gap(gap) => told.push(format!("gap {:?}", gap.reason)),
            // The first process may have gone before it acknowledged this.
            Event::InDoubt(messages) => assert_eq!(messages, [Message::from("add 7")]),
            Event::Connecting | Event::Waiting { .. } | Event::Offline { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    told.sort();
    assert_eq!(told, [format!("{:?}", Status::New), format!("gap {:?}", GapReason::Expired)]);
    client.send("get").await.unwrap();
    assert_eq!(heard(&mut client).await, "total:1 n:1");
    second.terminate().await;
}

async fn heard(client: &mut Client) -> String {
    soon("a message", client.recv()).await.unwrap().as_text().unwrap().to_owned()
}
