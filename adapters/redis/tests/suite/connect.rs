//! Which engines a store connects to, and what it says of the others.

use std::{io::Write as _, net::TcpListener, time::Instant};

use session_resume::store::{ErrorKind, SnapshotStore as _};
use session_resume_engine::{Engine, Flavour, without_redis};
use session_resume_redis::{ConnectErrorKind, RedisStore};
use tokio::net::TcpSocket;

use crate::support::{FIRST, HOUR, SHORT, key, kind, refused, text_of};

#[tokio::test]
async fn an_engine_that_is_not_there_is_named_in_one_line() {
    // The place is taken, so that nobody else listens there meanwhile.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = nobody.local_addr().unwrap().port();
    let error = refused(&format!("redis://user:hunter2@127.0.0.1:{port}")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn one_that_says_nothing_is_not_waited_for_beyond_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let error = refused(&format!("redis://:hunter2@{}", silent.local_addr().unwrap())).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable);
    assert!(error.to_string().contains("no answer"), "{error}");
    assert!(began.elapsed() < 4 * SHORT);
}

#[tokio::test]
async fn another_kind_of_server_is_said_to_be_one() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in other.incoming() {
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = client.and_then(|mut client| client.write_all(answer));
        }
    });
    let error = refused(&format!("redis://:hunter2@{address}")).await;
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_url_that_is_none_is_not_quoted() {
    for url in ["hunter2", "http://:hunter2@host", "redis://:hunter2@host:port", "redis://h/x", ""]
    {
        let error = refused(url).await;
        assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{url}: {error}");
    }
    #[cfg(not(feature = "tls"))]
    assert!(refused("rediss://:hunter2@host").await.to_string().contains("feature tls"));
    #[cfg(not(feature = "sentinel"))]
    {
        let error = refused("redis-sentinel://:hunter2@host/mymaster").await;
        assert!(error.to_string().contains("feature sentinel"), "{error}");
    }
    #[cfg(not(feature = "cluster"))]
    {
        let error = refused("redis-cluster://:hunter2@host").await;
        assert!(error.to_string().contains("feature cluster"), "{error}");
    }
    let braces = RedisStore::builder("redis://host").with_prefix("{a}").connect().await;
    assert_eq!(braces.unwrap_err().kind(), ConnectErrorKind::Invalid);
}

#[tokio::test]
async fn users_and_passwords() {
    if without_redis() {
        return;
    }
    let engine = Engine::with(Flavour::Redis, &["--requirepass", "hunter2"]);
    // What the crate's docs say that a user needs.
    let rights = "on >hunter22 ~sr:* resetchannels -@all +hello +select +script|load +eval \
                  +evalsha +get +set +getrange +strlen +pttl +pexpire +del +wait +info +config|get";
    let set = engine.command_as("AUTH hunter2", &format!("ACL SETUSER resume {rights}"));
    assert_eq!(set, "+OK");
    let address = engine.address();
    for login in ["", ":hunter21@", "resume:hunter2@", "nobody:hunter2@"] {
        let error = refused(&format!("redis://{login}{address}")).await;
        assert_eq!(error.kind(), ConnectErrorKind::Denied, "{login}: {error}");
    }
    for login in [":hunter2@", "default:hunter2@", "resume:hunter22@"] {
        let store = RedisStore::connect(format!("redis://{login}{address}")).await.unwrap();
        let key = key(login);
        store.claim(&key, None, FIRST, "x".into(), HOUR).await.unwrap();
        store.put(&key, FIRST.next(), "y".into(), HOUR).await.unwrap();
        store.touch(&key, FIRST.next(), HOUR).await.unwrap();
        assert_eq!(text_of(&store, &key).await.as_deref(), Some("y"));
        store.remove(&key, FIRST.next()).await.unwrap();
        assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");
    }
    let builder = RedisStore::builder(format!("redis://:hunter2@{address}"));
    assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
    // One that may do nothing is told so.
    engine.command_as("AUTH hunter2", "ACL SETUSER weak on >hunter23 ~* -@all +hello");
    let error = refused(&format!("redis://weak:hunter23@{address}")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Denied, "{error}");
    // And one that may not look at the configuration is not asked to.
    engine.command_as("AUTH hunter2", "ACL SETUSER resume -config|get -info");
    RedisStore::connect(format!("redis://resume:hunter22@{address}")).await.unwrap();
}

#[tokio::test]
async fn an_engine_that_loses_or_stops_sessions_is_refused() {
    if without_redis() {
        return;
    }
    let engine = Engine::with(Flavour::Redis, &["--maxmemory-policy", "allkeys-lru"]);
    let error = refused(&engine.url()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Configuration);
    assert!(error.to_string().contains("allkeys-lru"), "{error}");
    assert!(error.to_string().contains(&engine.address().to_string()), "{error}");
    engine.command("CONFIG SET maxmemory-policy noeviction");
    RedisStore::connect(engine.url()).await.unwrap();
    engine.command("CONFIG SET save \"3600 1\"");
    let error = refused(&engine.url()).await;
    assert!(error.to_string().contains("stop-writes-on-bgsave-error"), "{error}");
    RedisStore::builder(engine.url()).assume_configured().connect().await.unwrap();
    engine.command("CONFIG SET stop-writes-on-bgsave-error no");
    RedisStore::connect(engine.url()).await.unwrap();
}

#[tokio::test]
async fn a_replica_is_refused() {
    if without_redis() {
        return;
    }
    let primary = Engine::start();
    let port = primary.address().port().to_string();
    let replica = Engine::with(Flavour::Redis, &["--replicaof", "127.0.0.1", &port]);
    let error = refused(&replica.url()).await;
    assert_eq!(error.kind(), ConnectErrorKind::WrongEngine, "{error}");
    assert!(error.to_string().contains("READONLY"), "{error}");
}

#[tokio::test]
async fn databases_and_prefixes_are_apart() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let first = RedisStore::connect(engine.url()).await.unwrap();
    let second = RedisStore::connect(format!("{}/1", engine.url())).await.unwrap();
    let third = RedisStore::builder(engine.url()).with_prefix("other").connect().await.unwrap();
    let key = key("one");
    for (store, text) in [(&first, "first"), (&second, "second"), (&third, "third")] {
        store.claim(&key, None, FIRST, text.into(), HOUR).await.unwrap();
    }
    for (store, text) in [(&first, "first"), (&second, "second"), (&third, "third")] {
        assert_eq!(text_of(store, &key).await.as_deref(), Some(text));
    }
    let same = RedisStore::connect(engine.url()).await.unwrap();
    assert_eq!(text_of(&same, &key).await.as_deref(), Some("first"));
    let identities = [&first, &second, &third, &same].map(|store| store.identity_key().unwrap());
    assert_eq!(identities[0], identities[3], "processes that share sessions share the key");
    assert!(identities[0] != identities[1] && identities[0] != identities[2]);
}

#[tokio::test]
async fn what_is_no_record_is_corrupt_for_its_key_alone() {
    if without_redis() {
        return;
    }
    let engine = Engine::start();
    let store = RedisStore::connect(engine.url()).await.unwrap();
    let bad = key("bad");
    store.claim(&bad, None, FIRST, "x".into(), HOUR).await.unwrap();
    let names = engine.command("KEYS sr:{live:*}");
    let name = names.lines().find(|line| line.starts_with("sr:")).unwrap().trim().to_owned();
    let check = async |damage: String, expected: ErrorKind| {
        engine.command(&format!("DEL {name}"));
        engine.command(&damage);
        assert_eq!(kind(store.load(&bad).await), expected, "{damage}");
        let put = store.put(&bad, FIRST.next(), "y".into(), HOUR).await;
        assert_eq!(kind(put), expected, "{damage}");
        let claim = store.claim(&bad, Some(FIRST), FIRST.taken_by(2), "z".into(), HOUR).await;
        assert_eq!(kind(claim), expected, "{damage}");
        let claim = store.claim(&bad, None, FIRST, "z".into(), HOUR).await;
        assert_eq!(kind(claim), expected, "{damage}");
        assert_eq!(kind(store.touch(&bad, FIRST, HOUR).await), expected, "{damage}");
        assert_eq!(kind(store.remove(&bad, FIRST).await), expected, "{damage}");
        let good = key(&damage);
        store.claim(&good, None, FIRST, "good".into(), HOUR).await.unwrap();
        assert_eq!(text_of(&store, &good).await.as_deref(), Some("good"));
    };
    check(format!("RPUSH {name} a"), ErrorKind::Corrupt).await;
    check(format!("SET {name} short"), ErrorKind::Corrupt).await;
    check(format!("SET {name} {}", "n".repeat(60)), ErrorKind::TooNew).await;
    // A record whose expiry was removed by hand can be read.
    engine.command(&format!("DEL {name}"));
    store.claim(&bad, None, FIRST, "x".into(), HOUR).await.unwrap();
    engine.command(&format!("PERSIST {name}"));
    assert!(store.load(&bad).await.unwrap().unwrap().expires_in > 1000 * HOUR);
}
