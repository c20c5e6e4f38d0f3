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

/// Decides about a record that is not clean.
///
/// `may_claim_from_gone`: of the node's own lease.
pub(crate) fn decide(owner: Owner, may_claim_from_gone: bool) -> Arrival {
    match owner {
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
        for (owner, may_claim, expected) in [
            (Owner::Ours, false, Arrival::Claim),
            (theirs(), true, elsewhere()),
            (theirs(), false, elsewhere()),
            (Owner::Gone, true, Arrival::Claim),
            (Owner::Gone, false, Arrival::Wait),
        ] {
            assert_eq!(decide(owner.clone(), may_claim), expected, "{owner:?}");
        }
    }
}
