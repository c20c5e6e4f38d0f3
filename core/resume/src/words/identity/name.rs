use crate::words::request::RequestView;

use super::IdentityCookie;

/// Under which of its names a cookie is set, or was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum CookieName {
    /// As it is configured.
    #[default]
    Plain,
    /// With this port behind it.
    OfPort(u16),
}

impl CookieName {
    /// What follows the configured name; empty or a hyphen and the port.
    pub(super) fn write_suffix(self, text: &mut String) {
        if let Self::OfPort(port) = self {
            let mut digits = [0; 5];
            let mut at = digits.len();
            let mut rest = port;
            // By hand: formatting is a good part of what a first visit costs.
            loop {
                at -= 1;
                digits[at] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            text.push('-');
            text.extend(digits[at..].iter().map(|&digit| char::from(digit)));
        }
    }
}

impl IdentityCookie {
    /// Returns the name under which the cookie is set in the answer to `req`.
    pub(crate) fn name_for(&self, req: RequestView<'_>) -> CookieName {
        match req.port().filter(|_| self.per_port) {
            Some(port) => CookieName::OfPort(port),
            None => CookieName::Plain,
        }
    }

    /// Returns which of our names the first pair of `pairs` has, and what follows its `=`.
    ///
    /// Names are compared exactly: cookie names are case-sensitive.
    pub(super) fn value_of<'a>(&self, pairs: &'a [u8]) -> Option<(CookieName, &'a [u8])> {
        let rest = pairs.strip_prefix(self.name.as_bytes())?;
        if let Some(value) = rest.strip_prefix(b"=") {
            return Some((CookieName::Plain, value));
        }
        let rest = rest.strip_prefix(b"-").filter(|_| self.per_port)?;
        let equals = rest.iter().take(6).position(|&byte| byte == b'=')?;
        Some((CookieName::OfPort(port(&rest[..equals])?), &rest[equals + 1..]))
    }
}

/// Reads a port as it is written without superfluous digits, so that one port is one name.
fn port(digits: &[u8]) -> Option<u16> {
    let canonical = digits.len() == 1 || !digits.starts_with(b"0");
    if !canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}
