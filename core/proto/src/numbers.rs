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

/// On a pipe a client acknowledges this long after the first message that it has not told of, at the latest: each
/// acknowledgement may be a request.
pub const PIPE_ACK_AFTER: Duration = Duration::from_secs(1);
/// A pipe without an open get, and without a request for this long, is gone.
pub const PIPE_ABSENT: Duration = Duration::from_secs(10);
/// A get that waits is answered after this time, or a heartbeat if that is shorter, though nothing is there.
pub const PIPE_HOLD: Duration = Duration::from_secs(25);
/// A stream ends after this time, more or less a tenth, and the next get goes on.
pub const PIPE_ROTATE: Duration = Duration::from_secs(600);
/// A pipe keeps this many down frames until they are confirmed; then its sink is not ready.
pub const PIPE_KEPT_FRAMES: usize = 1024;
/// It keeps this many bytes of payload; one frame may exceed.
pub const PIPE_KEPT_BYTES: usize = 256 << 10;
/// An answer to a get that waited, and a post, have this many frames at most.
pub const PIPE_BATCH_FRAMES: usize = 256;
/// They have this many bytes of payload at most; one frame may exceed.
pub const PIPE_BATCH_BYTES: usize = 64 << 10;
/// How long a post waits for room in the session before it is answered 503. A little less than [`PIPE_POST_GIVEN_UP`],
/// so that a client hears the answer.
pub const PIPE_POST_WAITS: Duration = Duration::from_secs(9);
/// A client gives a post up after this time.
pub const PIPE_POST_GIVEN_UP: Duration = Duration::from_secs(10);
/// A client gives a get up this long after it should have been answered.
pub const PIPE_GET_SLACK: Duration = Duration::from_secs(5);
/// A stream that has not brought a byte this long after its request, or not the mark of flow this long after the hello,
/// is held back by something on the way.
pub const PIPE_BUFFERED: Duration = Duration::from_secs(3);
/// The mark of flow comes this long after the hello.
pub const PIPE_FLOW_AFTER: Duration = Duration::from_millis(100);
/// A request that failed is repeated after this time at first; the time doubles.
pub const PIPE_RETRY: Duration = Duration::from_millis(250);
/// An open that fails is repeated for this long: then the attempt has failed, and the client comes by another path.
pub const PIPE_OPEN_REPEATED: Duration = Duration::from_secs(2);
/// A get that was answered with nothing, before its time, twice in a row comes again after this time. So does a get of
/// a client that may not wait.
pub const PIPE_PAUSE: Duration = Duration::from_secs(1);
/// A stream's client posts when this many frames are unconfirmed.
pub const PIPE_CONFIRM_FRAMES: u64 = 64;
/// It posts when this many bytes of payload are unconfirmed.
pub const PIPE_CONFIRM_BYTES: usize = 64 << 10;

/// A WebSocket without a hello for this long makes the client ask the route with `OPTIONS`.
pub const CHOICE_MUTE: Duration = Duration::from_secs(3);
/// An answer to that within this time means that the WebSocket is given up.
pub const CHOICE_OPTIONS: Duration = Duration::from_secs(1);
/// A WebSocket that dies without a close this soon after its hello
pub const CHOICE_DIED_WITHIN: Duration = Duration::from_secs(60);
/// counts, after this many in a row, as one without a hello.
pub const CHOICE_DEATHS: u32 = 3;
/// How long after its hello a pipe looks for a WebSocket, then how long after each look; the last goes on.
pub const CHOICE_PROBES: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(25),
    Duration::from_secs(270),
    Duration::from_secs(1800),
];
/// How long it is remembered of an origin that WebSockets are blocked.
pub const CHOICE_REMEMBERED: Duration = Duration::from_secs(3600);

/// How long an end may say nothing that gives a sign of life every `heartbeat`.
pub(crate) fn silence(heartbeat: Duration) -> Duration {
    heartbeat.saturating_mul(SILENT_HALF_HEARTBEATS) / 2
}
