use super::{Call, Claimed, Fence, Incarnation, Visit};

/// What the caller must do, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Ask the engine.
    Call(Call),
    /// Make a session of the record that was claimed, or a new one; then [`Event::Built`](super::Event::Built) or [`Event::CannotBuild`](super::Event::CannotBuild).
    Build(Claimed),
    /// Answer the visit from the session in memory, if [`Ownership::permits`](super::Ownership::permits) says so *right
    /// before*; else let it arrive again.
    Serve {
        /// The visit.
        visit: Visit,
        /// The leave.
        permit: Permit,
    },
    /// Send the visit's request once more, to this node; then tell [`Event::Hop`](super::Event::Hop). The visit stays known until it
    /// [has left](super::Event::Left), is [cut](Command::Cut), or is answered otherwise.
    Relay {
        /// The visit.
        visit: Visit,
        /// The owner.
        to: Incarnation,
    },
    /// Answer the visit so that the platform sends it to this node.
    Reroute {
        /// The visit.
        visit: Visit,
        /// The owner.
        to: Incarnation,
    },
    /// Answer the hop with 421.
    Misdirected {
        /// The visit.
        visit: Visit,
        /// Who owns it, if that is known.
        owner: Option<Incarnation>,
    },
    /// Answer the visit from the final record, if it is a client of the session that has ended, and tell [`Event::Left`](super::Event::Left);
    /// else tell [`Event::Anew`](super::Event::Anew).
    Over {
        /// The visit.
        visit: Visit,
        /// The final record.
        ended: Fence,
    },
    /// Answer the visit that there is no session.
    Nothing(Visit),
    /// Refuse the visit.
    Refuse {
        /// The visit.
        visit: Visit,
        /// Why.
        why: Refusal,
    },
    /// Cut the relayed visit's connection, and say nothing. Only a hello begins a transport again.
    Cut(Visit),
    /// Take no message in, send nothing, acknowledge nothing, from now on. Heartbeats go on with what is committed.
    Silence,
    /// Freeze at the next boundary; then tell [`Event::AtBoundary`](super::Event::AtBoundary).
    Freeze,
    /// Go on.
    Thaw,
    /// Put what is here as soon as that is possible, changed or not: [`Ownership::begin_put`](super::Ownership::begin_put).
    Save,
    /// Tell the transports to come back later: 4112 `restarting`, plain 1012. The session stays in memory.
    CloseTransports,
    /// The session leaves memory.
    Drop(Dropped),
}

/// Leave to speak for a session: for one turn, under one claim.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Permit {
    pub(super) fence: Fence,
}

/// Why a visit is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refusal {
    /// Try again in 1 to 3 s: 4113, 1013, 503. The owner cannot be reached, or it has not become clear in time who that is.
    TryAgain,
    /// This node stops: come back, to another one.
    Draining,
    /// The engine has no room for another session: 503.
    Full,
    /// The stored session cannot be rebuilt: 1011.
    Broken,
}

/// Why a session leaves memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dropped {
    /// It is stored, and nobody owns it. Transports: 4112, plain 1012.
    Released,
    /// Another node owns it: 4112 `moved`, plain 1012. No ack, no outcome, no put.
    Lost,
    /// Its final record is there: only now clients are told `done`.
    Ended,
    /// It could not be rebuilt.
    Broken,
}
