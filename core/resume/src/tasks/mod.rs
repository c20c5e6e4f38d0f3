//! Fourth floor: what is done for all sessions, by the clock or because the process stops.
//!
//! Start with `sweep`: the task that ticks the clock and removes sessions whose time is up. `drain` brings all sessions
//! into the store before a process ends. `identity_keys` reads the keys again that the store keeps.

pub(crate) mod drain;
mod identity_keys;
mod sweep;

use std::sync::Arc;

use crate::{
    durable::{
        node,
        snapshot::{Saver, saver},
    },
    live::registry::{Registry, Saves},
    words::identity::ring::REREAD,
};

/// Starts the tasks of a layer, unless they run: the sweeper and, with a store, the saver.
///
/// Called when a request asks for a session, and not in `Layer::layer`: routers apply their layers again and again, and
/// there may be no runtime yet.
pub(crate) fn start<T: Send + 'static>(registry: &Registry<T>) {
    registry.begin_work(|| {
        let this = registry.weak();
        let sweeper = tokio::spawn(sweep::run(this.clone(), registry.config().check_interval));
        registry.own_task(sweeper.abort_handle());
        registry.clock().tick();
        if let Some((read, wanted)) = registry.key_reading() {
            let keys = identity_keys::run(this.clone(), wanted, read.instant + REREAD);
            registry.own_task(tokio::spawn(keys).abort_handle());
        }
        if let (Some(_), Some(codec)) = (&registry.config().store, registry.config().codec) {
            let saver = Arc::new(Saver::new(codec));
            registry.set_saver(Arc::clone(&saver) as Arc<dyn Saves<T>>);
            let saver = tokio::spawn(saver::run(this.clone(), saver));
            registry.own_task(saver.abort_handle());
        }
        if let Some(of_node) = registry.node() {
            let layer = Arc::clone(&registry.config().name);
            let lease = node::keep_lease(this.clone(), Arc::clone(of_node), layer);
            registry.own_task(tokio::spawn(lease).abort_handle());
            let watch = node::watch_lease(this.clone(), Arc::clone(of_node));
            registry.own_task(tokio::spawn(watch).abort_handle());
        }
    });
}
