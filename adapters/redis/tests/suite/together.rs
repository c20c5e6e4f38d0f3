//! Calls that go to the engine as one: each is answered for its own key.

use futures_util::future::join_all;
use session_resume::store::{ErrorKind, SnapshotStore as _, Stamp, StoreKey};
use session_resume_engine::{Engine, Flavour};
use session_resume_redis::RedisStore;

use crate::support::{FIRST, HOUR, key, kind, number, text_of, until_ok};

/// Engines of both kinds, as far as they are there.
fn engines() -> Vec<Engine> {
    let flavours = [Flavour::Redis, Flavour::Valkey].into_iter();
    let there = flavours.filter(|flavour| {
        let is_there = flavour.is_there();
        if !is_there {
            eprintln!("left out: {flavour:?} is missing");
        }
        is_there
    });
    there.map(|flavour| Engine::with(flavour, &[])).collect()
}

/// A store and this many records in it.
async fn records(engine: &Engine, count: usize) -> (RedisStore, Vec<StoreKey>) {
    let store = RedisStore::connect(engine.url()).await.unwrap();
    let keys: Vec<_> = (0..count).map(|n| key(&n.to_string())).collect();
    let claims = keys.iter().map(|key| store.claim(key, None, FIRST, "1".into(), HOUR));
    assert!(join_all(claims).await.into_iter().all(|result| result.is_ok()));
    // Now both connections are there.
    assert_eq!(text_of(&store, &keys[0]).await.as_deref(), Some("1"));
    (store, keys)
}

/// The name of the record in the engine that has this text.
fn name_of(engine: &Engine, text: &str) -> String {
    let names = engine.command("KEYS sr:{live:*}");
    let names = names.lines().map(str::trim).filter(|line| line.starts_with("sr:"));
    let mut names = names.filter(|name| engine.command(&format!("GET {name}")).contains(text));
    names.next().expect("it is there").to_owned()
}

/// How often a command was called since `CONFIG RESETSTAT`.
fn calls(engine: &Engine, command: &str) -> u32 {
    let stats = engine.command("INFO commandstats");
    let calls = stats.split(&format!("cmdstat_{command}:calls=")).nth(1);
    calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

// The tests have one thread: all calls wait before the first one is sent.

#[tokio::test]
async fn each_call_is_answered_for_its_own_key() {
    for engine in engines() {
        let (store, keys) = records(&engine, 40).await;
        // What is wrong stands between records that are whole.
        for at in [5, 9, 30] {
            store.put(&keys[at], number(2), format!("mark {at}!").into(), HOUR).await.unwrap();
        }
        let names = [5, 9, 30].map(|at| name_of(&engine, &format!("mark {at}!")));
        engine.command(&format!("DEL {} {} {}", names[0], names[1], names[2]));
        engine.command(&format!("RPUSH {} a", names[0]));
        engine.command(&format!("SET {} short", names[1]));
        engine.command(&format!("SET {} {}", names[2], "n".repeat(60)));
        store.remove(&keys[12], number(2)).await.unwrap();
        store.claim(&keys[20], Some(FIRST), FIRST.taken_by(2), "taken".into(), HOUR).await.unwrap();
        store.put(&keys[33], number(7), "newer".into(), HOUR).await.unwrap();

        engine.command("CONFIG RESETSTAT");
        let puts = keys.iter().map(|key| store.put(key, number(3), "3".into(), HOUR));
        let results = join_all(puts).await;
        assert_eq!(calls(&engine, "evalsha"), 1, "all of them went as one");
        let loads = join_all(keys.iter().map(|key| store.load(key))).await;
        assert_eq!(calls(&engine, "evalsha"), 2, "and the loads");
        for (at, (put, load)) in results.into_iter().zip(loads).enumerate() {
            let expected = match at {
                5 | 9 => ErrorKind::Corrupt,
                30 => ErrorKind::TooNew,
                12 => ErrorKind::NotFound,
                20 => ErrorKind::Stale,
                _ => {
                    put.unwrap();
                    let text = if at == 33 { "newer" } else { "3" };
                    assert_eq!(load.unwrap().unwrap().bytes, text, "record {at}");
                    continue;
                }
            };
            assert_eq!(kind(put), expected, "record {at}");
            match at {
                12 => assert!(load.unwrap().is_none()),
                20 => assert_eq!(load.unwrap().unwrap().bytes, "taken"),
                _ => assert_eq!(kind(load), expected, "record {at}"),
            }
        }
    }
}

/// What refuses a call is known before the first of its writes: no caller is told that its write was refused while it has happened.
#[tokio::test]
async fn what_refuses_one_write_of_a_call_refuses_all() {
    for engine in engines() {
        let (store, keys) = records(&engine, 40).await;
        let kept = async |text: &str| {
            for result in join_all(keys.iter().map(|key| store.load(key))).await {
                assert_eq!(result.unwrap().unwrap().bytes, text);
            }
        };
        for (n, (fault, cure)) in [
            ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
            ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
        ]
        .into_iter()
        .enumerate()
        {
            engine.command(fault);
            let stamp = number(2 + u64::try_from(n).unwrap());
            let puts = keys.iter().map(|key| store.put(key, stamp, "2".into(), HOUR));
            for result in join_all(puts).await {
                assert_eq!(kind(result), ErrorKind::Unavailable, "{fault}");
            }
            engine.command(cure);
            until_ok(async || store.load(&keys[0]).await).await;
            kept("1").await;
        }
        // Full: what grows is refused, for its key alone.
        engine.command("CONFIG SET maxmemory 1");
        let puts = keys.iter().enumerate().map(|(at, key)| {
            let text = if at % 4 == 1 { "grows" } else { "4" };
            store.put(key, number(4), text.into(), HOUR)
        });
        let results = join_all(puts).await;
        let loads = join_all(keys.iter().map(|key| store.load(key))).await;
        for (at, (put, load)) in results.into_iter().zip(loads).enumerate() {
            let bytes = load.unwrap().unwrap().bytes;
            if at % 4 == 1 {
                assert_eq!(kind(put), ErrorKind::Full, "record {at}");
                assert_eq!(bytes, "1", "record {at}");
            } else {
                put.unwrap();
                assert_eq!(bytes, "4", "record {at}");
            }
        }
    }
}

/// A command that the engine refuses within a script is no write that has happened, and no reason to stop.
#[tokio::test]
async fn a_write_that_fails_within_a_call_is_not_said_to_have_happened() {
    for engine in engines() {
        let (store, keys) = records(&engine, 12).await;
        let stale = |at: usize| at % 3 == 1;
        for key in keys.iter().skip(1).step_by(3) {
            store.claim(key, Some(FIRST), FIRST.taken_by(2), "1".into(), HOUR).await.unwrap();
        }
        engine.command("ACL SETUSER default -set -pexpire -del");
        let puts = join_all(keys.iter().map(|key| store.put(key, number(2), "2".into(), HOUR)));
        let puts = puts.await;
        let touches = join_all(keys.iter().map(|key| store.touch(key, FIRST, 2 * HOUR))).await;
        let removes = join_all(keys.iter().map(|key| store.remove(key, number(2)))).await;
        engine.command("ACL SETUSER default +@all");
        for (at, result) in puts.into_iter().chain(touches).chain(removes).enumerate() {
            let is_stale = kind(result) == ErrorKind::Stale;
            assert_eq!(is_stale, stale(at % keys.len()), "call {at}");
        }
        for key in &keys {
            assert_eq!(text_of(&store, key).await.as_deref(), Some("1"));
        }
    }
}

/// A call that has room for some of them only leaves the others for calls of their own.
#[tokio::test]
async fn large_records_are_loaded_by_several_calls() {
    for engine in engines() {
        let (store, keys) = records(&engine, 20).await;
        let text = |at: usize| char::from(b'a' + u8::try_from(at).unwrap()).to_string();
        let puts = keys
            .iter()
            .enumerate()
            .map(|(at, key)| store.put(key, number(2), text(at).repeat(60 << 10).into(), HOUR));
        engine.command("CONFIG RESETSTAT");
        assert!(join_all(puts).await.into_iter().all(|result| result.is_ok()));
        assert_eq!(
            calls(&engine, "evalsha"),
            10,
            "two have 120 KiB, and three more than a call may have"
        );
        engine.command("CONFIG RESETSTAT");
        let loads = join_all(keys.iter().map(|key| store.load(key))).await;
        assert_eq!(calls(&engine, "evalsha"), 1);
        assert_eq!(calls(&engine, "eval"), 15, "the first five have more than 256 KiB");
        for (at, load) in loads.into_iter().enumerate() {
            assert_eq!(load.unwrap().unwrap().bytes, text(at).repeat(60 << 10), "record {at}");
        }
    }
}

/// Calls on one key are executed in the order in which they were made, whatever goes together.
#[tokio::test]
async fn calls_on_one_key_keep_their_order() {
    for engine in engines() {
        let (store, keys) = records(&engine, 3).await;
        let [a, b, c] = &keys[..] else { unreachable!() };
        let put = async |key, stamp: Stamp, text: &'static str| {
            store.put(key, stamp, text.into(), HOUR).await
        };
        // A put of the same claim would take the place of the first.
        let other = Stamp::first(8, 1);
        let results = tokio::join!(
            biased;
            put(a, number(2), "2"),
            store.remove(a, number(3)),
            put(b, number(2), "2"),
            store.claim(a, None, other, "anew".into(), HOUR),
            put(a, other.next(), "the last"),
            put(c, number(2), "2"),
        );
        let results = [results.0, results.1, results.2, results.3, results.4, results.5];
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        assert_eq!(text_of(&store, a).await.as_deref(), Some("the last"));
    }
}
