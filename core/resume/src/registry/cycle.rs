//! A session that gets a new identity.

use std::sync::Arc;

use http::HeaderValue;

use super::{Registry, lock};
use crate::{
    Identity,
    identity::{CookieName, Via},
    random,
    session::shared::Shared,
    snapshot::Urgency,
};

impl<T: Send + 'static> Registry<T> {
    /// Gives the session to a new identity: from now on it is found under that one's key alone.
    ///
    /// Returns the cookie that makes the browser that identity, under the `name` that its request's had.
    pub(crate) fn cycle_identity(
        &self,
        session: &Arc<Shared<T>>,
        name: Option<CookieName>,
    ) -> HeaderValue {
        // One at a time: two for the same session would leave it under a key that it does not know.
        let _one = lock(&self.cycling);
        let identity = Identity::mint(random::bytes());
        let (old, key, new) = {
            let core = session.lock();
            (core.identity(), core.key.clone(), core.key.rescoped(identity))
        };
        if new != key {
            let was_here = self.keys.remove(&key, session).is_some();
            {
                let mut core = session.lock();
                core.key = new.clone();
                if let Some(durable) = &mut core.durable {
                    // It is under the old key until the record has moved.
                    durable.moved_from.get_or_insert_with(|| key.clone());
                }
            }
            session.step(|core| core.changed(Urgency::Now));
            if was_here {
                self.keys.insert(&new, session);
                self.unchoose(old, &key, session.id());
                self.choose(identity, &new, session.id());
            }
            // It may have ended while it was under neither key.
            if session.outcome().is_some() {
                self.vacate_key(session);
            }
        }
        let via = session.via();
        let via = Via { name: name.unwrap_or(via.name), ..via };
        self.set_cookie().value(identity, self.hour(), via)
    }
}
