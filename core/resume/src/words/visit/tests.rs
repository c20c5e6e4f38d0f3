use std::convert::Infallible;

use http::{Request, Response, header, request::Builder, response};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{
    Identity, IdentityCookie, SameSite, SessionResume,
    door::adapter,
    words::{identity::Token, wall},
};

/// What a handler does with its session, or its identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    Nothing,
    Looks,
    Identity,
    Session,
}

const USES: [Use; 2] = [Use::Identity, Use::Session];

/// Sends a request through the layer to a handler that does this and answers so; returns what the answer sets.
async fn visit(resume: &SessionResume, req: Builder, does: Use, res: Answers) -> Option<String> {
    let service = resume.layer(service_fn(move |request: Request<()>| async move {
        let parts = request.into_parts().0;
        match does {
            Use::Nothing => {}
            Use::Looks => drop(adapter::look::<()>(&parts).await.unwrap()),
            Use::Identity => drop(adapter::identity(&parts).unwrap()),
            Use::Session => drop(adapter::open::<()>(&parts).await.unwrap()),
        }
        Ok::<_, Infallible>(res().body(()).unwrap())
    }));
    let response = service.oneshot(req.body(()).unwrap()).await.unwrap();
    let mut set = response.headers().get_all(header::SET_COOKIE).iter();
    let cookie = set.next().map(|value| value.to_str().unwrap().to_owned());
    assert!(set.next().is_none(), "at most one");
    cookie
}

type Asks = fn() -> Builder;
type Answers = fn() -> response::Builder;

fn ok() -> response::Builder {
    Response::builder()
}

fn html() -> response::Builder {
    of_type("text/html; charset=utf-8")
}

fn of_type(content_type: &str) -> response::Builder {
    Response::builder().header(header::CONTENT_TYPE, content_type)
}

/// As Chromium and Firefox send it for a link in a page of our own, over https.
fn navigation() -> Builder {
    Request::get("/").header("sec-fetch-mode", "navigate").header("sec-fetch-site", "same-origin")
}

fn fetch() -> Builder {
    Request::get("/").header("sec-fetch-mode", "cors").header("sec-fetch-site", "same-origin")
}

fn accepting(accept: &str) -> Builder {
    Request::get("/").header(header::ACCEPT, accept)
}

#[tokio::test]
async fn use_sets_the_cookie_and_nothing_else_does() {
    let resume = SessionResume::new();
    for (does, sets) in
        [(Use::Nothing, false), (Use::Looks, false), (Use::Identity, true), (Use::Session, true)]
    {
        for answer in
            [ok as Answers, || Response::builder().status(404), || Response::builder().status(500)]
        {
            let set = visit(&resume, fetch(), does, answer).await;
            assert_eq!(set.is_some(), sets, "{does:?}");
        }
    }
}

#[tokio::test]
async fn a_page_sets_the_cookie_for_its_own_requests() {
    let resume = SessionResume::new();
    let rows: &[(&str, Asks, Answers, bool)] = &[
        ("navigation, HTML", navigation, html, true),
        ("navigation, 201", navigation, || html().status(201), true),
        ("navigation, not HTML", navigation, ok, false),
        ("navigation, another type", navigation, || of_type("text/htmlx"), false),
        ("navigation, 404", navigation, || html().status(404), false),
        ("navigation, 302", navigation, || html().status(302), false),
        ("navigation, 500", navigation, || html().status(500), false),
        ("fetch of HTML", fetch, html, false),
        ("fetch of HTML by name", || fetch().header(header::ACCEPT, "text/html"), html, false),
        ("plain http", || accepting("text/html,application/xhtml+xml,*/*;q=0.8"), html, true),
        ("plain http, second place", || accepting("image/avif, TEXT/HTML;q=0.9"), html, true),
        ("curl", || accepting("*/*"), html, false),
        ("nothing accepted", || Request::get("/"), html, false),
        ("a form", || Request::post("/").header("sec-fetch-mode", "navigate"), html, false),
        ("HEAD", || Request::head("/").header("sec-fetch-mode", "navigate"), html, false),
    ];
    for (what, req, answer, sets) in rows {
        let set = visit(&resume, req(), Use::Nothing, *answer).await;
        assert_eq!(set.is_some(), *sets, "{what}");
    }
}

#[tokio::test]
async fn what_shared_caches_keep_carries_nobodys_identity() {
    let resume = SessionResume::new();
    let answers: &[(Answers, bool)] = &[
        (|| html().header(header::CACHE_CONTROL, "public"), false),
        (|| html().header(header::CACHE_CONTROL, "Public, max-age=3"), false),
        (|| html().header(header::CACHE_CONTROL, "max-age=60, s-maxage=3"), false),
        (|| html().header(header::CACHE_CONTROL, "max-age=60,immutable"), false),
        (
            || {
                let html = html().header(header::CACHE_CONTROL, "max-age=60");
                html.header(header::CACHE_CONTROL, "immutable")
            },
            false,
        ),
        (|| html().header(header::CACHE_CONTROL, "private, max-age=60"), true),
        (|| html().header(header::CACHE_CONTROL, "no-store"), true),
        (|| html().header(header::CACHE_CONTROL, "max-age=60"), true),
        (|| html().header(header::CACHE_CONTROL, "publicity"), true),
    ];
    for (answer, sets) in answers {
        for does in [Use::Nothing, Use::Identity, Use::Session] {
            let set = visit(&resume, navigation(), does, *answer).await;
            assert_eq!(set.is_some(), *sets, "{does:?}: {:?}", answer().headers_ref());
        }
    }
}

#[tokio::test]
async fn a_preflight_sets_nothing() {
    let resume = SessionResume::new();
    let options = || Request::options("/");
    let preflight = || options().header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT");
    for does in USES {
        assert_eq!(visit(&resume, preflight(), does, ok).await, None, "{does:?}");
        assert!(visit(&resume, options(), does, ok).await.is_some(), "{does:?}");
    }
}

/// A form that another site posts comes without our cookie; a new one would take its place in the browser.
#[tokio::test]
async fn what_the_browser_withheld_is_not_overwritten() {
    let site = |method: &str, site: &str, mode: &str, dest: &str| {
        Request::builder()
            .method(method)
            .uri("/")
            .header("sec-fetch-site", site)
            .header("sec-fetch-mode", mode)
            .header("sec-fetch-dest", dest)
    };
    // Lax, Strict, None.
    let rows = [
        (("GET", "cross-site", "navigate", "document"), [true, false, true]),
        (("HEAD", "cross-site", "navigate", "document"), [true, false, true]),
        (("POST", "cross-site", "navigate", "document"), [false, false, true]),
        (("OPTIONS", "cross-site", "navigate", "document"), [false, false, true]),
        (("GET", "cross-site", "navigate", "iframe"), [false, false, true]),
        (("GET", "cross-site", "no-cors", "image"), [false, false, true]),
        (("GET", "cross-site", "websocket", "websocket"), [false, false, true]),
        (("POST", "same-site", "navigate", "document"), [true, true, true]),
        (("POST", "same-origin", "cors", "empty"), [true, true, true]),
        (("GET", "none", "navigate", "document"), [true, true, true]),
        (("POST", "none", "navigate", "document"), [true, true, true]),
    ];
    for (at, same_site) in [SameSite::Lax, SameSite::Strict, SameSite::None].into_iter().enumerate()
    {
        let cookie = IdentityCookie::default().with_same_site(same_site);
        let resume = SessionResume::new().with_identity(cookie);
        for ((method, from, mode, dest), expected) in rows {
            let what = format!("{same_site:?}: {method} {from} {mode} {dest}");
            for does in USES {
                let set = visit(&resume, site(method, from, mode, dest), does, html).await;
                assert_eq!(set.is_some(), expected[at], "{what}: {does:?}");
            }
            // A page counts for no more than use.
            let set = visit(&resume, site(method, from, mode, dest), Use::Nothing, html).await;
            assert!(set.is_none() || expected[at], "{what}");
        }
    }
}

#[tokio::test]
async fn use_renews_the_cookie_once_a_day() {
    let resume = SessionResume::new();
    let hours = |hours: u64| std::time::Duration::from_secs(3600 * hours);
    let pair = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
    let host = || navigation().header(header::HOST, "a:3000");
    let first = visit(&resume, host(), Use::Nothing, html).await.unwrap();
    let with = |cookie: &str| host().header(header::COOKIE, cookie.to_owned());
    let cookie = pair(&first);
    for does in [Use::Nothing, Use::Looks, Use::Identity] {
        assert_eq!(visit(&resume, with(&cookie), does, html).await, None, "{does:?}: new");
    }
    wall::shift::set(hours(23));
    assert_eq!(visit(&resume, with(&cookie), Use::Identity, html).await, None);
    wall::shift::set(hours(25));
    for does in [Use::Nothing, Use::Looks] {
        let set = visit(&resume, with(&cookie), does, html).await;
        assert_eq!(set, None, "{does:?} is no use, not on a page either");
    }
    let renewed = visit(&resume, with(&cookie), Use::Identity, ok).await.unwrap();
    assert!(renewed.starts_with("sr_id-3000="), "{renewed}");
    let renewed = pair(&renewed);
    assert_ne!(renewed, cookie);
    assert_eq!(visit(&resume, with(&renewed), Use::Identity, ok).await, None, "once");
    // The old one is good still; and under the name under which it came.
    let other_port = navigation().header(header::HOST, "a:4000").header(header::COOKIE, &cookie);
    let again = visit(&resume, other_port, Use::Identity, ok).await.unwrap();
    assert_eq!(pair(&again), renewed, "the same identity, hour and name");
    wall::shift::set(hours(0));
}

/// The deploys that change the key: no browser becomes another one, and no process meets a key that it does not know.
#[tokio::test]
async fn a_key_is_changed_in_three_deploys() {
    let [old, new] = [[1; 64], [2; 64]];
    let pair = |cookie: &str| cookie.split(';').next().unwrap().to_owned();
    let identity = |cookie: &str| -> Identity {
        Token::read(pair(cookie).split_once('=').unwrap().1).unwrap().identity
    };
    let with = |cookie: &str| fetch().header(header::COOKIE, pair(cookie));
    for cookie in [IdentityCookie::default(), IdentityCookie::default().with_max_age(None)] {
        let layer = |cookie| SessionResume::new().with_identity(cookie);
        let keyed = |key| cookie.clone().with_key(key);
        let before = layer(keyed(old));
        let first = layer(keyed(old).with_old_keys([new]));
        let second = layer(keyed(new).with_old_keys([[3; 64], old]));
        let third = layer(keyed(new));
        let held = visit(&before, navigation(), Use::Identity, ok).await.unwrap();
        assert_eq!(visit(&first, with(&held), Use::Identity, ok).await, None);
        // Until the browser has another one, each use replaces it; that is so with and without a session.
        let mut replaced = Vec::new();
        for does in [Use::Identity, Use::Session, Use::Session, Use::Session] {
            let set = visit(&second, with(&held), does, ok).await.unwrap();
            assert_eq!(identity(&set), identity(&held), "{does:?}");
            replaced.push(pair(&set));
        }
        assert_ne!(replaced[0], pair(&held));
        assert!(replaced.iter().all(|it| *it == replaced[0]), "{replaced:?}");
        assert_eq!(visit(&second, with(&held), Use::Looks, ok).await, None, "looking is no use");
        // Processes of the first deploy know it, too.
        let set = visit(&first, with(&replaced[0]), Use::Identity, ok).await.unwrap();
        assert_eq!(identity(&set), identity(&held));
        for layer in [&second, &third] {
            assert_eq!(visit(layer, with(&replaced[0]), Use::Session, ok).await, None);
        }
        let stranger = visit(&third, with(&held), Use::Identity, ok).await.unwrap();
        assert_ne!(identity(&stranger), identity(&held), "the old key is not believed any more");
    }
}
