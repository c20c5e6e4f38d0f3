//! What readers get that are no clients, and that they change nothing.

use super::*;

/// What an observer gets until it waits.
fn gets(sim: &mut Sim, observer: u32) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        all.push(match sim.session.poll_observed(observer) {
            Observation::Next(Observed::Message { position, message }) => {
                format!("{position} {}", message.as_text().unwrap())
            }
            Observation::Next(Observed::Gap { from, to }) => {
                let from = from.map_or("?".to_owned(), |from| from.to_string());
                format!("gap {from}..{to}")
            }
            Observation::Next(Observed::Checkpoint(Some(at))) => format!("checkpoint {at}"),
            Observation::Next(Observed::Checkpoint(None)) => "cleared".to_owned(),
            Observation::Next(Observed::Ended) => {
                all.push("ended".to_owned());
                return all;
            }
            Observation::Waits => return all,
            Observation::Over => {
                all.push("over".to_owned());
                return all;
            }
        });
    }
}

fn observe(sim: &mut Sim, from: ObserveFrom, number: u32) {
    sim.session.observe(from, number).unwrap();
}

fn from(position: u64) -> ObserveFrom {
    ObserveFrom::Position { epoch: epoch(), position: Position::new(position) }
}

#[test]
fn an_observer_begins_where_it_asks_to() {
    let rest = ["3 m3", "4 m4", "5 m5"];
    let all = ["0 m0", "1 m1", "2 m2", "3 m3", "4 m4", "5 m5"];
    for (retain, at, expected) in [
        (Retain::Nothing, ObserveFrom::Now, &[][..]),
        (Retain::Nothing, ObserveFrom::Kept, &rest),
        (Retain::Newest, ObserveFrom::Kept, &all),
        (Retain::Nothing, from(3), &rest),
        (Retain::Nothing, from(6), &[]),
        (Retain::Newest, from(1), &all[1..]),
        (Retain::Nothing, from(1), &["gap 1..3", "3 m3", "4 m4", "5 m5"]),
        // Of another history.
        (Retain::Nothing, from(7), &["gap ?..3", "3 m3", "4 m4", "5 m5"]),
    ] {
        let mut sim = half_way(retain);
        observe(&mut sim, at, 1);
        assert_eq!(gets(&mut sim, 1), expected, "{retain:?} {at:?}");
        sim.send("next").unwrap();
        assert_eq!(gets(&mut sim, 1), ["6 next"]);
        assert_eq!(sim.session.observed_before(1), Some(Position::new(7)));
    }
    let mut sim = half_way(Retain::Nothing);
    for (session, life, lost) in [(7, 1, false), (7, 2, true), (8, 1, true)] {
        let epoch = Epoch::new(session, life).token();
        let position = Position::new(6);
        observe(&mut sim, ObserveFrom::Position { epoch, position }, 1);
        assert_eq!(gets(&mut sim, 1).first().is_some_and(|it| it.starts_with("gap ?")), lost);
        sim.session.end_observer(1);
    }
}

#[test]
fn a_checkpoint_is_told_before_its_message_and_cleared_behind_what_was_sent_before() {
    let mut sim = Sim::new();
    let checkpoint = |sim: &mut Sim, text: &str| {
        sim.session.send_checkpoint(text.into(), sim.now).unwrap();
    };
    let none = sim.session.observe(ObserveFrom::Checkpoint, 1);
    assert_eq!(none, Err(NotObserved::NoCheckpoint));
    observe(&mut sim, ObserveFrom::Now, 1);
    sim.send("m0").unwrap();
    // Nothing is cleared.
    sim.session.clear_checkpoint();
    checkpoint(&mut sim, "view");
    sim.send("m2").unwrap();
    observe(&mut sim, ObserveFrom::Checkpoint, 2);
    observe(&mut sim, ObserveFrom::Now, 3);
    assert!(sim.session.take_wake().transports);
    sim.session.clear_checkpoint();
    assert!(sim.session.take_wake().transports, "observers are told");
    sim.send("m3").unwrap();
    checkpoint(&mut sim, "next");
    sim.session.clear_checkpoint();
    let end = ["cleared", "3 m3", "4 next"];
    assert_eq!(gets(&mut sim, 1), [&["0 m0", "1 view", "2 m2"][..], &end].concat());
    assert_eq!(gets(&mut sim, 2), [&["1 view", "2 m2"][..], &end].concat());
    assert_eq!(gets(&mut sim, 3), end);
    // Those that are not late are told each.
    observe(&mut sim, ObserveFrom::Now, 4);
    checkpoint(&mut sim, "view");
    assert_eq!(gets(&mut sim, 4), ["checkpoint 5", "5 view"]);
    observe(&mut sim, ObserveFrom::Checkpoint, 5);
    sim.session.clear_checkpoint();
    assert_eq!((gets(&mut sim, 4), gets(&mut sim, 5).len()), (vec!["cleared".to_owned()], 2));
    let none = sim.session.observe(ObserveFrom::Checkpoint, 6);
    assert_eq!(none, Err(NotObserved::NoCheckpoint));
}

#[test]
fn what_is_for_one_client_is_not_for_observers() {
    let mut sim = Sim::new();
    let a = sim.fresh("a");
    observe(&mut sim, ObserveFrom::Now, 1);
    sim.tell("a", "secret").unwrap();
    sim.latest("slot", "old");
    sim.latest("slot", "new");
    sim.tell("a", "secret").unwrap();
    assert_eq!(gets(&mut sim, 1), ["2 new"]);
    assert_eq!(sim.session.observed_before(1), Some(Position::new(4)));
    sim.out(a);
    sim.ack(a, 4);
    assert_eq!(gets(&mut sim, 1), [""; 0], "it has missed nothing");
}

#[test]
fn an_observer_gets_what_is_committed() {
    let mut sim = Sim::with(|rules| (rules.durable_inbox, rules.durable_outbox) = (true, true));
    sim.send("m0").unwrap();
    observe(&mut sim, ObserveFrom::Now, 1);
    observe(&mut sim, ObserveFrom::Kept, 2);
    sim.session.send_checkpoint("view".into(), sim.now).unwrap();
    observe(&mut sim, ObserveFrom::Checkpoint, 3);
    sim.session.clear_checkpoint();
    for observer in 1..=3 {
        assert_eq!(gets(&mut sim, observer), [""; 0]);
    }
    let _ = sim.session.take_wake();
    sim.commit();
    assert!(sim.session.take_wake().transports);
    for (observer, expected) in [
        (1, &["0 m0", "1 view", "cleared"][..]),
        (2, &["0 m0", "1 view", "cleared"]),
        (3, &["1 view", "cleared"]),
    ] {
        assert_eq!(gets(&mut sim, observer), expected);
    }
    sim.send("last").unwrap();
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(gets(&mut sim, 1), [""; 0], "the outcome is not on disk");
    sim.session.handle_outcome_committed(sim.now);
    assert_eq!(gets(&mut sim, 1), ["2 last", "ended"]);
}

#[test]
fn an_observer_of_a_message_begins_when_the_handler_takes_it() {
    for urgent in [false, true] {
        let mut sim = Sim::new();
        let post = |sim: &mut Sim, text: &str, number| {
            observe(sim, ObserveFrom::Now, number);
            let delivery = sim.post(text, None).unwrap();
            sim.session.observe_from_taking(number, delivery);
        };
        post(&mut sim, "one", 1);
        post(&mut sim, "two", 2);
        sim.send("before").unwrap();
        let none: [&str; 0] = [];
        assert_eq!(gets(&mut sim, 1), none, "nobody has taken it");
        sim.session.poll_receive(sim.now).unwrap();
        sim.session.send_checkpoint("answer to one".into(), sim.now).unwrap();
        assert_eq!(gets(&mut sim, 1), ["checkpoint 1", "1 answer to one"]);
        assert_eq!(gets(&mut sim, 2), none, "that is for the first one");
        if urgent {
            // It overtakes: the one before it is still in hand.
            assert!(sim.session.look_ahead().is_some());
            sim.session.take_looked_at(sim.now).unwrap();
        } else {
            sim.session.clear_checkpoint();
            sim.session.hand_back();
            sim.session.poll_receive(sim.now).unwrap();
        }
        sim.send("after").unwrap();
        let cleared: &[&str] = if urgent { &["2 after"] } else { &["cleared", "2 after"] };
        assert_eq!(gets(&mut sim, 1), cleared);
        assert_eq!(gets(&mut sim, 2), ["2 after"]);
        post(&mut sim, "three", 3);
        sim.session.end(OutcomeStatus::Done, sim.now);
        assert_eq!(gets(&mut sim, 3), ["ended"], "it was never taken");
    }
}

#[test]
fn an_observer_of_a_span_gets_it_however_late_it_comes() {
    let checkpoint = |sim: &mut Sim, text: &str| {
        sim.session.send_checkpoint(text.into(), sim.now).unwrap();
    };
    for reads in [false, true] {
        let mut sim = Sim::new();
        let read = |sim: &mut Sim, expected: &[&str]| {
            if reads {
                assert_eq!(gets_span(sim, 1), expected);
            }
        };
        checkpoint(&mut sim, "old");
        observe(&mut sim, ObserveFrom::Now, 1);
        sim.session.observe_span(1);
        sim.send("of the old one").unwrap();
        observe(&mut sim, ObserveFrom::Checkpoint, 2);
        sim.session.observe_span(2);
        sim.session.clear_checkpoint();
        sim.send("between").unwrap();
        read(&mut sim, &[]);
        checkpoint(&mut sim, "new");
        sim.send("of the new one").unwrap();
        read(&mut sim, &["3 new", "4 of the new one"]);
        let _ = sim.session.take_wake();
        sim.session.clear_checkpoint();
        assert!(sim.session.take_wake().transports, "it is told");
        // A third one is nobody's.
        sim.send("after").unwrap();
        checkpoint(&mut sim, "third");
        sim.session.clear_checkpoint();
        let rest: &[&str] = if reads { &[] } else { &["3 new", "4 of the new one"] };
        assert_eq!(gets_span(&mut sim, 1), [rest, &["cleared"]].concat());
        assert_eq!(gets_span(&mut sim, 2), ["0 old", "1 of the old one", "cleared"]);
    }
    // Another checkpoint ends it, too.
    let mut sim = Sim::new();
    checkpoint(&mut sim, "one");
    observe(&mut sim, ObserveFrom::Checkpoint, 1);
    sim.session.observe_span(1);
    checkpoint(&mut sim, "two");
    assert_eq!(gets_span(&mut sim, 1), ["0 one", "cleared"]);
    // What is gone is told.
    let mut sim = Sim::with(|rules| {
        rules.overflow = Overflow::DropOldest;
        rules.bounds.outbox_messages = 3;
    });
    observe(&mut sim, ObserveFrom::Now, 1);
    sim.session.observe_span(1);
    checkpoint(&mut sim, "view");
    for text in ["m1", "m2", "m3"] {
        sim.send(text).unwrap();
    }
    sim.session.clear_checkpoint();
    assert_eq!(gets_span(&mut sim, 1), ["gap 0..1", "1 m1", "2 m2", "3 m3", "cleared"]);
}

/// What an observer of a span gets until it waits, or has had it.
fn gets_span(sim: &mut Sim, observer: u32) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match sim.session.poll_observed(observer) {
            Observation::Next(Observed::Message { position, message }) => {
                all.push(format!("{position} {}", message.as_text().unwrap()));
            }
            Observation::Next(Observed::Gap { from, to }) => {
                all.push(format!("gap {}..{to}", from.unwrap()));
            }
            Observation::Next(Observed::Checkpoint(None)) => {
                all.push("cleared".to_owned());
                return all;
            }
            Observation::Waits => return all,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn observers_are_bounded_and_end_with_the_session() {
    let mut sim = Sim::with(|rules| rules.bounds.observers = 2);
    observe(&mut sim, ObserveFrom::Now, 1);
    observe(&mut sim, ObserveFrom::Now, 2);
    assert_eq!(sim.session.observe(ObserveFrom::Now, 3), Err(NotObserved::TooMany));
    sim.session.end_observer(1);
    assert_eq!(gets(&mut sim, 1), ["over"]);
    observe(&mut sim, ObserveFrom::Now, 3);
    sim.send("last").unwrap();
    sim.session.freeze();
    assert_eq!(gets(&mut sim, 3), [""; 0], "it stands still");
    sim.session.end_observer(2);
    assert_eq!(sim.session.observe(ObserveFrom::Now, 4), Err(NotObserved::Frozen));
    sim.session.thaw(sim.now);
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(gets(&mut sim, 3), ["0 last", "ended"]);
    observe(&mut sim, ObserveFrom::Kept, 5);
    assert_eq!(gets(&mut sim, 5), ["0 last", "ended"], "what is there can be read");
    let _ = sim.session.take_wake();
    sim.session.close_transports(&Close::RESTARTING, || None, sim.now);
    assert!(sim.session.take_wake().transports);
    assert_eq!((gets(&mut sim, 5), sim.session.observer_count()), (vec!["over".to_owned()], 0));
}

/// Random acts on two sessions, of which one is observed: by readers that are slow, go, and come back with the position
/// that they were told, through kills and restarts. See `models` for the same, exhaustively.
#[test]
fn observers_change_nothing_and_miss_nothing_unsaid() {
    for seed in 1..=400 {
        Twins::new(seed).run();
    }
}

struct Reader {
    number: u32,
    /// The epoch, and what comes next; what it comes back with.
    at: (WireId, u64),
}

struct Twins {
    observed: Sim,
    alone: Sim,
    random: u64,
    exact: bool,
    /// What was committed for all, in this history.
    said: BTreeMap<u64, String>,
    /// What each position ever was to a reader.
    meant: BTreeMap<(WireId, u64), String>,
    readers: Vec<Reader>,
    next: u32,
    /// The last that was committed.
    record: Option<Snapshot>,
    lives: u64,
    seed: u64,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let exact = seed.is_multiple_of(2);
        let retain = [Retain::Nothing, Retain::Newest, Retain::SinceCheckpoint];
        let retain = retain[usize::try_from(seed % 3).unwrap()];
        let sim = || {
            Sim::with(|rules| {
                (rules.durable_inbox, rules.durable_outbox) = (exact, exact);
                rules.bounds.outbox_messages = 6;
                rules.retention.retain = retain;
                rules.retention.messages = 3;
                rules.retention.stored = seed.is_multiple_of(5);
                if seed.is_multiple_of(7) {
                    rules.overflow = Overflow::DropOldest;
                }
            })
        };
        Self {
            observed: sim(),
            alone: sim(),
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            exact,
            said: BTreeMap::new(),
            meant: BTreeMap::new(),
            readers: Vec::new(),
            next: 0,
            record: None,
            lives: 1,
            seed,
        }
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn both<R: PartialEq + std::fmt::Debug>(&mut self, mut act: impl FnMut(&mut Sim) -> R) -> R {
        let (observed, alone) = (act(&mut self.observed), act(&mut self.alone));
        assert_eq!(observed, alone, "seed {}", self.seed);
        observed
    }

    fn run(mut self) {
        let a = self.both(|sim| sim.fresh("a"));
        for step in 0..120_u64 {
            match self.draw(12) {
                0..=3 => {
                    let text = format!("{}:{step}", self.lives);
                    if let Ok(at) = self.both(|sim| sim.send(&text)) {
                        self.said.insert(at, text);
                    }
                }
                4 => {
                    let text = format!("{}:{step}", self.lives);
                    let sent = self.both(|sim| {
                        let sent = sim.session.send_checkpoint(text.as_str().into(), sim.now);
                        sent.map(Position::get).ok()
                    });
                    self.said.extend(sent.map(|at| (at, text)));
                }
                5 => {
                    self.both(|sim| (!sim.is_full()).then(|| sim.tell("a", "own")));
                }
                6 => self.both(|sim| sim.session.clear_checkpoint()),
                7 => {
                    let share = self.draw(3);
                    self.both(|sim| {
                        sim.out(a);
                        let committed = sim.session.outbox.committed().get();
                        sim.ack(a, committed.saturating_sub(share));
                    });
                }
                8 => self.commit(),
                9 if self.record.is_some() && self.draw(8) == 0 => {
                    self.kill();
                    return self.finish();
                }
                9 | 10 => self.come(),
                _ => self.read(),
            }
            let mut observed = self.observed.session.clone();
            observed.end_observers();
            observed.wake = self.alone.session.wake;
            assert!(observed == self.alone.session, "seed {}, step {step}", self.seed);
        }
        self.finish();
    }

    /// After a kill the readers come back and read all there is.
    fn finish(mut self) {
        for _ in 0..3 {
            let text = format!("{}:end", self.lives);
            if let Ok(at) = self.both(|sim| sim.send(&text)) {
                self.said.insert(at, text);
            }
            self.commit();
            for _ in 0..8 {
                self.come();
                self.read();
            }
        }
    }

    fn commit(&mut self) {
        self.record = Some(self.observed.session.snapshot(false).0);
        self.both(Sim::commit);
    }

    /// The process is killed, and goes on from its last commit.
    fn kill(&mut self) {
        let Some(record) = self.record.clone() else {
            return;
        };
        self.lives += 1;
        let life = self.lives;
        self.both(|sim| {
            let (rules, record) = (Arc::clone(&sim.session.rules), record.clone());
            sim.session =
                Session::restore(rules, record, false, life, Duration::ZERO, sim.now, |_| "a");
        });
        let head = self.observed.session.head().get();
        self.said.retain(|at, _| *at < head);
    }

    /// A reader comes, or comes back.
    fn come(&mut self) {
        let number = self.next + 1;
        self.next = number;
        if self.readers.len() < 4 {
            let froms = [ObserveFrom::Kept, ObserveFrom::Now, ObserveFrom::Checkpoint];
            let from = froms[usize::try_from(self.draw(3)).unwrap()];
            if self.observed.session.observe(from, number).is_ok() {
                self.observed.session.expect_hello();
                self.alone.session.expect_hello();
                let next = self.observed.session.observed_before(number).unwrap().get();
                let at = (self.observed.session.epoch().token(), next);
                self.readers.push(Reader { number, at });
            }
            return;
        }
        let which = usize::try_from(self.draw(4)).unwrap();
        let reader = &mut self.readers[which];
        self.observed.session.end_observer(reader.number);
        let (epoch, position) = reader.at;
        let from = ObserveFrom::Position { epoch, position: Position::new(position) };
        self.observed.session.observe(from, number).unwrap();
        reader.number = number;
    }

    fn read(&mut self) {
        if self.readers.is_empty() {
            return;
        }
        let which = self.draw(self.readers.len() as u64);
        let count = self.draw(5);
        let epoch = self.observed.session.epoch().token();
        let reader = &mut self.readers[usize::try_from(which).unwrap()];
        for _ in 0..=count {
            let committed = self.observed.session.outbox.committed().get();
            let seed = self.seed;
            match self.observed.session.poll_observed(reader.number) {
                Observation::Next(Observed::Message { position, message }) => {
                    let at = position.get();
                    let text = message.as_text().unwrap().to_owned();
                    assert!(at < committed, "seed {seed}: not committed");
                    assert_eq!(self.said.get(&at), Some(&text), "seed {seed}");
                    assert!(reader.at.1 <= at, "seed {seed}: back");
                    let missed = self.said.range(reader.at.1..at).next();
                    assert_eq!(missed, None, "seed {seed}: {at} after {:?}", reader.at);
                    // An exact history goes on through kills: no position ever has another meaning.
                    let of = if self.exact { Epoch::new(7, 1).token() } else { epoch };
                    let meant = self.meant.entry((of, at)).or_insert_with(|| text.clone());
                    assert_eq!(*meant, text, "seed {seed}: an offset with two meanings");
                    reader.at = (epoch, at + 1);
                }
                Observation::Next(Observed::Gap { to, .. }) => reader.at = (epoch, to.get()),
                Observation::Next(Observed::Checkpoint(_) | Observed::Ended) => {}
                Observation::Waits => {
                    let missed = self.said.range(reader.at.1.min(committed)..committed).next();
                    assert_eq!(missed, None, "seed {seed}: it waits, {:?}", reader.at);
                    return;
                }
                // Its life is over.
                Observation::Over => return,
            }
        }
    }
}
