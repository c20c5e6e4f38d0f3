//! Where records are: the names of keys in the engine.

use data_encoding::BASE64URL_NOPAD;
use session_resume::store::{Incarnation, StoreKey};
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
        let name = plain(&String::from_utf8_lossy(prefix.get(3..).unwrap_or_default()));
        let hash = BASE64URL_NOPAD.encode(&Sha256::digest(key.as_bytes())[..16]);
        format!("{}:{{{name}:{hash}}}", self.prefix).into_bytes()
    }

    /// What the directory says of an incarnation, for as long as its lease lasts.
    pub(crate) fn node(&self, layer: &str, node: Incarnation) -> Vec<u8> {
        self.of_layer(layer, "n", &node.to_string())
    }

    /// Which incarnation has a node's name.
    pub(crate) fn name(&self, layer: &str, name: &str) -> Vec<u8> {
        let hash = BASE64URL_NOPAD.encode(&Sha256::digest(name)[..16]);
        self.of_layer(layer, "m", &hash)
    }

    /// The sessions that other nodes want from an incarnation.
    pub(crate) fn wanted(&self, layer: &str, node: Incarnation) -> Vec<u8> {
        self.of_layer(layer, "w", &node.to_string())
    }

    /// The list of all nodes.
    pub(crate) fn nodes(&self, layer: &str) -> Vec<u8> {
        self.of_layer(layer, "nodes", "")
    }

    /// The name of a layer is cut, and its odd signs are replaced; so its hash is there, too, if that has changed it.
    fn of_layer(&self, layer: &str, kind: &str, what: &str) -> Vec<u8> {
        let mut name = plain(layer);
        if name != layer {
            name.push('~');
            name.push_str(&BASE64URL_NOPAD.encode(&Sha256::digest(layer)[..16]));
        }
        let colon = if what.is_empty() { "" } else { ":" };
        format!("{}:{{{name}:{kind}{colon}{what}}}", self.prefix).into_bytes()
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

fn plain(layer: &str) -> String {
    layer
        .chars()
        .take(MAX_NAME)
        .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' })
        .collect()
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
    fn what_is_known_of_nodes_is_in_slots_of_its_own() {
        let keys = Keys::new("sr".to_owned());
        let text = |key: Vec<u8>| String::from_utf8(key).unwrap();
        let node = Incarnation::from_number(0xab);
        assert_eq!(text(keys.node("live", node)), "sr:{live:n:00000000000000ab}");
        assert_eq!(text(keys.wanted("live", node)), "sr:{live:w:00000000000000ab}");
        assert_eq!(text(keys.nodes("live")), "sr:{live:nodes}");
        assert!(text(keys.name("live", "pod {1}")).starts_with("sr:{live:m:"));
        let odd = text(keys.nodes("a{b}"));
        assert_eq!(odd.matches(['{', '}']).count(), 2, "{odd}");
        assert_ne!(odd, text(keys.nodes("a_b_")));
    }

    #[test]
    fn no_layer_name_breaks_the_braces_or_meets_another() {
        let odd = name("a{b}c\n", b"x");
        assert_eq!(odd.matches(['{', '}', '\n']).count(), 2, "{odd}");
        assert_ne!(odd, name("a_b_c_", b"x"), "the hash has the whole name");
        assert!(name(&"x".repeat(900), b"y").len() < 110);
    }
}
