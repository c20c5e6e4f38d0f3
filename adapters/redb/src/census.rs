use std::collections::BTreeMap;

use redb::{ReadableDatabase, ReadableTable};
use session_resume::store::StoreKey;

use crate::tables::RECORDS;

/// How many records there are, by what their keys begin with: kind and layer.
#[derive(Debug, Default)]
pub(crate) struct Census(BTreeMap<Vec<u8>, usize>);

/// How many more there are, by the same.
pub(crate) type Growth = BTreeMap<Vec<u8>, isize>;

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
