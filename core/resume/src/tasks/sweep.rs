//! Removes sessions whose time is up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use session_resume_proto::{Moment, session::Expiry};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    live::{
        registry::{Item, Registry},
        session::{CancelHandler, Change, Shared},
    },
    words::{
        durability::Urgency,
        outcome::{Outcome, OutcomeStatus},
    },
};

/// After this many sessions the sweeper lets other tasks run.
const BREATH: usize = 64;

/// Sweeps until the last handle of the layer is gone.
pub(crate) async fn run<T: Send + 'static>(registry: Weak<Registry<T>>, interval: Duration) {
    // What the store is asked to do runs beside the sweeping, each call in a task of its own. A store that is slow,
    // also with one key alone, stops neither the clock nor the other calls.
    let mut being_stored = JoinSet::new();
    let mut deleting = JoinSet::new();
    loop {
        sleep_until(Instant::now() + interval).await;
        while being_stored.try_join_next().is_some() {}
        while deleting.try_join_next().is_some() {}
        let Some(registry) = registry.upgrade() else {
            return;
        };
        registry.clock().tick();
        registry.tell_hour();
        if registry.take_clock_jump() {
            // By the new time, their records may be due already.
            registry.all().into_iter().for_each(|session| {
                registry.push(Item::Touch(session), Urgency::Soon);
            });
        }
        sweep(&registry, &mut being_stored).await;
        if deleting.is_empty() {
            deleting.spawn(async move {
                registry.delete_expired().await;
                registry.evict_visitors().await;
            });
        }
    }
}

/// Looks at every session that is due, a piece at a time.
async fn sweep<T: Send + 'static>(registry: &Arc<Registry<T>>, being_stored: &mut JoinSet<()>) {
    loop {
        let due = registry.take_due();
        if due.is_empty() {
            return;
        }
        for (looked_at, session) in due.into_iter().enumerate() {
            // Removing one takes microseconds: other tasks need the thread in between.
            if looked_at % BREATH == BREATH - 1 {
                tokio::task::yield_now().await;
            }
            if let Some(session) = session.upgrade()
                && look_at(registry, &session)
            {
                let registry = Arc::clone(registry);
                being_stored.spawn(async move { registry.store_away(&session).await });
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Returns whether the session shall leave memory for the store.
fn look_at<T: Send + 'static>(registry: &Arc<Registry<T>>, session: &Arc<Shared<T>>) -> bool {
    let changed = session.state.has_changed();
    let verdict = session.with_core(|core, now| {
        if session.is_visited() {
            core.machine.stay(now);
        }
        let is_blank = core.is_blank(changed);
        let verdict = if is_blank {
            core.machine.check_blank_expiry(now)
        } else {
            core.machine.check_expiry(now)
        };
        // A session to which no client came back, and into which nothing was put, is never stored.
        let stored = core.durable.is_some() && core.machine.ended().is_none() && !is_blank;
        let goes = stored && matches!(verdict, Err(Expiry::Unused | Expiry::Unattended));
        if goes {
            return Verdict::Store;
        }
        // Under the same lock: no request finds it in between and takes it for good.
        if verdict.is_err() {
            core.change_life(Change::Expires);
        }
        match verdict {
            Ok(at) => Verdict::Keep(at),
            Err(why) => Verdict::Remove(why),
        }
    });
    let why = match verdict {
        Verdict::Store => return true,
        Verdict::Keep(at) => {
            registry.look_again(at, session);
            if session.is_aging(registry.config().stored_lifetime / 3) {
                registry.push(Item::Touch(Arc::clone(session)), Urgency::Soon);
            }
            return false;
        }
        Verdict::Remove(Expiry::Unused) => "nobody came back in time",
        Verdict::Remove(Expiry::Unattended) => "unattended for too long (limits.max_unattended)",
        Verdict::Remove(Expiry::Lifetime) => "lived for as long as it may (limits.max_lifetime)",
    };
    session.end(Outcome::with_error(OutcomeStatus::Expired, why), CancelHandler::Yes);
    registry.forget(session);
    false
}

enum Verdict {
    Keep(Moment),
    /// With a store, leaving memory is not the end.
    Store,
    Remove(Expiry),
}
