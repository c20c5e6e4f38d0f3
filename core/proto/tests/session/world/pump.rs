//! What the server writes, frame by frame.

use super::*;

impl World {
    /// Writes until nothing comes; then only a wake or a timer makes it write again.
    pub(super) fn pump(&mut self) {
        for _ in 0..100 {
            self.pump = false;
            for at in 0..self.sockets.len() {
                self.timeout(at);
                if let Some(frame) = self.sockets[at].stuck.take() {
                    self.handle(at, frame);
                }
                let calls = (0..100).take_while(|_| self.transmit(at, ALL)).count();
                assert!(calls < 100, "the same again and again");
            }
            self.take_wake();
            if !self.pump {
                for socket in &self.sockets {
                    let due = self.session.poll_transport_timeout(socket.number);
                    assert!(due.is_none_or(|due| due > self.now), "due, and nothing comes of it");
                }
                return;
            }
        }
        panic!("the pump never rests");
    }

    pub(super) fn timeout(&mut self, at: usize) {
        let number = self.sockets[at].number;
        if self.session.poll_transport_timeout(number).is_none_or(|due| due > self.now) {
            return;
        }
        let transports = self.session.transports();
        self.session.handle_transport_timeout(number, self.now);
        if self.session.transports() < transports {
            self.sockets[at].attached = false;
            self.sockets[at].stuck = None;
        }
    }

    /// Returns whether anything was written.
    pub(super) fn transmit(&mut self, at: usize, budget: Budget) -> bool {
        let number = self.sockets[at].number;
        let transports = self.session.transports();
        let mut frames = Vec::new();
        self.session.poll_transmit(number, budget, self.now, &mut frames);
        if self.session.transports() < transports {
            self.sockets[at].attached = false;
        }
        for frame in &frames {
            self.written(at, frame);
        }
        let socket = &self.sockets[at];
        if socket.client == PLAIN && socket.stuck.is_some() && self.usage.waits {
            self.confirmed(at);
        }
        let socket = &mut self.sockets[at];
        if socket.open {
            socket.down.extend(frames.iter().cloned());
        }
        !frames.is_empty()
    }

    /// Checks one frame as it leaves.
    pub(super) fn written(&mut self, at: usize, frame: &Frame) {
        let attached = self.sockets[at].attached;
        let socket = &mut self.sockets[at];
        assert!(!socket.said_close, "nothing follows a close");
        match frame {
            Frame::Data(message) => {
                let position = content(message.as_text().unwrap());
                if socket.next != u64::MAX && position != socket.next {
                    let told = socket.client < PLAIN;
                    let client = socket.client;
                    let passed_over = (socket.next..position)
                        .all(|passed| self.undeliverable.contains(&(client, passed)));
                    // A full outbox lets a checkpoint go, and what only that has kept.
                    let keep = self.records[client].keep;
                    let had_it = keep.is_none_or(|keep| position <= keep) && self.had_checkpoint;
                    let dropped = self.setting.overflow == Overflow::DropOldest;
                    let may = dropped || passed_over || had_it;
                    assert!(
                        !told && may && position > socket.next,
                        "{position} for {}",
                        socket.next
                    );
                }
                if socket.next == u64::MAX && socket.client == PLAIN {
                    self.plain_starts(position);
                }
                self.sockets[at].start = self.sockets[at].start.min(position);
                self.sockets[at].next = position + 1;
            }
            Frame::Ping(payload) => {
                let position = u64::from_be_bytes(payload[9..].try_into().unwrap());
                // A plain peer is not told what was dropped.
                let client = socket.client;
                let skipped = client >= PLAIN && position > socket.next;
                assert!(position == socket.next || socket.next == u64::MAX || skipped);
                let passed_over = (socket.next..position)
                    .all(|passed| self.undeliverable.contains(&(client, passed)));
                assert!(!skipped || self.setting.overflow == Overflow::DropOldest || passed_over);
                assert!(client < PLAIN || self.setting.plain_ack != PlainAck::Off);
            }
            Frame::Close(_) => {
                assert!(!attached);
                socket.said_close = true;
            }
            Frame::Control(text) => {
                let Ok(Inbound::Control(control)) = wire::decode_server_text(text.clone()) else {
                    panic!("no control frame");
                };
                self.control_written(at, &control);
            }
        }
    }

    pub(super) fn plain_starts(&self, position: u64) {
        if self.setting.overflow != Overflow::DropOldest
            && let Some(keep) = self.records[PLAIN].keep
        {
            assert!(position <= keep, "a plain client starts at {position}, has all before {keep}");
        }
    }

    pub(super) fn control_written(&mut self, at: usize, control: &ServerControl) {
        let socket = &mut self.sockets[at];
        let record = &mut self.records[socket.client];
        if let Some((from, received)) = socket.hello.take() {
            if control.hello.is_none() {
                assert!(!socket.attached, "the hello comes first");
                return;
            }
            let hello = control.hello.as_ref().unwrap();
            assert_eq!((hello.from.get(), hello.received), (from, received));
            assert_eq!(hello.attachment, socket.number);
        } else {
            assert!(control.hello.is_none());
        }
        if let Some(n) = control.ack.or(control.hb) {
            assert_eq!(n, if self.setting.durable { record.committed } else { record.taken });
        }
        if let Some(gap) = &control.gap {
            assert_eq!(self.setting.overflow, Overflow::DropOldest);
            assert_eq!(gap.from.get(), socket.next);
            let base = self.head - self.session.outbox_messages() as u64;
            assert_eq!(gap.to, Some(Position::new(base)), "exactly what is missing");
            socket.next = base;
        }
        if let Some(done) = &control.done {
            assert_eq!(done.received, record.taken);
            assert_eq!(socket.next, self.head, "done comes after the last message");
        }
    }
}
