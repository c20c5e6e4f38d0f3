//! Messages that kill the process: each is recorded before it is handed over, so that it does so three times at
//! most.
//!
//! A crash alone does not say whose message it was. After the first, all sessions try their next message side by
//! side; a session that has been under trial at the second, too, tries again only alone: the third names one.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};

use super::{Durable, Urgency, queue::Saver};
use crate::session::{Core, shared::Shared};

/// A session whose messages have killed the process so often is given up: the crash itself and two trials.
pub(crate) const MAX_TRIALS: u32 = 2;

/// For so long others that are suspect, too, wait while one tries alone. A handler that is at work for longer
/// than that stays suspect, but does not hold them up.
const ALONE: Duration = Duration::from_secs(1);

/// Whether the message that comes next may be what has killed the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Caution {
    /// It is not.
    None,
    /// The session has just been restored after a crash; so many trials have been recorded.
    Restored { trials: u32 },
    /// The next trial is the last: it waits for its turn to be alone.
    Waiting { trials: u32 },
    /// This trial is being recorded, at this version; nothing is handed over before it is.
    Recording { trials: u32, version: u64 },
    /// It has been handed over.
    Trying { trials: u32 },
    /// It is handled, and that is being recorded: a crash before would count against it.
    Clearing { version: u64 },
}

impl Durable {
    /// The process has been killed while the session was there; so many trials had been recorded.
    pub(crate) fn suspect(&mut self, trials: u32) {
        self.caution = Caution::Restored { trials };
    }

    /// Trials that are to be, or have been, recorded and not survived yet.
    pub(crate) fn trials(&self) -> u32 {
        match self.caution {
            Caution::None | Caution::Clearing { .. } => 0,
            Caution::Restored { trials }
            | Caution::Waiting { trials }
            | Caution::Recording { trials, .. }
            | Caution::Trying { trials } => trials,
        }
    }

    /// The message in hand is handled; returns whether it was on trial: then that is worth recording at once.
    pub(super) fn has_survived(&mut self) -> bool {
        let tried = matches!(self.caution, Caution::Trying { .. });
        if tried {
            self.caution = Caution::Clearing { version: self.version + 1 };
        }
        tried
    }

    /// Whether a trial is under way.
    fn is_tried(&self) -> bool {
        match self.caution {
            Caution::None | Caution::Restored { .. } | Caution::Waiting { .. } => false,
            Caution::Recording { .. } | Caution::Trying { .. } => true,
            Caution::Clearing { version } => self.saved < version,
        }
    }
}

impl Core {
    /// Whether a message that may kill the process has been recorded before it is handed over.
    ///
    /// Without this, a message that does would do so again and again.
    pub(crate) fn may_hand_over(&mut self) -> bool {
        let Some(durable) =
            self.durable.as_mut().filter(|durable| durable.caution != Caution::None)
        else {
            return true;
        };
        if self.machine.inbox_messages() == 0 {
            return true;
        }
        match durable.caution {
            Caution::None | Caution::Trying { .. } => true,
            Caution::Waiting { .. } => false,
            Caution::Restored { trials } if trials + 1 >= MAX_TRIALS => {
                durable.caution = Caution::Waiting { trials };
                durable.progress.notify_waiters();
                false
            }
            Caution::Restored { trials } => {
                self.record_trial(trials + 1);
                false
            }
            Caution::Clearing { version } => {
                let cleared = durable.saved >= version;
                if cleared {
                    durable.caution = Caution::None;
                }
                cleared
            }
            Caution::Recording { trials, version } => {
                let recorded = durable.saved >= version;
                if recorded {
                    durable.caution = Caution::Trying { trials };
                }
                recorded
            }
        }
    }

    fn record_trial(&mut self, trials: u32) {
        if let Some(durable) = &mut self.durable {
            durable.caution = Caution::Recording { trials, version: durable.version + 1 };
            self.changed(Urgency::Now);
        }
    }
}

impl<T: Send + 'static> Saver<T> {
    /// If this session's next trial is the last, it gets its turn to be alone.
    pub(crate) fn give_turn(&self, session: &Arc<Shared<T>>) {
        let progress = {
            let core = session.lock();
            let suspect =
                core.durable.as_deref().filter(|durable| durable.trials() + 1 == MAX_TRIALS);
            suspect.map(Durable::progress)
        };
        if let Some(progress) = progress {
            let suspect = Suspect { session: Arc::downgrade(session), progress };
            tokio::spawn(suspect.try_alone(Arc::clone(&self.turns)));
        }
    }
}

/// A session that has been under trial at a crash.
struct Suspect<T> {
    session: Weak<Shared<T>>,
    progress: Arc<Notify>,
}

impl<T: Send + 'static> Suspect<T> {
    async fn try_alone(self, turns: Arc<Semaphore>) {
        if !self.until(|durable| matches!(durable.caution, Caution::Waiting { .. })).await {
            return;
        }
        let Ok(_turn) = turns.acquire().await else {
            return;
        };
        if let Some(session) = self.session.upgrade() {
            session.step(|core| core.record_trial(MAX_TRIALS));
        }
        let _ = tokio::time::timeout(ALONE, self.until(|durable| !durable.is_tried())).await;
    }

    /// Returns whether it has come so far; otherwise the session is over.
    async fn until(&self, reached: impl Fn(&Durable) -> bool) -> bool {
        loop {
            let mut told = pin!(self.progress.notified());
            told.as_mut().enable();
            let reached = self.session.upgrade().and_then(|session| {
                let core = session.lock();
                core.durable.as_deref().filter(|_| !core.is_over()).map(&reached)
            });
            match reached {
                Some(false) => told.await,
                Some(true) => return true,
                None => return false,
            }
        }
    }
}

impl Drop for Durable {
    /// Whoever waits for what will not come any more looks again.
    fn drop(&mut self) {
        self.progress.notify_waiters();
    }
}
