//! Why a message was not taken.

use std::fmt;

use session_resume_proto::Message;

/// Why nothing more can be sent this way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ClosedKind {
    /// The session has ended.
    Ended,
    /// The message is over [`Limits::message`](crate::Limits::message); the session goes on.
    TooLarge,
    /// Output that is not committed fills the outbox alone; `commit()` makes room.
    Uncommitted,
}

/// The message was not taken, and waiting would not help.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    kind: ClosedKind,
    /// The limit of one message in bytes, or those of the outbox in messages and bytes.
    limits: (usize, usize),
}

impl Closed {
    pub(crate) fn ended() -> Self {
        Self { kind: ClosedKind::Ended, limits: (0, 0) }
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self { kind: ClosedKind::TooLarge, limits: (limit, 0) }
    }

    /// `limits`: those of the outbox, in messages and bytes.
    pub(crate) fn uncommitted(limits: (usize, usize)) -> Self {
        Self { kind: ClosedKind::Uncommitted, limits }
    }

    /// Returns what is the matter.
    pub fn kind(&self) -> ClosedKind {
        self.kind
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ClosedKind::Ended => f.write_str("the session has ended"),
            ClosedKind::TooLarge => write!(f, "message over the limit of {} bytes", self.limits.0),
            ClosedKind::Uncommitted => write!(
                f,
                "uncommitted output fills the outbox (limits.outbox_messages is {}, limits.outbox_bytes {}): \
                 call commit() in between",
                self.limits.0, self.limits.1
            ),
        }
    }
}

impl std::error::Error for Closed {}

/// Why a message was not taken at once.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TrySendError {
    /// There is no room in the outbox now; here is the message.
    Full(Message),
    /// Waiting would not help.
    Closed(Closed),
}

impl fmt::Display for TrySendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the outbox is full"),
            Self::Closed(closed) => closed.fmt(f),
        }
    }
}

impl std::error::Error for TrySendError {}
