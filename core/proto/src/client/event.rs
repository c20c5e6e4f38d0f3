use std::{borrow::Cow, fmt, time::Duration};

use crate::{
    Gap, Message, WireId,
    wire::{Close, OutcomeStatus, ProtocolError, SUBPROTOCOL, Status, VERSION},
};

/// What the application takes from a client, in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The next data message.
    Message(Message),
    /// An attempt has begun.
    Connecting,
    /// The hello is there. What follows belongs to `session`.
    Open {
        /// The session's public id.
        session: WireId,
        /// What happened to this client.
        status: Status,
    },
    /// Another session than before, or the first one, that has nothing of this client's. What is queued goes to it only
    /// when the application takes the next event, or closes; until then it can look at
    /// [what is queued](super::Client::queued) and [what is in doubt](super::Client::in_doubt). Told only with
    /// [`Meeting::NewSession`](super::Meeting::NewSession), and only of the newest such session.
    NewSession {
        /// The session's public id.
        session: WireId,
    },
    /// Positions that will not come.
    Gap(Gap),
    /// Messages that were sent to a session which is gone: whether it handled them cannot be known, and
    /// they are not sent again by themselves.
    InDoubt(Vec<Message>),
    /// Messages that were acknowledged, the last ones: the server's store has gone back to a state before them,
    /// so they have no effect any more. The client does not have these messages any more. The messages that it
    /// still keeps are sent again by themselves.
    TakenBack {
        /// How many.
        count: u64,
    },
    /// A message of this client that is over the server's limit. It is not sent, or not again: the hello has told
    /// the limit, or the server has closed a transport for it.
    TooBig(Message),
    /// The copy of the state that was to be offered ([`Client::offer_state`](super::Client::offer_state)) is longer than
    /// the server takes. It is not offered any more.
    StateTooBig,
    /// A message that the session gave up: the server's process died three times with it in hand. The session goes on
    /// without it, and it is not sent again.
    Dropped(Message),
    /// The transport is gone or an attempt failed; the next attempt follows.
    Waiting {
        /// Which attempt in a row comes next, from 1. A row begins anew after a transport that was of use.
        attempt: u32,
        /// How long until then.
        delay: Duration,
        /// Why.
        cause: Cause,
    },
    /// The transport is gone and the application is asked: [`Modes::Prompt`](super::Modes::Prompt).
    Offline {
        /// Why.
        cause: Cause,
    },
    /// Another client took the session over.
    Superseded,
    /// The server does not want this client: close 4101, or an HTTP status that a repetition does not
    /// change.
    Refused {
        /// What it said.
        cause: Cause,
    },
    /// The session is over.
    Done {
        /// How it ended.
        status: OutcomeStatus,
        /// This client's messages that the handler never took.
        untaken: Vec<Message>,
        /// How the server closed: 1000, or with the application's own code and reason.
        close: Close,
    },
    /// The client gave up.
    Failed {
        /// Why.
        cause: Cause,
    },
    /// The client ended and these messages never left it.
    Unsent(Vec<Message>),
    /// The client was closed by its own application.
    Closed,
}

/// Why a transport is gone or never came.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// The server closed it.
    Closed(Close),
    /// It ended without a close frame.
    Lost,
    /// The server was silent for 2.5 heartbeats, or was asked about a message that it had not acknowledged for some
    /// seconds, and said nothing.
    Silent,
    /// The server has sent a message that is over this client's limit. It will send it again.
    TooBig,
    /// There was no hello within the time an attempt has.
    TimedOut,
    /// The server could not be reached; the text is for humans.
    Unreachable(Cow<'static, str>),
    /// The upgrade was answered with another status than 101, or a request over HTTP with one that a repetition does not
    /// change.
    Http {
        /// The status.
        status: u16,
        /// `Retry-After`, if it was there.
        retry_after: Option<Duration>,
    },
    /// The server broke the protocol.
    Protocol(ProtocolError),
    /// The server speaks another version than [`VERSION`].
    Version(u64),
    /// The server does not speak [`SUBPROTOCOL`] at all.
    NotSpoken,
    /// Another client uses this one's id: it was copied, and goes on under a new id.
    Copied,
    /// The program itself could not prepare the attempt, and nothing was sent; the text is the program's.
    Unprepared(Cow<'static, str>),
}

/// Why a message was not taken for sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full until the server acknowledges something.
    Full,
    /// The message is over [`Limits::message`](super::Limits::message), or over the server's limit.
    TooBig,
    /// The client has ended.
    Closed,
}

impl Event {
    /// Returns whether only the newest of a row of such events is worth telling.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Connecting
            | Self::Waiting { .. }
            | Self::Open { status: Status::Resumed, .. } => true,
            Self::Message(_)
            | Self::Open { .. }
            | Self::NewSession { .. }
            | Self::Gap(_)
            | Self::InDoubt(_)
            | Self::TakenBack { .. }
            | Self::TooBig(_)
            | Self::StateTooBig
            | Self::Dropped(_)
            | Self::Offline { .. }
            | Self::Superseded
            | Self::Refused { .. }
            | Self::Done { .. }
            | Self::Failed { .. }
            | Self::Unsent(_)
            | Self::Closed => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(close) => write!(f, "server closed: {} {}", close.code, close.reason),
            Self::Lost => f.write_str("connection lost"),
            Self::Silent => f.write_str("the server is silent"),
            Self::TooBig => f.write_str("the server sent a message over the limit of this client"),
            Self::TimedOut => f.write_str("no hello in time"),
            Self::Unreachable(reason) => write!(f, "server not reached: {reason}"),
            Self::Http { status, .. } => write!(f, "answered with status {status}"),
            Self::Protocol(err) => write!(f, "server broke the protocol: {err}"),
            Self::Version(v) => write!(f, "server speaks version {v} (know {VERSION})"),
            Self::NotSpoken => write!(f, "server does not speak {SUBPROTOCOL}"),
            Self::Copied => f.write_str("another client uses the same id"),
            Self::Unprepared(reason) => write!(f, "attempt not prepared: {reason}"),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "outbound queue is full",
            Self::TooBig => "message is over the limit",
            Self::Closed => "client has ended",
        })
    }
}

impl std::error::Error for SendError {}
