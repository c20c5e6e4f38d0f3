//! Waits until a session has something new to read.

use std::sync::Arc;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    Session,
    live::session::{From, Observe, ObserveError, Shared},
    words::refusal::Refusal,
};

/// A reader that waits: one of the session's observers.
pub(super) struct News<T: Send + 'static> {
    session: Arc<Shared<T>>,
    observe: Observe<T>,
}

/// What a wait has led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waited {
    /// There may be something to read.
    News,
    /// Nothing came in time, or the session is about to leave: the reader is answered.
    Enough,
}

impl<T: Send + 'static> News<T> {
    pub(super) fn of(session: &Arc<Shared<T>>) -> Result<Self, Refusal> {
        let observe = Session::reused(Arc::clone(session)).observe(From::Now);
        let observe = observe.map_err(|error| match error {
            ObserveError::TooMany => Refusal::too_many_observers(),
            ObserveError::NotHere | ObserveError::NoCheckpoint => super::stands_still(),
        })?;
        Ok(Self { session: Arc::clone(session), observe })
    }

    pub(super) fn session(&self) -> &Shared<T> {
        &self.session
    }

    /// What there is now is read in another way. Called before that is read, so that nothing in between is missed.
    pub(super) fn skip_what_is_there(&mut self) {
        self.observe.hasten();
    }

    pub(super) async fn wait(&mut self, until: Instant) -> Waited {
        let Some(stop) = self.session.watch_stop() else {
            // One that has ended here has said all.
            let is_here = self.session.outcome().is_some();
            return if is_here { self.next(until).await } else { Waited::Enough };
        };
        let stopped = stop.notified_owned();
        tokio::pin!(stopped);
        // Enabled before the session is looked at again, so that no stop in between is missed.
        stopped.as_mut().enable();
        if self.session.watch_stop().is_none() {
            return Waited::News;
        }
        tokio::select! {
            waited = self.next(until) => waited,
            // It has ended, or stands still: the next look tells.
            () = stopped => Waited::News,
        }
    }

    async fn next(&mut self, until: Instant) -> Waited {
        match timeout_at(until, self.observe.next()).await {
            Ok(Some(_)) => Waited::News,
            Ok(None) | Err(_) => Waited::Enough,
        }
    }
}
