//! By which path a client comes: a WebSocket, a stream over HTTP, or polls.
//!
//! Nothing is concluded from a failure alone: a server that is down fails on every path, and one that was down a moment
//! ago has its hello over HTTP. So a client that has come over HTTP looks whether a WebSocket passes. Where it does not,
//! and HTTP goes on to bring something from the same server, WebSockets are blocked.

use std::time::Duration;

use crate::{
    Moment,
    numbers::{CHOICE_DEATHS, CHOICE_DIED_WITHIN, CHOICE_PROBES, CHOICE_REMEMBERED},
};

/// How long a look that was not made is put off.
const NO_PROBE: Duration = Duration::from_secs(30);

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
    /// The last WebSocket had no hello, and no transport has had one since.
    web_socket_failed: bool,
    blocked: Blocked,
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

/// Whether WebSockets are blocked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Blocked {
    No,
    /// A look says so. The server may have gone meanwhile.
    Perhaps,
    /// HTTP has brought something since, so the server was there.
    Yes,
}

/// The transport that has had its hello.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum On {
    Nothing,
    WebSocket {
        since: Moment,
    },
    Http {
        /// Which wait follows the next look for a WebSocket.
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
            blocked: if remembered.is_some() { Blocked::Yes } else { Blocked::No },
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

    /// Returns whether there is a path over HTTP.
    pub fn allows_http(&self) -> bool {
        self.sse || self.poll
    }

    /// Takes in that the attempt by `path` has had no hello.
    pub fn handle_no_hello(&mut self, path: Path) -> Follow {
        self.leave();
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
        self.leave();
        self.next = path.family();
        let failed = std::mem::take(&mut self.web_socket_failed);
        match path.family() {
            Family::WebSocket => {
                self.blocked = Blocked::No;
                self.on = On::WebSocket { since: now };
                Memory::Forget
            }
            Family::Http => {
                // The server may have been down when the WebSocket failed: that is soon found out.
                let (probes, wait) = if failed { (0, Duration::ZERO) } else { (1, probe_after(0)) };
                self.on = On::Http { probes, probe: self.web_socket.then(|| now + wait) };
                Memory::Leave
            }
        }
    }

    /// Takes in that the pipe has brought a frame. Returns what to remember.
    #[must_use = "it says what to remember"]
    pub fn handle_arrival(&mut self) -> Memory {
        if self.blocked != Blocked::Perhaps {
            return Memory::Leave;
        }
        self.blocked = Blocked::Yes;
        Memory::Remember(self.path(), CHOICE_REMEMBERED)
    }

    /// Takes in that the transport is gone that had had its hello. `closed`: the server said a close.
    pub fn handle_gone(&mut self, closed: bool, now: Moment) {
        if let On::WebSocket { since } = self.on {
            let died = !closed && now < since + CHOICE_DIED_WITHIN;
            self.deaths = if died { self.deaths + 1 } else { 0 };
            if self.deaths >= CHOICE_DEATHS {
                // As good as none that had a hello. A look just now would find that WebSockets pass.
                self.deaths = 0;
                self.turn(Family::WebSocket);
            }
        }
        self.leave();
    }

    /// Takes in that something on the way holds streams back. Returns what to remember.
    #[must_use = "it says what to remember"]
    pub fn handle_buffered(&mut self) -> Memory {
        self.buffered = true;
        match self.on {
            On::Http { .. } if self.poll && self.blocked == Blocked::Yes => {
                Memory::Remember(Path::Poll, CHOICE_REMEMBERED)
            }
            On::Http { .. } | On::WebSocket { .. } | On::Nothing => Memory::Leave,
        }
    }

    /// Takes in that the network has changed: what was found out is of another one.
    #[must_use = "it says what to remember"]
    pub fn handle_network_change(&mut self, now: Moment) -> Memory {
        self.buffered = false;
        self.deaths = 0;
        self.blocked = Blocked::No;
        match &mut self.on {
            On::Http { probes, probe } if self.web_socket => (*probes, *probe) = (1, Some(now)),
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
            *probe = Some(now + probe_after(*probes));
            *probes += 1;
            self.blocked = Blocked::Perhaps;
            return false;
        }
        self.next = Family::WebSocket;
        true
    }

    /// Takes in that a look was not made, because the program did not say where to look: nothing was found out.
    pub fn handle_no_probe(&mut self, now: Moment) {
        if let On::Http { probe, .. } = &mut self.on {
            *probe = Some(now + NO_PROBE);
        }
    }

    /// Returns when [`poll_probe`](Self::poll_probe) has something to say.
    pub fn poll_timeout(&self) -> Option<Moment> {
        match self.on {
            On::Http { probe, .. } => probe,
            On::WebSocket { .. } | On::Nothing => None,
        }
    }

    /// No transport is there any more that had its hello, and the server of which a look was may be gone.
    fn leave(&mut self) {
        self.on = On::Nothing;
        if self.blocked == Blocked::Perhaps {
            self.blocked = Blocked::No;
        }
    }

    /// The next attempt is not of this family, if another is allowed. Returns whether one is.
    fn turn(&mut self, from: Family) -> bool {
        let (next, allowed) = match from {
            Family::WebSocket => (Family::Http, self.allows_http()),
            Family::Http => (Family::WebSocket, self.web_socket),
        };
        self.next = if allowed { next } else { from };
        allowed
    }
}

/// The wait with this number: the first is that after the hello.
fn probe_after(probes: u32) -> Duration {
    let at = usize::try_from(probes).unwrap_or(usize::MAX).min(CHOICE_PROBES.len() - 1);
    CHOICE_PROBES[at]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_millis(1_000_000);

    fn at(seconds: u64) -> Moment {
        START + Duration::from_secs(seconds)
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for path in [Path::WebSocket, Path::Sse, Path::Poll] {
            assert_eq!(Path::from_name(path.name()), Some(path));
        }
        assert_eq!(Path::from_name("ws"), None);
    }

    #[test]
    fn a_server_that_is_down_says_nothing_about_paths() {
        let mut choice = Choice::new(&[], None);
        for _ in 0..5 {
            assert_eq!(choice.path(), Path::WebSocket);
            assert_eq!(choice.handle_no_hello(Path::WebSocket), Follow::AtOnce);
            assert_eq!(choice.path(), Path::Sse);
            assert_eq!(choice.handle_no_hello(Path::Sse), Follow::AfterWait);
        }
        assert_eq!(choice.handle_hello(Path::WebSocket, at(0)), Memory::Forget);
    }

    #[test]
    fn only_a_look_that_fails_while_http_brings_something_is_a_verdict() {
        let mut choice = Choice::new(&[], None);
        assert_eq!(choice.handle_no_hello(Path::WebSocket), Follow::AtOnce);
        assert_eq!(choice.handle_hello(Path::Sse, at(0)), Memory::Leave);
        // The server was down a moment ago, and may be the same that the look meets, or not.
        assert!(choice.poll_probe(at(0)));
        assert_eq!(choice.handle_arrival(), Memory::Leave);
        assert!(!choice.handle_probe(false, at(0)));
        choice.handle_gone(false, at(1));
        assert_eq!(choice.path(), Path::Sse);
        assert_eq!(choice.handle_hello(Path::Sse, at(2)), Memory::Leave);
        assert_eq!(choice.handle_arrival(), Memory::Leave);
        assert!(choice.poll_probe(at(7)));
        assert!(!choice.handle_probe(false, at(7)));
        let kept = Memory::Remember(Path::Sse, Duration::from_secs(3600));
        assert_eq!(choice.handle_arrival(), kept);
        assert_eq!(choice.handle_arrival(), Memory::Leave);
        // Remembered: HTTP first.
        let mut choice = Choice::new(&[], Some(Path::Poll));
        assert_eq!(choice.path(), Path::Poll);
        assert_eq!(choice.handle_hello(Path::Poll, at(0)), Memory::Leave);
    }

    #[test]
    fn a_path_that_is_not_allowed_is_not_taken() {
        for (allowed, remembered, first, second) in [
            (&[Path::WebSocket][..], Some(Path::Sse), Path::WebSocket, None),
            (&[Path::Sse], None, Path::Sse, None),
            (&[Path::Poll], None, Path::Poll, None),
            (&[Path::WebSocket, Path::Poll], None, Path::WebSocket, Some(Path::Poll)),
            (&[Path::WebSocket, Path::Sse], Some(Path::Poll), Path::Sse, Some(Path::WebSocket)),
        ] {
            let mut choice = Choice::new(allowed, remembered);
            assert_eq!(choice.path(), first);
            let follow = choice.handle_no_hello(first);
            assert_eq!(follow == Follow::AtOnce, second.is_some());
            assert_eq!(choice.path(), second.unwrap_or(first));
        }
    }

    #[test]
    fn three_web_sockets_that_die_soon_are_as_good_as_none() {
        let mut choice = Choice::new(&[], None);
        for (lives, closed) in [(59, false), (59, false), (60, false), (1, false), (1, true)] {
            let _ = choice.handle_hello(Path::WebSocket, at(0));
            choice.handle_gone(closed, at(lives));
            assert_eq!(choice.path(), Path::WebSocket);
        }
        for n in 1..=3 {
            let _ = choice.handle_hello(Path::WebSocket, at(0));
            choice.handle_gone(false, at(59));
            assert_eq!(choice.path(), if n < 3 { Path::WebSocket } else { Path::Sse });
        }
        // A look at once would pass, and come back to the same.
        assert_eq!(choice.handle_hello(Path::Sse, at(60)), Memory::Leave);
        assert_eq!(choice.poll_timeout(), Some(at(65)));
    }

    #[test]
    fn a_pipe_looks_back_for_a_web_socket() {
        let mut choice = Choice::new(&[], Some(Path::Sse));
        let _ = choice.handle_hello(Path::Sse, at(0));
        for due in [5, 30, 300, 2100, 3900] {
            assert_eq!(choice.poll_timeout(), Some(at(due)));
            assert!(!choice.poll_probe(at(due - 1)));
            assert!(choice.poll_probe(at(due)));
            assert!(!choice.poll_probe(at(due)));
            assert!(!choice.handle_probe(false, at(due)));
        }
        assert_eq!(choice.handle_network_change(at(4000)), Memory::Forget);
        assert!(choice.poll_probe(at(4000)));
        assert!(choice.handle_probe(true, at(4000)));
        assert_eq!(choice.path(), Path::WebSocket);
        // Where WebSockets are not allowed it does not look.
        let mut choice = Choice::new(&[Path::Sse], None);
        let _ = choice.handle_hello(Path::Sse, at(0));
        let _ = choice.handle_network_change(at(0));
        assert_eq!((choice.poll_timeout(), choice.poll_probe(at(9999))), (None, false));
    }

    #[test]
    fn a_look_that_was_not_made_is_put_off_and_says_nothing() {
        let mut choice = Choice::new(&[], Some(Path::Sse));
        let _ = choice.handle_hello(Path::Sse, at(0));
        assert!(choice.poll_probe(at(5)));
        choice.handle_no_probe(at(5));
        assert_eq!(choice.handle_arrival(), Memory::Leave);
        assert_eq!(choice.poll_timeout(), Some(at(35)));
        assert!(choice.poll_probe(at(35)));
        assert!(!choice.handle_probe(false, at(35)));
        assert_eq!(choice.poll_timeout(), Some(at(60)), "the second wait of a row");
    }

    #[test]
    fn where_streams_are_held_back_it_polls() {
        let mut choice = Choice::new(&[], Some(Path::Sse));
        assert_eq!(choice.handle_buffered(), Memory::Leave);
        assert_eq!(choice.path(), Path::Poll);
        let _ = choice.handle_hello(Path::Poll, at(0));
        assert!(matches!(choice.handle_buffered(), Memory::Remember(Path::Poll, _)));
        // What a stream does says nothing of WebSockets.
        let mut unsure = Choice::new(&[], None);
        let _ = unsure.handle_no_hello(Path::WebSocket);
        let _ = unsure.handle_hello(Path::Sse, at(0));
        assert_eq!(unsure.handle_buffered(), Memory::Leave);
        let _ = choice.handle_network_change(at(0));
        assert_eq!(choice.path(), Path::Sse);
    }

    /// A network: whether the server is up, and how WebSockets and HTTP fare.
    #[derive(Clone, Copy, Debug)]
    struct Network {
        up: bool,
        web_socket: bool,
        http: bool,
    }

    impl Network {
        fn passes(self, path: Path) -> bool {
            self.up && if path == Path::WebSocket { self.web_socket } else { self.http }
        }
    }

    /// What may be true of the network for a while.
    fn network() -> impl Strategy<Value = Network> {
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(up, web_socket, http)| Network {
            up,
            web_socket,
            http,
        })
    }

    /// One thing that the client does in this network; returns what it is attached by then. It remembers that WebSockets
    /// are blocked only where the server is up and they are.
    fn step(choice: &mut Choice, on: Option<Path>, network: Network, now: Moment) -> Option<Path> {
        let next = attempt(choice, on, network, now);
        let remembers = next.is_some_and(|path| path != Path::WebSocket)
            && choice.handle_arrival() != Memory::Leave;
        assert!(!remembers || (network.up && !network.web_socket), "a false verdict: {network:?}");
        next
    }

    fn attempt(
        choice: &mut Choice,
        on: Option<Path>,
        network: Network,
        now: Moment,
    ) -> Option<Path> {
        match on {
            Some(path) if !network.passes(path) => {
                choice.handle_gone(false, now);
                None
            }
            Some(path) => {
                let looks = choice.poll_probe(now);
                if looks && choice.handle_probe(network.passes(Path::WebSocket), now) {
                    return None;
                }
                Some(path)
            }
            None => {
                let path = choice.path();
                if network.passes(path) {
                    let memory = choice.handle_hello(path, now);
                    assert!(!matches!(memory, Memory::Remember(..)), "a hello alone is no verdict");
                    return Some(path);
                }
                let _ = choice.handle_no_hello(path);
                None
            }
        }
    }

    proptest! {
        /// As the network then stays, the client ends on a WebSocket if one passes, else on HTTP; it is attached within
        /// two attempts, and not disturbed any more.
        #[test]
        fn it_ends_on_the_best_path_that_passes(
            past in prop::collection::vec((network(), 1usize..6), 0..8),
            last in network(),
        ) {
            let mut choice = Choice::new(&[], None);
            let (mut on, mut seconds) = (None, 0);
            for (network, steps) in past {
                for _ in 0..steps {
                    seconds += 100;
                    on = step(&mut choice, on, network, at(seconds));
                }
            }
            if let Some(path) = on && !last.passes(path) {
                choice.handle_gone(false, at(seconds));
                on = None;
            }
            for attempt in 0..3 {
                if on.is_none() && last.up && (last.web_socket || last.http) {
                    prop_assert!(attempt < 2, "not within two attempts");
                    on = step(&mut choice, on, last, at(seconds));
                }
            }
            let mut changes = 0;
            for n in 0..40 {
                seconds += 2000;
                let next = step(&mut choice, on, last, at(seconds));
                changes += usize::from(n > 8 && next != on);
                on = next;
            }
            let best = match last {
                Network { up: true, web_socket: true, .. } => Some(Path::WebSocket),
                Network { up: true, http: true, .. } => Some(Path::Sse),
                Network { .. } => None,
            };
            prop_assert_eq!(on, best);
            prop_assert!(changes == 0);
        }
    }
}
