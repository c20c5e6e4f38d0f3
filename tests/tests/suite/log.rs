//! What an operator reads at the console.

use session_resume_testkit::{Browser, Socket, soon};
use session_resume_tests::{Framework, Testee, scenarios};

use crate::client;

scenarios!(who_comes_and_goes_is_told_and_no_secret_is);

async fn who_comes_and_goes_is_told_and_no_secret_is(framework: Framework) {
    let program = env!("CARGO_BIN_EXE_testee");
    let (testee, mut log) =
        Testee::start_logging(program, framework, "", "session_resume=trace").await;
    let mut all = String::new();
    let mut lines = async |count: usize| {
        let mut lines = Vec::new();
        while lines.len() < count {
            let line = soon("a line of the log", log.next_line()).await.unwrap().unwrap();
            all.push_str(&line);
            if line.starts_with(['⚡', '✓', ' ']) {
                lines.push(line);
            }
        }
        lines
    };
    let browser = Browser::at(testee.addr);
    let mut ws = browser.resumable("/live", &client('a')).await;
    let hello = ws.member("hello").await;
    let session = hello["session"].as_str().unwrap().replace('-', "");
    // A framework that uses session_resume's own server knows where a connection comes from.
    let peer = if framework == Framework::Warp { "127.0.0.1 " } else { "" };
    let come = lines(2).await;
    assert_eq!(come[0], format!("⚡ ws+ {peer}(1 active)"));
    let (start, end) = come[1].split_once("… ").unwrap();
    let identity = start.strip_prefix("✓ CONNECT identity=0x").unwrap();
    assert!(identity.len() == 4 && identity.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(end, format!("session={}… status=new", &session[..4]));

    ws.send("get").await;
    ws.data().await;
    ws.cut().await;
    assert_eq!(lines(1).await, ["⚡ ws- (0 active)"]);
    let mut ws = browser.resumable("/live", &Socket::cursor(&client('a'), &hello, 0)).await;
    ws.member("hello").await;
    let back = lines(3).await;
    assert_eq!(back[0], format!("⚡ ws+ {peer}(1 active)"));
    assert_eq!(back[1], format!("{start}… session={}… status=resumed", &session[..4]));
    assert_eq!(back[2], "  ↻ replaying 1 message");

    let cookies = browser.cookies().header();
    let cookie = cookies.split_once('=').unwrap().1;
    for secret in [cookie, &session, &client('a')] {
        assert!(!all.contains(secret), "{secret} is in the log");
    }
}
