use std::{fmt, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

#[cfg(feature = "sentinel")]
use crate::sentinel::Sentinels;
use crate::{
    address::{self, Kind},
    check::{self, Configuration, PAUSE},
    connection::Live,
    engine::Engine,
    error::{ConnectError, ConnectErrorKind},
    keys::Keys,
    lane::{Lane, Settings},
    store::{Lanes, RedisStore},
    target::{Place, Target},
};
#[cfg(feature = "cluster")]
use crate::{cluster::Cluster, nodes::Nodes};

/// Connects a [`RedisStore`] in another way than the default.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    url: String,
    prefix: String,
    timeout: Duration,
    replicas: u32,
    configuration: Configuration,
    #[cfg(feature = "sentinel")]
    sentinel_login: Option<(Option<String>, String)>,
    #[cfg(feature = "tls")]
    certificates: Option<redis::TlsCertificates>,
}

impl Builder {
    /// How long a call may take if nothing else is said: 5 s.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

    pub(crate) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: "sr".to_owned(),
            timeout: Self::DEFAULT_TIMEOUT,
            replicas: 0,
            configuration: Configuration::Checked,
            #[cfg(feature = "sentinel")]
            sentinel_login: None,
            #[cfg(feature = "tls")]
            certificates: None,
        }
    }

    /// Begins all names of keys with this, instead of `sr`.
    ///
    /// Processes that share sessions need the same prefix. Up to 64 bytes, without braces.
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        prefix.into().clone_into(&mut self.prefix);
        self
    }

    /// Sets how long a call may take, dialling included; 5 s by default, at least 10 ms.
    ///
    /// Keep it below `with_store_timeout` of the layer (10 s): then the text of the error says what the engine has said.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Holds each answer to a write back until this many replicas have the write, too; 0 by default.
    ///
    /// One `WAIT` for each group of writes. A write that too few replicas have in time fails, though the primary has
    /// it; it is tried again. What a failover can lose is in the [crate docs](crate#what-a-failover-can-lose).
    pub fn with_replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// Does not look at the engine's configuration: the operator has read what the [crate
    /// docs](crate#configure-the-engine) say about it.
    ///
    /// Managed engines often refuse `CONFIG`; then each start warns, unless this is said.
    pub fn assume_configured(mut self) -> Self {
        self.configuration = Configuration::Assumed;
        self
    }

    /// Logs in at the Sentinels, too; without this, nobody does. User and password of the URL are for the servers.
    #[cfg(feature = "sentinel")]
    pub fn with_sentinel_login(mut self, user: Option<&str>, password: &str) -> Self {
        self.sentinel_login = Some((user.map(str::to_owned), password.to_owned()));
        self
    }

    /// Trusts these certificates of authorities (PEM), and none of those that the system trusts.
    #[cfg(feature = "tls")]
    pub fn with_root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates().root_cert = Some(pem.into());
        self
    }

    /// Shows the servers this certificate (PEM, with those between it and its authority), whose key is also given as PEM.
    ///
    /// Redis wants one from each client unless it is told `tls-auth-clients no`.
    #[cfg(feature = "tls")]
    pub fn with_client_certificate(
        mut self,
        pem: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> Self {
        let (client_cert, client_key) = (pem.into(), key.into());
        self.certificates().client_tls = Some(redis::ClientTlsConfig { client_cert, client_key });
        self
    }

    #[cfg(feature = "tls")]
    fn certificates(&mut self) -> &mut redis::TlsCertificates {
        let none = redis::TlsCertificates { client_tls: None, root_cert: None };
        self.certificates.get_or_insert(none)
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// As [`RedisStore::connect`].
    ///
    /// # Panics
    ///
    /// As [`RedisStore::connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`RedisStore::connect`].
    pub async fn connect(self) -> Result<RedisStore, ConnectError> {
        let invalid = |reason: &str| ConnectError::new(ConnectErrorKind::Invalid, "", reason);
        if self.prefix.is_empty() || self.prefix.len() > 64 || self.prefix.contains(['{', '}']) {
            return Err(invalid("a prefix has 1 to 64 bytes and no braces"));
        }
        if self.timeout < Duration::from_millis(10) {
            return Err(invalid("the timeout is less than 10 ms"));
        }
        let (kind, login) = address::parse(&self.url).map_err(|error| invalid(&error))?;
        #[cfg(feature = "tls")]
        let login = self.with_tls(login).map_err(|error| invalid(&error))?;
        let place = login.place().map_err(|error| invalid(&error))?;
        let engine = |name: String| {
            let engine = Engine::new(name, Keys::new(self.prefix.clone()));
            engine.map(Arc::new).map_err(|error| invalid(&error))
        };
        let settings = self.settings();
        let target = match kind {
            Kind::One => {
                let client = login.client().map_err(|error| invalid(&error))?;
                Target::new(engine(place.clone())?, place, Place::One(client))
            }
            #[cfg(feature = "sentinel")]
            Kind::Sentinel { sentinels, primary } => {
                let (user, password) = match &self.sentinel_login {
                    Some((user, password)) => (user.as_deref(), Some(password.as_str())),
                    None => (None, None),
                };
                let name = format!("{primary} of Sentinel {}", address::list(&sentinels));
                let as_user = login.as_user(user, password);
                let found = Sentinels::new(&sentinels, primary, &as_user, login);
                let found = found.map_err(|error| invalid(&error))?;
                Target::new(engine(name.clone())?, name, Place::Sentinel(found))
            }
            #[cfg(feature = "cluster")]
            Kind::Cluster { seeds } => {
                let engine = engine(address::list(&seeds))?;
                let cluster = Cluster::new(seeds, login);
                let connected =
                    Nodes::connect(&engine, &cluster, self.configuration, settings).await;
                let lanes = connected?.map(Lanes::Nodes);
                let identity_key = engine.identity().expect("it was asked for");
                let store = RedisStore::new(engine, identity_key, self.replicas > 0, lanes);
                return store.with_identity_keys().await;
            }
        };
        let engine = Arc::clone(&target.engine);
        let target = Arc::new(target);
        let live = self.first(&target).await?;
        let identity_key = engine.identity().expect("every connection begins with it");
        let of_calls = Settings { replicas: 0, ..settings };
        let calls = Lanes::One(Lane::start(Arc::clone(&target), None, of_calls, None));
        let leases = Lanes::One(Lane::start(Arc::clone(&target), None, settings, None));
        let writes = Lanes::One(Lane::start(target, Some(live), settings, None));
        let lanes = [calls, writes, leases];
        let store = RedisStore::new(engine, identity_key, self.replicas > 0, lanes);
        store.with_identity_keys().await
    }

    #[cfg(feature = "tls")]
    fn with_tls(&self, mut login: address::Login) -> Result<address::Login, String> {
        if login.is_encrypted() {
            // An error says that the application has installed its own.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        if let Some(certificates) = &self.certificates {
            if !login.is_encrypted() {
                return Err("certificates are for a URL that begins with rediss".to_owned());
            }
            if certificates.root_cert.as_ref().is_some_and(|pem| !has_certificate(pem)) {
                return Err("there is no certificate in what the roots should be".to_owned());
            }
            login.set_certificates(certificates.clone());
        }
        Ok(login)
    }

    fn settings(&self) -> Settings {
        Settings { timeout: self.timeout, replicas: self.replicas }
    }

    /// The first connection, to an engine that has been looked at. One that still loads is waited for.
    async fn first(&self, target: &Target) -> Result<Live, ConnectError> {
        let until = Instant::now() + self.timeout;
        let mut reason = format!("no answer within {:?}", self.timeout);
        let attempts = async {
            loop {
                match target.dial(self.timeout).await {
                    Ok(mut live) => {
                        let looked = check::engine(&mut live, target, self.configuration).await;
                        return looked.map(|()| live);
                    }
                    Err(failure) if target.waits_for(&failure) => {
                        reason = failure.text;
                        sleep(PAUSE).await;
                    }
                    Err(failure) => return Err(ConnectError::of(failure, &target.name)),
                }
            }
        };
        match timeout_at(until, attempts).await {
            Ok(done) => done,
            Err(_) => Err(ConnectError::new(ConnectErrorKind::Unreachable, &target.name, reason)),
        }
    }
}

/// Without one, no server would be believed, and the error would not say why.
#[cfg(feature = "tls")]
fn has_certificate(pem: &[u8]) -> bool {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};

    CertificateDer::pem_slice_iter(pem).next().is_some_and(|found| found.is_ok())
}

impl RedisStore {
    /// Connects to the engine at a URL such as `redis://user:password@host:6379/0`, with the defaults of
    /// [`builder`](Self::builder).
    ///
    /// # Errors
    ///
    /// [`ConnectError`] names the host and the reason. It says so, too, when the engine is not configured to keep
    /// sessions; see the [crate docs](crate#configure-the-engine).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime. The store works as long as that one runs.
    ///
    /// # Cancel safety
    ///
    /// Nothing is left but, in the engine, the key that signs cookies.
    pub async fn connect(url: impl AsRef<str>) -> Result<Self, ConnectError> {
        Self::builder(url).connect().await
    }

    /// Returns what connects to the engine at this URL in another way than the default.
    ///
    /// | URL | what it names |
    /// | --- | --- |
    /// | `redis://user:password@host:6379/0` | one server, and a database of it |
    /// | `redis-sentinel://user:password@host:26379,host:26379/mymaster/0` | the primary that these Sentinels call `mymaster` (feature `sentinel`) |
    /// | `redis-cluster://user:password@host:6379,host:6379` | the cluster that these nodes are of (feature `cluster`) |
    /// | `redis+unix:///run/redis.sock` | a socket of one server |
    ///
    /// `rediss` instead of `redis` means TLS, to Sentinels and nodes, too (feature `tls`). `valkey` and `valkeys` mean the
    /// same as `redis` and `rediss`. User and password are those of the servers; Sentinels that want a login are given
    /// one by `with_sentinel_login`.
    pub fn builder(url: impl AsRef<str>) -> Builder {
        Builder::new(url.as_ref())
    }
}

// By hand: the URL has the password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("replicas", &self.replicas)
            .field("configuration", &self.configuration)
            .finish_non_exhaustive()
    }
}
