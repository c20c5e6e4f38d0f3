//! Calls that wait for a connection.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use redis::Value;
use session_resume::store::Stamp;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use crate::{
    call::Call,
    error::{Failure, FailureKind},
    scripts::Script,
};

const BATCH_CALLS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

pub(crate) type Answer = Result<Value, Failure>;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Waiting>,
    /// How many have left at the front, so that a number finds its place.
    taken: u64,
    /// The number of the put that waits, by key.
    puts: HashMap<Vec<u8>, u64>,
    /// This many commands may wait before those without a caller are cleared away.
    sweep_at: usize,
    /// Why there is no connection.
    pub(crate) trouble: Option<Failure>,
    pub(crate) ended: bool,
}

/// A call that was not sent, or of which the engine has said that it was not executed.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) call: Call,
    /// How often a node of a cluster has named another one.
    #[cfg(feature = "cluster")]
    pub(crate) redirects: u8,
    /// The claim and number of a put: a put with a larger number takes its place.
    stamp: Option<Stamp>,
    pub(crate) deadline: Instant,
    /// A call that would be sent later than this is not sent at all.
    pub(crate) send_by: Instant,
    callers: Vec<oneshot::Sender<Answer>>,
}

impl Queue {
    pub(crate) fn push(&mut self, mut waiting: Waiting) {
        if waiting.call.script == Script::Put
            && let Some(stamp) = waiting.stamp
        {
            if let Some(before) = self.put_before(&waiting.call.key, stamp) {
                // The older one has not happened, and never will: what its caller is told of is the newer one.
                before.callers.retain(|caller| !caller.is_closed());
                waiting.callers.append(&mut before.callers);
                *before = waiting;
                return;
            }
            let number = self.taken + self.waiting.len() as u64;
            self.puts.insert(waiting.call.key.clone(), number);
        }
        self.waiting.push_back(waiting);
        if self.waiting.len() > self.sweep_at.max(64) {
            self.sweep();
        }
    }

    /// The put of the same claim, with a smaller number, that waits.
    fn put_before(&mut self, key: &[u8], stamp: Stamp) -> Option<&mut Waiting> {
        let number = *self.puts.get(key)?;
        let place = usize::try_from(number.checked_sub(self.taken)?).ok()?;
        let before = self.waiting.get_mut(place)?;
        let is_older =
            before.stamp.is_some_and(|it| it.same_fence(stamp) && it.number < stamp.number);
        (is_older && before.call.key == key).then_some(before)
    }

    #[cfg(feature = "cluster")]
    pub(crate) fn take_if(&mut self, leaves: impl Fn(&Call) -> bool) -> Vec<Waiting> {
        let all = std::mem::take(&mut self.waiting);
        let (leave, stay): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|waiting| leaves(&waiting.call));
        self.waiting = stay.into();
        self.number_anew();
        leave
    }

    /// Clears away the commands that no caller waits for any more.
    pub(crate) fn sweep(&mut self) {
        self.waiting.retain(|waiting| waiting.callers.iter().any(|caller| !caller.is_closed()));
        self.number_anew();
        self.sweep_at = 2 * self.waiting.len();
    }

    fn number_anew(&mut self) {
        self.taken = 0;
        self.puts.clear();
        for (number, waiting) in (0..).zip(&self.waiting) {
            if waiting.stamp.is_some() {
                self.puts.insert(waiting.call.key.clone(), number);
            }
        }
    }

    /// What goes next: of what has a caller, and time for an answer.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Waiting> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_CALLS
            && bytes < BATCH_BYTES
            && let Some(waiting) = self.waiting.pop_front()
        {
            let number = self.taken;
            self.taken += 1;
            if self.puts.get(&waiting.call.key) == Some(&number) {
                self.puts.remove(&waiting.call.key);
            }
            if waiting.callers.iter().all(oneshot::Sender::is_closed) {
                continue;
            }
            if waiting.send_by < now {
                let trouble = self.trouble.clone().unwrap_or_else(|| {
                    Failure::new(FailureKind::Silence, "not sent: other calls took all the time")
                });
                waiting.answer(&Err(Failure { kind: FailureKind::Silence, ..trouble }));
                continue;
            }
            bytes += waiting.call.len();
            batch.push(waiting);
        }
        batch
    }
}

/// What a caller waits for.
pub(crate) struct Told {
    answer: oneshot::Receiver<Answer>,
    deadline: Instant,
}

impl Told {
    /// Waits for the answer, until the deadline; then it is the one of `silence`.
    pub(crate) async fn wait(self, silence: impl FnOnce() -> Failure) -> Answer {
        match timeout_at(self.deadline, self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let text = "the runtime in which this store was connected has ended";
                Err(Failure::new(FailureKind::Connection, text))
            }
            Err(_) => Err(silence()),
        }
    }
}

impl Waiting {
    /// A call that may take this long from now on.
    pub(crate) fn new(call: Call, stamp: Option<Stamp>, timeout: Duration) -> (Self, Told) {
        let now = Instant::now();
        let (caller, answer) = oneshot::channel();
        let deadline = now + timeout;
        // A call that has only a moment left would cost the others their connection.
        let send_by = now + timeout * 3 / 4;
        let callers = vec![caller];
        let waiting = Self {
            call,
            #[cfg(feature = "cluster")]
            redirects: 0,
            stamp,
            deadline,
            send_by,
            callers,
        };
        (waiting, Told { answer, deadline })
    }

    pub(crate) fn answer(self, answer: &Answer) {
        for caller in self.callers {
            // A caller that has gone wants no answer.
            let _ = caller.send(answer.clone());
        }
    }
}
