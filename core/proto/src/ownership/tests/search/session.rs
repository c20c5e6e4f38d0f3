//! What a session is here: how many messages it has taken, and what it has said.

use super::world::OUT;

/// What one message led to: its number, and the line of history that said it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Output {
    pub(super) message: u8,
    pub(super) history: u8,
}

/// The outputs of an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Outbox {
    pub(super) len: u8,
    out: [Output; OUT],
}

impl Outbox {
    pub(super) fn push(&mut self, output: Output) {
        self.out[usize::from(self.len)] = output;
        self.len += 1;
    }

    pub(super) fn as_slice(&self) -> &[Output] {
        &self.out[..usize::from(self.len)]
    }
}

/// A session as bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Snap {
    pub(super) taken: u8,
    pub(super) epoch: u8,
    /// The outbox is in it.
    pub(super) outbox: Option<Outbox>,
}

/// A session in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Session {
    pub(super) history: u8,
    pub(super) epoch: u8,
    pub(super) taken: u8,
    pub(super) taken_committed: u8,
    pub(super) outbox: Outbox,
    pub(super) said_committed: u8,
    /// Which transport is attached.
    pub(super) at: Option<usize>,
    pub(super) sent: u8,
    pub(super) acked: u8,
    pub(super) dirty: bool,
    /// It freezes at its next boundary.
    pub(super) freezes: bool,
    /// The handler has returned.
    pub(super) finished: bool,
}
