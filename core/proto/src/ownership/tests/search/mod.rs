//! Every interleaving of a few nodes, an engine with a replica, and a client: the machines are the real ones.
//!
//! The rules and names are those of the model from which the machine was made. `r-`: the rules must hold; `s1-`: they must
//! hold without leases, too, where a node takes over whatever it is asked for; `b-`: one rule left out must be found; `limit-`: what no rule can give.
//!
//! What is checked: P1 nothing acknowledged is lost. P2 a message is taken once, in order. P3 a client that is resumed misses
//! nothing of what it has. P4 an ack or `done` is in the record. P5 from every state there is a way, without another fault, to
//! everything acknowledged and taken. P6 a node that speaks owns the record (where clocks are right and the engine loses
//! nothing). P7 a handler ends only when its session is another node's, or left.
//!
//! A usual run is cut off after some thousand states of each search. `SIM_TIMES=100` goes a hundred times as far: most
//! searches are whole then. To see one alone: `SEARCH=name cargo test -p session-resume-proto --lib ownership -- --nocapture`.

mod begin;
mod case;
mod client;
mod engine;
mod explore;
mod plants;
mod rules;
mod session;
mod world;

use self::{
    begin::ACKED,
    case::{Budget, Case, Clocks, Replicated},
    explore::{Verdict, explore, walk},
    plants::plants,
    rules::rules,
};

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
    let cases: Vec<_> = rules().into_iter().filter(|case| case.name.starts_with(group)).collect();
    assert!(!cases.is_empty(), "{group}");
    cases.into_iter().for_each(holds);
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
