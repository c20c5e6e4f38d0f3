//! Several nodes: whose a stored session is.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use session_resume_proto::wire::Close;
use tokio::time::{Instant, timeout};

use super::{Loaded, Store};
#[cfg(any(all(feature = "axum", feature = "tungstenite"), feature = "http"))]
use crate::words::context::RequestContext;
use crate::{
    durable::snapshot::record::{self, KeyRecord},
    live::{
        registry::Registry,
        session::{Core, Life, Place, Shared},
    },
    words::{
        cluster::{Arrival, Membership, Owner, decide},
        durability::{SavedBy, Urgency},
        key::SessionKey,
        node::{Incarnation, NodeInfo},
        observe::nodes::Waiting,
        refusal::Refusal,
        store::{ErrorKind, StoreError, named::is},
    },
};

/// Why a request does not get its session here.
#[derive(Debug)]
pub(crate) enum Apart {
    Refused(Refusal),
    /// It is at another node, which lives.
    #[cfg_attr(not(feature = "tungstenite"), allow(dead_code, reason = "hops need hyper"))]
    Elsewhere(NodeInfo),
}

impl From<Refusal> for Apart {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a record that was found leads to.
pub(super) enum Found {
    Nothing,
    Stored(Box<Loaded>),
    Elsewhere(NodeInfo),
    /// Its owner is gone, and this node may not claim from it yet.
    Orphan(Incarnation),
}

/// A request waits at most this long for a lease; clients give up after 20 s.
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// What is told then.
const RETRY: Duration = Duration::from_secs(2);
/// A request waits at most this long until the engine has its new session.
const STORING: Duration = Duration::from_secs(2);

/// Until when an arrival waits for leases.
pub(super) fn patience(node: &Membership) -> Instant {
    let lease = node.config().lease;
    Instant::now() + (lease + Duration::from_secs(5)).min(LONGEST_WAIT)
}

/// Waits for a lease; counted meanwhile.
pub(super) async fn waits<R>(lease: impl Future<Output = R>) -> R {
    let _waiting = Waiting::new();
    lease.await
}

pub(super) fn no_lease() -> Refusal {
    Refusal::busy("this node has no lease of the session store now, try again later", RETRY)
}

pub(super) fn no_claim() -> Refusal {
    Refusal::busy("the session's node is gone, and this one may not take it over yet", RETRY)
}

/// Where the session of a request is, as a program that looks after its nodes may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Whereabouts {
    /// It is in this process's memory.
    pub here: bool,
    /// The name of the node that owns it; `None` if nobody does, or if that node is gone and its name is not known here.
    pub owner: Option<String>,
    /// What its record says.
    pub state: OwnerState,
    /// How often it has been claimed; 0 if there is no record.
    pub generation: u64,
}

/// What a record says of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// The owner lives.
    Held,
    /// The owner is gone.
    Gone,
    /// Nobody owns it: the next node that is asked for it claims it.
    Free,
    /// There is no record.
    None,
    /// The session has ended.
    Ended,
}

impl OwnerState {
    /// Returns `held`, `gone`, `free`, `none` or `ended`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Gone => "gone",
            Self::Free => "free",
            Self::None => "none",
            Self::Ended => "ended",
        }
    }
}

impl<T: Send + 'static> Registry<T> {
    /// Finds out where the session of this key is. Starts and claims nothing.
    pub(crate) async fn whereabouts(&self, key: &SessionKey) -> Result<Whereabouts, Refusal> {
        let here = self.is_here(key);
        let nothing = Whereabouts { here, owner: None, state: OwnerState::None, generation: 0 };
        let Some(store) = &self.config().store else {
            return Ok(nothing);
        };
        let by_store = |error: StoreError| Refusal::by_store(&error);
        let found =
            store.store.load(&store.session_key(&key.to_bytes())).await.map_err(by_store)?;
        let Some(stored) = found else {
            return Ok(nothing);
        };
        let at = |owner, state| {
            Ok(Whereabouts { here, owner, state, generation: stored.stamp.generation })
        };
        match record::decode(&stored.bytes).map_err(|error| by_store(error.into()))? {
            KeyRecord::Ended(_) => return at(None, OwnerState::Ended),
            KeyRecord::Live(record) if record.clean => return at(None, OwnerState::Free),
            KeyRecord::Live(_) => {}
        }
        let owner = self.owner_of(stored.stamp.owner).await.map_err(by_store)?;
        match (owner, self.node()) {
            (Owner::Ours, Some(node)) => at(Some(node.config().name.to_string()), OwnerState::Held),
            (Owner::Theirs(node), _) => at(Some(node.name), OwnerState::Held),
            (Owner::Gone | Owner::Ours, _) => at(None, OwnerState::Gone),
        }
    }

    /// Returns the node that has the session of a request, if that is another one, and lives.
    #[cfg(any(all(feature = "axum", feature = "tungstenite"), feature = "http"))]
    pub(crate) async fn owner_elsewhere(
        &self,
        context: &RequestContext,
    ) -> Result<Option<NodeInfo>, Refusal> {
        let (Some(node), Some(store)) = (self.node(), &self.config().store) else {
            return Ok(None);
        };
        if self.needs_no_store(context) {
            return Ok(None);
        }
        if !node.held_by(patience(node)).await {
            return Err(no_lease());
        }
        let by_store = |error: StoreError| Refusal::by_store(&error);
        let at = store.session_key(&context.key().to_bytes());
        let Some(stored) = store.store.load(&at).await.map_err(by_store)? else {
            return Ok(None);
        };
        match record::decode(&stored.bytes).map_err(|error| by_store(error.into()))? {
            KeyRecord::Live(record) if !record.clean => {}
            KeyRecord::Live(_) | KeyRecord::Ended(_) => return Ok(None),
        }
        self.lives_at(stored.stamp.owner).await.map_err(by_store)
    }

    /// Returns the other node that owns what names this owner, if it lives.
    pub(super) async fn lives_at(&self, owner: u64) -> Result<Option<NodeInfo>, StoreError> {
        Ok(match self.owner_of(owner).await? {
            Owner::Theirs(node) => Some(node),
            Owner::Ours | Owner::Gone => None,
        })
    }

    /// Returns what is known of an owner, or what the directory says.
    async fn owner_of(&self, owner: u64) -> Result<Owner, StoreError> {
        let Some(node) = self.node() else {
            return Ok(Owner::Gone);
        };
        let owner = Incarnation::from_number(owner);
        if let Some(known) = node.owner(owner) {
            return Ok(known);
        }
        let found = node.config().store.find(&self.config().name, owner).await?;
        node.learn(owner, found.clone());
        Ok(found.map_or(Owner::Gone, Owner::Theirs))
    }

    /// Decides what becomes of a stored session of this owner. `released`: its record is clean.
    pub(super) async fn arrival(
        &self,
        owner: u64,
        released: bool,
        cleared: Option<Incarnation>,
    ) -> Result<Arrival, StoreError> {
        if self.node().is_none() || released {
            return Ok(Arrival::Claim);
        }
        let known = self.owner_of(owner).await?;
        let may_claim = cleared == Some(Incarnation::from_number(owner));
        Ok(decide(known, may_claim))
    }

    /// Whether a request need not wait for other nodes: there are none, or the session is here, and its record is this
    /// node's.
    pub(crate) fn has_place(&self, key: &SessionKey) -> bool {
        self.node().is_none() || self.by_key(key).is_some_and(|session| session.is_in_store())
    }

    /// In a cluster: makes sure that the record of a session that has just begun here is this node's; `false` if another node
    /// has the key.
    pub(crate) async fn has_record(&self, session: &Arc<Shared<T>>) -> Result<bool, Refusal> {
        if self.node().is_none() || session.is_in_store() {
            return Ok(true);
        }
        self.make_record(session).boxed().await
    }

    async fn make_record(&self, session: &Arc<Shared<T>>) -> Result<bool, Refusal> {
        session.step(Core::takes_its_place);
        let saved = timeout(STORING, session.wait_saved(Urgency::Now, SavedBy::Layer)).await;
        match saved {
            Ok(Ok(())) => Ok(true),
            _ if session.lock().life() == Life::TakenOver => Ok(false),
            // It has ended: that is found where it is looked for.
            _ if !session.goes_on() => Ok(true),
            _ => Err(Refusal::busy("the session store does not answer, try again later", RETRY)),
        }
    }

    /// Whether an attach may speak for the session: its record is this node's, as of now, and so is the lease.
    ///
    /// # Errors
    ///
    /// Returns how the client is closed instead.
    pub(crate) async fn confirm_attach(&self, session: &Arc<Shared<T>>) -> Result<(), Close> {
        let (Some(node), Some(store)) = (self.node(), self.config().store.as_ref()) else {
            return Ok(());
        };
        if !node.holds() {
            return Err(Close::TRY_AGAIN);
        }
        let key = session.lock().key.clone();
        if session.is_in_store() {
            self.confirm_record(store, session, &key.to_bytes()).await?;
        } else {
            match self.has_record(session).await {
                Ok(true) => {}
                Ok(false) => return Err(Close::MOVED),
                Err(_) => return Err(Close::TRY_AGAIN),
            }
        }
        if node.holds() { Ok(()) } else { Err(Close::TRY_AGAIN) }
    }

    async fn confirm_record(
        &self,
        store: &Store,
        session: &Arc<Shared<T>>,
        key: &[u8],
    ) -> Result<(), Close> {
        let stamp = {
            let core = session.lock();
            let durable = core.durable.as_ref().ok_or(Close::TRY_AGAIN)?;
            // A record that is on its way elsewhere is not where the key says; its own puts are fenced.
            match &durable.place {
                Place::Ours(at) if *at == core.key => durable.stamp,
                _ => return Ok(()),
            }
        };
        let expires_in = self.record_expires_in(session);
        let touched = store.store.touch(&store.session_key(key), stamp, expires_in).await;
        if is(&touched, ErrorKind::Stale) {
            let now = session.lock().durable.as_ref().map(|durable| durable.stamp);
            // This node's next life may have taken it back meanwhile: then it says nothing.
            if now.is_none_or(|now| now.same_fence(stamp)) {
                self.taken_over(session);
                return Err(Close::MOVED);
            }
            return Err(Close::TRY_AGAIN);
        }
        if is(&touched, ErrorKind::NotFound) {
            // The engine has lost it, or an earlier record is there: it is put again first.
            session.step(|core| core.changed(Urgency::Now));
            let saved = timeout(STORING, session.wait_saved(Urgency::Now, SavedBy::Layer)).await;
            return match saved {
                Ok(Ok(())) => Ok(()),
                _ if session.lock().life().has_left() => Err(Close::MOVED),
                _ => Err(Close::TRY_AGAIN),
            };
        }
        touched.map_err(|_| Close::TRY_AGAIN)
    }
}

impl<T: Send + 'static> Shared<T> {
    /// Whether anything of it is in the store; `false` for one without a store.
    pub(crate) fn is_in_store(&self) -> bool {
        self.lock().durable.as_ref().is_some_and(|durable| durable.is_stored())
    }
}
