use super::*;
use crate::{
    Gap, GapReason, Position,
    numbers::CLOSE_AFTER_DONE,
    wire::{
        Done, Hello, Inbound as Frame, Offer, OutcomeStatus, ServerControl, StateOffer, Status,
        VERSION, Window, decode_client_text,
    },
};

const HEARTBEAT: Duration = Duration::from_secs(30);
/// Longer than the first waits, shorter than an attempt may take.
const WAIT: Duration = Duration::from_secs(10);
const ORIGINAL: Random = [7; 32];
/// Half of every cap, and another id.
const DRAWN: Random = {
    let mut bytes = [0; 32];
    bytes[7] = 0x80;
    bytes
};

/// A client on a virtual clock, and what it said to the present transport.
struct Sim {
    client: Client,
    now: Moment,
    transport: Option<TransportNumber>,
    offer: Option<Offer>,
    closed: Vec<Option<Close>>,
    /// What goes to another session before the queue, and how often that was asked.
    initial: Vec<&'static str>,
    asked: u32,
}

impl Sim {
    fn new(mode: Modes) -> Self {
        Self::with(Config { mode, ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let mut sim = Self {
            client: Client::new(config, &ORIGINAL, Moment::ZERO),
            now: Moment::ZERO,
            transport: None,
            offer: None,
            closed: Vec::new(),
            initial: Vec::new(),
            asked: 0,
        };
        sim.act();
        sim
    }

    /// A client in an open session, all its events taken.
    fn open() -> Self {
        let mut sim = Self::new(Modes::Auto);
        sim.hello(hello(Status::New));
        assert_eq!(sim.sent(), ["ack 0"]);
        sim.events();
        sim
    }

    fn act(&mut self) {
        while let Some(action) = self.client.poll_action() {
            match action {
                Action::Randomize => self.client.handle_random(&DRAWN, self.now),
                Action::Initial => {
                    self.asked += 1;
                    self.client.handle_initial(messages(&self.initial));
                }
                Action::Connect { transport, offer } => {
                    self.transport = Some(transport);
                    self.offer = Some(offer);
                }
                Action::Close { transport, close } => {
                    assert_eq!(self.transport.take(), Some(transport));
                    self.closed.push(close);
                }
            }
        }
    }

    fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.client.poll_timeout().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now);
            self.act();
            assert_ne!(self.client.poll_timeout(), Some(next), "nothing was done");
        }
        self.now = end;
    }

    fn hello(&mut self, hello: Hello) {
        self.control(&ServerControl { hello: Some(hello), ..ServerControl::default() });
    }

    fn control(&mut self, control: &ServerControl) {
        self.frame(Message::Text(control.encode()));
    }

    fn ack(&mut self, count: u64) {
        self.control(&ServerControl { ack: Some(count), ..ServerControl::default() });
    }

    fn done(&mut self, received: u64) {
        let done = Some(Done { status: OutcomeStatus::Failed, received });
        self.control(&ServerControl { done, ..ServerControl::default() });
    }

    fn frame(&mut self, frame: impl Into<Message>) {
        let transport = self.transport.expect("a transport is there");
        self.client.handle_frame(transport, frame.into(), self.now);
        self.act();
    }

    fn closed(&mut self, code: u16, reason: &'static str) {
        let transport = self.transport.take().expect("a transport is there");
        let close = Some(Close::new(code, reason));
        self.client.handle_closed(transport, close);
        self.act();
    }

    fn lose(&mut self) {
        let transport = self.transport.take().expect("a transport is there");
        self.client.handle_closed(transport, None);
        self.act();
    }

    fn send(&mut self, texts: &[&str]) {
        for &text in texts {
            self.client.send(text.into()).unwrap();
        }
    }

    /// What goes out now: acks as `ack N`, data as it is on the wire.
    fn sent(&mut self) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some((transport, message)) = self.client.poll_transmit(self.now) {
            assert_eq!(Some(transport), self.transport);
            let Message::Text(text) = message else { panic!("tests send text only") };
            sent.push(match decode_client_text(text.clone()) {
                Ok(Frame::Control(control)) => match (control.ack, control.state) {
                    (Some(position), _) => format!("ack {position}"),
                    (None, Some(state)) => format!("state {} {}", state.iteration, state.value),
                    (None, None) => format!("ping {}", control.ping.unwrap()),
                },
                _ => text.to_string(),
            });
        }
        self.act();
        sent
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.take(self.now)).collect()
    }

    /// The offer after the client's id.
    fn offered(&self) -> String {
        assert!(self.transport.is_some(), "no attempt is under way");
        let offer = self.offer.as_ref().unwrap();
        let client = offer.client().unwrap();
        assert_eq!(client, &self.client.id());
        offer.to_string()[3 + client.as_str().len()..].to_owned()
    }
}

fn token(text: &str) -> WireId {
    WireId::parse(text).unwrap()
}

fn hello(status: Status) -> Hello {
    Hello {
        v: VERSION,
        session: token("s"),
        epoch: token("e"),
        attachment: AttachmentNumber::new(1),
        status,
        from: Position::ZERO,
        received: Some(0),
        gap: None,
        heartbeat_ms: 30_000,
        lifetime_ms: 120_000,
        window: Window { messages: 4, bytes: 1000 },
        limit: None,
        ping: false,
        absent_ms: None,
        hold_ms: None,
    }
}

/// The hello that honours a cursor whole.
fn resumed(from: u64, received: u64) -> Hello {
    Hello {
        from: Position::new(from),
        received: Some(received),
        attachment: AttachmentNumber::new(2),
        ..hello(Status::Resumed)
    }
}

fn gap(from: u64, to: impl Into<Option<u64>>, reason: GapReason) -> Gap {
    Gap { from: Position::new(from), to: to.into().map(Position::new), reason }
}

fn messages(texts: &[&str]) -> Vec<Message> {
    texts.iter().map(|&text| text.into()).collect()
}

fn received(texts: &[&str]) -> Vec<Event> {
    messages(texts).into_iter().map(Event::Message).collect()
}

#[test]
fn an_open_transport_is_replaced_by_one_with_the_cursor() {
    let mut sim = Sim::new(Modes::Off);
    // Nothing is there to be replaced.
    sim.client.replace_transport(sim.now);
    sim.act();
    assert!(sim.closed.is_empty() && !sim.client.is_attached());
    sim.hello(hello(Status::New));
    assert_eq!(sim.sent(), ["ack 0"]);
    assert!(sim.client.is_attached());
    let old = sim.transport;
    sim.client.send("a".into()).unwrap();
    assert_eq!(sim.sent(), ["a"]);
    sim.client.replace_transport(sim.now);
    sim.act();
    assert_eq!(sim.closed, [Some(Close::GOODBYE)]);
    assert!(sim.transport.is_some() && sim.transport != old && !sim.client.is_attached());
    assert!(matches!(sim.offer, Some(Offer::Resume { .. })), "{:?}", sim.offer);
    // The old transport says nothing any more; the message goes again.
    sim.client.handle_closed(old.unwrap(), None);
    sim.act();
    sim.hello(Hello { attachment: AttachmentNumber::new(2), ..hello(Status::Resumed) });
    assert_eq!(sim.sent(), ["ack 0", "a"]);
}

#[test]
fn nothing_is_sent_before_the_hello_and_the_ack_first_after_it() {
    let mut sim = Sim::new(Modes::Auto);
    sim.send(&["a", "\u{1}b"]);
    assert_eq!(sim.offered(), "");
    assert!(sim.sent().is_empty());
    sim.hello(hello(Status::New));
    assert_eq!(sim.sent(), ["ack 0", "a", "\u{1}\u{1}b"]);
    let open = Event::Open { session: token("s"), status: Status::New };
    assert_eq!(sim.events(), [Event::Connecting, open]);
}

#[test]
fn a_client_that_received_nothing_resumes_with_position_zero() {
    let mut sim = Sim::open();
    sim.lose();
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.offered(), ".s.e.0.1");
    sim.hello(resumed(0, 0));
    assert_eq!(sim.sent(), ["ack 0"]);
}

#[test]
fn unacknowledged_messages_go_out_again_from_where_the_session_counts() {
    let mut sim = Sim::open();
    sim.send(&["a", "b", "c", "d", "e"]);
    assert_eq!(sim.sent(), ["a", "b", "c", "d"]);
    sim.ack(1);
    assert_eq!(sim.sent(), ["e"]);
    for (count, expected) in
        [(3, vec!["ack 0", "d", "e"]), (1, vec!["ack 0", "b", "c", "d", "e"]), (5, vec!["ack 0"])]
    {
        sim.lose();
        sim.advance(Duration::from_secs(10));
        sim.hello(resumed(0, count));
        assert_eq!(sim.sent(), expected, "{count} accepted");
        assert_eq!(sim.client.unacknowledged(), 4, "only an ack lets go");
    }
    sim.control(&ServerControl { hb: Some(5), ..ServerControl::default() });
    assert_eq!(sim.client.unacknowledged(), 0, "a heartbeat acknowledges, too");
}

#[test]
fn the_offer_says_what_was_taken_and_what_is_held_is_not_delivered_twice() {
    let mut sim = Sim::open();
    for text in ["0", "1", "2"] {
        sim.frame(text);
    }
    assert_eq!(sim.client.take(sim.now), received(&["0"]).pop());
    sim.lose();
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.offered(), ".s.e.1.1");
    // The application goes on while the offer is under way; the server may hear of it only later.
    assert_eq!(sim.client.take(sim.now), received(&["1"]).pop());
    sim.hello(resumed(1, 0));
    assert_eq!(sim.sent(), ["ack 1"]);
    sim.frame("1");
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.sent(), ["ack 2"]);
    sim.frame("2");
    sim.frame("3");
    let events = sim.events();
    let told: Vec<_> =
        events.into_iter().filter(|event| matches!(event, Event::Message(_))).collect();
    assert_eq!(told, received(&["2", "3"]));
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.sent(), ["ack 4"]);
}

#[test]
fn acks_count_what_the_application_took() {
    let mut sim = Sim::open();
    for text in ["0", "1", "2"] {
        sim.frame(text);
    }
    sim.advance(Duration::from_secs(1));
    assert!(sim.sent().is_empty(), "received is not taken");
    sim.client.take(sim.now);
    assert!(sim.sent().is_empty());
    sim.advance(Duration::from_millis(249));
    assert!(sim.sent().is_empty());
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.sent(), ["ack 1"]);
    sim.client.take(sim.now);
    sim.client.take(sim.now);
    assert_eq!(sim.sent(), ["ack 3"], "half the window");
    sim.advance(HEARTBEAT);
    assert_eq!(sim.sent(), ["ack 3"], "once per heartbeat");
}

#[test]
fn a_silent_server_is_dead_after_two_and_a_half_heartbeats() {
    let mut sim = Sim::open();
    sim.advance(HEARTBEAT * 2);
    let transport = sim.transport.unwrap();
    sim.client.handle_alive(transport, sim.now);
    sim.advance(Duration::from_micros(75_000_000 - 1));
    assert_eq!(sim.transport, Some(transport));
    sim.advance(Duration::from_micros(1));
    assert_eq!(sim.closed, [None]);
    let waiting =
        Event::Waiting { attempt: 2, delay: Duration::from_millis(250), cause: Cause::Silent };
    assert_eq!(sim.events(), [waiting]);
    // Its last words come late.
    sim.client.handle_frame(transport, "late".into(), sim.now);
    sim.client.handle_closed(transport, Some(Close::SUPERSEDED));
    sim.client.handle_connect_failed(transport, Cause::NotSpoken);
    assert_eq!(sim.events(), []);
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.offered(), ".s.e.0.1");
}

/// A client whose server answers pings, with one message of `bytes` bytes under way.
fn asking(bytes: usize) -> Sim {
    let mut sim = Sim::new(Modes::Auto);
    let window = Window { messages: 4, bytes: 1 << 20 };
    sim.hello(Hello { ping: true, window, ..hello(Status::New) });
    assert_eq!(sim.sent(), ["ack 0"]);
    sim.events();
    sim.send(&["x".repeat(bytes).as_str()]);
    assert_eq!(sim.sent().len(), 1);
    sim
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_server_that_says_nothing_about_a_message_is_asked_and_is_dead_if_it_does_not_answer() {
    let mut sim = asking(1);
    sim.advance(Duration::from_millis(2_999));
    assert_eq!(sim.sent(), Vec::<String>::new());
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.sent(), ["ping true"]);
    // Anything that arrives shows that the network is there, and the answer is on the way.
    sim.advance(seconds(4));
    sim.frame("news");
    sim.advance(Duration::from_millis(4_999));
    assert_eq!(sim.closed, []);
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.closed, [None]);
    let events = sim.events();
    assert!(matches!(events[1], Event::Waiting { cause: Cause::Silent, .. }), "{events:?}");

    // Nothing under way, nothing to ask about; and who does not answer is not asked.
    let mut quiet = asking(1);
    quiet.ack(1);
    quiet.advance(seconds(74));
    assert_eq!(quiet.sent().iter().filter(|text| text.starts_with("ping")).count(), 0);
    assert_eq!(quiet.closed, []);
    let mut other = Sim::open();
    other.send(&["x"]);
    other.sent();
    other.advance(seconds(74));
    assert!(!other.sent().contains(&"ping true".to_owned()));
    assert_eq!(other.closed, []);
}

#[test]
fn a_handler_that_is_busy_is_waited_for_as_long_as_the_server_answers() {
    let mut sim = asking(1);
    sim.advance(seconds(3));
    for _ in 0..20 {
        assert!(sim.sent().contains(&"ping true".to_owned()));
        sim.advance(seconds(1));
        sim.control(&ServerControl { hb: Some(0), ..ServerControl::default() });
        sim.advance(Duration::from_millis(9_999));
        assert!(!sim.sent().contains(&"ping true".to_owned()));
        sim.advance(Duration::from_millis(1));
    }
    assert_eq!(sim.closed, []);
    // Taken at last: the question that is out does not matter any more.
    sim.sent();
    sim.ack(1);
    sim.advance(seconds(60));
    assert_eq!(sim.closed, []);
}

#[test]
fn a_slow_network_has_the_time_that_its_load_takes() {
    let mut sim = asking(40 * 4096);
    sim.advance(seconds(3));
    assert_eq!(sim.sent(), ["ping true"]);
    sim.advance(Duration::from_millis(44_999));
    assert_eq!(sim.closed, []);
    sim.advance(Duration::from_millis(1));
    assert_eq!(sim.closed, [None]);
}

/// The transport takes nothing any more, so the question never leaves; the deadline counts all the same.
#[test]
fn a_question_that_cannot_be_written_is_not_answered_either() {
    let mut sim = asking(1);
    sim.advance(seconds(8));
    assert_eq!(sim.closed, [None]);
}

#[test]
fn a_resumed_stream_with_a_gap_tells_what_is_really_missing() {
    for (taken, from, missing) in
        [(1, 5, Some((3, 5))), (1, 3, None), (1, 2, None), (3, 5, Some((3, 5)))]
    {
        let mut sim = Sim::open();
        for text in ["0", "1", "2"] {
            sim.frame(text);
        }
        for _ in 0..taken {
            sim.client.take(sim.now);
        }
        sim.lose();
        sim.advance(Duration::from_millis(250));
        sim.hello(Hello { gap: Some(gap(taken, from, GapReason::Overflow)), ..resumed(from, 0) });
        assert_eq!(sim.sent(), [format!("ack {from}")]);
        let gaps: Vec<_> =
            sim.events().into_iter().filter(|event| matches!(event, Event::Gap(_))).collect();
        let expected: Vec<_> = missing
            .map(|(from, to)| Event::Gap(gap(from, to, GapReason::Overflow)))
            .into_iter()
            .collect();
        assert_eq!(gaps, expected, "taken {taken}, from {from}");
        sim.advance(Duration::from_millis(250));
        sim.frame("next");
        sim.events();
        sim.advance(Duration::from_millis(250));
        let position = if from < 3 { 3 } else { from + 1 };
        if from < 3 {
            sim.frame("2 is one of those that were held");
        } else {
            assert_eq!(sim.sent(), [format!("ack {position}")]);
        }
    }
}

#[test]
fn a_gap_in_the_stream_moves_the_position_when_the_application_meets_it() {
    let mut sim = Sim::open();
    sim.frame("0");
    let overflow = gap(1, 4, GapReason::Overflow);
    sim.control(&ServerControl { gap: Some(overflow), ..ServerControl::default() });
    sim.frame("4");
    assert_eq!(sim.client.take(sim.now), received(&["0"]).pop());
    assert_eq!(sim.client.take(sim.now), Some(Event::Gap(overflow)));
    assert_eq!(sim.sent(), ["ack 4"]);
    assert_eq!(sim.events(), received(&["4"]));
    for broken in [
        gap(4, 6, GapReason::Overflow),
        gap(5, 4, GapReason::Overflow),
        gap(5, None, GapReason::Expired),
    ] {
        let mut sim = Sim::open();
        for text in ["0", "1", "2", "3", "4"] {
            sim.frame(text);
        }
        sim.control(&ServerControl { gap: Some(broken), ..ServerControl::default() });
        assert_eq!(sim.closed, [Some(Close::PROTOCOL_ERROR)], "{broken:?}");
    }
}

fn skip(position: u64) -> ServerControl {
    ServerControl { skip: Some(Position::new(position)), ..ServerControl::default() }
}

#[test]
fn a_skip_moves_the_position_when_the_application_has_taken_all_before() {
    let mut sim = Sim::open();
    sim.control(&skip(2));
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.sent(), ["ack 2"], "it has nothing to take");
    sim.frame("2");
    sim.control(&skip(4));
    sim.control(&skip(5));
    sim.advance(HEARTBEAT);
    assert_eq!(sim.sent(), ["ack 2"], "the message is not taken yet");
    assert_eq!(sim.events(), received(&["2"]), "a skip is no event");
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.sent(), ["ack 5"]);
    sim.frame("5");
    sim.lose();
    sim.advance(WAIT);
    assert!(sim.offered().contains(".5."), "{}: 5 is not taken", sim.offered());
    // What is held is not taken for what comes again, and the skip is told again.
    sim.hello(resumed(5, 0));
    sim.control(&skip(7));
    sim.frame("7");
    let events = sim.events();
    let texts: Vec<_> = events.iter().filter(|event| matches!(event, Event::Message(_))).collect();
    assert_eq!(texts.len(), 2, "{events:?}");
    sim.advance(Duration::from_millis(250));
    assert_eq!(sim.sent(), ["ack 5", "ack 8"]);
}

#[test]
fn a_skip_goes_before_a_gap_and_never_backwards() {
    let mut sim = Sim::open();
    sim.control(&skip(2));
    let overflow = gap(2, 4, GapReason::Overflow);
    sim.control(&ServerControl { gap: Some(overflow), ..ServerControl::default() });
    sim.control(&skip(4));
    assert_eq!(sim.events(), [Event::Gap(overflow)]);
    assert!(sim.closed.is_empty());
    sim.control(&skip(3));
    assert_eq!(sim.closed, [Some(Close::PROTOCOL_ERROR)]);
    let mut early = Sim::new(Modes::Auto);
    early.control(&skip(0));
    assert_eq!(early.closed, [Some(Close::PROTOCOL_ERROR)], "before the hello");
}

#[test]
fn a_message_that_is_too_big_is_given_up_and_told_and_the_others_go_on() {
    let mut sim = Sim::open();
    sim.send(&["a", "BIG", "c"]);
    assert_eq!(sim.sent(), ["a", "BIG", "c"]);
    sim.closed(1009, "message too big");
    sim.advance(WAIT);
    sim.events();
    sim.hello(resumed(0, 1));
    assert_eq!(sim.sent(), ["ack 0", "c"]);
    assert!(sim.events().contains(&Event::TooBig("BIG".into())));
    sim.ack(2);
    assert!(sim.client.outbound.is_empty());
    // The rest counts as if it had never been.
    sim.send(&["d"]);
    assert_eq!(sim.sent(), ["d"]);
    sim.lose();
    sim.advance(WAIT);
    sim.hello(resumed(0, 2));
    assert_eq!(sim.sent(), ["ack 0", "d"]);
}

#[test]
fn a_message_that_the_session_dropped_is_told_once_and_counts_as_taken() {
    let dropped = |k| ServerControl { dropped: Some(k), ..ServerControl::default() };
    let told = |events: &[Event]| {
        let dropped = events.iter().filter(|event| matches!(event, Event::Dropped(_)));
        dropped.cloned().collect::<Vec<_>>()
    };
    let mut sim = Sim::open();
    sim.send(&["a", "P", "c"]);
    sim.sent();
    sim.control(&dropped(1));
    assert_eq!(told(&sim.events()), [Event::Dropped("P".into())]);
    assert_eq!(sim.client.unacknowledged(), 3, "only an ack lets go");
    // The transport breaks before the ack: the drop is told again, which is not news.
    sim.lose();
    sim.advance(WAIT);
    sim.hello(resumed(0, 3));
    sim.control(&dropped(1));
    sim.ack(2);
    sim.control(&dropped(0));
    sim.control(&dropped(1));
    assert!(told(&sim.events()).is_empty());
    assert_eq!(sim.client.unacknowledged(), 1);
    // What was never sent cannot have been dropped.
    sim.control(&dropped(3));
    assert_eq!(sim.closed, [None, Some(Close::PROTOCOL_ERROR)][1..]);
}

#[test]
fn what_was_dropped_is_not_in_doubt() {
    let mut sim = Sim::open();
    sim.send(&["a", "P", "c"]);
    sim.sent();
    sim.control(&ServerControl { dropped: Some(1), ..ServerControl::default() });
    sim.lose();
    sim.advance(WAIT);
    sim.hello(Hello { session: WireId::parse("another").unwrap(), ..resumed(0, 0) });
    let doubt = Event::InDoubt(vec!["a".into(), "c".into()]);
    assert!(sim.events().contains(&doubt));
}

#[test]
fn a_client_that_closes_gives_up_the_last_message_too() {
    let mut sim = Sim::open();
    sim.send(&["BIG"]);
    sim.client.close();
    assert_eq!(sim.sent(), ["BIG"]);
    sim.closed(1009, "message too big");
    sim.advance(WAIT);
    sim.hello(resumed(0, 0));
    assert!(sim.events().ends_with(&[Event::TooBig("BIG".into()), Event::Closed]));
    assert_eq!(sim.closed, [Some(Close::GOODBYE)]);
}

#[test]
fn what_cannot_be_the_message_that_was_too_big_is_sent_again() {
    let narrow =
        |received| Hello { window: Window { messages: 1, bytes: 100 }, ..resumed(0, received) };
    let check = |sim: &mut Sim, hello, expected: &[&str]| {
        sim.closed(1009, "message too big");
        sim.advance(WAIT);
        sim.hello(hello);
        assert_eq!(sim.sent()[1..], *expected);
        assert!(!sim.events().iter().any(|event| matches!(event, Event::TooBig(_))));
    };
    // A process that was started anew may have lost what it had accepted.
    let mut sim = Sim::open();
    sim.send(&["a", "b"]);
    sim.sent();
    let restored = Hello {
        epoch: token("e2"),
        gap: Some(gap(0, None, GapReason::Restarted)),
        ..hello(Status::Restored)
    };
    check(&mut sim, restored, &["a", "b"]);
    // Also where the stream goes on.
    let mut sim = Sim::open();
    sim.send(&["a", "b"]);
    sim.sent();
    check(&mut sim, rebuilt(0, 0), &["a", "b"]);
    // The closed transport had not come so far: something else was too big.
    let mut sim = Sim::open();
    sim.send(&["a", "b"]);
    sim.sent();
    sim.lose();
    sim.advance(WAIT);
    sim.hello(narrow(0));
    assert_eq!(sim.sent(), ["ack 0", "a"]);
    check(&mut sim, resumed(0, 1), &["b"]);
    // It had not even come to a hello.
    let mut sim = Sim::open();
    sim.send(&["a"]);
    sim.sent();
    sim.lose();
    sim.advance(WAIT);
    check(&mut sim, resumed(0, 0), &["a"]);
}

/// A hello that names another epoch and goes on with the stream all the same.
fn rebuilt(from: u64, received: u64) -> Hello {
    Hello { epoch: token("e2"), ..resumed(from, received) }
}

#[test]
fn the_stream_goes_on_in_another_epoch_and_what_is_held_comes_again() {
    let mut sim = Sim::open();
    for text in ["0", "1", "2"] {
        sim.frame(text);
    }
    sim.client.take(sim.now);
    sim.lose();
    sim.advance(WAIT);
    assert_eq!(sim.offered(), ".s.e.1.1");
    sim.hello(rebuilt(1, 0));
    assert_eq!(sim.sent(), ["ack 1"]);
    // A store that was put back has the same up to here, and another message next.
    sim.frame("another 1");
    let told: Vec<_> = sim.events().into_iter().filter(|event| !event.is_passing()).collect();
    assert_eq!(told, received(&["another 1"]));
    sim.lose();
    sim.advance(WAIT);
    assert_eq!(sim.offered(), ".s.e2.2.2", "the epoch of the last hello");
}

#[test]
fn an_epoch_that_is_new_confirms_no_more_than_was_offered() {
    let mut sim = Sim::open();
    for text in ["0", "1", "2"] {
        sim.frame(text);
    }
    sim.client.take(sim.now);
    sim.lose();
    sim.advance(WAIT);
    assert_eq!(sim.offered(), ".s.e.1.1");
    // The application goes on while the offer is under way.
    sim.client.take(sim.now);
    sim.hello(rebuilt(1, 0));
    assert_eq!(sim.offered(), ".s.e.2.1", "it asks again, and about all that it has");
    assert_eq!(sim.sent(), Vec::<String>::new());
    sim.hello(rebuilt(2, 0));
    assert_eq!(sim.sent(), ["ack 2"]);
}

/// A client that was pushed out is told `reused`, and holds its place all the same.
#[test]
fn the_status_does_not_say_whether_the_stream_goes_on() {
    let mut sim = Sim::open();
    sim.frame("0");
    sim.frame("1");
    sim.client.take(sim.now);
    sim.lose();
    sim.advance(WAIT);
    sim.hello(Hello {
        epoch: token("e2"),
        status: Status::Reused,
        received: None,
        ..hello_from(1)
    });
    sim.frame("1");
    let told: Vec<_> =
        sim.events().into_iter().filter(|event| matches!(event, Event::Message(_))).collect();
    assert_eq!(told, received(&["1"]));
}

fn hello_from(from: u64) -> Hello {
    Hello { from: Position::new(from), ..hello(Status::Resumed) }
}

#[test]
fn what_was_acknowledged_and_taken_back_is_told_and_the_rest_goes_again() {
    let mut sim = Sim::open();
    sim.send(&["a", "b", "c", "d"]);
    sim.sent();
    sim.ack(3);
    sim.send(&["e"]);
    sim.sent();
    sim.lose();
    sim.advance(WAIT);
    // In the epoch that was offered it cannot be.
    sim.hello(resumed(0, 1));
    assert_eq!(sim.closed.last(), Some(&Some(Close::PROTOCOL_ERROR)));
    let mut sim = Sim::open();
    sim.send(&["a", "b", "c", "d"]);
    sim.sent();
    sim.ack(3);
    sim.send(&["e"]);
    sim.sent();
    sim.lose();
    sim.advance(WAIT);
    sim.hello(rebuilt(0, 1));
    assert_eq!(sim.sent(), ["ack 0", "d", "e"]);
    let told: Vec<_> = sim.events().into_iter().filter(|event| !event.is_passing()).collect();
    assert_eq!(told, [Event::TakenBack { count: 2 }]);
    // They are the session's second and third now.
    sim.ack(3);
    assert_eq!(sim.client.unacknowledged(), 0);
}

#[test]
fn another_session_puts_in_doubt_what_was_sent_and_takes_what_was_not() {
    let expired = gap(1, None, GapReason::Expired);
    let restarted = gap(1, None, GapReason::Restarted);
    let evicted = gap(1, 7, GapReason::Evicted);
    let other = Hello { session: token("t"), epoch: token("f"), ..hello(Status::New) };
    let same = |status, received, gap, from| Hello {
        received,
        gap,
        from: Position::new(from),
        ..hello(status)
    };
    let doubt = ["b", "c", "d"];
    for (hello, resent, doubt) in [
        (Hello { gap: Some(expired), ..other.clone() }, vec!["ack 0", "e"], &doubt[..]),
        (
            Hello { gap: Some(expired), status: Status::Reused, received: Some(9), ..other },
            vec!["ack 0", "e"],
            &doubt,
        ),
        (same(Status::Reused, None, None, 1), vec!["ack 1", "e"], &doubt),
        (same(Status::Reused, None, Some(evicted), 7), vec!["ack 7", "e"], &doubt),
        (
            Hello { epoch: token("f"), ..same(Status::Restored, Some(1), Some(restarted), 0) },
            vec!["ack 0", "b", "c", "d", "e"],
            &[],
        ),
        (
            Hello { epoch: token("f"), ..same(Status::Restored, None, Some(restarted), 0) },
            vec!["ack 0", "e"],
            &doubt,
        ),
    ] {
        let mut sim = Sim::open();
        sim.frame("0");
        sim.frame("held");
        sim.client.take(sim.now);
        sim.send(&["a", "b", "c", "d"]);
        sim.sent();
        sim.ack(1);
        sim.lose();
        sim.send(&["e"]);
        sim.advance(Duration::from_millis(250));
        sim.client.take(sim.now);
        let (session, status, told, base) =
            (hello.session, hello.status, hello.gap, hello.received);
        sim.hello(hello.clone());
        assert_eq!(sim.sent(), resent, "{hello:?}");
        let mut expected = vec![Event::Open { session, status }];
        if !doubt.is_empty() {
            expected.push(Event::InDoubt(messages(doubt)));
        }
        // Position 1 is in the application's hands: it is not missing.
        expected.extend(told.map(|gap| Event::Gap(Gap { from: Position::new(2), ..gap })));
        let events: Vec<_> = sim
            .events()
            .into_iter()
            .filter(|event| !event.is_passing() || *event == expected[0])
            .collect();
        assert_eq!(events, expected, "{hello:?}");
        if !doubt.is_empty() {
            sim.ack(base.unwrap_or(0) + 1);
            assert_eq!(sim.client.unacknowledged(), 0, "counted from the hello's number");
        }
    }
}

#[test]
fn a_stale_client_returns_at_once_and_the_second_time_as_somebody_else() {
    let mut sim = Sim::open();
    sim.send(&["a"]);
    sim.sent();
    sim.send(&["b"]);
    let original = sim.client.id();
    sim.lose();
    sim.advance(Duration::from_millis(250));
    sim.closed(4113, "stale");
    assert_eq!(sim.offered(), ".s.e.0.1");
    sim.events();
    sim.closed(4113, "stale");
    assert_eq!(sim.offered(), "");
    assert_ne!(sim.client.id(), original);
    assert_eq!(sim.events(), [Event::InDoubt(messages(&["a"])), Event::Connecting]);
    sim.hello(hello(Status::Reused));
    assert_eq!(sim.sent(), ["ack 0", "b"]);
}

#[test]
fn a_hello_between_two_stales_makes_them_two_firsts() {
    let mut sim = Sim::open();
    let original = sim.client.id();
    for _ in 0..2 {
        sim.lose();
        sim.advance(Duration::from_secs(1));
        sim.closed(4113, "stale");
        sim.hello(resumed(0, 0));
    }
    assert_eq!(sim.client.id(), original);
}

#[test]
fn a_client_that_shall_show_anew_who_it_is_comes_back_at_once_and_does_not_spin() {
    let mut sim = Sim::open();
    sim.closed(4106, "reauthenticate");
    assert_eq!(sim.offered(), ".s.e.0.1");
    // Nothing but a hello: perhaps it has nothing else to show.
    sim.hello(resumed(0, 0));
    sim.closed(4106, "reauthenticate");
    assert!(sim.client.poll_timeout().unwrap() > sim.now, "with a wait");
    sim.advance(Duration::from_secs(1));
    sim.hello(resumed(0, 0));
    sim.control(&ServerControl { hb: Some(0), ..ServerControl::default() });
    sim.closed(4106, "reauthenticate");
    assert_eq!(sim.offered(), ".s.e.0.2", "it was of use");
}

#[test]
fn a_count_above_what_was_sent_means_a_copy() {
    let mut sim = Sim::open();
    sim.send(&["a"]);
    sim.sent();
    let original = sim.client.id();
    sim.lose();
    sim.advance(Duration::from_millis(250));
    sim.events();
    sim.hello(resumed(0, 2));
    assert_eq!(sim.closed, [Some(Close::GOODBYE)]);
    assert_eq!(sim.offered(), "");
    assert_ne!(sim.client.id(), original);
    assert_eq!(sim.events(), [Event::InDoubt(messages(&["a"])), Event::Connecting]);
}

#[test]
fn a_rejected_cursor_is_dropped_once() {
    let mut sim = Sim::open();
    sim.send(&["a"]);
    sim.sent();
    sim.lose();
    sim.advance(Duration::from_millis(250));
    sim.events();
    sim.closed(4103, "protocol error");
    assert!(matches!(&sim.events()[..], [Event::InDoubt(_), Event::Waiting { .. }]));
    sim.advance(Duration::from_secs(20));
    assert_eq!(sim.offered(), "");
    sim.hello(hello(Status::Reused));
    sim.events();
    sim.closed(4103, "protocol error");
    let cause = Cause::Closed(Close::PROTOCOL_ERROR);
    assert_eq!(sim.events(), [Event::Failed { cause }]);
    assert!(sim.client.is_offline());
    // A cursor that was accepted since makes it a first time again.
    sim.client.reconnect_now(sim.now);
    sim.act();
    sim.hello(resumed(0, 0));
    sim.closed(4103, "protocol error");
    sim.advance(Duration::from_secs(20));
    assert_eq!(sim.offered(), "");
}

#[test]
fn a_fresh_offer_that_is_a_protocol_error_is_the_end() {
    let mut sim = Sim::new(Modes::Auto);
    sim.closed(4103, "protocol error");
    assert!(sim.client.is_offline());
}

#[test]
fn frames_that_a_server_must_not_send_end_the_transport() {
    let text = |control: ServerControl| Message::Text(control.encode());
    let ack = text(ServerControl { ack: Some(1), ..ServerControl::default() });
    let second =
        text(ServerControl { hello: Some(hello(Status::New)), ..ServerControl::default() });
    for (before_hello, frame) in [
        (true, "data".into()),
        (true, ack.clone()),
        (
            true,
            text(ServerControl {
                done: Some(Done { status: OutcomeStatus::Done, received: 0 }),
                ..ServerControl::default()
            }),
        ),
        (
            true,
            text(ServerControl {
                gap: Some(gap(0, 0, GapReason::Overflow)),
                ..ServerControl::default()
            }),
        ),
        (true, "\u{1}{\"hello\":{}}".into()),
        (
            true,
            text(ServerControl {
                hello: Some(Hello { v: 2, ..hello(Status::New) }),
                ..ServerControl::default()
            }),
        ),
        (false, second),
        (false, ack),
        (false, "\u{1}?".into()),
        (false, "\u{1}{".into()),
    ] {
        let mut sim = if before_hello { Sim::new(Modes::Auto) } else { Sim::open() };
        let frame: Message = frame;
        sim.frame(frame.clone());
        assert_eq!(sim.closed, [Some(Close::PROTOCOL_ERROR)], "{frame:?}");
        assert_eq!(sim.client.is_offline(), before_hello, "{frame:?}");
    }
    for wrong in [
        resumed(0, 0),
        resumed(2, 0),
        Hello { gap: Some(gap(1, 0, GapReason::Overflow)), ..resumed(0, 0) },
    ] {
        let mut sim = Sim::open();
        sim.frame("0");
        sim.events();
        sim.lose();
        sim.advance(Duration::from_secs(1));
        sim.events();
        sim.hello(wrong);
        assert_eq!(sim.closed, [Some(Close::PROTOCOL_ERROR)]);
        assert!(matches!(&sim.events()[..], [Event::Waiting { .. }]), "no word of an open session");
    }
}

#[test]
fn the_server_says_when_to_come_back() {
    // Every wait is spread by the first step, of which the tests draw the half.
    let hinted = |sim: &mut Sim| match sim.events().pop() {
        Some(Event::Waiting { delay, .. }) => delay,
        other => panic!("{other:?}"),
    };
    let retry = |millis| ServerControl { retry: Some(millis), ..ServerControl::default() };
    let mut sim = Sim::new(Modes::Auto);
    sim.control(&retry(5000));
    sim.closed(4113, "try again later");
    assert_eq!(hinted(&mut sim), Duration::from_millis(5250));
    sim.advance(Duration::from_millis(5250));
    sim.hello(hello(Status::New));
    sim.control(&retry(0));
    sim.lose();
    assert_eq!(hinted(&mut sim), Duration::from_millis(250));
    sim.advance(Duration::from_millis(250));
    let transport = sim.transport.take().unwrap();
    let cause = Cause::Http { status: 503, retry_after: Some(Duration::from_secs(3)) };
    sim.client.handle_connect_failed(transport, cause);
    sim.act();
    assert_eq!(hinted(&mut sim), Duration::from_millis(3250));
    sim.advance(Duration::from_millis(3250));
    sim.closed(4113, "try again later");
    assert_ne!(hinted(&mut sim), Duration::from_millis(3250), "a hint is good for one wait");
}

#[test]
fn waits_grow_until_a_transport_has_settled() {
    let mut sim = Sim::new(Modes::Auto);
    let delays = |sim: &mut Sim, rounds: usize, settle: bool| -> Vec<u128> {
        (0..rounds)
            .map(|_| {
                if settle {
                    sim.frame("0");
                }
                sim.lose();
                let Some(Event::Waiting { delay, .. }) = sim.events().pop() else {
                    panic!("no wait")
                };
                sim.advance(delay);
                let from = sim.client.inbound.taken().get();
                sim.hello(resumed(from, 0));
                delay.as_millis()
            })
            .collect()
    };
    assert_eq!(delays(&mut sim, 8, false), [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
    assert_eq!(delays(&mut sim, 2, true), [250, 250]);
    sim.frame("0");
    sim.events();
    sim.closed(4100, "replaced");
    sim.advance(Duration::from_secs(20));
    sim.hello(resumed(3, 0));
    sim.frame("1");
    sim.events();
    sim.closed(4100, "replaced");
    let events = sim.events();
    assert!(
        matches!(events[..], [Event::Waiting { attempt: 3, .. }]),
        "two that replace each other slow down: {events:?}"
    );
}

#[test]
fn attempts_are_counted_from_one_until_a_transport_was_of_use() {
    let mut sim = Sim::new(Modes::Auto);
    assert_eq!(sim.client.attempt(), 1);
    sim.lose();
    assert_eq!(sim.client.inbound.waiting(), [2], "what is told before the wait");
    sim.advance(Duration::from_secs(20));
    assert_eq!(sim.client.attempt(), 2);
    // At once, and no less an attempt.
    sim.closed(4113, "stale");
    assert_eq!(sim.client.attempt(), 3);
    sim.hello(hello(Status::New));
    sim.lose();
    sim.advance(Duration::from_secs(20));
    assert_eq!(sim.client.attempt(), 4, "a hello alone is of no use");
    sim.hello(resumed(0, 0));
    sim.frame("0");
    sim.lose();
    sim.advance(Duration::from_secs(20));
    assert_eq!(sim.client.attempt(), 1);
    sim.lose();
    sim.advance(Duration::from_secs(20));
    sim.closed(4101, "refused");
    sim.client.reconnect_now(sim.now);
    assert_eq!(sim.client.attempt(), 1, "the application asks anew");
    sim.act();
    sim.hello(resumed(0, 0));
    sim.frame("0");
    sim.client.replace_transport(sim.now);
    assert_eq!(sim.client.attempt(), 2, "it brought nothing new");
    sim.act();
    sim.hello(resumed(0, 0));
    sim.frame("0");
    sim.frame("1");
    sim.client.replace_transport(sim.now);
    assert_eq!(sim.client.attempt(), 1);
}

#[test]
fn waits_grow_while_a_transport_brings_nothing_new() {
    let mut sim = Sim::open();
    sim.send(&["a"]);
    sim.sent();
    let attempts = |sim: &mut Sim, cause: &dyn Fn(&mut Sim), bring: &[&str]| -> Vec<u32> {
        let mut attempts = Vec::new();
        for _ in 0..4 {
            // The first ack is news, once; what comes again was held before.
            sim.ack(1);
            for &text in bring {
                sim.frame(text);
            }
            cause(sim);
            attempts.extend(sim.client.inbound.waiting());
            sim.advance(Duration::from_secs(20));
            sim.hello(resumed(0, 1));
            sim.sent();
        }
        attempts
    };
    // The application takes nothing, so that the server sends it all again, up to what is too long.
    let too_big = |sim: &mut Sim| {
        sim.client.handle_too_big(sim.transport.take().unwrap());
        let close = Action::Close { transport: sim.client.transport, close: Some(Close::TOO_BIG) };
        assert_eq!(sim.client.actions.pop_front(), Some(close));
        sim.act();
    };
    assert_eq!(attempts(&mut sim, &too_big, &["0", "1"]), [1, 2, 3, 4]);
    // Waits also grow when the connection is lost at the same place each time, whatever the cause.
    assert_eq!(attempts(&mut sim, &Sim::lose, &["0", "1"]), [5, 6, 7, 8]);
    assert_eq!(attempts(&mut sim, &Sim::lose, &["0", "1", "2"])[0], 1, "a message that is news");
    sim.control(&ServerControl { hb: Some(1), ..ServerControl::default() });
    sim.lose();
    assert_eq!(sim.client.inbound.waiting(), [1], "it held");
}

#[test]
fn a_message_over_the_limit_of_the_hello_is_never_sent() {
    let limited = |hello, limit| Hello { limit: Some(limit), ..hello };
    let mut sim = Sim::new(Modes::Auto);
    sim.send(&["queued", "ok"]);
    sim.hello(limited(hello(Status::New), 5));
    assert_eq!(sim.sent(), ["ack 0", "ok"]);
    assert!(sim.events().contains(&Event::TooBig("queued".into())));
    assert_eq!(sim.client.send("longer".into()), Err(SendError::TooBig));
    sim.send(&["short"]);
    assert_eq!(sim.sent(), ["short"]);
    // A server with another limit: what was sent and not accepted is taken out, what was accepted is not.
    sim.lose();
    sim.advance(WAIT);
    sim.hello(limited(resumed(0, 0), 1));
    assert_eq!(sim.sent(), ["ack 0"]);
    let events = sim.events();
    assert!(events.ends_with(&[Event::TooBig("ok".into()), Event::TooBig("short".into())]));
    assert_eq!(sim.client.unacknowledged(), 0);
    sim.lose();
    sim.advance(WAIT);
    sim.hello(resumed(0, 0));
    sim.send(&["longer"]);
    assert_eq!(sim.sent(), ["ack 0", "longer"]);
}

#[test]
fn an_attempt_ends_without_a_hello_in_time() {
    let mut sim = Sim::new(Modes::Auto);
    sim.advance(Duration::from_secs(20));
    assert_eq!(sim.closed, [None]);
    let events = sim.events();
    assert!(matches!(events[..], [Event::Waiting { cause: Cause::TimedOut, .. }]), "{events:?}");
}

#[test]
fn what_must_not_reconnect_stops_until_the_application_asks() {
    let close = |code, reason| Cause::Closed(Close::new(code, reason));
    for (code, reason, expected) in [
        (4100, "superseded", Event::Superseded),
        (4101, "refused", Event::Refused { cause: close(4101, "refused") }),
    ] {
        for mode in [Modes::Auto, Modes::Prompt, Modes::Off] {
            let mut sim = Sim::new(mode);
            sim.hello(hello(Status::New));
            sim.events();
            sim.closed(code, reason);
            assert_eq!(sim.events(), std::slice::from_ref(&expected));
            sim.advance(Duration::from_secs(3600));
            assert_eq!(sim.transport, None);
            sim.client.reconnect_now(sim.now);
            sim.act();
            assert_eq!(sim.transport.is_some(), mode != Modes::Off, "{mode:?}");
        }
    }
}

#[test]
fn modes_decide_who_reconnects() {
    let mut sim = Sim::new(Modes::Prompt);
    sim.hello(hello(Status::New));
    sim.events();
    sim.send(&["a"]);
    sim.sent();
    sim.lose();
    assert_eq!(sim.events(), [Event::Offline { cause: Cause::Lost }]);
    sim.advance(Duration::from_secs(3600));
    assert_eq!(sim.transport, None);
    sim.send(&["b"]);
    sim.client.reconnect_now(sim.now);
    sim.act();
    assert_eq!(sim.offered(), ".s.e.0.1");
    sim.hello(resumed(0, 0));
    assert_eq!(sim.sent(), ["ack 0", "a", "b"]);

    let mut sim = Sim::new(Modes::Off);
    sim.hello(hello(Status::New));
    sim.send(&["a"]);
    sim.sent();
    sim.send(&["b"]);
    sim.events();
    sim.lose();
    let ended = [
        Event::InDoubt(messages(&["a"])),
        Event::Unsent(messages(&["b"])),
        Event::Failed { cause: Cause::Lost },
    ];
    assert_eq!(sim.events(), ended);
    assert_eq!(sim.client.send("c".into()), Err(SendError::Closed));
}

#[test]
fn the_user_need_not_wait() {
    let mut sim = Sim::open();
    sim.lose();
    sim.client.reconnect_now(sim.now);
    sim.act();
    assert_eq!(sim.offered(), ".s.e.0.1");
    let first = sim.transport;
    sim.client.reconnect_now(sim.now);
    sim.act();
    assert_eq!(sim.transport, first, "an attempt is under way already");
}

#[test]
fn the_end_of_the_session_names_what_the_handler_never_took() {
    for (taken, expected) in
        [(0, vec!["a", "b", "c"]), (1, vec!["b", "c"]), (2, vec!["c"]), (99, vec!["c"])]
    {
        let mut sim = Sim::open();
        sim.send(&["a", "b"]);
        sim.sent();
        sim.send(&["c"]);
        sim.frame("last");
        sim.done(taken);
        assert_eq!(sim.client.send("late".into()), Err(SendError::Closed));
        assert_eq!(sim.sent(), [""; 0], "nobody would take it");
        sim.closed(1000, "done");
        let done = Event::Done {
            status: OutcomeStatus::Failed,
            untaken: messages(&expected),
            close: Close::DONE,
        };
        assert_eq!(sim.events(), [received(&["last"]), vec![done]].concat());
        assert!(sim.client.is_ended());
        sim.client.reconnect_now(sim.now);
        sim.act();
        assert_eq!(sim.transport, None);
    }
}

#[test]
fn the_end_of_the_session_tells_how_the_server_closed() {
    let told = |sim: &mut Sim| {
        assert!(sim.client.is_ended());
        match sim.events().pop() {
            Some(Event::Done { close, .. }) => close,
            other => panic!("{other:?}"),
        }
    };
    let mut sim = Sim::open();
    sim.done(0);
    // Late frames, the user and the clock change nothing.
    sim.frame("late");
    sim.ack(99);
    sim.client.reconnect_now(sim.now);
    sim.act();
    assert!(sim.events().is_empty());
    sim.closed(4429, "too many");
    assert_eq!(told(&mut sim), Close::new(4429, "too many"));

    let mut sim = Sim::open();
    sim.done(0);
    sim.lose();
    assert_eq!(told(&mut sim), Close::DONE, "its close got lost");

    let mut sim = Sim::open();
    sim.done(0);
    sim.client.close();
    let almost = Duration::from_millis(1);
    sim.advance(CLOSE_AFTER_DONE.saturating_sub(almost));
    assert!(!sim.client.is_ended());
    sim.advance(almost);
    assert_eq!(sim.closed, [Some(Close::DONE)], "its close does not come");
    assert_eq!(told(&mut sim), Close::DONE);
}

#[test]
fn closing_waits_for_the_last_acks_of_both_sides() {
    let mut sim = Sim::open();
    sim.frame("0");
    sim.events();
    sim.send(&["a"]);
    sim.client.close();
    assert_eq!(sim.client.send("b".into()), Err(SendError::Closed));
    assert_eq!(sim.sent(), ["ack 1", "a"]);
    sim.lose();
    sim.advance(Duration::from_millis(250));
    sim.hello(resumed(1, 0));
    assert_eq!(sim.sent(), ["ack 1", "a"], "it still reconnects");
    sim.events();
    sim.ack(1);
    assert_eq!(sim.closed, [Some(Close::GOODBYE)]);
    assert_eq!(sim.events(), [Event::Closed]);
    assert!(sim.client.is_ended());
}

#[test]
fn closing_ends_at_once_when_nothing_is_owed_or_nobody_reconnects() {
    let mut sim = Sim::new(Modes::Auto);
    sim.client.close();
    sim.act();
    assert_eq!(sim.closed, [None]);
    assert!(sim.client.is_ended());

    let mut sim = Sim::open();
    sim.lose();
    sim.client.close();
    assert!(sim.client.is_ended());

    let mut sim = Sim::new(Modes::Prompt);
    sim.hello(hello(Status::New));
    sim.send(&["a"]);
    sim.sent();
    sim.send(&["b"]);
    sim.lose();
    sim.events();
    sim.client.close();
    let ended = [Event::InDoubt(messages(&["a"])), Event::Unsent(messages(&["b"])), Event::Closed];
    assert_eq!(sim.events(), ended);
}

#[test]
fn events_of_a_flapping_transport_do_not_pile_up() {
    let mut sim = Sim::open();
    for _ in 0..100 {
        sim.lose();
        sim.advance(Duration::from_secs(20));
        sim.hello(resumed(0, 0));
    }
    assert_eq!(sim.events().len(), 1);
}

fn copy(iteration: u64) -> StateOffer {
    StateOffer::new(iteration, 5, &"s").unwrap()
}

fn limited(hello: &Hello) -> Hello {
    Hello { limit: Some(1000), ..hello.clone() }
}

#[test]
fn a_copy_of_the_state_goes_out_behind_the_first_ack_of_each_transport() {
    let mut sim = Sim::new(Modes::Auto);
    sim.client.offer_state(Some(copy(1)));
    sim.send(&["a"]);
    sim.hello(limited(&hello(Status::New)));
    assert_eq!(sim.sent(), ["ack 0", "state 1 \"s\"", "a"]);
    // Set while a transport is open, it waits for the next one.
    sim.client.offer_state(Some(copy(2)));
    assert!(sim.sent().is_empty());
    sim.lose();
    sim.advance(WAIT);
    sim.hello(limited(&resumed(0, 1)));
    assert_eq!(sim.sent(), ["ack 0", "state 2 \"s\""]);
    sim.client.offer_state(None);
    sim.lose();
    sim.advance(WAIT);
    sim.hello(limited(&resumed(0, 1)));
    assert_eq!(sim.sent(), ["ack 0"]);
}

#[test]
fn a_copy_that_the_server_may_not_take_is_not_offered_and_that_is_told() {
    for limit in [None, Some(20)] {
        let mut sim = Sim::new(Modes::Auto);
        sim.client.offer_state(Some(copy(1)));
        sim.hello(Hello { limit, ..hello(Status::New) });
        assert_eq!(sim.sent(), ["ack 0"], "{limit:?}");
        assert_eq!(sim.events().last(), Some(&Event::StateTooBig));
        sim.lose();
        sim.advance(WAIT);
        sim.hello(limited(&resumed(0, 0)));
        assert_eq!(sim.sent(), ["ack 0"], "{limit:?}");
    }
}

#[test]
fn a_1009_behind_a_copy_takes_the_copy_out_and_not_a_message() {
    let mut sim = Sim::new(Modes::Auto);
    sim.client.offer_state(Some(copy(1)));
    sim.send(&["a", "b"]);
    sim.hello(limited(&hello(Status::New)));
    assert_eq!(sim.sent(), ["ack 0", "state 1 \"s\"", "a", "b"]);
    sim.closed(1009, "message too big");
    assert!(sim.events().contains(&Event::StateTooBig));
    sim.advance(WAIT);
    sim.hello(limited(&resumed(0, 0)));
    assert_eq!(sim.sent(), ["ack 0", "a", "b"]);
    // Without the copy the next one tells: it was the message.
    sim.closed(1009, "message too big");
    sim.advance(WAIT);
    sim.hello(limited(&resumed(0, 0)));
    assert!(sim.events().contains(&Event::TooBig("a".into())));
}

#[test]
fn a_client_that_closes_offers_its_copy_first() {
    let mut sim = Sim::new(Modes::Auto);
    sim.client.offer_state(Some(copy(1)));
    sim.hello(limited(&hello(Status::New)));
    sim.client.close();
    assert!(!sim.client.is_ended());
    assert_eq!(sim.sent(), ["ack 0", "state 1 \"s\""]);
    assert!(sim.client.is_ended());
}

/// A client that is asked before its queue goes to another session, and whose first session is gone: of `doubt` it is not
/// known whether it was handled, `one` and `two` are queued. The hello of the next session has come.
fn meeting_another(meeting: Meeting, initial: &[&'static str]) -> Sim {
    let mut sim = Sim::with(Config { meeting, ..Config::default() });
    sim.hello(fresh("s"));
    sim.events();
    sim.act();
    sim.send(&["doubt"]);
    assert_eq!(sim.sent(), ["ack 0", "doubt"]);
    sim.lose();
    sim.send(&["one", "two"]);
    sim.advance(WAIT);
    sim.events();
    (sim.initial, sim.asked) = (initial.to_vec(), 0);
    sim.hello(fresh("t"));
    sim
}

/// The hello of a session that has nothing of this client's.
fn fresh(session: &str) -> Hello {
    Hello { session: token(session), received: None, ..hello(Status::New) }
}

fn new_session(session: &str) -> Event {
    Event::NewSession { session: token(session) }
}

fn opened(session: &str) -> Event {
    Event::Open { session: token(session), status: Status::New }
}

#[test]
fn the_queue_goes_to_another_session_after_the_applications_say() {
    let mut sim = meeting_another(Meeting::NewSession, &["hi"]);
    assert_eq!(sim.sent(), ["ack 0"]);
    assert!(sim.client.is_held());
    assert_eq!(sim.client.take(sim.now), Some(opened("t")));
    assert_eq!(sim.client.take(sim.now), Some(Event::InDoubt(messages(&["doubt"]))));
    assert_eq!(sim.client.take(sim.now), Some(new_session("t")));
    // This is its say.
    assert!(sim.client.queued().eq(&messages(&["one", "two"])));
    assert_eq!(sim.client.in_doubt(), messages(&["doubt"]));
    sim.send(&["three"]);
    assert_eq!(sim.sent(), [""; 0]);
    assert_eq!((sim.asked, sim.client.is_held()), (0, true));
    // With the next call it is over.
    assert_eq!(sim.client.take(sim.now), None);
    assert!(!sim.client.is_held());
    assert_eq!(sim.sent(), [""; 0], "`initial` is asked first");
    assert_eq!(sim.sent(), ["hi", "one", "two", "three"]);
    assert_eq!((sim.asked, sim.client.in_doubt()), (1, &[][..]));
    // A drop is no other session.
    sim.lose();
    sim.advance(WAIT);
    sim.hello(Hello { session: token("t"), ..resumed(0, 1) });
    assert_eq!(sim.sent(), ["ack 0", "one", "two", "three"]);
    assert_eq!(sim.asked, 1);
}

#[test]
fn the_first_session_is_another_one_and_so_is_each_that_is_met_fresh() {
    for meeting in [Meeting::AtOnce, Meeting::Initial, Meeting::NewSession] {
        let mut sim = Sim::with(Config { meeting, ..Config::default() });
        sim.events();
        sim.initial = vec!["hi"];
        sim.send(&["early"]);
        sim.hello(fresh("s"));
        let mut expected = vec![opened("s")];
        if meeting == Meeting::NewSession {
            assert_eq!(sim.sent(), ["ack 0"], "it is not asked by itself");
            expected.push(new_session("s"));
        }
        assert_eq!(sim.events(), expected);
        sim.act();
        let sent = match meeting {
            Meeting::AtOnce => vec!["ack 0", "early"],
            Meeting::Initial => vec!["ack 0", "hi", "early"],
            Meeting::NewSession => vec!["hi", "early"],
        };
        assert_eq!(sim.sent(), sent);
        // It is stale: what it has sent is in doubt, and the session gets nothing of it twice.
        sim.closed(4103, "fresh");
        sim.advance(WAIT);
        assert_eq!(sim.client.in_doubt().is_empty(), meeting == Meeting::AtOnce);
        sim.send(&["late"]);
        sim.hello(Hello { received: Some(2), ..hello(Status::Reused) });
        sim.events();
        sim.act();
        let sent = if meeting == Meeting::AtOnce { vec!["late"] } else { vec!["hi", "late"] };
        assert_eq!(sim.sent()[1..], sent);
    }
}

#[test]
fn in_its_say_an_application_drops_and_sends_again() {
    let mut sim = meeting_another(Meeting::NewSession, &[]);
    while sim.client.take(sim.now) != Some(new_session("t")) {}
    let bytes = |sim: &Sim| sim.client.outbound.clone();
    let before = bytes(&sim);
    let queued = sim.client.take_queued();
    assert_eq!(queued, messages(&["one", "two"]));
    for message in queued.iter().cloned() {
        sim.client.send(message).unwrap();
    }
    assert_eq!(bytes(&sim), before, "to the byte");
    assert_eq!(sim.client.take_queued(), queued);
    for message in sim.client.take_in_doubt().into_iter().chain(queued.into_iter().skip(1)) {
        sim.client.send(message).unwrap();
    }
    assert_eq!(sim.client.in_doubt(), []);
    assert_eq!(sim.events(), []);
    sim.act();
    assert_eq!(sim.sent(), ["ack 0", "doubt", "two"]);
    // At any time: what was sent stays.
    sim.send(&["x", "y", "z"]);
    assert_eq!(sim.sent(), ["x", "y"], "as far as the window goes");
    assert_eq!(sim.client.take_queued(), messages(&["z"]));
    sim.ack(4);
    assert_eq!((sim.client.unacknowledged(), sim.sent()), (0, vec![]));
}

#[test]
fn what_goes_before_the_queue_has_its_own_limits() {
    let limits = Limits { messages: 2, bytes: 10, message: 8 };
    let config = Config { limits, meeting: Meeting::Initial, ..Config::default() };
    let mut sim = Sim::with(config);
    sim.initial = vec!["for me", "too long for me", "too long"];
    sim.events();
    sim.send(&["one", "two"]);
    sim.hello(Hello { limit: Some(7), ..fresh("s") });
    let too_big = ["too long for me", "too long"].map(|text| Event::TooBig(text.into()));
    assert_eq!(sim.events()[1..], too_big);
    assert_eq!(sim.sent(), ["ack 0", "for me", "one", "two"]);
    sim.ack(3);
    assert_eq!(sim.client.unacknowledged(), 0);
    sim.client.send("0123456".into()).unwrap();
    assert_eq!(sim.client.send("0123".into()), Err(SendError::Full), "it counts bytes again");
}

#[test]
fn of_two_sessions_that_nobody_has_met_the_newest_is_told() {
    for seen in [false, true] {
        let mut sim = meeting_another(Meeting::NewSession, &["hi"]);
        while seen && sim.client.take(sim.now) != Some(new_session("t")) {}
        sim.lose();
        sim.advance(WAIT);
        sim.hello(fresh("u"));
        let events = sim.events();
        let told = |event: &&Event| matches!(event, Event::NewSession { .. });
        assert_eq!(events.iter().filter(told).collect::<Vec<_>>(), [&new_session("u")]);
        sim.act();
        assert_eq!(sim.sent(), ["ack 0", "hi", "one", "two"]);
        assert_eq!(sim.asked, 1);
    }
}

#[test]
fn a_client_that_closes_has_no_more_to_say() {
    for looks in [false, true] {
        let mut sim = meeting_another(Meeting::NewSession, &["hi"]);
        while looks && sim.client.take(sim.now) != Some(new_session("t")) {}
        sim.client.close();
        sim.act();
        assert_eq!(sim.sent(), ["ack 0", "hi", "one", "two"]);
        sim.ack(3);
        assert!(sim.client.is_ended());
    }
    // Before the session is there.
    let config = Config { meeting: Meeting::NewSession, ..Config::default() };
    let mut sim = Sim::with(config);
    sim.send(&["one"]);
    sim.client.close();
    sim.hello(fresh("s"));
    assert_eq!(sim.sent(), ["ack 0", "one"]);
}

#[test]
fn a_session_that_is_over_is_met_no_more() {
    let mut sim = meeting_another(Meeting::NewSession, &["hi"]);
    while sim.client.take(sim.now) != Some(new_session("t")) {}
    sim.done(0);
    assert_eq!(sim.client.take(sim.now), None);
    sim.act();
    sim.closed(1000, "done");
    let done = sim.events();
    let untaken = messages(&["one", "two"]);
    assert!(matches!(&done[..], [Event::Done { untaken: had, .. }] if *had == untaken), "{done:?}");
}
