//! A primary that Sentinels replace.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use session_resume::store::{ErrorKind, SnapshotStore as _, Stamp};
use session_resume_engine::{Engine, Flavour, Sentinels, without_redis};
use session_resume_redis::{ConnectErrorKind, RedisStore};
use session_resume_testkit::tcp::Proxy;

use crate::{
    faults::AT_ONCE,
    support::{FIRST, HOUR, key, kind, load_of, number, refused, text_of, until_ok},
};

/// A primary with a replica that follows it by way of a proxy, and their Sentinels.
struct Watched {
    primary: Engine,
    between: Proxy,
    replica: Engine,
    sentinels: Sentinels,
}

impl Watched {
    async fn start() -> Self {
        let primary = Engine::with(Flavour::Redis, &AT_ONCE);
        let between = Proxy::start(primary.address()).await;
        let port = between.address().port().to_string();
        let follows = ["--replicaof", "127.0.0.1", &port];
        let replica = Engine::with(Flavour::Redis, &[&follows[..], &AT_ONCE].concat());
        until_ok(async || {
            let up = replica.command("INFO replication").contains("master_link_status:up");
            if up { Ok(()) } else { Err(ErrorKind::Unavailable.into()) }
        })
        .await;
        let sentinels = Sentinels::start(&primary, 1);
        Self { primary, between, replica, sentinels }
    }

    /// Waits until the replica has all that the primary has.
    async fn replica_has_all(&self) {
        let offset = |engine: &Engine, name: &str| {
            let said = engine.command("INFO replication");
            said.lines().find_map(|line| line.strip_prefix(name)).map(|it| it.trim().to_owned())
        };
        until_ok(async || {
            let has = offset(&self.replica, "slave_repl_offset:");
            let all = offset(&self.primary, "master_repl_offset:");
            if has == all { Ok(()) } else { Err(ErrorKind::Unavailable.into()) }
        })
        .await;
    }
}

/// What the crate's docs say that a failover can lose: what the replica did not have, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_takes_what_the_replica_did_not_have_and_nothing_else() {
    if without_redis() || Sentinels::are_missing() {
        return;
    }
    let mut watched = Watched::start().await;
    let store = RedisStore::connect(watched.sentinels.url()).await.unwrap();
    let keys: Vec<_> = (0..16).map(|n| key(&n.to_string())).collect();
    let put = async |of: &[_], n: u64| {
        let puts = of.iter().map(|key| store.put(key, number(n), n.to_string().into(), HOUR));
        join_all(puts).await
    };
    for key in &keys {
        store.claim(key, None, FIRST, "1".into(), HOUR).await.unwrap();
    }
    assert!(put(&keys, 2).await.into_iter().all(|result| result.is_ok()));
    watched.replica_has_all().await;
    watched.between.freeze();
    let withheld = &keys[..8];
    assert!(put(withheld, 3).await.into_iter().all(|result| result.is_ok()), "acknowledged");
    watched.primary.kill();
    let began = Instant::now();
    for (n, key) in keys.iter().enumerate() {
        let record = until_ok(async || store.load(key).await).await.expect("it is there");
        assert_eq!(record.stamp, number(2), "{n}: what was withheld is lost, nothing else");
        assert_eq!(record.bytes, "2", "{n}");
    }
    println!("usable {:?} after the primary's end", began.elapsed());
    assert_eq!(store.losses(), 0, "it is not everything");
    // The owners live, so they put again, which heals what was lost.
    assert!(put(&keys, 4).await.into_iter().all(|result| result.is_ok()));
    // The old one comes back, and takes itself for the primary for a while. No one goes to it.
    watched.primary.restart();
    assert!(watched.primary.command("INFO replication").contains("role:master"));
    let other = RedisStore::connect(watched.sentinels.url()).await.unwrap();
    for key in &keys {
        assert_eq!(text_of(&other, key).await.as_deref(), Some("4"));
    }
    let (one, own) = (&keys[0], watched.replica.address().to_string());
    assert!(put(&keys[..1], 5).await.into_iter().all(|result| result.is_ok()), "at {own}");
    assert_eq!(text_of(&other, one).await.as_deref(), Some("5"));
}

/// With `WAIT` nothing that was acknowledged is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_takes_nothing_that_a_replica_had_to_have() {
    if without_redis() || Sentinels::are_missing() {
        return;
    }
    let mut watched = Watched::start().await;
    let builder = RedisStore::builder(watched.sentinels.url()).with_replicas(1);
    let store = builder.with_timeout(Duration::from_secs(2)).connect().await.unwrap();
    let load = load_of(&store, 16).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    watched.between.freeze();
    tokio::time::sleep(Duration::from_millis(300)).await;
    watched.primary.kill();
    // The new primary wants a replica of its own before anything is acknowledged.
    let port = watched.replica.address().port().to_string();
    until_ok(async || {
        let said = watched.replica.command("INFO replication");
        if said.contains("role:master") { Ok(()) } else { Err(ErrorKind::Unavailable.into()) }
    })
    .await;
    let follows = ["--replicaof", "127.0.0.1", &port];
    let _second = Engine::with(Flavour::Redis, &[&follows[..], &AT_ONCE].concat());
    until_ok(async || store.claim(&key("after"), None, FIRST, "x".into(), HOUR).await).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    load.nothing_is_lost(&store).await;
    assert_eq!(store.losses(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_names_that_are_wrong_are_said_to_be() {
    if without_redis() || Sentinels::are_missing() {
        return;
    }
    let primary = Engine::start();
    let sentinels = Sentinels::start(&primary, 0);
    let url = sentinels.url();
    let with = |login: &str| url.replacen("://", &format!("://{login}@"), 1);
    RedisStore::connect(&url).await.unwrap();

    let error = refused(&url.replace("/mymaster", "/other")).await;
    assert_eq!(error.kind(), ConnectErrorKind::WrongEngine, "{error}");
    assert!(error.to_string().contains("does not know other"), "{error}");

    // A database, and the password of the servers; the Sentinels have none.
    primary.command("CONFIG SET requirepass hunter2");
    let right = with(":hunter2");
    let store = RedisStore::connect(format!("{right}/3")).await.unwrap();
    store.claim(&key("one"), None, FIRST, "x".into(), HOUR).await.unwrap();
    assert!(primary.command_as("AUTH hunter2", "INFO keyspace").contains("db3:keys=3"));
    assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");
    let error = refused(&with(":hunter21")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Denied, "{error}");
    assert!(error.to_string().contains(&primary.address().to_string()), "{error}");

    // Sentinels with a password.
    for number in 0..3 {
        assert_eq!(sentinels.one(number).command("ACL SETUSER default resetpass >hunter22"), "+OK");
    }
    let error = refused(&right).await;
    assert_eq!(error.kind(), ConnectErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("Sentinel 127.0.0.1:"), "{error}");
    let builder = RedisStore::builder(&right).with_sentinel_login(None, "hunter22");
    assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
    builder.connect().await.unwrap();

    // One of three is enough to find it, none is not.
    let mut all = sentinels;
    all.kill(0);
    all.kill(1);
    let builder = RedisStore::builder(&right).with_sentinel_login(None, "hunter22");
    builder.connect().await.unwrap();
    all.kill(2);
    let error = refused(&right).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
}

/// A Sentinel that says nothing delays no dial beyond its part of the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_sentinels_are_not_waited_for() {
    if without_redis() || Sentinels::are_missing() {
        return;
    }
    let primary = Engine::start();
    let sentinels = Sentinels::start(&primary, 0);
    sentinels.one(0).stop();
    sentinels.one(1).stop();
    let store = RedisStore::connect(sentinels.url()).await.unwrap();
    store.claim(&key("one"), None, FIRST, "x".into(), HOUR).await.unwrap();
    let stale = Stamp::first(8, 1);
    assert_eq!(kind(store.put(&key("one"), stale, "".into(), HOUR).await), ErrorKind::Stale);
}
