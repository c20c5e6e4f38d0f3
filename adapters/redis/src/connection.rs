//! One connection to the engine, and how it is made.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, ProtocolVersion, PushInfo, PushKind, Value,
    aio::MultiplexedConnection,
};

use crate::{
    error::{Failure, FailureKind},
    keys::Keys,
    scripts::{Names, Script},
};

/// The engine that all connections of a store lead to, and what is known of it.
pub(crate) struct Target {
    client: Client,
    /// Host and port; nothing secret.
    pub(crate) address: String,
    pub(crate) keys: Keys,
    /// What this process would put there if it were the first.
    offered: [u8; 64],
    known: Mutex<Known>,
    /// How often the engine has been found to have lost everything.
    losses: AtomicU64,
}

#[derive(Default)]
struct Known {
    mark: Option<Vec<u8>>,
    identity: Option<[u8; 64]>,
    other_identity: bool,
}

// By hand: the client has the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection that has the scripts.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    names: Names,
    /// The peer has closed it.
    closed: Arc<AtomicBool>,
}

/// One call of a script on one key.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) key: Vec<u8>,
    pub(crate) args: Vec<Bytes>,
}

impl Target {
    pub(crate) fn new(client: &Client, address: String, keys: Keys) -> Result<Self, String> {
        let mut offered = [0; 64];
        getrandom::fill(&mut offered).map_err(|error| error.to_string())?;
        let redis = client.get_connection_info().redis_settings().clone();
        // RESP3: only there a connection tells that its peer has closed it.
        // No name of a library: it would need one more right, and one more round trip.
        let redis = redis.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name();
        let info = client.get_connection_info().clone().set_redis_settings(redis);
        let client = Client::open(info).map_err(|error| error.to_string())?;
        let (known, losses) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { client, address, keys, offered, known, losses })
    }

    /// The key that signs cookies; `None` before the first connection.
    pub(crate) fn identity(&self) -> Option<[u8; 64]> {
        self.known().identity
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection. Waits as long as its peer does: the caller has a deadline.
    pub(crate) async fn dial(&self) -> Result<Live, Failure> {
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
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = connection.map_err(|error| Failure::of(&error))?;
        let mut live = Live { connection, names: Names::none(), closed };
        self.greet(&mut live).await?;
        Ok(live)
    }

    /// The call that says which mark is in the engine; a new one if there is none.
    pub(crate) fn mark(&self) -> Result<Call, Failure> {
        let mut mark = [0; 16];
        getrandom::fill(&mut mark)
            .map_err(|error| Failure::new(FailureKind::Strange, error.to_string()))?;
        let args = vec![Bytes::copy_from_slice(&mark)];
        Ok(Call { script: Script::Keep, key: self.keys.mark(), args })
    }

    /// Loads the scripts, and looks at the server: a replica refuses the two writes, and a server that has lost its
    /// data has another mark.
    async fn greet(&self, live: &mut Live) -> Result<(), Failure> {
        let mut pipe = redis::pipe();
        for script in Script::ALL {
            pipe.cmd("SCRIPT").arg("LOAD").arg(script.text());
        }
        pipe.add_command(by_text(&self.mark()?));
        let identity = Bytes::copy_from_slice(&self.identity().unwrap_or(self.offered));
        let key = self.keys.identity();
        pipe.add_command(by_text(&Call { script: Script::Keep, key, args: vec![identity] }));
        let mut answers = live.send(&pipe).await?.into_iter();
        let names = answers.by_ref().take(Script::ALL.len()).map(text).collect::<Result<_, _>>()?;
        live.names = Names::new(names).ok_or_else(strange)?;
        let mark = bytes(answers.next().ok_or_else(strange)??)?;
        let identity = bytes(answers.next().ok_or_else(strange)??)?;
        self.meet_mark(mark);
        self.meet_identity(&identity)
    }

    /// How often everything was found to be lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Notes the mark that is in the engine.
    pub(crate) fn meet_mark(&self, mark: Vec<u8>) {
        let mut known = self.known();
        if known.mark.as_ref().is_some_and(|before| *before != mark) {
            self.losses.fetch_add(1, Ordering::Release);
            let address = &self.address;
            tracing::warn!(%address, "the engine has lost everything that was stored in it");
        }
        known.mark = Some(mark);
    }

    fn meet_identity(&self, identity: &[u8]) -> Result<(), Failure> {
        let address = &self.address;
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

impl Live {
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
        let answers = answers.map_err(|error| match Failure::of(&error) {
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

pub(crate) fn strange() -> Failure {
    Failure::new(FailureKind::Strange, "it answers what Redis would not")
}
