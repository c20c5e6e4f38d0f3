//! Where an attach stands between its request and its transport.
//!
//! | phase | type | its [`Stand`] | what comes next |
//! | --- | --- | --- | --- |
//! | the session is looked up | [`Upgrade::prepare`](super::Upgrade::prepare) | none: there is no session yet; or one of all three | the framework's handler runs |
//! | the handler is known | [`Upgrade::on_session`](super::Upgrade::on_session) | `Here`: admitted; `Ended`; `Refused` | the answer, such as a 101 |
//! | the transport is there | [`Accepted::run`](super::Accepted::run) | `Here`: it attaches; the others: it is told, and closed | the pump, until the transport is gone |

use std::{fmt, sync::Arc};

use session_resume_proto::session::Refusal as AttachRefusal;

use crate::{
    SessionId, SessionOrigin,
    live::{ended::Ended, pump, session::Shared},
    words::{cause::Cause, observe, refusal::Refusal, transport::Transport},
};

/// Where an attach stands.
pub(super) enum Stand<T: Send + 'static> {
    /// Its session is in memory, and held.
    Here(Hold<T>, SessionOrigin),
    /// The session that its cursor continues has ended. The client is told the outcome.
    Ended(SessionId, Ended),
    /// It gets no session.
    Refused(Refused),
}

/// A client that is refused once its transport is there.
///
/// A client that offers to resume is accepted and told then, because browsers hide the status of a refused upgrade.
#[must_use = "run it with the socket, or the client waits for nothing"]
pub struct Refused {
    cause: Cause,
    refusal: AttachRefusal,
}

impl Refused {
    /// Returns how a client that offers to resume is told.
    ///
    /// # Errors
    ///
    /// Returns the refusal if it is told by its status: to a client that does not offer to resume, and always if there
    /// is no close for it.
    pub(super) fn by_close(refusal: Refusal, resumable: bool) -> Result<Self, Refusal> {
        match refusal.close() {
            Some(close) if resumable => {
                let close = close.clone();
                let told = AttachRefusal { close, retry: refusal.retry() };
                Ok(Self { cause: refusal.cause(), refusal: told })
            }
            _ => Err(refusal),
        }
    }

    /// Tells the client why it is refused, and closes the transport.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the transport.
    pub async fn run<S: Transport>(self, socket: S) {
        observe::refused(self.cause, self.refusal.close.code);
        pump::refuse(socket, self.refusal, true).await;
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("code", &self.refusal.close.code).finish_non_exhaustive()
    }
}

/// An upgrade under way: the session does not leave memory while this lives.
pub(super) struct Hold<T: Send + 'static> {
    pub(super) session: Arc<Shared<T>>,
    /// This upgrade will start the handler, unless another one is faster.
    pub(super) will_start: bool,
}

impl<T: Send + 'static> Hold<T> {
    /// The machine counts the hold already.
    pub(super) fn counted(session: Arc<Shared<T>>) -> Self {
        Self { session, will_start: false }
    }
}

impl<T: Send + 'static> Drop for Hold<T> {
    fn drop(&mut self) {
        self.session.with_core(|core, now| {
            core.machine.release_hold(now);
            // It has not attached: the session is open to any handler again.
            if self.will_start && !core.machine.has_handler() {
                core.handler_type = None;
                core.handler_path.release();
            }
        });
    }
}
