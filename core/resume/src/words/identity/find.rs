//! The way back: from a request's `Cookie` headers to an identity.

use http::header;
use memchr::memchr;

use super::{CookieName, Hour, Identity, IdentityCookie, Signature, Token, token};
use crate::words::request::RequestView;

/// How many cookies of our name and a token's length are checked in one request.
///
/// An honest browser sends one, or a few after the cookie's path or domain was changed. A hostile subdomain can
/// plant others in front of it, as many as browsers keep for one site (Chrome 180): they must not lock the browser
/// out. An endless header must not make us compute endless MACs: 256 of them cost about 50 µs.
pub(super) const MAX_CHECKS: usize = 256;

/// What a request's cookies say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CookieCheck {
    pub(crate) known: Option<Known>,
    /// There is a cookie of the request's own name whose MAC is not ours.
    pub(crate) foreign: bool,
}

/// An identity whose cookie has come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) identity: Identity,
    /// When the cookie was set.
    pub(crate) issued: Hour,
    /// Its key signs none any more.
    pub(crate) by_old_key: bool,
    /// Under which name it came.
    pub(crate) name: CookieName,
}

impl IdentityCookie {
    /// Returns the identity whose token has a `signature` of ours: the one under the request's own name, else the first.
    ///
    /// Walks every pair of every `Cookie` header: HTTP/2 splits the header, and browsers send
    /// several cookies of one name if their paths or domains differ. At most [`MAX_CHECKS`]
    /// tokens are checked. Does not allocate.
    pub(crate) fn find(
        &self,
        req: RequestView<'_>,
        mut signature: impl FnMut(&Token) -> Signature,
    ) -> CookieCheck {
        let mut found = CookieCheck::default();
        let mut checks = 0;
        // Loops: the same as a chain of iterators costs twice as much, in every request.
        for line in req.headers().get_all(header::COOKIE) {
            let mut rest = line.as_bytes();
            loop {
                let pair = rest.trim_ascii_start();
                if let Some((name, value)) = self.value_of(pair)
                    && let Some(text) = token::whole_at_start(value)
                {
                    // The request's own name is only asked for if there is more than one: that costs a look
                    // for its authority.
                    if let Some(known) = found.known
                        && (name == known.name || known.name == self.name_for(req))
                    {
                        return found;
                    }
                    if checks == MAX_CHECKS {
                        return found;
                    }
                    checks += 1;
                    if let Some(token) = Token::read(text) {
                        let signature = signature(&token);
                        if signature == Signature::Foreign {
                            found.foreign |= !found.foreign && name == self.name_for(req);
                        } else {
                            let Token { identity, issued, mac: _ } = token;
                            let by_old_key = signature == Signature::Old;
                            let known = Known { identity, issued, by_old_key, name };
                            if found.known.is_none() || name == self.name_for(req) {
                                found.known = Some(known);
                            }
                            if !self.per_port {
                                return found;
                            }
                        }
                    }
                }
                // Only now: where a token ends is known without looking for it.
                let Some(end) = memchr(b';', pair) else {
                    break;
                };
                rest = &pair[end + 1..];
            }
        }
        found
    }
}
