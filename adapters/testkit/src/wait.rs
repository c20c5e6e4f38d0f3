use std::time::Duration;

use tokio::time::{sleep, timeout};

/// How long anything in this crate waits at the most, if nothing else is set: two minutes. A server and a client take
/// less to notice that the other is silent, and to come back.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits for `future`, which must not take for ever.
///
/// # Panics
///
/// Panics, naming `what`, if it takes longer than [`DEADLINE`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    let Ok(output) = timeout(DEADLINE, future).await else {
        panic!("{what}: still waiting after {DEADLINE:?}");
    };
    output
}

/// Asks again and again until the condition holds.
///
/// # Panics
///
/// Panics, naming `what`, if it does not hold within [`DEADLINE`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
