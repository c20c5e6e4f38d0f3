//! All sessions in numbers.

use std::time::SystemTime;

use serde::Serialize;
use session_resume::{Minute, SessionId, SessionInfo, reuse::Phase};

use crate::{
    session::{Ending, millis, since_1970},
    source::Source,
};

/// Ends that are shown.
const ENDS: usize = 20;

#[derive(Serialize)]
pub(crate) struct Overview {
    /// Milliseconds since 1970.
    now_ms: u64,
    /// Whether this process takes new sessions.
    ready: bool,
    sessions: Sessions,
    /// The last 60 minutes, the present one last.
    minutes: Vec<OneMinute>,
    /// The latest first.
    ends: Vec<OneEnd>,
}

#[derive(Serialize, Default)]
struct Sessions {
    running: usize,
    suspended: usize,
    completed: usize,
    oldest_ms: u64,
    transports: usize,
    outbox_messages: usize,
    outbox_bytes: usize,
    inbox_messages: usize,
    observers: usize,
    /// Sessions with at least one guard.
    guarded: usize,
    wait_for_store: usize,
}

impl Sessions {
    fn count(&mut self, info: &SessionInfo) {
        let phase = match info.phase {
            Phase::Running => &mut self.running,
            Phase::Suspended => &mut self.suspended,
            _ => &mut self.completed,
        };
        *phase += 1;
        self.wait_for_store += usize::from(info.waits_for_store);
        if info.phase == Phase::Completed {
            // What it keeps, it keeps for clients that come late.
            return;
        }
        self.oldest_ms = self.oldest_ms.max(millis(info.age));
        self.transports += info.transports;
        self.outbox_messages += info.outbox_messages;
        self.outbox_bytes += info.outbox_bytes;
        self.inbox_messages += info.inbox_messages;
        self.observers += info.observers;
        self.guarded += usize::from(!info.guards.is_empty());
    }
}

#[derive(Serialize)]
struct OneMinute {
    new: u64,
    resumed: u64,
    reused: u64,
    restored: u64,
    replayed: u64,
    gaps: u64,
    started: u64,
    ended: u64,
}

impl From<Minute> for OneMinute {
    fn from(minute: Minute) -> Self {
        Self {
            new: minute.new,
            resumed: minute.resumed,
            reused: minute.reused,
            restored: minute.restored,
            replayed: minute.replayed,
            gaps: minute.gaps,
            started: minute.started,
            ended: minute.ended,
        }
    }
}

#[derive(Serialize)]
struct OneEnd {
    id: SessionId,
    key: String,
    #[serde(flatten)]
    ending: Ending,
}

pub(crate) async fn of(source: &dyn Source) -> Overview {
    let mut sessions = Sessions::default();
    source.survey(&mut |info| sessions.count(&info)).await;
    let ends = source.recent_ends(ENDS).into_iter().map(|ended| OneEnd {
        id: ended.id,
        key: ended.key.to_string(),
        ending: Ending::of(&ended.outcome),
    });
    Overview {
        now_ms: since_1970(SystemTime::now()),
        ready: source.is_ready(),
        sessions,
        minutes: source.last_minutes().into_iter().map(OneMinute::from).collect(),
        ends: ends.collect(),
    }
}
