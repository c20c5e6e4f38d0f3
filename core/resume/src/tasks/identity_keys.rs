//! Keeps the keys that sign identities up to date with the store.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    live::registry::Registry,
    words::{errors::chain, identity::ring::REREAD},
};

/// Whatever wants the keys to be read, and however often: they are read no more often than this.
const PAUSE: Duration = Duration::from_secs(1);

/// Reads the keys at `first`, from then on once a minute, and when they are `wanted`.
pub(crate) async fn run<T: Send + 'static>(
    registry: Weak<Registry<T>>,
    wanted: Arc<Notify>,
    first: Instant,
) {
    let mut next = first;
    let mut told = false;
    loop {
        let _ = timeout_at(next, wanted.notified()).await;
        next = Instant::now() + REREAD;
        let Some(registry) = registry.upgrade() else {
            return;
        };
        match registry.read_identity_keys().await {
            Ok(()) => told = false,
            Err(error) => {
                if !told {
                    tracing::warn!(error = %chain(&error), "the identity keys cannot be read");
                }
                told = true;
                // The time of a key that is known may have come all the same.
                registry.arrange_keys();
            }
        }
        drop(registry);
        sleep(PAUSE).await;
    }
}
