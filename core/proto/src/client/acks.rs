use std::time::Duration;

use crate::{
    Moment, Position,
    numbers::{ACK_BYTES, ACK_MESSAGES},
    wire::Window,
};

/// When to tell the server the client's position; one per transport.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Acks {
    messages: u64,
    bytes: u64,
    heartbeat: Duration,
    /// How long a message may be untold.
    after: Duration,
    /// The answer to the hello is still to come.
    greeting: bool,
    /// What the last ack said; `hello.from` before the first.
    told: Position,
    /// Payload bytes since.
    owed_bytes: u64,
    /// When the next ack is due, at most a heartbeat after the last; `None`: it is due.
    due: Option<Moment>,
}

impl Acks {
    /// Owes the ack that answers the hello.
    pub(super) fn new(
        from: Position,
        window: Window,
        heartbeat: Duration,
        after: Duration,
    ) -> Self {
        Self {
            messages: (window.messages / 2).clamp(1, ACK_MESSAGES),
            bytes: (window.bytes / 2).clamp(1, ACK_BYTES as u64),
            heartbeat,
            after,
            greeting: true,
            told: from,
            owed_bytes: 0,
            due: None,
        }
    }

    /// Notes that the position has come to `position`, by a message of `bytes` payload.
    pub(super) fn note(&mut self, position: Position, bytes: usize, now: Moment) {
        if position > self.told {
            self.owed_bytes += bytes as u64;
            self.shorten(position, now);
        }
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

    /// Returns the position to tell, if an ack is due, and counts it as told.
    pub(super) fn poll(&mut self, position: Position, now: Moment) -> Option<Position> {
        self.handle_timeout(now);
        if self.due.is_some() {
            return None;
        }
        self.due = Some(now + self.heartbeat);
        if self.greeting {
            // Exactly `hello.from`, even if what was taken before has arrived again meanwhile.
            self.greeting = false;
            self.shorten(position, now);
        } else {
            self.told = position;
            self.owed_bytes = 0;
        }
        Some(self.told)
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Returns whether the server has been told everything up to `position`.
    pub(super) fn has_told(&self, position: Position) -> bool {
        self.told >= position
    }

    fn shorten(&mut self, position: Position, now: Moment) {
        let owed = position.since(self.told);
        if owed >= self.messages || self.owed_bytes >= self.bytes {
            self.due = None;
        } else if owed > 0 {
            self.due = self.due.map(|due| due.min(now + self.after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::ACK_AFTER;

    const HEARTBEAT: Duration = Duration::from_secs(30);

    /// When the ack is due after messages of these lengths, taken at millisecond 0, 1, 2, …
    fn due_after(window: Window, lengths: &[usize]) -> Option<Moment> {
        let mut acks = Acks::new(Position::ZERO, window, HEARTBEAT, ACK_AFTER);
        let greeting = acks.poll(Position::ZERO, Moment::ZERO);
        assert_eq!(greeting, Some(Position::ZERO));
        for (n, &length) in (0..).zip(lengths) {
            acks.note(Position::new(n + 1), length, Moment::from_millis(n));
        }
        acks.due()
    }

    #[test]
    fn an_ack_is_due_by_messages_bytes_half_the_window_time_or_heartbeat() {
        let wide = Window { messages: 256, bytes: 1 << 20 };
        let narrow = Window { messages: 8, bytes: 1000 };
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
            (Window { messages: 0, bytes: 0 }, vec![0], None),
        ] {
            let due = due_after(window, &lengths);
            assert_eq!(due, expected.map(Moment::from_millis), "{window:?} {lengths:?}");
        }
    }

    #[test]
    fn the_hello_is_answered_with_its_own_position() {
        let window = Window { messages: 256, bytes: 1 << 20 };
        for (ahead, expected) in [(0, None), (1, Some(250)), (64, Some(0))] {
            let from = Position::new(5);
            let position = from.advanced_by(ahead);
            let mut acks = Acks::new(from, window, HEARTBEAT, ACK_AFTER);
            acks.note(position, 0, Moment::ZERO);
            assert_eq!(acks.poll(position, Moment::ZERO), Some(from));
            let next = expected.map_or(Moment::ZERO + HEARTBEAT, Moment::from_millis);
            assert_eq!(acks.due().unwrap_or(Moment::ZERO), next, "{ahead}");
            assert_eq!(acks.poll(position, next), Some(position));
        }
    }
}
