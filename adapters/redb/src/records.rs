//! What is in the file, and what each call does to it.
//!
//! Three tables. The names and encodings are the format; see `FORMAT` in `open.rs`.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use redb::{
    ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
    WriteTransaction,
};
use session_resume::store::{ErrorKind, Stamp, StoreError, StoreKey, Verdict, Versioned};

/// `format` and `identity_key`.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("session-resume");

/// Key → the head and the bytes. The head is line (16 bytes), generation, owner, number and expiry (8 each), big
/// endian.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// (Expiry, key), exactly one for each record: what is due is at the front.
const EXPIRY: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("expiry");

const HEAD: usize = 48;

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

/// How many records there are, by what their keys begin with: kind and layer.
#[derive(Debug, Default)]
pub(crate) struct Census(BTreeMap<Vec<u8>, usize>);

/// How many more there are, by the same.
type Growth = BTreeMap<Vec<u8>, isize>;

impl Census {
    /// Counts what is there: reads every key.
    pub(crate) fn take(db: &impl ReadableDatabase) -> Result<Self, redb::Error> {
        let mut counts = BTreeMap::<Vec<u8>, usize>::new();
        let mut last = None;
        for entry in db.begin_read()?.open_table(RECORDS)?.iter()? {
            let (key, _) = entry?;
            let prefix = StoreKey::prefix_in(key.value());
            // The keys are in order.
            let count = match &mut last {
                Some((same, count)) if same == prefix => count,
                _ => {
                    counts.extend(last.take());
                    &mut last.insert((prefix.to_vec(), 0)).1
                }
            };
            *count += 1;
        }
        counts.extend(last);
        Ok(Self(counts))
    }

    /// Counts changes that are committed.
    pub(crate) fn apply(&mut self, growth: Growth) {
        for (prefix, more) in growth {
            let count = self.0.entry(prefix).or_default();
            *count = count.saturating_add_signed(more);
        }
    }

    pub(crate) fn of(&self, prefix: &[u8]) -> usize {
        self.0.get(prefix).copied().unwrap_or(0)
    }
}

/// Applies all of `ops` in their order. Errors are failures of the file: nothing may be committed then.
pub(crate) fn apply<'a>(
    transaction: &WriteTransaction,
    ops: impl Iterator<Item = &'a Op>,
) -> Result<(Vec<Answer>, Growth), redb::Error> {
    let mut tables = Tables {
        records: transaction.open_table(RECORDS)?,
        expiry: transaction.open_table(EXPIRY)?,
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
        let value = table.get(key.as_bytes())?;
        Ok(value.map(|value| decode(value.value())))
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
    let tables =
        [transaction.open_table(RECORDS)?.stats()?, transaction.open_table(EXPIRY)?.stats()?];
    let sizes = tables
        .iter()
        .map(|table| table.stored_bytes() + table.metadata_bytes() + table.fragmented_bytes());
    Ok(sizes.sum())
}

/// Returns how many records there are. Takes no longer when there are many.
pub(crate) fn count(db: &impl ReadableDatabase) -> Result<u64, redb::Error> {
    Ok(db.begin_read()?.open_table(RECORDS)?.len()?)
}

/// Returns a record that owns its bytes; `None` if it has no head.
fn decode(value: &[u8]) -> Option<Versioned> {
    let head = Head::of(value)?;
    let expires = SystemTime::UNIX_EPOCH + Duration::from_millis(head.expires.min(MAX_MILLIS));
    Some(Versioned {
        stamp: head.stamp,
        bytes: Bytes::copy_from_slice(&value[HEAD..]),
        expires_in: expires.duration_since(SystemTime::now()).unwrap_or_default(),
    })
}

/// The tables that every store file has in addition to [`META`].
pub(crate) const TABLES: [&str; 2] = ["records", "expiry"];

/// Makes the tables of a new file.
pub(crate) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(EXPIRY)?;
    Ok(())
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
                self.write(key, old, Head { stamp, expires: millis_up(expires) }, bytes)?;
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
        let bytes =
            self.records.get(key)?.map(|value| value.value()[HEAD..].to_vec()).unwrap_or_default();
        self.write(key, Some(old), Head { expires, ..old }, &bytes)?;
        Ok(Ok(1))
    }

    fn remove(&mut self, key: &[u8], stamp: Stamp) -> Result<Answer, redb::Error> {
        let old = self.head(key)?;
        match (stamp.removes(stamp_of(old)), old) {
            (Err(refused), _) => Ok(Err(refused)),
            (Ok(Verdict::Change), Some(old)) => {
                self.expiry.remove((old.expires, key))?;
                self.records.remove(key)?;
                self.count(key, -1);
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
            self.records.remove(key.as_slice())?;
            self.count(&key, -1);
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
        if old.is_none() {
            self.count(key, 1);
        }
        if old.map(|old| old.expires) != Some(head.expires) {
            if let Some(old) = old {
                self.expiry.remove((old.expires, key))?;
            }
            self.expiry.insert((head.expires, key), ())?;
        }
        let mut value = self.records.insert_reserve(key, HEAD + bytes.len())?;
        let value = value.as_mut();
        value[..HEAD].copy_from_slice(&head.to_bytes());
        value[HEAD..].copy_from_slice(bytes);
        Ok(())
    }
}

/// Half of what redb can store, so that the limit does not depend on its overhead.
const MAX_BYTES: usize = 1 << 30;

#[derive(Clone, Copy)]
struct Head {
    stamp: Stamp,
    expires: u64,
}

impl Head {
    fn of(value: &[u8]) -> Option<Self> {
        let (line, rest) = value.split_first_chunk()?;
        let (generation, rest) = rest.split_first_chunk()?;
        let (owner, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (expires, _) = rest.split_first_chunk()?;
        let stamp = Stamp {
            line: u128::from_be_bytes(*line),
            generation: u64::from_be_bytes(*generation),
            owner: u64::from_be_bytes(*owner),
            number: u64::from_be_bytes(*number),
        };
        Some(Self { stamp, expires: u64::from_be_bytes(*expires) })
    }

    fn to_bytes(self) -> [u8; HEAD] {
        let Stamp { line, generation, owner, number } = self.stamp;
        let mut bytes = [0; HEAD];
        bytes[..16].copy_from_slice(&line.to_be_bytes());
        for (at, part) in [generation, owner, number, self.expires].into_iter().enumerate() {
            bytes[16 + 8 * at..][..8].copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }
}

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
