//! Keys whose session is on its way from the store or back into it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex},
};

use tokio::sync::Notify;

use super::lock;
use crate::words::key::SessionKey;

/// One flight per key: a request that comes meanwhile waits for its end. No request waits for the flight of another
/// key, however long the store takes with that key.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// Told at the end of each.
    under_way: Mutex<HashMap<SessionKey, Arc<Notify>>>,
}

impl Flights {
    /// Waits until no other flight has this key.
    pub(super) async fn start(&self, key: &SessionKey) -> Flight<'_> {
        loop {
            let ended = match lock(&self.under_way).entry(key.clone()) {
                Entry::Vacant(free) => {
                    free.insert(Arc::default());
                    return Flight { flights: self, key: key.clone() };
                }
                // Registered under the lock under which it was seen: its end is not missed.
                Entry::Occupied(taken) => Arc::clone(taken.get()).notified_owned(),
            };
            ended.await;
        }
    }
}

/// While this lives, no other task brings this key's session from the store or back.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    key: SessionKey,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let ended = lock(&self.flights.under_way).remove(&self.key);
        if let Some(ended) = ended {
            ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;
    use crate::Identity;

    const SOON: Duration = Duration::from_secs(1);

    fn key(n: u8) -> SessionKey {
        SessionKey::own(Identity::mint([n; 16]))
    }

    #[tokio::test(start_paused = true)]
    async fn one_flight_per_key_and_keys_do_not_wait_for_each_other() {
        let flights = Flights::default();
        let first = flights.start(&key(0)).await;
        for n in 1..=255 {
            timeout(SOON, flights.start(&key(n))).await.expect("another key is free");
        }
        assert!(timeout(SOON, flights.start(&key(0))).await.is_err(), "its own is not");
        let (second, third) = (key(0), key(0));
        let waiting = async {
            drop(timeout(SOON, flights.start(&second)).await.expect("free again"));
            drop(timeout(SOON, flights.start(&third)).await.expect("free again"));
        };
        let ends = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        tokio::join!(waiting, ends);
        assert!(lock(&flights.under_way).is_empty(), "nothing is kept");
    }
}
