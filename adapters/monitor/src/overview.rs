//! All sessions in numbers.

use std::{cmp::Reverse, collections::HashMap, time::SystemTime};

use serde::Serialize;
use session_resume::{Minute, SessionId, SessionInfo, reuse::Phase};

use crate::{
    session::{Ending, millis, since_1970},
    source::Source,
};

/// Ends that are shown.
const ENDS: usize = 20;

/// Reasons of guards that are shown.
const REASONS: usize = 20;

/// Reasons of guards that are told apart during one look; an application may make one for each session.
const MAX_REASONS: usize = 1000;

#[derive(Serialize)]
pub(crate) struct Overview {
    /// Milliseconds since 1970.
    now_ms: u64,
    /// Whether this process takes new sessions.
    ready: bool,
    sessions: Sessions,
    /// The reasons that most guards have.
    guards: Vec<Reason>,
    /// Guards for other reasons.
    other_guards: usize,
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

/// For what reason guards are held, and how many.
#[derive(Serialize)]
struct Reason {
    reason: String,
    count: usize,
}

#[derive(Default)]
struct Guards {
    by_reason: HashMap<String, usize>,
    others: usize,
}

impl Guards {
    fn count(&mut self, info: SessionInfo) {
        for reason in info.guards {
            if let Some(count) = self.by_reason.get_mut(&reason) {
                *count += 1;
            } else if self.by_reason.len() < MAX_REASONS {
                self.by_reason.insert(reason, 1);
            } else {
                self.others += 1;
            }
        }
    }

    /// Returns those that are shown, the most frequent first, and how many guards have other reasons.
    fn shown(self) -> (Vec<Reason>, usize) {
        let reasons = self.by_reason.into_iter().map(|(reason, count)| Reason { reason, count });
        let mut reasons = reasons.collect::<Vec<_>>();
        reasons.sort_unstable_by(|a, b| {
            (Reverse(a.count), &a.reason).cmp(&(Reverse(b.count), &b.reason))
        });
        let rest = reasons.split_off(reasons.len().min(REASONS));
        (reasons, self.others + rest.iter().map(|reason| reason.count).sum::<usize>())
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
    let mut guards = Guards::default();
    let mut see = |info: SessionInfo| {
        sessions.count(&info);
        guards.count(info);
    };
    source.survey(&mut see).await;
    let (guards, other_guards) = guards.shown();
    let ends = source.recent_ends(ENDS).into_iter().map(|ended| OneEnd {
        id: ended.id,
        key: ended.key.to_string(),
        ending: Ending::of(&ended.outcome),
    });
    Overview {
        now_ms: since_1970(SystemTime::now()),
        ready: source.is_ready(),
        sessions,
        guards,
        other_guards,
        minutes: source.last_minutes().into_iter().map(OneMinute::from).collect(),
        ends: ends.collect(),
    }
}
