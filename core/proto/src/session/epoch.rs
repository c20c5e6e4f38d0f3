use std::{fmt, num::NonZeroU64};

use serde::{Deserialize, Serialize};

use crate::{WireId, wire::LifeTag};

/// Names one life of a session in one process: its outbox from when the session was made or rebuilt until it
/// left the process.
///
/// The first half is the session's, the second is drawn anew for every life. So two lives never share an epoch,
/// even if both were rebuilt from the same bytes, and every epoch tells its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Epoch {
    session: u64,
    life: LifeNumber,
}

/// What tells the lives of a session apart: random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub(super) struct LifeNumber(NonZeroU64);

impl Epoch {
    /// Creates the epoch of a session's life; both halves are random bytes.
    pub const fn new(session: u64, life: u64) -> Self {
        Self { session, life: LifeNumber::new(life) }
    }

    /// Returns the epoch of another life of the same session, from random bytes.
    #[must_use]
    pub const fn reborn(self, life: u64) -> Self {
        Self::new(self.session, life)
    }

    /// Returns the epoch as it is told on the wire.
    pub fn token(&self) -> WireId {
        WireId::parse(&self.to_string()).expect("hexadecimal digits and one dash")
    }

    /// Reads an epoch as told on the wire.
    pub fn parse(text: &str) -> Option<Self> {
        let (session, life) = text.split_once('-')?;
        if session.len() != 16 || life.len() != 16 {
            return None;
        }
        let epoch = Self {
            session: u64::from_str_radix(session, 16).ok()?,
            life: LifeNumber(NonZeroU64::new(u64::from_str_radix(life, 16).ok()?)?),
        };
        // Only the canonical spelling: an epoch is compared as text by others.
        (epoch.to_string() == text).then_some(epoch)
    }

    pub(super) fn life(&self) -> LifeNumber {
        self.life
    }

    /// Returns which life of this epoch's session `token` names; `None` if it is not an epoch of that session.
    pub(super) fn life_in(&self, token: &WireId) -> Option<LifeNumber> {
        let other = Self::parse(token.as_str())?;
        (other.session == self.session).then_some(other.life)
    }
}

impl LifeNumber {
    const fn new(random: u64) -> Self {
        match NonZeroU64::new(random) {
            Some(random) => Self(random),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Half of it: enough to tell the few lives of one session apart.
    pub(super) fn tag(self) -> LifeTag {
        let [.., a, b, c, d] = self.0.get().to_be_bytes();
        LifeTag::new(u32::from_be_bytes([a, b, c, d]))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}", self.session, self.life.0)
    }
}
