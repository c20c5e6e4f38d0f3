//! The embedded store of session-resume: sessions survive a restart, in one file.
//!
//! ```
//! use session_resume::store::{RecordKind, SnapshotStore, Stamp, StoreKey};
//! use session_resume_redb::{OpenErrorKind, RedbStore};
//! # use std::time::Duration;
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("sessions.redb");
//! let store = RedbStore::open(&path)?; // the file is made if there is none
//!
//! // One process at a time:
//! let refused = RedbStore::open(&path).unwrap_err();
//! assert_eq!(refused.kind(), OpenErrorKind::Locked);
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let key = StoreKey::new(RecordKind::Session, "live", b"aad5")?;
//! let (stamp, minute) = (Stamp::first(0xaad5, 1), Duration::from_secs(60));
//! store.claim(&key, None, stamp, "state".into(), minute).await?;
//! drop(store); // what is queued is written, the lock is released
//!
//! let store = RedbStore::open(&path)?;
//! assert_eq!(store.load(&key).await?.unwrap().bytes, "state");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it writes
//!
//! One thread writes. It takes what is queued (up to 1,024 calls or 8 MiB), applies it in one
//! transaction, syncs once, and only then answers: under load many calls share one sync, and a call
//! that comes alone waits for nothing. The queue holds 1,024 calls; when it is full, callers wait. A
//! second thread reads, so that a burst of restores waits for no sync. Both belong to the store, not to a
//! runtime: no call blocks the thread that polls it, any executor will do. When the last handle is
//! dropped, both threads have ended.
//!
//! A record of more than 32 KiB is kept in pieces of about 3 KiB, cut where its content says so. A write puts only the
//! pieces on the disk that the stored record lacks, in the transaction that writes the record. So a small change of a state
//! of 0.9 MB costs about 50 KB in place of 1.1 MB, wherever it is, and also if it inserts or removes something. The first
//! write of such a record costs about as much as without pieces. Smaller records are written whole.
//!
//! # How large the file is
//!
//! Room that deleted records leave is used again. A file of 4 MiB or more that is mostly free (four times as large as
//! what it holds) is compacted:
//!
//! * when the store is opened;
//! * when the store is idle: records were removed, at least as many as are left, and for 10 seconds no call has
//!   read or changed anything. A call that comes just then waits until the file is compacted. That takes
//!   about 15 ms for each MiB that is left, so a file that holds more than 128 MiB is only compacted when it is opened.
//!
//! No call starts a compaction or is part of one. A compaction that fails loses nothing: the file is opened again, as
//! after a crash, and no other is tried until the store is opened anew. A store that is never idle does
//! not get smaller before it is opened anew. [`Stats::compactions`] counts them.
//!
//! # Security
//!
//! The file holds the sessions and the key that signs identities. It is made readable by its owner alone
//! (mode 0600 on unix). A file that is there already keeps its mode.
//!
//! # What can go wrong
//!
//! When the store is opened, [`OpenError`] names the file and the reason; **the file is then as it
//! was, byte for byte**. What recovery would change is held in memory until the file has proved to be
//! a store of ours and whole. Only a disk that fails while a file is compacted leaves other bytes, with the same
//! records. (So opening reads the file once, and several times after a crash.)
//!
//! | [`OpenErrorKind`] | what it means | what to do |
//! | --- | --- | --- |
//! | `Locked` | another process, or another handle here, has it open | stop that one |
//! | `NotAStore` | the file is something else, or its first bytes are gone | check the path |
//! | `Damaged` | ours, but truncated or overwritten | restore a copy, or move the file away |
//! | `TooNew` | written by a newer version | upgrade, or use another file |
//! | `Io` | not there to be made, no permission, a failing disk | see the cause |
//!
//! While it is open, a call fails with one of these
//! [`ErrorKind`](session_resume::store::ErrorKind)s:
//!
//! | kind | what it means | what to do |
//! | --- | --- | --- |
//! | `Stale`, `NotFound`, `TooLarge` | refused, by the rules of [`SnapshotStore`](session_resume::store::SnapshotStore) | as documented there |
//! | `Io` | reading or writing failed (a full disk, for example); none of the calls that shared the commit got an `Ok` | try again: the store recovers from the file by itself |
//! | `Corrupt` | a page that this key needs is damaged; calls for other keys go on | look at the disk; the damaged file will not open again |
//! | `Unavailable` | recovery has not succeeded yet; or a *sync* has failed: then it is not known what is on the disk, and this store writes no more | try again; after a failed sync restart the process |

mod caught;
mod census;
mod compact;
mod error;
mod head;
mod open;
mod pieces;
mod queue;
mod records;
mod staged;
mod stats;
mod store;
mod tables;
mod worker;

#[cfg(test)]
mod tests;

pub use self::{
    error::{OpenError, OpenErrorKind},
    stats::Stats,
    store::RedbStore,
};
