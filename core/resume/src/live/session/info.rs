//! What operators are told of a session.

use std::{fmt, time::Duration};

use session_resume_proto::Moment;

use super::{Session, handle::phase, shared::Shared};
use crate::{
    Identity, SessionId,
    words::{key::SessionKey, reuse::Phase},
};

/// What [`SessionResume::survey`](crate::SessionResume::survey) and
/// [`SessionResume::sessions`](crate::SessionResume::sessions) tell of a session.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its public id.
    pub id: SessionId,
    /// Where it is in its life.
    pub phase: Phase,
    /// How long ago it was started.
    pub age: Duration,
    /// How many transports are attached.
    pub transports: usize,
    /// Why the guards that are held hold off its expiry.
    pub guards: Vec<String>,
    /// How many messages its outbox keeps.
    pub outbox_messages: usize,
    /// How many bytes these take, 48 for each message included.
    pub outbox_bytes: usize,
    /// How many messages wait for its handler.
    pub inbox_messages: usize,
    /// How many [observers](Session::observe) it has.
    pub observers: usize,
    /// Whether something of it has still to be written to the store. Always `false` without a store.
    pub waits_for_store: bool,
    /// The key under which requests find it. It shows as a short hash.
    pub key: SessionKey,
    starter: Starter,
}

impl SessionInfo {
    /// Returns the identity that started the session.
    pub fn identity(&self) -> Identity {
        self.starter.0
    }
}

/// Shows as the hash that log lines have.
#[derive(Clone, Copy)]
struct Starter(Identity);

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short_hash())
    }
}

impl<T> Shared<T> {
    /// Describes the session. It is looked at, and nothing is woken.
    pub(crate) fn info(&self, now: Moment) -> SessionInfo {
        let core = self.lock();
        let machine = &core.machine;
        SessionInfo {
            id: self.id(),
            phase: phase(machine.phase()),
            age: machine.age(now),
            transports: machine.transports(),
            guards: machine.guard_reasons(now).map(str::to_owned).collect(),
            outbox_messages: machine.outbox_messages(),
            outbox_bytes: machine.outbox_bytes(),
            inbox_messages: machine.inbox_messages(),
            observers: machine.observer_count(),
            waits_for_store: core.life().waits_for_store()
                || core.durable.as_ref().is_some_and(|durable| !durable.is_settled()),
            key: core.key.clone(),
            starter: Starter(core.identity()),
        }
    }
}

impl<T: Send + 'static> Session<T> {
    /// Returns a description of the session.
    pub fn info(&self) -> SessionInfo {
        self.shared.info(self.shared.clock().now())
    }
}
