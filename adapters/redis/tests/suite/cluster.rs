//! A cluster of three primaries, whose slots move and whose nodes fail.

use std::{pin::Pin, time::Duration};

use futures_util::future::join_all;
use session_resume::store::{
    ErrorKind, SnapshotStore as _,
    contract::{self, Call, Late, Wire},
};
use session_resume_engine::{Cluster, Engine, Flavour, without_redis};
use session_resume_redis::{ConnectErrorKind, RedisStore};
use session_resume_testkit::tcp::Proxy;

use crate::support::{
    FIRST, HOUR, SHORT, key, kind, load_that_makes_anew, number, refused, text_of, until_ok,
};

/// What is between a store and the nodes.
struct Disturbed(Cluster);

impl Wire for Disturbed {
    // What is returned is a future for later.
    #[allow(clippy::async_yields_async)]
    fn hold<'a>(&'a self, call: Call<'a>) -> Pin<Box<dyn Future<Output = Late<'a>> + Send + 'a>> {
        Box::pin(async move {
            let proxies = &self.0.proxies;
            for proxy in proxies {
                proxy.hold();
            }
            let cut = async {
                let held = proxies.iter().map(|proxy| Box::pin(proxy.held()));
                futures_util::future::select_all(held).await;
                proxies.iter().map(Proxy::cut_held).collect::<Vec<_>>()
            };
            let (told, late) = futures_util::future::join(call, cut).await;
            assert!(told.is_err(), "its connection was lost, and it is told that it has happened");
            Box::pin(async {
                for late in late {
                    late.arrive().await;
                }
            }) as Late<'a>
        })
    }
}

async fn check(flavour: Flavour) {
    let wire = Disturbed(Cluster::start(flavour, 0).await);
    let store = RedisStore::connect(wire.0.url()).await.unwrap();
    contract::check_over(&store, &wire).await;
    let url = wire.0.url();
    contract::check_reopen(async || RedisStore::connect(&url).await.unwrap()).await;
    assert_eq!(store.losses(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_cluster_of_redis() {
    if without_redis() {
        return;
    }
    check(Flavour::Redis).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_cluster_of_valkey() {
    if !Flavour::Valkey.is_there() {
        eprintln!("left out: VALKEY_SERVER names no server");
        return;
    }
    check(Flavour::Valkey).await;
}

/// The slots of the records that are there, with their present node.
pub(crate) fn slots(cluster: &Cluster) -> Vec<(u16, usize)> {
    let of = |node| {
        let names = cluster.node(node).command("KEYS sr:{live:*");
        let names: Vec<_> =
            names.lines().filter(|it| it.starts_with("sr:")).map(str::to_owned).collect();
        names.into_iter().map(move |name| (cluster.slot(&name), node))
    };
    (0..3).flat_map(of).collect()
}

/// Nobody notices: each call is executed, once, and answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_under_load_cost_no_call() {
    if without_redis() {
        return;
    }
    let cluster = Cluster::start(Flavour::Redis, 0).await;
    let store = RedisStore::connect(cluster.url()).await.unwrap();
    let load = load_that_makes_anew(&store, 64).await;
    let (moved, asked) = (cluster.errors("MOVED"), cluster.errors("ASK"));
    let pause = || std::thread::sleep(Duration::from_millis(20));
    tokio::task::block_in_place(|| {
        for (slot, from) in slots(&cluster).into_iter().step_by(4) {
            let to = (from + 1) % 3;
            cluster.begin_to_move(slot, from, to);
            pause();
            cluster.move_keys(slot, from, to);
            pause();
            // Those that were made anew meanwhile are there already.
            cluster.end_move(slot, from, to);
        }
        pause();
    });
    let failed = load.nothing_is_lost(&store).await;
    assert_eq!(failed, 0, "no call has failed");
    assert!(cluster.errors("MOVED") > moved, "a slot has moved under a call");
    assert!(cluster.errors("ASK") > asked, "a call was sent on to ask");
    assert_eq!(store.losses(), 0);
    // A store that starts now finds all of it where it is.
    let other = RedisStore::connect(cluster.url()).await.unwrap();
    assert_eq!(other.identity_key(), store.identity_key());
    let moved = cluster.errors("MOVED");
    for n in 0..64 {
        assert!(other.load(&key(&format!("load {n}"))).await.unwrap().is_some(), "{n}");
    }
    assert_eq!(cluster.errors("MOVED"), moved, "it knows where");
}

/// A record that is made while its slot moves is made at the new node, and found there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compare_and_set_in_a_slot_that_moves_happens_once() {
    if without_redis() {
        return;
    }
    let cluster = Cluster::start(Flavour::Redis, 0).await;
    let store = RedisStore::connect(cluster.url()).await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "1".into(), HOUR).await.unwrap();
    let (slot, from) = slots(&cluster)[0];
    let to = (from + 1) % 3;
    cluster.begin_to_move(slot, from, to);
    // The key is still there: no one is asked to go on.
    let taken = FIRST.taken_by(2);
    store.claim(&key, Some(FIRST), taken, "2".into(), HOUR).await.unwrap();
    assert_eq!(cluster.errors("ASK"), 0);
    cluster.move_keys(slot, from, to);
    let again = store.claim(&key, Some(FIRST), FIRST.taken_by(3), "3".into(), HOUR).await;
    assert_eq!(kind(again), ErrorKind::Stale, "it was claimed already");
    store.put(&key, taken.next(), "4".into(), HOUR).await.unwrap();
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("4"));
    store.remove(&key, taken.next().next()).await.unwrap();
    assert_eq!(text_of(&store, &key).await, None);
    store.claim(&key, None, FIRST, "5".into(), HOUR).await.unwrap();
    assert_eq!(kind(store.claim(&key, None, taken, "6".into(), HOUR).await), ErrorKind::Stale);
    assert!(cluster.errors("ASK") >= 6, "{}", cluster.errors("ASK"));
    // What is not there is told as that, not as a loss.
    store.remove(&key, FIRST.next()).await.unwrap();
    let put = store.put(&key, FIRST.next().next(), "7".into(), HOUR).await;
    assert_eq!(kind(put), ErrorKind::NotFound);
    assert_eq!(store.losses(), 0);
    cluster.end_move(slot, from, to);
    let moved = cluster.errors("MOVED");
    store.claim(&key, None, FIRST, "8".into(), HOUR).await.unwrap();
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("8"));
    assert_eq!(cluster.errors("MOVED"), moved + 1, "it is told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_name_each_other_are_not_believed_for_ever() {
    if without_redis() {
        return;
    }
    let cluster = Cluster::start(Flavour::Redis, 0).await;
    let store = RedisStore::connect(cluster.url()).await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "1".into(), HOUR).await.unwrap();
    let (slot, owner) = slots(&cluster)[0];
    let others = [(owner + 1) % 3, (owner + 2) % 3];
    // A slot with keys is not given away.
    store.remove(&key, FIRST.next()).await.unwrap();
    let say = |to: usize, whose: usize| cluster.say_owner(to, slot, whose);
    say(owner, others[0]);
    say(others[0], owner);
    let before = cluster.errors("MOVED");
    let claim = store.claim(&key, None, FIRST, "2".into(), HOUR).await;
    let error = claim.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(format!("{error:?}").contains("another one"), "{error:?}");
    let redirects = cluster.errors("MOVED") - before;
    assert!((2..=9).contains(&redirects), "{redirects}");
    say(owner, owner);
    say(others[0], owner);
    until_ok(async || store.claim(&key, None, FIRST, "3".into(), HOUR).await).await;
}

/// A lost answer is not a redirect: the call is not sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_answer_is_lost_is_not_sent_again() {
    if without_redis() {
        return;
    }
    let cluster = Cluster::start(Flavour::Redis, 0).await;
    let builder = RedisStore::builder(cluster.url()).with_timeout(SHORT);
    let store = builder.connect().await.unwrap();
    let keys: Vec<_> = (0..12).map(|n| key(&n.to_string())).collect();
    for key in &keys {
        store.claim(key, None, FIRST, "1".into(), HOUR).await.unwrap();
    }
    (0..3).for_each(|node| drop(cluster.node(node).command("CONFIG RESETSTAT")));
    for proxy in &cluster.proxies {
        proxy.swallow();
    }
    let put = |key| store.put(key, number(2), "2".into(), HOUR);
    for result in join_all(keys.iter().map(put)).await {
        assert_eq!(kind(result), ErrorKind::Unavailable);
    }
    let calls = |node: usize| -> usize {
        let stats = cluster.node(node).command("INFO commandstats");
        let calls = stats.split("cmdstat_evalsha:calls=").nth(1);
        calls.map_or(0, |it| it.split(',').next().unwrap().parse().unwrap())
    };
    let happened: usize = (0..3).map(calls).sum();
    // A call that waited behind one without an answer was never sent.
    assert!(happened > 0);
    let mut changed = 0;
    for key in &keys {
        // Loads had a connection before, too. It gives no answer, and is replaced.
        let record = until_ok(async || store.load(key).await).await;
        changed += usize::from(record.is_some_and(|record| record.bytes == "2"));
    }
    assert_eq!(happened, changed, "each has happened once, and nobody was told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stands_still_or_dies_stops_no_other() {
    if without_redis() {
        return;
    }
    let mut cluster = Cluster::start(Flavour::Redis, 0).await;
    let builder = RedisStore::builder(cluster.url()).with_timeout(SHORT);
    let store = builder.connect().await.unwrap();
    let keys: Vec<_> = (0..24).map(|n| key(&n.to_string())).collect();
    for key in &keys {
        store.claim(key, None, FIRST, "1".into(), HOUR).await.unwrap();
    }
    let put_all = async |n: u64| {
        let puts = keys.iter().map(|key| store.put(key, number(n), n.to_string().into(), HOUR));
        join_all(puts).await
    };
    cluster.node(2).stop();
    let results = put_all(2).await;
    let failed: Vec<_> = (0..keys.len()).filter(|&at| results[at].is_err()).collect();
    assert!(!failed.is_empty() && failed.len() < keys.len(), "{failed:?}");
    for result in results.into_iter().filter(Result::is_err) {
        assert_eq!(kind(result), ErrorKind::Unavailable);
    }
    cluster.node(2).go_on();
    for (at, key) in keys.iter().enumerate() {
        until_ok(async || store.put(key, number(3), "3".into(), HOUR).await).await;
        assert_eq!(text_of(&store, key).await.as_deref(), Some("3"), "{at}");
    }
    // It comes back with what it has acknowledged.
    cluster.restart(2);
    for key in &keys {
        let record = until_ok(async || store.load(key).await).await;
        assert_eq!(record.unwrap().bytes, "3");
    }
    assert_eq!(store.losses(), 0);
    // And once with nothing: that is noticed.
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.node(2).folder().join("appendonlydir")).unwrap();
    cluster.restart(2);
    let mut lost = 0;
    for (at, key) in keys.iter().enumerate() {
        let record = until_ok(async || store.load(key).await).await;
        lost += usize::from(record.is_none());
        assert_eq!(record.is_none(), failed.contains(&at), "{at}: what was at the node");
    }
    assert_eq!((lost, store.losses()), (failed.len(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_takes_the_place_of_its_primary_is_found() {
    if without_redis() {
        return;
    }
    let mut cluster = Cluster::start(Flavour::Redis, 1).await;
    let builder = RedisStore::builder(cluster.url()).with_timeout(Duration::from_secs(30));
    let store = builder.connect().await.unwrap();
    let keys: Vec<_> = (0..24).map(|n| key(&n.to_string())).collect();
    for key in &keys {
        store.claim(key, None, FIRST, "1".into(), HOUR).await.unwrap();
    }
    let offset = |node: usize, name: &str| {
        let said = cluster.node(node).command("INFO replication");
        said.lines().find_map(|line| line.strip_prefix(name)).map(|it| it.trim().to_owned())
    };
    until_ok(async || {
        let (has, all) = (offset(3, "slave_repl_offset:"), offset(0, "master_repl_offset:"));
        if has == all { Ok(()) } else { Err(ErrorKind::Unavailable.into()) }
    })
    .await;
    cluster.kill(0);
    let began = std::time::Instant::now();
    // The store knows that its connections are gone. Calls wait for the replica.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for key in &keys {
        store.put(key, number(2), "2".into(), HOUR).await.unwrap();
        assert_eq!(text_of(&store, key).await.as_deref(), Some("2"));
    }
    println!("usable {:?} after the primary's end", began.elapsed());
    assert_eq!(store.losses(), 0);
    assert!(cluster.node(3).command("INFO replication").contains("role:master"));
    // The old one comes back as a replica; a store that starts with it alone finds the others.
    cluster.restart(0);
    until_ok(async || {
        let said = cluster.node(0).command("INFO replication");
        if said.contains("role:slave") { Ok(()) } else { Err(ErrorKind::Unavailable.into()) }
    })
    .await;
    let only = format!("redis-cluster://{}", cluster.proxies[0].address());
    let other = RedisStore::connect(only).await.unwrap();
    for key in &keys {
        assert_eq!(text_of(&other, key).await.as_deref(), Some("2"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_a_cluster_are_not_taken_for_each_other() {
    if without_redis() {
        return;
    }
    let cluster = Cluster::start(Flavour::Redis, 0).await;
    for node in 0..3 {
        let error = refused(&cluster.node(node).url()).await;
        assert_eq!(error.kind(), ConnectErrorKind::WrongEngine, "{error}");
        assert!(error.to_string().contains("redis-cluster://"), "{error}");
    }
    let alone = Engine::start();
    let error = refused(&format!("redis-cluster://:hunter2@{}", alone.address())).await;
    assert_eq!(error.kind(), ConnectErrorKind::WrongEngine, "{error}");
    assert!(error.to_string().contains("cluster support disabled"), "{error}");
    // Each node is looked at.
    cluster.node(1).command("CONFIG SET maxmemory-policy allkeys-lru");
    let error = refused(&cluster.url()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains(&cluster.proxies[1].address().to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_a_cluster_while_nothing_happens() {
    if without_redis() {
        return;
    }
    let cluster = Cluster::start(Flavour::Redis, 0).await;
    let store = RedisStore::connect(cluster.url()).await.unwrap();
    for n in 0..12 {
        store.claim(&key(&n.to_string()), None, FIRST, "x".into(), HOUR).await.unwrap();
    }
    (0..3).for_each(|node| drop(cluster.node(node).command("CONFIG RESETSTAT")));
    tokio::time::sleep(SHORT).await;
    for node in 0..3 {
        let stats = cluster.node(node).command("INFO commandstats");
        assert!(!stats.contains("eval") && !stats.contains("cluster|slots"), "{stats}");
    }
}
