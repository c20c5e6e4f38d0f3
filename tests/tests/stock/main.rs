//! Clients of other projects, in five languages, behind a network that breaks: each message reaches the program.
//!
//! The programs stand in `tests/stock-clients`, and follow `docs/stock-clients.md`. Where a language or its library is
//! missing the test says so and checks nothing; `tests/run` installs them, and names those that are missing.

use std::{collections::HashSet, env, path::Path, process::Stdio, sync::atomic::Ordering};

use session_resume_testkit::{
    soon,
    tcp::{Fate, Proxy},
};
use session_resume_tests::{Framework, Testee};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

const MESSAGES: u64 = 2_000;
/// The network breaks this many connections, each after at most this many bytes.
const BREAKS: u64 = 20;
const LONGEST: u64 = 60_000;

/// A program of `tests/stock-clients`.
struct Client {
    /// What runs it.
    command: String,
    /// How to see whether its library is there.
    probe: [String; 2],
    script: &'static str,
    more: Vec<String>,
}

impl Client {
    fn new(command: &str, probe: [&str; 2], script: &'static str) -> Self {
        let probe = probe.map(str::to_owned);
        Self { command: command.to_owned(), probe, script, more: Vec::new() }
    }

    async fn is_there(&self) -> bool {
        let mut probe = Command::new(&self.command);
        let probe = probe.args(&self.probe).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().await.is_ok_and(|status| status.success())
    }
}

async fn gets_each_message(client: Client) {
    if !client.is_there().await {
        eprintln!("left out: {} or the library of {} is missing", client.command, client.script);
        return;
    }
    let testee = Testee::start(env!("CARGO_BIN_EXE_testee"), Framework::Axum, "").await;
    let chaos = Proxy::with_fates(testee.addr, Fate::drawn(0x57_0c4, LONGEST, BREAKS)).await;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stock-clients").join(client.script);
    let mut process = Command::new(&client.command)
        .arg(script)
        .args([format!("ws://{}/live", chaos.address()), MESSAGES.to_string()])
        .args(&client.more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (mut got, mut doubled) = (HashSet::new(), 0_u64);
    while got.len() < usize::try_from(MESSAGES).unwrap() {
        let line = soon("a message", lines.next_line()).await.unwrap();
        let line = line.unwrap_or_else(|| panic!("it ended after {} messages", got.len()));
        let number = line.strip_prefix("e:").and_then(|rest| rest.split(':').next());
        let number: u64 = number.unwrap_or_else(|| panic!("no message: {line}")).parse().unwrap();
        doubled += u64::from(!got.insert(number));
    }
    let expected: HashSet<_> = (0..MESSAGES).collect();
    assert!(got == expected, "each message once, from one session");
    let flaps = chaos.counts().ended.load(Ordering::Relaxed);
    assert!(flaps > 0, "the network has broken connections");
    // What a connection may hold that was not confirmed: the window at its widest, and 64.
    assert!(doubled <= flaps * (1_024 + 64), "{doubled} doubled in {flaps}");
}

#[tokio::test]
async fn python_websockets() {
    let python = env::var("STOCK_CLIENTS_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let probe = ["-c", "import websockets.asyncio.client"];
    gets_each_message(Client::new(&python, probe, "python-websockets.py")).await;
}

#[tokio::test]
async fn javascript_ws() {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../adapters/browser");
    let packages = packages.canonicalize().unwrap().display().to_string();
    let require = format!("require('module').createRequire({packages:?} + '/')('ws')");
    let client = Client::new("node", ["-e", &require], "node-ws.mjs");
    gets_each_message(Client { more: vec![packages], ..client }).await;
}

#[tokio::test]
async fn perl_mojo() {
    gets_each_message(Client::new("perl", ["-MMojo::UserAgent", "-e1"], "perl-mojo.pl")).await;
}

#[tokio::test]
async fn ruby_faye() {
    gets_each_message(Client::new("ruby", ["-rfaye/websocket", "-e1"], "ruby-faye.rb")).await;
}

#[tokio::test]
async fn lua_http() {
    let probe = ["-e", "require 'http.websocket'"];
    gets_each_message(Client::new("lua5.1", probe, "lua-http.lua")).await;
}
