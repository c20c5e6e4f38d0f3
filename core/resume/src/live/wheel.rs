//! When to look at which session again.

use std::{collections::BTreeMap, sync::Weak, time::Duration};

use session_resume_proto::Moment;

use crate::live::session::Shared;

/// Sessions by the tick at which their time may be up.
///
/// Every session in memory is here exactly once. Using a session does not touch this: when its tick comes,
/// it is looked at and, if it was used meanwhile, put in again. So a sweep costs what is due, and a request
/// costs nothing.
#[derive(Debug)]
pub(crate) struct Wheel<T> {
    /// The length of a tick in microseconds.
    tick: u64,
    slots: BTreeMap<u64, Slot<T>>,
}

/// In pieces, so that a slot of a million sessions grows without ever moving them under the lock.
type Slot<T> = Vec<Vec<Weak<Shared<T>>>>;

const PIECE: usize = 512;

impl<T> Wheel<T> {
    pub(crate) fn new(tick: Duration) -> Self {
        let tick = u64::try_from(tick.as_micros()).unwrap_or(u64::MAX).max(1);
        Self { tick, slots: BTreeMap::new() }
    }

    /// Puts a session in, to be looked at not before `at` and less than a tick later.
    pub(crate) fn insert(&mut self, at: Moment, session: Weak<Shared<T>>) {
        let slot = self.slots.entry(at.as_micros().div_ceil(self.tick)).or_default();
        match slot.last_mut() {
            Some(piece) if piece.len() < PIECE => {
                if piece.len() == piece.capacity() {
                    piece.reserve_exact(piece.len().min(PIECE - piece.len()));
                }
                piece.push(session);
            }
            _ => slot.push(vec![session]),
        }
    }

    /// Takes some of the sessions that are due; empty when none is.
    pub(crate) fn take_due(&mut self, now: Moment) -> Vec<Weak<Shared<T>>> {
        let current = now.as_micros() / self.tick;
        while let Some(mut slot) = self.slots.first_entry().filter(|slot| *slot.key() <= current) {
            if let Some(piece) = slot.get_mut().pop() {
                return piece;
            }
            slot.remove();
        }
        Vec::new()
    }
}
