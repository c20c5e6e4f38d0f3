//! The client's end of a pipe.
//!
//! One [`Client`] for each attempt that comes over HTTP. It says which requests to send and hears what becomes of them.
//! At most two are under way, one of each [`Lane`]; of a request that [`poll_abort`](Client::poll_abort) names, nothing
//! more is reported. After each call the caller asks the `poll_*` methods until they are empty, and sleeps until
//! [`poll_timeout`](Client::poll_timeout).

mod exchange;
mod get;
mod held;
#[cfg(test)]
mod tests;
mod up;

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

pub use self::exchange::{Answer, Arrival, Lane, Outgoing, OutgoingKind};
use self::{
    get::{Answered, Flow, Get, Item, Reader, UnderWay},
    held::Held,
    up::{Sort, Up, sort},
};
use super::{Form, Nonce, Token};
use crate::{
    Message, Moment, Position,
    numbers::{
        PIPE_ABSENT, PIPE_BUFFERED, PIPE_CONFIRM_BYTES, PIPE_CONFIRM_FRAMES, PIPE_GET_SLACK,
        PIPE_HOLD, PIPE_OPEN_REPEATED, PIPE_PAUSE, PIPE_POST_GIVEN_UP, PIPE_RETRY,
    },
    wire::{Close, FrameError, Inbound, PipeFrame, ServerControl, decode_server_text},
};

/// The settings of a client's end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientConfig {
    /// How frames come down at first. A stream becomes polls where something on the way holds it back.
    pub form: Form,
    /// The longest message that the client takes, in bytes of payload.
    pub limit: usize,
    /// Random bits that spread what is repeated.
    pub random: u64,
}

/// Whether gets may wait at the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Patience {
    /// They wait until there is something.
    Hangs,
    /// They are answered at once, and come again every second: a browser has few connections for a host.
    Asks,
}

/// The client's end of one pipe.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Client {
    nonce: Nonce,
    offer: String,
    token: Option<Token>,
    form: Form,
    limit: usize,
    random: u64,
    patience: Patience,
    times: Times,
    phase: Phase,
    down: Down,
    get: Get,
    get_failures: Failures,
    /// Gets in a row that were answered with nothing before their time.
    displaced: u8,
    up: Up,
    post_failures: Failures,
    ack: AckTurn,
    held: Held,
    arrivals: VecDeque<Arrival>,
    aborts: VecDeque<Lane>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Phase {
    /// Opening, or open.
    Open,
    /// The server has closed. One more request confirms that, once the held frames are told.
    Closed,
    /// That request is under way.
    Confirming {
        until: Moment,
    },
    /// The client closes: its last frame is in the queue.
    Leaving {
        until: Moment,
    },
    Over,
}

/// What the hello has told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Times {
    absent: Duration,
    hold: Duration,
    heartbeat: Duration,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Down {
    /// The number of the next frame.
    next: u64,
    /// All before it were confirmed by a request.
    told: u64,
    /// Payload bytes since.
    bytes: usize,
    /// When a post must confirm what has come on a stream.
    due: Option<Moment>,
}

/// What becomes of the client's own acknowledgements.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct AckTurn {
    /// The first one has left the client: the answer to the hello.
    answered: bool,
    /// The next get tells it.
    by_get: Option<Position>,
}

/// Requests of one lane that failed in a row.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Failures {
    since: Option<Moment>,
    row: u32,
}

impl Client {
    /// Creates a pipe that wants to open at once.
    ///
    /// `offer` is what a WebSocket would offer in `Sec-WebSocket-Protocol`, and `nonce` is of fresh random bytes for each
    /// attempt: a copied program must not choose the same one as its original.
    pub fn new(config: ClientConfig, nonce: Nonce, offer: String, now: Moment) -> Self {
        Self {
            nonce,
            offer,
            token: None,
            form: config.form,
            limit: config.limit,
            random: config.random,
            patience: Patience::Hangs,
            times: Times { absent: PIPE_ABSENT, hold: PIPE_HOLD, heartbeat: PIPE_HOLD },
            phase: Phase::Open,
            down: Down { next: 0, told: 0, bytes: 0, due: None },
            get: Get::Waits { at: now },
            get_failures: Failures::default(),
            displaced: 0,
            up: Up::default(),
            post_failures: Failures::default(),
            ack: AckTurn { answered: false, by_get: None },
            held: Held::default(),
            arrivals: VecDeque::new(),
            aborts: VecDeque::new(),
        }
    }

    /// Queues a frame of the client machine. Call it when the pipe [is ready](Self::is_ready).
    pub fn send(&mut self, message: Message) {
        if self.phase != Phase::Open {
            return;
        }
        match sort(&message) {
            Sort::Ack(position) if self.form == Form::Poll && self.is_between_gets() => {
                // The next get tells it, and needs no post.
                self.ack.by_get = Some(position);
            }
            Sort::Ack(position) => {
                self.ack.answered = true;
                self.ack.by_get = None;
                self.up.push_ack(position);
            }
            Sort::Message | Sort::Other => {
                if !self.ack.answered {
                    // The answer to the hello comes first.
                    self.post_ack();
                }
                self.up.push(match message {
                    Message::Text(text) => PipeFrame::Text(text),
                    Message::Binary(bytes) => PipeFrame::Binary(bytes),
                });
            }
        }
    }

    /// Closes: what is queued goes up, and this behind it. Nothing comes down any more.
    pub fn close(&mut self, close: Close, now: Moment) {
        if self.phase != Phase::Open {
            return;
        }
        if self.token.is_none() {
            return self.abandon();
        }
        self.post_ack();
        self.up.push_close(close);
        self.phase = Phase::Leaving { until: now + PIPE_POST_GIVEN_UP };
        self.abort_get(now);
    }

    /// Drops the pipe without a word: the server finds it absent.
    pub fn abandon(&mut self) {
        if matches!(self.get, Get::UnderWay(_)) {
            self.aborts.push_back(Lane::Get);
        }
        if self.up.is_under_way() {
            self.aborts.push_back(Lane::Post);
        }
        self.phase = Phase::Over;
    }

    /// Says whether gets may wait from now on. One that waits goes on.
    pub fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Takes in the head of the answer to the request of this lane.
    ///
    /// Returns whether its body matters: then it follows in [`handle_body`](Self::handle_body), and
    /// [`handle_end`](Self::handle_end) or [`handle_failed`](Self::handle_failed) ends it. Otherwise nothing more is
    /// reported of that request.
    pub fn handle_answer(&mut self, lane: Lane, answer: &Answer, now: Moment) -> bool {
        if self.phase == Phase::Over {
            return false;
        }
        if let Phase::Confirming { .. } = self.phase
            && lane == Lane::Get
        {
            self.phase = Phase::Over;
            return false;
        }
        let ours = answer.pipe.is_some_and(|pipe| match self.token {
            Some(token) => pipe == token,
            None => pipe.nonce == self.nonce,
        });
        match (answer.status, lane, ours) {
            (413, _, _) => self.end(Arrival::Closed(Some(Close::TOO_BIG))),
            (status @ (401 | 403), _, _) => self.end(Arrival::Refused { status }),
            (200, Lane::Get, true) => return self.begin_body(answer, now),
            (204, Lane::Post, true) => self.handle_taken(answer.up, now),
            (409, _, true) => self.end(Arrival::Copied),
            (410, _, true) => {
                self.held.release(&mut self.arrivals);
                self.end(Arrival::Closed(answer.close.clone()));
            }
            (503, Lane::Post, true) => {
                // The handler is busy, and the pipe is well.
                self.post_failures = Failures::default();
                self.up.repeat(now + answer.retry_after.unwrap_or(PIPE_PAUSE));
            }
            (408 | 425 | 429, _, _) | (_, _, false) => self.fail(lane, answer.retry_after, now),
            (status @ 400..500, _, true) => self.end(Arrival::Refused { status }),
            (_, _, true) => self.fail(lane, answer.retry_after, now),
        }
        false
    }

    /// Takes in the next piece of the answer to a get.
    pub fn handle_body(&mut self, piece: &[u8], now: Moment) {
        let Get::UnderWay(get) = &mut self.get else {
            return;
        };
        let Answered::Body { reader, begun, .. } = &mut get.answer else {
            return;
        };
        if self.phase != Phase::Open || piece.is_empty() {
            return;
        }
        *begun = true;
        if get.form == Form::Stream {
            get.until =
                now + self.times.hold.max(self.times.heartbeat).saturating_add(PIPE_GET_SLACK);
        }
        let fed = reader.feed(piece);
        while self.phase == Phase::Open
            && let Some(item) = self.next_item()
        {
            self.take(item, now);
        }
        if let (Err(error), Phase::Open) = (fed, &self.phase) {
            let (arrival, close) = match error {
                FrameError::TooBig => (Arrival::TooBig, Close::TOO_BIG),
                FrameError::UnknownKind | FrameError::BadPayload | FrameError::Cut => {
                    (Arrival::Broken, Close::PROTOCOL_ERROR)
                }
            };
            self.arrivals.push_back(arrival);
            self.close(close, now);
        }
    }

    /// Takes in that the answer to a get has ended cleanly.
    pub fn handle_end(&mut self, now: Moment) {
        let Get::UnderWay(get) = &self.get else {
            return;
        };
        let Answered::Body { useful, reader, .. } = &get.answer else {
            return self.handle_failed(Lane::Get, now);
        };
        if matches!(reader, Reader::Frames(reader) if reader.is_inside()) {
            return self.handle_failed(Lane::Get, now);
        }
        if self.phase != Phase::Open {
            return;
        }
        let soon = PIPE_PAUSE.min(self.times.hold / 2);
        let early = !useful && (soon.is_zero() || now < get.began + soon);
        self.displaced = if early { 2.min(self.displaced + 1) } else { 0 };
        let at = match self.patience {
            // What has come must be confirmed at once: the server may be asking whether somebody is there.
            Patience::Asks if !useful => get.began + PIPE_PAUSE,
            Patience::Hangs | Patience::Asks if self.displaced >= 2 => now + PIPE_PAUSE,
            Patience::Hangs | Patience::Asks => now,
        };
        self.get_failures = Failures::default();
        self.arrivals.push_back(Arrival::Alive);
        self.get = Get::Waits { at };
    }

    /// Takes in that the request of this lane has failed, or its answer was cut.
    pub fn handle_failed(&mut self, lane: Lane, now: Moment) {
        match self.phase {
            Phase::Over => {}
            Phase::Confirming { .. } if lane == Lane::Get => self.phase = Phase::Over,
            Phase::Open | Phase::Closed | Phase::Confirming { .. } | Phase::Leaving { .. } => {
                self.fail(lane, None, now);
            }
        }
    }

    /// Takes in that time has passed.
    pub fn handle_timeout(&mut self, now: Moment) {
        match &self.phase {
            Phase::Over => return,
            Phase::Confirming { until } | Phase::Leaving { until } if now >= *until => {
                return self.abandon();
            }
            Phase::Open | Phase::Closed | Phase::Confirming { .. } | Phase::Leaving { .. } => {}
        }
        if let (Get::UnderWay(get), Phase::Open) = (&self.get, &self.phase) {
            if get.buffered_at().is_some_and(|at| now >= at) {
                // What it has brought is good. The next get goes on, on the same pipe.
                self.form = Form::Poll;
                self.abort_get(now);
            } else if now >= get.until {
                self.aborts.push_back(Lane::Get);
                self.fail(Lane::Get, None, now);
            }
        }
        if self.up.is_late(now) {
            self.aborts.push_back(Lane::Post);
            self.fail(Lane::Post, None, now);
        }
    }

    /// Returns which request to abort: nothing of it matters any more.
    pub fn poll_abort(&mut self) -> Option<Lane> {
        self.aborts.pop_front()
    }

    /// Returns what has come for the client machine.
    pub fn poll_arrival(&mut self) -> Option<Arrival> {
        self.arrivals.pop_front()
    }

    /// Returns the next request to send.
    ///
    /// Pass what has come to the client machine and its frames to [`send`](Self::send) first: a get then tells its
    /// position.
    pub fn poll_request(&mut self, now: Moment) -> Option<Outgoing> {
        match self.phase {
            Phase::Confirming { .. } | Phase::Over => None,
            Phase::Open => self.poll_get(now).or_else(|| self.poll_post(now)),
            Phase::Closed if self.held.is_empty() || !self.up.is_unanswered() => {
                self.poll_confirmation(now)
            }
            Phase::Closed | Phase::Leaving { .. } => self.poll_post(now),
        }
    }

    /// Returns when to call [`handle_timeout`](Self::handle_timeout) and [`poll_request`](Self::poll_request).
    pub fn poll_timeout(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Over => None,
            Phase::Confirming { until } => Some(*until),
            Phase::Leaving { until } => Some(self.up.due().map_or(*until, |due| due.min(*until))),
            Phase::Closed => self.up.due(),
            Phase::Open => {
                let confirm = self.down.due.filter(|_| !self.up.is_unanswered());
                [Some(self.get.due()), self.up.due(), confirm].into_iter().flatten().min()
            }
        }
    }

    /// Returns whether the pipe takes another frame of the client machine.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Open && self.up.has_room()
    }

    /// Returns whether nothing will ever happen here again.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Returns how frames come down from the next get on.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Returns whether the hello has come.
    pub fn is_open(&self) -> bool {
        self.down.next > 0
    }

    // ------------------------------------------------------------------ gets

    fn poll_get(&mut self, now: Moment) -> Option<Outgoing> {
        match &self.get {
            Get::Waits { at } if now >= *at => {}
            Get::Waits { .. } | Get::UnderWay(_) => return None,
        }
        let wait = match self.patience {
            Patience::Hangs => None,
            Patience::Asks => Some(Duration::ZERO),
        };
        let form = match self.patience {
            Patience::Hangs => self.form,
            Patience::Asks => Form::Poll,
        };
        let (kind, ack) = match self.token {
            None => {
                let (nonce, offer) = (self.nonce, self.offer.clone());
                (OutgoingKind::Open { nonce, offer, wait }, None)
            }
            Some(token) => {
                let (down, ack) = (self.down.next, self.ack.by_get);
                self.ack.answered |= ack.is_some();
                self.confirmed();
                (OutgoingKind::Get { token, down, wait, ack }, ack)
            }
        };
        let until = now + wait.unwrap_or(self.times.hold).saturating_add(PIPE_GET_SLACK);
        let answer = Answered::Nothing;
        self.get = Get::UnderWay(UnderWay { form, ack, began: now, until, answer });
        Some(Outgoing { kind, form, body: Bytes::new(), last: false })
    }

    fn begin_body(&mut self, answer: &Answer, now: Moment) -> bool {
        let Get::UnderWay(get) = &mut self.get else {
            return false;
        };
        let next = answer.down.unwrap_or(self.down.next);
        if next > self.down.next {
            self.fail(Lane::Get, None, now);
            return false;
        }
        get.answer = Answered::Body {
            reader: Reader::new(get.form, self.limit),
            next,
            begun: false,
            useful: false,
            flow: Flow::Unknown,
        };
        if get.ack.is_some() && get.ack == self.ack.by_get {
            self.ack.by_get = None;
        }
        self.token = self.token.or(answer.pipe);
        true
    }

    fn next_item(&mut self) -> Option<Item> {
        let Get::UnderWay(UnderWay { answer: Answered::Body { reader, .. }, .. }) = &mut self.get
        else {
            return None;
        };
        reader.next()
    }

    fn take(&mut self, item: Item, now: Moment) {
        let Get::UnderWay(get) = &mut self.get else {
            return;
        };
        let Answered::Body { next, useful, flow, .. } = &mut get.answer else {
            return;
        };
        let frame = match item {
            Item::Comment(text) => {
                if text == "flow" {
                    *flow = Flow::Seen;
                }
                return;
            }
            Item::Frame(frame) => frame,
        };
        let number = *next;
        *next += 1;
        if number == 0 && *flow == Flow::Unknown && get.form == Form::Stream {
            *flow = Flow::Expected(now + PIPE_BUFFERED);
        }
        if number < self.down.next {
            return;
        }
        *useful = true;
        self.get_failures = Failures::default();
        self.down.next += 1;
        self.down.bytes += frame.len();
        let form = get.form;
        if let (0, PipeFrame::Text(text)) = (number, &frame) {
            self.learn(text);
        }
        if form == Form::Stream {
            self.down.due.get_or_insert(now + self.times.heartbeat);
        }
        match frame {
            PipeFrame::Text(text) => self.held.pass(text, &mut self.arrivals),
            PipeFrame::Binary(bytes) => {
                self.arrivals.push_back(Arrival::Message(Message::Binary(bytes)));
            }
            PipeFrame::Ping => {
                self.arrivals.push_back(Arrival::Alive);
                self.down.due = Some(now);
            }
            PipeFrame::Close(close) => {
                self.held.pass_close(Arrival::Closed(Some(close)), &mut self.arrivals);
                self.phase = Phase::Closed;
                self.up.drop_queue();
                self.abort_get(now);
            }
        }
    }

    fn learn(&mut self, text: &bytestring::ByteString) {
        let Ok(Inbound::Control(ServerControl { hello: Some(hello), .. })) =
            decode_server_text(text.clone())
        else {
            return;
        };
        self.times = Times {
            absent: hello.absent_ms.map_or(self.times.absent, Duration::from_millis),
            hold: hello.hold_ms.map_or(self.times.hold, Duration::from_millis),
            // 0 means none.
            heartbeat: match hello.heartbeat_ms {
                0 => self.times.hold,
                millis => Duration::from_millis(millis),
            },
        };
    }

    /// The get is of no use any more; the next one may go at once.
    fn abort_get(&mut self, now: Moment) {
        if matches!(self.get, Get::UnderWay(_)) {
            self.aborts.push_back(Lane::Get);
        }
        self.get = Get::Waits { at: now };
    }

    fn is_between_gets(&self) -> bool {
        self.token.is_some() && matches!(self.get, Get::Waits { .. })
    }

    // ----------------------------------------------------------------- posts

    fn poll_post(&mut self, now: Moment) -> Option<Outgoing> {
        let token = self.token?;
        let (up, body) = self.up.poll_post(self.must_confirm(now), now)?;
        let down = self.down.next;
        self.confirmed();
        let kind = OutgoingKind::Post { token, up, down };
        Some(Outgoing { kind, form: self.form, body, last: false })
    }

    /// On a stream posts must confirm what has come: there is no next get.
    fn must_confirm(&self, now: Moment) -> bool {
        let frames = self.down.next - self.down.told;
        frames > 0
            && self.phase == Phase::Open
            && self.down.due.is_some_and(|due| {
                now >= due || frames >= PIPE_CONFIRM_FRAMES || self.down.bytes >= PIPE_CONFIRM_BYTES
            })
    }

    fn handle_taken(&mut self, expected: Option<u64>, now: Moment) {
        match self.up.handle_taken(expected) {
            Some(messages) => {
                self.post_failures = Failures::default();
                self.held.cover(messages, &mut self.arrivals);
                self.arrivals.push_back(Arrival::Alive);
                if matches!(self.phase, Phase::Leaving { .. }) && self.up.is_idle() {
                    self.phase = Phase::Over;
                }
            }
            None => self.fail(Lane::Post, None, now),
        }
    }

    /// An acknowledgement that a get was to tell goes with the next post.
    fn post_ack(&mut self) {
        if let Some(position) = self.ack.by_get.take() {
            self.ack.answered = true;
            self.up.push_ack(position);
        }
    }

    // ------------------------------------------------------------- both lanes

    /// A request says that everything so far has come.
    fn confirmed(&mut self) {
        self.down.told = self.down.next;
        (self.down.bytes, self.down.due) = (0, None);
    }

    fn fail(&mut self, lane: Lane, retry_after: Option<Duration>, now: Moment) {
        let limit = match self.token {
            None => PIPE_OPEN_REPEATED,
            Some(_) => self.times.absent,
        };
        let failures = match lane {
            Lane::Get => &mut self.get_failures,
            Lane::Post => &mut self.post_failures,
        };
        let since = *failures.since.get_or_insert(now);
        let end = since + limit;
        if now >= end {
            return self.end(Arrival::Closed(None));
        }
        let delay = retry_after.unwrap_or_default().max(jitter(failures.row, self.random));
        failures.row = failures.row.saturating_add(1);
        let at = (now + delay).min(end);
        match lane {
            Lane::Get => self.get = Get::Waits { at },
            Lane::Post => self.up.repeat(at),
        }
    }

    /// The transport is over, whatever is under way.
    fn end(&mut self, arrival: Arrival) {
        match self.phase {
            Phase::Open => {
                self.held.clear();
                self.arrivals.push_back(arrival);
            }
            Phase::Closed => self.held.release_close(&mut self.arrivals),
            // The client machine has been told, or has let go of it.
            Phase::Confirming { .. } | Phase::Leaving { .. } | Phase::Over => {}
        }
        self.abandon();
    }

    /// The server's close is confirmed by a request to which nobody listens long.
    fn poll_confirmation(&mut self, now: Moment) -> Option<Outgoing> {
        let Some(token) = self.token else {
            self.phase = Phase::Over;
            return None;
        };
        if self.up.is_under_way() {
            self.aborts.push_back(Lane::Post);
        }
        self.phase = Phase::Confirming { until: now + PIPE_GET_SLACK };
        let kind = OutgoingKind::Get {
            token,
            down: self.down.next,
            wait: Some(Duration::ZERO),
            ack: None,
        };
        Some(Outgoing { kind, form: Form::Poll, body: Bytes::new(), last: true })
    }
}

/// Returns the wait before the repetition after `row` others: from half of 0.25 s · 2^row to all of it.
fn jitter(row: u32, random: u64) -> Duration {
    let cap = PIPE_RETRY.saturating_mul(1 << row.min(16));
    // Another part of the same bits for each row.
    let drawn = random.rotate_left(row.wrapping_mul(13)) >> 32;
    let half = u64::try_from(cap.as_micros() / 2).unwrap_or(u64::MAX);
    let part = (u128::from(half) * u128::from(drawn)) >> 32;
    Duration::from_micros(half + u64::try_from(part).unwrap_or(half))
}
