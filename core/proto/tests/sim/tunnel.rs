//! A link over HTTP: pipes at both ends, and requests between them that are lost, late, doubled and reordered.

use std::{collections::VecDeque, time::Duration};

use session_resume_proto::{
    Message, Moment,
    pipe::{
        Answer, Arrival, Client, ClientConfig, Form, Get, GetStep, Incoming as Item, Lane, Nonce,
        Outgoing, Post, Posted, Refusal, Request, RequestId, Server, Settings, Tag, Token,
    },
    session::{Frame, Incoming},
    wire::{Close, FLOW, GREETING, Offer, PipeFrame, encode_event, encode_frames},
};

use crate::{
    direction::{Down, Pipe, Up},
    rng::Rng,
    scenario::Scenario,
};

#[derive(Debug)]
pub(crate) struct Tunnel {
    client: Client,
    /// What the client does as its last deed: a close, or nothing at all.
    left: bool,
    server: Option<Server>,
    settings: Settings,
    nonce: Nonce,
    /// How many servers there were: a restart forgets all tokens.
    generation: u64,
    /// Whether the transport at the server has been told that the pipe is gone.
    told: bool,
    packets: Vec<(Moment, Packet)>,
    gets: Vec<Waiting>,
    posts: Vec<(u64, Token, Post)>,
    /// The requests that the client waits for, by lane.
    live: [Option<u64>; 2],
    last: u64,
    /// Something on the way keeps streams to their end.
    buffers: bool,
    /// The network carries nothing until then.
    dead_until: Moment,
}

#[derive(Clone, Debug)]
enum Packet {
    Request { seq: u64, outgoing: Outgoing },
    Answer { lane: Lane, seq: u64, answer: Answer, body: Option<Vec<u8>> },
    Piece { seq: u64, text: String },
    End { seq: u64 },
    Failed { lane: Lane, seq: u64 },
}

/// A get that has arrived.
#[derive(Debug)]
struct Waiting {
    id: RequestId,
    seq: u64,
    form: Form,
    start: u64,
    /// Nothing arrives before what was written before.
    last: Moment,
    held: VecDeque<Packet>,
}

/// The network at this moment.
pub(crate) struct Net<'a> {
    /// A server process listens.
    pub(crate) listens: bool,
    /// Nothing goes wrong.
    pub(crate) calm: bool,
    pub(crate) rng: &'a mut Rng,
    pub(crate) now: Moment,
}

fn index(lane: Lane) -> usize {
    match lane {
        Lane::Get => 0,
        Lane::Post => 1,
    }
}

impl Tunnel {
    pub(crate) fn new(offer: &Offer, scenario: &Scenario, rng: &mut Rng, now: Moment) -> Self {
        let form = if rng.percent(50) { Form::Stream } else { Form::Poll };
        let config = ClientConfig { form, limit: 1 << 20, random: rng.draw() };
        let nonce = Nonce::parse(&format!("{:022}", rng.draw())).expect("digits");
        let hold = scenario.rules.heartbeat.min(Duration::from_secs(25));
        let settings =
            Settings { hold, absent: rng.millis(3000..10_000), rotate: rng.millis(2000..60_000) };
        Self {
            client: Client::new(config, nonce, format!("session-resume.v1, {offer}"), now),
            left: false,
            server: None,
            settings,
            nonce,
            generation: 0,
            told: false,
            packets: Vec::new(),
            gets: Vec::new(),
            posts: Vec::new(),
            live: [None; 2],
            last: 0,
            buffers: rng.percent(10),
            dead_until: Moment::ZERO,
        }
    }

    // ------------------------------------------------------------------ ends

    /// The client's end sends.
    pub(crate) fn send_up(&mut self, up: Up, now: Moment) {
        match up {
            Up::Frame(Incoming::Text(text)) => self.client.send(Message::Text(text)),
            Up::Frame(Incoming::Binary(bytes)) => self.client.send(Message::Binary(bytes)),
            // What is confirmed is its pong. The open is the offer.
            Up::Frame(Incoming::Pong(_) | Incoming::Ping) | Up::Offer => {}
            Up::Close => {
                self.left = true;
                self.client.close(Close::GOODBYE, now);
            }
            Up::Eof if self.left => {}
            Up::Eof => {
                self.left = true;
                self.client.abandon();
            }
        }
    }

    /// The server's end sends.
    pub(crate) fn send_down(&mut self, down: Down, now: Moment) {
        let Some(server) = &mut self.server else {
            return;
        };
        match down {
            Down::Frame(frame) => {
                let _ = server.push(frame);
            }
            Down::Eof => server.handle_dropped(now),
            Down::Refused => {
                let _ = server.push(Frame::Close(Close::TRY_AGAIN));
            }
        }
    }

    pub(crate) fn client_is_ready(&self) -> bool {
        self.client.is_ready()
    }

    pub(crate) fn server_is_ready(&self) -> bool {
        self.server.as_ref().is_some_and(Server::is_ready)
    }

    /// The process has died.
    pub(crate) fn kill(&mut self, now: Moment) {
        self.server = None;
        self.told = false;
        self.posts.clear();
        for get in std::mem::take(&mut self.gets) {
            self.packets.push((now, Packet::Failed { lane: Lane::Get, seq: get.seq }));
        }
    }

    /// What is under way is lost, and so is all until `until`.
    pub(crate) fn cut(&mut self, until: Moment, now: Moment) {
        self.dead_until = until;
        self.packets.clear();
        for lane in [Lane::Get, Lane::Post] {
            if let Some(seq) = self.live[index(lane)] {
                self.packets.push((now, Packet::Failed { lane, seq }));
            }
        }
        self.hang_up(now);
    }

    /// The network carries everything again.
    pub(crate) fn calm_down(&mut self) {
        self.dead_until = Moment::ZERO;
    }

    /// Returns whether nothing will happen here again.
    pub(crate) fn is_idle(&self) -> bool {
        self.server.is_none() && self.packets.is_empty() && self.client.is_over()
    }

    fn hang_up(&mut self, now: Moment) {
        let dead = |get: &mut Waiting| self.live[0] != Some(get.seq);
        for get in self.gets.extract_if(.., dead) {
            if let Some(server) = &mut self.server {
                server.handle_hang_up(get.id, now);
            }
        }
    }

    /// When something happens next.
    pub(crate) fn due(&self) -> Option<Moment> {
        let packets = self.packets.iter().map(|(at, _)| *at).min();
        let server = self.server.as_ref().and_then(|server| {
            // What the caller may forget needs no more time.
            if self.told && server.is_gone() { None } else { server.poll_timeout() }
        });
        [packets, self.client.poll_timeout(), server].into_iter().flatten().min()
    }

    // --------------------------------------------------------------- stepping

    /// Does all that can be done now; returns how much that was.
    pub(crate) fn step(
        &mut self,
        up: &mut Pipe<Up>,
        down: &mut Pipe<Down>,
        stuck: bool,
        net: &mut Net<'_>,
    ) -> u64 {
        let now = net.now;
        let before = self.last;
        let mut steps = 0;
        if self.client.poll_timeout().is_some_and(|at| at <= now) {
            self.client.handle_timeout(now);
        }
        if let Some(server) = &mut self.server {
            server.handle_timeout(now);
        }
        while let Some(at) = self.packets.iter().position(|(at, _)| *at <= now) {
            steps += 1;
            let (_, packet) = self.packets.remove(at);
            self.deliver(packet, up, net);
        }
        while let Some(arrival) = self.client.poll_arrival() {
            steps += 1;
            self.arrive(arrival, down, now);
        }
        while let Some(lane) = self.client.poll_abort() {
            self.live[index(lane)] = None;
            if net.rng.percent(50) {
                self.hang_up(now);
            }
        }
        while let Some(outgoing) = self.client.poll_request(now) {
            self.issue(outgoing, net);
        }
        steps += self.serve(up, stuck, net);
        steps + self.last - before
    }

    fn arrive(&mut self, arrival: Arrival, down: &mut Pipe<Down>, now: Moment) {
        let frame = match arrival {
            Arrival::Message(Message::Text(text)) if text.starts_with("\u{1}{") => {
                Frame::Control(text)
            }
            Arrival::Message(message) => Frame::Data(message),
            Arrival::Alive => return,
            Arrival::Closed(Some(close)) => Frame::Close(close),
            Arrival::Closed(None) => return down.push(now, Down::Eof),
            other => panic!("a correct client is told {other:?}: {self:#?}"),
        };
        down.push(now, Down::Frame(frame));
    }

    fn issue(&mut self, outgoing: Outgoing, net: &mut Net<'_>) {
        self.last += 1;
        let (seq, lane) = (self.last, outgoing.lane());
        if !outgoing.last {
            assert_eq!(self.live[index(lane)], None, "two requests of one lane");
            self.live[index(lane)] = Some(seq);
        }
        if !net.calm && net.rng.percent(4) {
            // A browser sends it again, or the network does; long after, perhaps.
            let after = if net.rng.percent(50) {
                Scenario::delay(net.rng)
            } else {
                net.rng.millis(0..30_000)
            };
            // Nobody hears the answer to that.
            self.last += 1;
            let packet = Packet::Request { seq: self.last, outgoing: outgoing.clone() };
            self.packets.push((net.now + after, packet));
        }
        self.travel(Packet::Request { seq, outgoing }, lane, seq, net);
    }

    /// Sends a packet, unless it is lost. Perhaps the client hears of that.
    fn travel(&mut self, packet: Packet, lane: Lane, seq: u64, net: &mut Net<'_>) {
        let due = net.now + Scenario::delay(net.rng);
        if net.now < self.dead_until || (!net.calm && net.rng.percent(4)) {
            if net.calm || net.rng.percent(70) {
                self.packets.push((due, Packet::Failed { lane, seq }));
            }
            return;
        }
        self.packets.push((due, packet));
    }

    fn deliver(&mut self, packet: Packet, up: &mut Pipe<Up>, net: &mut Net<'_>) {
        let now = net.now;
        match packet {
            Packet::Request { seq, outgoing } if net.listens => {
                self.request(seq, &outgoing, up, net);
            }
            Packet::Request { seq, outgoing } => self.failed(outgoing.lane(), seq, now),
            Packet::Failed { lane, seq } => self.failed(lane, seq, now),
            Packet::Answer { lane, seq, answer, body } => {
                if self.live[index(lane)] != Some(seq) {
                    return;
                }
                assert!(
                    matches!(answer.status, 200 | 204 | 410 | 503),
                    "{} to a correct client: {self:#?}",
                    answer.status
                );
                let reads = self.client.handle_answer(lane, &answer, now);
                match body {
                    Some(body) if reads => {
                        self.client.handle_body(&body, now);
                        self.live[index(lane)] = None;
                        self.client.handle_end(now);
                    }
                    // A stream goes on.
                    None if reads => {}
                    _ => self.live[index(lane)] = None,
                }
            }
            Packet::Piece { seq, text } if self.live[0] == Some(seq) => {
                // In two pieces: where a network cuts, nobody knows.
                let cut = net.rng.index(text.len());
                self.client.handle_body(&text.as_bytes()[..cut], now);
                self.client.handle_body(&text.as_bytes()[cut..], now);
            }
            Packet::End { seq } if self.live[0] == Some(seq) => {
                self.live[0] = None;
                self.client.handle_end(now);
            }
            Packet::Piece { .. } | Packet::End { .. } => {}
        }
    }

    fn failed(&mut self, lane: Lane, seq: u64, now: Moment) {
        if self.live[index(lane)] == Some(seq) {
            self.live[index(lane)] = None;
            self.client.handle_failed(lane, now);
        }
    }

    // ------------------------------------------------------------- the server

    fn request(&mut self, seq: u64, outgoing: &Outgoing, up: &mut Pipe<Up>, net: &mut Net<'_>) {
        let now = net.now;
        let headers = outgoing.headers();
        let find = |name: &str| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        let (token, get) = match Request::read(outgoing.method(), find).expect("a request") {
            Request::Open { form, wait, .. } => {
                if self.server.is_none() && self.generation == 0 {
                    self.generation += 1;
                    self.server = Some(Server::new(self.settings, now));
                    up.push(now, Up::Offer);
                }
                (self.token(), Get { down: 0, form, wait, ack: None })
            }
            Request::Get { token, down, form, wait, ack } => (token, Get { down, form, wait, ack }),
            Request::Post { token, up, down } => {
                let post = Post::read(up, down, outgoing.body.clone()).expect("frames");
                return self.post(seq, token, &post, net);
            }
        };
        let answer = match &mut self.server {
            Some(server) => match server.handle_get(RequestId(seq), get, now) {
                Ok(()) => {
                    self.gets.push(Waiting {
                        id: RequestId(seq),
                        seq,
                        form: get.form,
                        start: get.down,
                        last: now,
                        held: VecDeque::new(),
                    });
                    if get.form == Form::Stream && !self.buffers {
                        let answer = Answer { down: Some(get.down), ..head(200, token) };
                        let packet = Packet::Answer { lane: Lane::Get, seq, answer, body: None };
                        let due = now + Scenario::delay(net.rng);
                        self.packets.push((due, packet));
                        let text = GREETING.to_owned();
                        self.packets.push((due, Packet::Piece { seq, text }));
                        self.gets.last_mut().expect("just pushed").last = due;
                    }
                    return;
                }
                Err(refusal) => refused(token, &refusal),
            },
            None => head(410, token),
        };
        let packet = Packet::Answer { lane: Lane::Get, seq, answer, body: None };
        self.travel(packet, Lane::Get, seq, net);
    }

    fn post(&mut self, seq: u64, token: Token, post: &Post, net: &mut Net<'_>) {
        let posted = self.server.as_mut().map(|server| server.handle_post(post, net.now));
        let answer = match posted {
            None => head(410, token),
            Some(Posted::Taken { next }) => Answer { up: Some(next), ..head(204, token) },
            Some(Posted::Refused(refusal)) => refused(token, &refusal),
            Some(Posted::Full) if net.rng.percent(90) => {
                return self.posts.push((seq, token, post.clone()));
            }
            Some(Posted::Full) => {
                Answer { retry_after: Some(Duration::from_secs(1)), ..head(503, token) }
            }
        };
        let packet = Packet::Answer { lane: Lane::Post, seq, answer, body: None };
        self.travel(packet, Lane::Post, seq, net);
    }

    fn token(&self) -> Token {
        let tag = Tag::parse(&format!("t{}", self.generation)).expect("short");
        Token { nonce: self.nonce, tag }
    }

    fn serve(&mut self, up: &mut Pipe<Up>, stuck: bool, net: &mut Net<'_>) -> u64 {
        let now = net.now;
        let mut steps = 0;
        while !stuck
            && up.len() == 0
            && let Some(server) = &mut self.server
        {
            let item = match server.poll_incoming() {
                Some(Item::Text(text)) => Up::Frame(Incoming::Text(text)),
                Some(Item::Binary(bytes)) => Up::Frame(Incoming::Binary(bytes)),
                Some(Item::Ping) => Up::Frame(Incoming::Ping),
                Some(Item::Pong(payload)) => Up::Frame(Incoming::Pong(payload)),
                Some(Item::Close(_)) => {
                    self.told = true;
                    Up::Close
                }
                Some(Item::Broken(breach)) => panic!("{breach:?} by a correct client"),
                None if server.is_gone() && !self.told => {
                    self.told = true;
                    Up::Eof
                }
                None => break,
            };
            up.push(now, item);
            steps += 1;
        }
        for (seq, token, post) in std::mem::take(&mut self.posts) {
            self.post(seq, token, &post, net);
        }
        steps + self.answer_gets(net)
    }

    fn answer_gets(&mut self, net: &mut Net<'_>) -> u64 {
        let now = net.now;
        let mut steps = 0;
        let token = self.token();
        for mut get in std::mem::take(&mut self.gets) {
            let Some(server) = &mut self.server else {
                break;
            };
            let mut pieces = Vec::new();
            let over = loop {
                match (server.poll_get(get.id, now), get.form) {
                    (GetStep::Wait, _) => break false,
                    (GetStep::Flow, _) => {
                        pieces.push(Packet::Piece { seq: get.seq, text: FLOW.to_owned() });
                    }
                    (GetStep::Frames(frames), Form::Stream) => {
                        for frame in &frames {
                            let mut text = String::new();
                            encode_event(frame, &mut text);
                            pieces.push(Packet::Piece { seq: get.seq, text });
                        }
                    }
                    (GetStep::End, Form::Stream) => {
                        pieces.push(Packet::End { seq: get.seq });
                        break true;
                    }
                    (step, Form::Poll) => {
                        let GetStep::Frames(frames) = step else {
                            pieces.push(poll_answer(&get, token, &[]));
                            break true;
                        };
                        pieces.push(poll_answer(&get, token, &frames));
                        break true;
                    }
                }
            };
            steps += pieces.len() as u64;
            match get.form {
                Form::Poll => {
                    for packet in pieces {
                        self.travel(packet, Lane::Get, get.seq, net);
                    }
                }
                Form::Stream => {
                    get.held.extend(pieces);
                    if self.buffers && over {
                        let answer = Answer { down: Some(get.start), ..head(200, token) };
                        get.held.push_front(Packet::Answer {
                            lane: Lane::Get,
                            seq: get.seq,
                            answer,
                            body: None,
                        });
                    }
                    if !self.buffers || over {
                        let due = get.last.max(now + Scenario::delay(net.rng));
                        get.last = due;
                        self.packets.extend(get.held.drain(..).map(|packet| (due, packet)));
                        if !net.calm && net.rng.percent(2) {
                            // It breaks in its middle.
                            self.packets
                                .push((due, Packet::Failed { lane: Lane::Get, seq: get.seq }));
                        }
                    }
                }
            }
            if !over {
                self.gets.push(get);
            }
        }
        steps
    }
}

fn poll_answer(get: &Waiting, token: Token, frames: &[PipeFrame]) -> Packet {
    let answer = Answer { down: Some(get.start), ..head(200, token) };
    Packet::Answer { lane: Lane::Get, seq: get.seq, answer, body: Some(encode_frames(frames)) }
}

fn head(status: u16, token: Token) -> Answer {
    Answer { status, pipe: Some(token), down: None, up: None, close: None, retry_after: None }
}

fn refused(token: Token, refusal: &Refusal) -> Answer {
    let close = match refusal {
        Refusal::Conflict => None,
        Refusal::Gone { close } => close.clone(),
    };
    Answer { close, ..head(refusal.status(), token) }
}
