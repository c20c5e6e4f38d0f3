use std::sync::Arc;

use super::{
    IdentityCookie, SetCookie, Signature, Token, TokenKey,
    ring::{Ring, Role},
};
use crate::words::{millis::Millis, store::StoreError};

/// The keys that a store keeps, as they were when it was opened.
#[derive(Clone)]
pub(crate) struct StoredKeys {
    /// The one that the store was made with.
    pub(crate) first: [u8; 64],
    pub(crate) ring: Result<Ring, Arc<StoreError>>,
}

impl StoredKeys {
    pub(crate) fn new(first: [u8; 64], record: Option<&[u8]>) -> Self {
        let ring = record.map_or_else(|| Ok(Ring::of_first(first)), Ring::decode);
        Self { first, ring: ring.map_err(Arc::new) }
    }
}

/// The keys of a layer at a moment, ready for use.
pub(crate) struct KeySet {
    signs: TokenKey,
    /// Of processes that think it is later.
    waiting: Box<[TokenKey]>,
    old: Box<[TokenKey]>,
    set_cookie: Arc<SetCookie>,
    /// The ring, and what each of its keys does here; `None` without one.
    of: Option<(Ring, Vec<Role>)>,
}

impl KeySet {
    /// Returns the keys of a layer whose store keeps none: the one that signs, and the cookie's old ones.
    pub(crate) fn fixed(cookie: &IdentityCookie, signs: TokenKey) -> Self {
        Self::new(cookie, signs, Vec::new(), Vec::new(), None)
    }

    /// Returns what the keys of a ring are now.
    pub(crate) fn of_ring(cookie: &IdentityCookie, ring: &Ring, now: Millis) -> Self {
        let roles = ring.roles(now, cookie.max_age());
        let with = |wanted: Role| {
            let keys = ring.keys().iter().zip(&roles).filter(move |(_, role)| **role == wanted);
            keys.map(|(key, _)| TokenKey::new(key.secret()))
        };
        let signs = with(Role::Signs).next().expect("one key of a ring signs");
        let waiting = with(Role::Waiting).collect();
        // The latest first: most cookies are not long out of date.
        let mut old: Vec<_> = with(Role::Old).collect();
        old.reverse();
        Self::new(cookie, signs, waiting, old, Some((ring.clone(), roles.clone())))
    }

    fn new(
        cookie: &IdentityCookie,
        signs: TokenKey,
        waiting: Vec<TokenKey>,
        mut old: Vec<TokenKey>,
        of: Option<(Ring, Vec<Role>)>,
    ) -> Self {
        old.extend_from_slice(cookie.old_keys());
        let set_cookie = Arc::new(SetCookie::of(cookie, &signs));
        Self { signs, waiting: waiting.into(), old: old.into(), set_cookie, of }
    }

    /// Returns by which of the keys a token was signed. One that waits counts as the present one: it signs where it is later.
    pub(crate) fn signature(&self, token: &Token) -> Signature {
        let fits = |key: &TokenKey| key.fits(token);
        if fits(&self.signs) || self.waiting.iter().any(fits) {
            Signature::Present
        } else if self.old.iter().any(fits) {
            Signature::Old
        } else {
            Signature::Foreign
        }
    }

    /// Returns the key that signs.
    #[cfg_attr(not(feature = "tungstenite"), allow(dead_code, reason = "hops need hyper"))]
    pub(crate) fn signs(&self) -> &TokenKey {
        &self.signs
    }

    /// Returns the keys that prove identities; the one that signs comes first.
    #[cfg(feature = "server")]
    pub(crate) fn all(&self) -> impl Iterator<Item = &TokenKey> {
        std::iter::once(&self.signs).chain(&self.waiting).chain(&self.old)
    }

    pub(crate) fn set_cookie(&self) -> &Arc<SetCookie> {
        &self.set_cookie
    }

    /// Returns whether these are the keys of this ring in these roles.
    pub(crate) fn is_of(&self, ring: &Ring, roles: &[Role]) -> bool {
        self.of.as_ref().is_some_and(|(of, played)| of == ring && played == roles)
    }
}
