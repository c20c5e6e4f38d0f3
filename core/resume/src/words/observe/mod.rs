//! Numbers for operators, through the `metrics` facade: install any recorder to see them.
//!
//! Labels are words of ours alone, never anything that a client sent.

pub(crate) mod nodes;

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use session_resume_proto::{
    GapReason,
    session::{Attached, Undeliverable},
    wire::Status,
};

use crate::words::{cause::Cause, outcome::OutcomeStatus, reuse::Phase};

/// A transport has been given its turn.
pub(crate) fn attached(attached: &Attached, resumable: bool) {
    let mode = if resumable { "resumable" } else { "plain" };
    let status = status(attached.status);
    counter!("session_resume_attaches_total", "mode" => mode, "status" => status).increment(1);
    if attached.behind > 0 {
        counter!("session_resume_replayed_messages_total").increment(attached.behind);
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        histogram!("session_resume_replay_messages").record(attached.behind as f64);
    }
    if let Some(gap) = attached.gap {
        let reason = match gap.reason {
            GapReason::Overflow => "overflow",
            GapReason::Expired => "expired",
            GapReason::Restarted => "restarted",
            GapReason::Evicted => "evicted",
            GapReason::Checkpoint => "checkpoint",
            _ => "other",
        };
        counter!("session_resume_gaps_total", "reason" => reason).increment(1);
    }
}

/// A client has been written all that it had missed: how long that took from its hello on.
pub(crate) fn replayed(took: Duration) {
    histogram!("session_resume_replay_seconds").record(took);
}

/// What a client is told of its session, in one word.
pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::New => "new",
        Status::Resumed => "resumed",
        Status::Reused => "reused",
        Status::Restored => "restored",
    }
}

/// A live session has come to another phase; `None` while it is not counted.
pub(crate) fn phase(before: Option<Phase>, now: Option<Phase>) {
    let counted = |phase| {
        let phase = if phase == Phase::Running { "running" } else { "suspended" };
        gauge!("session_resume_sessions", "phase" => phase)
    };
    if let Some(before) = before {
        counted(before).decrement(1.0);
    }
    if let Some(now) = now {
        counted(now).increment(1.0);
    }
}

/// Counts by how many bytes the outboxes have grown or shrunk.
pub(crate) fn outbox(before: f64, now: f64) {
    gauge!("session_resume_outbox_bytes").increment(now - before);
}

/// Counts by how many the observers are more, or fewer.
pub(crate) fn observers(more: f64) {
    gauge!("session_resume_observers").increment(more);
}

/// A plain client cannot take a message.
pub(crate) fn undeliverable(message: &Undeliverable) {
    let reason = if message.too_big { "too_big" } else { "ended" };
    counter!("session_resume_undeliverable_total", "reason" => reason).increment(1);
}

/// A transport or request has been refused; `code` is the HTTP status, or the close code of one that was accepted
/// to be told.
pub(crate) fn refused(cause: Cause, code: u16) {
    let cause = cause.label();
    counter!("session_resume_refusals_total", "cause" => cause, "code" => code.to_string())
        .increment(1);
}

/// A client has sent faster than it may, and waits.
pub(crate) fn slowed_down() {
    counter!("session_resume_slowed_total").increment(1);
}

/// A session has started.
pub(crate) fn started() {
    counter!("session_resume_sessions_started_total").increment(1);
}

/// A session has been rebuilt from its snapshot.
pub(crate) fn restored(clean: bool) {
    counter!("session_resume_sessions_restored_total", "clean" => if clean { "yes" } else { "no" })
        .increment(1);
}

/// A session has ended.
pub(crate) fn ended(status: OutcomeStatus) {
    let status = match status {
        OutcomeStatus::Done => "done",
        OutcomeStatus::Failed => "failed",
        OutcomeStatus::Panicked => "panicked",
        OutcomeStatus::Expired => "expired",
        OutcomeStatus::Overflow => "overflow",
        _ => "closed",
    };
    counter!("session_resume_sessions_ended_total", "status" => status).increment(1);
}

/// A message has been dropped that had killed the process again and again.
pub(crate) fn dropped() {
    counter!("session_resume_dropped_messages_total").increment(1);
}

/// The keys that sign identities are others from now on.
pub(crate) fn keys_changed(how: &'static str) {
    counter!("session_resume_identity_keys_changed_total", "how" => how).increment(1);
}

/// The store has taken a snapshot.
pub(crate) fn committed(latency: Duration) {
    histogram!("session_resume_commit_seconds").record(latency);
}

/// The store has not done what it was asked to.
pub(crate) fn store_failed() {
    counter!("session_resume_store_errors_total").increment(1);
}
