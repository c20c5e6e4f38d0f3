//! How sessions are reached over plain HTTP.

use std::time::Duration;

/// How sessions are reached without a WebSocket, as a setting of the layer
/// ([`with_http`](crate::SessionResume::with_http)).
///
/// # Example
///
/// ```
/// use std::time::Duration;
/// use session_resume::{Http, SessionResume};
///
/// // A client that polls may be silent for 20 s before its transport counts as lost.
/// let http = Http::default().with_absent(Duration::from_secs(20));
/// let resume = SessionResume::new().with_http(http);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Http {
    /// Whether a WebSocket is let in on a route that takes more than WebSockets. Default: yes.
    pub websocket: bool,
    /// Whether a client that speaks `session-resume.v1` may have a stream of events. Default: yes.
    pub sse: bool,
    /// Whether it may ask for messages again and again. Default: yes.
    pub poll: bool,
    /// A transport of requests is gone when none of them is under way or has come for this long. Default 10 s.
    pub absent: Duration,
    /// A request that waits for messages is answered after this time, though with none. Default: the heartbeat's
    /// interval, at most 25 s.
    pub hold: Option<Duration>,
    /// A stream of events ends after about this time, and the client asks for the next. Default 10 min.
    pub rotate: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            websocket: true,
            sse: true,
            poll: true,
            absent: Duration::from_secs(10),
            hold: None,
            rotate: Duration::from_secs(600),
        }
    }
}

impl Http {
    /// Lets clients that speak `session-resume.v1` in over WebSockets alone.
    pub fn off() -> Self {
        Self { sse: false, poll: false, ..Self::default() }
    }

    /// Sets [`Self::websocket`].
    #[must_use]
    pub fn with_websocket(mut self, websocket: bool) -> Self {
        self.websocket = websocket;
        self
    }

    /// Sets [`Self::sse`].
    #[must_use]
    pub fn with_sse(mut self, sse: bool) -> Self {
        self.sse = sse;
        self
    }

    /// Sets [`Self::poll`].
    #[must_use]
    pub fn with_poll(mut self, poll: bool) -> Self {
        self.poll = poll;
        self
    }

    /// The transports that a client of ours may use, by their names.
    #[cfg(feature = "http")]
    pub(crate) fn names(self) -> String {
        let all = [("websocket", self.websocket), ("sse", self.sse), ("poll", self.poll)];
        let allowed = all.into_iter().filter(|(_, allowed)| *allowed).map(|(name, _)| name);
        allowed.collect::<Vec<_>>().join(", ")
    }

    /// Sets [`Self::absent`].
    #[must_use]
    pub fn with_absent(mut self, absent: Duration) -> Self {
        self.absent = absent;
        self
    }

    /// Sets [`Self::hold`].
    #[must_use]
    pub fn with_hold(mut self, hold: Duration) -> Self {
        self.hold = Some(hold);
        self
    }

    /// Sets [`Self::rotate`].
    #[must_use]
    pub fn with_rotate(mut self, rotate: Duration) -> Self {
        self.rotate = rotate;
        self
    }
}
