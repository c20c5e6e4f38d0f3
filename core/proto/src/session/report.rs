//! What an operator is told of a transport. No rule reads it.

use std::{
    hash::{Hash, Hasher},
    time::Duration,
};

use super::Session;
use crate::{AttachmentNumber, Moment};

/// What carries a transport's frames.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Carrier {
    /// A WebSocket.
    #[default]
    WebSocket,
    /// A pipe over HTTP: an event stream or polls down, posts up.
    Pipe,
    /// A plain stream of events, with nothing up.
    Events,
    /// Anything else.
    Other,
}

/// What is noted of a transport for an operator.
///
/// All reports are equal, and hash alike: two sessions that differ in them alone are the same session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// When the transport attached.
    pub(super) since: Moment,
    /// From the last ping that was answered to its pong, if the session read all the while.
    pub(super) round_trip: Option<Duration>,
    pub(super) carrier: Carrier,
    /// The ping that is outstanding was sent then. `None` once the session has not read for a while since: its pong may
    /// have waited to be read.
    pub(super) pinged: Option<Moment>,
}

impl Report {
    pub(super) fn new(now: Moment) -> Self {
        Self { since: now, round_trip: None, carrier: Carrier::default(), pinged: None }
    }

    /// A ping leaves.
    pub(super) fn pings(&mut self, now: Moment) {
        self.pinged = Some(now);
    }

    /// Reading goes on after a while.
    pub(super) fn has_paused(&mut self) {
        self.pinged = None;
    }

    /// The outstanding ping is answered.
    pub(super) fn is_answered(&mut self, now: Moment) {
        if let Some(pinged) = self.pinged.take() {
            self.round_trip = Some(now.since(pinged));
        }
    }
}

impl PartialEq for Report {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Report {}

impl Hash for Report {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl<I: Clone> Session<I> {
    /// Notes what carries a transport. Until then it counts as a WebSocket.
    pub fn note_carrier(&mut self, number: AttachmentNumber, carrier: Carrier) {
        let transport = self.transports.iter_mut().find(|t| t.number == number);
        if let Some(transport) = transport {
            transport.report.carrier = carrier;
        }
    }
}
