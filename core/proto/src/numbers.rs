//! The numbers that both ends must agree on, as `PROTOCOL.md` states them. Each is written here and nowhere else.
//!
//! `tests/vectors/wire.json` lists them, too: a test compares that list with this module, and each client in another
//! language compares its own numbers with the list.

use std::time::Duration;

/// An end that takes messages acknowledges after this many at the latest.
pub const ACK_MESSAGES: u64 = 64;
/// It acknowledges after this many payload bytes at the latest.
pub const ACK_BYTES: usize = 64 << 10;
/// It acknowledges this long after the first message that it has not told of, at the latest.
pub const ACK_AFTER: Duration = Duration::from_millis(250);

/// A client that has heard nothing for this many half heartbeats takes the server for dead. A server takes a client for
/// gone that owes an acknowledgement and says nothing for as long.
pub const SILENT_HALF_HEARTBEATS: u32 = 5;
/// What was sent and is not acknowledged for this long makes the client ask whether the server is there. An answer is
/// no acknowledgement: the handler may be busy.
pub const ASK_AFTER: Duration = Duration::from_secs(3);
/// While there is such a message still, the client asks again this long after an answer.
pub const ASK_AGAIN: Duration = Duration::from_secs(10);
/// A server that is asked says something within this time.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A slow network carries this many bytes a second at least. The question comes behind what is under way.
pub const BYTES_A_SECOND: u64 = 4096;

/// The longest wait before the first attempt to come back.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest wait before any attempt.
pub const BACKOFF_MAX: Duration = Duration::from_secs(20);
/// Clients that were told one and the same time come back spread over this time.
pub const RETRY_SPREAD: Duration = Duration::from_millis(500);
/// The server's close follows its `done` within this time.
pub const CLOSE_AFTER_DONE: Duration = Duration::from_secs(2);

/// How long an end may say nothing that gives a sign of life every `heartbeat`.
pub(crate) fn silence(heartbeat: Duration) -> Duration {
    heartbeat.saturating_mul(SILENT_HALF_HEARTBEATS) / 2
}
