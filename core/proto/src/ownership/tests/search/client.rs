//! One client, and its transports.

use super::session::{Outbox, Output};
use crate::ownership::Incarnation;

/// Frames that are under way in one direction at most.
pub(super) const UNDER_WAY: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Down {
    /// `fine`: what the client has is the beginning of what the session has.
    Hello {
        resumed: bool,
        fine: bool,
        epoch: u8,
        from: u8,
        received: u8,
    },
    Data {
        output: Output,
        epoch: u8,
    },
    Ack(u8),
    Done,
    Close,
}

/// Where a transport is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Stage {
    /// Its offer is at a node, which has not answered yet.
    Offered,
    /// Attached.
    Open,
    /// The server has closed it; what it had written still comes.
    Closed,
}

/// The way to another node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum HopStage {
    /// None: the transport's session is at the node that it came to.
    No,
    /// The request is on its way to node `to`, and names its incarnation.
    Sent {
        to: usize,
        names: Incarnation,
    },
    /// It waits there for an answer.
    There {
        to: usize,
    },
    /// Its answer is on its way back.
    Misdirected,
    Answered {
        to: usize,
    },
    /// It was not reached, or has ended before it had answered.
    Lost,
    /// Bytes are copied.
    Copies {
        to: usize,
    },
    /// It has ended after that.
    Ended,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Transport {
    pub(super) stage: Stage,
    /// The node that the client is connected to.
    pub(super) via: usize,
    pub(super) hop: HopStage,
    /// The node whose session it is attached to.
    pub(super) at: Option<usize>,
    /// The cursor: epoch and number of messages.
    pub(super) cursor: Option<(u8, u8)>,
    /// It is attached again without a hello: a planted fault.
    pub(super) silent: bool,
    pub(super) up: Vec<u8>,
    pub(super) down: Vec<Down>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Client {
    /// What was acknowledged.
    pub(super) base: u8,
    /// The next message to be sent on this transport.
    pub(super) next: u8,
    /// The present transport has brought a hello.
    pub(super) hello: bool,
    /// It has a cursor.
    pub(super) has: bool,
    pub(super) epoch: u8,
    pub(super) got: Outbox,
    pub(super) done: bool,
}

impl Transport {
    pub(super) fn to(via: usize, cursor: Option<(u8, u8)>) -> Self {
        Self {
            stage: Stage::Offered,
            via,
            hop: HopStage::No,
            at: None,
            cursor,
            silent: false,
            up: Vec::new(),
            down: Vec::new(),
        }
    }

    /// The node at which the hop is, or is going to be.
    pub(super) fn hop_to(&self) -> Option<usize> {
        match self.hop {
            HopStage::Sent { to, .. }
            | HopStage::There { to }
            | HopStage::Answered { to }
            | HopStage::Copies { to } => Some(to),
            HopStage::No | HopStage::Misdirected | HopStage::Lost | HopStage::Ended => None,
        }
    }
}
