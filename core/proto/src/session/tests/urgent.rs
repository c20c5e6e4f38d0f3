//! Messages that the handler takes before their turn.

use std::collections::BTreeSet;

use super::{super::urgent::Early, *};

impl Sim {
    /// The handler takes the next message that begins with `!`, before its turn.
    fn urgent(&mut self) -> Option<String> {
        if self.session.has_only_urgent_in_hand() {
            self.session.hand_back();
        }
        while let Some(message) = self.session.look_ahead() {
            if message.as_text().is_some_and(|text| text.starts_with('!')) {
                let Event::Message { message, from } = self.session.take_looked_at(self.now)?
                else {
                    panic!("it was a message");
                };
                return Some(format!("{}:{}", from.info, message.as_text().unwrap()));
            }
        }
        None
    }

    /// The count that the client is told by and by.
    fn told(&mut self, number: u64) -> Option<String> {
        self.write(number, Budget { messages: 0, bytes: 0 });
        self.advance(SECOND);
        self.out(number).into_iter().find(|line| line.starts_with("ack"))
    }

    /// Client `a` sends these on its transport.
    fn says<const N: usize>(&mut self, texts: [&str; N]) {
        for text in texts {
            assert!(self.say(1, text), "{text}");
        }
    }
}

fn durable(rules: &mut Rules) {
    rules.durable_inbox = true;
}

#[test]
fn an_urgent_message_overtakes_and_acknowledges_nothing_that_was_not_taken() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.says(["0", "1", "!2", "3"]);
    sim.take_one();
    assert_eq!(sim.urgent().as_deref(), Some("a:!2"));
    assert_eq!(sim.told(1).as_deref(), Some("ack 1"));
    assert_eq!(sim.urgent(), None);
    assert_eq!(sim.event().as_deref(), Some("a:1"));
    assert_eq!(sim.told(1).as_deref(), Some("ack 3"), "with the one before it, both count");
    assert_eq!(sim.messages(), ["a:3"], "and it does not come again");
    assert_eq!(sim.told(1).as_deref(), Some("ack 4"));
}

#[test]
fn what_follows_the_message_in_hand_counts_at_once() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.says(["0", "!1", "!2"]);
    sim.take_one();
    assert_eq!(sim.urgent().as_deref(), Some("a:!1"));
    assert_eq!(sim.urgent().as_deref(), Some("a:!2"));
    assert_eq!(sim.told(1).as_deref(), Some("ack 3"));
    assert_eq!(sim.event(), None);
}

#[test]
fn what_is_looked_at_and_left_comes_in_its_turn_and_is_looked_at_once() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.says(["0", "!1"]);
    assert_eq!(sim.session.look_ahead(), Some("0".into()));
    // The looks are not upset by what comes and goes before them.
    sim.event();
    sim.says(["2"]);
    assert_eq!(sim.session.look_ahead(), Some("!1".into()));
    assert_eq!(sim.session.look_ahead(), Some("2".into()));
    assert_eq!(sim.session.look_ahead(), None);
    assert_eq!(sim.messages(), ["a:0", "a:!1", "a:2"]);
    assert!(sim.session.take_looked_at(sim.now).is_none(), "it was received meanwhile");
}

#[test]
fn an_attach_that_is_taken_back_does_not_shift_the_looks() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.fresh("a");
    sim.events();
    let other = sim.fresh("b");
    sim.says(["0"]);
    assert_eq!(sim.session.look_ahead(), Some("0".into()));
    sim.detach(other);
    sim.says(["!1"]);
    assert_eq!(sim.urgent().as_deref(), Some("a:!1"));
    assert_eq!(sim.messages(), ["a:0"]);
}

#[test]
fn it_fills_its_place_until_it_counts() {
    let mut sim = Sim::with(|rules| rules.bounds.inbox_messages = 2);
    sim.fresh("a");
    sim.says(["0", "1"]);
    sim.take_one();
    sim.says(["!2"]);
    assert_eq!(sim.urgent().as_deref(), Some("a:!2"));
    assert!(!sim.say(1, "!3"), "1 waits, and what was taken before it");
    assert_eq!(sim.event().as_deref(), Some("a:1"));
    assert!(sim.say(1, "!3"));
    // Those that follow the one in hand count at once: any number of them, and they take no room.
    for _ in 0..1000 {
        assert_eq!(sim.urgent().as_deref(), Some("a:!3"));
        assert!(sim.say(1, "!3"));
    }
}

#[test]
fn it_is_in_hand_until_the_handler_asks_for_more() {
    let mut sim = Sim::with(|rules| rules.durable_inbox = true);
    sim.fresh("a");
    sim.events();
    sim.says(["!0"]);
    assert_eq!(sim.urgent().as_deref(), Some("a:!0"));
    assert!(sim.session.is_message_in_hand(), "no snapshot is taken with half of its effect");
    assert_eq!(sim.urgent(), None);
    assert!(!sim.session.is_message_in_hand());
    // With another message in hand, it goes back with that one.
    sim.says(["1", "!2"]);
    sim.take_one();
    assert_eq!(sim.urgent().as_deref(), Some("a:!2"));
    assert_eq!(sim.urgent(), None);
    assert!(sim.session.is_message_in_hand());
    sim.session.hand_back();
    assert!(!sim.session.is_message_in_hand());
    sim.commit();
    assert_eq!(sim.told(1).as_deref(), Some("ack 3"));
}

#[test]
fn output_with_only_an_urgent_message_in_hand_waits_for_the_boundary() {
    let mut sim = Sim::with(|rules| {
        (rules.durable_inbox, rules.durable_outbox) = (true, true);
        rules.bounds.outbox_messages = 1;
    });
    sim.fresh("a");
    sim.commit();
    sim.events();
    sim.says(["!0"]);
    sim.urgent().unwrap();
    assert_eq!(sim.send("reply"), Ok(0));
    assert_eq!(sim.send("more"), Err(NotSent::Uncommitted), "the handler must not wait for itself");
}

/// Another life: what a client of ours sends again there.
fn reborn(sim: &mut Sim, snapshot: &Snapshot, clean: bool) -> u64 {
    let rules = Arc::clone(sim.session.rules());
    sim.session =
        Session::restore(rules, snapshot.clone(), clean, 2, Duration::ZERO, sim.now, |_| "gone");
    sim.resume("a", 0)
}

#[test]
fn what_is_in_the_snapshot_is_passed_over_when_it_comes_again() {
    for clean in [true, false] {
        let mut sim = Sim::with(durable);
        sim.fresh("a");
        sim.says(["0", "1", "!2", "3", "!4"]);
        sim.take_one();
        assert_eq!(sim.urgent().as_deref(), Some("a:!2"));
        assert_eq!(sim.urgent().as_deref(), Some("a:!4"));
        sim.session.hand_back();
        let (snapshot, covered) = sim.session.snapshot(clean);
        sim.session.handle_committed(&covered, sim.now);
        assert_eq!(sim.told(1).as_deref(), Some("ack 1"), "{clean}");
        let again = reborn(&mut sim, &snapshot, clean);
        assert!(sim.out(again)[0].contains(" received 1"), "{clean}");
        for text in ["1", "!2", "3", "!4", "5"] {
            assert!(sim.say(again, text));
        }
        let mut taken = Vec::new();
        while let Some(event) = sim.event() {
            taken.extend(Some(event).filter(|event| event.contains(':')));
            // After a crash each is tried alone.
            sim.session.hand_back();
            sim.commit();
        }
        if !clean {
            for _ in 0..10 {
                sim.commit();
                taken.extend(sim.event().filter(|event| event.contains(':')));
                sim.session.hand_back();
            }
        }
        assert_eq!(taken, ["a:1", "a:3", "a:5"], "{clean}");
        sim.commit();
        let told = sim.told(again);
        assert!(told.is_some_and(|told| told == "ack 6"), "{clean}");
    }
}

#[test]
fn the_last_one_to_come_again_asks_for_the_snapshot_that_acknowledges_it() {
    let mut sim = Sim::with(durable);
    sim.fresh("a");
    sim.says(["0", "!1"]);
    assert_eq!(sim.urgent().as_deref(), Some("a:!1"));
    sim.session.hand_back();
    let (snapshot, _) = sim.session.snapshot(true);
    let again = reborn(&mut sim, &snapshot, true);
    sim.out(again);
    assert!(sim.say(again, "0"));
    sim.messages();
    sim.session.hand_back();
    sim.commit();
    assert_eq!(sim.told(again).as_deref(), Some("ack 1"));
    let _ = sim.session.take_wake();
    assert!(sim.say(again, "!1"));
    assert!(sim.session.take_wake().save, "nothing else asks for it");
    sim.commit();
    assert_eq!(sim.told(again).as_deref(), Some("ack 2"));
}

#[test]
fn what_is_in_no_snapshot_is_taken_again() {
    let mut sim = Sim::with(durable);
    sim.fresh("a");
    sim.commit();
    let (snapshot, _) = sim.session.snapshot(true);
    sim.says(["0", "!1"]);
    assert_eq!(sim.urgent().as_deref(), Some("a:!1"));
    sim.session.hand_back();
    let again = reborn(&mut sim, &snapshot, true);
    sim.out(again);
    for text in ["0", "!1"] {
        assert!(sim.say(again, text));
    }
    assert_eq!(sim.urgent().as_deref(), Some("a:!1"));
    assert_eq!(sim.messages(), ["a:0"]);
}

#[test]
fn a_client_that_begins_anew_sends_other_messages_under_these_numbers() {
    let mut sim = Sim::with(durable);
    sim.fresh("a");
    sim.says(["0", "!1"]);
    assert_eq!(sim.urgent().as_deref(), Some("a:!1"));
    sim.session.hand_back();
    let (snapshot, _) = sim.session.snapshot(true);
    let rules = Arc::clone(sim.session.rules());
    sim.session = Session::restore(rules, snapshot, true, 2, Duration::ZERO, sim.now, |_| "gone");
    let anew = sim.fresh("a");
    sim.out(anew);
    for text in ["other", "and another"] {
        assert!(sim.say(anew, text));
    }
    assert_eq!(sim.messages(), ["a:other", "a:and another"]);
}

#[test]
fn after_a_crash_none_overtakes_that_may_be_the_one_that_kills() {
    let mut sim = Sim::with(durable);
    sim.fresh("a");
    sim.commit();
    let (snapshot, _) = sim.session.snapshot(true);
    let again = reborn(&mut sim, &snapshot, false);
    sim.out(again);
    assert!(sim.say(again, "!0"));
    assert_eq!(sim.urgent(), None);
    // Its turn: the record names it first.
    while sim.event().is_some() {}
    sim.commit();
    assert_eq!(sim.urgent(), None, "while it is being tried");
    assert_eq!(sim.messages(), ["a:!0"]);
}

#[test]
fn a_session_that_stands_still_hands_out_none() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.says(["!0"]);
    assert_eq!(sim.session.look_ahead(), Some("!0".into()));
    sim.session.freeze_at_boundary();
    assert!(sim.session.take_looked_at(sim.now).is_none());
    assert_eq!(sim.urgent(), None);
    sim.session.thaw(sim.now);
    assert_eq!(sim.urgent().as_deref(), Some("a:!0"));
    sim.session.freeze_at_boundary();
    assert!(!sim.session.is_frozen(), "it is in hand");
    sim.session.hand_back();
    assert!(sim.session.is_frozen());
}

/// All orders in which eight messages can be taken, against a set.
#[test]
fn the_ranges_are_a_set() {
    fn check(early: &Early, taken: u64, set: &BTreeSet<u64>) {
        let ranges = early.ranges();
        let in_ranges: Vec<u64> = ranges.iter().flat_map(|(from, to)| *from..*to).collect();
        assert!(in_ranges.iter().eq(set.iter()), "{ranges:?} {set:?}");
        assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0), "{ranges:?} touch");
        assert!((0..8).all(|number| early.has(number) == set.contains(&number)));
        let through = (taken..=8).find(|number| !set.contains(number)).unwrap();
        assert_eq!(early.taken_through(taken), through);
        let waiting: Vec<u64> = (taken..8).filter(|number| !set.contains(number)).collect();
        for (before, number) in waiting.iter().enumerate() {
            assert_eq!(early.number(taken, before as u64), *number, "{ranges:?}");
        }
        for number in waiting {
            let (mut early, mut set) = (early.clone(), set.clone());
            early.insert(number);
            set.insert(number);
            if set.len() <= 4 {
                check(&early, taken, &set);
            }
            let mut later = early.clone();
            later.forget_before(number);
            let rest = set.split_off(&number);
            assert!(later.ranges().iter().flat_map(|(from, to)| *from..*to).eq(rest));
        }
    }
    for taken in [0, 1] {
        check(&Early::default(), taken, &BTreeSet::new());
    }
}
