use std::time::Duration;

use crate::{
    Message,
    client::{Meeting, SendError},
    numbers::{BACKOFF_FIRST, BACKOFF_MAX},
    session::Bounds,
};

/// What a client does when its transport is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Modes {
    /// Reconnects by itself, with backoff.
    #[default]
    Auto,
    /// Tells the application and waits until it asks.
    Prompt,
    /// Ends.
    Off,
}

/// How much a client keeps for a server that has not acknowledged it yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// Messages kept, 1,024 by default.
    pub messages: usize,
    /// Payload bytes kept, 1 MiB by default. An empty queue takes one message of any allowed length.
    pub bytes: usize,
    /// The longest message to be sent, in payload bytes; 1 MiB by default, as on the server. Where the server's
    /// own limit is lower, that one counts, as soon as a hello has told it.
    pub message: usize,
}

/// How long a client waits between attempts: full jitter under a cap that doubles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Backoff {
    /// The cap of the first wait, 0.5 s by default.
    pub first: Duration,
    /// The cap that is never passed, 20 s by default.
    pub max: Duration,
}

/// The settings of a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// What to do when the transport is gone.
    pub mode: Modes,
    /// What may be queued.
    pub limits: Limits,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// How long an attempt may take from its start to the hello, 20 s by default.
    pub attach_timeout: Duration,
    /// Whether queued messages wait before another session gets them.
    pub meeting: Meeting,
}

impl Limits {
    /// Says whether `message` may join a queue that holds `messages` of `bytes` payload.
    pub(super) fn admit(
        &self,
        message: &Message,
        messages: usize,
        bytes: usize,
    ) -> Result<(), SendError> {
        if message.len() > self.message {
            return Err(SendError::TooBig);
        }
        let fits = messages < self.messages && message.len() <= self.bytes.saturating_sub(bytes);
        if messages == 0 || fits { Ok(()) } else { Err(SendError::Full) }
    }
}

impl Backoff {
    /// Returns a wait before attempt `attempt` (from 1), drawn with `random` from all of `0..cap`.
    ///
    /// From zero, not from half the cap: after a restart all clients come back at once, and only the
    /// full width spreads them.
    #[must_use]
    pub fn delay(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let cap = self.first.saturating_mul(1 << doublings).min(self.max);
        let micros = u64::try_from(cap.as_micros()).unwrap_or(u64::MAX);
        // The high half of the product maps the whole range of `random` onto 0..cap without bias.
        let drawn = (u128::from(micros) * u128::from(random)) >> 64;
        Duration::from_micros(u64::try_from(drawn).unwrap_or(micros))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { messages: 1024, bytes: 1 << 20, message: Bounds::default().message }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: BACKOFF_FIRST, max: BACKOFF_MAX }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Modes::default(),
            limits: Limits::default(),
            backoff: Backoff::default(),
            attach_timeout: Duration::from_secs(20),
            meeting: Meeting::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cap_doubles_up_to_the_maximum_and_the_wait_may_be_anything_below() {
        let backoff = Backoff::default();
        for (attempt, cap) in
            [(1, 500), (2, 1000), (3, 2000), (6, 16_000), (7, 20_000), (99, 20_000)]
        {
            let longest = backoff.delay(attempt, u64::MAX);
            assert_eq!(longest, Duration::from_micros(cap * 1000 - 1), "{attempt}");
            assert_eq!(backoff.delay(attempt, 1 << 63), Duration::from_millis(cap / 2));
            assert_eq!(backoff.delay(attempt, 0), Duration::ZERO);
        }
    }

    #[test]
    fn a_message_is_let_in_when_it_fits_or_the_queue_is_empty() {
        let limits = Limits { messages: 2, bytes: 4, message: 8 };
        for (length, messages, bytes, expected) in [
            (8, 0, 0, Ok(())),
            (9, 0, 0, Err(SendError::TooBig)),
            (3, 1, 1, Ok(())),
            (4, 1, 1, Err(SendError::Full)),
            (0, 2, 0, Err(SendError::Full)),
            (0, 1, 8, Ok(())),
            (1, 1, 8, Err(SendError::Full)),
        ] {
            let message = Message::binary(vec![0; length]);
            assert_eq!(
                limits.admit(&message, messages, bytes),
                expected,
                "{length} {messages} {bytes}"
            );
        }
    }
}
