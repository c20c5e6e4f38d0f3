//! The search: every deed from every state, and from each a way to the goal that needs no fault.

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    hash::{BuildHasher, BuildHasherDefault},
};

use super::{
    case::Case,
    world::{Deed, World},
};

/// What a search has found.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It has seen this many states; all of them, or the search was capped.
    Holds { states: usize, whole: bool },
    /// A promise is broken, and how it came to that.
    Broken { text: String, trace: Vec<String>, states: usize },
}

/// Visits every state, breadth first, but no more than `cap`. With `expected`, no broken promise counts but one whose text
/// has that.
pub(super) fn explore(case: &Case, cap: usize, expected: &str) -> Verdict {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    let mut first = World::new(case);
    for deed in case.begin {
        assert!(first.deeds(case).iter().any(|(may, _)| may == deed), "{}: {deed:?}", case.name);
        first.act(*deed, case).expect("a beginning breaks nothing");
    }
    // A hash of 64 bits: two of a million states meet with a chance of one in ten million.
    let mut seen = HashMap::from([(hasher.hash_one(&first), 0_usize)]);
    let mut parents: Vec<(usize, Option<Deed>)> = vec![(0, None)];
    let mut goals = vec![first.is_at_goal(case)];
    let mut fair: Vec<(usize, usize)> = Vec::new();
    let mut queue = VecDeque::from([(first, 0)]);
    let mut whole = true;
    while let Some((world, from)) = queue.pop_front() {
        if seen.len() >= cap {
            whole = false;
            break;
        }
        for (deed, by_itself) in world.deeds(case) {
            let mut next = world.clone();
            if let Err(text) = next.act(deed, case) {
                if !text.starts_with(expected) {
                    continue;
                }
                let mut trace = trace(&parents, from);
                trace.push(format!("{deed:?}"));
                return Verdict::Broken { text, trace, states: seen.len() };
            }
            let new = seen.len();
            let to = *seen.entry(hasher.hash_one(&next)).or_insert(new);
            if to == new {
                parents.push((from, Some(deed)));
                goals.push(next.is_at_goal(case));
                queue.push_back((next, to));
            }
            if by_itself && to != from {
                fair.push((to, from));
            }
        }
    }
    let states = seen.len();
    if whole && let Some(stuck) = stuck(goals, fair) {
        let trace = trace(&parents, stuck);
        return Verdict::Broken { text: "P5: no way to the goal".into(), trace, states };
    }
    Verdict::Holds { states, whole }
}

/// A state from which no way leads to a goal; `ways` are edges backwards.
fn stuck(mut reaches: Vec<bool>, mut ways: Vec<(usize, usize)>) -> Option<usize> {
    ways.sort_unstable();
    let mut work: Vec<usize> = (0..reaches.len()).filter(|state| reaches[*state]).collect();
    while let Some(to) = work.pop() {
        let first = ways.partition_point(|way| way.0 < to);
        for (_, from) in ways[first..].iter().take_while(|way| way.0 == to) {
            if !std::mem::replace(&mut reaches[*from], true) {
                work.push(*from);
            }
        }
    }
    reaches.iter().position(|reaches| !reaches)
}

fn trace(parents: &[(usize, Option<Deed>)], mut at: usize) -> Vec<String> {
    let mut deeds = Vec::new();
    while let (from, Some(deed)) = &parents[at] {
        deeds.push(format!("{deed:?}"));
        at = *from;
    }
    deeds.reverse();
    deeds
}

/// Goes one way at random, `steps` long; faults are rare, so that something happens in between. Returns what has happened.
pub(super) fn walk(case: &Case, seed: u64, steps: usize) -> Result<Vec<Deed>, (String, Vec<Deed>)> {
    let mut draw = seed;
    let mut world = World::new(case);
    let mut path = Vec::new();
    for _ in 0..steps {
        let deeds = world.deeds(case);
        let fair: Vec<_> = deeds.iter().filter(|deed| deed.1).collect();
        // SplitMix64.
        draw = draw.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = draw;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let pick = |len: usize| usize::try_from((z >> 8) % len as u64).expect("below a usize");
        let deed = match (deeds.len(), fair.len()) {
            (0, _) => break,
            (all, 0) => deeds[pick(all)].0,
            (all, _) if z.is_multiple_of(16) => deeds[pick(all)].0,
            (_, fair_ones) => fair[pick(fair_ones)].0,
        };
        path.push(deed);
        if let Err(text) = world.act(deed, case) {
            return Err((text, path));
        }
    }
    Ok(path)
}
