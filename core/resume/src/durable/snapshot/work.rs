//! Whether the handler is at work, for clients that poll after the process has died.

use std::sync::Arc;

use super::{amend::amend_in_turn, writer::Writer};
use crate::live::session::{Durable, Shared};

/// Writes into the record that the handler is at work for longer than a flush interval. Clients that poll after the
/// process has died are told so.
pub(super) async fn mark_working<T: Send + 'static>(store: &Writer<T>, session: &Arc<Shared<T>>) {
    let _turn = session.write_turn().await;
    let (works, in_hand) = {
        let core = session.lock();
        (core.machine.is_at_work() && !core.is_over(), core.machine.in_hand())
    };
    if session.with_durable(|durable| durable.mark(works)) != Some(true) {
        return;
    }
    let marked = amend_in_turn(store, session, |record| {
        record.working = true;
        // If the process dies with it, that is one death.
        if let Some(in_hand) = &in_hand {
            record.machine.accuse(in_hand);
        }
    })
    .await;
    if !marked {
        session.with_durable(Durable::unmark);
    }
}
