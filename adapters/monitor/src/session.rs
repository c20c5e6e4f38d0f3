//! A session, as it is shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use session_resume::{AttachedClient, Carrier, Outcome, SessionId, SessionInfo, reuse::Phase};

use crate::source::Inspected;

/// A line of the list.
#[derive(Serialize)]
pub(crate) struct Line {
    id: SessionId,
    phase: &'static str,
    age_ms: u64,
    transports: usize,
    outbox_messages: usize,
    outbox_bytes: usize,
    inbox_messages: usize,
    observers: usize,
    guards: Vec<String>,
    waits_for_store: bool,
    /// Whose it is: the hash that log lines have.
    identity: String,
    key: String,
    /// Whether several identities may share it.
    shared: bool,
}

impl Line {
    pub(crate) fn of(info: &SessionInfo) -> Self {
        Self {
            id: info.id,
            phase: phase(info.phase),
            age_ms: millis(info.age),
            transports: info.transports,
            outbox_messages: info.outbox_messages,
            outbox_bytes: info.outbox_bytes,
            inbox_messages: info.inbox_messages,
            observers: info.observers,
            guards: info.guards.clone(),
            waits_for_store: info.waits_for_store,
            identity: info.identity().short_hash(),
            key: info.key.to_string(),
            shared: info.key.is_shared(),
        }
    }
}

/// One session, with all that is shown of it.
#[derive(Serialize)]
pub(crate) struct One {
    #[serde(flatten)]
    line: Line,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    clients: Vec<OneClient>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Ending>,
}

impl One {
    pub(crate) fn of(inspected: &Inspected) -> Self {
        Self {
            line: Line::of(&inspected.info),
            generation: inspected.generation,
            node: inspected.node.clone(),
            clients: inspected.clients.iter().map(OneClient::of).collect(),
            outcome: inspected.outcome.as_deref().map(Ending::of),
        }
    }
}

#[derive(Serialize)]
struct OneClient {
    /// The beginning of the id that it has given itself; absent for a plain one.
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    identity: String,
    read_only: bool,
    transports: usize,
    transport: &'static str,
    attached_ms: u64,
    /// Absent until a ping is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    round_trip_ms: Option<f64>,
}

impl OneClient {
    fn of(client: &AttachedClient) -> Self {
        Self {
            client: client.client.id().map(|id| id.chars().take(8).collect()),
            identity: client.identity.short_hash(),
            read_only: client.read_only,
            transports: client.transports,
            transport: match client.carrier {
                Carrier::WebSocket => "websocket",
                Carrier::Pipe => "http",
                Carrier::Events => "events",
                _ => "other",
            },
            attached_ms: millis(client.attached_for),
            round_trip_ms: client.round_trip.map(|took| took.as_secs_f64() * 1000.0),
        }
    }
}

/// How a session has ended. Not its result: that is the application's.
#[derive(Serialize)]
pub(crate) struct Ending {
    status: session_resume::OutcomeStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Milliseconds since 1970.
    at_ms: u64,
}

impl Ending {
    pub(crate) fn of(outcome: &Outcome) -> Self {
        Self {
            status: outcome.status(),
            reason: outcome.error().map(str::to_owned),
            at_ms: since_1970(outcome.completed()),
        }
    }
}

pub(crate) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Suspended => "suspended",
        Phase::Completed => "completed",
        _ => "other",
    }
}

pub(crate) fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, millis)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
