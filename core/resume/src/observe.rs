//! Numbers for operators, through the `metrics` facade: install any recorder to see them.
//!
//! Labels are words of ours alone, never anything that a client sent.

use std::time::Duration;

use metrics::{counter, histogram};

use crate::outcome::OutcomeStatus;

/// A transport has been given its turn.
pub(crate) fn attached(resumable: bool) {
    let mode = if resumable { "resumable" } else { "plain" };
    counter!("session_resume_attaches_total", "mode" => mode).increment(1);
}

/// A transport or request has been refused.
pub(crate) fn refused(code: u16) {
    counter!("session_resume_refusals_total", "code" => code.to_string()).increment(1);
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

/// The store has taken a snapshot.
pub(crate) fn committed(latency: Duration) {
    histogram!("session_resume_commit_seconds").record(latency);
}

/// The store has not done what it was asked to.
pub(crate) fn store_failed() {
    counter!("session_resume_store_errors_total").increment(1);
}
