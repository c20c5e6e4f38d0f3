use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use session_resume_proto::WireId;
use uuid::Uuid;

use crate::words::random;

/// A session's public id. It is random, so that it cannot be guessed, but it is not a secret: identity and key decide
/// what it opens.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Uuid);

impl SessionId {
    pub(crate) fn random() -> Self {
        Self(uuid::Builder::from_random_bytes(random::bytes()).into_uuid())
    }

    /// Returns the id as a UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// Returns what tells this session's records from those of others of its key.
    pub(crate) const fn line(self) -> u128 {
        self.0.as_u128()
    }

    pub(crate) const fn of_line(line: u128) -> Self {
        Self(Uuid::from_u128(line))
    }

    pub(crate) fn wire_id(&self) -> WireId {
        let mut buffer = Uuid::encode_buffer();
        WireId::parse(self.0.hyphenated().encode_lower(&mut buffer))
            .expect("hexadecimal digits and dashes")
    }

    /// Returns the first eight digits: enough to follow a session through a log, too little to name it.
    pub(crate) fn short(&self) -> impl fmt::Display {
        Short(self.0.as_fields().0)
    }
}

struct Short(u32);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
