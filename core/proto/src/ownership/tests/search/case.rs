//! What a search allows to happen, and what it plants.

use super::world::Deed;
use crate::ownership::Fault;

/// How often each fault may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Budget {
    /// The client's connection, or a hop, breaks.
    pub(super) drops: u8,
    pub(super) kills: u8,
    pub(super) stops: u8,
    /// A node is cut off from the engine; where clocks are skewed, the engine ends a lease early.
    pub(super) cuts: u8,
    pub(super) failovers: u8,
    /// A session is handed over, or a drain's deadline comes.
    pub(super) leaves: u8,
    pub(super) restarts: u8,
}

/// How far clocks can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Clocks {
    #[default]
    Right,
    /// A node may believe in a lease that the engine has given up.
    Wrong,
    /// The engine may end leases while their owners are right to believe in them.
    Skewed,
}

/// What a write waits for before it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Replicated {
    #[default]
    Nothing,
    /// Claims, enlistments, releases and ends.
    Turns,
    /// As before, without releases and ends.
    Claims,
    Everything,
}

/// A rule of the engine, or of what drives the machine, that is broken on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Plant {
    Machine(Fault),
    /// A put fits over everything.
    NoFence,
    /// A put, and a claim, fit over an equal generation of another owner.
    EqualGeneration,
    /// A claim leaves the clean mark.
    CleanStays,
    /// A restored session's epoch is the record's, and one.
    EpochNext,
    /// A restored session's epoch is the generation.
    EpochGeneration,
    /// A lease that has ended is renewed.
    RenewAfter,
    /// A put fits over a later one of its owner.
    NoVersion,
    /// A put does not heal a record that is behind.
    RefuseBehind,
    /// A release as it stands does not look at what is there.
    BlindRelease,
    /// The outcome goes under the id, which has the generation of the last put.
    OutcomeUnderId,
    /// Hello, and then the claim.
    HelloClaim,
    /// What is not committed is acknowledged.
    AckEarly,
    /// Under Exact what is not committed is sent.
    SendEarly,
    /// A client is refused before the engine is asked.
    RefuseFirst,
    /// A relay goes on with another owner, without a hello.
    Retarget,
    /// A claim of a session replaces the final record that was put meanwhile.
    ClaimEnded,
}

/// One search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) nodes: usize,
    pub(super) messages: u8,
    pub(super) exact: bool,
    pub(super) budget: Budget,
    pub(super) clocks: Clocks,
    pub(super) replicated: Replicated,
    /// The handler returns after the last message.
    pub(super) ends: bool,
    /// Only a node that has nothing on its way dies or stops.
    pub(super) quiet: bool,
    /// A node that speaks must own the record.
    pub(super) one_speaks: bool,
    /// Offers that were given up may still arrive.
    pub(super) late_offers: bool,
    /// `leaves` are a drain's deadlines.
    pub(super) overdue: bool,
    /// What a cut node has asked may be done much later.
    pub(super) late_calls: bool,
    /// A session whose clean put has failed is used again.
    pub(super) stays: bool,
    /// A failover may lose any number of writes, not only the last.
    pub(super) deep: bool,
    /// No node reaches another.
    pub(super) no_hops: bool,
    pub(super) plant: Option<Plant>,
    /// What has happened before the search begins.
    pub(super) begin: &'static [Deed],
}

impl Case {
    pub(super) const BASE: Self = Self {
        name: "",
        nodes: 2,
        messages: 1,
        exact: false,
        budget: Budget {
            drops: 0,
            kills: 0,
            stops: 0,
            cuts: 0,
            failovers: 0,
            leaves: 0,
            restarts: 0,
        },
        clocks: Clocks::Right,
        replicated: Replicated::Nothing,
        ends: false,
        quiet: false,
        one_speaks: false,
        late_offers: false,
        overdue: false,
        late_calls: false,
        stays: false,
        deep: false,
        no_hops: false,
        plant: None,
        begin: &[],
    };

    pub(super) fn plants(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    pub(super) fn machine_fault(&self) -> Option<Fault> {
        match self.plant {
            Some(Plant::Machine(fault)) => Some(fault),
            Some(Plant::Retarget) => Some(Fault::Rehello),
            _ => None,
        }
    }
}
