//! `dashboard cluster` as its user runs it. Left out where Redis or HAProxy is missing.

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use session_resume_testkit::{Browser, until};

/// The program; it is told to end with the test, and ends what it has started.
struct Fleet {
    program: Child,
    dashboard: SocketAddr,
    control: Browser,
}

impl Fleet {
    fn start() -> Option<Self> {
        for tool in ["redis-server", "haproxy"] {
            if Command::new(tool).arg("-v").output().is_err() {
                eprintln!("left out: {tool} is missing");
                return None;
            }
        }
        let mut program = Command::new(env!("CARGO_BIN_EXE_dashboard"))
            .args(["cluster", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        let mut address = || {
            let line = lines.next().unwrap().unwrap();
            line.rsplit_once("http://").unwrap().1.parse::<SocketAddr>().unwrap()
        };
        let (dashboard, control) = (address(), Browser::at(address()));
        Some(Self { program, dashboard, control })
    }

    async fn nodes(&self) -> Vec<Value> {
        self.control.get("/nodes").await.json().as_array().unwrap().clone()
    }

    /// The name of the node that owns sessions.
    async fn owner(&self) -> String {
        let nodes = self.nodes().await;
        let owner = nodes.iter().max_by_key(|node| node["about"]["owns"].as_u64());
        owner.unwrap()["name"].as_str().unwrap().to_owned()
    }

    async fn does(&self, node: &str, deed: &str) -> u16 {
        self.control.post(&format!("/nodes/{node}/{deed}"), "").await.status.as_u16()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let process = self.program.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &process]).status();
        let _ = self.program.wait();
    }
}

/// The session's id on the page; `None` while no node answers it.
async fn session(page: &Browser) -> Option<String> {
    let answer = page.get("/").await;
    let (_, id) = answer.text().split_once(r#"id="session">"#)?;
    Some(id.split_once('<')?.0.to_owned())
}

#[tokio::test]
async fn a_session_goes_on_whatever_is_done_to_its_node() {
    let Some(fleet) = Fleet::start() else { return };
    let page = Browser::at(fleet.dashboard);
    let ours = session(&page).await.unwrap();
    // The node in turn is another one each time.
    for _ in 0..6 {
        assert_eq!(session(&page).await.as_ref(), Some(&ours));
    }

    for (deed, and_then) in [("kill", "start"), ("pause", "resume"), ("drain", "start")] {
        let owner = fleet.owner().await;
        assert_eq!(fleet.does(&owner, deed).await, 204, "{deed} {owner}");
        assert_eq!(fleet.does(&owner, deed).await, 409, "it is done already");
        until("another node answers", async || session(&page).await.as_ref() == Some(&ours)).await;
        until("the node can come back", async || fleet.does(&owner, and_then).await == 204).await;
        until("all nodes are ready", async || {
            fleet.nodes().await.iter().all(|node| node["about"]["is_ready"] == true)
        })
        .await;
        assert_eq!(session(&page).await.as_ref(), Some(&ours), "after {deed}");
    }
}

#[tokio::test]
async fn its_buttons_are_for_pages_of_this_machine() {
    let Some(fleet) = Fleet::start() else { return };
    for (name, value) in [("forwarded", "for=192.0.2.1"), ("sec-fetch-site", "cross-site")] {
        let request = http::Request::post("/nodes/a/kill").header(name, value);
        assert_eq!(fleet.control.request(request, "").await.status, 403, "{name}: {value}");
    }
    assert_eq!(fleet.does("a", "explode").await, 404);
    assert_eq!(fleet.does("d", "kill").await, 409);
    assert!(fleet.nodes().await.iter().all(|node| node["doing"] == "runs"));
}
