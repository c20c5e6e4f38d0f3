//! One connection to the engine, and what is said on it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, Value,
    aio::MultiplexedConnection,
};

use crate::{
    bundle::Bundle,
    call::Call,
    error::{Failure, FailureKind},
    scripts::Names,
};

/// A connection that has the scripts.
pub(crate) struct Live {
    connection: MultiplexedConnection,
    pub(crate) names: Names,
    /// The keys of the marks that this server has.
    pub(crate) marks: Vec<Vec<u8>>,
    /// Whether calls on several keys may go as one: not at a node of a cluster.
    pub(crate) together: bool,
    /// The peer has closed it.
    closed: Arc<AtomicBool>,
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
        Ok(Self { connection, names: Names::none(), marks: Vec::new(), together: true, closed })
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

    /// Calls scripts in one go, as `bundles` says which of them go together, and then whatever comes `after` them. Returns
    /// their answers, in the order of the calls, and its own.
    pub(crate) async fn run(
        &mut self,
        calls: &[&Call],
        bundles: &[Bundle],
        named: Named,
        after: Option<Cmd>,
    ) -> Result<(Vec<Result<Value, Failure>>, Option<Result<Value, Failure>>), Failure> {
        let mut pipe = redis::pipe();
        let asks = |bundle: &Bundle| bundle.iter().any(|&at| calls[at].asking);
        for bundle in bundles {
            if asks(bundle) {
                // It holds for the next command alone.
                pipe.cmd("ASKING");
            }
            let calls: Vec<_> = bundle.iter().map(|&at| calls[at]).collect();
            pipe.add_command(self.command(&calls, named));
        }
        if let Some(after) = after {
            pipe.add_command(after);
        }
        let mut answers = self.send(&pipe).await?.into_iter();
        let mut of_calls: Vec<_> = calls.iter().map(|_| None).collect();
        for bundle in bundles {
            if asks(bundle) {
                answers.next();
            }
            let answer = answers.next().ok_or_else(strange)?;
            let is_for_many = bundle.first().is_some_and(|&at| calls[at].script.is_for_many());
            let each = if is_for_many { apart(answer, bundle.len()) } else { vec![answer] };
            for (&at, answer) in bundle.iter().zip(each) {
                of_calls[at] = Some(answer);
            }
        }
        let of_calls = of_calls.into_iter().collect::<Option<_>>().ok_or_else(strange)?;
        Ok((of_calls, answers.next()))
    }

    /// The command that calls a script, by its name if it is one of those that were loaded.
    fn command(&self, calls: &[&Call], named: Named) -> Cmd {
        let name = calls.first().and_then(|call| self.names.of(call.script));
        match name.filter(|_| named == Named::ByName) {
            Some(name) => command("EVALSHA", name, calls),
            None => by_text(calls),
        }
    }
}

/// How a script is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    ByName,
    /// From then on the engine knows it by its name, too.
    ByText,
}

/// The command that calls a script by its text, once for all these calls of it.
pub(crate) fn by_text(calls: &[&Call]) -> Cmd {
    let text = calls.first().map_or("", |call| call.script.text());
    command("EVAL", text, calls)
}

fn command(name: &str, script: &str, calls: &[&Call]) -> Cmd {
    let args: usize = calls.iter().map(|call| 1 + call.args.len()).sum();
    let len: usize = calls.iter().map(|call| call.len()).sum();
    let mut cmd = Cmd::with_capacity(3 + args, script.len() + len + 32);
    cmd.arg(name).arg(script).arg(calls.len());
    for call in calls {
        cmd.arg(&call.key);
    }
    for arg in calls.iter().flat_map(|call| &call.args) {
        cmd.arg(&arg[..]);
    }
    cmd
}

/// Takes apart what a script has said of as many keys.
fn apart(answer: Result<Value, Failure>, keys: usize) -> Vec<Result<Value, Failure>> {
    match answer {
        Ok(Value::Array(each)) if each.len() == keys => each.into_iter().map(checked).collect(),
        Ok(_) => vec![Err(strange()); keys],
        // It has not run, so it has done nothing at any key; or nobody knows.
        Err(failure) => vec![Err(failure); keys],
    }
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
