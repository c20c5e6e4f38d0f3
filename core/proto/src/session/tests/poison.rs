//! Messages that kill the process.

use super::*;

/// A session, what the disk has of it, and a process that can die.
struct Process {
    sim: Sim,
    disk: Snapshot,
    /// How many snapshots have been put.
    puts: u32,
}

impl Process {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let sim = Sim::with(|rules| {
            rules.durable_inbox = true;
            change(rules);
        });
        let (disk, _) = sim.session.snapshot(false);
        let mut process = Self { sim, disk, puts: 0 };
        process.save();
        process
    }

    fn save(&mut self) {
        let (snapshot, covered) = self.sim.session.snapshot(false);
        self.disk = snapshot;
        self.puts += 1;
        self.sim.session.handle_committed(&covered, self.sim.now);
    }

    /// `kill -9`, and the next process restores what is there.
    fn dies(&mut self) {
        self.starts(false);
    }

    fn starts(&mut self, clean: bool) {
        let rules = Arc::clone(self.sim.session.rules());
        let disk = self.disk.clone();
        let name = |name: ClientName| match name.kind {
            ClientKind::Plain | ClientKind::PlainWatcher => "plain",
            ClientKind::Named(id) if id.as_str().starts_with('a') => "a",
            ClientKind::Named(_) => "b",
        };
        let life = u64::from(self.puts) + 2;
        self.sim.session =
            Session::restore(rules, disk, clean, life, Duration::ZERO, self.sim.now, name);
        assert!(self.sim.session.start_handler(self.sim.now));
        // The claim.
        self.save();
    }

    /// The next message or drop that the handler is told; what must be saved for it is saved.
    fn next(&mut self) -> Option<String> {
        for _ in 0..20 {
            match self.sim.event() {
                Some(event) if event.starts_with(['+', '-']) => {}
                Some(event) => return Some(event),
                None => {
                    let wake = self.sim.session.take_wake();
                    if wake.trial {
                        assert!(self.sim.session.waits_for_turn());
                        self.sim.session.grant_turn();
                        let wake = self.sim.session.take_wake();
                        assert!(wake.save);
                        self.save();
                    } else if wake.save {
                        self.save();
                    } else {
                        return None;
                    }
                }
            }
        }
        panic!("no end");
    }

    /// The client comes, says this, and the handler takes what comes to it: until one of these kills the process.
    fn life(&mut self, who: &'static str, says: &[&str], kills: &[&str]) -> Vec<String> {
        let number = if who == "plain" { self.sim.plain() } else { self.sim.fresh(who) };
        for text in says {
            assert!(self.sim.say(number, text));
        }
        let mut told = Vec::new();
        while let Some(event) = self.next() {
            let kills = kills.iter().any(|text| event.ends_with(&format!(":{text}")));
            told.push(event);
            if kills {
                self.dies();
                break;
            }
        }
        told
    }
}

#[test]
fn the_third_death_with_one_message_in_hand_ends_the_message_not_the_session() {
    let mut process = Process::new();
    process.life("a", &["x"], &[]);
    process.save();
    // Nothing was noted yet when it first killed.
    assert_eq!(process.life("a", &["P", "y"], &["P"]), ["a:P"]);
    for death in 1..=3 {
        assert_eq!(process.life("a", &["P", "y"], &["P"]), ["a:P"], "{death}");
    }
    assert_eq!(process.life("a", &["P", "y"], &["P"]), ["dropped a 1", "a:y"]);
    assert_eq!(process.sim.session.ended(), None);
}

#[test]
fn what_the_record_names_while_it_is_in_hand_counts_from_the_first_death_on() {
    let mut process = Process::new();
    let a = process.sim.fresh("a");
    process.sim.say(a, "P");
    assert_eq!(process.next().as_deref(), Some("a:P"));
    let in_hand = process.sim.session.in_hand().unwrap();
    process.disk.accuse(&in_hand);
    process.dies();
    assert_eq!(process.life("a", &["P"], &["P"]), ["a:P"]);
    assert_eq!(process.life("a", &["P"], &["P"]), ["a:P"]);
    assert_eq!(process.life("a", &["P", "y"], &["P"]), ["dropped a 0", "a:y"]);
}

#[test]
fn the_drop_is_told_on_every_transport_before_the_first_count_that_covers_it() {
    let mut process = Process::new();
    for _ in 0..4 {
        process.life("a", &["P"], &["P"]);
    }
    let a = process.sim.fresh("a");
    process.sim.say(a, "P");
    process.sim.say(a, "y");
    assert_eq!(process.next().as_deref(), Some("dropped a 0"));
    let mut out = process.sim.out(a);
    process.sim.advance(SECOND);
    out.extend(process.sim.out(a));
    assert_eq!(out[1..], ["dropped 0", "ack 1"], "before the handler has taken anything else");
    assert_eq!(process.next().as_deref(), Some("a:y"));
    assert_eq!(process.next(), None);
    process.save();
    process.sim.advance(SECOND);
    assert_eq!(process.sim.out(a), ["ack 2"], "once on each");
    // A kill before the client has heard of it, and another transport.
    process.dies();
    let a = process.sim.fresh("a");
    process.sim.advance(SECOND);
    assert_eq!(process.sim.out(a)[1..], ["dropped 0", "ack 2"]);
    // And before the end.
    let b = process.sim.fresh("a");
    process.sim.session.end(OutcomeStatus::Closed, process.sim.now);
    process.sim.session.handle_outcome_committed(process.sim.now);
    let out = process.sim.out(b);
    let at = |start: &str| out.iter().position(|line| line.starts_with(start)).unwrap();
    assert!(at("dropped 0") < at("done"), "{out:?}");
    // And when nothing but the final counts is left.
    let counts = process.sim.session.final_counts();
    let farewell = counts.farewell(
        name("a"),
        &WireId::parse("s").unwrap(),
        &Claim::Cursor {
            epoch: process.sim.session.epoch().token(),
            received: Position::ZERO,
            attachment: None,
        },
        OutcomeStatus::Closed,
        process.sim.session.rules(),
    );
    let lines: Vec<_> = farewell.unwrap().iter().map(line).collect();
    assert_eq!(lines[1..], ["dropped 0", "done closed 2", "close 1000 done"]);
}

#[test]
fn nothing_is_told_or_acknowledged_before_the_drop_is_on_disk() {
    let mut process = Process::new();
    for _ in 0..4 {
        process.life("a", &["P"], &["P"]);
    }
    let a = process.sim.fresh("a");
    process.sim.say(a, "P");
    while process.sim.event().is_some() {}
    assert!(process.sim.session.take_wake().dropped);
    process.sim.advance(SECOND);
    let out = process.sim.out(a);
    assert_eq!(out.len(), 1, "{out:?}");
    assert_eq!(process.sim.event(), None, "the handler is told when it is durable");
    process.dies();
    assert_eq!(process.life("a", &["P"], &["P"]), ["dropped a 0"], "decided again");
}

/// Trace of the model: `P kills 3 times; attach fresh (P in doubt); client sends x as number 0`.
#[test]
fn another_message_with_the_same_number_is_innocent() {
    let mut process = Process::new();
    for _ in 0..4 {
        process.life("a", &["P"], &["P"]);
    }
    assert_eq!(process.life("a", &["x", "P"], &["P"]), ["a:x", "a:P"]);
    assert_eq!(process.life("a", &["P"], &["P"]), ["a:P"], "as number 1 it has to die anew");
}

#[test]
fn the_same_message_of_another_client_is_innocent() {
    let mut process = Process::with(|rules| rules.attach = Attach::Share);
    for _ in 0..4 {
        process.life("a", &["P"], &["P"]);
    }
    assert_eq!(process.life("b", &["P"], &[]), ["b:P"]);
    assert_eq!(process.life("a", &["P"], &["P"]), ["dropped a 0"]);
}

#[test]
fn a_message_that_is_handled_after_all_starts_anew() {
    let mut process = Process::new();
    for _ in 0..3 {
        assert_eq!(process.life("a", &["P"], &["P"]), ["a:P"]);
    }
    assert_eq!(process.life("a", &["P"], &[]), ["a:P"]);
    process.dies();
    assert_eq!(process.life("a", &["P"], &["P"]), ["a:P"], "a new message");
}

#[test]
fn what_waits_while_another_message_kills_is_innocent() {
    let mut process = Process::with(|rules| rules.attach = Attach::Share);
    for _ in 0..3 {
        let (a, b) = (process.sim.fresh("a"), process.sim.fresh("b"));
        process.sim.say(b, "P");
        process.sim.say(a, "x");
        assert_eq!(process.next().as_deref(), Some("b:P"));
        if let Some(in_hand) = process.sim.session.in_hand() {
            process.disk.accuse(&in_hand);
        }
        process.dies();
    }
    let (a, b) = (process.sim.fresh("a"), process.sim.fresh("b"));
    process.sim.say(a, "x");
    process.sim.say(b, "P");
    assert_eq!(process.next().as_deref(), Some("a:x"));
    assert_eq!(process.next().as_deref(), Some("dropped b 0"));
}

#[test]
fn a_state_that_kills_on_every_message_ends_the_session() {
    let mut process = Process::new();
    let kills = ["P", "Q"];
    for _ in 0..4 {
        assert_eq!(process.life("a", &["P", "Q"], &kills), ["a:P"]);
    }
    assert_eq!(process.life("a", &["P", "Q"], &kills), ["dropped a 0", "a:Q"]);
    assert_eq!(process.life("a", &["Q"], &kills), ["a:Q"]);
    assert_eq!(process.life("a", &["Q"], &kills), ["a:Q"]);
    let a = process.sim.fresh("a");
    process.sim.say(a, "Q");
    assert_eq!(process.next(), None);
    assert_eq!(process.sim.session.ended(), Some(OutcomeStatus::Failed));
    process.sim.session.handle_outcome_committed(process.sim.now);
    let out = process.sim.out(a);
    assert_eq!(out[1..], ["dropped 0", "dropped 1", "ack 2", "done failed 2", "close 1000 done"]);
}

#[test]
fn two_drops_with_a_message_between_do_not_end_the_session() {
    let mut process = Process::new();
    let kills = ["P", "Q"];
    for _ in 0..4 {
        process.life("a", &["P", "x", "Q"], &kills);
    }
    assert_eq!(process.life("a", &["P", "x", "Q"], &kills), ["dropped a 0", "a:x", "a:Q"]);
    process.life("a", &["Q"], &kills);
    process.life("a", &["Q"], &kills);
    // The first death after `x` was noted: it was the first message after no crash.
    let told = process.life("a", &["Q"], &kills);
    let told = if told == ["a:Q"] { process.life("a", &["Q"], &kills) } else { told };
    assert_eq!(told, ["dropped a 2"]);
    assert_eq!(process.sim.session.ended(), None);
}

#[test]
fn a_plain_message_is_known_by_its_digest_alone_and_nobody_is_told() {
    let mut process = Process::new();
    for _ in 0..4 {
        // Its user loads the page again, which greets before it asks for what kills.
        assert_eq!(process.life("plain", &["hi", "P"], &["P"]), ["plain:hi", "plain:P"]);
    }
    let told = process.life("plain", &["hi", "P", "x"], &["P"]);
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1].starts_with("dropped plain"), "{told:?}");
    assert_eq!((&*told[0], &*told[2]), ("plain:hi", "plain:x"));
}

#[test]
fn a_session_that_stops_before_the_trial_has_begun_does_not_count_a_death() {
    for recorded in [false, true] {
        let mut process = Process::new();
        for _ in 0..3 {
            process.life("a", &["P"], &["P"]);
        }
        // Two deaths are noted, the third trial is about to be recorded, or is.
        let a = process.sim.fresh("a");
        process.sim.say(a, "P");
        while process.sim.event().is_some() {}
        process.sim.session.grant_turn();
        if recorded {
            process.save();
        }
        process.sim.session.freeze_at_boundary();
        process.save();
        process.starts(true);
        assert_eq!(process.life("a", &["P"], &[]), ["a:P"], "recorded: {recorded}");
    }
}

#[test]
fn a_message_that_is_cut_off_by_us_is_acquitted() {
    let mut process = Process::new();
    for _ in 0..20 {
        let a = process.sim.fresh("a");
        process.sim.say(a, "long");
        assert_eq!(process.next().as_deref(), Some("a:long"));
        if let Some(in_hand) = process.sim.session.in_hand() {
            process.disk.accuse(&in_hand);
        }
        let in_hand = process.sim.session.cut_in_hand().unwrap();
        process.disk.acquit(&in_hand);
        process.dies();
    }
    assert_eq!(process.life("a", &["long"], &[]), ["a:long"]);
}

#[test]
fn the_last_trial_waits_for_its_turn() {
    let mut process = Process::new();
    for _ in 0..3 {
        process.life("a", &["P"], &["P"]);
    }
    assert!(process.sim.session.may_wait_for_turn());
    let a = process.sim.fresh("a");
    process.sim.say(a, "P");
    while process.sim.event().is_some() {}
    let wake = process.sim.session.take_wake();
    assert!(wake.trial && !wake.save);
    process.save();
    assert_eq!(process.sim.event(), None, "a commit alone does not let it go");
    process.sim.session.grant_turn();
    process.save();
    assert_eq!(process.sim.event().as_deref(), Some("a:P"));
    assert!(process.sim.session.is_on_trial());
    assert_eq!(process.sim.event(), None);
    assert!(process.sim.session.is_on_trial(), "until the disk has it");
    process.save();
    assert!(!process.sim.session.is_on_trial() && !process.sim.session.may_wait_for_turn());
}

#[test]
fn without_a_crash_nothing_is_on_trial() {
    let mut process = Process::new();
    let puts = process.puts;
    process.life("a", &["x", "y"], &[]);
    process.life("plain", &["x", "y"], &[]);
    assert_eq!(process.puts, puts);
    // After one, the first four messages of each client are, and after the next one sixteen: one put before, one after.
    let texts = ["x"; 40];
    for (crash, tried) in [4, 16].into_iter().enumerate() {
        process.save();
        process.dies();
        let puts = process.puts;
        process.life("a", &texts[..tried - 1], &[]);
        assert_eq!(process.puts, puts + 2 * u32::try_from(tried - 1).unwrap(), "{crash}");
    }
    // Then it is believed that no message was the cause.
    process.life("a", &texts[..3], &[]);
    process.save();
    process.dies();
    let puts = process.puts;
    process.life("a", &texts[..10], &[]);
    assert_eq!(process.puts, puts + 2 * 4);
}

#[test]
fn the_newest_sixteen_are_kept() {
    let mut process = Process::new();
    let texts: Vec<String> = (0..20).map(|k| format!("P{k}")).collect();
    for (k, text) in (0..).zip(&texts) {
        let dropped = format!("dropped a {}", 2 * k);
        while process.life("a", &[text, "x"], &[text]) != [dropped.as_str(), "a:x"] {}
        process.save();
    }
    process.dies();
    let a = process.sim.fresh("a");
    process.sim.advance(SECOND);
    let told: Vec<_> =
        process.sim.out(a).into_iter().filter(|line| line.starts_with("dropped")).collect();
    let expected: Vec<_> = (4..20).map(|k| format!("dropped {}", 2 * k)).collect();
    assert_eq!(told, expected);
}
