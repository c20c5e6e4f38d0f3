//! Engines and connections that fail.

use std::{
    io::{Read as _, Write as _},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use session_resume::store::{ErrorKind, SnapshotStore as _, Stamp, StoreError};
use session_resume_engine::{Engine, Flavour, without_redis};
use session_resume_redis::RedisStore;
use session_resume_testkit::tcp::Proxy;

use crate::support::{FIRST, HOUR, SHORT, key, kind, load_of, number, text_of, until_ok, url};

/// Of a session that had the key before, or will have it.
const OTHER: Stamp = Stamp::first(8, 1);

/// A primary that does not wait for more replicas before it gives one all that it has.
pub(crate) const AT_ONCE: [&str; 2] = ["--repl-diskless-sync-delay", "0"];

async fn connect(url: &str) -> RedisStore {
    RedisStore::builder(url).with_timeout(SHORT).connect().await.unwrap()
}

/// One call of each kind, on the record of a key that is there; how each ends.
async fn all_calls(store: &RedisStore) -> Vec<(&'static str, Result<(), StoreError>)> {
    let (key, new) = (key("all calls"), key("a new one"));
    let load = async { store.load(&key).await.map(drop) };
    let create = store.claim(&new, None, FIRST, "new".into(), HOUR);
    let claim = store.claim(&key, Some(FIRST), FIRST.next(), "x".into(), HOUR);
    let put = store.put(&key, FIRST.next().next(), "y".into(), HOUR);
    let touch = store.touch(&key, FIRST, HOUR);
    let remove = store.remove(&new, FIRST.next());
    let (load, touch) = futures_util::future::join(load, touch).await;
    let (create, claim) = futures_util::future::join(create, claim).await;
    let (put, remove) = futures_util::future::join(put, remove).await;
    vec![
        ("load", load),
        ("create", create),
        ("claim", claim),
        ("put", put),
        ("touch", touch),
        ("remove", remove),
    ]
}

/// Expects that no call takes longer than its deadline, and that each fails.
async fn all_calls_fail_in_time(store: &RedisStore) {
    let began = Instant::now();
    for (call, result) in all_calls(store).await {
        assert_eq!(kind(result), ErrorKind::Unavailable, "{call}");
    }
    // Three after one another, each with its own deadline.
    assert!(began.elapsed() < 3 * SHORT + 2 * SHORT, "{:?}", began.elapsed());
}

/// Expects that the store works again after a while.
async fn works_again(store: &RedisStore) {
    let key = key("works again");
    until_ok(async || store.claim(&key, None, FIRST, "x".into(), HOUR).await).await;
    until_ok(async || store.load(&key).await).await;
    until_ok(async || store.remove(&key, FIRST.next()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_survives_kill_9_of_the_engine_under_load() {
    if without_redis() {
        return;
    }
    let mut engine = Engine::durable();
    let store = connect(&engine.url()).await;
    let load = load_of(&store, 16).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        engine.restart();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    load.nothing_is_lost(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_ends_by_its_deadline_when_the_engine_stands_still() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = connect(&engine.url()).await;
    store.claim(&key("all calls"), None, FIRST, "x".into(), HOUR).await.unwrap();
    engine.stop();
    all_calls_fail_in_time(&store).await;
    // Now it is not reached at all: the connections were given up.
    all_calls_fail_in_time(&store).await;
    engine.go_on();
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_call_ends_by_its_deadline_when_the_engine_is_gone() {
    if without_redis() {
        return;
    }
    let mut engine = Engine::durable();
    let store = connect(&engine.url()).await;
    store.claim(&key("all calls"), None, FIRST, "x".into(), HOUR).await.unwrap();
    engine.kill();
    all_calls_fail_in_time(&store).await;
    // A call that is made meanwhile, and has time left, finds the engine that is there again.
    let patient = RedisStore::builder(engine.url()).with_timeout(Duration::from_secs(20));
    engine.restart();
    let patient = patient.connect().await.unwrap();
    engine.kill();
    let load = tokio::spawn(async move { text_of(&patient, &key("all calls")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    engine.restart();
    assert_eq!(load.await.unwrap().as_deref(), Some("x"));
    works_again(&store).await;
}

/// The reply is lost with its connection: the call is not reported as done, and it is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_missed_deadline_nothing_of_that_connection_counts() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let proxy = Proxy::start(engine.address()).await;
    let store = connect(&url(&proxy)).await;
    let key = key("one");
    store.claim(&key, None, FIRST, "1".into(), HOUR).await.unwrap();
    let before = proxy.connections();
    proxy.swallow();
    let puts = (2..10).map(|number| {
        let stamp = Stamp { number, ..FIRST };
        store.put(&key, stamp, number.to_string().into(), HOUR)
    });
    for result in join_all(puts).await {
        assert_eq!(kind(result), ErrorKind::Unavailable);
    }
    // What was sent has happened, and no caller is told so. (The connection for loads is one of those, too.)
    until_ok(async || store.load(&key).await).await;
    let stored = text_of(&store, &key).await.unwrap();
    assert!((2..10).contains(&stored.parse::<u64>().unwrap()), "{stored}");
    assert!(proxy.connections() > before, "a new connection");
    engine.command("CONFIG RESETSTAT");
    store.put(&key, Stamp { number: 10, ..FIRST }, "10".into(), HOUR).await.unwrap();
    let stats = engine.command("INFO commandstats");
    assert!(stats.contains("cmdstat_evalsha:calls=1,"), "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_on_the_way_is_found_out() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let proxy = Proxy::start(engine.address()).await;
    let store = connect(&url(&proxy)).await;
    store.claim(&key("all calls"), None, FIRST, "x".into(), HOUR).await.unwrap();
    proxy.freeze();
    all_calls_fail_in_time(&store).await;
    // What was on the way arrives now, from connections that the store does not read any more.
    proxy.thaw();
    works_again(&store).await;
}

/// A connection that its peer has closed is known to be closed: what comes next goes over a new one, and fails not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_is_not_used_again() {
    if without_redis() {
        return;
    }
    let mut engine = Engine::durable();
    let store = RedisStore::connect(engine.url()).await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "1".into(), HOUR).await.unwrap();
    for n in 2..5 {
        engine.restart();
        // Time for the news to arrive; nothing is said meanwhile.
        tokio::time::sleep(Duration::from_millis(200)).await;
        store.put(&key, number(n), n.to_string().into(), HOUR).await.unwrap();
    }
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("4"));
}

/// A dial that is never answered is given up, and the next one is answered: within the time of one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dial_that_is_never_answered_is_given_up() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let proxy = Proxy::start(engine.address()).await;
    let builder = RedisStore::builder(url(&proxy)).with_timeout(Duration::from_secs(4));
    let store = builder.connect().await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "x".into(), HOUR).await.unwrap();
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("x"));
    drop(proxy.cut());
    proxy.freeze();
    let before = proxy.connections();
    let load = async { text_of(&store, &key).await };
    let one_more = async {
        until_ok(async || {
            let dialled = proxy.connections() > before;
            if dialled { Ok(()) } else { Err(ErrorKind::Unavailable.into()) }
        })
        .await;
        // The connection that is being made stays silent for ever.
        proxy.thaw_new();
    };
    let (loaded, ()) = futures_util::future::join(load, one_more).await;
    assert_eq!(loaded.as_deref(), Some("x"), "it has waited for the next connection");
    assert_eq!(proxy.connections(), before + 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_engine_has_forgotten_are_sent_again() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = connect(&engine.url()).await;
    let keys: Vec<_> = (0..20).map(|n| key(&n.to_string())).collect();
    let claims = keys.iter().map(|key| store.claim(key, None, FIRST, "1".into(), HOUR));
    assert!(join_all(claims).await.into_iter().all(|result| result.is_ok()));
    for number in 2..6 {
        engine.command("SCRIPT FLUSH");
        let stamp = Stamp { number, ..FIRST };
        let puts = keys.iter().map(|key| store.put(key, stamp, number.to_string().into(), HOUR));
        for result in join_all(puts).await {
            result.unwrap();
        }
        engine.command("SCRIPT FLUSH");
        assert_eq!(text_of(&store, &keys[7]).await, Some(number.to_string()));
    }
    engine.command("SCRIPT FLUSH");
    assert_eq!(kind(store.put(&keys[0], OTHER, "".into(), HOUR).await), ErrorKind::Stale);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_engine_refuses_what_grows_and_nothing_else() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = connect(&engine.url()).await;
    let (key, new) = (key("old"), key("new"));
    store.claim(&key, None, FIRST, "0123456789".into(), HOUR).await.unwrap();
    engine.command("CONFIG SET maxmemory 1");
    assert_eq!(kind(store.claim(&new, None, FIRST, "x".into(), HOUR).await), ErrorKind::Full);
    assert_eq!(kind(store.put(&key, number(2), "0123456789a".into(), HOUR).await), ErrorKind::Full);
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("0123456789"), "nothing is lost");
    assert_eq!(kind(store.put(&key, OTHER, "".into(), HOUR).await), ErrorKind::Stale);
    store.put(&key, number(3), "abcdefghij".into(), HOUR).await.unwrap();
    store.touch(&key, number(3), 2 * HOUR).await.unwrap();
    let taken = number(3).taken_by(2);
    store.claim(&key, Some(number(3)), taken, "taken".into(), HOUR).await.unwrap();
    assert_eq!(kind(store.put(&key, number(4), "old".into(), HOUR).await), ErrorKind::Stale);
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("taken"));
    // Another process starts, and a lost connection comes back.
    connect(&engine.url()).await;
    store.remove(&key, taken.next()).await.unwrap();
    assert_eq!(text_of(&store, &key).await, None);
    engine.command("CONFIG SET maxmemory 0");
    store.claim(&new, None, FIRST, "x".into(), HOUR).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_demoted_or_lacks_its_replicas_answers_nothing() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = connect(&engine.url()).await;
    store.claim(&key("all calls"), None, FIRST, "x".into(), HOUR).await.unwrap();
    for (fault, cure) in [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ] {
        // Over the connections that are there: it does not close them.
        engine.command(fault);
        for (call, result) in all_calls(&store).await {
            assert_eq!(kind(result), ErrorKind::Unavailable, "{fault}: {call}");
        }
        engine.command(cure);
        works_again(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_was_wrong_for_a_while_and_too_many_clients() {
    if without_redis() {
        return;
    }
    let engine = Engine::with(Flavour::Redis, &["--requirepass", "right"]);
    let address = engine.address();
    let store = connect(&format!("redis://:right@{address}")).await;
    store.claim(&key("all calls"), None, FIRST, "x".into(), HOUR).await.unwrap();
    let admin = |login: &str, words: &str| engine.command_as(&format!("AUTH {login}"), words);
    admin("right", "CONFIG SET requirepass wrong");
    admin("wrong", "CLIENT KILL TYPE normal");
    all_calls_fail_in_time(&store).await;
    let error = store.load(&key("x")).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("WRONGPASS") || text.contains("password"), "says why: {text}");
    assert!(!text.contains("right"), "{text}");
    admin("wrong", "CONFIG SET requirepass right");
    works_again(&store).await;

    // Room for one, and that one is there.
    let mut only = std::net::TcpStream::connect(address).unwrap();
    only.write_all(b"AUTH right\r\nCONFIG SET maxclients 1\r\nCLIENT KILL TYPE normal\r\n")
        .unwrap();
    let mut answers = String::new();
    while answers.matches("\r\n").count() < 3 {
        let mut some = [0; 256];
        let read = only.read(&mut some).unwrap();
        answers.push_str(std::str::from_utf8(&some[..read]).unwrap());
    }
    all_calls_fail_in_time(&store).await;
    only.write_all(b"CONFIG SET maxclients 100\r\n").unwrap();
    works_again(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_slow_by_itself_loses_nothing() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = RedisStore::connect(engine.url()).await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "1".into(), HOUR).await.unwrap();
    engine.command("CLIENT PAUSE 300 ALL");
    let puts = (2..200)
        .map(|number| store.put(&key, Stamp { number, ..FIRST }, number.to_string().into(), HOUR));
    for result in join_all(puts).await {
        result.unwrap();
    }
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("199"));
    // One record of a session waits, the newest.
    let stats = engine.command("INFO commandstats");
    let calls = stats.split("cmdstat_evalsha:calls=").nth(1).unwrap().split(',').next().unwrap();
    assert!(calls.parse::<u32>().unwrap() < 100, "{calls} calls");
}

/// `WAIT` speaks only of what its own connection has changed: a call that has happened already is written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_waits_for_the_replicas() {
    if without_redis() {
        return;
    }
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        if !flavour.is_there() {
            eprintln!("left out: {flavour:?} is missing");
            continue;
        }
        let primary = Engine::with(flavour, &AT_ONCE);
        let port = primary.address().port().to_string();
        let replica = Engine::with(flavour, &["--replicaof", "127.0.0.1", &port]);
        let builder = RedisStore::builder(primary.url()).with_timeout(2 * SHORT).with_replicas(1);
        let store = builder.clone().connect().await.unwrap();
        let (first, second) = (key("first"), key("second"));
        until_ok(async || store.claim(&first, None, FIRST, "1".into(), HOUR).await).await;
        let loaded = until_ok(async || {
            let names = replica.command("KEYS sr:{live:*}");
            if names.contains("sr:{live:") { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
        });
        loaded.await;

        replica.stop();
        let claim =
            async |store: &RedisStore| store.claim(&second, None, FIRST, "2".into(), HOUR).await;
        assert_eq!(
            kind(claim(&store).await),
            ErrorKind::Unavailable,
            "{flavour:?}: not replicated"
        );
        // It is in the primary. Sent again, also on another connection, it still is not replicated.
        assert_eq!(kind(claim(&store).await), ErrorKind::Unavailable, "{flavour:?}: sent again");
        let other = builder.connect().await.unwrap();
        assert_eq!(kind(claim(&other).await), ErrorKind::Unavailable, "{flavour:?}: elsewhere");
        let put = store.put(&first, FIRST, "1".into(), HOUR).await;
        assert_eq!(kind(put), ErrorKind::Unavailable, "{flavour:?}: a put that has happened");
        // A call that writes nothing that must last does not wait for replicas.
        assert!(store.load(&second).await.unwrap().is_some());
        replica.go_on();
        until_ok(async || claim(&store).await).await;
        store.put(&second, FIRST.next(), "3".into(), HOUR).await.unwrap();
        assert!(store.load(&second).await.unwrap().unwrap().expires_in <= HOUR);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_while_nothing_happens() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = connect(&engine.url()).await;
    for n in 0..10 {
        store.claim(&key(&n.to_string()), None, FIRST, "x".into(), HOUR).await.unwrap();
    }
    engine.command("CONFIG RESETSTAT");
    tokio::time::sleep(SHORT).await;
    let stats = engine.command("INFO commandstats");
    assert!(!stats.contains("eval"), "{stats}");
    // And the connections go with the last handle.
    drop(store);
    let clients = until_ok(async || {
        let clients = engine.command("CLIENT LIST");
        let ours = clients.lines().filter(|line| line.contains("cmd=evalsha")).count();
        if ours == 0 { Ok(()) } else { Err(ErrorKind::Full.into()) }
    });
    clients.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_has_lost_everything_is_known_by_its_mark() {
    if without_redis() {
        return;
    }
    let mut engine = Engine::start();
    let store = connect(&engine.url()).await;
    let identity = store.identity_key();
    let key = key("one");
    store.claim(&key, None, FIRST, "1".into(), HOUR).await.unwrap();
    store.remove(&key, number(2)).await.unwrap();
    // What was removed is not lost.
    assert_eq!(kind(store.put(&key, number(3), "".into(), HOUR).await), ErrorKind::NotFound);
    assert_eq!(store.losses(), 0);
    engine.restart();
    until_ok(async || store.load(&key).await).await;
    assert_eq!(store.losses(), 1, "a new connection finds it out");
    // A caller that is told over an old connection that there is no record knows why.
    store.claim(&key, None, number(4), "4".into(), HOUR).await.unwrap();
    engine.command("FLUSHALL");
    assert_eq!(kind(store.put(&key, number(5), "".into(), HOUR).await), ErrorKind::NotFound);
    assert_eq!(store.losses(), 2);
    assert_eq!(kind(store.touch(&key, number(5), HOUR).await), ErrorKind::NotFound);
    assert_eq!(store.losses(), 2, "once for all connections");
    // Cookies outlive it, as long as one process does.
    engine.restart();
    until_ok(async || store.load(&key).await).await;
    let other = connect(&engine.url()).await;
    assert_eq!(other.identity_key(), identity);
    // One that keeps all loses nothing.
    let mut durable = Engine::durable();
    let store = connect(&durable.url()).await;
    durable.restart();
    until_ok(async || store.load(&key).await).await;
    assert_eq!(store.losses(), 0);
}

/// What the crate's docs say that a failover can lose, and what closes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_takes_what_the_replica_did_not_have() {
    if without_redis() {
        return;
    }
    for replicas in [0, 1] {
        let primary = Engine::with(Flavour::Redis, &AT_ONCE);
        let between = Proxy::start(primary.address()).await;
        let port = between.address().port().to_string();
        let replica = Engine::with(Flavour::Redis, &["--replicaof", "127.0.0.1", &port]);
        let proxy = Proxy::start(primary.address()).await;
        let builder = RedisStore::builder(url(&proxy)).with_timeout(4 * SHORT);
        let store = builder.with_replicas(replicas).connect().await.unwrap();
        let key = key("one");
        until_ok(async || store.claim(&key, None, FIRST, "1".into(), HOUR).await).await;
        let names = async || {
            let names = replica.command("KEYS sr:{live:*}");
            if names.contains("sr:{live:") { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
        };
        until_ok(names).await;
        // The last write is withheld from the replica, which then takes the primary's place.
        between.freeze();
        let acknowledged = store.put(&key, number(2), "2".into(), HOUR).await.is_ok();
        assert_eq!(acknowledged, replicas == 0, "with WAIT, nobody is told that it has happened");
        primary.stop();
        replica.command("REPLICAOF NO ONE");
        proxy.set_target(replica.address());
        drop(proxy.cut());
        let record = until_ok(async || store.load(&key).await).await.unwrap();
        if replicas == 0 {
            assert_eq!(record.stamp, FIRST, "this is what can be lost");
        }
        assert_eq!(store.losses(), 0, "it is not everything");
        // The owner lives, so it puts again, which heals what was lost.
        let store = connect(&url(&proxy)).await;
        until_ok(async || store.put(&key, number(3), "3".into(), HOUR).await).await;
        assert_eq!(text_of(&store, &key).await.as_deref(), Some("3"));
    }
}

/// What a session takes in the engine beside its record.
#[tokio::test]
async fn a_record_takes_little_more_than_its_bytes() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = connect(&engine.url()).await;
    let used = || -> u64 {
        let info = engine.command("INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.unwrap().trim().parse().unwrap()
    };
    let keys: Vec<_> = (0..2000).map(|n| key(&n.to_string())).collect();
    let before = used();
    for chunk in keys.chunks(500) {
        let claims =
            chunk.iter().map(|key| store.claim(key, None, FIRST, vec![7; 200].into(), HOUR));
        assert!(join_all(claims).await.into_iter().all(|result| result.is_ok()));
    }
    let each = used().saturating_sub(before) / 2000;
    assert!(each <= 200 + 450, "{each} bytes each");
    println!("a record of 200 bytes takes {each} bytes of the engine's memory");
}

/// The address leads to the new primary by now; the connection that is there does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_readonly_the_address_is_dialled_again() {
    if without_redis() {
        return;
    }
    let (old, new) = (Engine::start(), Engine::start());
    let proxy = Proxy::start(old.address()).await;
    let store = connect(&url(&proxy)).await;
    works_again(&store).await;
    proxy.set_target(new.address());
    old.command("REPLICAOF 127.0.0.1 1");
    works_again(&store).await;
}
