use serde::{Deserialize, Serialize};
use session_resume::{Identity, Session, SessionId, SessionOrigin, SessionResume, reuse::Phase};

/// The log keeps this many numbers, the newest.
const LOG: usize = 10_000;

/// The testee's state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) total: i64,
    pub(crate) log: Vec<i64>,
    pub(crate) next: u64,
    /// What was asked in a chat, and is not answered yet.
    #[serde(default)]
    pub(crate) asked: Option<Asked>,
    /// Makes the state as large as a test wants it.
    #[serde(default)]
    pub(crate) pad: String,
}

/// A question in a chat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The answer's number.
    pub(crate) number: u64,
    pub(crate) said: String,
}

impl Tally {
    pub(crate) fn add(&mut self, k: i64) -> i64 {
        self.total = self.total.wrapping_add(k);
        self.log.push(k);
        if self.log.len() > LOG {
            self.log.remove(0);
        }
        self.total
    }

    /// Takes the next number; numbers never repeat in a session's life.
    pub(crate) fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

/// What `GET /` answers.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    session: SessionId,
    identity: Identity,
    origin: SessionOrigin,
    total: i64,
    iteration: u64,
}

impl Overview {
    pub(crate) fn of(session: &Session<Tally>) -> Self {
        Self {
            session: session.id(),
            identity: session.identity(),
            origin: session.origin(),
            total: session.read(|tally| tally.total),
            iteration: session.iteration(),
        }
    }
}

/// A handler with a mistake.
pub(crate) fn panic_read(session: &Session<Tally>) {
    session.read(|_| panic!("told to panic in a read"));
}

/// What `GET /count` answers.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Count {
    live: usize,
    suspended: usize,
    running: usize,
    completed: usize,
    pipes: usize,
    observers: usize,
}

impl Count {
    pub(crate) fn of(resume: &SessionResume<Tally>) -> Self {
        let mut count = Self { pipes: resume.pipes(), ..Self::default() };
        for session in resume.sessions() {
            count.observers += session.observers;
            match session.phase {
                Phase::Running => count.running += 1,
                Phase::Suspended => count.suspended += 1,
                _ => count.completed += 1,
            }
        }
        count.live = count.running + count.suspended;
        count
    }
}
