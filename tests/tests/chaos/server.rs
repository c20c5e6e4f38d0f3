//! The testee as a child process.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Nothing here takes this long. The limit only turns a hang into a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Testee {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Testee {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_testee"))
            .args(flags)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = within(lines.next_line()).await.unwrap().expect("it says where it listens");
        let address = line.strip_prefix("listening on ").expect(&line).parse().unwrap();
        Self { child, address }
    }

    /// `SIGKILL`, and waits for the process to be gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// `SIGTERM`, and waits until it has drained.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(sent.success());
        within(self.child.wait()).await.unwrap()
    }
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it comes to an end")
}
