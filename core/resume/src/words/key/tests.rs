use std::borrow::Cow;

use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;
use uuid::Uuid;

use super::{
    IntoSessionKey, KeyFn, KeyName, SessionKey, by_header, by_identity, by_path, from_fn,
    name::MAX_TEXT, per_client,
};
use crate::words::{identity::Identity, request::RequestView};

const CLIENT: &str = "session-resume.v1, at.0123456789abcdef";

fn identity(seed: u8) -> Identity {
    Identity::mint([seed; 16])
}

fn key_of<B>(function: &KeyFn, req: &Request<B>, seed: u8) -> SessionKey {
    function.key(RequestView::of(req), identity(seed))
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut req = Request::get(path);
    for (name, value) in headers {
        req = req.header(*name, *value);
    }
    req.body(()).unwrap()
}

fn own(seed: u8) -> SessionKey {
    SessionKey::scoped(KeyName::own(), identity(seed))
}

fn scoped(name: impl IntoSessionKey, seed: u8) -> SessionKey {
    SessionKey::scoped(name.into_key_name(), identity(seed))
}

fn shared(name: impl IntoSessionKey) -> SessionKey {
    SessionKey::shared(name.into_key_name(), identity(99))
}

#[test]
fn ready_made_functions_name_what_they_say() {
    let plain = request("/live?tab=1", &[]);
    let user = request("/live", &[("x-user", "ann")]);
    let nobody = request("/live", &[("x-user", "")]);
    let twice = request("/live", &[("x-user", "ann"), ("x-user", "bob")]);
    let tab = request("/live", &[("sec-websocket-protocol", CLIENT)]);
    let encoded = request("/l%69ve/", &[]);
    let by_user = by_header("X-User");

    let rows = [
        (KeyFn::default(), &plain, own(1)),
        (by_identity(), &user, own(1)),
        (by_identity().shared(), &user, own(1)),
        (by_path(), &plain, scoped("/live", 1)),
        (by_path(), &encoded, scoped("/l%69ve/", 1)),
        (by_path().shared(), &plain, shared("/live")),
        (by_user.clone(), &user, scoped("ann", 1)),
        (by_user.clone(), &plain, own(1)),
        (by_user.clone(), &nobody, own(1)),
        (by_user.clone(), &twice, own(1)),
        (by_user.clone().shared(), &user, shared("ann")),
        (by_user.clone().shared(), &plain, own(1)),
        (by_user.clone().shared(), &nobody, own(1)),
        (by_user.shared(), &twice, own(1)),
        (per_client(), &plain, own(1)),
        (per_client(), &tab, scoped("0123456789abcdef", 1)),
        (per_client().shared(), &plain, own(1)),
    ];
    for (function, req, expected) in rows {
        let key = key_of(&function, req, 1);
        assert!(key == expected, "{function:?} {req:?}");
        // Another identity meets it exactly if the key is shared.
        assert_eq!(key == key_of(&function, req, 2), key.is_shared(), "{function:?} {req:?}");
    }
}

#[test]
fn closures_need_no_annotations() {
    let req = request("/rooms/7", &[("x-user", "ann")]);
    let check = |function: KeyFn, expected: SessionKey| {
        assert!(key_of(&function, &req, 1) == expected);
    };
    check(from_fn(|req, _| req.header("x-user").map(str::to_owned)), scoped("ann", 1));
    check(from_fn(|req, _| req.header("x-team").map(str::to_owned)), own(1));
    check(from_fn(|req, _| req.path().to_owned()), scoped("/rooms/7", 1));
    check(from_fn(|_, _| "lobby").shared(), shared("lobby"));
    check(from_fn(|_, _| "").shared(), own(1));
    check(from_fn(|_, _| None::<u8>).shared(), own(1));
    check(from_fn(|_, _| Some(None::<u8>)).shared(), own(1));
    check(from_fn(|_, _| Cow::Borrowed("lobby")), scoped("lobby", 1));
    check(from_fn(|_, identity| *identity.as_uuid()), scoped(identity(1).to_string(), 1));
    check(
        from_fn(|req, _| {
            let room: u32 = req.path().strip_prefix("/rooms/")?.parse().ok()?;
            Some(room)
        })
        .shared(),
        shared(7_i64),
    );
    check(
        from_fn(|req, _| {
            if req.path() == "/" {
                return None;
            }
            Some(format!("{}!", req.path()))
        }),
        scoped("/rooms/7!", 1),
    );
    let prefix = String::from("team-");
    check(from_fn(move |_, _| format!("{prefix}a")), scoped("team-a", 1));
}

#[test]
fn equal_numbers_of_all_types_are_one_key_and_no_text_is_among_them() {
    let seven = scoped(7_u8, 1);
    for other in [
        scoped(7_i8, 1),
        scoped(7_i16, 1),
        scoped(7_u16, 1),
        scoped(7_i32, 1),
        scoped(7_u32, 1),
        scoped(7_i64, 1),
        scoped(7_u64, 1),
        scoped(7_isize, 1),
        scoped(7_usize, 1),
    ] {
        assert!(other == seven);
    }
    assert!(scoped("7", 1) != seven);
    assert!(scoped(-1_i64, 1) != scoped(u64::MAX, 1));
}

#[test]
fn long_text_takes_no_more_room_than_its_hash() {
    let fits = "a".repeat(MAX_TEXT);
    let long = "a".repeat(MAX_TEXT + 1);
    let longer = "a".repeat(50_000);
    assert_eq!(shared(fits.clone()).to_bytes().len(), 3 + MAX_TEXT);
    assert_eq!(shared(long.clone()).to_bytes().len(), 3 + 32);
    assert!(shared(long.clone()) == shared(long.clone()));
    assert!(shared(long.clone()) != shared(longer.clone()));
    assert!(shared(long.clone()) != shared(fits));
    assert!(scoped(long.clone(), 1) != scoped(long.clone(), 2));

    let by_user = by_header("x-user").shared();
    let by_long = key_of(&by_user, &request("/", &[("x-user", &long)]), 1);
    assert!(by_long == shared(long));
    let by_long_path = key_of(&by_path().shared(), &request(&format!("/{longer}"), &[]), 1);
    assert_eq!(by_long_path.to_bytes().len(), 3 + 32);
}

#[test]
fn header_values_outside_ascii_are_text_if_they_are_utf8() {
    let by_user = by_header(HeaderName::from_static("x-user"));
    for (bytes, expected) in [("jörg".as_bytes(), scoped("jörg", 1)), (b"j\xf6rg", own(1))] {
        let mut req = request("/", &[]);
        let value = HeaderValue::from_bytes(bytes).unwrap();
        req.headers_mut().insert("x-user", value);
        assert!(key_of(&by_user, &req, 1) == expected, "{bytes:?}");
    }
}

#[test]
#[should_panic(expected = "key::by_header: invalid HTTP header name")]
fn a_header_name_with_a_space_is_found_at_once() {
    let _ = by_header("x user");
}

#[test]
fn keys_in_logs_are_short_hashes() {
    let key = shared("ann@app.example");
    assert_eq!(key.to_string(), "2b1375027345");
    assert_eq!(format!("{key:?}"), "SessionKey(2b1375027345)");
    assert_ne!(own(1).to_string(), own(2).to_string());
    assert_eq!(format!("{:?}", "ann".into_key_name()), "KeyName { .. }");
}

#[test]
fn functions_say_what_they_are() {
    let debug = format!("{:?}", by_header("X-User").shared());
    assert_eq!(debug, "KeyFn { source: by_header(x-user), shared: true }");
}

#[test]
fn key_bytes_stay_as_they_are_written_in_stores() {
    let id = "01010101010141018101010101010101";
    let rows = [
        (own(1), format!("0100{id}")),
        (scoped("/a", 1), format!("0101{id}002f61")),
        (scoped(5_u8, 1), format!("0101{id}02{:032x}", 5)),
        (shared("5"), "01020035".to_owned()),
        (shared(5_u8), format!("010202{:032x}", 5)),
        (shared(-1_i8), format!("010202{}", "ff".repeat(16))),
        (
            shared("a".repeat(513)),
            "01020102425c0f5b0dabf3d2b9115f3f7723a02ad8bcfb1534a0d231614fd42b8188f6".to_owned(),
        ),
    ];
    for (key, expected) in rows {
        let bytes = key.to_bytes();
        assert_eq!(hex(&bytes), expected);
        assert!(SessionKey::from_bytes(&bytes) == Some(key));
    }
}

#[test]
fn bytes_that_were_never_written_are_no_key() {
    let id = identity(1);
    let id = id.as_uuid().as_bytes().as_slice();
    let long = [b'a'; MAX_TEXT + 1];
    let rows: &[(&str, &[&[u8]])] = &[
        ("empty", &[]),
        ("version alone", &[&[1]]),
        ("version 0", &[&[0, 0], id]),
        ("version 2", &[&[2, 0], id]),
        ("scope 3", &[&[1, 3], id]),
        ("identity cut", &[&[1, 0], &id[..15]]),
        ("bytes behind", &[&[1, 0], id, &[0]]),
        ("not v4", &[&[1, 0], &[0; 16]]),
        ("scoped without name", &[&[1, 1], id]),
        ("shared without name", &[&[1, 2]]),
        ("empty text", &[&[1, 2, 0]]),
        ("text too long", &[&[1, 2, 0], &long]),
        ("text not UTF-8", &[&[1, 2, 0, 0xff]]),
        ("hash too short", &[&[1, 2, 1], &[0; 31]]),
        ("number too long", &[&[1, 2, 2], &[0; 17]]),
        ("name type 3", &[&[1, 2, 3, 0]]),
    ];
    for (what, parts) in rows {
        assert!(SessionKey::from_bytes(&parts.concat()).is_none(), "{what}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn any_name() -> impl Strategy<Value = KeyName> {
    prop_oneof![
        Just(KeyName::own()),
        any::<String>().prop_map(IntoSessionKey::into_key_name),
        // Texts and numbers that look alike, and scopes that do.
        (0_u8..3).prop_map(|text| text.to_string().into_key_name()),
        (0_u8..3).prop_map(IntoSessionKey::into_key_name),
        any::<i64>().prop_map(IntoSessionKey::into_key_name),
        any::<u64>().prop_map(IntoSessionKey::into_key_name),
        any::<[u8; 16]>().prop_map(|bytes| Uuid::from_bytes(bytes).into_key_name()),
        (500_usize..530).prop_map(|len| "x".repeat(len).into_key_name()),
    ]
}

fn any_key() -> impl Strategy<Value = SessionKey> {
    (any_name(), 0_u8..3, any::<bool>()).prop_map(|(name, seed, is_shared)| {
        if is_shared {
            SessionKey::shared(name, identity(seed))
        } else {
            SessionKey::scoped(name, identity(seed))
        }
    })
}

proptest! {
    #[test]
    fn bytes_are_read_back(key in any_key()) {
        prop_assert!(SessionKey::from_bytes(&key.to_bytes()) == Some(key));
    }

    #[test]
    fn different_keys_have_different_bytes(one in any_key(), two in any_key()) {
        prop_assert_eq!(one == two, one.to_bytes() == two.to_bytes());
    }

    #[test]
    fn whatever_is_read_was_written_so(bytes: Vec<u8>, scope in 0_u8..4, kind in 0_u8..4) {
        let id = identity(1);
        let id = if scope == 2 { &[] } else { id.as_uuid().as_bytes().as_slice() };
        let near = [&[1, scope], id, &[kind], &bytes].concat();
        for bytes in [bytes, near] {
            if let Some(key) = SessionKey::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }
}
