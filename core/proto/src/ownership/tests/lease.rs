//! A lease, moment by moment.

use std::time::Duration;

use crate::{
    Moment,
    ownership::{Incarnation, Lease, LeaseCommand, LeaseState, Renewed},
};

const LENGTH: Duration = Duration::from_secs(8);

fn at(millis: u64) -> Moment {
    Moment::from_millis(1_000_000 + millis)
}

fn node(number: u64) -> Incarnation {
    Incarnation::new(number).expect("not zero")
}

/// Enlisted at 0 as node 1, asked and answered at once.
fn enlisted() -> Lease {
    let mut lease = Lease::new(LENGTH);
    assert_eq!(lease.standing(at(0)).lease, LeaseState::Gone);
    assert_eq!(lease.poll_command(at(0)), Some(LeaseCommand::Draw));
    assert_eq!(lease.poll_command(at(0)), None, "asked once");
    lease.handle_drawn(1);
    assert_eq!(lease.poll_command(at(0)), None, "there is no connection");
    lease.handle_connected(at(0));
    let enlist = LeaseCommand::Enlist { incarnation: node(1), instead_of: None };
    assert_eq!(lease.poll_command(at(0)), Some(enlist));
    lease.handle_enlisted(node(1), at(0));
    lease
}

fn renew(lease: &mut Lease, sent: u64, answered: u64) {
    assert_eq!(lease.poll_command(at(sent)), Some(LeaseCommand::Renew(node(1))));
    lease.handle_renewed(node(1), Renewed::Held { run: 0 }, at(answered));
}

#[test]
fn it_is_held_from_when_the_renewal_was_sent_less_a_margin() {
    let mut lease = enlisted();
    assert_eq!(lease.standing(at(6_999)).lease, LeaseState::Held);
    assert_eq!(lease.standing(at(7_000)).lease, LeaseState::Lapsed, "an eighth less than 8 s");
    assert_eq!(lease.poll_command(at(1_999)), None);
    assert_eq!(lease.poll_timeout(at(0)), Some(at(2_000)), "a quarter");
    // The answer comes late: what counts is when it was asked for.
    renew(&mut lease, 2_000, 3_900);
    assert_eq!(lease.standing(at(8_999)).lease, LeaseState::Held);
    assert_eq!(lease.standing(at(9_000)).lease, LeaseState::Lapsed);
    assert_eq!(lease.standing(at(9_000)).holder(), None);
    assert_eq!(lease.standing(at(9_000)).incarnation, Some(node(1)));
}

#[test]
fn a_renewal_is_not_sent_again_on_a_connection_that_does_not_answer() {
    let mut lease = enlisted();
    assert_eq!(lease.poll_command(at(2_000)), Some(LeaseCommand::Renew(node(1))));
    assert_eq!(lease.poll_command(at(3_999)), None);
    assert_eq!(lease.poll_timeout(at(2_000)), Some(at(4_000)));
    assert_eq!(lease.poll_command(at(4_000)), Some(LeaseCommand::Reconnect));
    assert_eq!(lease.poll_command(at(4_100)), None);
    // What the old connection still brings does not count.
    lease.handle_renewed(node(1), Renewed::Held { run: 0 }, at(4_200));
    assert_eq!(lease.standing(at(7_000)).lease, LeaseState::Lapsed);
    lease.handle_connected(at(7_100));
    renew(&mut lease, 7_100, 7_100);
    assert_eq!(lease.standing(at(7_100)).lease, LeaseState::Held);
    assert_eq!(lease.poll_command(at(7_100)), Some(LeaseCommand::PutAgain), "only now");
    assert_eq!(lease.poll_command(at(7_100)), None);
}

#[test]
fn gone_is_for_good_and_a_new_life_takes_its_place() {
    let mut lease = enlisted();
    assert_eq!(lease.poll_command(at(2_000)), Some(LeaseCommand::Renew(node(1))));
    lease.handle_renewed(node(1), Renewed::Gone, at(2_100));
    let standing = lease.standing(at(2_100));
    assert_eq!((standing.lease, standing.incarnation), (LeaseState::Gone, None));
    assert_eq!(lease.poll_command(at(2_100)), Some(LeaseCommand::Draw));
    lease.handle_drawn(0);
    assert_eq!(lease.poll_command(at(2_100)), Some(LeaseCommand::Draw), "zero is nobody");
    lease.handle_drawn(4);
    let enlist = LeaseCommand::Enlist { incarnation: node(4), instead_of: Some(node(1)) };
    assert_eq!(lease.poll_command(at(2_100)), Some(enlist));
    lease.handle_enlisted(node(1), at(2_200));
    assert_eq!(lease.standing(at(2_200)).lease, LeaseState::Gone, "an answer of the old life");
    lease.handle_enlisted(node(4), at(2_200));
    assert_eq!(lease.standing(at(2_200)).holder(), Some(node(4)));
}

#[test]
fn a_name_that_is_taken_is_not_fought_for() {
    let mut lease = Lease::new(LENGTH);
    lease.handle_connected(at(0));
    let _ = lease.poll_command(at(0));
    lease.handle_drawn(1);
    let _ = lease.poll_command(at(0));
    lease.handle_name_taken(node(1));
    assert_eq!(lease.poll_command(at(60_000)), None);
    assert_eq!(lease.poll_timeout(at(60_000)), None, "there is nothing to wait for");
    assert_eq!(lease.standing(at(60_000)).lease, LeaseState::Gone);
    assert!(lease.is_name_taken());
    // The other process ends.
    lease.handle_name_free(at(60_000));
    assert_eq!(lease.poll_command(at(60_000)), Some(LeaseCommand::Draw));
    lease.handle_drawn(2);
    let enlist = LeaseCommand::Enlist { incarnation: node(2), instead_of: None };
    assert_eq!(lease.poll_command(at(60_000)), Some(enlist));
}

#[test]
fn only_who_has_held_a_lease_for_one_lease_takes_from_the_gone() {
    let mut lease = enlisted();
    assert_eq!(lease.standing(at(0)).may_take_from, Some(at(8_000)));
    for sent in [2_000, 4_000, 6_000] {
        renew(&mut lease, sent, sent);
    }
    assert_eq!(lease.standing(at(6_000)).may_take_from, Some(at(8_000)));
    assert_eq!(lease.standing(at(14_000)).may_take_from, None, "it has lapsed");
    renew(&mut lease, 14_000, 14_000);
    assert_eq!(lease.standing(at(14_000)).may_take_from, Some(at(22_000)), "counted anew");
}

#[test]
fn another_run_of_the_engine_is_put_everything_again() {
    let mut lease = enlisted();
    assert_eq!(lease.poll_command(at(2_000)), Some(LeaseCommand::Renew(node(1))));
    lease.handle_renewed(node(1), Renewed::Held { run: 1 }, at(2_000));
    assert_eq!(lease.poll_command(at(2_000)), None, "the first one that is told");
    renew(&mut lease, 4_000, 4_000);
    assert_eq!(lease.poll_command(at(4_000)), Some(LeaseCommand::PutAgain));
    renew(&mut lease, 6_000, 6_000);
    assert_eq!(lease.poll_command(at(6_000)), None, "the same run");
}

#[test]
fn a_life_that_may_have_been_enlisted_is_not_asked_for_again() {
    let mut lease = enlisted();
    assert_eq!(lease.poll_command(at(2_000)), Some(LeaseCommand::Renew(node(1))));
    lease.handle_renewed(node(1), Renewed::Gone, at(2_000));
    let draws = |lease: &mut Lease, number: u64, now: u64| {
        assert_eq!(lease.poll_command(at(now)), Some(LeaseCommand::Draw));
        lease.handle_drawn(number);
        let enlist = LeaseCommand::Enlist { incarnation: node(number), instead_of: Some(node(1)) };
        assert_eq!(lease.poll_command(at(now)), Some(enlist));
    };
    draws(&mut lease, 2, 2_000);
    // The answer is lost.
    lease.handle_disconnected();
    lease.handle_connected(at(2_500));
    draws(&mut lease, 3, 2_500);
    // There is none in time.
    assert_eq!(lease.poll_command(at(4_500)), Some(LeaseCommand::Reconnect));
    assert_eq!(lease.poll_command(at(4_500)), Some(LeaseCommand::Draw));
    lease.handle_drawn(4);
    assert_eq!(lease.poll_command(at(4_500)), None, "there is no connection");
}

#[test]
fn a_renewal_that_somebody_waits_for_is_sent_at_once() {
    let mut lease = enlisted();
    assert_eq!(lease.renewed(at(500)), Some(at(0)));
    lease.handle_wanted(at(500));
    assert_eq!(lease.poll_timeout(at(500)), Some(at(500)));
    assert_eq!(lease.poll_command(at(500)), Some(LeaseCommand::Renew(node(1))));
    // Sent before: it does not tell what this one waits for.
    lease.handle_wanted(at(600));
    lease.handle_renewed(node(1), Renewed::Held { run: 0 }, at(700));
    assert_eq!(lease.renewed(at(700)), Some(at(500)));
    renew(&mut lease, 700, 800);
    assert_eq!(lease.renewed(at(800)), Some(at(700)));
    assert_eq!(lease.poll_command(at(800)), None);
    assert_eq!(lease.held_until(), Some(at(7_700)));
    assert_eq!(lease.renewed(at(7_700)), None, "it has lapsed");
}

#[test]
fn an_engine_that_has_lost_everything_begins_nothing_for_a_lease() {
    let mut lease = enlisted();
    lease.handle_losses(1, at(1_000));
    lease.handle_losses(1, at(1_500));
    assert_eq!(lease.standing(at(1_500)).may_begin_from, Some(at(9_000)));
    assert_eq!(lease.standing(at(1_500)).losses, 1);
    lease.handle_timeout(at(9_000));
    assert_eq!(lease.standing(at(9_000)).may_begin_from, None);
}

#[test]
fn a_node_that_leaves_says_so_once() {
    let mut lease = enlisted();
    lease.drain();
    assert!(lease.standing(at(0)).drains);
    assert_eq!(lease.retire(), Some(LeaseCommand::Retire(node(1))));
    assert_eq!(lease.retire(), None);
    assert_eq!(lease.standing(at(0)).lease, LeaseState::Gone);
    assert_eq!(lease.poll_command(at(9_000)), None);
    assert_eq!(lease.poll_timeout(at(9_000)), None);
}
