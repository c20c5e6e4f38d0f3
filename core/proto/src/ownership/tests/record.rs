//! What the engine decides at a record: every row of it.

use crate::ownership::{
    Claimed, Fence, Found, Incarnation, Looked, Over, Refused, Then,
    record::{Head, Mark, Verdict},
};

fn node(number: u64) -> Incarnation {
    Incarnation::new(number).expect("not zero")
}

/// The record of node 1's third claim, written five times.
fn ours() -> Head {
    let fence = Fence { line: 7, generation: 3, owner: Some(node(1)) };
    Head { fence, version: 5, mark: Mark::Open }
}

fn with(fence: Fence) -> Head {
    Head { fence, ..ours() }
}

/// Records that are another owner's, for a node that has put under `ours`.
fn others() -> [Head; 5] {
    let fence = ours().fence;
    [
        with(fence.taken_by(node(2))),
        with(fence.taken_by(node(1))),
        with(Fence { owner: Some(node(2)), ..fence }),
        with(fence.released()),
        with(Fence { line: 8, generation: 1, ..fence }),
    ]
}

fn behind() -> Head {
    with(Fence { generation: 2, owner: Some(node(3)), ..ours().fence })
}

#[test]
fn a_put_is_its_owners_alone_and_in_order() {
    let fence = ours().fence;
    let put = |stored, version| Head::put(stored, fence, version, Then::Keep);
    assert_eq!(put(None, 6), Verdict::Refuse(Refused::Missing), "it never makes a record");
    assert_eq!(put(Some(ours()), 6), Verdict::Write(Head { version: 6, ..ours() }, ()));
    for late in [4, 5] {
        assert_eq!(put(Some(ours()), late), Verdict::Keep(()), "{late}");
    }
    for other in others() {
        assert_eq!(put(Some(other), 6), Verdict::Refuse(Refused::Stale), "{other:?}");
    }
    let healed = Verdict::Write(Head { version: 6, ..ours() }, ());
    assert_eq!(put(Some(behind()), 6), healed);
    let of_another_line = Head { fence: Fence { line: 8, ..behind().fence }, ..behind() };
    assert_eq!(put(Some(of_another_line), 6), Verdict::Refuse(Refused::Stale));
}

#[test]
fn a_put_may_release_or_end_and_is_repeated_without_harm() {
    let fence = ours().fence;
    for (then, left) in [
        (Then::Release, Head { fence: fence.released(), version: 6, mark: Mark::Clean }),
        (Then::End, Head { version: 6, mark: Mark::Ended, ..ours() }),
    ] {
        assert_eq!(Head::put(Some(ours()), fence, 6, then), Verdict::Write(left, ()));
        assert_eq!(Head::put(Some(left), fence, 6, then), Verdict::Keep(()), "it has happened");
        let next = Head::put(Some(left), fence, 7, Then::Keep);
        assert_eq!(next, Verdict::Refuse(Refused::Stale), "nothing follows {then:?}");
    }
}

#[test]
fn a_look_claims_what_nobody_owns() {
    let by = node(2);
    assert_eq!(Head::look(None, by), Verdict::Keep(Looked::Absent));
    assert_eq!(Head::look(Some(ours()), by), Verdict::Keep(Looked::Theirs(ours().fence)));
    let ended = Head { mark: Mark::Ended, ..ours() };
    assert_eq!(Head::look(Some(ended), by), Verdict::Keep(Looked::Ended(ended.fence)));
    for (mark, found) in [(Mark::Clean, Found::Clean), (Mark::Open, Found::Open)] {
        let free = Head { fence: ours().fence.released(), mark, ..ours() };
        let head = Head { fence: ours().fence.taken_by(by), mark: Mark::Open, ..ours() };
        let claimed = Claimed { fence: head.fence, version: 5, found };
        assert_eq!(Head::look(Some(free), by), Verdict::Write(head, Looked::Claimed(claimed)));
    }
}

#[test]
fn who_owns_without_knowing_claims_anew() {
    let head = Head { fence: ours().fence.taken_by(node(1)), ..ours() };
    let claimed = Claimed { fence: head.fence, version: 5, found: Found::Open };
    let looked = Head::look(Some(ours()), node(1));
    assert_eq!(looked, Verdict::Write(head, Looked::Claimed(claimed)));
    let late = Head::put(Some(head), ours().fence, 6, Then::Keep);
    assert_eq!(late, Verdict::Refuse(Refused::Stale), "a put of the life before");
}

#[test]
fn a_claim_is_over_exactly_what_was_found() {
    let (by, fence) = (node(2), ours().fence);
    let claim = |stored, over| Head::claim(stored, over, by, 9);
    let first = Head::first(9, by);
    let new = Claimed { fence: first.fence, version: 1, found: Found::New };
    assert_eq!(claim(None, Over::Nothing), Verdict::Write(first, new));
    let again = Claimed { found: Found::Open, ..new };
    assert_eq!(claim(Some(first), Over::Nothing), Verdict::Keep(again), "it has happened");
    assert_eq!(claim(Some(ours()), Over::Nothing), Verdict::Refuse(Refused::Stale));

    let taken = Head { fence: fence.taken_by(by), ..ours() };
    for (mark, found) in [(Mark::Open, Found::Open), (Mark::Clean, Found::Clean)] {
        let claimed = Claimed { fence: taken.fence, version: 5, found };
        let stored = Some(Head { mark, ..ours() });
        assert_eq!(claim(stored, Over::Session(fence)), Verdict::Write(taken, claimed));
    }
    let again = Claimed { fence: taken.fence, version: 5, found: Found::Open };
    assert_eq!(claim(Some(taken), Over::Session(fence)), Verdict::Keep(again));
    for other in others() {
        let refused = Verdict::Refuse(Refused::Stale);
        let is_again = other == taken;
        assert!(is_again || claim(Some(other), Over::Session(fence)) == refused, "{other:?}");
    }
    assert_eq!(claim(None, Over::Session(fence)), Verdict::Refuse(Refused::Missing));

    let ended = Some(Head { mark: Mark::Ended, ..ours() });
    assert_eq!(claim(ended, Over::Session(fence)), Verdict::Refuse(Refused::Stale));
    assert_eq!(claim(ended, Over::Final(fence)), Verdict::Write(first, new));
    assert_eq!(claim(Some(ours()), Over::Final(fence)), Verdict::Refuse(Refused::Stale));
}

#[test]
fn a_reclaim_fits_if_nobody_was_there() {
    let (by, fence) = (node(4), ours().fence);
    let reclaim = |stored| Head::reclaim(stored, fence, by);
    let taken = Head { fence: fence.taken_by(by), ..ours() };
    let claimed = Claimed { fence: taken.fence, version: 5, found: Found::Open };
    assert_eq!(reclaim(Some(ours())), Verdict::Write(taken, claimed));
    assert_eq!(reclaim(Some(taken)), Verdict::Keep(claimed), "it has happened");
    assert_eq!(reclaim(Some(behind())), Verdict::Write(taken, claimed), "the engine has lost it");
    assert_eq!(reclaim(None), Verdict::Refuse(Refused::Missing));
    for other in others() {
        assert_eq!(reclaim(Some(other)), Verdict::Refuse(Refused::Stale), "{other:?}");
    }
    let ended = Head { mark: Mark::Ended, ..ours() };
    assert_eq!(reclaim(Some(ended)), Verdict::Refuse(Refused::Stale));
}

#[test]
fn what_an_empty_engine_has_lost_is_made_again_by_the_last_owner() {
    let fence = ours().fence;
    let again = Head { fence: fence.taken_by(node(1)), version: 1, mark: Mark::Open };
    let claimed = Claimed { fence: again.fence, version: 1, found: Found::Open };
    let made = Head::recreate(None, fence, node(1));
    assert_eq!(made, Verdict::Write(again, claimed));
    assert_eq!(Head::recreate(Some(again), fence, node(1)), Verdict::Keep(claimed));
    // One that has been overtaken without noticing makes its own, before or after.
    let zombies = Fence { generation: 1, owner: Some(node(3)), ..fence };
    let refused = Head::recreate(Some(again), zombies, node(3));
    assert_eq!(refused, Verdict::Refuse(Refused::Stale));
    let first = Head { fence: zombies.taken_by(node(3)), ..again };
    assert_eq!(Head::recreate(Some(first), fence, node(1)), Verdict::Write(again, claimed));
    let another = Head { fence: Fence { line: 8, ..again.fence }, ..again };
    let refused = Head::recreate(Some(another), fence, node(1));
    assert_eq!(refused, Verdict::Refuse(Refused::Stale), "a new session has the key");
}

#[test]
fn a_release_as_it_stands_gives_nothing_older_away() {
    let fence = ours().fence;
    let free = Head { fence: fence.released(), ..ours() };
    for committed in [4, 5] {
        assert_eq!(Head::release(Some(ours()), fence, committed), Verdict::Write(free, ()));
    }
    assert_eq!(Head::release(Some(ours()), fence, 6), Verdict::Refuse(Refused::Behind));
    assert_eq!(Head::release(Some(behind()), fence, 5), Verdict::Refuse(Refused::Behind));
    assert_eq!(Head::release(Some(free), fence, 5), Verdict::Keep(()), "it has happened");
    assert_eq!(Head::release(None, fence, 5), Verdict::Refuse(Refused::Missing));
    for other in others().into_iter().filter(|other| *other != free) {
        assert_eq!(Head::release(Some(other), fence, 5), Verdict::Refuse(Refused::Stale));
    }
}

#[test]
fn a_confirmation_tells_owner_late_owner_and_stranger_apart() {
    let fence = ours().fence;
    assert_eq!(Head::confirm(Some(ours()), fence), Verdict::Keep(()));
    assert_eq!(Head::confirm(Some(behind()), fence), Verdict::Refuse(Refused::Behind));
    assert_eq!(Head::confirm(None, fence), Verdict::Refuse(Refused::Missing));
    for other in others() {
        assert_eq!(Head::confirm(Some(other), fence), Verdict::Refuse(Refused::Stale));
    }
}

#[test]
fn debug_prints_no_whole_session_id() {
    let line = 0x6f1d_2c3b_4a59_4687_9786_a5b4_c3d2_e1f0;
    let fence = Fence::first(line, node(255));
    assert_eq!(
        format!("{fence:?} {:?}", fence.released()),
        "Fence(6f1d2c3b… 1 of ff) Fence(6f1d2c3b… 1 of nobody)"
    );
    assert_eq!(node(255).to_string(), "00000000000000ff");
    assert_eq!(Incarnation::new(0), None);
}
