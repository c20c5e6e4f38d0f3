//! One process with the layer, browsers that talk to it, and the handler that they talk to.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

#[cfg(feature = "http")]
use http::Response;
use http::{Request, header, request::Parts};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
#[cfg(feature = "http")]
use session_resume::adapter::{Body, ResumeConnection};
use session_resume::{
    BlockingSession, Event, IntoOutcome, LiveSession, Session, SessionId, SessionResume,
    adapter::{self, Accepted, Refusal, Upgrade},
    store::MemoryStore,
    transport::Frame,
};
use session_resume_testkit::transport::{ClientEnd, behind, pair};
use tokio::{sync::Notify, task::JoinHandle};

use crate::store::{Process, TestStore};

/// How often a state was written as bytes, in this thread: tests run on one.
pub static ENCODED: AtomicUsize = AtomicUsize::new(0);

#[derive(Default, Deserialize, Debug)]
pub struct Tally {
    pub total: i64,
}

impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Plain {
            total: i64,
        }
        ENCODED.fetch_add(1, SeqCst);
        Plain { total: self.total }.serialize(serializer)
    }
}

/// One process.
pub struct Node {
    pub layer: SessionResume<Tally>,
    pub store: Arc<Process>,
    pub gate: Arc<Notify>,
    /// Results of `commit`, in order.
    pub commits: Arc<std::sync::Mutex<Vec<bool>>>,
    /// The messages that the handler was told to be dropped, by their numbers.
    pub drops: Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Node {
    pub fn new(
        disk: &MemoryStore,
        configure: impl FnOnce(SessionResume<Tally>) -> SessionResume<Tally>,
    ) -> Self {
        let store = TestStore::new(disk);
        let process = store.process();
        let layer = configure(SessionResume::new().with_state::<Tally>()).with_store(store);
        let (gate, commits, drops) = Default::default();
        Self { layer, store: process, gate, commits, drops }
    }

    pub fn start(disk: &MemoryStore) -> Self {
        Self::new(disk, |layer| layer)
    }

    /// One that waits for its store as long as it takes.
    pub fn patient(disk: &MemoryStore) -> Self {
        Self::new(disk, |layer| layer.with_store_timeout(Duration::from_secs(24 * 3600)))
    }

    /// `kill -9`: nothing more reaches the disk, and no client is told anything.
    pub fn kill(self) {
        self.store.kill();
    }

    pub async fn parts(&self, browser: &mut Browser, protocols: Option<&str>) -> Parts {
        parts(&self.layer, browser, protocols).await
    }

    pub async fn open(&self, browser: &mut Browser) -> Result<Session<Tally>, Refusal> {
        adapter::open(&self.parts(browser, None).await).await
    }

    /// Opens with the browser's very first request.
    pub async fn first_open(&self, browser: &mut Browser) -> Result<Session<Tally>, Refusal> {
        adapter::open(&first_parts(&self.layer, browser, None).await).await
    }

    pub async fn poll(&self, browser: &mut Browser, id: &str, wait: u64) -> (u16, Value) {
        let mut parts = self.parts(browser, None).await;
        parts.uri = format!("/sessions/{id}?wait={wait}").parse().unwrap();
        let poll = adapter::poll::<Tally>(&parts, id).await.unwrap();
        (poll.status.as_u16(), serde_json::from_str(&poll.body).unwrap())
    }

    /// Connects with this offer (after `at.`), or plainly.
    pub async fn connect(
        &self,
        browser: &mut Browser,
        at: Option<&str>,
    ) -> Result<Client, Refusal> {
        self.connect_named(browser, at, None).await
    }

    pub async fn connect_named(
        &self,
        browser: &mut Browser,
        at: Option<&str>,
        name: Option<&'static str>,
    ) -> Result<Client, Refusal> {
        let mut upgrade = self.upgrade(browser, "/live", at).await?;
        if let Some(name) = name {
            upgrade = upgrade.named(name);
        }
        self.attach(upgrade)
    }

    /// Connects on another path.
    pub async fn connect_at(
        &self,
        browser: &mut Browser,
        path: &str,
        at: Option<&str>,
    ) -> Result<Client, Refusal> {
        let upgrade = self.upgrade(browser, path, at).await?;
        self.attach(upgrade)
    }

    /// Connects to the handler.
    pub fn attach(&self, upgrade: Upgrade<Tally>) -> Result<Client, Refusal> {
        let (gate, commits) = (Arc::clone(&self.gate), Arc::clone(&self.commits));
        let drops = Arc::clone(&self.drops);
        Ok(Client::start(upgrade.on_session(move |live| handle(live, gate, commits, drops))?))
    }

    /// Sends one message in a plain `POST` with these headers to the handler; the answer may wait for it.
    #[cfg(feature = "http")]
    pub async fn post(
        &self,
        browser: &mut Browser,
        headers: &[(&str, &str)],
        message: &str,
    ) -> JoinHandle<Response<Body>> {
        if browser.cookie.is_none() {
            first_parts(&self.layer, browser, None).await;
        }
        let request = Request::post("http://a.example/live").header("content-type", "text/plain");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let parts = send(&self.layer, browser, request).await;
        let (gate, commits) = (Arc::clone(&self.gate), Arc::clone(&self.commits));
        let (drops, message) = (Arc::clone(&self.drops), message.to_owned());
        tokio::spawn(async move {
            match ResumeConnection::<Tally>::prepare(&parts, message).await {
                Ok(connection) => {
                    connection.on_session(move |live| handle(live, gate, commits, drops)).await
                }
                Err(refusal) => refusal.into_body_response(),
            }
        })
    }

    /// Connects to a handler that never comes to receive.
    pub async fn connect_sleeper(&self, browser: &mut Browser, at: &str) -> Client {
        let upgrade = self.upgrade(browser, "/live", Some(at)).await.unwrap();
        let attach = upgrade.on_session(async |_live| std::future::pending::<()>().await);
        Client::start(attach.unwrap())
    }

    /// Connects to a handler on a plain thread.
    pub async fn connect_blocking(
        &self,
        browser: &mut Browser,
        handler: impl FnOnce(BlockingSession<Tally>) + Send + 'static,
    ) -> Client {
        let upgrade = self.upgrade(browser, "/live", None).await.unwrap();
        Client::start(upgrade.on_session_blocking(handler).unwrap())
    }

    pub async fn upgrade(
        &self,
        browser: &mut Browser,
        path: &str,
        at: Option<&str>,
    ) -> Result<Upgrade<Tally>, Refusal> {
        if browser.cookie.is_none() {
            first_parts(&self.layer, browser, None).await;
        }
        let mut request = Request::get(format!("http://a.example{path}"))
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket");
        if let Some(at) = at {
            let offer = format!("session-resume.v1, at.{at}");
            request = request.header(header::SEC_WEBSOCKET_PROTOCOL, offer);
        }
        Upgrade::prepare(&send(&self.layer, browser, request).await).await
    }
}

/// A request as it comes to a handler behind the layer, from a browser that has loaded a page before.
pub async fn parts<T: Send + 'static>(
    layer: &SessionResume<T>,
    browser: &mut Browser,
    protocols: Option<&str>,
) -> Parts {
    if browser.cookie.is_none() {
        first_parts(layer, browser, None).await;
    }
    first_parts(layer, browser, protocols).await
}

/// The same from a browser that may be new. The answer is a page.
pub async fn first_parts<T: Send + 'static>(
    layer: &SessionResume<T>,
    browser: &mut Browser,
    protocols: Option<&str>,
) -> Parts {
    let mut req = Request::get("http://a.example/live");
    if let Some(protocols) = protocols {
        req = req.header(header::SEC_WEBSOCKET_PROTOCOL, protocols);
    }
    send(layer, browser, req).await
}

pub async fn send<T: Send + 'static>(
    layer: &SessionResume<T>,
    browser: &mut Browser,
    request: http::request::Builder,
) -> Parts {
    behind(layer, &mut browser.cookie, request).await
}

async fn handle(
    mut live: LiveSession<Tally>,
    gate: Arc<Notify>,
    commits: Arc<std::sync::Mutex<Vec<bool>>>,
    drops: Arc<std::sync::Mutex<Vec<u64>>>,
) -> session_resume::Result<String> {
    while let Some(event) = live.recv_event().await {
        let message = match event {
            Event::Message { message, .. } => message,
            Event::Dropped { number, .. } => {
                drops.lock().unwrap().push(number);
                continue;
            }
            _ => continue,
        };
        let text = message.as_text().unwrap_or_default().to_owned();
        let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
        match word {
            "add" => {
                let total = live.update(|tally| {
                    tally.total += rest.parse::<i64>().unwrap();
                    tally.total
                });
                live.send(format!("total:{total}")).await?;
            }
            "say" => live.send(rest).await?,
            "get" => live.send(format!("total:{}", live.read(|tally| tally.total))).await?,
            "whoami" => live.send(format!("origin:{}", live.origin())).await?,
            // Has the message in hand until the gate opens.
            "work" => {
                live.update(|tally| tally.total += 100);
                gate.notified().await;
                live.send("worked").await?;
            }
            "commit" => {
                let committed = live.commit().await.is_ok();
                commits.lock().unwrap().push(committed);
            }
            // Has committed, and goes on until the gate opens.
            "toil" => {
                live.commit().await?;
                gate.notified().await;
            }
            "saved" => {
                let saved = live.saved().await.is_ok();
                live.update(|tally| tally.total += 1);
                let error = live.saved().await.unwrap_err();
                assert!(error.to_string().contains("commit()"), "{error}");
                let committed = live.commit().await.is_ok();
                let again = live.saved().await.is_ok();
                commits.lock().unwrap().extend([saved, committed, again]);
            }
            "emit" => {
                for i in 0..rest.parse::<usize>().unwrap() {
                    live.send(format!("e:{i}")).await?;
                }
            }
            "finish" => return Ok(rest.to_owned()),
            _ => return Err(format!("unknown {text}").into()),
        }
    }
    Ok(String::new())
}

#[derive(Default, Clone)]
pub struct Browser {
    pub cookie: Option<String>,
}

/// The far end of a transport.
#[derive(Debug)]
pub struct Client {
    wire: ClientEnd,
    task: JoinHandle<()>,
    pub hello: Value,
    /// What the client expects next.
    pub position: u64,
    /// The largest ack told.
    pub acked: u64,
    seen: VecDeque<Got>,
}

/// What a client is told.
#[derive(Clone, PartialEq, Debug)]
pub enum Got {
    Hello(Value),
    Data(String),
    Ack(u64),
    Other(Value),
    Close(u16),
    Gone,
}

/// If nothing comes for this long, in virtual time, nothing will come.
const QUIET: Duration = Duration::from_secs(3);

impl Client {
    pub fn start<T, F, Fut>(attach: Accepted<T, F>) -> Self
    where
        T: Send + 'static,
        F: FnOnce(LiveSession<T>) -> Fut + Send + 'static,
        Fut: Future<Output: IntoOutcome> + Send + 'static,
    {
        let (socket, wire) = pair();
        // It answers for itself, when it reads.
        wire.fall_silent();
        let task = tokio::spawn(attach.run(socket));
        let (hello, seen) = (Value::Null, VecDeque::new());
        Self { wire, task, hello, position: 0, acked: 0, seen }
    }

    pub fn send(&self, text: &str) {
        self.wire.text(text);
    }

    /// The connection breaks.
    pub fn cut(self) {
        self.task.abort();
    }

    pub async fn next(&mut self) -> Option<Got> {
        if let Some(got) = self.seen.pop_front() {
            return Some(got);
        }
        let got = match tokio::time::timeout(QUIET, self.wire.next()).await {
            Err(_) => return None,
            Ok(None) => Got::Gone,
            Ok(Some(Frame::Ping(payload))) => {
                self.wire.send(Frame::Pong(payload));
                return Box::pin(self.next()).await;
            }
            Ok(Some(Frame::Close(close))) => {
                self.wire.send(Frame::Close(None));
                Got::Close(close.unwrap().0)
            }
            Ok(Some(Frame::Text(text))) => {
                if let Some(control) = text.strip_prefix('\u{1}') {
                    self.control(serde_json::from_str(control).unwrap())
                } else {
                    self.position += 1;
                    if !self.hello.is_null() {
                        self.send(&format!("\u{1}{{\"ack\":{}}}", self.position));
                    }
                    Got::Data(text.to_string())
                }
            }
            Ok(Some(other)) => panic!("{other:?}"),
        };
        Some(got)
    }

    fn control(&mut self, control: Value) -> Got {
        if let Some(hello) = control.get("hello") {
            self.hello = hello.clone();
            self.position = hello["from"].as_u64().unwrap();
            self.send(&format!("\u{1}{{\"ack\":{}}}", self.position));
            return Got::Hello(hello.clone());
        }
        if let Some(ack) = control.get("ack").or(control.get("hb")).and_then(Value::as_u64) {
            assert!(ack >= self.acked, "an ack is never taken back");
            self.acked = ack;
            return Got::Ack(ack);
        }
        Got::Other(control)
    }

    /// Reads acks alone until nothing more comes.
    pub async fn is_quiet(&mut self) -> bool {
        loop {
            match self.next().await {
                None => return true,
                Some(Got::Ack(_)) => {}
                Some(_) => return false,
            }
        }
    }

    pub async fn hello(&mut self) -> Value {
        match self.next().await {
            Some(Got::Hello(hello)) => hello,
            other => panic!("no hello but {other:?}"),
        }
    }

    /// The next data message; `None` if none comes.
    pub async fn data(&mut self) -> Option<String> {
        loop {
            match self.next().await? {
                Got::Data(text) => return Some(text),
                Got::Ack(_) | Got::Hello(_) => {}
                other => panic!("no data but {other:?}"),
            }
        }
    }

    /// Waits until `count` of its messages are acknowledged; `false` if they are not.
    pub async fn is_acked(&mut self, count: u64) -> bool {
        while self.acked < count {
            match self.next().await {
                None | Some(Got::Close(_) | Got::Gone) => return false,
                Some(_) => {}
            }
        }
        true
    }

    /// Everything until the end.
    pub async fn rest(&mut self) -> Vec<Got> {
        let mut all = Vec::new();
        while let Some(got) = self.next().await {
            let last = matches!(got, Got::Close(_) | Got::Gone);
            all.push(got);
            if last {
                break;
            }
        }
        all
    }

    /// The offer with which it comes back.
    pub fn cursor(&self, id: &str) -> String {
        let [session, epoch] = ["session", "epoch"].map(|name| self.hello[name].as_str().unwrap());
        format!("{id}.{session}.{epoch}.{}", self.position)
    }

    pub fn session(&self) -> String {
        self.hello["session"].as_str().unwrap().to_owned()
    }

    pub fn id(&self) -> SessionId {
        self.session().parse().unwrap()
    }
}

/// Its program ends.
impl Drop for Client {
    fn drop(&mut self) {
        self.wire.finish();
    }
}

/// Whether the handler of the node's one session has a message in hand.
pub fn in_hand(node: &Node) -> bool {
    let session = node.layer.sessions().pop().unwrap().id;
    node.layer.get(session).unwrap().is_message_in_hand()
}
