use std::fmt;

use super::{EventId, SUBPROTOCOL};
use crate::{AttachmentNumber, ClientId, Cursor, MAX_INTEGER, Position, WireId};

/// What the names of all versions of the protocol begin with.
const PROTOCOL_PREFIX: &str = "session-resume.";
/// What the subprotocol begins with that says who asks, and for what.
pub const AT_PREFIX: &str = "at.";

/// What stands in place of `at.<client>…` where a client only asks whether frames pass: a probe.
pub const PROBE: &str = "at.probe";

/// What a client asks for in `Sec-WebSocket-Protocol`.
///
/// In the subprotocols, because browsers cannot set headers, a URL would leak into logs, and the first
/// frame would cost a round trip.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Offer {
    /// No subprotocol of ours: frames pass unmodified.
    Plain,
    /// A plain reader of events; with where it is, if it says so. It has no text: its `Last-Event-ID` says that.
    PlainAt(Option<EventId>),
    /// `at.<client>`: resumable, from a client that holds nothing.
    Fresh {
        /// The client that asks.
        client: ClientId,
    },
    /// `at.<client>.<session>.<epoch>.<received>[.<n>]`: resumable, with a cursor.
    Resume {
        /// The client that asks.
        client: ClientId,
        /// What it has.
        cursor: Cursor,
        /// The `attachment` of the last hello it saw; an offer without one is not checked for staleness.
        attachment: Option<AttachmentNumber>,
    },
}

/// A subprotocol list that begins like ours but is not an offer: the answer is 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MalformedOffer {
    /// `session-resume.` with a version that is not spoken here.
    UnknownVersion,
    /// `session-resume.v1` without `at.…`, `at.…` without it, or one of them twice.
    Incomplete,
    /// `at.…` that does not follow the grammar.
    BadCursor,
}

impl Offer {
    /// Reads the offered subprotocols, in any order; names that are not ours do not matter.
    ///
    /// # Errors
    ///
    /// Returns [`MalformedOffer`] if a name begins with `session-resume.` or `at.` and the whole is not
    /// exactly one version and exactly one well-formed `at.…`.
    pub fn parse<'a>(protocols: impl IntoIterator<Item = &'a str>) -> Result<Self, MalformedOffer> {
        let mut versions = 0;
        let mut offer = None;
        for name in protocols {
            if name.starts_with(PROTOCOL_PREFIX) {
                if name != SUBPROTOCOL {
                    return Err(MalformedOffer::UnknownVersion);
                }
                versions += 1;
            } else if let Some(rest) = name.strip_prefix(AT_PREFIX) {
                let parsed = Self::parse_at(rest).ok_or(MalformedOffer::BadCursor)?;
                if offer.replace(parsed).is_some() {
                    return Err(MalformedOffer::Incomplete);
                }
            }
        }
        match (versions, offer) {
            (0, None) => Ok(Self::Plain),
            (1, Some(offer)) => Ok(offer),
            (_, _) => Err(MalformedOffer::Incomplete),
        }
    }

    /// Returns whether the offered subprotocols are those of a probe: exactly [`SUBPROTOCOL`] and [`PROBE`], among names
    /// that are not ours. [`parse`](Self::parse) refuses them: a probe asks for no session, and touches none.
    pub fn is_probe<'a>(protocols: impl IntoIterator<Item = &'a str>) -> bool {
        let ours = |name: &&str| name.starts_with(PROTOCOL_PREFIX) || name.starts_with(AT_PREFIX);
        let mut ours: Vec<_> = protocols.into_iter().filter(ours).collect();
        ours.sort_unstable();
        ours == [PROBE, SUBPROTOCOL]
    }

    fn parse_at(rest: &str) -> Option<Self> {
        let mut parts = rest.split('.');
        let client = ClientId::parse(parts.next()?)?;
        let Some(session) = parts.next() else {
            return Some(Self::Fresh { client });
        };
        let session = WireId::parse(session)?;
        let epoch = WireId::parse(parts.next()?)?;
        let received = Position::new(integer_or_above(parts.next()?)?);
        let attachment = match parts.next() {
            Some(n) => Some(AttachmentNumber::new(integer_or_above(n)?)),
            None => None,
        };
        if parts.next().is_some() {
            return None;
        }
        Some(Self::Resume { client, cursor: Cursor { session, epoch, received }, attachment })
    }

    /// Returns the client that asks, if it names itself.
    pub fn client(&self) -> Option<&ClientId> {
        match self {
            Self::Plain | Self::PlainAt(_) => None,
            Self::Fresh { client } | Self::Resume { client, .. } => Some(client),
        }
    }

    /// Returns whether the client speaks `session-resume.v1`.
    pub fn is_resumable(&self) -> bool {
        !matches!(self, Self::Plain | Self::PlainAt(_))
    }
}

/// Reads `0|[1-9][0-9]{0,15}`, up to 2^53 − 1.
pub(crate) fn integer(text: &str) -> Option<u64> {
    digits(text).filter(|&n| n <= MAX_INTEGER)
}

/// The same; above [`MAX_INTEGER`] counts as above everything.
fn integer_or_above(text: &str) -> Option<u64> {
    digits(text).map(|n| if n > MAX_INTEGER { u64::MAX } else { n })
}

fn digits(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || text.len() > 16 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Writes the `at.…` subprotocol; empty for a plain offer.
impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain | Self::PlainAt(_) => Ok(()),
            Self::Fresh { client } => write!(f, "{AT_PREFIX}{client}"),
            Self::Resume { client, cursor, attachment } => {
                let Cursor { session, epoch, received } = cursor;
                write!(f, "{AT_PREFIX}{client}.{session}.{epoch}.{received}")?;
                match attachment {
                    Some(n) => write!(f, ".{n}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for MalformedOffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion => {
                write!(f, "unknown session-resume version, this server speaks {SUBPROTOCOL}")
            }
            Self::Incomplete => {
                write!(f, "offer exactly one {SUBPROTOCOL} and exactly one at.<client>… subprotocol")
            }
            Self::BadCursor => f.write_str(
                "malformed offer, expected at.<client> or at.<client>.<session>.<epoch>.<received>[.<n>]",
            ),
        }
    }
}

impl std::error::Error for MalformedOffer {}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "abcdefghijklmnop";

    fn parse(names: &[&str]) -> Result<Offer, MalformedOffer> {
        Offer::parse(names.iter().copied())
    }

    #[test]
    fn names_of_others_do_not_matter() {
        assert_eq!(parse(&[]), Ok(Offer::Plain));
        assert_eq!(parse(&["graphql-ws", "atlas", "session"]), Ok(Offer::Plain));
        let client = ClientId::parse(CLIENT).unwrap();
        let at = format!("at.{CLIENT}");
        assert_eq!(parse(&["chat", &at, SUBPROTOCOL]), Ok(Offer::Fresh { client }));
    }

    #[test]
    fn a_probe_is_exactly_one_and_no_offer() {
        let at = format!("at.{CLIENT}");
        for (names, expected) in [
            (vec![SUBPROTOCOL, PROBE], true),
            (vec!["chat", PROBE, SUBPROTOCOL], true),
            (vec![PROBE], false),
            (vec![SUBPROTOCOL], false),
            (vec![SUBPROTOCOL, PROBE, PROBE], false),
            (vec![SUBPROTOCOL, PROBE, &at], false),
            (vec!["session-resume.v2", PROBE], false),
        ] {
            assert_eq!(Offer::is_probe(names.iter().copied()), expected, "{names:?}");
        }
        assert_eq!(parse(&[SUBPROTOCOL, PROBE]), Err(MalformedOffer::BadCursor));
    }

    #[test]
    fn a_cursor_is_read_and_written() {
        for text in [
            format!("at.{CLIENT}.s.e.0"),
            format!("at.{CLIENT}.s-1_.e.9007199254740991.12"),
            format!("at.{}.{}.{}.7.0", "x".repeat(32), "s".repeat(64), "e".repeat(64)),
        ] {
            let offer = parse(&[SUBPROTOCOL, &text]).unwrap();
            assert_eq!(offer.to_string(), text);
        }
    }

    #[test]
    fn a_number_above_the_wire_is_above_every_head() {
        let text = format!("at.{CLIENT}.s.e.9999999999999999");
        let Ok(Offer::Resume { cursor, .. }) = parse(&[SUBPROTOCOL, &text]) else { panic!() };
        assert_eq!(cursor.received, Position::new(u64::MAX));
    }

    #[test]
    fn malformed_offers_are_refused() {
        use MalformedOffer::{BadCursor, Incomplete, UnknownVersion};
        let at = format!("at.{CLIENT}");
        for (names, expected) in [
            (vec![SUBPROTOCOL], Incomplete),
            (vec![at.as_str()], Incomplete),
            (vec![SUBPROTOCOL, SUBPROTOCOL, &at], Incomplete),
            (vec![SUBPROTOCOL, &at, &at], Incomplete),
            (vec!["session-resume.v2", &at], UnknownVersion),
            (vec!["session-resume.", &at], UnknownVersion),
            (vec![SUBPROTOCOL, "at."], BadCursor),
            (vec![SUBPROTOCOL, "at.tooshort"], BadCursor),
            (vec![SUBPROTOCOL, "at.abcdefghijklmnopabcdefghijklmnopq"], BadCursor),
            (vec![SUBPROTOCOL, "at.abcdefghijklmno!"], BadCursor),
        ] {
            assert_eq!(parse(&names), Err(expected), "{names:?}");
        }
        for tail in [
            "s",
            "s.e",
            "s.e.",
            "s.e.01",
            "s.e.+1",
            "s.e.1.",
            "s.e.1.2.3",
            ".e.1",
            "s..1",
            "s.e.-0",
        ] {
            let at = format!("at.{CLIENT}.{tail}");
            assert_eq!(parse(&[SUBPROTOCOL, &at]), Err(BadCursor), "{tail}");
        }
        let long = format!("at.{CLIENT}.s.e.12345678901234567");
        assert_eq!(parse(&[SUBPROTOCOL, &long]), Err(BadCursor));
    }
}
