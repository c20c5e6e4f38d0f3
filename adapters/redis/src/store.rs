use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use redis::Value;
use session_resume::store::{
    ErrorKind, LayerNames, SnapshotStore, Stamp, StoreError, StoreKey, Versioned,
};

use crate::{
    call::Call,
    connection::{bytes, strange},
    engine::Engine,
    error::{ConnectError, ConnectErrorKind, Failure},
    keys::Keys,
    lane::Lane,
    queue::Answer,
    record,
    scripts::{Said, Script},
};

/// Keeps sessions on a Redis or Valkey server, for any number of processes. See the [crate docs](crate).
///
/// Clones are handles on the same two connections (three, as the store of a cluster of nodes). Those are closed when the last handle is dropped.
#[derive(Clone)]
pub struct RedisStore {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    names: LayerNames,
    identity_key: [u8; 64],
    /// The record of the keys that sign identities, as it was when the store connected. Not set: there was none.
    identity_keys: OnceLock<Bytes>,
    /// Whether answers are worth nothing before replicas have what was written.
    waits: bool,
    /// Loads and touches, which wait for no commit.
    calls: Lanes,
    writes: Lanes,
    /// Leases of nodes, which wait for nothing else. Not dialled before the first call.
    leases: Lanes,
}

/// One connection to each server of the engine.
#[derive(Debug)]
pub(crate) enum Lanes {
    One(Lane),
    #[cfg(feature = "cluster")]
    Nodes(Arc<crate::nodes::Nodes>),
}

impl Lanes {
    async fn call(&self, call: Call, stamp: Option<Stamp>) -> Answer {
        self.call_within(call, stamp, None).await
    }

    /// As `call`; the call may take this long, or as long as any.
    pub(crate) async fn call_within(
        &self,
        call: Call,
        stamp: Option<Stamp>,
        within: Option<Duration>,
    ) -> Answer {
        match self {
            Self::One(lane) => lane.call(call, stamp, within).await,
            #[cfg(feature = "cluster")]
            Self::Nodes(nodes) => nodes.call(call, stamp, within).await,
        }
    }
}

impl RedisStore {
    pub(crate) fn new(
        engine: Arc<Engine>,
        identity_key: [u8; 64],
        waits: bool,
        [calls, writes, leases]: [Lanes; 3],
    ) -> Self {
        let (names, identity_keys) = (LayerNames::new(), OnceLock::new());
        Self {
            inner: Arc::new(Inner {
                engine,
                names,
                identity_key,
                identity_keys,
                waits,
                calls,
                writes,
                leases,
            }),
        }
    }

    /// Reads the record of the keys that sign identities, once.
    pub(crate) async fn with_identity_keys(self) -> Result<Self, ConnectError> {
        match self.load(&StoreKey::identity_keys()).await {
            Ok(Some(record)) => drop(self.inner.identity_keys.set(record.bytes)),
            Ok(None) => {}
            Err(error) => {
                let kind = match error.kind() {
                    ErrorKind::Unavailable | ErrorKind::Io => ConnectErrorKind::Unreachable,
                    _ => ConnectErrorKind::WrongEngine,
                };
                let reason = format!("the keys that sign identities cannot be read: {error}");
                return Err(ConnectError::new(kind, self.address(), reason));
            }
        }
        Ok(self)
    }

    pub(crate) fn leases(&self) -> &Lanes {
        &self.inner.leases
    }

    /// How often a connection to the engine was lost.
    pub(crate) fn breaks(&self) -> u64 {
        self.inner.engine.breaks()
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.engine.keys
    }

    /// Returns where the engine is, as the URL says: host and port, or a path; several hosts if the URL names them.
    pub fn address(&self) -> &str {
        &self.inner.engine.name
    }

    async fn write(
        &self,
        script: Script,
        key: &StoreKey,
        stamp: Stamp,
        args: Vec<Bytes>,
    ) -> Result<(), StoreError> {
        let lane = match script {
            Script::Touch => &self.inner.calls,
            _ => &self.inner.writes,
        };
        let call = Call::new(script, self.inner.engine.keys.record(key), args);
        let stamp = (script == Script::Put).then_some(stamp);
        let kind = match self.said(lane.call(call, stamp).await)? {
            Said::Changed | Said::Kept => return Ok(()),
            Said::NotFound => ErrorKind::NotFound,
            Said::Stale => ErrorKind::Stale,
            Said::Corrupt => ErrorKind::Corrupt,
            Said::TooNew => ErrorKind::TooNew,
            Said::Full => ErrorKind::Full,
        };
        Err(kind.into())
    }

    fn said(&self, answer: Answer) -> Result<Said, StoreError> {
        match answer {
            Ok(Value::Int(code)) => Said::from_code(code).ok_or_else(|| self.error(strange())),
            Ok(_) => Err(self.error(strange())),
            Err(failure) => Err(self.error(failure)),
        }
    }

    pub(crate) fn error(&self, failure: Failure) -> StoreError {
        failure.into_store_error(self.address())
    }

    /// Whether a script writes even if there is nothing to change: `WAIT` looks only at what its connection has
    /// written.
    fn anyway(&self) -> Bytes {
        Bytes::from_static(if self.inner.waits { b"1" } else { b"0" })
    }
}

impl SnapshotStore for RedisStore {
    async fn load(&self, key: &StoreKey) -> Result<Option<Versioned>, StoreError> {
        let call = Call::new(Script::Load, self.inner.engine.keys.record(key), Vec::new());
        let answer = self.inner.calls.call(call, None).await;
        let (value, left) = match answer.map_err(|failure| self.error(failure))? {
            Value::Nil => return Ok(None),
            Value::Array(pair) => match <[Value; 2]>::try_from(pair) {
                Ok([value, Value::Int(left)]) => (value, left),
                _ => return Err(self.error(strange())),
            },
            _ => return Err(self.error(strange())),
        };
        let value = bytes(value).map_err(|failure| self.error(failure))?;
        // The number is negative if the key's expiry was removed by hand: the record lasts for ever.
        let left = u64::try_from(left).map_or(Duration::MAX, Duration::from_millis);
        record::decode(value, left).map(Some)
    }

    async fn claim(
        &self,
        key: &StoreKey,
        found: Option<Stamp>,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let value = record::encode(stamp, &bytes)?;
        let mut args = vec![value, record::millis(expires_in).into(), self.anyway()];
        let script = match found {
            None => Script::Create,
            Some(found) => {
                args.push(Bytes::copy_from_slice(&record::stamp_bytes(found)));
                Script::Claim
            }
        };
        self.write(script, key, stamp, args).await
    }

    async fn put(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        bytes: Bytes,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let value = record::encode(stamp, &bytes)?;
        let args = vec![value, record::millis(expires_in).into(), self.anyway()];
        self.write(Script::Put, key, stamp, args).await
    }

    async fn touch(
        &self,
        key: &StoreKey,
        stamp: Stamp,
        expires_in: Duration,
    ) -> Result<(), StoreError> {
        let stamp_bytes = Bytes::copy_from_slice(&record::stamp_bytes(stamp));
        let args = vec![stamp_bytes, record::millis(expires_in).into()];
        self.write(Script::Touch, key, stamp, args).await
    }

    async fn remove(&self, key: &StoreKey, stamp: Stamp) -> Result<(), StoreError> {
        let args = vec![Bytes::copy_from_slice(&record::stamp_bytes(stamp))];
        self.write(Script::Remove, key, stamp, args).await
    }

    /// The engine lets go of records by itself.
    async fn delete_expired(&self, _limit: usize) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn identity_key(&self) -> Option<[u8; 64]> {
        Some(self.inner.identity_key)
    }

    fn identity_keys(&self) -> Option<Bytes> {
        self.inner.identity_keys.get().cloned()
    }

    /// Found out at each new connection, and when a record is not there.
    fn losses(&self) -> u64 {
        self.inner.engine.losses()
    }

    fn layer_names(&self) -> Option<&LayerNames> {
        Some(&self.inner.names)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("address", &self.address()).finish_non_exhaustive()
    }
}
