//! The document that all pages share.

use std::{
    error::Error,
    fmt,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{broadcast, watch};
use yrs::{Doc, ReadTxn as _, StateVector, Transact as _, Update, updates::decoder::Decode as _};

use crate::log::{self, Log};

/// How large the document may become, in bytes, with all that was deleted: one message holds it.
const MAX_BYTES: usize = 512 << 10;
/// How many updates are kept one by one, for sessions that are away for long. Fewer in our tests.
const KEPT: usize = if cfg!(test) { 64 } else { 1024 };
/// How many bytes of updates go in one message, if there is more than one.
const TOGETHER: usize = 64 << 10;
/// How many words about pages (names, cursors) wait for a session that is slow.
const SEEN: usize = 64;

/// The document. What it tells is on disk.
pub struct Text {
    inner: Mutex<Inner>,
    head: watch::Sender<u64>,
    seen: broadcast::Sender<Vec<u8>>,
}

struct Inner {
    doc: Doc,
    log: Log,
    /// Whether the document has, or may have, what is not on disk: then it is made anew before anything is told of it.
    is_ahead: bool,
}

/// What a page gets that asks for what it lacks.
#[derive(Debug)]
pub struct Answer {
    /// All that it lacks.
    pub update: Vec<u8>,
    /// What the document has, for the page to say what that lacks.
    pub has: StateVector,
    /// The number of the first update that is not in `update`.
    pub head: u64,
}

/// Why an update was not taken.
#[derive(Debug)]
pub enum Refused {
    /// It is no update.
    Malformed,
    /// The document would become too large.
    Full,
    /// It could not be written.
    Disk(Box<dyn Error + Send + Sync>),
}

impl Text {
    /// Opens the document in this file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read, or is not of this program.
    pub fn open(path: &Path) -> log::Result<Self> {
        let log = Log::open(path)?;
        let head = watch::Sender::new(log.head());
        let inner = Mutex::new(Inner { doc: document(&log)?, log, is_ahead: false });
        Ok(Self { inner, head, seen: broadcast::Sender::new(SEEN) })
    }

    /// Takes an update: what is new in it is on disk when this returns, which takes a while.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn apply(&self, bytes: &[u8]) -> Result<(), Refused> {
        let update = Update::decode_v1(bytes).map_err(|_| Refused::Malformed)?;
        let head = self.inner()?.apply(update, bytes)?;
        self.head.send_replace(head);
        Ok(())
    }

    /// Returns what a page lacks that has this.
    ///
    /// # Errors
    ///
    /// Fails if the document cannot be read after an update that could not be written.
    pub fn answer(&self, has: &StateVector) -> Result<Answer, Refused> {
        let inner = self.inner()?;
        let transaction = inner.doc.transact();
        let update = transaction.encode_state_as_update_v1(has);
        Ok(Answer { update, has: transaction.state_vector(), head: inner.log.head() })
    }

    /// Returns what has come since the update with this number, some of it at least, and the number of the next one.
    /// `None` if nothing has come.
    ///
    /// # Errors
    ///
    /// Fails if the document cannot be read after an update that could not be written.
    pub fn since(&self, from: u64) -> Result<Option<(Vec<u8>, u64)>, Refused> {
        let inner = self.inner()?;
        let head = inner.log.head();
        if from == head {
            return Ok(None);
        }
        let Some(updates) = inner.log.since(from) else {
            // Away for longer than the log reaches back.
            let all = inner.doc.transact().encode_state_as_update_v1(&StateVector::default());
            return Ok(Some((all, head)));
        };
        let mut bytes = 0;
        let mut some = Vec::new();
        for update in updates {
            bytes += update.len();
            if bytes > TOGETHER && !some.is_empty() {
                break;
            }
            some.push(update);
        }
        let next = from + some.len() as u64;
        let together = match some[..] {
            [alone] => alone.to_vec(),
            // They were read before they were written.
            _ => yrs::merge_updates_v1(some).map_err(|_| Refused::Malformed)?,
        };
        Ok(Some((together, next)))
    }

    /// Tells when there are updates to ask for.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Passes on what a page says of itself. It is kept nowhere.
    pub fn show(&self, words: Vec<u8>) {
        // An error means that no session is there.
        drop(self.seen.send(words));
    }

    /// What pages say of themselves.
    pub fn seen(&self) -> broadcast::Receiver<Vec<u8>> {
        self.seen.subscribe()
    }

    /// The document as it is on disk.
    fn inner(&self) -> Result<MutexGuard<'_, Inner>, Refused> {
        // An update on which the document panics leaves it ahead.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.is_ahead {
            inner.doc = document(&inner.log).map_err(Refused::Disk)?;
            inner.is_ahead = false;
        }
        Ok(inner)
    }
}

impl Inner {
    /// Returns the number of the next update.
    fn apply(&mut self, update: Update, bytes: &[u8]) -> Result<u64, Refused> {
        if self.log.may_be_over(MAX_BYTES, bytes.len()) && self.log.can_be_compacted() {
            self.compact()?;
        }
        if self.log.may_be_over(MAX_BYTES, bytes.len()) {
            return Err(Refused::Full);
        }
        let mut transaction = self.doc.transact_mut();
        self.is_ahead = true;
        transaction.apply_update(update).map_err(|_| Refused::Malformed)?;
        let is_new = !transaction.insert_set().is_empty() || !transaction.delete_set().is_empty();
        let new = if transaction.has_missing_updates() {
            // What others have to come before is kept, too.
            Some(bytes.to_vec())
        } else {
            is_new.then(|| transaction.encode_update_v1())
        };
        drop(transaction);
        if let Some(new) = new {
            self.log.append(&new).map_err(Refused::Disk)?;
        }
        self.is_ahead = false;
        if self.log.len() > 2 * KEPT {
            self.compact()?;
        }
        Ok(self.log.head())
    }

    fn compact(&mut self) -> Result<(), Refused> {
        let all = self.doc.transact().encode_state_as_update_v1(&StateVector::default());
        self.log.compact(&all, KEPT, MAX_BYTES).map_err(Refused::Disk)
    }
}

/// Makes the document of what is on disk.
fn document(log: &Log) -> log::Result<Doc> {
    let doc = Doc::new();
    for part in log.parts()? {
        doc.transact_mut().apply_update(Update::decode_v1(&part)?)?;
    }
    Ok(doc)
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Text").field("head", &*self.head.borrow()).finish_non_exhaustive()
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("not an update"),
            Self::Full => f.write_str("the text is full"),
            Self::Disk(_) => f.write_str("the text cannot be written"),
        }
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Disk(error) => Some(&**error),
            Self::Malformed | Self::Full => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use yrs::{GetString as _, Text as _, TransactionMut};

    use super::*;

    /// What a page says after this change.
    fn change(doc: &Doc, f: impl FnOnce(&mut TransactionMut<'_>)) -> Vec<u8> {
        let mut transaction = doc.transact_mut();
        f(&mut transaction);
        transaction.encode_update_v1()
    }

    fn write(doc: &Doc, words: &str) -> Vec<u8> {
        let text = doc.get_or_insert_text("text");
        change(doc, |transaction| text.push(transaction, words))
    }

    fn read(text: &Text) -> String {
        let answer = text.answer(&StateVector::default()).unwrap();
        let doc = Doc::new();
        doc.transact_mut().apply_update(Update::decode_v1(&answer.update).unwrap()).unwrap();
        let words = doc.get_or_insert_text("text");
        words.get_string(&doc.transact())
    }

    fn open() -> (tempfile::TempDir, Text) {
        let folder = tempfile::tempdir().unwrap();
        let text = Text::open(&folder.path().join("text.redb")).unwrap();
        (folder, text)
    }

    #[test]
    fn an_update_that_brings_nothing_new_is_none() {
        let (folder, text) = open();
        let page = Doc::new();
        let updates = [write(&page, "a"), write(&page, "b")];
        for update in updates.iter().chain(&updates) {
            text.apply(update).unwrap();
        }
        assert_eq!((*text.head().borrow(), read(&text).as_str()), (2, "ab"));
        drop(text);
        let text = Text::open(&folder.path().join("text.redb")).unwrap();
        text.apply(&updates[1]).unwrap();
        assert_eq!((*text.head().borrow(), read(&text).as_str()), (2, "ab"));
    }

    #[test]
    fn of_an_update_only_what_is_new_is_told() {
        let (_folder, text) = open();
        let page = Doc::new();
        text.apply(&write(&page, "a")).unwrap();
        write(&page, "b");
        let all = page.transact().encode_state_as_update_v1(&StateVector::default());
        text.apply(&all).unwrap();
        let (told, _) = text.since(1).unwrap().unwrap();
        assert_eq!(Update::decode_v1(&told).unwrap().insertions(true), {
            let mut b = yrs::IdSet::new();
            b.insert(yrs::ID::new(page.client_id(), 1), 1);
            b
        });
        assert_eq!(read(&text), "ab");
    }

    #[test]
    fn an_update_that_waits_for_another_is_kept_on_disk() {
        let (folder, text) = open();
        let page = Doc::new();
        let [first, second] = [write(&page, "a"), write(&page, "b")];
        text.apply(&second).unwrap();
        assert_eq!(read(&text), "");
        drop(text);
        let text = Text::open(&folder.path().join("text.redb")).unwrap();
        text.apply(&first).unwrap();
        assert_eq!(read(&text), "ab");
    }

    #[test]
    fn what_is_told_goes_on_from_any_number() {
        let (_folder, text) = open();
        let page = Doc::new();
        let words: Vec<_> = (0..3 * KEPT).map(|n| format!("{n} ")).collect();
        let mut told = (Doc::new(), 0);
        for (n, word) in words.iter().enumerate() {
            text.apply(&write(&page, word)).unwrap();
            // Now and then, and not at the end.
            while n % 40 == 0
                && let Some((update, next)) = text.since(told.1).unwrap()
            {
                told.0.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
                told.1 = next;
            }
        }
        assert!(text.inner().unwrap().log.since(0).is_none(), "the first ones are not kept");
        for (doc, mut from) in [told, (Doc::new(), 0), (Doc::new(), u64::MAX)] {
            while let Some((update, next)) = text.since(from).unwrap() {
                doc.transact_mut().apply_update(Update::decode_v1(&update).unwrap()).unwrap();
                from = next;
            }
            let said = doc.get_or_insert_text("text");
            assert_eq!(said.get_string(&doc.transact()), words.concat());
            assert_eq!(from, words.len() as u64);
        }
    }

    #[test]
    fn what_is_no_update_or_too_much_changes_nothing() {
        let (_folder, text) = open();
        assert!(matches!(text.apply(b"no update"), Err(Refused::Malformed)));
        let page = Doc::new();
        let half = "x".repeat(MAX_BYTES / 2);
        text.apply(&write(&page, &half)).unwrap();
        let over = write(&page, &half);
        assert!(matches!(text.apply(&over), Err(Refused::Full)));
        assert_eq!((*text.head().borrow(), read(&text).len()), (1, half.len()));
        // What is deleted makes room.
        let page = Doc::new();
        let answer = text.answer(&StateVector::default()).unwrap();
        page.transact_mut().apply_update(Update::decode_v1(&answer.update).unwrap()).unwrap();
        let words = page.get_or_insert_text("text");
        let deleted =
            change(&page, |transaction| words.remove_range(transaction, 0, words.len(transaction)));
        text.apply(&deleted).unwrap();
        text.apply(&write(&page, &half)).unwrap();
        assert_eq!(read(&text).len(), half.len());
    }

    #[test]
    fn what_could_not_be_written_is_told_nobody() {
        let (_folder, text) = open();
        let page = Doc::new();
        text.apply(&write(&page, "a")).unwrap();
        // As after a write that has failed.
        let mut inner = text.inner().unwrap();
        inner
            .doc
            .transact_mut()
            .apply_update(Update::decode_v1(&write(&page, "b")).unwrap())
            .unwrap();
        inner.is_ahead = true;
        drop(inner);
        assert_eq!(read(&text), "a");
    }
}
