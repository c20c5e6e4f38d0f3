//! Files that are not what they should be: told at the start, and left as they were.

use std::{fs, path::Path};

use redb::{Database, TableDefinition};
use session_resume::store::SnapshotStore;
use session_resume_redb::{OpenError, OpenErrorKind, RedbStore};

use crate::support::{FIRST, LATER, directory, expect_filled, filled, key, noise};

/// Asserts that `path` is refused as `kind`, with a line that names it, and not changed.
fn refused(path: &Path, kind: OpenErrorKind) -> OpenError {
    let before = fs::read(path).unwrap();
    let err = RedbStore::open(path).unwrap_err();
    assert_eq!(err.kind(), kind, "{err} {err:?}");
    assert_eq!(err.path(), path);
    let text = err.to_string();
    assert!(text.contains(path.to_str().unwrap()), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(fs::read(path).unwrap() == before, "the file was changed: {err:?}");
    err
}

#[test]
fn a_file_of_another_kind_is_not_touched() {
    let (_directory, path) = directory();
    let contents: [&[u8]; 6] = [
        b"x",
        b"redb",
        b"[settings]\nport = 80\n",
        &noise(100, 1),
        &noise(3_000_000, 2),
        &[0; 8192],
    ];
    for content in contents {
        fs::write(&path, content).unwrap();
        refused(&path, OpenErrorKind::NotAStore);
    }
}

#[test]
fn a_redb_file_of_another_program_is_not_touched() {
    const TABLE: TableDefinition<'_, &str, u64> = TableDefinition::new("accounts");
    const OTHER_TYPES: TableDefinition<'_, u64, u64> = TableDefinition::new("session-resume");
    let (_directory, path) = directory();
    let db = Database::create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(TABLE).unwrap().insert("me", 7).unwrap();
    transaction.commit().unwrap();
    // Crashed, as it were: the file as it is while open. Opening it would repair it.
    let crashed = path.with_extension("crashed");
    fs::copy(&path, &crashed).unwrap();
    refused(&crashed, OpenErrorKind::NotAStore);
    drop(db);
    refused(&path, OpenErrorKind::NotAStore);

    let db = Database::open(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(OTHER_TYPES).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(db);
    refused(&path, OpenErrorKind::NotAStore);
    assert!(Database::open(&path).is_ok(), "it is still theirs");
}

#[tokio::test]
async fn a_truncated_store_is_damaged() {
    let (_directory, path) = directory();
    filled(&path, 200).await;
    let whole = fs::read(&path).unwrap();
    for len in [
        10,
        63,
        320,
        4095,
        4096,
        8192,
        100_000,
        whole.len() / 2,
        whole.len() - 4096,
        whole.len() - 1,
    ] {
        fs::write(&path, &whole[..len]).unwrap();
        refused(&path, OpenErrorKind::Damaged);
    }
    fs::write(&path, &whole).unwrap();
    expect_filled(&path, 200).await;
}

#[tokio::test]
async fn a_store_that_crashed_and_was_truncated_is_damaged() {
    let (_directory, path) = directory();
    let whole = crashed_image(&path, 200).await;
    for len in [10, 320, 4096, 100_000, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        refused(&path, OpenErrorKind::Damaged);
    }
}

/// Overwrites page after page: each time the store either is refused, or all its records are there.
#[tokio::test]
async fn an_overwritten_page_never_goes_unnoticed() {
    let (_directory, path) = directory();
    filled(&path, 60).await;
    let whole = fs::read(&path).unwrap();
    let mut damaged = 0;
    for page in 0..whole.len() / 4096 {
        let at = page * 4096;
        // A page that nothing uses is not worth a round of its own.
        if page > 0 && whole[at..at + 4096].iter().all(|byte| *byte == 0) {
            continue;
        }
        for (seed, len) in [(1, 4096), (2, 16), (3, 1)] {
            let mut image = whole.clone();
            // Past the magic number: without it the file is not ours.
            let start = at + if page == 0 { 16 } else { seed * 700 };
            let end = (start + len).min(at + 4096);
            image[start..end].copy_from_slice(&noise(end - start, (page + seed) as u64));
            fs::write(&path, &image).unwrap();
            match RedbStore::open(&path) {
                Ok(store) => {
                    drop(store);
                    expect_filled(&path, 60).await;
                }
                Err(err) => {
                    let seems =
                        [OpenErrorKind::Damaged, OpenErrorKind::TooNew, OpenErrorKind::NotAStore];
                    assert!(seems.contains(&err.kind()), "page {page}: {err:?}");
                    assert!(fs::read(&path).unwrap() == image, "page {page} was changed: {err:?}");
                    damaged += 1;
                }
            }
        }
    }
    assert!(damaged > 10, "only {damaged} of the overwritten pages mattered");
}

#[tokio::test]
async fn a_newer_format_is_not_touched() {
    const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("session-resume");
    let (_directory, path) = directory();
    filled(&path, 3).await;
    let set_format = |format: u32| {
        let db = Database::open(&path).unwrap();
        let transaction = db.begin_write().unwrap();
        let bytes = format.to_be_bytes();
        transaction.open_table(META).unwrap().insert("format", bytes.as_slice()).unwrap();
        transaction.commit().unwrap();
    };
    set_format(4);
    let err = refused(&path, OpenErrorKind::TooNew);
    let cause = std::error::Error::source(&err).unwrap().to_string();
    assert_eq!(cause, "format 4, this version knows up to 3");
    for older in [0, 1] {
        set_format(older);
        let err = refused(&path, OpenErrorKind::Damaged);
        let cause = std::error::Error::source(&err).unwrap().to_string();
        assert_eq!(cause, format!("format {older} is not one of those that this version reads"));
    }
    set_format(3);
    expect_filled(&path, 3).await;

    // A newer format of redb: its version is the first byte of both commit slots.
    let mut image = fs::read(&path).unwrap();
    (image[64], image[192]) = (4, 4);
    fs::write(&path, &image).unwrap();
    refused(&path, OpenErrorKind::TooNew);
}

#[tokio::test]
async fn a_file_left_half_made_is_made_again() {
    let (_directory, path) = directory();
    for content in [&b""[..], b"session-resume: store being made\n", &{
        let mut half = b"session-resume: store being made\n".to_vec();
        half.extend(noise(200_000, 3));
        half
    }] {
        fs::write(&path, content).unwrap();
        filled(&path, 3).await;
        expect_filled(&path, 3).await;
    }
}

#[tokio::test]
async fn a_crashed_store_opens_with_all_it_had() {
    let (_directory, path) = directory();
    fs::write(&path, crashed_image(&path, 300).await).unwrap();
    expect_filled(&path, 300).await;
}

#[test]
fn a_path_that_cannot_be_used_is_named() {
    let (directory, path) = directory();
    let inside_nothing = directory.path().join("no such directory").join("sessions.redb");
    for path in [directory.path(), inside_nothing.as_path()] {
        let err = RedbStore::open(path).unwrap_err();
        assert_eq!(err.kind(), OpenErrorKind::Io, "{err:?}");
        assert!(err.to_string().contains(path.to_str().unwrap()), "{err}");
        assert!(std::error::Error::source(&err).is_some());
    }
    assert!(!path.exists(), "nothing was made");
}

/// The bytes of a store that is open, with `records` records: what a crash leaves.
async fn crashed_image(path: &Path, records: usize) -> Vec<u8> {
    filled(path, records).await;
    let store = RedbStore::open(path).unwrap();
    store.claim(&key("last"), None, FIRST, "last".into(), LATER).await.unwrap();
    fs::read(path).unwrap()
}
