use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{Certificates, Engine};

/// Nothing here takes this long. The limit only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the Sentinels call the primary.
const NAME: &str = "mymaster";

/// Three Sentinels of one primary.
#[derive(Debug)]
pub struct Sentinels(Vec<Engine>);

impl Sentinels {
    /// Whether tests with Sentinels are left out: `redis-sentinel` is missing, and `WITHOUT_REDIS_SENTINEL` says that
    /// this is known.
    ///
    /// # Panics
    ///
    /// If `redis-sentinel` is missing and nothing says that this is known.
    pub fn are_missing() -> bool {
        let version =
            Command::new("redis-sentinel").arg("--version").stdout(Stdio::null()).status();
        if version.is_ok_and(|status| status.success()) {
            return false;
        }
        let known = std::env::var_os("WITHOUT_REDIS_SENTINEL").is_some_and(|it| !it.is_empty());
        assert!(
            known,
            "redis-sentinel is missing: install it, or set WITHOUT_REDIS_SENTINEL=1 to leave these tests out"
        );
        eprintln!("left out: redis-sentinel is missing");
        true
    }

    /// Starts them, and waits until they know each other and the primary's replicas.
    ///
    /// They fail over after half a second without an answer. They leave a replica that follows the primary by way of a
    /// proxy as it is.
    ///
    /// # Panics
    ///
    /// If they do not find each other.
    pub fn start(primary: &Engine, replicas: usize) -> Self {
        Self::begin(primary, replicas, "", &[])
    }

    /// The same for servers with these certificates. The Sentinels have them, too, and say all they say by TLS.
    ///
    /// # Panics
    ///
    /// If they do not find each other.
    pub fn with_tls(primary: &Engine, replicas: usize, certificates: &Certificates) -> Self {
        let arguments = certificates.arguments();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Self::begin(primary, replicas, "tls-replication yes", &arguments)
    }

    fn begin(primary: &Engine, replicas: usize, settings: &str, arguments: &[&str]) -> Self {
        let port = primary.reached_at().port();
        let text = format!(
            "sentinel monitor {NAME} 127.0.0.1 {port} 2\n\
             sentinel down-after-milliseconds {NAME} 500\n\
             sentinel failover-timeout {NAME} 10000\n{settings}"
        );
        let one = || {
            let command = "redis-sentinel".to_owned();
            Engine::begin(command, &["sentinel.conf"], &text, arguments)
        };
        let sentinels = Self(vec![one(), one(), one()]);
        let until = Instant::now() + PATIENCE;
        let expected =
            [("num-other-sentinels", 2), ("num-slaves", replicas)].map(|(name, number)| {
                let digits = number.to_string();
                format!("{name}\r\n${}\r\n{digits}\r\n", digits.len())
            });
        for sentinel in &sentinels.0 {
            loop {
                let said = sentinel.command(&format!("SENTINEL MASTER {NAME}"));
                if expected.iter().all(|part| said.contains(part)) {
                    break;
                }
                assert!(Instant::now() < until, "the Sentinels do not know all: {said}");
                thread::sleep(Duration::from_millis(50));
            }
        }
        sentinels
    }

    /// One of them.
    pub fn one(&self, number: usize) -> &Engine {
        &self.0[number]
    }

    /// `SIGKILL` for one of them.
    pub fn kill(&mut self, number: usize) {
        self.0[number].kill();
    }

    /// The URL of the primary that they know.
    pub fn url(&self) -> String {
        let all: Vec<_> = self.0.iter().map(|it| it.reached_at().to_string()).collect();
        let scheme = if self.0[0].has_tls() { "rediss" } else { "redis" };
        format!("{scheme}-sentinel://{}/{NAME}", all.join(","))
    }
}
