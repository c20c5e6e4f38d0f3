//! What is kept, what is let go, what a full outbox does.

use super::*;
use crate::Message;

fn sim(overflow: Overflow, messages: usize, attach: Attach) -> Sim {
    Sim::with(|rules| {
        rules.overflow = overflow;
        rules.attach = attach;
        rules.bounds.outbox_messages = messages;
    })
}

#[test]
fn nothing_is_forgotten_before_the_first_client() {
    let mut sim = Sim::new();
    sim.send_range(0..3);
    sim.fresh("a");
    assert_eq!(sim.data(1), ["m0", "m1", "m2"]);
}

/// Most messages are sent without a clock. A message that needs more than a place in the outbox is given back.
#[test]
fn what_takes_more_than_a_place_is_given_back() {
    let two = || sim(Overflow::DropOldest, 2, Attach::Takeover);
    let mut fits = two();
    assert!(fits.session.send_fitting(Message::Text("m".into())).is_ok());
    assert!(fits.session.take_wake().transports, "told as `send` tells it");

    let mut full = two();
    full.send_range(0..2);
    let mut ended = two();
    ended.session.end(OutcomeStatus::Done, ended.now);
    let mut frozen = two();
    frozen.session.freeze();
    let mut large = Sim::with(|rules| rules.bounds.message = 0);
    for (what, sim) in
        [("full", &mut full), ("ended", &mut ended), ("frozen", &mut frozen), ("large", &mut large)]
    {
        let _ = sim.session.take_wake();
        let before = sim.session.clone();
        let given_back = sim.session.send_fitting(Message::Text("m".into()));
        assert_eq!(given_back, Err(Message::Text("m".into())), "{what}");
        assert_eq!(sim.session, before, "{what}: nothing was done");
    }
}

#[test]
fn the_outbox_forgets_what_every_client_that_matters_has() {
    let mut sim = sim(Overflow::Backpressure, 10, Attach::Share);
    sim.fresh("a");
    sim.fresh("b");
    sim.send_range(0..4);
    sim.out(1);
    sim.out(2);
    sim.ack(1, 4);
    assert_eq!(sim.session.outbox_messages(), 4);
    sim.ack(2, 2);
    assert_eq!(sim.session.outbox_messages(), 2);
    sim.detach(2);
    sim.ack(1, 3);
    assert_eq!(sim.session.outbox_messages(), 2, "a client matters while it is gone, too");
    sim.ack(1, 4);
    sim.resume("b", 4);
    assert_eq!(sim.session.outbox_messages(), 0);
    assert_eq!(sim.session.outbox_bytes(), 0);
}

#[test]
fn writing_is_not_acknowledging() {
    let mut sim = sim(Overflow::Backpressure, 3, Attach::Takeover);
    sim.fresh("a");
    sim.send_range(0..3);
    sim.out(1);
    assert!(sim.is_full());
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    sim.ack(1, 1);
    assert!(sim.session.take_wake().room);
    assert!(!sim.is_full());
}

#[test]
fn when_full_the_longest_gone_stops_mattering_first() {
    let mut sim = sim(Overflow::Backpressure, 4, Attach::Share);
    for who in ["a", "b", "c"] {
        let number = sim.fresh(who);
        sim.out(number);
    }
    sim.send_range(0..4);
    for (number, acked) in [(1, 1), (2, 2), (3, 4)] {
        sim.out(number);
        sim.ack(number, acked);
    }
    sim.detach(2);
    sim.detach(1);
    // Only three messages are left; two more fill the outbox.
    sim.send_range(4..6);
    assert_eq!(sim.session.outbox_messages(), 2, "b stops first, which makes no room; then a");
    sim.out(3);
    sim.ack(3, 6);
    sim.resume("b", 2);
    assert_eq!(sim.out(4)[0], "hello resumed from 6 received 0 gap 2..6 overflow");
}

/// While no client is attached, the one attached last goes on mattering.
#[test]
fn a_lone_client_that_is_gone_finds_everything() {
    let mut sim = sim(Overflow::Backpressure, 4, Attach::Share);
    sim.fresh("a");
    sim.fresh("b");
    sim.send_range(0..2);
    sim.out(2);
    sim.ack(2, 2);
    sim.detach(2);
    sim.detach(1);
    sim.send_range(2..6);
    assert!(sim.is_full(), "a, gone last, does not stop b, which attached last");
    sim.resume("b", 2);
    assert_eq!(sim.data(3), ["m2", "m3", "m4", "m5"]);
}

/// An attach may let a send that waits go on. The send must learn of it.
#[test]
fn an_attach_wakes_a_send_that_waits() {
    let mut sim = sim(Overflow::Backpressure, 2, Attach::Share);
    sim.fresh("a");
    sim.send_range(0..2);
    sim.out(1);
    sim.fresh("b");
    sim.detach(2);
    sim.detach(1);
    assert!(sim.is_full());
    sim.session.send_waits(sim.now);
    sim.fresh("c");
    let _ = sim.out(3);
    sim.ack(3, 2);
    assert!(sim.session.take_wake().room);
    assert!(!sim.is_full());
}

#[test]
fn drop_oldest_names_exactly_the_missing() {
    let mut sim = sim(Overflow::DropOldest, 3, Attach::Takeover);
    sim.fresh("a");
    sim.send_range(0..2);
    let one = Budget { messages: 1, bytes: usize::MAX };
    assert_eq!(sim.out_within(1, one)[1..], ["m0"]);
    sim.send_range(2..4);
    assert_eq!(sim.out_within(1, one), ["m1"], "m0 was dropped and had been written: no gap");
    sim.send_range(4..7);
    assert_eq!(sim.out(1), ["gap 2..4 overflow", "m4", "m5", "m6"]);
    sim.send_range(7..9);
    assert_eq!(sim.out(1), ["m7", "m8"]);
    sim.resume("a", 4);
    assert_eq!(sim.out(2), ["hello resumed from 6 received 0 gap 4..6 overflow", "m6", "m7", "m8"]);
}

#[test]
fn drop_oldest_makes_room_for_bytes() {
    let mut sim = Sim::with(|rules| {
        rules.overflow = Overflow::DropOldest;
        rules.bounds.outbox_bytes = 200;
    });
    sim.fresh("a");
    for _ in 0..4 {
        sim.send("").unwrap();
    }
    sim.send(&"x".repeat(100)).unwrap();
    assert_eq!(sim.session.outbox_messages(), 2);
    sim.send(&"x".repeat(1000)).unwrap();
    assert_eq!(sim.session.outbox_messages(), 1, "any message is let in when the box is empty");
}

#[test]
fn bytes_count_with_their_overhead() {
    let mut sim = Sim::with(|rules| rules.bounds.outbox_bytes = 2 * MESSAGE_OVERHEAD + 10);
    sim.fresh("a");
    sim.send("12345").unwrap();
    assert_eq!(sim.session.outbox_bytes(), MESSAGE_OVERHEAD + 5);
    let unsent = Unsent { message: "123456".into(), why: NotSent::Full };
    assert_eq!(sim.session.send("123456".into(), sim.now), Err(unsent));
    assert_eq!(sim.send("12345"), Ok(1));
    assert!(sim.is_full());
}

#[test]
fn a_message_over_the_limit_is_an_error_at_once() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.message = 10;
        rules.bounds.outbox_messages = 1;
    });
    sim.send("1234567890").unwrap();
    assert_eq!(sim.send("12345678901"), Err(NotSent::TooLarge(10)));
    sim.plain();
    assert!(sim.say(1, "12345678901"));
    assert_eq!(
        sim.data(1),
        ["1234567890", "close 1009 message too big"].into_iter().skip(1).collect::<Vec<_>>()
    );
}

// Overflow::Close.

#[test]
fn overflow_ends_a_session_that_nobody_is_attached_to() {
    let mut sim = sim(Overflow::Close, 2, Attach::Takeover);
    sim.fresh("a");
    sim.detach(1);
    sim.send_range(0..2);
    assert_eq!(sim.send("x"), Err(NotSent::Ended));
    assert_eq!(sim.session.ended(), Some(OutcomeStatus::Overflow));
}

#[test]
fn overflow_ends_a_session_whose_client_acknowledges_nothing_for_a_heartbeat() {
    for acked in [false, true] {
        let mut sim = sim(Overflow::Close, 2, Attach::Takeover);
        sim.plain();
        sim.send_range(0..2);
        sim.out(1);
        assert_eq!(sim.send("x"), Err(NotSent::Full));
        sim.session.send_waits(sim.now);
        sim.advance(SECOND);
        if acked {
            sim.pong(1);
            let _ = sim.send("x");
        }
        sim.advance(HEARTBEAT);
        let expected = if acked { None } else { Some(OutcomeStatus::Overflow) };
        assert_eq!(sim.session.ended(), expected);
    }
}

#[test]
fn overflow_ends_the_session_when_the_last_transport_goes() {
    let mut sim = sim(Overflow::Close, 2, Attach::Takeover);
    sim.fresh("a");
    sim.send_range(0..2);
    sim.out(1);
    assert_eq!(sim.send("x"), Err(NotSent::Full));
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    sim.detach(1);
    assert_eq!(sim.session.ended(), Some(OutcomeStatus::Overflow));
    assert!(sim.session.take_wake().room, "the send learns it");
}

#[test]
fn a_transport_that_is_replaced_is_no_transport_that_goes() {
    for (attach, who) in [(Attach::Takeover, "a"), (Attach::Takeover, "b"), (Attach::Share, "a")] {
        let mut sim = sim(Overflow::Close, 2, attach);
        sim.fresh("a");
        sim.send_range(0..2);
        sim.out(1);
        assert_eq!(sim.send("x"), Err(NotSent::Full));
        let number = if who == "a" { sim.resume("a", 0) } else { sim.fresh(who) };
        assert_eq!(sim.session.ended(), None, "{attach:?} {who}");
        sim.advance(HEARTBEAT - MILLISECOND);
        assert_eq!(sim.session.ended(), None);
        sim.advance(MILLISECOND);
        assert_eq!(sim.session.ended(), Some(OutcomeStatus::Overflow));
        sim.out(number);
    }
}

#[test]
fn an_overflow_is_over_when_there_is_room_again() {
    let mut sim = sim(Overflow::Close, 2, Attach::Takeover);
    sim.fresh("a");
    sim.send_range(0..2);
    sim.out(1);
    assert_eq!(sim.send("x"), Err(NotSent::Full));
    sim.ack(1, 2);
    sim.advance(HEARTBEAT);
    sim.detach(1);
    sim.expiry();
    assert_eq!(sim.session.ended(), None);
}

#[test]
fn a_drain_is_no_overflow() {
    let mut sim = sim(Overflow::Close, 2, Attach::Takeover);
    sim.fresh("a");
    sim.send_range(0..2);
    assert_eq!(sim.send("x"), Err(NotSent::Full));
    sim.session.freeze();
    sim.session.close_transports(&Close::RESTARTING, || Some(SECOND), sim.now);
    assert_eq!(sim.session.ended(), None);
    assert_eq!(sim.out(1), ["retry 1000", "close 4112 restarting"]);
}

#[test]
fn the_application_may_close_with_a_code_of_its_own() {
    let mut sim = sim(Overflow::Backpressure, 9, Attach::Share);
    sim.plain();
    sim.fresh("a");
    sim.out(2);
    sim.send_range(0..1);
    let close = Close::of_application(4429, "too many").unwrap();
    assert!(sim.session.end_with(OutcomeStatus::Closed, Some(close), sim.now));
    assert_eq!(sim.out(1), ["m0", "close 4429 too many"]);
    assert_eq!(sim.out(2), ["m0", "done closed 0", "close 4429 too many"]);
    // The first end counts.
    assert!(!sim.session.end_with(OutcomeStatus::Closed, None, sim.now));
    sim.resume("a", 0);
    assert_eq!(sim.out(3).last().unwrap(), "close 4429 too many", "also to one that was away");
}

#[test]
fn plain_transports_are_closed_with_the_registered_codes() {
    for (close, plain, named) in [
        (Close::RESTARTING, "close 1012 restarting", "close 4112 restarting"),
        (Close::MOVED, "close 1012 moved", "close 4112 moved"),
        (Close::TRY_AGAIN, "close 1013 try again later", "close 4113 try again later"),
        (Close::SUPERSEDED, "close 4100 superseded", "close 4100 superseded"),
    ] {
        let mut sim = sim(Overflow::Backpressure, 3, Attach::Share);
        sim.plain();
        sim.fresh("a");
        sim.out(2);
        sim.session.close_transports(&close, || None, sim.now);
        assert_eq!(sim.out(1), [plain]);
        assert_eq!(sim.out(2), [named]);
    }
}

// Checkpoints.

#[test]
fn a_checkpoint_goes_first_when_the_outbox_is_full() {
    let mut sim = sim(Overflow::Backpressure, 3, Attach::Share);
    sim.fresh("a");
    sim.session.send_checkpoint("cp".into(), sim.now).unwrap();
    sim.send_range(1..3);
    sim.out(1);
    sim.ack(1, 3);
    assert_eq!(sim.session.outbox_messages(), 3);
    sim.send_range(3..4);
    assert_eq!(sim.session.outbox_messages(), 1);
    sim.fresh("b");
    assert_eq!(sim.data(2), ["m3"], "the checkpoint is void");
}

#[test]
fn a_newer_checkpoint_lets_the_older_one_go() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.session.send_checkpoint("one".into(), sim.now).unwrap();
    sim.send_range(1..2);
    sim.out(1);
    sim.ack(1, 2);
    sim.session.send_checkpoint("two".into(), sim.now).unwrap();
    assert_eq!(sim.session.outbox_messages(), 1);
    sim.fresh("b");
    assert_eq!(sim.data(2), ["two"]);
}

// Durable outbox.

#[test]
fn a_message_leaves_only_after_its_commit() {
    let mut sim = Sim::with(|rules| rules.durable_outbox = true);
    sim.fresh("a");
    sim.send_range(0..1);
    let (_, covered) = sim.session.snapshot(false);
    sim.send_range(1..2);
    assert_eq!(sim.data(1), Vec::<String>::new());
    let _ = sim.session.take_wake();
    sim.session.handle_committed(&covered, sim.now);
    assert!(sim.session.take_wake().transports);
    assert_eq!(sim.data(1), ["m0"]);
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(sim.data(1), Vec::<String>::new(), "done waits for the commit, too");
    sim.session.handle_outcome_committed(sim.now);
    assert_eq!(sim.data(1), ["m1", "done done 0", "close 1000 done"]);
}

/// What was sent since the message in hand was handed over waits for the handler. So the handler must not wait
/// for it.
#[test]
fn output_of_the_message_in_hand_that_fills_the_outbox_alone_is_an_error() {
    let mut sim = Sim::with(|rules| {
        rules.durable_outbox = true;
        rules.bounds.outbox_messages = 2;
    });
    sim.fresh("a");
    sim.send_range(0..1);
    sim.commit();
    sim.out(1);
    assert!(sim.say(1, "one"));
    sim.take_one();
    sim.send_range(1..2);
    assert!(sim.is_full(), "the committed one may leave");
    sim.ack(1, 1);
    sim.send_range(2..3);
    assert_eq!(sim.send("x"), Err(NotSent::Uncommitted));
    // As `commit()` does, and then a task's output waits, too, until that is there.
    sim.session.hand_back();
    assert!(sim.is_full());
    sim.commit();
    assert!(sim.is_full(), "the client has not acknowledged it");
}

/// A healthy session does not end because its store is slow: what is handled is on its way there.
#[test]
fn output_of_handled_messages_is_waited_for() {
    let mut sim = Sim::with(|rules| {
        rules.durable_outbox = true;
        rules.durable_inbox = true;
        rules.bounds.outbox_messages = 2;
    });
    sim.fresh("a");
    sim.commit();
    sim.out(1);
    for text in ["one", "two", "three"] {
        assert!(sim.say(1, text));
    }
    // A reply to each, and the snapshot of each boundary is still under way.
    sim.take_one();
    sim.send_range(0..1);
    sim.take_one();
    sim.send_range(1..2);
    let (_, second) = {
        let mut at_boundary = sim.session.clone();
        at_boundary.hand_back();
        at_boundary.snapshot(false)
    };
    sim.take_one();
    assert!(sim.is_full(), "it waits");
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    sim.session.handle_committed(&second, sim.now);
    assert!(sim.session.take_wake().room);
    assert_eq!(sim.data(1), ["m0", "m1"]);
    sim.ack(1, 2);
    sim.session.send_goes_on();
    sim.send_range(2..3);
}

/// No client may be told a position that a restart takes back.
#[test]
fn drop_oldest_drops_nothing_uncommitted() {
    let mut sim = Sim::with(|rules| {
        rules.durable_outbox = true;
        rules.overflow = Overflow::DropOldest;
        rules.bounds.outbox_bytes = 3 * MESSAGE_OVERHEAD;
    });
    sim.fresh("a");
    sim.commit();
    sim.out(1);
    sim.send("").unwrap();
    sim.commit();
    sim.send("").unwrap();
    sim.send("").unwrap();
    let _ = sim.session.take_wake();
    sim.send("").unwrap();
    assert!(sim.session.take_wake().transports);
    assert_eq!(sim.out(1), ["gap 0..1 overflow"]);
    assert!(
        sim.is_full(),
        "they are on their way to the store, and may be dropped when they are there"
    );
    assert_eq!(sim.session.outbox_messages(), 3);
}

#[test]
fn a_clients_first_hello_waits_for_the_commit_that_holds_its_record() {
    let nothing = Vec::<String>::new();
    let mut sim = Sim::with(|rules| {
        rules.attach = Attach::Share;
        rules.durable_outbox = true;
        rules.durable_inbox = true;
    });
    sim.fresh("a");
    let (_, before_b) = sim.session.snapshot(false);
    let b = sim.fresh("b");
    assert_eq!(sim.out(1), nothing);
    // Late by more than a heartbeat: liveness is looked after meanwhile, and no timer spins.
    sim.advance(HEARTBEAT + SECOND);
    assert_eq!(sim.out(1), ["ping @0"]);
    sim.session.handle_committed(&before_b, sim.now);
    assert_eq!(sim.out(1)[0], "hello reused from 0 received 0");
    assert!(sim.session.waits_for_commit(AttachmentNumber::new(b)));
    assert_eq!(sim.out(b), ["ping @0"]);
    sim.commit();
    assert_eq!(sim.out(b)[0], "hello reused from 0 received 0");
    // Once known, it waits for nothing when it comes back; after a restart only for the commit that names the
    // epoch of its hello.
    let again = sim.resume("b", 0);
    assert_eq!(sim.out(again)[0], "hello resumed from 0 received 0");
    let (snapshot, _) = sim.session.snapshot(false);
    let rules = Arc::clone(sim.session.rules());
    sim.session =
        Session::restore(rules, snapshot, false, 2, Duration::ZERO, sim.now, |_| "restored");
    let restored = sim.resume("b", 0);
    assert_eq!(sim.out(restored), nothing);
    assert!(sim.session.newcomers().is_some());
    sim.commit();
    assert_eq!(sim.out(restored)[0], "hello resumed from 0 received 0");
    let c = sim.fresh("c");
    assert_eq!(sim.out(c), nothing);
}

#[test]
fn a_plain_client_is_sent_nothing_before_its_record_is_durable() {
    let mut sim = Sim::with(|rules| rules.durable_outbox = true);
    sim.send_range(0..1);
    sim.commit();
    let plain = sim.plain();
    assert_eq!(sim.data(plain), Vec::<String>::new());
    sim.commit();
    assert_eq!(sim.data(plain), ["m0"]);
}

#[test]
fn without_a_durable_outbox_no_hello_waits() {
    let mut sim = Sim::with(|rules| rules.durable_inbox = true);
    let a = sim.fresh("a");
    assert_eq!(sim.out(a), ["hello reused from 0 received 0"]);
}

// A program that starts again: the older run's socket is still open while the newer run comes back.

/// `a` is the older run and has all of `m0` to `m3`; `b` is the newer one, has `m0`, and has just gone.
fn restarted_run(overflow: Overflow, attach: Attach) -> Sim {
    let mut sim = sim(overflow, 4, attach);
    for who in ["a", "b"] {
        let number = sim.fresh(who);
        sim.out(number);
    }
    sim.send_range(0..4);
    for (number, acked) in [(1, 4), (2, 1)] {
        sim.out(number);
        sim.ack(number, acked);
    }
    sim.send_range(4..5);
    sim.detach(2);
    sim
}

#[test]
fn an_older_runs_open_socket_does_not_stop_the_newer_run() {
    let mut sim = restarted_run(Overflow::Backpressure, Attach::Share);
    sim.advance(HEARTBEAT - MILLISECOND);
    sim.out(1);
    sim.ack(1, 5);
    assert!(sim.is_full(), "b is away for less than a heartbeat");
    sim.resume("b", 1);
    assert_eq!(sim.data(3), ["m1", "m2", "m3", "m4"]);
}

/// The newer run is taken for a closed tab, and the send that waits goes on by itself.
#[test]
fn a_newer_run_that_stays_away_for_a_heartbeat_stops_mattering() {
    let mut sim = restarted_run(Overflow::Backpressure, Attach::Share);
    assert!(sim.send("m5").is_err());
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    sim.advance(HEARTBEAT - MILLISECOND);
    assert!(!sim.session.take_wake().room);
    sim.out(1);
    sim.ack(1, 5);
    assert!(sim.is_full());
    sim.advance(MILLISECOND);
    assert!(sim.session.take_wake().room, "the send learns that the heartbeat is over");
    assert_eq!(sim.send("m5"), Ok(5));
    sim.session.send_goes_on();
    sim.resume("b", 1);
    assert_eq!(sim.out(3)[0], "hello resumed from 5 received 0 gap 1..5 overflow");
}

/// A full outbox is not kept for a gone client that is older, of another identity, or gone while a still newer one
/// is here.
#[test]
fn only_an_older_run_of_the_same_identity_does_not_count() {
    for (here, away) in [("ann/b", "ann/a"), ("bob/a", "ann/a"), ("plain", "a"), ("a", "plain")] {
        let mut sim = sim(Overflow::Backpressure, 2, Attach::Share);
        let first = if here == "ann/b" { [away, here] } else { [here, away] };
        let claim = |who: &str| if who == "plain" { Claim::Plain } else { Claim::Fresh };
        let numbers = first.map(|who| sim.offer(who, claim(who)).unwrap());
        for number in numbers {
            sim.out(number);
        }
        sim.send_range(0..2);
        let [stays, goes] = if first[0] == here { numbers } else { [numbers[1], numbers[0]] };
        sim.out(stays);
        sim.detach(goes);
        if here == "plain" {
            sim.advance(SECOND);
            sim.out(stays);
            sim.pong(stays);
        } else {
            sim.ack(stays, 2);
        }
        assert!(!sim.is_full(), "{here} counts, so {away} stops");
    }
    let mut sim = restarted_run(Overflow::Backpressure, Attach::Share);
    let newest = sim.fresh("c");
    sim.out(newest);
    sim.ack(newest, 5);
    sim.out(1);
    sim.ack(1, 5);
    assert!(!sim.is_full(), "c is here, which is newer than b");
}

/// A late offer of the older run is attached last, and its transport goes at once.
#[test]
fn an_older_run_that_was_attached_last_does_not_stop_the_newer_one() {
    for attach in [Attach::Share, Attach::Refuse] {
        let mut sim = sim(Overflow::Backpressure, 4, attach);
        sim.fresh("a");
        sim.detach(1);
        sim.fresh("b");
        sim.send_range(0..4);
        sim.out(2);
        sim.ack(2, 1);
        sim.detach(2);
        sim.advance(SECOND);
        let late = sim.resume("a", 0);
        sim.out(late);
        sim.ack(late, 3);
        sim.send_range(4..5);
        assert!(sim.is_full(), "{attach:?}: a does not count while it is attached");
        sim.detach(late);
        sim.advance(10 * HEARTBEAT);
        assert!(sim.is_full(), "{attach:?}: nor when it is gone");
        sim.resume("b", 1);
        assert_eq!(sim.data(4), ["m1", "m2", "m3", "m4"], "{attach:?}");
    }
}

/// The newer run had been away for a heartbeat when the last transport went: a closed tab.
#[test]
fn a_newer_run_that_was_away_for_long_does_not_hold_a_session_without_transports() {
    let mut sim = restarted_run(Overflow::Backpressure, Attach::Share);
    sim.out(1);
    sim.ack(1, 4);
    sim.advance(HEARTBEAT);
    sim.detach(1);
    let late = sim.resume("a", 4);
    sim.detach(late);
    assert!(!sim.is_full(), "a was attached last");
}

/// The end because of an overflow is not nearer than the newer run's return.
#[test]
fn the_overflows_clock_waits_for_the_newer_run() {
    let mut sim = restarted_run(Overflow::Close, Attach::Share);
    sim.out(1);
    sim.ack(1, 5);
    assert_eq!(sim.send("m5"), Err(NotSent::Full));
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    sim.advance(HEARTBEAT);
    assert_eq!(sim.session.ended(), None);
    assert!(sim.session.take_wake().room);
    assert_eq!(sim.send("m5"), Ok(5), "b has stopped mattering");
}
