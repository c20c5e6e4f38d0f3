//! The cookie that carries an identity: how it is set, and how it is found again.

use std::{borrow::Cow, fmt, time::Duration};

use cookie::Cookie;
pub use cookie::SameSite;
use http::{HeaderMap, HeaderValue, header};
use memchr::memchr;

use super::{ConfigError, Identity, Token, TokenKey, token};
use crate::request::RequestView;

/// Browsers keep a cookie for 400 days at most, so a year is about as long as one can ask for.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How many cookies of our name and a token's length are checked in one request.
///
/// An honest browser sends one, or a few after the cookie's path or domain was changed. A hostile subdomain can
/// plant others in front of it, as many as browsers keep for one site (Chrome 180): they must not lock anybody
/// out. Nor must who sends an endless header make us compute endless MACs: so many cost about 50 µs.
pub(super) const MAX_CHECKS: usize = 256;

const HOST_PREFIX: &str = "__Host-";
const SECURE_PREFIX: &str = "__Secure-";

/// The cookie that tells the server who comes back.
///
/// Always `HttpOnly`. What is wrong with a combination of settings is found by
/// [`validate`](Self::validate) when the layer is built.
///
/// | setting | default |
/// | --- | --- |
/// | name | `sr_id` |
/// | `Secure` | on requests known to be https |
/// | `SameSite` | `Lax` |
/// | `Domain` | none: this host alone |
/// | `Path` | `/` |
/// | `Max-Age` | 365 days |
/// | key | the one the store keeps, else a random one per process |
///
/// # Security
///
/// The key signs identities: who has it can be anybody. It appears in no `Debug` output.
///
/// A cookie without the [`__Host-` prefix](Self::with_host_prefix) can be overwritten from sibling
/// subdomains. Such a cookie is only believed with a fitting signature, so it can at worst make the
/// browser the identity of whoever planted it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use session_resume::{IdentityCookie, SameSite};
///
/// let cookie = IdentityCookie::new("desk")
///     .with_host_prefix()
///     .with_same_site(SameSite::Strict)
///     .with_max_age(Duration::from_secs(7 * 24 * 60 * 60));
/// assert_eq!(cookie.name(), "__Host-desk");
/// assert_eq!(cookie.validate(), Ok(()));
/// ```
#[derive(Clone)]
pub struct IdentityCookie {
    name: Cow<'static, str>,
    /// `None`: when the request is known to be https.
    secure: Option<bool>,
    same_site: SameSite,
    domain: Option<Cow<'static, str>>,
    path: Cow<'static, str>,
    max_age: Option<Duration>,
    key: Option<TokenKey>,
}

impl IdentityCookie {
    /// Creates the cookie `name` with defaults for everything else.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            secure: None,
            same_site: SameSite::Lax,
            domain: None,
            path: Cow::Borrowed("/"),
            max_age: Some(DEFAULT_MAX_AGE),
            key: None,
        }
    }

    /// Sets whether the cookie is `Secure`: kept from requests over plain http.
    ///
    /// Without this it is on for requests known to be https: from the URI's scheme, or from
    /// `X-Forwarded-Proto` or `Forwarded` of a proxy. Those headers can only turn it on, so
    /// believing them is harmless. It is also on where browsers demand it: with
    /// [`SameSite::None`] and with a name that begins with `__Host-` or `__Secure-`.
    #[must_use]
    pub fn with_secure(mut self, secure: bool) -> Self {
        self.secure = Some(secure);
        self
    }

    /// Sets on which cross-site requests browsers send the cookie; the default is
    /// [`SameSite::Lax`].
    ///
    /// [`SameSite::None`] is for pages that are embedded in other sites. Other sites can then
    /// make requests in the user's name, too; upgrades are still held to the allowed origins.
    #[must_use]
    pub fn with_same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Sets the domain whose hosts share the cookie; by default it is this host's alone.
    #[must_use]
    pub fn with_domain(mut self, domain: impl Into<Cow<'static, str>>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Sets the path below which browsers send the cookie; the default is `/`.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<Cow<'static, str>>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets for how long browsers keep the cookie, in whole seconds; the default is 365 days.
    ///
    /// `None`: until the browser is closed.
    #[must_use]
    pub fn with_max_age(mut self, max_age: impl Into<Option<Duration>>) -> Self {
        self.max_age = max_age.into();
        self
    }

    /// Sets the key that signs identities: 64 bytes from a cryptographic random source.
    ///
    /// By default it is the key that the store keeps, or, without such a store, a random one per
    /// process: then nobody is known any more after a restart. Several processes that serve the
    /// same browsers need the same key.
    #[must_use]
    pub fn with_key(mut self, key: [u8; 64]) -> Self {
        self.key = Some(TokenKey::new(&key));
        self
    }

    /// Puts `__Host-` in front of the name and sets what browsers demand for it: `Secure`,
    /// `Path=/`, no `Domain`.
    ///
    /// No other host, sibling subdomains included, can then set or overwrite the cookie.
    #[must_use]
    pub fn with_host_prefix(mut self) -> Self {
        if !has_prefix(&self.name, HOST_PREFIX) {
            self.name = Cow::Owned(format!("{HOST_PREFIX}{}", self.name));
        }
        self.secure = Some(true);
        self.domain = None;
        self.path = Cow::Borrowed("/");
        self
    }

    /// Returns the name, with its prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks whether browsers will keep and return this cookie.
    ///
    /// # Errors
    ///
    /// The first [`ConfigError`] that is found.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.name.is_empty() || !self.name.bytes().all(is_name_byte) {
            let name = self.name.to_string();
            return Err(ConfigError::CookieName { name });
        }
        if let Some(domain) = self.domain.as_deref()
            && !is_domain(domain)
        {
            let domain = domain.to_owned();
            return Err(ConfigError::CookieDomain { domain });
        }
        if !is_path(&self.path) {
            let path = self.path.to_string();
            return Err(ConfigError::CookiePath { path });
        }
        if let Some(max_age) = self.max_age
            && max_age.as_secs() == 0
        {
            return Err(ConfigError::CookieMaxAge { max_age });
        }
        if self.same_site == SameSite::None && self.secure == Some(false) {
            return Err(ConfigError::SameSiteNoneNotSecure);
        }
        match self.broken_promise() {
            Some(needs) => {
                let name = self.name.to_string();
                Err(ConfigError::CookiePrefix { name, needs })
            }
            None => Ok(()),
        }
    }

    /// Returns the key given with [`with_key`](Self::with_key).
    pub(crate) fn key(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }

    /// Returns the first identity in `headers` whose token `is_signed`.
    ///
    /// Walks every pair of every `Cookie` header: HTTP/2 splits the header, and browsers send
    /// several cookies of one name if their paths or domains differ. At most [`MAX_CHECKS`]
    /// tokens are checked. Does not allocate.
    pub(crate) fn find(
        &self,
        headers: &HeaderMap,
        mut is_signed: impl FnMut(&Token) -> bool,
    ) -> Option<Identity> {
        let name = self.name.as_bytes();
        let mut checks = 0;
        // Loops: the same as a chain of iterators costs twice as much, in every request.
        for line in headers.get_all(header::COOKIE) {
            let mut rest = line.as_bytes();
            loop {
                let pair = rest.trim_ascii_start();
                if let Some(token) = value_of(pair, name).and_then(token::whole_at_start) {
                    if checks == MAX_CHECKS {
                        return None;
                    }
                    checks += 1;
                    if let Some(token) = Token::read(token)
                        && is_signed(&token)
                    {
                        return Some(token.identity);
                    }
                }
                // Only now: where a token ends is known without looking for it.
                let Some(end) = memchr(b';', pair) else {
                    break;
                };
                rest = &pair[end + 1..];
            }
        }
        None
    }

    /// Returns whether the cookie in the answer to `req` gets `Secure`.
    pub(crate) fn request_is_secure(&self, req: RequestView<'_>) -> bool {
        self.secure.unwrap_or_else(|| self.demands_secure() || req.is_https())
    }

    fn demands_secure(&self) -> bool {
        self.same_site == SameSite::None
            || has_prefix(&self.name, HOST_PREFIX)
            || has_prefix(&self.name, SECURE_PREFIX)
    }

    /// What the name's prefix promises and the settings do not keep.
    fn broken_promise(&self) -> Option<&'static str> {
        let host = has_prefix(&self.name, HOST_PREFIX);
        if self.demands_secure() && self.secure == Some(false) {
            Some("Secure")
        } else if host && self.path != "/" {
            Some("Path=/")
        } else if host && self.domain.is_some() {
            Some("no Domain")
        } else {
            None
        }
    }
}

/// The `Set-Cookie` values of a cookie, all but the token: a first visit is not the time to render them.
pub(crate) struct SetCookie {
    /// `name=`
    start: String,
    /// What follows the token: without `Secure`, and with.
    attributes: [String; 2],
}

impl SetCookie {
    pub(crate) fn of(cookie: &IdentityCookie) -> Self {
        let start = format!("{}=", cookie.name);
        let attributes = [false, true].map(|secure| {
            let mut text = Cookie::build((&*cookie.name, ""))
                .http_only(true)
                .same_site(cookie.same_site)
                .secure(secure)
                .path(&*cookie.path);
            if let Some(domain) = cookie.domain.as_deref() {
                text = text.domain(domain);
            }
            if let Some(max_age) = cookie.max_age {
                text = text.max_age(max_age.try_into().unwrap_or(cookie::time::Duration::MAX));
            }
            text.build().to_string()[start.len()..].to_owned()
        });
        Self { start, attributes }
    }

    /// Returns the value that hands `identity` out, marked sensitive so that HTTP/2 does not put it into a
    /// compression table and loggers hide it.
    ///
    /// `secure` is what [`request_is_secure`](IdentityCookie::request_is_secure) said of the request.
    pub(crate) fn value(&self, key: &TokenKey, identity: Identity, secure: bool) -> HeaderValue {
        let attributes = &self.attributes[usize::from(secure)];
        let length = self.start.len() + token::TEXT_LEN + attributes.len();
        let mut text = String::with_capacity(length);
        text.push_str(&self.start);
        key.sign(identity, &mut text);
        text.push_str(attributes);
        let mut value =
            HeaderValue::try_from(text).expect("the layer was built with a validated cookie");
        value.set_sensitive(true);
        value
    }
}

impl Default for IdentityCookie {
    fn default() -> Self {
        Self::new("sr_id")
    }
}

impl fmt::Debug for IdentityCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityCookie")
            .field("name", &self.name)
            .field("secure", &self.secure)
            .field("same_site", &self.same_site)
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("max_age", &self.max_age)
            .finish_non_exhaustive()
    }
}

/// What follows the name and `=`, if the first pair's name is `name`, exactly: cookie names are case-sensitive.
fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.strip_prefix(name)?.strip_prefix(b"=")
}

/// Without regard to case, as browsers compare these prefixes.
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The `token` of RFC 9110, which RFC 6265 asks of cookie names.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A leading dot is allowed, as browsers ignore it.
fn is_domain(domain: &str) -> bool {
    let host = domain.strip_prefix('.').unwrap_or(domain);
    host.split('.').all(|label| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    })
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b';')
}
