//! The server's end of a pipe.
//!
//! The caller keeps one [`Server`] for each pipe, finds it by the token of a request, and passes the transport's frames
//! between it and the session. Requests that wait are asked again, as a future is: after each call of a method that takes
//! `&mut self` the caller asks [`Server::poll_get`] for the get that waits, tries [`Server::handle_post`] again for posts
//! without room, and looks at [`Server::poll_incoming`] and [`Server::is_ready`] for the transport.

mod down;
#[cfg(test)]
mod tests;
mod up;

use std::time::Duration;

use bytes::Bytes;

pub use self::up::{Incoming, Post};
use self::{down::Down, up::Up};
use super::Form;
use crate::{
    Moment, Position,
    numbers::{PIPE_ABSENT, PIPE_FLOW_AFTER, PIPE_HOLD, PIPE_ROTATE},
    session,
    wire::{Close, PipeFrame},
};

/// The settings of a pipe.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Settings {
    /// How long a pipe lives without an open get and without a request, 10 s by default.
    pub absent: Duration,
    /// How long a get waits for a frame, 25 s by default; not longer than the heartbeat.
    pub hold: Duration,
    /// How long a stream goes on, 10 min by default. Draw it anew for each pipe, from a tenth less to a tenth more.
    pub rotate: Duration,
}

/// Names a get that is under way. The caller makes these; no two gets of a pipe that are under way have the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(pub u64);

/// What a get, or an open, asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Get {
    /// The first frame wanted; an open's is 0. The answer begins with it.
    pub down: u64,
    /// How the frames come down.
    pub form: Form,
    /// How long it may wait at most, if that is shorter than `hold`.
    pub wait: Option<Duration>,
    /// The client's position, if the get tells it.
    pub ack: Option<Position>,
}

/// What the caller does for a get that waits, next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GetStep {
    /// Nothing now: ask again after the next event, and at [`Server::poll_timeout`].
    Wait,
    /// Write these frames. The answer to a poll ends with them, and is not asked for again.
    Frames(Vec<PipeFrame>),
    /// Write [`FLOW`](crate::wire::FLOW) alone, and flush.
    Flow,
    /// The answer ends here, cleanly: for a poll an empty 200.
    End,
}

/// What became of a post.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a post without room is tried again"]
pub enum Posted {
    /// 204, with the number that is expected next.
    Taken {
        /// That number.
        next: u64,
    },
    /// There is no room. Try the same post again after the next event; answer 503 with `Retry-After` when that has not
    /// helped within [`PIPE_POST_WAITS`](crate::numbers::PIPE_POST_WAITS).
    Full,
    /// It is refused.
    Refused(Refusal),
}

/// Why a get or a post is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 409: another has this pipe. The request has touched nothing.
    Conflict,
    /// 410: the pipe is not there any more.
    Gone {
        /// How it was closed, if nobody has read that: the header `Session-Resume-Close`.
        close: Option<Close>,
    },
}

/// How a request broke the protocol, so that the pipe must be closed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Breach {
    /// 400: a body that is no sequence of frames. Close 4103.
    Malformed,
    /// 413: a body over the limit. Close 1009.
    TooBig,
}

/// The pipe is gone: what is written to it is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gone;

/// The server's end of one pipe.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Server {
    settings: Settings,
    life: Life,
    down: Down,
    up: Up,
    listener: Option<Listener>,
    /// When a request was last there.
    asked: Moment,
}

/// Where the pipe is in its life.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Life {
    /// The transport is open.
    Open,
    /// A request broke the protocol: the transport will close it.
    Broken(Breach),
    /// The transport has said its close, which is not confirmed: its turn is over, and nothing counts any more.
    Closing(Close),
    /// The client has confirmed the close.
    Closed,
    /// Nobody has asked for too long; the transport has not let go of it yet.
    Absent(Option<Close>),
    /// The transport has let go of it.
    Ended {
        /// What it said last, if nobody has read that.
        close: Option<Close>,
        /// Until then it is told.
        until: Moment,
    },
}

/// The get that is answered next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Listener {
    id: RequestId,
    /// The next frame to write for it.
    next: u64,
    /// When it ends though nothing has come.
    until: Moment,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Kind {
    Poll,
    Stream(Flow),
}

/// Whether the mark of flow was written on a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Flow {
    /// The hello has not been written on it.
    Not,
    Due(Moment),
    Written,
}

impl Server {
    /// Creates a pipe whose open is there. Call [`handle_get`](Self::handle_get) for the open, from 0 on.
    pub fn new(settings: Settings, now: Moment) -> Self {
        Self {
            settings,
            life: Life::Open,
            down: Down::default(),
            up: Up::default(),
            listener: None,
            asked: now,
        }
    }

    /// Takes in a get, or an open (from 0 on). It is answered 200 from its `down` on, as [`poll_get`](Self::poll_get)
    /// says.
    ///
    /// A get that waits already is answered with nothing: the last one to ask is answered.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal`] with what to answer in place of that.
    pub fn handle_get(&mut self, id: RequestId, get: Get, now: Moment) -> Result<(), Refusal> {
        self.check_there(now)?;
        if get.down < self.down.first() || get.down > self.down.head() {
            return Err(Refusal::Conflict);
        }
        self.asked = self.asked.max(now);
        self.confirm(get.down);
        if let (Some(position), Life::Open) = (get.ack, &self.life) {
            self.up.push_ack(position);
        }
        self.listener = match (&self.life, get.form) {
            (Life::Closed, _) => None,
            (_, Form::Poll) => {
                let hold = get.wait.map_or(self.settings.hold, |wait| wait.min(self.settings.hold));
                Some(Listener { id, next: get.down, until: now + hold, kind: Kind::Poll })
            }
            (_, Form::Stream) => Some(Listener {
                id,
                next: get.down,
                until: now + self.settings.rotate,
                kind: Kind::Stream(Flow::Not),
            }),
        };
        Ok(())
    }

    /// Returns what to do for a get, next. Call it again until it says [`GetStep::Wait`] or the answer has ended.
    pub fn poll_get(&mut self, id: RequestId, now: Moment) -> GetStep {
        let Some(listener) = self.listener.as_mut().filter(|listener| listener.id == id) else {
            return GetStep::End;
        };
        if let Kind::Stream(Flow::Due(due)) = listener.kind
            && now >= due
        {
            listener.kind = Kind::Stream(Flow::Written);
            return GetStep::Flow;
        }
        let first = listener.next;
        if first < self.down.first() {
            // A copy of the client has confirmed what this one has not been told: its next get is a conflict.
            self.end_listener(now);
            return GetStep::End;
        }
        let frames = self.down.batch(first);
        if frames.is_empty() {
            let ends = now >= listener.until || self.is_gone();
            if ends || self.down.is_close_before(first) {
                self.end_listener(now);
                return GetStep::End;
            }
            return GetStep::Wait;
        }
        listener.next += frames.len() as u64;
        match listener.kind {
            Kind::Poll => self.end_listener(now),
            Kind::Stream(Flow::Not) if first == 0 => {
                listener.kind = Kind::Stream(Flow::Due(now + PIPE_FLOW_AFTER));
            }
            Kind::Stream(_) => {}
        }
        GetStep::Frames(frames)
    }

    /// Takes in that a get is over before its answer was: the connection is gone.
    pub fn handle_hang_up(&mut self, id: RequestId, now: Moment) {
        if self.listener.as_ref().is_some_and(|listener| listener.id == id) {
            self.end_listener(now);
        }
    }

    /// Takes in a post whose body is there.
    pub fn handle_post(&mut self, post: &Post, now: Moment) -> Posted {
        if let Err(refusal) = self.check_there(now) {
            return Posted::Refused(refusal);
        }
        if post.down() > self.down.head() || !self.up.admits(post) {
            return Posted::Refused(Refusal::Conflict);
        }
        self.asked = self.asked.max(now);
        // Also where there is no room: what is confirmed makes room for what the handler wants to send.
        self.confirm(post.down());
        let counts = match self.life {
            Life::Open => true,
            Life::Broken(_)
            | Life::Closing(_)
            | Life::Closed
            | Life::Absent(_)
            | Life::Ended { .. } => false,
        };
        match self.up.take(post, counts) {
            Some(next) => Posted::Taken { next },
            None => Posted::Full,
        }
    }

    /// Takes in a body that is no sequence of frames, or is too long. Nothing of it counts.
    ///
    /// # Errors
    ///
    /// Returns [`Refusal`] with what to answer in place of 400 or 413: the pipe is not there any more.
    pub fn handle_breach(&mut self, breach: Breach, now: Moment) -> Result<(), Refusal> {
        self.check_there(now)?;
        self.asked = self.asked.max(now);
        if self.life == Life::Open {
            self.life = Life::Broken(breach);
            self.up.push_breach(breach);
        }
        Ok(())
    }

    /// Takes in that a request is there whose body is not, yet.
    pub fn handle_request(&mut self, now: Moment) {
        self.asked = self.asked.max(now);
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.absent_at().is_none_or(|at| now < at) {
            return;
        }
        let close = match &self.life {
            Life::Open | Life::Broken(_) => None,
            Life::Closing(close) => Some(close.clone()),
            Life::Closed | Life::Absent(_) | Life::Ended { .. } => return,
        };
        self.life = Life::Absent(close);
    }

    /// Takes in that the transport has let go of the pipe.
    pub fn handle_dropped(&mut self, now: Moment) {
        let close = match &self.life {
            Life::Closing(close) | Life::Absent(Some(close)) => Some(close.clone()),
            Life::Open | Life::Broken(_) | Life::Closed | Life::Absent(None) => None,
            Life::Ended { .. } => return,
        };
        self.life = Life::Ended { close, until: now + self.settings.absent };
        self.listener = None;
        self.down.clear();
        self.up.clear();
    }

    /// Writes a frame of the transport. Call it when the pipe [is ready](Self::is_ready).
    ///
    /// # Errors
    ///
    /// Returns [`Gone`] if the frame cannot be read by anybody.
    pub fn push(&mut self, frame: session::Frame) -> Result<(), Gone> {
        let breach = match &self.life {
            Life::Open => None,
            Life::Broken(breach) => Some(*breach),
            Life::Closing(_) | Life::Closed | Life::Absent(_) | Life::Ended { .. } => {
                return Err(Gone);
            }
        };
        match frame {
            session::Frame::Close(close) => {
                let close = match breach {
                    // The pump says 1002, as to a WebSocket's client that sends what is no frame.
                    Some(Breach::Malformed) if close.code == 1002 => Close::PROTOCOL_ERROR,
                    Some(Breach::Malformed | Breach::TooBig) | None => close,
                };
                self.down.push_close(close.clone());
                // What the transport has not read never counts.
                self.up.clear();
                self.life = Life::Closing(close);
            }
            frame => self.down.push(frame, &self.settings),
        }
        Ok(())
    }

    /// Returns whether the transport's sink is ready for a frame.
    pub fn is_ready(&self) -> bool {
        self.down.has_room()
    }

    /// Returns the next frame for the transport.
    pub fn poll_incoming(&mut self) -> Option<Incoming> {
        self.up.poll_incoming()
    }

    /// Returns whether nothing comes any more once [`poll_incoming`](Self::poll_incoming) returns `None`.
    pub fn is_gone(&self) -> bool {
        match self.life {
            Life::Open | Life::Broken(_) | Life::Closing(_) => false,
            Life::Closed | Life::Absent(_) | Life::Ended { .. } => true,
        }
    }

    /// Returns whether the caller may forget the pipe: nothing is to be told of it that a token nobody knows is not told.
    pub fn is_forgotten(&self, now: Moment) -> bool {
        match &self.life {
            Life::Ended { close: Some(_), until } => now >= *until,
            Life::Ended { close: None, .. } => true,
            Life::Open | Life::Broken(_) | Life::Closing(_) | Life::Closed | Life::Absent(_) => {
                false
            }
        }
    }

    /// Returns how many frames are kept until the client confirms them.
    pub fn unconfirmed(&self) -> usize {
        self.down.len()
    }

    /// Returns whether a get waits, or a stream is open.
    pub fn has_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout), and [`poll_get`](Self::poll_get) of the get that
    /// waits, or when the pipe may be forgotten.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let listener = self.listener.as_ref().map(|listener| match listener.kind {
            Kind::Stream(Flow::Due(due)) => due.min(listener.until),
            Kind::Stream(Flow::Not | Flow::Written) | Kind::Poll => listener.until,
        });
        let forgotten = match &self.life {
            Life::Ended { until, .. } => Some(*until),
            Life::Open | Life::Broken(_) | Life::Closing(_) | Life::Closed | Life::Absent(_) => {
                None
            }
        };
        [listener, self.absent_at(), forgotten].into_iter().flatten().min()
    }

    /// Returns when the pipe is absent, if no request comes. The transport waits for nothing else.
    pub fn absent_at(&self) -> Option<Moment> {
        match &self.life {
            Life::Open | Life::Broken(_) | Life::Closing(_) if self.listener.is_none() => {
                Some(self.asked + self.settings.absent)
            }
            Life::Open
            | Life::Broken(_)
            | Life::Closing(_)
            | Life::Closed
            | Life::Absent(_)
            | Life::Ended { .. } => None,
        }
    }

    fn check_there(&mut self, now: Moment) -> Result<(), Refusal> {
        self.handle_timeout(now);
        match &self.life {
            Life::Open | Life::Broken(_) | Life::Closing(_) => Ok(()),
            Life::Ended { close, until } => {
                Err(Refusal::Gone { close: close.clone().filter(|_| now < *until) })
            }
            Life::Absent(close) => Err(Refusal::Gone { close: close.clone() }),
            Life::Closed => Err(Refusal::Gone { close: None }),
        }
    }

    /// The client has all before `down`.
    fn confirm(&mut self, down: u64) {
        for frame in self.down.confirm(down) {
            match frame {
                down::Confirmed::Ping(payload) => self.up.push_pong(payload),
                down::Confirmed::Close(close) => {
                    self.life = Life::Closed;
                    self.up.push_close(close);
                }
            }
        }
    }

    fn end_listener(&mut self, now: Moment) {
        self.listener = None;
        self.asked = self.asked.max(now);
    }
}

impl Settings {
    /// Returns how long a stream goes on, drawn with `random` from a tenth less to a tenth more than `rotate`.
    #[must_use]
    pub fn with_rotate(self, rotate: Duration, random: u64) -> Self {
        let fifth = u64::try_from(rotate.as_micros() / 5).unwrap_or(u64::MAX);
        let drawn = (u128::from(fifth) * u128::from(random)) >> 64;
        let drawn = Duration::from_micros(u64::try_from(drawn).unwrap_or(fifth));
        Self { rotate: rotate.saturating_sub(rotate / 10).saturating_add(drawn), ..self }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { absent: PIPE_ABSENT, hold: PIPE_HOLD, rotate: PIPE_ROTATE }
    }
}

impl Breach {
    /// Returns the status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::TooBig => 413,
        }
    }
}

impl Refusal {
    /// Returns the status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Conflict => 409,
            Self::Gone { .. } => 410,
        }
    }
}

/// The payload of a ping, which HTTP does not carry.
type Payload = Bytes;
