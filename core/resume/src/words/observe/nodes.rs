//! Numbers of a node of several.

use std::time::Duration;

#[cfg(feature = "tungstenite")]
use metrics::Counter;
use metrics::{counter, gauge, histogram};

/// What a session was that this node has become the owner of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claimed {
    /// There was no record of it.
    New,
    /// Nobody owned it.
    Stored,
    /// Its owner was gone.
    Gone,
    /// This node had it in memory, from its last life.
    Reclaim,
}

/// How a session was lost to another node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lost {
    /// The engine has said so, to a put or a confirm.
    Stale,
    /// Another node has claimed it while this one was gone.
    Lapse,
}

/// What has become of a request that was sent to another node.
#[cfg(feature = "tungstenite")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hopped {
    Ok,
    /// The session was at yet another node.
    Elsewhere,
    Unreachable,
    /// This node has not sent it, or may not send it twice.
    Refused,
}

/// Which way the bytes of a relay go.
#[cfg(feature = "tungstenite")]
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    ToClient,
    ToOwner,
}

/// The lease was renewed, or has lapsed: this much is left of it.
pub(crate) fn lease(left: Duration) {
    gauge!("session_resume_lease_seconds").set(left.as_secs_f64());
}

/// The lease has lapsed.
pub(crate) fn lapsed() {
    lease(Duration::ZERO);
    counter!("session_resume_lapses_total").increment(1);
}

/// A session is this node's from now on; its claim has taken this long.
pub(crate) fn claimed(what: Claimed, took: Duration) {
    let why = match what {
        Claimed::New => "new",
        Claimed::Stored => "stored",
        Claimed::Gone => "gone",
        Claimed::Reclaim => "reclaim",
    };
    counter!("session_resume_claims_total", "why" => why).increment(1);
    histogram!("session_resume_claim_seconds").record(took);
}

/// A session in memory here is another node's by now.
pub(crate) fn lost(how: Lost) {
    let why = match how {
        Lost::Stale => "stale",
        Lost::Lapse => "lapse",
    };
    counter!("session_resume_lost_total", "why" => why).increment(1);
}

/// This many sessions are silent because the node has no lease.
pub(crate) fn frozen(sessions: usize) {
    gauge!("session_resume_frozen").set(as_f64(sessions));
}

/// This many transports here have their session at another node.
pub(crate) fn relays(relays: usize) {
    gauge!("session_resume_relays").set(as_f64(relays));
}

/// A request was sent to another node, or should have been.
#[cfg(feature = "tungstenite")]
pub(crate) fn hopped(result: Hopped) {
    let result = match result {
        Hopped::Ok => "ok",
        Hopped::Elsewhere => "elsewhere",
        Hopped::Unreachable => "unreachable",
        Hopped::Refused => "refused",
    };
    counter!("session_resume_hops_total", "result" => result).increment(1);
}

/// Counts the bytes that a relay copies.
#[cfg(feature = "tungstenite")]
pub(crate) fn hop_bytes(direction: Direction) -> Counter {
    let direction = match direction {
        Direction::ToClient => "to_client",
        Direction::ToOwner => "to_owner",
    };
    counter!("session_resume_hop_bytes_total", "direction" => direction)
}

/// Counts a request as waiting for a lease while it lives.
#[derive(Debug)]
pub(crate) struct Waiting(());

impl Waiting {
    pub(crate) fn new() -> Self {
        gauge!("session_resume_waiting").increment(1.0);
        Self(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        gauge!("session_resume_waiting").decrement(1.0);
    }
}

/// Sessions are put again, since the engine may have lost writes.
pub(crate) fn put_again(sessions: usize) {
    let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
    counter!("session_resume_put_again_total").increment(sessions);
}

/// The store has answered a call, or has not in time.
pub(crate) fn engine_call(call: &'static str, took: Duration) {
    histogram!("session_resume_engine_seconds", "call" => call).record(took);
}

/// The engine is another one than before: it was started again, or a replica has taken its place.
pub(crate) fn engine_changed() {
    counter!("session_resume_engine_runs_total").increment(1);
}

#[allow(clippy::cast_precision_loss, reason = "a number of sessions is exact in an f64")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
