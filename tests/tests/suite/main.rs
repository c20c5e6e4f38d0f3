//! Scenarios against the testee over real sockets, by promise. Each runs for every framework.

mod audience;
mod chat;
mod drops;
mod ends;
mod event_source;
mod identity;
mod lists;
mod log;
mod lost_cookie;
mod merge;
mod observers;
mod pace;
mod pipes;
mod proxies;
mod proxy;
mod refusals;
mod requests;
mod resumable;
mod retention;
mod skips;
mod streams;
mod unreadable;
mod urgent;
mod validity;
mod watchers;
mod wire;

use session_resume_testkit::{Answer, Browser, OpenError, Socket};
use session_resume_tests::{Framework, Testee};

/// A client id, one per letter.
fn client(letter: char) -> String {
    letter.to_string().repeat(16)
}

/// Opens a WebSocket that offers these subprotocols.
///
/// # Errors
///
/// The answer, if it is refused.
async fn open(browser: &Browser, path: &str, protocols: Option<&str>) -> Result<Socket, Answer> {
    let opened = browser.plain_with(path, |request| match protocols {
        Some(protocols) => request.header("sec-websocket-protocol", protocols),
        None => request,
    });
    opened.await.map_err(|error| match error {
        OpenError::Refused(answer) => answer,
        broken => panic!("{broken}"),
    })
}

async fn testee(framework: Framework, flags: &str) -> Testee {
    Testee::start(env!("CARGO_BIN_EXE_testee"), framework, flags).await
}
