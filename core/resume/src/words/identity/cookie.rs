//! The settings of the cookie that carries an identity.

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

pub use cookie::SameSite;

use super::TokenKey;
use crate::words::{
    config_error::{ConfigError, ConfigErrorKind},
    request::RequestView,
};

/// Browsers keep a cookie for 400 days at most, so a year is about as long as one can ask for.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

const HOST_PREFIX: &str = "__Host-";
const SECURE_PREFIX: &str = "__Secure-";

/// The cookie that tells the server which browser comes back.
///
/// Always `HttpOnly`. What is wrong with a combination of settings is found by
/// [`validate`](Self::validate), and by the layer before its first request.
///
/// | setting | default |
/// | --- | --- |
/// | name | `sr_id`, or `sr_id-<port>` where the request's `Host` names a port |
/// | `Secure` | on requests known to be https |
/// | `SameSite` | `Lax` |
/// | `Domain` | none: this host alone |
/// | `Path` | `/` |
/// | `Max-Age` | 365 days |
/// | `Partitioned` | no |
/// | key | the one that the store keeps ([and rotates](crate::SessionResume::rotate_identity_keys)), else a random one per process |
/// | old keys | none |
///
/// # Security
///
/// The key signs identities: a program that has the key can take any identity. The key appears in no `Debug` output.
///
/// A cookie without the [`__Host-` prefix](Self::with_host_prefix) can be overwritten from sibling
/// subdomains. Such a cookie is only believed with a fitting signature, so it can at worst make the
/// browser take the identity of the client that planted it.
///
/// # When it is set
///
/// An answer sets the cookie of a new identity if its request used the identity or a session, or if it is a page:
/// a navigation answered 2xx with `text/html`. Pages set it so that the requests of the page all carry it. It is
/// never set on an answer that shared caches may keep (`Cache-Control` with `public`, `s-maxage` or `immutable`),
/// on a preflight, or where the browser says that it withheld the cookie (a form that another site posts).
///
/// The cookie of a known identity is set anew when it is used and the last time is a day ago.
///
/// # Its name
///
/// Browsers keep cookies by host and not by port, so two applications on one host would overwrite each other's.
/// The default's name therefore has the port behind it where the request's authority names one. A cookie under
/// any such name, or without a port, is read; the one of the request's own port counts first. A name that
/// [`new`](Self::new) gives is used as it is.
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
    pub(super) name: Cow<'static, str>,
    /// The request's port is part of the name, if its authority names one.
    pub(super) per_port: bool,
    /// `None`: when the request is known to be https.
    secure: Option<bool>,
    pub(super) same_site: SameSite,
    pub(super) domain: Option<Cow<'static, str>>,
    pub(super) path: Cow<'static, str>,
    pub(super) max_age: Option<Duration>,
    pub(super) partitioned: bool,
    key: Option<TokenKey>,
    /// Shared: the settings are cloned for each layer.
    old_keys: Arc<[TokenKey]>,
}

impl IdentityCookie {
    /// Creates the cookie `name` with defaults for everything else. The name stays as given: no port is added.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            per_port: false,
            secure: None,
            same_site: SameSite::Lax,
            domain: None,
            path: Cow::Borrowed("/"),
            max_age: Some(DEFAULT_MAX_AGE),
            partitioned: false,
            key: None,
            old_keys: Arc::new([]),
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
    /// process: then no browser is known any more after a restart. Several processes that serve the
    /// same browsers need the same key.
    #[must_use]
    pub fn with_key(mut self, key: [u8; 64]) -> Self {
        self.key = Some(TokenKey::new(&key));
        self
    }

    /// Sets keys that prove identities, too, and sign none. By default there are none.
    ///
    /// A browser whose cookie was signed with one of these keys is known. When such a cookie is used, the answer replaces
    /// it by one under the present key: that of [`with_key`](Self::with_key), or the one that the store keeps.
    ///
    /// # How to change the key
    ///
    /// Keys that a store keeps are changed by [`rotate_identity_keys`](crate::SessionResume::rotate_identity_keys). This is for
    /// keys that [`with_key`](Self::with_key) gives.
    ///
    /// Processes that serve the same browsers must know a key before one of them signs with it. So a change takes
    /// three deploys:
    ///
    /// 1. `with_key(old).with_old_keys([new])`: all processes believe both keys.
    /// 2. `with_key(new).with_old_keys([old])`: cookies are replaced as browsers come back. Nodes of a cluster
    ///    believe each other under either key.
    /// 3. `with_key(new)`, when the cookie's [`Max-Age`](Self::with_max_age) has passed since the second deploy. By then
    ///    browsers have deleted the cookies that are left under the old key.
    ///
    /// A single process can begin with the second step. If somebody else may have the old key, leave the old key out at
    /// once: browsers then start anew.
    ///
    /// # Example
    ///
    /// ```
    /// use session_resume::IdentityCookie;
    ///
    /// # let [new, old] = [[1; 64], [2; 64]];
    /// let cookie = IdentityCookie::default().with_key(new).with_old_keys([old]);
    /// # assert_eq!(cookie.validate(), Ok(()));
    /// ```
    #[must_use]
    pub fn with_old_keys(mut self, keys: impl IntoIterator<Item = [u8; 64]>) -> Self {
        self.old_keys = keys.into_iter().map(|key| TokenKey::new(&key)).collect();
        self
    }

    /// Sets whether the cookie is `Partitioned` (CHIPS); the default is no.
    ///
    /// A browser keeps a partitioned cookie apart for each site that embeds this one. A page in a frame of another site
    /// needs this together with [`SameSite::None`]: browsers that block third-party cookies keep only partitioned ones
    /// there. So the same browser has one identity for each embedding site, and one where this site is
    /// opened by itself. Browsers demand `Secure` for it, so the cookie is then always `Secure`.
    ///
    /// # Example
    ///
    /// ```
    /// use session_resume::{IdentityCookie, SameSite};
    ///
    /// let cookie = IdentityCookie::new("desk")
    ///     .with_host_prefix()
    ///     .with_same_site(SameSite::None)
    ///     .with_partitioned(true);
    /// assert_eq!(cookie.validate(), Ok(()));
    /// ```
    #[must_use]
    pub fn with_partitioned(mut self, partitioned: bool) -> Self {
        self.partitioned = partitioned;
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

    /// Returns the name, with its prefix, and without the port that the default adds.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks whether browsers will keep and return this cookie.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError`] with the first conflict that is found. Browsers would drop such a cookie or cut it short,
    /// and come back with a new identity every time.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::check(self.conflict().into_iter().collect())
    }

    pub(crate) fn conflict(&self) -> Option<ConfigErrorKind> {
        if self.name.is_empty() || !self.name.bytes().all(is_name_byte) {
            let name = self.name.to_string();
            return Some(ConfigErrorKind::CookieName { name });
        }
        if let Some(domain) = self.domain.as_deref()
            && !is_domain(domain)
        {
            let domain = domain.to_owned();
            return Some(ConfigErrorKind::CookieDomain { domain });
        }
        if !is_path(&self.path) {
            let path = self.path.to_string();
            return Some(ConfigErrorKind::CookiePath { path });
        }
        if let Some(max_age) = self.max_age
            && max_age.as_secs() == 0
        {
            return Some(ConfigErrorKind::CookieMaxAge { max_age });
        }
        if self.same_site == SameSite::None && self.secure == Some(false) {
            return Some(ConfigErrorKind::SameSiteNoneNotSecure);
        }
        if self.partitioned && self.secure == Some(false) {
            return Some(ConfigErrorKind::PartitionedNotSecure);
        }
        let needs = self.broken_promise()?;
        Some(ConfigErrorKind::CookiePrefix { name: self.name.to_string(), needs })
    }

    /// Returns the key given with [`with_key`](Self::with_key).
    pub(crate) fn key(&self) -> Option<&TokenKey> {
        self.key.as_ref()
    }

    /// Returns for how long browsers keep the cookie; `None`: until they are closed.
    pub(crate) fn max_age(&self) -> Option<Duration> {
        self.max_age
    }

    /// Returns the keys given with [`with_old_keys`](Self::with_old_keys).
    pub(crate) fn old_keys(&self) -> &[TokenKey] {
        &self.old_keys
    }

    /// Returns whether the cookie in the answer to `req` gets `Secure`.
    pub(crate) fn request_is_secure(&self, req: RequestView<'_>) -> bool {
        self.secure.unwrap_or_else(|| self.demands_secure() || req.is_https())
    }

    /// Returns whether browsers withhold the cookie from this request, because another site makes them send it.
    ///
    /// What they have not sent they still have: an identity made for such a request must not take its place.
    pub(crate) fn is_withheld(&self, req: RequestView<'_>) -> bool {
        if req.fetch_metadata("sec-fetch-site") != Some(b"cross-site") {
            return false;
        }
        match self.same_site {
            SameSite::None => false,
            SameSite::Lax => !req.is_top_level_navigation(),
            SameSite::Strict => true,
        }
    }

    /// Returns whether browsers forget the cookie some time, so that it must be set anew.
    pub(crate) fn is_renewed(&self) -> bool {
        self.max_age.is_some()
    }

    fn demands_secure(&self) -> bool {
        self.same_site == SameSite::None
            || self.partitioned
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

impl Default for IdentityCookie {
    fn default() -> Self {
        Self { per_port: true, ..Self::new("sr_id") }
    }
}

impl fmt::Debug for IdentityCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityCookie")
            .field("name", &self.name)
            .field("per_port", &self.per_port)
            .field("secure", &self.secure)
            .field("same_site", &self.same_site)
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("max_age", &self.max_age)
            .field("partitioned", &self.partitioned)
            .field("old_keys", &self.old_keys.len())
            .finish_non_exhaustive()
    }
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
