//! The cookie's value: an identity and the proof that we handed it out.
//!
//! One base64url text (no padding) of 33 bytes, hence always 44 characters with no spare bits, so
//! that each token has exactly one spelling:
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 16 | the identity, a version 4 UUID |
//! | 16 | the first half of HMAC-SHA-256 over [`DOMAIN`], version and identity |
//!
//! RFC 2104 allows half of the output; 128 bits cannot be guessed online. `DOMAIN` keeps a MAC
//! made by another part of an application under the same key from being worth anything here.
//! `tests/vectors/identity-token.json` pins the format.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::Identity;

const VERSION: u8 = 1;

/// Domain, version and identity are 40 bytes: with its padding that is one SHA-256 block.
const DOMAIN: &[u8] = b"session-resume identity";

const MAC_START: usize = 1 + 16;
const RAW_LEN: usize = MAC_START + 16;
pub(super) const TEXT_LEN: usize = RAW_LEN / 3 * 4;

/// The key that signs identities, ready for use.
///
/// The key's own two blocks are hashed once, when it is made; a token then costs two compressions.
#[derive(Clone)]
pub(crate) struct TokenKey {
    keyed: Hmac<Sha256>,
}

impl TokenKey {
    /// Takes the 64 bytes that DESIGN calls the key: exactly one block of SHA-256.
    pub(crate) fn new(key: &[u8; 64]) -> Self {
        let mut keyed = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        // Once, not for every token: whoever clones this goes on from here.
        keyed.update(DOMAIN);
        Self { keyed }
    }

    /// Appends the token of `identity`.
    pub(crate) fn sign(&self, identity: Identity, text: &mut String) {
        let mut raw = [0; RAW_LEN];
        raw[0] = VERSION;
        raw[1..MAC_START].copy_from_slice(identity.as_uuid().as_bytes());
        let mac = self.mac(&raw).finalize().into_bytes();
        let kept = RAW_LEN - MAC_START;
        raw[MAC_START..].copy_from_slice(&mac[..kept]);
        BASE64URL_NOPAD.encode_append(&raw, text);
    }

    /// Returns the identity that `token` proves, or `None` if we never signed it.
    ///
    /// Does not allocate; the MAC is compared in constant time.
    pub(crate) fn verify(&self, token: impl AsRef<[u8]>) -> Option<Identity> {
        let raw = decode(token.as_ref())?;
        // Before the MAC, since it costs next to nothing and tells a stranger nothing: version and
        // UUID are what they sent.
        if raw[0] != VERSION {
            return None;
        }
        let uuid = Uuid::from_slice(&raw[1..MAC_START]).ok()?;
        let identity = Identity::from_uuid(uuid)?;
        self.mac(&raw).verify_truncated_left(&raw[MAC_START..]).ok()?;
        Some(identity)
    }

    fn mac(&self, raw: &[u8; RAW_LEN]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(&raw[..MAC_START]);
        mac
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").finish_non_exhaustive()
    }
}

/// Returns what could be a token at the start of `value`, so that its MAC is worth computing: as many bytes as
/// one has, with the end of the cookie behind them.
pub(super) fn whole_at_start(value: &[u8]) -> Option<&[u8]> {
    let (token, after) = value.split_at_checked(TEXT_LEN)?;
    matches!(after.trim_ascii_start(), [] | [b';', ..]).then_some(token)
}

fn decode(text: &[u8]) -> Option<[u8; RAW_LEN]> {
    if text.len() != TEXT_LEN {
        return None;
    }
    let mut raw = [0; RAW_LEN];
    let len = BASE64URL_NOPAD.decode_mut(text, &mut raw).ok()?;
    (len == RAW_LEN).then_some(raw)
}
