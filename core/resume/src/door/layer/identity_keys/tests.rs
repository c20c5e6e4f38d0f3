use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::{
    Identity, IdentityCookie, IdentityKeyRole, IdentityKeysErrorKind, KeyRotation, SessionResume,
    adapter,
    store::{MemoryStore, SnapshotStore as _, Stamp, StoreKey},
    words::wall,
};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Two processes on one store.
fn nodes() -> (MemoryStore, [SessionResume; 2]) {
    let store = MemoryStore::new();
    let nodes = [node(store.clone()), node(store.for_another_process())];
    (store, nodes)
}

fn node(store: MemoryStore) -> SessionResume {
    SessionResume::new().with_store(store)
}

/// What a browser is told.
#[derive(Debug)]
struct Told {
    status: StatusCode,
    retry_after: Option<String>,
    /// Whom the handler was told.
    identity: Option<Identity>,
    /// The cookie that the answer sets.
    cookie: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    /// The handler asks for its session.
    Session,
    /// A page, whose handler asks for nothing.
    Page,
}

async fn ask(node: &SessionResume, route: Route, cookie: Option<&str>) -> Told {
    let service = node.layer(service_fn(move |request: Request<()>| async move {
        let parts = request.into_parts().0;
        let mut response = Response::new(None);
        if route == Route::Page {
            let html = header::HeaderValue::from_static("text/html");
            response.headers_mut().insert(header::CONTENT_TYPE, html);
            return Ok::<_, Infallible>(response);
        }
        let opened = adapter::open::<()>(&parts).await;
        match opened.and_then(|_| adapter::identity(&parts)) {
            Ok(identity) => *response.body_mut() = Some(identity),
            Err(refusal) => response = refusal.into_response().map(|_| None),
        }
        Ok(response)
    }));
    let mut request = Request::get("/").header("sec-fetch-mode", "navigate");
    if let Some(cookie) = cookie {
        request = request.header(header::COOKIE, cookie);
    }
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let text = |name| response.headers().get(name).map(|it| it.to_str().unwrap().to_owned());
    let pair = |cookie: String| cookie.split(';').next().unwrap().to_owned();
    Told {
        status: response.status(),
        retry_after: text(header::RETRY_AFTER),
        cookie: text(header::SET_COOKIE).map(pair),
        identity: *response.body(),
    }
}

/// A browser that comes for the first time, and whose session is in memory, its cookie proved.
async fn newcomer(node: &SessionResume) -> (Identity, String) {
    let told = ask(node, Route::Session, None).await;
    let (identity, cookie) = (told.identity.unwrap(), told.cookie.unwrap());
    for _ in 0..2 {
        comes_as(node, &cookie, identity, false).await;
    }
    (identity, cookie)
}

/// The browser is known, and its cookie is replaced or not; returns the cookie that it has then.
async fn comes_as(
    node: &SessionResume,
    cookie: &str,
    identity: Identity,
    replaces: bool,
) -> String {
    let told = ask(node, Route::Session, Some(cookie)).await;
    assert_eq!((told.status, told.identity), (StatusCode::OK, Some(identity)));
    assert_eq!(told.cookie.is_some(), replaces, "{told:?}");
    told.cookie.unwrap_or_else(|| cookie.to_owned())
}

async fn is_a_stranger(node: &SessionResume, cookie: &str, identity: Identity) -> String {
    let told = ask(node, Route::Session, Some(cookie)).await;
    assert!(told.identity.is_some_and(|it| it != identity), "{told:?}");
    told.cookie.unwrap()
}

fn roles(node: &SessionResume) -> Vec<&'static str> {
    let word = |role| match role {
        IdentityKeyRole::Waiting => "waiting",
        IdentityKeyRole::Signing => "signing",
        IdentityKeyRole::Old { .. } => "old",
    };
    node.identity_keys().iter().map(|key| word(key.role)).collect()
}

/// Lets time pass on the wall and for the tasks.
async fn pass(time: Duration) {
    wall::shift::set(wall::shift::get() + time);
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_browser_is_known_through_rotations_and_its_cookie_is_replaced() {
    let (_, [one, other]) = nodes();
    let (identity, mut cookie) = newcomer(&one).await;
    comes_as(&other, &cookie, identity, false).await;
    assert_eq!(roles(&one), ["signing"]);
    for _ in 0..3 {
        assert!(matches!(one.rotate_identity_keys().await, Ok(KeyRotation::Made { .. })));
        pass(9 * MINUTE).await;
        assert_eq!(one.identity_keys(), other.identity_keys(), "it has read them by itself");
        assert!(roles(&other).ends_with(&["signing", "waiting"]));
        for node in [&one, &other] {
            comes_as(node, &cookie, identity, false).await;
        }
        pass(2 * MINUTE).await;
        assert!(roles(&other).ends_with(&["old", "signing"]));
        let mut replaced = Vec::new();
        for node in [&one, &other] {
            replaced.push(comes_as(node, &cookie, identity, true).await);
        }
        for new in &replaced {
            for node in [&one, &other] {
                comes_as(node, new, identity, false).await;
            }
        }
        cookie = replaced.pop().unwrap();
    }
    // A browser that comes back after months has the first key's cookie; its cookie is good for a year.
    assert_eq!(roles(&one), ["old", "old", "old", "signing"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_begins_with_the_keys_of_its_store() {
    let (store, [one, _]) = nodes();
    one.rotate_identity_keys().await.unwrap();
    pass(11 * MINUTE).await;
    let (identity, cookie) = newcomer(&one).await;
    // The first request that comes.
    let third = node(store.for_another_process());
    assert_eq!(third.identity_keys().len(), 2);
    comes_as(&third, &cookie, identity, false).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_key_is_believed_while_its_cookies_may_live() {
    let store = MemoryStore::new();
    let cookie = || IdentityCookie::default().with_max_age(7 * DAY);
    let node = node(store).with_identity(cookie());
    let (identity, first) = newcomer(&node).await;
    node.rotate_identity_keys().await.unwrap();
    wall::shift::set(8 * DAY);
    node.load_identity_keys().await.unwrap();
    // Its session is in memory, and has proved it while the key signed.
    comes_as(&node, &first, identity, true).await;
    wall::shift::set(8 * DAY + 11 * MINUTE);
    node.load_identity_keys().await.unwrap();
    assert_eq!(roles(&node), ["signing"]);
    is_a_stranger(&node, &first, identity).await;
    // From the store it is dropped by the next rotation.
    node.rotate_identity_keys().await.unwrap();
    assert_eq!(roles(&node), ["signing", "waiting"]);
    assert!(node.identity_keys()[0].made.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_meets_a_key_which_waits_makes_no_other_one() {
    let (_, [one, other]) = nodes();
    let KeyRotation::Made { signs_from } = one.rotate_identity_keys().await.unwrap() else {
        panic!("there is none yet");
    };
    let met = other.rotate_identity_keys().await.unwrap();
    assert_eq!(met, KeyRotation::Waiting { signs_from });
    assert_eq!(one.identity_keys().len(), 2);
    assert_eq!(other.identity_keys(), one.identity_keys(), "it has read them");
}

#[tokio::test(start_paused = true)]
async fn keys_of_all_layers_on_a_store_are_the_same() {
    let store = MemoryStore::new();
    let [one, other] = ["one", "other"].map(|name| node(store.clone()).with_name(name));
    one.rotate_identity_keys().await.unwrap();
    let (identity, cookie) = newcomer(&one).await;
    comes_as(&other, &cookie, identity, false).await;
    pass(11 * MINUTE).await;
    let replaced = comes_as(&other, &cookie, identity, true).await;
    comes_as(&one, &replaced, identity, false).await;
}

#[tokio::test(start_paused = true)]
async fn a_revoked_key_proves_nothing_not_even_to_sessions_in_memory() {
    let (_, [one, other]) = nodes();
    let (identity, cookie) = newcomer(&one).await;
    comes_as(&other, &cookie, identity, false).await;
    one.rotate_identity_keys().await.unwrap();
    one.revoke_identity_keys().await.unwrap();
    assert_eq!(roles(&one), ["signing"]);
    let next = is_a_stranger(&one, &cookie, identity).await;
    // The other process follows when it meets a cookie under the new key.
    comes_as(&other, &cookie, identity, false).await;
    ask(&other, Route::Page, Some(&next)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    is_a_stranger(&other, &cookie, identity).await;
    let known = ask(&one, Route::Session, Some(&next)).await.identity.unwrap();
    comes_as(&other, &next, known, false).await;
}

/// A stranger that sends cookies of nobody brings about one look into the store a second.
#[tokio::test(start_paused = true)]
async fn strangers_do_not_keep_the_store_busy() {
    let (store, [one, other]) = nodes();
    let (_, foreign) = newcomer(&node(MemoryStore::new())).await;
    newcomer(&one).await;
    other.rotate_identity_keys().await.unwrap();
    let read = |node: &SessionResume| node.registry().key_reading().unwrap().0.instant;
    let mut readings = vec![read(&one)];
    for _ in 0..100 {
        ask(&one, Route::Page, Some(&foreign)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        readings.push(read(&one));
    }
    readings.dedup();
    assert!((4..=7).contains(&readings.len()), "{} in 5 s", readings.len());
    assert_eq!(one.identity_keys(), node(store.for_another_process()).identity_keys());
}

/// Makes the record of the keys unreadable.
async fn damage(store: &MemoryStore) -> (Option<Stamp>, Bytes) {
    let key = StoreKey::identity_keys();
    let found = store.load(&key).await.unwrap();
    let bytes = found.as_ref().map_or_else(Bytes::new, |found| found.bytes.clone());
    let found = found.map(|found| found.stamp);
    let stamp = found.map_or(Stamp::first(1, 1), |found| found.taken_by(1));
    store.claim(&key, found, stamp, Bytes::from_static(b"\x01damaged"), DAY).await.unwrap();
    (Some(stamp), bytes)
}

async fn gets_nothing(node: &SessionResume, cookie: Option<&str>) {
    let told = ask(node, Route::Session, cookie).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((told.retry_after.as_deref(), &told.cookie), (Some("1"), &None));
    let told = ask(node, Route::Page, cookie).await;
    assert_eq!((told.status, told.cookie), (StatusCode::OK, None), "its cookie is not replaced");
}

#[tokio::test(start_paused = true)]
async fn while_the_keys_were_never_read_nobody_gets_an_identity() {
    let (store, [one, _]) = nodes();
    one.rotate_identity_keys().await.unwrap();
    pass(11 * MINUTE).await;
    let (identity, cookie) = newcomer(&one).await;
    let (found, bytes) = damage(&store).await;
    let third = node(store.for_another_process());
    for cookie in [None, Some(&*cookie)] {
        gets_nothing(&third, cookie).await;
    }
    assert_eq!(third.identity_keys(), []);
    let error = third.rotate_identity_keys().await.unwrap_err();
    assert_eq!(error.kind(), IdentityKeysErrorKind::Store);
    // It goes on with what it has read before.
    comes_as(&one, &cookie, identity, false).await;
    let stamp = found.unwrap();
    store.claim(&StoreKey::identity_keys(), found, stamp.taken_by(2), bytes, DAY).await.unwrap();
    pass(MINUTE).await;
    comes_as(&third, &cookie, identity, false).await;
    // What cannot be read can be revoked.
    damage(&store).await;
    let fourth = node(store.for_another_process());
    fourth.revoke_identity_keys().await.unwrap();
    let (next, held) = newcomer(&fourth).await;
    // Processes that know the keys of before do not put them back.
    pass(MINUTE).await;
    for node in [&one, &third] {
        is_a_stranger(node, &cookie, identity).await;
        comes_as(node, &held, next, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_not_read_the_keys_for_long_replaces_no_cookie_that_it_does_not_know() {
    let (store, [one, other]) = nodes();
    let (known, held) = newcomer(&other).await;
    one.rotate_identity_keys().await.unwrap();
    let (found, bytes) = damage(&store).await;
    // It has the time until the key signs elsewhere.
    let (_, foreign) = newcomer(&node(MemoryStore::new())).await;
    pass(7 * MINUTE).await;
    is_a_stranger(&other, &foreign, known).await;
    pass(4 * MINUTE).await;
    let (identity, cookie) = newcomer(&one).await;
    assert!(ask(&one, Route::Session, Some(&held)).await.cookie.is_some(), "the new key signs");
    gets_nothing(&other, Some(&cookie)).await;
    gets_nothing(&other, Some(&foreign)).await;
    // Those that it knows, and those that have no cookie, are served.
    comes_as(&other, &held, known, false).await;
    newcomer(&other).await;
    let stamp = found.unwrap();
    store.claim(&StoreKey::identity_keys(), found, stamp.taken_by(2), bytes, DAY).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    comes_as(&other, &cookie, identity, false).await;
    is_a_stranger(&other, &foreign, known).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_store_has_lost_is_put_back_and_what_grows_old_is_renewed() {
    let (store, [one, _]) = nodes();
    one.rotate_identity_keys().await.unwrap();
    let keys = one.identity_keys();
    let key = StoreKey::identity_keys();
    let stored = async || store.load(&key).await.unwrap();
    store.remove(&key, stored().await.unwrap().stamp).await.unwrap();
    assert_eq!(one.load_identity_keys().await.unwrap(), keys);
    let fresh = || node(store.for_another_process()).identity_keys();
    assert_eq!(fresh(), keys);
    let whole = stored().await.unwrap();
    one.load_identity_keys().await.unwrap();
    assert_eq!(stored().await.unwrap().stamp, whole.stamp, "it is not written without need");
    store.advance(6 * 365 * DAY);
    one.load_identity_keys().await.unwrap();
    let renewed = stored().await.unwrap();
    assert!(renewed.expires_in > 9 * 365 * DAY, "{renewed:?}");
    assert_eq!((renewed.bytes, fresh()), (whole.bytes, keys));
}

#[tokio::test]
async fn keys_that_no_store_keeps_are_not_rotated() {
    let keyed = IdentityCookie::default().with_key([7; 64]);
    let layers = [SessionResume::new(), node(MemoryStore::new()).with_identity(keyed)];
    for layer in layers {
        let errors = [
            layer.rotate_identity_keys().await.unwrap_err(),
            layer.revoke_identity_keys().await.unwrap_err(),
            layer.load_identity_keys().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), IdentityKeysErrorKind::NotStored);
            assert!(error.to_string().contains("with_old_keys"), "{error}");
        }
        assert_eq!(layer.identity_keys(), []);
    }
}

/// Nobody asks for a session: the keys are read all the same.
#[tokio::test(start_paused = true)]
async fn pages_alone_keep_the_keys_up_to_date() {
    let (_, [one, other]) = nodes();
    assert!(ask(&other, Route::Page, None).await.cookie.is_some());
    one.rotate_identity_keys().await.unwrap();
    pass(2 * MINUTE).await;
    assert_eq!(other.identity_keys(), one.identity_keys());
}
