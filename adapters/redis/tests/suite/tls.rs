//! Servers that are reached by TLS, with certificates that the tests make.

use session_resume::store::SnapshotStore as _;
#[cfg(feature = "cluster")]
use session_resume_engine::Cluster;
#[cfg(feature = "sentinel")]
use session_resume_engine::Sentinels;
use session_resume_engine::{Certificates, Engine, Flavour, without_openssl, without_redis};
use session_resume_redis::{Builder, ConnectErrorKind, RedisStore};

#[cfg(feature = "cluster")]
use crate::cluster::slots;
#[cfg(feature = "sentinel")]
use crate::faults::AT_ONCE;
use crate::support::{FIRST, HOUR, key, refused_by, text_of, until_ok};

/// A server that has the certificate, and the URL by which it is reached.
fn server(certificates: &Certificates, arguments: &[&str]) -> (Engine, String) {
    let own = certificates.arguments();
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    let engine = Engine::with(Flavour::Redis, &[&own, arguments].concat());
    let url = format!("rediss://:hunter2@{}", engine.tls_address());
    (engine, url)
}

fn trusting(certificates: &Certificates, url: &str, authority: &str) -> Builder {
    RedisStore::builder(url).with_root_certificates(certificates.read(authority))
}

/// With a certificate of its own.
fn showing(certificates: &Certificates, builder: Builder) -> Builder {
    let [own, key] = ["client.pem", "client.key"].map(|name| certificates.read(name));
    builder.with_client_certificate(own, key)
}

const PASSWORD: [&str; 2] = ["--requirepass", "hunter2"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_believed_whose_authority_is_trusted_and_no_other() {
    if without_redis() || without_openssl() {
        return;
    }
    let certificates = Certificates::make();
    let arguments =
        [&PASSWORD[..], &["--tls-auth-clients", "no"], &["--appendonly", "yes"]].concat();
    let (mut engine, url) = server(&certificates, &arguments);
    let store = trusting(&certificates, &url, "ours.pem").connect().await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "x".into(), HOUR).await.unwrap();
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("x"));
    // Also when it is dialled again.
    engine.restart();
    until_ok(async || store.put(&key, FIRST.next(), "y".into(), HOUR).await).await;

    let error = refused_by(trusting(&certificates, &url, "another.pem")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:") && text.contains("certificate"), "{text}");
    // What the system trusts does not include it.
    let text = refused_by(RedisStore::builder(&url)).await.to_string();
    assert!(text.contains("certificate"), "{text}");
    // One that was given to another host.
    let elsewhere = url.replace("127.0.0.1", "127.0.0.2");
    let text = refused_by(trusting(&certificates, &elsewhere, "ours.pem")).await.to_string();
    assert!(text.contains("127.0.0.2:"), "{text}");
    // A wrong password, by TLS.
    let error =
        refused_by(trusting(&certificates, &url.replace("hunter2", "hunter21"), "ours.pem"));
    assert_eq!(error.await.kind(), ConnectErrorKind::Denied);
    // Plain text to the port for TLS, and TLS to the other one.
    let error = refused_by(RedisStore::builder(url.replace("rediss", "redis"))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    let plain = format!("rediss://:hunter2@{}", engine.address());
    let error = refused_by(trusting(&certificates, &plain, "ours.pem")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    // Certificates that are none, or for nothing.
    let error = refused_by(RedisStore::builder(&url).with_root_certificates("hunter2")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{error}");
    let error = refused_by(trusting(&certificates, "redis://127.0.0.1", "ours.pem")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_certificates_of_its_clients() {
    if without_redis() || without_openssl() {
        return;
    }
    let certificates = Certificates::make();
    let (_engine, url) = server(&certificates, &PASSWORD);
    let builder = || trusting(&certificates, &url, "ours.pem");
    let error = refused_by(builder()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    let with = showing(&certificates, builder());
    assert!(!format!("{with:?}").contains("PRIVATE"), "{with:?}");
    with.connect().await.unwrap();
    let error =
        refused_by(builder().with_client_certificate(certificates.read("client.pem"), "hunter2"))
            .await;
    assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{error}");
}

/// The Sentinels, the primary that they name, and the one that takes its place.
#[cfg(feature = "sentinel")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_the_primaries_that_they_name_are_reached_by_tls() {
    if without_redis() || without_openssl() || Sentinels::are_missing() {
        return;
    }
    let certificates = Certificates::make();
    let own = certificates.arguments();
    let own: Vec<_> = own.iter().map(String::as_str).collect();
    let with_tls = [&own[..], &["--tls-replication", "yes"], &AT_ONCE].concat();
    let mut primary = Engine::with(Flavour::Redis, &with_tls);
    let port = primary.tls_address().port().to_string();
    let follows = ["--replicaof", "127.0.0.1", &port];
    let replica = Engine::with(Flavour::Redis, &[&with_tls[..], &follows].concat());
    let sentinels = Sentinels::with_tls(&primary, 1, &certificates);
    let url = sentinels.url();

    // Each Sentinel wants a certificate, and has one that only those believe who trust its authority.
    for (authority, shows) in [("another.pem", true), ("ours.pem", false)] {
        let builder = trusting(&certificates, &url, authority);
        let builder = if shows { showing(&certificates, builder) } else { builder };
        let error = refused_by(builder).await;
        assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
        assert!(error.to_string().contains("Sentinel 127.0.0.1:"), "{error}");
    }
    let error = refused_by(RedisStore::builder(url.replace("rediss", "redis"))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");

    let builder = showing(&certificates, trusting(&certificates, &url, "ours.pem"));
    let store = builder.with_replicas(1).connect().await.unwrap();
    let key = key("one");
    until_ok(async || store.claim(&key, None, FIRST, "x".into(), HOUR).await).await;
    let builder = showing(&certificates, trusting(&certificates, &url, "ours.pem"));
    let store = builder.connect().await.unwrap();
    primary.kill();
    until_ok(async || store.put(&key, FIRST.next(), "y".into(), HOUR).await).await;
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("y"));
    assert!(replica.command("INFO replication").contains("role:master"));
}

/// The nodes that the URL names, and those that they name when a slot has moved.
#[cfg(feature = "cluster")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_of_a_cluster_are_reached_by_tls() {
    if without_redis() || without_openssl() {
        return;
    }
    let certificates = Certificates::make();
    let cluster = Cluster::with_tls(Flavour::Redis, &certificates).await;
    for (authority, shows) in [("another.pem", true), ("ours.pem", false)] {
        let builder = trusting(&certificates, &cluster.url(), authority);
        let builder = if shows { showing(&certificates, builder) } else { builder };
        let error = refused_by(builder).await;
        assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    }
    let error = refused_by(RedisStore::builder(cluster.url().replace("rediss", "redis"))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");

    // It knows one of them, and is told of the others.
    let first = format!("rediss-cluster://{}", cluster.proxies[0].address());
    let builder = showing(&certificates, trusting(&certificates, &first, "ours.pem"));
    let store = builder.connect().await.unwrap();
    let keys: Vec<_> = (0..12).map(|n| key(&n.to_string())).collect();
    for key in &keys {
        store.claim(key, None, FIRST, "x".into(), HOUR).await.unwrap();
        assert_eq!(text_of(&store, key).await.as_deref(), Some("x"));
    }
    let slots = slots(&cluster);
    assert!((0..3).all(|node| slots.iter().any(|&(_, owner)| owner == node)), "{slots:?}");
    let (slot, owner) = slots[0];
    let other = (owner + 1) % 3;
    cluster.begin_to_move(slot, owner, other);
    cluster.move_keys(slot, owner, other);
    cluster.end_move(slot, owner, other);
    let moved = cluster.errors("MOVED");
    for key in &keys {
        store.put(key, FIRST.next(), "y".into(), HOUR).await.unwrap();
        assert_eq!(text_of(&store, key).await.as_deref(), Some("y"));
    }
    // More than once if the third node, which it asks for the slots, has not heard of the move yet.
    assert!(cluster.errors("MOVED") > moved, "the store was sent on to the other node");
}
