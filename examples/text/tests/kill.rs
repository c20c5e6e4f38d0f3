//! Two pages write, each in a process of its own, with y-websocket as it is published. The server is killed with signal 9
//! while they do.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use session_resume_testkit::{soon, tcp::Proxy};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// How often the server is killed.
const KILLS: usize = 5;
/// How much each page writes before it, and meanwhile.
const ONLINE: usize = 60;
const OFFLINE: usize = 10;

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    async fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_text"))
            .args(["--listen", "127.0.0.1:0", "--folder"])
            .arg(folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon("the first line", lines.next_line()).await.unwrap().unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().parse().unwrap();
        Self { child, address }
    }

    /// Signal 9 where there are signals.
    async fn kill(mut self) {
        soon("the kill", self.child.kill()).await.unwrap();
    }
}

/// See `page.mjs`.
struct Page {
    name: char,
    /// How much it was told to write.
    written: usize,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    has: usize,
    _child: Child,
}

#[derive(serde::Deserialize, Debug)]
struct Shown {
    items: Vec<String>,
    told: Vec<serde_json::Value>,
    came: Vec<usize>,
}

impl Page {
    fn open(name: char, server: SocketAddr) -> Self {
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.mjs"))
            .args([format!("ws://{server}/live"), name.to_string()])
            .arg(browser())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { name, written: 0, input, output, has: 0, _child: child }
    }

    async fn write(&mut self, count: usize) {
        self.written += count;
        self.input.write_all(format!("write {count}\n").as_bytes()).await.unwrap();
    }

    /// Waits until it has so many items.
    async fn until(&mut self, count: usize) {
        while self.has < count {
            let line = self.line().await;
            self.has = line.strip_prefix("has ").unwrap().parse().unwrap();
        }
    }

    /// Waits until the server has told it of so many items, of its own, too; or the provider has another socket.
    async fn shows(&mut self, count: usize) -> Shown {
        loop {
            self.input.write_all(b"show\n").await.unwrap();
            let line = self.line().await;
            let Some(shown) = line.strip_prefix("shows ") else { continue };
            let shown: Shown = serde_json::from_str(shown).unwrap();
            if shown.came.len() >= count || shown.told.len() > 2 {
                return shown;
            }
        }
    }

    async fn line(&mut self) -> String {
        let waits = format!("page {}, which has {}", self.name, self.has);
        soon(&waits, self.output.next_line()).await.unwrap().expect("the page goes on")
    }

    /// What it has written, in order.
    fn own(&self) -> Vec<String> {
        (0..self.written).map(|n| format!("{}{n}", self.name)).collect()
    }
}

/// The folder of the npm package, with what it is tested with.
fn browser() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../adapters/browser").canonicalize().unwrap()
}

async fn node_is_there() -> bool {
    let probe = Command::new("node").arg("--version").stdout(Stdio::null()).status().await;
    probe.is_ok_and(|status| status.success())
        && browser().join("node_modules/y-websocket").exists()
}

#[tokio::test]
async fn pages_write_through_kills_and_each_change_comes_once() {
    if !node_is_there().await {
        eprintln!("left out: node or the packages of adapters/browser are missing");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path()).await;
    let network = Proxy::start(server.address).await;
    let mut pages = ['a', 'b'].map(|name| Page::open(name, network.address()));
    let mut total = 0;
    for _ in 0..KILLS {
        for page in &mut pages {
            page.write(ONLINE).await;
        }
        // In the middle of it.
        for page in &mut pages {
            page.until(total + ONLINE).await;
        }
        network.go_offline();
        server.kill().await;
        for page in &mut pages {
            page.write(OFFLINE).await;
        }
        server = Server::start(folder.path()).await;
        network.set_target(server.address);
        network.go_online();
        total += 2 * (ONLINE + OFFLINE);
        for page in &mut pages {
            page.until(total).await;
        }
    }
    let [a, b] = &mut pages;
    let shown = [a.shows(total).await, b.shows(total).await];
    assert_eq!(shown[0].items, shown[1].items);
    for page in &pages {
        let own = shown[0].items.iter().filter(|item| item.starts_with(page.name));
        assert!(
            own.eq(&page.own()),
            "all of page {}, once, in order: {:?}",
            page.name,
            shown[0].items
        );
    }
    for Shown { told, came, .. } in &shown {
        // No provider has noticed anything, so nothing was repaired by another sync.
        assert_eq!(serde_json::json!(told), serde_json::json!(["connected", true]));
        assert!(came.len() == total && came.iter().all(|times| *times == 1), "{came:?}");
    }
}
