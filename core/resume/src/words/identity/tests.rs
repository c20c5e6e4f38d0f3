use std::time::Duration;

use http::{HeaderMap, HeaderValue, Request, header};
use proptest::prelude::*;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    CookieName, Hour, Identity, IdentityCookie, KeySet, Proven, SameSite, SetCookie, Token,
    TokenKey, Via,
    find::{CookieCheck, MAX_CHECKS},
};
use crate::words::{
    config_error::{ConfigError, ConfigErrorKind},
    request::RequestView,
};

#[derive(Deserialize)]
struct Vectors {
    key: String,
    valid: Vec<Valid>,
    invalid: Vec<Invalid>,
}

#[derive(Deserialize)]
struct Valid {
    identity: Identity,
    issued_hour: u32,
    token: String,
}

#[derive(Deserialize)]
struct Invalid {
    why: String,
    token: String,
}

impl Vectors {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/identity-token.json");
        let vectors = std::fs::read(path).expect("the vectors lie in tests/vectors");
        serde_json::from_slice(&vectors).expect("the vectors are JSON of this shape")
    }

    fn key(&self) -> TokenKey {
        let byte = |at: usize| u8::from_str_radix(&self.key[2 * at..2 * at + 2], 16).unwrap();
        TokenKey::new(&std::array::from_fn(byte))
    }
}

fn key() -> TokenKey {
    TokenKey::new(&[7; 64])
}

/// When the tokens of these tests are made, if it does not matter.
const THEN: Hour = Hour::from_number(490_000);

fn sign(key: &TokenKey, identity: Identity) -> String {
    sign_at(key, identity, THEN)
}

fn sign_at(key: &TokenKey, identity: Identity, issued: Hour) -> String {
    let mut token = String::new();
    key.sign(identity, issued, &mut token);
    token
}

fn verify(key: &TokenKey, token: impl AsRef<[u8]>) -> Option<Identity> {
    Token::read(token).filter(|token| key.fits(token)).map(|token| token.identity)
}

fn find(cookie: &IdentityCookie, headers: &HeaderMap, key: &TokenKey) -> Option<Identity> {
    find_at(cookie, None, headers, key).known.map(|known| known.identity)
}

/// Finds what a request to this authority says.
fn find_at(
    cookie: &IdentityCookie,
    host: Option<&str>,
    headers: &HeaderMap,
    key: &TokenKey,
) -> CookieCheck {
    let mut req = Request::new(());
    *req.headers_mut() = headers.clone();
    if let Some(host) = host {
        req.headers_mut().insert(header::HOST, HeaderValue::from_str(host).unwrap());
    }
    cookie.find(RequestView::of(&req), |token| KeySet::fixed(cookie, key.clone()).signature(token))
}

fn identity(seed: u8) -> Identity {
    Identity::mint([seed; 16])
}

fn headers<'a>(lines: impl IntoIterator<Item = &'a str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
    }
    headers
}

// Identity

#[test]
fn minted_identities_are_v4_and_keep_the_other_bits() {
    for (random, text) in [
        ([0; 16], "00000000-0000-4000-8000-000000000000"),
        ([0xff; 16], "ffffffff-ffff-4fff-bfff-ffffffffffff"),
        ([0x5a; 16], "5a5a5a5a-5a5a-4a5a-9a5a-5a5a5a5a5a5a"),
    ] {
        let identity = Identity::mint(random);
        assert_eq!(identity.to_string(), text);
        assert_eq!(format!("{identity:?}"), text);
        assert_eq!(identity.as_uuid().get_version_num(), 4);
        assert_eq!(Identity::from_uuid(*identity.as_uuid()), Some(identity));
    }
}

#[test]
fn serde_reads_back_what_it_wrote_and_nothing_but_v4() {
    let json = serde_json::to_string(&identity(3)).unwrap();
    assert_eq!(json, "\"03030303-0303-4303-8303-030303030303\"");
    assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity(3));

    let v1 = "\"03030303-0303-1303-8303-030303030303\"";
    let err = serde_json::from_str::<Identity>(v1).unwrap_err();
    assert!(err.to_string().contains("not a version 4 UUID"), "{err}");
}

// Token

#[test]
fn tokens_are_those_of_the_vector_file() {
    let vectors = Vectors::read();
    let key = vectors.key();
    assert!(vectors.valid.len() >= 3 && vectors.invalid.len() >= 10);
    for Valid { identity, issued_hour, token } in &vectors.valid {
        let issued = Hour::from_number(*issued_hour);
        assert_eq!(sign_at(&key, *identity, issued), *token);
        assert_eq!(Token::read(token).unwrap().issued, issued);
        assert_eq!(verify(&key, token), Some(*identity));
    }
    for Invalid { why, token } in &vectors.invalid {
        assert_eq!(verify(&key, token), None, "{why}");
    }
}

#[test]
fn every_bit_of_a_token_matters() {
    let key = key();
    let token = sign(&key, identity(1)).into_bytes();
    for bit in 0..token.len() * 8 {
        let mut forged = token.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify(&key, &forged), None, "bit {bit}");
    }
}

#[test]
fn keys_are_in_no_debug_output() {
    let secret = [0xa7; 64];
    let key = TokenKey::new(&secret);
    let cookie = IdentityCookie::new("desk").with_key(secret).with_old_keys([secret]);
    assert_eq!(format!("{key:?}"), "TokenKey { .. }");
    let debug = format!("{cookie:?}").to_lowercase();
    assert!(!debug.contains("a7") && !debug.contains("167"), "{debug}");
    assert!(debug.contains("desk"), "{debug}");
}

proptest! {
    #[test]
    fn signed_tokens_verify_under_their_key_alone(
        random: [u8; 16],
        mine in proptest::array::uniform32(any::<u8>()),
        bit in 0_usize..512,
    ) {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&mine);
        let key = TokenKey::new(&bytes);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let other = TokenKey::new(&bytes);

        let token = sign(&key, Identity::mint(random));
        prop_assert_eq!(verify(&key, &token), Some(Identity::mint(random)));
        prop_assert_eq!(verify(&other, &token), None);
        for end in 0..token.len() {
            prop_assert_eq!(verify(&key, &token[..end]), None);
        }
    }

    #[test]
    fn no_bytes_panic_or_verify(bytes: Vec<u8>, text in "[A-Za-z0-9_-]{48}") {
        prop_assert_eq!(verify(&key(), bytes), None);
        prop_assert_eq!(verify(&key(), text), None);
    }

    #[test]
    fn no_cookie_header_panics_or_is_believed(lines: Vec<Vec<u8>>) {
        let mut headers = HeaderMap::new();
        for line in lines {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                headers.append(header::COOKIE, value);
            }
            if let Ok(value) = HeaderValue::from_bytes(&[b"sr_id=".as_slice(), &line].concat()) {
                headers.append(header::COOKIE, value);
            }
        }
        prop_assert_eq!(find(&IdentityCookie::default(), &headers, &key()), None);
    }
}

// Cookie, read

#[test]
fn the_first_cookie_with_a_fitting_mac_wins() {
    let key = key();
    let one = sign(&key, identity(1));
    let two = sign(&key, identity(2));
    let foreign = sign(&TokenKey::new(&[8; 64]), identity(3));
    let cut = &one[..47];
    let uuid = identity(1).to_string();

    let rows: &[(&str, &[&str], Option<u8>)] = &[
        ("none", &[], None),
        ("empty", &[""], None),
        ("alone", &["sr_id={1}"], Some(1)),
        ("among others", &["a=b; sr_id={1}; c=d"], Some(1)),
        ("no spaces", &["a=b;sr_id={1};c=d"], Some(1)),
        ("tabs and spaces", &["a=b ;\t sr_id={1} \t; c=d"], Some(1)),
        ("second header", &["a=b", "sr_id={1}"], Some(1)),
        ("two differ", &["sr_id={2}; sr_id={1}"], Some(2)),
        ("two headers differ", &["sr_id={1}", "sr_id={2}"], Some(1)),
        ("foreign key", &["sr_id={foreign}"], None),
        ("foreign first", &["sr_id={foreign}; sr_id={1}"], Some(1)),
        ("forged header first", &["sr_id={foreign}", "sr_id={1}"], Some(1)),
        ("cut first", &["sr_id={cut}; sr_id={2}"], Some(2)),
        ("cut", &["sr_id={cut}"], None),
        ("long", &["sr_id={1}A"], None),
        ("bare identity", &["sr_id={uuid}"], None),
        ("empty value", &["sr_id="], None),
        ("no value", &["sr_id"], None),
        ("name alone, then value", &["sr_id; sr_id={1}"], Some(1)),
        ("another separator", &["sr_id:{1}"], None),
        ("another case", &["SR_ID={1}"], None),
        ("longer name", &["my_sr_id={1}; sr_id2={1}"], None),
        ("value of another", &["x=sr_id={1}"], None),
        ("quoted", &["sr_id=\"{1}\""], None),
        ("percent-encoded name", &["sr%5Fid={1}"], None),
        ("comma", &["a=b, sr_id={1}"], None),
    ];
    for (what, lines, expected) in rows {
        let lines: Vec<String> = lines
            .iter()
            .map(|line| {
                line.replace("{1}", &one)
                    .replace("{2}", &two)
                    .replace("{foreign}", &foreign)
                    .replace("{cut}", cut)
                    .replace("{uuid}", &uuid)
            })
            .collect();
        let found = find(&IdentityCookie::default(), &headers(lines.iter().map(|l| &**l)), &key);
        assert_eq!(found, expected.map(identity), "{what}");
    }
}

#[test]
fn neighbours_that_are_not_text_do_no_harm() {
    let key = key();
    let line = [b"\xff\xfe=\x80; sr_id=".as_slice(), sign(&key, identity(1)).as_bytes()].concat();
    let mut headers = HeaderMap::new();
    headers.append(header::COOKIE, HeaderValue::from_bytes(&line).unwrap());
    assert_eq!(find(&IdentityCookie::default(), &headers, &key), Some(identity(1)));
}

#[test]
fn only_so_many_forgeries_are_checked() {
    let key = key();
    let forged = format!("sr_id={};", sign(&TokenKey::new(&[8; 64]), identity(1)));
    let mine = format!("sr_id={}", sign(&key, identity(1)));
    let after = |count: usize, junk: &str| {
        let line = junk.repeat(count) + &mine;
        find(&IdentityCookie::default(), &headers([&*line]), &key)
    };
    assert_eq!(after(MAX_CHECKS - 1, &forged), Some(identity(1)));
    assert_eq!(after(MAX_CHECKS, &forged), None);
    // What cannot be a token costs no check.
    assert_eq!(after(MAX_CHECKS, "sr_id=junk;"), Some(identity(1)));
}

// What is remembered of a token

#[test]
fn a_proof_is_worth_something_for_its_own_mac_alone() {
    let key = key();
    let token = Token::read(sign(&key, identity(1))).unwrap();
    let proven = Proven::default();
    proven.start(Some(identity(1)));
    assert!(proven.is_of(identity(1)) && !proven.is_of(identity(2)));
    assert!(!proven.is_by(&token), "nothing has been proved");
    proven.keep(&token);
    assert!(proven.is_by(&token));
    for bit in 0..128 {
        let mut forged = token;
        forged.mac[bit / 8] ^= 1 << (bit % 8);
        assert!(!proven.is_by(&forged), "bit {bit}");
    }
    let mut forged = token;
    forged.issued = Hour::from_number(forged.issued.number() + 1);
    assert!(!proven.is_by(&forged), "another hour");
    proven.start(Some(identity(2)));
    assert!(proven.is_of(identity(2)) && !proven.is_of(identity(1)));
    assert!(!proven.is_by(&token), "another's proof is forgotten");
}

// Cookie, written

fn check_set_cookie(cookie: &IdentityCookie, secure: bool, expected: &str) {
    cookie.validate().unwrap();
    let key = key();
    let set_cookie = SetCookie::of(cookie, &key);
    let value = set_cookie.value(identity(1), THEN, Via { name: CookieName::Plain, secure });
    assert!(value.is_sensitive());
    let token = sign(&key, identity(1));
    assert_eq!(value.to_str().unwrap(), expected.replace("{}", &token));

    // What a browser sends back is found.
    let pair = value.to_str().unwrap().split(';').next().unwrap();
    assert_eq!(find(cookie, &headers([pair]), &key), Some(identity(1)));
}

#[test]
fn set_cookie_says_what_was_configured() {
    check_set_cookie(
        &IdentityCookie::default(),
        false,
        "sr_id={}; HttpOnly; SameSite=Lax; Path=/; Max-Age=31536000",
    );
    check_set_cookie(
        &IdentityCookie::default(),
        true,
        "sr_id={}; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=31536000",
    );
    check_set_cookie(
        &IdentityCookie::new("desk")
            .with_same_site(SameSite::None)
            .with_domain("app.example")
            .with_path("/desk")
            .with_max_age(Duration::from_millis(90_500)),
        true,
        "desk={}; HttpOnly; SameSite=None; Secure; Path=/desk; Domain=app.example; Max-Age=90",
    );
    check_set_cookie(
        &IdentityCookie::new("desk")
            .with_host_prefix()
            .with_same_site(SameSite::Strict)
            .with_max_age(None),
        true,
        "__Host-desk={}; HttpOnly; SameSite=Strict; Secure; Path=/",
    );
    check_set_cookie(
        &IdentityCookie::new("desk")
            .with_host_prefix()
            .with_same_site(SameSite::None)
            .with_partitioned(true)
            .with_max_age(None),
        true,
        "__Host-desk={}; HttpOnly; SameSite=None; Partitioned; Secure; Path=/",
    );
    check_set_cookie(
        &IdentityCookie::default().with_max_age(Duration::MAX),
        false,
        &format!("sr_id={{}}; HttpOnly; SameSite=Lax; Path=/; Max-Age={}", i64::MAX),
    );
}

#[test]
fn secure_follows_the_setting_then_the_name_then_the_request() {
    let plain = Request::builder().uri("/").body(()).unwrap();
    let https = Request::builder().uri("https://a/").body(()).unwrap();
    let new = IdentityCookie::new;
    for (cookie, on_plain, on_https) in [
        (new("a").with_partitioned(true), true, true),
        (new("a"), false, true),
        (new("a").with_secure(true), true, true),
        (new("a").with_secure(false), false, false),
        (new("a").with_host_prefix(), true, true),
        (new("__Host-a"), true, true),
        (new("__secure-a"), true, true),
        (new("a").with_same_site(SameSite::None), true, true),
    ] {
        let secure = |req| cookie.request_is_secure(RequestView::of(req));
        assert_eq!((secure(&plain), secure(&https)), (on_plain, on_https), "{cookie:?}");
    }
}

#[test]
fn cookies_that_browsers_would_drop_are_config_errors() {
    let new = IdentityCookie::new;
    let name = |name: &str| ConfigErrorKind::CookieName { name: name.into() };
    let domain = |domain: &str| ConfigErrorKind::CookieDomain { domain: domain.into() };
    let path = |path: &str| ConfigErrorKind::CookiePath { path: path.into() };
    let prefix = |name: &str, needs| ConfigErrorKind::CookiePrefix { name: name.into(), needs };
    let rows = [
        (new(""), Some(name(""))),
        (new("a b"), Some(name("a b"))),
        (new("a=b"), Some(name("a=b"))),
        (new("a;b"), Some(name("a;b"))),
        (new("ä"), Some(name("ä"))),
        (new("a\n"), Some(name("a\n"))),
        (new("a").with_domain(""), Some(domain(""))),
        (new("a").with_domain("a.b;Secure"), Some(domain("a.b;Secure"))),
        (new("a").with_domain("a..b"), Some(domain("a..b"))),
        (new("a").with_domain("a.b:80"), Some(domain("a.b:80"))),
        (new("a").with_domain(".app.example"), None),
        (new("a").with_domain("localhost"), None),
        (new("a").with_path(""), Some(path(""))),
        (new("a").with_path("desk"), Some(path("desk"))),
        (new("a").with_path("/;Secure"), Some(path("/;Secure"))),
        (new("a").with_path("/\r\n"), Some(path("/\r\n"))),
        (new("a").with_path("/ä"), Some(path("/ä"))),
        (new("a").with_path("/a b/%C3%A4"), None),
        (
            new("a").with_max_age(Duration::from_millis(999)),
            Some(ConfigErrorKind::CookieMaxAge { max_age: Duration::from_millis(999) }),
        ),
        (new("a").with_max_age(Duration::from_secs(1)), None),
        (new("a").with_max_age(None), None),
        (
            new("a").with_same_site(SameSite::None).with_secure(false),
            Some(ConfigErrorKind::SameSiteNoneNotSecure),
        ),
        (new("a").with_same_site(SameSite::None), None),
        (
            new("a").with_partitioned(true).with_secure(false),
            Some(ConfigErrorKind::PartitionedNotSecure),
        ),
        (new("a").with_partitioned(true), None),
        (new("a").with_secure(false), None),
        (new("a").with_secure(false).with_path("/x").with_domain("b").with_host_prefix(), None),
        (new("__Host-a").with_host_prefix(), None),
        (new("__Host-a").with_domain("b"), Some(prefix("__Host-a", "no Domain"))),
        (new("__hOST-a").with_path("/x"), Some(prefix("__hOST-a", "Path=/"))),
        (new("a").with_host_prefix().with_secure(false), Some(prefix("__Host-a", "Secure"))),
        (new("__Secure-a").with_secure(false), Some(prefix("__Secure-a", "Secure"))),
        (new("__Secure-a").with_path("/x").with_domain("b"), None),
    ];
    for (cookie, error) in rows {
        assert_eq!(cookie.validate().err(), error.clone().map(ConfigError::from), "{cookie:?}");
        if let Some(error) = error {
            assert!(!error.to_string().ends_with('.'), "{error}");
        }
    }
}

#[test]
fn uuids_come_from_identities_for_applications_that_store_them() {
    assert_eq!(Uuid::from(identity(1)), *identity(1).as_uuid());
}

// Names

#[test]
fn the_defaults_name_has_the_port_that_the_request_names() {
    let name = |cookie: IdentityCookie, uri: &str, host: Option<&str>| {
        let mut req = Request::get(uri);
        if let Some(host) = host {
            req = req.header(header::HOST, host);
        }
        cookie.name_for(RequestView::of(&req.body(()).unwrap()))
    };
    let of = CookieName::OfPort;
    let rows = [
        ("/", None, CookieName::Plain),
        ("/", Some("app.example"), CookieName::Plain),
        ("/", Some("app.example:443"), of(443)),
        ("/", Some("localhost:3000"), of(3000)),
        ("/", Some("127.0.0.1:65535"), of(65535)),
        ("/", Some("[::1]"), CookieName::Plain),
        ("/", Some("[::1]:80"), of(80)),
        ("/", Some("app.example:"), CookieName::Plain),
        ("/", Some("app.example:65536"), CookieName::Plain),
        ("/", Some("app.example:+80"), CookieName::Plain),
        ("http://app.example:81/", None, of(81)),
        ("http://app.example/", Some("other:82"), CookieName::Plain),
    ];
    for (uri, host, expected) in rows {
        assert_eq!(name(IdentityCookie::default(), uri, host), expected, "{uri} {host:?}");
        let prefixed = IdentityCookie::default().with_host_prefix();
        assert_eq!(name(prefixed, uri, host), expected, "{uri} {host:?}");
        let given = IdentityCookie::new("sr_id");
        assert_eq!(name(given, uri, host), CookieName::Plain, "given: {uri} {host:?}");
    }
}

#[test]
fn a_port_is_written_as_it_is_read() {
    let (cookie, key) = (IdentityCookie::default(), key());
    let set_cookie = SetCookie::of(&cookie, &key);
    for port in [0, 7, 80, 443, 3000, 65535] {
        let via = Via { name: CookieName::OfPort(port), secure: false };
        let value = set_cookie.value(identity(1), THEN, via);
        let text = value.to_str().unwrap();
        assert!(text.starts_with(&format!("sr_id-{port}=")), "{text}");
        let pair = text.split(';').next().unwrap();
        let found = find_at(&cookie, None, &headers([pair]), &key).known.unwrap();
        assert_eq!((found.identity, found.name), (identity(1), via.name));
        let mut set = HeaderMap::new();
        set.append(header::SET_COOKIE, HeaderValue::from_static("sr_ids=1"));
        assert!(!set_cookie.is_set_in(&set));
        set.append(header::SET_COOKIE, value);
        assert!(set_cookie.is_set_in(&set));
    }
}

#[test]
fn the_requests_own_name_counts_before_others_of_ours() {
    /// Cookies, what is found at port 3000, whether one of that name was foreign.
    type Row<'a> = (&'a [&'a str], Option<(u8, CookieName)>, bool);
    let key = key();
    let token = |seed| sign(&key, identity(seed));
    let foreign = sign(&TokenKey::new(&[8; 64]), identity(9));
    let text = |line: &str| {
        let line = line.replace("{1}", &token(1)).replace("{2}", &token(2));
        line.replace("{foreign}", &foreign)
    };
    let of = CookieName::OfPort;
    let rows: &[Row<'_>] = &[
        (&["sr_id-3000={1}"], Some((1, of(3000))), false),
        (&["sr_id={1}"], Some((1, CookieName::Plain)), false),
        (&["sr_id-81={1}"], Some((1, of(81))), false),
        (&["sr_id={1}; sr_id-3000={2}"], Some((2, of(3000))), false),
        (&["sr_id-3000={2}; sr_id={1}"], Some((2, of(3000))), false),
        (&["sr_id={1}", "a=b; sr_id-3000={2}; c=d"], Some((2, of(3000))), false),
        (&["sr_id={1}; sr_id-81={2}"], Some((1, CookieName::Plain)), false),
        (&["sr_id-81={2}; sr_id={1}; a=b"], Some((2, of(81))), false),
        // Two of the own name: the first, as ever.
        (&["sr_id-3000={1}; sr_id-3000={2}"], Some((1, of(3000))), false),
        (&["sr_id={1}; sr_id-3000={foreign}"], Some((1, CookieName::Plain)), true),
        // Another application's, at another port: that is how it is meant to be.
        (&["sr_id-81={foreign}; sr_id={foreign}"], None, false),
        (&["sr_id-3000={foreign}"], None, true),
        (
            &["sr_id-03000={1}; sr_id-65536={1}; sr_id-={1}; sr_id-x={1}; sr_id-+80={1}"],
            None,
            false,
        ),
    ];
    for (lines, expected, foreign) in rows {
        let lines = lines.iter().map(|line| text(line)).collect::<Vec<_>>();
        let headers = headers(lines.iter().map(|line| &**line));
        let found = find_at(&IdentityCookie::default(), Some("a:3000"), &headers, &key);
        let known = found.known.map(|known| (known.identity, known.name));
        assert_eq!(known, expected.map(|(seed, name)| (identity(seed), name)), "{lines:?}");
        assert_eq!(found.foreign, *foreign, "{lines:?}");
    }
    let lines = text("sr_id-3000={1}; sr_id={2}");
    let given = find_at(&IdentityCookie::new("sr_id"), Some("a:3000"), &headers([&*lines]), &key);
    assert_eq!(given.known.map(|known| known.identity), Some(identity(2)), "as given");
}

// Time

#[test]
fn a_cookie_is_due_for_renewal_after_a_day() {
    let hour = Hour::from_number;
    for (issued, now, over) in
        [(1000, 1000, false), (1000, 1023, false), (1000, 1024, true), (1024, 1000, true)]
    {
        assert_eq!(hour(issued).is_over(hour(now)), over, "{issued} {now}");
    }
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * 490_000 + 3599);
    assert_eq!(Hour::of(time), THEN);
    assert!(!IdentityCookie::default().with_max_age(None).is_renewed());
}
