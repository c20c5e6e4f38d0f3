//! Which transports arrive, and what must become of them.

use super::*;

impl World {
    /// The peer listens to none of its sockets any more.
    pub(super) fn abandon(&mut self, who: usize) {
        for socket in self.sockets.iter_mut().filter(|socket| socket.client == who) {
            socket.open = false;
            socket.down.clear();
        }
    }

    pub(super) fn arrive(&mut self, who: usize, claim: Claim, live: bool) {
        let name = self.peers[who].name();
        let others = self.sockets.iter().any(|s| s.attached && s.client != who);
        let record = &self.records[who];
        let cursor = match &claim {
            Claim::Cursor { received, attachment, .. } => Some((received.get(), *attachment)),
            Claim::Plain | Claim::PlainAt(_) | Claim::Fresh | Claim::Lost { .. } => None,
        };
        let stale = cursor.and_then(|(_, n)| n).is_some_and(|n| n.get() < record.heard);
        let superseded = cursor.is_some() && record.takeover == Some(false);
        let seen = self.session.newest_attachment();
        let base = self.base();
        match self.attach(name, u32::try_from(who).unwrap(), claim) {
            Err(close) => {
                if stale {
                    assert_eq!(close, Close::STALE);
                    assert!(!live, "the present holder is not stale");
                } else if superseded {
                    assert_eq!(close, Close::SUPERSEDED);
                    // Sometimes the answer arrives.
                    if live && self.head.is_multiple_of(2) {
                        self.session.handle_refusal_answered(name, seen);
                        self.records[who].takeover = Some(true);
                    }
                } else {
                    assert!(others && self.setting.attach == Attach::Refuse, "refused: {close:?}");
                }
            }
            Ok(number) => {
                assert!(!stale && !superseded);
                let from = match cursor {
                    Some((received, _)) => {
                        self.acknowledged = self.acknowledged.max(received);
                        received.max(base)
                    }
                    None => self.fresh_start(base),
                };
                let record = &self.records[who];
                let received = (!record.unknown).then_some(record.accepted);
                self.attached(number, who, u32::try_from(who).unwrap(), live);
                self.records[who].keep = Some(from);
                let socket = self.sockets.last_mut().unwrap();
                socket.hello = Some((from, received));
                socket.start = from;
                socket.next = from;
            }
        }
    }

    pub(super) fn connect_plain(&mut self) {
        let plain = || ClientName::plain(IdentityTag::new([0; 16]));
        let share = self.setting.attach == Attach::Share;
        if share && self.sockets.iter().filter(|s| s.client == PLAIN).count() >= 2 {
            return;
        }
        let others = self.sockets.iter().any(|s| s.attached && s.client != PLAIN);
        let info = self.plains;
        self.plains += 1;
        let base = self.base();
        match self.attach(plain(), info, Claim::Plain) {
            Err(close) => {
                assert!(others && self.setting.attach == Attach::Refuse, "refused: {close:?}");
            }
            Ok(number) => {
                if !share {
                    self.abandon(PLAIN);
                }
                let kept = self.records[PLAIN].keep;
                self.attached(number, PLAIN, info, true);
                self.records[PLAIN].keep = match (self.setting.plain_ack, kept) {
                    _ if share => None,
                    (PlainAck::Off, _) => None,
                    (_, Some(kept)) => Some(kept),
                    (_, None) => Some(self.head.min(self.fresh_start(base).max(self.head))),
                };
            }
        }
    }

    pub(super) fn attach(
        &mut self,
        client: ClientName,
        info: u32,
        claim: Claim,
    ) -> Result<AttachmentNumber, Close> {
        let admitted = self.session.admit(client, &claim, self.now);
        let nonce = u64::from(info).to_be_bytes();
        let arrival = Arrival { client, info, origin: SessionOrigin::Reused, claim, nonce };
        let session = WireId::parse("session").unwrap();
        let newest = self.session.newest_attachment();
        let result =
            self.session.attach(arrival, &session, self.now).map(|attached| attached.number);
        assert_eq!(admitted.err(), result.clone().err());
        if let Ok(number) = result {
            assert_eq!(number, newest.next());
        }
        result.map_err(|refusal| refusal.close)
    }

    /// Ends the turns that the newest one ends.
    pub(super) fn attached(
        &mut self,
        number: AttachmentNumber,
        client: usize,
        info: u32,
        open: bool,
    ) {
        let takeover = self.setting.attach == Attach::Takeover;
        let lone = client == PLAIN && self.setting.attach == Attach::Share;
        for socket in self.sockets.iter_mut().filter(|socket| socket.attached) {
            if (socket.client == client && !lone) || takeover {
                socket.attached = false;
                socket.superseded = socket.client != client;
                socket.stuck = None;
            }
        }
        if takeover {
            for (_, other) in self.records.iter_mut().enumerate().filter(|(of, _)| *of != client) {
                other.keep = None;
                if other.newest > 0 {
                    other.takeover.get_or_insert(false);
                }
            }
        }
        let record = &mut self.records[client];
        record.takeover = None;
        record.newest = number.get();
        if record.first == 0 {
            record.first = number.get();
        }
        self.last_attached = Some(client);
        self.sockets.push(Socket {
            number,
            client,
            info,
            open,
            attached: true,
            superseded: false,
            said_close: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            stuck: None,
            hello: None,
            start: u64::MAX,
            next: u64::MAX,
            confirmed: 0,
            made: 0,
        });
    }

    /// A plain client has confirmed a position, if it was sent anything.
    pub(super) fn acknowledged(&mut self, start: u64, position: u64) {
        if position > start {
            self.acknowledged = self.acknowledged.max(position);
        }
    }

    /// In a stand-off what was written to a plain client counts as confirmed.
    pub(super) fn confirmed(&mut self, at: usize) {
        self.records[PLAIN].keep = None;
        let (start, next) = (self.sockets[at].start, self.sockets[at].next);
        if next != u64::MAX {
            self.sockets[at].confirmed = next;
        }
        self.acknowledged(start, next);
    }

    pub(super) fn fresh_start(&self, base: u64) -> u64 {
        // After a crash the position of a checkpoint that is not committed would not exist.
        let durable = self.setting.durable;
        let checkpoint =
            self.checkpoint.filter(|&checkpoint| !durable || checkpoint < self.committed);
        checkpoint.unwrap_or(self.acknowledged).max(base)
    }
}
