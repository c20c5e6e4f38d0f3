//! The search itself, and that it finds each planted fault.

use std::panic::{AssertUnwindSafe, catch_unwind};

use session_resume_proto::session::Attach;

use crate::model::{Bounds, explore};

/// A natural misreading of a rule, planted between the machine and the network or in the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The close of an old socket detaches the client's newest one.
    LateCloseCounts,
    /// A socket that is gone is never noticed.
    CloseIsNeverNoticed,
    /// A frame of an old socket counts for the client's newest one.
    LateFramesCount,
    /// What was written is forgotten, acknowledged or not.
    WrittenIsAcknowledged,
    /// A client that was taken over may come back before it has been told.
    TakenOverCountsAsTold,
    /// A client's messages are not sent again from `received` on.
    NothingIsSentAgain,
    /// `received` is what the handler has taken instead of what was accepted.
    ReceivedIsTaken,
    /// A message is acknowledged when it is accepted.
    AcceptedIsAcknowledged,
    /// A cursor of 0 is read as none.
    ZeroIsNoCursor,
    /// The attachment number in an offer is not looked at.
    NoStaleCheck,
    /// A frame that was taken in is offered again.
    FrameIsReadTwice,
    /// A hello does not tell what is missing.
    GapIsNotTold,
    /// A client offers the position that it acknowledged before its last message.
    CursorIsLastAck,
    /// A client acknowledges what it has not got yet.
    AcksWhatItHasNot,
    /// A client is known by its id alone, under any identity.
    IdentityIsIgnored,
    /// An identity is changed, and what is known of its clients stays with the old one.
    CountsStayBehind,
    /// A transport stays attached though its identity was changed.
    OldIdentityStaysAttached,
}

/// Each of these bounds allows much of one thing: much of everything would be too many states. Three messages
/// each way go one direction at a time.
const DOWN: Bounds = Bounds {
    attach: Attach::Takeover,
    sends: 3,
    makes: [0, 0],
    attaches: 2,
    late: 0,
    cuts: 1,
    moves: 0,
    outbox: 8,
};
const UP: Bounds = Bounds { sends: 0, makes: [3, 0], ..DOWN };
const BOTH: Bounds = Bounds { sends: 1, makes: [1, 1], attaches: 2, ..DOWN };
/// Two messages each way at once.
const CROSSED: Bounds = Bounds { sends: 2, makes: [2, 0], ..DOWN };
const LATE: Bounds = Bounds { sends: 1, attaches: 3, late: 1, ..DOWN };
const FULL: Bounds = Bounds { sends: 2, attaches: 3, outbox: 1, ..DOWN };
/// An identity is changed in between.
const MOVES: Bounds = Bounds { sends: 1, makes: [1, 0], late: 1, moves: 1, ..DOWN };
const ALL: [Bounds; 7] = [DOWN, UP, BOTH, CROSSED, LATE, FULL, MOVES];

fn explore_all(attach: Attach) {
    for mut bounds in ALL {
        bounds.attach = attach;
        println!("{} states within {bounds:?}", explore(bounds, None));
    }
}

#[test]
fn every_interleaving_under_takeover() {
    explore_all(Attach::Takeover);
}

#[test]
fn every_interleaving_under_share() {
    explore_all(Attach::Share);
}

#[test]
fn every_interleaving_under_refuse() {
    explore_all(Attach::Refuse);
}

/// Where each fault shows: a search through fewer states is enough.
#[test]
fn every_planted_fault_is_found() {
    let (takeover, share) = (Attach::Takeover, Attach::Share);
    for (fault, attach, mut bounds) in [
        (Fault::LateCloseCounts, takeover, DOWN),
        (Fault::CloseIsNeverNoticed, share, FULL),
        (Fault::LateFramesCount, takeover, UP),
        (Fault::WrittenIsAcknowledged, takeover, DOWN),
        (Fault::TakenOverCountsAsTold, takeover, DOWN),
        (Fault::NothingIsSentAgain, takeover, UP),
        (Fault::ReceivedIsTaken, takeover, UP),
        (Fault::AcceptedIsAcknowledged, takeover, UP),
        (Fault::ZeroIsNoCursor, share, DOWN),
        (Fault::NoStaleCheck, takeover, LATE),
        (Fault::FrameIsReadTwice, takeover, UP),
        (Fault::GapIsNotTold, share, FULL),
        (Fault::CursorIsLastAck, takeover, DOWN),
        (Fault::AcksWhatItHasNot, takeover, DOWN),
        (Fault::IdentityIsIgnored, share, UP),
        (Fault::CountsStayBehind, takeover, MOVES),
        (Fault::OldIdentityStaysAttached, share, MOVES),
    ] {
        bounds.attach = attach;
        let found = catch_unwind(AssertUnwindSafe(move || explore(bounds, Some(fault)))).is_err();
        println!("{fault:?} found: {found}");
        assert!(found, "{fault:?} is not found");
    }
}
