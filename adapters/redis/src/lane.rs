//! Calls on one connection: what waits goes together, in one round trip.
//!
//! One task owns the connection. It takes all that waits (up to 1,024 calls or 8 MiB), sends it, and waits for all
//! answers, before it takes more. When the connection is lost, or an answer does not come in time, it lets go of the
//! connection and dials again; nothing that was on the way is sent a second time, except loads.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::Value;
use session_resume::store::Stamp;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    bundle,
    call::Call,
    connection::{Live, Named},
    error::{Failure, FailureKind},
    queue::{Answer, Queue, Waiting},
    scripts::{Said, Script},
    target::Target,
};

/// Between two attempts to dial; doubled after each one that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

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

/// Where calls go that the server of a lane does not have, or that should leave it: the other nodes of a cluster.
pub(crate) trait Router: fmt::Debug + Send + Sync {
    /// Sends a call on its way again.
    fn route(&self, waiting: Waiting);

    /// Takes over a call that the node `from` has not executed, because another one has the key.
    fn redirect(&self, waiting: Waiting, said: Failure, from: &str);

    /// Sends on the calls that wait in lanes of nodes which do not have their keys any more.
    fn settle(&self);
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
    pub(crate) fn start(
        target: Arc<Target>,
        live: Option<Live>,
        settings: Settings,
        router: Option<Weak<dyn Router>>,
    ) -> Self {
        let shared = Arc::new(Shared { queue: Mutex::default(), news: Notify::new() });
        let worker = Worker { shared: Arc::clone(&shared), target, settings, live, router };
        tokio::spawn(worker.run());
        Self { shared, timeout: settings.timeout }
    }

    /// Makes a call. It ends at its deadline at the latest, whatever the engine does.
    ///
    /// A put with a stamp takes the place of one of the same claim that still waits. `within`: not as long as any other call may
    /// take.
    pub(crate) async fn call(
        &self,
        call: Call,
        stamp: Option<Stamp>,
        within: Option<Duration>,
    ) -> Answer {
        let timeout = within.map_or(self.timeout, |within| within.min(self.timeout));
        let (waiting, answer) = Waiting::new(call, stamp, timeout);
        self.push(waiting);
        answer.wait(|| self.silence()).await
    }

    /// Puts a call behind those that wait.
    pub(crate) fn push(&self, waiting: Waiting) {
        self.shared.push(waiting);
    }

    /// Why a call has had no answer.
    pub(crate) fn silence(&self) -> Failure {
        self.shared.silence(self.timeout)
    }

    /// Takes calls out that still wait.
    #[cfg(feature = "cluster")]
    pub(crate) fn take_if(&self, leaves: impl Fn(&Call) -> bool) -> Vec<Waiting> {
        self.shared.lock().take_if(leaves)
    }

    /// Whether no call waits.
    #[cfg(feature = "cluster")]
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.lock().waiting.is_empty()
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

/// The task.
struct Worker {
    shared: Arc<Shared>,
    target: Arc<Target>,
    settings: Settings,
    live: Option<Live>,
    router: Option<Weak<dyn Router>>,
}

impl Worker {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        let mut has_had_one = self.live.is_some();
        while self.work().await {
            let live = match self.live.take().filter(|live| !live.is_closed()) {
                Some(live) => live,
                None => match self.dial().await {
                    Ok(live) => {
                        if std::mem::replace(&mut has_had_one, true) {
                            self.target.has_broken();
                        }
                        live
                    }
                    Err(trouble) => {
                        self.rest(trouble, pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        continue;
                    }
                },
            };
            pause = FIRST_PAUSE;
            // Many callers are often woken at once: let them all say what they want.
            tokio::task::yield_now().await;
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
        let within = self.settings.timeout / 2;
        let dialled = self.target.dial(within).await;
        if dialled.is_ok() {
            self.shared.lock().trouble = None;
        }
        #[cfg(feature = "cluster")]
        if dialled.is_err() {
            // Another node may answer the calls that wait here.
            let _ = tokio::time::timeout(within, self.target.look_around()).await;
        }
        if let Some(router) = self.router() {
            router.settle();
        }
        dialled
    }

    fn router(&self) -> Option<Arc<dyn Router>> {
        self.router.as_ref()?.upgrade()
    }

    /// Waits before the next attempt to dial.
    async fn rest(&self, trouble: Failure, pause: Duration) {
        {
            let mut queue = self.shared.lock();
            if queue.trouble.is_none() {
                let (address, reason) = (&self.target.name, &trouble.text);
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
        let mut elsewhere = Vec::new();
        let router = self.router();
        for (waiting, answer) in batch.into_iter().zip(answers) {
            match answer {
                Err(said) if router.is_some() && said.is_redirect() => {
                    elsewhere.push((waiting, said));
                }
                answer => {
                    useful &= !answer.as_ref().is_err_and(Failure::ends_connection);
                    waiting.answer(&answer);
                }
            }
        }
        if let Some(router) = router.filter(|_| !elsewhere.is_empty()) {
            #[cfg(feature = "cluster")]
            let moved = elsewhere.iter().any(|(_, said)| said.kind == FailureKind::Moved);
            for (waiting, said) in elsewhere {
                router.redirect(waiting, said, &self.target.name);
            }
            #[cfg(feature = "cluster")]
            if moved {
                let looked = timeout_at(first, self.target.look_again(&mut live)).await;
                useful &= looked.is_ok_and(|looked| looked.is_ok());
            }
            router.settle();
        }
        useful.then_some(live)
    }

    /// The connection is lost with these on it. A load changes nothing, so it is sent again if there is time.
    fn lost(&self, batch: Vec<Waiting>, failure: &Failure) {
        for waiting in batch {
            let again = waiting.call.script == Script::Load
                && failure.kind == FailureKind::Connection
                && Instant::now() < waiting.send_by;
            match self.router() {
                _ if !again => waiting.answer(&Err(failure.clone())),
                Some(router) => router.route(waiting),
                None => self.shared.lock().push(waiting),
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
    let waits = replicas > 0 && calls.iter().any(|call| call.script.writes());
    let after = || waits.then(|| wait(replicas, until));
    let bundles = if live.together { bundle::together(calls) } else { bundle::each_alone(calls) };
    let (mut answers, mut reached) = live.run(calls, &bundles, Named::ByName, after()).await?;
    let refused = |answer: &Answer| answer.as_ref().is_err_and(|it| it.kind == FailureKind::Apart);
    live.together &= !answers.iter().any(refused);
    let again: Vec<_> = (0..calls.len())
        .filter_map(|at| instead(calls[at], &answers[at]).map(|call| (at, call)))
        .collect();
    if !again.is_empty() {
        let calls: Vec<_> = again.iter().map(|(_, call)| call).collect();
        let bundles = bundle::each_alone(&calls);
        let (more, then_reached) = live.run(&calls, &bundles, Named::ByText, after()).await?;
        reached = then_reached;
        for ((at, _), answer) in again.iter().zip(more) {
            answers[*at] = answer;
        }
    }
    // Before a caller is told: is there no record because the server has lost everything?
    if answers.iter().any(|answer| said(answer) == Some(Said::NotFound))
        && let Err(failure) = target.look_at_marks(live).await
    {
        if failure.kind != FailureKind::NotNow {
            return Err(failure);
        }
        for answer in answers.iter_mut().filter(|answer| said(answer) == Some(Said::NotFound)) {
            *answer = Err(failure.clone());
        }
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

/// What to call instead of a script that has certainly done nothing at the key of this call.
fn instead(call: &Call, answer: &Answer) -> Option<Call> {
    match (answer, call.script) {
        // Others had to be loaded before it.
        (Ok(Value::Int(_)), Script::Load) => Some(call.clone()),
        (Ok(_), _) => None,
        (Err(failure), script) => match (failure.kind, script) {
            (FailureKind::NoScript | FailureKind::Apart, _) => Some(call.clone()),
            // A record that does not grow may be written in a full engine.
            (FailureKind::Full, Script::Put) => {
                Some(Call { script: Script::PutFull, ..call.clone() })
            }
            _ => None,
        },
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
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use bytes::Bytes;
    use redis::Client;
    use tokio::net::TcpSocket;

    use super::*;
    use crate::{engine::Engine, keys::Keys, target::Place};

    const TIMEOUT: Duration = Duration::from_millis(400);
    const FIRST: Stamp = Stamp::first(7, 1);

    /// A lane to an engine that is not there, and the place where it is not. Nobody else listens there meanwhile.
    fn lane() -> (Lane, TcpSocket) {
        let nobody = TcpSocket::new_v4().unwrap();
        nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = nobody.local_addr().unwrap().port();
        let client = Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let engine = Engine::new("nowhere".to_owned(), Keys::new("sr".to_owned())).unwrap();
        let target = Target::new(Arc::new(engine), "nowhere".to_owned(), Place::One(client));
        let settings = Settings { timeout: TIMEOUT, replicas: 0 };
        (Lane::start(Arc::new(target), None, settings, None), nobody)
    }

    fn call(script: Script, key: u8, text: String) -> Call {
        Call::new(script, vec![key], vec![Bytes::from(text)])
    }

    fn poll_once(future: impl Future<Output = Answer>) {
        let polled = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending));
    }

    #[tokio::test]
    async fn only_the_newest_record_of_each_session_waits() {
        let (lane, _nobody) = lane();
        for number in 1..2000 {
            for key in 0..10 {
                let put = call(Script::Put, key, number.to_string());
                poll_once(lane.call(put, Some(Stamp { number, ..FIRST }), None));
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
        poll_once(lane.call(call(Script::Put, 3, "old".to_owned()), Some(FIRST), None));
        let other = Stamp { number: 5000, ..FIRST.taken_by(2) };
        poll_once(lane.call(call(Script::Put, 4, "other".to_owned()), Some(other), None));
        assert_eq!(lane.waiting(), 12);
    }

    #[tokio::test]
    async fn calls_without_a_caller_take_no_memory() {
        let (lane, _nobody) = lane();
        for n in 0..10_000 {
            let key = u8::try_from(n % 200).unwrap();
            poll_once(lane.call(call(Script::Load, key, n.to_string()), None, None));
            assert!(lane.waiting() <= 65);
        }
    }

    #[tokio::test]
    async fn every_caller_is_answered_in_time_with_the_reason() {
        let (lane, _nobody) = lane();
        let began = Instant::now();
        let calls = (1..50).map(|number| {
            let put = call(Script::Put, 1, number.to_string());
            lane.call(put, Some(Stamp { number, ..FIRST }), None)
        });
        for answer in futures_util::future::join_all(calls).await {
            let failure = answer.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Silence);
            assert!(failure.text.contains("refused"), "{}", failure.text);
        }
        assert!(began.elapsed() < 10 * TIMEOUT);
        while lane.waiting() > 0 {
            assert!(began.elapsed() < 20 * TIMEOUT, "what nobody waits for is cleared away");
            tokio::time::sleep(TIMEOUT / 10).await;
        }
    }

    /// Some servers in front of several engines take one key at a time, as a cluster's nodes do.
    #[tokio::test]
    async fn keys_that_may_not_go_together_go_apart() {
        if session_resume_engine::without_redis() {
            return;
        }
        let flavour = session_resume_engine::Flavour::Redis;
        let server = session_resume_engine::Engine::with(flavour, &["--cluster-enabled", "yes"]);
        server.command("CLUSTER ADDSLOTSRANGE 0 16383");
        while !server.command("CLUSTER INFO").contains("cluster_state:ok") {
            tokio::time::sleep(TIMEOUT / 20).await;
        }
        let client = Client::open(format!("{}?protocol=resp3", server.url())).unwrap();
        let engine = Engine::new("there".to_owned(), Keys::new("sr".to_owned())).unwrap();
        let target = Target::new(Arc::new(engine), "there".to_owned(), Place::One(client));
        let settings = Settings { timeout: 20 * TIMEOUT, replicas: 0 };
        let lane = Lane::start(Arc::new(target), None, settings, None);
        for (round, errors) in [(1, 1), (2, 1)] {
            let loads =
                (0..20).map(|key| lane.call(call(Script::Load, key, String::new()), None, None));
            for answer in futures_util::future::join_all(loads).await {
                assert_eq!(answer.unwrap(), Value::Nil, "round {round}");
            }
            let stats = server.command("INFO errorstats");
            let refused = format!("errorstat_CROSSSLOT:count={errors}");
            assert!(stats.contains(&refused), "round {round}: asked once: {stats}");
        }
    }
}
