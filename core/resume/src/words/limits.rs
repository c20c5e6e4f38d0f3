//! The bounds on everything that can grow, and the heartbeat.

use std::{num::NonZeroU32, time::Duration};

use session_resume_proto::session::{Pace, Rules};

/// Bounds on everything that a stranger could make grow, each with an answer when it is reached.
///
/// Fields are public to read; set them with the `with_` methods.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use session_resume::{Limits, SessionResume};
///
/// let limits = Limits::default()
///     .with_message(64 << 10)                              // no message is longer than 64 KiB
///     .with_outbox_messages(10_000)                        // for pages that are away for long
///     .with_outbox_bytes(16 << 20)
///     .with_max_lifetime(Duration::from_secs(24 * 3600));  // in use or not, a session ends after a day
/// assert_eq!(limits.inbox_messages, 256);                  // the others keep their defaults
///
/// let resume = SessionResume::new().with_limits(limits);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Live sessions in this layer value, and ended ones whose outcome the store has not taken yet. Beyond: 503
    /// with `Retry-After`. Default 100,000.
    ///
    /// Sessions of browsers whose cookie has not come back yet take at most half of it (under a shared key, those to
    /// which the key has led only once). So requests without a
    /// cookie do not lock out the browsers that come back to a session, in memory or stored.
    pub max_sessions: usize,
    /// How long an unused session is kept into which nothing was put (no update, no message, no transport) and
    /// whose browser's cookie has not come back yet. It is never stored. At most `unused_lifetime`. Default 30 s.
    pub unproven_lifetime: Duration,
    /// Stored sessions. Beyond: those to which no client has come back since they were started go, the oldest first,
    /// at the next check interval; when there are none of these, new sessions are refused, 503 with `Retry-After`.
    /// Those to which no client has come back take at most half. One that has ended counts until its outcome expires.
    /// The number is looked up when a session starts, in stores that
    /// [can count](crate::store::SnapshotStore::count): embedded ones. Default 1,000,000.
    pub max_stored: usize,
    /// Live sessions that one identity has started under keys of its own choosing (a path, a header, a
    /// tab), the identity's own session not counted. Beyond: 503. Default 64.
    pub max_sessions_per_identity: usize,
    /// Unacknowledged messages in a session's outbox. Beyond: what [`Overflow`](crate::Overflow) says. Default 1,024.
    pub outbox_messages: usize,
    /// Bytes of these, 48 for each message included. One message alone may be longer. Default 1 MiB.
    pub outbox_bytes: usize,
    /// Messages of one client that the handler has not taken. Beyond: the server reads no more from this client until the
    /// handler has taken some. At least 1. Default 256.
    pub inbox_messages: usize,
    /// Bytes of these, their payload alone; one message may be longer. Default 1 MiB.
    pub inbox_bytes: usize,
    /// Messages that one client may send in a second, in the long run. Beyond: the server reads from this client more
    /// slowly, so that the client's own queue grows; nothing is lost. A message that a plain `POST` brings is told 503
    /// with `Retry-After` instead. A client that comes back does not start anew. What this client acknowledges waits
    /// behind its messages. At least 1. Default: none.
    pub messages_per_second: Option<u32>,
    /// Messages that one client may send at once after a silence, where [`Self::messages_per_second`] is set. At least 1.
    /// Default: those of one second.
    pub message_burst: Option<u32>,
    /// Bytes of one message. Beyond: sending is an error, and a client that sends more is closed with 1009. Default 1 MiB.
    pub message: usize,
    /// Clients of one identity that a session remembers. Beyond: the client that has been gone longest is forgotten,
    /// or, if all of them are attached, another client is told to come back later. Those that may only read
    /// ([`Upgrade::read_only`](crate::adapter::Upgrade::read_only)) leave a place for one that may write, so there are none where this is 1. At least 1. Default 16.
    pub max_clients: usize,
    /// Clients that a session under a [shared](crate::key::KeyFn::shared) key remembers in all, and so the most
    /// identities that it knows. Beyond: as with [`Self::max_clients`]. At least 1. Default 1,024.
    pub max_shared_clients: usize,
    /// Guards that one session can hold at one time. Beyond: a new guard holds nothing. Default 1,024.
    pub guards: usize,
    /// Readers that are no clients ([`Session::observe`](crate::Session::observe)) of one session at one time. Beyond: a new
    /// one is an error. Default 64.
    pub observers: usize,
    /// Outcomes kept in memory for polling. Beyond: one of a session into which nothing was put and to which
    /// no client came back is forgotten, or else the oldest of the identity that has most. Default 10,000.
    pub outcomes: usize,
    /// Pipes in all: transports made of requests. Beyond: a client is told to come back later. Default 100,000.
    pub pipes: usize,
    /// The longest time without transport, guard or extraction, whatever the handler does. Default 1 h.
    pub max_unattended: Duration,
    /// The longest life of a session, in use or not. Default: none.
    pub max_lifetime: Option<Duration>,
}

impl Default for Limits {
    /// What the rules have a default for, they say.
    fn default() -> Self {
        let Rules { bounds, unproven_lifetime, max_unattended, max_lifetime, .. } =
            Rules::default();
        Self {
            max_sessions: 100_000,
            unproven_lifetime,
            max_stored: 1_000_000,
            max_sessions_per_identity: 64,
            outbox_messages: bounds.outbox_messages,
            outbox_bytes: bounds.outbox_bytes,
            inbox_messages: bounds.inbox_messages,
            inbox_bytes: bounds.inbox_bytes,
            messages_per_second: None,
            message_burst: None,
            message: bounds.message,
            max_clients: bounds.clients,
            max_shared_clients: bounds.shared_clients,
            guards: bounds.guards,
            observers: bounds.observers,
            outcomes: 10_000,
            pipes: 100_000,
            max_unattended,
            max_lifetime,
        }
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $setter:ident, $field:ident: $type:ty;)*) => {
        impl Limits {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $setter(mut self, $field: $type) -> Self {
                    self.$field = $field;
                    self
                }
            )*
        }
    };
}

setters! {
    /// Sets [`Self::max_sessions`].
    with_max_sessions, max_sessions: usize;
    /// Sets [`Self::unproven_lifetime`].
    with_unproven_lifetime, unproven_lifetime: Duration;
    /// Sets [`Self::max_stored`].
    with_max_stored, max_stored: usize;
    /// Sets [`Self::max_sessions_per_identity`].
    with_max_sessions_per_identity, max_sessions_per_identity: usize;
    /// Sets [`Self::outbox_messages`].
    with_outbox_messages, outbox_messages: usize;
    /// Sets [`Self::outbox_bytes`].
    with_outbox_bytes, outbox_bytes: usize;
    /// Sets [`Self::inbox_messages`].
    with_inbox_messages, inbox_messages: usize;
    /// Sets [`Self::inbox_bytes`].
    with_inbox_bytes, inbox_bytes: usize;
    /// Sets [`Self::message`].
    with_message, message: usize;
    /// Sets [`Self::max_clients`].
    with_max_clients, max_clients: usize;
    /// Sets [`Self::max_shared_clients`].
    with_max_shared_clients, max_shared_clients: usize;
    /// Sets [`Self::guards`].
    with_guards, guards: usize;
    /// Sets [`Self::observers`].
    with_observers, observers: usize;
    /// Sets [`Self::outcomes`].
    with_outcomes, outcomes: usize;
    /// Sets [`Self::pipes`].
    with_pipes, pipes: usize;
    /// Sets [`Self::max_unattended`].
    with_max_unattended, max_unattended: Duration;
}

impl Limits {
    /// Sets [`Self::messages_per_second`]; `None` lifts it.
    ///
    /// # Example
    ///
    /// ```
    /// use session_resume::{Limits, SessionResume};
    ///
    /// // A person who types sends two messages in a second at most; a form may send ten at once.
    /// let limits = Limits::default().with_messages_per_second(2).with_message_burst(10);
    /// let resume = SessionResume::new().with_limits(limits);
    /// ```
    #[must_use]
    pub fn with_messages_per_second(mut self, messages: impl Into<Option<u32>>) -> Self {
        self.messages_per_second = messages.into();
        self
    }

    /// Sets [`Self::message_burst`]; `None` is the default again.
    #[must_use]
    pub fn with_message_burst(mut self, messages: impl Into<Option<u32>>) -> Self {
        self.message_burst = messages.into();
        self
    }

    /// Returns how fast a client may send.
    pub(crate) fn pace(&self) -> Option<Pace> {
        let at_least_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let per_second = at_least_one(self.messages_per_second?);
        Some(Pace { per_second, burst: self.message_burst.map_or(per_second, at_least_one) })
    }

    /// Sets [`Self::max_lifetime`]; `None` lifts it.
    #[must_use]
    pub fn with_max_lifetime(mut self, max_lifetime: impl Into<Option<Duration>>) -> Self {
        self.max_lifetime = max_lifetime.into();
        self
    }
}

/// How often each end shows that it lives, and how long the other waits for it.
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use session_resume::{Heartbeat, SessionResume};
///
/// // A connection that has died is noticed after 15 s at the latest: 10 s until the ping, 5 s for the pong.
/// let heartbeat = Heartbeat::every(Duration::from_secs(10)).with_pong_timeout(Duration::from_secs(5));
/// assert_eq!(heartbeat.plain_pong_timeout, Duration::from_secs(60));
///
/// let resume = SessionResume::new().with_heartbeat(heartbeat);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Heartbeat {
    /// The time between two pings, and between two `{"hb":N}` to clients that speak `session-resume.v1`. Default 30 s.
    pub interval: Duration,
    /// A transport of a client that speaks `session-resume.v1` is gone when a ping goes unanswered for this long.
    /// Default 20 s.
    pub pong_timeout: Duration,
    /// The same for a plain transport, whose library mostly answers pings only while the application reads. Begun
    /// anew by whatever arrives, but a ping that goes unanswered for twice as long ends the transport in any case.
    /// It waits while the server has stopped reading because the inbox is full. Default 60 s.
    pub plain_pong_timeout: Duration,
    /// Whether transports are pinged every interval. Default: yes.
    pub pings: bool,
}

impl Default for Heartbeat {
    /// As the rules have it.
    fn default() -> Self {
        let Rules { heartbeat: interval, pong_timeout, plain_pong_timeout, pings, .. } =
            Rules::default();
        Self { interval, pong_timeout, plain_pong_timeout, pings }
    }
}

impl Heartbeat {
    /// Creates a heartbeat with this interval and the default pong timeouts.
    pub fn every(interval: Duration) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Creates a heartbeat without pings: a connection that is silent is not asked whether it is still there, and
    /// one that is half open holds its session until TCP gives it up.
    ///
    /// Clients that speak `session-resume.v1` are still told `{"hb":N}` every 30 s. Plain transports are still
    /// pinged to confirm what they were sent, and must answer that. A client that keeps others out
    /// ([`Attach::Refuse`](crate::Attach::Refuse)) is still asked when another one comes.
    pub fn off() -> Self {
        Self { pings: false, ..Self::default() }
    }

    /// Sets [`Self::pong_timeout`].
    #[must_use]
    pub fn with_pong_timeout(mut self, pong_timeout: Duration) -> Self {
        self.pong_timeout = pong_timeout;
        self
    }

    /// Sets [`Self::plain_pong_timeout`]: longer than plain clients work on a message without reading.
    #[must_use]
    pub fn with_plain_pong_timeout(mut self, plain_pong_timeout: Duration) -> Self {
        self.plain_pong_timeout = plain_pong_timeout;
        self
    }
}
