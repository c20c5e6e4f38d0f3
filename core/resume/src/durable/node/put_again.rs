//! The engine may have lost writes, acknowledged or not: what is in memory heals that.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    live::{registry::Registry, session::Core},
    words::{observe, random},
};

/// All sessions are put within this time, so that the engine is not asked for all at once.
const SPREAD: Duration = Duration::from_secs(2);
const PARTS: u32 = 32;

/// Puts every live session once more.
pub(super) async fn put_again<T: Send + 'static>(registry: Weak<Registry<T>>) {
    let sessions: Vec<_> = match registry.upgrade() {
        Some(registry) => registry.all().iter().map(Arc::downgrade).collect(),
        None => return,
    };
    if sessions.is_empty() {
        return;
    }
    tracing::info!(
        sessions = sessions.len(),
        "the engine may have lost writes: all sessions are put again"
    );
    for part in sessions.chunks(sessions.len().div_ceil(PARTS as usize)) {
        // A little off, so that many nodes do not come at once.
        let jitter = u32::from(random::bytes::<1>()[0]);
        sleep(SPREAD / PARTS * jitter / 255).await;
        observe::nodes::put_again(part.len());
        for session in part.iter().filter_map(Weak::upgrade) {
            session.step(Core::put_again);
        }
    }
}
