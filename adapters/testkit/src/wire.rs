//! What lies between a page and its server, and what can be done to it.

use std::{
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_resume_proto::wire::Hello;
use tokio::{sync::Notify, time::sleep};

use crate::{
    DEADLINE,
    line::{Direction, End, Flow, Line},
    server::Target,
};

/// The way from one page to its server, over all of its connections; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Wire(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    target: Target,
    state: Mutex<State>,
    /// Something has changed for a connection that is being made.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    network: Network,
    /// The present connection is the last one. Those before may still be open for the server.
    lines: Vec<Line>,
}

/// What the network does with connections, the next ones too.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Network {
    #[default]
    Works,
    Frozen,
    Offline,
}

impl Wire {
    pub(crate) fn new(target: Target) -> Self {
        let (state, changed) = Default::default();
        Self(Arc::new(Shared { target, state, changed }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a connection.
    pub(crate) async fn connect(&self) -> io::Result<End> {
        loop {
            let changed = self.0.changed.notified();
            let network = self.lock().network;
            match network {
                Network::Works => break,
                Network::Offline => {
                    return Err(io::Error::new(ErrorKind::NetworkUnreachable, "page is offline"));
                }
                // Nobody answers.
                Network::Frozen => changed.await,
            }
        }
        let (line, client, server) = Line::new();
        self.0.target.accept(&line, server).await?;
        let mut state = self.lock();
        state.lines.retain(Line::is_of_use);
        state.lines.push(line);
        Ok(client)
    }

    /// The present connection.
    fn line(&self) -> Option<Line> {
        self.lock().lines.last().filter(|line| line.is_open()).cloned()
    }

    /// The hello of the present connection.
    pub(crate) fn hello(&self) -> Option<Hello> {
        self.line()?.hello()
    }

    pub(crate) async fn cut(&self) {
        if let Some(line) = self.line() {
            self.last_words(&line).await;
            line.reset();
        }
    }

    pub(crate) async fn half_open(&self) {
        if let Some(line) = self.line() {
            self.last_words(&line).await;
            line.abandon_server();
        }
    }

    /// What the client has written arrives; what the server writes from now on does not.
    async fn last_words(&self, line: &Line) {
        line.set_flow(Direction::Down, Flow::Held);
        settle(line).await;
    }

    pub(crate) async fn lose(&self, count: usize) {
        let line = self.line();
        if let Some(line) = &line {
            line.set_flow(Direction::Up, Flow::Held);
            line.set_flow(Direction::Down, Flow::Held);
            settle(line).await;
        }
        let under_way = line.as_ref().map_or(0, |line| line.under_way(Direction::Up));
        assert!(
            count <= under_way,
            "lose({count}): {under_way} messages are under way. Those that have arrived cannot be lost any more: \
             call it right after `send`, or `freeze` before"
        );
        if let Some(line) = line {
            line.lose(Direction::Up, count);
            line.set_flow(Direction::Up, Flow::Passes);
            settle(&line).await;
            line.reset();
        }
    }

    pub(crate) fn freeze(&self) {
        let mut state = self.lock();
        state.network = Network::Frozen;
        state.set_flow(Flow::Held);
    }

    pub(crate) fn thaw(&self) {
        let mut state = self.lock();
        state.network = Network::Works;
        state.set_flow(Flow::Passes);
        self.0.changed.notify_waiters();
    }

    pub(crate) async fn go_offline(&self) {
        self.lock().network = Network::Offline;
        self.0.changed.notify_waiters();
        self.cut().await;
        self.lock().lines.iter().for_each(Line::reset);
    }

    pub(crate) fn go_online(&self) {
        self.lock().network = Network::Works;
    }
}

impl State {
    fn set_flow(&self, flow: Flow) {
        for line in &self.lines {
            line.set_flow(Direction::Up, flow);
            line.set_flow(Direction::Down, flow);
        }
    }
}

/// Waits until the client writes nothing more and, if the network lets it pass, all of it is read.
async fn settle(line: &Line) {
    let quiet = async {
        let mut before = None;
        loop {
            // While the clock is paused, this returns when nothing else can happen.
            sleep(Duration::from_millis(1)).await;
            let now = line.progress(Direction::Up);
            if before == Some(now) {
                return;
            }
            before = Some(now);
        }
    };
    // A client that never stops writing is cut all the same.
    let _ = tokio::time::timeout(DEADLINE, quiet).await;
}
