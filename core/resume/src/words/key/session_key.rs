//! The key itself, and its bytes.

use std::{fmt, str, sync::Arc};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::name::{KeyName, MAX_TEXT, Name};
use crate::words::identity::Identity;

const VERSION: u8 = 1;

const OWN: u8 = 0;
const SCOPED: u8 = 1;
const SHARED: u8 = 2;

const TEXT: u8 = 0;
const DIGEST: u8 = 1;
const NUMBER: u8 = 2;

/// Which session a request belongs to, inside one layer value.
///
/// Two requests with equal keys are of one session. `Debug` and `Display` show a short hash, the
/// same in every process: the key may hold user data, and it must not end up in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionKey(Kind);

/// There is no shared session without a name: strangers whose requests name none must not meet.
///
/// Small, and cheap to clone: each session has it twice.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Kind {
    Own(Identity),
    Scoped(Arc<(Identity, Name)>),
    Shared(Arc<Name>),
}

impl SessionKey {
    pub(super) fn scoped(name: KeyName, identity: Identity) -> Self {
        Self(match name.into_name() {
            Some(name) => Kind::Scoped(Arc::new((identity, name))),
            None => Kind::Own(identity),
        })
    }

    pub(super) fn shared(name: KeyName, identity: Identity) -> Self {
        Self(match name.into_name() {
            Some(name) => Kind::Shared(Arc::new(name)),
            None => Kind::Own(identity),
        })
    }

    /// The identity's own key.
    pub(crate) const fn own(identity: Identity) -> Self {
        Self(Kind::Own(identity))
    }

    /// Whether this is the one key that every identity has, not one of its choosing.
    pub(crate) fn is_own(&self) -> bool {
        self.owner().is_some()
    }

    /// Returns whose own key this is, if it is one.
    pub(crate) fn owner(&self) -> Option<Identity> {
        match self.0 {
            Kind::Own(identity) => Some(identity),
            Kind::Scoped(_) | Kind::Shared(_) => None,
        }
    }

    /// Returns the same key in the scope of another identity; a shared key has no scope.
    pub(crate) fn rescoped(&self, identity: Identity) -> Self {
        Self(match &self.0 {
            Kind::Own(_) => Kind::Own(identity),
            Kind::Scoped(scoped) => Kind::Scoped(Arc::new((identity, scoped.1.clone()))),
            Kind::Shared(name) => Kind::Shared(Arc::clone(name)),
        })
    }

    /// Returns whose key it is; `None` if different identities can have it.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match &self.0 {
            Kind::Own(identity) => Some(*identity),
            Kind::Scoped(scoped) => Some(scoped.0),
            Kind::Shared(_) => None,
        }
    }

    /// Returns whether different identities can have this key.
    pub fn is_shared(&self) -> bool {
        match self.0 {
            Kind::Own(_) | Kind::Scoped(_) => false,
            Kind::Shared(_) => true,
        }
    }

    /// Returns the key as bytes for a store.
    ///
    /// Different keys have different bytes. A version byte (1), a scope byte (0 the identity's own,
    /// 1 scoped, 2 shared), for 0 and 1 the 16 bytes of the identity, for 1 and 2 a type byte (0 text,
    /// 1 SHA-256 of a text, 2 number) and to the end the text in UTF-8, the 32 bytes, or the
    /// number as 16 bytes, big-endian, in two's complement.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(VERSION);
        let name = match &self.0 {
            Kind::Own(identity) => {
                bytes.push(OWN);
                bytes.extend_from_slice(identity.as_uuid().as_bytes());
                return bytes;
            }
            Kind::Scoped(scoped) => {
                let (identity, name) = &**scoped;
                bytes.push(SCOPED);
                bytes.extend_from_slice(identity.as_uuid().as_bytes());
                name
            }
            Kind::Shared(name) => {
                bytes.push(SHARED);
                name
            }
        };
        match name {
            Name::Text(text) => {
                bytes.push(TEXT);
                bytes.extend_from_slice(text.as_bytes());
            }
            Name::Digest(digest) => {
                bytes.push(DIGEST);
                bytes.extend_from_slice(digest);
            }
            Name::Number(number) => {
                bytes.push(NUMBER);
                bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        bytes
    }

    /// Returns the key that [`to_bytes`](Self::to_bytes) wrote, or `None` if it never wrote
    /// `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, scope], rest) = bytes.split_first_chunk()? else {
            return None;
        };
        Some(Self(match scope {
            OWN => {
                let (identity, rest) = read_identity(rest)?;
                if !rest.is_empty() {
                    return None;
                }
                Kind::Own(identity)
            }
            SCOPED => {
                let (identity, rest) = read_identity(rest)?;
                Kind::Scoped(Arc::new((identity, read_name(rest)?)))
            }
            SHARED => Kind::Shared(Arc::new(read_name(rest)?)),
            _ => return None,
        }))
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = Sha256::digest(self.to_bytes());
        digest[..6].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

fn read_identity(bytes: &[u8]) -> Option<(Identity, &[u8])> {
    let (uuid, rest) = bytes.split_first_chunk()?;
    Some((Identity::from_uuid(Uuid::from_bytes(*uuid))?, rest))
}

fn read_name(bytes: &[u8]) -> Option<Name> {
    let (&kind, rest) = bytes.split_first()?;
    match kind {
        TEXT if (1..=MAX_TEXT).contains(&rest.len()) => {
            Some(Name::Text(str::from_utf8(rest).ok()?.into()))
        }
        DIGEST => Some(Name::Digest(rest.try_into().ok()?)),
        NUMBER => Some(Name::Number(i128::from_be_bytes(rest.try_into().ok()?))),
        _ => None,
    }
}
