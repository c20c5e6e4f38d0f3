//! How much may happen.

/// A kind of transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    Poll,
    Stream,
    WebSocket,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The client's messages, and the handler's.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// What the client comes by, one after the other.
    pub(crate) kinds: &'static [Kind],
    /// Frames that a pipe keeps until they are confirmed.
    pub(crate) window: usize,
    /// The session reads what was posted later, not at once.
    pub(crate) lazy: bool,
    /// A stream may be found to be held back.
    pub(crate) flips: bool,
    // Faults: requests and answers that are lost, requests that arrive twice, transports that the client gives up, pipes
    // that the server finds absent, requests that are given up though nothing is lost.
    pub(crate) losses: u8,
    pub(crate) doubles: u8,
    pub(crate) give_ups: u8,
    pub(crate) absences: u8,
    pub(crate) slow: u8,
}

pub(crate) const POLL: &[Kind] = &[Kind::Poll, Kind::Poll];
pub(crate) const STREAM: &[Kind] = &[Kind::Stream, Kind::Stream];

/// One message each way over polls, with one of each of the usual faults.
pub(crate) const BASE: Bounds = Bounds {
    up: 1,
    down: 1,
    kinds: POLL,
    window: 8,
    lazy: false,
    flips: false,
    losses: 1,
    doubles: 1,
    give_ups: 1,
    absences: 0,
    slow: 0,
};
