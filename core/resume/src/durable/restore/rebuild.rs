//! A session, made of its record.

use std::sync::Arc;

use crate::{
    durable::snapshot::record::SessionRecord,
    live::{
        registry::Registry,
        session::{Durable, Machine, Owner, Peer, Place, Pointer, Shared, StateCell},
    },
    words::{
        identity::{CookieName, Via},
        key::SessionKey,
        millis::Millis,
        path::HandlerPath,
        random,
        store::Stamp,
    },
};

impl<T: Send + 'static> Registry<T> {
    /// Rebuilds a session from its record; no request can find it yet.
    pub(super) fn rebuild(
        &self,
        key: &SessionKey,
        record: &SessionRecord,
        state: T,
        stamp: Stamp,
        pointer: Pointer,
        name: CookieName,
    ) -> Arc<Shared<T>> {
        let identity = record.identity;
        let machine = Machine::restore(
            Arc::clone(self.rules()),
            record.machine.clone(),
            record.clean,
            u64::from_be_bytes(random::bytes()),
            record.created.age(Millis::now()),
            self.clock().now(),
            |_| Peer::gone(),
        );
        let mut durable = Durable::new(stamp, record.created, key);
        durable.is_restored = true;
        durable.place = Place::Ours(key.clone());
        // Its stamp and its expiry are the old owner's.
        durable.pointer = durable.pointer.max(pointer);
        let owner = Owner { identity, key: key.clone(), via: Via { name, secure: record.secure } };
        let state = StateCell::restored(state, record.iteration, record.updated);
        let session = Shared::build(
            Arc::clone(self.home()),
            record.session,
            owner,
            machine,
            state,
            Some(durable),
        );
        session.prepare(|core| {
            core.handler_path = HandlerPath::restored(record.path);
            if let Some(handler) = record.handler.clone() {
                core.rare_mut().handler_name = Some(handler.into());
            }
        });
        session
    }
}
