//! Large values in pieces, so that a write puts only those pieces on the disk that have changed.
//!
//! A value is cut where its content says so: bytes that are put in or taken out move no cut but those next to them. The
//! record then has a list of pieces in place of the value. Pieces belong to one record. They are written and deleted in
//! the transaction that writes the record.

use std::collections::HashMap;

use bytes::Bytes;
use fastcdc::v2020::{FastCDC, Normalization};
use redb::{ReadTransaction, ReadableTable, Table, WriteTransaction};

use crate::tables::PIECES;

/// Values up to this length are kept whole. redb writes a longer one as 64 KiB or more, in pieces about 40 KiB are
/// written for a small change.
pub(crate) const LONGEST_WHOLE: usize = 32 << 10;

/// The lengths of pieces. With key and offsets the longest one just fits a page of redb, so a piece that has changed costs
/// one page. Others were measured: see docs/decisions.md.
const SHORTEST: usize = 1536;
const AVERAGE: usize = 3072;
const LONGEST: usize = 4032;

/// The pieces of one value, as its record has them: the number of the list (8 bytes), and for each piece its number (4),
/// length (2) and fingerprint (4), big endian.
struct List {
    number: u64,
    pieces: Vec<Piece>,
}

/// One entry of a list. Pieces with the same bytes may be one, with several entries.
#[derive(Clone, Copy)]
struct Piece {
    number: u32,
    mark: Mark,
}

/// Length and fingerprint: pieces that differ in it are different. Those that do not may be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mark {
    len: u16,
    fingerprint: u32,
}

/// What a new value has a piece from.
enum Source<'v> {
    Stored(u32),
    /// It is to be written: the place among the new ones, and the bytes.
    New(usize, &'v [u8]),
}

/// The table of pieces in a transaction that writes. Opened only when a large value is met: the others cost what they
/// would without it.
pub(crate) struct Pieces<'t> {
    transaction: &'t WriteTransaction,
    table: Option<Table<'t, (u64, u32), &'static [u8]>>,
}

impl<'t> Pieces<'t> {
    pub(crate) fn new(transaction: &'t WriteTransaction) -> Self {
        Self { transaction, table: None }
    }

    /// Writes a value and returns its list. `stored` is the list of the value that it replaces, if that is in pieces:
    /// what both have stays, and the rest of the old one is gone.
    pub(crate) fn write(
        &mut self,
        stored: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Vec<u8>, redb::Error> {
        let table = self.table()?;
        let stored = match stored.and_then(List::decode) {
            Some(stored) => stored,
            None => List { number: unused(table)?, pieces: Vec::new() },
        };
        let at = |number| (stored.number, number);
        let mut sources: HashMap<_, _> =
            stored.pieces.iter().map(|piece| (piece.mark, Source::Stored(piece.number))).collect();
        let mut new = Vec::new();
        let mut parts = Vec::new();
        for (mark, bytes) in cut(value) {
            let same = match sources.get(&mark) {
                // The fingerprint is of few bytes: only the bytes themselves tell.
                Some(Source::Stored(number)) => {
                    let there = table.get(at(*number))?;
                    there.is_some_and(|there| there.value() == bytes).then_some(Ok(*number))
                }
                Some(Source::New(place, same)) => (*same == bytes).then_some(Err(*place)),
                None => None,
            };
            let part = same.unwrap_or_else(|| {
                sources.insert(mark, Source::New(new.len(), bytes));
                new.push(bytes);
                Err(new.len() - 1)
            });
            parts.push((mark, part));
        }
        let mut unkept = stored.unkept(parts.iter().filter_map(|(_, part)| part.ok()));
        // In place of those that go: so the tree hardly changes its form.
        let next = stored.pieces.iter().map(|piece| piece.number + 1).max().unwrap_or(0);
        let mut numbers = unkept.iter().copied().chain(next..);
        let numbers: Vec<u32> = numbers.by_ref().take(new.len()).collect();
        for (number, bytes) in numbers.iter().zip(&new) {
            table.insert(at(*number), *bytes)?;
        }
        for number in unkept.drain(new.len().min(unkept.len())..) {
            table.remove(at(number))?;
        }
        let pieces = parts.into_iter().map(|(mark, part)| {
            let number = part.unwrap_or_else(|place| numbers[place]);
            Piece { number, mark }
        });
        Ok(List { number: stored.number, pieces: pieces.collect() }.encode())
    }

    /// Deletes a value. A list that is damaged deletes nothing: its record must go all the same.
    pub(crate) fn remove(&mut self, list: &[u8]) -> Result<(), redb::Error> {
        let Some(list) = List::decode(list) else {
            return Ok(());
        };
        let table = self.table()?;
        for number in list.unkept(std::iter::empty()) {
            table.remove((list.number, number))?;
        }
        Ok(())
    }

    fn table(&mut self) -> Result<&mut Table<'t, (u64, u32), &'static [u8]>, redb::Error> {
        let table = match self.table.take() {
            Some(table) => table,
            None => self.transaction.open_table(PIECES)?,
        };
        Ok(self.table.insert(table))
    }
}

/// Reads the value that has this list; `None` if a piece of it is not there, or not as the list says.
pub(crate) fn read(
    transaction: &ReadTransaction,
    list: &[u8],
) -> Result<Option<Bytes>, redb::Error> {
    let Some(list) = List::decode(list) else {
        return Ok(None);
    };
    let table = transaction.open_table(PIECES)?;
    let len = list.pieces.iter().map(|piece| usize::from(piece.mark.len)).sum();
    let mut value = Vec::with_capacity(len);
    for piece in list.pieces {
        match table.get((list.number, piece.number))? {
            Some(bytes) if bytes.value().len() == usize::from(piece.mark.len) => {
                value.extend_from_slice(bytes.value());
            }
            Some(_) | None => return Ok(None),
        }
    }
    Ok(Some(value.into()))
}

/// Cuts a value.
fn cut(value: &[u8]) -> impl Iterator<Item = (Mark, &[u8])> {
    FastCDC::with_level(value, SHORTEST, AVERAGE, LONGEST, Normalization::Level3).map(|chunk| {
        let bytes = &value[chunk.offset..][..chunk.length];
        let len = u16::try_from(chunk.length).expect("no piece is longer than the longest");
        let [a, b, c, d, ..] = (chunk.hash ^ chunk.hash >> 32).to_le_bytes();
        (Mark { len, fingerprint: u32::from_le_bytes([a, b, c, d]) }, bytes)
    })
}

/// Returns a number that no list has.
fn unused(table: &impl ReadableTable<(u64, u32), &'static [u8]>) -> Result<u64, redb::Error> {
    Ok(table.last()?.map_or(0, |(at, _)| at.value().0 + 1))
}

impl List {
    const HEAD: usize = 8;
    const ENTRY: usize = 10;

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, entries) = bytes.split_first_chunk()?;
        if entries.is_empty() || !entries.len().is_multiple_of(Self::ENTRY) {
            return None;
        }
        let piece = |entry: &[u8]| {
            let (number, entry) = entry.split_first_chunk()?;
            let (len, entry) = entry.split_first_chunk()?;
            let (fingerprint, _) = entry.split_first_chunk()?;
            let mark = Mark {
                len: u16::from_be_bytes(*len),
                fingerprint: u32::from_be_bytes(*fingerprint),
            };
            Some(Piece { number: u32::from_be_bytes(*number), mark })
        };
        let pieces = entries.chunks_exact(Self::ENTRY).map(piece).collect::<Option<_>>()?;
        Some(Self { number: u64::from_be_bytes(*number), pieces })
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEAD + Self::ENTRY * self.pieces.len());
        bytes.extend(self.number.to_be_bytes());
        for Piece { number, mark } in &self.pieces {
            bytes.extend(number.to_be_bytes());
            bytes.extend(mark.len.to_be_bytes());
            bytes.extend(mark.fingerprint.to_be_bytes());
        }
        bytes
    }

    /// Returns the numbers of its pieces without these, each once.
    fn unkept(&self, kept: impl Iterator<Item = u32>) -> Vec<u32> {
        let kept: Vec<u32> = sorted(kept);
        let all = sorted(self.pieces.iter().map(|piece| piece.number));
        all.into_iter().filter(|number| kept.binary_search(number).is_err()).collect()
    }
}

fn sorted(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<_> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}
