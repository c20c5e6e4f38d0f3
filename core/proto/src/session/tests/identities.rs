//! Several identities in one session, as under a shared key: a client is an identity and a client id.

use super::*;

fn sharing(change: impl FnOnce(&mut Rules)) -> Sim {
    Sim::with(|rules| {
        rules.attach = Attach::Share;
        change(rules);
    })
}

#[test]
fn a_client_id_of_another_identity_takes_nobodys_place() {
    for attach in [Attach::Share, Attach::Takeover] {
        let mut sim = Sim::with(|rules| rules.attach = attach);
        let ann = sim.fresh("ann/a");
        assert!(sim.say(ann, "1"));
        sim.out(ann);
        let bob = sim.fresh("bob/a");
        assert_eq!(sim.out(bob), ["hello reused from 0 received 0"]);
        let told: &[&str] = match attach {
            Attach::Share => &[],
            // Another client has come, not the same one again.
            _ => &["close 4100 superseded"],
        };
        assert_eq!(sim.out(ann), told);
        assert!(sim.say(bob, "2"));
        let expected: &[&str] = match attach {
            Attach::Share => &["+ann/a", "ann/a:1", "+bob/a", "bob/a:2"],
            _ => &["+ann/a", "ann/a:1", "-ann/a", "+bob/a", "bob/a:2"],
        };
        assert_eq!(sim.events(), expected);
    }
}

#[test]
fn counts_cursors_and_stale_offers_are_each_ones_own() {
    let mut sim = sharing(|_| {});
    let (ann, bob) = (sim.fresh("ann/a"), sim.fresh("bob/a"));
    sim.send_range(0..3);
    sim.out(ann);
    sim.out(bob);
    sim.ack(ann, 3);
    assert!(sim.say(ann, "1") && sim.say(ann, "2") && sim.say(bob, "3"));
    assert_eq!(sim.session.outbox_messages(), 3, "bob has acknowledged nothing");
    sim.detach(ann);
    sim.detach(bob);
    // Ann was heard on attachment 1 and bob on 2: what is stale for him is not for her.
    assert_eq!(sim.offer("bob/a", at_n(0, 1)), Err("4113 stale".to_owned()));
    let ann = sim.offer("ann/a", at_n(3, 1)).unwrap();
    assert_eq!(sim.out(ann)[0], "hello resumed from 3 received 2");
    let bob = sim.offer("bob/a", at_n(0, 2)).unwrap();
    assert_eq!(sim.out(bob)[0], "hello resumed from 0 received 1");
}

#[test]
fn a_snapshot_and_what_is_left_of_a_session_know_clients_by_both() {
    let mut sim = sharing(|_| {});
    let (ann, bob) = (sim.fresh("ann/a"), sim.fresh("bob/a"));
    assert!(sim.say(ann, "1") && sim.say(ann, "2") && sim.say(bob, "3"));
    sim.messages();
    for number in [ann, bob] {
        sim.out(number);
    }
    let rules = Arc::clone(sim.session.rules());
    let (snapshot, _) = sim.session.snapshot(true);
    assert!(snapshot.knows_identity(name("bob/a").identity));
    assert!(!snapshot.knows_identity(name("eve/a").identity));
    for counts in [snapshot.final_counts(true), sim.session.final_counts()] {
        let told = [("ann/a", "2"), ("bob/a", "1"), ("eve/e", "0"), ("eve/a", "null")];
        for (who, received) in told {
            let told = counts.farewell(
                name(who),
                &WireId::parse("s").unwrap(),
                &at(0),
                OutcomeStatus::Done,
                &rules,
            );
            let told: Vec<_> = told.unwrap().iter().map(line).collect();
            assert_eq!(told[0], format!("hello resumed from 0 received {received}"));
        }
    }
    sim.session = Session::restore(rules, snapshot, true, 2, Duration::ZERO, sim.now, |_| "");
    assert!(sim.session.knows_identity(name("bob/a").identity));
    let ann = sim.resume("ann/a", 0);
    assert_eq!(sim.out(ann)[0], "hello resumed from 0 received 2");
    let bob = sim.resume("bob/a", 0);
    assert_eq!(sim.out(bob)[0], "hello resumed from 0 received 1");
    let eve = sim.fresh("eve/a");
    assert_eq!(sim.out(eve)[0], "hello reused from 0 received 0");
}

#[test]
fn a_plain_page_of_another_identity_continues_nothing() {
    for attach in [Attach::Share, Attach::Takeover] {
        let mut sim = Sim::with(|rules| rules.attach = attach);
        let ann = sim.offer("ann/plain", Claim::Plain).unwrap();
        sim.send_range(0..2);
        assert_eq!(sim.data(ann), ["m0", "m1"]);
        assert_eq!(sim.events(), ["+ann/plain"]);
        sim.detach(ann);
        let bob = sim.offer("bob/plain", Claim::Plain).unwrap();
        assert_eq!(sim.events(), ["-ann/plain", "+bob/plain"], "he is not resumed");
        sim.detach(bob);
        sim.offer("ann/plain", Claim::Plain).unwrap();
        assert_eq!(sim.events(), ["-bob/plain", "+ann/plain resumed"]);
    }
}

#[test]
fn a_client_takes_less_than_200_bytes() {
    // What the application is told of it takes 8 there, too.
    let size = size_of::<client::Client<[u8; 8]>>();
    assert!((150..=192).contains(&size), "{size}");
}

#[test]
fn each_identity_has_as_many_clients_as_one() {
    let mut sim = sharing(|rules| rules.bounds.clients = 2);
    sim.fresh("ann/a");
    let second = sim.fresh("ann/b");
    assert!(sim.offer("ann/c", Claim::Fresh).unwrap_err().starts_with("4113 try again later"));
    for who in ["bob/a", "bob/b", "eve/a", "eve/b"] {
        sim.fresh(who);
    }
    sim.detach(second);
    sim.fresh("ann/c");
    assert_eq!(sim.session.clients().count(), 6, "ann's longest gone made room for her");
}

#[test]
fn all_identities_together_have_a_bound_and_who_is_longest_gone_makes_room() {
    let mut sim = sharing(|rules| rules.bounds.shared_clients = 3);
    let first = sim.fresh("ann/a");
    sim.fresh("bob/a");
    sim.fresh("eve/a");
    assert!(sim.offer("zoe/a", Claim::Fresh).unwrap_err().starts_with("4113 try again later"));
    sim.detach(first);
    sim.fresh("zoe/a");
    assert_eq!(sim.session.clients().count(), 3);
    assert!(!sim.session.knows_identity(name("ann/a").identity), "ann is forgotten");
    // She comes back with a cursor, and there is no room for her.
    assert!(sim.offer("ann/a", at(0)).unwrap_err().starts_with("4113 try again later"));
}

#[test]
fn a_changed_identity_takes_counts_and_cursors_along_and_closes_what_came_with_the_old() {
    for attach in [Attach::Share, Attach::Takeover] {
        let mut sim = Sim::with(|rules| rules.attach = attach);
        let bob = (attach == Attach::Share).then(|| sim.fresh("bob/a"));
        let ann = sim.fresh("ann/a");
        sim.send_range(0..3);
        sim.out(ann);
        sim.ack(ann, 2);
        assert!(sim.say(ann, "1") && sim.say(ann, "2"));
        sim.session.change_identity(name("ann/a").identity, name("new/a").identity, sim.now);
        assert_eq!(sim.out(ann), ["close 4112 moved"]);
        assert!(sim.say(ann, "not heard any more"));
        if let Some(bob) = bob {
            assert_eq!(sim.data(bob), ["m0", "m1", "m2"], "he stays");
        }
        assert_eq!(sim.session.transports(), usize::from(bob.is_some()));
        // The old identity waits, and the new one is let in at once.
        for who in ["ann/a", "ann/z"] {
            let told = "4113 try again later retry 500ms".to_owned();
            assert_eq!(sim.offer(who, at(0)), Err(told));
        }
        assert!(sim.offer("ann/plain", Claim::Plain).is_err());
        sim.close_answered(ann);
        sim.detach(ann);
        let back = sim.offer("new/a", at_n(2, ann)).unwrap();
        assert_eq!(sim.out(back), ["hello resumed from 2 received 2", "m2"]);
        let events: Vec<_> = sim.events().into_iter().filter(|e| e.contains("ann")).collect();
        assert_eq!(events, ["+ann/a", "ann/a:1", "ann/a:2", "-ann/a"]);
    }
}

#[test]
fn an_identity_that_was_changed_is_a_stranger_after_ten_seconds() {
    let mut sim = sharing(|_| {});
    let ann = sim.fresh("ann/a");
    assert!(sim.say(ann, "1"));
    sim.out(ann);
    sim.session.change_identity(name("ann/a").identity, name("new/a").identity, sim.now);
    // A client that holds nothing is a stranger at once.
    let stranger = sim.fresh("ann/b");
    sim.advance(10 * SECOND - MILLISECOND);
    assert!(sim.offer("ann/a", at(0)).is_err());
    sim.advance(MILLISECOND);
    let other = sim.offer("ann/a", at(0)).unwrap();
    assert_eq!(sim.out(other)[0], "hello reused from 0 received null", "nothing of hers is told");
    sim.detach(stranger);
}

#[test]
fn a_second_change_follows_the_first() {
    let mut sim = sharing(|_| {});
    let tags = ["a/a", "b/a", "c/a", "d/a"].map(|who| name(who).identity);
    sim.session.change_identity(tags[0], tags[1], sim.now);
    sim.session.change_identity(tags[1], tags[2], sim.now);
    assert_eq!(tags.map(|tag| sim.session.identity_now(tag)), [tags[2], tags[2], tags[2], tags[3]]);
    for n in 0..100_u8 {
        sim.session.change_identity(
            IdentityTag::new([n; 16]),
            IdentityTag::new([n + 1; 16]),
            sim.now,
        );
    }
    assert!(sim.session.moved().len() <= 16);
}

/// Ann has sent two messages, and comes back with her cursor and without her cookie.
fn without_cookie(sim: &mut Sim, claim: Claim) -> String {
    let new = sim.offer("new/a", claim).unwrap();
    let told = sim.out(new).remove(0);
    sim.detach(new);
    told
}

#[test]
fn a_client_that_has_lost_its_cookie_is_told_that_its_count_is_not_known() {
    const UNKNOWN: &str = "hello reused from 0 received null";
    for is_gone in [false, true] {
        let mut sim = sharing(|_| {});
        let ann = sim.fresh("ann/a");
        sim.out(ann);
        assert!(sim.say(ann, "1") && sim.say(ann, "2"));
        if is_gone {
            sim.detach(ann);
        }
        // The hello may be lost.
        for _ in 0..3 {
            assert_eq!(without_cookie(&mut sim, at_n(0, ann)), UNKNOWN);
        }
        let new = sim.offer("new/a", at_n(0, ann)).unwrap();
        assert_eq!(sim.out(new), [UNKNOWN]);
        assert!(sim.say(new, "3"));
        assert_eq!(sim.messages(), ["ann/a:1", "ann/a:2", "new/a:3"]);
        sim.detach(new);
        let new = sim.offer("new/a", at_n(0, new)).unwrap();
        assert_eq!(sim.out(new)[0], "hello resumed from 0 received 1", "it counts from 0");
        // That is no news for her.
        sim.detach(ann);
        let ann = sim.offer("ann/a", at_n(0, ann)).unwrap();
        assert_eq!(sim.out(ann)[0], "hello resumed from 0 received 2");
        // A client that holds nothing has nothing to send again.
        let fresh = sim.fresh("eve/a");
        assert_eq!(sim.out(fresh), ["hello reused from 0 received 0"]);
    }
}

#[test]
fn a_client_that_has_lost_its_cookie_sends_again_what_nobody_can_have_accepted() {
    const SURE: &str = "hello resumed from 0 received 0";
    let mut sim = sharing(|_| {});
    let ann = sim.fresh("ann/a");
    sim.out(ann);
    // Her messages may be under way.
    assert_eq!(without_cookie(&mut sim, at(0)), "hello reused from 0 received null");
    let mut sim = sharing(|_| {});
    let ann = sim.fresh("ann/a");
    sim.out(ann);
    sim.detach(ann);
    assert_eq!(without_cookie(&mut sim, at(0)), SURE);
    let mut sim = sharing(|_| {});
    let watcher = sim.watch("ann/a", Claim::Fresh).unwrap();
    sim.out(watcher);
    assert_eq!(without_cookie(&mut sim, at(0)), SURE, "a watcher sends nothing");
    // Another client of hers has nothing to do with it.
    let mut sim = sharing(|_| {});
    let ann = sim.fresh("ann/b");
    assert!(sim.say(ann, "1"));
    assert_eq!(without_cookie(&mut sim, at(0)), SURE);
}

#[test]
fn a_record_that_has_messages_of_a_client_with_another_cookie_makes_its_count_unknown() {
    // The outbox is in the record or not, and the handler has taken a message, none, or the second one early.
    for (whole, takes, unknown) in [
        (true, "first", true),
        (false, "first", true),
        (true, "none", false),
        (false, "none", false),
        (true, "second", true),
        (false, "second", true),
    ] {
        let mut sim = sharing(|_| {});
        let ann = sim.fresh("ann/a");
        sim.out(ann);
        assert!(sim.say(ann, "1") && sim.say(ann, "2"));
        match takes {
            "first" => {
                sim.events();
            }
            "second" => {
                sim.session.look_ahead();
                sim.session.look_ahead();
                assert!(sim.session.take_looked_at(sim.now).is_some());
                sim.session.hand_back();
            }
            _ => {}
        }
        let rules = Arc::clone(sim.session.rules());
        let (snapshot, _) = sim.session.snapshot(whole);
        sim.session = Session::restore(rules, snapshot, whole, 2, Duration::ZERO, sim.now, |_| "");
        let told = without_cookie(&mut sim, at_n(0, ann));
        let received = if unknown { "null" } else { "0" };
        assert!(told.contains(&format!(" received {received}")), "{whole} {takes}: {told}");
        assert_eq!(told.contains("resumed"), whole && !unknown, "{told}");
    }
}
