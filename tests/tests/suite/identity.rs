//! Nobody gets into another's session, and nothing is created unasked.

use session_resume_tests::{Browser, Framework, request, scenarios};

use crate::testee;

scenarios!(
    two_hundred_requests_without_a_cookie_create_no_session,
    forged_truncated_foreign_and_duplicate_cookies_open_nothing,
    the_applications_own_cookies_stay,
    the_upgrade_sets_the_cookie_too,
);

async fn two_hundred_requests_without_a_cookie_create_no_session(framework: Framework) {
    let testee = testee(framework, "").await;
    for _ in 0..200 {
        let answer = request(testee.addr, "GET", "/plain", None).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
        assert_eq!(answer.header("set-cookie").count(), 1);
    }
    assert_eq!(Browser::new(testee.addr).get("/peek").await.status, 404);
    let count = testee.count().await;
    assert_eq!((&count["live"], &count["completed"]), (&0.into(), &0.into()));
}

async fn forged_truncated_foreign_and_duplicate_cookies_open_nothing(framework: Framework) {
    let testee_ = testee(framework, "").await;
    let elsewhere = testee(framework, "").await;
    let mut victim = Browser::new(testee_.addr);
    let session = victim.get("/").await.json();
    let own = victim.cookie.clone().unwrap();
    let mut foreign = Browser::new(elsewhere.addr);
    foreign.get("/").await;
    let foreign = foreign.cookie.unwrap();
    let last = own.chars().last().unwrap();
    let forged = format!("{}{}", &own[..own.len() - 1], if last == 'A' { 'B' } else { 'A' });
    for cookie in [
        foreign.clone(),
        forged.clone(),
        own[..own.len() - 5].to_owned(),
        format!("sr_id={}", session["identity"].as_str().unwrap()),
        format!("{forged}; {foreign}"),
    ] {
        let mut stranger = Browser::new(testee_.addr);
        stranger.cookie = Some(cookie.clone());
        let answer = stranger.get("/").await;
        assert_eq!(answer.header("set-cookie").count(), 1, "a new identity: {cookie}");
        let theirs = answer.json();
        assert_ne!(theirs["session"], session["session"], "{cookie}");
        assert_ne!(theirs["identity"], session["identity"], "{cookie}");
    }
    let line = format!("cookie: x=1\r\ncookie: {forged}\r\ncookie: {own}\r\n");
    let answer = request(testee_.addr, "GET", "/", Some(&line)).await.json();
    assert_eq!(answer["session"], session["session"], "all headers are walked");
}

async fn the_applications_own_cookies_stay(framework: Framework) {
    let testee = testee(framework, "").await;
    let answer = Browser::new(testee.addr).get("/cookies").await;
    let set: Vec<_> = answer.header("set-cookie").map(|set| set.split('=').next()).collect();
    assert_eq!(set, [Some("a"), Some("b"), Some("sr_id")]);
}

async fn the_upgrade_sets_the_cookie_too(framework: Framework) {
    let testee = testee(framework, "").await;
    let mut browser = Browser::new(testee.addr);
    let mut ws = browser.plain("/live").await;
    ws.send("whoami").await;
    let whoami = ws.text().await;
    let session = browser.get("/").await.json();
    assert_eq!(session["origin"], "reused");
    assert!(whoami.contains(session["session"].as_str().unwrap()), "{whoami}");
    assert!(whoami.contains(session["identity"].as_str().unwrap()), "{whoami}");
}
