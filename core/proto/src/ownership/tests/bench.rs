//! One machine with its node, moved by hand.

use std::time::Duration;

use crate::{
    Moment,
    ownership::{
        Answer, Asks, Call, Claimed, Command, Elsewhere, Event, Fence, Found, Incarnation,
        LeaseState, Looked, Ownership, Permit, Rules, Standing, Via, Visit,
    },
};

pub(super) const RULES: Rules =
    Rules { lease: Duration::from_secs(8), elsewhere: Elsewhere::Relay };

pub(super) const FIRST: Incarnation = Incarnation::new(1).unwrap();

pub(super) fn node(number: u64) -> Incarnation {
    Incarnation::new(number).expect("not zero")
}

/// The claim of this generation by a node.
pub(super) fn fence(generation: u64, by: u64) -> Fence {
    Fence { line: 7, generation, owner: Some(node(by)) }
}

pub(super) fn claimed(generation: u64, by: u64) -> Claimed {
    Claimed { fence: fence(generation, by), version: 5, found: Found::Open }
}

/// A node of incarnation 1, which holds its lease and has for long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Bench {
    pub(super) machine: Ownership,
    pub(super) standing: Standing,
    pub(super) now: Moment,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(RULES)
    }

    pub(super) fn with(rules: Rules) -> Self {
        let standing = Standing {
            incarnation: Some(node(1)),
            lease: LeaseState::Held,
            may_take_from: Some(Moment::ZERO),
            may_begin_from: None,
            losses: 0,
            drains: false,
        };
        Self { machine: Ownership::new(rules), standing, now: Moment::from_millis(1_000_000) }
    }

    /// It owns the session by its third claim, and serves it.
    pub(super) fn serving() -> Self {
        let mut bench = Self::new();
        let look = Call::Look { by: node(1) };
        assert_eq!(bench.arrive(1, Asks::Upgrade), [Command::Call(look)]);
        let claimed = claimed(3, 1);
        let answer = Answer::Looked(Looked::Claimed(claimed));
        assert_eq!(bench.answer(look, answer), [Command::Build(claimed)]);
        let permit = Permit { fence: fence(3, 1) };
        assert_eq!(bench.tell(Event::Built), [Command::Serve { visit: Visit(1), permit }]);
        assert!(bench.machine.permits(permit, bench.standing));
        bench
    }

    pub(super) fn tell(&mut self, event: Event) -> Vec<Command> {
        self.machine.handle_event(event, self.standing, self.now);
        std::iter::from_fn(|| self.machine.poll_command()).collect()
    }

    pub(super) fn arrive(&mut self, visit: u64, asks: Asks) -> Vec<Command> {
        self.tell(Event::Arrived { visit: Visit(visit), asks, via: Via::Client })
    }

    pub(super) fn answer(&mut self, call: Call, answer: Answer) -> Vec<Command> {
        self.tell(Event::Answered { call, answer })
    }

    pub(super) fn put(&mut self) -> Option<Call> {
        self.machine.begin_put(self.standing).map(Call::Put)
    }

    /// Time passes.
    pub(super) fn wait(&mut self, time: Duration) -> Vec<Command> {
        self.now = self.now + time;
        self.tell(Event::Timeout)
    }

    /// The lease stands otherwise from now on.
    pub(super) fn lease(&mut self, lease: LeaseState, incarnation: Option<u64>) -> Vec<Command> {
        self.standing.lease = lease;
        self.standing.incarnation = incarnation.map(node);
        self.tell(Event::Lease)
    }

    pub(super) fn may_speak(&self) -> bool {
        self.machine.may_speak(self.standing)
    }
}
