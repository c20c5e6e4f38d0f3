//! Clients that may only read.

use super::*;

const READ_ONLY: &str = "close 4104 read only";

fn of(policy: Attach) -> Sim {
    Sim::with(|rules| rules.attach = policy)
}

const POLICIES: [Attach; 3] = [Attach::Takeover, Attach::Share, Attach::Refuse];

#[test]
fn data_of_a_watcher_closes_its_transport_and_reaches_nobody() {
    for policy in POLICIES {
        for (who, claim) in [("b", Claim::Fresh), ("plain", Claim::Plain)] {
            for frame in [Incoming::Text("hi".into()), Incoming::Binary("hi".into())] {
                let mut sim = of(policy);
                sim.session.start_handler(sim.now);
                sim.fresh("a");
                let watcher = sim.watch(who, claim.clone()).unwrap();
                sim.out(watcher);
                assert!(matches!(sim.frame(watcher, frame), Reception::Done));
                assert_eq!(sim.out(watcher), [READ_ONLY], "{policy:?} {who}");
                assert!(sim.say(1, "mine"));
                assert_eq!(sim.messages(), ["a:mine"], "{policy:?} {who}");
            }
        }
    }
}

#[test]
fn a_long_message_is_none_of_a_watcher_either() {
    let mut sim = Sim::with(|rules| rules.bounds.message = 4);
    let watcher = sim.watch("a", Claim::Fresh).unwrap();
    sim.out(watcher);
    assert!(sim.say(watcher, "too long"));
    assert_eq!(sim.out(watcher), [READ_ONLY]);
}

/// A client offers its copy by itself. It does not know that it may only read.
#[test]
fn the_copy_of_a_watcher_does_not_count_and_harms_nothing() {
    let mut sim = Sim::new();
    let watcher = sim.watch("a", Claim::Fresh).unwrap();
    sim.out(watcher);
    let state = wire::StateOffer::new(7, 7, &"copy").unwrap();
    let offer = wire::ClientControl { state: Some(state), ..Default::default() }.encode();
    let reception = sim.frame(watcher, Incoming::Text(offer.clone()));
    assert!(matches!(reception, Reception::Done), "{reception:?}");
    assert!(!sim.session.is_turn_over(AttachmentNumber::new(watcher)));
    // Of one that may write it counts.
    let writer = sim.fresh("b");
    sim.out(writer);
    assert!(matches!(sim.frame(writer, Incoming::Text(offer)), Reception::State(_)));
}

#[test]
fn a_watcher_takes_the_place_of_nobody_and_nobody_takes_its_place() {
    for policy in POLICIES {
        for (who, claim) in [("b", Claim::Fresh), ("plain", Claim::Plain)] {
            let mut sim = of(policy);
            sim.fresh("a");
            sim.out(1);
            let watcher = sim.watch(who, claim.clone()).unwrap();
            sim.out(watcher);
            assert_eq!(sim.out(1), Vec::<String>::new(), "{policy:?} {who}");
            // The writer comes back, and then another one, where that may.
            sim.detach(1);
            let back = sim.resume("a", 0);
            if policy == Attach::Refuse {
                assert_eq!(sim.offer("c", Claim::Fresh), Err("4101 refused".into()));
                sim.detach(back);
            }
            let other = sim.fresh("c");
            sim.send_range(0..1);
            assert_eq!(sim.data(watcher), ["m0"], "{policy:?} {who}");
            assert_eq!(sim.data(other), ["m0"], "{policy:?} {who}");
        }
    }
}

#[test]
fn watchers_do_not_take_each_others_place() {
    for policy in POLICIES {
        let mut sim = of(policy);
        let watchers = [
            sim.watch("plain", Claim::Plain).unwrap(),
            sim.watch("plain", Claim::Plain).unwrap(),
            sim.watch("a", Claim::Fresh).unwrap(),
            sim.watch("b", Claim::Fresh).unwrap(),
        ];
        let writer = sim.plain();
        sim.send_range(0..1);
        for number in watchers.into_iter().chain([writer]) {
            assert_eq!(sim.data(number), ["m0"], "{policy:?}");
        }
    }
}

#[test]
fn a_watcher_keeps_nobody_out() {
    let mut sim = of(Attach::Refuse);
    sim.watch("b", Claim::Fresh).unwrap();
    sim.watch("plain", Claim::Plain).unwrap();
    let writer = sim.fresh("a");
    assert_eq!(sim.offer("c", Claim::Fresh), Err("4101 refused".into()));
    sim.watch("d", Claim::Fresh).expect("the holder keeps no watcher out");
    assert!(!sim.session.is_turn_over(AttachmentNumber::new(writer)));
}

/// A holder that is asked whether it is still there is one that may write.
#[test]
fn a_silent_watcher_does_not_matter_to_who_comes() {
    let mut sim = of(Attach::Refuse);
    let watcher = sim.watch("b", Claim::Fresh).unwrap();
    sim.fresh("a");
    sim.out(watcher);
    sim.out(1);
    sim.out(2);
    sim.now = sim.now + HEARTBEAT + SECOND;
    // The watcher shows life: the silent holder is asked nevertheless.
    sim.ack(watcher, 0);
    assert_eq!(sim.offer("c", Claim::Fresh), Err("4113 try again later retry 2s".into()));
}

#[test]
fn a_watcher_goes_on_where_its_acks_have_come_to() {
    for policy in POLICIES {
        let mut sim = of(policy);
        let writer = sim.fresh("a");
        let watcher = sim.watch("b", Claim::Fresh).unwrap();
        sim.send_range(0..4);
        assert_eq!(sim.out(watcher), ["hello reused from 0 received 0", "m0", "m1", "m2", "m3"]);
        sim.out(writer);
        sim.ack(writer, 4);
        assert_eq!(sim.session.outbox_messages(), 4, "kept for the watcher");
        sim.ack(watcher, 2);
        assert_eq!(sim.session.outbox_messages(), 2, "{policy:?}");
        sim.detach(watcher);
        let back = sim.watch("b", at(2)).unwrap();
        assert_eq!(sim.out(back), ["hello resumed from 2 received 0", "m2", "m3"], "{policy:?}");
        assert_eq!(sim.data(writer), Vec::<String>::new(), "{policy:?}");
    }
}

#[test]
fn a_writer_that_takes_over_evicts_no_watcher() {
    let mut sim = Sim::new();
    sim.fresh("a");
    let gone = sim.watch("b", Claim::Fresh).unwrap();
    sim.send_range(0..1);
    sim.out(gone);
    sim.detach(gone);
    sim.fresh("c");
    sim.send_range(1..2);
    let back = sim.watch("b", at(1)).unwrap();
    assert_eq!(sim.out(back), ["hello resumed from 1 received 0", "m1"]);
}

#[test]
fn the_same_client_replaces_its_own_transport_whatever_it_may() {
    let mut sim = Sim::new();
    let writer = sim.fresh("a");
    sim.out(writer);
    assert!(sim.say(writer, "one"));
    let watcher = sim.watch("a", at(0)).unwrap();
    assert_eq!(sim.out(writer), ["close 4100 replaced"]);
    // What it has written counts.
    assert_eq!(sim.out(watcher), ["hello resumed from 0 received 1"]);
    let writer = sim.resume("a", 0);
    assert_eq!(sim.out(watcher), ["close 4100 replaced"]);
    sim.out(writer);
    assert!(sim.say(writer, "two"));
    assert_eq!(sim.messages(), ["a:one", "a:two"]);
}

/// A client that does not know that it was taken over may watch. It takes the session back only when it knows.
#[test]
fn watching_is_no_way_around_a_takeover() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.fresh("b");
    let watcher = sim.watch("a", at(0)).expect("it takes nobody's place");
    let seen = sim.session.newest_attachment();
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".into()));
    assert!(!sim.session.is_turn_over(AttachmentNumber::new(watcher)));
    // It has read that.
    sim.session.handle_refusal_answered(name("a"), seen);
    assert!(sim.offer("a", at(0)).is_ok());
}

#[test]
fn the_handler_is_told_who_watches() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.watch("b", Claim::Fresh).unwrap();
    assert_eq!(sim.events(), ["+a", "+b watches"]);
    let access: Vec<_> = sim.session.attendees().map(|of| (of.who.info, of.access)).collect();
    assert_eq!(access, [("a", Access::Full), ("b", Access::ReadOnly)]);
}

/// The writer that was attached last goes on mattering when the outbox is full, whoever watches.
#[test]
fn a_full_outbox_keeps_what_the_writer_needs() {
    for policy in POLICIES {
        for leaves in [false, true] {
            let mut sim = Sim::with(|rules| {
                rules.attach = policy;
                rules.bounds.outbox_messages = 3;
            });
            let writer = sim.fresh("a");
            sim.out(writer);
            sim.ack(writer, 0);
            let watcher = sim.watch("b", Claim::Fresh).unwrap();
            sim.detach(writer);
            sim.send_range(0..3);
            sim.out(watcher);
            sim.ack(watcher, 3);
            if leaves {
                sim.detach(watcher);
            }
            assert!(sim.is_full(), "{policy:?}: the writer needs all three");
            let back = sim.resume("a", 0);
            assert_eq!(sim.data(back), ["m0", "m1", "m2"], "{policy:?}");
        }
    }
}

#[test]
fn watchers_leave_a_seat_to_a_writer() {
    let mut sim = Sim::with(|rules| rules.bounds.clients = 3);
    for who in ["b", "c"] {
        sim.watch(who, Claim::Fresh).unwrap();
    }
    let full = |sim: &mut Sim| sim.watch("d", Claim::Fresh).unwrap_err();
    assert_eq!(full(&mut sim), "4113 try again later retry 30s");
    let writer = sim.fresh("a");
    sim.send_range(0..1);
    sim.out(writer);
    // Gone for a moment, it is not pushed out.
    sim.detach(writer);
    assert_eq!(full(&mut sim), "4113 try again later retry 30s");
    let back = sim.resume("a", 0);
    assert_eq!(sim.out(back), ["hello resumed from 0 received 0", "m0"]);
}

#[test]
fn a_watcher_pushes_out_gone_watchers_and_not_the_last_writer() {
    let mut sim = Sim::with(|rules| rules.bounds.clients = 3);
    for who in ["w", "a"] {
        let number = sim.fresh(who);
        sim.out(number);
        sim.detach(number);
    }
    for who in ["b", "c", "d"] {
        let number = sim.watch(who, Claim::Fresh).unwrap();
        sim.out(number);
        sim.detach(number);
    }
    let known: Vec<_> = sim.session.clients().map(|who| who.info).collect();
    assert_eq!(known, ["a", "c", "d"]);
}

#[test]
fn plain_watchers_that_come_back_are_known_again_and_no_writer_starts_where_they_were() {
    let mut sim = Sim::new();
    let watcher = sim.watch("plain", Claim::Plain).unwrap();
    sim.send_range(0..2);
    assert_eq!(sim.data(watcher), ["m0", "m1"]);
    sim.advance(SECOND);
    sim.pong(watcher);
    sim.detach(watcher);
    let writer = sim.plain();
    assert_eq!(sim.data(writer), Vec::<String>::new(), "nobody needs them any more");
    sim.send_range(2..3);
    let back = sim.watch("plain", Claim::Plain).unwrap();
    assert_eq!(sim.data(back), ["m2"]);
    assert_eq!(sim.session.clients().count(), 2);
}

#[test]
fn a_plain_watcher_damps_no_writer() {
    let mut sim = Sim::new();
    sim.plain();
    for _ in 0..20 {
        sim.watch("plain", Claim::Plain).unwrap();
        let newest = sim.session.newest_attachment().get();
        sim.detach(newest);
    }
    assert_eq!(sim.session.plain_delay(sim.now), Duration::ZERO);
}

#[test]
fn a_plain_watcher_does_not_make_the_writers_last_pong_old() {
    let mut sim = Sim::new();
    let writer = sim.plain();
    sim.send_range(0..1);
    sim.out(writer);
    sim.advance(SECOND);
    sim.session.close_transport(AttachmentNumber::new(writer), Close::TRY_AGAIN, sim.now);
    sim.watch("plain", Claim::Plain).unwrap();
    sim.pong(writer);
    let back = sim.plain();
    assert_eq!(sim.data(back), Vec::<String>::new());
}

#[test]
fn a_watcher_stays_one_through_a_restart() {
    let mut sim = Sim::with(|rules| {
        rules.durable_inbox = true;
        rules.durable_outbox = true;
    });
    sim.fresh("a");
    let watcher = sim.watch("b", Claim::Fresh).unwrap();
    sim.send_range(0..2);
    sim.commit();
    sim.out(watcher);
    sim.ack(watcher, 1);
    let (snapshot, _) = sim.session.snapshot(true);
    let (rules, now) = (sim.session.rules().clone(), sim.now);
    sim.session = Session::restore(rules, snapshot, true, 9, SECOND, now, |name| {
        if name == super::name("a") { "a" } else { "b" }
    });
    // The writer that takes over evicts no watcher.
    sim.fresh("c");
    sim.commit();
    let back = sim.watch("b", at(1)).unwrap();
    assert_eq!(sim.data(back), ["m1"]);
}

/// Two identities under a shared key. A writer is there, so a gone writer need not be kept for a watcher's sake.
#[test]
fn a_watcher_pushes_out_a_gone_writer_while_another_writer_is_there() {
    let mut sim = Sim::with(|rules| {
        rules.attach = Attach::Share;
        rules.bounds.shared_clients = 2;
    });
    sim.fresh("x/a");
    let gone = sim.fresh("y/a");
    sim.detach(gone);
    sim.watch("z/a", Claim::Fresh).unwrap();
    assert_eq!(sim.session.clients().count(), 2, "never more than the limit");
}
