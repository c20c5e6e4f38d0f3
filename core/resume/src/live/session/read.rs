//! Reads of what a session has sent, by readers that keep their place themselves.

use std::sync::Arc;

use session_resume_proto::{
    Position,
    session::{NotRead, ReadFrom, Reading},
    wire::{LifeTag, Offset},
};
use tokio::sync::Notify;

use super::shared::Shared;
use crate::live::ended::Ended;

/// What is in each offset that a session gives out now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    /// How often the session has been claimed in its store: that grows with each life.
    pub(crate) ordinal: u64,
    pub(crate) life: LifeTag,
}

impl Mark {
    pub(crate) fn offset(self, position: Position) -> Offset {
        Offset { ordinal: self.ordinal, position, life: self.life }
    }

    /// The place at this position.
    pub(crate) fn place(self, position: Position) -> ReadFrom {
        ReadFrom::Place { life: self.life, position }
    }
}

impl Ended {
    pub(crate) fn mark(&self) -> Mark {
        Mark { ordinal: self.generation, life: self.counts.life_tag() }
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Reads from a place on, up to `room` bytes, but at least one message if there is one. Also says what to mark offsets
    /// with.
    pub(crate) fn read(&self, from: ReadFrom, room: usize) -> (Mark, Result<Reading, NotRead>) {
        self.hush();
        self.step(|core| {
            // An offset names the life.
            core.name_epoch();
            let ordinal = core.durable.as_ref().map_or(0, |durable| durable.stamp.generation);
            let mark = Mark { ordinal, life: core.machine.life_tag() };
            let reading = if core.life().has_left() {
                Err(NotRead::Frozen)
            } else {
                core.machine.read(from, room)
            };
            (mark, reading)
        })
    }

    /// Returns what tells a reader that waits to look again: the session is about to stand still, or it ends. `None`: it
    /// stands still already, or has left.
    pub(crate) fn watch_stop(&self) -> Option<Arc<Notify>> {
        let stop = self.watch_end()?;
        // Looked at afterwards, so that no stop in between is missed.
        let stands_still = self.lock().machine.is_freezing();
        (!stands_still).then_some(stop)
    }
}
