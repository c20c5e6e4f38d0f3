use std::collections::VecDeque;

use bytes::Bytes;
use bytestring::ByteString;

use super::{
    Bounds,
    client::ClientUid,
    history::{History, Retention},
    snapshot::StoredOutbox,
    sparse::{Freed, Recipient, Sparse, Terms},
};
use crate::{
    Message, Moment, Position,
    compact::{Queue, Rare},
};

/// What a message in the outbox counts in addition to its payload: its entry and the allocator's share.
pub const MESSAGE_OVERHEAD: usize = 48;

/// To free this number of messages takes a noticeable time.
const MANY: usize = 256;

/// The messages that some client may still need, by position: `base..head`.
///
/// Texts and binaries are kept apart: a type that could be both takes a quarter more memory, and most sessions
/// send only texts. Once a message was for one client, or may be replaced, all of them are kept in another
/// way ([`Sparse`]), until all that is past.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Outbox {
    texts: Queue<ByteString>,
    rare: Rare<OutboxRarities>,
    /// What no client needs any more; nothing unless the rules retain something.
    history: Rare<History>,
    base: Position,
    bytes: usize,
    /// Messages before this one may leave; without a durable outbox always the head.
    committed: Position,
    /// The largest position that any client has acknowledged, gone clients included.
    acknowledged: Position,
}

/// What most outboxes do not have. See [`compact`](crate::compact).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
struct OutboxRarities {
    apart: Apart,
    /// What a client that starts fresh starts with. Never before the base.
    checkpoint: Option<Position>,
    /// The base after the last message that was let go although a client may miss it.
    overflowed: Position,
}

/// What is not among the texts.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
enum Apart {
    #[default]
    Nothing,
    /// The binaries, with their positions; all others are texts. Never empty.
    Binaries(VecDeque<(Position, Bytes)>),
    /// All messages: there are no texts then.
    Sparse(Box<Sparse>),
}

impl Outbox {
    pub(super) fn stored(
        &self,
        age_at: impl Fn(Moment) -> u64,
        retention: &Retention,
    ) -> StoredOutbox {
        let history = self.history.get().filter(|_| retention.stored);
        StoredOutbox {
            base: self.base,
            acknowledged: self.acknowledged,
            checkpoint: self.checkpoint(),
            overflowed: self.overflowed(),
            messages: self.iter().map(Into::into).collect(),
            sparse: self.sparse().map(|sparse| sparse.stored(age_at)),
            history: history.map(History::stored),
        }
    }

    /// Everything that was stored is committed.
    pub(super) fn restored(
        mut stored: StoredOutbox,
        moment_at: impl Fn(u64) -> Moment,
        retention: &Retention,
    ) -> Self {
        let history = stored.history.take().filter(|_| !retention.is_off());
        let mut outbox = Self {
            base: stored.base,
            committed: stored.base,
            acknowledged: stored.acknowledged,
            ..Self::default()
        };
        outbox.note_rare(|rare| rare.overflowed = stored.overflowed);
        if let Some(history) = history {
            outbox.history = Rare::new(History::restored(history, retention));
        }
        if let Some(checkpoint) = stored.checkpoint {
            outbox.note_rare(|rare| rare.checkpoint = Some(checkpoint));
            if !retention.is_off() {
                let begin = || History::of_checkpoint(checkpoint, stored.base);
                outbox.history.get_or_insert_with(begin);
            }
        }
        let (messages, sparse) = stored.into_parts();
        if let Some(stored) = sparse {
            let sparse = Sparse::restored(stored, messages, moment_at);
            outbox.bytes = sparse.messages().map(cost).sum();
            outbox.set_apart(Apart::Sparse(Box::new(sparse)));
        } else {
            for message in messages {
                outbox.push(message);
            }
        }
        outbox.commit(outbox.head());
        outbox
    }

    fn apart(&self) -> &Apart {
        self.rare.get().map_or(&Apart::Nothing, |rare| &rare.apart)
    }

    fn set_apart(&mut self, apart: Apart) {
        self.note_rare(|rare| rare.apart = apart);
    }

    fn overflowed(&self) -> Position {
        self.rare.get().map_or(Position::ZERO, |rare| rare.overflowed)
    }

    /// Notes something that most outboxes do not have, or takes it back.
    fn note_rare(&mut self, note: impl FnOnce(&mut OutboxRarities)) {
        note(self.rare.get_or_default());
        self.rare.drop_if(OutboxRarities::is_empty);
    }

    fn sparse(&self) -> Option<&Sparse> {
        match self.apart() {
            Apart::Sparse(sparse) => Some(sparse),
            Apart::Binaries(_) | Apart::Nothing => None,
        }
    }

    fn sparse_mut(&mut self) -> Option<&mut Sparse> {
        match &mut self.rare.get_mut()?.apart {
            Apart::Sparse(sparse) => Some(sparse),
            Apart::Binaries(_) | Apart::Nothing => None,
        }
    }

    fn binaries(&self) -> Option<&VecDeque<(Position, Bytes)>> {
        match self.apart() {
            Apart::Binaries(binaries) => Some(binaries),
            Apart::Sparse(_) | Apart::Nothing => None,
        }
    }

    /// Whether some clients may be past messages that they have not had.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse().is_some()
    }

    /// Keeps all messages so that some can leave before others.
    fn make_sparse(&mut self) -> &mut Sparse {
        if !self.is_sparse() {
            let mut sparse = Sparse::new(self.base);
            self.iter().for_each(|message| sparse.push(message, None));
            self.texts = Queue::new();
            self.set_apart(Apart::Sparse(Box::new(sparse)));
        }
        self.sparse_mut().expect("just made")
    }

    /// No client is past messages that it has not had, and all that were sent have left.
    fn end_sparse(&mut self) {
        let Some(sparse) =
            self.sparse().filter(|sparse| sparse.is_over() && sparse.head() == self.base)
        else {
            return;
        };
        let alone = sparse.alone_left();
        if let Some(history) = self.history.get_mut() {
            history.note_incomplete(alone);
        }
        self.set_apart(Apart::Nothing);
    }

    pub(super) fn base(&self) -> Position {
        self.base
    }

    pub(super) fn head(&self) -> Position {
        match self.sparse() {
            Some(sparse) => sparse.head(),
            None => self.base.advanced_by(self.len() as u64),
        }
    }

    /// Returns the position of the oldest message that is there; the head if none is.
    pub(super) fn oldest(&self) -> Position {
        self.sparse().map_or(self.base, Sparse::oldest)
    }

    pub(super) fn committed(&self) -> Position {
        self.committed
    }

    pub(super) fn checkpoint(&self) -> Option<Position> {
        self.rare.get()?.checkpoint
    }

    /// Returns the checkpoint, if it may leave: after a crash the position of one that is not committed would not
    /// exist.
    pub(super) fn committed_checkpoint(&self) -> Option<Position> {
        self.checkpoint().filter(|checkpoint| *checkpoint < self.committed)
    }

    pub(super) fn len(&self) -> usize {
        let apart = match self.apart() {
            Apart::Nothing => 0,
            Apart::Binaries(binaries) => binaries.len(),
            Apart::Sparse(sparse) => sparse.len(),
        };
        self.texts.len() + apart
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the oldest message that is there follows ones that overflowed.
    pub(super) fn last_loss_was_overflow(&self) -> bool {
        self.overflowed() == self.base && self.base > Position::ZERO
    }

    /// Returns where a client that holds nothing starts.
    pub(super) fn fresh_start(&self) -> Position {
        self.committed_checkpoint().unwrap_or(self.acknowledged).max(self.base)
    }

    /// Returns from where on everything is there for a client that wants all from `wanted` on, and that the outbox
    /// was not kept for. Never after the base. If it is before: see [`Self::take_back`].
    pub(super) fn reach(&self, wanted: Position, bounds: &Bounds) -> Position {
        let Some(history) = self.history.get().filter(|_| wanted < self.base) else {
            return self.base;
        };
        let messages = bounds.outbox_messages.saturating_sub(self.len());
        let bytes = bounds.outbox_bytes.saturating_sub(self.bytes);
        history.reach(wanted, (messages, bytes), self.base)
    }

    /// A client needs messages from `from` on: those of the history are again among the messages that are needed.
    pub(super) fn take_back(&mut self, from: Position) {
        let Some(history) = self.history.get_mut().filter(|_| from < self.base) else {
            return;
        };
        let back = history.give_back(from);
        if back.is_empty() {
            return;
        }
        self.bytes += back.iter().map(|(_, message)| cost(message)).sum::<usize>();
        if back.len() as u64 == self.base.since(from) && !self.is_sparse() {
            for (position, message) in back.into_iter().rev() {
                match message {
                    Message::Text(text) => self.texts.used().push_front(text),
                    Message::Binary(bytes) => {
                        if let Some(binaries) = self.binaries_to_fill() {
                            binaries.push_front((position, bytes));
                        }
                    }
                }
            }
        } else {
            self.make_sparse().take_back(back);
        }
        self.base = from;
        // What has overflowed there is back; what has before may be what a client misses.
        self.note_rare(|rare| rare.overflowed = rare.overflowed.min(from));
    }

    /// Returns from where on everything is there that was for all clients and for good, needed or not.
    pub(super) fn kept_from(&self) -> Position {
        self.history.get().map_or(self.base, |history| history.start().min(self.base))
    }

    /// Returns the last checkpoint that was not cleared, if it is known: also one that was let go of.
    pub(super) fn last_checkpoint(&self) -> Option<Position> {
        self.checkpoint().or_else(|| self.history.get()?.checkpoint())
    }

    /// Returns the next message from `from` on that is there, needed or not, may leave, and is for all clients.
    pub(super) fn next_for_all(&self, from: Position) -> Option<(Position, Message)> {
        let from = self.first_kept(from);
        if from >= self.base
            && let Some(sparse) = self.sparse()
        {
            let (position, message) = sparse.next_for_all(from)?;
            return (position < self.committed).then(|| (position, message.clone()));
        }
        Some((from, self.kept(from)?))
    }

    /// Returns the position of the first message that is there from `from` on, needed or not; the base if there is none
    /// before.
    pub(super) fn first_kept(&self, from: Position) -> Position {
        if from >= self.base {
            return from;
        }
        self.history.get().and_then(|history| history.first(from)).unwrap_or(self.base)
    }

    /// Returns the message at `position`, if it is there, needed or not, may leave, and is for all clients.
    pub(super) fn kept(&self, position: Position) -> Option<Message> {
        if position < self.base {
            return self.history.get()?.get(position).cloned();
        }
        self.sendable(position)
            .filter(|_| self.sparse().is_none_or(|sparse| sparse.is_for_all(position)))
    }

    /// Returns how many messages are there that no client needs, and how many bytes.
    pub(super) fn history_size(&self) -> (usize, usize) {
        self.history.get().map_or((0, 0), |history| (history.len(), history.bytes()))
    }

    /// Returns the message at `position`, if it is there and may leave.
    pub(super) fn sendable(&self, position: Position) -> Option<Message> {
        if position >= self.committed || position < self.base {
            return None;
        }
        self.get(position)
    }

    /// Returns the message at `position`, if it is there.
    pub(super) fn get(&self, position: Position) -> Option<Message> {
        if let Some(sparse) = self.sparse() {
            return sparse.get(position).cloned();
        }
        let mut at = usize::try_from(position.since(self.base)).ok()?;
        if let Some(binaries) = self.binaries() {
            let before = binaries.partition_point(|(of, _)| *of < position);
            if let Some((_, bytes)) = binaries.get(before).filter(|(of, _)| *of == position) {
                return Some(Message::Binary(bytes.clone()));
            }
            at -= before;
        }
        self.texts.get(at).cloned().map(Message::Text)
    }

    /// Returns whether there is a message for a client at `position`.
    pub(super) fn is_for(&self, position: Position, recipient: Recipient) -> bool {
        match self.sparse() {
            Some(sparse) => sparse.is_for(position, recipient),
            None => true,
        }
    }

    /// Returns the position of the next message for a client, from `from` on. If there is none that may leave:
    /// the position of the next that is going to leave.
    pub(super) fn next_for(&self, from: Position, recipient: Recipient) -> Position {
        match self.sparse() {
            Some(sparse) => sparse.next_for(from, recipient, self.committed),
            None => from,
        }
    }

    /// Returns how many messages there are for a client from `from` on.
    pub(super) fn count_for(&self, from: Position, recipient: Recipient) -> u64 {
        match self.sparse() {
            Some(sparse) => sparse.count_for(from, recipient),
            None => self.head().since(from),
        }
    }

    fn iter(&self) -> impl Iterator<Item = Message> {
        let sparse = self.sparse();
        let dense = if sparse.is_some() { 0 } else { self.len() as u64 };
        let dense = (0..dense).filter_map(|at| self.get(self.base.advanced_by(at)));
        dense.chain(sparse.into_iter().flat_map(Sparse::storable).cloned())
    }

    pub(super) fn push(&mut self, message: Message) -> Position {
        let position = self.head();
        self.bytes += cost(&message);
        if let Some(sparse) = self.sparse_mut() {
            sparse.push(message, None);
            return position;
        }
        match message {
            Message::Text(text) => push(self.texts.used(), text),
            Message::Binary(bytes) => {
                if let Some(binaries) = self.binaries_to_fill() {
                    push(binaries, (position, bytes));
                }
            }
        }
        position
    }

    /// The binaries, for one more; `None` if all messages are kept in another way.
    fn binaries_to_fill(&mut self) -> Option<&mut VecDeque<(Position, Bytes)>> {
        let apart = &mut self.rare.get_or_default().apart;
        if matches!(apart, Apart::Nothing) {
            *apart = Apart::Binaries(VecDeque::new());
        }
        match apart {
            Apart::Binaries(binaries) => Some(binaries),
            Apart::Sparse(_) | Apart::Nothing => None,
        }
    }

    /// Adds a message that is for one client, or may be replaced. `unseen`: no snapshot knows of messages from here
    /// on.
    pub(super) fn push_with(
        &mut self,
        message: Message,
        terms: Terms,
        unseen: Option<Position>,
    ) -> Position {
        let position = self.head();
        self.bytes += cost(&message);
        let freed = self.make_sparse().push_with(message, terms, unseen);
        self.bytes -= freed.bytes;
        position
    }

    /// Returns what a new message of this slot takes the place of at once; arguments as for [`Self::push_with`].
    pub(super) fn gives_way(&self, slot: &str, unseen: Option<Position>) -> Freed {
        self.sparse().map_or(Freed::default(), |sparse| sparse.gives_way(slot, unseen))
    }

    pub(super) fn mark_checkpoint(&mut self, position: Position, retention: &Retention) {
        self.note_rare(|rare| rare.checkpoint = Some(position));
        if !retention.is_off() {
            let base = self.base;
            let history = self.history.get_or_insert_with(|| History::new(base));
            history.set_checkpoint(Some(position), base, retention);
        }
    }

    /// There is no room to keep the checkpoint for clients that start fresh. The history may keep it for others.
    pub(super) fn void_checkpoint(&mut self) {
        self.note_rare(|rare| rare.checkpoint = None);
    }

    /// There is no checkpoint any more.
    pub(super) fn clear_checkpoint(&mut self, retention: &Retention) {
        self.void_checkpoint();
        let base = self.base;
        if let Some(history) = self.history.get_mut() {
            history.set_checkpoint(None, base, retention);
        }
    }

    pub(super) fn acknowledge(&mut self, position: Position) {
        self.acknowledged = self.acknowledged.max(position);
    }

    /// Lets everything before `position` leave.
    pub(super) fn commit(&mut self, position: Position) {
        self.committed = self.committed.max(position);
        let committed = self.committed;
        let freed = self.sparse_mut().map(|sparse| sparse.commit(committed));
        self.bytes -= freed.unwrap_or_default().bytes;
    }

    /// Forgets everything before `position`; returns whether that was anything.
    ///
    /// If some clients are past messages that they have not had, [`note_passed`](Self::note_passed) comes first.
    pub(super) fn forget(&mut self, position: Position, retention: &Retention) -> bool {
        let mut forgot = false;
        if self.is_sparse() {
            forgot = self.forget_sparse(position, retention);
            self.set_base(self.base.max(position));
            self.end_sparse();
            return forgot;
        }
        while self.base < position && self.pop(retention) {
            forgot = true;
        }
        forgot
    }

    fn forget_sparse(&mut self, position: Position, retention: &Retention) -> bool {
        let base = self.base;
        let Some(OutboxRarities { apart: Apart::Sparse(sparse), .. }) = self.rare.get_mut() else {
            return false;
        };
        let history = &mut self.history;
        let freed = sparse.forget(position, |position, message, terms| {
            if !retention.is_off() {
                let history = history.get_or_insert_with(|| History::new(base));
                history.take(position, message, terms, retention);
            }
        });
        self.bytes -= freed.bytes;
        freed.messages > 0
    }

    /// As [`Self::forget`], if these are many texts; returns them then.
    pub(super) fn forget_apart(
        &mut self,
        position: Position,
        retention: &Retention,
    ) -> Rare<VecDeque<ByteString>> {
        let count = usize::try_from(position.since(self.base)).unwrap_or(usize::MAX);
        // What is retained is not freed.
        if !retention.is_off() {
            return Rare::none();
        }
        if !matches!(self.apart(), Apart::Nothing) || count < MANY || count > self.texts.len() {
            return Rare::none();
        }
        let texts = self.texts.used();
        let rest = texts.split_off(count);
        let gone = std::mem::replace(texts, rest);
        // The sum of the shorter part: each length comes from memory.
        self.bytes = if count > self.texts.len() {
            self.texts.iter().map(|text| text.len() + MESSAGE_OVERHEAD).sum()
        } else {
            self.bytes - gone.iter().map(|text| text.len() + MESSAGE_OVERHEAD).sum::<usize>()
        };
        self.set_base(position);
        Rare::new(gone)
    }

    /// Lets the oldest message go although a client may miss it. Calls for [`note_passed`](Self::note_passed) as
    /// [`forget`](Self::forget) does.
    pub(super) fn drop_oldest(&mut self, retention: &Retention) -> bool {
        let dropped = if self.is_sparse() {
            let next = self.oldest().advanced_by(1);
            let dropped = self.forget_sparse(next, retention);
            if dropped {
                self.set_base(next);
            }
            dropped
        } else {
            self.pop(retention)
        };
        if dropped {
            let base = self.base;
            self.note_rare(|rare| rare.overflowed = base);
        }
        dropped
    }

    #[cfg(test)]
    pub(super) fn is_in_use(&self) -> bool {
        self.texts.is_in_use() || self.rare.get().is_some()
    }

    /// Gives memory back that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        self.texts.let_go();
    }

    fn pop(&mut self, retention: &Retention) -> bool {
        let position = self.base;
        let Some(message) = self.pop_message() else {
            return false;
        };
        self.bytes -= cost(&message);
        self.set_base(position.advanced_by(1));
        if !retention.is_off() {
            let history = self.history.get_or_insert_with(|| History::new(position));
            history.take(position, message, None, retention);
        }
        true
    }

    fn set_base(&mut self, base: Position) {
        self.base = base;
        self.committed = self.committed.max(base);
        if self.checkpoint().is_some_and(|checkpoint| checkpoint < base) {
            self.void_checkpoint();
        }
    }

    fn pop_message(&mut self) -> Option<Message> {
        let base = self.base;
        if let Some(OutboxRarities { apart: Apart::Binaries(binaries), .. }) = self.rare.get_mut()
            && binaries.front().is_some_and(|(of, _)| *of == base)
            && let Some((_, bytes)) = binaries.pop_front()
        {
            if binaries.is_empty() {
                self.set_apart(Apart::Nothing);
            }
            return Some(Message::Binary(bytes));
        }
        self.texts.pop_front().map(Message::Text)
    }

    // What only some of the clients need.

    /// Returns from where on a client needs messages that has acknowledged all before `acked`.
    pub(super) fn needed_by(&self, uid: ClientUid, acked: Position) -> Position {
        let past = self.sparse().and_then(|sparse| sparse.past(uid));
        past.map_or(acked, |past| past.max(acked))
    }

    /// A client needs nothing before `needed`, and has acknowledged all before `acked`.
    pub(super) fn set_needed(&mut self, uid: ClientUid, acked: Position, needed: Position) {
        if needed > acked {
            self.make_sparse().set_past(uid, Some(needed));
        } else if let Some(sparse) = self.sparse_mut() {
            sparse.set_past(uid, None);
            self.end_sparse();
        }
    }

    /// A client needs nothing that is not for it.
    pub(super) fn note_passed(&mut self, recipient: Recipient, uid: ClientUid, acked: Position) {
        let needed = self.needed_by(uid, acked);
        // What it has lost is missing.
        if self.is_sparse() && needed >= self.base {
            let next = self.next_for(needed, recipient);
            self.set_needed(uid, acked, next);
        }
    }

    /// A client has what is for it alone before `position`: that was kept for no other. Returns whether it was anything.
    pub(super) fn take_own(
        &mut self,
        recipient: Recipient,
        from: Position,
        position: Position,
    ) -> bool {
        let freed = self.sparse_mut().map(|sparse| sparse.take_own(recipient, from, position));
        let freed = freed.unwrap_or_default();
        self.bytes -= freed.bytes;
        freed.messages > 0
    }

    /// Lets everything go that is for this client alone; returns the positions and lengths.
    ///
    /// A client is told what it misses. So what may not leave stays until it may: the end of that gap would be a
    /// position that a crash takes back. A plain client is told of no gap.
    pub(super) fn let_go_of(&mut self, recipient: Recipient) -> Vec<(Position, usize)> {
        let end = if recipient.name.is_plain() { self.head() } else { self.committed };
        let gone = self.sparse_mut().map(|sparse| sparse.let_go_of(recipient, end));
        let gone = gone.unwrap_or_default();
        self.bytes -= gone.iter().map(|(_, length)| length + MESSAGE_OVERHEAD).sum::<usize>();
        gone
    }

    /// The client with this record is forgotten.
    pub(super) fn forget_client(&mut self, uid: ClientUid) {
        if let Some(sparse) = self.sparse_mut() {
            sparse.forget_client(uid);
            self.end_sparse();
        }
    }

    /// Returns before which position messages have left that were for this client alone.
    pub(super) fn own_left(&self, uid: ClientUid) -> Position {
        self.sparse().map_or(Position::ZERO, |sparse| sparse.own_left(uid))
    }

    /// Messages before this one that were for this client alone have left.
    pub(super) fn restore_own_left(&mut self, uid: ClientUid, before: Position) {
        if let Some(sparse) = self.sparse_mut() {
            sparse.restore_own_left(uid, before);
        }
    }

    /// Returns before which position a client that is not known may miss messages that were for it alone.
    pub(super) fn lost(&self) -> Position {
        self.sparse().map_or(Position::ZERO, Sparse::lost)
    }

    /// What is for clients of this identity alone is for those of another one.
    pub(super) fn change_identity(&mut self, old: super::IdentityTag, new: super::IdentityTag) {
        if let Some(sparse) = self.sparse_mut() {
            sparse.change_identity(old, new);
        }
    }

    /// Lets go of messages whose time is over; returns whether there were any.
    pub(super) fn expire(&mut self, now: Moment) -> bool {
        let freed = self.sparse_mut().map(|sparse| sparse.expire(now)).unwrap_or_default();
        self.bytes -= freed.bytes;
        freed.messages > 0
    }

    /// Returns when the time of a message is over next.
    pub(super) fn next_expiry(&self) -> Option<Moment> {
        self.sparse().and_then(Sparse::next_expiry)
    }
}

/// Grows by a quarter instead of doubling: a suspended session's buffer is mostly idle memory.
pub(super) fn push<M>(queue: &mut VecDeque<M>, message: M) {
    if queue.len() == queue.capacity() {
        queue.reserve_exact((queue.len() / 4).max(4));
    }
    queue.push_back(message);
}

impl OutboxRarities {
    fn is_empty(&self) -> bool {
        let Self { apart, checkpoint, overflowed } = self;
        matches!(apart, Apart::Nothing) && checkpoint.is_none() && *overflowed == Position::ZERO
    }
}

pub(super) fn cost(message: &Message) -> usize {
    message.len() + MESSAGE_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(position: u64, binary: bool) -> Message {
        let text = position.to_string();
        if binary { Message::Binary(text.into()) } else { Message::Text(text.into()) }
    }

    #[test]
    fn texts_and_binaries_keep_their_places() {
        for pattern in ["tttttt", "bbbbbb", "tbtbtb", "bbtttb", "tttbbt"] {
            let mut outbox = Outbox::default();
            let expected: Vec<_> =
                (0..).zip(pattern.bytes()).map(|(at, kind)| message(at, kind == b'b')).collect();
            for message in &expected {
                outbox.push(message.clone());
            }
            for forgotten in 0..=expected.len() {
                outbox.forget(Position::new(forgotten as u64), &Retention::default());
                let left: Vec<_> = outbox.iter().collect();
                assert_eq!(left, expected[forgotten..], "{pattern}, without {forgotten}");
                assert_eq!(outbox.bytes(), left.iter().map(cost).sum::<usize>());
            }
            assert_eq!(outbox.head(), Position::new(6));
            assert!(outbox.rare.get().is_none(), "no box is left behind");
        }
    }

    #[test]
    fn many_messages_leave_at_once_and_are_freed_later() {
        let many = MANY as u64;
        for (count, kept) in [(many, 0), (many, 3), (many + 1, 2 * many)] {
            let mut outbox = Outbox::default();
            for position in 0..count + kept {
                outbox.push(message(position, false));
            }
            let off = Retention::default();
            let few = outbox.forget_apart(Position::new(many - 1), &off);
            assert!(few.get().is_none());
            let gone = outbox.forget_apart(Position::new(count), &off);
            assert_eq!(gone.get().map(VecDeque::len), Some(usize::try_from(count).unwrap()));
            let left: Vec<_> = outbox.iter().collect();
            let expected: Vec<_> = (count..count + kept).map(|at| message(at, false)).collect();
            assert_eq!(left, expected);
            assert_eq!(outbox.bytes(), left.iter().map(cost).sum::<usize>());
            assert_eq!(outbox.base(), Position::new(count));
            assert_eq!(outbox.head(), Position::new(count + kept));
        }
    }
}
