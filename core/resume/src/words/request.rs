//! What key functions and reuse policies see of a request.

use std::str;

use http::{
    Extensions, HeaderMap, Method, Request, Uri, Version,
    header::{self, AsHeaderName, HeaderName},
    request::Parts,
};
use session_resume_proto::{
    ClientId,
    wire::{AT_PREFIX, SUBPROTOCOL},
};

/// Where a client that comes without a WebSocket says its offer.
pub(crate) const OFFER: HeaderName = HeaderName::from_static("session-resume-offer");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// A request without its body, borrowed.
///
/// What it returns lives as long as the request, not as long as the view.
#[derive(Debug, Clone, Copy)]
pub struct RequestView<'a> {
    method: &'a Method,
    uri: &'a Uri,
    version: Version,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestView<'a> {
    /// Creates the view of `request`.
    pub fn of<B>(request: &'a Request<B>) -> Self {
        Self {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// Creates the view of a request that is in parts already.
    pub const fn from_parts(parts: &'a Parts) -> Self {
        Self {
            method: &parts.method,
            uri: &parts.uri,
            version: parts.version,
            headers: &parts.headers,
            extensions: &parts.extensions,
        }
    }

    /// Returns the method.
    pub const fn method(self) -> &'a Method {
        self.method
    }

    /// Returns the URI as the layer saw it, that is with the path that a router outside the layer
    /// left over.
    pub const fn uri(self) -> &'a Uri {
        self.uri
    }

    /// Returns the path as it was sent: percent-encoded, without the query.
    pub fn path(self) -> &'a str {
        self.uri.path()
    }

    /// Returns the HTTP version.
    pub const fn version(self) -> Version {
        self.version
    }

    /// Returns all headers.
    pub const fn headers(self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns the value of a header that was sent exactly once, as text.
    ///
    /// `None` if it is missing, not UTF-8, or there more than once.
    ///
    /// # Security
    ///
    /// A header that came twice has no value here because one of the two may be the client's own,
    /// left in place by a proxy that appended the true one.
    pub fn header(self, name: impl AsHeaderName) -> Option<&'a str> {
        let mut values = self.headers.get_all(name).iter();
        let only = values.next()?;
        if values.next().is_some() {
            return None;
        }
        str::from_utf8(only.as_bytes()).ok()
    }

    /// Returns the request's extensions, as outer middleware left them.
    pub const fn extensions(self) -> &'a Extensions {
        self.extensions
    }

    /// Returns whether the request asks to become a WebSocket: `Upgrade: websocket` up to
    /// HTTP/1.1, `CONNECT` from HTTP/2 on.
    pub fn is_upgrade(self) -> bool {
        if self.version >= Version::HTTP_2 {
            return self.method == Method::CONNECT;
        }
        list_items(self.headers, &header::UPGRADE)
            .any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
    }

    /// Returns the id that the client has given itself: the `<client>` of the subprotocol
    /// `at.<client>…`, offered together with `session-resume.v1`.
    ///
    /// Pages make it anew when they load, so it tells tabs apart. `None` on plain HTTP, for
    /// clients that do not speak `session-resume.v1`, and when the offer is malformed.
    ///
    /// # Security
    ///
    /// The client chooses it: it tells the pages of one browser apart, never browsers or users.
    pub fn client_id(self) -> Option<&'a str> {
        let mut resumable = false;
        let mut cursor = None;
        let names = list_items(self.headers, &header::SEC_WEBSOCKET_PROTOCOL);
        for name in names.chain(list_items(self.headers, &OFFER)) {
            // Only beside this does `at.…` mean anything.
            if name == SUBPROTOCOL.as_bytes() {
                resumable = true;
            } else if let Some(rest) = name.strip_prefix(AT_PREFIX.as_bytes())
                && cursor.replace(rest).is_some()
            {
                return None;
            }
        }
        let client = cursor?.split(|&byte| byte == b'.').next()?;
        let client = str::from_utf8(client).ok().filter(|id| ClientId::parse(id).is_some());
        client.filter(|_| resumable)
    }

    /// Returns the port that the request's authority names: `:authority` or `Host`.
    pub(crate) fn port(self) -> Option<u16> {
        let authority = match self.uri.authority() {
            Some(authority) => authority.as_str(),
            None => self.header(header::HOST)?,
        };
        let (_, port) = authority.rsplit_once(':')?;
        // `parse` would take a sign.
        port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())?
    }

    /// Returns whether it asks for a page: a `GET` by which a browser goes to another document.
    ///
    /// Browsers say so, but not over plain http. There each request counts that accepts HTML by name.
    pub(crate) fn is_navigation(self) -> bool {
        if self.method != Method::GET {
            return false;
        }
        match self.fetch_metadata("sec-fetch-mode") {
            Some(mode) => mode == b"navigate",
            None => list_items(self.headers, &header::ACCEPT)
                .any(|item| is_media_type(item, b"text/html")),
        }
    }

    /// Returns whether a browser goes to another document in a tab of its own by a safe method: with such a
    /// request it sends a `SameSite=Lax` cookie, whichever site the link is on.
    pub(crate) fn is_top_level_navigation(self) -> bool {
        // Not Method::is_safe: that also lets TRACE and OPTIONS through.
        matches!(*self.method, Method::GET | Method::HEAD)
            && self.fetch_metadata("sec-fetch-mode") == Some(b"navigate")
            && self.fetch_metadata("sec-fetch-dest").is_none_or(|dest| dest == b"document")
    }

    /// Returns whether a browser asks by this if it may send a cross-origin request. It keeps nothing of the answer.
    pub(crate) fn is_preflight(self) -> bool {
        self.method == Method::OPTIONS
            && self.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Returns what a browser says of its request in this header, which no page can set.
    pub(crate) fn fetch_metadata(self, name: &'static str) -> Option<&'a [u8]> {
        self.headers.get(name).map(|value| value.as_bytes().trim_ascii())
    }

    /// Returns whether the browser is known to have used https.
    ///
    /// Behind a proxy that ends TLS only forwarded headers tell, and any client can send those. So
    /// this may only ever make us stricter (`Secure` on a cookie, a refused http origin): a client
    /// that lies in them harms no other client.
    pub(crate) fn is_https(self) -> bool {
        self.uri.scheme_str().is_some_and(|scheme| is_https_name(scheme.as_bytes()))
            || self.forwarded_proto().is_some_and(is_https_name)
            || self.x_forwarded_proto().is_some_and(is_https_name)
    }

    /// The `proto` of the first hop in `Forwarded`. Later hops are between proxies: a cookie
    /// marked `Secure` for their sake would be lost on a browser that uses http.
    fn forwarded_proto(self) -> Option<&'a [u8]> {
        let first_hop = list_items(self.headers, &header::FORWARDED).next()?;
        first_hop.split(|&byte| byte == b';').find_map(|parameter| {
            let equals = parameter.iter().position(|&byte| byte == b'=')?;
            let (name, value) = (&parameter[..equals], &parameter[equals + 1..]);
            name.trim_ascii().eq_ignore_ascii_case(b"proto").then(|| unquoted(value.trim_ascii()))
        })
    }

    fn x_forwarded_proto(self) -> Option<&'a [u8]> {
        list_items(self.headers, &FORWARDED_PROTO).next()
    }
}

/// The items of a comma-separated header, over all its lines.
pub(crate) fn list_items<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Whether a type, with parameters or without, is this one.
pub(crate) fn is_media_type(text: &[u8], media_type: &[u8]) -> bool {
    let end = text.iter().position(|&byte| byte == b';').unwrap_or(text.len());
    text[..end].trim_ascii().eq_ignore_ascii_case(media_type)
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value)
}

/// What a proxy calls a WebSocket over TLS is TLS, too.
fn is_https_name(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"https") || scheme.eq_ignore_ascii_case(b"wss")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        let mut req = Request::get("/live");
        for (name, value) in headers {
            req = req.header(*name, *value);
        }
        req.body(()).unwrap()
    }

    #[test]
    fn what_it_returns_outlives_the_view() {
        let mut req = request(&[("x-user", "ann")]);
        *req.uri_mut() = Uri::from_static("http://a.example/l%69ve?x=1");
        req.extensions_mut().insert(7_u8);
        let user = {
            let view = RequestView::of(&req);
            assert_eq!(view.method(), Method::GET);
            assert_eq!(view.path(), "/l%69ve");
            assert_eq!(view.uri().query(), Some("x=1"));
            assert_eq!(view.version(), Version::HTTP_11);
            assert_eq!(view.extensions().get::<u8>(), Some(&7));
            view.header("X-User")
        };
        assert_eq!(user, Some("ann"));
        let (parts, ()) = req.into_parts();
        let view = RequestView::from_parts(&parts);
        assert_eq!(view.header(HeaderName::from_static("x-user")), Some("ann"));
        assert_eq!(view.headers().len(), 1);
    }

    #[test]
    fn a_header_that_came_twice_has_no_value() {
        let req = request(&[("x-user", "mallory"), ("x-user", "ann"), ("x-team", "")]);
        let view = RequestView::of(&req);
        assert_eq!(view.header("x-user"), None);
        assert_eq!(view.header("x-team"), Some(""));
        assert_eq!(view.header("x-none"), None);
        assert_eq!(view.header("not a name"), None);
    }

    #[test]
    fn upgrades_are_known_by_version() {
        let rows: &[(Version, Method, &[&str], bool)] = &[
            (Version::HTTP_11, Method::GET, &["websocket"], true),
            (Version::HTTP_11, Method::GET, &["WebSocket"], true),
            (Version::HTTP_11, Method::GET, &["h2c, websocket"], true),
            (Version::HTTP_11, Method::GET, &["h2c", "websocket"], true),
            (Version::HTTP_11, Method::GET, &["websocket2"], false),
            (Version::HTTP_11, Method::GET, &["h2c"], false),
            (Version::HTTP_11, Method::GET, &[], false),
            (Version::HTTP_11, Method::CONNECT, &[], false),
            (Version::HTTP_2, Method::CONNECT, &[], true),
            (Version::HTTP_3, Method::CONNECT, &[], true),
            (Version::HTTP_2, Method::GET, &["websocket"], false),
        ];
        for (version, method, upgrade, expected) in rows {
            let headers: Vec<_> = upgrade.iter().map(|value| ("upgrade", *value)).collect();
            let mut req = request(&headers);
            *req.version_mut() = *version;
            *req.method_mut() = method.clone();
            let view = RequestView::of(&req);
            assert_eq!(view.is_upgrade(), *expected, "{version:?} {method} {upgrade:?}");
        }
    }

    #[test]
    fn client_ids_come_from_well_formed_offers_alone() {
        const ID16: &str = "0123456789abcd_-";
        const ID32: &str = "0123456789abcdefghijABCDEFGHIJ_-";
        let rows: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["session-resume.v1"], None),
            (&["at.{16}"], None),
            (&["session-resume.v1, at.{16}"], Some(ID16)),
            (&["at.{16},session-resume.v1"], Some(ID16)),
            (&["session-resume.v1", "at.{16}"], Some(ID16)),
            (&["chat, session-resume.v1, at.{16}, json"], Some(ID16)),
            (&["session-resume.v1, at.{32}"], Some(ID32)),
            (&["session-resume.v1, at.{16}.s-1.e_1.42"], Some(ID16)),
            (&["session-resume.v1, at.{16}.s-1.e_1.42.3"], Some(ID16)),
            (&["session-resume.v1, at.{16}, at.{32}"], None),
            (&["session-resume.v1, at.{16}", "at.{16}"], None),
            (&["session-resume.v2, at.{16}"], None),
            (&["Session-Resume.v1, at.{16}"], None),
            (&["session-resume.v1, AT.{16}"], None),
            (&["session-resume.v1, at."], None),
            (&["session-resume.v1, at.0123456789abcde"], None),
            (&["session-resume.v1, at.{32}0"], None),
            (&["session-resume.v1, at.0123456789abcde+"], None),
            (&["session-resume.v1, at.{16} x"], None),
        ];
        for (lines, expected) in rows {
            let lines: Vec<String> =
                lines.iter().map(|line| line.replace("{16}", ID16).replace("{32}", ID32)).collect();
            let headers: Vec<_> =
                lines.iter().map(|line| ("sec-websocket-protocol", &**line)).collect();
            let req = request(&headers);
            assert_eq!(RequestView::of(&req).client_id(), *expected, "{lines:?}");
        }
    }

    #[test]
    fn https_is_known_from_the_first_hop() {
        let rows: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[("x-forwarded-proto", "https")], true),
            (&[("x-forwarded-proto", "HTTPS")], true),
            (&[("x-forwarded-proto", "https, http")], true),
            (&[("x-forwarded-proto", "http, https")], false),
            (&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")], false),
            (&[("x-forwarded-proto", "wss")], true),
            (&[("x-forwarded-proto", "WSS, ws")], true),
            (&[("x-forwarded-proto", "ws")], false),
            (&[("forwarded", "for=192.0.2.1;proto=wss")], true),
            (&[("forwarded", "proto=\"wss\"")], true),
            (&[("x-forwarded-proto", "httpss")], false),
            (&[("forwarded", "proto=https")], true),
            (&[("forwarded", "for=192.0.2.1; Proto=\"HTTPS\" ;by=_p")], true),
            (&[("forwarded", "for=192.0.2.1;proto=https, proto=http")], true),
            (&[("forwarded", "proto=http, proto=https")], false),
            (&[("forwarded", "for=proto=https")], false),
            (&[("forwarded", "xproto=https")], false),
            (&[("forwarded", "proto")], false),
            (&[("forwarded", "proto=http"), ("x-forwarded-proto", "https")], true),
        ];
        for (headers, expected) in rows {
            let req = request(headers);
            assert_eq!(RequestView::of(&req).is_https(), *expected, "{headers:?}");
        }
        for (uri, expected) in [
            ("https://a.example/", true),
            ("http://a.example/", false),
            ("wss://a.example/", true),
            ("ws://a.example/", false),
        ] {
            let mut req = request(&[]);
            *req.uri_mut() = Uri::from_static(uri);
            assert_eq!(RequestView::of(&req).is_https(), expected, "{uri}");
        }
    }

    proptest! {
        #[test]
        fn no_header_bytes_panic(
            lines in proptest::collection::vec((0_usize..4, any::<Vec<u8>>()), 0..6),
        ) {
            let names = ["upgrade", "sec-websocket-protocol", "forwarded", "x-forwarded-proto"];
            let mut req = request(&[]);
            for (name, bytes) in lines {
                if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                    req.headers_mut().append(names[name], value);
                }
            }
            let view = RequestView::of(&req);
            let _ = view.is_https();
            for name in names {
                let _ = view.header(name);
            }
            prop_assert!(!view.is_upgrade());
            prop_assert_eq!(view.client_id(), None);
        }
    }
}
