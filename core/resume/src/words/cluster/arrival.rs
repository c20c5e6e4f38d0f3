//! What a node does with a session that is not in its memory: pure.

use crate::words::node::NodeInfo;

/// What is known of the owner that a record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This node's present incarnation.
    Ours,
    /// A node that the engine knows.
    Theirs(NodeInfo),
    /// An incarnation that the engine knows no more. It never comes back.
    Gone,
}

/// What becomes of a request for a stored session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The node claims it.
    Claim,
    /// It is at that node.
    Elsewhere(NodeInfo),
    /// Nobody may claim it yet.
    Wait,
}

/// Decides.
///
/// `released`: the record is clean, so its owner is silent until it has put again; `may_claim_from_gone`: of the node's own
/// lease.
pub(crate) fn decide(owner: Owner, released: bool, may_claim_from_gone: bool) -> Arrival {
    match owner {
        _ if released => Arrival::Claim,
        Owner::Ours => Arrival::Claim,
        Owner::Theirs(node) => Arrival::Elsewhere(node),
        Owner::Gone if may_claim_from_gone => Arrival::Claim,
        Owner::Gone => Arrival::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::node::Incarnation;

    #[test]
    fn a_session_is_claimed_from_nobody_who_may_still_speak() {
        let node = NodeInfo::new("b", Incarnation::from_number(2), "10.0.0.8:7946", 1);
        let theirs = || Owner::Theirs(node.clone());
        let elsewhere = || Arrival::Elsewhere(node.clone());
        for (owner, released, may_claim, expected) in [
            (Owner::Ours, false, false, Arrival::Claim),
            (theirs(), false, true, elsewhere()),
            (theirs(), false, false, elsewhere()),
            (theirs(), true, false, Arrival::Claim),
            (Owner::Gone, false, true, Arrival::Claim),
            (Owner::Gone, false, false, Arrival::Wait),
            (Owner::Gone, true, false, Arrival::Claim),
        ] {
            assert_eq!(
                decide(owner.clone(), released, may_claim),
                expected,
                "{owner:?} {released}"
            );
        }
    }
}
