//! Who the browser is: a UUID v4 in a signed cookie.
//!
//! `mod.rs` holds the type, `token` the bytes that prove it, `cookie` and `name` the settings, `set_cookie` and
//! `find` the way there and back, `proven` what is remembered of a proof. `ring` has the rules about keys that a store keeps, `key_set` the
//! keys of a layer at a moment, `kept` what an operator sees of them. An identity is only ever made here: minted from random bytes, or read
//! from a token whose MAC fits. What a client sends without a fitting MAC is never adopted, so no client can
//! choose an identity for another one.

mod cookie;
mod find;
mod kept;
mod key_set;
mod name;
mod proven;
pub(crate) mod ring;
mod set_cookie;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use session_resume_proto::session::IdentityTag;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

pub use self::{
    cookie::{IdentityCookie, SameSite},
    kept::{IdentityKey, IdentityKeyRole, IdentityKeysError, IdentityKeysErrorKind, KeyRotation},
};
pub(crate) use self::{
    find::Known,
    key_set::{KeySet, StoredKeys},
    name::CookieName,
    proven::Proven,
    set_cookie::{SetCookie, Via},
    token::{Hour, Signature, Token, TokenKey},
};

/// Who a browser is: a random (version 4) UUID that it keeps in a signed cookie.
///
/// The identity is no secret by itself (the MAC beside it in the cookie is what cannot be made
/// up), but it is personal data: it names the same browser for as long as the cookie lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Identity(Uuid);

impl Identity {
    /// Makes an identity of 16 random bytes, of which the version and variant bits are overwritten.
    ///
    /// The bytes must come from a cryptographic random source: two browsers with the same bytes
    /// share their sessions.
    pub const fn mint(random: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(random).into_uuid())
    }

    /// Returns the identity that `uuid` stands for, or `None` if it is not a version 4 UUID.
    pub(crate) fn from_uuid(uuid: Uuid) -> Option<Self> {
        let is_v4 = uuid.get_version() == Some(uuid::Version::Random)
            && uuid.get_variant() == uuid::Variant::RFC4122;
        is_v4.then_some(Self(uuid))
    }

    /// Returns the eight hexadecimal digits that log lines have in place of the identity, which cannot be told from them.
    pub fn short_hash(&self) -> String {
        HEXLOWER.encode(&Sha256::digest(self.0.as_bytes())[..4])
    }

    /// Returns the identity as the rules know it.
    pub(crate) const fn tag(self) -> IdentityTag {
        IdentityTag::new(self.0.into_bytes())
    }

    /// Returns the identity of which this is the tag.
    pub(crate) const fn of_tag(tag: IdentityTag) -> Self {
        Self(Uuid::from_bytes(tag.bytes()))
    }

    /// Returns the UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }
}

impl From<Identity> for Uuid {
    fn from(identity: Identity) -> Self {
        identity.0
    }
}

impl<'de> Deserialize<'de> for Identity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let uuid = Uuid::deserialize(deserializer)?;
        Self::from_uuid(uuid)
            .ok_or_else(|| D::Error::custom(format_args!("{uuid} is not a version 4 UUID")))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.as_hyphenated(), f)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
