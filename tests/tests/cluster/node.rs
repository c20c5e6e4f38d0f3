//! A node: the testee in its cluster mode.

use std::time::Duration;

use serde_json::Value;
use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{Browser, soon};
use session_resume_tests::{Framework, Testee};

/// The shortest lease: what waits for one is over sooner.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// Two nodes on one engine, and one browser at each of them.
pub(crate) struct Two {
    pub(crate) engine: Engine,
    pub(crate) a: Testee,
    pub(crate) b: Testee,
    pub(crate) at_a: Browser,
    /// The same browser: it has the same cookie.
    pub(crate) at_b: Browser,
}

impl Two {
    /// Starts them; `None` where there is no Redis.
    pub(crate) async fn start(framework: Framework) -> Option<Self> {
        if without_redis() {
            return None;
        }
        let engine = Engine::durable();
        let (a, b) = (node(&engine, framework, "a").await, node(&engine, framework, "b").await);
        let at_a = Browser::at(a.addr);
        let at_b = at_a.moved_to_address(b.addr);
        Some(Self { engine, a, b, at_a, at_b })
    }
}

pub(crate) async fn node(engine: &Engine, framework: Framework, name: &str) -> Testee {
    node_with(engine, framework, name, "").await
}

pub(crate) async fn node_with(
    engine: &Engine,
    framework: Framework,
    name: &str,
    more: &str,
) -> Testee {
    let flags = format!(
        "--cluster {} --node {name} --advertise 127.0.0.1:0 --lease {} --flush 5 {more}",
        engine.url(),
        LEASE.as_millis(),
    );
    Testee::start(env!("CARGO_BIN_EXE_testee"), framework, &flags).await
}

/// What the testee says of itself, or of this browser's session.
pub(crate) async fn told(browser: &Browser, path: &str) -> Value {
    let answer = browser.get(path).await;
    serde_json::from_str(answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
}

/// Asks again until it is so.
pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let attempts = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, attempts).await;
}
