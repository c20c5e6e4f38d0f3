//! A disk that fails on command: never an `Ok` that is not on it.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use redb::{BackendError, StorageBackend};
use session_resume::store::{
    ErrorKind, Generation, RecordKind, SnapshotStore, StoreError, StoreKey, contract,
};

use crate::{
    OpenErrorKind, RedbStore,
    error::Reason,
    open::{self, Expect},
};

const ONE: Generation = Generation::new(1);

/// What a disk has: `current` as the operating system shows it, `synced` as a power failure leaves it.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    current: Vec<u8>,
    synced: Vec<u8>,
    syncs: u64,
    locked: bool,
    /// How many more writes succeed.
    writes_left: Option<usize>,
    reads_fail: bool,
    syncs_fail: bool,
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
        let disk = self.clone();
        let source = move |_: &Expect<'_>| Ok(Box::new(disk.clone()) as Box<dyn StorageBackend>);
        RedbStore::from_source(Path::new("disk"), Box::new(source), retry_after)
    }

    /// Another disk with what a power failure would leave of this one.
    fn after_power_failure(&self) -> Self {
        Self::of(self.state().synced.clone())
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
        self.state()
            .current
            .resize(usize::try_from(len).unwrap(), 0);
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
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::from(io::ErrorKind::StorageFull))?;
        }
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

fn later() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000)
}

async fn put(store: &RedbStore, n: usize) -> Result<(), StoreError> {
    store.put(&key(n), ONE, vec![7; 3000].into(), later()).await
}

async fn expect(disk: &Disk, acknowledged: &[usize]) {
    let store = disk.open().unwrap();
    for n in acknowledged {
        let record = store.load(&key(*n)).await.unwrap();
        assert!(
            record.is_some_and(|record| record.bytes.len() == 3000),
            "record {n}"
        );
    }
}

#[tokio::test]
async fn the_contract_holds_on_a_good_disk() {
    let disk = Disk::default();
    contract::check(&disk.open().unwrap()).await;
    contract::check_reopen(async || disk.open().unwrap()).await;
}

#[tokio::test]
async fn a_commit_is_one_sync() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    let before = disk.state().syncs;
    for n in 0..10 {
        put(&store, n).await.unwrap();
    }
    assert_eq!(store.stats().commits, 10);
    assert_eq!(disk.state().syncs - before, 10);
}

#[tokio::test]
async fn an_answer_means_that_it_is_synced() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    for n in 0..20 {
        put(&store, n).await.unwrap();
        expect(&disk.after_power_failure(), &[n]).await;
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_call_and_is_recovered_from() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    let mut acknowledged = vec![0];
    put(&store, 0).await.unwrap();
    // Full after any number of writes: in the middle of a commit, or of a recovery.
    for n in 1..40 {
        disk.state().writes_left = Some(n % 9);
        match put(&store, n).await {
            Ok(()) => acknowledged.push(n),
            Err(err) => {
                let kinds = [ErrorKind::Io, ErrorKind::Unavailable];
                assert!(kinds.contains(&err.kind()), "{err:?}");
            }
        }
        expect(&disk.after_power_failure(), &acknowledged).await;
    }
    assert!(store.stats().failures > 5, "{:?}", store.stats());
    disk.state().writes_left = None;
    put(&store, 40).await.unwrap();
    acknowledged.push(40);
    for n in &acknowledged {
        assert!(store.load(&key(*n)).await.unwrap().is_some(), "record {n}");
    }
    drop(store);
    expect(&disk, &acknowledged).await;
}

#[tokio::test]
async fn every_call_of_a_failed_batch_is_told() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    put(&store, 0).await.unwrap();
    disk.state().writes_left = Some(0);
    let mut puts = tokio::task::JoinSet::new();
    for n in 1..50 {
        let store = store.clone();
        puts.spawn(async move { put(&store, n).await });
    }
    for result in puts.join_all().await {
        let err = result.unwrap_err();
        assert!(!err.kind().is_refusal(), "{err:?}");
        assert!(
            std::error::Error::source(&err).is_some(),
            "the cause is kept"
        );
    }
    assert_eq!(store.stats().writes, 1);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    put(&store, 0).await.unwrap();
    disk.state().syncs_fail = true;
    assert_eq!(put(&store, 1).await.unwrap_err().kind(), ErrorKind::Io);
    // The next sync would say that all is well, and would be wrong about what came before it.
    disk.state().syncs_fail = false;
    for n in 2..5 {
        let err = put(&store, n).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unavailable);
        let cause = std::error::Error::source(&err).unwrap().to_string();
        assert!(cause.contains("restart the process"), "{cause}");
    }
    expect(&disk.after_power_failure(), &[0]).await;
}

#[tokio::test]
async fn a_failed_read_is_told_and_recovered_from() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    // More than the cache of pages holds.
    let large = vec![7; 1 << 16];
    for n in 0..40 {
        store
            .put(&key(n), ONE, large.clone().into(), later())
            .await
            .unwrap();
    }
    disk.state().reads_fail = true;
    let mut failed = 0;
    for n in 0..40 {
        match store.load(&key(n)).await {
            Ok(record) => assert!(record.is_some_and(|record| record.bytes == large)),
            Err(err) => {
                assert!(
                    [ErrorKind::Io, ErrorKind::Unavailable].contains(&err.kind()),
                    "{err:?}"
                );
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "all of it was in the cache");
    disk.state().reads_fail = false;
    // A write is what finds out and recovers; the store's owner writes all the time.
    while put(&store, 99).await.is_err() {}
    for n in 0..40 {
        assert!(
            store
                .load(&key(n))
                .await
                .unwrap()
                .is_some_and(|record| record.bytes == large)
        );
    }
}

#[tokio::test]
async fn recovery_is_not_tried_all_the_time() {
    let disk = Disk::default();
    let store = disk.open_with(Duration::MAX).unwrap();
    put(&store, 0).await.unwrap();
    disk.state().writes_left = Some(0);
    put(&store, 1).await.unwrap_err();
    put(&store, 1).await.unwrap_err();
    disk.state().writes_left = None;
    let err = put(&store, 1).await.unwrap_err();
    assert_eq!(
        err.kind(),
        ErrorKind::Unavailable,
        "not before `retry_after`"
    );
}

#[tokio::test]
async fn recovery_takes_no_other_file_for_its_own() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    put(&store, 0).await.unwrap();
    let other = Disk::default();
    drop(other.open().unwrap());
    for content in [other.state().current.clone(), Vec::new()] {
        disk.state().writes_left = Some(0);
        put(&store, 1).await.unwrap_err();
        disk.state().current.clone_from(&content);
        disk.state().writes_left = None;
        let err = put(&store, 1).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Unavailable, "{err:?}");
        assert!(disk.state().current == content, "it was changed");
    }
}

/// Cuts the power after every write of making a store: the file is then made again, or is complete.
#[tokio::test]
async fn a_store_half_made_is_no_obstacle() {
    let mut complete = 0;
    for writes in 0..60 {
        let disk = Disk::default();
        disk.state().writes_left = Some(writes);
        let made = disk.open().is_ok();
        complete += usize::from(made);
        // With all that was written, and with what was synced only.
        for left in [
            disk.after_power_failure(),
            Disk::of(disk.state().current.clone()),
        ] {
            let store = left
                .open()
                .unwrap_or_else(|reason| panic!("after {writes}: {reason:?}"));
            put(&store, 0).await.unwrap();
        }
    }
    assert!((1..59).contains(&complete), "{complete} of 60 were made");
}

/// Cuts the power after every write of repairing a store that had crashed.
#[tokio::test]
async fn a_repair_cut_short_is_no_obstacle() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    for n in 0..30 {
        put(&store, n).await.unwrap();
    }
    let crashed = disk.state().synced.clone();
    let mut complete = 0;
    for writes in 0..40 {
        let disk = Disk::of(crashed.clone());
        disk.state().writes_left = Some(writes);
        complete += usize::from(disk.open().is_ok());
        for left in [
            disk.after_power_failure(),
            Disk::of(disk.state().current.clone()),
        ] {
            expect(&left, &[0, 7, 29]).await;
        }
    }
    assert!(
        (1..39).contains(&complete),
        "{complete} of 40 were repaired"
    );
}

#[test]
fn a_disk_that_cannot_be_read_is_not_called_damaged() {
    let disk = Disk::default();
    drop(disk.open().unwrap());
    disk.state().reads_fail = true;
    let reason = open::open(
        Box::new(disk.clone()),
        &Expect::Any,
        &Arc::new(AtomicBool::new(false)),
    );
    assert_eq!(
        reason.err().map(|reason| reason.kind),
        Some(OpenErrorKind::Io)
    );
}
