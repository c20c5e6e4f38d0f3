//! What is in the file: four tables. Their names and encodings are the format; see `FORMAT` in `open.rs`.

use redb::{TableDefinition, WriteTransaction};

/// `format` and `identity_key`.
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("session-resume");

/// Key → the [`Head`](crate::head::Head), and what it says: the bytes, or the list of their pieces.
pub(crate) const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// (Expiry, key), exactly one for each record: what is due is at the front.
pub(crate) const EXPIRY: TableDefinition<'_, (u64, &[u8]), ()> = TableDefinition::new("expiry");

/// (List, piece) → a part of a value. Both are numbers.
pub(crate) const PIECES: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("pieces");

/// The tables that a file has in addition to [`META`]. The last one came with format 3.
pub(crate) const TABLES: [&str; 3] = ["records", "expiry", "pieces"];

/// Makes those tables of a file that are not there.
pub(crate) fn create(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(RECORDS)?;
    transaction.open_table(EXPIRY)?;
    transaction.open_table(PIECES)?;
    Ok(())
}
