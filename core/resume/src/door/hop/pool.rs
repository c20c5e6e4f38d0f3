//! Connections to other nodes that are open and greeted ahead, so that a hop costs no handshake.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, timeout},
};

use super::head::Greeting;

/// This many are kept ready for each node.
const READY: usize = 2;
/// One that has waited longer is not used: what is between the nodes may have forgotten it.
const OLDEST: Duration = Duration::from_secs(30);
/// How long a new one may take.
const DIAL: Duration = Duration::from_secs(2);
/// Nodes that are remembered at most.
const PEERS: usize = 1024;

/// A connection whose listener has spoken.
pub(super) struct Greeted {
    pub(super) stream: TcpStream,
    pub(super) greeting: Greeting,
    since: Instant,
}

/// The connections of one node to the others.
#[derive(Default)]
pub(super) struct Pool {
    ready: Mutex<HashMap<String, Vec<Greeted>>>,
}

impl Pool {
    /// Returns a connection that was ready, if there is one that seems to be alive.
    pub(super) fn take(&self, address: &str) -> Option<Greeted> {
        let mut ready = self.lock();
        let of_peer = ready.get_mut(address)?;
        std::iter::from_fn(|| of_peer.pop()).find(Greeted::is_alive)
    }

    /// Makes connections ready again, in a task of its own.
    pub(super) fn refill(self: &Arc<Self>, address: &str) {
        let missing = {
            let mut ready = self.lock();
            // Those of nodes that are gone go, too.
            for of_peer in ready.values_mut() {
                of_peer.retain(|greeted| greeted.since.elapsed() < OLDEST);
            }
            ready.retain(|peer, of_peer| peer == address || !of_peer.is_empty());
            if ready.len() >= PEERS {
                return;
            }
            READY.saturating_sub(ready.get(address).map_or(0, Vec::len))
        };
        for _ in 0..missing {
            let (pool, address) = (Arc::clone(self), address.to_owned());
            // Ends within the time of a dial.
            tokio::spawn(async move {
                if let Ok(greeted) = dial(&address).await {
                    let mut ready = pool.lock();
                    let of_peer = ready.entry(address).or_default();
                    if of_peer.len() < READY {
                        of_peer.insert(0, greeted);
                    }
                }
            });
        }
    }

    // No code can panic half way through a change.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Greeted>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Greeted {
    /// Nothing more is said before the request: what can be read is the end.
    fn is_alive(&self) -> bool {
        let nothing = self.stream.try_read(&mut [0]);
        let quiet = nothing.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        quiet && self.since.elapsed() < OLDEST
    }
}

/// Connects, and waits for the listener to speak.
pub(super) async fn dial(address: &str) -> io::Result<Greeted> {
    let dialled = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut greeting = Greeting::default();
        stream.read_exact(&mut greeting).await?;
        Ok(Greeted { stream, greeting, since: Instant::now() })
    };
    timeout(DIAL, dialled).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
