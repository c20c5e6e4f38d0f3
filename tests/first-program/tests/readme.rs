//! What the README says of its first program: it shows its state after a reload, and after a restart.

use std::{net::SocketAddr, path::Path, process::Stdio};

use session_resume_testkit::{Browser, Close, Socket, soon};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// The program, with its files in `folder`; it ends with this value.
struct Program {
    addr: SocketAddr,
    child: Child,
    /// Its log goes here, too.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    async fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_first-program"))
            .current_dir(folder)
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = loop {
            let line = soon("where it listens", lines.next_line()).await.unwrap().unwrap();
            if let Some(addr) = line.strip_prefix("listening on http://") {
                break addr.parse().unwrap();
            }
        };
        Self { addr, child, _output: lines }
    }

    /// Stops it, as ctrl-c (`INT`) or a service manager (`TERM`) does.
    async fn stop(mut self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        let kill = Command::new("kill").args([&format!("-{signal}"), &id]).status().await;
        assert!(kill.unwrap().success());
        assert!(soon("its end", self.child.wait()).await.unwrap().success());
    }
}

/// A page that has just been loaded: a new client, as `ResumableSocket` is in a new document.
struct Page(Socket);

impl Page {
    async fn load(browser: &Browser, name: char) -> Self {
        let mut socket = browser.resumable("/live", &name.to_string().repeat(16)).await;
        socket.member("hello").await;
        Self(socket)
    }

    /// Waits until it shows this number; a handler that starts anew may say the last one again.
    async fn shows(&mut self, number: &str) {
        while self.0.data().await != number {}
    }

    /// The first click of this page: shown, and acknowledged. From then on it is the server's, not the page's.
    async fn click_once(&mut self, number: &str) {
        self.0.send("click").await;
        let (mut is_shown, mut is_acknowledged) = (false, false);
        while !(is_shown && is_acknowledged) {
            let text = self.0.recv().await;
            is_shown |= text == number;
            is_acknowledged |= text == "\u{1}{\"ack\":1}";
        }
    }
}

#[tokio::test]
async fn the_first_program_shows_its_state_after_a_reload_and_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(folder.path()).await;
    let browser = Browser::at(program.addr);
    let html = browser.navigate("/").await.text().to_owned();
    assert!(html.contains("<button>click</button>"), "{html}");
    assert_eq!(browser.get("/session-resume.js").await.status, 200);

    let mut page = Page::load(&browser, 'a').await;
    page.shows("0").await;
    page.click_once("1").await;
    page.0.send("click").await;
    page.shows("2").await;
    drop(page);
    let mut page = Page::load(&browser, 'b').await;
    assert_eq!(page.0.data().await, "2", "after a reload, and nothing older");
    let list = browser.get("/sessions").await.json();
    assert_eq!(list["sessions"][0]["status"], "running");
    let id = list["sessions"][0]["session"].as_str().unwrap();
    assert_eq!(browser.get(&format!("/sessions/{id}")).await.status, 202);
    drop(page);

    program.stop("INT").await;
    let program = Program::start(folder.path()).await;
    let browser = browser.moved_to_address(program.addr);
    let mut page = Page::load(&browser, 'c').await;
    assert_eq!(page.0.data().await, "2", "after a restart");
    page.click_once("3").await;

    // A page that is open is told to come back.
    let closed = tokio::spawn(async move { page.0.closed().await });
    program.stop("TERM").await;
    assert_eq!(closed.await.unwrap(), Close::new(4112, "restarting"));
    let mut program = Program::start(folder.path()).await;
    let browser = browser.moved_to_address(program.addr);
    let mut page = Page::load(&browser, 'd').await;
    assert_eq!(page.0.data().await, "3", "after a stop by a service manager");

    program.child.kill().await.unwrap();
    let program = Program::start(folder.path()).await;
    let browser = browser.moved_to_address(program.addr);
    let mut page = Page::load(&browser, 'e').await;
    assert_eq!(page.0.data().await, "3", "after kill -9");
}

#[test]
fn its_dependencies_are_those_that_the_readme_names() {
    let dependencies = |text: &str, end: &str| {
        let (_, rest) = text.split_once("[dependencies]\n").unwrap();
        let (lines, _) = rest.split_once(end).unwrap();
        lines.trim().to_owned()
    };
    let readme = dependencies(include_str!("../../../README.md"), "```");
    let built = dependencies(include_str!("../Cargo.toml"), "[dev-dependencies]");
    assert_eq!(readme.replace("../session-resume/", "../../"), built);
}
