//! A node that has a new life takes back what it still has in memory, if no other node was there meanwhile.

use std::sync::{Arc, Weak};

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep};

use crate::{
    durable::snapshot::record::{self, KeyRecord},
    live::{
        registry::Registry,
        session::{Place, Shared},
    },
    words::{
        cluster::Membership,
        errors::chain,
        node::Incarnation,
        observe::{
            self,
            nodes::{Claimed, Lost, claimed},
        },
        store::{ErrorKind, StoreError},
    },
};

/// This many are claimed at the same time.
const AT_ONCE: usize = 256;

/// Takes all back; each goes on as soon as it is this life's. Ends when that is done, or this life is over.
pub(super) async fn reclaim<T: Send + 'static>(
    registry: Weak<Registry<T>>,
    node: Arc<Membership>,
    by: Incarnation,
) {
    loop {
        let Some(here) = registry.upgrade().filter(|_| node.incarnation() == by) else {
            return;
        };
        let claims = here.all().into_iter().map(|session| take_back(&here, session, by));
        let results = futures_util::stream::iter(claims).buffer_unordered(AT_ONCE);
        // Each of them is tried, also after one that has failed.
        let is_done = results.fold(true, |all, done| async move { all && done }).await;
        observe::nodes::frozen(here.silenced());
        if is_done {
            return;
        }
        drop(here);
        sleep(node.config().lease / 8).await;
    }
}

/// Takes one back; `false` if it is to be tried again.
async fn take_back<T: Send + 'static>(
    registry: &Registry<T>,
    session: Arc<Shared<T>>,
    by: Incarnation,
) -> bool {
    // No put of it is on its way meanwhile.
    let _turn = session.write_turn().await;
    match claim_again(registry, &session, by).await {
        Ok(()) => {
            registry.thaw(&session);
            true
        }
        Err(error) if error.kind() == ErrorKind::Stale => {
            tracing::warn!(session = %session.id().short(), "another node has the session by now");
            registry.lost(&session, Lost::Lapse);
            true
        }
        Err(error) => {
            observe::store_failed();
            let (id, error) = (session.id(), chain(&error));
            tracing::warn!(session = %id.short(), %error, "session not taken back yet");
            false
        }
    }
}

/// Claims the record with the fence that this node last knew; the handler goes on.
async fn claim_again<T: Send + 'static>(
    registry: &Registry<T>,
    session: &Shared<T>,
    by: Incarnation,
) -> Result<(), StoreError> {
    let Some(store) = registry.config().store.clone() else {
        return Ok(());
    };
    let found = {
        let core = session.lock();
        core.durable.as_ref().map(|durable| (durable.stamp, durable.place.clone()))
    };
    let Some((ours, place)) = found.filter(|(stamp, _)| stamp.owner != by.number()) else {
        return Ok(());
    };
    let key = match place {
        Place::Ours(key) => key,
        // Nothing of it is there for certain: its first claim names the new life.
        Place::Nowhere | Place::Asked(_) | Place::Ended(_) => {
            session.with_durable(|durable| durable.stamp.owner = by.number());
            return Ok(());
        }
    };
    let at = store.session_key(&key.to_bytes());
    let Some(stored) = store.store.load(&at).await? else {
        // Its next put finds out why.
        session.with_durable(|durable| durable.stamp.owner = by.number());
        return Ok(());
    };
    let is_ours = stored.stamp.same_fence(ours);
    // A claim of this life, whose answer was lost.
    let has_happened = stored.stamp.line == ours.line && stored.stamp.owner == by.number();
    if !is_ours && !has_happened {
        return Err(ErrorKind::Stale.into());
    }
    let stamp = stored.stamp.taken_by(by.number());
    // A claim takes the clean mark off: something follows.
    let bytes = match record::decode(&stored.bytes)? {
        KeyRecord::Live(mut record) => {
            record.clean = false;
            record::encode(&KeyRecord::Live(record))
        }
        KeyRecord::Ended(_) => stored.bytes.clone(),
    };
    let begun = Instant::now();
    store.store.claim(&at, Some(stored.stamp), stamp, bytes, stored.expires_in).await?;
    claimed(Claimed::Reclaim, begun.elapsed());
    session.with_durable(|durable| durable.stamp = stamp);
    Ok(())
}
