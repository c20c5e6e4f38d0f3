//! The testee as a child process.

use std::process::ExitStatus;

use session_resume_testkit::soon;
use session_resume_tests::{Framework, Testee};

pub(crate) async fn testee(flags: &[&str]) -> Testee {
    Testee::start(env!("CARGO_BIN_EXE_testee"), Framework::Axum, &flags.join(" ")).await
}

/// `SIGTERM`, and waits until it has drained.
pub(crate) async fn stop(testee: Testee) -> ExitStatus {
    testee.terminate().await;
    testee.exit().await
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    soon("it comes to an end", future).await
}
