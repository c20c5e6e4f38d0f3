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

/// Whatever arrives proves life, as the pong may be queued behind it; but not for ever.
#[test]
fn who_never_answers_pings_is_closed_at_last() {
    for (frame, closed_after) in [
        (None, 60),
        (Some(Incoming::Pong("junk".into())), 120),
        (Some(Incoming::Ping), 120),
        (Some(Incoming::Text("data".into())), 120),
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
fn whatever_arrives_begins_the_deadline_anew() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..64);
    sim.out(1);
    sim.advance(40 * SECOND);
    assert!(sim.say(1, "x"));
    sim.advance(60 * SECOND - MILLISECOND);
    assert_eq!(sim.session.transports(), 1);
    sim.advance(MILLISECOND);
    assert_eq!(sim.out(1), ["close 1013 try again later"]);
}

/// 25 s of work on a message is nothing unusual, and most stacks answer pings only while the application reads.
#[test]
fn long_work_on_a_message_does_not_bring_it_again() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..1);
    assert_eq!(sim.out(1), ["m0"]);
    sim.advance(25 * SECOND);
    assert_eq!(sim.out(1), ["ping @1"]);
    sim.pong(1);
    assert_eq!((sim.session.transports(), sim.session.outbox_messages()), (1, 0));
}

#[test]
fn one_ping_at_a_time_also_within_a_long_replay() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..200);
    let out = sim.out(1);
    assert_eq!(out[64], "ping @64");
    assert_eq!(out.len(), 129, "and 64 beyond it");
    sim.advance(5 * SECOND);
    assert_eq!(sim.out(1), Vec::<String>::new());
    let _ = sim.session.take_wake();
    sim.pong(1);
    assert!(sim.session.take_wake().transports, "more may be written");
    let out = sim.out(1);
    assert_eq!((&*out[0], &*out[1]), ("m128", "ping @129"));
    assert_eq!(out.len(), 73);
    assert_eq!(sim.session.outbox_messages(), 136);
    sim.pong(1);
    assert_eq!(sim.out(1), ["ping @200"]);
    sim.pong(1);
    assert_eq!(sim.session.outbox_messages(), 0);
}

/// How much a transport writes beyond its ping, after pongs that took these times.
fn window_after(pongs: &[Duration], size: usize) -> usize {
    let mut sim = Sim::with(|rules| {
        rules.bounds.outbox_messages = 100_000;
        rules.bounds.outbox_bytes = 1 << 30;
        rules.bounds.message = 1 << 30;
    });
    sim.plain();
    for _ in 0..20_000 / size.clamp(1, 100) {
        sim.send(&"x".repeat(size)).unwrap();
    }
    sim.out(1);
    for &took in pongs {
        sim.advance(took);
        sim.pong(1);
        sim.out(1);
    }
    let last = AttachmentNumber::new(1);
    let at = sim.session.transport_index(last).unwrap();
    usize::try_from(sim.session.transports[at].unpinged_messages).unwrap()
}

#[test]
fn quick_pongs_double_the_window_and_a_late_one_closes_it() {
    let quick = 6 * SECOND;
    let late = quick + MILLISECOND;
    for (pongs, window) in [
        (vec![], 64),
        (vec![quick], 128),
        (vec![quick; 2], 256),
        (vec![quick; 4], 1024),
        (vec![Duration::ZERO; 6], 1024),
        (vec![late], 64),
        (vec![quick, quick, late], 64),
        (vec![quick, late, quick], 128),
    ] {
        assert_eq!(window_after(&pongs, 1), window, "{pongs:?}");
    }
}

#[test]
fn the_window_is_one_of_bytes_too() {
    for (size, pongs, window) in [
        (1 << 10, 0, 64),
        ((1 << 10) + 1, 0, 63),
        (32 << 10, 0, 2),
        ((32 << 10) + 1, 0, 1),
        (64 << 10, 0, 1),
        // One message may be longer.
        (200 << 10, 0, 1),
        (64 << 10, 1, 2),
        (64 << 10, 9, 16),
    ] {
        let pongs = vec![Duration::ZERO; pongs];
        assert_eq!(window_after(&pongs, size), window, "{size} bytes, {pongs:?}");
    }
}

/// A client that takes 20 messages a second of 16.7 produced must catch up, however far it is behind. Its stack
/// answers a ping when its application has read up to the ping.
#[test]
fn a_slow_reader_catches_up() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..1000);
    let (mut under_way, mut seen, mut sent) = (std::collections::VecDeque::new(), 0, 1000);
    for tick in 0..20 * 600_u64 {
        if tick % 6 != 0 && !sim.is_full() {
            sim.send_range(sent..sent + 1);
            sent += 1;
        }
        under_way.extend(sim.out(1));
        while let Some(frame) = under_way.pop_front() {
            if frame.starts_with("ping") {
                sim.pong(1);
                under_way.extend(sim.out(1));
                continue;
            }
            assert_eq!(frame, format!("m{seen}"), "at {tick}: every message once");
            seen += 1;
            break;
        }
        sim.advance(50 * MILLISECOND);
        assert_eq!(sim.session.transports(), 1, "at {tick}");
    }
    assert!(sent - seen < 2, "{seen} of {sent}");
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

/// A pong that comes when the turn is over still tells what its peer has, until a newer plain transport has
/// attached: that one has started at what was confirmed by then.
#[test]
fn a_late_pong_counts_until_a_newer_plain_transport_has_attached() {
    enum Next {
        Nobody,
        Plain,
        PlainAndGone,
        Named,
    }
    for (next, attach, counts) in [
        (Next::Nobody, Attach::Takeover, true),
        (Next::Nobody, Attach::Share, true),
        (Next::Plain, Attach::Takeover, false),
        (Next::Plain, Attach::Share, false),
        (Next::PlainAndGone, Attach::Takeover, false),
        (Next::Named, Attach::Takeover, true),
        (Next::Named, Attach::Share, true),
    ] {
        let mut sim = Sim::with(|rules| rules.attach = attach);
        sim.plain();
        sim.send_range(0..3);
        sim.out(1);
        sim.advance(SECOND);
        assert_eq!(sim.out(1), ["ping @3"]);
        sim.advance(60 * SECOND);
        assert_eq!(sim.out(1), ["close 1013 try again later"]);
        match next {
            Next::Nobody => {}
            Next::Plain => {
                sim.plain();
            }
            Next::PlainAndGone => {
                let number = sim.plain();
                sim.detach(number);
            }
            Next::Named => {
                sim.fresh("a");
            }
        }
        sim.pong(1);
        sim.detach(1);
        let number = if matches!(next, Next::Plain) { 2 } else { sim.plain() };
        // One by one, as the ping was not answered in time.
        let expected = if counts { vec![] } else { vec!["m0"] };
        assert_eq!(sim.data(number), expected);
    }
}

/// What a later transport was not sent must not be confirmed for it.
#[test]
fn an_old_pong_makes_no_hole_in_a_newer_transports_stream() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..3);
    sim.out(1);
    sim.advance(SECOND);
    sim.out(1);
    sim.plain();
    let one = Budget { messages: 1, bytes: usize::MAX };
    assert_eq!(sim.out_within(2, one), ["m0"]);
    sim.pong(1);
    assert_eq!(sim.out(2), ["m1", "m2"]);
}

#[test]
fn a_frozen_session_takes_no_late_pong() {
    let mut sim = Sim::new();
    sim.plain();
    sim.send_range(0..64);
    sim.out(1);
    sim.session.freeze();
    sim.session.close_transports(&Close::RESTARTING, || None, sim.now);
    let before = sim.session.clone();
    sim.pong(1);
    assert!(sim.session == before, "what was stored must stay true");
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
