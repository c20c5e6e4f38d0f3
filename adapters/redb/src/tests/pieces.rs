//! Large values: little is written for a small change, and no piece outlives its record.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use redb::{Builder, Database, ReadableDatabase, ReadableTable};
use session_resume::store::{ErrorKind, SnapshotStore, Stamp};

use super::{Disk, FIRST, LATER, damaged::is_of_damage, key, put};
use crate::{
    RedbStore,
    pieces::LONGEST_WHOLE,
    tables::{META, PIECES, RECORDS},
};

/// The first format, whose files have no pieces.
const OLD_FORMAT: u32 = 2;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    /// An entry of a state, as JSON.
    fn entry(&mut self) -> String {
        const WORDS: [&str; 8] =
            ["alpha", "session", "order", "customer", "open", "large", "price", "resume"];
        let words = (0..8 + self.below(20)).map(|_| WORDS[self.below(8)]).collect::<Vec<_>>();
        let (id, count) = (self.below(1_000_000), self.below(100_000));
        format!(r#"{{"id":{id},"text":"{}","count":{count}}}"#, words.join(" "))
    }
}

/// A state of many entries as a record: its head and its end change with each put, as those of a session do.
struct State {
    random: Random,
    entries: Vec<String>,
    puts: usize,
}

impl State {
    fn new(len: usize) -> Self {
        let mut random = Random(7);
        let mut entries = Vec::new();
        let mut so_far = 0;
        while so_far < len {
            let entry = random.entry();
            so_far += entry.len() + 1;
            entries.push(entry);
        }
        Self { random, entries, puts: 0 }
    }

    fn change(&mut self) {
        let (at, entry) = (self.random.below(self.entries.len()), self.random.entry());
        self.entries[at] = entry;
    }

    fn insert_in_front(&mut self) {
        let entry = self.random.entry();
        self.entries.insert(0, entry);
    }

    fn record(&mut self) -> Bytes {
        self.puts += 1;
        let head = "h".repeat(60 + self.puts % 3);
        let (puts, entries) = (self.puts, self.entries.join(","));
        format!("{head}{puts}[{entries}]{puts}{}", "t".repeat(100)).into()
    }
}

/// How many pieces are on the disk, once no store has it open. Each belongs to exactly one record.
fn pieces_on(disk: &Disk) -> usize {
    let db = open_file(disk);
    let transaction = db.begin_read().unwrap();
    let pieces = transaction.open_table(PIECES).unwrap();
    let there: BTreeSet<_> = pieces.iter().unwrap().map(|entry| entry.unwrap().0.value()).collect();
    let mut listed = BTreeSet::new();
    for record in transaction.open_table(RECORDS).unwrap().iter().unwrap() {
        let (_, value) = record.unwrap();
        let value = value.value();
        if value[40] & 0x80 != 0 {
            let (list, entries) = value[48..].split_first_chunk().unwrap();
            let list = u64::from_be_bytes(*list);
            let entries = entries.chunks(10).map(|entry| entry.first_chunk().unwrap());
            let own: BTreeSet<_> =
                entries.map(|number| (list, u32::from_be_bytes(*number))).collect();
            assert!(listed.is_disjoint(&own), "two records with one list");
            listed.extend(own);
        }
    }
    assert_eq!(there, listed, "those on the disk, and those that records have");
    there.len()
}

fn open_file(disk: &Disk) -> Database {
    Builder::new().create_with_backend(disk.clone()).unwrap()
}

async fn expect_value(store: &RedbStore, n: usize, value: &Bytes) {
    let record = store.load(&key(n)).await.unwrap();
    assert!(record.is_some_and(|record| record.bytes == value), "record {n}");
}

#[tokio::test]
async fn a_small_change_of_a_large_value_writes_little() {
    const LEN: usize = 900_000;
    let disk = Disk::default();
    let store = disk.open().unwrap();
    let mut state = State::new(LEN);
    let value = state.record();
    store.claim(&key(0), None, FIRST, value.clone(), LATER).await.unwrap();
    expect_value(&store, 0, &value).await;
    let mut stamp = FIRST;
    let changes: [fn(&mut State); 2] = [State::change, State::insert_in_front];
    for change in changes {
        let before = disk.state().written;
        for _ in 0..40 {
            change(&mut state);
            stamp = stamp.next();
            let value = state.record();
            store.put(&key(0), stamp, value.clone(), LATER).await.unwrap();
            expect_value(&store, 0, &value).await;
        }
        let each = (disk.state().written - before) / 40;
        assert!(each < LEN as u64 * 12 / 100, "{each} bytes");
    }
    drop(store);
    assert!(pieces_on(&disk) > 100);
}

/// Each way in which a value in pieces can be replaced or go.
#[tokio::test]
async fn pieces_go_with_their_record() {
    let disk = Disk::default();
    let mut state = State::new(100_000);
    let (second, third) = (FIRST.next(), FIRST.next().next());
    let taken = third.taken_by(2);
    let small = || Bytes::from_static(b"ended");
    let now = Duration::ZERO;

    let store = disk.open().unwrap();
    let value = state.record();
    store.claim(&key(0), None, FIRST, value.clone(), LATER).await.unwrap();
    store.claim(&key(1), None, FIRST, value.clone(), LATER).await.unwrap();
    drop(store);
    let each = pieces_on(&disk) / 2;
    assert!(each > 20, "{each}");

    // Refused, touched, put again as it is: all stay.
    let store = disk.open().unwrap();
    let other = Stamp { owner: 9, ..second };
    store.put(&key(0), other, small(), LATER).await.unwrap_err();
    store.touch(&key(0), FIRST, LATER * 2).await.unwrap();
    store.put(&key(0), second, value.clone(), LATER).await.unwrap();
    expect_value(&store, 0, &value).await;
    drop(store);
    assert_eq!(pieces_on(&disk), 2 * each);

    // A later owner takes it over; its record ends; the next line claims over that; that expires.
    let store = disk.open().unwrap();
    state.change();
    let value = state.record();
    store.put(&key(0), third, value.clone(), LATER).await.unwrap();
    store.claim(&key(0), Some(third), taken, value.slice(..50_000), LATER).await.unwrap();
    expect_value(&store, 0, &value.slice(..50_000)).await;
    store.put(&key(0), taken.next(), small(), LATER).await.unwrap();
    expect_value(&store, 0, &small()).await;
    drop(store);
    assert_eq!(pieces_on(&disk), each);

    let store = disk.open().unwrap();
    let line = Stamp::first(2, 1);
    store.claim(&key(0), Some(taken.next()), line, value.clone(), now).await.unwrap();
    expect_value(&store, 0, &value).await;
    drop(store);
    assert!(pieces_on(&disk) > each);
    let store = disk.open().unwrap();
    assert_eq!(store.delete_expired(9).await.unwrap(), 1);
    drop(store);
    assert_eq!(pieces_on(&disk), each);

    let store = disk.open().unwrap();
    store.remove(&key(1), FIRST.next()).await.unwrap();
    drop(store);
    assert_eq!(pieces_on(&disk), 0);
}

/// Random puts and removals of values on both sides of the limit, of some keys.
#[tokio::test]
async fn whatever_is_put_is_loaded_and_nothing_is_left() {
    let disk = Disk::default();
    let mut random = Random(3);
    let mut there: HashMap<usize, (Stamp, Bytes)> = HashMap::new();
    let mut line = 0;
    for round in 0..12 {
        let store = disk.open().unwrap();
        for _ in 0..40 {
            let n = random.below(4);
            let Some((stamp, value)) = there.get(&n).cloned() else {
                line += 1;
                let value = State::new(random.below(3 * LONGEST_WHOLE)).record();
                store
                    .claim(&key(n), None, Stamp::first(line, 1), value.clone(), LATER)
                    .await
                    .unwrap();
                there.insert(n, (Stamp::first(line, 1), value));
                continue;
            };
            let (from, len) = (random.below(value.len()), random.below(value.len()));
            let to = (from + len).min(value.len());
            let value = match random.below(8) {
                0 => {
                    store.remove(&key(n), stamp.next()).await.unwrap();
                    there.remove(&n);
                    continue;
                }
                1 => value.slice(from..to.max(from + 1)),
                2 => [&value[..], &value[from..to]].concat().into(),
                3 => [&value[..from], b"inserted", &value[from..]].concat().into(),
                4 => [&value[to..], &value[..to]].concat().into(),
                // One piece many times.
                5 => [&value[..from], &vec![7; 20_000][..], &value[from..]].concat().into(),
                6 => there[&there.keys().copied().max().unwrap()].1.clone(),
                _ => {
                    let mut value = value.to_vec();
                    value[from] ^= 1;
                    value.into()
                }
            };
            let value: Bytes = value.slice(..value.len().min(300_000));
            store.put(&key(n), stamp.next(), value.clone(), LATER).await.unwrap();
            there.insert(n, (stamp.next(), value));
            for (n, (_, value)) in &there {
                expect_value(&store, *n, value).await;
            }
        }
        drop(store);
        let large = there.values().filter(|(_, value)| value.len() > LONGEST_WHOLE).count();
        assert_eq!(pieces_on(&disk) > 0, large > 0, "round {round}");
    }
    let store = disk.open().unwrap();
    for (n, (stamp, _)) in &there {
        store.remove(&key(*n), stamp.next()).await.unwrap();
    }
    drop(store);
    assert_eq!(pieces_on(&disk), 0);
}

/// The power fails, or the process is killed, after every write of a put: the value is the old one or the new one.
#[tokio::test]
async fn a_large_put_cut_short_is_whole() {
    let disk = Disk::default();
    let mut state = State::new(100_000);
    let (old, new) = {
        let old = state.record();
        state.change();
        state.insert_in_front();
        (old, state.record())
    };
    drop({
        let store = disk.open().unwrap();
        store.claim(&key(0), None, FIRST, old.clone(), LATER).await.unwrap();
        store
    });
    let (mut olds, mut news) = (0, 0);
    for writes in 0..60 {
        let disk = disk.after_kill();
        let store = disk.open().unwrap();
        disk.state().writes_left = Some(writes);
        let put = store.put(&key(0), FIRST.next(), new.clone(), LATER).await;
        for left in [disk.after_power_failure(), disk.after_kill()] {
            let store = left.open().unwrap();
            let record = store.load(&key(0)).await.unwrap().unwrap();
            let is_new = record.stamp == FIRST.next();
            assert!(is_new || put.is_err(), "after {writes}: an answer and no record");
            assert!(
                record.bytes == if is_new { &new } else { &old },
                "after {writes}: half a value"
            );
            olds += usize::from(!is_new);
            news += usize::from(is_new);
            drop(store);
            pieces_on(&left);
        }
    }
    assert!(olds > 5 && news > 5, "{olds} {news}");
}

/// What is wrong with the pieces of one record is no other's matter, and the next put heals it.
#[tokio::test]
async fn a_piece_that_is_missing_or_changed_in_length_is_the_matter_of_its_key() {
    for shorter in [false, true] {
        let disk = Disk::default();
        let store = disk.open().unwrap();
        let value = State::new(100_000).record();
        for n in 0..3 {
            store.claim(&key(n), None, FIRST, value.clone(), LATER).await.unwrap();
        }
        drop(store);
        let db = open_file(&disk);
        let transaction = db.begin_write().unwrap();
        {
            let mut pieces = transaction.open_table(PIECES).unwrap();
            if shorter {
                pieces.insert((1, 5), &b"short"[..]).unwrap();
            } else {
                pieces.remove((1, 5)).unwrap().unwrap();
            }
        }
        transaction.commit().unwrap();
        drop(db);

        let store = disk.open().unwrap();
        assert_eq!(store.load(&key(1)).await.unwrap_err().kind(), ErrorKind::Corrupt);
        for n in [0, 2] {
            expect_value(&store, n, &value).await;
        }
        store.put(&key(1), FIRST.next(), value.clone(), LATER).await.unwrap();
        expect_value(&store, 1, &value).await;
        assert_eq!(store.stats().failures, 0);
    }
}

/// Damaged pages while the store is open, each in turn.
#[tokio::test]
async fn a_damaged_page_of_pieces_ends_nothing() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    let mut stamps = [FIRST; 12];
    let mut states: Vec<_> = (0..12).map(|_| State::new(200_000)).collect();
    let mut values = Vec::new();
    for (n, state) in states.iter_mut().enumerate() {
        state.random.0 = n as u64;
        (0..100).for_each(|_| state.change());
        values.push(state.record());
        store.claim(&key(n), None, FIRST, values[n].clone(), LATER).await.unwrap();
    }
    let whole = disk.state().current.clone();
    let (mut corrupt, mut read) = (0, 0);
    for page in (1..whole.len() / 4096).step_by(7) {
        disk.state().current[page * 4096..][..64].fill(0xA5);
        for n in [page % 12, (page + 5) % 12] {
            match store.load(&key(n)).await {
                Ok(record) => {
                    read += 1;
                    assert_eq!(record.unwrap().bytes.len(), values[n].len());
                }
                Err(err) => {
                    is_of_damage(page, &err);
                    corrupt += 1;
                }
            }
        }
        disk.state().current.clone_from(&whole);
    }
    assert!(read > 0 && corrupt > 0, "{corrupt} {read}");
    // What was damaged is still in the cache: a write may find out, and the store opens its file again.
    let mut attempts = 0;
    for (n, stamp) in stamps.iter_mut().enumerate() {
        states[n].change();
        let value = states[n].record();
        *stamp = stamp.next();
        while let Err(err) = store.put(&key(n), *stamp, value.clone(), LATER).await {
            assert_eq!(err.kind(), ErrorKind::Corrupt, "{err:?}");
            attempts += 1;
            assert!(attempts < 20, "{err:?}");
        }
        expect_value(&store, n, &value).await;
    }
}

/// Makes a file of the first format of this one, which has no large values.
fn make_old(disk: &Disk) {
    let db = open_file(disk);
    let transaction = db.begin_write().unwrap();
    assert!(transaction.delete_table(PIECES).unwrap());
    let bytes = OLD_FORMAT.to_be_bytes();
    transaction.open_table(META).unwrap().insert("format", bytes.as_slice()).unwrap();
    transaction.commit().unwrap();
}

/// A record of the old format, which is larger than what is kept whole today.
fn put_old_large(disk: &Disk, value: &[u8]) {
    let db = open_file(disk);
    let transaction = db.begin_write().unwrap();
    {
        let mut records = transaction.open_table(RECORDS).unwrap();
        let at = key(0);
        let head = records.get(at.as_bytes()).unwrap().unwrap().value()[..48].to_vec();
        let row = [&head, value].concat();
        records.insert(at.as_bytes(), row.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_file_without_pieces_goes_on() {
    let disk = Disk::default();
    let store = disk.open().unwrap();
    for n in 0..30 {
        put(&store, n).await.unwrap();
    }
    drop(store);
    let mut state = State::new(200_000);
    let value = state.record();
    put_old_large(&disk, &value);
    make_old(&disk);

    // The power fails, or the process is killed, after every write of the change to the new format.
    let mut changed = 0;
    for writes in 0..40 {
        let disk = disk.after_kill();
        disk.state().writes_left = Some(writes);
        changed += usize::from(disk.open().is_ok());
        for left in [disk.after_power_failure(), disk.after_kill()] {
            let store = left.open().unwrap_or_else(|reason| panic!("after {writes}: {reason:?}"));
            expect_value(&store, 0, &value).await;
            assert!(store.load(&key(29)).await.unwrap().is_some());
        }
    }
    assert!((1..39).contains(&changed), "{changed} of 40 were changed");

    let store = disk.open().unwrap();
    expect_value(&store, 0, &value).await;
    state.change();
    let value = state.record();
    store.touch(&key(0), FIRST, LATER * 2).await.unwrap();
    store.put(&key(0), FIRST.next(), value.clone(), LATER).await.unwrap();
    expect_value(&store, 0, &value).await;
    drop(store);
    assert!(pieces_on(&disk) > 20);
}
