//! A session, and an outcome, as bytes in a store.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use session_resume_proto::session::{Record, Snapshot};

use crate::{
    Identity, SessionId,
    door::upgrade::PathMark,
    live::outcomes::Ended,
    words::{
        key::SessionKey,
        outcome::{Outcome, OutcomeStatus},
        store::{ErrorKind, StoreError},
        wall::{self, later},
    },
};

/// The first byte of every record. Another one is an error, not data loss.
const VERSION: u8 = 6;

/// What is kept under a session's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyRecord {
    /// The session, as it was at its last commit.
    Live(Box<SessionRecord>),
    /// The session has ended. Its key is free: the next one claims over this.
    Ended(OutcomeRecord),
}

/// A session's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    pub(crate) session: SessionId,
    pub(crate) identity: Identity,
    /// [`SessionKey::to_bytes`].
    pub(crate) key: Vec<u8>,
    pub(crate) secure: bool,
    /// The handler's name, if it has one.
    pub(crate) handler: Option<String>,
    /// Where that was started first.
    pub(crate) path: Option<PathMark>,
    pub(crate) created: Millis,
    /// When the state last changed.
    pub(crate) updated: Millis,
    pub(crate) iteration: u64,
    /// Nothing has happened in the session since: its outbox is here, and whole.
    pub(crate) clean: bool,
    /// The handler has been at work for a while since.
    pub(crate) working: bool,
    /// The state as JSON.
    #[serde(with = "serde_bytes_compact")]
    pub(crate) state: Vec<u8>,
    pub(crate) machine: Snapshot,
}

impl SessionRecord {
    /// Returns the identities that may know of the session: the one that started it and, under a shared key, those of
    /// its remembered clients.
    pub(crate) fn identities(&self) -> Vec<Identity> {
        let mut identities = vec![self.identity];
        identities.extend(self.machine.identities().map(Identity::of_tag));
        identities.sort_unstable();
        identities.dedup();
        identities
    }

    /// Whether this identity is one of [those](Self::identities).
    pub(crate) fn is_known_to(&self, identity: Identity) -> bool {
        self.identity == identity || self.machine.knows_identity(identity.tag())
    }
}

/// What is kept under a session's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IdRecord {
    /// The session is stored under this key.
    Pointer(Vec<u8>),
    /// The session has ended.
    Ended(OutcomeRecord),
}

/// What is left of a session that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OutcomeRecord {
    identities: Vec<Identity>,
    key: Vec<u8>,
    status: u8,
    /// JSON.
    result: Option<String>,
    error: Option<String>,
    completed: Millis,
    record: Record,
}

/// Milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Millis(u64);

impl Millis {
    pub(crate) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn now() -> Self {
        Self::of(wall::now())
    }

    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn time(self) -> SystemTime {
        later(SystemTime::UNIX_EPOCH, Duration::from_millis(self.0))
    }

    /// Returns the time from `self` to `now`; zero if the clock went back.
    pub(crate) fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

/// Why a session cannot be made of bytes. Says nothing of what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordError {
    TooNew(u8),
    TooOld(u8),
    Corrupt,
    /// The application's type has changed since.
    State {
        expected: &'static str,
        /// Where its JSON could not be read; `None` if its `Deserialize` has panicked.
        column: Option<usize>,
    },
}

impl RecordError {
    /// Serde's own text may quote the state: only where it stopped is told.
    pub(crate) fn of_state<T>(error: Option<&serde_json::Error>) -> Self {
        let column = error.map(serde_json::Error::column);
        Self::State { expected: std::any::type_name::<T>(), column }
    }

    /// Returns what a stranger may be told: how the program is built is for the log.
    pub(crate) fn told(&self) -> Cow<'static, str> {
        match self {
            Self::TooNew(_) | Self::TooOld(_) | Self::Corrupt => Cow::Owned(self.to_string()),
            Self::State { .. } => Cow::Borrowed(
                "its state does not fit the program's type any more (the log says where, and what to do)",
            ),
        }
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooNew(version) => {
                write!(f, "record is from a newer version (got {version}, know {VERSION})")
            }
            Self::TooOld(version) => {
                write!(f, "record is from an older version (got {version}, know {VERSION})")
            }
            Self::Corrupt => f.write_str("record is damaged"),
            Self::State { expected, column } => {
                write!(f, "its state does not fit the type {expected} (")?;
                match column {
                    Some(column) => write!(f, "at byte {column} of its JSON")?,
                    None => f.write_str("whose Deserialize panicked")?,
                }
                f.write_str(
                    "): give new fields #[serde(default)], keep old names with #[serde(alias)], or let a new session \
                     have its place: with_unreadable(Unreadable::StartAnew)",
                )
            }
        }
    }
}

impl std::error::Error for RecordError {}

impl From<RecordError> for StoreError {
    fn from(error: RecordError) -> Self {
        let kind = match error {
            RecordError::TooNew(_) => ErrorKind::TooNew,
            RecordError::TooOld(_) | RecordError::Corrupt | RecordError::State { .. } => {
                ErrorKind::Corrupt
            }
        };
        Self::new(kind, error)
    }
}

pub(crate) fn encode(record: &impl Serialize) -> Bytes {
    let mut bytes = vec![VERSION];
    bytes = postcard::to_extend(record, bytes).expect("records hold nothing postcard cannot say");
    bytes.into()
}

pub(crate) fn decode<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, RecordError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((record, [])) => Ok(record),
            Ok(_) | Err(_) => Err(RecordError::Corrupt),
        },
        Some((&version, _)) if version > VERSION => Err(RecordError::TooNew(version)),
        Some((&version, _)) if version > 0 => Err(RecordError::TooOld(version)),
        _ => Err(RecordError::Corrupt),
    }
}

impl OutcomeRecord {
    pub(crate) fn of(ended: &Ended) -> Self {
        let outcome = &ended.outcome;
        Self {
            identities: ended.identities.clone(),
            key: ended.key.to_bytes(),
            status: status_number(outcome.status()),
            result: outcome.result().map(|json| json.get().to_owned()),
            error: outcome.error().map(str::to_owned),
            completed: Millis::of(outcome.completed()),
            record: ended.record.clone(),
        }
    }

    pub(crate) fn into_ended(self) -> Result<Ended, RecordError> {
        let key = SessionKey::from_bytes(&self.key).ok_or(RecordError::Corrupt)?;
        let status = status_of(self.status).ok_or(RecordError::Corrupt)?;
        let result = self.result.map(serde_json::value::RawValue::from_string).transpose();
        let outcome = Outcome::restored(
            status,
            result.map_err(|_| RecordError::Corrupt)?,
            self.error,
            self.completed.time(),
        );
        Ok(Ended {
            identities: self.identities,
            key,
            record: self.record,
            outcome: Arc::new(outcome),
        })
    }
}

fn status_number(status: OutcomeStatus) -> u8 {
    match status {
        OutcomeStatus::Done => 0,
        OutcomeStatus::Failed => 1,
        OutcomeStatus::Panicked => 2,
        OutcomeStatus::Expired => 3,
        OutcomeStatus::Overflow => 4,
        // The enum may grow; a session of an unknown end is over all the same.
        _ => 5,
    }
}

fn status_of(number: u8) -> Option<OutcomeStatus> {
    Some(match number {
        0 => OutcomeStatus::Done,
        1 => OutcomeStatus::Failed,
        2 => OutcomeStatus::Panicked,
        3 => OutcomeStatus::Expired,
        4 => OutcomeStatus::Overflow,
        5 => OutcomeStatus::Closed,
        _ => return None,
    })
}

/// Bytes as bytes: serde's own way writes a `Vec<u8>` element by element.
mod serde_bytes_compact {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        Bytes::deserialize(deserializer).map(Vec::from)
    }
}
