use std::{fmt, sync::Arc, time::Duration};

use redis::{Client, ConnectionAddr, IntoConnectionInfo as _};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    check,
    connection::{Live, Target},
    error::{ConnectError, ConnectErrorKind, Failure, FailureKind},
    keys::Keys,
    lane::{Lane, Settings},
    store::RedisStore,
};

/// Connects a [`RedisStore`] in another way than the default.
#[derive(Clone)]
#[must_use]
pub struct Builder {
    url: String,
    prefix: String,
    timeout: Duration,
    replicas: u32,
    assume_configured: bool,
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
            assume_configured: false,
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
        self.assume_configured = true;
        self
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
        let has_tls = cfg!(feature = "tls");
        if !has_tls && ["rediss:", "valkeys:"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return Err(invalid("rediss:// needs the feature tls"));
        }
        // What the parser says might quote the URL.
        let info = self.url.as_str().into_connection_info().map_err(|_| {
            invalid("the URL is not of the form redis://user:password@host:port/database")
        })?;
        let address = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                if host.contains(':') {
                    format!("[{host}]:{port}")
                } else {
                    format!("{host}:{port}")
                }
            }
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => return Err(invalid("this kind of address is not supported")),
        };
        if !info.addr().is_supported() {
            return Err(invalid("this kind of address is not supported here"));
        }
        #[cfg(feature = "tls")]
        if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            // An error says that the application has installed its own.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client = Client::open(info).map_err(|error| invalid(&error.to_string()))?;
        let target = Target::new(&client, address, Keys::new(self.prefix.clone()));
        let target = Arc::new(target.map_err(|error| invalid(&error))?);
        let live = self.first(&target).await?;
        let identity_key = target.identity().expect("every connection begins with it");
        let settings = Settings { timeout: self.timeout, replicas: self.replicas };
        let calls = Lane::start(Arc::clone(&target), None, Settings { replicas: 0, ..settings });
        let writes = Lane::start(Arc::clone(&target), Some(live), settings);
        Ok(RedisStore::new(target, identity_key, self.replicas > 0, calls, writes))
    }

    /// The first connection, to an engine that has been looked at. One that still loads is waited for.
    async fn first(&self, target: &Target) -> Result<Live, ConnectError> {
        let until = Instant::now() + self.timeout;
        let mut reason = format!("no answer within {:?}", self.timeout);
        let attempts = async {
            loop {
                match target.dial().await {
                    Ok(mut live) => {
                        let looked = check::engine(&mut live, target, self).await;
                        return looked.map(|()| live);
                    }
                    Err(failure) if waits_for(&failure) => {
                        reason = failure.text;
                        sleep(Duration::from_millis(50)).await;
                    }
                    Err(failure) => return Err(refused(failure, &target.address)),
                }
            }
        };
        match timeout_at(until, attempts).await {
            Ok(done) => done,
            Err(_) => {
                Err(ConnectError::new(ConnectErrorKind::Unreachable, &target.address, reason))
            }
        }
    }

    pub(crate) fn assumes_configured(&self) -> bool {
        self.assume_configured
    }
}

fn waits_for(failure: &Failure) -> bool {
    failure.kind == FailureKind::NotNow && !failure.text.starts_with("READONLY")
}

pub(crate) fn refused(failure: Failure, address: &str) -> ConnectError {
    let kind = match failure.kind {
        FailureKind::Connection | FailureKind::Silence => ConnectErrorKind::Unreachable,
        FailureKind::Denied => ConnectErrorKind::Denied,
        FailureKind::Full
        | FailureKind::NotNow
        | FailureKind::Replicas
        | FailureKind::WrongType
        | FailureKind::NoScript
        | FailureKind::Strange => ConnectErrorKind::WrongEngine,
    };
    ConnectError::new(kind, address, failure.text)
}

// By hand: the URL has the password.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .field("replicas", &self.replicas)
            .field("assume_configured", &self.assume_configured)
            .finish_non_exhaustive()
    }
}
