//! What a plain transport is written, and what its pongs are worth.
//!
//! Only its WebSocket stack speaks for a plain client, and most stacks answer pings only while the application
//! reads. So a slow client is written no more than it can confirm: what it was written and has not confirmed comes
//! again after a drop.

use std::time::Duration;

use super::{
    PlainAck, Rules, Session,
    client::{Client, ClientUid},
    transport::Transport,
};
use crate::{AttachmentNumber, Moment, Position, wire::CloseKind};

/// A message is given up after it was the only unconfirmed one this many times when the peer ended its transport.
const STRIKES: u8 = 3;

/// How much is written beyond the position of an unanswered ping.
///
/// It begins with 64 messages and 64 KiB. This is a tenth of what a fast connection needs, and the most that a slow
/// client is sent twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Window {
    doublings: u8,
}

impl Window {
    const MESSAGES: u64 = 64;
    const BYTES: usize = 64 << 10;
    /// The most doublings: up to 1,024 messages and 1 MiB.
    const MOST: u8 = 4;

    const fn messages(self) -> u64 {
        Self::MESSAGES << self.doublings
    }

    const fn bytes(self) -> usize {
        Self::BYTES << self.doublings
    }
}

/// What a plain client has had trouble with. Gone with the process: a restart tries everything once more.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Trouble {
    /// Messages before this go one by one, each with a ping.
    alone_until: Position,
    /// The message that was the only unconfirmed one when the peer last ended its transport, and how often.
    struck: Option<(Position, u8)>,
    /// What it cannot take, as far as the outbox keeps it: at most as many as are in there.
    skipped: Vec<Position>,
}

/// A message that a plain client cannot take. It is passed over for this client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undeliverable {
    /// Its position.
    pub position: Position,
    /// Its length.
    pub bytes: usize,
    /// The client has said that it is too big. Else it has ended three transports that had this message alone to
    /// confirm.
    pub too_big: bool,
}

impl Trouble {
    pub(super) fn skips(&self, position: Position) -> bool {
        self.skipped.contains(&position)
    }

    pub(super) fn goes_alone(&self, position: Position) -> bool {
        position < self.alone_until
    }

    /// Whether the message at this position goes only when everything before it is confirmed: it goes alone, or the
    /// one before it did.
    pub(super) fn waits_for_all_before(&self, position: Position) -> bool {
        position <= self.alone_until && self.alone_until > Position::ZERO
    }

    fn go_alone_until(&mut self, position: Position) {
        self.alone_until = self.alone_until.max(position);
    }

    fn skip(&mut self, position: Position, base: Position) {
        self.skipped.retain(|skipped| *skipped >= base);
        self.skipped.push(position);
        self.struck = None;
    }

    /// The peer has ended a transport with this message alone unconfirmed; returns how often it has.
    fn strike(&mut self, position: Position) -> u8 {
        let before = self.struck.filter(|(struck, _)| *struck == position).map_or(0, |(_, n)| n);
        self.struck = Some((position, before + 1));
        before + 1
    }
}

impl Transport {
    /// Whether another message of `bytes` bytes may be written now. A message that waits for all before it may be
    /// written only when nothing is unconfirmed.
    pub(super) fn window_takes(&self, bytes: usize, waits: bool) -> bool {
        if !self.is_plain() {
            return true;
        }
        if waits {
            return self.ping.is_none() && self.unpinged_messages == 0;
        }
        self.ping.is_none()
            || (self.unpinged_messages < self.window.messages()
                && (self.unpinged_bytes == 0 || self.unpinged_bytes + bytes <= self.window.bytes()))
    }

    /// How many messages the window takes at most.
    pub(super) fn window_left(&self) -> usize {
        if !self.is_plain() || self.ping.is_none() {
            return usize::MAX;
        }
        let left = self.window.messages().saturating_sub(self.unpinged_messages);
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    fn widen_window(&mut self) {
        self.window.doublings = (self.window.doublings + 1).min(Window::MOST);
    }
}

impl<I: Clone> Session<I> {
    /// The peer of a plain transport has answered the ping at `position` after `took`.
    pub(super) fn confirmed_after(
        &mut self,
        at: usize,
        position: Position,
        took: Duration,
        now: Moment,
    ) {
        let Rules { plain_pong_timeout: deadline, ref bounds, .. } = *self.rules;
        let t = &mut self.transports[at];
        let messages = position.get().saturating_sub(t.confirmed.get()).max(1);
        let (uid, sent) = (t.client, t.sent);
        let is_late = took > deadline / 10;
        if is_late {
            t.window = Window::default();
        } else {
            t.widen_window();
        }
        // What was written meanwhile may need a ping of its own, and more may be written now.
        self.wake.transports |= t.confirmation_due(bounds, now) || sent < self.outbox.committed();
        self.confirm(at, position, now);
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        if is_late && took / messages > deadline / 64 {
            // The client is slow: the messages that may go without a ping would take it longer than the deadline.
            self.trouble(uid, |trouble| trouble.go_alone_until(sent.advanced_by(1)));
        }
    }

    /// The stack of a plain transport's peer has everything before `position`, and needs nothing of what is passed
    /// over there.
    pub(super) fn confirm(&mut self, at: usize, position: Position, now: Moment) {
        let margin = match self.rules.plain_ack {
            PlainAck::Trust => 0,
            PlainAck::Margin(margin) => margin,
            PlainAck::Off => return,
        };
        let acknowledged = Position::new(position.get().saturating_sub(margin));
        let base = self.outbox.base();
        let t = &mut self.transports[at];
        let client = self.clients.get(t.client);
        let trouble = client.and_then(Client::trouble);
        let recipient = client.map(Client::recipient).filter(|_| self.outbox.is_sparse());
        let is_not_for = |position: Position| {
            recipient.is_some_and(|of| position >= base && !self.outbox.is_for(position, of))
        };
        let behind_skips = |mut position: Position| {
            while position < t.sent
                && (trouble.is_some_and(|trouble| trouble.skips(position)) || is_not_for(position))
            {
                position = position.advanced_by(1);
            }
            position
        };
        let (confirmed, needed) = (behind_skips(position), behind_skips(acknowledged));
        t.confirmed = t.confirmed.max(confirmed);
        // A send that waits for room takes it from the margin.
        self.wake.room |= margin > 0 && self.usage.waits_for_room();
        self.acknowledge(at, acknowledged, now);
        self.needs_only_from(at, needed, now);
    }

    /// In a stand-off what was written to a plain transport counts as confirmed, and its ping as answered: else
    /// the window would stay shut with the pong behind the data that nobody reads.
    pub(super) fn confirm_written(&mut self, at: usize, now: Moment) {
        let t = &mut self.transports[at];
        if t.is_plain() {
            let sent = t.sent;
            t.unread_pings += u8::from(t.ping.take().is_some());
            t.ping_now = false;
            t.confirmed = sent;
            t.has_nothing_unpinged();
            self.wake.transports |= sent < self.outbox.committed();
            self.acknowledge(at, sent, now);
        }
    }

    /// A pong of a transport whose turn is over still tells what its peer has, until a newer plain transport has
    /// attached: that one has started at what was confirmed by then, or belongs to another client.
    pub(super) fn handle_late_pong(&mut self, at: usize, payload: &[u8], now: Moment) {
        let t = &self.transports[at];
        let is_news =
            t.is_plain() && t.is_answer(payload) && self.newest_plain(t.client) <= t.number;
        if self.frozen || !is_news {
            return;
        }
        if let Some(ping) = self.transports[at].ping.take() {
            self.confirm(at, ping.position, now);
        }
    }

    /// The peer has ended its transport itself, with this code if it has sent a close. Call it before
    /// [`Self::detach`], and only if the peer itself ended the transport.
    ///
    /// Returns a message that a plain client cannot take and that is passed over from now on.
    pub fn handle_peer_end(
        &mut self,
        number: AttachmentNumber,
        code: Option<u16>,
        now: Moment,
    ) -> Option<Undeliverable> {
        let at = self.transport_index(number)?;
        let t = &self.transports[at];
        let off = self.rules.plain_ack == PlainAck::Off;
        let too_big = code.map(|code| CloseKind::parse(code, "")) == Some(CloseKind::TooBig);
        if !t.is_plain() || !t.is_attached() || self.frozen || (off && !too_big) {
            return None;
        }
        let (uid, confirmed) = (t.client, t.confirmed);
        let client = self.clients.get(uid)?;
        let unconfirmed: Vec<_> = (confirmed.get()..t.sent.get())
            .map(Position::new)
            .filter(|position| {
                client.trouble().is_none_or(|trouble| !trouble.skips(*position))
                    && self.outbox.is_for(*position, client.recipient())
            })
            .filter_map(|position| Some((self.outbox.get(position)?.len(), position)))
            .collect();
        self.go_one_by_one(at);
        // If any of them was too big, the largest was.
        let (bytes, position) = unconfirmed.iter().copied().max()?;
        let alone = unconfirmed.len() == 1;
        let base = self.outbox.base();
        let given_up = self.trouble(uid, |trouble| {
            let given_up = too_big || (alone && trouble.strike(position) >= STRIKES);
            if given_up {
                trouble.skip(position, base);
            }
            given_up
        });
        if !given_up {
            return None;
        }
        self.confirm(at, confirmed, now);
        let who = self.clients.get(uid)?.who.clone();
        if self.usage.ended.is_none() {
            self.inbox.push_undeliverable(uid, who, position, bytes);
            self.wake.handler = true;
        }
        Some(Undeliverable { position, bytes, too_big })
    }

    /// What a transport was written and has not confirmed goes one by one on the next: so every message that the
    /// client can take is confirmed by itself, and one that it cannot take is known.
    pub(super) fn go_one_by_one(&mut self, at: usize) {
        let t = &self.transports[at];
        let (uid, sent) = (t.client, t.sent);
        if t.is_plain() && t.confirmed < sent && self.rules.plain_ack != PlainAck::Off {
            self.trouble(uid, |trouble| trouble.go_alone_until(sent));
        }
    }

    fn trouble<R: Default>(&mut self, uid: ClientUid, note: impl FnOnce(&mut Trouble) -> R) -> R {
        let client = self.clients.get_mut(uid);
        client.map(|client| client.note_rare(|rare| note(&mut rare.trouble))).unwrap_or_default()
    }

    /// The newest attachment of a plain client that may start where this one was: a watcher and a writer never do.
    fn newest_plain(&self, uid: ClientUid) -> AttachmentNumber {
        let of = self.clients.get(uid);
        let is_alike = |client: &&Client<I>| {
            client.who.name.is_plain() && of.is_some_and(|of| of.access == client.access)
        };
        let plain = self.clients.iter().filter(is_alike);
        plain.map(|client| client.newest).max().unwrap_or_default()
    }
}
