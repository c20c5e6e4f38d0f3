//! Messages that come without a transport: from the plain client of an identity, one request each.

use serde::{Deserialize, Serialize};

use super::{
    Access, Session,
    client::{ClientUid, Standing, Who},
};
use crate::{GapReason, Message, Moment};

/// How many keys are kept: the newest ones.
const KEYS: usize = 64;

/// What names a request, so that a repeat is known: digests of its key and of what it brings. The same key comes with
/// another message by mistake only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DeliveryKey {
    /// Of the sender and the key.
    pub key: u64,
    /// Of the message.
    pub message: u64,
}

/// A message that was delivered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Delivery {
    client: ClientUid,
    /// The number of its client's messages that were accepted, with it.
    number: u64,
}

/// A key, and what came of its message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Delivered {
    pub(super) key: DeliveryKey,
    /// `None`: an earlier life has handled it.
    pub(super) delivery: Option<Delivery>,
}

/// Why a message was not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Undelivered {
    /// The inbox has no room for it, or the session is about to leave: try again.
    Full,
    /// It is over the limit of a message.
    TooBig,
    /// The session has ended.
    Ended,
    /// Its key came with another message before.
    OtherMessage,
}

/// How far a message has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DeliveryProgress {
    /// It waits in the inbox.
    Waits,
    /// The handler has it in hand, or has handled it.
    Taken,
    /// It is handled, and a durable snapshot says so, where the session has a store.
    Committed,
    /// The session has ended while it waited: the handler never takes it.
    Dropped,
}

impl<I: Clone> Session<I> {
    /// Puts a message into the inbox that came without a transport. With a key that came before it puts nothing there, and
    /// returns what came of the first one; `None` if that is long done.
    ///
    /// # Errors
    ///
    /// Returns [`Undelivered`] if it is not there.
    pub fn deliver(
        &mut self,
        who: &Who<I>,
        message: Message,
        key: Option<DeliveryKey>,
        now: Moment,
    ) -> Result<Option<Delivery>, Undelivered> {
        if let Some(known) =
            key.and_then(|key| self.delivered().iter().find(|it| it.key.key == key.key))
        {
            let same = key.is_some_and(|key| key.message == known.key.message);
            return if same { Ok(known.delivery) } else { Err(Undelivered::OtherMessage) };
        }
        if message.len() > self.rules.bounds.message {
            return Err(Undelivered::TooBig);
        }
        if self.usage.ended.is_some() {
            return Err(Undelivered::Ended);
        }
        if self.frozen || self.freezes {
            return Err(Undelivered::Full);
        }
        let uid = self.sender(who).ok_or(Undelivered::Full)?;
        let bounds = &self.rules.bounds;
        let client = self.clients.get_mut(uid).ok_or(Undelivered::Full)?;
        let bytes = message.len();
        let fits = client.waiting() == 0
            || (client.waiting() < bounds.inbox_messages as u64
                && client.inbox_bytes + bytes <= bounds.inbox_bytes.max(bytes));
        if !fits {
            return Err(Undelivered::Full);
        }
        // Asked last: what does not get in is not counted.
        if bounds.pace.is_some_and(|pace| client.keep_pace(pace, now).is_err()) {
            return Err(Undelivered::Full);
        }
        client.received += 1;
        client.inbox_bytes += bytes;
        let delivery = Delivery { client: uid, number: client.received };
        self.inbox.push_message(uid, message, who.clone());
        self.wake.handler = true;
        self.usage.touch(now);
        if let Some(key) = key {
            self.note_rare(|rare| {
                if rare.delivered.len() >= KEYS {
                    rare.delivered.remove(0);
                }
                rare.delivered.push(Delivered { key, delivery: Some(delivery) });
            });
        }
        Ok(Some(delivery))
    }

    /// The plain client, made if it is not there. One that only sends needs nothing of the outbox.
    fn sender(&mut self, who: &Who<I>) -> Option<ClientUid> {
        if let Some(known) = self.clients.named(who.name) {
            return Some(known.uid);
        }
        let identity = who.name.identity;
        let stays = || self.clients.iter().filter(|it| it.is_attached() || it.has_unhandled());
        let own = stays().filter(|it| it.who.name.identity == identity).count();
        let bounds = &self.rules.bounds;
        if own >= bounds.clients || stays().count() >= bounds.shared_clients {
            return None;
        }
        let forgotten = self.clients.push_out_for(identity, Access::Full, &self.rules.bounds);
        self.let_go_of_forgotten(&forgotten);
        let trials = self.trials();
        let uid = self.clients.insert(who.clone(), self.outbox.base());
        if let Some(client) = self.clients.get_mut(uid) {
            client.trials = trials;
            client.standing = Standing::Stopped(GapReason::Evicted);
        }
        self.clients.set_gone(uid, Moment::ZERO);
        Some(uid)
    }

    /// Returns the keys whose messages are handled, oldest first.
    pub(super) fn handled_keys(&self) -> impl Iterator<Item = DeliveryKey> {
        let is_handled = |it: &&Delivered| {
            let known = it.delivery.and_then(|it| Some((it.number, self.clients.get(it.client)?)));
            known.is_none_or(|(number, client)| {
                client.handled() >= number || client.is_early(number - 1)
            })
        };
        self.delivered().iter().filter(is_handled).map(|it| it.key)
    }

    /// An earlier life has handled these.
    pub(super) fn remember_keys(&mut self, keys: &[DeliveryKey]) {
        for &key in keys {
            self.note_rare(|rare| rare.delivered.push(Delivered { key, delivery: None }));
        }
    }

    /// Whether the handler has this message, or has had it.
    pub(super) fn has_taken(&self, delivery: Delivery) -> bool {
        let progress = self.delivery_progress(Some(delivery));
        matches!(progress, DeliveryProgress::Taken | DeliveryProgress::Committed)
    }

    /// Returns how far a message has come.
    pub fn delivery_progress(&self, delivery: Option<Delivery>) -> DeliveryProgress {
        let client = delivery.and_then(|it| Some((it.number, self.clients.get(it.client)?)));
        let Some((number, client)) = client else {
            // It was handled by an earlier life, or its client is forgotten, which has nothing unhandled then.
            return DeliveryProgress::Committed;
        };
        let taken = client.taken >= number || client.is_early(number - 1);
        if client.committed >= number || (taken && !self.rules.durable_inbox) {
            DeliveryProgress::Committed
        } else if taken {
            DeliveryProgress::Taken
        } else if self.usage.ended.is_some() {
            DeliveryProgress::Dropped
        } else {
            DeliveryProgress::Waits
        }
    }
}
