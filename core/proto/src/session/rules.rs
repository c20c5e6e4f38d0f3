use std::{num::NonZeroU32, time::Duration};

use super::Retention;

/// What happens when a client attaches while another one is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Attach {
    /// The newest wins: older clients get 4100 `superseded` and stop mattering.
    #[default]
    Takeover,
    /// All are attached, each with its own cursor, and all receive everything.
    Share,
    /// The holder stays: another client is refused while it is attached.
    Refuse,
}

/// What an [`Attach`] means in each place that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meeting {
    /// A client that attaches ends the turns of all others.
    pub(super) supersedes: bool,
    /// A client is refused while another one is attached.
    pub(super) refuses: bool,
    /// All plain transports of an identity are one client, because two of them are never attached together.
    pub(super) plain_is_one: bool,
}

impl Attach {
    /// Decides what happens when two clients meet. Nothing else looks at which variant it is.
    pub(super) const fn meeting(self) -> Meeting {
        match self {
            Self::Takeover => Meeting { supersedes: true, refuses: false, plain_is_one: true },
            Self::Share => Meeting { supersedes: false, refuses: false, plain_is_one: false },
            Self::Refuse => Meeting { supersedes: false, refuses: true, plain_is_one: true },
        }
    }
}

/// What happens when the outbox is full.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// `send` waits until there is room.
    #[default]
    Backpressure,
    /// The oldest message leaves; a client that misses it is told the gap.
    DropOldest,
    /// The session ends with the outcome `overflow`, once no transport is attached or the attached ones
    /// have acknowledged nothing for a heartbeat; until then `send` waits.
    Close,
}

/// How much a pong of a plain client is trusted as an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum PlainAck {
    /// Frames are ordered, so a pong proves that the peer's WebSocket stack has all before the ping.
    #[default]
    Trust,
    /// As `Trust`, but this many messages before the ping are kept and sent again, as far as the outbox has
    /// room: confirmed messages make way for new ones.
    Margin(u64),
    /// Behind a gateway that answers or swallows pings itself: no ping is sent to plain clients. Written
    /// messages leave oldest first when the outbox is full; a new plain transport gets all that is left.
    Off,
}

/// What a client gets that comes back with a cursor and is far behind.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum CatchUp {
    /// Every message from its position on.
    #[default]
    Everything,
    /// The last checkpoint and what follows it, if the checkpoint is behind its position and it is more than `after`
    /// messages behind; it is told a gap with the reason `checkpoint`. Plain clients, which cannot be told, still get
    /// every message.
    FromCheckpoint {
        /// How many messages behind a client may be and still gets every one of them.
        after: u64,
    },
}

/// Bounds on what one session may hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Bounds {
    /// Unacknowledged messages in the outbox.
    pub outbox_messages: usize,
    /// Bytes of unacknowledged messages in the outbox, [`MESSAGE_OVERHEAD`](super::MESSAGE_OVERHEAD)
    /// for each included.
    pub outbox_bytes: usize,
    /// Messages of one client that the handler has not taken.
    pub inbox_messages: usize,
    /// Payload bytes of these.
    pub inbox_bytes: usize,
    /// Bytes of one message, either way.
    pub message: usize,
    /// Remembered clients of one identity, attached ones included. One more is let in while the handler waits
    /// for outbox room, no client is attached, and all that are remembered have messages which it has not taken.
    pub clients: usize,
    /// Remembered clients of all identities together, with the same exception.
    pub shared_clients: usize,
    /// Guards held at one time.
    pub guards: usize,
    /// Readers that are no clients, at one time.
    pub observers: usize,
    /// How fast a client may send.
    pub pace: Option<Pace>,
}

/// How fast a client may send.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Pace {
    /// Messages in a second, in the long run.
    pub per_second: NonZeroU32,
    /// Messages at once, after a silence.
    pub burst: NonZeroU32,
}

impl Pace {
    /// The time between two messages at an even pace, at least a microsecond.
    pub(super) fn interval(self) -> Duration {
        (Duration::from_secs(1) / self.per_second.get()).max(Duration::from_micros(1))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            outbox_messages: 1024,
            outbox_bytes: 1 << 20,
            inbox_messages: 256,
            inbox_bytes: 1 << 20,
            message: 1 << 20,
            clients: 16,
            shared_clients: 1024,
            guards: 1024,
            observers: 64,
            pace: None,
        }
    }
}

/// The configuration of the rules, shared by all sessions of a layer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Rules {
    /// Which client wins when two meet.
    pub attach: Attach,
    /// What a full outbox does.
    pub overflow: Overflow,
    /// What a pong of a plain client is worth.
    pub plain_ack: PlainAck,
    /// What a client gets that comes back far behind.
    pub catch_up: CatchUp,
    /// What is kept after each client that matters has acknowledged it.
    pub retention: Retention,
    /// How long a session that is not in use is kept. 2 min: Panel's 15 s is shorter than its own
    /// backoff; Socket.IO, Ably and Streamlit chose 2 min.
    pub unused_lifetime: Duration,
    /// How long a session is kept that is not in use, into which nothing was put and to which no browser has
    /// come back. 30 s: longer than a page takes to come back with its cookie.
    pub unproven_lifetime: Duration,
    /// The longest time without transport, guard or extraction, whatever the handler does.
    pub max_unattended: Duration,
    /// The longest life of a session.
    pub max_lifetime: Option<Duration>,
    /// The longest silence of a healthy end. A ping, and an `hb`, are sent this often.
    pub heartbeat: Duration,
    /// Whether transports are pinged every heartbeat. Plain ones confirm by pings either way.
    pub pings: bool,
    /// How long a ping may go unanswered.
    pub pong_timeout: Duration,
    /// The same for a plain transport, whose stack mostly answers only while its application reads. Begun anew
    /// by whatever arrives; twice that in all.
    pub plain_pong_timeout: Duration,
    /// What one session may hold.
    pub bounds: Bounds,
    /// Whether inbound messages are acknowledged only when a snapshot holds their effect.
    pub durable_inbox: bool,
    /// Whether a message leaves only after the commit that covers it.
    pub durable_outbox: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            attach: Attach::default(),
            overflow: Overflow::default(),
            plain_ack: PlainAck::default(),
            catch_up: CatchUp::default(),
            retention: Retention::default(),
            unused_lifetime: Duration::from_secs(120),
            unproven_lifetime: Duration::from_secs(30),
            max_unattended: Duration::from_secs(3600),
            max_lifetime: None,
            heartbeat: Duration::from_secs(30),
            pings: true,
            pong_timeout: Duration::from_secs(20),
            plain_pong_timeout: Duration::from_secs(60),
            bounds: Bounds::default(),
            durable_inbox: false,
            durable_outbox: false,
        }
    }
}
