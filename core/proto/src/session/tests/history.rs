//! What is kept of messages that no client needs any more.

use super::*;

fn with(retain: Retain, change: impl FnOnce(&mut Rules)) -> Sim {
    Sim::with(|rules| {
        rules.attach = Attach::Takeover;
        rules.retention.retain = retain;
        rules.retention.messages = 4;
        change(rules);
    })
}

fn send(sim: &mut Sim, count: u64) {
    for _ in 0..count {
        let text = format!("m{}", sim.session.head());
        sim.session.send(text.into(), sim.now).unwrap();
    }
}

/// The messages that are there and that no client needs, and from where on nothing is missing.
fn history(sim: &Sim) -> (u64, Vec<String>) {
    let start = sim.session.kept_from();
    let base = sim.session.outbox.base();
    let positions = start.get()..base.get();
    let kept = positions.filter_map(|at| sim.session.kept(Position::new(at)));
    let kept: Vec<_> = kept.map(|message| message.as_text().unwrap().to_owned()).collect();
    assert_eq!(sim.session.history_messages(), kept.len());
    let bytes = kept.iter().map(|text| text.len() + MESSAGE_OVERHEAD).sum::<usize>();
    assert_eq!(sim.session.history_bytes(), bytes);
    (start.get(), kept)
}

fn texts(positions: std::ops::Range<u64>) -> Vec<String> {
    positions.map(|at| format!("m{at}")).collect()
}

/// A transport whose turn is over closes.
fn leave(sim: &mut Sim, number: u64) {
    sim.out(number);
    sim.session.handle_close_answered(AttachmentNumber::new(number));
    sim.detach(number);
}

#[test]
fn without_retention_nothing_is_kept() {
    let mut sim = with(Retain::Nothing, |_| {});
    let a = sim.fresh("a");
    send(&mut sim, 3);
    sim.out(a);
    sim.ack(a, 3);
    assert_eq!(history(&sim), (3, Vec::new()));
    assert!(!format!("{:?}", sim.session.outbox).contains("History"), "no box is made");
}

#[test]
fn the_newest_are_kept_within_the_bounds_of_number_and_bytes() {
    for (messages, bytes, kept) in [
        (4, 1 << 20, 6..10),
        (100, 3 * (MESSAGE_OVERHEAD + 2), 7..10),
        (100, 3 * (MESSAGE_OVERHEAD + 2) - 1, 8..10),
        (100, 1 << 20, 0..10),
        (0, 1 << 20, 10..10),
        (100, 10, 10..10),
    ] {
        let mut sim = with(Retain::Newest, |rules| {
            rules.retention.messages = messages;
            rules.retention.bytes = bytes;
        });
        let a = sim.fresh("a");
        send(&mut sim, 10);
        assert_eq!(history(&sim), (0, Vec::new()), "they are needed");
        sim.out(a);
        sim.ack(a, 10);
        assert_eq!(history(&sim), (kept.start, texts(kept)), "{messages} messages, {bytes} bytes");
        assert_eq!(sim.session.outbox_messages(), 0);
    }
}

#[test]
fn what_is_kept_never_makes_a_sender_wait() {
    for retain in [Retain::Newest, Retain::SinceCheckpoint] {
        let mut sim = with(retain, |rules| {
            rules.bounds.outbox_messages = 4;
            rules.retention.messages = 100;
        });
        let a = sim.fresh("a");
        sim.session.send_checkpoint("m0".into(), sim.now).unwrap();
        for head in 1..=50 {
            sim.out(a);
            sim.ack(a, head);
            send(&mut sim, 1);
        }
        // What the checkpoint keeps has left the outbox for the history, when there was no room for it.
        let kept = 51 - sim.session.outbox_messages() as u64;
        assert_eq!(history(&sim), (0, texts(0..kept)));
    }
}

#[test]
fn one_that_was_taken_over_from_is_whole_again() {
    let mut sim = with(Retain::Newest, |rules| rules.bounds.outbox_messages = 8);
    let a = sim.fresh("a");
    send(&mut sim, 2);
    sim.out(a);
    sim.ack(a, 2);
    let b = sim.fresh("b");
    sim.out(b);
    send(&mut sim, 3);
    sim.out(b);
    sim.ack(b, 5);
    leave(&mut sim, a);
    assert_eq!(history(&sim), (1, texts(1..5)));
    let a = sim.resume("a", 2);
    // What it needs now is needed like anything else.
    assert_eq!((history(&sim), sim.session.outbox_messages()), ((1, texts(1..2)), 3));
    let lines = sim.out(a);
    assert!(lines[0].contains("resumed") && !lines[0].contains("gap"), "{lines:?}");
    assert_eq!(lines[1..4], texts(2..5));
    sim.ack(a, 5);
    assert_eq!((history(&sim), sim.session.outbox_messages()), ((1, texts(1..5)), 0));
}

#[test]
fn a_cursor_before_what_is_kept_is_told_the_gap_to_it() {
    let mut sim = with(Retain::Newest, |_| {});
    let a = sim.fresh("a");
    sim.out(a);
    all_away(&mut sim, 10);
    let a = sim.resume("a", 0);
    let lines = sim.out(a);
    assert!(lines[0].contains("gap 0..6 evicted"), "{lines:?}");
    assert_eq!(lines[1..5], texts(6..10));
}

#[test]
fn no_more_comes_back_than_the_outbox_has_room_for() {
    for (bound, gap) in [(4, None), (3, Some("gap 6..7 evicted")), (0, Some("gap 6..10 evicted"))] {
        let mut sim = with(Retain::Newest, |rules| rules.bounds.outbox_messages = 20);
        let a = sim.fresh("a");
        sim.out(a);
        all_away(&mut sim, 10);
        let mut rules = Rules::clone(&sim.session.rules);
        rules.bounds.outbox_messages = bound;
        sim.session.rules = Arc::new(rules);
        let a = sim.resume("a", 6);
        let hello = sim.out(a).remove(0);
        assert_eq!(gap.is_none(), !hello.contains("gap"), "{hello}");
        assert!(hello.contains(gap.unwrap_or("resumed")), "{hello}");
        assert!(sim.session.outbox_messages() <= bound);
    }
}

/// Another client takes over, and acknowledges this many messages.
fn all_away(sim: &mut Sim, count: u64) {
    let b = sim.fresh("b");
    sim.out(b);
    for _ in 0..count {
        send(sim, 1);
        sim.out(b);
        let head = sim.session.head().get();
        sim.ack(b, head);
    }
    leave(sim, b - 1);
}

#[test]
fn a_checkpoint_releases_what_lies_before_it() {
    let mut sim = with(Retain::SinceCheckpoint, |_| {});
    let a = sim.fresh("a");
    send(&mut sim, 3);
    sim.out(a);
    sim.ack(a, 3);
    assert_eq!(history(&sim), (3, Vec::new()), "there is no checkpoint yet");
    let checkpoint = |sim: &mut Sim| {
        let text = format!("m{}", sim.session.head());
        sim.session.send_checkpoint(text.into(), sim.now).unwrap();
    };
    checkpoint(&mut sim);
    send(&mut sim, 1);
    sim.out(a);
    sim.ack(a, 5);
    assert_eq!((history(&sim), sim.session.outbox_messages()), ((3, Vec::new()), 2));
    checkpoint(&mut sim);
    assert_eq!((history(&sim), sim.session.outbox_messages()), ((5, Vec::new()), 1));
    sim.out(a);
    sim.ack(a, 6);
    sim.session.clear_checkpoint();
    assert_eq!((history(&sim), sim.session.outbox_messages()), ((6, Vec::new()), 0));
    send(&mut sim, 2);
    sim.out(a);
    sim.ack(a, 8);
    assert_eq!(history(&sim), (8, Vec::new()), "it was cleared");
}

#[test]
fn a_cleared_checkpoint_is_nobodys_start() {
    for retain in [Retain::Nothing, Retain::Newest, Retain::SinceCheckpoint] {
        let mut sim = with(retain, |rules| rules.attach = Attach::Share);
        let a = sim.fresh("a");
        sim.session.send_checkpoint("m0".into(), sim.now).unwrap();
        sim.out(a);
        sim.ack(a, 1);
        let b = sim.fresh("b");
        assert_eq!(sim.out(b)[1..], ["m0"], "{retain:?}");
        sim.ack(b, 1);
        sim.session.clear_checkpoint();
        let c = sim.fresh("c");
        assert_eq!(sim.out(c).len(), 1, "{retain:?}: the hello alone");
    }
}

#[test]
fn what_was_for_one_alone_or_for_a_while_is_not_kept() {
    let mut sim = with(Retain::Newest, |rules| rules.attach = Attach::Share);
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    send(&mut sim, 1);
    let to = sim.session.addressee(name("a"), |_| false);
    let alone = Terms { to, ..Terms::default() };
    sim.session.send_on("alone".into(), alone, sim.now).unwrap();
    let brief = Terms { until: Some(sim.now + SECOND), ..Terms::default() };
    sim.session.send_on("brief".into(), brief, sim.now).unwrap();
    send(&mut sim, 1);
    for number in [a, b] {
        sim.out(number);
        sim.ack(number, 4);
    }
    assert_eq!(history(&sim), (0, vec!["m0".into(), "m3".into()]));
}

/// Its own message has left with its record: what is kept does not make it whole.
#[test]
fn one_that_may_miss_its_own_message_is_told_so() {
    let mut sim = with(Retain::Newest, |rules| {
        rules.attach = Attach::Share;
        rules.bounds.clients = 2;
    });
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    send(&mut sim, 1);
    let to = sim.session.addressee(name("a"), |_| false);
    sim.session.send_on("alone".into(), Terms { to, ..Terms::default() }, sim.now).unwrap();
    send(&mut sim, 1);
    sim.detach(a);
    // It is pushed out.
    let c = sim.fresh("c");
    for number in [b, c] {
        sim.out(number);
        sim.ack(number, 3);
    }
    assert_eq!(history(&sim), (0, vec!["m0".into(), "m2".into()]));
    assert!(!sim.session.outbox.is_sparse(), "all of that is past");
    sim.detach(c);
    let a = sim.resume("a", 0);
    let lines = sim.out(a);
    assert!(lines[0].contains("gap 0..2 evicted"), "{lines:?}");
    assert_eq!(lines[1..2], ["m2"]);
}

#[test]
fn what_is_dropped_from_a_full_outbox_is_kept_too() {
    let mut sim = with(Retain::Newest, |rules| {
        rules.overflow = Overflow::DropOldest;
        rules.bounds.outbox_messages = 2;
    });
    let a = sim.fresh("a");
    sim.out(a);
    send(&mut sim, 5);
    assert_eq!(history(&sim), (0, texts(0..3)));
}

#[test]
fn a_record_has_it_only_if_that_is_asked_for() {
    for (stored, clean, restored) in
        [(true, true, Some(6)), (true, false, None), (false, true, None), (false, false, None)]
    {
        let mut sim = with(Retain::Newest, |rules| rules.retention.stored = stored);
        let a = sim.fresh("a");
        send(&mut sim, 10);
        sim.out(a);
        sim.ack(a, 10);
        let (snapshot, _) = sim.session.snapshot(clean);
        let json = serde_json::to_string(&snapshot).unwrap();
        let snapshot = serde_json::from_str(&json).unwrap();
        let rules = Arc::clone(&sim.session.rules);
        sim.session = Session::restore(rules, snapshot, clean, 9, Duration::ZERO, sim.now, |_| "a");
        let head = sim.session.head().get();
        let expected = restored.map_or((head, Vec::new()), |from| (from, texts(from..10)));
        assert_eq!(history(&sim), expected, "stored: {stored}, clean: {clean}");
    }
}

/// The record has no history, but the checkpoint: what leaves the outbox after the restart is kept from the checkpoint on.
#[test]
fn a_restored_checkpoint_is_known_to_the_history() {
    for stored in [false, true] {
        let mut sim = with(Retain::SinceCheckpoint, |rules| {
            rules.retention.stored = stored;
            rules.bounds.outbox_messages = 3;
        });
        let a = sim.fresh("a");
        sim.session.send_checkpoint("m0".into(), sim.now).unwrap();
        send(&mut sim, 2);
        sim.out(a);
        let (snapshot, _) = sim.session.snapshot(true);
        let json = serde_json::to_string(&snapshot).unwrap();
        let snapshot = serde_json::from_str(&json).unwrap();
        let rules = Arc::clone(&sim.session.rules);
        sim.session = Session::restore(rules, snapshot, true, 9, Duration::ZERO, sim.now, |_| "a");
        let a = sim.resume("a", 0);
        sim.out(a);
        sim.ack(a, 3);
        // There is no room for the checkpoint in the outbox any more, so the history has it.
        send(&mut sim, 1);
        assert_eq!(history(&sim), (0, texts(0..3)), "stored: {stored}");
    }
}

/// Binaries, and messages that have holes between them, go back to where they came from.
#[test]
fn what_goes_back_keeps_its_place() {
    for holes in [false, true] {
        let mut sim = with(Retain::Newest, |rules| rules.retention.messages = 20);
        let a = sim.fresh("a");
        sim.out(a);
        let b = sim.fresh("b");
        sim.out(b);
        let mut expected = Vec::new();
        for at in 0..8_u64 {
            let slot = (holes && at % 3 != 0).then(|| "slot".into());
            let message = match at % 2 {
                0 => Message::from(format!("m{at}")),
                _ => Message::binary(vec![u8::try_from(at).unwrap()]),
            };
            let terms = Terms { slot, ..Terms::default() };
            sim.session.send_on(message.clone(), terms, sim.now).unwrap();
            expected.push((at, message));
        }
        if holes {
            // Only the newest of the slot is left.
            expected.retain(|(at, _)| at % 3 == 0 || *at == 7);
        }
        sim.out(b);
        sim.ack(b, 8);
        leave(&mut sim, a);
        assert_eq!(sim.session.history_messages(), expected.len());
        send(&mut sim, 1);
        sim.resume("a", 2);
        let there = |at: u64| Some((at, sim.session.outbox.sendable(Position::new(at))?));
        let needed: Vec<_> = (0..8).filter_map(there).collect();
        expected.retain(|(at, _)| *at >= 2);
        assert_eq!(needed, expected, "holes: {holes}");
        // It is past the hole where its cursor was.
        assert_eq!(sim.session.outbox.base(), Position::new(if holes { 3 } else { 2 }));
        assert_eq!(sim.session.head(), Position::new(9));
    }
}

/// A small outbox has let go of what the checkpoint keeps: that is in the history alone.
#[test]
fn a_checkpoint_and_a_cleared_one_release_what_is_in_the_history() {
    for clears in [false, true] {
        let mut sim = with(Retain::SinceCheckpoint, |rules| rules.bounds.outbox_messages = 2);
        let a = sim.fresh("a");
        sim.session.send_checkpoint("m0".into(), sim.now).unwrap();
        for head in 1..=3 {
            sim.out(a);
            sim.ack(a, head);
            send(&mut sim, 1);
        }
        let kept = sim.session.needed_from().get();
        assert!(kept >= 2);
        assert_eq!(history(&sim), (0, texts(0..kept)));
        if clears {
            sim.session.clear_checkpoint();
        } else {
            sim.out(a);
            sim.ack(a, 4);
            sim.session.send_checkpoint("view".into(), sim.now).unwrap();
        }
        let base = sim.session.needed_from().get();
        assert_eq!(history(&sim), (base, Vec::new()), "clears: {clears}");
    }
}
