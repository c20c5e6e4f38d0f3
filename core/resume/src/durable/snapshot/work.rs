//! Whether the handler is at work, for clients that poll after the process has died.

use std::sync::Arc;

use super::amend::amend_in_turn;
use crate::live::session::shared::Shared;
use crate::words::store::named::Store;

impl<T: Send + 'static> Shared<T> {
    /// The handler may be at work: a client that polls after a crash is told whether it was.
    pub(crate) fn watch_work(self: &Arc<Self>) {
        let watch = {
            let mut core = self.lock();
            let works = core.machine.is_at_work();
            match &mut core.durable {
                Some(durable) => {
                    works && !durable.marked && !std::mem::replace(&mut durable.watched, true)
                }
                None => false,
            }
        };
        if watch && let Some(registry) = self.registry() {
            registry.watch(Arc::clone(self));
        }
    }
}

/// Writes into the record that the handler is at work for longer than a flush interval. Clients that poll after the
/// process has died are told so.
pub(super) async fn mark_working<T: Send + 'static>(store: &Store, session: &Arc<Shared<T>>) {
    let _turn = session.write_turn().await;
    let in_hand = {
        let mut core = session.lock();
        let works = core.machine.is_at_work() && !core.is_over();
        let Some(durable) = &mut core.durable else {
            return;
        };
        durable.watched = false;
        if !works || std::mem::replace(&mut durable.marked, true) {
            return;
        }
        core.machine.in_hand()
    };
    let marked = amend_in_turn(store, session, |record| {
        record.working = true;
        // If the process dies with it, that is one death.
        if let Some(in_hand) = &in_hand {
            record.machine.accuse(in_hand);
        }
    })
    .await;
    if !marked && let Some(durable) = &mut session.lock().durable {
        durable.marked = false;
    }
}
