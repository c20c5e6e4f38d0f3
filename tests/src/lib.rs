//! Helpers of the scenario suites: the testee as a child process, clients that know nothing of its code, and a
//! network that breaks.

mod chaos;
mod client;
pub mod fuzzing;
mod http;
mod process;

pub use self::{
    chaos::Chaos,
    client::{Browser, Refused, Ws},
    http::{Answer, request},
    process::{Framework, Testee},
};

use std::time::Duration;

/// No step of a scenario takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future`, which must not take for ever.
///
/// # Panics
///
/// Panics, naming `what`, when it does.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let Ok(output) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("{what}: still waiting after {PATIENCE:?}");
    };
    output
}

/// Asks again and again until the condition holds.
///
/// # Panics
///
/// Panics, naming `what`, when it never does.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
