//! No browser gets into another's session, and nothing is created unasked.

use http::Request;
use session_resume_testkit::Browser;
use session_resume_tests::{Framework, scenarios};

use crate::testee;

scenarios!(
    two_hundred_requests_without_a_cookie_create_no_session,
    forged_truncated_foreign_and_duplicate_cookies_open_nothing,
    the_applications_own_cookies_stay,
    the_upgrade_sets_the_cookie_too,
    a_page_that_opens_its_socket_beside_three_fetches_keeps_its_session,
    a_form_of_another_site_wipes_nobody,
    two_applications_on_one_host_leave_each_other_alone,
    an_asset_that_caches_share_carries_no_cookie,
    a_given_name_stays_as_given,
);

async fn two_hundred_requests_without_a_cookie_create_no_session(framework: Framework) {
    let testee = testee(framework, "").await;
    for _ in 0..200 {
        let answer = Browser::at(testee.addr).get("/plain").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
        assert_eq!(answer.header("set-cookie").count(), 0, "nothing was used");
    }
    assert_eq!(Browser::at(testee.addr).get("/peek").await.status, 404);
    let count = testee.count().await;
    assert_eq!((&count["live"], &count["completed"]), (&0.into(), &0.into()));
}

async fn forged_truncated_foreign_and_duplicate_cookies_open_nothing(framework: Framework) {
    let testee_ = testee(framework, "").await;
    let elsewhere = testee(framework, "").await;
    let victim = Browser::at(testee_.addr);
    let session = victim.get("/").await.json();
    let own = victim.cookies().header();
    let foreign = Browser::at(elsewhere.addr);
    foreign.get("/").await;
    let foreign = foreign.cookies().header();
    let name = own.split('=').next().unwrap();
    let last = own.chars().last().unwrap();
    let forged = format!("{}{}", &own[..own.len() - 1], if last == 'A' { 'B' } else { 'A' });
    for cookie in [
        foreign.clone(),
        forged.clone(),
        own[..own.len() - 5].to_owned(),
        format!("{name}={}", session["identity"].as_str().unwrap()),
        format!("{forged}; {foreign}"),
    ] {
        let stranger = Browser::at(testee_.addr);
        stranger.cookies().add(&cookie).unwrap();
        let answer = stranger.get("/").await;
        assert_eq!(answer.header("set-cookie").count(), 1, "a new identity: {cookie}");
        let theirs = answer.json();
        assert_ne!(theirs["session"], session["session"], "{cookie}");
        assert_ne!(theirs["identity"], session["identity"], "{cookie}");
    }
    let cookies = ["x=1", &forged, &own];
    let request =
        cookies.iter().fold(Request::get("/"), |line, value| line.header("cookie", *value));
    let answer = Browser::at(testee_.addr).request(request, "").await.json();
    assert_eq!(answer["session"], session["session"], "all headers are walked");
}

async fn the_applications_own_cookies_stay(framework: Framework) {
    let testee = testee(framework, "").await;
    let answer = Browser::at(testee.addr).get("/cookies").await;
    let set: Vec<_> = answer.header("set-cookie").map(|set| set.split('=').next()).collect();
    let name = format!("sr_id-{}", testee.addr.port());
    assert_eq!(set, [Some("a"), Some("b"), Some(name.as_str())]);
}

async fn the_upgrade_sets_the_cookie_too(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let mut ws = browser.plain("/live").await;
    ws.send("whoami").await;
    let whoami = ws.recv().await;
    let session = browser.get("/").await.json();
    assert_eq!(session["origin"], "reused");
    assert!(whoami.contains(session["session"].as_str().unwrap()), "{whoami}");
    assert!(whoami.contains(session["identity"].as_str().unwrap()), "{whoami}");
}

async fn a_page_that_opens_its_socket_beside_three_fetches_keeps_its_session(framework: Framework) {
    let testee = testee(framework, "").await;
    let browser = Browser::at(testee.addr);
    let page = browser.navigate("/page").await;
    assert_eq!(page.header("set-cookie").count(), 1);
    // All at once: which answer comes last must not matter.
    let cookie = browser.cookies().header();
    let (mut ws, ..) = tokio::join!(
        browser.plain("/live"),
        browser.get("/"),
        browser.get("/plain"),
        browser.get("/asset")
    );
    ws.send("whoami").await;
    let first = ws.recv().await;
    drop(ws);
    assert_eq!(browser.cookies().header(), cookie, "no answer has set another");
    let mut ws = browser.plain("/live").await;
    ws.send("whoami").await;
    while ws.recv().await != first {}
    assert_eq!(testee.count().await["live"], 1);
}

/// To any path, one that does not exist included.
async fn a_form_of_another_site_wipes_nobody(framework: Framework) {
    let testee = testee(framework, "").await;
    // The browser withholds its cookie.
    let form = async |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("sec-fetch-site", "cross-site");
        let request = request.header("sec-fetch-mode", "navigate");
        let request = request.header("sec-fetch-dest", "document");
        Browser::at(testee.addr).request(request, "").await
    };
    for (method, path) in
        [("POST", "/add/1"), ("POST", "/nowhere"), ("POST", "/page"), ("GET", "/nowhere")]
    {
        let answer = form(method, path).await;
        assert_eq!(answer.header("set-cookie").count(), 0, "{method} {path}: {answer:?}");
    }
    // A browser does not withhold its cookie when it follows a link. A browser that comes without
    // one is new.
    let answer = form("GET", "/").await;
    assert_eq!(answer.header("set-cookie").count(), 1);
}

async fn two_applications_on_one_host_leave_each_other_alone(framework: Framework) {
    let (dashboard, agent) = (testee(framework, "").await, testee(framework, "").await);
    let browser = Browser::at(dashboard.addr);
    let first = browser.get("/").await.json();
    // The same host, so the same cookies.
    let at_agent = browser.moved_to_address(agent.addr);
    let there = at_agent.get("/").await.json();
    assert_eq!(browser.cookies().header().split("; ").count(), 2);
    assert_eq!(browser.get("/").await.json()["session"], first["session"]);
    assert_eq!(at_agent.get("/").await.json()["session"], there["session"]);
}

async fn an_asset_that_caches_share_carries_no_cookie(framework: Framework) {
    let testee = testee(framework, "").await;
    let answer = Browser::at(testee.addr).navigate("/asset").await;
    assert_eq!((answer.status.as_u16(), answer.header("set-cookie").count()), (200, 0));
}

async fn a_given_name_stays_as_given(framework: Framework) {
    let testee = testee(framework, "--cookie who").await;
    let answer = Browser::at(testee.addr).get("/").await;
    let set = answer.header("set-cookie").next().unwrap().to_owned();
    assert!(set.starts_with("who="), "{set}");
}
