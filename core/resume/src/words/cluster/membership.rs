//! What a node knows of its own lease and of the others.

use std::{
    any::Any,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_resume_proto::{
    Moment,
    ownership::{self, Lease, LeaseCommand, LeaseState, Standing},
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{ClusterConfig, ClusterView, LeaseView, Owner};
use crate::words::{
    node::{Incarnation, NodeInfo},
    observe, random,
    store::{EngineRun, Renewed},
};

/// The newest form of session records that this version reads; in the directory, for rolling deploys.
const READS: u32 = 1;

/// A node's place in its cluster. One task does what its [`Lease`] says; all others only look.
pub(crate) struct Membership {
    config: ClusterConfig,
    start: Instant,
    /// Until when the lease is held, in microseconds after the start: what every look asks.
    held_until: AtomicU64,
    state: Mutex<State>,
    /// Something has changed: the lease, or the incarnation.
    news: Notify,
    /// The lease has something to do sooner than it said.
    hurries: Notify,
    /// Transports here whose session is at another node.
    pub(crate) relays: AtomicUsize,
    /// Requests of other nodes.
    pub(crate) hops: AtomicUsize,
    /// What the door keeps of the other nodes.
    pub(crate) door: OnceLock<Arc<dyn Any + Send + Sync>>,
}

struct State {
    lease: Lease,
    /// The life that was drawn last.
    incarnation: Incarnation,
    /// The lives of this process that may have its name: the one that was enlisted last, and those drawn since.
    lives: Vec<Incarnation>,
    /// By when the relays here are cut: the node drains.
    cut_by: Option<Instant>,
    /// The node has let go of its lease, and takes no other.
    retired: bool,
    /// The engine that has answered last.
    run: Option<EngineRun>,
    /// The others, as the directory had them; `None` for one that is gone.
    known: HashMap<Incarnation, Option<NodeInfo>>,
}

impl Membership {
    pub(crate) fn new(config: ClusterConfig) -> Arc<Self> {
        let incarnation = draw();
        let state = State {
            lease: Lease::new(config.lease),
            incarnation,
            lives: vec![incarnation],
            cut_by: None,
            retired: false,
            run: None,
            known: HashMap::new(),
        };
        Arc::new(Self {
            config,
            start: Instant::now(),
            held_until: AtomicU64::new(0),
            state: Mutex::new(state),
            news: Notify::new(),
            hurries: Notify::new(),
            relays: AtomicUsize::new(0),
            hops: AtomicUsize::new(0),
            door: OnceLock::new(),
        })
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    /// Returns the life that the engine knows, or that it is asked to know.
    pub(crate) fn incarnation(&self) -> Incarnation {
        self.state().incarnation
    }

    /// Describes this node for the directory.
    pub(crate) fn info(&self) -> NodeInfo {
        let address = self.config.advertise.as_deref().unwrap_or_default();
        NodeInfo::new(&*self.config.name, self.incarnation(), address, READS)
    }

    /// The clock of the lease.
    fn now(&self) -> Moment {
        let micros = Instant::now().saturating_duration_since(self.start).as_micros();
        Moment::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since(Moment::ZERO)
    }

    /// Whether the node may speak for its sessions. Looked at again right before each act, after every wait.
    pub(crate) fn holds(&self) -> bool {
        self.now().as_micros() < self.held_until.load(Ordering::Acquire)
    }

    /// How much of the lease is left.
    pub(crate) fn left(&self) -> Duration {
        let until = self.state().lease.held_until();
        until.map_or(Duration::ZERO, |until| until.since(self.now()))
    }

    pub(crate) fn standing(&self) -> Standing {
        self.state().lease.standing(self.now())
    }

    /// Waits until the lease is held; `false` if it is not by then.
    pub(crate) async fn held_by(&self, deadline: Instant) -> bool {
        self.wait(deadline, |this| this.holds().then_some(Instant::now())).await
    }

    /// Waits until a renewal that was sent after this call has been answered, and the node may claim from the gone; `false` if
    /// that is not so by the deadline.
    pub(crate) async fn may_claim_by(&self, deadline: Instant) -> bool {
        let asked = self.now();
        self.change(|state| state.lease.handle_wanted(asked));
        self.hurries.notify_one();
        let may_claim = |this: &Self| {
            let (state, now) = (this.state(), this.now());
            state.lease.renewed(now).filter(|sent| *sent >= asked)?;
            let from = state.lease.standing(now).may_take_from?;
            Some(this.instant(from))
        };
        self.wait(deadline, may_claim).await
    }

    /// Waits until the node may begin sessions where there is no record; `None` if it may not by the deadline, else whether
    /// there was anything to wait for. An engine that has lost everything is told first what the owners have in memory.
    pub(crate) async fn may_begin_by(&self, deadline: Instant) -> Option<bool> {
        let now = self.now();
        if self.standing().may_begin_from.is_none_or(|from| from <= now) {
            return Some(false);
        }
        let may_begin = |this: &Self| {
            Some(this.standing().may_begin_from.map_or_else(Instant::now, |at| this.instant(at)))
        };
        self.wait(deadline, may_begin).await.then_some(true)
    }

    /// Waits until it is so: `from` says since or from when, or that it is not known yet.
    async fn wait(&self, deadline: Instant, from: impl Fn(&Self) -> Option<Instant>) -> bool {
        loop {
            let news = self.news.notified();
            let (from, now) = (from(self), Instant::now());
            if from.is_some_and(|from| from <= now) {
                return true;
            }
            if now >= deadline {
                return false;
            }
            let _ = timeout_at(from.map_or(deadline, |from| from.min(deadline)), news).await;
        }
    }

    /// Waits until the lease has something to do sooner than it said.
    pub(crate) async fn hurries(&self) {
        self.hurries.notified().await;
    }

    /// Returns the next thing that is to be done for the lease. A call counts from now on: it is written afterwards.
    pub(crate) fn poll_lease(&self) -> Option<LeaseCommand> {
        // Nobody waits for what changes here.
        let mut state = self.state();
        if state.retired { None } else { state.lease.poll_command(self.now()) }
    }

    /// Returns when the lease has something to do, if nothing happens until then.
    pub(crate) fn lease_is_due(&self) -> Option<Instant> {
        let due = self.state().lease.poll_timeout(self.now());
        due.map(|due| self.instant(due))
    }

    /// Time has passed for the lease.
    pub(crate) fn lease_timeout(&self) {
        self.state().lease.handle_timeout(self.now());
    }

    /// Draws the next life.
    pub(crate) fn draw(&self) {
        /// More attempts than an engine takes back.
        const MOST: usize = 64;
        self.change(|state| {
            let drawn = draw();
            state.lease.handle_drawn(drawn.number());
            state.incarnation = drawn;
            if state.lives.len() >= MOST {
                state.lives.remove(1);
            }
            state.lives.push(drawn);
        });
    }

    /// The lease's connection has answered something.
    pub(crate) fn is_connected(&self) {
        self.change(|state| state.lease.handle_connected(self.now()));
    }

    /// A call for the lease was answered with an error: it is not known what has become of it.
    pub(crate) fn is_disconnected(&self) {
        self.change(|state| state.lease.handle_disconnected());
    }

    /// The engine has enlisted this life.
    pub(crate) fn is_enlisted(&self, incarnation: ownership::Incarnation) {
        self.change(|state| {
            state.lease.handle_enlisted(incarnation, self.now());
            // None of those before it can have the name any more.
            state.lives = vec![state.incarnation];
        });
        observe::nodes::lease(self.left());
    }

    /// Another process that lives has this node's name.
    pub(crate) fn name_is_taken(&self, incarnation: ownership::Incarnation) {
        self.change(|state| state.lease.handle_name_taken(incarnation));
    }

    pub(crate) fn is_name_taken(&self) -> bool {
        self.state().lease.is_name_taken()
    }

    /// That process is gone.
    pub(crate) fn name_is_free(&self) {
        self.change(|state| state.lease.handle_name_free(self.now()));
    }

    /// The engine has answered the renewal of this life.
    pub(crate) fn is_renewed(&self, incarnation: ownership::Incarnation, answer: &Renewed) {
        let run = match answer {
            Renewed::Held { run, .. } => Some(*run),
            Renewed::Gone => None,
        };
        let answer = match run {
            Some(run) => ownership::Renewed::Held { run: run.number() },
            None => ownership::Renewed::Gone,
        };
        let is_another = self.change(|state| {
            state.lease.handle_renewed(incarnation, answer, self.now());
            let before = run.and_then(|run| state.run.replace(run));
            before.is_some_and(|before| Some(before) != run)
        });
        observe::nodes::lease(self.left());
        if is_another {
            observe::nodes::engine_changed();
        }
    }

    /// Takes in how often the engine has lost everything. Called before its answer is taken in.
    pub(crate) fn has_lost(&self, losses: u64) {
        self.state().lease.handle_losses(losses, self.now());
    }

    /// The node drains: its relays are cut one by one, until then.
    pub(crate) fn cut_relays(&self, by: Instant) {
        self.change(|state| {
            state.lease.drain();
            state.cut_by = Some(by);
        });
    }

    /// Waits until it is one relay's turn to be cut.
    #[cfg(feature = "tungstenite")]
    pub(crate) async fn is_cut(&self) {
        let by = loop {
            let news = self.news.notified();
            if let Some(by) = self.state().cut_by {
                break by;
            }
            news.await;
        };
        let left = by.saturating_duration_since(Instant::now());
        // Not all at once.
        let part = u32::from(u16::from_be_bytes(random::bytes()));
        tokio::time::sleep(left * part / (1 << 16)).await;
    }

    /// The node lets go of its lease, for good. Returns the life that the engine is to be told of.
    pub(crate) fn retire(&self) -> Option<Incarnation> {
        self.change(|state| {
            state.retired = true;
            match state.lease.retire() {
                Some(LeaseCommand::Retire(last)) => Some(Incarnation::from_number(last.get())),
                _ => None,
            }
        })
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.state().retired
    }

    /// Whether this incarnation, which has the node's name, is of another process.
    pub(crate) fn is_foreign(&self, other: Incarnation) -> bool {
        !self.state().lives.contains(&other)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        let until = state.lease.held_until().map_or(0, Moment::as_micros);
        self.held_until.store(until, Ordering::Release);
        drop(state);
        self.news.notify_waiters();
        result
    }

    /// What is known of the owner that a record names; `None`: ask the directory.
    pub(crate) fn owner(&self, owner: Incarnation) -> Option<Owner> {
        let state = self.state();
        if owner == state.incarnation {
            return Some(Owner::Ours);
        }
        state.known.get(&owner).map(|known| known.clone().map_or(Owner::Gone, Owner::Theirs))
    }

    /// The directory has said this of a node. `None`: it is gone, for good.
    pub(crate) fn learn(&self, incarnation: Incarnation, node: Option<NodeInfo>) {
        const MOST: usize = 4096;
        self.change(|state| {
            if state.known.len() >= MOST {
                state.known.retain(|_, node| node.is_some());
            }
            state.known.insert(incarnation, node);
        });
    }

    /// What was known of a node is to be asked again: it may be gone.
    pub(crate) fn doubt(&self, incarnation: Incarnation) {
        let mut state = self.state();
        if state.known.get(&incarnation).is_some_and(Option::is_some) {
            state.known.remove(&incarnation);
        }
    }

    /// Waits until it is known that an incarnation is gone.
    #[cfg(feature = "tungstenite")]
    pub(crate) async fn is_gone_for_good(&self, incarnation: Incarnation) {
        loop {
            let news = self.news.notified();
            if self.state().known.get(&incarnation).is_some_and(Option::is_none) {
                return;
            }
            news.await;
        }
    }

    /// The directory has listed these. Returns those that were known to live and are not among them: they may be gone, or
    /// have come after the list was made.
    pub(crate) fn learn_all(&self, nodes: Vec<NodeInfo>) -> Vec<Incarnation> {
        self.change(|state| {
            let lives = state.known.iter().filter(|(_, known)| known.is_some());
            let missing = lives
                .map(|(incarnation, _)| *incarnation)
                .filter(|known| nodes.iter().all(|node| node.incarnation != *known))
                .collect();
            state.known.extend(nodes.into_iter().map(|node| (node.incarnation, Some(node))));
            missing
        })
    }

    /// The nodes of the directory.
    pub(crate) fn nodes(&self) -> Vec<NodeInfo> {
        let mut nodes: Vec<_> = self.state().known.values().flatten().cloned().collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        nodes
    }

    pub(crate) fn view(&self, frozen: usize) -> ClusterView {
        ClusterView {
            name: self.config.name.to_string(),
            incarnation: self.incarnation(),
            lease: match self.standing().lease {
                LeaseState::Held => LeaseView::Held,
                LeaseState::Lapsed => LeaseView::Lapsed,
                LeaseState::Gone => LeaseView::Gone,
            },
            left: self.left(),
            nodes: self.nodes(),
            relays: self.relays.load(Ordering::Relaxed),
            hops: self.hops.load(Ordering::Relaxed),
            frozen,
        }
    }

    // No code can panic half way through a change.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership").field("name", &self.config.name).finish_non_exhaustive()
    }
}

/// Counts one while it lives: a relay, or a hop.
#[derive(Debug)]
pub(crate) struct Counted {
    membership: Arc<Membership>,
    count: fn(&Membership) -> &AtomicUsize,
}

impl Counted {
    /// Counts one more, unless there are `most` already.
    pub(crate) fn new(
        membership: &Arc<Membership>,
        count: fn(&Membership) -> &AtomicUsize,
        most: usize,
    ) -> Option<Self> {
        let more = |there| (there < most).then_some(there + 1);
        count(membership).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        observe::nodes::relays(membership.relays.load(Ordering::Relaxed));
        Some(Self { membership: Arc::clone(membership), count })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.membership).fetch_sub(1, Ordering::Relaxed);
        observe::nodes::relays(self.membership.relays.load(Ordering::Relaxed));
    }
}

/// Never zero.
fn draw() -> Incarnation {
    Incarnation::from_number(u64::from_be_bytes(random::bytes()).max(1))
}
