//! What the server's side does.

use std::collections::VecDeque;

use session_resume_proto::{
    AttachmentNumber, WireId,
    pipe::{
        self, Answer, Get, GetStep, Lane, Method, Nonce, OutgoingKind, Post, Posted, Refusal,
        Request, RequestId, Server, Tag, Token,
    },
    session::{
        Access, Arrival, Budget, Claim, ClientName, Event, Frame, IdentityTag, Incoming, Reception,
        SessionOrigin,
    },
    wire::{Offer, encode_event, encode_frames},
};

use crate::{
    bounds::Bounds,
    fault::Fault,
    world::{NOW, Packet, Piece, ServerEnd, World},
};

impl World {
    /// A request reaches the server.
    pub(crate) fn arrive(
        &mut self,
        attempt: usize,
        outgoing: &pipe::Outgoing,
        live: bool,
        fault: Option<Fault>,
    ) {
        let headers = outgoing.headers();
        let find = |name: &str| {
            headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
        };
        let request = Request::read(outgoing.method(), find).expect("a client knows how to ask");
        assert_eq!(
            outgoing.method() == Method::Get,
            outgoing.body.is_empty() && { matches!(outgoing.kind, OutgoingKind::Get { .. }) }
        );
        match request {
            Request::Open { nonce, form, wait } => {
                let known = self.pipes.iter().position(|end| end.nonce == nonce && !end.forgotten);
                let at = known.unwrap_or_else(|| {
                    self.open(nonce, offer(find("session-resume-offer").unwrap()), fault)
                });
                let get = Get { down: 0, form, wait, ack: None };
                self.get(attempt, live, at, get);
            }
            Request::Get { token, down, form, wait, ack } => match self.find(&token) {
                Some(at) => self.get(attempt, live, at, Get { down, form, wait, ack }),
                None => self.answer(attempt, live, Lane::Get, gone(token)),
            },
            Request::Post { token, up, down } => {
                let Some(at) = self.find(&token) else {
                    return self.answer(attempt, live, Lane::Post, gone(token));
                };
                self.post(attempt, live, at, up, down, outgoing, fault);
            }
        }
    }

    fn find(&self, token: &Token) -> Option<usize> {
        self.pipes
            .iter()
            .rposition(|end| !end.forgotten && token.is(&Token { nonce: end.nonce, tag: end.tag }))
    }

    fn open(&mut self, nonce: Nonce, offer: Offer, fault: Option<Fault>) -> usize {
        let tag = if fault == Some(Fault::NoTag) { 0 } else { self.pipes.len() };
        let mut machine = Server::new(Self::settings(), NOW);
        let number = match self.attach(offer, fault) {
            Ok(number) => Some(number),
            Err(close) => {
                machine.push(Frame::Close(close)).expect("it is new");
                None
            }
        };
        self.pipes.push(ServerEnd {
            nonce,
            tag: Tag::parse(&format!("t{tag}")).unwrap(),
            machine,
            number,
            gone: false,
            forgotten: false,
            stuck: None,
            next: 0,
            leftover: VecDeque::new(),
        });
        self.pipes.len() - 1
    }

    pub(crate) fn attach(
        &mut self,
        offer: Offer,
        fault: Option<Fault>,
    ) -> Result<AttachmentNumber, session_resume_proto::wire::Close> {
        let client = *offer.client().expect("clients name themselves");
        let is_stale = match &offer {
            Offer::Resume { attachment, .. } => attachment.is_some_and(|n| n < self.heard),
            Offer::Plain | Offer::PlainAt(_) | Offer::Fresh { .. } => false,
        };
        let claim = match offer {
            Offer::Plain => Claim::Plain,
            Offer::PlainAt(at) => Claim::PlainAt(at),
            Offer::Fresh { .. } => Claim::Fresh,
            Offer::Resume { cursor, attachment, .. } => Claim::Cursor {
                epoch: cursor.epoch,
                received: cursor.received,
                attachment: attachment.filter(|_| fault != Some(Fault::NoStaleCheck)),
            },
        };
        let arrival = Arrival {
            client: ClientName::named(IdentityTag::new([1; 16]), client),
            access: Access::Full,
            info: 0,
            origin: SessionOrigin::Reused,
            claim,
            nonce: [0; 8],
        };
        let attached = self.session.attach(arrival, &WireId::parse("s").unwrap(), NOW);
        assert!(
            attached.is_err() || !is_stale,
            "an offer from before the present holder is let in"
        );
        attached.map(|attached| attached.number).map_err(|refusal| refusal.close)
    }

    fn get(&mut self, attempt: usize, live: bool, at: usize, get: Get) {
        let is_used = |id| {
            self.net.iter().any(|packet| {
                matches!(packet, Packet::Waiting { pipe, id: other, .. } if *pipe == at && *other == id)
            })
        };
        let id = (0..9).map(RequestId).find(|id| !is_used(*id)).expect("few wait");
        let end = &mut self.pipes[at];
        let token = Token { nonce: end.nonce, tag: end.tag };
        match end.machine.handle_get(id, get, NOW) {
            Ok(()) => self.net.push(Packet::Waiting {
                attempt,
                live,
                pipe: at,
                id,
                form: get.form,
                start: get.down,
                pieces: [Piece::Head]
                    .into_iter()
                    .filter(|_| live && get.form == pipe::Form::Stream)
                    .collect(),
                over: false,
            }),
            Err(refusal) => self.answer(attempt, live, Lane::Get, refused(token, &refusal)),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a post is")]
    fn post(
        &mut self,
        attempt: usize,
        live: bool,
        at: usize,
        up: u64,
        down: u64,
        outgoing: &pipe::Outgoing,
        fault: Option<Fault>,
    ) {
        let end = &mut self.pipes[at];
        let token = Token { nonce: end.nonce, tag: end.tag };
        let up = if fault == Some(Fault::NoUpNumbers) { end.next } else { up };
        let post = Post::read(up, down, outgoing.body.clone()).expect("frames");
        let over = end.number.is_some_and(|number| self.session.is_turn_over(number));
        let answer = match end.machine.handle_post(&post, NOW) {
            Posted::Taken { next } => {
                let news = next > end.next;
                end.next = next;
                if fault == Some(Fault::PostsCountAfterTurn) && over && news {
                    let frames = session_resume_proto::wire::decode_frames(outgoing.body.clone());
                    end.leftover.extend(frames.unwrap().into_iter().filter_map(incoming));
                }
                Answer { up: Some(next), ..head(204, token) }
            }
            Posted::Full => {
                // It is there already, and waits.
                let outgoing = outgoing.clone();
                return self.net.push(Packet::Request { attempt, outgoing, live });
            }
            Posted::Refused(refusal) => refused(token, &refusal),
        };
        // The numbers of what nobody numbers are not looked at, either.
        let up = answer.up.filter(|_| fault != Some(Fault::NoUpNumbers));
        self.answer(attempt, live, Lane::Post, Answer { up, ..answer });
    }

    fn answer(&mut self, attempt: usize, live: bool, lane: Lane, answer: Answer) {
        if live {
            self.net.push(Packet::Answer { attempt, lane, answer, body: None });
        }
    }

    /// The upgrade of a WebSocket reaches the server.
    pub(crate) fn upgrade(
        &mut self,
        attempt: usize,
        offer: Offer,
        live: bool,
        fault: Option<Fault>,
    ) {
        let (number, down) = match self.attach(offer, fault) {
            Ok(number) => (Some(number), VecDeque::new()),
            Err(close) => (None, [Frame::Close(close)].into_iter().filter(|_| live).collect()),
        };
        self.net.push(Packet::Link { attempt, live, number, down, up: VecDeque::new() });
    }

    /// What needs no choice: the handler takes, the server writes, the transports pass on what they have.
    pub(crate) fn serve(&mut self, bounds: Bounds, fault: Option<Fault>) {
        let _ = self.session.take_wake();
        self.receive();
        for at in 0..self.pipes.len() {
            self.fill(at, bounds, fault);
            if !bounds.lazy {
                while self.pump(at, fault) {}
            }
        }
        for at in 0..self.net.len() {
            if let Packet::Link { number: Some(number), live, down, .. } = &mut self.net[at] {
                let mut frames = Vec::new();
                let all = Budget { messages: usize::MAX, bytes: usize::MAX };
                self.session.poll_transmit(*number, all, NOW, &mut frames);
                down.extend(frames.into_iter().filter(|_| *live));
            }
        }
        self.receive();
        self.answer_gets(fault);
    }

    fn receive(&mut self) {
        while let Some(event) = self.session.poll_receive(NOW) {
            if let Event::Message { message, .. } = event {
                let expected = format!("u{}", self.taken);
                assert_eq!(message.as_text(), Some(&*expected), "exactly once and in order");
                self.taken += 1;
            }
        }
    }

    /// Writes what the session has for a pipe.
    fn fill(&mut self, at: usize, bounds: Bounds, fault: Option<Fault>) {
        let end = &mut self.pipes[at];
        let Some(number) = end.number.filter(|_| !end.gone) else {
            return;
        };
        while end.machine.unconfirmed() < bounds.window {
            let mut frames = Vec::new();
            let one = Budget { messages: 1, bytes: usize::MAX };
            self.session.poll_transmit(number, one, NOW, &mut frames);
            if frames.is_empty() {
                break;
            }
            for frame in frames {
                let closes = matches!(frame, Frame::Close(_));
                if closes && fault == Some(Fault::QueueIsReadLate) {
                    let rest = std::iter::from_fn(|| end.machine.poll_incoming());
                    let rest: Vec<_> = rest.filter_map(into_frame).collect();
                    end.leftover.extend(rest);
                }
                let _ = end.machine.push(frame);
            }
        }
    }

    /// The pump reads one frame of a pipe; returns whether there was one.
    pub(crate) fn pump(&mut self, at: usize, fault: Option<Fault>) -> bool {
        let end = &mut self.pipes[at];
        if let Some(frame) = end.leftover.pop_front() {
            assert!(fault.is_some());
            let newest = self.session.newest_attachment();
            assert!(matches!(self.session.handle_frame(newest, frame, NOW), Reception::Done));
            return true;
        }
        if end.gone {
            return false;
        }
        let incoming = match end.stuck.take() {
            Some(frame) => Ok(frame),
            None => match end.machine.poll_incoming() {
                Some(pipe::Incoming::Close(_)) => Err(true),
                Some(pipe::Incoming::Broken(breach)) => panic!("{breach:?} by a correct client"),
                Some(frame) => Ok(into_frame(frame).expect("the others are frames")),
                None if end.machine.is_gone() => Err(false),
                None => return false,
            },
        };
        match (incoming, end.number) {
            (Ok(frame), Some(number)) => {
                let was_over = self.session.is_turn_over(number);
                if let Reception::Full(frame) = self.session.handle_frame(number, frame, NOW) {
                    end.stuck = Some(frame);
                    return false;
                }
                let over = self.session.is_turn_over(number);
                assert!(was_over || !over, "4103 to a correct client");
                if !was_over {
                    self.heard = self.heard.max(number);
                }
            }
            (Ok(_), None) => {}
            (Err(answered), number) => {
                if let Some(number) = number {
                    if answered {
                        self.session.handle_close_answered(number);
                    }
                    self.session.detach(number, NOW);
                }
                end.machine.handle_dropped(NOW);
                end.gone = true;
            }
        }
        true
    }

    /// Nobody has asked for the pipe for too long: the server forgets it, and does not even say how it was closed.
    pub(crate) fn find_absent(&mut self, at: usize) {
        for packet in &self.net {
            if let Packet::Waiting { pipe, id, .. } = packet
                && *pipe == at
            {
                self.pipes[at].machine.handle_hang_up(*id, NOW);
            }
        }
        self.net.retain(|packet| !matches!(packet, Packet::Waiting { pipe, .. } if *pipe == at));
        let end = &mut self.pipes[at];
        end.machine.handle_timeout(crate::world::MUCH_LATER);
        assert!(end.machine.is_gone());
        while self.pump(at, None) {}
        self.pipes[at].forgotten = true;
    }

    /// Asks each get that waits for what to write.
    fn answer_gets(&mut self, fault: Option<Fault>) {
        let mut net = std::mem::take(&mut self.net);
        net.retain_mut(|packet| {
            let Packet::Waiting { attempt, live, pipe, id, form, start, pieces, over } = packet
            else {
                return true;
            };
            loop {
                let end = &mut self.pipes[*pipe];
                let token = Token { nonce: end.nonce, tag: end.tag };
                if *over {
                    return !pieces.is_empty();
                }
                let step = end.machine.poll_get(*id, NOW);
                if let (GetStep::Frames(frames), Some(Fault::WrittenIsConfirmed)) = (&step, fault) {
                    *start += frames.len() as u64;
                    let post = Post::read(end.next, *start, bytes::Bytes::new()).unwrap();
                    let _ = end.machine.handle_post(&post, NOW);
                    *start -= frames.len() as u64;
                }
                match (step, *form) {
                    (GetStep::Wait, _) => return true,
                    (GetStep::Flow, _) => panic!("time stands still"),
                    (GetStep::Frames(frames), pipe::Form::Stream) => {
                        if fault == Some(Fault::WrittenIsConfirmed) {
                            *start += frames.len() as u64;
                        }
                        if *live {
                            pieces.extend(frames.iter().map(|frame| {
                                let mut text = String::new();
                                encode_event(frame, &mut text);
                                Piece::Event(text)
                            }));
                        }
                    }
                    (GetStep::End, pipe::Form::Stream) => {
                        *over = true;
                        if *live {
                            pieces.push_back(Piece::End);
                        }
                    }
                    (step @ (GetStep::Frames(_) | GetStep::End), pipe::Form::Poll) => {
                        let frames = match step {
                            GetStep::Frames(frames) => frames,
                            GetStep::End | GetStep::Wait | GetStep::Flow => Vec::new(),
                        };
                        if *live || fault == Some(Fault::LateAnswersHeard) {
                            self.net.push(Packet::Answer {
                                attempt: *attempt,
                                lane: Lane::Get,
                                answer: Answer { down: Some(*start), ..head(200, token) },
                                body: Some(encode_frames(&frames).into()),
                            });
                        }
                        return false;
                    }
                }
            }
        });
        self.net.append(&mut net);
    }

    /// The head of the answer to a stream.
    pub(crate) fn stream_head(&self, pipe: usize, start: u64) -> Answer {
        let end = &self.pipes[pipe];
        Answer { down: Some(start), ..head(200, Token { nonce: end.nonce, tag: end.tag }) }
    }

    /// A frame arrives at the server on a WebSocket.
    pub(crate) fn frame_up(&mut self, number: Option<AttachmentNumber>, frame: Incoming) {
        let Some(number) = number else {
            return;
        };
        let was_over = self.session.is_turn_over(number);
        let reception = self.session.handle_frame(number, frame, NOW);
        assert!(
            matches!(reception, Reception::Done),
            "a client that keeps to its window finds room"
        );
        assert!(was_over || !self.session.is_turn_over(number), "4103 to a correct client");
        if !was_over {
            self.heard = self.heard.max(number);
        }
    }
}

fn offer(text: &str) -> Offer {
    Offer::parse(text.split(',').map(str::trim)).expect("a client knows how to offer")
}

fn head(status: u16, token: Token) -> Answer {
    Answer { status, pipe: Some(token), down: None, up: None, close: None, retry_after: None }
}

fn gone(token: Token) -> Answer {
    head(410, token)
}

fn refused(token: Token, refusal: &Refusal) -> Answer {
    let close = match refusal {
        Refusal::Conflict => None,
        Refusal::Gone { close } => close.clone(),
    };
    Answer { close, ..head(refusal.status(), token) }
}

fn into_frame(incoming: pipe::Incoming) -> Option<Incoming> {
    match incoming {
        pipe::Incoming::Text(text) => Some(Incoming::Text(text)),
        pipe::Incoming::Binary(bytes) => Some(Incoming::Binary(bytes)),
        pipe::Incoming::Ping => Some(Incoming::Ping),
        pipe::Incoming::Pong(payload) => Some(Incoming::Pong(payload)),
        pipe::Incoming::Close(_) | pipe::Incoming::Broken(_) => None,
    }
}

fn incoming(frame: session_resume_proto::wire::PipeFrame) -> Option<Incoming> {
    use session_resume_proto::wire::PipeFrame;
    match frame {
        PipeFrame::Text(text) => Some(Incoming::Text(text)),
        PipeFrame::Binary(bytes) => Some(Incoming::Binary(bytes)),
        PipeFrame::Close(_) | PipeFrame::Ping => None,
    }
}
