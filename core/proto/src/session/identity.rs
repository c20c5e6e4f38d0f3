//! A browser gets another identity while its session goes on, as after a login.

use std::time::Duration;

use super::{Claim, IdentityTag, Refusal, Session};
use crate::{Moment, wire::Close};

/// For this long after the change, a client that comes under the old identity is told to come back. An honest page
/// then comes back with its new cookie. An attacker that planted the old cookie has the same cursor, and the two
/// cannot be told apart.
const WAITS: Duration = Duration::from_secs(10);
/// A client that comes too early under the old identity is told to come back after this time.
pub const MOVED_RETRY: Duration = Duration::from_millis(500);
/// The number of changes that are remembered. An older change is forgotten.
const REMEMBERED: usize = 16;

/// An identity that was changed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Moved {
    old: IdentityTag,
    new: IdentityTag,
    until: Moment,
}

impl<I: Clone> Session<I> {
    /// Gives the clients of an identity another one: their transports are closed, and what is known of them (counts,
    /// cursors) goes along.
    pub fn change_identity(&mut self, old: IdentityTag, new: IdentityTag, now: Moment) {
        for at in 0..self.transports.len() {
            let client = self.clients.get(self.transports[at].client);
            if client.is_some_and(|client| client.who.name.identity == old) {
                self.end_transport(at, Close::MOVED, None, now);
            }
        }
        // What the handler has still to be told of them was under the old identity.
        for client in self.clients.iter_mut().filter(|client| client.who.name.identity == old) {
            client.who.name.identity = new;
        }
        self.outbox.change_identity(old, new);
        self.note_rare(|rare| {
            if rare.moved.len() >= REMEMBERED {
                rare.moved.remove(0);
            }
            rare.moved.push(Moved { old, new, until: now + WAITS });
        });
    }

    /// Returns what has become of an identity: itself, if it was not changed lately.
    pub fn identity_now(&self, identity: IdentityTag) -> IdentityTag {
        // Each step leads to a later change.
        self.moved()
            .iter()
            .fold(identity, |now, moved| if moved.old == now { moved.new } else { now })
    }

    /// Decides whether a transport under this identity must wait, because the identity has just been changed.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] with which to close a plain transport, or one with a cursor of this session.
    pub fn check_moved(
        &self,
        identity: IdentityTag,
        claim: &Claim,
        now: Moment,
    ) -> Result<(), Refusal> {
        let moved = || self.moved().iter().any(|moved| moved.old == identity && now < moved.until);
        match claim {
            Claim::Plain | Claim::PlainAt(_) | Claim::Cursor { .. } if moved() => {
                Err(Refusal { close: Close::TRY_AGAIN, retry: Some(MOVED_RETRY) })
            }
            Claim::Plain
            | Claim::PlainAt(_)
            | Claim::Cursor { .. }
            | Claim::Fresh
            | Claim::Lost { .. } => Ok(()),
        }
    }
}
