//! A server that can be killed, a network that can be cut, and a client that writes down what it is told.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use agent_app::{
    app,
    live::Pause,
    script::Report,
    state::{Agent, Line, Step, Who},
};
use serde_json::{Value, json};
use session_resume::SessionResume;
use session_resume_client::{Backoff, Client, Event, OutcomeStatus, Status};
use session_resume_redb::{OpenErrorKind, RedbStore};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Only a broken application takes this long.
const HANGS: Duration = Duration::from_secs(60);

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(HANGS, future).await.unwrap_or_else(|_| panic!("hangs: {what}"))
}

/// Waits until something is true, without a clock.
pub(crate) async fn until(what: &str, mut is: impl FnMut() -> bool) {
    within(what, async {
        while !is() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Holds the agent up: it makes as many beats as it is allowed to.
#[derive(Default)]
pub(crate) struct Gate {
    allowed: Mutex<u64>,
    changed: Condvar,
}

impl Gate {
    pub(crate) fn allow(&self, beats: u64) {
        let mut allowed = self.allowed.lock().unwrap();
        *allowed = allowed.saturating_add(beats);
        self.changed.notify_all();
    }

    pub(crate) fn open(&self) {
        self.allow(u64::MAX);
    }

    fn pass(&self) {
        let mut allowed = self.allowed.lock().unwrap();
        while *allowed == 0 {
            allowed = self.changed.wait(allowed).unwrap();
        }
        *allowed -= 1;
    }
}

/// The application on a port of its own, in a runtime that can be dropped as a killed process drops its own.
pub(crate) struct Server {
    pub(crate) resume: SessionResume<Agent>,
    pub(crate) gate: Arc<Gate>,
    /// Each agent's thread has a handle.
    pause: Pause,
    /// The number of handles that are not an agent's.
    others: usize,
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Server {
    pub(crate) async fn start(store: &Path) -> Self {
        Self::start_with(store, |resume| resume).await
    }

    pub(crate) async fn start_with(
        store: &Path,
        set: impl FnOnce(SessionResume<Agent>) -> SessionResume<Agent>,
    ) -> Self {
        let resume = set(app::layer(open(store).await));
        let gate = Arc::<Gate>::default();
        let held = Arc::clone(&gate);
        let pause: Pause = Arc::new(move |_| held.pass());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let address = listener.local_addr().unwrap();
        let router = app::router(resume.clone(), Arc::clone(&pause));
        let others = Arc::strong_count(&pause);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self { resume, gate, pause, others, address, runtime: Some(runtime) }
    }

    /// Stops at once, as `kill -9` does: nothing is drained, nothing more is written.
    pub(crate) fn kill(mut self) {
        self.stop();
    }

    /// How many agents have a thread.
    pub(crate) fn threads(&self) -> usize {
        Arc::strong_count(&self.pause).saturating_sub(self.others)
    }

    fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The store's file is free once the server before has let go of it.
async fn open(path: &Path) -> RedbStore {
    within("the store's lock", async {
        loop {
            match RedbStore::open(path) {
                Ok(store) => return store,
                Err(error) if error.kind() == OpenErrorKind::Locked => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
}

/// A place for a store.
pub(crate) struct Disk(tempfile::TempDir);

impl Disk {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.path().join("sessions.redb")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A client, and all it was told.
pub(crate) struct Watcher {
    pub(crate) client: Client,
    server: SocketAddr,
    pub(crate) cookies: String,
    pub(crate) session: String,
    /// What each hello said.
    pub(crate) statuses: Vec<Status>,
    /// The numbers of the words that came as words.
    pub(crate) numbers: Vec<u64>,
    /// The conversation as a page would show it.
    pub(crate) lines: Vec<Line>,
    /// How many files were read, each time one was.
    pub(crate) files: Vec<u64>,
    pub(crate) view: Value,
    pub(crate) errors: Vec<String>,
    pub(crate) done: Option<OutcomeStatus>,
    pub(crate) superseded: bool,
    /// What should never happen.
    pub(crate) lost: Vec<Event>,
}

impl Watcher {
    pub(crate) async fn open(server: SocketAddr, cookies: &str) -> Self {
        let backoff = Backoff { first: Duration::from_millis(1), max: Duration::from_millis(10) };
        let mut builder = Client::builder(format!("ws://{server}/live")).with_backoff(backoff);
        if !cookies.is_empty() {
            builder = builder.with_cookies(cookies);
        }
        let mut watcher = Self {
            client: builder.start().unwrap(),
            server,
            cookies: cookies.to_owned(),
            session: String::new(),
            statuses: Vec::new(),
            numbers: Vec::new(),
            lines: Vec::new(),
            files: Vec::new(),
            view: Value::Null,
            errors: Vec::new(),
            done: None,
            superseded: false,
            lost: Vec::new(),
        };
        watcher.until("a view", |watcher| !watcher.view.is_null()).await;
        watcher
    }

    /// Takes events until something is true.
    pub(crate) async fn until(&mut self, what: &str, is: impl Fn(&Self) -> bool) {
        let seen = async {
            while !is(self) {
                let event = self.client.recv_event().await.expect("the client goes on");
                self.take(event);
            }
        };
        let Err(_) = tokio::time::timeout(HANGS, seen).await else { return };
        panic!("hangs: {what}; statuses {:?}, {:?}, {:?}", self.statuses, self.lines, self.lost);
    }

    pub(crate) async fn until_asked(&mut self) {
        self.until("a question", |watcher| watcher.question().is_some()).await;
    }

    pub(crate) async fn until_done(&mut self) -> OutcomeStatus {
        self.until("the end", |watcher| watcher.done.is_some()).await;
        self.done.unwrap()
    }

    pub(crate) async fn until_words(&mut self, n: u64) {
        self.until("words", |watcher| watcher.numbers.last().is_some_and(|last| *last + 1 >= n))
            .await;
    }

    pub(crate) async fn start(&self, mishap: &str) {
        let task = json!({ "task": { "text": "count the words", "mishap": mishap } });
        self.client.send(task.to_string()).await.unwrap();
    }

    pub(crate) async fn answer(&self, approve: bool) {
        let question = self.question().expect("a question");
        let answer = json!({ "answer": { "question": question, "approve": approve } });
        self.client.send(answer.to_string()).await.unwrap();
    }

    pub(crate) fn question(&self) -> Option<u64> {
        self.view["question"]["number"].as_u64()
    }

    /// Asks for the outcome, and waits for it if there is none yet.
    pub(crate) async fn poll(&self) -> (u16, Value) {
        poll(self.server, &self.session, &self.cookies).await
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                let mut message: Value = serde_json::from_slice(message.as_bytes()).unwrap();
                if !message["view"].is_null() {
                    self.view = message["view"].take();
                    self.lines = serde_json::from_value(self.view["lines"].clone()).unwrap();
                } else if let Some(n) = message["word"]["n"].as_u64() {
                    self.numbers.push(n);
                    let begins: Option<Who> =
                        serde_json::from_value(message["word"]["begins"].clone()).unwrap();
                    if let Some(who) = begins {
                        self.lines.push(Line { who, text: String::new() });
                    }
                    let text = message["word"]["text"].as_str().unwrap();
                    self.lines.last_mut().unwrap().text.push_str(text);
                } else if let Some(read) = message["file"]["read"].as_u64() {
                    self.files.push(read);
                    self.lines
                        .push(serde_json::from_value(message["file"]["line"].take()).unwrap());
                } else {
                    self.errors.push(message["error"].as_str().unwrap().to_owned());
                }
            }
            Event::Open { session, status } => {
                self.session = session.to_string();
                self.cookies = self.client.cookies();
                self.statuses.push(status);
            }
            Event::Done { status, untaken, .. } => {
                assert_eq!(untaken, []);
                self.done = Some(status);
            }
            Event::Superseded => self.superseded = true,
            Event::Connecting | Event::Waiting { .. } => {}
            lost => self.lost.push(lost),
        }
    }

    /// Every word and file exactly once and in order, and the conversation as the agent remembers it.
    pub(crate) fn assert_exact(&self, report: &Report) {
        assert_eq!(self.lost, []);
        assert_eq!(self.errors, [""; 0]);
        assert!(self.numbers.iter().copied().eq(0..whole().words), "{:?}", self.numbers);
        assert!(self.files.iter().copied().eq(1..=whole().files as u64), "{:?}", self.files);
        assert_eq!(self.lines, whole().lines);
        assert_eq!(*report, whole().report());
    }
}

/// The agent at its approved end, without any session.
pub(crate) fn whole() -> Agent {
    let mut agent = Agent::default();
    let task = br#"{"task":{"text":"count the words"}}"#;
    agent.obey(agent_app::state::Command::parse(task).unwrap()).unwrap();
    while agent.step != Step::Done {
        if agent.step == Step::Ask {
            let answer = json!({ "answer": { "question": agent.words, "approve": true } });
            let answer = serde_json::from_value(answer).unwrap();
            agent.obey(answer).unwrap();
        } else {
            agent.beat();
        }
    }
    agent
}

/// How many words are said before the question.
pub(crate) fn words_before_question() -> u64 {
    let whole = whole();
    let last = whole.lines.last().unwrap().text.split_whitespace().count();
    whole.words - last as u64
}

pub(crate) fn report(outcome: &Value) -> Report {
    assert_eq!(outcome["status"], "done", "{outcome}");
    serde_json::from_value(outcome["result"].clone()).unwrap()
}

pub(crate) async fn poll(server: SocketAddr, session: &str, cookies: &str) -> (u16, Value) {
    let answer = get(server, &format!("/sessions/{session}?wait=50"), cookies).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

pub(crate) async fn get(server: SocketAddr, path: &str, cookies: &str) -> String {
    within(path, async {
        let mut socket = TcpStream::connect(server).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {server}\r\ncookie: {cookies}\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    })
    .await
}
