//! What the sessions of a registry say to it.

use std::sync::{Arc, atomic::Ordering};

use http::HeaderValue;

use super::{Item, Registry};
use crate::{
    live::session::{Change, Core, Keeper, Shared},
    words::{
        config::Codec, context::Requester, durability::Urgency, identity::Identity,
        merge::MergePolicy,
    },
};

impl<T: Send + 'static> Keeper<T> for Registry<T> {
    fn save(&self, session: Arc<Shared<T>>, urgency: Urgency) {
        self.push(Item::Session(session), urgency);
    }

    fn hurry(&self) {
        if let Some(saver) = self.saver() {
            saver.hurry();
        }
    }

    fn take_snapshot(&self, session: &Shared<T>) {
        if let Some(saver) = self.saver() {
            saver.take_snapshot(session);
        }
    }

    fn watch(&self, session: Arc<Shared<T>>) {
        if let Some(saver) = self.saver() {
            saver.watch(session);
        }
    }

    /// The session leaves its key to a new one. It can still be found by its id.
    fn ended(&self, session: &Shared<T>) {
        let Some(ended) = session.ended() else {
            return;
        };
        self.last_minutes.ended(self.clock().now());
        let is_blank = session.is_blank();
        if session.is_durable() && !is_blank {
            session.step(|core| core.change_life(Change::StoresOutcome));
        }
        match session.arc().filter(|_| session.is_durable()) {
            // It leaves nothing behind in the store.
            Some(session) if is_blank => self.outcome_saved(&session, ended),
            // Told, and polled, only when it is on disk.
            Some(session) => self.push(Item::Ended(session, ended), Urgency::Now),
            None => self.keep_outcome(session, ended),
        }
        self.vacate_key(session);
    }

    fn has_come_back(&self, session: &Shared<T>) {
        if session.step(Core::becomes_known) {
            self.visitors.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn has_attached(&self) {
        self.attached.fetch_add(1, Ordering::Relaxed);
    }

    fn has_detached(&self) -> usize {
        self.attached.fetch_sub(1, Ordering::Relaxed) - 1
    }

    fn cycle_identity(
        &self,
        session: &Arc<Shared<T>>,
        by: Option<Requester>,
    ) -> Option<(Identity, HeaderValue)> {
        self.change_identity(session, by)
    }

    fn merging(&self) -> Option<(MergePolicy<T>, Codec<T>)> {
        Some((self.config.merge.clone(), self.config.codec?))
    }
}
