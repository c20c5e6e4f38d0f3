//! Plain readers of events: they confirm nothing, and name where they are when they come back.

use super::*;
use crate::wire::EventId;

fn id(position: u64, attachment: u64) -> Claim {
    id_of(epoch(), position, attachment)
}

fn id_of(epoch: WireId, position: u64, attachment: u64) -> Claim {
    let (position, attachment) = (Position::new(position), AttachmentNumber::new(attachment));
    Claim::PlainAt(Some(EventId { epoch, position, attachment }))
}

impl Sim {
    /// A page that begins to read.
    fn reader(&mut self) -> u64 {
        self.offer("plain", Claim::PlainAt(None)).unwrap()
    }

    /// It comes back.
    fn reads_on(&mut self, position: u64, attachment: u64) -> Result<u64, String> {
        self.offer("plain", id(position, attachment))
    }
}

#[test]
fn it_is_told_where_it_starts_and_goes_on_from_where_it_says() {
    let mut sim = Sim::new();
    let reader = sim.reader();
    sim.send_range(0..3);
    assert_eq!(sim.out(reader), ["hello reused from 0 received null", "m0", "m1", "m2"]);
    sim.detach(reader);
    // Two of the three had arrived.
    let reader = sim.reads_on(2, 1).unwrap();
    sim.send_range(3..4);
    assert_eq!(sim.out(reader), ["hello resumed from 2 received null", "m2", "m3"]);
    sim.detach(reader);
    // None had.
    let reader = sim.reads_on(0, 1).unwrap();
    assert_eq!(sim.data(reader), ["m2", "m3"], "an id that was heard is a confirmation");
}

#[test]
fn what_was_written_stays_until_room_is_needed_and_no_longer() {
    let mut sim = Sim::with(|rules| rules.bounds.outbox_messages = 4);
    let reader = sim.reader();
    sim.send_range(0..4);
    assert!(sim.is_full(), "nothing is written yet");
    assert_eq!(sim.data(reader).len(), 4);
    sim.send_range(4..6);
    sim.out(reader);
    sim.detach(reader);
    let reader = sim.reads_on(2, 1).unwrap();
    assert_eq!(sim.out(reader), ["hello resumed from 2 received null", "m2", "m3", "m4", "m5"]);
    sim.send_range(6..7);
    sim.out(reader);
    sim.detach(reader);
    let reader = sim.reads_on(2, 1).unwrap();
    let told = sim.out(reader);
    assert_eq!(told[0], "hello resumed from 3 received null gap 2..3 overflow");
    assert_eq!(told[1..], ["m3", "m4", "m5", "m6"]);
}

#[test]
fn a_new_page_gets_all_that_is_left() {
    let mut sim = Sim::new();
    let first = sim.reader();
    sim.send_range(0..3);
    sim.out(first);
    let second = sim.reader();
    assert_eq!(sim.out(second), ["hello resumed from 0 received null", "m0", "m1", "m2"]);
    assert_eq!(sim.out(first).last().unwrap(), "close 4100 replaced");
}

#[test]
fn two_pages_do_not_fight() {
    let mut sim = Sim::new();
    let first = sim.reader();
    sim.out(first);
    let second = sim.reader();
    sim.out(second);
    assert_eq!(sim.reads_on(0, first), Err("4100 superseded".to_owned()));
    // The second page comes back, and again without having seen the number of its last turn.
    let third = sim.reads_on(0, second).unwrap();
    sim.detach(third);
    assert!(sim.reads_on(0, second).is_ok());
    assert_eq!(sim.reads_on(0, first), Err("4100 superseded".to_owned()));
}

#[test]
fn a_page_with_a_client_of_ours_is_not_taken_over_by_a_reader_that_comes_back() {
    let mut sim = Sim::new();
    let reader = sim.reader();
    sim.out(reader);
    sim.fresh("a");
    assert_eq!(sim.reads_on(0, reader), Err("4100 superseded".to_owned()));
    // Loaded anew, it is what the user wants.
    sim.reader();
}

#[test]
fn shared_pages_read_side_by_side() {
    let mut sim = Sim::with(|rules| rules.attach = Attach::Share);
    let (first, second) = (sim.reader(), sim.reader());
    sim.send_range(0..2);
    assert_eq!(sim.data(first), ["m0", "m1"]);
    assert_eq!(sim.data(second), ["m0", "m1"]);
    sim.detach(first);
    let back = sim.reads_on(1, first).unwrap();
    assert_eq!(sim.data(back), ["m1"]);
}

#[test]
fn another_history_is_told_as_a_gap() {
    let mut sim = Sim::new();
    sim.send_range(0..2);
    let other = WireId::parse("0000000000000000-0").unwrap();
    let reader = sim.offer("plain", id_of(other, 7, 1)).unwrap();
    assert_eq!(
        sim.out(reader),
        ["hello reused from 0 received null gap 7..gone expired", "m0", "m1"]
    );
    assert!(sim.offer("plain", id(3, 2)).unwrap_err().starts_with("4103"));
}

#[test]
fn a_reader_that_stalls_is_closed() {
    let mut sim = Sim::new();
    let reader = sim.reader();
    sim.advance(HEARTBEAT);
    assert!(sim.out(reader).iter().any(|line| line.starts_with("ping")));
    sim.advance(HEARTBEAT);
    assert_eq!(sim.out(reader).last().unwrap(), "close 4113 try again later");
}

#[test]
fn one_that_reads_stays() {
    let mut sim = Sim::new();
    let reader = sim.reader();
    sim.send_range(0..1);
    for _ in 0..10 {
        sim.advance(HEARTBEAT);
        if sim.pings.contains_key(&reader) {
            sim.pong(reader);
        }
    }
    assert!(!sim.out(reader).iter().any(|line| line.starts_with("close")));
}

// Messages without a transport.

impl Sim {
    pub(super) fn post(
        &mut self,
        text: &str,
        key: Option<(u64, u64)>,
    ) -> Result<Option<Delivery>, Undelivered> {
        let who = Who { name: name("plain"), info: "plain" };
        let key = key.map(|(key, message)| DeliveryKey { key, message });
        self.session.deliver(&who, text.into(), key, self.now)
    }

    fn progress(&self, delivery: Option<Delivery>) -> DeliveryProgress {
        self.session.delivery_progress(delivery)
    }
}

#[test]
fn a_post_is_taken_and_handled_like_any_message() {
    let mut sim = Sim::new();
    let one = sim.post("one", None).unwrap();
    let two = sim.post("two", None).unwrap();
    assert_eq!(sim.progress(one), DeliveryProgress::Waits);
    assert_eq!(sim.event().unwrap(), "plain:one");
    assert_eq!(sim.progress(one), DeliveryProgress::Committed, "there is no store");
    assert_eq!(sim.progress(two), DeliveryProgress::Waits);
    assert_eq!(sim.messages(), ["plain:two"]);
    // A sender that reads nothing needs nothing of the outbox.
    let a = sim.fresh("a");
    sim.send_range(0..3);
    sim.out(a);
    sim.ack(a, 3);
    assert_eq!(sim.session.outbox.len(), 0);
}

#[test]
fn a_post_that_no_handler_takes_is_dropped_with_its_session() {
    for durable_inbox in [false, true] {
        let mut sim = Sim::with(|rules| rules.durable_inbox = durable_inbox);
        let [one, two] = ["one", "two"].map(|text| sim.post(text, None).unwrap());
        sim.take_one();
        sim.session.end(OutcomeStatus::Done, sim.now);
        let before =
            if durable_inbox { DeliveryProgress::Taken } else { DeliveryProgress::Committed };
        assert_eq!(sim.progress(one), before, "the store does not have the end yet");
        assert_eq!(sim.progress(two), DeliveryProgress::Dropped);
        sim.session.handle_outcome_committed(sim.now);
        assert_eq!(sim.progress(one), DeliveryProgress::Committed);
        assert_eq!(sim.progress(two), DeliveryProgress::Dropped);
    }
}

#[test]
fn a_post_finds_room_or_is_told() {
    let mut sim = Sim::with(|rules| {
        rules.bounds.inbox_messages = 2;
        rules.bounds.message = 10;
    });
    sim.post("one", None).unwrap();
    sim.post("two", None).unwrap();
    assert_eq!(sim.post("three", None), Err(Undelivered::Full));
    sim.take_one();
    sim.post("three", None).unwrap();
    assert_eq!(sim.post("much too long", None), Err(Undelivered::TooBig));
    sim.session.end(OutcomeStatus::Done, sim.now);
    assert_eq!(sim.post("late", None), Err(Undelivered::Ended));
}

#[test]
fn a_key_counts_once_among_the_newest_64() {
    let mut sim = Sim::new();
    let first = sim.post("one", Some((1, 7))).unwrap();
    assert_eq!(sim.post("one", Some((1, 7))), Ok(first));
    assert_eq!(sim.post("two", Some((1, 8))), Err(Undelivered::OtherMessage));
    assert_eq!(sim.messages(), ["plain:one"]);
    for key in 2..66 {
        sim.post("x", Some((key, 7))).unwrap();
    }
    assert_eq!(sim.messages().len(), 64);
    sim.post("one", Some((1, 7))).unwrap();
    assert_eq!(sim.messages(), ["plain:one"], "64 newer keys have come");
}

#[test]
fn the_snapshot_that_has_a_message_has_its_key() {
    let mut sim = Sim::with(|rules| rules.durable_inbox = true);
    let one = sim.post("one", Some((1, 7))).unwrap();
    sim.post("two", Some((2, 7))).unwrap();
    sim.take_one();
    assert_eq!(sim.progress(one), DeliveryProgress::Taken);
    sim.session.hand_back();
    let (snapshot, covered) = sim.session.snapshot(false);
    sim.session.handle_committed(&covered, sim.now);
    assert_eq!(sim.progress(one), DeliveryProgress::Committed);
    // The process dies: the second message is gone with its key, and comes again.
    let rules = Arc::clone(sim.session.rules());
    let info = |_: ClientName| "plain";
    sim.session = Session::restore(rules, snapshot, false, 2, Duration::ZERO, sim.now, info);
    let again = sim.post("one", Some((1, 7))).unwrap();
    assert_eq!(sim.progress(again), DeliveryProgress::Committed);
    assert_eq!(sim.session.inbox.messages(), 0);
    sim.post("two", Some((2, 7))).unwrap();
    assert_eq!(sim.session.inbox.messages(), 1);
}

#[test]
fn those_that_only_post_are_bounded_as_those_that_attach() {
    let mut sim = Sim::with(|rules| rules.bounds.shared_clients = 3);
    for (n, client) in ["ann/plain", "bob/plain", "eve/plain", "joe/plain"].into_iter().enumerate()
    {
        let who = Who { name: name(client), info: client };
        let delivered = sim.session.deliver(&who, "hi".into(), None, sim.now);
        // The messages of the others are not handled: none of them can be forgotten.
        assert_eq!(delivered.is_ok(), n < 3, "{client}");
    }
}
