//! By which path a client comes: a WebSocket, a stream over HTTP, or polls.
//!
//! Nothing is concluded from a failure alone: a server that is down fails on every path. Only a hello over HTTP where a
//! WebSocket had none says that WebSockets are blocked. Then the client looks back now and then.

use std::time::Duration;

use crate::{
    Moment,
    numbers::{CHOICE_DEATHS, CHOICE_DIED_WITHIN, CHOICE_PROBES, CHOICE_REMEMBERED},
};

/// A path to the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Path {
    /// A WebSocket.
    WebSocket,
    /// A pipe whose frames come down on an event stream.
    Sse,
    /// A pipe whose frames come down in answers to polls.
    Poll,
}

/// What follows an attempt that had no hello.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// The other path, at once.
    AtOnce,
    /// A wait, as after any attempt that came to nothing.
    AfterWait,
}

/// What to do with what is remembered of the server's origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Leave it.
    Leave,
    /// Remember this path for this long.
    Remember(Path, Duration),
    /// Forget it.
    Forget,
}

/// The choice of one client, for one server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Choice {
    web_socket: bool,
    sse: bool,
    poll: bool,
    /// The family of the next attempt.
    next: Family,
    /// Attempts in a row without a hello.
    row: u32,
    /// The last WebSocket had no hello, and none has had one since.
    web_socket_failed: bool,
    /// WebSockets in a row that died soon after their hello.
    deaths: u32,
    /// Something on the way holds streams back.
    buffered: bool,
    on: On,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Family {
    WebSocket,
    Http,
}

/// The transport that has had its hello.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum On {
    Nothing,
    WebSocket {
        since: Moment,
    },
    Http {
        /// How often it has looked for a WebSocket.
        probes: u32,
        /// When it looks again; `None`: a probe is under way, or WebSockets are not allowed.
        probe: Option<Moment>,
    },
}

impl Path {
    /// Returns the name that is configured, remembered and shown: `websocket`, `sse` or `poll`.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
            Self::Poll => "poll",
        }
    }

    /// Reads such a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::WebSocket, Self::Sse, Self::Poll].into_iter().find(|path| path.name() == name)
    }

    fn family(self) -> Family {
        match self {
            Self::WebSocket => Family::WebSocket,
            Self::Sse | Self::Poll => Family::Http,
        }
    }
}

impl Choice {
    /// Creates a choice among `allowed` paths; none allowed means all. `remembered` is what another client has found out
    /// at this origin, if it has not run out.
    pub fn new(allowed: &[Path], remembered: Option<Path>) -> Self {
        let has = |path| allowed.is_empty() || allowed.contains(&path);
        let (web_socket, sse, poll) = (has(Path::WebSocket), has(Path::Sse), has(Path::Poll));
        let http = sse || poll;
        let remembered = remembered.filter(|&path| path != Path::WebSocket && http);
        let next = match remembered {
            None if web_socket => Family::WebSocket,
            Some(_) | None => Family::Http,
        };
        let buffered = remembered == Some(Path::Poll);
        Self {
            web_socket,
            sse,
            poll,
            next,
            row: 0,
            web_socket_failed: false,
            deaths: 0,
            buffered,
            on: On::Nothing,
        }
    }

    /// Returns the path of the next attempt.
    pub fn path(&self) -> Path {
        match self.next {
            Family::WebSocket => Path::WebSocket,
            Family::Http if self.sse && !(self.buffered && self.poll) => Path::Sse,
            Family::Http => Path::Poll,
        }
    }

    /// Takes in that the attempt by `path` has had no hello.
    pub fn handle_no_hello(&mut self, path: Path) -> Follow {
        self.on = On::Nothing;
        self.web_socket_failed |= path == Path::WebSocket;
        self.row += 1;
        if !self.turn(path.family()) || self.row.is_multiple_of(2) {
            return Follow::AfterWait;
        }
        Follow::AtOnce
    }

    /// Takes in that the attempt by `path` has had its hello.
    #[must_use = "it says what to remember"]
    pub fn handle_hello(&mut self, path: Path, now: Moment) -> Memory {
        self.row = 0;
        self.next = path.family();
        match path.family() {
            Family::WebSocket => {
                self.web_socket_failed = false;
                self.on = On::WebSocket { since: now };
                Memory::Forget
            }
            Family::Http => {
                let probe = self.web_socket.then(|| now + probe_after(0));
                self.on = On::Http { probes: 0, probe };
                if std::mem::take(&mut self.web_socket_failed) {
                    Memory::Remember(path, CHOICE_REMEMBERED)
                } else {
                    Memory::Leave
                }
            }
        }
    }

    /// Takes in that the transport is gone that had had its hello. `closed`: the server said a close.
    pub fn handle_gone(&mut self, closed: bool, now: Moment) {
        if let On::WebSocket { since } = self.on {
            let died = !closed && now < since + CHOICE_DIED_WITHIN;
            self.deaths = if died { self.deaths + 1 } else { 0 };
            if self.deaths >= CHOICE_DEATHS {
                // As good as none that had a hello.
                self.deaths = 0;
                self.web_socket_failed = true;
                self.turn(Family::WebSocket);
            }
        }
        self.on = On::Nothing;
    }

    /// Takes in that something on the way holds streams back. Returns what to remember.
    #[must_use = "it says what to remember"]
    pub fn handle_buffered(&mut self) -> Memory {
        self.buffered = true;
        match self.on {
            On::Http { .. } if self.poll => Memory::Remember(Path::Poll, CHOICE_REMEMBERED),
            On::Http { .. } | On::WebSocket { .. } | On::Nothing => Memory::Leave,
        }
    }

    /// Takes in that the network has changed: what was found out is of another one.
    #[must_use = "it says what to remember"]
    pub fn handle_network_change(&mut self, now: Moment) -> Memory {
        self.buffered = false;
        self.deaths = 0;
        match &mut self.on {
            On::Http { probes, probe } if self.web_socket => (*probes, *probe) = (0, Some(now)),
            On::Nothing if self.web_socket => self.next = Family::WebSocket,
            On::Http { .. } | On::WebSocket { .. } | On::Nothing => {}
        }
        Memory::Forget
    }

    /// Returns whether to look now whether a WebSocket passes: one that offers [`PROBE`](crate::wire::PROBE). Its outcome goes
    /// to [`handle_probe`](Self::handle_probe).
    pub fn poll_probe(&mut self, now: Moment) -> bool {
        match &mut self.on {
            On::Http { probe, .. } if probe.is_some_and(|at| now >= at) => {
                *probe = None;
                true
            }
            On::Http { .. } | On::WebSocket { .. } | On::Nothing => false,
        }
    }

    /// Takes in what a probe has found. Returns whether to open a WebSocket with the cursor, at once.
    pub fn handle_probe(&mut self, good: bool, now: Moment) -> bool {
        let On::Http { probes, probe } = &mut self.on else {
            return false;
        };
        if !good {
            *probes += 1;
            *probe = Some(now + probe_after(*probes));
            return false;
        }
        self.next = Family::WebSocket;
        true
    }

    /// Returns when [`poll_probe`](Self::poll_probe) has something to say.
    pub fn poll_timeout(&self) -> Option<Moment> {
        match self.on {
            On::Http { probe, .. } => probe,
            On::WebSocket { .. } | On::Nothing => None,
        }
    }

    /// The next attempt is not of this family, if another is allowed. Returns whether one is.
    fn turn(&mut self, from: Family) -> bool {
        let (next, allowed) = match from {
            Family::WebSocket => (Family::Http, self.sse || self.poll),
            Family::Http => (Family::WebSocket, self.web_socket),
        };
        self.next = if allowed { next } else { from };
        allowed
    }
}

/// How long after the hello, or after the probe before, the probe with this number comes.
fn probe_after(probes: u32) -> Duration {
    let at = usize::try_from(probes).unwrap_or(usize::MAX).min(CHOICE_PROBES.len() - 1);
    CHOICE_PROBES[at]
}
