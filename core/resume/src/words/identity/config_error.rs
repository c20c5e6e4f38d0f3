use std::fmt;

/// What is wrong with an [`IdentityCookie`](super::IdentityCookie).
///
/// Found when the layer is built, not at the first request. Each of these cookies would be
/// dropped or cut short by browsers, which then come back with a new identity every time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The cookie's name is empty or has characters that no cookie name may have.
    CookieName {
        /// The name as given.
        name: String,
    },
    /// The cookie's domain is not a host name in ASCII.
    CookieDomain {
        /// The domain as given.
        domain: String,
    },
    /// The cookie's path does not begin with `/`, or has `;` or characters outside ASCII.
    CookiePath {
        /// The path as given.
        path: String,
    },
    /// The cookie's `Max-Age` is under one second, which deletes it at once.
    CookieMaxAge {
        /// The age as given.
        max_age: std::time::Duration,
    },
    /// `SameSite=None` with `Secure` switched off.
    SameSiteNoneNotSecure,
    /// The name begins with `__Secure-` or `__Host-`, and the cookie breaks that prefix's promise.
    CookiePrefix {
        /// The name with its prefix.
        name: String,
        /// The promise: `Secure`, `Path=/` or `no Domain`.
        needs: &'static str,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CookieName { name } => write!(f, "{name:?} cannot be the name of a cookie"),
            Self::CookieDomain { domain } => {
                write!(f, "{domain:?} cannot be the domain of a cookie")
            }
            Self::CookiePath { path } => write!(f, "{path:?} cannot be the path of a cookie"),
            Self::CookieMaxAge { max_age } => {
                write!(f, "a cookie must live for at least 1 s (got {max_age:?})")
            }
            Self::SameSiteNoneNotSecure => {
                f.write_str("a cookie with SameSite=None must be Secure")
            }
            Self::CookiePrefix { name, needs } => {
                write!(f, "the prefix of the cookie name {name:?} needs {needs}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
