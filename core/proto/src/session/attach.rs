//! Which transport gets the session, from which position on, and what it is told.

use std::time::Duration;

use super::{
    Attach, Bounds, ClientName, IdentityTag, PlainAck, Rules, Session,
    client::{Client, ClientUid, Standing, Takeover, Who},
    damping::Damping,
    lives::Lineage,
    transport::{PROBE_DEADLINE, Transport},
};
use crate::{
    AttachmentNumber, Gap, GapReason, Moment, Position, Token,
    wire::{Close, Hello, ProtocolError, Status, Window},
};

/// How the request that brings a transport found the session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// The request made the session.
    New,
    /// The session was in memory.
    Reused,
    /// The request rebuilt the session from a snapshot.
    Restored,
}

impl Origin {
    /// What a client that starts fresh is told.
    const fn status(self) -> Status {
        match self {
            Self::New => Status::New,
            Self::Reused => Status::Reused,
            Self::Restored => Status::Restored,
        }
    }
}

/// What a transport that arrives claims to have.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Claim {
    /// A plain WebSocket: it can name nothing.
    Plain,
    /// A client that holds nothing.
    Fresh,
    /// A cursor of a session that is not there.
    Lost {
        /// The position it expects next.
        received: Position,
    },
    /// A cursor of this session.
    Cursor {
        /// The epoch it knows.
        epoch: Token,
        /// The position it expects next.
        received: Position,
        /// The attachment of the last hello it saw.
        attachment: Option<AttachmentNumber>,
    },
}

/// A transport that wants its turn.
#[derive(Clone, Debug)]
pub struct Arrival<I> {
    /// Whose it is.
    pub client: ClientName,
    /// What the application is told of it.
    pub info: I,
    /// How its request found the session.
    pub origin: Origin,
    /// What it has.
    pub claim: Claim,
    /// Random bytes for its ping payloads.
    pub nonce: [u8; 8],
}

/// A transport that gets no turn: accept it, write this, linger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// How to close.
    pub close: Close,
    /// When to come back; sent as `{"retry":ms}` before the close.
    pub retry: Option<Duration>,
}

/// What an attach has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attached {
    /// The transport's number.
    pub number: AttachmentNumber,
    /// What a resumable client is told. A plain client is told nothing, but its status is the same.
    pub status: Status,
    /// How many messages lie between where the client is and the head: those are sent first.
    pub behind: u64,
    /// What is gone that the client has not had.
    pub gap: Option<Gap>,
}

/// Where a client starts.
struct Start {
    from: Position,
    /// What counts as acknowledged: a plain client may be sent more than it needs.
    acked: Position,
    status: Status,
    received: Option<u64>,
    gap: Option<Gap>,
}

impl<I: Clone> Session<I> {
    /// Decides whether the transport may have a turn, without giving it one.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] with which to close it; a silent holder that keeps others out is pinged at
    /// once.
    pub fn admit(&mut self, client: ClientName, claim: &Claim, now: Moment) -> Result<(), Refusal> {
        let admitted = self.decide_admission(client, claim, now);
        if self.rules.attach == Attach::Refuse
            && matches!(&admitted, Err(refusal) if refusal.close == Close::TRY_AGAIN)
        {
            let plain_ack = self.rules.plain_ack;
            let holders = self.transports.iter_mut().filter(|t| t.is_attached());
            holders.for_each(|t| t.probe(plain_ack, now));
            self.wake.transports = true;
        }
        admitted
    }

    fn decide_admission(
        &self,
        client: ClientName,
        claim: &Claim,
        now: Moment,
    ) -> Result<(), Refusal> {
        self.check_moved(client.identity, claim, now)?;
        let known = self.clients.named(client).filter(|_| !self.is_lone_plain(client));
        let received = match claim {
            Claim::Plain | Claim::Fresh => None,
            Claim::Lost { received } | Claim::Cursor { received, .. } => Some(*received),
        };
        if let Claim::Cursor { attachment, .. } = claim
            && let (Some(known), Some(n)) = (known, attachment)
            && *n < known.heard
        {
            return Err(Refusal { close: Close::STALE, retry: None });
        }
        if received.is_some() && known.is_some_and(|known| known.takeover == Takeover::Untold) {
            return Err(Refusal { close: Close::SUPERSEDED, retry: None });
        }
        let above_head = received.is_some_and(|received| match claim {
            Claim::Cursor { epoch, .. } if self.lineage(epoch, received) == Lineage::AboveHead => {
                true
            }
            Claim::Cursor { .. } | Claim::Lost { .. } | Claim::Fresh | Claim::Plain => {
                received.get() > crate::MAX_INTEGER
            }
        });
        if above_head {
            let reason = format!("protocol error: {}", ProtocolError::CursorAboveHead);
            let close = Close::new(Close::CODE_PROTOCOL_ERROR, reason);
            return Err(Refusal { close, retry: None });
        }
        let mut others =
            self.attached().filter(|t| known.is_none_or(|known| known.uid != t.client)).peekable();
        if self.rules.attach == Attach::Refuse && others.peek().is_some() {
            let silent = others.all(|t| t.is_silent(self.rules.heartbeat, now));
            return Err(if silent {
                Refusal { close: Close::TRY_AGAIN, retry: Some(PROBE_DEADLINE) }
            } else {
                Refusal { close: Close::REFUSED, retry: None }
            });
        }
        if known.is_none() {
            // No client is attached that could make the room for which the handler waits, so no record becomes free.
            // One more client is let in: it may make the room.
            let stuck = self.life.waits_for_room() && !self.clients.any_attached();
            let bounds = &self.rules.bounds;
            // Under `Takeover` the attached client is about to be superseded.
            let stays = |c: &&Client<I>| c.is_attached() && self.rules.attach != Attach::Takeover;
            let permanent = || self.clients.iter().filter(|c| stays(c) || c.has_unhandled());
            let own = permanent().filter(|c| c.who.name.identity == client.identity).count();
            let full = own >= bounds.clients + usize::from(stuck)
                || permanent().count() >= bounds.shared_clients + usize::from(stuck);
            let gone_plain = || self.gone_plain(client.identity).next();
            let replaces = self.is_lone_plain(client) && gone_plain().is_some();
            if full && !replaces {
                return Err(Refusal { close: Close::TRY_AGAIN, retry: Some(self.rules.heartbeat) });
            }
        }
        Ok(())
    }

    /// Gives the transport its turn, the newest one.
    ///
    /// From now on [`Self::poll_transmit`] hands out what to write, first the hello.
    ///
    /// # Errors
    ///
    /// As [`Self::admit`].
    pub fn attach(
        &mut self,
        arrival: Arrival<I>,
        session: &Token,
        now: Moment,
    ) -> Result<Attached, Refusal> {
        let Arrival { client: name, info, origin, claim, nonce } = arrival;
        self.admit(name, &claim, now)?;
        self.note_plain_supersede(name, now);
        let number = self.last_attachment.next();
        self.last_attachment = number;
        // A transport that is replaced does not end the session for its overflow. The new transport has a whole
        // heartbeat to make room.
        let overflow_since = self.overflow_since.take();
        self.supersede_for(name, now);
        self.overflow_since = overflow_since;
        let who = Who { name, info };
        let (uid, start) = self.place(who.clone(), &claim, origin);
        if let Some(client) = self.clients.get_mut(uid) {
            client.who.info = who.info.clone();
            if !name.is_plain() {
                client.shown = Some(self.lives.epoch().life());
                self.lives.name();
            }
        }
        self.clients.set_attached(uid, number);
        let attached = Attached {
            number,
            status: start.status,
            behind: self.outbox.head().get() - start.from.get(),
            gap: start.gap,
        };
        let has_gap = start.gap.is_some();
        let hello = (!name.is_plain()).then(|| {
            Box::new(Hello {
                v: 1,
                session: *session,
                epoch: self.epoch().token(),
                attachment: number,
                status: start.status,
                from: start.from,
                received: start.received,
                gap: start.gap,
                heartbeat_ms: millis(self.rules.heartbeat),
                lifetime_ms: millis(self.rules.unused_lifetime),
                window: window(&self.rules),
                limit: Some(limit(&self.rules)),
                ping: true,
            })
        });
        let acknowledged = self.clients.get(uid).map_or(0, |client| self.inbound_ack(client));
        self.transports.push(Transport::new(
            number,
            uid,
            nonce,
            hello,
            start.from,
            acknowledged,
            now,
        ));
        if self.life.ended.is_none() {
            let untold = self.clients.get_mut(uid).and_then(|client| client.untold_start.take());
            let resumed = start.status == Status::Resumed && untold.is_none();
            // With a gap it may have missed the checkpoint that it started with.
            let checkpoint = self.outbox.checkpoint() == Some(start.from)
                || untold.is_some_and(|start| start.checkpoint) && !has_gap;
            self.inbox.push_attached(uid, who, resumed, checkpoint);
            self.wake.handler = true;
        }
        self.trim();
        // Now that a client is attached, the client that was attached last may stop mattering, too. And this client
        // may be the newer run.
        self.returns_by = None;
        self.wake.room |= self.life.waits_for_room();
        self.wake.transports = true;
        Ok(attached)
    }

    /// Returns how long a plain transport should wait for its 101, because plain transports have been superseding
    /// each other in a circle (two tabs with reconnect scripts).
    pub fn plain_delay(&self, now: Moment) -> Duration {
        self.damping.as_ref().map_or(Duration::ZERO, |damping| damping.delay(now))
    }

    fn note_plain_supersede(&mut self, name: ClientName, now: Moment) {
        let supersedes = name.is_plain()
            && self.plain_is_one_client()
            && self.attached().any(Transport::is_plain);
        if supersedes {
            let damping = self.damping.get_or_insert_with(|| Box::new(Damping::new()));
            self.wake.circle |= damping.note(now);
        }
    }

    /// Ends the turns that this client's arrival ends.
    fn supersede_for(&mut self, name: ClientName, now: Moment) {
        let own =
            self.clients.named(name).filter(|_| !self.is_lone_plain(name)).map(|client| client.uid);
        for at in 0..self.transports.len() {
            if Some(self.transports[at].client) == own {
                self.end_transport(at, Close::REPLACED, None, now);
            } else if self.rules.attach == Attach::Takeover {
                self.end_transport(at, Close::SUPERSEDED, None, now);
            }
        }
        if self.rules.attach == Attach::Takeover {
            for client in self.clients.iter_mut().filter(|client| Some(client.uid) != own) {
                if client.takeover == Takeover::None {
                    client.takeover = Takeover::Untold;
                }
                if client.matters() {
                    client.standing = Standing::Stopped(GapReason::Evicted);
                }
            }
        }
    }

    /// Finds or makes the client's record and decides where it starts.
    fn place(&mut self, who: Who<I>, claim: &Claim, origin: Origin) -> (ClientUid, Start) {
        let name = who.name;
        let mut uid =
            if self.is_lone_plain(name) { None } else { self.clients.named(name).map(|c| c.uid) };
        let start = match claim {
            Claim::Plain => {
                uid = uid.or(self.gone_plain_place(name.identity));
                self.place_plain(uid, name.identity, origin)
            }
            Claim::Fresh => self.place_fresh(uid, origin, None),
            Claim::Lost { received } => self.place_fresh(
                uid,
                origin,
                Some(Gap { from: *received, to: None, reason: GapReason::Expired }),
            ),
            Claim::Cursor { epoch, received, .. } => match self.lineage(epoch, *received) {
                Lineage::Honoured => self.place_cursor(uid, epoch, *received),
                // A cursor above the head is not admitted.
                lineage @ (Lineage::Broken | Lineage::Foreign | Lineage::AboveHead) => {
                    let gap = Gap { from: *received, to: None, reason: GapReason::Restarted };
                    let mut start = self.place_fresh(uid, origin, Some(gap));
                    start.status =
                        if lineage == Lineage::Foreign { Status::Reused } else { Status::Restored };
                    if uid.is_none() && self.clients.pushed_out {
                        start.received = None;
                    }
                    start
                }
            },
        };
        // It may be one that was pushed out and whose first offer arrives late: until a frame has shown
        // that it counts from 0, a cursor of it does not.
        let perhaps_forgotten = uid.is_none() && self.clients.pushed_out;
        let uid = uid.unwrap_or_else(|| {
            self.clients.make_room(name.identity, &self.rules.bounds);
            let trials = self.court.trials();
            let uid = self.clients.insert(who, start.acked);
            if let Some(client) = self.clients.get_mut(uid) {
                client.trials = trials;
            }
            uid
        });
        if let Some(client) = self.clients.get_mut(uid) {
            client.acked = start.acked;
            client.written = start.from;
            // This hello may be lost: then the same cursor comes again, and is told the same reason.
            if let Some(Gap { to: Some(_), reason, .. }) = start.gap {
                client.stopped_by = reason;
            }
            client.counts_unknown = start.received.is_none() || perhaps_forgotten;
            if let Claim::Cursor { epoch, .. } = claim {
                client.held = self.lives.epoch().life_in(epoch).or(client.held);
            }
        }
        self.outbox.acknowledge(match claim {
            // The cursor of an offer is an acknowledgement.
            Claim::Cursor { epoch, received, .. }
                if self.lineage(epoch, *received) == Lineage::Honoured =>
            {
                *received
            }
            Claim::Cursor { .. } | Claim::Lost { .. } | Claim::Fresh | Claim::Plain => {
                Position::ZERO
            }
        });
        (uid, start)
    }

    fn place_plain(&self, uid: Option<ClientUid>, identity: IdentityTag, origin: Origin) -> Start {
        // Under `Share` the session does not know which gone plain client of this identity has come back. So the
        // client starts where the one that has confirmed least would start.
        let least = self.gone_plain(identity).map(|(acked, _)| acked).min();
        let own = least.or_else(|| uid.and_then(|uid| self.clients.get(uid)).map(|c| c.acked));
        let from = match own {
            Some(acked) => acked.min(self.outbox.checkpoint().unwrap_or(acked)),
            None if self.rules.plain_ack == PlainAck::Off => self.outbox.base(),
            None => self.outbox.fresh_start(),
        };
        let from = from.max(self.outbox.base());
        Start {
            from,
            acked: own.unwrap_or(from),
            status: if own.is_some() { Status::Resumed } else { origin.status() },
            received: None,
            gap: None,
        }
    }

    /// Under `Share` a new plain transport takes the place of its identity's gone one with the most, so that no
    /// other finds less than it needs.
    fn gone_plain_place(&self, identity: IdentityTag) -> Option<ClientUid> {
        self.gone_plain(identity).max().map(|(_, uid)| uid)
    }

    fn gone_plain(&self, identity: IdentityTag) -> impl Iterator<Item = (Position, ClientUid)> {
        let share = !self.plain_is_one_client();
        self.clients
            .iter()
            .filter(move |client| {
                share && client.who.name == ClientName::plain(identity) && !client.is_attached()
            })
            .map(|client| (client.acked, client.uid))
    }

    fn place_fresh(&self, uid: Option<ClientUid>, origin: Origin, gap: Option<Gap>) -> Start {
        let (base, from) = (self.outbox.base(), self.outbox.fresh_start());
        // An upgrade that its client gave up on may arrive late: until it has acknowledged where it
        // starts, what it had not confirmed before is kept.
        let confirmed = uid.and_then(|uid| self.clients.get(uid)).map(|client| client.acked);
        Start {
            from,
            acked: confirmed.map_or(from, |confirmed| confirmed.max(base).min(from)),
            status: origin.status(),
            received: self.counted(uid),
            gap,
        }
    }

    fn place_cursor(&self, uid: Option<ClientUid>, epoch: &Token, received: Position) -> Start {
        let from = received.max(self.outbox.base());
        let received_count = match uid {
            None if self.clients.pushed_out => None,
            _ => self.counted(uid),
        };
        let forgotten = received_count.is_none();
        let reason = match uid.and_then(|uid| self.clients.get(uid)) {
            None if forgotten => GapReason::Evicted,
            _ if self.outbox.last_loss_was_overflow() => GapReason::Overflow,
            Some(Client { standing: Standing::Stopped(reason), .. }) => *reason,
            Some(client) => client.stopped_by,
            // No client was pushed out: the session was rebuilt from a record that is older than this client's.
            None if self.lives.is_earlier(epoch) => GapReason::Restarted,
            None => GapReason::Evicted,
        };
        Start {
            from,
            acked: from,
            status: if forgotten { Status::Reused } else { Status::Resumed },
            received: received_count,
            gap: (from > received).then_some(Gap { from: received, to: Some(from), reason }),
        }
    }

    /// Returns how many of the client's messages were accepted, if the session knows.
    fn counted(&self, uid: Option<ClientUid>) -> Option<u64> {
        match uid.and_then(|uid| self.clients.get(uid)) {
            Some(client) => (!client.counts_unknown).then_some(client.received),
            None => Some(0),
        }
    }

    /// How a cursor of this session stands to what the session has.
    fn lineage(&self, epoch: &Token, received: Position) -> Lineage {
        self.lives.lineage(epoch, received, self.outbox.head())
    }

    /// Whether every transport of this name is a client of its own.
    fn is_lone_plain(&self, name: ClientName) -> bool {
        name.is_plain() && !self.plain_is_one_client()
    }
}

pub(super) fn window(rules: &Rules) -> Window {
    let Bounds { inbox_messages, inbox_bytes, .. } = rules.bounds;
    Window { messages: told(inbox_messages), bytes: told(inbox_bytes) }
}

/// The longest message that a client may send.
pub(super) fn limit(rules: &Rules) -> u64 {
    told(rules.bounds.message)
}

fn told(bound: usize) -> u64 {
    (bound as u64).min(crate::MAX_INTEGER)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).min(crate::MAX_INTEGER)
}
