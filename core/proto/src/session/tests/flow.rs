//! Inbound: acknowledgements, the inbox, the stand-off, liveness.

use super::*;

#[test]
fn an_ack_follows_64_messages_64_kib_half_the_window_or_250_ms() {
    for (window, bytes, messages, size, wait, expected) in [
        (256, 1 << 20, 63, 1, 249, None),
        (256, 1 << 20, 63, 1, 250, Some("ack 63")),
        (256, 1 << 20, 64, 1, 0, Some("ack 64")),
        (256, 1 << 20, 1, (64 << 10) - 1, 0, None),
        (256, 1 << 20, 1, 64 << 10, 0, Some("ack 1")),
        (10, 1 << 20, 4, 1, 0, None),
        (10, 1 << 20, 5, 1, 0, Some("ack 5")),
        (1, 1 << 20, 1, 1, 0, Some("ack 1")),
        (256, 100, 1, 49, 0, None),
        (256, 100, 1, 50, 0, Some("ack 1")),
        (256, 1 << 20, 0, 0, 29_999, None),
        (256, 1 << 20, 0, 0, 30_000, Some("hb 0")),
    ] {
        for durable in [false, true] {
            let mut sim = Sim::with(|rules| {
                rules.bounds.inbox_messages = window;
                rules.bounds.inbox_bytes = bytes;
                rules.durable_inbox = durable;
            });
            sim.fresh("a");
            sim.out(1);
            for _ in 0..messages {
                assert!(sim.say(1, &"x".repeat(size)));
            }
            assert_eq!(sim.out(1), Vec::<String>::new(), "accepted is not taken");
            sim.events();
            if durable {
                assert_eq!(sim.out(1), Vec::<String>::new(), "taken is not committed");
                sim.session.hand_back();
                sim.commit();
            }
            sim.write(1, Budget { messages: 0, bytes: 0 });
            sim.advance(MILLISECOND * wait);
            let row =
                format!("{messages} of {size} bytes in {window}/{bytes}, {wait} ms, {durable}");
            let ack = sim.out(1).into_iter().find(|line| !line.starts_with("ping"));
            assert_eq!(ack.as_deref(), expected, "{row}");
        }
    }
}

#[test]
fn what_is_in_hand_is_taken_but_not_handled() {
    let mut sim = Sim::with(|rules| {
        rules.durable_inbox = true;
        rules.bounds.inbox_messages = 1;
    });
    sim.fresh("a");
    sim.out(1);
    assert!(sim.say(1, "x"));
    sim.event();
    assert_eq!(sim.event().as_deref(), Some("a:x"));
    assert!(sim.session.is_message_in_hand());
    sim.session.hand_back();
    assert_eq!(sim.out(1), Vec::<String>::new(), "handled is not committed");
    sim.commit();
    assert_eq!(sim.out(1), ["ack 1"]);
}

#[test]
fn a_heartbeat_carries_the_count() {
    let mut sim = Sim::new();
    sim.fresh("a");
    assert!(sim.say(1, "x"));
    sim.events();
    sim.advance(HEARTBEAT);
    assert_eq!(sim.out(1)[1..], ["ack 1", "hb 1", "ping @0"]);
    sim.pong(1);
    sim.advance(HEARTBEAT);
    assert_eq!(sim.out(1), ["hb 1", "ping @0"]);
}

#[test]
fn who_asks_is_answered_at_once_with_the_count() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.out(1);
    assert!(sim.say(1, "x"));
    let ping = || Incoming::Text("\u{1}{\"ping\":true}".into());
    assert!(matches!(sim.frame(1, ping()), Reception::Done));
    assert_eq!(sim.out(1), ["hb 0"], "the handler has not taken it");
    assert_eq!(sim.out(1), Vec::<String>::new(), "once");
    sim.events();
    assert!(matches!(sim.frame(1, ping()), Reception::Done));
    assert!(matches!(sim.frame(1, ping()), Reception::Done));
    assert_eq!(sim.out(1), ["hb 1"], "two questions, one answer");
    let not = Incoming::Text("\u{1}{\"ping\":false}".into());
    assert!(matches!(sim.frame(1, not), Reception::Done));
    assert_eq!(sim.out(1), Vec::<String>::new());
}

/// The client lets go of a message only on an ack, and may have missed the last one.
#[test]
fn a_new_transport_is_told_the_count_at_once() {
    let mut sim = Sim::new();
    sim.fresh("a");
    for _ in 0..3 {
        assert!(sim.say(1, "x"));
    }
    sim.event();
    sim.event();
    sim.resume("a", 0);
    assert_eq!(sim.out(2), ["hello resumed from 0 received 3", "ack 1"]);
    sim.events();
    sim.advance(MILLISECOND * 250);
    assert_eq!(sim.out(2), ["ack 3"], "also what was accepted before the hello");
}

#[test]
fn an_ack_of_what_was_never_sent_is_a_protocol_error() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send_range(0..3);
    let two = Budget { messages: 2, bytes: usize::MAX };
    sim.out_within(1, two);
    sim.ack(1, 2);
    sim.ack(1, 1);
    sim.ack(1, 3);
    assert_eq!(sim.out(1), ["close 4103 protocol error: acknowledged more than was sent"]);
    sim.resume("a", 2);
    assert_eq!(sim.data(2), ["m2"], "the session lives on");
}

#[test]
fn broken_control_frames_end_the_transport_alone() {
    for text in
        ["\u{1}x", "\u{1}", "\u{1}{", "\u{1}{\"ack\":\"1\"}", "\u{1}{\"ack\":9007199254740992}"]
    {
        let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
        sim.fresh("a");
        sim.fresh("b");
        sim.out(1);
        assert!(sim.say(1, text));
        assert!(sim.out(1)[0].starts_with("close 4103 protocol error"), "{text:?}");
        assert_eq!(sim.session.transports(), 1);
        assert_eq!(sim.session.ended(), None);
    }
}

#[test]
fn the_mark_is_data_on_a_plain_transport_and_escaped_on_a_resumable_one() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.plain();
    sim.fresh("a");
    sim.send("\u{1}{").unwrap();
    assert_eq!(sim.out(1), ["\u{1}{"]);
    assert_eq!(sim.out(2)[1..], ["\u{1}\u{1}{"]);
    assert!(sim.say(1, "\u{1}{"));
    assert!(sim.say(2, "\u{1}\u{1}{"));
    let _ = sim.frame(2, Incoming::Binary("\u{1}{".into()));
    assert_eq!(sim.messages(), ["plain:\u{1}{", "a:\u{1}{", "a:binary"]);
}

// The inbox.

/// A client that keeps to its window never finds the inbox full.
#[test]
fn the_window_is_what_the_inbox_holds() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.inbox_messages = 4;
        rules.bounds.inbox_bytes = 400;
    });
    sim.fresh("a");
    for _ in 0..4 {
        assert!(sim.say(1, &"x".repeat(100)));
    }
    assert!(!sim.say(1, ""));
}

#[test]
fn every_client_has_its_own_quota() {
    let mut sim = Sim::with(|rules| {
        rules.attach = Attach::Share;
        rules.bounds.inbox_messages = 1;
    });
    sim.fresh("a");
    sim.fresh("b");
    assert!(sim.say(1, "x"));
    assert!(!sim.say(1, "y"));
    assert!(sim.say(2, "z"));
    assert_eq!(sim.messages(), ["a:x", "b:z"]);
}

#[test]
fn any_message_is_let_into_an_empty_inbox() {
    let mut sim = Sim::with(|rules| rules.bounds.inbox_bytes = 10);
    sim.fresh("a");
    assert!(sim.say(1, &"x".repeat(100)));
    assert!(!sim.say(1, "y"));
}

#[test]
fn a_frame_that_found_no_room_comes_back_unchanged_and_once() {
    for (who, text) in [("a", "\u{1}\u{1}x"), ("a", "x"), ("plain", "\u{1}\u{1}x")] {
        let mut sim = Sim::with(|rules| rules.bounds.inbox_messages = 1);
        sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
        assert!(sim.say(1, "first"));
        let Reception::Full(frame) = sim.frame(1, Incoming::Text(text.into())) else { panic!() };
        assert_eq!(frame, Incoming::Text(text.into()));
        let _ = sim.session.take_wake();
        assert_eq!(sim.event(), Some(format!("+{who}")));
        assert_eq!(sim.event(), Some(format!("{who}:first")));
        assert!(sim.session.take_wake().transports, "there is room again");
        assert!(matches!(sim.frame(1, frame), Reception::Done));
        assert_eq!(sim.messages().len(), 1);
    }
}

/// The pong is behind data that the session does not read.
#[test]
fn the_pong_deadline_waits_while_reading_has_stopped() {
    let mut sim = Sim::with(|rules| rules.bounds.inbox_messages = 1);
    sim.session.start_handler(sim.now);
    sim.plain();
    assert!(sim.say(1, "x"));
    sim.advance(HEARTBEAT);
    assert!(!sim.say(1, "y"));
    sim.advance(HEARTBEAT * 10);
    assert_eq!(sim.session.transports(), 1);
    sim.events();
    assert!(sim.say(1, "y"));
    sim.advance(60 * SECOND - MILLISECOND);
    assert_eq!(sim.session.transports(), 1, "a whole deadline from now on");
    sim.advance(MILLISECOND);
    assert_eq!(sim.session.transports(), 0);
}

/// A peer of which nothing is read may be gone: it does not hold the session for ever.
#[test]
fn reading_does_not_stop_for_ever() {
    for (who, code) in [("a", 4113), ("plain", 1013)] {
        for (handler, patience) in [
            ("never comes to receive", 3600 * SECOND),
            ("works on a message", 3600 * SECOND),
            ("does other things", 120 * SECOND),
        ] {
            let row = format!("{who}, a handler that {handler}");
            let mut sim = Sim::with(|rules| rules.bounds.inbox_messages = 1);
            sim.session.start_handler(sim.now);
            sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
            sim.out(1);
            assert!(sim.say(1, "x"));
            if handler == "works on a message" {
                sim.event();
                sim.event();
                assert!(sim.session.is_message_in_hand());
                assert!(sim.say(1, "y"));
            }
            assert!(!sim.say(1, "z"), "{row}");
            let waits = sim.now;
            if handler == "does other things" {
                sim.advance(SECOND);
                let _ = sim.session.take_wake();
                assert_eq!(sim.event(), Some(format!("+{who}")), "{row}");
                assert!(sim.session.take_wake().transports, "{row}: the deadline has changed");
            }
            let pass = |sim: &mut Sim, until: Moment| {
                while sim.now < until {
                    sim.advance(HEARTBEAT.min(until.since(sim.now)));
                }
            };
            pass(&mut sim, waits + patience - MILLISECOND);
            assert_eq!(sim.session.transports(), 1, "{row}");
            sim.advance(MILLISECOND);
            assert_eq!(sim.session.transports(), 0, "{row}");
            let closed = sim.out(1).last().unwrap().clone();
            assert_eq!(closed, format!("close {code} try again later"), "{row}");
        }
    }
}

/// While the handler waits for room and a client for the handler.
#[test]
fn a_stand_off_is_resolved() {
    for (who, first) in [("a", "pause"), ("a", "wait"), ("plain", "pause"), ("plain", "wait")] {
        let row = format!("{who}, first {first}");
        let mut sim = Sim::with(|rules| {
            rules.bounds.inbox_messages = 1;
            rules.bounds.outbox_messages = 2;
        });
        sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
        sim.send_range(0..2);
        sim.out(1);
        assert!(sim.say(1, "x"));
        let pause = |sim: &mut Sim| sim.say(1, "y");
        if first == "pause" {
            assert!(!pause(&mut sim), "{row}");
            assert!(sim.is_full(), "{row}");
            sim.session.send_waits(sim.now);
        } else {
            assert!(sim.is_full(), "{row}");
            sim.session.send_waits(sim.now);
            assert_eq!(pause(&mut sim), who == "a", "{row}");
        }
        if who == "a" {
            assert_eq!(sim.out(1), ["close 4113 try again later"], "{row}");
            sim.resume("a", 2);
        } else {
            assert_eq!(sim.session.transports(), 1, "{row}");
        }
        assert!(sim.session.take_wake().room, "{row}");
        assert!(!sim.is_full(), "{row}");
    }
}

#[test]
fn in_a_stand_off_what_is_written_later_is_confirmed_too() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.inbox_messages = 1;
        rules.bounds.outbox_messages = 2;
    });
    sim.plain();
    sim.send_range(0..2);
    assert!(sim.say(1, "x"));
    sim.session.send_waits(sim.now);
    assert!(!sim.say(1, "y"));
    assert!(sim.is_full());
    let _ = sim.session.take_wake();
    sim.out(1);
    assert!(sim.session.take_wake().room);
    assert!(!sim.is_full());
}

/// The window would stay shut: the pong that opens it is behind data that the session does not read.
#[test]
fn a_stand_off_opens_the_window() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.inbox_messages = 1;
        rules.bounds.outbox_messages = 300;
    });
    sim.plain();
    sim.send_range(0..300);
    assert_eq!(sim.out(1).len(), 129, "64, a ping, and 64 beyond it");
    assert!(sim.say(1, "x"));
    assert!(!sim.say(1, "y"));
    assert!(sim.is_full());
    sim.session.send_waits(sim.now);
    assert!(sim.session.take_wake().transports, "there is more to write");
    assert_eq!(sim.session.outbox_messages(), 172);
    let stale = sim.pings.remove(&1).unwrap();
    assert!(sim.out(1).contains(&"m128".to_owned()));
    for _ in 0..3 {
        sim.out(1);
    }
    assert_eq!(sim.session.outbox_messages(), 0, "all is written, and so confirmed");
    sim.session.send_goes_on();
    sim.events();
    assert!(sim.say(1, "y"));
    // The pongs that come now are of pings that count as answered.
    let _ = sim.frame(1, Incoming::Pong(stale.to_vec().into()));
    sim.send_range(300..302);
    assert_eq!(sim.data(1), ["m300", "m301"]);
    assert_eq!(sim.session.outbox_messages(), 2);
}

/// Some stacks end a connection with more than 60 pings to answer.
#[test]
fn pings_that_nobody_can_answer_do_not_pile_up() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.inbox_messages = 1;
        rules.bounds.outbox_messages = 2;
    });
    sim.session.start_handler(sim.now);
    sim.plain();
    assert!(sim.say(1, "x"));
    assert!(!sim.say(1, "y"));
    let mut pings = 0;
    let pinged = |out: Vec<String>| out.iter().filter(|line| line.starts_with("ping")).count();
    for i in 0..200 {
        if sim.is_full() {
            sim.session.send_waits(sim.now);
            pings += pinged(sim.out(1));
            sim.session.send_goes_on();
        }
        sim.send_range(i..i + 1);
        pings += pinged(sim.out(1));
    }
    assert!((10..=33).contains(&pings), "{pings} pings");
    sim.events();
    assert!(sim.say(1, "y"));
    sim.advance(SECOND);
    assert_eq!(pinged(sim.out(1)), 1, "they begin again with reading");
}

// Liveness.

#[test]
fn a_ping_goes_out_every_heartbeat_and_must_be_answered() {
    for (who, timeout, code) in [("a", 20, 4113), ("plain", 60, 1013)] {
        let mut sim = Sim::new();
        sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
        for _ in 0..100 {
            sim.advance(HEARTBEAT);
            assert!(sim.out(1).contains(&"ping @0".to_owned()));
            sim.pong(1);
        }
        sim.advance(HEARTBEAT);
        sim.out(1);
        sim.advance(timeout * SECOND - MILLISECOND);
        assert_eq!(sim.session.transports(), 1);
        sim.out(1);
        sim.advance(MILLISECOND);
        assert_eq!(sim.out(1), [format!("close {code} try again later")]);
    }
}

/// No pings and no deadline; what a client is told every heartbeat stays, and so does what a plain transport
/// confirms by.
#[test]
fn a_heartbeat_that_is_off_pings_nobody() {
    let off = || Sim::with(|rules| rules.pings = false);
    let mut sim = off();
    sim.fresh("a");
    sim.out(1);
    for _ in 0..10 {
        sim.advance(HEARTBEAT);
        assert_eq!(sim.out(1), ["hb 0"]);
        assert_eq!(sim.session.poll_blocked_timeout(AttachmentNumber::new(1)), None);
    }
    let mut sim = off();
    sim.plain();
    sim.advance(HEARTBEAT * 10);
    assert_eq!(sim.out(1), Vec::<String>::new());
    sim.send_range(0..1);
    sim.out(1);
    sim.advance(SECOND);
    assert_eq!(sim.out(1), ["ping @1"]);
    sim.pong(1);
    assert_eq!(sim.session.outbox_messages(), 0);
    sim.send_range(1..2);
    sim.out(1);
    sim.advance(61 * SECOND);
    assert_eq!(sim.out(1), ["ping @2", "close 1013 try again later"]);
}

/// A frozen tab answers pings and acknowledges nothing.
#[test]
fn a_client_that_owes_an_ack_and_says_nothing_is_closed() {
    let limit = HEARTBEAT * 5 / 2;
    for (says, closed) in [("nothing", true), ("ack", false), ("data", false), ("old ack", false)] {
        let mut sim = Sim::new();
        sim.fresh("a");
        sim.out(1);
        sim.send_range(0..1);
        let mut left = limit - MILLISECOND;
        let step = |sim: &mut Sim, by: Duration| {
            sim.advance(by);
            sim.out(1);
            if sim.pings.contains_key(&1) && sim.session.transports() == 1 {
                sim.pong(1);
            }
        };
        sim.out(1);
        while left > Duration::ZERO {
            let by = left.min(HEARTBEAT);
            step(&mut sim, by);
            left -= by;
        }
        assert_eq!(sim.session.transports(), 1);
        match says {
            "ack" => sim.ack(1, 1),
            "old ack" => sim.ack(1, 0),
            "data" => assert!(sim.say(1, "x")),
            _ => {}
        }
        step(&mut sim, MILLISECOND);
        assert_eq!(sim.session.transports(), usize::from(!closed), "{says}");
    }
}

#[test]
fn a_client_that_owes_nothing_may_be_silent() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.send_range(0..1);
    sim.out(1);
    sim.ack(1, 1);
    for _ in 0..20 {
        sim.advance(HEARTBEAT);
        sim.out(1);
        sim.pong(1);
    }
    assert_eq!(sim.session.transports(), 1);
}

#[test]
fn a_client_may_offer_its_state() {
    let mut sim = Sim::new();
    sim.fresh("a");
    let text = "\u{1}{\"state\":{\"iteration\":3,\"updated\":5,\"value\":{\"total\":1}}}";
    let Reception::State(offer) = sim.frame(1, Incoming::Text(text.into())) else { panic!() };
    assert_eq!((offer.iteration, offer.value.get()), (3, "{\"total\":1}"));
}

#[test]
fn a_frozen_session_does_nothing() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.out(1);
    assert!(sim.say(1, "x"));
    sim.session.freeze();
    assert!(!sim.say(1, "y"));
    assert!(sim.is_full());
    assert_eq!(sim.events(), Vec::<String>::new());
    sim.advance(HEARTBEAT / 2);
    assert_eq!(sim.out(1), Vec::<String>::new());
}

/// Else a client would take the connection for dead after 2.5 heartbeats.
#[test]
fn a_frozen_session_goes_on_with_its_heartbeat() {
    let mut sim = Sim::with(|rules| (rules.attach, rules.durable_inbox) = (Attach::Share, true));
    for who in ["a", "b"] {
        sim.fresh(who);
    }
    sim.plain();
    sim.out(1);
    sim.out(3);
    assert!(sim.say(1, "x"));
    sim.take_one();
    assert_eq!(sim.event(), None, "handled");
    sim.commit();
    assert!(sim.say(1, "y"));
    sim.take_one();
    sim.send_range(0..1);
    sim.session.freeze();
    for _ in 0..3 {
        let next = sim.session.poll_transport_timeout(AttachmentNumber::new(1));
        assert!(next.is_some_and(|next| next <= sim.now + HEARTBEAT));
        sim.advance(HEARTBEAT);
        assert_eq!(sim.out(1), ["hb 1"], "what is committed, and nothing else");
        assert_eq!(sim.out(1), Vec::<String>::new(), "once in a heartbeat");
        assert_eq!(sim.out(2), Vec::<String>::new(), "nothing before the hello");
        assert_eq!(sim.out(3), Vec::<String>::new(), "a plain client is not told of heartbeats");
    }
    for number in [2, 3] {
        assert_eq!(sim.session.poll_transport_timeout(AttachmentNumber::new(number)), None);
    }
}

/// A peer cannot answer a session that reads nothing: when the session goes on, every deadline begins anew.
#[test]
fn a_session_that_thaws_gives_transports_their_time_again() {
    for is_plain in [false, true] {
        let mut sim = Sim::new();
        if is_plain {
            sim.plain();
        } else {
            sim.fresh("a");
        }
        sim.out(1);
        sim.send_range(0..1);
        sim.out(1);
        sim.advance(HEARTBEAT);
        sim.out(1);
        sim.session.freeze();
        sim.advance(HEARTBEAT * 20);
        sim.session.thaw(sim.now);
        sim.session.handle_transport_timeout(AttachmentNumber::new(1), sim.now);
        assert_eq!(sim.session.transports(), 1, "plain: {is_plain}");
        // Not for ever.
        sim.advance(HEARTBEAT * 20);
        sim.session.handle_transport_timeout(AttachmentNumber::new(1), sim.now);
        assert_eq!(sim.session.transports(), 0, "plain: {is_plain}");
    }
}

/// Three at once, and then two in a second.
fn paced() -> Sim {
    let (per_second, burst) = (NonZeroU32::new(2).unwrap(), NonZeroU32::new(3).unwrap());
    Sim::with(|rules| rules.bounds.pace = Some(Pace { per_second, burst }))
}

#[test]
fn a_client_that_sends_too_fast_is_read_again_when_its_time_has_come() {
    for who in ["a", "plain"] {
        let mut sim = paced();
        sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
        for text in ["1", "2", "3"] {
            assert!(sim.say(1, text));
        }
        let frame = Incoming::Text("4".into());
        let Reception::TooFast { frame, is_news: true } = sim.frame(1, frame) else { panic!() };
        assert_eq!(frame, Incoming::Text("4".into()));
        let at = sim.session.poll_transport_timeout(AttachmentNumber::new(1)).unwrap();
        assert_eq!(at.since(sim.now), Duration::from_millis(500));
        sim.advance(Duration::from_millis(499));
        let Reception::TooFast { frame, is_news: false } = sim.frame(1, frame) else { panic!() };
        sim.advance(Duration::from_millis(1));
        assert!(matches!(sim.frame(1, frame), Reception::Done));
        assert!(!sim.say(1, "5"), "one at a time, at an even pace");
        // After a silence there may be several at once again, and no more than before.
        sim.advance(Duration::from_secs(4));
        for text in ["5", "6", "7"] {
            assert!(sim.say(1, text));
        }
        assert!(!sim.say(1, "8"));
        assert_eq!(sim.messages().len(), 7, "nothing is lost");
    }
}

#[test]
fn a_client_cannot_outrun_its_pace_by_coming_again() {
    let mut sim = paced();
    sim.fresh("a");
    for text in ["1", "2", "3"] {
        assert!(sim.say(1, text));
    }
    sim.detach(1);
    let again = sim.resume("a", 0);
    assert!(!sim.say(again, "4"));
    let other = sim.fresh("b");
    assert!(sim.say(other, "1"), "another client has a pace of its own");
}

/// What its client has to answer is behind what is not read.
#[test]
fn a_client_that_is_slowed_down_is_not_taken_for_dead() {
    for who in ["a", "plain"] {
        let mut sim = paced();
        sim.offer(who, if who == "a" { Claim::Fresh } else { Claim::Plain }).unwrap();
        let mut sent = 0;
        let end = sim.now + 10 * sim.session.rules().heartbeat;
        while sim.now < end {
            let at_once = (0..=3).take_while(|_| sim.say(1, "x")).count();
            assert!(at_once <= 3, "{who}");
            sent += at_once;
            sim.messages();
            let due = sim.session.poll_transport_timeout(AttachmentNumber::new(1)).unwrap();
            sim.advance(due.since(sim.now));
            sim.out(1);
        }
        assert_eq!(sim.session.transports(), 1, "{who}");
        assert!(sent > 500, "{sent}");
    }
}
