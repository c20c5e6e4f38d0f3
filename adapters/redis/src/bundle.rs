//! Which calls go to the engine as one: those of the same script, each with its own key. Pure.

use std::{collections::HashMap, ops::Deref};

use crate::{call::Call, scripts::Script};

/// How many keys one call has at most. The engine does nothing else meanwhile: for some 0.2 ms, at 3 µs a key.
const MOST_KEYS: usize = 64;

/// How many bytes one call has, unless it has one key only.
const MOST_BYTES: usize = 128 << 10;

/// The places of calls that go as one, in the order in which they were made. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    calls: Vec<usize>,
    bytes: usize,
}

impl Deref for Bundle {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.calls
    }
}

impl Bundle {
    fn of(at: usize, call: &Call) -> Self {
        Self { calls: vec![at], bytes: call.len() }
    }

    fn has_room_for(&self, call: &Call) -> bool {
        self.calls.len() < MOST_KEYS && self.bytes + call.len() <= MOST_BYTES
    }
}

/// Each call by itself.
pub(crate) fn each_alone(calls: &[&Call]) -> Vec<Bundle> {
    calls.iter().enumerate().map(|(at, call)| Bundle::of(at, call)).collect()
}

/// As few as the limits allow. Calls on the same key stay in the order in which they were made.
pub(crate) fn together(calls: &[&Call]) -> Vec<Bundle> {
    let mut bundles: Vec<Bundle> = Vec::new();
    // The bundle of each script that may still take calls, and the last one that has each key.
    let mut open: HashMap<Script, usize> = HashMap::new();
    let mut last: HashMap<&[u8], usize> = HashMap::with_capacity(calls.len());
    for (at, call) in calls.iter().enumerate() {
        let after = last.get(&call.key[..]).copied().unwrap_or(0);
        let place = open.get(&call.script).copied();
        let place = place.filter(|&place| place >= after && bundles[place].has_room_for(call));
        // What stands before it is for one command alone.
        let place = place.filter(|_| !call.asking);
        let place = if let Some(place) = place {
            bundles[place].calls.push(at);
            bundles[place].bytes += call.len();
            place
        } else {
            bundles.push(Bundle::of(at, call));
            let place = bundles.len() - 1;
            if call.script.is_for_many() && !call.asking {
                open.insert(call.script, place);
            }
            place
        };
        last.insert(&call.key, place);
    }
    bundles
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn call(script: Script, key: &str, len: usize) -> Call {
        Call::new(script, key.as_bytes().to_vec(), vec![Bytes::from(vec![7; len])])
    }

    fn of(calls: &[Call]) -> Vec<Vec<usize>> {
        let calls: Vec<_> = calls.iter().collect();
        together(&calls).into_iter().map(|bundle| bundle.calls).collect()
    }

    #[test]
    fn calls_of_one_script_go_as_one() {
        let (put, load) = (|key| call(Script::Put, key, 1), |key| call(Script::Load, key, 0));
        assert_eq!(of(&[put("a"), load("b"), put("c"), load("d")]), [vec![0, 2], vec![1, 3]]);
        assert_eq!(of(&[put("a"), put("a")]), [[0, 1]], "one after the other");
        assert!(of(&[]).is_empty());
        let calls = [put("a"), put("b")];
        assert_eq!(each_alone(&calls.iter().collect::<Vec<_>>()).len(), 2);
    }

    #[test]
    fn calls_on_one_key_stay_in_order() {
        let [put, remove, create] = [Script::Put, Script::Remove, Script::Create]
            .map(|script| move |key| call(script, key, 1));
        // The second put of `a` does not go with the first: it would go before the removal.
        let calls = [put("a"), remove("a"), put("b"), put("a"), put("c"), create("a"), remove("a")];
        assert_eq!(of(&calls), [vec![0, 2], vec![1], vec![3, 4], vec![5], vec![6]]);
    }

    #[test]
    fn a_bundle_is_bounded() {
        let small: Vec<_> = (0..150).map(|n| call(Script::Put, &n.to_string(), 10)).collect();
        let sizes = |calls: &[Call]| of(calls).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(&small), [64, 64, 22]);
        let large: Vec<_> = (0..7).map(|n| call(Script::Put, &n.to_string(), 50 << 10)).collect();
        assert_eq!(sizes(&large), [2, 2, 2, 1]);
        let [huge, other] = ["a", "b"].map(|key| call(Script::Put, key, 1 << 20));
        assert_eq!(sizes(&[huge, other]), [1, 1]);
    }

    #[test]
    fn some_calls_go_alone() {
        let keep = |key| call(Script::Keep, key, 1);
        assert_eq!(of(&[keep("a"), keep("b")]), [[0], [1]]);
        let put = |key| call(Script::Put, key, 1);
        let asking = Call { asking: true, ..put("b") };
        assert_eq!(of(&[put("a"), asking, put("c")]), [vec![0, 2], vec![1]]);
    }
}
