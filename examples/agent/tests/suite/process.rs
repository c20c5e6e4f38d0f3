//! The real programs: killed with signal 9, stopped with signal 15, and a terminal that comes and goes.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::Path,
    process::{Output, Stdio},
};

use session_resume_client::{OutcomeStatus, Status};
use session_resume_testkit::tcp::Proxy;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
};

use crate::support::{Disk, Watcher, poll, report, whole, within, words_before_question};

/// The server's binary, and where it listens.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    async fn start(store: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_agent"))
            .args(["--listen", "127.0.0.1:0", "--beat", "1", "--store"])
            .arg(store)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within("the first line", lines.next_line()).await.unwrap().unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self { child, address }
    }

    /// Signal 9 where there are signals.
    async fn kill(mut self) {
        within("the kill", self.child.kill()).await.unwrap();
    }

    #[cfg(unix)]
    async fn terminate(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        within("the drain", self.child.wait()).await.unwrap()
    }
}

/// Runs the terminal with this on its standard input, to its end.
async fn terminal(server: SocketAddr, profile: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_agent-cli"))
        .args([OsStr::new("--server"), server.to_string().as_ref(), OsStr::new("--profile")])
        .arg(profile)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    within("the terminal", child.wait_with_output()).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn killed_with_signal_9_the_agent_goes_on_with_the_next_word() {
    let disk = Disk::new();
    let mut process = Process::start(&disk.store()).await;
    let network = Proxy::start(process.address).await;
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    // While it thinks, while it plans, while it waits, and while it works.
    for words in [10, words_before_question() - 4, words_before_question()] {
        watcher.until_words(words).await;
        network.go_offline();
        process.kill().await;
        process = Process::start(&disk.store()).await;
        network.set_target(process.address);
        network.go_online();
    }
    watcher.until_asked().await;
    watcher.answer(true).await;
    watcher.until("two files", |watcher| watcher.files.len() >= 2).await;
    network.go_offline();
    process.kill().await;

    let process = Process::start(&disk.store()).await;
    // No client has come back: the agent is not at work, and a client that asks is told that the run is
    // not over.
    let (code, outcome) = poll(process.address, &watcher.session, &watcher.cookies).await;
    assert_eq!(code, 202, "{outcome}");
    network.set_target(process.address);
    network.go_online();
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    assert!(watcher.statuses[1..].iter().all(|status| *status == Status::Resumed));
    let (_, outcome) = poll(process.address, &watcher.session, &watcher.cookies).await;
    watcher.assert_exact(&report(&outcome));
}

#[cfg(unix)]
#[tokio::test]
async fn stopped_with_signal_15_it_drains_and_the_next_one_goes_on() {
    let disk = Disk::new();
    let process = Process::start(&disk.store()).await;
    let network = Proxy::start(process.address).await;
    let mut watcher = Watcher::open(network.address(), "").await;
    watcher.start("none").await;
    watcher.until_words(10).await;
    assert!(process.terminate().await.success());
    let process = Process::start(&disk.store()).await;
    network.set_target(process.address);
    network.go_online();
    watcher.until_asked().await;
    assert_eq!(watcher.statuses, [Status::New, Status::Resumed]);
    watcher.answer(true).await;
    assert_eq!(watcher.until_done().await, OutcomeStatus::Done);
    let (_, outcome) = poll(process.address, &watcher.session, &watcher.cookies).await;
    watcher.assert_exact(&report(&outcome));
}

#[tokio::test]
async fn a_terminal_starts_an_agent_answers_it_and_shows_the_result() {
    let disk = Disk::new();
    let process = Process::start(&disk.store()).await;
    let profile = disk.file("cli.json");
    let run = terminal(process.address, &profile, &["count the words"], "y\n").await;
    let out = text(&run.stdout);
    assert!(run.status.success(), "{out}{}", text(&run.stderr));
    for line in whole().lines {
        assert_eq!(
            out.matches(&line.text).count(),
            if line.text == "count the words" { 3 } else { 1 },
            "{out}"
        );
    }
    assert!(out.contains("[y/n]") && out.contains("The result: done"), "{out}");

    // A failure is a failure to the shell, too.
    let run = terminal(process.address, &profile, &["--mishap", "error", "again"], "y\n").await;
    let out = text(&run.stdout);
    assert!(
        out.starts_with("The last run: done; \u{201c}count the words\u{201d}, approved"),
        "{out}"
    );
    assert!(out.contains("The result: failed; weather.txt: permission denied"), "{out}");
    assert_eq!(run.status.code(), Some(1));
}

#[tokio::test]
async fn a_terminal_that_is_left_finds_the_question_after_a_kill() {
    let disk = Disk::new();
    let process = Process::start(&disk.store()).await;
    let profile = disk.file("cli.json");
    let run = terminal(process.address, &profile, &["count the words"], "").await;
    let out = text(&run.stdout);
    assert!(run.status.success() && out.contains("goes on."), "{out}{}", text(&run.stderr));
    process.kill().await;

    let process = Process::start(&disk.store()).await;
    let run = terminal(process.address, &profile, &[], "y\n").await;
    let out = text(&run.stdout);
    assert!(text(&run.stderr).contains("[restored session"), "{}", text(&run.stderr));
    assert!(out.contains(&whole().lines[1].text) && out.contains("The result: done"), "{out}");
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_named() {
    let disk = Disk::new();
    let process = Process::start(&disk.store()).await;
    let second = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["--listen", "127.0.0.1:0", "--store"])
        .arg(disk.store())
        .kill_on_drop(true)
        .output();
    let second = within("the refusal", second).await.unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("sessions.redb"), "{}", text(&second.stderr));
    assert_eq!(second.stdout, b"");
    drop(process);
}
