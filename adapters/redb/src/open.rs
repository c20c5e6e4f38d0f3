//! Opening a file: proving that it is a whole store of ours before anything is written to it.

use std::{
    fs::OpenOptions,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use redb::{
    Builder, Database, ReadableDatabase, StorageBackend, TableError, TableHandle,
    backends::FileBackend,
};
use session_resume::store::{ErrorKind, StoreKey};

use crate::{
    error::{OpenErrorKind, Reason},
    records,
    staged::Staged,
    tables::{self, META},
};

/// The format of everything in the file: tables, their names and encodings.
const FORMAT: u32 = 3;

/// The format without `pieces`: its files are changed to this one when they are opened.
const WITHOUT_PIECES: u32 = 2;

/// Pages that redb keeps in memory. Its own default is 1 GiB; the records of live sessions are not
/// read again, so a small cache that holds the upper levels of the trees does. Smaller in our
/// tests, so that reads get to the disk.
const CACHE_BYTES: usize = if cfg!(test) { 1 << 20 } else { 32 << 20 };

/// An open store file.
pub(crate) struct Opened {
    pub(crate) db: Database,
    /// What `db` reads and writes through.
    pub(crate) staged: Staged,
    pub(crate) identity_key: [u8; 64],
}

/// What must be there.
pub(crate) enum Expect<'a> {
    /// A store, or nothing at all: then a store is made.
    Any,
    /// The store with this identity key.
    Same(&'a [u8; 64]),
}

/// Opens the file at `path`, made if there is none and `expect` allows it.
pub(crate) fn file(path: &Path, expect: &Expect<'_>) -> Result<Box<dyn StorageBackend>, Reason> {
    let is_there = path.try_exists()?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(matches!(expect, Expect::Any)).truncate(false);
    // A process that can read the file has the key of every cookie.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    if !is_there {
        sync_directory_of(path)?;
    }
    Ok(Box::new(FileBackend::new(file).map_err(redb::Error::from)?))
}

/// Opens a store in `file`, which stays as it is if that fails before the very last step: letting
/// through what has been held back, crash safe.
///
/// `sync_failed` is set when a sync fails, now or at any time later.
pub(crate) fn open(
    file: Box<dyn StorageBackend>,
    expect: &Expect<'_>,
    sync_failed: &Arc<AtomicBool>,
) -> Result<Opened, Reason> {
    let staged = Staged::new(file, Arc::clone(sync_failed));
    // redb panics on some damage. Nothing that the panic has seen is used any more: the database is
    // dropped, and with it what it wanted to write.
    let proved = panic::catch_unwind(AssertUnwindSafe(|| prove(&staged, expect)));
    let opened = proved.unwrap_or_else(|_| Err(OpenErrorKind::Damaged.into()))?;
    staged.publish()?;
    Ok(opened)
}

/// Returns the record of the keys that sign identities since they were changed.
pub(crate) fn identity_keys(opened: &Opened) -> Result<Option<Bytes>, Reason> {
    let load = || records::load(&opened.db, &StoreKey::identity_keys());
    match panic::catch_unwind(AssertUnwindSafe(load)) {
        Ok(Ok(record)) => Ok(record.map(|record| record.bytes)),
        Ok(Err(error)) if error.kind() == ErrorKind::Io => {
            Err(Reason::because(OpenErrorKind::Io, error))
        }
        Ok(Err(error)) => Err(Reason::because(OpenErrorKind::Damaged, error)),
        Err(_) => Err(OpenErrorKind::Damaged.into()),
    }
}

/// Opens the store behind `staged`, or makes it there, and checks all of it.
fn prove(staged: &Staged, expect: &Expect<'_>) -> Result<Opened, Reason> {
    let repaired = Arc::new(AtomicBool::new(false));
    let on_repair = Arc::clone(&repaired);
    let mut db = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_repair_callback(move |_| on_repair.store(true, Ordering::Relaxed))
        .create_with_backend(staged.clone())
        .map_err(redb::Error::from)?;
    let identity_key = if staged.is_new()? {
        if let Expect::Same(_) = expect {
            return Err(OpenErrorKind::NotAStore.into());
        }
        create(&db)?
    } else {
        // A repair has verified every page. Otherwise redb believes what a clean shutdown has left, and would
        // find out about damage in the middle of a call. A file that this process has had open before is used as
        // far as it is whole: a damaged page concerns only its own keys.
        if matches!(expect, Expect::Any) && !repaired.load(Ordering::Relaxed) {
            db.check_integrity().map_err(redb::Error::from)?;
        }
        let (format, identity_key) = read_meta(&db)?;
        if format == WITHOUT_PIECES {
            change_format(&db)?;
        }
        identity_key
    };
    if let Expect::Same(known) = expect
        && **known != identity_key
    {
        return Err(OpenErrorKind::NotAStore.into());
    }
    Ok(Opened { db, staged: staged.clone(), identity_key })
}

fn create(db: &Database) -> Result<[u8; 64], Reason> {
    let mut identity_key = [0; 64];
    getrandom::fill(&mut identity_key).map_err(std::io::Error::from)?;
    let make = || -> Result<(), redb::Error> {
        let transaction = db.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert("format", FORMAT.to_be_bytes().as_slice())?;
            meta.insert("identity_key", identity_key.as_slice())?;
        }
        tables::create(&transaction)?;
        Ok(transaction.commit()?)
    };
    make()?;
    Ok(identity_key)
}

fn change_format(db: &Database) -> Result<(), redb::Error> {
    let transaction = db.begin_write()?;
    transaction.open_table(META)?.insert("format", FORMAT.to_be_bytes().as_slice())?;
    tables::create(&transaction)?;
    Ok(transaction.commit()?)
}

/// Returns format and identity key of a store in a format that we read.
fn read_meta(db: &Database) -> Result<(u32, [u8; 64]), Reason> {
    let transaction = db.begin_read().map_err(redb::Error::from)?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(err)) => return Err(redb::Error::from(err).into()),
        Err(_) => return Err(OpenErrorKind::NotAStore.into()),
    };
    let read = |name| -> Result<Vec<u8>, Reason> {
        let value = meta.get(name).map_err(redb::Error::from)?;
        let value = value.ok_or(OpenErrorKind::Damaged)?;
        Ok(value.value().to_vec())
    };
    let format = <[u8; 4]>::try_from(read("format")?).map_err(|_| OpenErrorKind::Damaged)?;
    // Before anything else is looked at: a newer format may mean something else by it.
    let format = u32::from_be_bytes(format);
    let expected = match format {
        FORMAT => &tables::TABLES[..],
        WITHOUT_PIECES => &tables::TABLES[..2],
        newer if newer > FORMAT => {
            let text = format!("format {newer}, this version knows up to {FORMAT}");
            return Err(Reason::because(OpenErrorKind::TooNew, text));
        }
        older => {
            let text = format!("format {older} is not one of those that this version reads");
            return Err(Reason::because(OpenErrorKind::Damaged, text));
        }
    };
    let tables: Vec<_> = transaction
        .list_tables()
        .map_err(redb::Error::from)?
        .map(|table| table.name().to_owned())
        .collect();
    if !expected.iter().all(|name| tables.iter().any(|table| table == name)) {
        return Err(OpenErrorKind::Damaged.into());
    }
    let identity_key = <[u8; 64]>::try_from(read("identity_key")?);
    Ok((format, identity_key.map_err(|_| OpenErrorKind::Damaged)?))
}

/// A new file is only there after a power failure if its directory has been synced, too.
#[cfg(unix)]
fn sync_directory_of(path: &Path) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::File::open(directory)?.sync_all()
}

/// Elsewhere directories cannot be opened, and file systems keep their own journal.
#[cfg(not(unix))]
fn sync_directory_of(_: &Path) -> std::io::Result<()> {
    Ok(())
}
