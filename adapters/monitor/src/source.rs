//! What a monitor asks of a layer, whatever its state's type.

use futures_util::{FutureExt as _, future::BoxFuture};
use session_resume::{
    AttachedClient, EndedSession, Minute, Outcome, SessionId, SessionInfo, SessionResume,
};

/// A layer's sessions.
pub(crate) trait Source: Send + Sync {
    /// Describes every session in memory.
    fn survey<'a>(&'a self, see: &'a mut (dyn FnMut(SessionInfo) + Send)) -> BoxFuture<'a, ()>;

    /// Describes one session, with its clients and its outcome.
    fn inspect(&self, id: SessionId) -> Option<Inspected>;

    fn end(&self, id: SessionId, reason: &str) -> End;

    fn recent_ends(&self, count: usize) -> Vec<EndedSession>;

    fn last_minutes(&self) -> Vec<Minute>;

    fn is_ready(&self) -> bool;
}

/// One session.
pub(crate) struct Inspected {
    pub(crate) info: SessionInfo,
    pub(crate) generation: u64,
    pub(crate) node: Option<String>,
    pub(crate) clients: Vec<AttachedClient>,
    pub(crate) outcome: Option<std::sync::Arc<Outcome>>,
}

/// What has become of a wish to end a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Ended,
    /// It had ended before.
    WasOver,
    Unknown,
}

impl<T: Send + 'static> Source for SessionResume<T> {
    fn survey<'a>(&'a self, see: &'a mut (dyn FnMut(SessionInfo) + Send)) -> BoxFuture<'a, ()> {
        SessionResume::survey(self, see).boxed()
    }

    fn inspect(&self, id: SessionId) -> Option<Inspected> {
        let session = self.get(id)?;
        Some(Inspected {
            info: session.info(),
            generation: session.generation(),
            node: session.node_name().map(|name| name.to_string()),
            clients: session.clients(),
            outcome: session.outcome(),
        })
    }

    fn end(&self, id: SessionId, reason: &str) -> End {
        let Some(session) = self.get(id) else {
            return End::Unknown;
        };
        if session.outcome().is_some() {
            return End::WasOver;
        }
        session.close(reason);
        End::Ended
    }

    fn recent_ends(&self, count: usize) -> Vec<EndedSession> {
        SessionResume::recent_ends(self, count)
    }

    fn last_minutes(&self) -> Vec<Minute> {
        SessionResume::last_minutes(self)
    }

    fn is_ready(&self) -> bool {
        SessionResume::is_ready(self)
    }
}
