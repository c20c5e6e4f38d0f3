use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

/// Whether tests with TLS are left out: `openssl` is missing, and `WITHOUT_OPENSSL` says that this is known.
///
/// # Panics
///
/// If `openssl` is missing and nothing says that this is known.
pub fn without_openssl() -> bool {
    let version = Command::new("openssl").arg("version").stdout(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return false;
    }
    let known = env::var_os("WITHOUT_OPENSSL").is_some_and(|value| !value.is_empty());
    assert!(
        known,
        "openssl is missing: install it, or set WITHOUT_OPENSSL=1 to leave these tests out"
    );
    eprintln!("left out: openssl is missing");
    true
}

/// Authorities, `ours` and `another`, and certificates of a server and a client that the first authority has signed.
#[derive(Debug)]
pub struct Certificates(TempDir);

impl Certificates {
    /// Makes all of them.
    ///
    /// # Panics
    ///
    /// If `openssl` does not make them.
    pub fn make() -> Self {
        let all = Self(tempfile::tempdir().expect("a temporary folder"));
        for authority in ["ours", "another"] {
            all.openssl(&format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} \
                 -keyout {authority}.key -out {authority}.pem"
            ));
        }
        for (name, subject) in [("server", "DNS:localhost,IP:127.0.0.1"), ("client", "DNS:client")]
        {
            let extensions = format!("subjectAltName={subject}");
            fs::write(all.path().join("extensions"), extensions).expect("a file");
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
        let made = openssl.args(words.split_whitespace()).current_dir(self.path()).output();
        let made = made.expect("openssl starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Reads one of the files, for example `ours.pem` or `client.key`.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).expect("a certificate or a key")
    }

    /// The arguments of a server that has the certificate, and wants one of each client. Servers that it goes to itself
    /// are shown the same one.
    pub fn arguments(&self) -> Vec<String> {
        let files = [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-cert-file", "ours.pem"),
        ];
        let file = |name: &str| self.path().join(name).display().to_string();
        files.into_iter().flat_map(|(what, name)| [what.to_owned(), file(name)]).collect()
    }
}
