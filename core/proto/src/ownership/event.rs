use super::{Answer, Call, Fence, Incarnation, Leave};

/// Names one request or upgrade, as long as the machine deals with it. The caller draws the numbers; none is used twice
/// at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Visit(pub u64);

/// What has happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A request or upgrade for the session's key has come, with its offer. The machine answers it by one command that
    /// names it, and forgets it then (after [`Command::Relay`](super::Command::Relay) and
    /// [`Command::Over`](super::Command::Over) only later, as said there).
    Arrived {
        /// Its name.
        visit: Visit,
        /// What it wants.
        asks: Asks,
        /// Which way it has come.
        via: Via,
    },
    /// It is not there any more: its client has gone. Also the end of a relayed one on the client's side.
    Left(Visit),
    /// The engine has answered, or will not.
    Answered {
        /// What was asked.
        call: Call,
        /// What it said.
        answer: Answer,
    },
    /// [`Command::Build`](super::Command::Build) is done: the session is in memory.
    Built,
    /// What was claimed cannot be made a session: its bytes are unreadable.
    CannotBuild,
    /// What became of a relayed visit's hop.
    Hop {
        /// The visit.
        visit: Visit,
        /// What became of it.
        is: Hop,
    },
    /// A visit that was told [`Command::Over`](super::Command::Over) is no client of the ended session: it begins anew.
    Anew {
        /// The visit.
        visit: Visit,
        /// The final record.
        over: Fence,
    },
    /// The session is to leave this node once no message is in hand.
    Leave(Leave),
    /// The session is frozen: it has come to the boundary that [`Command::Freeze`](super::Command::Freeze) waits for.
    AtBoundary,
    /// The session is to stay after all: somebody uses it here. Takes an earlier [`Event::Leave`] back.
    Stay,
    /// A drain's deadline: what is not at a boundary is let go of as it is stored.
    Overdue,
    /// The handler has returned, or the session has ended otherwise: what is put next is final.
    Finished,
    /// The engine may have lost writes: a connection broke, or another run of it answers. Told after the lease was renewed.
    Resumed,
    /// The node's lease stands otherwise than before.
    Lease,
    /// Time has passed; see [`poll_timeout`](super::Ownership::poll_timeout).
    Timeout,
}

/// What a visit wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Asks {
    /// An upgrade: its hello, and whatever makes its client stop or forget, is said by a confirmed owner alone.
    Upgrade,
    /// A request that uses the session, and begins it if there is none.
    Open,
    /// A request that uses the session if there is one.
    Look,
}

/// Which way a visit has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Via {
    /// From outside.
    Client,
    /// By a hop of another node, which has taken this one for the owner.
    Hop {
        /// The incarnation that the hop names.
        to: Incarnation,
    },
}

/// What became of a hop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hop {
    /// The owner has answered: from now on bytes are copied.
    Answered,
    /// The node there is not the owner: 421.
    Misdirected,
    /// There was no answer, or none of that incarnation: not reached, or cut off before it.
    Unreachable,
    /// The answered hop has ended: FIN, reset, silence for a lease, or its owner is gone.
    Ended,
}
