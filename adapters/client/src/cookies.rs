use std::{fmt, time::SystemTime};

use cookie::{Cookie, CookieJar, time::OffsetDateTime};
use http::{HeaderMap, HeaderValue, header};

use crate::ConfigError;

/// The cookies of the one URL that a client speaks to: the identity above all.
///
/// Without domains and paths, because they come from that URL and go back to it.
#[derive(Clone, Default)]
pub(crate) struct Cookies {
    jar: CookieJar,
}

impl Cookies {
    /// Adds `name=value`, or several as in a `Cookie` header.
    pub(crate) fn seed(&mut self, cookies: &str) -> Result<(), ConfigError> {
        for cookie in Cookie::split_parse(cookies.to_owned()) {
            self.jar.add_original(cookie.map_err(|_| ConfigError::Cookie)?);
        }
        HeaderValue::from_str(cookies).map_err(|_| ConfigError::Cookie)?;
        Ok(())
    }

    /// Takes in every `Set-Cookie` of a response.
    pub(crate) fn store(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(header::SET_COOKIE) {
            let Some(cookie) =
                value.to_str().ok().and_then(|text| Cookie::parse(text.to_owned()).ok())
            else {
                continue;
            };
            if is_expired(&cookie) {
                self.jar.force_remove(cookie.name());
            } else {
                self.jar.add_original(cookie);
            }
        }
    }

    /// Returns the value of the `Cookie` header; empty if there are none.
    pub(crate) fn header(&self) -> String {
        let mut pairs: Vec<_> =
            self.jar.iter().map(|cookie| cookie.stripped().to_string()).collect();
        pairs.sort_unstable();
        pairs.join("; ")
    }
}

fn is_expired(cookie: &Cookie<'_>) -> bool {
    match (cookie.max_age(), cookie.expires_datetime()) {
        (Some(age), _) => !age.is_positive(),
        (None, Some(expires)) => expires <= OffsetDateTime::from(SystemTime::now()),
        (None, None) => false,
    }
}

/// Names only: a cookie's value is a secret.
impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.jar.iter().map(Cookie::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_replaced_added_and_removed_as_the_server_says() {
        let mut cookies = Cookies::default();
        cookies.seed("a=1; b=2").unwrap();
        let mut headers = HeaderMap::new();
        for value in [
            "a=3; Path=/; HttpOnly",
            "c=4; Max-Age=60",
            "b=; Max-Age=0",
            "d=5; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "e=6; Expires=Fri, 31 Dec 9999 23:59:59 GMT",
            "nonsense",
        ] {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(value));
        }
        cookies.store(&headers);
        assert_eq!(cookies.header(), "a=3; c=4; e=6");
        assert_eq!(cookies.seed("nonsense"), Err(ConfigError::Cookie));
        assert_eq!(cookies.seed("a=b\r\nc: d"), Err(ConfigError::Cookie));
    }

    #[test]
    fn debug_tells_no_value() {
        let mut cookies = Cookies::default();
        cookies.seed("sr_id=hush").unwrap();
        assert_eq!(format!("{cookies:?}"), "{\"sr_id\"}");
    }
}
