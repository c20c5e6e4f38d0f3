//! Where a client starts and what its hello says.

use super::*;

#[test]
fn the_hello_tells_the_truth() {
    let older = |received| Claim::Cursor {
        epoch: Epoch::new(7, 6).token(),
        received: Position::new(received),
        attachment: None,
    };
    let foreign = Claim::Cursor {
        epoch: WireId::parse("never").unwrap(),
        received: Position::new(1),
        attachment: None,
    };
    let lost = Claim::Lost { received: Position::new(4) };
    // `b` has acknowledged the first two of three messages and sent one.
    for (who, claim, origin, expected) in [
        ("a", Claim::Fresh, SessionOrigin::New, "hello new from 2 received 0"),
        ("a", Claim::Fresh, SessionOrigin::Reused, "hello reused from 2 received 0"),
        ("b", Claim::Fresh, SessionOrigin::Reused, "hello reused from 2 received 1"),
        ("a", lost.clone(), SessionOrigin::New, "hello new from 2 received 0 gap 4..gone expired"),
        ("a", lost, SessionOrigin::Reused, "hello reused from 2 received 0 gap 4..gone expired"),
        ("b", at(2), SessionOrigin::Reused, "hello resumed from 2 received 1"),
        ("b", at(3), SessionOrigin::Reused, "hello resumed from 3 received 1"),
        ("b", at(3), SessionOrigin::Restored, "hello resumed from 3 received 1"),
        (
            "b",
            older(3),
            SessionOrigin::Restored,
            "hello restored from 2 received 1 gap 3..gone restarted",
        ),
        (
            "b",
            older(3),
            SessionOrigin::Reused,
            "hello restored from 2 received 1 gap 3..gone restarted",
        ),
        (
            "b",
            foreign,
            SessionOrigin::Reused,
            "hello reused from 2 received 1 gap 1..gone restarted",
        ),
    ] {
        let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
        sim.fresh("b");
        sim.send_range(0..3);
        sim.out(1);
        sim.ack(1, 2);
        assert!(sim.say(1, "hi"));
        sim.detach(1);
        let number = sim.arrive(who, claim.clone(), origin).unwrap();
        assert_eq!(sim.out(number)[0], expected, "{who} {claim:?} {origin:?}");
    }
}

#[test]
fn replay_then_live_without_interleaving() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send_range(0..5);
    sim.out(1);
    sim.detach(1);
    sim.send_range(5..7);
    sim.resume("a", 2);
    let two = Budget { messages: 2, bytes: usize::MAX };
    assert_eq!(sim.out_within(2, two), ["hello resumed from 2 received 0", "m2", "m3"]);
    sim.send_range(7..8);
    assert_eq!(sim.out_within(2, two), ["m4", "m5"]);
    assert_eq!(sim.out(2), ["m6", "m7"]);
    assert_eq!(sim.out(2), Vec::<String>::new());
}

#[test]
fn a_budget_of_bytes_lets_one_message_pass() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send_range(0..3);
    sim.out_within(1, Budget { messages: 0, bytes: 0 });
    assert_eq!(sim.out_within(1, Budget { messages: 9, bytes: 1 }), ["m0"]);
    assert_eq!(sim.out_within(1, Budget { messages: 9, bytes: 3 }), ["m1", "m2"]);
}

/// A cursor of 0 is as valid as any.
#[test]
fn a_client_that_has_received_nothing_resumes() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.detach(1);
    sim.send_range(0..2);
    sim.resume("a", 0);
    assert_eq!(sim.out(2), ["hello resumed from 0 received 0", "m0", "m1"]);
}

#[test]
fn a_fresh_client_gets_what_nobody_has_acknowledged() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.fresh("a");
    sim.fresh("b");
    sim.send_range(0..4);
    sim.out(1);
    sim.out(2);
    sim.ack(1, 3);
    sim.detach(1);
    sim.ack(2, 1);
    sim.fresh("c");
    assert_eq!(sim.out(3), ["hello reused from 3 received 0", "m3"]);
}

/// The cursor of an offer is an acknowledgement.
#[test]
fn a_cursor_acknowledges() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send_range(0..4);
    sim.out(1);
    sim.resume("a", 3);
    assert_eq!(sim.session.outbox_messages(), 1);
    sim.fresh("b");
    assert_eq!(sim.out(3)[0], "hello reused from 3 received 0");
}

#[test]
fn a_fresh_client_starts_at_the_checkpoint() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.fresh("a");
    sim.send_range(0..2);
    sim.session.send_checkpoint("all so far".into(), sim.now).unwrap();
    sim.send_range(3..4);
    sim.out(1);
    sim.ack(1, 4);
    assert_eq!(sim.session.outbox_messages(), 2, "kept for the client that comes");
    sim.fresh("b");
    assert_eq!(sim.out(2), ["hello reused from 2 received 0", "all so far", "m3"]);
    assert_eq!(sim.events(), ["+a", "+b checkpoint"]);
    sim.resume("a", 4);
    assert_eq!(sim.out(3), ["hello resumed from 4 received 0"]);
}

/// An upgrade that its client gave up on: nothing that the client still needs is forgotten for it.
#[test]
fn a_late_fresh_offer_acknowledges_nothing() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.fresh("a");
    sim.fresh("b");
    sim.send_range(0..2);
    sim.out(2);
    sim.ack(2, 2);
    sim.fresh("a");
    sim.resume("a", 0);
    assert_eq!(sim.out(4), ["hello resumed from 0 received 0", "m0", "m1"]);
    let number = sim.fresh("a");
    assert_eq!(sim.out(number), ["hello reused from 2 received 0"]);
    sim.ack(number, 2);
    assert_eq!(sim.session.outbox_messages(), 0, "now it is known where it starts");
}

/// The count goes on where it was, whatever the handler has taken of it.
#[test]
fn received_is_what_was_accepted() {
    let mut sim = Sim::new();
    sim.fresh("a");
    for text in ["x", "y", "z"] {
        assert!(sim.say(1, text));
    }
    assert_eq!(sim.events(), ["+a", "a:x", "a:y", "a:z"]);
    assert!(sim.say(1, "w"));
    sim.resume("a", 0);
    assert_eq!(sim.out(2), ["hello resumed from 0 received 4", "ack 3"]);
    assert_eq!(sim.messages(), ["a:w"]);
}

// Pushed out.

fn pushed_out(before: impl FnOnce(&mut Sim)) -> Sim {
    let mut sim = Sim::with(|rules| {
        rules.attach = Attach::Share;
        rules.bounds.clients = 1;
    });
    sim.fresh("a");
    sim.send_range(0..4);
    sim.out(1);
    sim.ack(1, 1);
    assert!(sim.say(1, "x"));
    assert_eq!(sim.messages(), ["a:x"]);
    sim.events();
    before(&mut sim);
    sim.detach(1);
    sim.fresh("b");
    sim.out(2);
    sim
}

#[test]
fn a_client_that_was_pushed_out_counts_from_zero() {
    let mut sim = pushed_out(|_| {});
    sim.detach(2);
    sim.resume("a", 2);
    assert_eq!(sim.out(3), ["hello reused from 2 received null", "m2", "m3"]);
    assert!(sim.say(3, "y"));
    sim.resume("a", 2);
    assert_eq!(sim.out(4)[0], "hello resumed from 2 received 1");
}

#[test]
fn what_a_client_missed_while_pushed_out_is_evicted() {
    let mut sim = pushed_out(|_| {});
    sim.ack(2, 3);
    sim.detach(2);
    sim.resume("a", 1);
    assert_eq!(sim.out(3), ["hello reused from 3 received null gap 1..3 evicted", "m3"]);
}

/// It may never have seen the hello: its offer says the same, so the answer must, too.
#[test]
fn a_pushed_out_client_is_told_null_until_a_frame_of_it_arrives() {
    let mut sim = pushed_out(|_| {});
    sim.detach(2);
    sim.resume("a", 2);
    sim.resume("a", 2);
    assert_eq!(sim.out(4)[0], "hello reused from 2 received null");
    let number = sim.fresh("a");
    assert_eq!(sim.out(number)[0], "hello reused from 2 received null");
    sim.ack(number, 2);
    let number = sim.resume("a", 2);
    assert_eq!(sim.out(number)[0], "hello resumed from 2 received 0");
}

#[test]
fn without_a_push_out_an_unknown_client_has_sent_nothing() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send_range(0..2);
    sim.resume("b", 1);
    assert_eq!(sim.out(2), ["hello resumed from 1 received 0", "m1"]);
}

/// Several causes: the latest.
#[test]
fn the_cause_of_a_gap() {
    type Step<'a> = &'a dyn Fn(&mut Sim);
    let full = |sim: &mut Sim| {
        for _ in 0..3 {
            let _ = sim.send("more");
        }
    };
    let takeover = |sim: &mut Sim| {
        let number = sim.fresh("b");
        sim.out(number);
        sim.ack(number, sim.session.head().get());
        sim.detach(number);
        sim.session.handle_refusal_answered(name("a"), sim.session.newest_attachment());
    };
    for (steps, overflow, expected) in [
        (vec![&full as Step<'_>], Overflow::DropOldest, Some("gap 0..3 overflow")),
        (vec![&takeover], Overflow::Backpressure, Some("gap 0..4 evicted")),
        (vec![&takeover, &full], Overflow::DropOldest, Some("gap 0..4 evicted")),
        (vec![&full, &takeover], Overflow::DropOldest, Some("gap 0..7 evicted")),
        (vec![&full], Overflow::Backpressure, None),
    ] {
        let mut sim = Sim::with(|rules| {
            rules.overflow = overflow;
            rules.bounds.outbox_messages = 4;
        });
        sim.fresh("a");
        sim.send_range(0..4);
        sim.out(1);
        sim.detach(1);
        for step in steps {
            step(&mut sim);
        }
        let number = sim.resume("a", 0);
        let hello = sim.out(number).remove(0);
        assert_eq!(
            hello.split_once(" gap").map(|(_, gap)| format!("gap{gap}")).as_deref(),
            expected
        );
    }
}

/// A client takes a number above 2^53 - 1 for a protocol error.
#[test]
fn a_window_without_bounds_is_told_as_one_that_fits() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.inbox_messages = usize::MAX;
        rules.bounds.inbox_bytes = usize::MAX;
    });
    sim.fresh("a");
    assert_eq!(sim.out(1), ["hello reused from 0 received 0"]);
}
