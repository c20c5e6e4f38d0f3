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

const SMALL: Bounds = Bounds {
    attach: Attach::Takeover,
    sends: 2,
    makes: [2, 1],
    attaches: 3,
    late: 1,
    cuts: 1,
    outbox: 8,
};

#[test]
fn every_interleaving_under_takeover() {
    let states = explore(SMALL, None);
    println!("{states} states");
}

#[test]
fn every_interleaving_under_share() {
    let states = explore(Bounds { attach: Attach::Share, ..SMALL }, None);
    println!("{states} states");
}

#[test]
fn every_interleaving_under_refuse() {
    let states = explore(Bounds { attach: Attach::Refuse, ..SMALL }, None);
    println!("{states} states");
}

#[test]
fn every_planted_fault_is_found() {
    for fault in FAULTS {
        let found = [Attach::Takeover, Attach::Share].into_iter().any(|attach| {
            let bounds = Bounds { attach, ..SMALL };
            catch_unwind(AssertUnwindSafe(|| explore(bounds, Some(fault)))).is_err()
        });
        assert!(found, "{fault:?} is not found");
    }
}
