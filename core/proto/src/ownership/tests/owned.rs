//! A session that the node owns: hello, puts, freezes, reclaims.

use std::time::Duration;

use super::bench::{Bench, RULES, claimed, fence, node};
use crate::ownership::{
    Answer, Asks, Call, Command, Dropped, Event, LeaseState, Leave, Permit, Put, Refusal, Refused,
    Stand, Then, Visit,
};

const MOMENT: Duration = Duration::from_millis(250);

fn confirm() -> Call {
    Call::Confirm { fence: fence(3, 1) }
}

fn serve(visit: u64) -> Command {
    Command::Serve { visit: Visit(visit), permit: Permit { fence: fence(3, 1) } }
}

fn put(version: u64, then: Then) -> Call {
    Call::Put(Put { fence: fence(3, 1), version, then })
}

fn look() -> Command {
    Command::Call(Call::Look { by: node(1) })
}

const STALE: Answer = Answer::Refused(Refused::Stale);

/// Frozen for a hand-over, with its clean put, number 6, on its way.
fn leaving() -> (Bench, Call) {
    let mut bench = Bench::serving();
    assert_eq!(bench.tell(Event::Leave(Leave::HandOver)), [Command::Freeze]);
    assert!(bench.may_speak(), "until the boundary");
    assert_eq!(bench.tell(Event::AtBoundary), [Command::Save]);
    assert!(!bench.may_speak());
    let clean = bench.put().expect("it is frozen");
    assert_eq!(clean, put(6, Then::Release));
    assert_eq!(bench.put(), None, "one at a time");
    (bench, clean)
}

#[test]
fn a_hello_waits_for_a_confirmation_that_was_begun_after_the_offer() {
    let mut bench = Bench::serving();
    assert_eq!(bench.arrive(2, Asks::Upgrade), [Command::Call(confirm())]);
    assert_eq!(bench.arrive(3, Asks::Upgrade), [], "one at a time");
    let told = bench.answer(confirm(), Answer::Done);
    assert_eq!(told, [serve(2), Command::Call(confirm())], "the third came after it was begun");
    assert_eq!(bench.answer(confirm(), Answer::Done), [serve(3)]);
}

#[test]
fn a_request_over_http_needs_the_lease_alone() {
    for asks in [Asks::Open, Asks::Look] {
        let mut bench = Bench::serving();
        assert_eq!(bench.arrive(2, asks), [serve(2)]);
        bench.lease(LeaseState::Lapsed, Some(1));
        assert_eq!(bench.arrive(3, asks), []);
    }
}

#[test]
fn the_lease_is_looked_at_again_before_the_hello() {
    let mut bench = Bench::serving();
    bench.arrive(2, Asks::Upgrade);
    let permit = Permit { fence: fence(3, 1) };
    // The process was stopped before it took the answer ...
    bench.standing.lease = LeaseState::Lapsed;
    assert_eq!(bench.answer(confirm(), Answer::Done), [Command::Silence]);
    // ... or after.
    assert!(!bench.machine.permits(permit, bench.standing));
    let told = bench.lease(LeaseState::Held, Some(1));
    assert_eq!(told, [Command::Thaw, Command::Save, Command::Call(confirm())]);
}

#[test]
fn a_stale_confirmation_drops_the_session_and_those_who_came_look_anew() {
    let mut bench = Bench::serving();
    bench.arrive(2, Asks::Upgrade);
    assert_eq!(bench.answer(confirm(), STALE), [Command::Drop(Dropped::Lost), look()]);
    assert_eq!(bench.machine.stand(), Stand::Seeking);
}

#[test]
fn a_record_that_is_behind_is_put_before_it_is_confirmed() {
    let mut bench = Bench::serving();
    bench.arrive(2, Asks::Upgrade);
    assert_eq!(bench.answer(confirm(), Answer::Refused(Refused::Behind)), [Command::Save]);
    assert_eq!(bench.wait(MOMENT), []);
    let put = bench.put().unwrap();
    assert_eq!(bench.answer(put, Answer::Done), [Command::Call(confirm())]);
}

#[test]
fn an_unknown_confirmation_is_asked_again() {
    let mut bench = Bench::serving();
    bench.arrive(2, Asks::Upgrade);
    assert_eq!(bench.answer(confirm(), Answer::Unknown), []);
    assert_eq!(bench.wait(MOMENT), [Command::Call(confirm())]);
}

#[test]
fn each_put_has_the_next_number_and_a_refused_one_ends_the_session_here() {
    let mut bench = Bench::serving();
    let first = bench.put();
    assert_eq!(first, Some(put(6, Then::Keep)));
    assert_eq!(bench.put(), Some(put(7, Then::Keep)));
    assert_eq!(bench.answer(first.unwrap(), Answer::Unknown), [Command::Save]);
    assert_eq!(bench.put(), Some(put(8, Then::Keep)));
    let full = Answer::Refused(Refused::Full);
    assert_eq!(bench.answer(put(8, Then::Keep), full), [Command::Save]);
    let told = bench.answer(put(7, Then::Keep), STALE);
    assert_eq!(told, [Command::Drop(Dropped::Lost)]);
    assert_eq!(bench.put(), None);
}

#[test]
fn a_record_that_is_missing_is_made_again_only_if_the_engine_lost_everything() {
    let missing = Answer::Refused(Refused::Missing);
    let mut bench = Bench::serving();
    let put = bench.put().unwrap();
    assert_eq!(bench.clone().answer(put, missing), [Command::Drop(Dropped::Lost)]);
    bench.standing.losses = 1;
    let again = Call::Recreate { from: fence(3, 1), by: node(1) };
    assert_eq!(bench.answer(put, missing), [Command::Silence, Command::Call(again)]);
    assert!(!bench.may_speak());
    let told = bench.answer(again, Answer::Claimed(claimed(4, 1)));
    assert_eq!(told, [Command::Thaw, Command::Save]);
    assert_eq!(bench.machine.fence(), Some(fence(4, 1)));
}

#[test]
fn a_released_session_leaves_memory() {
    let (mut bench, clean) = leaving();
    assert_eq!(bench.arrive(2, Asks::Upgrade), [], "it waits");
    let told = bench.answer(clean, Answer::Done);
    assert_eq!(told, [Command::Drop(Dropped::Released), look()]);
}

#[test]
fn a_clean_put_of_unknown_end_is_repeated_as_it_was() {
    let (mut bench, clean) = leaving();
    assert_eq!(bench.answer(clean, Answer::Unknown), [Command::Save]);
    assert!(!bench.may_speak());
    assert_eq!(bench.put(), Some(put(6, Then::Release)));
    // It was to stay in between: what was put since has a later number, and so has this.
    bench.tell(Event::Stay);
    assert_eq!(bench.put(), Some(put(7, Then::Keep)));
    bench.tell(Event::Leave(Leave::Memory));
    assert_eq!(bench.put(), Some(put(8, Then::Release)));
}

#[test]
fn a_session_that_stays_is_silent_until_a_put_without_the_mark_has_succeeded() {
    // `before`: a put that was begun before the clean one, and is answered after it.
    let mut bench = Bench::serving();
    let before = bench.put().unwrap();
    bench.tell(Event::Leave(Leave::Memory));
    bench.tell(Event::AtBoundary);
    let clean = bench.put().unwrap();
    assert_eq!(bench.answer(clean, Answer::Unknown), [Command::Save]);
    assert_eq!(bench.tell(Event::Stay), [Command::Save]);
    assert_eq!(bench.answer(before, Answer::Done), []);
    assert!(!bench.may_speak(), "the clean put may have come after that one");
    let next = bench.put().unwrap();
    assert_eq!(next, put(8, Then::Keep));
    assert_eq!(bench.answer(next, Answer::Unknown), [Command::Save]);
    assert!(!bench.may_speak());
    let next = bench.put().unwrap();
    assert_eq!(bench.answer(next, Answer::Done), [Command::Thaw]);
    assert!(bench.may_speak());
}

#[test]
fn a_session_that_stays_before_it_was_put_clean_goes_on_at_once() {
    for at_boundary in [false, true] {
        let mut bench = Bench::serving();
        bench.tell(Event::Leave(Leave::Memory));
        if at_boundary {
            bench.tell(Event::AtBoundary);
        }
        assert_eq!(bench.tell(Event::Stay), [Command::Thaw]);
        assert!(bench.may_speak());
        assert_eq!(bench.tell(Event::AtBoundary), [], "it freezes no more");
    }
}

#[test]
fn what_is_not_at_a_boundary_at_the_deadline_is_released_as_it_is_stored() {
    let mut bench = Bench::serving();
    bench.tell(Event::Leave(Leave::Drain));
    let release = Call::Release { fence: fence(3, 1), committed: 5 };
    assert_eq!(bench.tell(Event::Overdue), [Command::Silence, Command::Call(release)]);
    assert_eq!(bench.put(), None);
    let told = bench.clone().answer(release, Answer::Done);
    assert_eq!(told, [Command::Drop(Dropped::Released)]);
    assert_eq!(bench.clone().answer(release, Answer::Unknown), []);
    let told = bench.answer(release, Answer::Refused(Refused::Behind));
    assert_eq!(told, [Command::Thaw, Command::Freeze, Command::Save], "what is lost there is here");
    assert_eq!(bench.put(), Some(put(6, Then::Keep)));
}

#[test]
fn an_end_is_told_after_its_record() {
    let mut bench = Bench::serving();
    assert_eq!(bench.tell(Event::Finished), [Command::Save]);
    assert_eq!(bench.machine.stand(), Stand::Ending);
    let end = bench.put().unwrap();
    assert_eq!(end, put(6, Then::End));
    assert_eq!(bench.clone().answer(end, STALE), [Command::Drop(Dropped::Lost)]);
    assert_eq!(bench.answer(end, Answer::Unknown), [Command::Save]);
    assert_eq!(bench.put(), Some(end), "repeated as it was");
    assert_eq!(bench.answer(end, Answer::Done), [Command::Drop(Dropped::Ended)]);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_lapsed_lease_freezes_and_after_one_more_the_transports_are_told() {
    let mut bench = Bench::serving();
    assert_eq!(bench.lease(LeaseState::Lapsed, Some(1)), [Command::Silence]);
    assert!(!bench.may_speak());
    assert_eq!(bench.put(), None);
    assert_eq!(bench.machine.stand(), Stand::Frozen);
    assert_eq!(bench.machine.poll_timeout(), Some(bench.now + RULES.lease));
    assert_eq!(bench.wait(RULES.lease), [Command::CloseTransports]);
    assert_eq!(bench.wait(RULES.lease), [], "once");
    let told = bench.lease(LeaseState::Held, Some(1));
    assert_eq!(told, [Command::Thaw, Command::Save]);
    assert!(bench.may_speak());
}

#[test]
fn a_new_life_reclaims_what_the_old_one_has_in_memory() {
    let mut bench = Bench::serving();
    let old = bench.put().unwrap();
    bench.lease(LeaseState::Gone, None);
    let reclaim = Call::Reclaim { from: fence(3, 1), by: node(4) };
    assert_eq!(bench.lease(LeaseState::Held, Some(4)), [Command::Call(reclaim)]);
    assert!(!bench.may_speak());
    assert_eq!(bench.answer(old, STALE), [], "the reclaim may have overtaken it");
    assert_eq!(bench.answer(reclaim, Answer::Unknown), []);
    assert_eq!(bench.wait(MOMENT), [Command::Call(reclaim)]);
    let lost = bench.clone().answer(reclaim, STALE);
    assert_eq!(lost, [Command::Drop(Dropped::Lost)], "somebody was there");
    let told = bench.answer(reclaim, Answer::Claimed(claimed(4, 4)));
    assert_eq!(told, [Command::Thaw, Command::Save]);
    assert_eq!(bench.answer(old, STALE), [], "a fence that is no longer ours");
    assert!(bench.may_speak());
    assert!(!bench.machine.permits(Permit { fence: fence(3, 1) }, bench.standing));
    assert_eq!(
        bench.put(),
        Some(Call::Put(Put { fence: fence(4, 4), version: 7, then: Then::Keep }))
    );
}

#[test]
fn a_reclaim_takes_the_clean_mark_off() {
    let (mut bench, clean) = leaving();
    bench.tell(Event::Stay);
    bench.lease(LeaseState::Held, Some(4));
    assert_eq!(bench.answer(clean, Answer::Unknown), [Command::Save]);
    let reclaim = Call::Reclaim { from: fence(3, 1), by: node(4) };
    let told = bench.answer(reclaim, Answer::Claimed(claimed(4, 4)));
    assert_eq!(told, [Command::Thaw, Command::Save]);
}

#[test]
fn what_cannot_be_built_is_released_and_refused() {
    let mut bench = Bench::new();
    bench.arrive(1, Asks::Upgrade);
    let found = crate::ownership::Looked::Claimed(claimed(3, 1));
    bench.answer(Call::Look { by: node(1) }, Answer::Looked(found));
    let release = Call::Release { fence: fence(3, 1), committed: 5 };
    let refused = Command::Refuse { visit: Visit(1), why: Refusal::Broken };
    assert_eq!(bench.tell(Event::CannotBuild), [refused, Command::Call(release)]);
    let told = bench.answer(release, Answer::Done);
    assert_eq!(told, [Command::Drop(Dropped::Broken)]);
}

#[test]
fn after_a_failover_everything_is_put_again() {
    assert_eq!(Bench::serving().tell(Event::Resumed), [Command::Save]);
}

#[test]
fn a_session_that_is_built_on_a_draining_node_leaves_at_once() {
    let mut bench = Bench::new();
    bench.arrive(1, Asks::Open);
    let found = crate::ownership::Looked::Claimed(claimed(3, 1));
    bench.answer(Call::Look { by: node(1) }, Answer::Looked(found));
    bench.standing.drains = true;
    assert_eq!(bench.tell(Event::Built), [Command::Freeze, serve(1)]);
}
