use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{ErrorKind, StoreError};

/// The longest [`StoreKey`], in bytes: kind, layer name and id with three bytes of framing.
pub const MAX_KEY_LEN: usize = 1024;

/// What a record is, so that different things about one id do not collide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// A session's snapshot, by session key.
    Session,
    /// A session's outcome, by session id.
    Outcome,
    /// A mark on a session to which no client has come back yet, by its age and session key.
    Visitor,
    /// The record of a session whose state did not fit its type any more, by session id: what
    /// [`SetAside`](crate::store::SetAside) reads.
    Unreadable,
    /// The keys that sign identities, of all layers: [`StoreKey::identity_keys`] alone.
    IdentityKeys,
}

impl RecordKind {
    /// Part of the stored format: numbers are never used again for something else.
    const fn tag(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Outcome => 2,
            Self::Visitor => 3,
            Self::Unreadable => 4,
            Self::IdentityKeys => 5,
        }
    }
}

/// Names one record: what it is, the layer it belongs to, and its id there.
///
/// Cheap to clone. Two keys are equal only if all three parts are. `Debug` prints a short hash: ids
/// may be secrets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreKey(Bytes);

impl StoreKey {
    /// Creates the key of the record of this `kind`, in the layer named `layer`, with this `id`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if the parts make more than [`MAX_KEY_LEN`] bytes: hash a long id first.
    pub fn new(kind: RecordKind, layer: &str, id: &[u8]) -> Result<Self, StoreError> {
        if FRAMING + layer.len() + id.len() > MAX_KEY_LEN {
            return Err(ErrorKind::TooLarge.into());
        }
        let mut bytes = Self::prefix(kind, layer)?;
        bytes.extend_from_slice(id);
        Ok(Self(bytes.into()))
    }

    /// Returns where the keys are that sign identities. All layers on a store have them in common.
    pub fn identity_keys() -> Self {
        Self::new(RecordKind::IdentityKeys, "", b"").expect("it is short")
    }

    /// Returns what the keys of all records of this `kind`, in the layer named `layer`, begin with.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if the name is too long for a key.
    pub fn prefix(kind: RecordKind, layer: &str) -> Result<Vec<u8>, StoreError> {
        let layer_len = u16::try_from(layer.len()).map_err(|_| ErrorKind::TooLarge)?;
        let mut bytes = Vec::with_capacity(FRAMING + layer.len() + 32);
        bytes.push(kind.tag());
        // The length in front of the name makes the encoding injective: "a" + "bc" is not "ab" + "c".
        bytes.extend_from_slice(&layer_len.to_be_bytes());
        bytes.extend_from_slice(layer.as_bytes());
        Ok(bytes)
    }

    /// Reads a key back from the bytes that it is stored under; `None` if they are none.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= MAX_KEY_LEN && prefix_len(&bytes)? <= bytes.len()).then_some(Self(bytes))
    }

    /// Returns the part that all keys of its kind and layer begin with.
    pub fn prefix_of(&self) -> &[u8] {
        Self::prefix_in(&self.0)
    }

    /// As [`prefix_of`](Self::prefix_of), of a key as it is stored.
    pub fn prefix_in(bytes: &[u8]) -> &[u8] {
        let len = prefix_len(bytes).unwrap_or(bytes.len());
        bytes.get(..len).unwrap_or(bytes)
    }

    /// Returns the id in its layer.
    pub(crate) fn id(&self) -> &[u8] {
        &self.0[self.prefix_of().len()..]
    }

    /// Returns the bytes to store the record under: unique, and the same in every version.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Kind, and the length of the layer's name.
const FRAMING: usize = 3;

fn prefix_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.get(1..FRAMING)?.try_into().ok()?;
    Some(FRAMING + usize::from(u16::from_be_bytes(len)))
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = Sha256::digest(&self.0);
        write!(f, "StoreKey({:02x}{:02x}{:02x}{:02x}…)", hash[0], hash[1], hash[2], hash[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: RecordKind, layer: &str, id: &[u8]) -> StoreKey {
        StoreKey::new(kind, layer, id).unwrap()
    }

    #[test]
    fn the_encoding_is_injective_and_fixed() {
        let all = [
            key(RecordKind::Session, "ab", b"c"),
            key(RecordKind::Session, "a", b"bc"),
            key(RecordKind::Session, "", b"abc"),
            key(RecordKind::Session, "abc", b""),
            key(RecordKind::Outcome, "ab", b"c"),
            key(RecordKind::Visitor, "ab", b"c"),
            key(RecordKind::Unreadable, "ab", b"c"),
            key(RecordKind::IdentityKeys, "ab", b"c"),
        ];
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(one == other, i == j, "{i} and {j}");
            }
        }
        assert_eq!(all[0].as_bytes(), b"\x01\0\x02abc");
        for (key, tag) in all[4..].iter().zip(2..) {
            assert_eq!(key.as_bytes(), [&[tag], &b"\0\x02abc"[..]].concat());
        }
        assert_eq!(StoreKey::identity_keys().as_bytes(), b"\x05\0\0");
        assert_eq!((all[0].prefix_of(), all[0].id()), (&b"\x01\0\x02ab"[..], &b"c"[..]));
        for key in &all {
            assert_eq!(StoreKey::from_bytes(key.as_bytes().to_vec()).as_ref(), Some(key));
        }
        assert_eq!(StoreKey::prefix(RecordKind::Session, "ab").unwrap(), all[0].prefix_of());
        for no_key in [&b""[..], b"\x01\0", b"\x01\0\x02a", &[0; MAX_KEY_LEN + 1]] {
            assert_eq!(StoreKey::from_bytes(no_key.to_vec()), None);
        }
    }

    #[test]
    fn the_longest_key_fits_and_no_longer_one() {
        let id = vec![7; MAX_KEY_LEN - 3 - 4];
        assert_eq!(key(RecordKind::Session, "live", &id).as_bytes().len(), MAX_KEY_LEN);
        for (layer, id) in [("live5", &id[..]), (&"x".repeat(70_000), b"")] {
            let err = StoreKey::new(RecordKind::Session, layer, id).unwrap_err();
            assert_eq!(err.kind(), ErrorKind::TooLarge);
        }
    }

    #[test]
    fn debug_shows_no_id() {
        let text = format!("{:?}", key(RecordKind::Session, "live", b"top-secret"));
        assert!(!text.contains("secret") && text.len() < 24, "{text}");
    }
}
