//! The rules: each search must find nothing.

use super::{
    B, budget,
    case::{Case, Clocks, Plant, Replicated},
};
use crate::ownership::Fault;

#[expect(clippy::too_many_lines, reason = "one table")]
pub(super) fn rules() -> Vec<Case> {
    let fail = Case { one_speaks: false, deep: true, replicated: Replicated::Turns, ..B };
    let wrong = Case { one_speaks: false, clocks: Clocks::Wrong, ..B };
    let slow = Case { one_speaks: false, late_calls: true, ..B };
    vec![
        Case { name: "r-drop", messages: 2, budget: budget([2, 0, 0, 0, 0, 0, 0]), ..B },
        Case { name: "r-kill", budget: budget([1, 1, 0, 0, 0, 0, 1]), ..B },
        Case { name: "r-pause", budget: budget([1, 0, 1, 0, 0, 0, 0]), ..B },
        Case { name: "r-cut", budget: budget([1, 0, 0, 1, 0, 0, 0]), ..B },
        Case { name: "r-hand", budget: budget([1, 0, 0, 0, 0, 2, 0]), ..B },
        Case { name: "r-hand-kill", budget: budget([0, 1, 0, 0, 0, 1, 0]), ..B },
        Case { name: "r-hand-cut", budget: budget([0, 0, 0, 1, 0, 1, 0]), ..B },
        Case { name: "r-hand-pause", budget: budget([0, 0, 1, 0, 0, 1, 0]), ..B },
        Case { name: "r-kill-pause-3", nodes: 3, budget: budget([0, 1, 1, 0, 0, 0, 0]), ..B },
        Case { name: "r-2kill-3", nodes: 3, budget: budget([1, 2, 0, 0, 0, 0, 0]), ..B },
        Case { name: "r-ends", ends: true, budget: budget([1, 1, 1, 0, 0, 0, 0]), ..B },
        Case { name: "r-wrong-pause", budget: budget([1, 0, 1, 0, 0, 0, 0]), ..wrong },
        Case { name: "r-wrong-cut", budget: budget([1, 0, 0, 1, 0, 0, 0]), ..wrong },
        Case { name: "r-wrong-hand", budget: budget([0, 0, 1, 0, 0, 1, 0]), ..wrong },
        Case { name: "r-wrong-ends", ends: true, budget: budget([1, 0, 1, 0, 0, 0, 0]), ..wrong },
        Case {
            name: "r-skew",
            clocks: Clocks::Skewed,
            budget: budget([1, 0, 0, 2, 0, 0, 0]),
            ..wrong
        },
        Case {
            name: "r-skew-kill",
            clocks: Clocks::Skewed,
            budget: budget([0, 1, 0, 2, 0, 0, 0]),
            ..wrong
        },
        Case { name: "r-fail", budget: budget([1, 0, 0, 0, 1, 0, 0]), ..fail },
        Case {
            name: "r-fail-quietkill",
            quiet: true,
            budget: budget([0, 1, 0, 0, 1, 0, 0]),
            ..fail
        },
        Case {
            name: "r-fail-quietpause",
            quiet: true,
            budget: budget([0, 0, 1, 0, 1, 0, 0]),
            ..fail
        },
        Case { name: "r-fail-hand", budget: budget([0, 0, 0, 0, 1, 1, 0]), ..fail },
        Case { name: "r-fail-ends", ends: true, budget: budget([1, 0, 0, 0, 1, 0, 0]), ..fail },
        Case {
            name: "r-fail-release",
            overdue: true,
            budget: budget([0, 0, 0, 0, 1, 1, 0]),
            ..fail
        },
        Case {
            name: "r-fail-kill-every",
            replicated: Replicated::Everything,
            budget: budget([0, 1, 0, 0, 1, 0, 0]),
            ..fail
        },
        Case {
            name: "r-fail-nowait-kill",
            replicated: Replicated::Nothing,
            quiet: true,
            budget: budget([0, 1, 0, 0, 1, 0, 0]),
            ..fail
        },
        Case { name: "r-late", late_offers: true, budget: budget([2, 0, 0, 0, 0, 0, 0]), ..B },
        Case { name: "r-late-kill", late_offers: true, budget: budget([1, 1, 0, 0, 0, 0, 0]), ..B },
        Case {
            name: "r-late-pause",
            late_offers: true,
            budget: budget([1, 0, 1, 0, 0, 0, 0]),
            ..wrong
        },
        Case { name: "r-release", overdue: true, budget: budget([1, 0, 0, 0, 0, 2, 0]), ..B },
        Case { name: "r-release-kill", overdue: true, budget: budget([1, 1, 0, 0, 0, 1, 0]), ..B },
        Case { name: "r-slow", budget: budget([1, 0, 0, 1, 0, 0, 0]), ..slow },
        Case { name: "r-slow-kill", budget: budget([0, 1, 0, 1, 0, 0, 0]), ..slow },
        Case { name: "r-slow-hand-kill", budget: budget([1, 1, 0, 1, 0, 1, 0]), ..slow },
        Case {
            name: "r-slow-stay-kill",
            stays: true,
            budget: budget([1, 1, 0, 1, 0, 1, 0]),
            ..slow
        },
        Case {
            name: "r-slow-release",
            overdue: true,
            budget: budget([1, 0, 0, 1, 0, 1, 0]),
            ..slow
        },
        Case { name: "r-mix-3", nodes: 3, budget: budget([1, 1, 0, 0, 0, 1, 0]), ..B },
        Case { name: "r-want", no_hops: true, budget: budget([1, 0, 0, 0, 0, 0, 0]), ..B },
        Case {
            name: "s1-drop-kill",
            plant: Some(Plant::Machine(Fault::ClaimAlive)),
            budget: budget([2, 1, 0, 0, 0, 0, 0]),
            ..wrong
        },
        Case {
            name: "s1-pause",
            plant: Some(Plant::Machine(Fault::ClaimAlive)),
            budget: budget([2, 0, 1, 0, 0, 0, 0]),
            ..wrong
        },
        Case {
            name: "s1-hand",
            plant: Some(Plant::Machine(Fault::ClaimAlive)),
            budget: budget([1, 0, 0, 0, 0, 1, 0]),
            ..wrong
        },
    ]
}
