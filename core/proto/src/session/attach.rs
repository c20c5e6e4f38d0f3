//! Which transport gets the session, and what it is told. From which position on: see [`replay`](super::replay).

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    Access, Bounds, ClientKind, ClientName, Rules, Session,
    client::{Client, Standing, Takeover, Who},
    damping::Damping,
    lives::{KnownLife, Lineage},
    transport::{Mode, PROBE_DEADLINE, Transport},
};
use crate::{
    AttachmentNumber, Gap, GapReason, Moment, Position, WireId,
    wire::{Close, CloseKind, EventId, Hello, ProtocolError, Status, VERSION, Window},
};

/// How the request or handler that holds a handle, or brings a transport, came to its session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionOrigin {
    /// It started the session.
    New,
    /// The session was there.
    Reused,
    /// The session was rebuilt from its snapshot.
    Restored,
}

impl fmt::Display for SessionOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Reused => "reused",
            Self::Restored => "restored",
        })
    }
}

impl SessionOrigin {
    /// What a client that starts fresh is told.
    pub(super) const fn status(self) -> Status {
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
    /// A plain reader of events, such as an `EventSource`: it confirms nothing, and names where it is when it comes
    /// back. It is the plain client, and is told the control frames.
    PlainAt(Option<EventId>),
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
        epoch: WireId,
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
    /// What it may do.
    pub access: Access,
    /// What the application is told of it.
    pub info: I,
    /// How its request found the session.
    pub origin: SessionOrigin,
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

impl<I: Clone> Session<I> {
    /// Decides whether the transport may have a turn, without giving it one.
    ///
    /// # Errors
    ///
    /// Returns the [`Refusal`] with which to close it; a silent holder that keeps others out is pinged at
    /// once.
    pub fn admit(
        &mut self,
        client: ClientName,
        access: Access,
        claim: &Claim,
        now: Moment,
    ) -> Result<(), Refusal> {
        let admitted = self.decide_admission(client.with(access), access, claim, now);
        if self.rules.attach.meeting().refuses
            && matches!(&admitted, Err(refusal) if refusal.close.kind() == CloseKind::TryAgain)
        {
            let plain_ack = self.rules.plain_ack;
            let clients = &self.clients;
            let is_writers = |t: &&mut Transport| {
                t.is_attached() && clients.get(t.client).is_some_and(|client| !client.is_watcher())
            };
            let holders = self.transports.iter_mut().filter(is_writers);
            holders.for_each(|t| t.probe(plain_ack, now));
            self.wake.transports = true;
        }
        admitted
    }

    fn decide_admission(
        &self,
        client: ClientName,
        access: Access,
        claim: &Claim,
        now: Moment,
    ) -> Result<(), Refusal> {
        let writes = access == Access::Full;
        self.check_moved(client.identity, claim, now)?;
        let known = self.clients.named(client).filter(|_| !self.is_lone_plain(client));
        let received = match claim {
            Claim::Plain | Claim::PlainAt(None) | Claim::Fresh => None,
            Claim::PlainAt(Some(at)) => Some(at.position),
            Claim::Lost { received } | Claim::Cursor { received, .. } => Some(*received),
        };
        if let Claim::Cursor { attachment, .. } = claim
            && let (Some(known), Some(n)) = (known, attachment)
            && *n < known.heard
        {
            return Err(Refusal { close: Close::STALE, retry: None });
        }
        // The page of an older line of plain attachments: another one has taken its place.
        let is_left_behind = matches!(claim, Claim::PlainAt(Some(at)) if known.is_some_and(|known| at.attachment < known.line));
        if is_left_behind {
            return Err(Refusal { close: Close::SUPERSEDED, retry: None });
        }
        // A watcher takes the session from nobody.
        let is_untold = known.is_some_and(|known| known.takeover == Takeover::Untold);
        if writes && received.is_some() && is_untold {
            return Err(Refusal { close: Close::SUPERSEDED, retry: None });
        }
        let above_head = received.is_some_and(|received| match claim {
            Claim::Cursor { epoch, .. } | Claim::PlainAt(Some(EventId { epoch, .. }))
                if self.lineage(epoch, received) == Lineage::AboveHead =>
            {
                true
            }
            Claim::Cursor { .. }
            | Claim::Lost { .. }
            | Claim::Fresh
            | Claim::Plain
            | Claim::PlainAt(_) => received.get() > crate::MAX_INTEGER,
        });
        if above_head {
            let close = Close::breach(ProtocolError::CursorAboveHead);
            return Err(Refusal { close, retry: None });
        }
        let meeting = self.rules.attach.meeting();
        let mut others = self
            .attached_writers()
            .filter(|t| known.is_none_or(|known| known.uid != t.client))
            .peekable();
        if meeting.refuses && writes && others.peek().is_some() {
            let silent = others.all(|t| t.is_silent(self.rules.heartbeat, now));
            return Err(if silent {
                Refusal { close: Close::TRY_AGAIN, retry: Some(PROBE_DEADLINE) }
            } else {
                Refusal { close: Close::REFUSED, retry: None }
            });
        }
        if known.is_none() {
            // No client is attached that could make the room for which the handler waits, so no remembered client can be pushed out.
            // One more client is let in: it may make the room.
            let stuck = self.usage.waits_for_room() && !self.clients.any_attached();
            let bounds = &self.rules.bounds;
            // An attached client that is about to be superseded does not stay.
            let supersedes = meeting.supersedes && writes;
            let stays = |c: &Client<I>| (c.is_watcher() || !supersedes) && c.is_attached();
            let permanent = || self.clients.iter().filter(|c| stays(c) || c.has_unhandled());
            let seats = |is_of: &dyn Fn(&Client<I>) -> bool| {
                let taken = || permanent().filter(|c| is_of(c));
                // Watchers leave one to a writer, which may be gone for a moment or has not come yet.
                let spare = !writes && taken().all(Client::is_watcher);
                taken().count() + usize::from(spare)
            };
            let own = seats(&|c| c.who.name.identity == client.identity);
            let full = own >= bounds.clients + usize::from(stuck)
                || seats(&|_| true) >= bounds.shared_clients + usize::from(stuck);
            let replaces = self.gone_plain(client).next().is_some();
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
        session: &WireId,
        now: Moment,
    ) -> Result<Attached, Refusal> {
        let Arrival { client, access, info, origin, claim, nonce } = arrival;
        self.admit(client, access, &claim, now)?;
        let name = client.with(access);
        self.note_plain_supersede(name, now);
        let number = self.last_attachment.next();
        self.last_attachment = number;
        // A transport that is replaced does not end the session for its overflow. The new transport has a whole
        // heartbeat to make room.
        let overflow_since = self.overflow_since();
        self.forget_overflow();
        self.supersede_for(name, access, now);
        if overflow_since.is_some() {
            self.note_rare(|rare| rare.overflow_since = overflow_since);
        }
        let who = Who { name, info };
        let (uid, start) = self.find_start(who.clone(), access, &claim, origin);
        let reads_events = matches!(claim, Claim::PlainAt(_));
        if let Some(client) = self.clients.get_mut(uid) {
            client.who.info = who.info.clone();
            client.reads_events = reads_events;
            if matches!(claim, Claim::Plain | Claim::PlainAt(None)) {
                client.line = number;
            }
            if !name.is_plain() || reads_events {
                client.shown = Some(KnownLife::PRESENT);
                self.naming.name();
            }
        }
        self.clients.set_attached(uid, number, access);
        let attached = Attached {
            number,
            status: start.status,
            behind: self.behind(uid, start.from),
            gap: start.gap,
        };
        let has_gap = start.gap.is_some();
        let hello = (!name.is_plain() || reads_events).then(|| {
            Box::new(Hello {
                v: VERSION,
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
                absent_ms: None,
                hold_ms: None,
            })
        });
        let acknowledged = self.clients.get(uid).map_or(0, |client| self.inbound_ack(client));
        self.transports.push(Transport::new(
            number,
            uid,
            match hello {
                None => Mode::Plain(nonce),
                Some(hello) if reads_events => Mode::Events(nonce, Some(hello)),
                Some(hello) => Mode::Resumable(nonce, Some(hello)),
            },
            start.from,
            acknowledged,
            now,
        ));
        if let Some(t) = self.transports.last_mut() {
            // A client may have been past what has left.
            t.passed = start.from.max(self.outbox.base());
        }
        if self.usage.ended.is_none() {
            let untold = self.clients.get_mut(uid).and_then(|client| client.untold_start.take());
            let resumed = start.status == Status::Resumed && untold.is_none();
            // With a gap it may have missed the checkpoint that it started with.
            let checkpoint = self.outbox.checkpoint() == Some(start.from)
                || untold.is_some_and(|start| start.checkpoint) && !has_gap;
            self.inbox.push_attached(uid, who, access, resumed, checkpoint);
            self.wake.handler = true;
        }
        let forgotten = self.trim_apart();
        if let Some(t) = self.transports.last_mut() {
            t.forgotten = forgotten;
        }
        // Now that a client is attached, the client that was attached last may stop mattering, too. And this client
        // may be the newer run.
        self.drop_rare(|rare| rare.returns_by = None);
        self.wake.room |= self.usage.waits_for_room();
        self.wake.transports = true;
        Ok(attached)
    }

    /// Returns how long a plain transport should wait for its 101, because plain transports have been superseding
    /// each other in a circle (two tabs with reconnect scripts).
    pub fn plain_delay(&self, now: Moment) -> Duration {
        let damping = self.rare.get().and_then(|rare| rare.damping.as_ref());
        damping.map_or(Duration::ZERO, |damping| damping.delay(now))
    }

    fn note_plain_supersede(&mut self, name: ClientName, now: Moment) {
        let supersedes = name.is_plain()
            && !self.is_lone_plain(name)
            && self.attached_writers().any(Transport::is_plain);
        if supersedes {
            let circle = self.note_rare(|rare| {
                rare.damping.get_or_insert_with(|| Box::new(Damping::new())).note(now)
            });
            self.wake.circle |= circle;
        }
    }

    /// Ends the turns that this client's arrival ends.
    fn supersede_for(&mut self, name: ClientName, access: Access, now: Moment) {
        let own =
            self.clients.named(name).filter(|_| !self.is_lone_plain(name)).map(|client| client.uid);
        let supersedes = self.rules.attach.meeting().supersedes && access == Access::Full;
        for at in 0..self.transports.len() {
            let uid = self.transports[at].client;
            let is_watcher = self.clients.get(uid).is_some_and(Client::is_watcher);
            if Some(uid) == own {
                self.end_transport(at, Close::REPLACED, None, now);
            } else if supersedes && !is_watcher {
                self.end_transport(at, Close::SUPERSEDED, None, now);
            }
        }
        if supersedes {
            let is_other =
                |client: &&mut Client<I>| Some(client.uid) != own && !client.is_watcher();
            for client in self.clients.iter_mut().filter(is_other) {
                if client.takeover == Takeover::None {
                    client.takeover = Takeover::Untold;
                }
                if client.matters() {
                    client.standing = Standing::Stopped(GapReason::Evicted);
                }
            }
            self.let_go_of_unneeded();
        }
    }

    /// Whether every transport of this name is a client of its own.
    pub(super) fn is_lone_plain(&self, name: ClientName) -> bool {
        match name.kind {
            ClientKind::Plain => !self.rules.attach.meeting().plain_is_one,
            ClientKind::PlainWatcher => true,
            ClientKind::Named(_) => false,
        }
    }

    /// The transports whose turn is not over, watchers' apart.
    fn attached_writers(&self) -> impl Iterator<Item = &Transport> {
        let is_watchers =
            |t: &Transport| self.clients.get(t.client).is_some_and(Client::is_watcher);
        self.attached().filter(move |t| !is_watchers(t))
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
