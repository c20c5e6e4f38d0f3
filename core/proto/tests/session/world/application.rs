//! The application: sends, and a handler that acts only when it was woken.

use super::*;

impl World {
    pub(super) fn message(&self, size: u8) -> Message {
        let size = if size > 250 { 90 } else { usize::from(size % 12) };
        Message::from(format!("{}.{}", self.head, "x".repeat(size)))
    }

    pub(super) fn send(&mut self, size: u8, waits: bool, checkpoint: bool) {
        if self.waiting.is_some() {
            return;
        }
        let message = self.message(size);
        if let Some(message) = self.try_send(message, checkpoint)
            && waits
        {
            self.waiting = Some(message);
            self.sender = false;
            self.session.send_waits(self.now);
            self.usage.waits = true;
            for at in 0..self.sockets.len() {
                let socket = &mut self.sockets[at];
                if !socket.attached || socket.stuck.is_none() {
                    continue;
                }
                if socket.client == PLAIN {
                    self.confirmed(at);
                } else {
                    socket.attached = false;
                    socket.stuck = None;
                }
            }
        }
    }

    pub(super) fn retry(&mut self) {
        if !self.sender {
            return;
        }
        if let Some(message) = self.waiting.take() {
            // Others may have sent since it was made.
            let message = Message::from(format!(
                "{}.{}",
                self.head,
                "x".repeat(message.len().saturating_sub(3))
            ));
            self.waiting = self.try_send(message, false);
            if self.waiting.is_none() {
                self.session.send_goes_on();
                self.usage.waits = false;
            }
            self.sender = false;
        }
    }

    /// Returns the message if there is no room.
    pub(super) fn try_send(&mut self, message: Message, checkpoint: bool) -> Option<Message> {
        let full = self.is_full(message.len() + MESSAGE_OVERHEAD);
        if full {
            self.checkpoint = None;
            for client in 0..=PEERS {
                if !self.is_attached(client) && !self.is_kept(client) {
                    self.records[client].keep = None;
                }
            }
        }
        let sent = if checkpoint {
            self.session.send_checkpoint(message, self.now)
        } else {
            let terms = self.terms(&message);
            self.session.send_on(message, terms, self.now)
        };
        match sent {
            Ok(position) => {
                assert_eq!(position.get(), self.head, "positions are counted");
                self.head += 1;
                if checkpoint {
                    self.checkpoint = Some(position.get());
                    self.had_checkpoint = true;
                }
                None
            }
            Err(Unsent { message, why }) => match why {
                NotSent::Full => {
                    assert!(full);
                    // What is not committed is not dropped, but waited for.
                    let drops = self.setting.overflow == Overflow::DropOldest;
                    assert!(!drops || self.committed <= self.base());
                    Some(message)
                }
                NotSent::Ended => {
                    assert_eq!(self.session.ended(), Some(OutcomeStatus::Overflow));
                    None
                }
                NotSent::Uncommitted => {
                    assert!(full && self.setting.durable && self.in_hand.is_some());
                    assert!(self.base() >= self.boundary, "handled output is on its way");
                    None
                }
                NotSent::Gone => panic!("it is for all"),
                NotSent::TooLarge(_) => panic!("under the limit"),
            },
        }
    }

    /// Some messages have a slot of their own, or much time to live. Every client gets these like any other, and the
    /// outbox keeps all of its messages in the other way meanwhile: what is promised is the same.
    fn terms(&self, message: &Message) -> Terms {
        match message.len() % 16 {
            3 => Terms { slot: Some(self.head.to_string().into()), ..Terms::default() },
            4 => {
                let until = Some(self.now + Duration::from_secs(1_000_000_000));
                Terms { until, ..Terms::default() }
            }
            _ => Terms::default(),
        }
    }

    fn is_attached(&self, client: usize) -> bool {
        self.sockets.iter().any(|socket| socket.attached && socket.client == client)
    }

    /// Whether a client is attached that may write.
    fn writes(&self, client: usize) -> bool {
        self.is_attached(client) && !self.records[client].watches
    }

    /// Whether a gone client goes on mattering although the outbox is full.
    fn is_kept(&self, client: usize) -> bool {
        let counts = |of| self.writes(of) && !(0..PEERS).any(|newer| self.returns(newer, of));
        if (0..=PEERS).any(counts) {
            return false;
        }
        let newer_is_here = |newer| self.is_newer(newer, client) && self.is_back_soon(newer);
        let in_the_way = |of| self.writes(of) || self.last_attached == Some(of);
        self.last_attached == Some(client)
            || (!(0..PEERS).any(newer_is_here)
                && (0..PEERS).any(|of| in_the_way(of) && self.returns(client, of)))
    }

    /// Whether a client is a newer run than another one, and may come back within a heartbeat.
    fn returns(&self, newer: usize, older: usize) -> bool {
        self.is_newer(newer, older) && self.is_back_soon(newer)
    }

    /// Whether one of an identity's programs has come later than another.
    fn is_newer(&self, newer: usize, older: usize) -> bool {
        let first = |of: usize| self.records[of].first;
        let watches = |of: usize| self.records[of].watches;
        newer.max(older) < PEERS
            && !watches(newer)
            && !watches(older)
            && self.peers[newer].name().identity == self.peers[older].name().identity
            && first(older) > 0
            && first(newer) > first(older)
    }

    /// Whether a client that matters has gone less than a heartbeat ago; the time stands still while no client
    /// is attached.
    fn is_back_soon(&self, client: usize) -> bool {
        let any = (0..=WATCHERS).any(|of| self.is_attached(of));
        let writers = self.records.iter().filter(|record| !record.watches);
        let left = writers.filter_map(|record| record.gone).max();
        let now = if any { self.now } else { left.unwrap_or(self.now) };
        let record = &self.records[client];
        record.keep.is_some()
            && record.gone.is_some_and(|gone| now.since(gone) < self.rules.heartbeat)
    }

    pub(super) fn is_full(&self, cost: usize) -> bool {
        let bounds = &self.rules.bounds;
        self.session.outbox_messages() > 0
            && (self.session.outbox_messages() >= bounds.outbox_messages
                || self.session.outbox_bytes() + cost > bounds.outbox_bytes)
    }

    pub(super) fn receive(&mut self) {
        if self.usage.handler == Handler::Absent {
            self.act(Op::StartHandler);
        }
        let may = match self.usage.handler {
            Handler::Absent | Handler::Working => true,
            Handler::Waiting => self.handler,
        };
        if !may {
            return;
        }
        self.handed_back();
        match self.session.poll_receive(self.now) {
            None => {
                self.end_of_work();
                self.handler = false;
                let attached = self.sockets.iter().filter(|socket| socket.attached);
                let attached: std::collections::BTreeSet<u32> = attached.map(|s| s.info).collect();
                assert_eq!(attached, self.told.attached, "told of everybody");
            }
            Some(Event::Attached { who, .. }) => {
                self.told.attached(who.info);
                self.end_of_work();
                self.handler = true;
            }
            Some(Event::Detached { who }) => {
                self.told.detached(who.info);
                self.end_of_work();
                self.handler = true;
            }
            Some(Event::Undeliverable { who, position, .. }) => {
                self.told_undeliverable(who.info, position.get());
            }
            Some(Event::Message { message, from }) => self.took(&message, from.info),
            Some(Event::Dropped { .. }) => panic!("no process has died"),
        }
    }

    pub(super) fn end_of_work(&mut self) {
        if self.usage.handler == Handler::Working {
            self.usage.touch_used(self.now);
        }
        self.usage.handler = Handler::Waiting;
    }

    /// The handler has taken a message: exactly once and in order.
    pub(super) fn took(&mut self, message: &Message, from: u32) {
        self.usage.handler = Handler::Working;
        let (of, k) = message.as_text().unwrap().split_once(':').unwrap();
        assert_eq!(of, from.to_string());
        let k: u64 = k.parse().unwrap();
        let client = usize::try_from(from).unwrap().min(PLAIN);
        self.records[client].taken += 1;
        self.in_hand = Some(client);
        self.boundary = self.head;
        if client == PLAIN {
            let next = self.plain_taken.entry(from).or_default();
            assert_eq!(k, *next);
            *next += 1;
            return;
        }
        let next = self.taken[client].map_or(0, |last| last + 1);
        assert!(k >= next, "{k} again");
        let doubted = &self.peers[client].in_doubt;
        assert!((next..k).all(|skipped| doubted.contains(&skipped)), "{next}..{k} were lost");
        self.taken[client] = Some(k);
    }

    pub(super) fn handed_back(&mut self) {
        if let Some(client) = self.in_hand.take() {
            self.records[client].handled = self.records[client].taken;
        }
    }
}
