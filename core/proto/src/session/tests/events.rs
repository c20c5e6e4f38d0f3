//! What the handler is told of clients.

use super::*;

#[test]
fn attached_and_detached_alternate() {
    let mut sim = Sim::new();
    sim.fresh("a");
    assert_eq!(sim.events(), ["+a"]);
    sim.detach(1);
    assert_eq!(sim.events(), ["-a"]);
    sim.resume("a", 0);
    sim.resume("a", 0);
    assert_eq!(sim.events(), ["+a resumed"]);
    sim.fresh("b");
    assert_eq!(sim.events(), ["-a", "+b"]);
    sim.detach(3);
    sim.detach(2);
    sim.detach(4);
    sim.detach(4);
    assert_eq!(sim.events(), ["-b"]);
}

#[test]
fn a_flapping_client_leaves_one_event() {
    let mut sim = Sim::new();
    sim.fresh("a");
    assert_eq!(sim.events(), ["+a"]);
    for _ in 0..100 {
        let number = sim.resume("a", 0);
        sim.detach(number);
    }
    assert_eq!(sim.events(), ["-a"]);
}

#[test]
fn a_message_between_keeps_its_pair() {
    let mut sim = Sim::new();
    sim.fresh("a");
    assert!(sim.say(1, "x"));
    sim.detach(1);
    sim.resume("a", 0);
    assert!(sim.say(2, "y"));
    sim.detach(2);
    sim.resume("a", 0);
    assert_eq!(sim.events(), ["+a", "a:x", "-a", "+a resumed", "a:y", "-a", "+a resumed"]);
}

/// The handler must know that the client holds nothing, even if it never saw that attach.
#[test]
fn a_fresh_start_that_was_taken_back_is_told_later() {
    let mut sim = Sim::new();
    sim.fresh("a");
    sim.detach(1);
    sim.resume("a", 0);
    sim.detach(2);
    sim.resume("a", 0);
    assert_eq!(sim.events(), ["+a"]);
    sim.resume("a", 0);
    assert_eq!(sim.events(), ["-a", "+a resumed"]);
}

#[test]
fn a_start_at_a_checkpoint_that_was_taken_back_is_told_later() {
    let mut sim = Sim::new();
    sim.session.send_checkpoint("view".into(), sim.now).unwrap();
    sim.fresh("a");
    sim.detach(1);
    sim.resume("a", 0);
    assert_eq!(sim.events(), ["+a checkpoint"]);
}

#[test]
fn a_plain_client_resumes_only_where_one_was() {
    let mut sim = Sim::new();
    let first = sim.plain();
    assert_eq!(sim.events(), ["+plain"]);
    sim.detach(first);
    sim.plain();
    assert_eq!(sim.events(), ["-plain", "+plain resumed"]);
    let mut shared = Sim::with(|rules| rules.attach = Attach::Share);
    shared.plain();
    shared.plain();
    assert_eq!(shared.events(), ["+plain", "+plain"]);
    shared.detach(1);
    shared.plain();
    assert_eq!(shared.events(), ["-plain", "+plain resumed"]);
}

#[test]
fn nothing_is_told_after_the_end() {
    let mut sim = Sim::new();
    sim.fresh("a");
    assert!(sim.say(1, "x"));
    assert!(sim.session.end(OutcomeStatus::Closed, sim.now));
    assert!(!sim.session.end(OutcomeStatus::Failed, sim.now), "the first end counts");
    assert_eq!(sim.session.ended(), Some(OutcomeStatus::Closed));
    sim.detach(1);
    sim.fresh("b");
    assert_eq!(sim.events(), Vec::<String>::new());
    assert_eq!(sim.send("x"), Err(NotSent::Ended));
}

/// Each attached client gets the last messages, then `done`, then 1000.
#[test]
fn the_end_of_a_session() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    sim.fresh("a");
    sim.plain();
    for text in ["x", "y", "z"] {
        assert!(sim.say(1, text));
    }
    sim.out(1);
    sim.event();
    sim.event();
    sim.event();
    assert_eq!(sim.event().as_deref(), Some("a:y"));
    sim.send_range(0..3);
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(sim.session.phase(), Phase::Completed);
    assert!(sim.say(1, "too late"));
    let two = Budget { messages: 2, bytes: usize::MAX };
    assert_eq!(sim.out_within(1, two), ["m0", "m1"]);
    assert_eq!(sim.out_within(1, two), ["m2", "done done 2", "close 1000 done"]);
    assert_eq!(sim.out(2), ["m0", "m1", "m2", "close 1000 done"]);
    assert_eq!(sim.session.transports(), 0);
    assert!(sim.session.has_sockets());
    sim.resume("b", 3);
    assert_eq!(sim.out(3), ["hello resumed from 3 received 0", "done done 0", "close 1000 done"]);
}

/// A peer that has stopped reading must not keep a session that is over.
#[test]
fn a_paused_transport_of_a_session_that_ended_still_times_out() {
    let mut sim = Sim::with(|rules| rules.bounds.inbox_messages = 1);
    sim.plain();
    assert!(sim.say(1, "x"));
    assert!(!sim.say(1, "y"));
    sim.send_range(0..1);
    sim.out(1);
    sim.advance(SECOND);
    assert_eq!(sim.out(1), ["ping @1"]);
    sim.send_range(1..2);
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert!(sim.say(1, "y"), "the frame is dealt with");
    assert!(sim.session.poll_transport_timeout(AttachmentNumber::new(1)).is_some());
}
