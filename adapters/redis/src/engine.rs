//! What a store knows of its engine, over all connections.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    call::Call,
    error::{Failure, FailureKind},
    keys::Keys,
    scripts::Script,
};

/// The engine, as all connections of a store know it.
pub(crate) struct Engine {
    /// Where it is, for errors; nothing secret.
    pub(crate) name: String,
    pub(crate) keys: Keys,
    /// What this process would put there if it were the first.
    offered: [u8; 64],
    known: Mutex<Known>,
    /// How often the engine, or a part of it, has been found to have lost everything.
    losses: AtomicU64,
    /// How often a connection was lost.
    breaks: AtomicU64,
}

#[derive(Default)]
struct Known {
    /// By the names of their keys: a cluster has one in each node.
    marks: HashMap<Vec<u8>, Vec<u8>>,
    identity: Option<[u8; 64]>,
    other_identity: bool,
}

// By hand: it has the key that signs cookies.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Engine {
    pub(crate) fn new(name: String, keys: Keys) -> Result<Self, String> {
        let mut offered = [0; 64];
        getrandom::fill(&mut offered).map_err(|error| error.to_string())?;
        let (known, losses, breaks) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
        Ok(Self { name, keys, offered, known, losses, breaks })
    }

    /// The key that signs cookies; `None` before the first connection.
    pub(crate) fn identity(&self) -> Option<[u8; 64]> {
        self.known().identity
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The call that says which key signs cookies; ours if there is none.
    pub(crate) fn keep_identity(&self) -> Call {
        let identity = Bytes::copy_from_slice(&self.identity().unwrap_or(self.offered));
        Call::new(Script::Keep, self.keys.identity(), vec![identity])
    }

    /// The call that says which mark is under a key; a new one if there is none.
    pub(crate) fn keep_mark(key: Vec<u8>) -> Result<Call, Failure> {
        let mut mark = [0; 16];
        getrandom::fill(&mut mark)
            .map_err(|error| Failure::new(FailureKind::Strange, error.to_string()))?;
        Ok(Call::new(Script::Keep, key, vec![Bytes::copy_from_slice(&mark)]))
    }

    /// How often everything was found to be lost.
    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// How often a connection was lost.
    pub(crate) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    /// A connection was lost, and there is another one.
    pub(crate) fn has_broken(&self) {
        self.breaks.fetch_add(1, Ordering::Release);
    }

    /// Notes the marks that a server has, by their keys.
    pub(crate) fn meet_marks(&self, marks: Vec<(Vec<u8>, Vec<u8>)>, address: &str) {
        let mut known = self.known();
        let mut lost = false;
        for (key, mark) in marks {
            let before = known.marks.insert(key, mark.clone());
            lost |= before.is_some_and(|before| before != mark);
        }
        if lost {
            self.losses.fetch_add(1, Ordering::Release);
            tracing::warn!(%address, "the engine has lost everything that was stored in it");
        }
    }

    /// Notes the key that signs cookies.
    pub(crate) fn meet_identity(&self, identity: &[u8]) -> Result<(), Failure> {
        let address = &self.name;
        let identity = identity.try_into().map_err(|_| {
            let text = "the key that signs cookies is not one; another program uses this prefix";
            Failure::new(FailureKind::WrongType, text)
        })?;
        let mut known = self.known();
        match known.identity {
            None => known.identity = Some(identity),
            Some(ours) if ours == identity => known.other_identity = false,
            Some(_) => {
                if !known.other_identity {
                    tracing::warn!(
                        %address,
                        "another process has put another key that signs cookies there; \
                         restart this one to use that key"
                    );
                }
                known.other_identity = true;
            }
        }
        Ok(())
    }
}
