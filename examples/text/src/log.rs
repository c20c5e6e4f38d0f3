//! The document on disk: what it was once, and each update since then.

use std::{collections::VecDeque, error::Error, path::Path};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

/// The updates, by their number.
const UPDATES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("updates");
/// The one record: all that was before some of the updates, as one update.
const BASE: TableDefinition<'_, (), &[u8]> = TableDefinition::new("base");

pub(crate) type Result<T = (), E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// The last updates, in memory and on disk.
pub(crate) struct Log {
    db: Database,
    /// The number of the oldest one that is kept.
    first: u64,
    kept: VecDeque<Vec<u8>>,
    /// The most that the document can have, in bytes: what it had once, and all updates since.
    bytes: usize,
    /// Whether it may have less: it was not measured since the last update.
    is_estimate: bool,
}

impl Log {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let db = Database::create(path)?;
        let transaction = db.begin_write()?;
        let (mut first, mut kept) = (None, VecDeque::new());
        for update in transaction.open_table(UPDATES)?.iter()? {
            let (n, update) = update?;
            first.get_or_insert(n.value());
            kept.push_back(update.value().to_vec());
        }
        let base = transaction.open_table(BASE)?.get(())?.map_or(0, |base| base.value().len());
        transaction.commit()?;
        let bytes = base + kept.iter().map(Vec::len).sum::<usize>();
        Ok(Self { db, first: first.unwrap_or(0), kept, bytes, is_estimate: true })
    }

    /// Returns what the document is made of, oldest first.
    pub(crate) fn parts(&self) -> Result<Vec<Vec<u8>>> {
        let base = self.db.begin_read()?.open_table(BASE)?.get(())?;
        let base = base.map(|base| base.value().to_vec());
        Ok(base.into_iter().chain(self.kept.iter().cloned()).collect())
    }

    /// The number of the next update.
    pub(crate) fn head(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Returns the updates from number `from` on, unless they are not kept any more, or never were.
    pub(crate) fn since(&self, from: u64) -> Option<impl Iterator<Item = &[u8]>> {
        let skipped = usize::try_from(from.checked_sub(self.first)?).ok()?;
        (from <= self.head()).then(|| self.kept.iter().skip(skipped).map(Vec::as_slice))
    }

    /// Returns whether the document, with an update of so many bytes, may have more than `max`, unless it is measured.
    pub(crate) fn may_be_over(&self, max: usize, more: usize) -> bool {
        self.bytes.saturating_add(more) > max
    }

    /// Returns whether [`compact`](Self::compact) is of use.
    pub(crate) fn can_be_compacted(&self) -> bool {
        self.is_estimate
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Writes an update; it is on disk when this returns.
    pub(crate) fn append(&mut self, update: &[u8]) -> Result {
        let transaction = self.db.begin_write()?;
        transaction.open_table(UPDATES)?.insert(self.head(), update)?;
        transaction.commit()?;
        self.kept.push_back(update.to_vec());
        self.bytes += update.len();
        self.is_estimate = true;
        Ok(())
    }

    /// Writes the whole document in place of all updates but some of the last, which are for sessions that are away: at
    /// most `keep`, and not more bytes than `max`, but one.
    pub(crate) fn compact(&mut self, document: &[u8], keep: usize, max: usize) -> Result {
        let mut bytes = 0_usize;
        let keep = self.kept.iter().rev().take(keep).take_while(|update| {
            bytes += update.len();
            bytes <= max
        });
        // The last one has the number that goes on.
        let gone = self.kept.len() - keep.count().max(1).min(self.kept.len());
        let first = self.first + gone as u64;
        let transaction = self.db.begin_write()?;
        transaction.open_table(BASE)?.insert((), document)?;
        transaction.open_table(UPDATES)?.retain(|n, _| n >= first)?;
        transaction.commit()?;
        self.kept.drain(..gone);
        self.first = first;
        self.bytes = document.len();
        self.is_estimate = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(log: &Log, from: u64) -> Option<Vec<u8>> {
        Some(log.since(from)?.map(|update| update[0]).collect())
    }

    #[test]
    fn what_is_appended_is_there_again_and_numbers_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text.redb");
        let mut log = Log::open(&path).unwrap();
        assert_eq!(
            (log.head(), log.parts().unwrap().len(), numbers(&log, 0)),
            (0, 0, Some(vec![]))
        );
        for n in 0..10 {
            log.append(&[n; 10]).unwrap();
        }
        assert!(log.may_be_over(109, 10) && !log.may_be_over(110, 10));
        log.compact(b"whole", 3, 100).unwrap();
        assert!(!log.may_be_over(15, 10) && !log.can_be_compacted());
        log.append(&[10; 10]).unwrap();
        drop(log);
        let mut log = Log::open(&path).unwrap();
        let parts = log.parts().unwrap();
        assert_eq!(log.head(), 11);
        assert_eq!(parts[0], b"whole");
        assert_eq!(parts[1..].iter().map(|part| part[0]).collect::<Vec<_>>(), [7, 8, 9, 10]);
        assert_eq!(numbers(&log, 8), Some(vec![8, 9, 10]));
        assert_eq!(numbers(&log, 11), Some(vec![]));
        // Gone, and never there.
        assert_eq!([numbers(&log, 6), numbers(&log, 12)], [None, None]);
        // Not more than there is room for, but always one: the next number comes from it.
        log.compact(b"whole", 3, 25).unwrap();
        assert_eq!(log.len(), 2);
        log.compact(b"whole", 3, 5).unwrap();
        drop(log);
        assert_eq!(Log::open(&path).unwrap().head(), 11);
    }
}
