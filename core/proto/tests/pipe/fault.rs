//! The faults that the search must find.

/// A natural misreading of a rule, planted between the machines and the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// A down frame is forgotten when it is written.
    WrittenIsConfirmed,
    /// A post counts whatever its number.
    NoUpNumbers,
    /// A client lets go of its messages when the post is answered.
    AnsweredIsAcknowledged,
    /// What is queued in a pipe counts after its turn.
    QueueIsReadLate,
    /// What is posted to a pipe counts after its turn.
    PostsCountAfterTurn,
    /// The attachment number in an offer is not looked at.
    NoStaleCheck,
    /// What has come on a stream is confirmed by gets only.
    ConfirmsByGetsOnly,
    /// A post that is repeated takes along what has come meanwhile.
    RepeatGrows,
    /// A second post is sent before the first is answered.
    TwoPosts,
    /// An answer is heard though its request was given up, and its frames have no numbers.
    LateAnswersHeard,
    /// The name of a pipe is the client's part alone.
    NoTag,
}
