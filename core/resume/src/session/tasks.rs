//! Tasks that a session owns.

use std::{borrow::Cow, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio::task::AbortHandle;

use super::shared::{CancelHandler, Shared};
use crate::outcome::Outcome;

/// The tasks of one session, to end them with it.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    running: Vec<(u64, AbortHandle)>,
    next: u64,
}

impl Tasks {
    pub(super) fn abort_all(self) {
        for (_, task) in self.running {
            task.abort();
        }
    }
}

/// Runs `future` as a task of the session: it counts as work, and ends with the session.
pub(super) fn spawn<T, F>(session: &Arc<Shared<T>>, why: Cow<'static, str>, future: F) -> bool
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let ticket = session.with_core(|core, _| {
        if core.machine.ended().is_some() {
            return None;
        }
        core.machine.task_started();
        core.tasks.next += 1;
        Some(core.tasks.next)
    });
    let Some(ticket) = ticket else {
        return false;
    };
    let running = Running { session: Arc::clone(session), ticket };
    let task = tokio::spawn(async move {
        let ended = AssertUnwindSafe(future).catch_unwind().await;
        let session = Arc::clone(&running.session);
        drop(running);
        if let Err(panic) = ended {
            session.finish(Outcome::panicked(&*panic, Some(&why)), CancelHandler::Yes);
        }
    });
    let mut core = session.lock();
    if core.machine.ended().is_some() {
        drop(core);
        task.abort();
    } else if !task.is_finished() {
        core.tasks.running.push((ticket, task.abort_handle()));
    }
    true
}

/// A task runs while this lives. Dropped also when the task is aborted or never polled.
struct Running<T: Send + 'static> {
    session: Arc<Shared<T>>,
    ticket: u64,
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        self.session.with_core(|core, now| {
            core.machine.task_ended(now);
            core.tasks.running.retain(|(ticket, _)| *ticket != self.ticket);
        });
    }
}
