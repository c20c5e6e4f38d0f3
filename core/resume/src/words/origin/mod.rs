//! Which web pages may open a WebSocket.
//!
//! Browsers send cookies along with a WebSocket that any page anywhere opens, and let that page
//! read the answers. The `Origin` header is the only thing that tells the pages apart.

mod foreign;
#[cfg(test)]
mod tests;

use std::{fmt, str, sync::Arc};

use http::{HeaderMap, Uri, header};

pub(crate) use self::foreign::ForeignOrigins;
use crate::words::request::RequestView;

/// The origins whose pages may upgrade to a WebSocket.
///
/// By default that is the same origin alone: host and port of `Origin` equal those the request was
/// sent to (`:authority` or `Host`). Requests without `Origin` are let in, since they are not from
/// browsers: only browsers send cookies unasked, and they always send `Origin` on an upgrade.
///
/// The schemes are compared only as far as the request's is known: behind a proxy that ends TLS,
/// an https page and a plain http request belong together. A page from http is a stranger to a
/// request that is known to be https (by its URI, `X-Forwarded-Proto` or `Forwarded`). A port that
/// is not written is the default one of the origin's scheme.
///
/// A proxy that changes `Host` makes every page foreign: let it pass `Host` on, or
/// [`allow`](Self::allow) the public origin.
///
/// # Example
///
/// ```
/// use session_resume::AllowedOrigins;
///
/// // Default: pages of this host.
/// let _ = AllowedOrigins::same_origin();
///
/// // Pages of another one, too.
/// let origins = AllowedOrigins::same_origin().allow("https://app.example");
/// assert!(format!("{origins:?}").contains("https://app.example:443"));
/// ```
#[derive(Debug, Clone)]
pub struct AllowedOrigins {
    pages: Pages,
    missing: Missing,
}

/// A text that should be an origin and is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOrigin {
    origin: String,
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not an origin like https://app.example", self.origin)
    }
}

impl std::error::Error for InvalidOrigin {}

#[derive(Debug, Clone)]
enum Pages {
    Any,
    /// The same origin, and these.
    Same(Arc<[Listed]>),
}

#[derive(Debug, Clone, Copy)]
enum Missing {
    Allowed,
    Refused,
}

impl AllowedOrigins {
    /// Allows pages of the same origin: the default.
    pub fn same_origin() -> Self {
        Self { pages: Pages::Same(Arc::new([])), missing: Missing::Allowed }
    }

    /// Allows every page of the web.
    ///
    /// # Security
    ///
    /// Every site that a user visits can then open their session, unless the identity cookie is
    /// `SameSite=Lax` or `Strict` and the browser heeds that for WebSockets.
    pub fn any() -> Self {
        Self { pages: Pages::Any, missing: Missing::Allowed }
    }

    /// Allows pages of `origin` as well: scheme, host and, unless it is the scheme's default, port,
    /// as in `https://app.example` or `http://localhost:5173`.
    ///
    /// Compared exactly but for the case of scheme and host; subdomains are origins of their own.
    /// Does nothing after [`any`](Self::any).
    ///
    /// # Panics
    ///
    /// If `origin` is not such an origin: it has a path, a wildcard or no scheme, for example.
    #[must_use]
    pub fn allow(self, origin: impl AsRef<str>) -> Self {
        match self.try_allow(origin) {
            Ok(allowed) => allowed,
            Err(error) => panic!("AllowedOrigins::allow: {error}"),
        }
    }

    /// As [`allow`](Self::allow), for origins that are not written in the program, but in a configuration for example.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidOrigin`] if `origin` is not an origin.
    pub fn try_allow(mut self, origin: impl AsRef<str>) -> Result<Self, InvalidOrigin> {
        let origin = origin.as_ref();
        let parsed = Origin::parse(origin.as_bytes())
            .ok_or_else(|| InvalidOrigin { origin: origin.to_owned() })?;
        if let Pages::Same(listed) = &mut self.pages {
            *listed = listed.iter().cloned().chain([parsed.to_listed()]).collect();
        }
        Ok(self)
    }

    /// Refuses requests without `Origin`, too: only browsers get in.
    #[must_use]
    pub fn require_origin(mut self) -> Self {
        self.missing = Missing::Refused;
        self
    }

    /// Returns whether the page behind a request that is no upgrade is one of these, such as one that posts to an
    /// operator's page. Where a browser sends no `Origin`, its `Sec-Fetch-Site` tells.
    pub fn admits(&self, req: RequestView<'_>) -> bool {
        self.check_request(req).is_ok()
    }

    /// Checks whether the page behind `req`, which is no upgrade, may ask for a session's messages.
    ///
    /// A page on another origin of the same site may send a `GET` with the cookie and without `Origin`. What the browser
    /// says of such a request tells.
    pub(crate) fn check_request(&self, req: RequestView<'_>) -> Result<(), ForeignOrigin> {
        if req.headers().contains_key(header::ORIGIN) {
            return self.check(req);
        }
        match req.fetch_metadata("sec-fetch-site") {
            Some(site) => {
                matches!(site, b"same-origin" | b"none").then_some(()).ok_or(ForeignOrigin)
            }
            None => self.check(req),
        }
    }

    /// Checks whether the page behind `req` may upgrade.
    pub(crate) fn check(&self, req: RequestView<'_>) -> Result<(), ForeignOrigin> {
        let allowed = match (&self.pages, sole(req.headers(), &header::ORIGIN)) {
            (_, Sole::Missing) => matches!(self.missing, Missing::Allowed),
            (Pages::Any, Sole::Value(_) | Sole::Several) => true,
            (Pages::Same(_), Sole::Several) => false,
            (Pages::Same(listed), Sole::Value(origin)) => {
                Origin::parse(origin).is_some_and(|origin| {
                    listed.iter().any(|listed| listed.matches(origin)) || is_same(origin, req)
                })
            }
        };
        if allowed { Ok(()) } else { Err(ForeignOrigin) }
    }
}

impl Default for AllowedOrigins {
    fn default() -> Self {
        Self::same_origin()
    }
}

/// The request comes from a page that may not open sessions here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignOrigin;

impl fmt::Display for ForeignOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("foreign origin: the server does not allow this page to connect")
    }
}

impl std::error::Error for ForeignOrigin {}

/// An origin with a host. `null` is not one, so it equals nothing.
#[derive(Clone, Copy)]
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// `None`: not written, and the scheme is not one whose default we know.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(origin: &'a [u8]) -> Option<Self> {
        let (scheme, authority) = str::from_utf8(origin).ok()?.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
        if !is_scheme {
            return None;
        }
        let (host, port) = split_port(authority)?;
        Some(Self { scheme, host, port: port.or_else(|| default_port(scheme)) })
    }

    fn to_listed(self) -> Listed {
        Listed {
            scheme: self.scheme.to_ascii_lowercase(),
            host: self.host.to_ascii_lowercase(),
            port: self.port,
        }
    }
}

/// An origin on the list, in lower case.
#[derive(Clone)]
struct Listed {
    scheme: String,
    host: String,
    port: Option<u16>,
}

impl Listed {
    fn matches(&self, origin: Origin<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(origin.scheme)
            && self.host.eq_ignore_ascii_case(origin.host)
            && self.port == origin.port
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn is_same(origin: Origin<'_>, req: RequestView<'_>) -> bool {
    // An extension's page (`chrome-extension://…`) is not ours, whatever its host looks like.
    let Some(default) = default_port(origin.scheme) else {
        return false;
    };
    // A page that came over plain http may have been changed on the way.
    if origin.scheme.eq_ignore_ascii_case("http") && req.is_https() {
        return false;
    }
    target(req.uri(), req.headers()).is_some_and(|(host, port)| {
        host.eq_ignore_ascii_case(origin.host)
            && port.unwrap_or(default) == origin.port.unwrap_or(default)
    })
}

/// The host and port that the request was sent to. What the URI says overrides `Host`, as RFC 9112
/// has it; two `Host` headers say nothing.
fn target<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<(&'a str, Option<u16>)> {
    if let Some(authority) = uri.authority() {
        return Some((authority.host(), authority.port_u16()));
    }
    match sole(headers, &header::HOST) {
        Sole::Value(host) => split_port(str::from_utf8(host).ok()?),
        Sole::Missing | Sole::Several => None,
    }
}

enum Sole<'a> {
    Missing,
    Value(&'a [u8]),
    Several,
}

fn sole<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Sole<'a> {
    let mut values = headers.get_all(name).into_iter();
    match (values.next(), values.next()) {
        (None, _) => Sole::Missing,
        (Some(value), None) => Sole::Value(value.as_bytes()),
        (Some(_), Some(_)) => Sole::Several,
    }
}

/// Splits `host[:port]`; `None` if it is something else.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bare IPv6 address is within its brackets.
        Some((host, port)) if !port.ends_with(']') => (host, Some(read_port(port)?)),
        _ => (authority, None),
    };
    is_host(host).then_some((host, port))
}

fn read_port(port: &str) -> Option<u16> {
    // Not `parse` alone: that also takes `+80`.
    if port.bytes().all(|byte| byte.is_ascii_digit()) { port.parse().ok() } else { None }
}

/// A name, an IPv4 address, or an IPv6 address in brackets. Browsers send names in ASCII.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}
