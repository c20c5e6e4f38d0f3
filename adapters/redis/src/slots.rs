//! Which node of a cluster has which keys. Pure: what nodes say goes in.

use redis::Value;

use crate::{
    address::Address,
    connection::{bytes, strange},
    error::Failure,
};

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// The slot of a key: of what is in its braces, if it has some.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|&byte| byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|&byte| byte == b'}')?;
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc: u16, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Slots in a row, and the primary that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    first: u16,
    last: u16,
    address: Address,
    /// The node's name in the cluster.
    id: String,
}

/// Reads the answer to `CLUSTER SLOTS` that the node at `asked` has given.
pub(crate) fn ranges(answer: Value, asked: &Address) -> Result<Vec<Range>, Failure> {
    let Value::Array(ranges) = answer else { return Err(strange()) };
    ranges.into_iter().map(|range| range_of(range, asked).ok_or_else(strange)).collect()
}

fn range_of(range: Value, asked: &Address) -> Option<Range> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let mut number = || match parts.next()? {
        Value::Int(number) => u16::try_from(number).ok(),
        _ => None,
    };
    let (first, last) = (number()?, number()?);
    let is_one = first <= last && last < SLOTS;
    // The first node is the primary; replicas follow.
    let Some(Value::Array(node)) = parts.next() else { return None };
    let [host, port, id]: [Value; 3] =
        node.into_iter().take(3).collect::<Vec<_>>().try_into().ok()?;
    let host = match host {
        Value::Nil => String::new(),
        host => String::from_utf8(bytes(host).ok()?).ok()?,
    };
    let Value::Int(port) = port else { return None };
    let address = Address::said(&host, u16::try_from(port).ok()?, asked);
    let id = String::from_utf8(bytes(id).ok()?).ok()?;
    is_one.then_some(Range { first, last, address, id })
}

/// Reads which node `MOVED 3999 host:port` names, or the same with `ASK`, which the node at `asked` has said.
pub(crate) fn redirect(text: &str, asked: &Address) -> Option<Address> {
    // The slot is that of the call.
    let named = text.split(' ').nth(2)?;
    // An IPv6 address has no brackets there.
    let (host, port) = named.rsplit_once(':')?;
    Some(Address::said(host, port.parse().ok()?, asked))
}

impl Address {
    /// What a node has said; it may leave out the host, if it does not know by which it is reached.
    fn said(host: &str, port: u16, asked: &Self) -> Self {
        let host = if ["", "?"].contains(&host) { &asked.host } else { host };
        Self { host: host.to_owned(), port }
    }
}

/// The keys in slots of the node with this id, by the names that `key` gives them.
///
/// They are always the same as long as the node has the same slots.
pub(crate) fn keys_of(
    ranges: &[Range],
    id: &str,
    count: usize,
    key: impl Fn(usize) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    if !ranges.iter().any(|range| range.id == id) {
        return Vec::new();
    }
    // Enough for the one of all slots that a node may have.
    let names = (0..usize::from(SLOTS) * 16).map(key);
    names.filter(|name| has(ranges, id, slot(name))).take(count).collect()
}

/// Whether a node has a slot.
pub(crate) fn has(ranges: &[Range], id: &str, slot: u16) -> bool {
    ranges.iter().any(|range| range.id == id && (range.first..=range.last).contains(&slot))
}

/// Which node has which slot, as far as it is known.
#[derive(Debug)]
pub(crate) struct Map {
    nodes: Vec<Address>,
    /// By slot: the place in `nodes`, or `NOBODY`.
    owners: Vec<u16>,
    /// Changes when an owner does.
    version: u64,
}

const NOBODY: u16 = u16::MAX;

impl Map {
    pub(crate) fn new() -> Self {
        Self { nodes: Vec::new(), owners: vec![NOBODY; SLOTS.into()], version: 0 }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Address> {
        self.nodes.get(usize::from(self.owners[usize::from(slot)]))
    }

    /// The nodes that have slots.
    pub(crate) fn owners(&self) -> Vec<Address> {
        let mut owns = vec![false; self.nodes.len()];
        for &owner in self.owners.iter().filter(|&&owner| owner != NOBODY) {
            owns[usize::from(owner)] = true;
        }
        self.nodes
            .iter()
            .zip(owns)
            .filter(|(_, owns)| *owns)
            .map(|(node, _)| node.clone())
            .collect()
    }

    /// Takes over what a node says of all slots.
    pub(crate) fn learn(&mut self, ranges: &[Range]) {
        let mut said = Self { version: self.version, ..Self::new() };
        for range in ranges {
            let node = said.place(&range.address);
            said.owners[usize::from(range.first)..=usize::from(range.last)].fill(node);
        }
        let is_same = (0..SLOTS).all(|slot| self.owner(slot) == said.owner(slot));
        said.version += u64::from(!is_same);
        *self = said;
    }

    fn place(&mut self, address: &Address) -> u16 {
        let at = self.nodes.iter().position(|node| node == address).unwrap_or_else(|| {
            self.nodes.push(address.clone());
            self.nodes.len() - 1
        });
        // A cluster has at most as many nodes as slots.
        u16::try_from(at).unwrap_or(NOBODY)
    }
}

/// All slots, at one node.
#[cfg(test)]
pub(crate) fn all_of(address: Address) -> Range {
    Range { first: 0, last: SLOTS - 1, address, id: "a".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (host, port) = text.rsplit_once(':').unwrap();
        Address { host: host.to_owned(), port: port.parse().unwrap() }
    }

    fn range(first: i64, last: i64, host: Value, port: i64, id: &str) -> Value {
        let node = |host, port, id: &str| {
            let id = Value::BulkString(id.as_bytes().to_vec());
            Value::Array(vec![host, Value::Int(port), id, Value::Array(Vec::new())])
        };
        let replica = node(Value::BulkString(b"replica".to_vec()), 1, "r");
        Value::Array(vec![Value::Int(first), Value::Int(last), node(host, port, id), replica])
    }

    fn three() -> Vec<Range> {
        let host = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = Value::Array(vec![
            range(0, 5460, host("10.0.0.1"), 7001, "a"),
            range(5461, 10_922, Value::Nil, 7002, "b"),
            range(10_923, 16_383, host("10.0.0.3"), 7003, "c"),
        ]);
        ranges(answer, &address("asked:7000")).unwrap()
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"sr:{foo}"), 12_182, "what is in braces counts");
        assert_eq!(slot(b"a{foo}{bar}"), 12_182, "the first ones");
        assert_eq!(slot(b"a{}foo"), crc16(b"a{}foo") % 16_384, "not if they are empty");
        assert_eq!(slot(b"a{foo"), crc16(b"a{foo") % 16_384);
    }

    #[test]
    fn a_map_is_what_nodes_say() {
        let mut map = Map::new();
        assert_eq!((map.owner(0), map.owners()), (None, Vec::new()));
        map.learn(&three());
        let version = map.version();
        assert_eq!(map.owner(5460), Some(&address("10.0.0.1:7001")));
        assert_eq!(map.owner(5461), Some(&address("asked:7002")), "a host that is not known");
        map.learn(&three());
        assert_eq!(map.version(), version, "no news");
        map.learn(&three()[..2]);
        assert!(map.version() > version);
        assert_eq!(map.owner(16_383), None);
        assert_eq!(map.owners(), [address("10.0.0.1:7001"), address("asked:7002")]);
    }

    #[test]
    fn redirects_are_read() {
        let asked = address("asked:7000");
        for (text, expected) in [
            ("MOVED 3999 127.0.0.1:6381", Some("127.0.0.1:6381")),
            ("ASK 0 fe80::1:6381", Some("fe80::1:6381")),
            ("MOVED 1 :6381", Some("asked:6381")),
            ("MOVED 1 ?:6381", Some("asked:6381")),
            ("MOVED 1 127.0.0.1:66666", None),
            ("MOVED 1", None),
            ("MOVED", None),
        ] {
            assert_eq!(redirect(text, &asked), expected.map(address), "{text}");
        }
    }

    #[test]
    fn each_node_has_marks_of_its_own() {
        let name = |n: usize| format!("sr:{{mark:{n}}}").into_bytes();
        for id in ["a", "b", "c"] {
            let keys = keys_of(&three(), id, 2, name);
            assert_eq!(keys.len(), 2);
            assert!(keys.iter().all(|key| has(&three(), id, slot(key))), "{id}");
        }
        assert!(keys_of(&three(), "d", 2, name).is_empty());
        let one = Range { first: 77, last: 77, ..three()[0].clone() };
        assert_eq!(keys_of(&[one], "a", 1, name).len(), 1);
    }

    #[test]
    fn what_is_no_list_of_slots_is_not_read() {
        let asked = address("asked:7000");
        let bad = |range: Value| ranges(Value::Array(vec![range]), &asked).is_err();
        assert!(ranges(Value::Nil, &asked).is_err());
        assert!(bad(Value::Int(1)));
        assert!(bad(range(5, 4, Value::Nil, 1, "a")));
        assert!(bad(range(0, 16_384, Value::Nil, 1, "a")));
        assert!(bad(range(0, 1, Value::Nil, 70_000, "a")));
        assert!(bad(Value::Array(vec![Value::Int(0), Value::Int(1)])));
    }
}
