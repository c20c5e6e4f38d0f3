//! Messages for one client, messages that are replaced, and what the others are told.

use super::*;

fn sharing(change: impl FnOnce(&mut Rules)) -> Sim {
    Sim::with(|rules| {
        rules.attach = Attach::Share;
        change(rules);
    })
}

/// Two clients, each with its hello and its first ack behind it.
fn two(change: impl FnOnce(&mut Rules)) -> (Sim, u64, u64) {
    let mut sim = sharing(change);
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    for client in [a, b] {
        sim.out(client);
        sim.ack(client, 0);
    }
    (sim, a, b)
}

#[test]
fn a_message_for_one_client_is_a_skip_for_the_others_before_their_next_message() {
    let (mut sim, a, b) = two(|_| {});
    assert_eq!((sim.tell("b", "x"), sim.tell("b", "y")), (Some(0), Some(1)));
    assert_eq!(sim.out(b), ["x", "y"]);
    assert_eq!(sim.out(a), [""; 0], "nothing yet: it can be told with what follows");
    sim.send("z").unwrap();
    sim.tell("a", "w").unwrap();
    assert_eq!(sim.out(a), ["skip 2", "z", "w"]);
    assert_eq!(sim.out(b), ["z"]);
    sim.ack(a, 4);
    sim.send("v").unwrap();
    assert_eq!(sim.out(b), ["skip 4", "v"]);
    sim.ack(b, 5);
    assert_eq!(sim.out(a), ["v"]);
    sim.ack(a, 5);
    assert_eq!(sim.session.outbox_messages(), 0);
}

#[test]
fn a_skip_goes_with_the_next_ack_or_heartbeat_at_the_latest() {
    let (mut sim, a, _) = two(|_| {});
    sim.tell("b", "x").unwrap();
    sim.say(a, "hi");
    sim.messages();
    sim.advance(SECOND);
    assert_eq!(sim.out(a), ["skip 1", "ack 1"]);
    sim.ack(a, 1);
    sim.tell("b", "y").unwrap();
    sim.advance(HEARTBEAT);
    let told = sim.out(a);
    let at = told.iter().position(|line| line == "skip 2").expect("told");
    assert_eq!(told[at + 1], "hb 1");
}

#[test]
fn done_follows_the_last_skip() {
    let (mut sim, a, b) = two(|_| {});
    sim.tell("b", "x").unwrap();
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(sim.out(a), ["skip 1", "done done 0", "close 1000 done"]);
    assert_eq!(sim.out(b), ["x", "done done 0", "close 1000 done"]);
}

#[test]
fn a_cursor_that_misses_nothing_of_its_own_has_no_gap() {
    let (mut sim, a, b) = two(|_| {});
    sim.send("m0").unwrap();
    for client in [a, b] {
        sim.out(client);
        sim.ack(client, 1);
    }
    sim.detach(a);
    sim.tell("b", "x").unwrap();
    sim.tell("b", "y").unwrap();
    sim.out(b);
    sim.ack(b, 3);
    assert_eq!(sim.session.outbox_messages(), 0, "kept for b alone");
    // Twice, because the first hello may be lost; and with something behind.
    for _ in 0..2 {
        let a = sim.resume("a", 1);
        assert_eq!(sim.out(a), ["hello resumed from 1 received 0", "skip 3"]);
        sim.detach(a);
    }
    sim.send("m3").unwrap();
    let a = sim.resume("a", 1);
    assert_eq!(sim.out(a), ["hello resumed from 1 received 0", "skip 3", "m3"]);
    sim.ack(a, 4);
    sim.out(b);
    sim.ack(b, 4);
    assert!(!sim.session.outbox.is_sparse(), "all of that is past");
}

#[test]
fn a_message_is_kept_for_its_client_alone() {
    let (mut sim, _, b) = two(|rules| rules.bounds.outbox_messages = 2);
    sim.tell("b", "x").unwrap();
    sim.tell("b", "y").unwrap();
    assert!(sim.is_full());
    sim.out(b);
    sim.ack(b, 1);
    assert!(!sim.is_full(), "the other client needs nothing of it");
    // Also behind what another client needs still.
    sim.send("m2").unwrap();
    sim.out(b);
    sim.ack(b, 3);
    assert_eq!(sim.tell("b", "z"), Some(3));
    sim.out(b);
    sim.ack(b, 4);
    assert!(!sim.is_full());
    assert_eq!(sim.session.outbox_messages(), 1, "m2 is for a");
}

#[test]
fn who_is_away_gets_what_is_for_it_alone() {
    let (mut sim, a, b) = two(|_| {});
    sim.detach(b);
    sim.tell("b", "x").unwrap();
    sim.send("m1").unwrap();
    assert_eq!(sim.out(a), ["skip 1", "m1"]);
    sim.ack(a, 2);
    let b = sim.resume("b", 0);
    assert_eq!(sim.out(b), ["hello resumed from 0 received 0", "x", "m1"]);
}

#[test]
fn only_the_newest_of_a_slot_is_kept() {
    let (mut sim, a, b) = two(|rules| rules.bounds.outbox_messages = 2);
    sim.detach(a);
    for n in 0..100 {
        assert_eq!(sim.latest("x", &format!("x{n}")), n);
    }
    assert_eq!(sim.session.outbox_messages(), 1);
    assert_eq!(sim.out(b), ["skip 99", "x99"]);
    sim.latest("y", "y0");
    sim.latest("x", "x100");
    assert_eq!(sim.session.outbox_bytes(), 2 * MESSAGE_OVERHEAD + 6);
    assert!(sim.is_full(), "two slots");
    sim.latest("y", "y1");
    let a = sim.resume("a", 0);
    assert_eq!(sim.out(a), ["hello resumed from 0 received 0", "skip 101", "x100", "y1"]);
    // What has been acknowledged is not replaced, and has no slot any more.
    sim.ack(a, 103);
    sim.out(b);
    sim.ack(b, 103);
    sim.latest("x", "x101");
    assert_eq!(sim.out(a), ["x101"]);
}

#[test]
fn a_message_counts_as_replaced_only_when_the_newer_one_may_leave() {
    let (mut sim, a, _) = two(|rules| {
        rules.durable_inbox = true;
        rules.durable_outbox = true;
    });
    sim.commit();
    sim.out(a);
    sim.ack(a, 0);
    sim.latest("x", "x0");
    sim.commit();
    sim.latest("x", "x1");
    assert_eq!(sim.out(a), ["x0"], "after a crash x1 would not exist");
    let a2 = sim.resume("a", 0);
    sim.latest("x", "x2");
    sim.tell("b", "y").unwrap();
    assert_eq!(sim.data(a2), ["x0"], "a skip would lead to where nothing is committed");
    sim.commit();
    assert_eq!(sim.out(a2), ["skip 2", "x2"]);
    sim.advance(HEARTBEAT);
    assert!(sim.out(a2).contains(&"skip 4".to_owned()));
}

#[test]
fn of_uncommitted_messages_the_handler_replaces_its_own() {
    let (mut sim, a, _) = two(|rules| {
        rules.durable_inbox = true;
        rules.durable_outbox = true;
        rules.bounds.outbox_messages = 2;
    });
    sim.commit();
    sim.out(a);
    sim.ack(a, 0);
    sim.say(a, "go");
    sim.take_one();
    for n in 0..10 {
        sim.latest("x", &format!("x{n}"));
    }
    sim.session.hand_back();
    sim.commit();
    assert_eq!(sim.data(a), ["skip 9", "x9"]);
}

#[test]
fn a_message_whose_time_is_over_leaves() {
    let (mut sim, a, b) = two(|rules| rules.bounds.outbox_messages = 2);
    sim.detach(a);
    sim.brief(SECOND, "x");
    sim.send("m1").unwrap();
    assert_eq!(sim.out(b), ["x", "m1"], "the client that is attached gets it");
    assert!(sim.is_full());
    sim.advance(SECOND);
    assert!(!sim.is_full());
    let a = sim.resume("a", 0);
    assert_eq!(sim.out(a), ["hello resumed from 0 received 0", "skip 1", "m1"]);
    assert_eq!(sim.session.outbox_messages(), 1);
}

#[test]
fn a_send_that_waits_is_woken_when_a_message_expires() {
    let (mut sim, _, b) = two(|rules| rules.bounds.outbox_messages = 1);
    sim.brief(SECOND, "x");
    assert_eq!(sim.send("m1"), Err(NotSent::Full));
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    let due = sim.session.poll_transport_timeout(AttachmentNumber::new(b)).unwrap();
    assert_eq!(due, sim.now + SECOND);
    sim.now = due;
    sim.session.handle_transport_timeout(AttachmentNumber::new(b), sim.now);
    assert!(sim.session.take_wake().room);
    assert_eq!(sim.send("m1"), Ok(1));
}

#[test]
fn without_transports_the_sweep_lets_messages_expire() {
    let (mut sim, a, b) = two(|rules| rules.bounds.outbox_messages = 1);
    sim.brief(SECOND, "x");
    sim.detach(a);
    sim.detach(b);
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    sim.now = sim.now + SECOND;
    assert_eq!(sim.expiry(), None);
    assert!(sim.session.take_wake().room);
    assert_eq!(sim.session.outbox_messages(), 0);
}

#[test]
fn a_client_that_is_not_kept_for_cannot_be_sent_to() {
    let (mut sim, ..) = two(|rules| rules.attach = Attach::Takeover);
    assert_eq!(sim.tell("c", "x"), None, "unknown");
    assert_eq!(sim.tell("a", "x"), None, "taken over from");
    let b = session_to(&sim, "b");
    assert_eq!(sim.tell("b", "x"), Some(0));
    sim.fresh("c");
    let terms = Terms { to: b, ..Terms::default() };
    let sent = sim.session.send_on("y".into(), terms, sim.now);
    let unsent = Unsent { message: "y".into(), why: NotSent::Gone };
    assert_eq!(sent, Err(unsent), "also after a wait for room");
    assert_eq!(sim.session.outbox_messages(), 0, "no client needs x any more");
}

fn session_to(sim: &Sim, who: &'static str) -> Option<Addressee> {
    sim.session.addressee(name(who), |info| *info == who)
}

#[test]
fn one_that_was_taken_over_from_is_told_what_it_misses() {
    let (mut sim, _, b) = two(|rules| rules.attach = Attach::Takeover);
    sim.tell("b", "x").unwrap();
    sim.fresh("c");
    sim.out(b);
    sim.close_answered(b);
    sim.detach(b);
    let b = sim.resume("b", 0);
    assert_eq!(sim.data(b), [""; 0]);
    let b2 = sim.resume("b", 0);
    assert_eq!(sim.out(b2), ["hello resumed from 1 received 0 gap 0..1 evicted"]);
}

#[test]
fn a_full_outbox_lets_go_of_what_is_for_one_that_is_gone() {
    let (mut sim, a, b) = two(|rules| rules.bounds.outbox_messages = 2);
    sim.send("m0").unwrap();
    sim.out(b);
    sim.ack(b, 1);
    sim.tell("b", "x").unwrap();
    sim.detach(b);
    sim.advance(HEARTBEAT);
    sim.out(a);
    assert_eq!(sim.send("m2"), Ok(2), "b stops mattering, and only a needs m0");
    assert_eq!(sim.tell("b", "y"), None);
    assert_eq!(sim.out(a), ["skip 2", "m2"]);
    let b = sim.resume("b", 1);
    assert_eq!(sim.out(b), ["hello resumed from 2 received 0 gap 1..2 overflow", "m2"]);
}

#[test]
fn one_that_was_pushed_out_is_told_what_it_misses() {
    let (mut sim, a, b) = two(|rules| rules.bounds.clients = 2);
    sim.send("m0").unwrap();
    sim.out(b);
    sim.ack(b, 1);
    sim.tell("b", "x").unwrap();
    sim.detach(b);
    let c = sim.fresh("c");
    sim.detach(c);
    assert_eq!(sim.out(a), ["m0"]);
    let b = sim.resume("b", 1);
    assert_eq!(sim.out(b), ["hello reused from 2 received null gap 1..2 evicted"]);
    sim.detach(b);
    let b = sim.resume("b", 1);
    assert_eq!(sim.out(b), ["hello reused from 2 received null gap 1..2 evicted"], "again");
}

#[test]
fn plain_clients_are_told_nothing_and_pings_count_all() {
    let mut sim = Sim::new();
    let plain = sim.offer("ann/plain", Claim::Plain).unwrap();
    sim.latest("x", "x0");
    sim.latest("x", "x1");
    assert_eq!(sim.out(plain), ["x1"]);
    sim.advance(SECOND);
    assert_eq!(sim.out(plain), ["ping @2"]);
    sim.pong(plain);
    assert_eq!(sim.session.outbox_messages(), 0);
    sim.detach(plain);
    // It is kept for the identity's next plain transport.
    sim.tell("ann/plain", "y").unwrap();
    let plain = sim.offer("ann/plain", Claim::Plain).unwrap();
    assert_eq!(sim.out(plain), ["y"]);
}

#[test]
fn a_plain_client_is_past_what_is_for_others() {
    let mut sim = sharing(|_| {});
    let plain = sim.offer("ann/plain", Claim::Plain).unwrap();
    let b = sim.fresh("ann/b");
    sim.out(b);
    sim.send("m0").unwrap();
    sim.tell("ann/b", "x").unwrap();
    assert_eq!(sim.out(plain), ["m0"]);
    assert_eq!(sim.out(b), ["m0", "x"]);
    sim.ack(b, 2);
    sim.advance(SECOND);
    assert_eq!(sim.out(plain), ["ping @2"]);
    sim.pong(plain);
    assert_eq!(sim.session.outbox_messages(), 0);
    assert_eq!(sim.peer_ends(plain, Some(1009)), None, "nothing is unconfirmed");
}

#[test]
fn under_share_what_is_for_a_plain_transport_is_gone_with_it() {
    let mut sim = sharing(|_| {});
    let one = sim.offer("ann/plain one", Claim::Plain).unwrap();
    sim.offer("ann/plain two", Claim::Plain).unwrap();
    sim.events();
    sim.tell("ann/plain one", "for one").unwrap();
    sim.detach(one);
    assert_eq!(sim.events(), ["!ann/plain one 0 7", "-ann/plain one"]);
    assert_eq!(sim.tell("ann/plain one", "x"), None);
    let next = sim.offer("ann/plain three", Claim::Plain).unwrap();
    assert_eq!(sim.out(next), [""; 0], "another page");
    assert_eq!(sim.session.outbox_messages(), 0);
}

#[test]
fn a_gap_begins_where_the_skip_has_led() {
    let (mut sim, a, b) = two(|rules| {
        rules.bounds.outbox_messages = 2;
        rules.overflow = Overflow::DropOldest;
    });
    sim.tell("b", "x").unwrap();
    sim.send_more(["m1", "m2", "m3"]);
    assert_eq!(sim.out(a), ["skip 1", "gap 1..2 overflow", "m2", "m3"]);
    assert_eq!(sim.out(b), ["gap 0..2 overflow", "m2", "m3"]);
}

#[test]
fn one_that_is_far_behind_starts_with_the_checkpoint() {
    for (after, expected) in [
        (None, vec!["hello resumed from 1 received 0", "m1", "m2", "cp", "m4"]),
        (Some(4), vec!["hello resumed from 1 received 0", "m1", "m2", "cp", "m4"]),
        (Some(3), vec!["hello resumed from 3 received 0 gap 1..3 checkpoint", "cp", "m4"]),
        (Some(0), vec!["hello resumed from 3 received 0 gap 1..3 checkpoint", "cp", "m4"]),
    ] {
        let catch_up = after.map_or(CatchUp::Everything, |after| CatchUp::FromCheckpoint { after });
        let (mut sim, a, _) = two(|rules| rules.catch_up = catch_up);
        sim.send("m0").unwrap();
        sim.out(a);
        sim.ack(a, 1);
        sim.detach(a);
        sim.send_more(["m1", "m2"]);
        sim.session.send_checkpoint("cp".into(), sim.now).unwrap();
        sim.send("m4").unwrap();
        // The hello may be lost.
        for _ in 0..2 {
            let a = sim.resume("a", 1);
            assert_eq!(sim.out(a), expected, "{after:?}");
            sim.detach(a);
        }
        let a = sim.resume("a", 4);
        assert_eq!(sim.out(a)[1..], ["m4"], "it is behind the checkpoint");
    }
}

#[test]
fn a_snapshot_keeps_whom_messages_are_for() {
    let (mut sim, a, b) = two(|_| {});
    sim.tell("b", "x").unwrap();
    sim.latest("slot", "old");
    sim.latest("slot", "new");
    sim.brief(SECOND * 10, "brief");
    sim.brief(SECOND * 100, "longer");
    sim.send("m").unwrap();
    assert_eq!(sim.out(b), ["x", "skip 2", "new", "brief", "longer", "m"]);
    sim.ack(b, 3);
    sim.detach(a);
    let (snapshot, _) = sim.session.snapshot(true);
    let bytes = serde_json::to_vec(&snapshot).unwrap();
    let snapshot = serde_json::from_slice(&bytes).unwrap();
    let rules = Arc::clone(sim.session.rules());
    let age = sim.session.age(sim.now) + SECOND * 20;
    sim.session = Session::restore(rules, snapshot, true, 2, age, sim.now, |of| {
        if of == name("a") { "a" } else { "b" }
    });
    let a = sim.resume("a", 0);
    assert_eq!(
        sim.out(a),
        ["hello resumed from 0 received 0", "skip 2", "new", "skip 4", "longer", "m"]
    );
    let b = sim.resume("b", 3);
    assert_eq!(sim.out(b), ["hello resumed from 3 received 0", "skip 4", "longer", "m"]);
    sim.latest("slot", "newest");
    let a = sim.resume("a", 0);
    assert_eq!(
        sim.out(a),
        ["hello resumed from 0 received 0", "skip 4", "longer", "m", "newest"],
        "the slot is known"
    );
}

#[test]
fn a_farewell_tells_no_gap_to_one_that_misses_nothing() {
    let (mut sim, a, b) = two(|_| {});
    sim.send("m0").unwrap();
    for client in [a, b] {
        sim.out(client);
        sim.ack(client, 1);
    }
    sim.tell("b", "x").unwrap();
    sim.session.end(OutcomeStatus::Done, sim.now);
    let record = sim.session.final_counts();
    let session = WireId::parse("s").unwrap();
    for (who, expected) in [
        ("a", vec!["hello resumed from 1 received 0", "skip 2", "done done 0", "close 1000 done"]),
        (
            "b",
            vec![
                "hello resumed from 2 received 0 gap 1..2 expired",
                "done done 0",
                "close 1000 done",
            ],
        ),
    ] {
        let rules = sim.session.rules();
        let frames = record.farewell(name(who), &session, &at(1), OutcomeStatus::Done, rules);
        let lines: Vec<_> = frames.unwrap().iter().map(line).collect();
        assert_eq!(lines, expected, "{who}");
    }
}

#[test]
fn messages_follow_a_client_to_its_new_identity() {
    let mut sim = sharing(|_| {});
    let a = sim.fresh("ann/a");
    sim.out(a);
    sim.tell("ann/a", "x").unwrap();
    let (old, new) = (name("ann/a").identity, name("bob/a").identity);
    sim.session.change_identity(old, new, sim.now);
    assert_eq!(sim.tell("ann/a", "y"), Some(1), "the handler knows it by its old name");
    sim.detach(a);
    let a = sim.resume("bob/a", 0);
    assert_eq!(sim.out(a), ["hello resumed from 0 received 0", "x", "y"]);
}

/// `a` has m0 and no more, what is for `b` alone has left, and `a` needs nothing before it.
fn one_past_what_has_left() -> (Sim, u64) {
    let (mut sim, a, b) = two(|_| {});
    sim.send("m0").unwrap();
    sim.tell("b", "x").unwrap();
    assert_eq!(sim.out(a), ["m0"]);
    sim.ack(a, 1);
    sim.out(b);
    sim.ack(b, 2);
    sim.detach(a);
    assert_eq!(sim.session.outbox.base(), Position::new(2));
    (sim, b)
}

#[test]
fn an_offer_that_arrives_late_takes_no_message_from_the_next_one() {
    for late in [at_n(0, 1), Claim::Fresh] {
        let (mut sim, b) = one_past_what_has_left();
        let gone = sim.offer("a", late.clone()).unwrap();
        let hello = sim.out(gone);
        if late == at_n(0, 1) {
            // m0 is acknowledged, and no more than that is missing.
            assert_eq!(hello, ["hello resumed from 1 received 0 gap 0..1 evicted", "skip 2"]);
        }
        sim.detach(gone);
        sim.send("m2").unwrap();
        let a = sim.resume("a", 1);
        assert_eq!(sim.out(a), ["hello resumed from 1 received 0", "skip 2", "m2"], "{late:?}");
        sim.ack(a, 3);
        sim.out(b);
        sim.ack(b, 3);
        assert_eq!(sim.session.outbox_messages(), 0);
    }
}

#[test]
fn a_late_offer_without_a_cursor_does_not_hide_what_was_let_go() {
    let (mut sim, a, b) = two(|rules| rules.bounds.outbox_messages = 2);
    sim.send("m0").unwrap();
    for client in [a, b] {
        sim.out(client);
        sim.ack(client, 1);
    }
    sim.send("m1").unwrap();
    sim.tell("b", "x").unwrap();
    sim.detach(b);
    sim.advance(HEARTBEAT);
    assert_eq!(sim.data(a)[0], "m1");
    assert_eq!(sim.send("m3"), Ok(3), "x leaves");
    let gone = sim.fresh("b");
    sim.detach(gone);
    let b = sim.resume("b", 1);
    let hello = sim.out(b).remove(0);
    assert_eq!(hello, "hello resumed from 3 received 0 gap 1..3 overflow");
}

#[test]
fn what_a_crash_may_take_back_is_not_let_go_before_it_is_committed() {
    let (mut sim, a, b) = two(|rules| {
        rules.durable_inbox = true;
        rules.durable_outbox = true;
        rules.bounds.outbox_messages = 2;
    });
    sim.commit();
    sim.send("m0").unwrap();
    sim.commit();
    sim.out(a);
    sim.out(b);
    sim.ack(b, 1);
    sim.tell("b", "x").unwrap();
    sim.detach(b);
    sim.advance(HEARTBEAT);
    assert_eq!(sim.send("m2"), Err(NotSent::Full), "b stops mattering, and x is not on disk");
    let again = sim.session.clone();
    let b = sim.resume("b", 1);
    assert_eq!(
        sim.out(b)[0],
        "hello resumed from 1 received 0",
        "a gap would end above the record"
    );
    sim.session = again;
    sim.commit();
    assert_eq!(sim.send("m2"), Ok(2), "x has left");
    let b = sim.resume("b", 1);
    assert_eq!(sim.out(b)[0], "hello resumed from 2 received 0 gap 1..2 overflow");
}

#[test]
fn what_was_let_go_before_its_client_was_pushed_out_is_told() {
    let (mut sim, a, b) = two(|rules| {
        rules.bounds.outbox_messages = 2;
        rules.bounds.clients = 2;
    });
    sim.send("m0").unwrap();
    sim.out(b);
    sim.ack(b, 1);
    sim.tell("b", "x").unwrap();
    sim.detach(b);
    sim.advance(HEARTBEAT);
    assert_eq!(sim.send("m2"), Ok(2), "x leaves");
    let c = sim.fresh("c");
    sim.detach(c);
    let b = sim.resume("b", 1);
    assert_eq!(sim.out(b)[0], "hello reused from 2 received null gap 1..2 evicted");
    sim.out(a);
}

/// While room is made, the message that would be replaced may leave by itself.
#[test]
fn what_has_left_is_not_counted_as_replaced() {
    for overflow in [Overflow::Backpressure, Overflow::Close, Overflow::DropOldest] {
        let (mut sim, a, b) = two(|rules| {
            rules.overflow = overflow;
            rules.bounds.outbox_bytes = 2 * MESSAGE_OVERHEAD + 20;
        });
        sim.latest("p", "10 %");
        sim.send("m1").unwrap();
        sim.out(b);
        sim.ack(b, 2);
        sim.detach(a);
        assert_eq!(sim.session.outbox_messages(), 2, "kept for a");
        // a is given up, and with it both leave: an empty box lets any message in.
        assert_eq!(sim.latest("p", &"long ".repeat(100)), 2, "{overflow:?}");
        assert_eq!(sim.session.outbox_messages(), 1);
    }
}

/// An offer without a cursor that arrives late makes a new record of a client that was pushed out.
#[test]
fn a_late_fresh_offer_does_not_hide_that_a_message_for_it_alone_was_let_go() {
    let mut sim = Sim::with(|rules| {
        rules.attach = Attach::Share;
        rules.bounds.clients = 2;
    });
    let a = sim.fresh("a");
    sim.session.send("m0".into(), sim.now).unwrap();
    sim.session.send_checkpoint("m1".into(), sim.now).unwrap();
    let to = sim.session.addressee(name("a"), |_| false);
    sim.session.send_on("alone".into(), Terms { to, ..Terms::default() }, sim.now).unwrap();
    sim.session.send("m3".into(), sim.now).unwrap();
    sim.out(a);
    sim.detach(a);
    // These push it out.
    let (b, c) = (sim.fresh("b"), sim.fresh("c"));
    sim.detach(b);
    let late = sim.fresh("a");
    sim.out(late);
    sim.detach(late);
    let a = sim.resume("a", 1);
    assert_eq!(sim.out(a), ["hello reused from 3 received null gap 1..3 evicted", "m3"]);
    sim.detach(c);
}
