//! What readers get that ask, from which place on: never a part as the whole, never two meanings of one offset.

use proptest::prelude::*;

use super::*;
use crate::wire::Offset;

fn place(life: u64, position: u64) -> ReadFrom {
    ReadFrom::Place { life: Epoch::new(7, life).life().tag(), position: Position::new(position) }
}

/// What a reader is told, in one line.
fn read_within(sim: &Sim, from: ReadFrom, room: usize) -> String {
    match sim.session.read(from, room) {
        Ok(Reading { from, messages, next, is_up_to_date, has_ended }) => {
            let texts: Vec<_> = messages.iter().map(|(_, it)| it.as_text().unwrap()).collect();
            let more = if is_up_to_date { "" } else { " more" };
            let end = if has_ended { " end" } else { "" };
            format!("{from}..{next} {}{more}{end}", texts.join(","))
        }
        Err(NotRead::Gone { earliest }) => format!("gone before {earliest}"),
        Err(NotRead::Unsettled) => "unsettled".to_owned(),
        Err(NotRead::Frozen) => "frozen".to_owned(),
    }
}

fn read(sim: &Sim, from: ReadFrom) -> String {
    read_within(sim, from, usize::MAX)
}

#[test]
fn a_reader_gets_all_from_its_place_on_or_is_told_that_it_is_gone() {
    for (retain, from, expected) in [
        (Retain::Nothing, ReadFrom::Now, "6..6 "),
        (Retain::Nothing, ReadFrom::Start, "gone before 3"),
        (Retain::Newest, ReadFrom::Start, "0..6 m0,m1,m2,m3,m4,m5"),
        (Retain::Nothing, place(1, 2), "gone before 3"),
        (Retain::Nothing, place(1, 3), "3..6 m3,m4,m5"),
        (Retain::Newest, place(1, 2), "2..6 m2,m3,m4,m5"),
        (Retain::Nothing, place(1, 6), "6..6 "),
        // Above the head, and of no life of this session.
        (Retain::Nothing, place(1, 7), "gone before 3"),
        (Retain::Newest, place(2, 6), "gone before 0"),
    ] {
        assert_eq!(read(&half_way(retain), from), expected, "{retain:?} {from:?}");
    }
}

#[test]
fn a_reader_gets_as_much_as_there_is_room_for_and_at_least_one() {
    let sim = half_way(Retain::Newest);
    for (room, expected) in [
        (0, "1..2 m1 more"),
        (2, "1..2 m1 more"),
        (4, "1..3 m1,m2 more"),
        (9, "1..5 m1,m2,m3,m4 more"),
        (10, "1..6 m1,m2,m3,m4,m5"),
    ] {
        assert_eq!(read_within(&sim, place(1, 1), room), expected, "{room}");
    }
}

#[test]
fn the_start_is_the_checkpoint_which_stands_for_what_was_before() {
    for (retain, cleared) in [(Retain::Nothing, "gone before 3"), (Retain::Newest, "0..8 ")] {
        let mut sim = half_way(retain);
        sim.session.send_checkpoint("view".into(), sim.now).unwrap();
        sim.send("after").unwrap();
        assert_eq!(read(&sim, ReadFrom::Start), "6..8 view,after", "{retain:?}");
        sim.session.clear_checkpoint();
        assert!(read(&sim, ReadFrom::Start).starts_with(cleared), "{retain:?}");
    }
}

#[test]
fn what_may_not_leave_is_not_read() {
    let mut sim = Sim::with(|rules| rules.durable_outbox = true);
    sim.send_range(0..2);
    assert_eq!(read(&sim, ReadFrom::Start), "0..0 ");
    assert_eq!(read(&sim, place(1, 1)), "gone before 0", "nobody was told that place");
    sim.commit();
    sim.send_range(2..3);
    assert_eq!(read(&sim, ReadFrom::Start), "0..2 m0,m1");
    assert_eq!(read(&sim, ReadFrom::Now), "2..2 ");
    sim.session.send_checkpoint("view".into(), sim.now).unwrap();
    assert_eq!(read(&sim, ReadFrom::Start), "unsettled");
    sim.commit();
    assert_eq!(read(&sim, ReadFrom::Start), "3..4 view");
}

#[test]
fn what_is_for_one_client_alone_is_not_read() {
    let mut sim = Sim::new();
    let a = sim.fresh("a");
    sim.out(a);
    sim.send("m0").unwrap();
    sim.tell("a", "alone").unwrap();
    assert_eq!(read(&sim, ReadFrom::Start), "0..2 m0");
    sim.send("m2").unwrap();
    assert_eq!(read(&sim, place(1, 2)), "2..3 m2");
    assert_eq!(read_within(&sim, ReadFrom::Start, 0), "0..1 m0 more");
    assert_eq!(read_within(&sim, place(1, 1), 0), "1..3 m2");
}

#[test]
fn the_last_message_and_the_end_come_in_one_step() {
    let mut sim = half_way(Retain::Nothing);
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(read(&sim, place(1, 3)), "3..6 m3,m4,m5 end");
    assert_eq!(read_within(&sim, place(1, 3), 2), "3..4 m3 more", "not yet all");
    assert_eq!(read(&sim, place(1, 6)), "6..6  end");
    let left = sim.session.final_counts();
    let end = Position::new(6);
    let at_end = left.read(place(1, 6)).unwrap();
    assert!(at_end.has_ended && at_end.is_up_to_date && at_end.next == end);
    assert_eq!(left.read(ReadFrom::Now), Ok(at_end));
    for from in [ReadFrom::Start, place(1, 5), place(1, 7), place(2, 6)] {
        assert_eq!(left.read(from), Err(NotRead::Gone { earliest: end }), "{from:?}");
    }
}

#[test]
fn a_session_that_stands_still_is_not_read() {
    let mut sim = half_way(Retain::Newest);
    sim.session.freeze();
    assert_eq!(read(&sim, ReadFrom::Start), "frozen");
}

/// One step of a history.
#[derive(Clone, Copy, Debug)]
enum Act {
    Send,
    Checkpoint,
    Clear,
    Ack,
    Commit,
    /// The process dies: what was put last is what there is.
    Kill,
    /// The process puts everything, and another one goes on.
    Drain,
    /// The reader asks for this many bytes.
    Read(usize),
    /// The same, and its answer is lost.
    Lose,
    /// The reader begins again.
    Again,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => Just(Act::Send),
        1 => Just(Act::Checkpoint),
        1 => Just(Act::Clear),
        3 => Just(Act::Ack),
        3 => Just(Act::Commit),
        1 => Just(Act::Kill),
        1 => Just(Act::Drain),
        5 => (0_usize..12).prop_map(Act::Read),
        1 => Just(Act::Lose),
        1 => Just(Act::Again),
    ]
}

/// A session through its lives, what it has really said, and a reader.
struct Story {
    sim: Sim,
    rules: Arc<Rules>,
    client: Option<u64>,
    disk: Snapshot,
    life: u64,
    /// What was said, by position, as far as this history goes.
    said: Vec<String>,
    durable: usize,
    serial: u64,
    offset: Option<Offset>,
    /// What the reader has had since it began, or was told that something is missing.
    had: BTreeMap<u64, String>,
    /// What each offset has meant.
    meant: BTreeMap<String, String>,
}

impl Story {
    fn new(exact: bool, retain: Retain, kept: usize) -> Self {
        let mut rules = Rules { durable_inbox: true, durable_outbox: exact, ..Rules::default() };
        rules.retention.retain = retain;
        rules.retention.messages = kept;
        let mut sim = Sim::new();
        let rules = Arc::new(rules);
        sim.session = Session::new(Arc::clone(&rules), Epoch::new(7, 1), sim.now);
        sim.session.expect_hello();
        let (disk, covered) = sim.session.snapshot(false);
        sim.session.handle_committed(&covered, sim.now);
        Self {
            sim,
            rules,
            client: None,
            disk,
            life: 1,
            said: Vec::new(),
            durable: 0,
            serial: 0,
            offset: None,
            had: BTreeMap::new(),
            meant: BTreeMap::new(),
        }
    }

    fn restore(&mut self, clean: bool) {
        self.life += 1;
        let (age, now) = (Duration::ZERO, self.sim.now);
        let (rules, disk) = (Arc::clone(&self.rules), self.disk.clone());
        self.sim.session = Session::restore(rules, disk, clean, self.life, age, now, |_| "gone");
        self.sim.session.expect_hello();
        self.client = None;
        if clean {
        } else if self.rules.durable_outbox {
            self.said.truncate(self.durable);
        } else {
            self.said.clear();
        }
        self.commit();
    }

    fn commit(&mut self) {
        let (disk, covered) = self.sim.session.snapshot(false);
        self.sim.session.handle_committed(&covered, self.sim.now);
        self.disk = disk;
        self.durable = self.said.len();
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send | Act::Checkpoint => {
                let text = format!("{}", self.serial);
                let sent = match act {
                    Act::Send => self.sim.session.send((&*text).into(), self.sim.now),
                    _ => self.sim.session.send_checkpoint((&*text).into(), self.sim.now),
                };
                if let Ok(position) = sent {
                    assert_eq!(position.get(), self.said.len() as u64);
                    self.said.push(text);
                    self.serial += 1;
                }
            }
            Act::Clear => self.sim.session.clear_checkpoint(),
            Act::Ack => {
                let client = match self.client {
                    Some(client) => client,
                    None => self.sim.offer("a", Claim::Fresh).unwrap(),
                };
                self.client = Some(client);
                self.commit();
                let last = self.sim.out(client).len();
                if last > 0 {
                    self.sim.ack(client, self.said.len() as u64);
                }
            }
            Act::Commit => self.commit(),
            Act::Kill => self.restore(false),
            Act::Drain => {
                self.disk = self.sim.session.snapshot(true).0;
                self.restore(true);
            }
            Act::Read(room) => self.read(room, false),
            Act::Lose => self.read(usize::MAX, true),
            Act::Again => {
                self.offset = None;
                self.had.clear();
            }
        }
    }

    fn offset_at(&self, position: Position) -> Offset {
        Offset { ordinal: self.life, position, life: self.sim.session.life_tag() }
    }

    fn read(&mut self, room: usize, is_lost: bool) {
        let from = self.offset.map_or(ReadFrom::Start, |Offset { life, position, .. }| {
            ReadFrom::Place { life, position }
        });
        let reading = match self.sim.session.read(from, room) {
            Ok(reading) => reading,
            Err(NotRead::Gone { earliest }) => {
                // It is told, and goes on from there.
                self.had.clear();
                self.offset = Some(self.offset_at(earliest));
                return;
            }
            Err(NotRead::Unsettled) => return,
            Err(NotRead::Frozen) => panic!("nothing freezes it"),
        };
        let begin = reading.from.get();
        match self.offset {
            Some(offset) => assert_eq!(begin, offset.position.get()),
            None => assert!(begin == 0 || self.sim.session.outbox.last_checkpoint().is_some()),
        }
        // What it has had before is what was said before.
        for (at, text) in &self.had {
            if *at < begin {
                assert_eq!(self.said.get(usize::try_from(*at).unwrap()), Some(text), "a gap");
            }
        }
        let mut at = begin;
        for (position, message) in &reading.messages {
            assert_eq!(position.get(), at, "nothing is left out");
            let text = message.as_text().unwrap();
            assert_eq!(self.said[usize::try_from(at).unwrap()], text);
            let offset = self.offset_at(*position).to_string();
            let before = self.meant.entry(offset).or_insert_with(|| text.to_owned());
            assert_eq!(before, text, "an offset with two meanings");
            at += 1;
        }
        assert_eq!(reading.next.get(), at);
        if self.rules.durable_outbox {
            assert!(at <= self.durable as u64, "a message that may be taken back was read");
        }
        let next = self.offset_at(reading.next);
        if let Some(before) = self.offset {
            assert!(next.to_string() >= before.to_string(), "offsets do not go back");
        }
        if !is_lost {
            let had = reading.messages.iter();
            self.had.extend(had.map(|(at, it)| (at.get(), it.as_text().unwrap().to_owned())));
            self.offset = Some(next);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn a_reader_misses_nothing_that_it_is_not_told_of(
        exact in any::<bool>(),
        retain in prop_oneof![
            Just(Retain::Nothing), Just(Retain::Newest), Just(Retain::SinceCheckpoint),
        ],
        kept in 0_usize..4,
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut story = Story::new(exact, retain, kept);
        for act in acts {
            story.act(act);
        }
    }
}
