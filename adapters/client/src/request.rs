//! What the requests of one attempt have.

use std::{fmt, future::ready, pin::Pin, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

use crate::{Cause, ConfigError};

/// Headers of the handshake itself, which belong to this client.
const OWN: [HeaderName; 7] = [
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::COOKIE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// What the function of [`Builder::with_request`](crate::Builder::with_request) is called for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    number: u32,
}

/// The URL and headers of one attempt, as the function of
/// [`Builder::with_request`](crate::Builder::with_request) returns them.
///
/// What it does not name is as the builder has it. A setting that cannot work fails the attempt.
#[derive(Clone, Default)]
#[must_use = "a request does nothing until it is returned"]
pub struct Request {
    url: Option<Uri>,
    headers: HeaderMap,
    /// The first setting that cannot work.
    broken: Option<String>,
}

/// Where the requests of one attempt go, and what each of them has.
pub(crate) struct Target {
    pub(crate) url: Uri,
    pub(crate) headers: HeaderMap,
}

/// Asks the application for a request.
pub(crate) type Prepare = Arc<dyn Fn(Attempt) -> Asking + Send + Sync>;

pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Request, String>> + Send>>;

/// Finds out where an attempt goes.
pub(crate) type Preparing = Pin<Box<dyn Future<Output = Result<Arc<Target>, Cause>> + Send>>;

impl Attempt {
    /// A look whether a WebSocket passes.
    pub(crate) const LOOK: Self = Self { number: 0 };

    pub(crate) fn new(number: u32) -> Self {
        Self { number }
    }

    /// Returns which attempt in a row it is, from 1; 0 for a [look](Self::is_look).
    ///
    /// A row begins anew after a connection that was of use. [`Event::Waiting`](crate::Event::Waiting) has told the
    /// same number.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Returns whether the client has a connection over HTTP and only looks whether a WebSocket passes. A look touches no
    /// session; the server's route is asked all the same.
    pub fn is_look(self) -> bool {
        self == Self::LOOK
    }
}

impl Request {
    /// Creates a request that changes nothing of what the builder has.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the URL, `ws://…` or `wss://…`. Default: the builder's.
    ///
    /// # Security
    ///
    /// The client's cookies, its identity above all, go to this URL, too, whatever its host is.
    pub fn with_url(mut self, url: &str) -> Self {
        match parse_url(url) {
            Ok(url) => self.url = Some(url),
            // Without the URL: it may have a ticket in it.
            Err(ConfigError::NoTls { .. }) => {
                self.refuse("no TLS feature is on for the URL".into());
            }
            Err(_) => self.refuse("the URL is not ws:// or wss:// with a host".into()),
        }
        self
    }

    /// Adds a header. It takes the place of those of the same name that the builder has.
    ///
    /// Cookies and the headers of the handshake cannot be set.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        match parse_header(name, value) {
            Ok((name, value)) => {
                self.headers.append(name, value);
            }
            Err(err) => self.refuse(err.to_string()),
        }
        self
    }

    fn refuse(&mut self, reason: String) {
        self.broken.get_or_insert(reason);
    }
}

impl Target {
    /// Returns what comes of `request` where this is what the builder has.
    fn with(&self, request: Request) -> Result<Self, String> {
        let Request { url, headers, broken } = request;
        if let Some(reason) = broken {
            return Err(reason);
        }
        let mut all = self.headers.clone();
        // Each name of these replaces what is there.
        all.extend(headers);
        Ok(Self { url: url.unwrap_or_else(|| self.url.clone()), headers: all })
    }
}

/// Prepares an attempt.
pub(crate) fn prepare(
    base: &Arc<Target>,
    prepare: Option<&Prepare>,
    attempt: Attempt,
) -> Preparing {
    let base = Arc::clone(base);
    let Some(prepare) = prepare.map(Arc::clone) else {
        return Box::pin(ready(Ok(base)));
    };
    Box::pin(async move {
        let target = prepare(attempt).await.and_then(|request| base.with(request));
        target.map(Arc::new).map_err(|reason| Cause::Unprepared(reason.into()))
    })
}

/// Reads the URL of a server.
pub(crate) fn parse_url(text: &str) -> Result<Uri, ConfigError> {
    let url = || text.to_owned();
    let parsed: Uri = text.parse().map_err(|_| ConfigError::Url { url: url() })?;
    let has_host = parsed.host().is_some_and(|host| !host.is_empty());
    match parsed.scheme_str() {
        Some("ws") if has_host => Ok(parsed),
        Some("wss") if has_host && cfg!(feature = "rustls-tls-webpki-roots") => Ok(parsed),
        Some("wss") if has_host => Err(ConfigError::NoTls { url: url() }),
        _ => Err(ConfigError::Url { url: url() }),
    }
}

/// Reads a header that the application may set.
pub(crate) fn parse_header(
    name: &str,
    value: &str,
) -> Result<(HeaderName, HeaderValue), ConfigError> {
    match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
        (Ok(name), Ok(mut value)) if !OWN.contains(&name) => {
            value.set_sensitive(true);
            Ok((name, value))
        }
        _ => Err(ConfigError::Header { name: name.to_owned() }),
    }
}

/// Without values: they may be secrets, and so may parts of the URL.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("host", &self.url.as_ref().and_then(Uri::host))
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Target {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("1"));
        headers.append("a", HeaderValue::from_static("2"));
        headers.append("b", HeaderValue::from_static("3"));
        Target { url: Uri::from_static("ws://localhost/live"), headers }
    }

    #[test]
    fn a_request_replaces_what_it_names_alone() {
        let target = base().with(Request::new()).unwrap();
        assert_eq!((&target.url, &target.headers), (&base().url, &base().headers));
        let request = Request::new().with_url("ws://elsewhere/live?ticket=7");
        let target = base().with(request.with_header("A", "4").with_header("a", "5")).unwrap();
        assert_eq!(target.url, "ws://elsewhere/live?ticket=7");
        assert_eq!(target.headers.get_all("a").iter().collect::<Vec<_>>(), ["4", "5"]);
        assert_eq!(target.headers.get_all("b").iter().collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn what_cannot_work_fails_the_attempt_and_tells_no_secret() {
        let broken = |request: Request| base().with(request).err().unwrap();
        let url =
            broken(Request::new().with_url("http://localhost/?hush").with_header("host", "h"));
        assert_eq!(url, "the URL is not ws:// or wss:// with a host", "the first that cannot work");
        for (name, value) in [("a b", "hush"), ("a", "hush\r\nc: d"), ("Cookie", "hush=1")] {
            let header = broken(Request::new().with_header(name, value));
            assert_eq!(header, format!("header cannot be set: {name}"));
        }
        if !cfg!(feature = "rustls-tls-webpki-roots") {
            let tls = broken(Request::new().with_url("wss://localhost/?hush"));
            assert_eq!(tls, "no TLS feature is on for the URL");
        }
        let secret = Request::new().with_url("ws://localhost/?hush").with_header("a", "hush");
        assert!(!format!("{secret:?}").contains("hush"), "{secret:?}");
    }
}
