//! One session, one path: `/ws/{room}` must not put two rooms into one session because no key was chosen.

use session_resume::{SessionResume, adapter::Refusal, key, reuse};

use crate::{
    blocked::cursor,
    support::{Browser, Wire, echo, idle, open, pair, settle},
};

const CLIENT: &str = "client-aaaaaaaaaa";
const OTHER: &str = "client-bbbbbbbbbb";
const ANOTHER_PATH: &str = "another path: see key::by_path() and ResumeUpgrade::any_path()";

/// Whether an upgrade may come on another path than the first.
#[derive(Clone, Copy, PartialEq)]
enum Paths {
    Same,
    Any,
}

/// Connects on a path to a handler that sends back what it gets.
async fn connect(
    browser: &mut Browser,
    resume: &SessionResume,
    path: &str,
    at: Option<&str>,
    paths: Paths,
) -> Result<Wire, Refusal> {
    let mut upgrade = browser.upgrade_at(resume, path, at).await?;
    if paths == Paths::Any {
        upgrade = upgrade.any_path();
    }
    let wire = open(upgrade, echo);
    settle().await;
    wire
}

/// Says something, and hears it; what came before may come again first.
async fn answers(wire: &mut Wire, text: &str) -> bool {
    wire.text(text);
    while wire.next_text().await != text {}
    true
}

#[tokio::test(start_paused = true)]
async fn two_rooms_do_not_meet_in_one_session() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut room = connect(&mut browser, &resume, "/ws/a", None, Paths::Same).await.unwrap();
    assert!(answers(&mut room, "one").await);
    let refusal = connect(&mut browser, &resume, "/ws/b", None, Paths::Same).await.unwrap_err();
    assert_eq!(refusal.status(), 409);
    let text = refusal.to_string();
    for named in ["key::by_path()", "ResumeUpgrade::any_path()"] {
        assert!(text.contains(named), "{text}");
    }
    assert!(!text.contains("/ws/"), "nothing of where the session is: {text}");
    let mut told =
        connect(&mut browser, &resume, "/ws/b", Some(CLIENT), Paths::Same).await.unwrap();
    assert_eq!(told.closed().await, (4101, ANOTHER_PATH.to_owned()));
    assert!(answers(&mut room, "two").await, "nothing is disturbed");
    let mut again =
        connect(&mut browser, &resume, "/ws/a?from=2", None, Paths::Same).await.unwrap();
    assert!(answers(&mut again, "three").await, "the query does not count");
    assert_eq!(resume.sessions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn paths_are_compared_as_they_were_sent() {
    for path in ["/ws/a/", "/ws/%61", "/ws/A", "/ws//a", "/ws"] {
        let (resume, mut browser) = (SessionResume::new(), Browser::default());
        connect(&mut browser, &resume, "/ws/a", None, Paths::Same).await.unwrap();
        let refusal = connect(&mut browser, &resume, path, None, Paths::Same).await.unwrap_err();
        assert_eq!(refusal.status(), 409, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_arriving_upgrade_says_whether_it_may_come_on_any_path() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    connect(&mut browser, &resume, "/ws/a", None, Paths::Same).await.unwrap();
    let mut any = connect(&mut browser, &resume, "/ws/b", None, Paths::Any).await.unwrap();
    assert!(answers(&mut any, "hello").await);
    let refusal = connect(&mut browser, &resume, "/ws/b", None, Paths::Same).await.unwrap_err();
    assert_eq!(refusal.status(), 409, "the one that came on any path has not moved the session");
    connect(&mut browser, &resume, "/ws/a", None, Paths::Same).await.unwrap();

    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    connect(&mut browser, &resume, "/ws/a", None, Paths::Any).await.unwrap();
    let refusal = connect(&mut browser, &resume, "/ws/b", None, Paths::Same).await.unwrap_err();
    assert_eq!(refusal.status(), 409, "what the first one said is not what counts");
}

#[tokio::test(start_paused = true)]
async fn the_path_is_not_asked_where_the_application_has_chosen_the_key() {
    let chosen = [
        (key::by_path(), 2),
        (key::by_header("x-room"), 1),
        (key::from_fn(|_, _| "the only one"), 1),
        (key::from_fn(|_, _| None::<String>), 1),
    ];
    for (key, sessions) in chosen {
        for key in [key.clone(), key.shared()] {
            let what = format!("{key:?}");
            let (resume, mut browser) = (SessionResume::new().with_key(key), Browser::default());
            for path in ["/ws/a", "/ws/b"] {
                let mut room =
                    connect(&mut browser, &resume, path, None, Paths::Same).await.unwrap();
                assert!(answers(&mut room, "hello").await, "{what}");
            }
            assert_eq!(resume.sessions().len(), sessions, "{what}");
        }
    }
    // One session per tab: the application has not chosen what a tab is for.
    for key in [key::per_client(), key::per_client().shared()] {
        let (resume, mut browser) = (SessionResume::new().with_key(key), Browser::default());
        for (at, path, enters) in [
            (CLIENT, "/ws/a", true),
            (OTHER, "/ws/b", true),
            (CLIENT, "/ws/b", false),
            (CLIENT, "/ws/a", true),
        ] {
            let mut wire =
                connect(&mut browser, &resume, path, Some(at), Paths::Same).await.unwrap();
            if enters {
                assert!(wire.next_control().await["hello"].is_object());
            } else {
                assert_eq!(wire.closed().await, (4101, ANOTHER_PATH.to_owned()));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_upgrade_that_starts_the_handler_sets_the_path() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    browser.get(&resume).await.unwrap();
    // One that fails starts nothing.
    drop(browser.upgrade_at(&resume, "/ws/a", None).await.unwrap().on_session(echo).unwrap());
    connect(&mut browser, &resume, "/ws/b", None, Paths::Same).await.unwrap();
    let refusal = connect(&mut browser, &resume, "/ws/a", None, Paths::Same).await.unwrap_err();
    assert_eq!(refusal.status(), 409);
    browser.get(&resume).await.unwrap();
    assert_eq!(resume.sessions().len(), 1, "an HTTP request has no path of the session");
}

#[tokio::test(start_paused = true)]
async fn of_two_rooms_that_come_at_once_one_is_told() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let first = browser.upgrade_at(&resume, "/ws/a", None).await.unwrap().on_session(idle).unwrap();
    let second = browser.upgrade_at(&resume, "/ws/b", None).await.unwrap();
    assert_eq!(second.on_session(idle).unwrap_err().status(), 409, "told before there is a socket");
    // One upgrade of the first room fails while the other is under way: a gap for another room.
    let gives_up = browser.upgrade_at(&resume, "/ws/a", None).await.unwrap();
    drop(gives_up.on_session(idle).unwrap());
    let second = browser.upgrade_at(&resume, "/ws/b", Some(CLIENT)).await.unwrap();
    let second = second.on_session(idle).unwrap();
    let (socket, _one) = pair();
    tokio::spawn(first.run(socket));
    settle().await;
    let (socket, mut two) = pair();
    tokio::spawn(second.run(socket));
    assert_eq!(two.closed().await, (4101, ANOTHER_PATH.to_owned()));
    let again = browser.upgrade_at(&resume, "/ws/a", None).await.unwrap();
    open(again, idle).expect("it is the first room's");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_opens_no_other_path() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    let mut room =
        connect(&mut browser, &resume, "/ws/a", Some(CLIENT), Paths::Same).await.unwrap();
    let told = room.next_control().await["hello"].take();
    let cursor = cursor(CLIENT, &told, 0);
    let mut elsewhere =
        connect(&mut browser, &resume, "/ws/b", Some(&cursor), Paths::Same).await.unwrap();
    assert_eq!(elsewhere.closed().await, (4101, ANOTHER_PATH.to_owned()));
    let mut back =
        connect(&mut browser, &resume, "/ws/a", Some(&cursor), Paths::Same).await.unwrap();
    assert_eq!(back.next_control().await["hello"]["status"], "resumed");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_starts_anew_is_on_the_path_of_its_own_start() {
    let resume = SessionResume::new().with_reuse(reuse::never());
    let mut browser = Browser::default();
    for path in ["/ws/a", "/ws/b", "/ws/a"] {
        connect(&mut browser, &resume, path, None, Paths::Same).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_adapter_says_which_path_the_client_has_asked_for() {
    let (resume, mut browser) = (SessionResume::new(), Browser::default());
    // A router outside the layer has taken `/v1` and `/v2` away.
    let upgrade = browser.upgrade_at(&resume, "/ws", None).await.unwrap().at_path("/v1/ws");
    open(upgrade, echo).unwrap();
    settle().await;
    let upgrade = browser.upgrade_at(&resume, "/ws", None).await.unwrap().at_path("/v2/ws");
    assert_eq!(open(upgrade, echo).unwrap_err().status(), 409);
    let upgrade = browser.upgrade_at(&resume, "/v1/ws", None).await.unwrap();
    open(upgrade, echo).expect("that is the same path");
}
