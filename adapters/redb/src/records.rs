//! What each call does to the file.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    WriteTransaction,
};
use session_resume::store::{ErrorKind, Stamp, StoreError, StoreKey, Verdict, Versioned};

use crate::{
    census::Growth,
    head::{Form, HEAD, Head},
    pieces::{self, LONGEST_WHOLE, Pieces},
    tables::{EXPIRY, PIECES, RECORDS},
};

/// The end of the year 9999 in milliseconds: what is later is stored as this, since not every
/// platform can express more.
const MAX_MILLIS: u64 = 253_402_300_799_999;

/// A writing call. Expiries are by the clock at the time of the call.
#[derive(Debug)]
pub(crate) enum Op {
    Claim { key: StoreKey, found: Option<Stamp>, stamp: Stamp, bytes: Bytes, expires: SystemTime },
    Put { key: StoreKey, stamp: Stamp, bytes: Bytes, expires: SystemTime },
    Touch { key: StoreKey, stamp: Stamp, expires: SystemTime },
    Remove { key: StoreKey, stamp: Stamp },
    DeleteExpired { now: SystemTime, limit: usize },
}

impl Op {
    /// Returns whether this removes the records that it changes.
    pub(crate) fn removes(&self) -> bool {
        match self {
            Self::Remove { .. } | Self::DeleteExpired { .. } => true,
            Self::Claim { .. } | Self::Put { .. } | Self::Touch { .. } => false,
        }
    }

    /// Returns about how much this writes, to bound a batch.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Claim { bytes, .. } | Self::Put { bytes, .. } => bytes.len(),
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
) -> Result<(Vec<Answer>, Growth), redb::Error> {
    let mut tables = Tables {
        records: transaction.open_table(RECORDS)?,
        expiry: transaction.open_table(EXPIRY)?,
        pieces: Pieces::new(transaction),
        growth: Growth::new(),
    };
    let answers = ops.map(|op| tables.apply(op)).collect::<Result<_, _>>()?;
    Ok((answers, tables.growth))
}

/// Reads the first keys that begin with `prefix`.
pub(crate) fn first(
    db: &impl ReadableDatabase,
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<StoreKey>, StoreError> {
    let read = || -> Result<_, redb::Error> {
        let table = db.begin_read()?.open_table(RECORDS)?;
        let mut keys = Vec::new();
        for entry in table.range(prefix..)? {
            let (key, _) = entry?;
            if keys.len() == limit || StoreKey::prefix_in(key.value()) != prefix {
                break;
            }
            keys.extend(StoreKey::from_bytes(key.value().to_vec()));
        }
        Ok(keys)
    };
    read().map_err(|err| StoreError::new(kind_of(&err), err))
}

/// Reads the record under `key`.
pub(crate) fn load(
    db: &impl ReadableDatabase,
    key: &StoreKey,
) -> Result<Option<Versioned>, StoreError> {
    let read = || -> Result<Option<Option<Versioned>>, redb::Error> {
        // What redb returns points into a page, which is freed as soon as table and transaction are gone: so the
        // bytes are copied while both are here.
        let transaction = db.begin_read()?;
        let table = transaction.open_table(RECORDS)?;
        let Some(value) = table.get(key.as_bytes())? else {
            return Ok(None);
        };
        decode(&transaction, value.value()).map(Some)
    };
    match read().map_err(|err| StoreError::new(kind_of(&err), err))? {
        None => Ok(None),
        Some(Some(record)) => Ok(Some(record)),
        Some(None) => Err(ErrorKind::Corrupt.into()),
    }
}

/// Returns how large the pages of all records are together. Reads these pages.
pub(crate) fn bytes_in_use(db: &impl ReadableDatabase) -> Result<u64, redb::Error> {
    let transaction = db.begin_read()?;
    let tables = [
        transaction.open_table(RECORDS)?.stats()?,
        transaction.open_table(EXPIRY)?.stats()?,
        transaction.open_table(PIECES)?.stats()?,
    ];
    let sizes = tables
        .iter()
        .map(|table| table.stored_bytes() + table.metadata_bytes() + table.fragmented_bytes());
    Ok(sizes.sum())
}

/// Returns how many records there are. Takes no longer when there are many.
pub(crate) fn count(db: &impl ReadableDatabase) -> Result<u64, redb::Error> {
    Ok(db.begin_read()?.open_table(RECORDS)?.len()?)
}

/// Returns a record that owns its bytes; `None` if it has no head, or not all of its pieces.
fn decode(transaction: &ReadTransaction, value: &[u8]) -> Result<Option<Versioned>, redb::Error> {
    let Some(head) = Head::of(value) else {
        return Ok(None);
    };
    let rest = &value[HEAD..];
    let bytes = match head.form {
        Form::Whole => Some(Bytes::copy_from_slice(rest)),
        Form::Pieces => pieces::read(transaction, rest)?,
    };
    let expires = SystemTime::UNIX_EPOCH + Duration::from_millis(head.expires.min(MAX_MILLIS));
    let expires_in = expires.duration_since(SystemTime::now()).unwrap_or_default();
    Ok(bytes.map(|bytes| Versioned { stamp: head.stamp, bytes, expires_in }))
}

/// Translates an error of redb.
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
    pieces: Pieces<'t>,
    growth: Growth,
}

impl Tables<'_> {
    fn count(&mut self, key: &[u8], more: isize) {
        *self.growth.entry(StoreKey::prefix_in(key).to_vec()).or_default() += more;
    }

    fn apply(&mut self, op: &Op) -> Result<Answer, redb::Error> {
        match op {
            Op::Claim { key, found, stamp, bytes, expires } => {
                let old = self.head(key.as_bytes())?;
                let verdict = stamp.claims(*found, stamp_of(old));
                self.judged(verdict, key.as_bytes(), old, *stamp, bytes, *expires)
            }
            Op::Put { key, stamp, bytes, expires } => {
                let old = self.head(key.as_bytes())?;
                let verdict = stamp.puts(stamp_of(old));
                self.judged(verdict, key.as_bytes(), old, *stamp, bytes, *expires)
            }
            Op::Touch { key, stamp, expires } => {
                self.touch(key.as_bytes(), *stamp, millis_up(*expires))
            }
            Op::Remove { key, stamp } => self.remove(key.as_bytes(), *stamp),
            Op::DeleteExpired { now, limit } => self.delete_expired(millis_down(*now), *limit),
        }
    }

    /// Writes a record, if the verdict of its rule is to change it.
    fn judged(
        &mut self,
        verdict: Result<Verdict, ErrorKind>,
        key: &[u8],
        old: Option<Head>,
        stamp: Stamp,
        bytes: &[u8],
        expires: SystemTime,
    ) -> Result<Answer, redb::Error> {
        Ok(match verdict {
            _ if bytes.len() > MAX_BYTES => Err(ErrorKind::TooLarge),
            Err(refused) => Err(refused),
            Ok(Verdict::Keep) => Ok(0),
            Ok(Verdict::Change) => {
                self.write(key, old, stamp, millis_up(expires), bytes)?;
                Ok(1)
            }
        })
    }

    fn touch(&mut self, key: &[u8], stamp: Stamp, expires: u64) -> Result<Answer, redb::Error> {
        let old = self.head(key)?;
        let (verdict, Some(old)) = (stamp.touches(stamp_of(old)), old) else {
            return Ok(Err(ErrorKind::NotFound));
        };
        match verdict {
            Err(refused) => return Ok(Err(refused)),
            Ok(Verdict::Keep) => return Ok(Ok(0)),
            Ok(Verdict::Change) => {}
        }
        let rest = self.after_head(key)?;
        self.write_row(key, Some(old), Head { expires, ..old }, &rest)?;
        Ok(Ok(1))
    }

    fn remove(&mut self, key: &[u8], stamp: Stamp) -> Result<Answer, redb::Error> {
        let old = self.head(key)?;
        match (stamp.removes(stamp_of(old)), old) {
            (Err(refused), _) => Ok(Err(refused)),
            (Ok(Verdict::Change), Some(old)) => {
                self.expiry.remove((old.expires, key))?;
                self.remove_row(key)?;
                Ok(Ok(1))
            }
            (Ok(_), _) => Ok(Ok(0)),
        }
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
            self.remove_row(&key)?;
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

    /// Returns what stands behind the head of a record: its bytes, or the list of its pieces.
    fn after_head(&self, key: &[u8]) -> Result<Vec<u8>, redb::Error> {
        let value = self.records.get(key)?;
        Ok(value.map(|value| value.value()[HEAD..].to_vec()).unwrap_or_default())
    }

    fn write(
        &mut self,
        key: &[u8],
        old: Option<Head>,
        stamp: Stamp,
        expires: u64,
        bytes: &[u8],
    ) -> Result<(), redb::Error> {
        let stored = match old.map(|old| old.form) {
            Some(Form::Pieces) => Some(self.after_head(key)?),
            Some(Form::Whole) | None => None,
        };
        if bytes.len() > LONGEST_WHOLE {
            let list = self.pieces.write(stored.as_deref(), bytes)?;
            return self.write_row(key, old, Head { stamp, expires, form: Form::Pieces }, &list);
        }
        if let Some(stored) = stored {
            self.pieces.remove(&stored)?;
        }
        self.write_row(key, old, Head { stamp, expires, form: Form::Whole }, bytes)
    }

    fn write_row(
        &mut self,
        key: &[u8],
        old: Option<Head>,
        head: Head,
        rest: &[u8],
    ) -> Result<(), redb::Error> {
        if old.is_none() {
            self.count(key, 1);
        }
        if old.map(|old| old.expires) != Some(head.expires) {
            if let Some(old) = old {
                self.expiry.remove((old.expires, key))?;
            }
            self.expiry.insert((head.expires, key), ())?;
        }
        let mut value = self.records.insert_reserve(key, HEAD + rest.len())?;
        let value = value.as_mut();
        value[..HEAD].copy_from_slice(&head.to_bytes());
        value[HEAD..].copy_from_slice(rest);
        Ok(())
    }

    /// Removes a record with its pieces.
    fn remove_row(&mut self, key: &[u8]) -> Result<(), redb::Error> {
        let Some(removed) = self.records.remove(key)? else {
            return Ok(());
        };
        if let Some(Form::Pieces) = Head::of(removed.value()).map(|head| head.form) {
            self.pieces.remove(&removed.value()[HEAD..])?;
        }
        drop(removed);
        self.count(key, -1);
        Ok(())
    }
}

/// Half of what redb can store, so that the limit does not depend on its overhead.
const MAX_BYTES: usize = 1 << 30;

fn stamp_of(head: Option<Head>) -> Option<Stamp> {
    head.map(|head| head.stamp)
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
