//! A node of several: its lease at the engine, and what follows for its sessions.

mod reclaim;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::reclaim::reclaim;
use crate::{
    live::registry::Registry,
    words::{
        cluster::{ClusterConfig, Membership},
        errors::chain,
        node::Incarnation,
        store::{ErrorKind, Renewed, StoreError},
    },
};

/// The directory is read anew with every so manieth renewal.
const DIRECTORY: u32 = 2;

/// Keeps the node's lease until the layer is gone.
pub(crate) async fn keep_lease<T: Send + 'static>(
    registry: Weak<Registry<T>>,
    node: Arc<Membership>,
    layer: Arc<str>,
) {
    let mut is_first = true;
    loop {
        let Some(incarnation) = enlist(&registry, &node, &layer, is_first).await else {
            return;
        };
        if !is_first {
            // Renewals go on meanwhile. Ends with the layer, or with this life.
            tokio::spawn(reclaim(registry.clone(), Arc::clone(&node), incarnation));
        }
        is_first = false;
        if !renew(&registry, &node, &layer, incarnation).await || node.is_retired() {
            return;
        }
        // Gone is for good: what comes next is a new life. Until it has taken a session back, that is silent.
        if let Some(registry) = registry.upgrade() {
            registry.freeze_all();
        }
        node.begin_anew();
    }
}

/// Enlists the node until it is done; `None` if the layer is gone.
async fn enlist<T: Send + 'static>(
    registry: &Weak<Registry<T>>,
    node: &Membership,
    layer: &str,
    is_first: bool,
) -> Option<Incarnation> {
    let ClusterConfig { store, name, lease, .. } = node.config();
    // What it was called before: its own last life, or at the start the incarnation that had the name.
    let mut may_take = is_first;
    let mut told = false;
    loop {
        registry.upgrade().filter(|_| !node.is_retired())?;
        let info = node.info();
        let sent = Instant::now();
        let enlisted: Result<(), StoreError> = async {
            let named = store.named(layer, name).await?;
            if let Some(other) = named
                && !may_take
                && node.is_foreign(other)
                && store.find(layer, other).await?.is_some()
            {
                return Err(ErrorKind::Stale.into());
            }
            store.enlist(layer, &info, named, *lease).await
        }
        .await;
        match enlisted {
            Ok(()) => {
                node.is_renewed(info.incarnation, sent);
                tracing::info!(node = %name, incarnation = %info.incarnation, "enlisted");
                return Some(info.incarnation);
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let taken = error.kind() == ErrorKind::Stale;
                    tracing::warn!(
                        node = %name, error = %chain(&error), another_process_has_the_name = taken,
                        "this node is not enlisted; it tries again"
                    );
                }
                // It may have happened, too late for this life.
                node.begin_anew();
                may_take &= error.kind() != ErrorKind::Stale;
                sleep(*lease / 8).await;
            }
        }
    }
}

/// Reads which nodes there are. A node that is not listed any more is asked for by itself: only that tells that it is gone.
async fn read_directory(node: &Membership, layer: &str) -> Result<(), StoreError> {
    let store = &node.config().store;
    let missing = node.learn_all(store.nodes(layer).await?);
    for incarnation in missing {
        node.learn(incarnation, store.find(layer, incarnation).await?);
    }
    Ok(())
}

/// Renews the lease until the incarnation is gone; `false` if the layer is.
async fn renew<T: Send + 'static>(
    registry: &Weak<Registry<T>>,
    node: &Membership,
    layer: &str,
    incarnation: Incarnation,
) -> bool {
    let ClusterConfig { store, name, lease, .. } = node.config();
    let interval = *lease / 4;
    let mut round = 0;
    let mut has_failed = false;
    loop {
        if registry.upgrade().is_none() || node.is_retired() {
            return false;
        }
        if round % DIRECTORY == 0 {
            match timeout(interval, read_directory(node, layer)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(error = %chain(&error), "no directory"),
                Err(_) => tracing::debug!("no directory in time"),
            }
        }
        round = round.wrapping_add(1);
        // Sooner after one that has failed, or if somebody waits for it.
        let pause = if has_failed { interval / 8 } else { interval };
        tokio::select! {
            () = sleep(pause) => {}
            () = node.wanted() => {}
        }
        let sent = Instant::now();
        let renewed = timeout(interval, store.renew(layer, incarnation, *lease, interval)).await;
        match renewed {
            // What others want is not handed over yet.
            Ok(Ok(Renewed::Held { wanted: _ })) => {
                node.is_renewed(incarnation, sent);
                has_failed = false;
            }
            Ok(Ok(Renewed::Gone)) => {
                tracing::warn!(node = %name, %incarnation, "the engine has let go of this node");
                node.is_gone(incarnation);
                return true;
            }
            Ok(Err(error)) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(node = %name, error = %chain(&error), "lease not renewed");
                }
            }
            Err(_) => {
                if !std::mem::replace(&mut has_failed, true) {
                    tracing::warn!(node = %name, "lease not renewed in time");
                }
            }
        }
    }
}

/// Silences the sessions whenever the lease is not held, and lets them go on when it is held again.
pub(crate) async fn watch_lease<T: Send + 'static>(
    registry: Weak<Registry<T>>,
    node: Arc<Membership>,
) {
    // A node holds no lease before it has one, nor any session.
    loop {
        while !node.held_by(Instant::now() + Duration::from_secs(60)).await {
            if registry.upgrade().is_none() {
                return;
            }
        }
        match registry.upgrade() {
            Some(registry) => registry.thaw_all(),
            None => return,
        }
        while node.holds() {
            sleep_until(Instant::now() + node.left().max(Duration::from_millis(1))).await;
            if registry.upgrade().is_none() {
                return;
            }
        }
        let Some(here) = registry.upgrade() else {
            return;
        };
        tracing::warn!(node = %node.config().name, "the lease has lapsed: sessions are silent until it is back");
        here.freeze_all();
        drop(here);
        // A client that waits for long goes elsewhere.
        if !node.held_by(Instant::now() + node.config().lease).await
            && let Some(registry) = registry.upgrade()
        {
            registry.send_away();
        }
    }
}
