//! Another node wants a session of this one: it is handed over at its next boundary.

use std::{sync::Arc, time::Duration};

use session_resume_proto::wire::Close;
use tokio::time::{Instant, sleep};

use crate::{
    live::{
        registry::{Registry, soon},
        session::{Change, Life, Shared},
    },
    words::{
        durability::Urgency,
        key::SessionKey,
        store::{RecordKind, StoreKey},
    },
};

/// A handler may take this long to come to a boundary. Then the session goes on here, until it is wanted again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a busy session is looked at.
const ROUND: Duration = Duration::from_millis(5);

impl<T: Send + 'static> Registry<T> {
    /// Begins to hand over what other nodes want.
    pub(crate) fn hand_over_all(&self, wanted: &[StoreKey]) {
        let sessions = wanted.iter().filter_map(|key| self.wanted_session(key));
        for session in sessions.collect::<Vec<_>>() {
            let registry = self.arc();
            tokio::spawn(async move { registry.hand_over(&session).await });
        }
    }

    fn wanted_session(&self, key: &StoreKey) -> Option<Arc<Shared<T>>> {
        let prefix = StoreKey::prefix(RecordKind::Session, &self.config().name).ok()?;
        let key = (key.prefix_of() == prefix).then(|| SessionKey::from_bytes(key.id()))??;
        self.by_key(&key)
    }

    /// Freezes a session at its next boundary, puts it so that nobody owns it, and sends its clients to come back.
    async fn hand_over(self: Arc<Self>, session: &Arc<Shared<T>>) {
        let key = session.lock().key.clone();
        // One hand-over at a time, and none while a drain or a lapse has it.
        let begins = session.step(|core| {
            let begins = core.life() == Life::Live
                && !core.is_silenced()
                && !core.machine.is_frozen()
                && core.machine.ended().is_none();
            if begins {
                core.freeze_for_store();
            }
            begins
        });
        if !begins || self.drain.is_draining() {
            return;
        }
        session.wake_watchers();
        let until = Instant::now() + PATIENCE;
        loop {
            let (is_frozen, is_live) = {
                let core = session.lock();
                (core.machine.is_frozen(), core.life() == Life::Live)
            };
            if !is_live || self.drain.is_draining() {
                return;
            }
            if is_frozen {
                break;
            }
            if Instant::now() >= until {
                return self.stays_here(session);
            }
            sleep(ROUND).await;
        }
        let _alone = self.alone(&key).await;
        let goes = session.step(|core| {
            let goes = core.key == key && core.change_life(Change::GoesToStore);
            if goes {
                core.changed(Urgency::Now);
            }
            goes
        });
        if !goes {
            return self.stays_here(session);
        }
        if !self.goes_to_store(session).await {
            return;
        }
        tracing::info!(session = %session.id().short(), "session handed over to the node that wants it");
        session.with_core(|core, now| {
            let retry = || Some(soon());
            core.machine.close_transports(&Close::MOVED, retry, now);
        });
        self.stored(session);
    }

    /// It goes on, unless something else has it by now.
    fn stays_here(&self, session: &Shared<T>) {
        session.with_core(|core, now| {
            if core.life() == Life::Live && !self.drain.is_draining() && !core.is_silenced() {
                core.go_on(now);
            }
        });
    }
}
