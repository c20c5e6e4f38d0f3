//! Random scripts: whatever happens in whatever order, a machine keeps to what it owes.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::bench::{Bench, RULES, fence, node};
use crate::ownership::{
    Answer, Asks, Call, Claimed, Command, Event, Found, Hop, LeaseState, Leave, Looked, OwnerIs,
    Refused, Stand, Via, Visit,
};

#[derive(Clone, Debug)]
enum Step {
    Arrive(Asks, bool),
    Leave(usize),
    /// The engine answers one of what is on its way, in one of several ways.
    Answer(usize, u8),
    Hop(usize, Hop),
    Tell(Event),
    Lease(u8),
    Put,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let asks = prop_oneof![Just(Asks::Upgrade), Just(Asks::Open), Just(Asks::Look)];
    let hop = prop_oneof![
        Just(Hop::Answered),
        Just(Hop::Misdirected),
        Just(Hop::Unreachable),
        Just(Hop::Ended)
    ];
    let event = prop_oneof![
        Just(Event::Leave(Leave::HandOver)),
        Just(Event::AtBoundary),
        Just(Event::Stay),
        Just(Event::Overdue),
        Just(Event::Finished),
        Just(Event::Resumed),
    ];
    let step = prop_oneof![
        4 => (asks, any::<bool>()).prop_map(|(asks, hop)| Step::Arrive(asks, hop)),
        1 => any::<usize>().prop_map(Step::Leave),
        8 => (any::<usize>(), any::<u8>()).prop_map(|(at, how)| Step::Answer(at, how)),
        3 => (any::<usize>(), hop).prop_map(|(at, is)| Step::Hop(at, is)),
        3 => event.prop_map(Step::Tell),
        2 => (0_u8..4).prop_map(Step::Lease),
        3 => Just(Step::Put),
        2 => (0_u64..2000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// A machine, with what it owes and what it has asked.
struct Script {
    bench: Bench,
    next: u64,
    /// Visits that are not answered, and those whose hop is asked or answered.
    open: BTreeSet<u64>,
    hops: BTreeSet<u64>,
    asked: Vec<Call>,
    generation: u64,
    building: bool,
    told: Vec<Command>,
}

impl Script {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            next: 0,
            open: BTreeSet::new(),
            hops: BTreeSet::new(),
            asked: Vec::new(),
            generation: 1,
            building: false,
            told: Vec::new(),
        }
    }

    fn take(&mut self, commands: Vec<Command>) {
        for command in commands {
            self.told.push(command);
            match command {
                Command::Call(call) => {
                    if matches!(call, Call::Look { .. } | Call::Find { .. } | Call::Claim { .. }) {
                        let seeks = |call: &&Call| {
                            matches!(
                                call,
                                Call::Look { .. } | Call::Find { .. } | Call::Claim { .. }
                            )
                        };
                        assert_eq!(self.asked.iter().find(seeks), None, "two at a time");
                    }
                    let reads = matches!(call, Call::Want { .. } | Call::Find { .. });
                    assert!(reads || self.bench.standing.holder().is_some(), "{call:?}");
                    self.asked.push(call);
                }
                Command::Build(_) => self.building = true,
                Command::Drop(_) => self.building = false,
                Command::Serve { visit, permit } => {
                    assert!(self.bench.machine.permits(permit, self.bench.standing), "at once");
                    self.answered(visit);
                }
                Command::Reroute { visit, .. }
                | Command::Misdirected { visit, .. }
                | Command::Nothing(visit)
                | Command::Refuse { visit, .. } => self.answered(visit),
                Command::Relay { visit, .. } => {
                    assert!(self.open.remove(&visit.0), "{visit:?} is answered twice");
                    assert!(self.hops.insert(visit.0));
                }
                Command::Over { visit, ended } => {
                    self.answered(visit);
                    // Some are clients of it.
                    let event = if visit.0 % 2 == 0 {
                        Event::Left(visit)
                    } else {
                        self.open.insert(visit.0);
                        Event::Anew { visit, over: ended }
                    };
                    let commands = self.bench.tell(event);
                    self.take(commands);
                }
                Command::Cut(visit) => assert!(self.hops.remove(&visit.0)),
                Command::Silence
                | Command::Freeze
                | Command::Thaw
                | Command::Save
                | Command::CloseTransports => {}
            }
        }
    }

    fn answered(&mut self, visit: Visit) {
        // One whose hop came to nothing was open again, unseen from here.
        let was = self.open.remove(&visit.0) || self.hops.remove(&visit.0);
        assert!(was, "{visit:?} is answered twice");
    }

    fn answer(&mut self, call: Call, how: u8) -> Answer {
        let claimed = |generation, by: u64, found| Claimed {
            fence: fence(generation, by),
            version: 5,
            found,
        };
        let by = self.bench.standing.incarnation.map_or(1, crate::ownership::Incarnation::get);
        self.generation += 1;
        let mine = claimed(self.generation, by, Found::Open);
        match (call, how % 8) {
            (_, 0) => Answer::Unknown,
            (_, 1) => Answer::Refused(Refused::Stale),
            (Call::Look { .. }, 2) => Answer::Looked(Looked::Absent),
            (Call::Look { .. }, 3) => Answer::Looked(Looked::Ended(fence(self.generation, 2))),
            (Call::Look { .. }, 4 | 5) => Answer::Looked(Looked::Theirs(fence(self.generation, 2))),
            (Call::Look { .. }, _) => Answer::Looked(Looked::Claimed(mine)),
            (Call::Find { .. }, 2..=4) => Answer::Owner(OwnerIs::Gone),
            (Call::Find { .. }, _) => Answer::Owner(OwnerIs::Alive),
            (Call::Claim { .. }, 2) => Answer::Refused(Refused::Full),
            (Call::Claim { .. } | Call::Reclaim { .. } | Call::Recreate { .. }, _) => {
                Answer::Claimed(mine)
            }
            (_, 2) => Answer::Refused(Refused::Behind),
            (_, 3) => Answer::Refused(Refused::Missing),
            _ => Answer::Done,
        }
    }

    fn step(&mut self, step: &Step) {
        let commands = match *step {
            Step::Arrive(asks, hop) => {
                self.next += 1;
                self.open.insert(self.next);
                let via = if hop { Via::Hop { to: node(1) } } else { Via::Client };
                self.bench.tell(Event::Arrived { visit: Visit(self.next), asks, via })
            }
            Step::Leave(at) => {
                let all: Vec<u64> = self.open.union(&self.hops).copied().collect();
                let Some(visit) = all.get(at % all.len().max(1)).copied() else { return };
                self.open.remove(&visit);
                self.hops.remove(&visit);
                self.bench.tell(Event::Left(Visit(visit)))
            }
            Step::Answer(at, how) => {
                if self.building {
                    self.building = false;
                    let event = if how == 0 { Event::CannotBuild } else { Event::Built };
                    self.bench.tell(event)
                } else if self.asked.is_empty() {
                    return;
                } else {
                    let call = self.asked.swap_remove(at % self.asked.len());
                    let answer = self.answer(call, how);
                    self.bench.answer(call, answer)
                }
            }
            Step::Hop(at, is) => {
                let hops: Vec<u64> = self.hops.iter().copied().collect();
                let Some(visit) = hops.get(at % hops.len().max(1)).copied() else { return };
                self.bench.tell(Event::Hop { visit: Visit(visit), is })
            }
            Step::Tell(event) => self.bench.tell(event),
            Step::Lease(how) => {
                let (lease, incarnation) = [
                    (LeaseState::Held, Some(1)),
                    (LeaseState::Lapsed, Some(1)),
                    (LeaseState::Gone, None),
                    (LeaseState::Held, Some(4)),
                ][usize::from(how)];
                self.bench.lease(lease, incarnation)
            }
            Step::Put => {
                self.asked.extend(self.bench.put());
                return;
            }
            Step::Wait(millis) => self.bench.wait(Duration::from_millis(millis)),
        };
        // A hop that comes to nothing opens its visit again; it is answered once more, or relayed once more.
        if let Step::Hop(at, Hop::Misdirected | Hop::Unreachable | Hop::Ended) = *step {
            let hops: Vec<u64> = self.hops.iter().copied().collect();
            let visit = hops[at % hops.len()];
            if self.bench.machine.is_waiting(Visit(visit)) || commands.iter().any(|command| {
                matches!(command, Command::Relay { visit: again, .. } if again.0 == visit)
            }) {
                self.hops.remove(&visit);
                self.open.insert(visit);
            }
        }
        self.take(commands);
        self.check();
    }

    fn check(&self) {
        let Bench { machine, standing, now } = &self.bench;
        if machine.may_speak(*standing) {
            let fence = machine.fence().expect("who speaks owns");
            assert_eq!(fence.owner, standing.holder(), "as far as the node knows");
            assert!(matches!(machine.stand(), Stand::Serving | Stand::Ending));
        }
        let put = machine.clone().begin_put(*standing);
        assert!(put.is_none_or(|put| put.fence.owner == standing.holder()));
        let due = machine.poll_timeout();
        assert!(due.is_none_or(|due| due > *now), "{due:?} is due at {now:?}: {machine:?}");
    }
}

fn live(steps: &[Step]) -> Script {
    let mut script = Script::new();
    for step in steps {
        script.step(step);
    }
    script
}

proptest! {
    #[test]
    fn nobody_is_answered_twice_and_in_the_end_everybody_is(steps in steps()) {
        let mut script = live(&steps);
        script.step(&Step::Wait(u64::try_from(RULES.patience().as_millis()).unwrap()));
        for visit in &script.open {
            prop_assert!(!script.bench.machine.is_waiting(Visit(*visit)), "{visit} waits for ever");
        }
    }

    #[test]
    fn one_script_is_one_history(steps in steps()) {
        let (one, two) = (live(&steps), live(&steps));
        prop_assert_eq!(one.told, two.told);
        prop_assert_eq!(one.bench, two.bench);
    }
}
