//! The proxy configuration of the docs, word for word, in front of the testee.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use session_resume_testkit::{Browser, soon, until};
use session_resume_tests::{Framework, scenarios};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{client, testee};

const PAGE: &str = include_str!("../../../core/resume/docs/behind-a-proxy.md");

scenarios!(the_nginx_of_the_docs_passes_sessions_on);

/// An nginx of our own, in a folder of its own.
struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM: the master takes its workers along.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

impl Nginx {
    /// Starts nginx with the text of the docs, its ports and addresses exchanged; `None` where there is no nginx.
    async fn start(server: SocketAddr) -> Option<Self> {
        let found = Command::new("nginx").arg("-v").stderr(Stdio::null()).status();
        if found.is_err() {
            eprintln!("left out: nginx is missing");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let address = free_address().await;
        let text =
            PAGE.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let text = text
            .replace("listen 80;", &format!("listen {address};"))
            .replace("http://127.0.0.1:3000", &format!("http://{server}"));
        assert!(text.contains(&address.to_string()) && text.contains(&server.to_string()));
        let at = |name: &str| folder.path().join(name).display().to_string();
        let bodies = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {};", at(kind)))
            .concat();
        let config = format!(
            "daemon off; worker_processes 1; pid {}; error_log stderr error; events {{}}\n\
             http {{ access_log off; {bodies}\n{text}\n}}\n",
            at("pid"),
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config).unwrap();
        let process = spawn(&path, folder.path());
        until("nginx listens", async || TcpStream::connect(address).await.is_ok()).await;
        Some(Self { process, folder, address })
    }
}

fn spawn(config: &Path, prefix: &Path) -> Child {
    Command::new("nginx").arg("-c").arg(config).arg("-p").arg(prefix).spawn().unwrap()
}

/// A port that was free a moment ago: nginx cannot be asked for one.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn the_nginx_of_the_docs_passes_sessions_on(framework: Framework) {
    let testee = testee(framework, "").await;
    let Some(nginx) = Nginx::start(testee.addr).await else {
        return;
    };
    assert!(nginx.folder.path().exists());
    let browser = Browser::at(nginx.address);

    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    assert_eq!(hello["status"], "new");
    ws.send("add 2").await;
    assert_eq!(ws.data().await, "total:2");
    drop(ws);
    let at = format!(
        "{}.{}.{}.1",
        client('a'),
        hello["session"].as_str().unwrap(),
        hello["epoch"].as_str().unwrap()
    );
    let mut ws = browser.resumable("/live", &at).await;
    assert_eq!(ws.member("hello").await["status"], "resumed");

    // The page's own origin has the port in it, and so has the Host that reaches the server.
    let own = format!("http://{}", nginx.address);
    for (origin, status) in [(own.as_str(), "101"), ("http://foe.example", "403")] {
        assert_eq!(upgrade_from(nginx.address, origin).await, status, "{origin}");
    }
}

/// Returns the status of an upgrade from a page of this origin.
async fn upgrade_from(proxy: SocketAddr, origin: &str) -> String {
    let request = format!(
        "GET /live HTTP/1.1\r\nhost: {proxy}\r\norigin: {origin}\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    soon("the status of an upgrade", async {
        let mut stream = BufReader::new(TcpStream::connect(proxy).await.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    })
    .await
}
