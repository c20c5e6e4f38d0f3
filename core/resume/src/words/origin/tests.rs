use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use proptest::prelude::*;

use super::AllowedOrigins;
use crate::words::request::RequestView;

type Headers<'a> = &'a [(&'a str, &'a str)];

const SAME: fn() -> AllowedOrigins = AllowedOrigins::same_origin;

fn is_allowed(origins: &AllowedOrigins, uri: &str, headers: Headers<'_>) -> bool {
    let mut req = Request::get(uri).version(Version::HTTP_11);
    for (name, value) in headers {
        req = req.header(*name, *value);
    }
    origins.check(RequestView::of(&req.body(()).unwrap())).is_ok()
}

#[test]
fn the_same_origin_is_the_host_and_port_of_the_request() {
    let rows = [
        // Host, Origin, allowed
        ("app.example", "https://app.example", true),
        ("app.example", "http://app.example", true),
        ("app.example:80", "http://app.example", true),
        ("app.example", "http://app.example:80", true),
        ("app.example:443", "https://app.example", true),
        ("app.example", "https://app.example:443", true),
        ("app.example:443", "http://app.example", false),
        ("app.example:80", "https://app.example", false),
        ("app.example", "http://app.example:8080", false),
        ("app.example:8080", "http://app.example", false),
        ("localhost:3000", "http://localhost:3000", true),
        ("localhost:3000", "http://localhost:3001", false),
        ("localhost:3000", "http://127.0.0.1:3000", false),
        ("APP.example", "HTTPS://app.EXAMPLE", true),
        ("[::1]:3000", "http://[::1]:3000", true),
        ("[::1]", "http://[::1]", true),
        ("[::1]", "http://[::2]", false),
        ("app.example", "https://evil.example", false),
        ("app.example", "https://www.app.example", false),
        ("app.example", "https://app.example.evil.example", false),
        ("app.example", "https://evilapp.example", false),
        ("app.example", "https://app.example.", false),
        ("app.example", "https://evil.example/app.example", false),
        ("app.example", "https://app.example@evil.example", false),
        ("app.example", "https://evil.example@app.example", false),
        ("app.example", "https://app.example/", false),
        ("app.example", "https://app.example https://evil.example", false),
        ("app.example", "https://app.example:", false),
        ("app.example", "https://app.example:+443", false),
        ("app.example", "https://app.example:70000", false),
        ("app.example", "chrome-extension://app.example", false),
        ("app.example", "null", false),
        ("null", "null", false),
        ("app.example", "", false),
        ("app.example", "app.example", false),
        ("app.example", "//app.example", false),
        ("app.example", "://app.example", false),
        ("", "http://", false),
        ("app.example/x", "http://app.example/x", false),
        ("[evil", "http://[evil", false),
    ];
    for (host, origin, allowed) in rows {
        let headers = [("host", host), ("origin", origin)];
        assert_eq!(is_allowed(&SAME(), "/live", &headers), allowed, "{host} {origin}");
    }
}

#[test]
fn an_http_page_is_foreign_to_a_request_known_to_be_https() {
    let http = ("origin", "http://app.example");
    let https = ("origin", "https://app.example");
    let host = ("host", "app.example");
    let x_https = ("x-forwarded-proto", "https");
    let x_http = ("x-forwarded-proto", "http");
    let fwd = ("forwarded", "for=1.2.3.4;proto=https");
    let uri = "https://app.example/live";
    let rows: &[(&str, Headers<'_>, bool)] = &[
        (uri, &[https], true),
        (uri, &[http], false),
        // TLS ends before us: what looks like http may be https.
        ("http://app.example/live", &[https], true),
        ("http://app.example/live", &[http], true),
        ("/live", &[host, x_https, https], true),
        ("/live", &[host, x_https, http], false),
        ("/live", &[host, x_http, https], true),
        ("/live", &[host, x_http, http], true),
        ("/live", &[host, fwd, http], false),
        ("/live", &[host, fwd, https], true),
    ];
    for (uri, headers, allowed) in rows {
        assert_eq!(is_allowed(&SAME(), uri, headers), *allowed, "{uri} {headers:?}");
    }
}

#[test]
fn the_uri_says_more_than_the_host_header() {
    let evil_host = ("host", "evil.example");
    let ours = ("origin", "http://app.example:81");
    let evil = ("origin", "http://evil.example");
    let uri = "http://app.example:81/live";
    assert!(is_allowed(&SAME(), uri, &[evil_host, ours]));
    assert!(!is_allowed(&SAME(), uri, &[evil_host, evil]));
}

#[test]
fn ambiguous_requests_have_no_same_origin() {
    let origin = ("origin", "http://app.example");
    let host = ("host", "app.example");
    assert!(is_allowed(&SAME(), "/", &[host, origin]));
    assert!(!is_allowed(&SAME(), "/", &[host, origin, origin]));
    assert!(!is_allowed(&SAME(), "/", &[host, host, origin]));
    assert!(!is_allowed(&SAME(), "/", &[origin]));
}

#[test]
fn the_list_adds_exact_origins() {
    let origins = SAME()
        .allow("https://App.example")
        .allow("http://localhost:5173")
        .allow("tauri://localhost");
    let rows = [
        ("https://app.example", true),
        ("https://app.example:443", true),
        ("HTTPS://APP.EXAMPLE", true),
        ("http://app.example", false),
        ("http://app.example:443", false),
        ("https://app.example:8443", false),
        ("https://sub.app.example", false),
        ("http://localhost:5173", true),
        ("http://localhost", false),
        ("tauri://localhost", true),
        ("tauri://localhost:1", false),
        ("https://self.example", true),
        ("https://evil.example", false),
        ("null", false),
    ];
    for (origin, allowed) in rows {
        let headers = [("host", "self.example"), ("origin", origin)];
        assert_eq!(is_allowed(&origins, "/", &headers), allowed, "{origin}");
    }
}

#[test]
fn what_is_no_origin_is_an_error() {
    for text in ["", "null", "*", "app.example", "https://app.example/", "https://*.app.example"] {
        let error = SAME().try_allow(text).unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn the_list_does_not_care_for_the_requests_scheme() {
    let origins = SAME().allow("http://app.example");
    let headers = [("origin", "http://app.example")];
    assert!(is_allowed(&origins, "https://app.example/", &headers));
}

#[test]
fn a_missing_origin_is_allowed_unless_required() {
    let host = ("host", "app.example");
    let same = ("origin", "http://app.example");
    let evil = ("origin", "http://evil.example");
    let null = ("origin", "null");
    for (origins, missing, foreign) in [
        (AllowedOrigins::default(), true, false),
        (SAME().require_origin(), false, false),
        (AllowedOrigins::any(), true, true),
        (AllowedOrigins::any().require_origin(), false, true),
        (AllowedOrigins::any().allow("http://other.example"), true, true),
    ] {
        assert_eq!(is_allowed(&origins, "/", &[host]), missing, "{origins:?}");
        assert_eq!(is_allowed(&origins, "/", &[host, evil]), foreign, "{origins:?}");
        assert_eq!(is_allowed(&origins, "/", &[host, null]), foreign, "{origins:?}");
        assert!(is_allowed(&origins, "/", &[host, same]), "{origins:?}");
    }
}

#[test]
fn entries_that_could_never_match_are_refused_by_name() {
    for entry in [
        "",
        "app.example",
        "https://",
        "https://*.app.example",
        "https://app.example/",
        "https://app.example/live",
        "https://user@app.example",
        "https://app.example:http",
        "https://äpp.example",
        "null",
        "*",
    ] {
        let panic = std::panic::catch_unwind(|| SAME().allow(entry)).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.contains(&format!("{entry:?}")), "{text}");
    }
}

proptest! {
    #[test]
    fn no_header_bytes_panic_or_are_of_the_same_origin(
        host: Vec<u8>,
        origin: Vec<u8>,
        forwarded: Vec<u8>,
    ) {
        let mut req = Request::new(());
        let put = |headers: &mut HeaderMap, name: HeaderName, bytes: &[u8]| {
            HeaderValue::from_bytes(bytes).is_ok_and(|value| {
                headers.insert(name, value);
                true
            })
        };
        put(req.headers_mut(), header::HOST, &host);
        put(req.headers_mut(), header::FORWARDED, &forwarded);
        if put(req.headers_mut(), header::ORIGIN, &origin) {
            prop_assert!(SAME().check(RequestView::of(&req)).is_err());
        }
    }

    #[test]
    fn the_same_origin_is_found_whatever_its_name(
        host in "[a-z0-9-]{1,20}(\\.[a-z0-9]{1,10}){0,3}",
        port: u16,
    ) {
        let authority = format!("{host}:{port}");
        let origin = format!("http://{authority}");
        let headers = [("host", &*authority), ("origin", &*origin)];
        prop_assert!(is_allowed(&SAME(), "/", &headers));
        prop_assert!(is_allowed(&SAME().allow(&origin), "/", &headers[1..]));
        let other = format!("{host}:{}", port ^ 1);
        let headers = [("host", &*other), ("origin", &*origin)];
        prop_assert!(!is_allowed(&SAME(), "/", &headers));
    }
}
