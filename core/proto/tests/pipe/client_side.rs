//! What the client's side does.

use session_resume_proto::{
    Message,
    client::{Action, Cause, Event, Random, TransportNumber},
    pipe::{self, Answer, Arrival, ClientConfig, Form, Lane, Nonce, OutgoingKind},
    session::{Frame, Incoming},
    wire::{self, Close, CloseKind, PipeFrame, ServerControl},
};

use crate::{
    bounds::{Bounds, Kind},
    fault::Fault,
    world::{ClientEnd, DUE, NOW, Packet, Piece, World, lane_index},
};

impl World {
    /// Does what the client machine asks for, and takes its events.
    pub(crate) fn act(&mut self, bounds: Bounds, fault: Option<Fault>) {
        loop {
            self.pass_arrivals();
            while let Some(event) = self.program.take(NOW) {
                self.hear(event);
            }
            if let Some(action) = self.program.poll_action() {
                self.do_action(action, bounds);
                continue;
            }
            if !self.write(fault) {
                break;
            }
        }
        self.drop_aborted();
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                let expected = format!("d{}", self.got);
                assert_eq!(message.as_text(), Some(&*expected), "exactly once and in order");
                self.got += 1;
            }
            Event::Connecting | Event::Open { .. } => {}
            Event::Waiting { cause, .. } => match cause {
                Cause::Lost => {}
                Cause::Closed(close) => assert!(
                    matches!(close.kind(), CloseKind::Replaced | CloseKind::Stale),
                    "closed: {close:?}"
                ),
                other => panic!("the transport ended by {other:?}"),
            },
            other => panic!("the application was told {other:?}"),
        }
    }

    fn do_action(&mut self, action: Action, bounds: Bounds) {
        match action {
            Action::Randomize => self.program.handle_random(&Random::default(), NOW),
            Action::Connect { transport, offer } => {
                self.leave();
                self.used += 1;
                let attempt = self.used;
                match Self::kind(bounds, attempt) {
                    Kind::WebSocket => {
                        self.end = Some(ClientEnd::WebSocket { transport });
                        self.net.push(Packet::Upgrade { attempt, offer, live: true });
                    }
                    kind => {
                        let form = if kind == Kind::Stream { Form::Stream } else { Form::Poll };
                        let config = ClientConfig { form, limit: 1000, random: 0 };
                        let nonce = Nonce::parse(&format!("{attempt:022}")).unwrap();
                        let offer = format!("session-resume.v1, {offer}");
                        let machine = pipe::Client::new(config, nonce, offer, NOW);
                        self.end = Some(ClientEnd::Pipe {
                            transport,
                            machine: Box::new(machine),
                            under_way: [false; 2],
                            posted: None,
                        });
                    }
                }
            }
            Action::Close { transport, close } => {
                let kind = close.as_ref().map(Close::kind);
                assert_ne!(kind, Some(CloseKind::ProtocolError), "the server broke the protocol");
                if self.transport() == Some(transport) {
                    self.leave();
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn transport(&self) -> Option<TransportNumber> {
        match &self.end {
            Some(ClientEnd::Pipe { transport, .. } | ClientEnd::WebSocket { transport }) => {
                Some(*transport)
            }
            None => None,
        }
    }

    /// Passes frames of the client machine on; returns whether there were any.
    fn write(&mut self, _fault: Option<Fault>) -> bool {
        let mut some = false;
        loop {
            let link = self.net.iter_mut().find_map(|packet| match packet {
                Packet::Link { live: true, up, .. } => Some(up),
                _ => None,
            });
            match (&mut self.end, link) {
                (Some(ClientEnd::Pipe { machine, .. }), _) if machine.is_ready() => {
                    let Some((_, message)) = self.program.poll_transmit(NOW) else {
                        return some;
                    };
                    machine.send(message);
                }
                (Some(ClientEnd::WebSocket { .. }), Some(up)) => {
                    let Some((_, message)) = self.program.poll_transmit(NOW) else {
                        return some;
                    };
                    up.push_back(match message {
                        Message::Text(text) => Incoming::Text(text),
                        Message::Binary(bytes) => Incoming::Binary(bytes),
                    });
                }
                (_, _) => return some,
            }
            some = true;
        }
    }

    /// Gives the client machine what its pipe has brought.
    fn pass_arrivals(&mut self) {
        while let Some(ClientEnd::Pipe { machine, transport, .. }) = &mut self.end
            && let Some(arrival) = machine.poll_arrival()
        {
            let transport = *transport;
            match arrival {
                Arrival::Message(message) => self.program.handle_frame(transport, message, NOW),
                Arrival::Alive => self.program.handle_alive(transport, NOW),
                Arrival::Closed(close) => self.program.handle_closed(transport, close),
                other => panic!("a correct client is told {other:?}"),
            }
        }
    }

    /// Forgets the requests that the pipe aborts, and a pipe that is over.
    fn drop_aborted(&mut self) {
        let attempt = self.attempt();
        let Some(ClientEnd::Pipe { machine, under_way, .. }) = &mut self.end else {
            return;
        };
        let mut aborted = Vec::new();
        while let Some(lane) = machine.poll_abort() {
            under_way[lane_index(lane)] = false;
            aborted.push(lane);
        }
        let over = machine.is_over();
        for lane in aborted {
            self.forget(attempt, Some(lane));
        }
        if over {
            self.leave();
        }
    }

    /// The client does not listen to its newest transport any more.
    pub(crate) fn leave(&mut self) {
        self.end = None;
        self.forget(self.attempt(), None);
    }

    /// What is under way of this lane is not heard any more.
    pub(crate) fn forget(&mut self, attempt: usize, of: Option<Lane>) {
        let concerned =
            |packet: &Packet| packet.attempt() == attempt && (of.is_none() || packet.lane() == of);
        self.net.retain(|packet| !(matches!(packet, Packet::Answer { .. }) && concerned(packet)));
        for packet in self.net.iter_mut().filter(|packet| concerned(packet)) {
            match packet {
                Packet::Request { live, .. } | Packet::Upgrade { live, .. } => *live = false,
                Packet::Waiting { live, pieces, .. } => {
                    *live = false;
                    pieces.clear();
                }
                Packet::Link { live, down, .. } => {
                    *live = false;
                    down.clear();
                }
                Packet::Answer { .. } => {}
            }
        }
    }

    /// The pipe sends its next request.
    pub(crate) fn issue(&mut self, fault: Option<Fault>) {
        let attempt = self.attempt();
        let Some(ClientEnd::Pipe { machine, under_way, posted, .. }) = &mut self.end else {
            return;
        };
        let mut outgoing = machine.poll_request(DUE).expect("there is one");
        let lane = outgoing.lane();
        if outgoing.last {
            self.net.push(Packet::Request { attempt, outgoing, live: false });
            return self.leave();
        }
        assert!(!under_way[lane_index(lane)], "two requests of one lane");
        under_way[lane_index(lane)] = true;
        let mut second = None;
        if let OutgoingKind::Post { up, down, token } = &mut outgoing.kind {
            match fault {
                Some(Fault::ConfirmsByGetsOnly) => *down = 0,
                Some(Fault::RepeatGrows)
                    if posted.as_ref().is_some_and(|p| p.body == outgoing.body) =>
                {
                    let ack = PipeFrame::Text("\u{1}{\"ack\":0}".into());
                    let mut body = outgoing.body.to_vec();
                    ack.encode(&mut body);
                    outgoing.body = body.into();
                }
                Some(Fault::TwoPosts) => {
                    let frames = wire::decode_frames(outgoing.body.clone()).unwrap();
                    if let [first, rest @ ..] = &frames[..]
                        && !rest.is_empty()
                    {
                        let kind = OutgoingKind::Post { up: *up + 1, down: *down, token: *token };
                        let body = wire::encode_frames(rest).into();
                        second = Some(pipe::Outgoing { kind, body, ..outgoing.clone() });
                        outgoing.body = wire::encode_frames([first]).into();
                    }
                }
                _ => *posted = Some(outgoing.clone()),
            }
        }
        self.net.push(Packet::Request { attempt, outgoing, live: true });
        self.net.extend(second.map(|outgoing| Packet::Request { attempt, outgoing, live: true }));
    }

    /// An answer arrives.
    pub(crate) fn answered(
        &mut self,
        lane: Lane,
        mut answer: Answer,
        body: Option<bytes::Bytes>,
        fault: Option<Fault>,
    ) {
        assert_ne!(answer.status, 409, "409 to a correct client");
        assert!(matches!(answer.status, 200 | 204 | 410), "{} to a correct client", answer.status);
        let Some(ClientEnd::Pipe { machine, under_way, posted, transport }) = &mut self.end else {
            return;
        };
        if fault == Some(Fault::TwoPosts) && answer.status == 204 {
            // The last of the two tells.
            if self.net.iter().any(|packet| packet.is_live() && packet.lane() == Some(Lane::Post)) {
                return;
            }
        }
        if let (204, Some(Fault::AnsweredIsAcknowledged), Some(post)) =
            (answer.status, fault, posted.as_ref())
            && let Some(number) = messages(&post.body).last()
        {
            let ack = ServerControl { ack: Some(number + 1), ..ServerControl::default() };
            self.program.handle_frame(*transport, Message::Text(ack.encode()), NOW);
        }
        if fault == Some(Fault::LateAnswersHeard) {
            answer.down = None;
        }
        under_way[lane_index(lane)] = false;
        let reads = machine.handle_answer(lane, &answer, NOW);
        if let Some(body) = body.filter(|_| reads) {
            machine.handle_body(&body, NOW);
            machine.handle_end(NOW);
        }
    }

    /// The next part of a stream arrives.
    pub(crate) fn read(&mut self, piece: &Piece, head: &Answer) {
        let Some(ClientEnd::Pipe { machine, under_way, .. }) = &mut self.end else {
            return;
        };
        match piece {
            Piece::Head => {
                if machine.handle_answer(Lane::Get, head, NOW) {
                    machine.handle_body(wire::GREETING.as_bytes(), NOW);
                } else {
                    under_way[0] = false;
                    self.forget(self.attempt(), Some(Lane::Get));
                }
            }
            Piece::Event(text) => machine.handle_body(text.as_bytes(), NOW),
            Piece::End => {
                under_way[0] = false;
                machine.handle_end(NOW);
            }
        }
    }

    /// The request of this lane fails, or is given up.
    pub(crate) fn fail(&mut self, lane: Lane) {
        self.forget(self.attempt(), Some(lane));
        if let Some(ClientEnd::Pipe { machine, under_way, .. }) = &mut self.end {
            under_way[lane_index(lane)] = false;
            machine.handle_failed(lane, NOW);
        }
    }

    /// A frame arrives on a WebSocket.
    pub(crate) fn frame_down(&mut self, frame: Frame) {
        let Some(transport) = self.transport() else {
            return;
        };
        match frame {
            Frame::Data(message) => self.program.handle_frame(transport, message, NOW),
            Frame::Control(text) => {
                self.program.handle_frame(transport, Message::Text(text), NOW);
            }
            Frame::Ping(_) => self.program.handle_alive(transport, NOW),
            Frame::Close(close) => {
                self.leave();
                self.program.handle_closed(transport, Some(close));
            }
        }
    }

    /// The client gives its transport up.
    pub(crate) fn give_up(&mut self) {
        let transport = self.transport().expect("there is one");
        self.leave();
        self.program.handle_closed(transport, None);
    }
}

/// The numbers of the client's messages in a body.
fn messages(body: &bytes::Bytes) -> Vec<u64> {
    let frames = wire::decode_frames(body.clone()).unwrap();
    let number = |frame: &PipeFrame| match frame {
        PipeFrame::Text(text) => text.strip_prefix('u').map(|n| n.parse().unwrap()),
        _ => None,
    };
    frames.iter().filter_map(number).collect()
}
