//! Plain clients that cannot take a message, or only slowly.

use super::*;

const TOO_BIG: Option<u16> = Some(1009);

/// Messages of these sizes, written to a plain transport.
fn written(sizes: &[usize]) -> Sim {
    let mut sim = Sim::new();
    sim.plain();
    sim.events();
    for &size in sizes {
        sim.send(&"x".repeat(size)).unwrap();
    }
    sim.out(1);
    sim
}

/// All that a client that answers every ping is shown.
fn shown(sim: &mut Sim, number: u64) -> Vec<String> {
    let mut shown = Vec::new();
    for _ in 0..10 {
        shown.extend(sim.data(number));
        if sim.pings.contains_key(&number) {
            sim.pong(number);
        }
    }
    shown
}

#[test]
fn of_what_was_refused_the_largest_is_passed_over() {
    for (sizes, refused, left) in [
        (vec![9], 0, vec![]),
        (vec![1, 9, 2], 1, vec![1, 2]),
        (vec![1, 2, 9], 2, vec![1, 2]),
        (vec![9, 1, 2], 0, vec![1, 2]),
    ] {
        let mut sim = written(&sizes);
        assert_eq!(sim.peer_ends(1, TOO_BIG), Some(refused), "{sizes:?}");
        assert_eq!(sim.events(), [format!("!plain {refused} 9"), "-plain".into()], "{sizes:?}");
        let number = sim.plain();
        let shown: Vec<_> = shown(&mut sim, number).iter().map(String::len).collect();
        assert_eq!(shown, left, "{sizes:?}");
        assert_eq!(sim.session.outbox_messages(), 0, "{sizes:?}: nothing is kept for it");
    }
}

#[test]
fn what_was_confirmed_is_not_what_was_refused() {
    let mut sim = written(&[9, 1]);
    sim.advance(SECOND);
    sim.out(1);
    sim.pong(1);
    sim.send("xx").unwrap();
    sim.out(1);
    assert_eq!(sim.peer_ends(1, TOO_BIG), Some(2));
    let mut sim = written(&[]);
    assert_eq!(sim.peer_ends(1, TOO_BIG), None, "it was sent nothing");
    assert_eq!(sim.events(), ["-plain"]);
}

/// After the first end every message goes by itself, so that the one that the client cannot take is known.
#[test]
fn what_ends_three_transports_alone_is_passed_over() {
    for code in [None, Some(1000), Some(1011)] {
        let mut sim = written(&[1, 2, 3, 4]);
        assert_eq!(sim.peer_ends(1, code), None);
        sim.plain();
        assert_eq!(sim.out(2), ["x", "ping @1"]);
        sim.pong(2);
        assert_eq!(sim.out(2), ["xx", "ping @2"]);
        for number in 2..4 {
            assert_eq!(sim.peer_ends(number, code), None, "{code:?}, {number}");
            sim.plain();
            assert_eq!(sim.out(number + 1), ["xx", "ping @2"]);
        }
        assert_eq!(sim.peer_ends(4, code), Some(1), "{code:?}");
        assert!(sim.events().contains(&"!plain 1 2".to_owned()));
        sim.plain();
        assert_eq!(sim.out(5), ["xxx", "ping @3"]);
        sim.pong(5);
        assert_eq!(sim.out(5), ["xxxx", "ping @4"]);
        sim.pong(5);
        sim.send_range(4..6);
        assert_eq!(sim.out(5), ["m4", "m5"], "together again");
        assert_eq!(sim.session.outbox_messages(), 2);
    }
}

/// The server or the network has caused these ends, so they say nothing about the message that the client had.
#[test]
fn ends_that_are_not_the_peers_do_not_count() {
    for end in ["superseded", "drained", "unanswered", "cut by the process"] {
        let mut sim = written(&[2]);
        for number in 1..10 {
            match end {
                "superseded" => {
                    sim.plain();
                    assert_eq!(sim.session.handle_peer_end(number_of(number), None, sim.now), None);
                }
                "drained" => {
                    sim.session.freeze();
                    sim.session.close_transports(&Close::RESTARTING, || None, sim.now);
                    assert_eq!(sim.peer_ends(number, TOO_BIG), None, "{end}");
                    sim.session.thaw(sim.now);
                    sim.plain();
                }
                "unanswered" => {
                    sim.advance(62 * SECOND);
                    assert_eq!(sim.peer_ends(number, None), None, "{end}");
                    sim.plain();
                }
                _ => {
                    sim.detach(number);
                    sim.plain();
                }
            }
            assert!(sim.out(number + 1).contains(&"xx".to_owned()), "{end}, {number}");
        }
    }
}

fn number_of(number: u64) -> AttachmentNumber {
    AttachmentNumber::new(number)
}

/// A strike is one of a message: another that ended a transport meanwhile begins anew.
#[test]
fn strikes_are_counted_for_one_message() {
    let mut sim = written(&[1, 2]);
    sim.peer_ends(1, None);
    for number in [2, 3] {
        sim.plain();
        assert_eq!(sim.out(number), ["x", "ping @1"]);
        assert_eq!(sim.peer_ends(number, None), None);
    }
    sim.plain();
    sim.out(4);
    sim.pong(4);
    assert_eq!(sim.out(4), ["xx", "ping @2"]);
    assert_eq!(sim.peer_ends(4, None), None);
    sim.plain();
    assert_eq!(sim.out(5), ["xx", "ping @2"]);
    assert_eq!(sim.peer_ends(5, None), None);
}

/// Three times eight messages of 25 s each: all behind one ping take longer than its deadline.
#[test]
fn who_was_too_slow_for_all_of_them_gets_them_one_by_one() {
    let mut sim = written(&[1, 2, 3]);
    sim.advance(SECOND);
    assert_eq!(sim.out(1), ["ping @3"]);
    sim.advance(60 * SECOND);
    assert_eq!(sim.out(1), ["close 1013 try again later"]);
    sim.plain();
    for n in 1..=3 {
        assert_eq!(sim.out(2), ["x".repeat(n), format!("ping @{n}")]);
        sim.advance(25 * SECOND);
        sim.pong(2);
    }
    assert_eq!(sim.session.outbox_messages(), 0);
}

/// At a pace that 64 messages do not fit into the deadline there is one under way; as soon as the client is quick
/// again, many.
#[test]
fn a_client_that_is_seen_to_be_slow_is_sent_one_by_one() {
    let mut sim = written(&[1]);
    sim.advance(25 * SECOND);
    assert_eq!(sim.out(1), ["ping @1"]);
    sim.pong(1);
    for size in 2..6 {
        sim.send(&"x".repeat(size)).unwrap();
    }
    assert_eq!(sim.out(1), ["xx", "ping @2"]);
    sim.advance(25 * SECOND);
    sim.pong(1);
    assert_eq!(sim.out(1), ["xxx", "ping @3"]);
    sim.pong(1);
    assert_eq!(sim.out(1), ["xxxx", "xxxxx"]);
}

#[test]
fn without_soft_acknowledgements_only_a_refusal_counts() {
    let mut sim = Sim::with(|rules| rules.plain_ack = PlainAck::Off);
    sim.plain();
    sim.send("xx").unwrap();
    for number in 1..9 {
        assert_eq!(sim.out(number), ["xx"]);
        assert_eq!(sim.peer_ends(number, None), None);
        sim.plain();
    }
    assert_eq!(sim.out(9), ["xx"]);
    assert_eq!(sim.peer_ends(9, TOO_BIG), Some(0));
    sim.plain();
    assert_eq!(sim.out(10), Vec::<String>::new());
    sim.send("y").unwrap();
    assert_eq!(sim.out(10), ["y"]);
}

/// A checkpoint is where every plain transport starts again, however much it has confirmed.
#[test]
fn a_checkpoint_that_is_too_big_is_not_replayed_for_ever() {
    let mut sim = Sim::new();
    sim.plain();
    sim.session.send_checkpoint("checkpoint".into(), sim.now).unwrap();
    sim.send_range(1..2);
    sim.out(1);
    assert_eq!(sim.peer_ends(1, TOO_BIG), Some(0));
    for number in 2..5 {
        sim.plain();
        assert_eq!(sim.data(number), ["m1"]);
        sim.pong(number);
        assert_eq!(sim.peer_ends(number, None), None);
    }
}

/// Under `Share` a new transport starts where the gone one with the least was; what its place was refused stays so.
#[test]
fn a_place_that_is_shared_remembers_what_it_was_refused() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.plain();
    sim.plain();
    sim.detach(1);
    sim.send_range(0..2);
    sim.out(2);
    let mut ends = 0;
    for number in 2..20 {
        if sim.peer_ends(number, TOO_BIG).is_some() {
            ends += 1;
        }
        sim.plain();
        sim.out(number + 1);
    }
    assert_eq!(ends, 2, "each message once for the place");
}

/// No client has it, so a client that starts fresh gets it.
#[test]
fn what_a_plain_client_cannot_take_is_still_news_to_others() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.plain();
    sim.plain();
    sim.send_range(0..1);
    sim.out(1);
    assert_eq!(sim.peer_ends(1, TOO_BIG), Some(0));
    sim.fresh("a");
    assert_eq!(sim.data(3), ["m0"]);
}

#[test]
fn a_margin_does_not_bring_back_what_was_refused() {
    let mut sim = Sim::with(|rules| rules.plain_ack = PlainAck::Margin(8));
    sim.plain();
    sim.send_range(0..3);
    sim.out(1);
    assert_eq!(sim.peer_ends(1, TOO_BIG), Some(2));
    for number in 2..5 {
        sim.plain();
        assert_eq!(shown(&mut sim, number), ["m0", "m1"]);
        assert_eq!(sim.peer_ends(number, None), None);
    }
}

#[test]
fn a_handler_that_takes_no_events_is_told_of_64() {
    let mut sim = Sim::new();
    for number in 1..=100 {
        sim.plain();
        sim.send("x").unwrap();
        sim.out(number);
        assert_eq!(sim.peer_ends(number, TOO_BIG), Some(number - 1));
    }
    let told = sim.events().iter().filter(|event| event.starts_with('!')).count();
    assert_eq!(told, 64);
    assert!(sim.session.outbox_messages() == 0);
}

#[test]
fn a_client_with_an_offer_is_passed_over_nothing() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send("x").unwrap();
    sim.out(1);
    for number in 1..6 {
        assert_eq!(sim.peer_ends(number, TOO_BIG), None);
        sim.resume("a", 0);
        assert_eq!(sim.data(number + 1), ["x"]);
    }
}
