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
}

impl RecordKind {
    /// Part of the stored format: numbers are never used again for something else.
    const fn tag(self) -> u8 {
        match self {
            Self::Session => 1,
            Self::Outcome => 2,
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
        let len = 3 + layer.len() + id.len();
        if len > MAX_KEY_LEN {
            return Err(ErrorKind::TooLarge.into());
        }
        let layer_len = u16::try_from(layer.len()).map_err(|_| ErrorKind::TooLarge)?;
        let mut bytes = Vec::with_capacity(len);
        bytes.push(kind.tag());
        // The length in front of the name makes the encoding injective: "a" + "bc" is not "ab" + "c".
        bytes.extend_from_slice(&layer_len.to_be_bytes());
        bytes.extend_from_slice(layer.as_bytes());
        bytes.extend_from_slice(id);
        Ok(Self(bytes.into()))
    }

    /// Returns the bytes to store the record under: unique, and the same in every version.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
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
        ];
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(one == other, i == j, "{i} and {j}");
            }
        }
        assert_eq!(all[0].as_bytes(), b"\x01\0\x02abc");
        assert_eq!(all[4].as_bytes(), b"\x02\0\x02abc");
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
