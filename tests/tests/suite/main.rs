//! Scenarios against the testee over real sockets, by promise. Each runs for every framework.

/// Makes a test of each scenario for each framework.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        mod axum {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(session_resume_tests::Framework::Axum).await;
                }
            )*
        }
    };
}

mod drops;
mod ends;
mod identity;
mod refusals;
mod resumable;
mod wire;

use session_resume_tests::{Framework, Testee};

/// A client id, one per letter.
fn client(letter: char) -> String {
    letter.to_string().repeat(16)
}

async fn testee(framework: Framework, flags: &str) -> Testee {
    Testee::start(env!("CARGO_BIN_EXE_testee"), framework, flags).await
}
