//! Which transport gets the session: takeover, share, refuse, taken over, stale, limits.

use super::*;

const TAKEOVER: Attach = Attach::Takeover;
const SHARE: Attach = Attach::Share;
const REFUSE: Attach = Attach::Refuse;

fn sim(attach: Attach) -> Sim {
    Sim::with(|rules| rules.attach = attach)
}

/// What becomes of a first transport when a second one comes.
#[test]
fn the_second_transport_meets_the_first() {
    let replaced = Some("close 4100 replaced");
    let superseded = Some("close 4100 superseded");
    for (attach, first, second, closed, refused) in [
        (TAKEOVER, "a", "a", replaced, false),
        (TAKEOVER, "a", "b", superseded, false),
        (TAKEOVER, "a", "plain", superseded, false),
        (TAKEOVER, "plain", "a", superseded, false),
        (TAKEOVER, "plain", "plain", replaced, false),
        (SHARE, "a", "a", replaced, false),
        (SHARE, "a", "b", None, false),
        (SHARE, "a", "plain", None, false),
        (SHARE, "plain", "a", None, false),
        (SHARE, "plain", "plain", None, false),
        (REFUSE, "a", "a", replaced, false),
        (REFUSE, "a", "b", None, true),
        (REFUSE, "a", "plain", None, true),
        (REFUSE, "plain", "a", None, true),
        (REFUSE, "plain", "plain", replaced, false),
    ] {
        let row = format!("{attach:?}: {first} then {second}");
        let mut sim = sim(attach);
        let claim = |who: &str| if who == "plain" { Claim::Plain } else { Claim::Fresh };
        assert_eq!(sim.offer(first, claim(first)), Ok(1), "{row}");
        sim.out(1);
        let answer = sim.offer(second, claim(second));
        assert_eq!(answer, if refused { Err("4101 refused".to_owned()) } else { Ok(2) }, "{row}");
        assert_eq!(sim.out(1).first().map(String::as_str), closed, "{row}");
        assert_eq!(sim.out(1), Vec::<String>::new(), "nothing follows a close: {row}");
        let attached = if closed.is_none() && !refused { 2 } else { 1 };
        assert_eq!(sim.session.transports(), attached, "{row}");
    }
}

#[test]
fn news_of_an_older_turn_changes_nothing() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.send_range(0..2);
    sim.out(1);
    sim.fresh("b");
    sim.out(2);
    sim.session.handle_close_answered(AttachmentNumber::new(2));
    let before = format!("{:?}", sim.session);
    assert!(sim.say(1, "late data"));
    sim.ack(1, 2);
    assert!(sim.say(1, "\u{1}nonsense"));
    for number in [1, 3] {
        let number = AttachmentNumber::new(number);
        let late = sim.now + HEARTBEAT * 10;
        sim.session.handle_transport_timeout(number, late);
        assert_eq!(sim.session.poll_transport_timeout(number), None);
    }
    assert_eq!(format!("{:?}", sim.session), before);
    sim.detach(1);
    sim.detach(1);
    assert_eq!(sim.session.transports(), 1);
    assert_eq!(sim.events(), ["+b"], "a's pair was never seen");
}

#[test]
fn a_client_taken_over_comes_back_only_after_it_has_been_told() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.out(1);
    sim.fresh("b");
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".to_owned()));
    sim.close_answered(1);
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".to_owned()), "close not yet said");
    assert_eq!(sim.out(1), ["close 4100 superseded"]);
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".to_owned()), "not yet answered");
    assert_eq!(sim.session.transports(), 1);
    sim.close_answered(1);
    assert_eq!(sim.resume("a", 0), 3);
}

#[test]
fn a_client_that_was_told_stays_told_when_a_third_takes_over() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.fresh("b");
    sim.out(1);
    sim.close_answered(1);
    sim.fresh("c");
    assert_eq!(sim.resume("a", 0), 4);
}

#[test]
fn a_client_whose_transport_was_lost_is_told_by_the_refusal() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.detach(1);
    sim.fresh("b");
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".to_owned()));
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".to_owned()));
    let seen = sim.session.newest_attachment();
    sim.session.handle_refusal_answered(name("a"), seen);
    assert_eq!(sim.resume("a", 0), 3);
}

#[test]
fn a_late_answer_to_an_older_4100_does_not_answer_a_newer_one() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.fresh("b");
    sim.out(1);
    let seen = sim.session.newest_attachment();
    sim.fresh("a");
    sim.fresh("c");
    sim.close_answered(1);
    sim.session.handle_refusal_answered(name("a"), seen);
    assert_eq!(sim.offer("a", at(0)), Err("4100 superseded".to_owned()));
}

#[test]
fn a_cursor_of_another_session_does_not_undo_a_takeover_either() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.fresh("b");
    let lost = Claim::Lost { received: Position::new(3) };
    assert_eq!(sim.offer("a", lost), Err("4100 superseded".to_owned()));
    assert_eq!(sim.offer("a", Claim::Fresh), Ok(3), "a fresh offer is a deed of the user");
}

#[test]
fn a_client_that_is_gone_is_taken_over_too() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.send_range(0..3);
    sim.detach(1);
    sim.fresh("b");
    assert_eq!(sim.data(2), ["m0", "m1", "m2"]);
    sim.ack(2, 3);
    assert_eq!(sim.session.outbox_messages(), 0, "nothing is kept for a");
}

/// The newest attachment on which a frame of the client has arrived decides, not the newest one.
#[test]
fn an_offer_from_before_the_present_holder_is_stale() {
    for (attachment, frame_on_third, expected) in [
        (Some(1), false, Ok(4)),
        (Some(2), false, Ok(4)),
        (Some(1), true, Err("4113 stale".to_owned())),
        (Some(2), true, Err("4113 stale".to_owned())),
        (Some(3), true, Ok(4)),
        (Some(9), true, Ok(4)),
        (None, true, Ok(4)),
    ] {
        let mut sim = sim(TAKEOVER);
        for _ in 0..3 {
            let number = sim.fresh("a");
            sim.out(number);
        }
        if frame_on_third {
            sim.ack(3, 0);
        }
        let claim = Claim::Cursor {
            epoch: epoch(),
            received: Position::ZERO,
            attachment: attachment.map(AttachmentNumber::new),
        };
        let answer = sim.offer("a", claim);
        assert_eq!(answer, expected, "n {attachment:?}, frame {frame_on_third}");
        assert_eq!(sim.session.transports(), 1);
        assert_eq!(sim.out(3).is_empty(), expected.is_err(), "a stale offer supersedes nothing");
    }
}

#[test]
fn pings_and_pongs_are_no_frames_of_a_holder() {
    let mut sim = sim(TAKEOVER);
    sim.fresh("a");
    sim.resume("a", 0);
    sim.advance(HEARTBEAT);
    sim.pong(2);
    let _ = sim.frame(2, Incoming::Ping);
    assert!(sim.offer("a", at_n(0, 1)).is_ok());
}

#[test]
fn a_cursor_above_the_head_is_a_protocol_error() {
    let refused = Err("4103 protocol error: cursor above the head of its epoch".to_owned());
    let other = Epoch::new(8, 1).token();
    let older = WireId::parse("0000000000000007-0000000000000009").unwrap();
    let above = Position::new(u64::MAX);
    let cursor = |epoch, received| Claim::Cursor { epoch, received, attachment: None };
    for (claim, expected) in [
        (at(2), Ok(2)),
        (at(3), refused.clone()),
        (cursor(other, Position::new(3)), Ok(2)),
        (cursor(older, Position::new(3)), Ok(2)),
        (cursor(other, above), refused.clone()),
        (Claim::Lost { received: Position::new(3) }, Ok(2)),
        (Claim::Lost { received: above }, refused),
    ] {
        let mut sim = sim(TAKEOVER);
        sim.fresh("a");
        sim.send_range(0..2);
        assert_eq!(sim.offer("b", claim.clone()), expected, "{claim:?}");
        assert_eq!(sim.session.transports(), 1);
    }
}

#[test]
fn a_silent_holder_is_probed_and_gives_way() {
    let mut sim = sim(REFUSE);
    sim.fresh("a");
    sim.out(1);
    sim.now = sim.now + HEARTBEAT - MILLISECOND;
    assert_eq!(sim.offer("b", Claim::Fresh), Err("4101 refused".to_owned()));
    sim.now = sim.now + MILLISECOND;
    let _ = sim.session.take_wake();
    assert_eq!(sim.offer("b", Claim::Fresh), Err("4113 try again later retry 2s".to_owned()));
    assert!(sim.session.take_wake().transports);
    assert_eq!(sim.out(1), ["hb 0", "ping @0"]);
    sim.advance(2 * SECOND - MILLISECOND);
    assert_eq!(sim.session.transports(), 1);
    sim.advance(MILLISECOND);
    assert_eq!(sim.out(1), ["close 4113 try again later"]);
    assert_eq!(sim.offer("b", Claim::Fresh), Ok(2));
}

#[test]
fn a_probe_shortens_the_deadline_of_a_ping_that_is_out_already() {
    let mut sim = sim(REFUSE);
    sim.fresh("a");
    sim.out(1);
    sim.advance(HEARTBEAT);
    assert_eq!(sim.out(1), ["hb 0", "ping @0"]);
    assert!(sim.offer("b", Claim::Fresh).unwrap_err().starts_with("4113"));
    sim.advance(SECOND);
    assert!(sim.offer("b", Claim::Fresh).unwrap_err().starts_with("4113"), "and not longer again");
    sim.advance(SECOND);
    assert_eq!(sim.session.transports(), 0);
}

#[test]
fn a_holder_that_cannot_be_written_to_gives_way_as_soon() {
    let mut sim = sim(REFUSE);
    sim.fresh("a");
    sim.out(1);
    sim.now = sim.now + HEARTBEAT;
    assert!(sim.offer("b", Claim::Fresh).unwrap_err().starts_with("4113"));
    // Its socket is full, so that nothing is taken from the machine any more.
    let a = AttachmentNumber::new(1);
    assert_eq!(sim.session.poll_blocked_timeout(a), Some(sim.now + 2 * SECOND));
    sim.now = sim.now + 2 * SECOND;
    sim.session.handle_transport_timeout(a, sim.now);
    assert_eq!(sim.offer("b", Claim::Fresh), Ok(2));
}

/// Any frame shows that a plain holder is there. From a holder that acknowledges only an acknowledgement
/// counts: a client that never takes a message and keeps everybody out sends other frames, too.
#[test]
fn a_holder_that_answers_the_probe_stays() {
    for (who, answer, stays) in [
        ("a", "ack", true),
        ("a", "pong", false),
        ("a", "data", false),
        ("plain", "pong", true),
        ("plain", "data", true),
        ("plain", "nothing", false),
    ] {
        let row = format!("{who}, {answer}");
        let mut sim = sim(REFUSE);
        sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
        sim.out(1);
        sim.now = sim.now + HEARTBEAT;
        let retry = Err("4113 try again later retry 2s".to_owned());
        assert_eq!(sim.offer("b", Claim::Fresh), retry, "{row}");
        sim.out(1);
        if answer != "nothing" {
            sim.pong(1);
        }
        match answer {
            "ack" => sim.ack(1, 0),
            "data" => assert!(sim.say(1, "x")),
            _ => {}
        }
        let told = if stays { Err("4101 refused".to_owned()) } else { retry };
        if answer != "nothing" {
            assert_eq!(sim.offer("b", Claim::Fresh), told, "{row}");
        }
        sim.advance(2 * SECOND);
        assert_eq!(sim.session.transports(), usize::from(stays), "{row}");
        if !stays {
            let closed = sim.out(1).last().unwrap().clone();
            let code = if who == "a" { 4113 } else { 1013 };
            assert_eq!(closed, format!("close {code} try again later"), "{row}");
            assert_eq!(sim.offer("b", Claim::Fresh), Ok(2), "{row}");
        }
    }
}

/// A holder that has been told nothing yet cannot acknowledge.
#[test]
fn a_holder_whose_hello_waits_for_the_store_is_not_silent_for_that() {
    let mut sim = Sim::with(|rules| {
        rules.attach = REFUSE;
        rules.durable_outbox = true;
        rules.durable_inbox = true;
    });
    sim.fresh("a");
    sim.advance(HEARTBEAT);
    assert_eq!(sim.out(1), ["ping @0"]);
    sim.pong(1);
    assert_eq!(sim.offer("b", Claim::Fresh), Err("4101 refused".to_owned()));
    sim.advance(HEARTBEAT - MILLISECOND);
    sim.commit();
    assert!(sim.out(1)[0].starts_with("hello"));
    sim.advance(MILLISECOND);
    assert_eq!(sim.offer("b", Claim::Fresh), Err("4101 refused".to_owned()));
}

/// If as many clients as the limit allows are attached, another one is refused. A gone client is pushed out,
/// unless it has messages that are not handled.
#[test]
fn the_limit_of_clients() {
    let retry = Err("4113 try again later retry 30s".to_owned());
    for (attach, gone, unhandled, expected) in [
        (SHARE, false, false, retry.clone()),
        (SHARE, true, false, Ok(3)),
        (SHARE, true, true, retry.clone()),
        (TAKEOVER, false, false, Ok(3)),
        (TAKEOVER, true, false, Ok(3)),
    ] {
        let mut sim = Sim::with(|rules| {
            rules.attach = attach;
            rules.bounds.clients = 2;
        });
        sim.fresh("a");
        if unhandled {
            assert!(sim.say(1, "x"));
        }
        sim.fresh("b");
        if gone {
            sim.detach(1);
        }
        let row = format!("{attach:?} gone {gone} unhandled {unhandled}");
        assert_eq!(sim.offer("c", Claim::Fresh), expected, "{row}");
        assert!(sim.session.clients.iter().count() <= 2, "{row}");
    }
}

/// A client that is about to be superseded does not count against the limit.
#[test]
fn a_takeover_needs_no_room_of_its_own() {
    for (limit, busy) in [(1, false), (2, true)] {
        let mut sim = Sim::with(|rules| rules.bounds.clients = limit);
        if busy {
            let a = sim.fresh("a");
            assert!(sim.say(a, "x"));
            sim.detach(a);
        }
        let b = sim.fresh("b");
        let c = sim.fresh("c");
        assert_eq!(sim.out(b), ["close 4100 superseded"]);
        assert_eq!(sim.session.clients.iter().count(), limit);
        assert_eq!(sim.offer("d", Claim::Fresh), Ok(c + 1));
    }
}

/// Every record has messages that only the handler can free, and the handler waits for a client to read.
#[test]
fn one_more_is_let_in_where_only_a_reader_can_bring_the_handler_on() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.clients = 2;
        rules.bounds.outbox_messages = 1;
    });
    for who in ["a", "b"] {
        let number = sim.fresh(who);
        sim.ack(number, 0);
        assert!(sim.say(number, who));
        sim.detach(number);
    }
    let refused = Err("4113 try again later retry 30s".to_owned());
    assert_eq!(sim.offer("c", Claim::Fresh), refused, "the handler comes to them by itself");
    while sim.event().as_deref() != Some("a:a") {}
    sim.send_range(0..1);
    assert!(sim.is_full());
    sim.session.send_waits(sim.now);
    let c = sim.fresh("c");
    assert_eq!(sim.offer("d", Claim::Fresh), refused, "one, and not while it is there");
    sim.ack(c, 0);
    assert_eq!(sim.data(c), ["m0"]);
    sim.ack(c, 1);
    sim.session.send_goes_on();
    sim.send_range(1..2);
    assert_eq!(sim.messages(), ["b:b"]);
    sim.detach(c);
    sim.fresh("d");
    assert_eq!(sim.session.clients.iter().count(), 2);
}

#[test]
fn the_longest_gone_client_is_pushed_out_first() {
    let mut sim = Sim::with(|rules| {
        rules.attach = SHARE;
        rules.bounds.clients = 3;
    });
    for who in ["a", "b", "c"] {
        sim.fresh(who);
    }
    sim.detach(2);
    sim.detach(1);
    sim.fresh("d");
    let mut known: Vec<_> = sim.session.clients.iter().map(|client| client.who.info).collect();
    known.sort_unstable();
    assert_eq!(known, ["a", "c", "d"]);
}

#[test]
fn a_plain_transport_may_be_delayed_but_the_newest_wins() {
    let mut sim = sim(TAKEOVER);
    sim.plain();
    let mut delays = Vec::new();
    let mut circles = 0;
    for _ in 0..12 {
        sim.now = sim.now + sim.session.plain_delay(sim.now);
        let newest = sim.plain();
        circles += usize::from(sim.session.take_wake().circle);
        delays.push(sim.session.plain_delay(sim.now).as_secs());
        sim.detach(newest - 1);
        assert_eq!(sim.session.transports(), 1);
    }
    assert_eq!(delays, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(circles, 1, "one warning");
    sim.now = sim.now + Duration::from_secs(41);
    assert_eq!(sim.session.plain_delay(sim.now), Duration::ZERO);
}

#[test]
fn plain_transports_that_take_turns_slowly_are_not_delayed() {
    let mut sim = sim(TAKEOVER);
    for _ in 0..20 {
        sim.plain();
        sim.now = sim.now + 2 * SECOND + MILLISECOND;
        assert_eq!(sim.session.plain_delay(sim.now), Duration::ZERO);
    }
}

#[test]
fn named_clients_and_shared_plain_ones_are_never_delayed() {
    let mut named = sim(TAKEOVER);
    let mut shared = sim(SHARE);
    for _ in 0..10 {
        named.fresh("a");
        named.fresh("b");
        shared.plain();
        shared.detach(shared.session.newest_attachment().get());
    }
    assert_eq!(named.session.plain_delay(named.now), Duration::ZERO);
    assert_eq!(shared.session.plain_delay(shared.now), Duration::ZERO);
}

#[test]
fn a_first_offer_that_arrives_late_takes_nothing_from_its_client() {
    let mut sim = sim(SHARE);
    let a = sim.fresh("a");
    let b = sim.fresh("b");
    sim.send_range(0..3);
    assert_eq!(sim.data(a), ["m0", "m1", "m2"]);
    sim.out(b);
    sim.ack(b, 3);
    let late = sim.fresh("a");
    sim.detach(late);
    let again = sim.resume("a", 1);
    assert_eq!(sim.out(again)[0], "hello resumed from 1 received 0");
}

#[test]
fn a_gap_that_was_told_and_not_heard_keeps_its_cause() {
    let mut sim = Sim::with(|rules| {
        rules.attach = SHARE;
        rules.bounds.outbox_messages = 2;
    });
    let a = sim.fresh("a");
    let b = sim.fresh("b");
    sim.detach(a);
    sim.send_range(0..2);
    sim.out(b);
    sim.ack(b, 2);
    sim.send_range(2..3);
    for _ in 0..2 {
        let a = sim.resume("a", 0);
        assert_eq!(sim.out(a)[0], "hello resumed from 2 received 0 gap 0..2 overflow");
    }
    let (snapshot, _) = sim.session.snapshot(true);
    let rules = Arc::clone(sim.session.rules());
    sim.session =
        Session::restore(rules, snapshot, true, 2, Duration::ZERO, sim.now, |_| "restored");
    let a = sim.resume("a", 0);
    assert_eq!(sim.out(a)[0], "hello resumed from 2 received 0 gap 0..2 overflow");
}

#[test]
fn a_first_offer_that_arrives_late_does_not_make_a_forgotten_client_known() {
    let mut sim = Sim::with(|rules| {
        rules.attach = SHARE;
        rules.bounds.clients = 2;
    });
    let a = sim.fresh("a");
    sim.ack(a, 0);
    assert!(sim.say(a, "one"));
    sim.messages();
    sim.detach(a);
    for other in ["b", "c"] {
        let number = sim.fresh(other);
        sim.detach(number);
    }
    let late = sim.fresh("a");
    assert_eq!(sim.out(late)[0], "hello reused from 0 received 0");
    let again = sim.resume("a", 0);
    assert_eq!(sim.out(again)[0], "hello reused from 0 received null");
}
