//! Calls on one connection: what waits goes together, in one round trip.
//!
//! One task owns the connection. It takes all that waits (up to 1,024 calls or 8 MiB), sends it, and waits for all
//! answers, before it takes more. When the connection is lost, or an answer does not come in time, it lets go of the
//! connection and dials again; nothing that was on the way is sent a second time, except loads.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::Value;
use session_resume::store::Stamp;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    connection::{Call, Live, Target, by_text, bytes, strange},
    error::{Failure, FailureKind},
    scripts::{Said, Script},
};

const BATCH_CALLS: usize = 1024;
const BATCH_BYTES: usize = 8 << 20;

/// Between two attempts to dial; doubled after each one that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(crate) type Answer = Result<Value, Failure>;

/// A handle on the task; when it is dropped, the task ends.
#[derive(Debug)]
pub(crate) struct Lane {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is work, or there will be no more.
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many have left at the front, so that a number finds its place.
    taken: u64,
    /// The number of the put that waits, by key.
    puts: HashMap<Vec<u8>, u64>,
    /// This many commands may wait before those without a caller are cleared away.
    sweep_at: usize,
    /// Why there is no connection.
    trouble: Option<Failure>,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    call: Call,
    /// The claim and number of a put: a put with a larger number takes its place.
    stamp: Option<Stamp>,
    deadline: Instant,
    /// A call that would be sent later than this is not sent at all.
    send_by: Instant,
    callers: Vec<oneshot::Sender<Answer>>,
}

/// What a lane does on its connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a call may take, from when it is made.
    pub(crate) timeout: Duration,
    /// How many replicas must have what is written; 0: none.
    pub(crate) replicas: u32,
}

impl Lane {
    /// Starts the task on the present runtime, with a connection if there is one already.
    pub(crate) fn start(target: Arc<Target>, live: Option<Live>, settings: Settings) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), news: Notify::new() });
        let worker = Worker { shared: Arc::clone(&shared), target, settings, live };
        tokio::spawn(worker.run());
        Self { shared, timeout: settings.timeout }
    }

    /// Makes a call. It ends at its deadline at the latest, whatever the engine does.
    ///
    /// A put with a stamp takes the place of one of the same claim that still waits.
    pub(crate) async fn call(&self, call: Call, stamp: Option<Stamp>) -> Answer {
        let now = Instant::now();
        let (caller, answer) = oneshot::channel();
        let deadline = now + self.timeout;
        // A call that has only a moment left would cost the others their connection.
        let send_by = now + self.timeout * 3 / 4;
        self.shared.push(Waiting { call, stamp, deadline, send_by, callers: vec![caller] });
        match timeout_at(deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => {
                let text = "the runtime in which this store was connected has ended";
                Err(Failure::new(FailureKind::Connection, text))
            }
            Err(_) => Err(self.shared.silence(self.timeout)),
        }
    }

    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.shared.lock().waiting.len()
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.news.notify_one();
    }
}

impl Shared {
    // No code can panic half way through a change, so a poisoned lock guards a whole queue.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, waiting: Waiting) {
        self.lock().push(waiting);
        self.news.notify_one();
    }

    fn silence(&self, timeout: Duration) -> Failure {
        match &self.lock().trouble {
            Some(trouble) => Failure { kind: FailureKind::Silence, ..trouble.clone() },
            None => Failure::new(FailureKind::Silence, format!("no answer within {timeout:?}")),
        }
    }
}

impl Queue {
    fn push(&mut self, mut waiting: Waiting) {
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

    /// Clears away the commands that no caller waits for any more.
    fn sweep(&mut self) {
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
    fn take(&mut self, now: Instant) -> Vec<Waiting> {
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
            bytes += waiting.call.args.iter().map(bytes::Bytes::len).sum::<usize>();
            batch.push(waiting);
        }
        batch
    }
}

impl Waiting {
    fn answer(self, answer: &Answer) {
        for caller in self.callers {
            // A caller that has gone wants no answer.
            let _ = caller.send(answer.clone());
        }
    }
}

/// The task.
struct Worker {
    shared: Arc<Shared>,
    target: Arc<Target>,
    settings: Settings,
    live: Option<Live>,
}

impl Worker {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while self.work().await {
            let live = match self.live.take().filter(|live| !live.is_closed()) {
                Some(live) => live,
                None => match self.dial().await {
                    Ok(live) => live,
                    Err(trouble) => {
                        self.rest(trouble, pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                },
            };
            pause = FIRST_PAUSE;
            let batch = self.shared.lock().take(Instant::now());
            self.live = if batch.is_empty() { Some(live) } else { self.commit(live, batch).await };
        }
    }

    /// Waits until there is work; `false` if there will be none.
    async fn work(&self) -> bool {
        loop {
            let news = self.shared.news.notified();
            {
                let queue = self.shared.lock();
                if queue.ended {
                    return false;
                }
                if !queue.waiting.is_empty() {
                    return true;
                }
            }
            news.await;
        }
    }

    async fn dial(&self) -> Result<Live, Failure> {
        let timeout = self.settings.timeout / 2;
        let dialled = tokio::time::timeout(timeout, self.target.dial()).await;
        let live = dialled.unwrap_or_else(|_| {
            let text = format!("no answer to a new connection within {timeout:?}");
            Err(Failure::new(FailureKind::Silence, text))
        })?;
        self.shared.lock().trouble = None;
        Ok(live)
    }

    /// Waits before the next attempt to dial.
    async fn rest(&self, trouble: Failure, pause: Duration) {
        {
            let mut queue = self.shared.lock();
            if queue.trouble.is_none() {
                let (address, reason) = (&self.target.address, &trouble.text);
                tracing::warn!(%address, %reason, "no connection to the engine");
            }
            queue.trouble = Some(trouble);
            queue.sweep();
        }
        // A little off, so that many processes do not come at once.
        let jitter = Duration::from_micros(u64::from(getrandom::u32().unwrap_or(0) % 10_000));
        let until = Instant::now() + pause + jitter;
        loop {
            // Only the end of the lane shortens it.
            let news = self.shared.news.notified();
            if self.shared.lock().ended {
                return;
            }
            tokio::select! {
                () = sleep_until(until) => return,
                () = news => {}
            }
        }
    }

    /// Sends a batch, and answers its callers; returns the connection if it is still of use.
    async fn commit(&self, mut live: Live, batch: Vec<Waiting>) -> Option<Live> {
        let first = batch.iter().map(|waiting| waiting.deadline).min()?;
        let calls: Vec<_> = batch.iter().map(|waiting| &waiting.call).collect();
        let until = Instant::now() + first.saturating_duration_since(Instant::now()) / 2;
        let exchange = exchange(&mut live, &self.target, &calls, self.settings.replicas, until);
        let answers = match timeout_at(first, exchange).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(failure)) => {
                self.lost(batch, &failure);
                return None;
            }
            // An answer that comes later on this connection is not used.
            Err(_) => {
                let text = format!("no answer within {:?}", self.settings.timeout);
                self.lost(batch, &Failure::new(FailureKind::Silence, text));
                return None;
            }
        };
        let mut useful = true;
        for (waiting, answer) in batch.into_iter().zip(answers) {
            useful &= !answer.as_ref().is_err_and(Failure::ends_connection);
            waiting.answer(&answer);
        }
        useful.then_some(live)
    }

    /// The connection is lost with these on it. A load changes nothing, so it is sent again if there is time.
    fn lost(&self, batch: Vec<Waiting>, failure: &Failure) {
        let mut queue = self.shared.lock();
        for waiting in batch {
            let again = waiting.call.script == Script::Load
                && failure.kind == FailureKind::Connection
                && Instant::now() < waiting.send_by;
            if again {
                queue.push(waiting);
            } else {
                waiting.answer(&Err(failure.clone()));
            }
        }
    }
}

/// Calls the scripts, and again those that could not run; then waits for the replicas until `until`.
///
/// All on one connection: `WAIT` speaks only of what its own connection has written.
async fn exchange(
    live: &mut Live,
    target: &Target,
    calls: &[&Call],
    replicas: u32,
    until: Instant,
) -> Result<Vec<Answer>, Failure> {
    let mut pipe = redis::pipe();
    for call in calls {
        pipe.add_command(live.by_name(call));
    }
    let waits = replicas > 0 && calls.iter().any(|call| call.script.writes());
    if waits {
        pipe.add_command(wait(replicas, until));
    }
    let mut answers = live.send(&pipe).await?;
    let mut reached = if waits { answers.pop() } else { None };
    let again: Vec<_> = (0..calls.len())
        .filter_map(|at| instead(calls[at], answers[at].as_ref().err()?).map(|call| (at, call)))
        .collect();
    if !again.is_empty() {
        let mut pipe = redis::pipe();
        for (_, call) in &again {
            pipe.add_command(by_text(call));
        }
        if waits {
            pipe.add_command(wait(replicas, until));
        }
        let mut more = live.send(&pipe).await?;
        if waits {
            reached = more.pop();
        }
        for ((at, _), answer) in again.into_iter().zip(more) {
            answers[at] = answer;
        }
    }
    // Before a caller is told: is there no record because the server has lost everything?
    if answers.iter().any(|answer| said(answer) == Some(Said::NotFound)) {
        let mut pipe = redis::pipe();
        pipe.add_command(by_text(&target.mark()?));
        let mark = live.send(&pipe).await?.pop().ok_or_else(strange)?;
        target.meet_mark(bytes(mark?)?);
    }
    if waits {
        let reached = match reached {
            Some(Ok(Value::Int(reached))) => reached,
            Some(Err(failure)) => return Err(failure),
            _ => 0,
        };
        if reached < i64::from(replicas) {
            let text = format!("{reached} replicas have what was written, not {replicas}");
            for (call, answer) in calls.iter().zip(&mut answers) {
                if call.script.writes() && has_happened(answer) {
                    *answer = Err(Failure::new(FailureKind::Replicas, text.clone()));
                }
            }
        }
    }
    Ok(answers)
}

/// What to call instead of a script that has certainly not run.
fn instead(call: &Call, failure: &Failure) -> Option<Call> {
    match (failure.kind, call.script) {
        (FailureKind::NoScript, _) => Some(call.clone()),
        // A record that does not grow may be written in a full engine.
        (FailureKind::Full, Script::Put) => Some(Call { script: Script::PutFull, ..call.clone() }),
        _ => None,
    }
}

fn said(answer: &Answer) -> Option<Said> {
    match answer {
        Ok(Value::Int(code)) => Said::from_code(*code),
        _ => None,
    }
}

fn has_happened(answer: &Answer) -> bool {
    matches!(said(answer), Some(Said::Changed | Said::Kept))
}

/// With a time: 0 would wait for ever.
fn wait(replicas: u32, until: Instant) -> redis::Cmd {
    let left = until.saturating_duration_since(Instant::now()).as_millis().max(1);
    let mut wait = redis::cmd("WAIT");
    wait.arg(replicas).arg(u64::try_from(left).unwrap_or(u64::MAX));
    wait
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use bytes::Bytes;
    use redis::Client;

    use super::*;
    use crate::keys::Keys;

    const TIMEOUT: Duration = Duration::from_millis(400);
    const FIRST: Stamp = Stamp::first(7, 1);

    /// A lane to an engine that is not there.
    fn lane() -> Lane {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let target = Target::new(&client, "nowhere".to_owned(), Keys::new("sr".to_owned()));
        let settings = Settings { timeout: TIMEOUT, replicas: 0 };
        Lane::start(Arc::new(target.unwrap()), None, settings)
    }

    fn call(script: Script, key: u8, text: String) -> Call {
        Call { script, key: vec![key], args: vec![Bytes::from(text)] }
    }

    fn poll_once(future: impl Future<Output = Answer>) {
        let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }

    #[tokio::test]
    async fn only_the_newest_record_of_each_session_waits() {
        let lane = lane();
        for number in 1..2000 {
            for key in 0..10 {
                let put = call(Script::Put, key, number.to_string());
                poll_once(lane.call(put, Some(Stamp { number, ..FIRST })));
            }
        }
        assert_eq!(lane.waiting(), 10);
        let texts = |lane: &Lane| {
            let queue = lane.shared.lock();
            let texts = queue.waiting.iter().map(|waiting| waiting.call.args[0].clone());
            texts.collect::<Vec<_>>()
        };
        assert!(texts(&lane).iter().all(|text| text == "1999"));
        // An older one, and one of another claim, take no place.
        poll_once(lane.call(call(Script::Put, 3, "old".to_owned()), Some(FIRST)));
        let other = FIRST.taken_by(2);
        poll_once(lane.call(call(Script::Put, 4, "other".to_owned()), Some(other)));
        assert_eq!(lane.waiting(), 12);
    }

    #[tokio::test]
    async fn calls_without_a_caller_take_no_memory() {
        let lane = lane();
        for n in 0..10_000 {
            let key = u8::try_from(n % 200).unwrap();
            poll_once(lane.call(call(Script::Load, key, n.to_string()), None));
            assert!(lane.waiting() <= 65);
        }
    }

    #[tokio::test]
    async fn every_caller_is_answered_in_time_with_the_reason() {
        let lane = lane();
        let began = Instant::now();
        let calls = (1..50).map(|number| {
            let put = call(Script::Put, 1, number.to_string());
            lane.call(put, Some(Stamp { number, ..FIRST }))
        });
        for answer in futures_util::future::join_all(calls).await {
            let failure = answer.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Silence);
            assert!(failure.text.contains("refused"), "{}", failure.text);
        }
        assert!(began.elapsed() < 2 * TIMEOUT);
        while lane.waiting() > 0 {
            assert!(began.elapsed() < 20 * TIMEOUT, "what nobody waits for is cleared away");
            tokio::time::sleep(TIMEOUT / 10).await;
        }
    }
}
