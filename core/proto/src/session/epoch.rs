use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Token;

/// Names one unbroken history of an outbox: a session's random base and how often it was broken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Epoch {
    base: u64,
    ordinal: u64,
}

impl Epoch {
    /// Creates the first epoch of a session from random bytes.
    pub const fn first(random: u64) -> Self {
        Self { base: random, ordinal: 0 }
    }

    /// Returns the epoch after a break of the history.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { base: self.base, ordinal: self.ordinal + 1 }
    }

    /// Returns the epoch as it is told on the wire.
    pub fn token(&self) -> Token {
        Token::parse(&self.to_string()).expect("hexadecimal digits and one dash")
    }

    /// Reads an epoch as told on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, ordinal) = text.split_once('-')?;
        if base.len() != 16 {
            return None;
        }
        let epoch = Self {
            base: u64::from_str_radix(base, 16).ok()?,
            ordinal: u64::from_str_radix(ordinal, 16).ok()?,
        };
        // Only the canonical spelling: an epoch is compared as text by others.
        (epoch.to_string() == text).then_some(epoch)
    }

    /// Tells whether `token` is this epoch (`true`), an earlier one of the same session (`false`), or
    /// one that the session never had.
    pub(super) fn knows(&self, token: &Token) -> Option<bool> {
        let other = Self::parse(token.as_str())?;
        (other.base == self.base && other.ordinal <= self.ordinal)
            .then_some(other.ordinal == self.ordinal)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.base, self.ordinal)
    }
}
