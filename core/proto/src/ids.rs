use std::{fmt, str};

use serde::{Deserialize, Serialize};

/// Text of bounded length over `[A-Za-z0-9_-]`, kept in place: session ids and epochs as offered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inline<const MIN: usize, const MAX: usize> {
    length: u8,
    /// Zero behind `length`, so that equality of the whole is equality of the text.
    bytes: [u8; MAX],
}

impl<const MIN: usize, const MAX: usize> Inline<MIN, MAX> {
    /// Reads the text, or returns `None` if a character or the length is not allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if !(MIN..=MAX).contains(&text.len()) || !text.bytes().all(allowed) {
            return None;
        }
        let mut bytes = [0; MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { length: u8::try_from(text.len()).ok()?, bytes })
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..usize::from(self.length)]).expect("parse took ASCII only")
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Display for Inline<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const MIN: usize, const MAX: usize> fmt::Debug for Inline<MIN, MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const MIN: usize, const MAX: usize> Serialize for Inline<MIN, MAX> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, const MIN: usize, const MAX: usize> Deserialize<'de> for Inline<MIN, MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format_args!("expected {MIN} to {MAX} of [A-Za-z0-9_-]"))
        })
    }
}

/// One page or program instance: 16 to 32 of `[A-Za-z0-9_-]`, made anew at every start.
pub type ClientId = Inline<16, 32>;

/// A session id or an epoch, as the wire has it: 1 to 64 of `[A-Za-z0-9_-]`.
pub type WireId = Inline<1, 64>;

/// The number of one transport's turn on a session; counts attaches, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttachmentNumber(u64);

impl AttachmentNumber {
    /// Creates the number `n`.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the number of the turn after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Debug for AttachmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for AttachmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
