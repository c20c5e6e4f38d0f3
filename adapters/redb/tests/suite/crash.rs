//! The test binary runs itself as the process that is killed.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use session_resume::store::{SnapshotStore, Stamp};
use session_resume_redb::{OpenErrorKind, RedbStore};

use crate::support::{FIRST, LAST, directory, key, noise, write};

/// Names the store file to the child; absent in the parent, whose run of `child` does nothing.
const STORE: &str = "SESSION_RESUME_CRASH_STORE";

/// Writers of the child, each with a key of its own.
const WRITERS: usize = 8;

/// This many of them write large values, which the store keeps in pieces.
const LARGE: usize = 2;

/// What a writer writes as its nth. Of many sizes, so that pages are split, merged and reused; of a large value only
/// a part is another than before.
fn value(writer: usize, n: usize) -> Vec<u8> {
    let small = format!("{n}:").repeat(n * 37 % 2000 + 1).into_bytes();
    if writer >= LARGE {
        return small;
    }
    let mut value = noise(150_000, writer as u64);
    let at = n * 7919 % value.len();
    value.splice(at..at, small);
    value
}

fn spawn_child(path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(STORE, path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test by itself: writes for ever, and prints what has been acknowledged.
#[test]
fn child() {
    let Some(path) = env::var_os(STORE) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = RedbStore::open(&path).unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                for n in 1.. {
                    let stamp = Stamp { number: n as u64, ..FIRST };
                    write(&store, &key(writer), stamp, value(writer, n)).await.unwrap();
                    let spare = key(format!("{writer}-{}", n % 50));
                    if n % 3 == 0 {
                        store.remove(&spare, stamp).await.unwrap();
                    } else {
                        let bytes = vec![7; n * 91 % 5000];
                        write(&store, &spare, stamp, bytes).await.unwrap();
                    }
                    // One write call a line, so that a kill tears no line that counts.
                    let line = format!("ack {writer} {n}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
        writers.join_all().await;
    });
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_acknowledged() {
    let (_directory, path) = directory();
    let mut acknowledged = HashMap::new();
    for round in 0..6 {
        let mut child = spawn_child(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acks = 0;
        // Lines still come out of the pipe after the kill: they were acknowledged, too.
        while let Some(Ok(line)) = lines.next() {
            let Some(ack) = line.split("ack ").nth(1) else {
                continue;
            };
            let Some((writer, n)) = ack.split_once(' ') else {
                continue;
            };
            let Ok(n) = n.parse::<usize>() else { continue };
            let newest = acknowledged.entry(writer.parse::<usize>().unwrap()).or_insert(0);
            *newest = n.max(*newest);
            acks += 1;
            if acks == 40 + round * 17 {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(!acknowledged.is_empty());

        let store = RedbStore::open(&path).unwrap();
        for (writer, newest) in &acknowledged {
            let record = store.load(&key(writer)).await.unwrap().unwrap();
            let n = usize::try_from(record.stamp.number).unwrap();
            assert!(n >= *newest, "writer {writer}: {newest} was acknowledged, {n} is there");
            assert!(record.bytes == value(*writer, n), "writer {writer}: half a record");
        }
        assert!((0..LARGE).any(|writer| acknowledged.contains_key(&writer)));
        // The next child starts over, with the same numbers.
        for writer in 0..WRITERS {
            store.remove(&key(writer), LAST).await.unwrap();
            for n in 0..50 {
                store.remove(&key(format!("{writer}-{n}")), LAST).await.unwrap();
            }
        }
        acknowledged.clear();
    }
}

#[tokio::test]
async fn another_process_is_locked_out_until_this_one_dies() {
    let (_directory, path) = directory();
    let mut child = spawn_child(&path);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("ack ")));

    let err = RedbStore::open(&path).unwrap_err();
    assert_eq!(err.kind(), OpenErrorKind::Locked);
    let text = err.to_string();
    assert!(text.contains("sessions.redb") && text.contains("in use by another process"), "{text}");
    assert_eq!(text.lines().count(), 1);

    child.kill().unwrap();
    child.wait().unwrap();
    let store = RedbStore::open(&path).unwrap();
    assert!(store.load(&key(0)).await.is_ok());
}
