//! Pages that are damaged while the store is open.

use futures_util::future::join_all;
use session_resume::store::{ErrorKind, SnapshotStore, StoreError};

use super::{Disk, FIRST, LATER, key, put};

const RECORDS: usize = 120;

/// A store with more than the cache of pages holds. Record 5 is the only one with these bytes.
async fn filled(disk: &Disk) -> crate::RedbStore {
    let store = disk.open().unwrap();
    for n in 0..RECORDS {
        let byte = if n == 5 { 0x55 } else { 0x77 };
        let bytes = vec![byte; 32_000];
        store.claim(&key(n), None, FIRST, bytes.into(), LATER).await.unwrap();
    }
    store
}

/// Asserts that a load has failed because this page is damaged.
pub(super) fn is_of_damage(page: usize, err: &StoreError) {
    let kinds = [ErrorKind::Corrupt, ErrorKind::Io];
    assert!(kinds.contains(&err.kind()), "page {page}: {err:?}");
}

/// Whatever page is damaged: a load is answered, by the record or by what is wrong, and the next one, too.
#[tokio::test]
async fn a_load_of_a_damaged_page_ends_no_thread() {
    let disk = Disk::default();
    let store = filled(&disk).await;
    let whole = disk.state().current.clone();
    let (mut corrupt, mut read) = (0, 0);
    for page in (1..whole.len() / 4096).step_by(3) {
        let at = page * 4096;
        disk.state().current[at..at + 4096].fill(0xA5);
        for n in [page % RECORDS, (page + 17) % RECORDS, (page + 39) % RECORDS] {
            match store.load(&key(n)).await {
                Ok(record) => read += usize::from(record.is_some()),
                Err(err) => {
                    is_of_damage(page, &err);
                    corrupt += 1;
                }
            }
        }
        disk.state().current.clone_from(&whole);
    }
    assert!(read > 0 && corrupt > 0, "{corrupt} {read}");
    // What was damaged is still in the cache. The writer finds out, opens the file again, and goes on.
    let mut attempts = 0;
    while let Err(err) = put(&store, RECORDS).await {
        assert_eq!(err.kind(), ErrorKind::Corrupt, "{err:?}");
        attempts += 1;
        assert!(attempts < 5, "{err:?}");
    }
    for n in 0..RECORDS {
        assert!(store.load(&key(n)).await.unwrap().is_some(), "record {n}");
    }
}

/// The page of one record stays damaged: its calls fail, and no others.
#[tokio::test]
async fn a_damaged_page_is_the_matter_of_its_key() {
    let disk = Disk::default();
    let store = filled(&disk).await;
    {
        let mut state = disk.state();
        let runs = state.current.windows(256).position(|bytes| bytes == [0x55; 256]);
        let page = runs.unwrap() / 4096 * 4096;
        state.current[page..page + 64].fill(0xA5);
    }
    for round in 0..3 {
        for n in (0..RECORDS).filter(|n| *n != 5) {
            let record = store.load(&key(n)).await.unwrap_or_else(|err| panic!("{n}: {err:?}"));
            assert!(record.is_some(), "record {n}");
        }
        let loaded = store.load(&key(5)).await.unwrap_err();
        assert_eq!(loaded.kind(), ErrorKind::Corrupt, "{loaded:?}");
        // In one batch with others, too.
        let stamp = FIRST.next();
        let calls = (0..10).map(|n| {
            let store = &store;
            let at = key(if n == 5 { 5 } else { 100 + 10 * round + n });
            async move {
                if n == 5 {
                    store.put(&at, stamp, vec![1].into(), LATER).await
                } else {
                    store.claim(&at, None, FIRST, vec![1].into(), LATER).await
                }
            }
        });
        for (n, result) in join_all(calls).await.into_iter().enumerate() {
            match (n, result) {
                (5, Err(err)) => assert_eq!(err.kind(), ErrorKind::Corrupt, "{err:?}"),
                (5, Ok(())) => panic!("there is nothing to put over"),
                (_, result) => result.unwrap_or_else(|err| panic!("{round} {n}: {err:?}")),
            }
        }
    }
}
