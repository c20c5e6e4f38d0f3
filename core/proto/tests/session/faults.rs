//! The search itself, and that it finds each planted fault.

use std::panic::{AssertUnwindSafe, catch_unwind};

use session_resume_proto::session::Attach;

use crate::{
    fault::Fault,
    model::{Bounds, explore},
};

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
    watches: 0,
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
/// Some attaches may only read.
const WATCHES: Bounds = Bounds { sends: 1, makes: [1, 0], attaches: 3, watches: 1, ..DOWN };
const ALL: [Bounds; 8] = [DOWN, UP, BOTH, CROSSED, LATE, FULL, MOVES, WATCHES];

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
        (Fault::WatcherTakesOver, takeover, WATCHES),
        (Fault::WatcherTakesOver, Attach::Refuse, WATCHES),
        (Fault::WatcherWrites, share, WATCHES),
    ] {
        bounds.attach = attach;
        let found = catch_unwind(AssertUnwindSafe(move || explore(bounds, Some(fault)))).is_err();
        println!("{fault:?} found: {found}");
        assert!(found, "{fault:?} is not found");
    }
}
