//! A session, and an outcome, as bytes in a store.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use session_resume_proto::session::{FinalCounts, Snapshot};

use crate::{
    Identity, SessionId,
    live::ended::Ended,
    words::{
        key::SessionKey,
        millis::Millis,
        outcome::{Outcome, OutcomeStatus},
        path::PathMark,
        record_error::{RecordError, VERSION},
    },
};

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
    counts: FinalCounts,
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
            counts: ended.counts.clone(),
        }
    }

    pub(crate) fn into_ended(self, generation: u64) -> Result<Ended, RecordError> {
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
            counts: self.counts,
            generation,
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
