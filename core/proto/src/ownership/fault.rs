/// A fault that a test plants in the machine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Fault {
    /// A hello on the strength of an answer alone: the lease is not looked at again.
    LateHello,
    /// A hello without a confirmation.
    NoConfirm,
    /// An owner's lease is not asked about.
    ClaimAlive,
    /// A relay offers again by itself when its hop ends.
    Rehello,
    /// After a failover sessions are not put again.
    NoReput,
    /// A session goes on as soon as its clean put has failed.
    ThawAtOnce,
    /// A refusal under the old fence counts although the session is being reclaimed.
    StaleDuringReclaim,
}
