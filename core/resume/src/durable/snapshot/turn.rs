//! Turns to write what the store has of a session: one task at a time.

use crate::live::session::shared::Shared;

/// No other task writes the session's records while this lives. Its end is progress.
pub(crate) struct WriteTurn<'a, T: Send + 'static>(&'a Shared<T>);

impl<T: Send + 'static> Shared<T> {
    /// Waits until no other task writes the session's records; `None` if it has none.
    pub(crate) async fn write_turn(&self) -> Option<WriteTurn<'_, T>> {
        loop {
            let progress = {
                let mut core = self.lock();
                let durable = core.durable.as_mut()?;
                if !std::mem::replace(&mut durable.writing, true) {
                    return Some(WriteTurn(self));
                }
                // Registered under the lock under which it was looked at: no end is missed.
                durable.progress().notified_owned()
            };
            progress.await;
        }
    }
}

impl<T: Send + 'static> Drop for WriteTurn<'_, T> {
    fn drop(&mut self) {
        if let Some(durable) = &mut self.0.lock().durable {
            durable.writing = false;
        }
        self.0.tell_savers();
    }
}
