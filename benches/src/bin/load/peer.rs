//! Socket.IO with connection state recovery: a peer that is measured if node and npm are there. Its package is not
//! part of this repository; without it the cases leave the peer out.

use std::{
    io,
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The kind of its server.
pub(crate) const KIND: &str = "socketio";

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/socketio");
/// Set for the cases of `load all` when there is no peer: they need not find out again.
const LEFT_OUT: &str = "LOAD_WITHOUT_SOCKETIO";
/// Whether what is pinned is there and can be loaded.
const CHECK: &str = "require('socket.io'); require('@socket.io/redis-streams-adapter'); require('redis'); \
    const { version } = require('socket.io/package.json'); \
    process.exit(version === require('./package.json').dependencies['socket.io'] ? 0 : 1)";

/// Returns whether the peer can be measured, having installed it if need be; if it cannot, says why.
pub(crate) fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| {
        if std::env::var_os(LEFT_OUT).is_some() {
            return false;
        }
        let prepared = prepare();
        if let Err(reason) = &prepared {
            eprintln!("The rows of Socket.IO are left out: {reason}.");
        }
        prepared.is_ok()
    })
}

/// Tells another run of this program that there is no peer.
pub(crate) fn leave_out(command: &mut Command) {
    command.env(LEFT_OUT, "1");
}

/// Its server; `--expose-gc` is for its heap without the garbage.
pub(crate) fn server() -> Command {
    let mut node = Command::new("node");
    // The input ends with this process, and then the server ends, too.
    node.args(["--expose-gc", "server.mjs"]).current_dir(FOLDER).stdin(Stdio::piped());
    node
}

/// Its server with its sessions in Redis, each with as many bytes of data.
pub(crate) fn on_redis(url: &str, data: usize) -> Command {
    let mut node = server();
    node.env("REDIS_URL", url).env("DATA", data.to_string());
    node
}

fn prepare() -> Result<(), String> {
    if is_installed()? {
        return Ok(());
    }
    eprintln!("Installing Socket.IO in benches/socketio.");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(FOLDER);
    // The tables alone go to the standard output.
    let status = npm.stdin(Stdio::null()).stdout(io::stderr()).status();
    let status = status.map_err(|error| cannot_start("npm", error))?;
    if !status.success() {
        return Err(format!("npm ci failed ({status})"));
    }
    if is_installed()? { Ok(()) } else { Err("npm ci has not installed what is pinned".to_owned()) }
}

fn is_installed() -> Result<bool, String> {
    let mut node = Command::new("node");
    node.args(["--eval", CHECK]).current_dir(FOLDER).stdin(Stdio::null()).stderr(Stdio::null());
    let status = node.status().map_err(|error| cannot_start("node", error))?;
    Ok(status.success())
}

fn cannot_start(program: &str, error: io::Error) -> String {
    format!("{program} cannot be started ({error})")
}
