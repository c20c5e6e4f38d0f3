//! Scenarios against the testee over real sockets, by promise. Each runs for every framework.

mod drops;
mod ends;
mod identity;
mod log;
mod merge;
mod proxy;
mod refusals;
mod resumable;
mod unreadable;
mod wire;

use session_resume_tests::{Framework, Testee};

/// A client id, one per letter.
fn client(letter: char) -> String {
    letter.to_string().repeat(16)
}

async fn testee(framework: Framework, flags: &str) -> Testee {
    Testee::start(env!("CARGO_BIN_EXE_testee"), framework, flags).await
}
