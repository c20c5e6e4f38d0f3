//! Plain transports: pings as soft acknowledgements, cursors, `PlainAck`.

use super::*;

#[test]
fn a_ping_follows_64_messages_64_kib_or_a_second() {
    for (messages, size, wait, pinged) in [
        (63, 1, 999, None),
        (63, 1, 1000, Some("ping @63")),
        (64, 1, 0, Some("ping @64")),
        (1, (64 << 10) - 1, 0, None),
        (1, 64 << 10, 0, Some("ping @1")),
        (2, 32 << 10, 0, Some("ping @2")),
        (1, 0, 1000, Some("ping @1")),
        (0, 0, 29_999, None),
        (0, 0, 30_000, Some("ping @0")),
    ] {
        let mut sim = Sim::new();
        sim.plain();
        for _ in 0..messages {
            sim.send(&"x".repeat(size)).unwrap();
        }
        sim.write(1, Budget { messages: usize::MAX, bytes: usize::MAX });
        sim.advance(MILLISECOND * wait);
        let out = sim.out(1);
        let ping = out.iter().find(|line| line.starts_with("ping"));
        assert_eq!(ping.map(String::as_str), pinged, "{messages} of {size} bytes, {wait} ms");
        assert_eq!(out.len(), messages + usize::from(pinged.is_some()), "frames pass unmodified");
    }
}

/// A box that holds less than that must not stand still until the second is over.
#[test]
fn a_small_outbox_is_confirmed_by_halves() {
    let mut sim = Sim::with(|rules| rules.bounds.outbox_messages = 20);
    sim.plain();
    sim.send_range(0..9);
    assert!(!sim.out(1).iter().any(|line| line.starts_with("ping")));
    sim.send_range(9..10);
    assert_eq!(sim.out(1).last().unwrap(), "ping @10");
    let mut sim = Sim::with(|rules| rules.bounds.outbox_bytes = 1000);
    sim.plain();
    sim.send(&"x".repeat(500)).unwrap();
    assert_eq!(sim.out(1).last().unwrap(), "ping @1");
}

/// Frames prove life, as the pong may be queued behind them; but not for ever, and foreign pongs prove nothing.
#[test]
fn who_never_answers_pings_is_closed_at_last() {
    for (frame, closed_after) in [
        (None, 20),
        (Some(Incoming::Pong("junk".into())), 20),
        (Some(Incoming::Ping), 40),
        (Some(Incoming::Text("data".into())), 40),
    ] {
        let mut sim = Sim::new();
        sim.plain();
        sim.send_range(0..64);
        sim.out(1);
        let mut seconds = 0;
        while sim.session.transports() == 1 {
            sim.advance(SECOND);
            seconds += 1;
            if let Some(frame) = &frame {
                let _ = sim.session.handle_frame(AttachmentNumber::new(1), frame.clone(), sim.now);
            }
        }
        assert_eq!(seconds, closed_after, "{frame:?}");
    }
}

#[test]
fn one_ping_at_a_time_also_within_a_long_replay() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..200);
    let out = sim.out(1);
    assert_eq!(out[64], "ping @64");
    assert_eq!(out.len(), 201);
    sim.advance(5 * SECOND);
    assert_eq!(sim.out(1), Vec::<String>::new());
    let _ = sim.session.take_wake();
    sim.pong(1);
    assert!(sim.session.take_wake().transports, "the next ping is due");
    assert_eq!(sim.out(1), ["ping @200"]);
    assert_eq!(sim.session.outbox_messages(), 136);
    sim.pong(1);
    assert_eq!(sim.session.outbox_messages(), 0);
}

#[test]
fn only_the_pong_that_was_asked_for_confirms() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..64);
    sim.out(1);
    let asked = sim.pings[&1];
    let mut mark = asked;
    mark[0] = b'T';
    let mut nonce = asked;
    nonce[3] ^= 1;
    let mut position = asked;
    position[16] ^= 1;
    for foreign in [&b""[..], b"S", &mark, &nonce, &position, &[&asked[..], b"x"].concat()] {
        let _ = sim.frame(1, Incoming::Pong(foreign.to_vec().into()));
        assert_eq!(sim.session.outbox_messages(), 64, "{foreign:?}");
    }
    sim.pong(1);
    assert_eq!(sim.session.outbox_messages(), 0);
    let _ = sim.frame(1, Incoming::Pong(asked.to_vec().into()));
    assert_eq!(sim.session.transports(), 1, "a second answer is ignored, too");
}

#[test]
fn a_new_plain_transport_continues_after_the_last_confirmed() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..64);
    sim.out(1);
    sim.pong(1);
    sim.send_range(64..66);
    assert_eq!(sim.out(1), ["m64", "m65"]);
    sim.plain();
    assert_eq!(sim.out(2), ["m64", "m65"]);
    sim.advance(SECOND);
    assert_eq!(sim.out(2), ["ping @66"]);
}

#[test]
fn a_plain_transport_starts_at_the_checkpoint_if_that_is_smaller() {
    for (confirmed, expected) in [(false, vec!["m0", "cp", "m2"]), (true, vec!["cp", "m2"])] {
        let mut sim = Sim::new();
        sim.plain();
        sim.send_range(0..1);
        sim.session.send_checkpoint("cp".into(), sim.now).unwrap();
        sim.send_range(2..3);
        sim.out(1);
        sim.advance(SECOND);
        if confirmed {
            sim.pong(1);
        }
        sim.plain();
        assert_eq!(sim.out(2), expected);
    }
}

#[test]
fn a_margin_is_kept_and_sent_again() {
    let mut sim = Sim::with(|rules| rules.plain_ack = PlainAck::Margin(3));
    sim.plain();
    sim.send_range(0..64);
    sim.out(1);
    sim.pong(1);
    assert_eq!(sim.session.outbox_messages(), 3);
    sim.plain();
    assert_eq!(sim.out(2), ["m61", "m62", "m63"]);
    sim.advance(SECOND);
    sim.out(2);
    sim.pong(2);
    assert_eq!(sim.session.outbox_messages(), 3, "a margin larger than what was sent is no error");
}

#[test]
fn a_margin_that_fills_the_outbox_makes_way() {
    for bytes in [false, true] {
        let mut sim = Sim::with(|rules| {
            rules.plain_ack = PlainAck::Margin(if bytes { 3 } else { 64 });
            rules.bounds.outbox_messages = if bytes { 64 } else { 2 };
            rules.bounds.outbox_bytes = if bytes { 2 * (MESSAGE_OVERHEAD + 2) } else { 10_000 };
        });
        sim.plain();
        sim.send_range(0..2);
        assert_eq!(sim.out(1), ["m0", "ping @1", "m1"]);
        assert!(sim.is_full(), "nothing is confirmed yet");
        sim.session.send_waits(sim.now);
        sim.pong(1);
        assert_eq!(sim.out(1), ["ping @2"]);
        let _ = sim.session.take_wake();
        sim.pong(1);
        assert!(sim.session.take_wake().room);
        sim.session.send_goes_on();
        sim.send_range(2..4);
        assert_eq!(sim.out(1), ["m2", "ping @3", "m3"]);
        assert!(sim.is_full(), "what was not confirmed does not make way");
        // What is left of the margin is sent again.
        sim.plain();
        assert_eq!(sim.out(2), ["m2", "ping @3", "m3"]);
    }
}

#[test]
fn without_soft_acknowledgements_the_outbox_is_a_ring() {
    let mut sim = Sim::with(|rules| {
        rules.plain_ack = PlainAck::Off;
        rules.bounds.outbox_messages = 4;
    });
    sim.plain();
    sim.send_range(0..4);
    assert_eq!(sim.out(1).len(), 4);
    sim.send_range(4..6);
    sim.advance(HEARTBEAT * 3);
    assert_eq!(sim.out(1), ["m4", "m5"], "and no ping");
    assert_eq!(sim.session.outbox_messages(), 4);
    sim.plain();
    assert_eq!(sim.out(2), ["m2", "m3", "m4", "m5"], "all that is left");
}

#[test]
fn what_the_ring_has_not_written_is_not_dropped_but_waited_for() {
    let mut sim = Sim::with(|rules| {
        rules.plain_ack = PlainAck::Off;
        rules.bounds.outbox_messages = 2;
    });
    sim.plain();
    sim.send_range(0..2);
    assert!(sim.is_full());
    sim.session.send_waits(sim.now);
    let _ = sim.session.take_wake();
    let one = Budget { messages: 1, bytes: usize::MAX };
    assert_eq!(sim.out_within(1, one), ["m0"]);
    assert!(sim.session.take_wake().room, "what was written may leave");
    assert!(!sim.is_full());
    sim.session.send_goes_on();
    sim.send_range(2..3);
    assert_eq!(sim.out(1), ["m1", "m2"]);
}

/// What an earlier transport has written says nothing about a new one.
#[test]
fn the_ring_keeps_what_the_new_transport_has_not_got() {
    let mut sim = Sim::with(|rules| {
        rules.plain_ack = PlainAck::Off;
        rules.bounds.outbox_messages = 2;
    });
    sim.plain();
    sim.send_range(0..2);
    sim.out(1);
    sim.plain();
    assert!(sim.is_full());
    assert_eq!(sim.out(2), ["m0", "m1"]);
    assert!(!sim.is_full());
}

// Share: every plain transport is a client of its own.

fn shared() -> Sim {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    for number in 1..=3 {
        assert_eq!(sim.plain(), number);
    }
    sim.send_range(0..2);
    for number in 1..=3 {
        sim.out(number);
    }
    sim.advance(SECOND);
    sim.pong(2);
    sim.send_range(2..4);
    sim.out(3);
    sim.advance(2 * SECOND);
    sim.pong(3);
    sim.out(3);
    sim.advance(2 * SECOND);
    sim.out(3);
    sim.pong(3);
    sim
}

#[test]
fn a_new_plain_transport_takes_the_smallest_cursor_of_the_gone() {
    let mut sim = shared();
    // Confirmed: 0 by the first, 2 by the second, 4 by the third.
    sim.detach(2);
    sim.detach(3);
    sim.plain();
    assert_eq!(sim.data(4), ["m2", "m3"], "2 is smaller than 4");
    sim.plain();
    assert_eq!(sim.data(5), ["m2", "m3"], "the other place still starts at 2");
    assert_eq!(sim.session.clients.iter().count(), 3);
    assert_eq!(sim.session.transports(), 3);
}

#[test]
fn a_plain_transport_that_nobody_left_a_place_for_starts_fresh() {
    let mut sim = shared();
    sim.detach(1);
    sim.plain();
    assert_eq!(sim.data(4), ["m0", "m1", "m2", "m3"]);
    sim.plain();
    assert_eq!(sim.data(5), Vec::<String>::new(), "everything is acknowledged by somebody");
    assert_eq!(sim.session.clients.iter().count(), 4);
}

/// Or a flapping plain client would fill the memory while the handler is busy.
#[test]
fn a_plain_place_keeps_its_quota() {
    let mut sim = Sim::with(|rules| {
        rules.attach = Attach::Share;
        rules.bounds.inbox_messages = 2;
    });
    for _ in 0..10 {
        let number = sim.plain();
        while sim.session.inbox_messages() < 100 && sim.say(number, "x") {}
        sim.detach(number);
    }
    assert_eq!(sim.session.inbox_messages(), 2);
}
