//! The cases, each named as on the command line.

mod catch_up;
mod crowd;
mod echo;
mod fan_out;
mod instructions;
mod large;
mod layer;
mod memory;
mod reconnect;
mod redis;
mod store;
mod sweep;

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use session_resume_benches::measure::Samples;
use tokio::runtime::Runtime;

pub(crate) use self::layer::requests;

use crate::{
    client::{Mode, Server},
    peer,
    report::Report,
};

pub(crate) const NAMES: [&str; 12] = [
    "layer",
    "instructions",
    "fan-out",
    "echo",
    "reconnect",
    "catch-up",
    "crowd",
    "memory",
    "sweep",
    "store",
    "large",
    "redis",
];

/// Runs a case or all; returns whether it is known.
pub(crate) fn run(case: &str, report: &mut Report) -> bool {
    match case {
        "all" => {
            let peer = peer::is_there();
            NAMES.into_iter().all(|case| run_apart(case, peer, report))
        }
        "layer" => known(layer::run(report)),
        "instructions" => known(instructions::run(report)),
        "fan-out" => known(fan_out::run(report)),
        "echo" => known(echo::run(report)),
        "reconnect" => known(reconnect::run(report)),
        "catch-up" => known(catch_up::run(report)),
        "crowd" => known(crowd::run(report)),
        "memory" => known(memory::run(report)),
        "sweep" => known(sweep::run(report)),
        "store" => known(store::run(report)),
        "large" => known(large::run(report)),
        "redis" => known(redis::run(report)),
        _ => false,
    }
}

/// Runs a case in a process of its own, so that it does not start with the heap that another case has left.
fn run_apart(case: &str, peer: bool, report: &mut Report) -> bool {
    let mut this = Command::new(std::env::current_exe().expect("this program has a path"));
    if !peer {
        peer::leave_out(&mut this);
    }
    let output = this.arg(case).stderr(Stdio::inherit()).output();
    let output = output.expect("this program can be started");
    report.absorb(&String::from_utf8_lossy(&output.stdout));
    output.status.success()
}

fn known((): ()) -> bool {
    true
}

/// How a client of ours speaks to a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Speech {
    Plain,
    Resumable,
    SocketIo,
}

impl Speech {
    /// How a new client speaks. `client` tells it from the others.
    fn fresh(self, client: usize) -> Mode {
        match self {
            Self::Plain => Mode::Plain,
            Self::Resumable => Mode::fresh(client),
            Self::SocketIo => Mode::SocketIo(None),
        }
    }

    /// Waits so that the next subject has both cores to itself: node collects garbage for some more time.
    async fn rest(self) {
        if self == Self::SocketIo {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What a subject is called, the kind of its server, and how its clients speak.
type Named = (&'static str, &'static str, Speech);

/// A server and how its clients speak.
struct Subject {
    name: &'static str,
    server: Server,
    speech: Speech,
}

impl Subject {
    fn start((name, kind, speech): Named) -> Self {
        Self::with(name, Server::start(kind), speech)
    }

    fn with(name: &'static str, server: Server, speech: Speech) -> Self {
        Self { name, server, speech }
    }

    /// Gives the server time to see that its clients are gone.
    async fn settle(&self, time: Duration) {
        if self.speech == Speech::SocketIo {
            // The peer may need more time. It would not recognise a client that comes back before.
            self.server.get("/quiet").await;
        }
        tokio::time::sleep(time).await;
    }
}

/// The subjects of a case, and behind them the peer, if it is there.
fn with_peer(subjects: &[Named], peer: &'static str) -> Vec<Named> {
    let peer = peer::is_there().then_some((peer, peer::KIND, Speech::SocketIo));
    subjects.iter().copied().chain(peer).collect()
}

/// Returns our median. Our subject is the last one, or the last one before the peer.
fn ours(measured: &[(String, Samples)]) -> f64 {
    let ours = measured.iter().rfind(|(name, _)| name.starts_with("session-resume"));
    ours.expect("we are always measured").1.median()
}

/// The client's runtime: one thread, so that the server has a core to itself.
fn client_runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    raise_file_limit();
    runtime.expect("a runtime")
}

/// Thousands of sockets need as many descriptors; the server inherits the limit.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // If it does not work, opening sockets will tell.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Microseconds.
fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
