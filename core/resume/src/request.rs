//! What key functions and reuse policies see of a request.

use std::str;

use http::{
    Extensions, HeaderMap, Method, Request, Uri, Version,
    header::{self, AsHeaderName, HeaderName},
    request::Parts,
};

/// The subprotocol of clients that count messages; only beside it does `at.…` mean anything.
const RESUMABLE: &[u8] = b"session-resume.v1";
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
        for name in list_items(self.headers, &header::SEC_WEBSOCKET_PROTOCOL) {
            if name == RESUMABLE {
                resumable = true;
            } else if let Some(rest) = name.strip_prefix(b"at.")
                && cursor.replace(rest).is_some()
            {
                return None;
            }
        }
        let client = cursor?.split(|&byte| byte == b'.').next()?;
        let is_id = (16..=32).contains(&client.len())
            && client
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if resumable && is_id {
            str::from_utf8(client).ok()
        } else {
            None
        }
    }

    /// Returns whether the browser is known to have used https.
    ///
    /// Behind a proxy that ends TLS only forwarded headers tell, and anybody can send those. So
    /// this may only ever make us stricter (`Secure` on a cookie, a refused http origin): who
    /// lies in them harms nobody else.
    pub(crate) fn is_https(self) -> bool {
        self.uri.scheme() == Some(&http::uri::Scheme::HTTPS)
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
            name.trim_ascii()
                .eq_ignore_ascii_case(b"proto")
                .then(|| unquoted(value.trim_ascii()))
        })
    }

    fn x_forwarded_proto(self) -> Option<&'a [u8]> {
        list_items(self.headers, &FORWARDED_PROTO).next()
    }
}

/// The items of a comma-separated header, over all its lines.
fn list_items<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn unquoted(value: &[u8]) -> &[u8] {
    value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(value)
}

fn is_https_name(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"https")
}
