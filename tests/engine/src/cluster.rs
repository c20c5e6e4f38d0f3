use std::{
    thread,
    time::{Duration, Instant},
};

use session_resume_testkit::tcp::Proxy;

use crate::{Certificates, Engine, Flavour};

/// Nothing here takes this long. The limit only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many primaries there are.
const PRIMARIES: usize = 3;

/// A cluster of three primaries. A client reaches each node by way of a proxy.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Engine>,
    /// In the order of the nodes.
    pub proxies: Vec<Proxy>,
    ids: Vec<String>,
}

impl Cluster {
    /// Starts one with as many replicas, all of the first primary.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub async fn start(flavour: Flavour, replicas: usize) -> Self {
        Self::begin(flavour, replicas, &[]).await
    }

    /// Starts one without replicas, whose nodes have these certificates. The nodes talk to each other by TLS, and the
    /// proxies lead to where they listen for TLS.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub async fn with_tls(flavour: Flavour, certificates: &Certificates) -> Self {
        let arguments = certificates.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Self::begin(flavour, 0, &[&arguments[..], &["--tls-cluster", "yes"]].concat()).await
    }

    async fn begin(flavour: Flavour, replicas: usize, arguments: &[&str]) -> Self {
        // Nodes with TLS name the other port.
        let announce = match arguments {
            [] => "--cluster-announce-port",
            _ => "--cluster-announce-tls-port",
        };
        let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
        for _ in 0..PRIMARIES + replicas {
            let proxy = Proxy::start(([127, 0, 0, 1], 1).into()).await;
            let port = proxy.address().port().to_string();
            let own = [
                ["--cluster-enabled", "yes"],
                ["--cluster-node-timeout", "1000"],
                ["--cluster-require-full-coverage", "no"],
                ["--cluster-announce-ip", "127.0.0.1"],
                [announce, &port],
                ["--repl-diskless-sync-delay", "0"],
                ["--appendonly", "yes"],
                ["--appendfsync", "always"],
            ];
            let node = Engine::with(flavour, &[&own.concat()[..], arguments].concat());
            proxy.set_target(node.reached_at());
            nodes.push(node);
            proxies.push(proxy);
        }
        // A bulk string: its length, then the id.
        let id = |node: &Engine| node.command("CLUSTER MYID").lines().nth(1).unwrap().to_owned();
        let ids: Vec<_> = nodes.iter().map(id).collect();
        let cluster = Self { nodes, proxies, ids };
        tokio::task::block_in_place(|| cluster.form());
        cluster
    }

    fn form(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            self.tell(number, &format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
            if let Some((first, last)) = slots_of(number) {
                self.tell(number, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
            }
            let (port, bus) = (node.reached_at().port(), node.bus());
            self.tell(0, &format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        }
        self.wait_until("each node knows all", || {
            let count = format!("cluster_known_nodes:{}", self.nodes.len());
            // A node says that its state is ok before it knows the owner of each slot.
            let all = [&count, "cluster_slots_assigned:16384", "cluster_state:ok"];
            self.nodes.iter().all(|node| {
                let info = node.command("CLUSTER INFO");
                all.iter().all(|what| info.contains(what))
            })
        });
        for replica in PRIMARIES..self.nodes.len() {
            self.tell(replica, &format!("CLUSTER REPLICATE {}", self.ids[0]));
            self.wait_until("the replica follows", || {
                self.nodes[replica].command("INFO replication").contains("master_link_status:up")
            });
        }
    }

    fn wait_until(&self, what: &str, is: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is() {
            assert!(Instant::now() < until, "{what}: {}", self.nodes[0].command("CLUSTER NODES"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn tell(&self, number: usize, words: &str) {
        assert_eq!(self.nodes[number].command(words), "+OK", "{words}");
    }

    /// The URL, by way of the proxies.
    pub fn url(&self) -> String {
        let all: Vec<_> = self.proxies.iter().map(|proxy| proxy.address().to_string()).collect();
        let scheme = if self.nodes[0].has_tls() { "rediss" } else { "redis" };
        format!("{scheme}-cluster://{}", all.join(","))
    }

    /// One of the nodes; the primaries come first.
    pub fn node(&self, number: usize) -> &Engine {
        &self.nodes[number]
    }

    /// `SIGKILL` for one of the nodes.
    pub fn kill(&mut self, number: usize) {
        self.nodes[number].kill();
    }

    /// Starts one of the nodes again, with what it has on disk.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn restart(&mut self, number: usize) {
        self.nodes[number].restart();
    }

    /// The slot of a key.
    ///
    /// # Panics
    ///
    /// If a node does not know it.
    pub fn slot(&self, key: &str) -> u16 {
        let said = self.nodes[1].command(&format!("CLUSTER KEYSLOT {key}"));
        said.trim_start_matches(':').parse().expect("a number")
    }

    /// The primary that had the slot when the cluster was started.
    ///
    /// # Panics
    ///
    /// If there is no such slot.
    pub fn first_owner(slot: u16) -> usize {
        let has = |number: &usize| slots_of(*number).is_some_and(|(a, b)| (a..=b).contains(&slot));
        (0..PRIMARIES).find(has).expect("a slot")
    }

    /// Begins to move a slot: keys that are there stay, new ones go to the other node.
    pub fn begin_to_move(&self, slot: u16, from: usize, to: usize) {
        self.tell(to, &format!("CLUSTER SETSLOT {slot} IMPORTING {}", self.ids[from]));
        self.tell(from, &format!("CLUSTER SETSLOT {slot} MIGRATING {}", self.ids[to]));
    }

    /// Moves the keys of a slot that is being moved.
    ///
    /// # Panics
    ///
    /// If they cannot be moved.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let port = self.nodes[to].reached_at().port();
        let names = self.nodes[from].command(&format!("CLUSTER GETKEYSINSLOT {slot} 1000"));
        for name in names.lines().filter(|line| line.contains('{')) {
            let moved = format!("MIGRATE 127.0.0.1 {port} {name} 0 5000");
            let said = self.nodes[from].command(&moved);
            // NOKEY: it has expired, or was removed, meanwhile.
            assert!(["+OK", "+NOKEY"].contains(&said.as_str()), "{said}");
        }
    }

    /// Gives a slot to the node that has its keys by now. The node that had it is told last.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        for number in [to, from] {
            self.say_owner(number, slot, to);
        }
    }

    /// Tells one node who has a slot.
    pub fn say_owner(&self, node: usize, slot: u16, owner: usize) {
        self.tell(node, &format!("CLUSTER SETSLOT {slot} NODE {}", self.ids[owner]));
    }

    /// How often nodes have answered with this error, for example `MOVED`.
    pub fn errors(&self, name: &str) -> u64 {
        let of = |node: &Engine| {
            let stats = node.command("INFO errorstats");
            let count = stats.split(&format!("errorstat_{name}:count=")).nth(1)?;
            count.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        self.nodes.iter().filter_map(of).sum()
    }
}

fn slots_of(number: usize) -> Option<(u16, u16)> {
    [(0, 5460), (5461, 10_922), (10_923, 16_383)].get(number).copied()
}
