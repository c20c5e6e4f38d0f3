//! What the application does to all that an identity has.

use std::borrow::Cow;

use session_resume_proto::wire::Close;

use super::SessionResume;
use crate::{
    Identity,
    live::session::CancelHandler,
    words::outcome::{Outcome, OutcomeStatus},
};

impl<T: Send + 'static> SessionResume<T> {
    /// Closes every transport of an identity's clients with 4101 and a reason, in whichever session they are: a login is
    /// revoked. Returns how many that were.
    ///
    /// The sessions go on, and keep what the clients miss. Clients of ours stop, status `refused`, until their user asks.
    /// The identity's cookie stays valid: the handler of your framework decides anew at each upgrade, and
    /// [refuses](crate::adapter::Upgrade::refuse) clients that you no longer let in. To end the sessions as well, use
    /// [`end_identity`](Self::end_identity). A close frame has room for 123 bytes of the reason.
    ///
    /// In a cluster this concerns sessions that are in this node's memory; `everywhere().close_identity(..)` does it at each node. Costs a
    /// lock per session.
    ///
    /// ```
    /// # mod browser { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doctest/browser.rs")); }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> session_resume::Result {
    /// use session_resume::{LiveSession, Session, SessionResume};
    ///
    /// # async fn live(mut session: LiveSession) { while session.recv().await.is_some() {} }
    /// # let resume = SessionResume::new();
    /// # let mut browser = browser::Browser::default();
    /// # let _tab = browser.open(&resume, http::Request::get("/live"), live).await;
    /// # tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// # let session: Session = resume.get(resume.sessions()[0].id).unwrap();
    /// let identity = session.identity();
    /// // The user has logged out on another device.
    /// let closed = resume.close_identity(identity, "logged out elsewhere");
    /// assert_eq!(closed, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close_identity(
        &self,
        identity: Identity,
        reason: impl Into<Cow<'static, str>>,
    ) -> usize {
        let close = Close::refused(reason);
        let sessions = self.registry().all();
        let closed = sessions.iter().map(|session| {
            session.with_core(|core, now| core.machine.close_identity(identity.tag(), &close, now))
        });
        closed.sum()
    }

    /// Ends every session under an identity's key, outcome `closed` with this reason, and closes the identity's transports
    /// in sessions that it shares, as [`close_identity`](Self::close_identity) does. Returns how many sessions have
    /// ended.
    ///
    /// A session that is in the store alone is not ended: it comes back with its identity, if your upgrade handler lets the
    /// identity in.
    pub fn end_identity(&self, identity: Identity, reason: impl Into<Cow<'static, str>>) -> usize {
        let reason = reason.into();
        let close = Close::refused(reason.clone());
        let mut ended = 0;
        for session in self.registry().all() {
            let is_its_own = session.with_core(|core, now| {
                let is_its_own = core.key.identity() == Some(identity);
                if !is_its_own {
                    core.machine.close_identity(identity.tag(), &close, now);
                }
                is_its_own
            });
            if is_its_own {
                let outcome = Outcome::with_error(OutcomeStatus::Closed, &reason);
                ended += usize::from(session.end(outcome, CancelHandler::Yes));
            }
        }
        ended
    }
}
