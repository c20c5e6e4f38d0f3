//! Those who come while the session is elsewhere, or nowhere.

use std::time::Duration;

use super::bench::{Bench, FIRST, RULES, claimed, fence, node};
use crate::ownership::{
    Answer, Asks, Call, Claimed, Command, Elsewhere, Event, Found, Hop, LeaseState, Looked, Over,
    OwnerIs, Refusal, Refused, Rules, Stand, Via, Visit,
};

const LOOK: Call = Call::Look { by: FIRST };
const MOMENT: Duration = Duration::from_millis(250);

fn theirs(by: u64) -> Answer {
    Answer::Looked(Looked::Theirs(fence(2, by)))
}

fn find(owner: u64) -> Call {
    Call::Find { owner: node(owner) }
}

fn refuse(visit: u64, why: Refusal) -> Command {
    Command::Refuse { visit: Visit(visit), why }
}

fn hop(visit: u64, is: Hop) -> Event {
    Event::Hop { visit: Visit(visit), is }
}

/// A bench whose first visit has come to a session of node 2, which lives.
fn relaying(rules: Rules) -> (Bench, Vec<Command>) {
    let mut bench = Bench::with(rules);
    assert_eq!(bench.arrive(1, Asks::Upgrade), [Command::Call(LOOK)]);
    assert_eq!(bench.answer(LOOK, theirs(2)), [Command::Call(find(2))]);
    let commands = bench.answer(find(2), Answer::Owner(OwnerIs::Alive));
    (bench, commands)
}

#[test]
fn what_nobody_owns_is_claimed_by_the_look() {
    let bench = Bench::serving();
    assert_eq!(bench.machine.stand(), Stand::Serving);
    assert_eq!(bench.machine.fence(), Some(fence(3, 1)));
}

#[test]
fn a_session_begins_only_for_those_who_begin_one() {
    for (asks, begins) in [(Asks::Upgrade, true), (Asks::Open, true), (Asks::Look, false)] {
        let mut bench = Bench::new();
        bench.arrive(1, asks);
        let commands = bench.answer(LOOK, Answer::Looked(Looked::Absent));
        let claim = Command::Call(Call::Claim { over: Over::Nothing, by: node(1) });
        let expected = if begins { claim } else { Command::Nothing(Visit(1)) };
        assert_eq!(commands, [expected], "{asks:?}");
    }
}

#[test]
fn no_session_begins_while_an_engine_that_lost_everything_waits_for_the_owners() {
    let mut bench = Bench::new();
    bench.standing.may_begin_from = Some(bench.now + MOMENT);
    bench.arrive(1, Asks::Open);
    assert_eq!(bench.answer(LOOK, Answer::Looked(Looked::Absent)), []);
    bench.standing.may_begin_from = None;
    assert_eq!(bench.wait(MOMENT), [Command::Call(LOOK)], "looked anew");
}

#[test]
fn a_living_owner_gets_the_request_once_more() {
    for (elsewhere, expected) in [
        (Elsewhere::Relay, Command::Relay { visit: Visit(1), to: node(2) }),
        (Elsewhere::Reroute, Command::Reroute { visit: Visit(1), to: node(2) }),
        (Elsewhere::HandOver, Command::Call(Call::Want { owner: node(2) })),
    ] {
        let (mut bench, commands) = relaying(Rules { elsewhere, ..RULES });
        assert_eq!(commands, [expected]);
        let waits = elsewhere == Elsewhere::HandOver;
        let looked = if waits { vec![Command::Call(LOOK)] } else { vec![] };
        assert_eq!(bench.wait(MOMENT), looked, "{elsewhere:?}");
    }
}

#[test]
fn a_hop_is_never_sent_on() {
    let mut bench = Bench::new();
    let via = Via::Hop { to: node(1) };
    let arrived = Event::Arrived { visit: Visit(1), asks: Asks::Upgrade, via };
    assert_eq!(bench.tell(arrived), [Command::Call(LOOK)]);
    assert_eq!(bench.answer(LOOK, theirs(2)), [Command::Call(find(2))]);
    let told = bench.answer(find(2), Answer::Owner(OwnerIs::Alive));
    assert_eq!(told, [Command::Misdirected { visit: Visit(1), owner: Some(node(2)) }]);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_hop_that_names_another_life_of_the_node_is_refused() {
    let mut bench = Bench::serving();
    let via = Via::Hop { to: node(4) };
    let told = bench.tell(Event::Arrived { visit: Visit(2), asks: Asks::Upgrade, via });
    assert_eq!(told, [Command::Misdirected { visit: Visit(2), owner: Some(node(1)) }]);
}

#[test]
fn a_gone_owners_session_is_claimed_over_what_was_found() {
    let mut bench = Bench::new();
    bench.arrive(1, Asks::Upgrade);
    bench.answer(LOOK, theirs(2));
    let claim = Call::Claim { over: Over::Session(fence(2, 2)), by: node(1) };
    let gone = Answer::Owner(OwnerIs::Gone);
    assert_eq!(bench.answer(find(2), gone), [Command::Call(claim)]);
    let answer = Answer::Refused(Refused::Stale);
    assert_eq!(bench.answer(claim, answer), [Command::Call(LOOK)], "somebody was faster");
}

#[test]
fn a_node_that_has_just_got_its_lease_leaves_the_gone_to_their_owners() {
    let mut bench = Bench::new();
    bench.standing.may_take_from = Some(bench.now + MOMENT * 4);
    bench.arrive(1, Asks::Upgrade);
    bench.answer(LOOK, theirs(2));
    assert_eq!(bench.answer(find(2), Answer::Owner(OwnerIs::Gone)), []);
    assert_eq!(bench.wait(MOMENT * 3), []);
    assert_eq!(bench.wait(MOMENT), [Command::Call(LOOK)]);
}

#[test]
fn an_unknown_answer_is_asked_again_a_moment_later() {
    for at in 0..3 {
        let mut bench = Bench::new();
        bench.arrive(1, Asks::Upgrade);
        let mut call = LOOK;
        for answer in [theirs(2), Answer::Owner(OwnerIs::Gone)].into_iter().take(at) {
            let commands = bench.answer(call, answer);
            let [Command::Call(next)] = commands[..] else { panic!("{commands:?}") };
            call = next;
        }
        assert_eq!(bench.answer(call, Answer::Unknown), [], "{call:?}");
        assert_eq!(bench.wait(MOMENT), [Command::Call(LOOK)], "{call:?}");
    }
}

#[test]
fn who_waits_too_long_is_told_to_try_again() {
    let mut bench = Bench::new();
    bench.arrive(1, Asks::Upgrade);
    assert_eq!(RULES.patience(), Duration::from_secs(13));
    assert_eq!(bench.wait(Duration::from_secs(12)), []);
    assert_eq!(bench.wait(Duration::from_secs(1)), [refuse(1, Refusal::TryAgain)]);
    let long = Rules { lease: Duration::from_mins(1), ..RULES };
    assert_eq!(long.patience(), Duration::from_secs(15), "clients give up after 20");
    // The look may have claimed: its answer still counts.
    let claimed = claimed(3, 1);
    let answer = Answer::Looked(Looked::Claimed(claimed));
    assert_eq!(bench.answer(LOOK, answer), [Command::Build(claimed)]);
}

#[test]
fn without_a_lease_nothing_is_asked_and_a_drain_claims_nothing() {
    let mut bench = Bench::new();
    bench.lease(LeaseState::Lapsed, Some(1));
    assert_eq!(bench.arrive(1, Asks::Upgrade), []);
    assert_eq!(bench.lease(LeaseState::Held, Some(1)), [Command::Call(LOOK)]);
    let mut bench = Bench::new();
    bench.standing.drains = true;
    assert_eq!(bench.arrive(1, Asks::Upgrade), [refuse(1, Refusal::Draining)]);
}

#[test]
fn a_full_engine_begins_no_session() {
    let mut bench = Bench::new();
    bench.arrive(1, Asks::Open);
    bench.answer(LOOK, Answer::Looked(Looked::Absent));
    let claim = Call::Claim { over: Over::Nothing, by: node(1) };
    let told = bench.answer(claim, Answer::Refused(Refused::Full));
    assert_eq!(told, [refuse(1, Refusal::Full)]);
    assert!(bench.machine.is_idle());
}

#[test]
fn an_ended_session_is_told_to_its_clients_and_replaced_for_others() {
    let mut bench = Bench::new();
    bench.arrive(1, Asks::Upgrade);
    let over = fence(2, 2);
    let told = bench.answer(LOOK, Answer::Looked(Looked::Ended(over)));
    assert_eq!(told, [Command::Over { visit: Visit(1), ended: over }]);
    let claim = Call::Claim { over: Over::Final(over), by: node(1) };
    assert_eq!(bench.tell(Event::Anew { visit: Visit(1), over }), [Command::Call(claim)]);
    let new = Claimed { fence: fence(1, 1), version: 1, found: Found::New };
    assert_eq!(bench.answer(claim, Answer::Claimed(new)), [Command::Build(new)]);
}

#[test]
fn a_misdirected_hop_looks_anew_later_and_later() {
    let (mut bench, _) = relaying(RULES);
    for wait in [50, 250, 1000, 1000] {
        assert_eq!(bench.tell(hop(1, Hop::Misdirected)), []);
        assert_eq!(bench.wait(Duration::from_millis(wait - 1)), [], "{wait}");
        assert_eq!(bench.wait(Duration::from_millis(1)), [Command::Call(LOOK)], "{wait}");
        bench.answer(LOOK, theirs(2));
        let told = bench.answer(find(2), Answer::Owner(OwnerIs::Alive));
        assert_eq!(told, [Command::Relay { visit: Visit(1), to: node(2) }]);
    }
}

#[test]
fn an_owner_that_is_not_reached_for_a_lease_is_asked_to_hand_over() {
    let (mut bench, _) = relaying(RULES);
    assert_eq!(bench.tell(hop(1, Hop::Unreachable)), [], "it may have died: wait for its lease");
    assert_eq!(bench.wait(RULES.lease), [Command::Call(LOOK)]);
    bench.answer(LOOK, theirs(2));
    bench.answer(find(2), Answer::Owner(OwnerIs::Alive));
    let told = bench.tell(hop(1, Hop::Unreachable));
    let want = Command::Call(Call::Want { owner: node(2) });
    assert_eq!(told, [want, refuse(1, Refusal::TryAgain)]);
    assert!(!bench.machine.is_idle(), "remembered for the next visit");
    bench.wait(RULES.lease * 2);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_relay_is_cut_when_its_hop_ends_and_never_offers_by_itself() {
    let (mut bench, _) = relaying(RULES);
    assert_eq!(bench.tell(hop(1, Hop::Answered)), []);
    for wrong in [Hop::Answered, Hop::Misdirected] {
        assert_eq!(bench.tell(hop(1, wrong)), []);
    }
    assert_eq!(bench.wait(Duration::from_hours(1)), [], "a relay waits for nothing");
    assert_eq!(bench.tell(hop(1, Hop::Ended)), [Command::Cut(Visit(1))]);
    assert!(bench.machine.is_idle());
}

#[test]
fn a_relay_is_cut_when_its_owner_is_known_to_be_gone() {
    let (mut bench, _) = relaying(RULES);
    bench.tell(hop(1, Hop::Answered));
    assert_eq!(bench.arrive(2, Asks::Upgrade), [Command::Call(LOOK)]);
    bench.answer(LOOK, theirs(2));
    let told = bench.answer(find(2), Answer::Owner(OwnerIs::Gone));
    let claim = Call::Claim { over: Over::Session(fence(2, 2)), by: node(1) };
    assert_eq!(told, [Command::Cut(Visit(1)), Command::Call(claim)]);
}

#[test]
fn who_has_left_is_answered_nothing() {
    let (mut bench, _) = relaying(RULES);
    assert_eq!(bench.tell(Event::Left(Visit(1))), []);
    for is in [Hop::Answered, Hop::Misdirected, Hop::Unreachable, Hop::Ended] {
        assert_eq!(bench.tell(hop(1, is)), []);
    }
    assert!(bench.machine.is_idle());
}
