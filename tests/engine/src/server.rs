use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Nothing here takes this long. The limit only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a server, prints its process id, and ends it when the standard input closes. So the server ends with the
/// test, however the test ends.
const KEEPER: &str =
    r#""$@" >>server.log 2>&1 & echo $!; cat >/dev/null; kill -9 $! 2>/dev/null; wait"#;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The command `redis-server`.
    Redis,
    /// The command that the environment variable `VALKEY_SERVER` names.
    Valkey,
}

impl Flavour {
    fn command(self) -> Option<String> {
        match self {
            Self::Redis => Some("redis-server".to_owned()),
            Self::Valkey => env::var("VALKEY_SERVER").ok().filter(|name| !name.is_empty()),
        }
    }

    /// Whether a server of this kind can be started.
    pub fn is_there(self) -> bool {
        self.command().is_some_and(|command| {
            let version = Command::new(command).arg("--version").stdout(Stdio::null()).status();
            version.is_ok_and(|status| status.success())
        })
    }
}

/// Whether tests on a Redis server are left out: `redis-server` is missing, and `WITHOUT_REDIS` says that this is
/// known.
///
/// # Panics
///
/// If `redis-server` is missing and nothing says that this is known.
pub fn without_redis() -> bool {
    if Flavour::Redis.is_there() {
        return false;
    }
    let known = env::var_os("WITHOUT_REDIS").is_some_and(|value| !value.is_empty());
    assert!(
        known,
        "redis-server is missing: install it, or set WITHOUT_REDIS=1 to leave these tests out"
    );
    eprintln!("left out: redis-server is missing");
    true
}

/// A server of the test's own.
#[derive(Debug)]
pub struct Engine {
    command: String,
    /// What comes before all other arguments: a file of settings.
    first: &'static [&'static str],
    arguments: Vec<String>,
    port: u16,
    /// Where nodes of a cluster talk to each other.
    bus: u16,
    /// Where it listens for TLS, if it has certificates.
    tls: u16,
    folder: TempDir,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    keeper: Child,
    pid: String,
}

impl Engine {
    /// Starts a Redis server that keeps nothing on disk.
    pub fn start() -> Self {
        Self::with(Flavour::Redis, &[])
    }

    /// Starts a Redis server that has on disk what it has acknowledged.
    pub fn durable() -> Self {
        Self::with(Flavour::Redis, &["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server with more arguments; they win over those that are always given.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn with(flavour: Flavour, arguments: &[&str]) -> Self {
        let command = flavour.command().expect("the caller has asked whether it is there");
        Self::begin(command, &[], "", arguments)
    }

    /// Starts a server, with a file of these settings if there are some.
    pub(crate) fn begin(
        command: String,
        first: &'static [&'static str],
        settings: &str,
        arguments: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let arguments = arguments.iter().map(|&text| text.to_owned()).collect();
        let mut engine =
            Self { command, first, arguments, port: 0, bus: 0, tls: 0, folder, running: None };
        // Another process may take a free port before the server does.
        for _ in 0..5 {
            if let [file, ..] = first {
                fs::write(engine.folder.path().join(file), settings).expect("a file of settings");
            }
            (engine.port, engine.bus, engine.tls) = (free_port(), free_port(), free_port());
            if engine.try_start() {
                return engine;
            }
        }
        panic!("the server does not start:\n{}", engine.log());
    }

    /// Where it talks to the other nodes of its cluster.
    pub(crate) fn bus(&self) -> u16 {
        self.bus
    }

    /// Starts it again, at the same port, with what it has on disk.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn restart(&mut self) {
        self.kill();
        let until = Instant::now() + PATIENCE;
        while !self.try_start() {
            assert!(Instant::now() < until, "the server does not start again:\n{}", self.log());
        }
    }

    /// Gives it other arguments for its next start.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&text| text.to_owned()).collect();
    }

    fn try_start(&mut self) -> bool {
        let port = self.port.to_string();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper", &self.command]).args(self.first);
        keeper.args(["--port", &port]);
        if self.is_node() {
            keeper.args(["--cluster-port", &self.bus.to_string()]);
        }
        if self.has_tls() {
            keeper.args(["--tls-port", &self.tls.to_string()]);
        }
        let mut keeper = keeper
            .args(["--bind", "127.0.0.1", "--dir", ".", "--save", "", "--daemonize", "no"])
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut pid = String::new();
        BufReader::new(keeper.stdout.take().expect("piped")).read_line(&mut pid).expect("a line");
        let running = Running { keeper, pid: pid.trim().to_owned() };
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until && running.is_alive() {
            // Anything but LOADING, for example NOAUTH, says that it works.
            if self.ask("PING").is_some_and(|answer| !answer.starts_with("-LOADING")) {
                self.running = Some(running);
                return true;
            }
            thread::sleep(Duration::from_millis(5));
        }
        false
    }

    fn is_node(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--cluster-enabled")
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.arguments.iter().any(|argument| argument == "--tls-cert-file")
    }

    /// Where it listens for TLS, if its arguments are those of [`Certificates`](crate::Certificates).
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.tls))
    }

    /// Where other servers and clients find it: by TLS, if it has certificates.
    pub(crate) fn reached_at(&self) -> SocketAddr {
        if self.has_tls() { self.tls_address() } else { self.address() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The URL of its first database.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Its folder, with its log and what it has on disk.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap_or_default()
    }

    /// `SIGKILL`.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// `SIGSTOP`: it answers nothing until [`go_on`](Self::go_on).
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    /// `SIGCONT`.
    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = &self.running.as_ref().expect("it runs").pid;
        let sent = Command::new("kill").args([signal, pid]).status().expect("kill starts");
        assert!(sent.success());
    }

    /// Sends a command of words without blanks, and returns the answer as it is on the wire, for example `+OK`.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn command(&self, words: &str) -> String {
        self.ask(words).unwrap_or_else(|| panic!("no answer to {words}:\n{}", self.log()))
    }

    /// As [`command`](Self::command), after logging in.
    ///
    /// # Panics
    ///
    /// If there is no answer.
    pub fn command_as(&self, login: &str, words: &str) -> String {
        let both = self.ask(&format!("{login}\r\n{words}")).expect("an answer");
        both.strip_prefix("+OK\r\n").map_or(both.clone(), str::to_owned)
    }

    fn ask(&self, words: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.address(), PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        // A closing QUIT makes the answer end; a Sentinel knows none, but sees that no more comes.
        if self.first.is_empty() {
            stream.write_all(format!("{words}\r\nQUIT\r\n").as_bytes()).ok()?;
        } else {
            stream.write_all(format!("{words}\r\n").as_bytes()).ok()?;
            stream.shutdown(Shutdown::Write).ok()?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let said_goodbye = text.strip_suffix("+OK\r\n").filter(|_| self.first.is_empty());
        let text = said_goodbye.map_or(text.clone(), str::to_owned);
        Some(text.trim_end().to_owned())
    }
}

impl Running {
    fn is_alive(&self) -> bool {
        // A process that has ended and was not waited for is not alive, but its directory is there.
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The keeper kills the server and waits for it.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}
