//! Sessions that leave memory for the store, and what leaves the store.

use std::sync::Arc;

use session_resume_proto::session::Expiry;

use crate::{
    durable::snapshot::amend::amend,
    live::{registry::Registry, session::shared::Shared},
    words::{durability::Urgency, errors::chain, observe},
};

impl<T: Send + 'static> Registry<T> {
    /// Sessions whose time is up leave memory for the store.
    pub(crate) async fn store_away(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let key = session.lock().key.clone();
        let _alone = self.alone(&key).await;
        let leaves = session.with_core(|core, now| {
            if session.is_visited() {
                core.machine.stay(now);
            }
            let due =
                matches!(core.machine.check_expiry(now), Err(Expiry::Unused | Expiry::Unattended));
            let leaves = due && core.key == key && !core.removed && !core.is_over();
            if leaves {
                core.leaving = true;
                core.freeze_for_store();
                if core.machine.is_frozen() {
                    core.changed(Urgency::Now);
                }
            }
            leaves
        });
        if !leaves {
            self.look_again(self.clock().now(), session);
            return;
        }
        loop {
            // With a message in hand its last boundary stays on disk; the message counts as not handled.
            let frozen = session.lock().machine.is_frozen();
            let saved = !frozen || session.wait_saved(Urgency::Now).await.is_ok();
            // Or it was called back meanwhile.
            if !saved || !session.lock().leaving {
                self.stays(session);
                return;
            }
            // What is on its way to the store must be there before another process restores from it, and
            // nothing may follow.
            let progress = {
                let mut core = session.lock();
                let core = &mut *core;
                let in_hand = core.machine.is_message_in_hand();
                let stays = core.is_over() || !core.leaving;
                match &core.durable {
                    // What is over is not put any more.
                    Some(durable) if !stays => {
                        if durable.is_settled() || (in_hand && !durable.is_writing()) {
                            core.departed = true;
                            break;
                        }
                        // A put is under way, or wanted: its end tells.
                        Some(durable.progress().notified_owned())
                    }
                    _ => None,
                }
            };
            let Some(progress) = progress else {
                self.stays(session);
                return;
            };
            progress.await;
        }
        self.forgive(session).await;
        self.unmark(session).await;
        tracing::debug!(session = %session.id().short(), "session stored");
        self.let_go(session);
    }

    /// A session that was to leave goes on here, or has ended here.
    fn stays(&self, session: &Arc<Shared<T>>) {
        session.with_core(|core, now| {
            let was_leaving = std::mem::take(&mut core.leaving);
            // What a drain has frozen stays so.
            if was_leaving && !self.drain.is_draining() && !core.is_over() {
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
        if let (Some(in_hand), Some(store)) = (in_hand, &self.config().store) {
            amend(store, session, |record| record.machine.acquit(&in_hand)).await;
        }
    }

    /// Its handler is at work until now, but it was not the process that ended that.
    async fn unmark(self: &Arc<Self>, session: &Arc<Shared<T>>) {
        let marked = session.lock().durable.as_ref().is_some_and(|durable| durable.is_marked());
        if let (true, Some(store)) = (marked, &self.config().store) {
            amend(store, session, |record| record.working = false).await;
        }
    }

    /// Deletes what no client can ask for any more.
    pub(crate) async fn delete_expired(&self) {
        const AT_ONCE: usize = 1024;
        let Some(store) = &self.config().store else {
            return;
        };
        if !self.trusts_the_clock() {
            return;
        }
        loop {
            match store.store.delete_expired(AT_ONCE).await {
                Ok(AT_ONCE) => {}
                Ok(_) => return,
                Err(error) => {
                    observe::store_failed();
                    tracing::warn!(error = %chain(&error), "expired records not deleted");
                    return;
                }
            }
        }
    }
}
