//! The one expiry rule.

use super::*;

const UNUSED: Duration = Duration::from_secs(120);
const UNATTENDED: Duration = Duration::from_secs(3600);

/// Advances without letting transports act, as nothing here is about them.
fn pass(sim: &mut Sim, by: Duration) {
    sim.now = sim.now + by;
}

/// What keeps a session in use, and that the clock starts again when it ends.
#[test]
fn a_session_in_use_does_not_expire() {
    type Step = fn(&mut Sim);
    let rows: [(&str, Step, Step, Option<Expiry>); 8] = [
        ("transport", |sim| assert_eq!(sim.plain(), 1), |sim| sim.detach(1), None),
        ("upgrade", |sim| sim.session.hold(), |sim| sim.session.release_hold(sim.now), None),
        (
            "guard",
            |sim| sim.guard = sim.session.guard("why", None, sim.now),
            |sim| sim.session.release_guard(sim.guard.unwrap(), sim.now),
            None,
        ),
        (
            "task",
            |sim| sim.session.task_started(),
            |sim| sim.session.task_ended(sim.now),
            Some(Expiry::Unattended),
        ),
        (
            "handler before its first recv",
            |sim| assert!(sim.session.start_handler(sim.now)),
            |sim| drop(sim.event()),
            Some(Expiry::Unattended),
        ),
        (
            "message in hand",
            |sim| {
                sim.session.start_handler(sim.now);
                sim.plain();
                assert!(sim.say(1, "x"));
                sim.detach(1);
                sim.event();
                assert_eq!(sim.event().as_deref(), Some("plain:x"));
            },
            |sim| {
                assert_eq!(sim.event().as_deref(), Some("-plain"));
            },
            Some(Expiry::Unattended),
        ),
        (
            "handed back by a commit, still at work",
            |sim| {
                sim.session.start_handler(sim.now);
                sim.plain();
                assert!(sim.say(1, "x"));
                sim.detach(1);
                sim.event();
                sim.event();
                sim.session.hand_back();
            },
            |sim| drop(sim.event()),
            Some(Expiry::Unattended),
        ),
        (
            "two guards",
            |sim| {
                sim.guard = sim.session.guard("one", None, sim.now);
                let two = sim.session.guard("two", None, sim.now).unwrap();
                sim.session.release_guard(two, sim.now);
                sim.session.release_guard(two, sim.now);
            },
            |sim| sim.session.release_guard(sim.guard.unwrap(), sim.now),
            None,
        ),
    ];
    for (what, begin, end, unattended) in rows {
        let mut sim = Sim::new();
        begin(&mut sim);
        pass(&mut sim, UNATTENDED - MILLISECOND);
        assert_eq!(sim.expiry(), None, "{what}");
        let mut later = Sim { session: sim.session.clone(), ..Sim::new() };
        later.now = sim.now + MILLISECOND;
        assert_eq!(later.expiry(), unattended, "{what}");
        end(&mut sim);
        let expected = if unattended.is_some() { MILLISECOND } else { UNUSED };
        pass(&mut sim, expected - MILLISECOND);
        assert_eq!(sim.expiry(), None, "{what}: the end restarts the clock");
        pass(&mut sim, MILLISECOND);
        let why = unattended.unwrap_or(Expiry::Unused);
        assert_eq!(sim.expiry(), Some(why), "{what}");
    }
}

#[test]
fn the_end_of_work_restarts_the_clock() {
    let mut sim = Sim::new();
    sim.session.start_handler(sim.now);
    pass(&mut sim, UNUSED * 3);
    assert_eq!(sim.event(), None);
    pass(&mut sim, UNUSED - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Unused));
}

/// A ticker in `select!` does not keep a session for ever, nor does an event.
#[test]
fn what_is_no_work() {
    let mut sim = Sim::new();
    sim.session.start_handler(sim.now);
    sim.plain();
    sim.detach(1);
    sim.plain();
    assert_eq!(sim.event().as_deref(), Some("+plain"));
    assert_eq!(sim.event(), None);
    sim.detach(2);
    assert_eq!(sim.event().as_deref(), Some("-plain"), "and the handler never asks again");
    for _ in 0..120 {
        assert_eq!(sim.expiry(), None);
        pass(&mut sim, SECOND);
        let _ = sim.send("tick");
    }
    assert_eq!(sim.expiry(), Some(Expiry::Unused));
    let mut polling = Sim::new();
    polling.session.start_handler(polling.now);
    for _ in 0..120 {
        assert_eq!(polling.event(), None);
        assert_eq!(polling.expiry(), None);
        pass(&mut polling, SECOND);
    }
    assert_eq!(polling.event(), None);
    assert_eq!(polling.expiry(), Some(Expiry::Unused));
}

#[test]
fn waiting_for_room_is_work_only_while_somebody_is_attached() {
    let mut sim = Sim::with(|rules| rules.bounds.outbox_messages = 1);
    sim.session.start_handler(sim.now);
    sim.plain();
    sim.send_range(0..1);
    assert!(sim.is_full());
    sim.session.send_waits(sim.now);
    pass(&mut sim, UNUSED * 2);
    assert_eq!(sim.expiry(), None);
    sim.detach(1);
    pass(&mut sim, UNUSED - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    let mut went_on = sim.session.clone();
    went_on.send_goes_on();
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Unused));
    assert!(went_on.check_expiry(sim.now).is_ok(), "it works again");
}

#[test]
fn sends_that_time_out_do_not_keep_a_session() {
    let mut sim = Sim::with(|rules| rules.bounds.outbox_messages = 1);
    sim.session.start_handler(sim.now);
    assert_eq!(sim.event(), None);
    sim.send_range(0..1);
    for _ in 0..120 {
        assert_eq!(sim.expiry(), None);
        assert!(sim.is_full());
        sim.session.send_waits(sim.now);
        pass(&mut sim, SECOND);
        sim.session.send_goes_on();
    }
    assert_eq!(sim.expiry(), Some(Expiry::Unused));
}

#[test]
fn an_extraction_restarts_both_clocks() {
    let mut sim = Sim::new();
    sim.session.task_started();
    pass(&mut sim, UNATTENDED - MILLISECOND);
    sim.session.touch(sim.now);
    pass(&mut sim, UNATTENDED - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Unattended));
    let mut idle = Sim::new();
    pass(&mut idle, UNUSED - MILLISECOND);
    idle.session.touch(idle.now);
    pass(&mut idle, UNUSED - MILLISECOND);
    assert_eq!(idle.expiry(), None);
}

/// A guard ends at its deadline, not when somebody looks.
#[test]
fn a_guard_with_a_deadline_ends_then() {
    let mut sim = Sim::new();
    let deadline = sim.now + UNUSED * 10;
    let id = sim.session.guard("slow", Some(deadline), sim.now).unwrap();
    pass(&mut sim, UNUSED * 10 - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    assert_eq!(sim.session.guard_reasons(sim.now).collect::<Vec<_>>(), ["slow"]);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.session.guard_reasons(sim.now).count(), 0);
    pass(&mut sim, UNUSED - MILLISECOND);
    sim.session.release_guard(id, sim.now);
    assert_eq!(sim.expiry(), None);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Unused), "a late release restarts nothing");
}

#[test]
fn a_deadline_may_be_set_later() {
    let mut sim = Sim::new();
    let id = sim.session.guard("slow", None, sim.now).unwrap();
    sim.session.set_guard_deadline(id, sim.now + SECOND, sim.now);
    pass(&mut sim, UNUSED + SECOND - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Unused));
}

#[test]
fn a_guards_deadline_can_be_moved_while_it_holds_and_not_after() {
    for (move_at, holds) in [(5, true), (9, true), (10, false), (11, false)] {
        let mut sim = Sim::new();
        let id = sim.session.guard("slow", Some(sim.now + SECOND * 10), sim.now).unwrap();
        let end = sim.now + SECOND * 10;
        sim.now = sim.now + SECOND * move_at;
        sim.session.set_guard_deadline(id, sim.now + SECOND * 100, sim.now);
        assert_eq!(sim.session.guard_reasons(sim.now).count(), usize::from(holds), "{move_at} s");
        let end = if holds { sim.now + SECOND * 100 } else { end };
        sim.now = end + sim.session.rules().unused_lifetime;
        assert_eq!(sim.expiry(), Some(Expiry::Unused), "{move_at} s");
    }
}

#[test]
fn guards_are_bounded() {
    let mut sim = Sim::with(|rules| rules.bounds.guards = 2);
    let deadline = sim.now + SECOND;
    assert!(sim.session.guard("one", None, sim.now).is_some());
    assert!(sim.session.guard("two", Some(deadline), sim.now).is_some());
    assert!(sim.session.guard("three", None, sim.now).is_none());
    pass(&mut sim, SECOND);
    assert!(sim.session.guard("three", None, sim.now).is_some(), "an overdue one does not count");
}

#[test]
fn max_lifetime_bounds_everything() {
    let lifetime = Duration::from_secs(600);
    let mut sim = Sim::with(|rules| rules.max_lifetime = Some(lifetime));
    sim.plain();
    sim.session.guard("why", None, sim.now);
    pass(&mut sim, lifetime - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Lifetime));
}

/// Asking when told, or earlier, finds every expiry on time.
#[test]
fn the_next_look_is_never_too_late() {
    let lifetime = Duration::from_secs(200);
    for max_lifetime in [None, Some(lifetime)] {
        let mut sim = Sim::with(|rules| rules.max_lifetime = max_lifetime);
        let created = sim.now;
        let id = sim.session.guard("why", None, sim.now).unwrap();
        let next = sim.session.check_expiry(sim.now).unwrap();
        assert_eq!(next, created + UNUSED);
        pass(&mut sim, SECOND);
        sim.session.release_guard(id, sim.now);
        sim.now = next;
        let next = sim.session.check_expiry(sim.now).unwrap();
        assert_eq!(next, created + SECOND + UNUSED);
        sim.plain();
        sim.now = next;
        let expected = created + max_lifetime.unwrap_or(UNUSED + SECOND + UNUSED);
        assert_eq!(sim.session.check_expiry(sim.now), Ok(expected));
    }
}

#[test]
fn a_session_that_ended_stays_for_as_long() {
    let mut sim = Sim::with(|rules| rules.max_lifetime = Some(UNUSED));
    sim.session.start_handler(sim.now);
    pass(&mut sim, UNUSED / 2);
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert!(!sim.session.start_handler(sim.now));
    pass(&mut sim, UNUSED - MILLISECOND);
    assert_eq!(sim.expiry(), None);
    pass(&mut sim, MILLISECOND);
    assert_eq!(sim.expiry(), Some(Expiry::Unused));
}

#[test]
fn phases() {
    let mut sim = Sim::new();
    assert_eq!(sim.session.phase(), Phase::Suspended);
    sim.plain();
    assert_eq!(sim.session.phase(), Phase::Running);
    sim.detach(1);
    assert_eq!(sim.session.phase(), Phase::Suspended);
    sim.session.end(OutcomeStatus::Failed, sim.now);
    assert_eq!(sim.session.phase(), Phase::Completed);
}
