//! Messages that the handler takes before their turn. The rules are the machine's: `proto/session/urgent.rs`.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use session_resume_proto::{Message, session};
use tokio::task::coop;

use super::{LiveSession, durable::Boundary};

/// The application's choice of messages that may be taken before their turn.
pub(crate) type IsUrgent = Arc<dyn Fn(&Message) -> bool + Send + Sync>;

impl<T: Send + 'static> LiveSession<T> {
    /// Receives the next *urgent* message, before its turn: one that
    /// [`on_urgent`](crate::adapter::Upgrade::on_urgent) picks. Waits until there is one, across reconnects. `None` when the
    /// session is over; without `on_urgent` it waits for that.
    ///
    /// Call it while the handler works, beside the work. An urgent message that is not taken here comes from
    /// [`recv`](Self::recv) in its turn, as every message: a handler obeys it in both places. One that is taken here does not come again.
    ///
    /// The message is in hand, together with the one that `recv` has returned, until the handler next asks `recv` or
    /// [`commits`](Self::commit). If no other message is in hand, asking for the next urgent one says that the one before is
    /// handled. So with a store, either both are on disk with what they led to, or neither is: then both come again after a crash.
    ///
    /// A client is told that a message was taken once all its messages before it were, too.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a message is taken in the very poll that returns it.
    ///
    /// # Example
    ///
    /// Work that can be stopped.
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use session_resume::{LiveSession, Session, SessionResume};
    ///
    /// async fn work(session: Session, seconds: u64) -> session_resume::Result<&'static str> {
    ///     for second in 0..seconds {
    ///         tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    ///         session.send(format!("second {second}")).await?;
    ///     }
    ///     Ok("done")
    /// }
    ///
    /// async fn live(mut session: LiveSession) -> session_resume::Result {
    ///     while let Some(message) = session.recv().await {
    ///         let how = match message.as_text().map(str::parse) {
    ///             Some(Ok(seconds)) => {
    ///                 let work = work(session.handle(), seconds);
    ///                 tokio::select! {
    ///                     how = work => how?,
    ///                     Some(_) = session.urgent() => "stopped",
    ///                 }
    ///             }
    ///             // It has come when there was nothing to stop.
    ///             _ => "stopped",
    ///         };
    ///         session.send(how).await?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let parts = browser.request(&resume, http::Request::get("/live")).await;
    /// # let upgrade = session_resume::adapter::Upgrade::<()>::prepare(&parts).await.unwrap();
    /// // In the route's handler:
    /// let accepted = upgrade.on_urgent(|message| message.as_text() == Some("stop")).on_session(live);
    /// # let mut tab = browser::Tab::run(accepted.unwrap());
    /// # tab.send("stop");
    /// # assert_eq!(tab.receive().await, "stopped");
    /// # tab.send("600");
    /// # assert_eq!(tab.receive().await, "second 0");
    /// # tab.send("1");
    /// # tab.send("stop");
    /// # for text in ["stopped", "second 0", "done"] {
    /// # assert_eq!(tab.receive().await, text);
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn urgent(&mut self) -> Option<Message> {
        poll_fn(|cx| self.poll_urgent(cx)).await
    }

    fn poll_urgent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        let shared = &self.session.shared;
        let coop = ready!(coop::poll_proceed(cx));
        if shared.lock().machine.has_only_urgent_in_hand() {
            shared.boundary(Boundary::Commit);
        }
        let taken = loop {
            let looked = shared.step(|core| {
                let is_urgent = core.urgent().cloned();
                let looked = is_urgent.and_then(|of| Some((of, core.machine.look_ahead()?)));
                if looked.is_none() && !core.is_over() {
                    core.wait_to_receive(cx.waker());
                    return Poll::Pending;
                }
                Poll::Ready(looked)
            });
            let Some((is_urgent, message)) = ready!(looked) else { break None };
            // The application's code runs without the session's lock.
            if !is_urgent(&message) {
                continue;
            }
            let taken = shared.with_core(|core, now| core.machine.take_looked_at(now));
            if let Some(session::Event::Message { message, .. }) = taken {
                break Some(message);
            }
        };
        if taken.is_some() && shared.is_durable() {
            shared.watch_work();
        }
        coop.made_progress();
        Poll::Ready(taken)
    }
}
