//! One connection to the engine, and what is said on it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, Value,
    aio::MultiplexedConnection,
};

use crate::{
    error::{Failure, FailureKind},
    scripts::{Names, Script},
};

/// A connection that has the scripts.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    pub(crate) names: Names,
    /// The keys of the marks that this server has.
    pub(crate) marks: Vec<Vec<u8>>,
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

    /// The command that calls a script by its name, if it is one of those that were loaded.
    pub(crate) fn by_name(&self, call: &Call) -> Cmd {
        match self.names.of(call.script) {
            Some(name) => command("EVALSHA", name, call),
            None => by_text(call),
        }
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

pub(crate) fn text(answer: Result<Value, Failure>) -> Result<String, Failure> {
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
