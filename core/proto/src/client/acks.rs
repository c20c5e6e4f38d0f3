use std::time::Duration;

use crate::{Moment, Position, wire::Window};

/// An ack goes out after this many messages at the latest.
const MESSAGES: u64 = 64;
/// An ack goes out after this many payload bytes at the latest.
const BYTES: u64 = 64 * 1024;
/// An ack goes out this long after the first message it covers, at the latest.
const DELAY: Duration = Duration::from_millis(250);

/// When to tell the server the client's position; one per transport.
#[derive(Debug)]
pub(super) struct Acks {
    messages: u64,
    bytes: u64,
    heartbeat: Duration,
    /// What the last ack said.
    told: Position,
    /// Payload bytes since.
    owed_bytes: u64,
    /// When the next ack is due, at most a heartbeat after the last; `None`: it is due.
    due: Option<Moment>,
}

impl Acks {
    /// Owes the ack that answers the hello.
    pub(super) fn new(from: Position, window: Window, heartbeat: Duration) -> Self {
        Self {
            messages: (window.messages / 2).clamp(1, MESSAGES),
            bytes: (window.bytes / 2).clamp(1, BYTES),
            heartbeat,
            told: from,
            owed_bytes: 0,
            due: None,
        }
    }

    /// Notes that the position has come to `position`, by a message of `bytes` payload.
    pub(super) fn note(&mut self, now: Moment, position: Position, bytes: usize) {
        let owed = position.since(self.told);
        if owed == 0 {
            return;
        }
        self.owed_bytes += bytes as u64;
        let at_once = owed >= self.messages || self.owed_bytes >= self.bytes;
        self.due = self
            .due
            .filter(|_| !at_once)
            .map(|due| due.min(now + DELAY));
    }

    /// Asks for an ack of everything now, if any is owed.
    pub(super) fn hurry(&mut self, position: Position) {
        if position > self.told {
            self.due = None;
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Moment) {
        self.due = self.due.filter(|&due| now < due);
    }

    /// Returns whether an ack is due, and counts it as sent.
    pub(super) fn poll(&mut self, now: Moment, position: Position) -> bool {
        self.handle_timeout(now);
        let due = self.due.is_none();
        if due {
            self.told = position;
            self.owed_bytes = 0;
            self.due = Some(now + self.heartbeat);
        }
        due
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Returns whether the server has been told everything up to `position`.
    pub(super) fn has_told(&self, position: Position) -> bool {
        self.told >= position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEARTBEAT: Duration = Duration::from_secs(30);

    /// When the ack is due after messages of these lengths, taken at millisecond 0, 1, 2, …
    fn due_after(window: Window, lengths: &[usize]) -> Option<Moment> {
        let mut acks = Acks::new(Position::ZERO, window, HEARTBEAT);
        assert!(
            acks.poll(Moment::ZERO, Position::ZERO),
            "the hello's own ack"
        );
        for (n, &length) in (0..).zip(lengths) {
            acks.note(Moment::from_millis(n), Position::new(n + 1), length);
        }
        acks.due()
    }

    #[test]
    fn an_ack_is_due_by_messages_bytes_half_the_window_time_or_heartbeat() {
        let wide = Window {
            messages: 256,
            bytes: 1 << 20,
        };
        let narrow = Window {
            messages: 8,
            bytes: 1000,
        };
        for (window, lengths, expected) in [
            (wide, vec![], Some(30_000)),
            (wide, vec![0], Some(250)),
            (wide, vec![0; 63], Some(250)),
            (wide, vec![0; 64], None),
            (wide, vec![65_535], Some(250)),
            (wide, vec![65_535, 1], None),
            (narrow, vec![0; 3], Some(250)),
            (narrow, vec![0; 4], None),
            (narrow, vec![250, 249], Some(250)),
            (narrow, vec![250, 250], None),
            (
                Window {
                    messages: 0,
                    bytes: 0,
                },
                vec![0],
                None,
            ),
        ] {
            let due = due_after(window, &lengths);
            assert_eq!(
                due,
                expected.map(Moment::from_millis),
                "{window:?} {lengths:?}"
            );
        }
    }
}
