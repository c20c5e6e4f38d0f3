//! Where a reader of a Durable Streams door is: an offset, as text.

use std::fmt;

use crate::{MAX_INTEGER, Position};

/// A place in what a session has sent, as a reader without a client of ours keeps it: `<ordinal>.<position>.<tag>`.
///
/// The ordinal has 10 digits, the position 16, the tag 8 hexadecimal digits. So the order of the texts is the order of the
/// places, also from one life of the session to the next. No text has two meanings: the tag says in which life it was given
/// out, and only positions are given out that no crash takes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Offset {
    /// Grows from one life to the next, and may grow within a life. It orders offsets, and says nothing else.
    pub ordinal: u64,
    /// The position of the next message.
    pub position: Position,
    /// The life in which the offset was given out.
    pub life: LifeTag,
}

/// Names a life among those of one session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LifeTag(u32);

impl LifeTag {
    pub(crate) const fn new(random: u32) -> Self {
        Self(random)
    }
}

const ORDINAL: usize = 10;
const POSITION: usize = 16;
const TAG: usize = 8;
/// The largest ordinal that is written; larger ones are written as this.
const LARGEST_ORDINAL: u64 = 9_999_999_999;

impl Offset {
    /// Reads an offset; `None` for every text but one that such an offset is written as.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let ordinal = digits(parts.next()?, ORDINAL)?;
        let position =
            digits(parts.next()?, POSITION).filter(|position| *position <= MAX_INTEGER)?;
        let tag = parts.next()?;
        let is_tag =
            tag.len() == TAG && tag.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let life = u32::from_str_radix(tag, 16).ok().filter(|_| is_tag)?;
        let offset = Self { ordinal, position: Position::new(position), life: LifeTag(life) };
        parts.next().is_none().then_some(offset)
    }
}

fn digits(text: &str, count: usize) -> Option<u64> {
    let is_number = text.len() == count && text.bytes().all(|digit| digit.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ordinal = self.ordinal.min(LARGEST_ORDINAL);
        write!(f, "{ordinal:0ORDINAL$}.{:0POSITION$}.{:0TAG$x}", self.position.get(), self.life.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offset(ordinal: u64, position: u64, life: u32) -> Offset {
        Offset { ordinal, position: Position::new(position), life: LifeTag(life) }
    }

    #[test]
    fn an_offset_is_read_as_it_is_written() {
        for (offset, text) in [
            (offset(0, 0, 0), "0000000000.0000000000000000.00000000"),
            (offset(1, 7, 0xbeef), "0000000001.0000000000000007.0000beef"),
            (offset(9_999_999_999, MAX_INTEGER, u32::MAX), "9999999999.9007199254740991.ffffffff"),
        ] {
            assert_eq!(offset.to_string(), text);
            assert_eq!(Offset::parse(text), Some(offset));
        }
        assert_eq!(offset(u64::MAX, 0, 0).to_string(), "9999999999.0000000000000000.00000000");
    }

    #[test]
    fn nothing_else_is_an_offset() {
        for text in [
            "",
            "-1",
            "now",
            "0",
            "0,1",
            "0000000001.0000000000000007",
            "0000000001.0000000000000007.",
            "0000000001.0000000000000007.0000beef.",
            "0000000001.0000000000000007.0000beef.0",
            "0000000001.0000000000000007.0000BEEF",
            "0000000001.0000000000000007.000beef",
            "0000000001.0000000000000007.+000beef",
            "+000000001.0000000000000007.0000beef",
            "000000001.0000000000000007.0000beef",
            "0000000001.000000000000007.0000beef",
            "0000000001.9007199254740992.0000beef",
            "0000000001.9999999999999999.0000beef",
            " 0000000001.0000000000000007.0000beef",
            "0000000001.0000000000000007.0000beef ",
            "0000000001.000000000000000\u{0667}.0000beef",
        ] {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_texts_is_the_order_of_places(
            (a, b) in (0..=LARGEST_ORDINAL, 0..=LARGEST_ORDINAL),
            (p, q) in (0..=MAX_INTEGER, 0..=MAX_INTEGER),
            (s, t) in any::<(u32, u32)>(),
        ) {
            let (one, other) = (offset(a, p, s).to_string(), offset(b, q, t).to_string());
            prop_assume!((a, p) != (b, q));
            prop_assert_eq!(one.cmp(&other), (a, p).cmp(&(b, q)));
            prop_assert_eq!(Offset::parse(&one), Some(offset(a, p, s)));
        }

        #[test]
        fn what_is_read_is_written_as_it_was(text in "[0-9]{9,11}[.][0-9]{15,17}[.][0-9a-fA-F]{7,9}") {
            if let Some(offset) = Offset::parse(&text) {
                prop_assert_eq!(offset.to_string(), text);
            }
        }
    }
}
