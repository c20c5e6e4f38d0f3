use std::fmt;

use serde::{Deserialize, Serialize};

use crate::WireId;

/// The largest integer that the wire carries: 2^53 − 1, the largest that JavaScript counts exactly.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// How many data messages precede this one in the outbox.
///
/// Numbers are compared, never looked up; 0 is as valid as any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(u64);

impl Position {
    /// The position of the very first message of an epoch.
    pub const ZERO: Self = Self(0);

    /// Creates the position that `count` messages precede.
    pub const fn new(count: u64) -> Self {
        Self(count)
    }

    /// Returns how many messages precede this position.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the position `count` messages further on.
    #[must_use]
    pub const fn advanced_by(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// Returns how many messages lie between `earlier` and this position, zero if none.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a client claims to have: everything of `session`'s `epoch` before `received`.
///
/// Position and epoch are one value: without the epoch, a lost and rebuilt history would look like a
/// complete one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    /// The session's public id, as told in the hello.
    pub session: WireId,
    /// The epoch of the outbox, as told in the hello.
    pub epoch: WireId,
    /// The position the client expects next. A number above [`MAX_INTEGER`] is read as `u64::MAX`,
    /// which is above every head.
    pub received: Position,
}

/// Why messages can no longer be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GapReason {
    /// The outbox was full and let the oldest go.
    Overflow,
    /// The session the cursor belongs to is gone.
    Expired,
    /// The server lost the outbox in a restart, or lost the client's own record.
    Restarted,
    /// The client had been pushed out by others while it was away.
    Evicted,
    /// The client was far behind: it starts with the last checkpoint.
    Checkpoint,
}

/// Positions `from..to` that can no longer be replayed, and why.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Gap {
    /// The first missing position.
    pub from: Position,
    /// The first position that is there again; `None` where the old stream is gone for good.
    pub to: Option<Position>,
    /// The latest of the causes.
    pub reason: GapReason,
}
