use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

/// One life of a node, as the engine knows it: 8 random bytes. One that is gone never comes back.
///
/// `Display` writes 16 hexadecimal digits, and `FromStr` reads them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of this number: what a [`Stamp`](crate::store::Stamp) names as its owner.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }

    /// Returns it as the number that a [`Stamp`](crate::store::Stamp) names as its owner.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incarnation({self})")
    }
}

impl FromStr for Incarnation {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl Serialize for Incarnation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Incarnation {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What the directory says of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its name, unique among the nodes that run.
    pub name: String,
    /// Its present life.
    pub incarnation: Incarnation,
    /// Where the other nodes reach it, `host:port`.
    pub address: String,
    /// The newest form of records that it reads.
    pub reads: u32,
}

impl NodeInfo {
    /// Describes a node.
    pub fn new(
        name: impl Into<String>,
        incarnation: Incarnation,
        address: impl Into<String>,
        reads: u32,
    ) -> Self {
        Self { name: name.into(), incarnation, address: address.into(), reads }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_is_sixteen_digits_and_comes_back() {
        let one = Incarnation::from_number(0xab);
        assert_eq!(one.to_string(), "00000000000000ab");
        assert_eq!(one.to_string().parse(), Ok(one));
        assert!("x".parse::<Incarnation>().is_err());
        let node = NodeInfo::new("a", one, "10.0.0.7:7946", 7);
        let text = serde_json::to_string(&node).unwrap();
        assert_eq!(
            text,
            r#"{"name":"a","incarnation":"00000000000000ab","address":"10.0.0.7:7946","reads":7}"#
        );
        assert_eq!(serde_json::from_str::<NodeInfo>(&text).unwrap(), node);
    }
}
