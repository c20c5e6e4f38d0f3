//! A session that gets a new identity.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::Duration,
};

use http::HeaderValue;
use session_resume_proto::{Moment, session::Claim, wire::Offer};

use super::{Registry, lock};
use crate::{
    Identity, SessionId,
    live::session::{Core, Moved, Shared},
    words::{
        context::{RequestContext, Requester},
        durability::Urgency,
        identity::Via,
        key::SessionKey,
        random,
        refusal::Refusal,
    },
};

/// As long as the rules make a client wait. A key that was left longer ago than this is free for all.
const REMEMBERED: Duration = Duration::from_secs(10);

/// What has become of the key of a session that was given a new identity.
enum Rekeyed {
    /// It is found under this key now.
    To(SessionKey),
    /// Its key is not an identity's.
    Not,
}

impl<T: Send + 'static> Registry<T> {
    /// Gives what a session has of one identity to a new identity. A session under an identity's own key is from then
    /// on found under the new identity's key alone, and what came with the old identity is out. `by`: the identity that
    /// asks, where different identities share the session.
    ///
    /// Returns the identity and the cookie that makes the browser that; `None` if the session is not here any more, or
    /// about to be put away by a drain: a new cookie would find nothing.
    pub(super) fn change_identity(
        &self,
        session: &Arc<Shared<T>>,
        by: Option<Requester>,
    ) -> Option<(Identity, HeaderValue)> {
        // One at a time: two for the same session would leave it under a key that it does not know.
        let _one = lock(&self.cycling);
        if self.drain.is_draining() {
            return None;
        }
        let new = Identity::mint(random::bytes());
        let (old, key) = {
            let core = session.lock();
            (core.identity_of(by.map(|by| by.identity))?, core.key.clone())
        };
        // First: in between it is under no key, and a request finds nothing rather than the wrong one.
        let was_here = !key.is_shared() && self.keys.remove(&key, session).is_some();
        let rekeyed = session.with_core(|core, now| core.change_identity(old, new, now));
        match &rekeyed {
            None if was_here => {
                // The session has left in between, and the code that took it out did not find it.
                self.unchoose(old, &key, session.id());
                self.live.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            }
            Some(Rekeyed::To(to)) if was_here => {
                lock(&self.moved).insert(key.clone(), session, self.clock().now());
                self.keys.insert(to, session);
                self.unchoose(old, &key, session.id());
                self.choose(new, to, session.id());
            }
            Some(Rekeyed::To(_) | Rekeyed::Not) | None => {}
        }
        // It may have ended, or left, while it was under neither key.
        if !session.goes_on() {
            self.vacate_key(session);
        }
        rekeyed.map(|_| {
            // The cookie has the name that the request's had.
            let via = session.via();
            let via = Via { name: by.map_or(via.name, |by| by.cookie_name), ..via };
            (new, self.key_set().set_cookie().value(new, self.hour(), via))
        })
    }

    /// Whether the request comes under an identity that was changed just now, with something of its session: then it
    /// must come back, with the new cookie. `here` is the session under the request's key.
    pub(crate) fn check_moved(
        &self,
        context: &RequestContext,
        offer: &Offer,
        cursor: Option<SessionId>,
        here: Option<&Arc<Shared<T>>>,
    ) -> Result<(), Refusal> {
        let (identity, now) = (context.identity(), self.clock().now());
        let check = |session: &Shared<T>, claim: &Claim| {
            let core = session.lock();
            core.machine.check_moved(identity.tag(), claim, now).map_err(Refusal::by_attach)
        };
        match offer {
            Offer::Plain | Offer::PlainAt(_) => {
                if let Some(session) = here {
                    check(session, &Claim::Plain)?;
                }
                // Its own key does not lead there any more.
                let left = lock(&self.moved).get(context.key());
                left.map_or(Ok(()), |session| check(&session, &Claim::Plain))
            }
            Offer::Resume { cursor: at, attachment, .. } => {
                let claim = Claim::Cursor {
                    epoch: at.epoch,
                    received: at.received,
                    attachment: *attachment,
                };
                let here = |id| here.filter(|session| session.id() == id).map(Arc::clone);
                let session = cursor.and_then(|id| here(id).or_else(|| self.by_id(id)));
                session.map_or(Ok(()), |session| check(&session, &claim))
            }
            Offer::Fresh { .. } => Ok(()),
        }
    }
}

impl Core {
    /// Returns which identity is to be changed: the key's, or under a shared key that of the request, as it is by
    /// now.
    fn identity_of(&self, by: Option<Identity>) -> Option<Identity> {
        let now = |by: Identity| Identity::of_tag(self.machine.identity_now(by.tag()));
        self.key.identity().or(by.map(now))
    }

    fn change_identity(&mut self, old: Identity, new: Identity, now: Moment) -> Option<Rekeyed> {
        if !self.life().goes_on() || self.is_over() {
            return None;
        }
        // It was to be put away, and is in use after all.
        self.call_back(now);
        self.machine.change_identity(old.tag(), new.tag(), now);
        self.replace_starter(old, new);
        let rescoped = self.key.rescoped(new);
        let key = std::mem::replace(&mut self.key, rescoped);
        let rekeyed = if key == self.key {
            Rekeyed::Not
        } else {
            if let Some(durable) = &mut self.durable {
                // Until the next put it is there under the old one.
                durable.moved.get_or_insert_with(|| Box::new(Moved::from(key)));
            }
            Rekeyed::To(self.key.clone())
        };
        self.changed(Urgency::Now);
        Some(rekeyed)
    }
}

/// Keys that were left lately, and by which session. Bounded by how many logins there are in ten seconds.
pub(super) struct FormerKeys<T> {
    by_key: HashMap<SessionKey, Weak<Shared<T>>>,
    /// Oldest first.
    order: VecDeque<(Moment, SessionKey)>,
}

impl<T> FormerKeys<T> {
    pub(super) fn new() -> Self {
        Self { by_key: HashMap::new(), order: VecDeque::new() }
    }

    fn insert(&mut self, key: SessionKey, session: &Arc<Shared<T>>, now: Moment) {
        while self.order.front().is_some_and(|(left, _)| *left + REMEMBERED <= now) {
            if let Some((_, key)) = self.order.pop_front() {
                self.by_key.remove(&key);
            }
        }
        self.order.push_back((now, key.clone()));
        self.by_key.insert(key, Arc::downgrade(session));
    }

    fn get(&self, key: &SessionKey) -> Option<Arc<Shared<T>>> {
        self.by_key.get(key)?.upgrade()
    }
}
