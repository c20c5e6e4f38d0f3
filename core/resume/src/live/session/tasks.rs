//! Tasks that a session owns.

use std::{borrow::Cow, sync::Arc};

use tokio::task::AbortHandle;

use super::{core::CancelHandler, shared::Shared};
use crate::words::{outcome::Outcome, panics::run_caught};

/// The tasks of one session, to end them with it.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// By ticket; without a handle until the task is spawned.
    running: Vec<(u32, Option<AbortHandle>)>,
}

impl Tasks {
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    pub(super) fn abort_all(self) {
        for task in self.running.into_iter().filter_map(|(_, task)| task) {
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
    let ticket = session.step(|core| {
        if core.is_over() {
            return None;
        }
        core.machine.task_started();
        let ticket = core.ticket();
        core.rare_mut().tasks.running.push((ticket, None));
        Some(ticket)
    });
    let Some(ticket) = ticket else {
        return false;
    };
    let running = Running { session: Arc::clone(session), ticket };
    let task = tokio::spawn(async move {
        let ended = run_caught(future).await;
        let session = Arc::clone(&running.session);
        drop(running);
        if let Err(panic) = ended {
            session.end(Outcome::panicked(&panic, Some(&why)), CancelHandler::Yes);
        }
    });
    let mut core = session.core();
    if core.is_over() {
        drop(core);
        task.abort();
    } else if let Some(rare) = core.rare()
        && let Some((_, handle)) = rare.tasks.running.iter_mut().find(|(of, _)| *of == ticket)
    {
        // Not there any more if it has ended already.
        *handle = Some(task.abort_handle());
    }
    true
}

/// A task runs while this lives. Dropped also when the task is aborted or never polled.
struct Running<T: Send + 'static> {
    session: Arc<Shared<T>>,
    ticket: u32,
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        self.session.with_core(|core, now| {
            core.machine.task_ended(now);
            if let Some(rare) = core.rare() {
                rare.tasks.running.retain(|(ticket, _)| *ticket != self.ticket);
            }
        });
    }
}
