//! Where records are: the names of keys in the engine.

use data_encoding::BASE64URL_NOPAD;
use session_resume::store::StoreKey;
use sha2::{Digest as _, Sha256};

/// A layer's name is in its keys for people who look; it is cut there, because the hash tells layers apart.
const MAX_NAME: usize = 64;

/// Names keys under a prefix.
///
/// What is in braces is what Redis Cluster puts keys into slots by; no two records need the same slot.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix }
    }

    /// Where a record is.
    ///
    /// The name is a hash: a record's key may be a secret, such as a path or a header, and any bytes.
    pub(crate) fn record(&self, key: &StoreKey) -> Vec<u8> {
        let prefix = key.prefix_of();
        let name = String::from_utf8_lossy(prefix.get(3..).unwrap_or_default());
        let name: String = name
            .chars()
            .take(MAX_NAME)
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
            .collect();
        let hash = BASE64URL_NOPAD.encode(&Sha256::digest(key.as_bytes())[..16]);
        format!("{}:{{{name}:{hash}}}", self.prefix).into_bytes()
    }

    /// Where the key is that signs identity cookies.
    pub(crate) fn identity(&self) -> Vec<u8> {
        format!("{}:{{identity}}", self.prefix).into_bytes()
    }

    /// Where the mark is by which an engine is known that has lost everything.
    pub(crate) fn mark(&self) -> Vec<u8> {
        format!("{}:{{mark}}", self.prefix).into_bytes()
    }

    /// Where the marks of the nodes of a cluster are: each node has the first ones whose slots it has.
    #[cfg(feature = "cluster")]
    pub(crate) fn mark_of_node(&self, n: usize) -> Vec<u8> {
        format!("{}:{{mark:{n}}}", self.prefix).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use session_resume::store::RecordKind;

    use super::*;

    fn name(layer: &str, id: &[u8]) -> String {
        let key = StoreKey::new(RecordKind::Session, layer, id).unwrap();
        String::from_utf8(Keys::new("sr".to_owned()).record(&key)).unwrap()
    }

    #[test]
    fn a_key_is_a_hash_in_a_slot_of_its_own() {
        let one = name("live", b"secret");
        assert!(one.starts_with("sr:{live:") && one.ends_with('}'), "{one}");
        assert_eq!(one.len(), "sr:{live:}".len() + 22);
        assert!(!one.contains("secret"));
        assert_eq!(one, name("live", b"secret"), "always the same");
        assert_ne!(one, name("live", b"secret2"));
    }

    #[test]
    fn no_layer_name_breaks_the_braces_or_meets_another() {
        let odd = name("a{b}c\n", b"x");
        assert_eq!(odd.matches(['{', '}', '\n']).count(), 2, "{odd}");
        assert_ne!(odd, name("a_b_c_", b"x"), "the hash has the whole name");
        assert!(name(&"x".repeat(900), b"y").len() < 110);
    }
}
