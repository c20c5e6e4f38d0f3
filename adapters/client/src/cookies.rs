use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use cookie::{Cookie, time::OffsetDateTime};
use http::{HeaderMap, HeaderValue, header};

use crate::ConfigError;

/// The cookies of one server, the identity above all. Cheap to clone: clones share them.
///
/// Clients that share a jar ([`Builder::with_cookie_jar`](crate::Builder::with_cookie_jar)) are one browser to the
/// server. The jar knows no domains and paths: its cookies come from one server and go back to it.
#[derive(Clone, Default)]
pub struct CookieJar {
    jar: Arc<Mutex<cookie::CookieJar>>,
}

impl CookieJar {
    /// Creates an empty jar.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `name=value`, or several as in a `Cookie` header.
    ///
    /// # Errors
    ///
    /// Returns [`ConfigError::Cookie`] if one is not `name=value`.
    pub fn add(&self, cookies: &str) -> Result<(), ConfigError> {
        HeaderValue::from_str(cookies).map_err(|_| ConfigError::Cookie)?;
        let cookies: Result<Vec<_>, _> = Cookie::split_parse(cookies.to_owned()).collect();
        let mut jar = self.lock();
        cookies.map_err(|_| ConfigError::Cookie)?.into_iter().for_each(|one| jar.add_original(one));
        Ok(())
    }

    /// Takes in every `Set-Cookie` of a response.
    pub fn store(&self, headers: &HeaderMap) {
        let mut jar = self.lock();
        for value in headers.get_all(header::SET_COOKIE) {
            let Some(cookie) =
                value.to_str().ok().and_then(|text| Cookie::parse(text.to_owned()).ok())
            else {
                continue;
            };
            if is_expired(&cookie) {
                jar.force_remove(cookie.name());
            } else {
                jar.add_original(cookie);
            }
        }
    }

    /// Removes the cookie of this name, if it is there.
    pub fn remove(&self, name: &str) {
        self.lock().force_remove(name);
    }

    /// Returns the value of the `Cookie` header; empty if there are none.
    pub fn header(&self) -> String {
        let jar = self.lock();
        let mut pairs: Vec<_> = jar.iter().map(|cookie| cookie.stripped().to_string()).collect();
        pairs.sort_unstable();
        pairs.join("; ")
    }

    fn lock(&self) -> MutexGuard<'_, cookie::CookieJar> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
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
impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.lock().iter().map(Cookie::name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_replaced_added_and_removed_as_the_server_says() {
        let cookies = CookieJar::new();
        cookies.add("a=1; b=2").unwrap();
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
        cookies.clone().remove("c");
        assert_eq!(cookies.header(), "a=3; e=6", "clones share them");
        assert_eq!(cookies.add("nonsense"), Err(ConfigError::Cookie));
        assert_eq!(cookies.add("a=b\r\nc: d"), Err(ConfigError::Cookie));
    }

    #[test]
    fn debug_tells_no_value() {
        let cookies = CookieJar::new();
        cookies.add("sr_id=hush").unwrap();
        assert_eq!(format!("{cookies:?}"), "{\"sr_id\"}");
    }
}
