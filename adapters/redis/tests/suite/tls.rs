//! Servers that are reached by TLS, with certificates that the tests make.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use session_resume::store::SnapshotStore as _;
use session_resume_engine::{Engine, Flavour, without_redis};
use session_resume_redis::{Builder, ConnectErrorKind, RedisStore};
use tempfile::TempDir;

use crate::support::{FIRST, HOUR, key, refused_by, text_of, until_ok};

/// Whether tests with TLS are left out: `openssl` is missing, and `WITHOUT_OPENSSL` says that this is known.
fn without_openssl() -> bool {
    let version = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return false;
    }
    let known = std::env::var_os("WITHOUT_OPENSSL").is_some_and(|value| !value.is_empty());
    assert!(
        known,
        "openssl is missing: install it, or set WITHOUT_OPENSSL=1 to leave these tests out"
    );
    eprintln!("left out: openssl is missing");
    true
}

/// Authorities, and certificates of a server and a client that the first authority has signed.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let all = Self(tempfile::tempdir().unwrap());
        for authority in ["ours", "another"] {
            all.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem"
            ));
        }
        for (name, subject) in [("server", "DNS:localhost,IP:127.0.0.1"), ("client", "DNS:client")]
        {
            fs::write(all.path().join("extensions"), format!("subjectAltName={subject}")).unwrap();
            all.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key \
                 -out {name}.csr"
            ));
            all.openssl(&format!(
                "x509 -req -in {name}.csr -CA ours.pem -CAkey ours.key -CAcreateserial -days 2 \
                 -extfile extensions -out {name}.pem"
            ));
        }
        all
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn openssl(&self, words: &str) {
        let mut openssl = Command::new("openssl");
        let made =
            openssl.args(words.split_whitespace()).current_dir(self.path()).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    /// A server that has the certificate, and the URL by which it is reached.
    fn server(&self, arguments: &[&str]) -> (Engine, String) {
        let file = |name: &str| self.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (port, own, key, authority) =
            (port.to_string(), file("server.pem"), file("server.key"), file("ours.pem"));
        let with_tls = [
            ["--tls-port", &port],
            ["--tls-cert-file", &own],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &authority],
        ];
        let engine = Engine::with(Flavour::Redis, &[&with_tls.concat()[..], arguments].concat());
        (engine, format!("rediss://:hunter2@127.0.0.1:{port}"))
    }

    fn builder(&self, url: &str, authority: &str) -> Builder {
        RedisStore::builder(url).with_root_certificates(self.read(authority))
    }
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
    let (mut engine, url) = certificates.server(&arguments);
    let store = certificates.builder(&url, "ours.pem").connect().await.unwrap();
    let key = key("one");
    store.claim(&key, None, FIRST, "x".into(), HOUR).await.unwrap();
    assert_eq!(text_of(&store, &key).await.as_deref(), Some("x"));
    // Also when it is dialled again.
    engine.restart();
    until_ok(async || store.put(&key, FIRST.next(), "y".into(), HOUR).await).await;

    let error = refused_by(certificates.builder(&url, "another.pem")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    let text = error.to_string();
    assert!(text.contains("127.0.0.1:") && text.contains("certificate"), "{text}");
    // What the system trusts does not include it.
    let text = refused_by(RedisStore::builder(&url)).await.to_string();
    assert!(text.contains("certificate"), "{text}");
    // One that was given to another host.
    let elsewhere = url.replace("127.0.0.1", "127.0.0.2");
    let text = refused_by(certificates.builder(&elsewhere, "ours.pem")).await.to_string();
    assert!(text.contains("127.0.0.2:"), "{text}");
    // A wrong password, by TLS.
    let error = refused_by(certificates.builder(&url.replace("hunter2", "hunter21"), "ours.pem"));
    assert_eq!(error.await.kind(), ConnectErrorKind::Denied);
    // Plain text to the port for TLS, and TLS to the other one.
    let error = refused_by(RedisStore::builder(url.replace("rediss", "redis"))).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    let plain = format!("rediss://:hunter2@{}", engine.address());
    let error = refused_by(certificates.builder(&plain, "ours.pem")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    // Certificates that are none, or for nothing.
    let error = refused_by(RedisStore::builder(&url).with_root_certificates("hunter2")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{error}");
    let error = refused_by(certificates.builder("redis://127.0.0.1", "ours.pem")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_wants_certificates_of_its_clients() {
    if without_redis() || without_openssl() {
        return;
    }
    let certificates = Certificates::make();
    let (_engine, url) = certificates.server(&PASSWORD);
    let builder = || certificates.builder(&url, "ours.pem");
    let error = refused_by(builder()).await;
    assert_eq!(error.kind(), ConnectErrorKind::Unreachable, "{error}");
    let (own, key) = (certificates.read("client.pem"), certificates.read("client.key"));
    let with = builder().with_client_certificate(own.clone(), key);
    assert!(!format!("{with:?}").contains("PRIVATE"), "{with:?}");
    with.connect().await.unwrap();
    let error = refused_by(builder().with_client_certificate(own, "hunter2")).await;
    assert_eq!(error.kind(), ConnectErrorKind::Invalid, "{error}");
}
