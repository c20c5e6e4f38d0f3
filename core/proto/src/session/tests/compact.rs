//! A session that nobody is attached to is small: see [`compact`](crate::compact).

use super::*;

/// What is in a session's own boxes and buffers now, by name.
fn in_use(sim: &Sim) -> Vec<&'static str> {
    let Session { rare, transports, inbox, outbox, .. } = &sim.session;
    let clients = sim.session.clients.iter().any(client::Client::has_rarities);
    let parts = [
        ("rarities", rare.get().is_some()),
        ("transports", !transports.is_empty()),
        ("inbox", inbox.is_in_use()),
        ("outbox", outbox.is_in_use()),
        ("rarities of a client", clients),
    ];
    parts.into_iter().filter(|(_, used)| *used).map(|(name, _)| name).collect()
}

#[test]
fn a_machine_is_small() {
    // What the application is told of a client takes 8 there, too.
    let size = size_of::<Session<[u8; 8]>>();
    assert!((150..=256).contains(&size), "{size}");
}

#[test]
fn a_suspended_session_gives_back_what_it_has_used() {
    let mut sim = Sim::new();
    assert_eq!(in_use(&sim), [""; 0]);
    let page = sim.fresh("page");
    let plain = sim.resume("other", 0);
    for number in [page, plain] {
        sim.say(number, "question");
    }
    sim.events();
    sim.send_more(["answer", "news"]);
    sim.out(plain);
    sim.ack(plain, 2);
    assert_eq!(in_use(&sim), ["transports", "outbox"], "the page needs what is there");
    sim.detach(page);
    sim.detach(plain);
    sim.events();
    assert_eq!(in_use(&sim), [""; 0]);
}

#[test]
fn a_session_at_rest_gives_back_what_a_burst_has_used() {
    let mut sim = Sim::new();
    let page = sim.fresh("page");
    sim.out(page);
    for _ in 0..100 {
        sim.say(page, "question");
    }
    assert_eq!(in_use(&sim), ["transports", "inbox"]);
    sim.events();
    assert_eq!(in_use(&sim), ["transports"], "all is taken");
    sim.send_range(0..100);
    sim.out(page);
    sim.ack(page, 100);
    // Between an acknowledgement and what comes of the next message.
    sim.say(page, "question");
    sim.out(page);
    assert_eq!(in_use(&sim), ["transports", "inbox", "outbox"], "no message costs a buffer");
    sim.events();
    sim.out(page);
    assert_eq!(in_use(&sim), ["transports"], "the page has all");
}

#[test]
fn a_message_that_was_taken_early_leaves_no_buffer() {
    let mut sim = Sim::new();
    let page = sim.fresh("page");
    sim.events();
    sim.say(page, "work");
    sim.take_one();
    sim.say(page, "urgent");
    assert_eq!(in_use(&sim), ["transports", "inbox"]);
    assert!(sim.session.look_ahead().is_some());
    assert!(sim.session.take_looked_at(sim.now).is_some());
    assert_eq!(in_use(&sim), ["rarities", "transports", "rarities of a client"]);
}

#[test]
fn a_client_that_left_before_it_was_told_of_leaves_no_buffer() {
    let mut sim = Sim::new();
    let page = sim.fresh("page");
    assert_eq!(in_use(&sim), ["transports", "inbox"]);
    sim.detach(page);
    assert_eq!(in_use(&sim), [""; 0]);
    assert_eq!(sim.events(), [""; 0]);
}

#[test]
fn what_has_been_rare_goes_when_it_is_over() {
    let mut sim = Sim::with(|rules| {
        rules.overflow = Overflow::Close;
        rules.bounds.outbox_messages = 1;
    });
    let page = sim.fresh("page");
    sim.send_more(["one"]);
    assert_eq!(sim.send("two"), Err(NotSent::Full));
    assert!(in_use(&sim).contains(&"rarities"), "since when the outbox is full");
    sim.out(page);
    sim.ack(page, 1);
    assert!(!in_use(&sim).contains(&"rarities"));
    sim.session.send_checkpoint("state".into(), sim.now).unwrap();
    sim.detach(page);
    sim.events();
    assert_eq!(in_use(&sim), ["outbox"], "the checkpoint");
}

#[test]
fn with_a_store_no_message_costs_a_box() {
    let mut sim = Sim::with(|rules| rules.durable_inbox = true);
    let page = sim.fresh("page");
    sim.commit();
    let address = |sim: &Sim| sim.session.rare.get().map(std::ptr::from_ref);
    let before = address(&sim);
    assert!(before.is_some());
    for _ in 0..3 {
        sim.say(page, "question");
        sim.take_one();
        assert_eq!(address(&sim), before, "in hand");
        assert_eq!(sim.event(), None);
        assert_eq!(address(&sim), before, "handled");
    }
}
