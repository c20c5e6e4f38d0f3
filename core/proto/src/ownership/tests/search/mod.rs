//! Every interleaving of a few nodes, an engine with a replica, and a client: the machines are the real ones.
//!
//! The rules and names are those of the model from which the machine was made. `r-`: the rules must hold; `s1-`: they must
//! hold without leases, too, where a node takes over whatever it is asked for; `b-`: one rule left out must be found; `limit-`: what no rule can give.
//!
//! What is checked: P1 nothing acknowledged is lost. P2 a message is taken once, in order. P3 who is resumed is resumed over
//! what it has. P4 an ack or `done` is in the record. P5 from every state there is a way, without another fault, to
//! everything acknowledged and taken. P6 who speaks is the record's owner (where clocks are right and the engine loses
//! nothing). P7 a handler ends only when its session is another node's, or left.
//!
//! A usual run is cut off after some thousand states of each search. `SIM_TIMES=100` goes a hundred times as far: most
//! searches are whole then. To see one alone: `SEARCH=name cargo test -p session-resume-proto --lib ownership -- --nocapture`.

mod case;
mod client;
mod engine;
mod explore;
mod session;
mod world;

use self::{
    case::{Budget, Case, Clocks, Plant, Replicated},
    explore::{Verdict, explore, walk},
    world::Deed::{
        self, Acknowledge, Apply, Boundary, Break, Connect, CutDone, CutLate, Failover, GoOn,
        Hello, Kill, LeaseEnds, Put, Read, Receive, Restart, Say, Send, Stop, Take,
    },
};
use crate::ownership::Fault;

/// Where clocks are right and the engine loses nothing.
const B: Case = Case { one_speaks: true, ..Case::BASE };

/// How many states of a search a usual run sees.
const CAP: usize = 4_000;

const fn budget(of: [u8; 7]) -> Budget {
    let [drops, kills, stops, cuts, failovers, leaves, restarts] = of;
    Budget { drops, kills, stops, cuts, failovers, leaves, restarts }
}

fn times() -> usize {
    std::env::var("SIM_TIMES").map_or(1, |times| times.parse().expect("SIM_TIMES is a number"))
}

fn is_meant(case: &Case) -> bool {
    std::env::var("SEARCH").map_or(true, |name| case.name.starts_with(&name))
}

/// Searches through a case, under State and under Exact, from the start and from where a message is acknowledged.
fn holds(case: Case) {
    for (exact, begin) in [(false, &[][..]), (true, &[]), (false, &ACKED), (true, &ACKED)] {
        let case = Case { exact, begin, ..case };
        if !begin.is_empty() && case.ends || !is_meant(&case) {
            continue;
        }
        match explore(&case, CAP * times(), "") {
            Verdict::Holds { states, whole } => {
                let end = if whole { "all" } else { "cut off" };
                println!("{}{}: {states} states, {end}", case.name, if exact { "-x" } else { "" });
            }
            Verdict::Broken { text, trace, states } => {
                panic!(
                    "{}, exact: {exact}, {states} states: {text}\n{}",
                    case.name,
                    trace.join("\n")
                );
            }
        }
    }
}

fn all_hold(group: &str) {
    for case in rules().into_iter().filter(|case| case.name.starts_with(group)) {
        holds(case);
    }
}

#[test]
fn the_rules_hold_through_drops_deaths_and_hand_overs() {
    for group in [
        "r-drop",
        "r-kill",
        "r-2kill",
        "r-hand",
        "r-ends",
        "r-mix",
        "r-want",
        "r-late",
        "r-release",
    ] {
        all_hold(group);
    }
}

#[test]
fn the_rules_hold_through_stops_cuts_and_wrong_clocks() {
    for group in ["r-pause", "r-cut", "r-wrong", "r-skew"] {
        all_hold(group);
    }
}

#[test]
fn the_rules_hold_when_the_engine_loses_writes() {
    all_hold("r-fail");
}

#[test]
fn the_rules_hold_when_writes_come_late() {
    all_hold("r-slow");
}

#[test]
fn the_rules_of_the_record_hold_without_leases() {
    all_hold("s1-");
}

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    for (case, expected) in plants() {
        if !is_meant(&case) {
            continue;
        }
        match explore(&case, 60_000 * times(), expected) {
            Verdict::Broken { text, trace, states } => {
                println!("{}: {text} ({states} states)", case.name);
                if std::env::var("SEARCH").is_ok() {
                    println!("{}", trace.join("\n"));
                }
            }
            Verdict::Holds { states, whole } => missed.push((case.name, states, whole)),
        }
    }
    assert_eq!(missed, [], "not found");
}

/// Deeper than a search comes, with more nodes, messages and faults: what must never be.
#[test]
fn long_ways_break_no_promise() {
    let base = Case { nodes: 3, messages: 4, budget: budget([4, 1, 2, 2, 0, 2, 1]), ..Case::BASE };
    let wrong = Case { clocks: Clocks::Wrong, ..base };
    let fail = Case {
        replicated: Replicated::Everything,
        deep: true,
        budget: budget([3, 1, 1, 1, 2, 1, 1]),
        ..base
    };
    for case in [
        Case { name: "right", one_speaks: true, late_offers: true, ..base },
        Case { name: "late", late_calls: true, stays: true, ..base },
        Case { name: "wrong", ..wrong },
        Case { name: "skewed", clocks: Clocks::Skewed, ..base },
        Case { name: "ends", ends: true, ..wrong },
        Case { name: "overdue", overdue: true, ..base },
        Case { name: "failover", ..fail },
    ] {
        for exact in [false, true] {
            let case = Case { exact, ..case };
            for seed in 0..30 * times() as u64 {
                if let Err((text, path)) = walk(&case, seed, 400) {
                    panic!("{}, exact: {exact}, seed {seed}: {text}\n{path:?}", case.name);
                }
            }
        }
    }
}

#[test]
fn one_seed_is_one_way() {
    let case = Case { nodes: 3, messages: 4, budget: budget([4, 1, 2, 2, 0, 2, 1]), ..B };
    let ways: Vec<_> = (0..20).map(|seed| walk(&case, seed, 200)).collect();
    let again: Vec<_> = (0..20).map(|seed| walk(&case, seed, 200)).collect();
    assert_eq!(ways, again);
    assert_ne!(ways[0], ways[1]);
    let states = |case: &Case| match explore(case, 5_000, "") {
        Verdict::Holds { states, .. } => states,
        Verdict::Broken { text, .. } => panic!("{text}"),
    };
    assert_eq!(states(&case), states(&case));
}

/// The client is attached at node 0.
const ATTACHED: [Deed; 5] = [Connect(0), Apply(0, 0), Take(0, 0), Hello(0), Read];

/// And one message is acknowledged.
const ACKED: [Deed; 12] = joined(&[
    &ATTACHED,
    &[Send, Receive(0), Put(0), Apply(0, 0), Take(0, 0), Acknowledge(0), Read],
]);

const fn joined<const N: usize>(parts: &[&[Deed]]) -> [Deed; N] {
    let mut all = [Read; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let mut of = 0;
        while of < parts[part].len() {
            all[at] = parts[part][of];
            at += 1;
            of += 1;
        }
        part += 1;
    }
    assert!(at == N, "as many as there are");
    all
}

fn rules() -> Vec<Case> {
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

/// What is planted, where a search begins that finds it soon, and which promise is broken.
fn plants() -> Vec<(Case, &'static str)> {
    const SENT: [Deed; 6] = joined(&[&ATTACHED, &[Send]]);
    const TAKEN: [Deed; 7] = joined(&[&SENT, &[Receive(0)]]);
    const STOPPED: [Deed; 6] = joined(&[&ATTACHED, &[Stop(0)]]);
    /// The first owner has died, and node 1 has claimed.
    const CLAIMED: [Deed; 12] = [
        Connect(1),
        Kill(0),
        LeaseEnds(0),
        Apply(1, 0),
        Take(1, 0),
        Apply(1, 0),
        Take(1, 0),
        Apply(1, 0),
        Take(1, 0),
        Hello(1),
        Read,
        Send,
    ];
    /// And has spoken; the engine has lost that claim, and the first node has started again.
    const CLAIM_LOST: [Deed; 19] =
        joined(&[&CLAIMED, &[Receive(1), Say(1), Read, Failover, Restart(0), Break, Connect(0)]]);
    /// The client is attached without a confirmation, and then the node is stopped.
    const UNCONFIRMED: [Deed; 4] = [Connect(0), Hello(0), Read, Stop(0)];
    /// The first owner is stopped, and node 1 has claimed and acknowledged.
    const OVERTAKEN: [Deed; 24] = joined(&[
        &ATTACHED,
        &[
            Stop(0),
            LeaseEnds(0),
            Deed::LetGo,
            Connect(1),
            Apply(1, 0),
            Take(1, 0),
            Apply(1, 0),
            Take(1, 0),
            Apply(1, 0),
            Take(1, 0),
        ],
        &[Hello(1), Read, Send, Receive(1), Put(1), Apply(1, 0), Take(1, 0), Acknowledge(1), Read],
    ]);
    /// A clean put has got through, and its answer has not.
    const CLEAN: [Deed; 10] =
        joined(&[&SENT, &[Deed::Leave(0), Boundary(0), Put(0), CutDone(0, 0)]]);
    /// A clean put is late.
    const CLEAN_LATE: [Deed; 10] =
        joined(&[&SENT, &[Deed::Leave(0), Boundary(0), Put(0), CutLate(0, 0)]]);
    const PUT_LATE: [Deed; 10] = joined(&[&SENT, &[Send, Receive(0), Put(0)], &[CutLate(0, 0)]]);
    /// A put is on its way, and the lease has ended.
    const PUT_AND_GONE: [Deed; 11] = joined(&[&TAKEN, &[Put(0), Stop(0), LeaseEnds(0), GoOn(0)]]);
    /// The lease has ended, and its owner has acknowledged a message since.
    const UNNOTICED: [Deed; 15] = joined(&[
        &SENT,
        &[
            Stop(0),
            LeaseEnds(0),
            GoOn(0),
            Receive(0),
            Put(0),
            Apply(0, 0),
            Take(0, 0),
            Acknowledge(0),
            Read,
        ],
    ]);
    const TWO_TAKEN: [Deed; 14] = joined(&[
        &ATTACHED,
        &[
            Send,
            Send,
            Receive(0),
            Put(0),
            Apply(0, 0),
            Take(0, 0),
            Acknowledge(0),
            Read,
            Receive(0),
        ],
    ]);
    const ENDS_SOON: [Deed; 9] = joined(&[&[Connect(1), Break], &SENT, &[Receive(0)]]);

    let one = Case::BASE;
    let wrong = Case { clocks: Clocks::Wrong, ..one };
    let fail = Case { deep: true, replicated: Replicated::Turns, ..one };
    let plant = |name, of, case: Case, begin: &'static [Deed], plant| Case {
        name,
        budget: budget(of),
        plant: Some(plant),
        begin,
        ..case
    };
    let fault = |name, of, case: Case, begin: &'static [Deed], fault| {
        plant(name, of, case, begin, Plant::Machine(fault))
    };
    let limit = |name, of, case: Case, begin: &'static [Deed]| Case {
        name,
        budget: budget(of),
        begin,
        ..case
    };
    vec![
        (plant("b-nofence", [1, 0, 1, 0, 0, 0, 0], one, &TAKEN, Plant::NoFence), "P1"),
        (
            plant(
                "b-eqgen",
                [2, 0, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..one },
                &[Connect(1)],
                Plant::EqualGeneration,
            ),
            "P",
        ),
        (plant("b-cleanstays", [1, 1, 0, 0, 0, 1, 0], one, &SENT, Plant::CleanStays), "P3"),
        (
            plant(
                "b-epochnext",
                [1, 2, 0, 0, 0, 0, 1],
                Case { nodes: 3, ..one },
                &CLAIMED,
                Plant::EpochNext,
            ),
            "P3",
        ),
        (
            plant("b-epochgen", [1, 1, 0, 0, 1, 0, 1], one, &CLAIM_LOST, Plant::EpochGeneration),
            "P3",
        ),
        (plant("b-renewafter", [1, 0, 1, 0, 0, 0, 0], B, &[], Plant::RenewAfter), "P6"),
        (fault("b-noconfirm", [1, 0, 1, 0, 0, 0, 0], wrong, &UNCONFIRMED, Fault::NoConfirm), "P1"),
        (
            fault(
                "b-noconfirm-x",
                [1, 0, 1, 0, 0, 0, 0],
                Case { exact: true, ..wrong },
                &UNCONFIRMED,
                Fault::NoConfirm,
            ),
            "P3",
        ),
        (
            plant(
                "b-helloclaim",
                [2, 1, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..B },
                &[],
                Plant::HelloClaim,
            ),
            "P6",
        ),
        (fault("b-thaw", [1, 1, 0, 1, 0, 1, 0], one, &CLEAN, Fault::ThawAtOnce), "P3"),
        (
            plant(
                "b-retarget",
                [0, 1, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..one },
                &[],
                Plant::Retarget,
            ),
            "P",
        ),
        (
            fault(
                "b-rehello",
                [0, 1, 0, 0, 0, 0, 0],
                Case { nodes: 3, ..one },
                &[],
                Fault::Rehello,
            ),
            "P2",
        ),
        (fault("b-latehello", [1, 0, 1, 0, 0, 0, 0], B, &[], Fault::LateHello), "P6"),
        (
            fault(
                "b-noreput",
                [0, 1, 0, 0, 1, 0, 0],
                Case { quiet: true, ..fail },
                &[],
                Fault::NoReput,
            ),
            "P1",
        ),
        (
            limit(
                "b-nowait",
                [1, 0, 1, 0, 1, 0, 0],
                Case { quiet: true, replicated: Replicated::Nothing, ..fail },
                &OVERTAKEN,
            ),
            "P1",
        ),
        (plant("b-ackearly", [1, 1, 0, 0, 0, 0, 0], one, &[], Plant::AckEarly), "P4"),
        (
            plant(
                "b-exactearly",
                [1, 1, 0, 0, 0, 0, 0],
                Case { exact: true, ..one },
                &[],
                Plant::SendEarly,
            ),
            "P3",
        ),
        (fault("b-claimalive", [1, 0, 0, 0, 0, 0, 0], B, &[], Fault::ClaimAlive), "P6"),
        (
            plant(
                "b-idoutcome",
                [1, 0, 1, 0, 0, 0, 0],
                Case { ends: true, ..wrong },
                &[],
                Plant::OutcomeUnderId,
            ),
            "P4",
        ),
        (
            plant(
                "b-refuse",
                [0, 1, 0, 0, 1, 0, 0],
                Case { quiet: true, replicated: Replicated::Nothing, ..fail },
                &[],
                Plant::RefuseBehind,
            ),
            "P1",
        ),
        (
            limit(
                "b-norelwait",
                [0, 0, 0, 0, 1, 1, 0],
                Case { replicated: Replicated::Claims, ..fail },
                &ACKED,
            ),
            "P1",
        ),
        (
            limit(
                "b-norelwait-end",
                [1, 0, 0, 0, 1, 0, 0],
                Case { messages: 2, ends: true, replicated: Replicated::Claims, ..fail },
                &TWO_TAKEN,
            ),
            "P1",
        ),
        (
            plant(
                "b-blindrel",
                [0, 0, 0, 0, 1, 1, 0],
                Case { overdue: true, ..fail },
                &ACKED,
                Plant::BlindRelease,
            ),
            "P1",
        ),
        (
            plant(
                "b-nover",
                [0, 1, 0, 1, 0, 0, 0],
                Case { messages: 2, late_calls: true, ..one },
                &PUT_LATE,
                Plant::NoVersion,
            ),
            "P1",
        ),
        (
            plant(
                "b-nover-stay",
                [1, 1, 0, 1, 0, 1, 0],
                Case { late_calls: true, stays: true, ..one },
                &CLEAN_LATE,
                Plant::NoVersion,
            ),
            "P1",
        ),
        (
            plant(
                "b-refusefirst",
                [1, 0, 1, 0, 0, 0, 0],
                Case { exact: true, ..wrong },
                &STOPPED,
                Plant::RefuseFirst,
            ),
            "P3",
        ),
        (
            fault(
                "b-stalereclaim",
                [0, 0, 1, 0, 0, 0, 0],
                one,
                &PUT_AND_GONE,
                Fault::StaleDuringReclaim,
            ),
            "P7",
        ),
        (
            plant(
                "b-claimended",
                [1, 0, 1, 0, 0, 0, 0],
                Case { ends: true, ..one },
                &ENDS_SOON,
                Plant::ClaimEnded,
            ),
            "P4",
        ),
        (limit("limit-fail-kill", [0, 1, 0, 0, 1, 0, 0], Case { deep: false, ..fail }, &[]), "P1"),
        (
            limit(
                "limit-fail-wrong",
                [1, 0, 1, 0, 1, 0, 0],
                Case { clocks: Clocks::Wrong, quiet: true, ..fail },
                &UNNOTICED,
            ),
            "P1",
        ),
    ]
}
