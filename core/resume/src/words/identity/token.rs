//! The cookie's value: an identity and the proof that we handed it out.
//!
//! One base64url text (no padding) of 36 bytes, hence always 48 characters with no spare bits, so
//! that each token has exactly one spelling:
//!
//! | bytes | meaning |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 16 | the identity, a version 4 UUID |
//! | 3 | when the cookie was set, in hours since 1970, big-endian: it is renewed once a day |
//! | 16 | the first half of HMAC-SHA-256 over [`DOMAIN`] and all that comes before |
//!
//! RFC 2104 allows half of the output; 128 bits cannot be guessed online. `DOMAIN` keeps a MAC
//! made by another part of an application under the same key from being worth anything here.
//! `tests/vectors/identity-token.json` pins the format.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::Identity;

const VERSION: u8 = 1;

/// Domain, version, identity and hour are 43 bytes: with its padding that is one SHA-256 block.
const DOMAIN: &[u8] = b"session-resume identity";

const HOUR_START: usize = 1 + 16;
const MAC_START: usize = HOUR_START + 3;
const RAW_LEN: usize = MAC_START + 16;
pub(super) const TEXT_LEN: usize = RAW_LEN / 3 * 4;

/// What a cookie says: the browser's identity, and a MAC that may prove it.
#[derive(Clone, Copy)]
pub(crate) struct Token {
    pub(crate) identity: Identity,
    pub(crate) issued: Hour,
    pub(crate) mac: [u8; RAW_LEN - MAC_START],
}

impl Token {
    /// Reads a token; whether it proves anything is another question. Does not allocate.
    pub(crate) fn read(text: impl AsRef<[u8]>) -> Option<Self> {
        let raw = decode(text.as_ref())?;
        let (body, mac) = raw.split_last_chunk()?;
        let &[VERSION, ref uuid @ .., high, middle, low] = body else {
            return None;
        };
        let identity = Identity::from_uuid(Uuid::from_slice(uuid).ok()?)?;
        Some(Self { identity, issued: Hour(u32::from_be_bytes([0, high, middle, low])), mac: *mac })
    }
}

/// A whole hour since 1970: when a cookie was set need not be known more exactly. Three bytes, until the year 3883.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hour(u32);

impl Hour {
    const LAST: u32 = 0xff_ffff;
    /// A cookie is set anew when it is used and as old as this.
    const RENEWED_AFTER: u32 = 24;

    pub(crate) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self(u32::try_from(since.as_secs() / 3600).unwrap_or(Self::LAST).min(Self::LAST))
    }

    pub(crate) const fn from_number(number: u32) -> Self {
        Self(number & Self::LAST)
    }

    pub(crate) const fn number(self) -> u32 {
        self.0
    }

    /// Returns whether a cookie that was set at this hour is due for another one. One from the future is, too: the
    /// clock was wrong then.
    pub(crate) const fn is_over(self, now: Self) -> bool {
        self.0.abs_diff(now.0) >= Self::RENEWED_AFTER
    }
}

/// By which key a token was signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Signature {
    /// None that we know.
    Foreign,
    /// One that proves identities, and signs none any more.
    Old,
    /// The one that signs now.
    Present,
}

/// The key that signs identities, ready for use.
///
/// The key's own two blocks are hashed once, when it is made; a token then costs two compressions.
#[derive(Clone)]
pub(crate) struct TokenKey {
    keyed: Hmac<Sha256>,
}

impl TokenKey {
    /// Takes the 64 bytes of the key: exactly one block of SHA-256.
    pub(crate) fn new(key: &[u8; 64]) -> Self {
        let mut keyed = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        // The domain is hashed once, not for every token: a clone of this goes on from here.
        keyed.update(DOMAIN);
        Self { keyed }
    }

    /// Derives a key for something else that all who sign alike have in common. No token begins as a label does: the first
    /// byte of a token is its version.
    #[cfg(feature = "tungstenite")]
    pub(crate) fn derive(&self, label: &[u8]) -> [u8; 32] {
        let mut keyed = self.keyed.clone();
        keyed.update(b" derive ");
        keyed.update(label);
        keyed.finalize().into_bytes().into()
    }

    /// Appends the token of `identity`.
    pub(crate) fn sign(&self, identity: Identity, issued: Hour, text: &mut String) {
        let body = body(identity, issued);
        let mac = self.mac(&body).finalize().into_bytes();
        let mut raw = [0; RAW_LEN];
        raw[..MAC_START].copy_from_slice(&body);
        raw[MAC_START..].copy_from_slice(&mac[..RAW_LEN - MAC_START]);
        BASE64URL_NOPAD.encode_append(&raw, text);
    }

    /// Returns whether we signed this. The MAC is compared in constant time.
    pub(crate) fn fits(&self, token: &Token) -> bool {
        self.mac(&body(token.identity, token.issued)).verify_truncated_left(&token.mac).is_ok()
    }

    fn mac(&self, body: &[u8; MAC_START]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(body);
        mac
    }
}

/// Returns the bytes that the MAC covers after the domain.
fn body(identity: Identity, issued: Hour) -> [u8; MAC_START] {
    let mut body = [VERSION; MAC_START];
    body[1..HOUR_START].copy_from_slice(identity.as_uuid().as_bytes());
    body[HOUR_START..].copy_from_slice(&issued.0.to_be_bytes()[1..]);
    body
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
