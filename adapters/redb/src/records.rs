//! What is in the file, and what each call does to it.
//!
//! Three tables. The names and encodings are the format; see `FORMAT` in `open.rs`.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use session_resume::store::{ErrorKind, Generation, StoreError, StoreKey, Versioned};

/// `format` and `identity_key`.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("session-resume");

/// Key → generation, expiry (both 8 bytes, big endian) and the bytes.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// (Expiry, key), exactly one for each record: what is due is at the front.
const EXPIRY: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("expiry");

const HEAD: usize = 16;

/// The end of the year 9999 in milliseconds: what is later is stored as this, since not every
/// platform can express more.
const MAX_MILLIS: u64 = 253_402_300_799_999;

/// A writing call.
#[derive(Debug)]
pub(crate) enum Op {
    Put { key: StoreKey, generation: Generation, bytes: Bytes, expires: SystemTime },
    Touch { key: StoreKey, generation: Generation, expires: SystemTime },
    Remove { key: StoreKey, generation: Generation },
    DeleteExpired { now: SystemTime, limit: usize },
}

impl Op {
    /// Returns about how much this writes, to bound a batch.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Put { bytes, .. } => bytes.len(),
            // A touch writes the record again, but hardly ever: once in a third of its lifetime.
            Self::Touch { .. } | Self::Remove { .. } | Self::DeleteExpired { .. } => 0,
        }
    }
}

/// What a call comes to: how many records it changed, or why it was refused.
pub(crate) type Answer = Result<usize, ErrorKind>;

/// Applies all of `ops` in their order. Errors are failures of the file: nothing may be committed then.
pub(crate) fn apply<'a>(
    transaction: &WriteTransaction,
    ops: impl Iterator<Item = &'a Op>,
) -> Result<Vec<Answer>, redb::Error> {
    let mut tables = Tables {
        records: transaction.open_table(RECORDS)?,
        expiry: transaction.open_table(EXPIRY)?,
    };
    ops.map(|op| tables.apply(op)).collect()
}

/// Reads the record under `key`.
pub(crate) fn load(
    db: &impl ReadableDatabase,
    key: &StoreKey,
) -> Result<Option<Versioned>, StoreError> {
    let read = || -> Result<_, redb::Error> {
        let table = db.begin_read()?.open_table(RECORDS)?;
        Ok(table.get(key.as_bytes())?)
    };
    let Some(value) = read().map_err(|err| StoreError::new(kind_of(&err), err))? else {
        return Ok(None);
    };
    let corrupt = || StoreError::from(ErrorKind::Corrupt);
    let value = value.value();
    let head = Head::of(value).ok_or_else(corrupt)?;
    let expires = SystemTime::UNIX_EPOCH + Duration::from_millis(head.expires.min(MAX_MILLIS));
    Ok(Some(Versioned {
        generation: head.generation,
        bytes: Bytes::copy_from_slice(&value[HEAD..]),
        expires,
    }))
}

/// The tables besides [`META`] that every store file has.
pub(crate) const TABLES: [&str; 2] = ["records", "expiry"];

/// Makes the tables of a new file.
pub(crate) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(EXPIRY)?;
    Ok(())
}

/// Says in the words of stores what redb says.
pub(crate) fn kind_of(err: &redb::Error) -> ErrorKind {
    match err {
        redb::Error::Io(_) => ErrorKind::Io,
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => ErrorKind::Unavailable,
        _ => ErrorKind::Corrupt,
    }
}

struct Tables<'t> {
    records: Table<'t, &'static [u8], &'static [u8]>,
    expiry: Table<'t, (u64, &'static [u8]), ()>,
}

impl Tables<'_> {
    fn apply(&mut self, op: &Op) -> Result<Answer, redb::Error> {
        match op {
            Op::Put { key, generation, bytes, expires } => {
                self.put(key.as_bytes(), *generation, bytes, millis_up(*expires))
            }
            Op::Touch { key, generation, expires } => {
                self.touch(key.as_bytes(), *generation, millis_up(*expires))
            }
            Op::Remove { key, generation } => self.remove(key.as_bytes(), *generation),
            Op::DeleteExpired { now, limit } => self.delete_expired(millis_down(*now), *limit),
        }
    }

    fn put(
        &mut self,
        key: &[u8],
        generation: Generation,
        bytes: &[u8],
        expires: u64,
    ) -> Result<Answer, redb::Error> {
        if bytes.len() > MAX_BYTES {
            return Ok(Err(ErrorKind::TooLarge));
        }
        let old = self.head(key)?;
        if old.is_some_and(|old| old.generation > generation) {
            return Ok(Err(ErrorKind::Stale));
        }
        self.write(key, old, Head { generation, expires }, bytes)?;
        Ok(Ok(1))
    }

    fn touch(
        &mut self,
        key: &[u8],
        generation: Generation,
        expires: u64,
    ) -> Result<Answer, redb::Error> {
        let Some(old) = self.head(key)? else {
            return Ok(Err(ErrorKind::NotFound));
        };
        if old.generation > generation {
            return Ok(Err(ErrorKind::Stale));
        }
        let bytes =
            self.records.get(key)?.map(|value| value.value()[HEAD..].to_vec()).unwrap_or_default();
        self.write(key, Some(old), Head { expires, ..old }, &bytes)?;
        Ok(Ok(1))
    }

    fn remove(&mut self, key: &[u8], generation: Generation) -> Result<Answer, redb::Error> {
        let Some(old) = self.head(key)? else {
            return Ok(Ok(0));
        };
        if old.generation > generation {
            return Ok(Err(ErrorKind::Stale));
        }
        self.expiry.remove((old.expires, key))?;
        self.records.remove(key)?;
        Ok(Ok(1))
    }

    fn delete_expired(&mut self, now: u64, limit: usize) -> Result<Answer, redb::Error> {
        let mut deleted = 0;
        while deleted < limit {
            let Some((entry, ())) = self.expiry.first()?.map(|(key, value)| (key, value.value()))
            else {
                break;
            };
            let (expires, key) = entry.value();
            if expires > now {
                break;
            }
            let key = key.to_vec();
            drop(entry);
            self.expiry.remove((expires, key.as_slice()))?;
            self.records.remove(key.as_slice())?;
            deleted += 1;
        }
        Ok(Ok(deleted))
    }

    fn head(&self, key: &[u8]) -> Result<Option<Head>, redb::Error> {
        let Some(value) = self.records.get(key)? else {
            return Ok(None);
        };
        Head::of(value.value())
            .map(Some)
            .ok_or_else(|| redb::Error::Corrupted("a record without a head".into()))
    }

    fn write(
        &mut self,
        key: &[u8],
        old: Option<Head>,
        head: Head,
        bytes: &[u8],
    ) -> Result<(), redb::Error> {
        if old.map(|old| old.expires) != Some(head.expires) {
            if let Some(old) = old {
                self.expiry.remove((old.expires, key))?;
            }
            self.expiry.insert((head.expires, key), ())?;
        }
        let mut value = self.records.insert_reserve(key, HEAD + bytes.len())?;
        let value = value.as_mut();
        value[..8].copy_from_slice(&head.generation.get().to_be_bytes());
        value[8..HEAD].copy_from_slice(&head.expires.to_be_bytes());
        value[HEAD..].copy_from_slice(bytes);
        Ok(())
    }
}

/// Half of what redb can store, so that the limit does not depend on its overhead.
const MAX_BYTES: usize = 1 << 30;

#[derive(Clone, Copy)]
struct Head {
    generation: Generation,
    expires: u64,
}

impl Head {
    fn of(value: &[u8]) -> Option<Self> {
        let (generation, rest) = value.split_first_chunk()?;
        let (expires, _) = rest.split_first_chunk()?;
        Some(Self {
            generation: Generation::new(u64::from_be_bytes(*generation)),
            expires: u64::from_be_bytes(*expires),
        })
    }
}

/// Rounds up, so that nothing expires early.
fn millis_up(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let millis = since.as_nanos().div_ceil(1_000_000);
    u64::try_from(millis).map_or(MAX_MILLIS, |millis| millis.min(MAX_MILLIS))
}

fn millis_down(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
