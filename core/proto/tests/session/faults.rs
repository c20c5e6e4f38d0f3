//! The search itself, and that it finds what it is there to find.

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
}

const FAULTS: [Fault; 14] = [
    Fault::LateCloseCounts,
    Fault::CloseIsNeverNoticed,
    Fault::LateFramesCount,
    Fault::WrittenIsAcknowledged,
    Fault::TakenOverCountsAsTold,
    Fault::NothingIsSentAgain,
    Fault::ReceivedIsTaken,
    Fault::AcceptedIsAcknowledged,
    Fault::ZeroIsNoCursor,
    Fault::NoStaleCheck,
    Fault::FrameIsReadTwice,
    Fault::GapIsNotTold,
    Fault::CursorIsLastAck,
    Fault::AcksWhatItHasNot,
];

/// Each is rich in something else, as everything together would be too much.
const DOWN: Bounds = Bounds {
    attach: Attach::Takeover,
    sends: 3,
    makes: [0, 0],
    attaches: 3,
    late: 0,
    cuts: 1,
    outbox: 8,
};
const UP: Bounds = Bounds { sends: 0, makes: [3, 0], ..DOWN };
const BOTH: Bounds = Bounds { sends: 1, makes: [1, 1], attaches: 2, ..DOWN };
const LATE: Bounds = Bounds { sends: 1, makes: [1, 0], late: 1, cuts: 0, ..DOWN };
const FULL: Bounds = Bounds { outbox: 1, ..DOWN };
const ALL: [Bounds; 5] = [DOWN, UP, BOTH, LATE, FULL];

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

#[test]
fn every_planted_fault_is_found() {
    for fault in FAULTS {
        assert!(is_found(fault), "{fault:?} is not found");
    }
}

fn is_found(fault: Fault) -> bool {
    for attach in [Attach::Takeover, Attach::Share] {
        for mut bounds in ALL {
            bounds.attach = attach;
            if catch_unwind(AssertUnwindSafe(move || explore(bounds, Some(fault)))).is_err() {
                return true;
            }
        }
    }
    false
}
