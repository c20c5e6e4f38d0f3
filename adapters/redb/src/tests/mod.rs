//! A disk that fails on command: the store never answers `Ok` for something that is not on the disk.

mod compact;
mod damaged;
mod failures;
mod good_disk;
mod pieces;
mod power;

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};

use redb::{BackendError, StorageBackend};
use session_resume::store::{RecordKind, SnapshotStore, Stamp, StoreError, StoreKey};

use crate::{RedbStore, error::Reason, open::Expect, worker::Timing};

const FIRST: Stamp = Stamp::first(1, 1);

const LATER: Duration = Duration::from_secs(1_000_000_000);

/// What a disk has: `current` as the operating system shows it, `synced` as a power failure leaves it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    current: Vec<u8>,
    synced: Vec<u8>,
    syncs: u64,
    /// How many bytes were written.
    written: u64,
    locked: bool,
    /// How many more writes succeed.
    writes_left: Option<usize>,
    reads_fail: bool,
    syncs_fail: bool,
    /// After this many more writes, one write meets this trouble.
    trouble: Option<(usize, Trouble)>,
    paused: bool,
}

#[derive(Clone, Copy, Debug)]
enum Trouble {
    Fails,
    Panics,
    /// It waits while `paused` is set.
    Pauses,
}

impl Disk {
    fn of(content: Vec<u8>) -> Self {
        let disk = Self::default();
        disk.state().synced.clone_from(&content);
        disk.state().current = content;
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<RedbStore, Reason> {
        self.open_with(Duration::ZERO)
    }

    fn open_with(&self, retry_after: Duration) -> Result<RedbStore, Reason> {
        self.open_at(retry_after, Duration::MAX)
    }

    /// A store that is idle as soon as its queue is empty.
    fn open_idle(&self) -> Result<RedbStore, Reason> {
        self.open_at(Duration::ZERO, Duration::ZERO)
    }

    fn open_at(&self, retry_after: Duration, idle_after: Duration) -> Result<RedbStore, Reason> {
        let disk = self.clone();
        let source = move |_: &Expect<'_>| Ok(Box::new(disk.clone()) as Box<dyn StorageBackend>);
        let timing = Timing { retry_after, idle_after };
        RedbStore::from_source(Path::new("disk"), Box::new(source), timing)
    }

    /// Another disk with what a power failure would leave of this one.
    fn after_power_failure(&self) -> Self {
        Self::of(self.state().synced.clone())
    }

    /// Another disk with what a killed process would leave of this one.
    fn after_kill(&self) -> Self {
        Self::of(self.state().current.clone())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().current.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        if state.reads_fail {
            return Err(io::Error::other("a bad sector"));
        }
        let start = usize::try_from(offset).unwrap();
        let bytes = state.current.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.state().current.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.syncs_fail {
            return Err(io::Error::other("the disk is gone"));
        }
        state.syncs += 1;
        state.synced = state.current.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if let Some(left) = &mut state.writes_left {
            *left =
                left.checked_sub(1).ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        }
        match &mut state.trouble {
            Some((0, trouble)) => {
                let trouble = *trouble;
                state.trouble = None;
                state.paused = matches!(trouble, Trouble::Pauses);
                drop(state);
                match trouble {
                    Trouble::Fails => return Err(io::ErrorKind::StorageFull.into()),
                    Trouble::Panics => panic!("a planted panic"),
                    Trouble::Pauses => {}
                }
                while self.state().paused {
                    thread::sleep(Duration::from_millis(1));
                }
                state = self.state();
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        state.written += data.len() as u64;
        let start = usize::try_from(offset).unwrap();
        let end = start + data.len();
        if state.current.len() < end {
            state.current.resize(end, 0);
        }
        state.current[start..end].copy_from_slice(data);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.state().locked = false;
        Ok(())
    }

    fn try_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, BackendError> {
        // Only the whole, as a simple disk can; redb asks for parts first.
        if (start, end) != (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded) {
            return Err(BackendError::Unsupported);
        }
        let mut state = self.state();
        Ok(!std::mem::replace(&mut state.locked, true))
    }
}

fn key(n: usize) -> StoreKey {
    StoreKey::new(RecordKind::Session, "test", &n.to_be_bytes()).unwrap()
}

async fn put(store: &RedbStore, n: usize) -> Result<(), StoreError> {
    store.claim(&key(n), None, FIRST, vec![7; 3000].into(), LATER).await
}

async fn expect(disk: &Disk, acknowledged: &[usize]) {
    let store = disk.open().unwrap();
    for n in acknowledged {
        let record = store.load(&key(*n)).await.unwrap();
        assert!(record.is_some_and(|record| record.bytes.len() == 3000), "record {n}");
    }
}
