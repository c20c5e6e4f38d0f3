//! What tower asks of a layer, and what a browser may send it.

use std::{
    cell::Cell,
    convert::Infallible,
    fmt,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Request, Response, header};
use session_resume::{
    IdentityCookie, ResponseFuture, SessionResume, SessionResumeService,
    adapter::{self, Refusal},
    store::MemoryStore,
};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use crate::support::Browser;

/// A service that panics when it is called without having been asked whether it is ready.
#[derive(Debug, Default)]
struct Probe {
    ready: bool,
}

/// A clone is not ready: readiness belongs to the one that was asked.
impl Clone for Probe {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Neither `Default` nor `Sync`.
struct Body(Cell<u8>);

#[derive(Debug, PartialEq)]
struct OwnError;

impl Service<Request<Body>> for Probe {
    type Response = Response<Body>;
    type Error = OwnError;
    type Future = std::future::Ready<Result<Response<Body>, OwnError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OwnError>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without having been ready");
        std::future::ready(match request.uri().path() {
            "/error" => Err(OwnError),
            _ => Ok(Response::new(request.into_body())),
        })
    }
}

#[tokio::test]
async fn the_ready_service_is_the_one_that_is_called() {
    let mut service = SessionResume::new().layer(Probe::default());
    for _ in 0..2 {
        let request = Request::new(Body(Cell::new(3)));
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.into_body().0.get(), 3);
    }
    let clone = service.clone();
    let response = clone.oneshot(Request::new(Body(Cell::new(4)))).await.unwrap();
    assert_eq!(response.into_body().0.get(), 4);
}

#[tokio::test]
async fn the_error_type_is_the_inner_ones() {
    let service = SessionResume::new().layer(Probe::default());
    let request = Request::get("/error").body(Body(Cell::new(0))).unwrap();
    let result: Result<_, OwnError> = service.oneshot(request).await;
    assert_eq!(result.err(), Some(OwnError));
}

#[test]
fn its_types_are_what_routers_need() {
    fn layer<T: Clone + Send + Sync + fmt::Debug + 'static>(_: &T) {}
    fn future<T: Send + 'static>() {}
    fn named<S>(_: &SessionResumeService<S>) {}
    layer(&SessionResume::new());
    layer(&SessionResume::new().layer(()));
    future::<ResponseFuture<std::future::Ready<()>>>();
    // A state that is not `Sync` is behind a mutex of its own.
    layer(&SessionResume::new().with_memory_state(|_| Cell::new(1)));
    named(&SessionResume::new().layer(()));
}

/// Sends a request with these `Cookie` headers; returns the identity that its handler saw, and what is set.
async fn visit(
    resume: &SessionResume,
    cookies: &[&str],
) -> (session_resume::Identity, Vec<HeaderValue>) {
    visit_at(resume, "/", cookies).await
}

async fn visit_at(
    resume: &SessionResume,
    uri: &str,
    cookies: &[&str],
) -> (session_resume::Identity, Vec<HeaderValue>) {
    let mut request = Request::get(uri);
    for cookie in cookies {
        request = request.header(header::COOKIE, *cookie);
    }
    let service = resume.layer(service_fn(|request: Request<()>| async move {
        let identity = adapter::identity(&request.into_parts().0).unwrap();
        let mut response = Response::new(identity);
        for own in ["a=1", "b=2"] {
            response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static(own));
        }
        Ok::<_, Infallible>(response)
    }));
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let set = response.headers().get_all(header::SET_COOKIE).iter().cloned().collect();
    (response.into_body(), set)
}

fn pair_of(cookie: &HeaderValue) -> String {
    cookie.to_str().unwrap().split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_first_request_sees_its_identity_and_the_cookie_is_appended() {
    let resume = SessionResume::new();
    let (identity, set) = visit(&resume, &[]).await;
    assert_eq!(set.len(), 3, "the application's own stay: {set:?}");
    let cookie = set[2].to_str().unwrap();
    assert!(cookie.starts_with("sr_id="), "{cookie}");
    for attribute in ["HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=31536000"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let (again, set) = visit(&resume, &[&pair_of(&set[2])]).await;
    assert_eq!((again, set.len()), (identity, 2), "a known browser needs no cookie");
}

#[tokio::test]
async fn all_cookie_headers_are_walked() {
    let resume = SessionResume::new();
    let (identity, set) = visit(&resume, &[]).await;
    let own = pair_of(&set[2]);
    for cookies in [
        vec!["x=1", "y=2", own.as_str()],
        vec![&format!("x=1; {own}; y=2")],
        vec!["sr_id=old-and-broken", &own],
        vec![&format!("sr_id=old; {own}")],
    ] {
        assert_eq!(visit(&resume, &cookies).await.0, identity, "{cookies:?}");
    }
}

#[tokio::test]
async fn forged_truncated_and_foreign_cookies_get_a_new_identity_and_nobodys_session() {
    let resume = SessionResume::new();
    let mut victim = Browser::default();
    let session = victim.get(&resume).await.unwrap();
    let cookie = victim.cookie.clone().unwrap();
    let token = cookie.strip_prefix("sr_id=").unwrap();
    let mut foreign = Browser::default();
    foreign.get(&SessionResume::new()).await.unwrap();
    let mut flipped = token.to_owned().into_bytes();
    flipped[0] = if flipped[0] == b'A' { b'B' } else { b'A' };
    let mut forged = vec![
        foreign.cookie.unwrap(),
        format!("sr_id={}", String::from_utf8(flipped).unwrap()),
        format!("sr_id={}", session.identity()),
        format!("sr_id=\"{token}"),
        "sr_id=".to_owned(),
        "sr_id".to_owned(),
        format!("SR_ID={token}"),
        format!("sr_id={token}{token}"),
        format!("sr_id={}", "A".repeat(100_000)),
    ];
    forged.extend((1..token.len()).map(|at| format!("sr_id={}", &token[..at])));
    forged.extend((1..token.len()).map(|at| format!("sr_id={}", &token[at..])));
    for cookie in forged {
        let mut stranger = Browser { cookie: Some(cookie.clone()) };
        assert!(stranger.look(&resume).await.is_none(), "{cookie}");
        let mut stranger = Browser { cookie: Some(cookie.clone()) };
        let theirs = stranger.get(&resume).await.unwrap();
        assert_ne!(theirs.identity(), session.identity(), "{cookie}");
        assert_ne!(theirs.id(), session.id(), "{cookie}");
        theirs.close("next");
    }
    assert_eq!(victim.get(&resume).await.unwrap().id(), session.id());
}

/// What the layer remembers of a session's token is a proof of that token alone.
#[tokio::test]
async fn a_session_in_memory_opens_to_no_other_token_of_its_identity() {
    let resume = SessionResume::new();
    let mut browser = Browser::default();
    let session = browser.get(&resume).await.unwrap();
    let first = browser.cookie.clone().unwrap();
    for stage in ["nobody has come back yet", "proved", "another identity's", "proved again"] {
        if stage == "another identity's" {
            browser.cookie = Some(pair_of(session.cycle_identity().set_cookie().unwrap()));
        }
        let (identity, cookie) = (session.identity(), browser.cookie.clone().unwrap());
        // These characters hold bits of the MAC alone.
        let mac = cookie.len() - 21;
        for at in mac..cookie.len() {
            let other = if cookie.as_bytes()[at] == b'A' { "B" } else { "A" };
            let mut forged = cookie.clone();
            forged.replace_range(at..=at, other);
            let mut stranger = Browser { cookie: Some(forged) };
            assert!(stranger.look(&resume).await.is_none(), "{stage}: {at}");
            assert_ne!(stranger.cookie, Some(cookie.clone()), "a new one was given");
        }
        let known = browser.get(&resume).await.unwrap();
        assert_eq!((known.id(), known.identity()), (session.id(), identity), "{stage}");
        assert_eq!(browser.cookie, Some(cookie), "{stage}: it was known");
    }
    let mut left = Browser { cookie: Some(first.clone()) };
    assert!(left.look(&resume).await.is_none(), "the first identity has no session any more");
    assert_eq!(left.cookie, Some(first), "but is ours still");
}

/// The inner layer believes the outer's cookie because the outer has; alone it does not.
#[tokio::test]
async fn a_layers_own_key_counts_where_it_is_alone() {
    let outer = SessionResume::new().with_memory_state(|_| 1_u8);
    let inner = SessionResume::new().with_memory_state(|_| "inner");
    let nested = outer.layer(inner.layer(service_fn(|request: Request<()>| async move {
        let parts = request.into_parts().0;
        Ok::<_, Infallible>(Response::new(adapter::open::<&str>(&parts).await.unwrap().id()))
    })));
    let response = nested.clone().oneshot(Request::new(())).await.unwrap();
    let (cookie, id) = (pair_of(&response.headers()[header::SET_COOKIE]), response.into_body());
    let again = Request::builder().header(header::COOKIE, &cookie).body(()).unwrap();
    assert_eq!(nested.oneshot(again).await.unwrap().into_body(), id);
    let mut alone = Browser { cookie: Some(cookie.clone()) };
    assert!(alone.look(&inner).await.is_none());
    assert_ne!(alone.cookie, Some(cookie));
}

#[tokio::test]
async fn the_same_layer_twice_is_one() {
    let resume = SessionResume::new();
    let service = resume.layer(resume.layer(service_fn(|request: Request<()>| async move {
        let parts = request.into_parts().0;
        Ok::<_, Infallible>(Response::new(adapter::open::<()>(&parts).await.unwrap().id()))
    })));
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.headers().get_all(header::SET_COOKIE).iter().count(), 1);
    assert_eq!(resume.sessions()[0].id, response.into_body());
}

#[tokio::test]
async fn nested_layers_share_the_identity_and_keep_their_own_sessions() {
    let outer = SessionResume::new().with_memory_state(|_| 1_u8);
    let inner = SessionResume::new().with_memory_state(|_| "inner");
    let service = outer.layer(inner.layer(service_fn(|request: Request<()>| async move {
        let parts = request.into_parts().0;
        let one = adapter::open::<u8>(&parts).await.unwrap();
        let two = adapter::open::<&str>(&parts).await.unwrap();
        assert_eq!(one.identity(), two.identity());
        assert_ne!(one.id(), two.id());
        assert_eq!((one.read(|n| *n), two.read(|n| *n)), (1, "inner"));
        Ok::<_, Infallible>(Response::new(()))
    })));
    let response = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(response.headers().get_all(header::SET_COOKIE).iter().count(), 1);
    assert_eq!((outer.sessions().len(), inner.sessions().len()), (1, 1));
}

#[tokio::test]
async fn a_missing_layer_and_another_state_are_500s_that_name_the_fix() {
    let (parts, ()) = Request::new(()).into_parts();
    let refusals: [Refusal; 2] = [
        adapter::open::<()>(&parts).await.unwrap_err(),
        adapter::open::<u16>(
            &Browser::default().enter(&SessionResume::new(), Request::get("/")).await,
        )
        .await
        .unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.status(), 500);
        assert!(refusal.to_string().contains(".layer(SessionResume::new()"), "{refusal}");
    }
}

#[tokio::test]
async fn a_cookie_of_ones_own_is_used() {
    let cookie = IdentityCookie::new("__Host-who").with_secure(true).with_key([7; 64]);
    let resume = SessionResume::new().with_identity(cookie.clone());
    let (identity, set) = visit(&resume, &[]).await;
    assert!(set[2].to_str().unwrap().starts_with("__Host-who="), "{set:?}");
    let restarted = SessionResume::new().with_identity(cookie);
    assert_eq!(visit(&restarted, &[&pair_of(&set[2])]).await.0, identity, "the key is the same");
}

/// Browsers know no ports: both applications' cookies come to both.
#[tokio::test]
async fn two_applications_on_one_host_leave_each_other_alone() {
    let (dashboard, agent) = (SessionResume::new(), SessionResume::new());
    let (one, set) = visit_at(&dashboard, "http://localhost:5007/", &[]).await;
    let of_dashboard = pair_of(&set[2]);
    assert!(of_dashboard.starts_with("sr_id-5007="), "{of_dashboard}");
    let (two, set) = visit_at(&agent, "http://localhost:5008/", &[&of_dashboard]).await;
    let both = format!("{of_dashboard}; {}", pair_of(&set[2]));
    assert_eq!(
        visit_at(&dashboard, "http://localhost:5007/", &[&both]).await,
        (one, set[..2].to_vec())
    );
    assert_eq!(
        visit_at(&agent, "http://localhost:5008/", &[&both]).await,
        (two, set[..2].to_vec())
    );
}

/// A proxy may name the upstream's port: nodes, or the old server and the new one, differ in it.
#[tokio::test]
async fn a_cookie_is_read_at_every_port_of_one_application() {
    let resume = SessionResume::new();
    let (identity, set) = visit_at(&resume, "http://10.0.0.7:3001/", &[]).await;
    for uri in ["http://10.0.0.7:3002/", "http://app.example/", "/"] {
        let (same, set) = visit_at(&resume, uri, &[&pair_of(&set[2])]).await;
        assert_eq!((same, set.len()), (identity, 2), "{uri}");
    }
}

/// The new cookie takes the place of the old one, whatever the port of the request: else the old one would win.
#[tokio::test]
async fn a_changed_identity_goes_under_the_name_of_the_old_one() {
    for (first, login) in [
        ("http://a:3001/", "http://a:3001/"),
        ("http://a:3001/", "http://a:3002/"),
        ("/", "http://a:3001/"),
        ("http://a:3001/", "/"),
    ] {
        let resume = SessionResume::new();
        let (old, set) = visit_at(&resume, first, &[]).await;
        let old_cookie = pair_of(&set[2]);
        let service = resume.layer(service_fn(|request: Request<()>| async move {
            let session = adapter::open::<()>(&request.into_parts().0).await.unwrap();
            let change = session.cycle_identity();
            let mut response = Response::new(session.identity());
            response.headers_mut().append(header::SET_COOKIE, change.set_cookie().unwrap().clone());
            Ok::<_, Infallible>(response)
        }));
        let request = Request::get(login).header(header::COOKIE, &old_cookie).body(()).unwrap();
        let response = service.oneshot(request).await.unwrap();
        let new_cookie = pair_of(&response.headers()[header::SET_COOKIE]);
        let name = |pair: &str| pair.split('=').next().unwrap().to_owned();
        assert_eq!(name(&new_cookie), name(&old_cookie), "{first} {login}");
        let new = response.into_body();
        assert_ne!(new, old);
        assert_eq!(visit_at(&resume, login, &[&new_cookie]).await.0, new);
    }
}

/// A browser that logs in with its very first request gets one cookie, the last one.
#[tokio::test]
async fn the_handlers_cookie_is_the_only_one() {
    let resume = SessionResume::new();
    let service = resume.layer(service_fn(|request: Request<()>| async move {
        let session = adapter::open::<()>(&request.into_parts().0).await.unwrap();
        let change = session.cycle_identity();
        let mut response = Response::new(session.identity());
        response.headers_mut().append(header::SET_COOKIE, change.set_cookie().unwrap().clone());
        Ok::<_, Infallible>(response)
    }));
    let request = Request::get("http://a:3001/").body(()).unwrap();
    let response = service.oneshot(request).await.unwrap();
    let set = response.headers().get_all(header::SET_COOKIE).iter().collect::<Vec<_>>();
    assert_eq!(set.len(), 1, "{set:?}");
    let pair = pair_of(set[0]);
    assert_eq!(visit_at(&resume, "/", &[&pair]).await.0, response.into_body());
}

/// Bytes beyond ASCII are not taken for the absence of an offer.
#[tokio::test]
async fn an_offer_that_is_not_ascii_is_refused() {
    let resume = SessionResume::new();
    let at = "at.aaaaaaaaaaaaaaaa";
    for lines in [
        vec![format!("session-resume.v1, {at}ä").into_bytes()],
        vec![format!("session-resume.v1, {at}, x\u{e4}").into_bytes()],
        vec![format!("session-resume.v1, {at}").into_bytes(), b"\xff".to_vec()],
        vec![b"chat\xe4".to_vec()],
    ] {
        let mut request = Request::get("/live");
        for line in &lines {
            let value = HeaderValue::from_bytes(line).unwrap();
            request = request.header(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        let parts = Browser::default().enter(&resume, request).await;
        let refusal = adapter::Upgrade::<()>::prepare(&parts).await.unwrap_err();
        assert_eq!(refusal.status(), 400, "{lines:?}");
    }
}

#[test]
fn two_layers_on_one_store_need_names() {
    let store = MemoryStore::new();
    let layer = || SessionResume::new().with_state::<u8>().with_store(store.clone());
    let first = layer().layer(());
    let second = std::panic::catch_unwind(AssertUnwindSafe(|| layer().layer(())));
    let panic = second.expect_err("refused");
    let text = panic.downcast_ref::<String>().unwrap();
    assert!(text.contains("with_name(") && text.contains("\"default\""), "{text}");
    let named = layer().with_name("b").layer(());
    drop(first);
    let again = layer().layer(());
    drop((named, again));
    drop(layer().with_name("b").layer(()));
}

/// Of layers that came of one another by setters, one has the name in the store.
#[tokio::test]
async fn layers_that_came_of_one_another_do_not_share_a_store() {
    let first = SessionResume::new().with_state::<u8>().with_store(MemoryStore::new());
    let second = first.clone().with_check_interval(Duration::from_secs(1));
    Browser::default().get(&first).await.unwrap();
    let error = second.validate().unwrap_err();
    assert!(error.to_string().contains("with_name("), "{error}");
    drop(first);
    Browser::default().get(&second).await.unwrap();
}
