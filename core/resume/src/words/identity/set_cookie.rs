//! The way there: the `Set-Cookie` header of an answer.

use cookie::Cookie;
use http::{HeaderMap, HeaderValue, header};

use super::{CookieName, Hour, Identity, IdentityCookie, TokenKey, token};

/// How the cookie of one answer is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Via {
    pub(crate) name: CookieName,
    pub(crate) secure: bool,
}

/// Writes the `Set-Cookie` values of a cookie. All but name and token is rendered once.
pub(crate) struct SetCookie {
    cookie: IdentityCookie,
    key: TokenKey,
    /// What follows the token: without `Secure`, and with.
    attributes: [String; 2],
}

impl SetCookie {
    pub(crate) fn of(cookie: &IdentityCookie, key: &TokenKey) -> Self {
        let start = cookie.name.len() + "=".len();
        let attributes = [false, true].map(|secure| {
            let mut text = Cookie::build((&*cookie.name, ""))
                .http_only(true)
                .same_site(cookie.same_site)
                .secure(secure)
                .partitioned(cookie.partitioned)
                .path(&*cookie.path);
            if let Some(domain) = cookie.domain.as_deref() {
                text = text.domain(domain);
            }
            if let Some(max_age) = cookie.max_age {
                text = text.max_age(max_age.try_into().unwrap_or(cookie::time::Duration::MAX));
            }
            text.build().to_string()[start..].to_owned()
        });
        Self { cookie: cookie.clone(), key: key.clone(), attributes }
    }

    /// Returns the value that hands `identity` out, marked sensitive so that HTTP/2 does not put it into a
    /// compression table and loggers hide it.
    pub(crate) fn value(&self, identity: Identity, issued: Hour, via: Via) -> HeaderValue {
        const LONGEST_SUFFIX: usize = "-65535=".len();
        let attributes = &self.attributes[usize::from(via.secure)];
        let length = self.cookie.name.len() + LONGEST_SUFFIX + token::TEXT_LEN + attributes.len();
        let mut text = String::with_capacity(length);
        text.push_str(&self.cookie.name);
        via.name.write_suffix(&mut text);
        text.push('=');
        self.key.sign(identity, issued, &mut text);
        text.push_str(attributes);
        let mut value =
            HeaderValue::try_from(text).expect("the layer was built with a validated cookie");
        value.set_sensitive(true);
        value
    }

    /// Returns whether an answer sets a cookie under one of our names already: a handler that has changed the
    /// identity has the last word.
    pub(crate) fn is_set_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::SET_COOKIE).iter();
        values.any(|value| self.cookie.value_of(value.as_bytes()).is_some())
    }
}
