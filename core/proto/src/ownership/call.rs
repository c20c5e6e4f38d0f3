use super::{Claimed, Fence, Incarnation};

/// What is asked of the engine, about the machine's key.
///
/// Every call gets exactly one [`Answer`], also one that was given up or whose connection is lost: [`Answer::Unknown`]. The
/// answer comes with its call. `by` is the node's incarnation when the call was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// Looks whose the session is, and claims it if that is nobody. Answer: [`Answer::Looked`].
    Look {
        /// Who asks.
        by: Incarnation,
    },
    /// Asks whether an owner is gone, and renews the node's own lease *behind* that on the same connection. Answer:
    /// [`Answer::Owner`].
    ///
    /// A directory that names the incarnation is as good an answer, and one that was gone stays so.
    Find {
        /// The owner.
        owner: Incarnation,
    },
    /// Becomes the owner of exactly what was found. Answer: [`Answer::Claimed`].
    ///
    /// Over nothing and over a final record the caller brings a first record of a new line, the same one with every
    /// repetition.
    Claim {
        /// What was found.
        over: Over,
        /// Who claims.
        by: Incarnation,
    },
    /// Becomes the owner again of what an earlier incarnation of this node has in memory. Answer: [`Answer::Claimed`].
    Reclaim {
        /// What that one last knew.
        from: Fence,
        /// Who claims.
        by: Incarnation,
    },
    /// Makes a record again that an engine has lost with everything else: as a claim of nothing, but of the same line, and
    /// with the next generation. Answer: [`Answer::Claimed`].
    Recreate {
        /// What was there before.
        from: Fence,
        /// Who claims.
        by: Incarnation,
    },
    /// Asks whether the record is still its owner's. Answer: [`Answer::Done`].
    Confirm {
        /// The owner.
        fence: Fence,
    },
    /// Stores a snapshot: see [`Put`]. Answer: [`Answer::Done`].
    Put(Put),
    /// Lets go of the record as it stands. Answer: [`Answer::Done`].
    Release {
        /// The owner.
        fence: Fence,
        /// The last write that is known to be there: an older record is not let go of.
        committed: u64,
    },
    /// Asks an owner to hand over at its next boundary. Answer: [`Answer::Done`].
    Want {
        /// The owner.
        owner: Incarnation,
    },
}

/// What a claim has found, and replaces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Over {
    /// No record: a session begins.
    Nothing,
    /// A session that goes on. If it has ended since, the claim is refused: its final record is not for a new owner to
    /// replace unseen.
    Session(Fence),
    /// A final record: another session begins.
    Final(Fence),
}

/// One write of the owner's record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Put {
    /// The owner.
    pub fence: Fence,
    /// Its number. No two have the same one, but a release or an end whose answer was lost is repeated as it was.
    pub version: u64,
    /// What it leaves.
    pub then: Then,
}

/// What a put leaves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Then {
    /// A record of the same owner; more may follow.
    Keep,
    /// A clean record that nobody owns: nothing follows.
    Release,
    /// A final record.
    End,
}

/// What the engine has answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Nothing in time, an error that is no refusal, or an answer of another run of the engine than the one that the lease
    /// was last renewed at: the call may have happened, or may happen later.
    Unknown,
    /// No; nothing has changed.
    Refused(Refused),
    /// It has happened.
    Done,
    /// What a look has found.
    Looked(Looked),
    /// Whether an owner is gone.
    Owner(OwnerIs),
    /// It has happened, and this is what is owned now.
    Claimed(Claimed),
}

/// Whether an owner is gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OwnerIs {
    /// Its lease is held, as far as the engine knows.
    Alive,
    /// It is gone, for good, and *afterwards* the node's own renewal was answered that its lease is held. (Else the answer
    /// is [`Answer::Unknown`].)
    Gone,
}

/// Why a call has changed nothing. The engine works and has said no.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// Another owner has the record, or it is not what was found.
    Stale,
    /// The record is older than what the caller has put: the engine has lost something. Put first.
    Behind,
    /// There is no record.
    Missing,
    /// There is no room.
    Full,
}

/// What a look at a record finds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Looked {
    /// Nobody has owned it, or the caller has without knowing: the look has claimed it.
    Claimed(Claimed),
    /// It is owned.
    Theirs(Fence),
    /// The session has ended.
    Ended(Fence),
    /// There is none.
    Absent,
}
