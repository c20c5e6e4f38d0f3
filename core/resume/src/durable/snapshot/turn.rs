//! Turns to write what the store has of a session: one task at a time.

use crate::live::session::{Durable, Shared};

/// No other task writes the session's records while this lives. Its end is progress.
pub(crate) struct WriteTurn<'a, T: Send + 'static>(&'a Shared<T>);

impl<T: Send + 'static> Shared<T> {
    /// Waits until no other task writes the session's records; `None` if it has none.
    pub(crate) async fn write_turn(&self) -> Option<WriteTurn<'_, T>> {
        loop {
            let progress = {
                // Registered under the lock under which it was looked at: no end is missed.
                let waits = self.with_durable(|durable| {
                    let begins = durable.begin_writing();
                    (!begins).then(|| durable.progress().notified_owned())
                })?;
                match waits {
                    None => return Some(WriteTurn(self)),
                    Some(progress) => progress,
                }
            };
            progress.await;
        }
    }
}

impl<T: Send + 'static> Drop for WriteTurn<'_, T> {
    fn drop(&mut self) {
        self.0.with_durable(Durable::end_writing);
        self.0.tell_savers();
    }
}
