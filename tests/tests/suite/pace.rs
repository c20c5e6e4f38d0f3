//! Clients that send faster than they may: the testee's `--messages-per-second`.

use std::time::{Duration, Instant};

use http::Request;
use session_resume_testkit::Browser;
use session_resume_tests::{Framework, scenarios};

use crate::testee;

scenarios!(
    what_comes_too_fast_is_read_more_slowly_and_none_is_lost,
    a_page_that_comes_again_is_no_faster_and_loses_nothing,
    a_post_too_many_is_told_to_come_later,
);

/// At 20 in a second, and 20 at once.
const PACE: &str = "--messages-per-second 20";

/// What 60 messages and a question take at least.
const AT_LEAST: Duration = Duration::from_secs(2);

async fn what_comes_too_fast_is_read_more_slowly_and_none_is_lost(framework: Framework) {
    let testee = testee(framework, PACE).await;
    let mut plain = Browser::at(testee.addr).plain("/live").await;
    let began = Instant::now();
    for _ in 0..60 {
        plain.send("add 1").await;
    }
    plain.send("get").await;
    for total in 1..=60 {
        assert_eq!(plain.recv().await, format!("total:{total}"));
    }
    assert_eq!(plain.recv().await, "total:60 n:60");
    assert!(began.elapsed() >= AT_LEAST, "{:?}", began.elapsed());
}

async fn a_page_that_comes_again_is_no_faster_and_loses_nothing(framework: Framework) {
    let testee = testee(framework, PACE).await;
    let mut page = Browser::at(testee.addr).open("/live").await;
    let began = Instant::now();
    for _ in 0..60 {
        page.send("add 1");
    }
    page.send("get");
    for total in 1..=60 {
        assert_eq!(page.recv().await, format!("total:{total}"));
        if total % 15 == 0 {
            page.cut().await;
        }
    }
    assert_eq!(page.recv().await, "total:60 n:60");
    assert!(began.elapsed() >= AT_LEAST, "{:?}", began.elapsed());
}

async fn a_post_too_many_is_told_to_come_later(framework: Framework) {
    let testee = testee(framework, "--messages-per-second 1 --plain-http").await;
    let browser = Browser::at(testee.addr);
    let post = async || {
        let post = Request::post("/live").header("content-type", "text/plain");
        let post = post.header("origin", format!("http://{}", testee.addr));
        browser.request(post, "add 5").await
    };
    assert_eq!(post().await.status, 202);
    let mut told = post().await;
    // A busy machine may take a second for the first.
    while told.status == 202 {
        told = post().await;
    }
    assert_eq!(told.status, 503);
    assert!(told.headers.contains_key("retry-after"));
}
