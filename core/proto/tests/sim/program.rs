//! A program: the client machine and an application that checks all it is told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use session_resume_proto::{
    GapReason, Moment,
    client::{Cause, Client, Event},
    session::IdentityTag,
    wire::{Hello, StateOffer, Status},
};

use crate::{
    ledger::{self, Ledger, Place},
    rng::Rng,
    scenario::Scenario,
};

/// The state that programs offer, as it is on the wire.
pub(crate) const STATE: &str = "\"copy\"";

/// The identity of all programs that have no other.
pub(crate) const EVERYBODY: IdentityTag = IdentityTag::new([0; 16]);

#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) index: usize,
    pub(crate) identity: IdentityTag,
    /// It has lost a cookie: what it sent under the old one may be in doubt.
    lost_cookie: bool,
    /// Another program has given itself the same id.
    pub(crate) has_twin: bool,
    /// It may only read, and sends nothing.
    pub(crate) watches: bool,
    /// The random bytes with which it has begun: its first client id is made of them.
    seed: [u8; 32],
    pub(crate) client: Client,
    /// How many messages its application has made.
    pub(crate) made: u64,
    /// The number of each message by its digest, where a record may name messages.
    digests: BTreeMap<ledger::Digest, u64>,
    pub(crate) place: Option<Place>,
    /// Hellos that do not resume, and that the application has not heard of yet: where they start, and
    /// whether the stream goes on.
    openings: VecDeque<(Place, bool)>,
    /// Where a gap without end begins, right after an opening.
    left: Option<Place>,
    pub(crate) in_doubt: BTreeSet<u64>,
    pub(crate) untaken: BTreeSet<u64>,
    /// What its session has acknowledged to it, as far as its last hello knows, oldest first.
    acknowledged: Vec<u64>,
    /// What hellos have taken back, and the application has not heard of yet.
    undone: VecDeque<Vec<u64>>,
    pub(crate) taken_back: BTreeSet<u64>,
    /// It was told that the session has given these up.
    pub(crate) dropped: BTreeSet<u64>,
    pub(crate) done: bool,
    /// Since when the server has no transport of it.
    pub(crate) away_since: Option<Moment>,
    /// The order in which the server has seen the runs first; 0: not yet.
    pub(crate) first: u64,
    /// It is away, and the exception of promise 1 holds for what the outbox drops until it is back.
    pub(crate) may_miss: bool,
    /// The positions that it may miss are below this: the oldest kept when the last such outage ended.
    pub(crate) excused: u64,
    /// Its process is gone.
    pub(crate) dead: bool,
    /// When its application acts next.
    pub(crate) acts: Moment,
    /// When its user brings it back.
    pub(crate) returns: Option<Moment>,
}

impl Program {
    /// Creates a program; with a `twin`, one that has given itself the same id under another identity.
    pub(crate) fn new(
        index: usize,
        twin: Option<&Self>,
        scenario: &Scenario,
        rng: &mut Rng,
        now: Moment,
    ) -> Self {
        let drawn = rng.bytes();
        let (identity, seed) = match twin {
            Some(twin) => (IdentityTag::new([1; 16]), twin.seed),
            None => (EVERYBODY, drawn),
        };
        let mut client = Client::new(scenario.config, &seed, now);
        // Half of the programs have a copy of the state.
        if seed[0].is_multiple_of(2) {
            client.offer_state(Some(StateOffer::new(7, 7, &"copy").expect("a text")));
        }
        Self {
            index,
            identity,
            lost_cookie: false,
            has_twin: twin.is_some(),
            watches: false,
            seed,
            client,
            made: 0,
            digests: BTreeMap::new(),
            place: None,
            openings: VecDeque::new(),
            left: None,
            in_doubt: BTreeSet::new(),
            untaken: BTreeSet::new(),
            acknowledged: Vec::new(),
            undone: VecDeque::new(),
            taken_back: BTreeSet::new(),
            dropped: BTreeSet::new(),
            done: false,
            away_since: None,
            first: 0,
            may_miss: false,
            excused: 0,
            dead: false,
            acts: now,
            returns: None,
        }
    }

    /// Finds the message with this digest: the program's index and the message's number.
    pub(crate) fn find(programs: &[Self], digest: &ledger::Digest) -> Option<(usize, u64)> {
        programs.iter().find_map(|of| Some((of.index, *of.digests.get(digest)?)))
    }

    /// Its next connections are those of another browser.
    pub(crate) fn lose_cookie(&mut self, identity: IdentityTag) {
        self.identity = identity;
        self.lost_cookie = true;
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.dead && !self.client.is_ended()
    }

    /// Notes what a hello says that the client is about to get.
    /// `let_go`: see [`Place`].
    pub(crate) fn note_hello(
        &mut self,
        hello: &Hello,
        stream: usize,
        let_go: u64,
        ledger: &Ledger,
    ) {
        let offered = hello.gap.map_or(hello.from, |gap| gap.from).get();
        let newest = self.openings.back().map(|(place, _)| *place).or(self.place);
        let same_session = newest.is_some_and(|newest| ledger.same_session(newest.stream, stream));
        let goes_on = same_session && hello.gap.is_none_or(|gap| gap.to.is_some());
        if let Some(newest) = newest.filter(|newest| goes_on && newest.stream != stream) {
            if newest.expects > offered {
                // The application has gone on since the offer: the client asks again.
                return;
            }
            let agree = ledger.agree(newest.stream, stream, offered);
            assert!(agree, "one cursor has two histories: {newest:?}, {hello:?}");
            let since = self.openings.iter().rposition(|(_, goes_on)| !goes_on);
            for (place, _) in self.openings.iter_mut().skip(since.unwrap_or(0)) {
                place.stream = stream;
            }
            if let Some(place) = self.place.as_mut().filter(|_| since.is_none()) {
                place.stream = stream;
            }
        }
        if hello.status != Status::Resumed {
            let place = Place { stream, expects: hello.from.get(), let_go };
            self.openings.push_back((place, goes_on && hello.received.is_none()));
        }
        if same_session && let Some(received) = hello.received {
            self.note_received(received);
        }
    }

    /// Notes how many of its messages the session has now.
    fn note_received(&mut self, received: u64) {
        let kept = self.made - self.client.unacknowledged() as u64;
        let known =
            self.acknowledged.iter().chain(&self.taken_back).chain(self.undone.iter().flatten());
        let next = known.max().map_or(0, |last| last + 1);
        self.acknowledged.extend(next..kept);
        let received = usize::try_from(received).expect("in memory");
        if received < self.acknowledged.len() {
            self.undone.push_back(self.acknowledged.split_off(received));
        }
    }

    pub(crate) fn send(&mut self, count: u64, scenario: &Scenario) {
        for _ in 0..if self.watches { 0 } else { count } {
            let message = ledger::from_client(self.index, self.made, scenario.excuses.told_apart());
            let digest = scenario.excuses.drops.then(|| ledger::digest(&message));
            if self.client.send(message).is_err() {
                return;
            }
            self.digests.extend(digest.map(|digest| (digest, self.made)));
            self.made += 1;
        }
    }

    /// The application takes what is there, up to `count` events.
    pub(crate) fn take(
        &mut self,
        count: usize,
        now: Moment,
        scenario: &Scenario,
        ledger: &Ledger,
        base: impl Fn(usize) -> Option<u64>,
    ) {
        for _ in 0..count {
            let Some(event) = self.client.take(now) else {
                return;
            };
            self.check(event, now, scenario, ledger, &base);
        }
    }

    fn check(
        &mut self,
        event: Event,
        now: Moment,
        scenario: &Scenario,
        ledger: &Ledger,
        base: &impl Fn(usize) -> Option<u64>,
    ) {
        let who = u32::try_from(self.index).expect("small");
        match event {
            Event::Message(message) => {
                self.left = None;
                let place = self.place.as_mut().expect("a message after a hello");
                let at = ledger.find(*place, who, &message, now);
                place.expects = at + 1;
            }
            Event::Gap(gap) => {
                let is_excused = gap.reason == GapReason::Overflow
                    && gap.to.is_some_and(|to| to.get() <= self.excused);
                let evicted = gap.reason == GapReason::Evicted;
                // Under another identity nothing is known of it.
                let taken_over = self.watches && evicted && !self.lost_cookie;
                assert!(!taken_over, "a watcher was taken over from: {gap:?}");
                assert!(is_excused || scenario.excuses.gaps.contains(&gap.reason), "{gap:?}");
                if let Some(to) = gap.to {
                    let place = self.place.as_mut().expect("a gap in a stream");
                    ledger.pass(*place, gap.from.get(), who, now);
                    assert!(to > gap.from);
                    // What is still there is not a gap; an epoch that is gone has nothing.
                    if let Some(base) = base(place.stream).filter(|_| !scenario.skips) {
                        assert!(to.get() <= base, "{gap:?}, but the oldest is {base}");
                    }
                    place.expects = to.get();
                } else {
                    let left = self.left.take().expect("a stream is gone only at a hello");
                    ledger.pass(left, gap.from.get(), who, now);
                }
            }
            Event::Open { status, .. } => {
                if status != Status::Resumed {
                    let (place, goes_on) = self.openings.pop_front().expect("a hello was seen");
                    if let Some(before) = self.place {
                        assert!(scenario.excuses.new_stream, "{status:?} instead of resumed");
                        self.left = Some(before);
                    }
                    if !goes_on {
                        self.place = Some(place);
                    }
                }
            }
            Event::InDoubt(messages) => {
                let excuses = &scenario.excuses;
                let may = !scenario.kind.loses_cookies() || self.lost_cookie;
                let is_taken_for_twin = self.has_twin && excuses.twins;
                let is_fine = is_taken_for_twin || (excuses.doubt && may);
                assert!(is_fine, "in doubt: {messages:?}");
                self.in_doubt.extend(messages.iter().map(ledger::number));
            }
            Event::TakenBack { count } => {
                assert!(scenario.excuses.taken_back, "{count} are taken back");
                let undone = self.undone.pop_front().expect("a hello has said so");
                assert_eq!(undone.len() as u64, count);
                self.taken_back.extend(undone);
            }
            Event::Dropped(message) => {
                assert!(scenario.excuses.drops, "dropped: {message:?}");
                assert!(self.dropped.insert(ledger::number(&message)), "told twice: {message:?}");
            }
            Event::Done { untaken, .. } => {
                self.done = true;
                let first = self.made - untaken.len() as u64;
                for (k, message) in (first..).zip(&untaken) {
                    let expected =
                        ledger::from_client(self.index, k, scenario.excuses.told_apart());
                    assert_eq!(*message, expected, "untaken");
                    self.untaken.insert(k);
                }
                let place = self.place.expect("done after a hello");
                ledger.pass(place, ledger.head(place.stream), who, now);
            }
            Event::Waiting { cause, .. } | Event::Offline { cause } => {
                assert_ne!(cause, Cause::Copied, "nobody was copied");
                assert!(!matches!(cause, Cause::Protocol(_)), "{cause:?}");
            }
            Event::Superseded | Event::Refused { .. } if self.watches => {
                panic!("a watcher is in nobody's way")
            }
            Event::Connecting | Event::StateTooBig | Event::Superseded | Event::Refused { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}
