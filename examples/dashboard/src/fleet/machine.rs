//! The processes: each ends with this program.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

/// How long a process may take to begin.
const BEGINS: Duration = Duration::from_secs(20);
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What can be done to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    /// `kill -9`: as a crash.
    Kill,
    /// SIGSTOP: the process stands still, and does not know it.
    Pause,
    /// SIGCONT: it goes on.
    Resume,
    /// SIGTERM: it hands its sessions over and ends.
    Drain,
    /// It is started, under the same name.
    Start,
}

impl Deed {
    pub(super) const ALL: [Self; 5] =
        [Self::Kill, Self::Pause, Self::Resume, Self::Drain, Self::Start];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Drain => "drain",
            Self::Start => "start",
        }
    }
}

/// What a node's process is doing, as far as this program has brought it about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Doing {
    Runs,
    Paused,
    Drains,
    Gone,
}

impl Doing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Paused => "paused",
            Self::Drains => "drains",
            Self::Gone => "gone",
        }
    }

    pub(super) const fn allows(self, deed: Deed) -> bool {
        match deed {
            Deed::Kill => !matches!(self, Self::Gone),
            Deed::Pause | Deed::Drain => matches!(self, Self::Runs),
            Deed::Resume => matches!(self, Self::Paused),
            Deed::Start => matches!(self, Self::Gone),
        }
    }
}

pub(super) struct Node {
    pub(super) address: SocketAddr,
    hops: SocketAddr,
    child: Option<Child>,
    doing: Doing,
}

impl Node {
    pub(super) fn doing(&mut self) -> Doing {
        let has_ended =
            self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        if has_ended {
            self.child = None;
            self.doing = Doing::Gone;
        }
        self.doing
    }
}

pub(super) struct Machine {
    address: SocketAddr,
    engine: String,
    pub(super) nodes: BTreeMap<&'static str, Node>,
    redis: Child,
    balancer: Child,
    _folder: TempDir,
}

impl Machine {
    pub(super) async fn start(listen: &str) -> Result<Self, Box<dyn Error>> {
        let address = free(listen)?;
        let folder = TempDir::with_prefix("session-resume-dashboard-")?;
        let at = free("127.0.0.1:0")?;
        let (host, port) = (at.ip().to_string(), at.port().to_string());
        let redis = Command::new("redis-server")
            .args(["--bind", &host, "--port", &port, "--dir"])
            .arg(folder.path())
            // What is acknowledged is on the disk, and nothing is thrown away.
            .args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
            .args(["--maxmemory-policy", "noeviction"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| missing("redis-server", &error))?;
        listens(at, "redis-server").await?;
        let engine = format!("redis://{at}");

        let mut nodes = BTreeMap::new();
        for name in NAMES {
            let (address, hops) = (free("127.0.0.1:0")?, free("127.0.0.1:0")?);
            let child = Some(begin(name, address, hops, &engine).await?);
            nodes.insert(name, Node { address, hops, child, doing: Doing::Runs });
        }

        let config = folder.path().join("haproxy.cfg");
        tokio::fs::write(&config, haproxy(address, &nodes)).await?;
        let balancer = Command::new("haproxy")
            .args(["-db", "-f"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| missing("haproxy", &error))?;
        listens(address, "haproxy").await?;
        Ok(Self { address, engine, nodes, redis, balancer, _folder: folder })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does it to a node; `false` if that makes no sense for what the node is doing.
    pub(super) async fn does(&mut self, name: &str, deed: Deed) -> Result<bool, Box<dyn Error>> {
        let Some((&name, node)) = self.nodes.iter_mut().find(|(known, _)| **known == name) else {
            return Ok(false);
        };
        if !node.doing().allows(deed) {
            return Ok(false);
        }
        node.doing = match deed {
            Deed::Start => {
                node.child = Some(begin(name, node.address, node.hops, &self.engine).await?);
                Doing::Runs
            }
            Deed::Kill => {
                signal(node, "KILL").await?;
                if let Some(child) = &mut node.child {
                    child.wait().await?;
                }
                Doing::Gone
            }
            Deed::Pause => {
                signal(node, "STOP").await?;
                Doing::Paused
            }
            Deed::Resume => {
                signal(node, "CONT").await?;
                Doing::Runs
            }
            Deed::Drain => {
                signal(node, "TERM").await?;
                Doing::Drains
            }
        };
        Ok(true)
    }

    /// Ends all of them. A node that stands still is ended, too.
    pub(super) async fn stop(&mut self) {
        let nodes = self.nodes.values_mut().filter_map(|node| node.child.as_mut());
        for child in nodes.chain([&mut self.balancer, &mut self.redis]) {
            // It may have ended by itself.
            let _ = child.kill().await;
        }
    }
}

/// Returns when the program is told to end.
pub(super) async fn terminated() {
    #[cfg(unix)]
    if let Ok(mut signal) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    {
        signal.recv().await;
        return;
    }
    std::future::pending::<()>().await;
}

async fn signal(node: &Node, signal: &str) -> io::Result<()> {
    let Some(process) = node.child.as_ref().and_then(Child::id) else { return Ok(()) };
    let told = Command::new("kill").args(["-s", signal, &process.to_string()]).status().await?;
    if told.success() { Ok(()) } else { Err(io::Error::other("the process cannot be signalled")) }
}

/// Starts a node; returns when it listens.
async fn begin(
    name: &str,
    address: SocketAddr,
    hops: SocketAddr,
    engine: &str,
) -> Result<Child, Box<dyn Error>> {
    let mut child = Command::new(env::current_exe()?)
        .args(["--listen", &address.to_string(), "--store", engine])
        .args(["--node", name, "--hops", &hops.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let told = child.stdout.take().map(BufReader::new).map(BufReader::lines);
    let mut told = told.ok_or("the node says nothing")?;
    let line = timeout(BEGINS, told.next_line()).await.map_err(|_| "the node does not begin")??;
    if line.is_none() {
        return Err(format!("node {name} ended at once: what it has said is above").into());
    }
    Ok(child)
}

/// Requests go to the nodes in turn: two requests of one page reach two of them.
fn haproxy(address: SocketAddr, nodes: &BTreeMap<&'static str, Node>) -> String {
    let servers = nodes.iter().map(|(name, node)| format!("    server {name} {}\n", node.address));
    let servers = servers.collect::<String>();
    format!(
        "defaults
    mode http
    timeout connect 2s
    timeout client 90s
    timeout server 90s
    timeout tunnel 90s

frontend dashboard
    bind {address}
    default_backend nodes

backend nodes
    balance roundrobin
    option redispatch
    retry-on conn-failure empty-response
    option httpchk GET /ready
    default-server check inter 500ms fall 1 rise 1 on-marked-down shutdown-sessions
{servers}"
    )
}

/// Returns the address, with a port that is free.
fn free(address: &str) -> Result<SocketAddr, Box<dyn Error>> {
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    Ok(listener.local_addr()?)
}

/// Waits until somebody listens.
async fn listens(address: SocketAddr, what: &str) -> Result<(), Box<dyn Error>> {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let connected = timeout(BEGINS, connected).await;
    Ok(connected.map_err(|_| format!("{what} does not listen at {address}"))?)
}

fn missing(what: &str, error: &io::Error) -> String {
    format!("{what} cannot be started ({error}): on Debian, apt-get install {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_of_a_node_allows_what_makes_sense() {
        let allowed = |doing: Doing| {
            let deeds = Deed::ALL.into_iter().filter(|deed| doing.allows(*deed));
            deeds.map(Deed::name).collect::<Vec<_>>()
        };
        assert_eq!(allowed(Doing::Runs), ["kill", "pause", "drain"]);
        assert_eq!(allowed(Doing::Paused), ["kill", "resume"]);
        assert_eq!(allowed(Doing::Drains), ["kill"]);
        assert_eq!(allowed(Doing::Gone), ["start"]);
    }
}
