//! A node: the testee in its cluster mode.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use session_resume_engine::{Engine, without_redis};
use session_resume_testkit::{
    Browser, Received, Socket, soon,
    tcp::{Fate, Proxy},
};
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

/// A node whose connections a test can break.
pub(crate) struct Wired {
    pub(crate) testee: Testee,
    /// From the node to the engine.
    pub(crate) engine: Proxy,
    /// From the other nodes to this one.
    pub(crate) hops: Proxy,
    /// Where the node listens for the others.
    pub(crate) listens: SocketAddr,
}

impl Wired {
    pub(crate) async fn start(
        engine: &Engine,
        framework: Framework,
        name: &str,
        more: &str,
    ) -> Self {
        Self::with_fates(engine, framework, name, more, || Fate::CALM).await
    }

    /// Each connection of another node has the fate that `fates` says.
    pub(crate) async fn with_fates(
        engine: &Engine,
        framework: Framework,
        name: &str,
        more: &str,
        fates: impl FnMut() -> Fate + Send + 'static,
    ) -> Self {
        let to_engine = Proxy::start(engine.address()).await;
        let hops = Proxy::with_fates(engine.address(), fates).await;
        let flags = format!(
            "--cluster redis://{} --node {name} --advertise {} --hops 127.0.0.1:0 --lease {} --flush 5 {more}",
            to_engine.address(),
            hops.address(),
            LEASE.as_millis(),
        );
        let mut testee = Testee::start(env!("CARGO_BIN_EXE_testee"), framework, &flags).await;
        let (listens, _) = hop_listener(&testee.next_line().await);
        hops.set_target(listens);
        Self { testee, engine: to_engine, hops, listens }
    }

    /// A browser at this node.
    pub(crate) fn browser(&self) -> Browser {
        Browser::at(self.testee.addr)
    }

    /// The same browser, at this node.
    pub(crate) fn same(&self, browser: &Browser) -> Browser {
        browser.moved_to_address(self.testee.addr)
    }
}

/// Where a node listens for the others, and its incarnation.
pub(crate) fn hop_listener(line: &str) -> (SocketAddr, String) {
    let words: Vec<_> = line.split(' ').collect();
    let ["node", _, "incarnation", incarnation, "hops", "on", address] = words[..] else {
        panic!("{line}");
    };
    (address.parse().unwrap(), incarnation.to_owned())
}

/// Whether the campaigns run that take too long for every change.
pub(crate) fn is_long() -> bool {
    std::env::var_os("LONG").is_some_and(|value| !value.is_empty())
}

/// Reads to the end; returns the code of the close.
pub(crate) async fn end_of(ws: &mut Socket) -> Option<u16> {
    loop {
        match ws.next().await {
            Received::Message(_) => {}
            Received::Close(close) => return Some(close.code),
            Received::Gone => return None,
        }
    }
}

/// Comes back until there is a hello: a client that is told to come later does. Returns the hello.
pub(crate) async fn comes_back(browser: &Browser, at: &str) -> (Socket, Value) {
    soon("a hello", async {
        loop {
            let mut ws = browser.resumable("/live", at).await;
            loop {
                match ws.next().await {
                    Received::Message(message) => {
                        let text = message.as_text().unwrap_or_default();
                        let told = text.strip_prefix('\u{1}').map(serde_json::from_str::<Value>);
                        if let Some(Ok(mut told)) = told
                            && told["hello"].is_object()
                        {
                            return (ws, told["hello"].take());
                        }
                    }
                    Received::Close(close) if [4112, 4113].contains(&close.code) => break,
                    Received::Close(close) => panic!("{close:?}"),
                    Received::Gone => break,
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

/// What the testee says of itself, or of this browser's session.
pub(crate) async fn told(browser: &Browser, path: &str) -> Value {
    let answer = browser.get(path).await;
    serde_json::from_str(answer.text()).unwrap_or_else(|_| panic!("{path}: {}", answer.text()))
}
