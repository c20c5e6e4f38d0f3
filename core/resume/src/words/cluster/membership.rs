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

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{ClusterConfig, ClusterView, Lease, LeaseState, LeaseView, Owner};
use crate::words::{
    node::{Incarnation, NodeInfo},
    random,
};

/// The newest form of session records that this version reads; in the directory, for rolling deploys.
const READS: u32 = 1;

/// A node's place in its cluster. One task renews its lease; all others only look.
pub(crate) struct Membership {
    config: ClusterConfig,
    start: Instant,
    /// Until when the lease is held, in microseconds after the start: what every look asks.
    held_until: AtomicU64,
    state: Mutex<State>,
    /// Something has changed: the lease, or the incarnation.
    news: Notify,
    /// Somebody wants a renewal now.
    wanted: Notify,
    /// Transports here whose session is at another node.
    pub(crate) relays: AtomicUsize,
    /// Requests of other nodes.
    pub(crate) hops: AtomicUsize,
    /// What the door keeps of the other nodes.
    pub(crate) door: OnceLock<Arc<dyn Any + Send + Sync>>,
}

struct State {
    incarnation: Incarnation,
    lease: Lease,
    /// How many renewals have been answered.
    renewals: u64,
    /// Earlier lives of this process.
    former: Vec<Incarnation>,
    /// By when the relays here are cut: the node drains.
    cut_by: Option<Instant>,
    /// The node has let go of its lease, and takes no other.
    retired: bool,
    /// The others, as the directory had them; `None` for one that is gone.
    known: HashMap<Incarnation, Option<NodeInfo>>,
}

impl Membership {
    pub(crate) fn new(config: ClusterConfig) -> Arc<Self> {
        let state = State {
            incarnation: draw(),
            lease: Lease::new(config.lease),
            renewals: 0,
            former: Vec::new(),
            cut_by: None,
            retired: false,
            known: HashMap::new(),
        };
        Arc::new(Self {
            config,
            start: Instant::now(),
            held_until: AtomicU64::new(0),
            state: Mutex::new(state),
            news: Notify::new(),
            wanted: Notify::new(),
            relays: AtomicUsize::new(0),
            hops: AtomicUsize::new(0),
            door: OnceLock::new(),
        })
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.state().incarnation
    }

    /// Describes this node for the directory.
    pub(crate) fn info(&self) -> NodeInfo {
        let address = self.config.advertise.as_deref().unwrap_or_default();
        NodeInfo::new(&*self.config.name, self.incarnation(), address, READS)
    }

    /// Whether the node may speak for its sessions. Looked at again right before each act, after every wait.
    pub(crate) fn holds(&self) -> bool {
        let now = Instant::now().saturating_duration_since(self.start);
        now.as_micros() < u128::from(self.held_until.load(Ordering::Acquire))
    }

    /// How much of the lease is left.
    pub(crate) fn left(&self) -> Duration {
        let until = self.state().lease.until();
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn lease_state(&self) -> LeaseState {
        self.state().lease.state(Instant::now())
    }

    /// Waits until the lease is held; `false` if it is not by then.
    pub(crate) async fn held_by(&self, deadline: Instant) -> bool {
        self.wait(deadline, Self::holds).await
    }

    /// Waits until a renewal that was sent after this call has been answered, and the node may claim from the gone; `false` if
    /// that is not so by the deadline.
    pub(crate) async fn may_claim_by(&self, deadline: Instant) -> bool {
        let before = self.state().renewals;
        self.wanted.notify_one();
        // One may have been on its way already: the one after that counts.
        let renewed = self.wait(deadline, |this| this.state().renewals >= before + 2).await;
        renewed
            && self
                .wait(deadline, |this| this.state().lease.may_claim_from_gone(Instant::now()))
                .await
    }

    async fn wait(&self, deadline: Instant, is: impl Fn(&Self) -> bool) -> bool {
        loop {
            let news = self.news.notified();
            if is(self) {
                return true;
            }
            if timeout_at(deadline, news).await.is_err() {
                return is(self);
            }
        }
    }

    /// Waits until somebody wants a renewal.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The engine has given the lease, or renewed it; the request was sent at this time.
    pub(crate) fn is_renewed(&self, incarnation: Incarnation, sent: Instant) {
        self.change(|state| {
            if state.incarnation == incarnation {
                state.lease.is_renewed(sent, Instant::now());
                state.renewals += 1;
            }
        });
    }

    /// The engine knows this incarnation no more.
    pub(crate) fn is_gone(&self, incarnation: Incarnation) {
        self.change(|state| {
            if state.incarnation == incarnation {
                state.lease.is_gone();
            }
        });
    }

    /// Takes a new incarnation, which no engine knows yet; returns it.
    pub(crate) fn begin_anew(&self) -> Incarnation {
        self.change(|state| {
            state.former.push(state.incarnation);
            state.incarnation = draw();
            state.lease = Lease::new(self.config.lease);
            state.incarnation
        })
    }

    /// The node drains: its relays are cut one by one, until then.
    pub(crate) fn cut_relays(&self, by: Instant) {
        self.change(|state| state.cut_by = Some(by));
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

    /// The node lets go of its lease, for good.
    pub(crate) fn retire(&self) {
        self.change(|state| {
            state.retired = true;
            state.lease.is_gone();
        });
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.state().retired
    }

    /// Whether this incarnation is of another process.
    pub(crate) fn is_foreign(&self, other: Incarnation) -> bool {
        let state = self.state();
        other != state.incarnation && !state.former.contains(&other)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        let until = state.lease.until();
        let until = until.map_or(Duration::ZERO, |it| it.saturating_duration_since(self.start));
        let micros = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
        self.held_until.store(micros, Ordering::Release);
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
            lease: match self.lease_state() {
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
        Some(Self { membership: Arc::clone(membership), count })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.count)(&self.membership).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Never zero.
fn draw() -> Incarnation {
    Incarnation::from_number(u64::from_be_bytes(random::bytes()).max(1))
}
