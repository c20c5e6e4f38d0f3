//! Who is attached, what they have, and the close of one client.

use super::*;

fn receipt(sim: &mut Sim) -> Receipt {
    let head = sim.session.head();
    sim.session.receipt(head, None)
}

fn receipt_of(sim: &mut Sim, who: &'static str) -> Receipt {
    let to = sim.session.addressee(name(who), |info| *info == who).expect("it is there");
    let head = sim.session.head();
    sim.session.receipt(head, Some(&to))
}

fn share() -> Sim {
    Sim::with(|rules| rules.attach = Attach::Share)
}

#[test]
fn all_is_delivered_when_each_client_has_acknowledged_it() {
    let mut sim = share();
    assert_eq!(receipt(&mut sim), Receipt::NobodyThere, "nobody has ever come");
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    assert_eq!(receipt(&mut sim), Receipt::Delivered, "nothing was sent");
    sim.send_range(0..2);
    sim.out(a);
    sim.out(b);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
    sim.ack(a, 2);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
    assert_eq!(receipt_of(&mut sim, "a"), Receipt::Delivered);
    assert_eq!(receipt_of(&mut sim, "b"), Receipt::Waits);
    sim.ack(b, 1);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
    sim.ack(b, 2);
    assert_eq!(receipt(&mut sim), Receipt::Delivered);
}

#[test]
fn what_was_sent_later_is_not_waited_for() {
    let mut sim = Sim::new();
    let a = sim.fresh("a");
    sim.send_range(0..1);
    let head = sim.session.head();
    sim.send_range(1..2);
    sim.out(a);
    sim.ack(a, 1);
    assert_eq!(sim.session.receipt(head, None), Receipt::Delivered);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
}

#[test]
fn one_that_is_away_is_waited_for_while_another_is_there() {
    let mut sim = share();
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    sim.send_range(0..1);
    sim.out(a);
    sim.detach(b);
    sim.ack(a, 1);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
    assert_eq!(receipt_of(&mut sim, "b"), Receipt::NobodyThere);
    sim.detach(a);
    assert_eq!(receipt(&mut sim), Receipt::NobodyThere);
    assert_eq!(receipt_of(&mut sim, "a"), Receipt::Delivered, "though it has gone");
    let b = sim.resume("b", 0);
    sim.out(b);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
    sim.ack(b, 1);
    assert_eq!(receipt(&mut sim), Receipt::Delivered);
}

#[test]
fn a_message_for_one_client_is_waited_for_from_that_client_alone() {
    let mut sim = share();
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    sim.out(a);
    sim.tell("b", "x").unwrap();
    assert_eq!(receipt_of(&mut sim, "a"), Receipt::Delivered);
    assert_eq!(receipt(&mut sim), Receipt::Waits);
    sim.out(b);
    sim.ack(b, 1);
    assert_eq!(receipt(&mut sim), Receipt::Delivered);
}

#[test]
fn those_who_are_attached_are_counted_with_their_transports() {
    let mut sim = share();
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    sim.plain();
    sim.plain();
    let there = |sim: &Sim| -> Vec<_> {
        sim.session.attendees().map(|it| (it.who.info, it.transports)).collect()
    };
    assert_eq!(there(&sim), [("a", 1), ("b", 1), ("plain", 1), ("plain", 1)]);
    sim.detach(a);
    assert_eq!(there(&sim), [("b", 1), ("plain", 1), ("plain", 1)]);
    // Its older transport is superseded: it counts no more.
    sim.resume("b", 0);
    sim.detach(b);
    assert_eq!(there(&sim), [("b", 1), ("plain", 1), ("plain", 1)]);
}

#[test]
fn one_client_is_closed_and_comes_back_with_its_cursor() {
    let mut sim = share();
    let (a, b) = (sim.fresh("a"), sim.fresh("b"));
    sim.events();
    sim.out(a);
    sim.out(b);
    let close = Close::of_application(4001, "away").unwrap();
    let to = sim.session.addressee(name("a"), |info| *info == "a").unwrap();
    assert_eq!(sim.session.close_client(&to, &close, sim.now), 1);
    assert_eq!(sim.session.close_client(&to, &close, sim.now), 0, "it has gone");
    assert_eq!(sim.out(a), ["close 4001 away"]);
    assert_eq!(sim.events(), ["-a"]);
    sim.send_range(0..1);
    assert_eq!(sim.data(b), ["m0"]);
    let a = sim.resume("a", 0);
    assert_eq!(sim.events(), ["+a resumed"]);
    assert_eq!(sim.data(a), ["m0"]);
}

#[test]
fn all_clients_of_an_identity_are_closed_and_those_of_another_go_on() {
    let mut sim = share();
    let (a, b, plain) = (sim.fresh("a"), sim.fresh("b"), sim.plain());
    for n in [a, b, plain] {
        sim.out(n);
    }
    sim.events();
    let other = sim.fresh("x/a");
    sim.out(other);
    let revoked = name("a").identity;
    let close = Close::refused("logged out");
    assert_eq!(sim.session.close_identity(revoked, &close, sim.now), 3);
    assert_eq!(sim.session.close_identity(revoked, &close, sim.now), 0, "they have gone");
    for n in [a, b, plain] {
        assert_eq!(sim.out(n), ["close 4101 logged out"]);
    }
    sim.send_range(0..1);
    assert_eq!(sim.data(other), ["m0"], "another identity's client goes on");
    let a = sim.resume("a", 0);
    assert_eq!(sim.data(a), ["m0"], "nothing is lost for those who come back");
}

fn round_trip(sim: &Sim) -> Option<Duration> {
    sim.session.attendees().next().expect("it is attached").round_trip
}

#[test]
fn an_attendee_is_told_since_when_and_how_long_its_last_ping_took() {
    let mut sim = share();
    sim.advance(Duration::from_secs(1));
    let number = sim.plain();
    let since = sim.now;
    sim.session.note_carrier(AttachmentNumber::new(number), Carrier::Pipe);
    sim.advance(Duration::from_secs(2));
    sim.send_range(0..1);
    sim.out(number);
    assert_eq!(round_trip(&sim), None, "no ping is answered yet");
    // Then the session asks what the plain client has.
    sim.advance(Duration::from_secs(1));
    sim.out(number);
    sim.advance(Duration::from_millis(70));
    sim.pong(number);
    assert_eq!(round_trip(&sim), Some(Duration::from_millis(70)));
    let attendee = sim.session.attendees().next().unwrap();
    assert_eq!((attendee.since, attendee.carrier), (since, Carrier::Pipe));
    let mut other = sim.session.clone();
    other.note_carrier(AttachmentNumber::new(number), Carrier::Events);
    assert!(other == sim.session, "no rule reads it");
}

#[test]
fn a_pong_that_had_to_wait_to_be_read_tells_no_round_trip() {
    let mut sim = Sim::with(|rules| rules.bounds.inbox_messages = 1);
    let number = sim.plain();
    sim.send_range(0..1);
    sim.advance(Duration::from_secs(2));
    sim.out(number);
    assert!(sim.say(number, "x"));
    assert!(!sim.say(number, "y"));
    sim.advance(Duration::from_secs(5));
    sim.events();
    assert!(sim.say(number, "y"));
    sim.pong(number);
    assert_eq!(round_trip(&sim), None);
}
