//! Turns for messages that may kill the process. Which they are, and when one ends, is the machine's to decide.
//!
//! A crash alone does not say whose message it was. After the first, all sessions try their next message side by
//! side, and so after the second; what was in hand both times is tried alone at the third, which names one.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};

use super::queue::Saver;
use crate::live::session::{Durable, Machine, Shared};

/// While one suspect session tries alone, the other suspect sessions wait at most this long. A handler that is at
/// work for longer than that stays suspect, but does not hold them up.
const ALONE: Duration = Duration::from_secs(1);

impl<T: Send + 'static> Saver<T> {
    /// If a message of this session comes to its last trial, it gets its turn to be alone.
    pub(crate) fn give_turns(&self, session: &Arc<Shared<T>>) {
        let progress = {
            let core = session.lock();
            let suspect = core.durable.as_deref().filter(|_| core.machine.may_wait_for_turn());
            suspect.map(Durable::progress)
        };
        if let Some(progress) = progress {
            let suspect = Suspect { session: Arc::downgrade(session), progress };
            tokio::spawn(suspect.try_alone(Arc::clone(&self.turns)));
        }
    }
}

/// A session with messages that have been in hand at two crashes.
struct Suspect<T> {
    session: Weak<Shared<T>>,
    progress: Arc<Notify>,
}

impl<T: Send + 'static> Suspect<T> {
    async fn try_alone(self, turns: Arc<Semaphore>) {
        while self.until(Machine::waits_for_turn).await {
            let Ok(_turn) = turns.acquire().await else {
                return;
            };
            if let Some(session) = self.session.upgrade() {
                session.step(|core| core.machine.grant_turn());
            }
            let done = self.until(|machine| !machine.is_on_trial());
            if tokio::time::timeout(ALONE, done).await.is_ok_and(|goes_on| !goes_on) {
                return;
            }
        }
    }

    /// Waits until the machine has come so far; `false` when it will not: the session is over, or none of its messages
    /// is a suspect any more.
    async fn until(&self, reached: impl Fn(&Machine) -> bool) -> bool {
        loop {
            let mut told = pin!(self.progress.notified());
            told.as_mut().enable();
            let reached = self.session.upgrade().and_then(|session| {
                let core = session.lock();
                let machine = &core.machine;
                let goes_on = core.durable.is_some() && !core.is_over();
                let waits = machine.may_wait_for_turn() || machine.is_on_trial();
                goes_on.then(|| (reached(machine), waits))
            });
            match reached {
                Some((true, _)) => return true,
                Some((false, true)) => told.await,
                Some((false, false)) | None => return false,
            }
        }
    }
}
