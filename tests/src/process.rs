use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// No step takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which adapter serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    /// session-resume-axum.
    Axum,
    /// session-resume-warp.
    Warp,
}

impl Framework {
    fn name(self) -> &'static str {
        match self {
            Self::Axum => "axum",
            Self::Warp => "warp",
        }
    }
}

/// Makes a test of each scenario, an `async fn(Framework)`, for each framework.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod on_axum {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::Framework::Axum).await;
                }
            )*
        }

        mod on_warp {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::Framework::Warp).await;
                }
            )*
        }
    };
}

/// The testee as a child process; it ends with this value.
#[derive(Debug)]
pub struct Testee {
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    /// What it writes after the first line.
    lines: Lines<BufReader<ChildStdout>>,
}

impl Testee {
    /// Starts `program` with these flags, separated by spaces.
    ///
    /// # Panics
    ///
    /// Panics if it does not come up.
    pub async fn start(program: &str, framework: Framework, flags: &str) -> Self {
        Self::spawn(Command::new(program).args(flags.split_whitespace()), framework).await
    }

    /// As [`start`](Self::start), with what it logs at this filter.
    ///
    /// # Panics
    ///
    /// Panics if it does not come up.
    pub async fn start_logging(
        program: &str,
        framework: Framework,
        flags: &str,
        filter: &str,
    ) -> (Self, Lines<BufReader<ChildStderr>>) {
        let mut command = Command::new(program);
        command.args(flags.split_whitespace());
        let mut this =
            Self::spawn(command.env("RUST_LOG", filter).stderr(Stdio::piped()), framework).await;
        let log = this.child.stderr.take().expect("it is piped");
        (this, BufReader::new(log).lines())
    }

    async fn spawn(command: &mut Command, framework: Framework) -> Self {
        let mut child = command
            .args(["--framework", framework.name()])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the testee is built");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.expect("it comes up");
        let line = line.expect("it writes text").expect("it starts");
        let addr = line.strip_prefix("listening on ").expect("the line is fixed");
        Self { addr: addr.parse().expect("an address"), child, lines }
    }

    /// Returns the body of `GET /count`.
    pub async fn count(&self) -> Value {
        let exchange = async {
            let mut stream = TcpStream::connect(self.addr).await?;
            let head = format!("GET /count HTTP/1.0\r\nhost: {}\r\n\r\n", self.addr);
            stream.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(PATIENCE, exchange).await.expect("an answer").expect("it listens");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a whole head");
        serde_json::from_str(body).expect("JSON")
    }

    /// Returns the next line that it writes; a node of several says there where it listens for the others.
    ///
    /// # Panics
    ///
    /// Panics if it writes none.
    pub async fn next_line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("it writes a line");
        line.expect("it writes text").expect("it goes on")
    }

    /// `SIGKILL`, and waits for the process to be gone.
    ///
    /// # Panics
    ///
    /// Panics if it is gone already.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it runs");
    }

    /// Sends SIGTERM.
    pub async fn terminate(&self) {
        self.signal("-TERM").await;
    }

    async fn signal(&self, signal: &str) {
        let id = self.child.id().expect("it runs");
        let killed = Command::new("kill").args([signal, &id.to_string()]).status().await;
        assert!(killed.expect("there is a kill").success());
    }

    /// `SIGSTOP`: it stands still until [`go_on`](Self::go_on).
    pub async fn stop(&self) {
        self.signal("-STOP").await;
    }

    /// `SIGCONT`.
    pub async fn go_on(&self) {
        self.signal("-CONT").await;
    }

    /// Waits for its end.
    pub async fn exit(mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it is our child")
    }
}
