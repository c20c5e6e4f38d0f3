//! Puts sessions whose time is up into the store, so that they take no memory.

use std::sync::Arc;

use session_resume_proto::session::Expiry;
use tokio::sync::futures::OwnedNotified;

use crate::{
    durable::snapshot::amend,
    live::{
        registry::Registry,
        session::{Change, Core, Life, Shared},
    },
    words::durability::{SavedBy, Urgency},
};

impl<T: Send + 'static> Registry<T> {
    /// Sessions whose time is up go to the store.
    pub(crate) async fn store_away(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let key = session.lock().key.clone();
        let _alone = self.alone(&key).await;
        let goes = session.with_core(|core, now| {
            if session.is_visited() {
                core.machine.stay(now);
            }
            let due =
                matches!(core.machine.check_expiry(now), Err(Expiry::Unused | Expiry::Unattended));
            let goes = due && core.key == key && core.change_life(Change::GoesToStore);
            if goes {
                core.freeze_for_store();
                if core.machine.is_frozen() {
                    core.changed(Urgency::Now);
                }
            }
            goes
        });
        if !goes {
            self.look_again(self.clock().now(), session);
            return;
        }
        if self.goes_to_store(session).await {
            tracing::debug!(session = %session.id().short(), "session stored");
            self.stored(session);
        }
    }

    /// Puts a session that goes to the store, whole; `false` if it stays after all.
    pub(super) async fn goes_to_store(self: &Arc<Self>, session: &Arc<Shared<T>>) -> bool {
        loop {
            // With a message in hand its last boundary stays on disk; the message counts as not handled.
            let frozen = session.lock().machine.is_frozen();
            let saved = !frozen || session.wait_saved(Urgency::Now, SavedBy::Layer).await.is_ok();
            // Or it was called back meanwhile.
            if !saved || session.lock().life() != Life::BeingStored {
                self.stays(session);
                return false;
            }
            match session.step(put_away) {
                Storing::Stays => {
                    self.stays(session);
                    return false;
                }
                Storing::Waits(progress) => progress.await,
                Storing::IsStored => break,
            }
        }
        self.forgive(session).await;
        self.unmark(session).await;
        true
    }

    /// A session that was to leave goes on here, or has ended here.
    pub(super) fn stays(&self, session: &Arc<Shared<T>>) {
        session.with_core(|core, now| {
            let was_going = core.change_life(Change::Stays);
            // What a drain has frozen stays so.
            if was_going && !self.drain.is_draining() && !core.is_over() {
                core.go_on(now);
            }
        });
        self.look_again(self.clock().now() + self.config().check_interval, session);
    }

    /// The message in hand is cut off by us: that it did not come to its end does not count against it.
    pub(crate) async fn forgive(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let in_hand = {
            let core = session.lock();
            let marked = core.durable.as_ref().is_some_and(|durable| durable.is_marked());
            let named = marked || core.machine.is_on_trial();
            if named { core.machine.cut_in_hand() } else { None }
        };
        if let (Some(in_hand), Some(writer)) = (in_hand, self.writer()) {
            amend(&writer, session, |record| record.machine.acquit(&in_hand)).await;
        }
    }

    /// Its handler is at work until now, but it was not the process that ended that.
    async fn unmark(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let marked = session.lock().durable.as_ref().is_some_and(|durable| durable.is_marked());
        if let (true, Some(writer)) = (marked, self.writer()) {
            amend(&writer, session, |record| record.working = false).await;
        }
    }
}

/// How far a session is on its way to the store.
enum Storing {
    /// It stays, or is over.
    Stays,
    /// A put is under way, or wanted: its end tells.
    Waits(OwnedNotified),
    IsStored,
}

/// Stores a session if no write of it is under way: such a write must have ended before another process
/// restores from it, and nothing may follow.
fn put_away(core: &mut Core) -> Storing {
    let in_hand = core.machine.is_message_in_hand();
    // What is over is not put any more.
    let goes = core.life() == Life::BeingStored && !core.is_over();
    match &core.durable {
        Some(durable) if goes => {
            let is_settled = durable.is_settled() || (in_hand && !durable.is_writing());
            let progress = durable.progress();
            if is_settled && core.change_life(Change::IsStored) {
                Storing::IsStored
            } else {
                // Registered under the lock under which it was looked at: no end is missed.
                Storing::Waits(progress.notified_owned())
            }
        }
        _ => Storing::Stays,
    }
}
