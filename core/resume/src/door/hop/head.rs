//! The header of a hop, and its proof: pure.
//!
//! The listener says 16 random bytes. The request has one line more than it came with,
//! `session-resume-hop: 1 <from> <to> <peer> <asker> <mac>`. The asker is `http` or `https`, by which a client has come, or `node`. The MAC is HMAC-SHA-256 over those 16 bytes and the bytes of the
//! whole head, without the MAC's own 64 digits, under a key that is derived from the one which signs identities. So a head
//! cannot be used a second time, and nothing in it can be changed.

use std::{net::SocketAddr, ops::Range};

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::Sha256;

use crate::words::{identity::TokenKey, node::Incarnation};

const NAME_TEXT: &str = "session-resume-hop";
pub(super) const NAME: HeaderName = HeaderName::from_static(NAME_TEXT);
/// What the listener says.
pub(super) type Greeting = [u8; 16];
/// A longer head is refused.
pub(super) const LONGEST: usize = 128 << 10;

const VERSION: &str = "1";
const MAC_DIGITS: usize = 64;
const END: &[u8] = b"\r\n\r\n";

/// A request that another node has sent on: an extension of the request at the node that owns its session.
///
/// Middleware around the routes runs at both nodes; it can tell by this which one it is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub(super) from: Incarnation,
    pub(super) to: Incarnation,
    pub(super) peer: Option<SocketAddr>,
    pub(super) asker: Asker,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client, which has come by http.
    Http,
    /// A client, which has come by https.
    Https,
    /// The node itself. The application has no part in it.
    Node,
}

impl Asker {
    #[cfg(any(feature = "server", test))]
    const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Node];

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Node => "node",
        }
    }
}

impl Hop {
    /// Returns the node that has sent it on.
    pub fn from(&self) -> Incarnation {
        self.from
    }

    /// Returns where the client is, as that node has seen it.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the header's value; the MAC in it is still to be set.
    pub(super) fn unsealed(&self) -> HeaderValue {
        let Self { from, to, peer, asker } = self;
        let peer = peer.map_or_else(|| "-".to_owned(), |peer| peer.to_string());
        let asker = asker.name();
        let mac = "0".repeat(MAC_DIGITS);
        let text = format!("{VERSION} {from} {to} {peer} {asker} {mac}");
        HeaderValue::try_from(text).expect("ids, addresses and digits are ASCII")
    }

    #[cfg(any(feature = "server", test))]
    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(' ');
        let version = parts.next()?;
        let (from, to, peer) = (parts.next()?, parts.next()?, parts.next()?);
        let (asker, _mac) = (parts.next()?, parts.next()?);
        if version != VERSION || parts.next().is_some() {
            return None;
        }
        let peer = if peer == "-" { None } else { Some(peer.parse().ok()?) };
        let asker = Asker::ALL.into_iter().find(|known| known.name() == asker)?;
        Some(Self { from: from.parse().ok()?, to: to.parse().ok()?, peer, asker })
    }
}

/// The key of hops, which all nodes that sign identities alike have.
#[derive(Clone)]
pub(crate) struct HopKey {
    keyed: Hmac<Sha256>,
}

impl HopKey {
    /// Derives it from the key that signs identities.
    pub(super) fn of(key: &TokenKey) -> Self {
        Self::new(&key.derive(b"hop v1"))
    }

    fn new(derived: &[u8; 32]) -> Self {
        Self { keyed: Hmac::new_from_slice(derived).expect("HMAC takes keys of any length") }
    }

    /// Sets the MAC in a whole head that has one line of a hop; `false` if it has none, or more.
    pub(super) fn seal(&self, greeting: &Greeting, head: &mut [u8]) -> bool {
        let Some((_, mac)) = find(head) else {
            return false;
        };
        let digits = HEXLOWER.encode(&self.over(greeting, head, &mac).finalize().into_bytes());
        head[mac].copy_from_slice(digits.as_bytes());
        true
    }

    /// Reads the hop of a whole head, if its MAC is right.
    #[cfg(any(feature = "server", test))]
    pub(super) fn open(&self, greeting: &Greeting, head: &[u8]) -> Option<Hop> {
        let (value, mac) = find(head)?;
        let told = HEXLOWER.decode(&head[mac.clone()]).ok()?;
        self.over(greeting, head, &mac).verify_slice(&told).ok()?;
        Hop::parse(std::str::from_utf8(&head[value]).ok()?)
    }

    fn over(&self, greeting: &Greeting, head: &[u8], mac: &Range<usize>) -> Hmac<Sha256> {
        let mut keyed = self.keyed.clone();
        keyed.update(greeting);
        keyed.update(&head[..mac.start]);
        keyed.update(&head[mac.end..]);
        keyed
    }
}

/// Removes what is said of the hop's own connection.
pub(super) fn end_to_end(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
        headers.remove(name);
    }
}

/// Returns where the head ends that begins here; `None` if it is not whole.
pub(super) fn end_of(bytes: &[u8], from: usize) -> Option<usize> {
    let from = from.saturating_sub(END.len() - 1);
    let at = memchr::memmem::find(bytes.get(from..)?, END)?;
    Some(from + at + END.len())
}

/// Returns where the value of the one line of a hop is, and the MAC in it.
fn find(head: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    let mut found = None;
    let mut at = 0;
    while let Some(length) = memchr::memmem::find(&head[at..], b"\r\n") {
        let line = &head[at..at + length];
        let name = NAME_TEXT.as_bytes();
        let is_ours = line.len() > name.len()
            && line[..name.len()].eq_ignore_ascii_case(name)
            && line[name.len()] == b':';
        if is_ours {
            if found.is_some() {
                return None;
            }
            let value = &line[name.len() + 1..];
            let start = at + name.len() + 1 + (value.len() - value.trim_ascii_start().len());
            let end = start + value.trim_ascii().len();
            let mac = end.checked_sub(MAC_DIGITS).filter(|mac| *mac > start)?;
            found = Some((start..end, mac..end));
        }
        at += length + 2;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: Greeting = [7; 16];

    fn key() -> HopKey {
        HopKey::new(&[1; 32])
    }

    fn hop() -> Hop {
        let [from, to] = [1, 2].map(Incarnation::from_number);
        Hop { from, to, peer: Some(([10, 0, 0, 9], 5000).into()), asker: Asker::Https }
    }

    fn head() -> Vec<u8> {
        let value = hop().unsealed();
        let value = value.to_str().unwrap();
        let head = format!(
            "GET /live?a=1 HTTP/1.1\r\nhost: a\r\nSession-Resume-Hop: {value}\r\ncookie: c\r\n\r\n"
        );
        let mut head = head.into_bytes();
        assert!(key().seal(&GREETING, &mut head));
        head
    }

    #[test]
    fn what_is_sealed_is_opened_as_it_was() {
        assert_eq!(key().open(&GREETING, &head()), Some(hop()));
        for asker in Asker::ALL {
            let without = Hop { peer: None, asker, ..hop() };
            let value = without.unsealed();
            let head = format!("GET / HTTP/1.1\r\n{NAME}: {}\r\n\r\n", value.to_str().unwrap());
            let mut head = head.into_bytes();
            assert!(key().seal(&GREETING, &mut head));
            assert_eq!(key().open(&GREETING, &head), Some(without));
        }
    }

    #[test]
    fn nothing_in_it_can_be_changed_and_it_is_good_once() {
        let head = head();
        for at in 0..head.len() {
            let mut other = head.clone();
            other[at] ^= 1;
            assert_eq!(key().open(&GREETING, &other), None, "byte {at}");
        }
        assert_eq!(key().open(&[8; 16], &head), None, "a replay meets another greeting");
        assert_eq!(HopKey::new(&[2; 32]).open(&GREETING, &head), None);
        for end in 0..head.len() {
            assert_eq!(key().open(&GREETING, &head[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_second_line_or_none_is_no_hop() {
        let value = hop().unsealed();
        let line = format!("{NAME}: {}\r\n", value.to_str().unwrap());
        for lines in [String::new(), line.repeat(2), format!("{NAME}: 1 2\r\n")] {
            let mut head = format!("GET / HTTP/1.1\r\n{lines}\r\n").into_bytes();
            assert!(!key().seal(&GREETING, &mut head), "{lines}");
            assert_eq!(key().open(&GREETING, &head), None);
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line_wherever_reads_have_cut_it() {
        let bytes = b"GET / HTTP/1.1\r\na: b\r\n\r\nrest";
        for from in 0..bytes.len() - 4 {
            let end = end_of(bytes, from);
            assert_eq!(end, (from <= 23).then_some(24), "{from}");
        }
        assert_eq!(end_of(b"GET / HTTP/1.1\r\na: b\r\n", 0), None);
    }
}
