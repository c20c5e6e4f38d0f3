//! Removes sessions whose time is up.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use session_resume_proto::session::Expiry;

use crate::{
    outcome::{Outcome, OutcomeStatus},
    registry::Registry,
    session::shared::{CancelHandler, Shared},
};

/// Sweeps until the last handle of the layer is gone.
pub(crate) async fn run<T: Send + 'static>(registry: Weak<Registry<T>>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(registry) = registry.upgrade() else {
            return;
        };
        registry.clock().tick();
        sweep(&registry).await;
    }
}

/// Looks at every session that is due, a piece at a time.
pub(crate) async fn sweep<T: Send + 'static>(registry: &Arc<Registry<T>>) {
    loop {
        let due = registry.take_due();
        if due.is_empty() {
            return;
        }
        for session in due {
            if let Some(session) = session.upgrade() {
                // With the last handle goes the application's state, and its drop may panic: that must not
                // be the end of all expiry.
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    look_at(registry, &session);
                    drop(session);
                }));
            }
        }
        tokio::task::yield_now().await;
    }
}

fn look_at<T: Send + 'static>(registry: &Arc<Registry<T>>, session: &Arc<Shared<T>>) {
    let verdict = session.with_core(|core, now| {
        let verdict = core.machine.check_expiry(now);
        // Under the same lock: nobody finds it in between and takes it for good.
        core.removed |= verdict.is_err();
        verdict
    });
    let why = match verdict {
        Ok(at) => return registry.look_again(at, session),
        Err(Expiry::Unused) => "nobody came back in time",
        Err(Expiry::Unattended) => "unattended for too long (limits.max_unattended)",
        Err(Expiry::Lifetime) => "lived for as long as it may (limits.max_lifetime)",
    };
    session.finish(Outcome::with_error(OutcomeStatus::Expired, why), CancelHandler::Yes);
    registry.forget(session);
}
