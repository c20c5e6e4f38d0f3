//! The monitor without a framework, and sessions without sockets.

use std::collections::HashSet;

use http::{Method, Request, Response, StatusCode, header};
use serde_json::Value;
use session_resume::{Limits, Session, SessionResume, adapter, key};
use session_resume_monitor::{Monitor, monitor};
use session_resume_testkit::transport::behind;

/// An application's state.
#[derive(Default)]
struct State {
    secret: String,
}

type Resume = SessionResume<State>;

/// A layer whose sessions are rooms, so that a test can start many.
fn layer() -> Resume {
    SessionResume::new()
        .with_memory_state(|_| State::default())
        .with_key(key::by_header("x-room").shared())
        .with_limits(Limits::default().with_max_sessions(1_000_000))
}

async fn start(resume: &Resume, room: &str) -> Session<State> {
    let request = Request::get("/").header("x-room", room);
    let parts = behind(resume, &mut None, request).await;
    adapter::open(&parts).await.expect("there is room")
}

/// Its guard lets in what says that it is an operator's.
fn guarded(resume: &Resume) -> Monitor {
    monitor(resume).with_guard(|request| request.headers.contains_key("x-operator"))
}

async fn ask(monitor: &Monitor, request: http::request::Builder) -> Response<bytes::Bytes> {
    let request = request.header(header::HOST, "panel.example").body(()).unwrap();
    let (parts, ()) = request.into_parts();
    let path = parts.uri.path().to_owned();
    monitor.respond(&parts, &path).await
}

fn operators(method: Method, uri: &str) -> http::request::Builder {
    Request::builder().method(method).uri(uri).header("x-operator", "yes")
}

async fn get(monitor: &Monitor, uri: &str) -> Value {
    let response = ask(monitor, operators(Method::GET, uri)).await;
    assert_eq!(response.status(), StatusCode::OK, "{uri}: {:?}", response.body());
    serde_json::from_slice(response.body()).expect("JSON")
}

async fn status(monitor: &Monitor, request: http::request::Builder) -> StatusCode {
    ask(monitor, request).await.status()
}

/// Every path, with the method that it has.
fn paths(session: &Session<State>) -> [(Method, String); 7] {
    [
        (Method::GET, "/".to_owned()),
        (Method::GET, "/monitor.js".to_owned()),
        (Method::GET, "/monitor.css".to_owned()),
        (Method::GET, "/overview".to_owned()),
        (Method::GET, "/sessions".to_owned()),
        (Method::GET, format!("/sessions/{}", session.id())),
        (Method::POST, format!("/sessions/{}/end", session.id())),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_the_guard_refuses_is_not_there() {
    let resume = layer();
    let session = start(&resume, "a").await;
    let monitor = guarded(&resume);
    let nowhere = ask(&monitor, operators(Method::GET, "/nowhere")).await;
    assert_eq!(nowhere.status(), StatusCode::NOT_FOUND);
    for (method, path) in paths(&session) {
        let stranger = Request::builder().method(method.clone()).uri(&path);
        let refused = ask(&monitor, stranger).await;
        assert_eq!(refused.status(), nowhere.status(), "{path}");
        assert_eq!(refused.body(), nowhere.body(), "{path}");
        assert_eq!(refused.headers(), nowhere.headers(), "{path}");
        assert!(session.outcome().is_none());
    }
    for (method, path) in paths(&session) {
        assert_eq!(status(&monitor, operators(method, &path)).await, StatusCode::OK, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_another_origin_ends_nothing_and_sees_nothing() {
    let resume = layer();
    let session = start(&resume, "a").await;
    let monitor = guarded(&resume);
    for (method, path) in paths(&session) {
        let by = || operators(method.clone(), &path);
        for foreign in [
            by().header(header::ORIGIN, "https://evil.example"),
            by().header(header::ORIGIN, "null"),
            by().header("sec-fetch-site", "cross-site"),
            by().header("sec-fetch-site", "same-site"),
            // A frame.
            by().header("sec-fetch-site", "cross-site")
                .header("sec-fetch-mode", "navigate")
                .header("sec-fetch-dest", "iframe"),
        ] {
            assert_eq!(status(&monitor, foreign).await, StatusCode::FORBIDDEN, "{path}");
            assert!(session.outcome().is_none(), "{path}");
        }
    }
    for (method, path) in paths(&session) {
        let own = operators(method, &path).header(header::ORIGIN, "https://panel.example");
        assert_eq!(status(&monitor, own).await, StatusCode::OK, "{path}");
    }
    assert!(session.outcome().is_some());
}

/// So an operator comes back from where they have signed in.
#[tokio::test(start_paused = true)]
async fn a_link_of_another_page_leads_to_the_page_and_to_nothing_else() {
    let resume = layer();
    let session = start(&resume, "a").await;
    let monitor = guarded(&resume);
    for (method, path) in paths(&session) {
        let followed = operators(method, &path)
            .header("sec-fetch-site", "cross-site")
            .header("sec-fetch-mode", "navigate")
            .header("sec-fetch-dest", "document");
        let expected = if path == "/" { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(status(&monitor, followed).await, expected, "{path}");
    }
    // A form of another page posts to it.
    let posted = operators(Method::POST, "/")
        .header(header::ORIGIN, "https://evil.example")
        .header("sec-fetch-mode", "navigate")
        .header("sec-fetch-dest", "document");
    assert_eq!(status(&monitor, posted).await, StatusCode::FORBIDDEN);
    assert!(session.outcome().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_page_has_files_of_its_own_and_a_policy_that_lets_in_nothing_else() {
    let monitor = guarded(&layer());
    for (path, media_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/monitor.js", "text/javascript; charset=utf-8"),
        ("/monitor.css", "text/css; charset=utf-8"),
    ] {
        let response = ask(&monitor, operators(Method::GET, path)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[header::CONTENT_TYPE], media_type);
        assert!(!response.body().is_empty());
        assert_eq!(status(&monitor, operators(Method::HEAD, path)).await, 200, "{path}");
        assert_eq!(status(&monitor, operators(Method::POST, path)).await, 405, "{path}");
    }
    let page = ask(&monitor, operators(Method::GET, "/")).await;
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert_eq!(
        policy.split("; ").collect::<Vec<_>>(),
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    );
    assert_eq!(page.headers()["cross-origin-opener-policy"], "same-origin");
    assert!(!text(page.body()).contains("{{"), "a gap is left");
}

#[tokio::test(start_paused = true)]
async fn guards_are_counted_by_reason_and_the_list_of_reasons_is_short() {
    let resume = layer();
    let session = start(&resume, "a").await;
    let uploads = ["an upload"; 3].map(|reason| session.block_expiration(reason));
    let monitor = guarded(&resume);
    let overview = get(&monitor, "/overview").await;
    assert_eq!(overview["guards"], serde_json::json!([{ "reason": "an upload", "count": 3 }]));
    assert_eq!(overview["other_guards"], 0);
    // Of two sessions: one shows no more than 1,024.
    let other = start(&resume, "b").await;
    let of = |number| if number % 2 == 0 { &session } else { &other };
    let ones: Vec<_> =
        (0..1100).map(|number| of(number).block_expiration(format!("job {number}"))).collect();
    let overview = get(&monitor, "/overview").await;
    let shown = overview["guards"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[0]["count"]), (20, &3.into()));
    assert_eq!(overview["other_guards"], 1100 - 19);
    drop((uploads, ones));
    assert_eq!(get(&monitor, "/overview").await["guards"], serde_json::json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_ended_with_a_reason_once() {
    let resume = layer();
    let session = start(&resume, "a").await;
    let monitor = guarded(&resume);
    let end = format!("/sessions/{}/end?reason=stuck+since+%22noon%22", session.id());
    assert_eq!(status(&monitor, operators(Method::GET, &end)).await, 405);
    assert!(session.outcome().is_none());
    assert_eq!(status(&monitor, operators(Method::POST, &end)).await, 200);
    let outcome = session.outcome().expect("it has ended");
    assert_eq!(outcome.error(), Some("stuck since \"noon\""));
    assert_eq!(status(&monitor, operators(Method::POST, &end)).await, 409);
    let unknown = "/sessions/6f9619ff-8b86-4011-b42d-00cf4fc964ff/end";
    assert_eq!(status(&monitor, operators(Method::POST, unknown)).await, 404);
    assert_eq!(status(&monitor, operators(Method::POST, "/sessions/x/end")).await, 404);

    let other = start(&resume, "b").await;
    let end = format!("/sessions/{}/end?reason={}", other.id(), "x".repeat(5000));
    assert_eq!(status(&monitor, operators(Method::POST, &end)).await, 200);
    assert_eq!(other.outcome().unwrap().error().map(str::len), Some(200));

    let overview = get(&monitor, "/overview").await;
    assert_eq!(overview["ends"].as_array().unwrap().len(), 2);
    assert_eq!(overview["ends"][1]["id"], session.id().to_string(), "the latest first");
    assert_eq!(overview["ends"][1]["status"], "closed");
    assert_eq!(overview["ends"][1]["reason"], "stuck since \"noon\"");
    let one = get(&monitor, &format!("/sessions/{}", session.id())).await;
    assert_eq!(one["phase"], "completed");
    assert_eq!(one["outcome"]["reason"], "stuck since \"noon\"");
}

#[tokio::test(start_paused = true)]
async fn the_overview_counts_what_there_is() {
    let resume = layer();
    let (first, second) = (start(&resume, "a").await, start(&resume, "b").await);
    first.send("x".repeat(1000)).await.unwrap();
    let _guards = (first.block_expiration("an upload"), second.block_expiration("a download"));
    tokio::time::sleep(std::time::Duration::from_secs(90)).await;
    second.close("done with it");
    let monitor = guarded(&resume);
    let overview = get(&monitor, "/overview").await;
    let sessions = &overview["sessions"];
    assert_eq!((&sessions["suspended"], &sessions["completed"]), (&1.into(), &1.into()));
    assert_eq!(
        (&sessions["outbox_messages"], &sessions["outbox_bytes"]),
        (&1.into(), &1048.into())
    );
    assert_eq!((&sessions["guarded"], &sessions["wait_for_store"]), (&1.into(), &0.into()));
    assert!(sessions["oldest_ms"].as_u64().unwrap() >= 90_000);
    let minutes = overview["minutes"].as_array().unwrap();
    assert_eq!(minutes.len(), 60);
    assert_eq!((&minutes[58]["started"], &minutes[58]["ended"]), (&2.into(), &0.into()));
    assert_eq!((&minutes[59]["started"], &minutes[59]["ended"]), (&0.into(), &1.into()));
    let one = get(&monitor, &format!("/sessions/{}", first.id())).await;
    assert_eq!(one["guards"], serde_json::json!(["an upload"]));
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_is_said() {
    let monitor = guarded(&layer());
    for query in ["phase=dead", "sort=age", "limit=many", "after=1", "after=x.y"] {
        let request = operators(Method::GET, &format!("/sessions?{query}"));
        assert_eq!(status(&monitor, request).await, StatusCode::BAD_REQUEST, "{query}");
    }
    let long = format!("/sessions?search={}", "a".repeat(100));
    assert_eq!(status(&monitor, operators(Method::GET, &long)).await, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_page_with_a_larger_limit_is_still_a_page() {
    let resume = layer();
    for number in 0..205 {
        start(&resume, &format!("{number}")).await;
    }
    let monitor = guarded(&resume);
    let page = get(&monitor, "/sessions?limit=100000").await;
    assert_eq!(page["sessions"].as_array().unwrap().len(), 200);
    assert!(page["next"].is_string());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_sessions_are_paged_sorted_and_searched() {
    const SESSIONS: usize = 100_000;
    let resume = layer();
    let mut full = Vec::new();
    for number in 0..SESSIONS {
        let session = start(&resume, &format!("room-{number}")).await;
        if number % 1000 == 0 {
            session.send("x".repeat(number / 100)).await.unwrap();
            full.push((number, session.id().to_string()));
        }
    }
    let monitor = guarded(&resume);
    let total = |page: &Value| page["total"].as_u64().unwrap();

    // Some pages, in order and without a session twice.
    let (mut seen, mut after) = (Vec::new(), String::new());
    for _ in 0..5 {
        let page = get(&monitor, &format!("/sessions?limit=150&after={after}")).await;
        assert_eq!((total(&page), &page["matched"]), (SESSIONS as u64, &SESSIONS.into()));
        seen.extend(ids(&page));
        after = page["next"].as_str().expect("there is more").to_owned();
    }
    assert_eq!(seen.len(), 750);
    assert!(seen.is_sorted());
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 750);

    // The fullest outboxes first: those of a thousandth have something. Both pages together have them all.
    let first = get(&monitor, "/sessions?sort=outbox&limit=60").await;
    let next = first["next"].as_str().unwrap();
    let second = get(&monitor, &format!("/sessions?sort=outbox&limit=40&after={next}")).await;
    let fullest = ids(&first).into_iter().chain(ids(&second)).collect::<Vec<_>>();
    let expected = full.iter().rev().map(|(_, id)| id.clone()).collect::<Vec<_>>();
    assert_eq!(fullest, expected);

    // By the beginning of an id, and by the hashes of key and identity.
    let wanted = start(&resume, "room-777").await;
    let (id, info) = (wanted.id().to_string(), wanted.info());
    for search in
        [&id[..13], &id.to_uppercase(), &info.key.to_string(), &info.identity().short_hash()]
    {
        let page = get(&monitor, &format!("/sessions?search={search}")).await;
        assert!(ids(&page).contains(&id), "{search}");
        assert_eq!(page["matched"], 1, "{search}: the chance of another is small");
        assert_eq!((total(&page), &page["next"]), (SESSIONS as u64, &Value::Null));
    }
    let none = get(&monitor, "/sessions?search=room-777").await;
    assert_eq!(none["matched"], 0, "a key is searched by its hash alone");
    let none = get(&monitor, "/sessions?phase=running").await;
    assert_eq!(none["matched"], 0);
}

fn ids(page: &Value) -> Vec<String> {
    let sessions = page["sessions"].as_array().expect("a list").iter();
    sessions.map(|session| session["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn no_answer_has_a_cookie_an_identity_a_key_or_a_state() {
    let resume = layer();
    let mut cookie = None;
    let request = Request::get("/").header("x-room", "the-secret-room");
    let parts = behind(&resume, &mut cookie, request).await;
    let session = adapter::open::<State>(&parts).await.unwrap();
    session.update(|state| state.secret = "the-secret-state".to_owned());
    let cookie = cookie.expect("the answer has set it");
    let token = cookie.split_once('=').expect("name and value").1;
    let secrets = [
        "the-secret-room".to_owned(),
        "the-secret-state".to_owned(),
        session.read(|state| state.secret.clone()),
        session.identity().to_string(),
        session.identity().as_uuid().simple().to_string(),
        token.to_owned(),
        token[..token.len() / 2].to_owned(),
    ];
    let monitor = guarded(&resume);
    let mut texts = vec![format!("{:?} {monitor:?}", session.info())];
    let searched = format!("/sessions?search={}", session.info().identity().short_hash());
    let paths = paths(&session).into_iter().chain([(Method::GET, searched)]);
    // Once more after the end.
    for (method, path) in paths.clone().chain(paths) {
        let response = ask(&monitor, operators(method, &path)).await;
        texts.push(format!("{path} {:?} {}", response.headers(), text(response.body())));
    }
    assert!(texts.iter().any(|text| text.contains(&session.info().key.to_string())));
    for text in texts {
        for secret in &secrets {
            assert!(!text.contains(&**secret), "{secret} is in {text}");
        }
    }
}

fn text(body: &[u8]) -> &str {
    std::str::from_utf8(body).expect("text")
}

#[tokio::test(start_paused = true)]
async fn nothing_of_an_answer_is_kept_or_framed() {
    let monitor = guarded(&layer());
    for uri in ["/", "/monitor.js", "/monitor.css", "/overview", "/sessions", "/nowhere"] {
        let response = ask(&monitor, operators(Method::GET, uri)).await;
        let headers = response.headers();
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY");
        let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"));
    }
}
