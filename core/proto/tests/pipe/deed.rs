//! What may happen next.

use session_resume_proto::pipe::Lane;

use crate::{
    bounds::Bounds,
    fault::Fault,
    world::{ClientEnd, DUE, HELD_BACK, NOW, Packet, World, lane_index},
};

/// One thing that happens. Numbers are places in the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Deed {
    /// The client comes back.
    Return,
    /// The client's pipe sends its next request.
    Issue,
    /// A request, an answer, the next part of a stream, a frame of a WebSocket arrives.
    Arrive(usize),
    Answer(usize),
    Piece(usize),
    Down(usize),
    Up(usize),
    /// The server reads the end of a WebSocket.
    End(usize),
    /// The session reads what was posted.
    Pump(usize),
    /// A request whose answer is lost is given up.
    TimeOut(Lane),
    /// An upgrade that is lost is given up.
    NoSocket,
    /// Something is found to hold the stream back.
    HeldBack,
    // What a network does.
    Lose(usize),
    Double(usize),
    GiveUp,
    Absent(usize),
    /// A request is given up though its answer may come.
    TimeOutEarly(Lane),
}

impl Deed {
    /// Returns whether nothing goes wrong by it.
    pub(crate) fn is_calm(self) -> bool {
        !matches!(
            self,
            Self::Lose(_)
                | Self::Double(_)
                | Self::GiveUp
                | Self::Absent(_)
                | Self::TimeOutEarly(_)
        )
    }
}

impl World {
    pub(crate) fn deeds(&self, bounds: Bounds) -> Vec<Deed> {
        let mut deeds = Vec::new();
        self.client_deeds(bounds, &mut deeds);
        for (at, end) in self.pipes.iter().enumerate() {
            let reads = !end.leftover.is_empty()
                || (bounds.lazy && !end.gone && self.clone().pump(at, None));
            if reads {
                deeds.push(Deed::Pump(at));
            }
            if self.left.absences > 0 && !end.forgotten && !end.gone && !self.is_asked(at) {
                deeds.push(Deed::Absent(at));
            }
        }
        for (at, packet) in self.net.iter().enumerate() {
            self.packet_deeds(at, packet, &mut deeds);
        }
        deeds
    }

    fn is_asked(&self, at: usize) -> bool {
        self.net
            .iter()
            .any(|packet| matches!(packet, Packet::Waiting { pipe, live: true, .. } if *pipe == at))
    }

    fn client_deeds(&self, bounds: Bounds, deeds: &mut Vec<Deed>) {
        match &self.end {
            None if self.used < bounds.kinds.len() => deeds.push(Deed::Return),
            None => {}
            Some(ClientEnd::Pipe { machine, under_way, .. }) => {
                if machine.clone().poll_request(DUE).is_some() {
                    deeds.push(Deed::Issue);
                }
                for lane in [Lane::Get, Lane::Post] {
                    let is_lane = |packet: &Packet| packet.is_live() && packet.lane() == Some(lane);
                    let there = self.net.iter().any(is_lane);
                    match (under_way[lane_index(lane)], there) {
                        (true, false) => deeds.push(Deed::TimeOut(lane)),
                        (true, true) if self.left.slow > 0 => deeds.push(Deed::TimeOutEarly(lane)),
                        _ => {}
                    }
                }
                let mut later = machine.clone();
                later.handle_timeout(HELD_BACK);
                if bounds.flips && later.form() != machine.form() {
                    deeds.push(Deed::HeldBack);
                }
            }
            Some(ClientEnd::WebSocket { .. }) => {
                let mine = |packet: &Packet| {
                    packet.is_live() && packet.attempt() == self.used && packet.lane().is_none()
                };
                if !self.net.iter().any(mine) {
                    deeds.push(Deed::NoSocket);
                }
            }
        }
        if self.end.is_some() && self.left.give_ups > 0 {
            deeds.push(Deed::GiveUp);
        }
    }

    fn packet_deeds(&self, at: usize, packet: &Packet, deeds: &mut Vec<Deed>) {
        if self.net[..at].contains(packet) {
            return;
        }
        match packet {
            Packet::Request { .. } => {
                deeds.push(Deed::Arrive(at));
                if self.left.doubles > 0 {
                    deeds.push(Deed::Double(at));
                }
            }
            Packet::Upgrade { .. } => deeds.push(Deed::Arrive(at)),
            Packet::Answer { .. } => deeds.push(Deed::Answer(at)),
            Packet::Waiting { live, pieces, .. } => {
                if *live && !pieces.is_empty() {
                    deeds.push(Deed::Piece(at));
                }
            }
            Packet::Link { live, down, up, .. } => {
                if *live && !down.is_empty() {
                    deeds.push(Deed::Down(at));
                }
                if !up.is_empty() {
                    deeds.push(Deed::Up(at));
                } else if !*live {
                    deeds.push(Deed::End(at));
                }
            }
        }
        let can_be_lost = match packet {
            Packet::Request { .. } | Packet::Upgrade { .. } | Packet::Answer { .. } => true,
            Packet::Waiting { live, .. } | Packet::Link { live, .. } => *live,
        };
        if self.left.losses > 0 && can_be_lost {
            deeds.push(Deed::Lose(at));
        }
    }

    pub(crate) fn do_deed(&mut self, deed: Deed, bounds: Bounds, fault: Option<Fault>) {
        match deed {
            Deed::Return => self.program.reconnect_now(NOW),
            Deed::Issue => self.issue(fault),
            Deed::Arrive(at) => match self.net.remove(at) {
                Packet::Request { attempt, outgoing, live } => {
                    self.arrive(attempt, &outgoing, live, fault);
                }
                Packet::Upgrade { attempt, offer, live } => {
                    self.upgrade(attempt, offer, live, fault);
                }
                other => panic!("{other:?}"),
            },
            Deed::Answer(at) => {
                let Packet::Answer { attempt, lane, answer, body } = self.net.remove(at) else {
                    panic!("no answer");
                };
                if attempt == self.used {
                    self.answered(lane, answer, body, fault);
                }
            }
            Deed::Piece(at) => {
                let Packet::Waiting { pipe, start, pieces, .. } = &mut self.net[at] else {
                    panic!("no stream");
                };
                let piece = pieces.pop_front().expect("there is one");
                let (pipe, start) = (*pipe, *start);
                let head = self.stream_head(pipe, start);
                self.read(&piece, &head);
            }
            Deed::Down(at) => {
                let Packet::Link { down, .. } = &mut self.net[at] else { panic!("no socket") };
                let frame = down.pop_front().expect("there is one");
                self.frame_down(frame);
            }
            Deed::Up(at) => {
                let Packet::Link { number, up, .. } = &mut self.net[at] else {
                    panic!("no socket")
                };
                let frame = up.pop_front().expect("there is one");
                let number = *number;
                self.frame_up(number, frame);
            }
            Deed::End(at) => {
                let Packet::Link { number, .. } = self.net.remove(at) else { panic!("no socket") };
                if let Some(number) = number {
                    self.session.detach(number, NOW);
                }
            }
            Deed::Pump(at) => {
                self.pump(at, fault);
            }
            Deed::TimeOut(lane) => self.fail(lane),
            Deed::NoSocket => self.give_up(),
            Deed::HeldBack => {
                if let Some(ClientEnd::Pipe { machine, .. }) = &mut self.end {
                    machine.handle_timeout(HELD_BACK);
                }
            }
            Deed::Lose(at) => self.lose(at),
            Deed::Double(at) => {
                self.left.doubles -= 1;
                let mut copy = self.net[at].clone();
                if let Packet::Request { live, .. } = &mut copy {
                    *live = false;
                }
                self.net.push(copy);
            }
            Deed::GiveUp => {
                self.left.give_ups -= 1;
                self.give_up();
            }
            Deed::Absent(at) => {
                self.left.absences -= 1;
                self.find_absent(at);
            }
            Deed::TimeOutEarly(lane) => {
                self.left.slow -= 1;
                self.fail(lane);
            }
        }
        self.settle(bounds, fault);
    }

    fn lose(&mut self, at: usize) {
        self.left.losses -= 1;
        match &mut self.net[at] {
            Packet::Request { .. } | Packet::Upgrade { .. } | Packet::Answer { .. } => {
                self.net.remove(at);
            }
            // The server does not know.
            Packet::Waiting { .. } => self.fail(Lane::Get),
            Packet::Link { .. } => self.give_up(),
        }
    }

    pub(crate) fn settle(&mut self, bounds: Bounds, fault: Option<Fault>) {
        self.act(bounds, fault);
        self.serve(bounds, fault);
        self.sort();
    }
}
