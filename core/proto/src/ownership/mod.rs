//! Which of several nodes owns a session, and what a node does that does not.
//!
//! Nodes share an *engine*: a store with a clock of its own, which keeps one record per session key and one lease per node.
//! The machine for one node's view of one key is [`Ownership`], that for the node's lease is [`Lease`]; what the engine decides at a record
//! is in [`record`]. Nothing here does I/O: the caller hands in what has happened ([`Event`]) with the time and with how
//! the node [stands](Standing), and does what [`Ownership::poll_command`] says, in order, until that is `None`.
//!
//! The words: an *incarnation* is one life of a node as the engine knows it. A *line* is a session's id. A *fence* is line, generation and
//! owner. To *claim* is to become the owner; to *reclaim*, to become it again of what one still has in memory. A *release*
//! leaves no owner. A *relay* is a transport at one node whose session is at another; the connection between them is a
//! *hop*.
//!
//! # What must stay true
//!
//! 1. Only the node that owns the record speaks for a session: a hello, and whatever makes a client stop or forget, needs a
//!    confirmation, a claim or a look that was *begun after the offer came*, and the lease is looked at again right before
//!    it is said ([`Ownership::permits`]). After any wait a node looks at its lease before it acts.
//! 2. Safety hangs on no clock: what is acknowledged is in a record that only its owner may write. A lease decides when
//!    another node may claim, and when a node that does not reach the engine stops speaking.
//! 3. A node that does not hold its lease freezes its sessions. It keeps them in memory, and [reclaims](Call::Reclaim) them
//!    when it is back with a new incarnation.
//! 4. After a put that says "nothing follows" and whose end is unknown, a session stays silent until a later put without that
//!    word has succeeded.
//! 5. A relay never changes its owner. When its hop ends, the client's connection is cut; only a hello begins a transport.
//! 6. A refusal of a call under a fence that is not the present one means nothing, nor does one while a reclaim is on its way.
//!
//! `search` (a test) goes through every interleaving of a few nodes, an engine with a replica and a client, with this very
//! machine, and finds each of the faults that can be planted in it.

mod call;
mod command;
mod event;
#[cfg(test)]
mod fault;
mod fence;
mod lease;
mod owned;
pub mod record;
mod seek;
#[cfg(test)]
mod tests;
mod visit;

use std::{collections::VecDeque, time::Duration};

#[cfg(test)]
use self::fault::Fault;
pub use self::{
    call::{Answer, Call, Looked, Over, OwnerIs, Put, Refused, Then},
    command::{Command, Dropped, Permit, Refusal},
    event::{Asks, Event, Hop, Via, Visit},
    fence::{Claimed, Fence, Found, Incarnation},
    lease::{Lease, LeaseCommand, LeaseState, Renewed, Standing},
    owned::Leave,
};
use self::{
    owned::Owned,
    seek::{Seek, Unreachable},
    visit::Visits,
};
use crate::Moment;

/// What is set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Rules {
    /// How long the engine waits for a node that says nothing.
    pub lease: Duration,
    /// What is done with a request whose session is at another node.
    pub elsewhere: Elsewhere,
}

/// What is done with a request whose session is at another node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Elsewhere {
    /// It is sent once more, to the owner, and the bytes are copied: the running handler goes on.
    #[default]
    Relay,
    /// The owner is asked to hand the session over: its handler ends at the next boundary, and starts anew here.
    HandOver,
    /// The platform is told which node it is.
    Reroute,
}

impl Rules {
    /// Returns how long a visit waits until it has become clear who owns its session: a lease and five seconds, but no
    /// longer than a client's attempt has (20 s), with a reserve.
    pub fn patience(&self) -> Duration {
        (self.lease + Duration::from_secs(5)).min(Duration::from_secs(15))
    }
}

/// One node's view of one session key: whose the session is, and what this node may do about it.
///
/// The states are one enum: nothing is known here ([`Stand::Idle`]), somebody waits and it is being found out whose the session is, or
/// the session is owned by this node. Dropping the machine is fine when [`is_idle`](Self::is_idle) says so.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ownership {
    rules: Rules,
    state: State,
    visits: Visits,
    commands: VecDeque<Command>,
    /// The owner that was last found alive and could not be reached, and since when.
    unreachable: Option<Unreachable>,
    #[cfg(test)]
    fault: Option<Fault>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum State {
    /// Nothing is known, nothing is asked.
    Idle,
    /// It is being found out whose the session is.
    Seeking(Seek),
    /// It is this node's, as far as this node knows.
    Owned(Owned),
}

/// Where a session stands at a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stand {
    /// Nothing is known here, nothing is asked.
    Idle,
    /// It is being found out whose the session is.
    Seeking,
    /// This node owns the session, and it goes on.
    Serving,
    /// This node has it in memory, and it is silent: the lease has lapsed, it is being reclaimed, it is on its way out, or it
    /// waits for a put.
    Frozen,
    /// It has ended, and its final record is on its way.
    Ending,
}

/// Whether a fault is planted: in tests only.
macro_rules! planted {
    ($machine:expr, $fault:ident) => {{
        #[cfg(test)]
        let planted = $machine.fault == Some($crate::ownership::Fault::$fault);
        #[cfg(not(test))]
        let planted = false;
        planted
    }};
}
use planted;

impl Ownership {
    /// Creates the machine of a key of which nothing is known.
    pub const fn new(rules: Rules) -> Self {
        Self {
            rules,
            state: State::Idle,
            visits: Visits::new(),
            commands: VecDeque::new(),
            unreachable: None,
            #[cfg(test)]
            fault: None,
        }
    }

    /// Takes in what has happened.
    pub fn handle_event(&mut self, event: Event, standing: Standing, now: Moment) {
        match event {
            Event::Arrived { visit, asks, via } => self.arrived(visit, asks, via, standing, now),
            Event::Left(visit) => drop(self.visits.remove(visit)),
            Event::Answered { call, answer } => self.answered(call, answer, standing, now),
            Event::Hop { visit, is } => self.hop(visit, is, now),
            Event::Anew { visit, over } => self.anew(visit, over, standing),
            Event::Built
            | Event::CannotBuild
            | Event::Leave(_)
            | Event::AtBoundary
            | Event::Stay
            | Event::Overdue
            | Event::Finished
            | Event::Resumed => self.own_event(event, standing),
            Event::Lease | Event::Timeout => {}
        }
        self.advance(standing, now);
    }

    /// Returns what to put now, if there is something: the caller has a snapshot of the session at a boundary, or its
    /// outcome. It then asks the engine as for [`Command::Call`], and hands the answer in.
    ///
    /// `None`: not now. [`Command::Save`] comes when it is worth asking again.
    pub fn begin_put(&mut self, standing: Standing) -> Option<Put> {
        match &mut self.state {
            State::Owned(owned) => owned.begin_put(standing),
            State::Idle | State::Seeking(_) => None,
        }
    }

    /// Returns the next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Returns when [`Event::Timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Moment> {
        let state = match &self.state {
            State::Idle => None,
            State::Seeking(seek) => seek.due(),
            State::Owned(owned) => owned.due(),
        };
        let visits = self.visits.iter().filter(|guest| guest.is_open()).map(|guest| guest.until);
        let unreachable = self.unreachable.as_ref().map(Unreachable::due);
        state.into_iter().chain(unreachable).chain(visits).min()
    }

    /// Returns whether the session may speak, take and write now: asked before each such deed, after any wait.
    pub fn may_speak(&self, standing: Standing) -> bool {
        matches!(&self.state, State::Owned(owned) if owned.may_speak(standing))
    }

    /// Returns whether a visit may be answered from the session under this leave: asked right before the answer.
    pub fn permits(&self, permit: Permit, standing: Standing) -> bool {
        if planted!(self, LateHello) {
            return matches!(&self.state, State::Owned(owned) if owned.fence() == permit.fence);
        }
        self.may_speak(standing) && self.fence() == Some(permit.fence)
    }

    /// Returns the fence under which the session in memory was last known to be owned.
    pub fn fence(&self) -> Option<Fence> {
        match &self.state {
            State::Owned(owned) => Some(owned.fence()),
            State::Idle | State::Seeking(_) => None,
        }
    }

    /// Returns where the session stands here.
    pub fn stand(&self) -> Stand {
        match &self.state {
            State::Idle => Stand::Idle,
            State::Seeking(_) => Stand::Seeking,
            State::Owned(owned) => owned.stand(),
        }
    }

    /// Returns whether nothing would be lost with the machine.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
            && self.visits.is_empty()
            && self.commands.is_empty()
            && self.unreachable.is_none()
    }
}
