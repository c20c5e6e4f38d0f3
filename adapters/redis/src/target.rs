//! A server, and how connections to it are made.

use std::{fmt, sync::Arc, time::Duration};

use redis::{Client, Value};
use tokio::time::timeout;

#[cfg(feature = "cluster")]
use crate::cluster::Node;
#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;
use crate::{
    connection::{Live, by_text, bytes, strange, text},
    engine::Engine,
    error::{Failure, FailureKind},
    scripts::{Names, Script},
};

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

    /// A connection to it was lost, and there is another one.
    pub(crate) fn has_broken(&self) {
        self.engine.has_broken();
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
                // Its keys are in one slot each.
                live.together = false;
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
            pipe.add_command(by_text(&[&Engine::keep_mark(key.clone())?]));
        }
        if has_identity {
            pipe.add_command(by_text(&[&self.engine.keep_identity()]));
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
            pipe.add_command(by_text(&[&Engine::keep_mark(key.clone())?]));
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
