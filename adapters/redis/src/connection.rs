//! One connection to the engine, and how it is made.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, Value,
    aio::MultiplexedConnection,
};
use tokio::time::timeout;

#[cfg(feature = "cluster")]
use crate::cluster::Node;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;
use crate::{
    error::{Failure, FailureKind},
    keys::Keys,
    scripts::{Names, Script},
};

/// The engine, as all connections of a store know it.
pub(crate) struct Engine {
    /// Where it is, for errors; nothing secret.
    pub(crate) name: String,
    pub(crate) keys: Keys,
    /// What this process would put there if it were the first.
    offered: [u8; 64],
    known: Mutex<Known>,
    /// How often the engine, or a part of it, has been found to have lost everything.
    losses: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// By the names of their keys: a cluster has one in each node.
    marks: HashMap<Vec<u8>, Vec<u8>>,
    identity: Option<[u8; 64]>,
    other_identity: bool,
}

// By hand: it has the key that signs cookies.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A server that connections are made to.
pub(crate) struct Target {
    pub(crate) engine: Arc<Engine>,
    /// Where it is, for errors; nothing secret.
    pub(crate) name: String,
    place: Place,
}

// By hand: its place has the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How the server is found.
pub(crate) enum Place {
    /// It is always the same.
    One(Client),
    /// Each connection is to what is the primary then.
    #[cfg(feature = "sentinel")]
    Sentinel(Sentinels),
    /// A node of a cluster, which has some of the records.
    #[cfg(feature = "cluster")]
    Node(Node),
}

/// A connection that has the scripts.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    names: Names,
    /// The keys of the marks that this server has.
    marks: Vec<Vec<u8>>,
    /// The peer has closed it.
    closed: Arc<AtomicBool>,
}

/// One call of a script on one key.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) key: Vec<u8>,
    pub(crate) args: Vec<Bytes>,
    /// A node of a cluster has said that another one has the key for this once.
    pub(crate) asking: bool,
}

impl Engine {
    pub(crate) fn new(name: String, keys: Keys) -> Result<Self, String> {
        let mut offered = [0; 64];
        getrandom::fill(&mut offered).map_err(|error| error.to_string())?;
        let (known, losses) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { name, keys, offered, known, losses })
    }

    /// The key that signs cookies; `None` before the first connection.
    pub(crate) fn identity(&self) -> Option<[u8; 64]> {
        self.known().identity
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call that says which key signs cookies; ours if there is none.
    pub(crate) fn keep_identity(&self) -> Call {
        let identity = Bytes::copy_from_slice(&self.identity().unwrap_or(self.offered));
        Call::new(Script::Keep, self.keys.identity(), vec![identity])
    }

    /// The call that says which mark is under a key; a new one if there is none.
    fn keep_mark(key: Vec<u8>) -> Result<Call, Failure> {
        let mut mark = [0; 16];
        getrandom::fill(&mut mark)
            .map_err(|error| Failure::new(FailureKind::Strange, error.to_string()))?;
        Ok(Call::new(Script::Keep, key, vec![Bytes::copy_from_slice(&mark)]))
    }

    /// How often everything was found to be lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Notes the marks that a server has, by their keys.
    fn meet_marks(&self, marks: Vec<(Vec<u8>, Vec<u8>)>, address: &str) {
        let mut known = self.known();
        let mut lost = false;
        for (key, mark) in marks {
            let before = known.marks.insert(key, mark.clone());
            lost |= before.is_some_and(|before| before != mark);
        }
        if lost {
            self.losses.fetch_add(1, Ordering::Release);
            tracing::warn!(%address, "the engine has lost everything that was stored in it");
        }
    }

    /// Notes the key that signs cookies.
    pub(crate) fn meet_identity(&self, identity: &[u8]) -> Result<(), Failure> {
        let address = &self.name;
        let identity = identity.try_into().map_err(|_| {
            let text = "the key that signs cookies is not one; another program uses this prefix";
            Failure::new(FailureKind::WrongType, text)
        })?;
        let mut known = self.known();
        match known.identity {
            None => known.identity = Some(identity),
            Some(ours) if ours == identity => known.other_identity = false,
            Some(_) => {
                if !known.other_identity {
                    tracing::warn!(
                        %address,
                        "another process has put another key that signs cookies there; \
                         restart this one to use that key"
                    );
                }
                known.other_identity = true;
            }
        }
        Ok(())
    }
}

impl Target {
    pub(crate) fn new(engine: Arc<Engine>, name: String, place: Place) -> Self {
        Self { engine, name, place }
    }

    /// Makes a connection. It takes as long as its peer does, or `within` this time.
    pub(crate) async fn dial(&self, within: Duration) -> Result<Live, Failure> {
        let dialled = timeout(within, self.connect(within)).await.unwrap_or_else(|_| {
            let text = format!("no answer to a new connection within {within:?}");
            Err(Failure::new(FailureKind::Silence, text))
        });
        dialled.map_err(|failure| failure.of(&self.prefix()))
    }

    /// Whether it is a node of a cluster.
    pub(crate) fn is_node(&self) -> bool {
        match &self.place {
            #[cfg(feature = "cluster")]
            Place::Node(_) => true,
            _ => false,
        }
    }

    /// Whether a start waits until this failure is over.
    pub(crate) fn waits_for(&self, failure: &Failure) -> bool {
        match &self.place {
            Place::One(_) => {
                failure.kind == FailureKind::NotNow && !failure.text.starts_with("READONLY")
            }
            // It may be that there is no other primary yet.
            #[cfg(feature = "sentinel")]
            Place::Sentinel(_) => {
                let is_away = [FailureKind::Connection, FailureKind::Silence];
                failure.kind == FailureKind::NotNow
                    || is_away.contains(&failure.kind) && !failure.text.starts_with("Sentinel")
            }
            #[cfg(feature = "cluster")]
            Place::Node(_) => {
                let is_away = [FailureKind::NotNow, FailureKind::Connection, FailureKind::Silence];
                is_away.contains(&failure.kind)
            }
        }
    }

    /// What stands before the texts of failures: which of the servers it is.
    fn prefix(&self) -> String {
        if self.is_node() { format!("node {}: ", self.name) } else { String::new() }
    }

    #[cfg_attr(not(feature = "sentinel"), expect(unused_variables))]
    async fn connect(&self, within: Duration) -> Result<Live, Failure> {
        match &self.place {
            Place::One(client) => self.alone(client).await,
            #[cfg(feature = "sentinel")]
            Place::Sentinel(sentinels) => {
                let (client, address) = sentinels.find(within / 2).await?;
                let connected = self.alone(&client).await;
                connected.map_err(|failure| failure.of(&format!("primary {address}: ")))
            }
            #[cfg(feature = "cluster")]
            Place::Node(node) => {
                let mut live = Live::open(node.client()).await?;
                let (marks, has_identity) = node.look(&mut live, &self.engine.keys).await?;
                self.greet(&mut live, marks, has_identity).await?;
                Ok(live)
            }
        }
    }

    /// A connection to a server that has all records.
    async fn alone(&self, client: &Client) -> Result<Live, Failure> {
        let mut live = Live::open(client).await?;
        self.greet(&mut live, vec![self.engine.keys.mark()], true).await?;
        Ok(live)
    }

    /// Loads the scripts, and looks at the server: a replica refuses the writes, and a server that has lost its data
    /// has another mark.
    async fn greet(
        &self,
        live: &mut Live,
        marks: Vec<Vec<u8>>,
        has_identity: bool,
    ) -> Result<(), Failure> {
        let mut pipe = redis::pipe();
        for script in Script::ALL {
            pipe.cmd("SCRIPT").arg("LOAD").arg(script.text());
        }
        for key in &marks {
            pipe.add_command(by_text(&Engine::keep_mark(key.clone())?));
        }
        if has_identity {
            pipe.add_command(by_text(&self.engine.keep_identity()));
        }
        let mut answers = live.send(&pipe).await?.into_iter();
        let names = answers.by_ref().take(Script::ALL.len()).map(text).collect::<Result<_, _>>()?;
        live.names = Names::new(names).ok_or_else(strange)?;
        let of_marks: Vec<_> = answers.by_ref().take(marks.len()).collect();
        live.marks = self.meet_marks(marks, of_marks)?;
        match answers.next() {
            Some(answer) if !self.is_elsewhere(&answer) => {
                self.engine.meet_identity(&bytes(answer?)?)
            }
            _ => Ok(()),
        }
    }

    /// Whether the slot of the key has left this node of a cluster, or is about to.
    fn is_elsewhere(&self, answer: &Result<Value, Failure>) -> bool {
        self.is_node() && answer.as_ref().is_err_and(Failure::is_redirect)
    }

    /// Looks at the server's marks once more: has it lost everything meanwhile?
    ///
    /// # Errors
    ///
    /// Also [`FailureKind::NotNow`], if the marks are elsewhere by now.
    pub(crate) async fn look_at_marks(&self, live: &mut Live) -> Result<(), Failure> {
        if live.marks.is_empty() {
            return Ok(());
        }
        let mut pipe = redis::pipe();
        for key in &live.marks {
            pipe.add_command(by_text(&Engine::keep_mark(key.clone())?));
        }
        let answers = live.send(&pipe).await?;
        live.marks = self.meet_marks(std::mem::take(&mut live.marks), answers)?;
        if live.marks.is_empty() {
            return Err(Failure::new(FailureKind::NotNow, "the slots of this node have moved"));
        }
        Ok(())
    }

    /// Notes what a server says of its marks; returns the keys of those that are there.
    fn meet_marks(
        &self,
        keys: Vec<Vec<u8>>,
        answers: Vec<Result<Value, Failure>>,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let there = keys.into_iter().zip(answers).filter(|(_, answer)| !self.is_elsewhere(answer));
        let marks = there.map(|(key, answer)| Ok((key, bytes(answer?)?)));
        let marks: Vec<_> = marks.collect::<Result<_, Failure>>()?;
        let keys = marks.iter().map(|(key, _)| key.clone()).collect();
        self.engine.meet_marks(marks, &self.name);
        Ok(keys)
    }

    /// Finds out from other nodes of the cluster who has the records of this one.
    #[cfg(feature = "cluster")]
    pub(crate) async fn look_around(&self) {
        if let Place::Node(node) = &self.place {
            node.look_around().await;
        }
    }

    /// Finds out over a connection who has the records which this node has said that another one has.
    #[cfg(feature = "cluster")]
    pub(crate) async fn look_again(&self, live: &mut Live) -> Result<(), Failure> {
        if let Place::Node(node) = &self.place {
            node.look(live, &self.engine.keys).await?;
        }
        Ok(())
    }
}

impl Call {
    pub(crate) fn new(script: Script, key: Vec<u8>, args: Vec<Bytes>) -> Self {
        Self { script, key, args, asking: false }
    }
}

impl Live {
    /// A connection to a server of which nothing is known yet.
    pub(crate) async fn open(client: &Client) -> Result<Self, Failure> {
        let closed = Arc::new(AtomicBool::new(false));
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_push_sender({
                let closed = Arc::clone(&closed);
                move |news: PushInfo| {
                    if news.kind == PushKind::Disconnection {
                        closed.store(true, Ordering::Release);
                    }
                    Ok::<_, redis::aio::SendError>(())
                }
            });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = connection.map_err(|error| Failure::from_client(&error))?;
        Ok(Self { connection, names: Names::none(), marks: Vec::new(), closed })
    }

    /// Whether it is known that nothing sent on it arrives.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Sends all these commands in one go, and waits for all answers. After an error of the whole it is not known
    /// which of them have happened.
    pub(crate) async fn send(
        &mut self,
        pipe: &Pipeline,
    ) -> Result<Vec<Result<Value, Failure>>, Failure> {
        let answers = self.connection.send_packed_commands(pipe, 0, pipe.len()).await;
        let answers = answers.map_err(|error| match Failure::from_client(&error) {
            // Whatever it is: no answers have come.
            Failure { kind: FailureKind::Strange, text } => {
                Failure { kind: FailureKind::Connection, text }
            }
            failure => failure,
        })?;
        if answers.len() != pipe.len() {
            return Err(Failure::new(FailureKind::Connection, "some answers are missing"));
        }
        Ok(answers.into_iter().map(checked).collect())
    }

    /// Calls scripts in one go, and then whatever comes `after` them; returns their answers, and its own.
    pub(crate) async fn run(
        &mut self,
        calls: &[&Call],
        command: impl Fn(&Self, &Call) -> Cmd,
        after: Option<Cmd>,
    ) -> Result<(Vec<Result<Value, Failure>>, Option<Result<Value, Failure>>), Failure> {
        let mut pipe = redis::pipe();
        for call in calls {
            if call.asking {
                // It holds for the next command alone.
                pipe.cmd("ASKING");
            }
            pipe.add_command(command(self, call));
        }
        if let Some(after) = after {
            pipe.add_command(after);
        }
        let mut answers = self.send(&pipe).await?.into_iter();
        let mut of_calls = Vec::with_capacity(calls.len());
        for call in calls {
            if call.asking {
                answers.next();
            }
            of_calls.push(answers.next().ok_or_else(strange)?);
        }
        Ok((of_calls, answers.next()))
    }

    /// The command that calls a script by its name.
    pub(crate) fn by_name(&self, call: &Call) -> Cmd {
        command("EVALSHA", self.names.of(call.script), call)
    }
}

/// The command that calls a script by its text; from then on the engine knows it by its name, too.
pub(crate) fn by_text(call: &Call) -> Cmd {
    command("EVAL", call.script.text(), call)
}

fn command(name: &str, script: &str, call: &Call) -> Cmd {
    let len = script.len() + call.key.len() + call.args.iter().map(Bytes::len).sum::<usize>();
    let mut cmd = Cmd::with_capacity(4 + call.args.len(), len + 64);
    cmd.arg(name).arg(script).arg(1).arg(&call.key);
    for arg in &call.args {
        cmd.arg(&arg[..]);
    }
    cmd
}

fn checked(answer: Value) -> Result<Value, Failure> {
    match answer {
        Value::ServerError(error) => Err(Failure::of_server(error.code(), error.details())),
        answer => Ok(answer),
    }
}

pub(crate) fn bytes(answer: Value) -> Result<Vec<u8>, Failure> {
    match answer {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.into_bytes()),
        _ => Err(strange()),
    }
}

fn text(answer: Result<Value, Failure>) -> Result<String, Failure> {
    String::from_utf8(bytes(answer?)?).map_err(|_| strange())
}

/// The fields of an answer that names each, in either version of the protocol.
pub(crate) fn text_fields(answer: Value) -> Result<HashMap<String, String>, Failure> {
    let pairs: Vec<(Value, Value)> = match answer {
        Value::Map(pairs) => pairs,
        Value::Array(flat) => {
            let mut flat = flat.into_iter();
            std::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
        }
        _ => return Err(strange()),
    };
    let text = |value| Ok(String::from_utf8_lossy(&bytes(value)?).into_owned());
    pairs.into_iter().map(|(name, value)| Ok((text(name)?, text(value)?))).collect()
}

pub(crate) fn strange() -> Failure {
    Failure::new(FailureKind::Strange, "it answers what Redis would not")
}
