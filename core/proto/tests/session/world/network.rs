//! What is under way between the peers and the server.

use super::*;

impl World {
    /// Picks a socket, mostly one of which an end is still there.
    pub(super) fn pick(&self, at: u8) -> Option<usize> {
        let cared = |socket: &Socket| at >= 224 || socket.open || socket.attached;
        let sockets = self.sockets.iter().enumerate().filter(|(_, socket)| cared(socket));
        let sockets: Vec<_> = sockets.map(|(at, _)| at).collect();
        Some(sockets[usize::from(at).checked_rem(sockets.len())?])
    }

    pub(super) fn notice(&mut self, at: usize) {
        let socket = self.sockets.remove(at);
        if socket.open && socket.client < PEERS {
            self.peers[socket.client].next = None;
        }
        self.session.detach(socket.number, self.now);
        self.session.detach(socket.number, self.now);
    }

    /// A plain peer that is gone has ended its transport itself, sometimes because a message was too big for it.
    pub(super) fn peer_ends(&mut self, at: usize) {
        let Socket { number, client, open, start, next, confirmed, attached, .. } =
            self.sockets[at];
        if client < PLAIN || open {
            return;
        }
        let code = number.get().is_multiple_of(3).then_some(1009);
        let given_up = self.session.handle_peer_end(number, code, self.now);
        let base = self.base();
        let unconfirmed: Vec<_> = (start.max(confirmed)..next)
            .filter(|position| {
                *position >= base && !self.undeliverable.contains(&(client, *position))
            })
            .collect();
        if let [alone] = unconfirmed[..] {
            *self.strikes.entry((client, alone)).or_default() += u32::from(attached);
        }
        let Some(given_up) = given_up else {
            return;
        };
        let position = given_up.position.get();
        assert!(attached && self.setting.plain_ack != PlainAck::Off || code.is_some());
        assert_eq!(given_up.too_big, code.is_some());
        assert!((start..next).contains(&position) && position >= confirmed, "{position} was sent");
        let strikes = self.strikes.get(&(client, position)).copied().unwrap_or_default();
        assert!(code.is_some() || strikes >= 3, "{strikes} ends are not enough");
        self.undeliverable.insert((client, position));
        self.passed_over();
    }

    /// What a plain client cannot take need not be kept for it.
    pub(super) fn passed_over(&mut self) {
        let record = &mut self.records[PLAIN];
        while let Some(keep) =
            record.keep.filter(|keep| self.undeliverable.contains(&(PLAIN, *keep)))
        {
            record.keep = Some(keep + 1);
        }
    }

    pub(super) fn told_undeliverable(&self, info: u32, position: u64) {
        assert!(info >= 1000, "a plain client");
        let told = [PLAIN, WATCHERS].map(|client| self.undeliverable.contains(&(client, position)));
        assert!(told.contains(&true), "{position} can be delivered");
    }

    pub(super) fn write_up(&mut self, who: usize, frame: Incoming) {
        if let Some(socket) = self.sockets.iter_mut().rfind(|s| s.client == who && s.open) {
            socket.up.push_back(Up::Frame(frame));
        }
    }

    pub(super) fn make(&mut self, who: usize, count: u8) {
        if who == PLAIN {
            if let Some(socket) = self.sockets.iter_mut().rfind(|s| s.client == PLAIN && s.open) {
                let text = format!("{}:{}", socket.info, socket.made);
                socket.made += 1;
                socket.up.push_back(Up::Frame(Incoming::Text(text.into())));
            }
            return;
        }
        for _ in 0..count {
            if self.peers[who].queue.len() < 8 {
                self.peers[who].make();
            }
        }
        while let Some(frame) = self.peers[who].write() {
            self.write_up(who, frame);
        }
    }

    /// One frame reaches the peer.
    pub(super) fn down(&mut self, at: usize) {
        let socket = &mut self.sockets[at];
        let Some(frame) = socket.down.pop_front() else {
            return;
        };
        assert!(socket.open);
        if socket.client >= PLAIN {
            match frame {
                Frame::Ping(payload) => {
                    socket.up.push_back(Up::Frame(Incoming::Pong(payload.to_vec().into())));
                }
                Frame::Close(_) => {
                    socket.open = false;
                    socket.down.clear();
                    socket.up.push_back(Up::CloseAnswered);
                }
                Frame::Data(_) => {}
                Frame::Control(text) => panic!("a plain peer was told {text:?}"),
            }
            return;
        }
        let who = socket.client;
        match self.peers[who].take(frame, &mut Vec::new()) {
            Reaction::Nothing => {}
            Reaction::Answer(frame) => socket.up.push_back(Up::Frame(frame)),
            Reaction::Closed(code, reason) => {
                socket.open = false;
                socket.down.clear();
                socket.up.push_back(Up::CloseAnswered);
                self.peers[who].next = None;
                self.peers[who].superseded = (code, &*reason) == (4100, "superseded");
            }
        }
        // What its window has let through.
        while let Some(frame) = self.peers[who].write() {
            self.write_up(who, frame);
        }
    }

    /// One frame reaches the server.
    pub(super) fn up(&mut self, at: usize) {
        if self.sockets[at].stuck.is_some() {
            return;
        }
        match self.sockets[at].up.pop_front() {
            None => {}
            Some(Up::Frame(frame)) => self.handle(at, frame),
            Some(Up::CloseAnswered) => {
                let socket = &self.sockets[at];
                self.session.handle_close_answered(socket.number);
                let record = &mut self.records[socket.client];
                let told = socket.superseded && socket.said_close;
                if told && record.newest == socket.number.get() && record.takeover == Some(false) {
                    record.takeover = Some(true);
                }
                self.notice(at);
            }
        }
    }

    /// As [`Self::up`], but for the answer to a close.
    pub(super) fn up_frame(&mut self, at: usize) {
        if matches!(self.sockets[at].up.front(), Some(Up::Frame(_))) {
            self.up(at);
        }
    }

    pub(super) fn handle(&mut self, at: usize, frame: Incoming) {
        let socket = self.sockets[at].clone();
        // A pong that comes late still tells what the peer has, until a newer plain transport has attached.
        let newest = self.records[socket.client].newest <= socket.number.get();
        let late_pong = matches!(frame, Incoming::Pong(_))
            && socket.client >= PLAIN
            && newest
            && !socket.attached;
        let before = (!socket.attached && !late_pong).then(|| self.session.clone());
        let transports = self.session.transports();
        let reception = self.session.handle_frame(socket.number, frame.clone(), self.now);
        if let Some(before) = before {
            assert!(self.session == before, "late news changed something");
            return;
        }
        let record = &mut self.records[socket.client];
        match reception {
            Reception::Full(back) => {
                assert_eq!(back, frame);
                self.sockets[at].stuck = Some(back);
                if socket.client == PLAIN && self.usage.waits {
                    self.confirmed(at);
                }
                return;
            }
            Reception::TooFast { .. } => panic!("every pace is allowed"),
            Reception::State(_) => panic!("nobody offered a state"),
            Reception::Done => self.sockets[at].stuck = None,
        }
        if self.session.transports() < transports {
            assert!(self.usage.waits && socket.client != PLAIN, "an honest client was closed");
            self.sockets[at].attached = false;
            return;
        }
        match frame {
            Incoming::Pong(payload) => {
                let position = u64::from_be_bytes(payload[9..].try_into().unwrap());
                self.sockets[at].confirmed = position;
                let position = match self.setting.plain_ack {
                    PlainAck::Trust => position,
                    PlainAck::Margin(margin) => position.saturating_sub(margin),
                    _ => 0,
                };
                if socket.client >= PLAIN {
                    record.keep = record.keep.map(|keep| keep.max(position));
                    self.acknowledged(socket.start, position);
                    self.passed_over();
                }
            }
            Incoming::Text(text) if text.starts_with('\u{1}') => {
                record.heard = record.heard.max(socket.number.get());
                record.unknown = false;
                let ack = text.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
                record.keep = record.keep.map(|keep| keep.max(ack));
                self.acknowledged = self.acknowledged.max(ack);
            }
            _ if self.session.ended().is_some() => {}
            _ => {
                record.heard = record.heard.max(socket.number.get());
                record.unknown = false;
                record.accepted += 1;
                assert!(
                    record.accepted - record.taken <= 4 || self.setting.attach == Attach::Share
                );
            }
        }
    }

    /// A client breaks the rules: only its transport ends.
    pub(super) fn break_rules(&mut self, at: u8, how: u8) {
        let Some(at) = self.pick(at) else { return };
        let socket = self.sockets[at].clone();
        let holds = socket.client >= PLAIN
            || self.peers[socket.client].attachment == Some(socket.number.get());
        if !socket.attached || !socket.open || !holds || socket.stuck.is_some() {
            return;
        }
        let head = self.head;
        let frame = match how % 4 {
            0 => Incoming::Pong("S foreign".into()),
            // Whatever its length, where the client may only read.
            1 if socket.watches => Incoming::Text("x".into()),
            1 => Incoming::Text("x".repeat(101).into()),
            _ if socket.client >= PLAIN => return,
            2 => Incoming::Text(format!("\u{1}{{\"ack\":{}}}", head + 1).into()),
            _ => Incoming::Text("\u{1}nonsense".into()),
        };
        let ends = !matches!(frame, Incoming::Pong(_));
        let transports = self.session.transports();
        assert!(matches!(
            self.session.handle_frame(socket.number, frame, self.now),
            Reception::Done
        ));
        assert_eq!(self.session.transports(), transports - usize::from(ends));
        self.sockets[at].attached = !ends;
        if how % 4 == 1 {
            let mut out = Vec::new();
            self.session.clone().poll_transmit(socket.number, ALL, self.now, &mut out);
            let close = if socket.watches { Close::READ_ONLY } else { Close::TOO_BIG };
            assert_eq!(out, [Frame::Close(close)]);
        }
        if how % 4 == 2 {
            let record = &mut self.records[socket.client];
            record.heard = record.heard.max(socket.number.get());
            record.unknown = false;
        }
    }
}
