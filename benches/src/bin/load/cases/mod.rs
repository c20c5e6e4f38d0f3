//! The cases, each named as on the command line.

mod crowd;
mod echo;
mod fan_out;
mod instructions;
pub(crate) mod layer;
mod memory;
mod reconnect;
mod store;
mod sweep;

use std::process::{Command, Stdio};

use tokio::runtime::Runtime;

use crate::{client::Server, report::Report};

pub(crate) const NAMES: [&str; 9] =
    ["layer", "instructions", "fan-out", "echo", "reconnect", "crowd", "memory", "sweep", "store"];

/// Runs a case or all; returns whether it is known.
pub(crate) fn run(case: &str, report: &mut Report) -> bool {
    match case {
        "all" => NAMES.into_iter().all(|case| run_apart(case, report)),
        "layer" => known(layer::run(report)),
        "instructions" => known(instructions::run(report)),
        "fan-out" => known(fan_out::run(report)),
        "echo" => known(echo::run(report)),
        "reconnect" => known(reconnect::run(report)),
        "crowd" => known(crowd::run(report)),
        "memory" => known(memory::run(report)),
        "sweep" => known(sweep::run(report)),
        "store" => known(store::run(report)),
        _ => false,
    }
}

/// Runs a case in a process of its own: what one leaves behind in the heap is not the next one's.
fn run_apart(case: &str, report: &mut Report) -> bool {
    let this = std::env::current_exe().expect("this program has a path");
    let output = Command::new(this).arg(case).stderr(Stdio::inherit()).output();
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
}

/// A server and how its clients speak.
struct Subject {
    name: &'static str,
    server: Server,
    speech: Speech,
}

impl Subject {
    fn start((name, kind, speech): (&'static str, &str, Speech)) -> Self {
        Self { name, server: Server::start(kind), speech }
    }
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
fn micros(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
