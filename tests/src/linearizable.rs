//! Whether a recorded history of one session is *linearizable*: whether there is one order of its operations, each between
//! its call and its answer, in which one counter gives exactly these answers.
//!
//! The search is that of Wing and Gong, [*Testing and verifying concurrent objects*][WG] (1993), with the memory of visited
//! states by Lowe, [*Testing for linearizability*][L] (2017), which Porcupine and Knossos use, too. The state of a counter is
//! the sum of what was added, so a visited state is the set of operations that have been ordered.
//!
//! Sums never shrink, so an order is given up as soon as its sum is over what some operation has still to find. Operations
//! that are under way at the same time, and those that were never answered, cost time where their sums cannot tell them apart:
//! a history is best made of amounts that all differ.
//!
//! [WG]: https://doi.org/10.1006/jpdc.1993.1015
//! [L]: https://doi.org/10.1002/cpe.3928

use std::{collections::HashSet, fmt};

/// Adds to a counter, and answers with the sum; an amount of 0 reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// What is added.
    pub amount: u64,
    /// When it was called. All times of a history differ.
    pub called: u64,
    /// When it was answered, and the sum. `None`: it may take effect at any time after the call, or never.
    pub answered: Option<(u64, u64)>,
}

/// There is no such order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The longest order that was found, as indexes into the history.
    pub ordered: Vec<usize>,
    /// The sum after it.
    pub sum: u64,
    /// The operations of which one had to come next, and none fits.
    pub stuck: Vec<usize>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not linearizable: after {:?} the sum is {}, and none of {:?} fits",
            self.ordered, self.sum, self.stuck
        )
    }
}

impl std::error::Error for Violation {}

/// Looks for an order, and returns it as indexes into the history.
///
/// # Errors
///
/// A [`Violation`], if there is none.
pub fn order(history: &[Operation]) -> Result<Vec<usize>, Violation> {
    Search::new(history).run()
}

struct Search<'a> {
    history: &'a [Operation],
    ordered: Vec<usize>,
    /// The same as a set.
    is_ordered: Set,
    /// How many answered operations are not ordered yet.
    left: usize,
    sum: u64,
    visited: HashSet<Set>,
    best: Option<Violation>,
}

impl<'a> Search<'a> {
    fn new(history: &'a [Operation]) -> Self {
        Self {
            history,
            ordered: Vec::new(),
            is_ordered: Set::new(history.len()),
            left: history.iter().filter(|it| it.answered.is_some()).count(),
            sum: 0,
            visited: HashSet::new(),
            best: None,
        }
    }

    fn run(mut self) -> Result<Vec<usize>, Violation> {
        // What is still to be tried at each depth.
        let mut to_try = vec![self.next()];
        while self.left > 0 {
            let Some(now) = to_try.last_mut() else {
                return Err(self.best.expect("the first depth has noted one"));
            };
            let Some(index) = now.pop() else {
                to_try.pop();
                self.take_back();
                continue;
            };
            if self.put(index) {
                to_try.push(self.next());
            }
        }
        Ok(self.ordered)
    }

    /// The operations that may come next: no other one was answered before their call.
    fn next(&mut self) -> Vec<usize> {
        let not_ordered =
            || self.history.iter().enumerate().filter(|(index, _)| !self.is_ordered.has(*index));
        let first_answer =
            not_ordered().filter_map(|(_, it)| Some(it.answered?.0)).min().unwrap_or(u64::MAX);
        // A read that nobody was told of changes nothing.
        let says_nothing = |it: &Operation| it.amount == 0 && it.answered.is_none();
        let (answered, open): (Vec<_>, Vec<_>) = not_ordered()
            .filter(|(_, it)| it.called < first_answer && !says_nothing(it))
            .partition(|(_, it)| it.answered.is_some());
        // The last one is tried first: one that was never answered has a place only where no other one fits.
        let candidates: Vec<_> = open.into_iter().chain(answered).map(|(at, _)| at).collect();
        if self.best.as_ref().is_none_or(|best| best.ordered.len() < self.ordered.len()) {
            let mut stuck = candidates.clone();
            stuck.sort_unstable();
            self.best = Some(Violation { ordered: self.ordered.clone(), sum: self.sum, stuck });
        }
        candidates
    }

    /// Orders this operation next, if its answer allows that and the state is a new one.
    fn put(&mut self, index: usize) -> bool {
        let Operation { amount, answered, .. } = self.history[index];
        let sum = self.sum + amount;
        if answered.is_some_and(|(_, told)| told != sum) {
            return false;
        }
        let has_passed = |it: &Operation| {
            it.answered.is_some_and(|(_, told)| {
                told.checked_sub(it.amount).is_none_or(|found| found < sum)
            })
        };
        let mut others = self.history.iter().enumerate().filter(|(other, _)| *other != index);
        if others.any(|(other, it)| !self.is_ordered.has(other) && has_passed(it)) {
            return false;
        }
        self.is_ordered.flip(index);
        if !self.visited.insert(self.is_ordered.clone()) {
            self.is_ordered.flip(index);
            return false;
        }
        self.ordered.push(index);
        self.sum = sum;
        self.left -= usize::from(answered.is_some());
        true
    }

    /// Takes the last ordered operation back.
    fn take_back(&mut self) {
        if let Some(index) = self.ordered.pop() {
            let Operation { amount, answered, .. } = self.history[index];
            self.is_ordered.flip(index);
            self.sum -= amount;
            self.left += usize::from(answered.is_some());
        }
    }
}

/// A set of indexes.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set(Box<[u64]>);

impl Set {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into())
    }

    fn has(&self, index: usize) -> bool {
        self.0[index / 64] & (1 << (index % 64)) != 0
    }

    fn flip(&mut self, index: usize) {
        self.0[index / 64] ^= 1 << (index % 64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Calls and answers in the order of time: an operation's number and, at its call, the amount, at its answer the sum.
    fn history(text: &str) -> Vec<Operation> {
        let mut history: Vec<Operation> = Vec::new();
        for (time, word) in (0..).zip(text.split_whitespace()) {
            let (number, what) = word.split_at(1);
            let at = usize::from(number.as_bytes()[0] - b'a');
            match what.split_at(1) {
                ("+", amount) => {
                    assert_eq!(at, history.len(), "{word}");
                    let amount = amount.parse().unwrap();
                    history.push(Operation { amount, called: time, answered: None });
                }
                ("=", sum) => history[at].answered = Some((time, sum.parse().unwrap())),
                _ => panic!("{word}"),
            }
        }
        history
    }

    #[track_caller]
    fn is_right(text: &str) {
        let history = history(text);
        let order = order(&history).unwrap_or_else(|violation| panic!("{text}: {violation}"));
        is_an_order(&history, &order);
    }

    #[track_caller]
    fn is_wrong(text: &str) {
        assert!(order(&history(text)).is_err(), "{text}");
    }

    #[track_caller]
    fn is_an_order(history: &[Operation], order: &[usize]) {
        let mut sum = 0;
        for (at, &index) in order.iter().enumerate() {
            sum += history[index].amount;
            if let Some((answered, told)) = history[index].answered {
                assert_eq!(told, sum);
                let earlier = &order[..at];
                assert!(earlier.iter().all(|&other| history[other].called < answered));
            }
        }
        let answered = |it: &Operation| it.answered.is_some();
        let ordered = order.iter().filter(|&&index| answered(&history[index])).count();
        assert_eq!(ordered, history.iter().filter(|it| answered(it)).count());
    }

    #[test]
    fn right_histories() {
        is_right("");
        is_right("a+1 a=1 b+2 b=3 c+0 c=3");
        // At the same time, in either order.
        is_right("a+1 b+2 a=1 b=3");
        is_right("a+1 b+2 a=3 b=2");
        // A read beside an addition sees it or not.
        is_right("a+1 b+0 b=0 a=1");
        is_right("a+1 b+0 b=1 a=1");
        // Never answered: it never happens, or late.
        is_right("a+5 b+1 b=1 c+0 c=1");
        is_right("a+5 b+1 b=1 c+0 c=6");
        is_right("a+5 b+7 c+0 c=7 d+0 d=12");
    }

    /// Each is a fault that a cluster could have.
    #[test]
    fn planted_faults() {
        // An addition that was answered is lost.
        is_wrong("a+1 a=1 b+2 b=2");
        is_wrong("a+1 a=1 b+0 b=0");
        // It counts twice; never answered, too.
        is_wrong("a+1 a=1 b+0 b=2");
        is_wrong("a+1 b+0 b=2");
        // A read of an older state: the old owner's.
        is_wrong("a+1 a=1 b+2 b=3 c+0 c=1");
        // A read saw what is taken back: written by nobody, and gone.
        is_wrong("a+5 b+0 b=5 c+0 c=0");
        // Two owners: both count on from the same sum.
        is_wrong("a+1 a=1 b+2 c+4 b=3 c=5");
        // It takes effect before it is called.
        is_wrong("a+0 a=3 b+3 b=3");
        // Two readers do not agree on the order.
        is_wrong("a+1 b+2 c+0 c=1 d+0 d=2");
    }

    #[test]
    fn a_violation_says_where() {
        let violation = order(&history("a+1 a=1 b+2 b=3 c+4 d+0 c=8 d=3")).unwrap_err();
        assert_eq!(violation.ordered, [0, 1, 3]);
        assert_eq!((violation.sum, &*violation.stuck), (3, &[2][..]));
        assert!(violation.to_string().contains("the sum is 3"));
    }

    /// 600 operations of three at a time, and 20 that were never answered, of which two have taken effect.
    #[test]
    fn a_long_history_is_short_work() {
        let open = |at| Operation { amount: 1000_u64 << at, called: at, answered: None };
        let mut history: Vec<_> = (0..20).map(open).collect();
        history.extend((20..60).map(|at| Operation { amount: 0, called: at, answered: None }));
        let mut sum = 0;
        for round in 0..200 {
            if [70, 90].contains(&round) {
                sum += history[round / 10].amount;
            }
            let round = round as u64;
            let (amount, began) = (1 + round % 7, 100 + round * 6);
            for (at, turn) in [(0, 2), (1, 0), (2, 1)] {
                let answered = Some((began + 3 + at, sum + amount * (turn + 1)));
                history.push(Operation { amount, called: began + at, answered });
            }
            sum += 3 * amount;
        }
        let order_of_all = order(&history).unwrap();
        is_an_order(&history, &order_of_all);
        assert_eq!(order_of_all.len(), 602);
        // And with one that is wrong at the end.
        history.push(Operation { amount: 0, called: 20_000, answered: Some((20_001, sum + 1)) });
        assert_eq!(order(&history).unwrap_err().ordered.len(), 602);
    }

    /// All orders of all subsets that have the answered ones.
    fn by_brute_force(history: &[Operation], ordered: &mut Vec<usize>) -> bool {
        let sum: u64 = ordered.iter().map(|&index| history[index].amount).sum();
        let left = || (0..history.len()).filter(|index| !ordered.contains(index));
        if left().all(|index| history[index].answered.is_none()) {
            return true;
        }
        let candidates: Vec<_> = left().collect();
        candidates.into_iter().any(|index| {
            let it = history[index];
            let too_early = (0..history.len()).any(|other| {
                let answered = history[other].answered.map_or(u64::MAX, |(at, _)| at);
                !ordered.contains(&other) && other != index && answered < it.called
            });
            if too_early || it.answered.is_some_and(|(_, told)| told != sum + it.amount) {
                return false;
            }
            ordered.push(index);
            let found = by_brute_force(history, ordered);
            ordered.pop();
            found
        })
    }

    /// Histories of a counter that works: calls, the moments at which they take effect, and answers, in any order; some are
    /// never answered. Then perhaps one answer is changed.
    fn histories() -> impl Strategy<Value = (Vec<Operation>, bool)> {
        let one = (0_u64..4, 0_u64..40, 1_u64..20, 1_u64..20, prop::bool::weighted(0.8));
        let change = prop::option::of((any::<prop::sample::Index>(), -2_i64..=2));
        (prop::collection::vec(one, 1..7), change).prop_map(|(ops, change)| {
            let count = ops.len() as u64;
            // All times differ.
            let time = |at: u64, index: usize| at * count + index as u64;
            let mut effects: Vec<_> =
                ops.iter().enumerate().map(|(i, op)| (time(op.1 + op.2, i), i)).collect();
            effects.sort_unstable();
            let mut sum = 0;
            let mut history: Vec<_> = ops
                .iter()
                .enumerate()
                .map(|(i, op)| Operation { amount: op.0, called: time(op.1, i), answered: None })
                .collect();
            for (_, index) in effects {
                let (amount, called, works, answers, is_answered) = ops[index];
                sum += amount;
                let at = time(called + works + answers, index);
                history[index].answered = is_answered.then_some((at, sum));
            }
            let mut changed = false;
            if let Some((index, by)) = change
                && let Some((_, told)) = &mut history[index.index(ops.len())].answered
            {
                let before = *told;
                *told = told.saturating_add_signed(by);
                changed = *told != before;
            }
            (history, changed)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_search_is_right((history, changed) in histories()) {
            let found = order(&history);
            prop_assert!(changed || found.is_ok(), "{found:?}");
            prop_assert_eq!(found.is_ok(), by_brute_force(&history, &mut Vec::new()));
            if let Ok(order) = found {
                is_an_order(&history, &order);
            }
        }
    }
}
