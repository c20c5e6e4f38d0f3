//! A session's lives: which cursors are honoured after it was rebuilt, and what all other clients are told.

use super::*;

const EXACT: bool = true;
const STATE: bool = false;
const CLEAN: bool = true;
const KILLED: bool = false;

/// One session through its lives: what is on disk, and which life is the next.
struct Lived {
    sim: Sim,
    life: u64,
    exact: bool,
}

/// What is on disk, and whether it says that the session has done nothing since.
type Disk = (Snapshot, bool);

impl Lived {
    fn new(exact: bool) -> Self {
        let mut lived =
            Self { sim: Sim::with(|rules| rules.attach = Attach::Share), life: 1, exact };
        lived.sim.session = Session::new(lived.rules(), Epoch::new(7, 1), lived.sim.now);
        lived
    }

    /// How the session is kept from the next life on.
    fn setting(&mut self, exact: bool) {
        self.exact = exact;
    }

    fn rules(&self) -> Arc<Rules> {
        let mut rules = (**self.sim.session.rules()).clone();
        rules.durable_inbox = true;
        rules.durable_outbox = self.exact;
        Arc::new(rules)
    }

    /// The process puts what it has, and goes on.
    fn put(&mut self) -> Disk {
        let (snapshot, covered) = self.sim.session.snapshot(false);
        self.sim.session.handle_committed(&covered, self.sim.now);
        (snapshot, false)
    }

    /// The process puts what it has, says that nothing follows, and ends.
    fn drain(&mut self) -> Disk {
        (self.sim.session.snapshot(true).0, CLEAN)
    }

    /// The next process claims what is on disk.
    fn restore(&mut self, disk: &Disk) -> Disk {
        self.life += 1;
        self.restore_as(disk, self.life)
    }

    fn restore_as(&mut self, (snapshot, clean): &Disk, life: u64) -> Disk {
        let (rules, age, now) = (self.rules(), Duration::ZERO, self.sim.now);
        self.sim.session =
            Session::restore(rules, snapshot.clone(), *clean, life, age, now, |_| "gone");
        self.sim.session.expect_hello();
        self.put()
    }

    /// A client offers a cursor of this life; returns its number and the hello.
    fn come(&mut self, who: &'static str, life: u64, received: u64) -> (u64, String) {
        let epoch = Epoch::new(7, life).token();
        let claim = Claim::Cursor { epoch, received: Position::new(received), attachment: None };
        let number = self.sim.arrive(who, claim, SessionOrigin::Reused).unwrap();
        self.hello(number)
    }

    fn fresh(&mut self, who: &'static str) -> (u64, String) {
        let number = self.sim.arrive(who, Claim::Fresh, SessionOrigin::Reused).unwrap();
        self.hello(number)
    }

    /// The first hello may wait for a commit.
    fn hello(&mut self, number: u64) -> (u64, String) {
        self.put();
        let nothing_else = Budget { messages: 0, bytes: 0 };
        (number, self.sim.out_within(number, nothing_else).remove(0))
    }

    fn told(&mut self, who: &'static str, life: u64, received: u64) -> String {
        let (number, hello) = self.come(who, life, received);
        self.sim.detach(number);
        hello
    }
}

fn restarted(received: u64) -> String {
    format!("hello restored from 0 received 0 gap {received}..gone restarted")
}

#[test]
fn every_life_has_an_epoch_of_its_own_and_the_stream_goes_on() {
    for exact in [STATE, EXACT] {
        let mut lived = Lived::new(exact);
        let (a, _) = lived.fresh("a");
        lived.sim.send_range(0..3);
        lived.put();
        assert_eq!(lived.sim.data(a), ["m0", "m1", "m2"]);
        let disk = lived.drain();
        let before = lived.sim.session.epoch();
        lived.restore(&disk);
        let epoch = lived.sim.session.epoch();
        assert_ne!(epoch, before);
        assert!(lived.sim.session.knows_epoch(&before.token()));
        let (a, hello) = lived.come("a", 1, 2);
        assert_eq!(hello, "hello resumed from 2 received 0");
        lived.sim.send_range(3..4);
        lived.put();
        assert_eq!(lived.sim.data(a), ["m2", "m3"]);
    }
}

/// S3: no life that was killed under State has an end: its outbox is gone, and so is the line before it.
#[test]
fn a_state_life_that_was_killed_is_no_earlier_life() {
    let mut lived = Lived::new(STATE);
    let (_, _) = lived.fresh("a");
    lived.sim.send_range(0..1);
    let disk = lived.put();
    lived.restore(&disk);
    assert_eq!(lived.told("a", 1, 0), restarted(0));
}

/// S4, S10: what is in the record of a life under State that was killed is not all that it has said, however
/// the bytes came to be there and however the session is kept now.
#[test]
fn an_outbox_that_is_left_in_an_unclean_record_of_a_state_life_is_dropped() {
    for exact_now in [STATE, EXACT] {
        let mut lived = Lived::new(STATE);
        let (a, _) = lived.fresh("a");
        lived.sim.send_range(0..2);
        assert_eq!(lived.sim.data(a), ["m0", "m1"]);
        // A claim that takes the mark and leaves the bytes.
        let (bytes, _) = lived.drain();
        lived.restore(&(bytes.clone(), CLEAN));
        assert_eq!(lived.told("a", 1, 2), "hello resumed from 2 received 0");
        lived.sim.send_range(2..3);
        lived.setting(exact_now);
        lived.restore(&(bytes, KILLED));
        assert_eq!(lived.told("a", 1, 2), restarted(2));
        assert_eq!(lived.told("a", 2, 2), restarted(2));
    }
}

/// S10, S11, the other way: what an exact life has put is whole, also for a process that keeps less.
#[test]
fn the_record_says_whether_its_outbox_is_whole_and_not_the_present_setting() {
    let mut lived = Lived::new(EXACT);
    lived.fresh("a");
    lived.sim.send_range(0..2);
    let disk = lived.put();
    lived.setting(STATE);
    let claimed = lived.restore(&disk);
    assert_eq!(lived.told("a", 1, 1), "hello resumed from 1 received 0");
    // This life is under State. When it is killed, the line ends, also for a client that comes back under Exact.
    lived.setting(EXACT);
    lived.restore(&claimed);
    assert_eq!(lived.told("a", 1, 1), restarted(1));
    assert_eq!(lived.told("a", 2, 1), restarted(1));
}

/// X3: an epoch that a hello has named is in the record before the hello leaves; S2, X2: also where another
/// client has long been known.
#[test]
fn under_exact_no_hello_leaves_before_a_put_names_its_epoch() {
    let mut lived = Lived::new(EXACT);
    lived.fresh("a");
    lived.fresh("b");
    let disk = lived.put();
    // A request that only looks brings it back.
    lived.life += 1;
    let (rules, age, now) = (lived.rules(), Duration::ZERO, lived.sim.now);
    lived.sim.session = Session::restore(rules, disk.0, KILLED, 2, age, now, |_| "gone");
    let claimed = lived.put();
    let epoch = Epoch::new(7, 1).token();
    let claim = Claim::Cursor { epoch, received: Position::ZERO, attachment: None };
    let a = lived.sim.arrive("a", claim, SessionOrigin::Restored).unwrap();
    assert_eq!(lived.sim.out(a), Vec::<String>::new(), "the put so far names no epoch");
    // Plain clients have none.
    let newcomers = lived.sim.session.newcomers().unwrap();
    let mut admitted = claimed;
    admitted.0.admit(&newcomers);
    lived.sim.session.handle_admitted(&newcomers);
    assert_eq!(lived.sim.out(a), ["hello resumed from 0 received 0"]);
    assert_eq!(lived.sim.session.newcomers(), None);
    lived.restore(&admitted);
    assert_eq!(lived.told("a", 2, 0), "hello resumed from 0 received 0");
}

/// The copy was made at 3, and the session has gone on. X4, X6, S8: a store that goes back in time.
#[test]
fn a_cursor_of_what_a_backup_does_not_have_is_told() {
    for exact in [STATE, EXACT] {
        let mut lived = Lived::new(exact);
        let (a, _) = lived.fresh("a");
        lived.sim.send_range(0..3);
        let disk = if exact { lived.put() } else { lived.drain() };
        let backup = disk.clone();
        if !exact {
            lived.restore(&disk);
        }
        let life = lived.life;
        lived.sim.send_range(3..7);
        lived.put();
        let _ = lived.sim.data(a);
        // The store is put back. What it has is the beginning of what the clients have seen.
        lived.restore(&backup);
        assert_eq!(lived.told("a", 1, 3), "hello resumed from 3 received 0");
        for received in 4..8 {
            let (number, hello) = lived.come("b", life, received);
            let gap = format!(" gap {received}..gone restarted");
            assert!(hello.starts_with("hello restored from ") && hello.ends_with(&gap), "{hello}");
            lived.sim.detach(number);
        }
        // There are other messages at these positions now.
        for n in 0..4 {
            lived.sim.session.send(format!("another {n}").into(), lived.sim.now).unwrap();
        }
        lived.put();
        assert!(lived.told("b", life, 5).ends_with(" gap 5..gone restarted"));
        // The life that is gone has another epoch than the present one.
        assert_ne!(lived.life, life);
    }
}

/// S9, X5: a process that goes on after another has claimed the record.
#[test]
fn what_a_process_says_that_has_lost_the_session_is_of_another_history() {
    let mut lived = Lived::new(EXACT);
    lived.fresh("a");
    lived.sim.send_range(0..2);
    let disk = lived.put();
    let mut zombie = lived.sim.session.clone();
    lived.restore(&disk);
    for n in 10..13 {
        zombie.send(format!("m{n}").into(), lived.sim.now).unwrap();
    }
    lived.sim.send_range(2..5);
    lived.put();
    assert_eq!(lived.told("a", 1, 2), "hello resumed from 2 received 0");
    assert_eq!(lived.told("a", 1, 3), restarted(3).replace("from 0", "from 2"));
}

#[test]
fn a_cursor_above_the_head_is_broken_only_in_its_own_life() {
    let mut lived = Lived::new(EXACT);
    lived.fresh("a");
    let disk = lived.put();
    lived.restore(&disk);
    let claim = |life| Claim::Cursor {
        epoch: Epoch::new(7, life).token(),
        received: Position::new(1),
        attachment: None,
    };
    assert!(lived.sim.offer("a", claim(2)).unwrap_err().starts_with("4103"));
    assert_eq!(lived.told("a", 1, 1), restarted(1));
}

/// X8, S13: the list is short, and what falls out of it is told; but only lives that a hello has named are in it.
#[test]
fn lives_that_no_hello_has_named_push_out_nobody() {
    let mut lived = Lived::new(EXACT);
    lived.sim.session.rules = {
        let mut rules = (*lived.rules()).clone();
        rules.bounds.clients = 2;
        Arc::new(rules)
    };
    lived.fresh("a");
    let mut disk = lived.put();
    for _ in 0..40 {
        // A request extracts the session, and it leaves memory again.
        lived.life += 1;
        let (rules, age, now) = (lived.rules(), Duration::ZERO, lived.sim.now);
        lived.sim.session = Session::restore(rules, disk.0, true, lived.life, age, now, |_| "gone");
        disk = lived.drain();
    }
    // `b`, `c` and `d` come and go, each in lives of its own: `a` is forgotten, not its epoch.
    for who in ["b", "c", "d"] {
        lived.restore(&disk);
        let (number, _) = lived.fresh(who);
        lived.sim.detach(number);
        disk = lived.drain();
    }
    lived.restore(&disk);
    assert_eq!(lived.told("a", 1, 0), "hello reused from 0 received null");
}

#[test]
fn the_epoch_that_a_remembered_client_may_hold_is_kept_however_many_follow() {
    let mut lived = Lived::new(EXACT);
    let (a, _) = lived.fresh("a");
    lived.sim.ack(a, 0);
    let mut disk = lived.put();
    for _ in 0..40 {
        lived.restore(&disk);
        let (b, _) = lived.fresh("b");
        lived.sim.ack(b, 0);
        lived.sim.detach(b);
        disk = lived.put();
    }
    // Its hello gets lost, in life after life: it still has the first epoch.
    for _ in 0..40 {
        assert_eq!(lived.told("a", 1, 0), "hello resumed from 0 received 0");
        disk = lived.put();
        lived.restore(&disk);
    }
    // Or its answer did: then it has the last.
    assert_eq!(lived.told("a", lived.life - 1, 0), "hello resumed from 0 received 0");
    let kept = lived.sim.session.earlier_lives().len();
    assert!(kept <= 16 + 2 * 2, "{kept}");
    // A client with a cursor of a life that is not kept is told a gap.
    assert_eq!(lived.told("c", 2, 0), restarted(0));
}

/// What a client is told when only the counts of its session are left.
#[test]
fn a_farewell_says_what_is_missing() {
    let mut lived = Lived::new(EXACT);
    lived.fresh("a");
    lived.sim.send_range(0..2);
    let disk = lived.put();
    lived.restore(&disk);
    lived.sim.send_range(2..3);
    let live = lived.sim.session.final_counts();
    let exact = lived.put().0.final_counts(KILLED);
    assert_eq!(live, exact);
    for (life, received, gap) in [
        (2, 3, ""),
        (2, 1, " gap 1..3 expired"),
        // Of the life before: as far as this one goes on from it.
        (1, 1, " gap 1..3 expired"),
        (1, 2, " gap 2..3 expired"),
        (1, 3, " gap 3..gone expired"),
        (9, 1, " gap 1..gone expired"),
    ] {
        assert_eq!(farewell(&live, 7, life, received), Some(format!("from 3 received 0{gap}")));
    }
    assert_eq!(farewell(&live, 8, 1, 3).unwrap(), "from 3 received 0 gap 3..gone expired");
    assert_eq!(farewell(&live, 7, 2, 4), None, "above the head of its own epoch");
}

/// A session under State that was killed and is ended in the store: what it had said is not known.
#[test]
fn a_farewell_of_a_killed_session_claims_nothing() {
    let mut lived = Lived::new(STATE);
    lived.fresh("a");
    lived.sim.send_range(0..2);
    let killed = lived.put().0.final_counts(KILLED);
    for received in [0, 1, 2] {
        let told = format!("from 0 received 0 gap {received}..gone expired");
        assert_eq!(farewell(&killed, 7, 1, received), Some(told));
    }
    let clean = lived.drain().0.final_counts(CLEAN);
    assert_eq!(farewell(&clean, 7, 1, 2), Some("from 2 received 0".into()));
}

fn farewell(counts: &FinalCounts, session: u64, life: u64, received: u64) -> Option<String> {
    let client = name("a");
    let epoch = Epoch::new(session, life).token();
    let claim = Claim::Cursor { epoch, received: Position::new(received), attachment: None };
    let id = WireId::parse("s").unwrap();
    let told = counts.farewell(client, &id, &claim, OutcomeStatus::Done, &Rules::default()).ok()?;
    let told: Vec<_> = told.iter().map(line).collect();
    assert_eq!(told[1..], ["done done 0", "close 1000 done"]);
    told[0].strip_prefix("hello resumed ").map(str::to_owned)
}

/// A store was put back to before client b's first commit. Since then client a has acknowledged what b still needs.
/// No client has pushed b out.
#[test]
fn a_client_that_the_record_does_not_know_any_more_is_told_a_restart() {
    let mut lived = Lived::new(EXACT);
    let (a, _) = lived.fresh("a");
    let disk = lived.put();
    lived.fresh("b");
    lived.restore(&disk);
    let (a_again, hello) = lived.come("a", 1, 0);
    assert_eq!((a_again > a, hello.as_str()), (true, "hello resumed from 0 received 0"));
    lived.sim.send_range(0..3);
    lived.put();
    assert_eq!(lived.sim.data(a_again), ["m0", "m1", "m2"]);
    lived.sim.ack(a_again, 3);
    // The first hello may be lost on its way: then the client offers the same cursor again.
    for _ in 0..2 {
        let hello = lived.told("b", 1, 0);
        assert_eq!(hello, "hello resumed from 3 received 0 gap 0..3 restarted");
    }
}

/// It may never have seen the hello that said `null`: its offer says the same in another life, so the answer must, too.
#[test]
fn a_pushed_out_client_is_told_null_in_another_life_too() {
    for (exact, again) in [
        (EXACT, "hello reused from 0 received null"),
        (STATE, "hello restored from 0 received null gap 0..gone restarted"),
    ] {
        let mut lived = Lived::new(exact);
        let mut rules = (*lived.rules()).clone();
        rules.bounds.clients = 1;
        lived.sim.session = Session::new(Arc::new(rules), Epoch::new(7, 1), lived.sim.now);
        let (a, _) = lived.fresh("a");
        assert!(lived.sim.say(a, "x"));
        assert_eq!(lived.sim.messages(), ["a:x"]);
        lived.sim.events();
        lived.sim.session.hand_back();
        lived.sim.detach(a);
        let (b, _) = lived.fresh("b");
        lived.sim.detach(b);
        assert_eq!(lived.told("a", 1, 0), "hello reused from 0 received null");
        let disk = lived.put();
        for _ in 0..2 {
            lived.restore(&disk);
            assert_eq!(lived.told("a", 1, 0), again);
        }
    }
}
