//! The faults that the search must find.

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
    /// A client that may only read attaches as one that may write.
    WatcherTakesOver,
    /// A client sends data although it may only read.
    WatcherWrites,
}
