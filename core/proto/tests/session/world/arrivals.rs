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

    pub(super) fn connect(&mut self, who: u8, access: Access) {
        let who = usize::from(who) % PEERS;
        self.peers[who].superseded = false;
        let claim = self.peers[who].offer(self.session.epoch());
        self.abandon(who);
        self.peers[who].watches = access == Access::ReadOnly;
        self.arrive(who, access, claim, true);
    }

    pub(super) fn offer_late(&mut self, who: u8, access: Access) {
        let who = usize::from(who) % PEERS;
        let claim = self.peers[who].offer(self.session.epoch());
        self.abandon(who);
        self.late.push((who, access, claim));
    }

    pub(super) fn arrive(&mut self, who: usize, access: Access, claim: Claim, live: bool) {
        let name = self.peers[who].name();
        let writes = access == Access::Full;
        let others = writes && self.other_writers(who);
        let record = &self.records[who];
        let cursor = match &claim {
            Claim::Cursor { received, attachment, .. } => Some((received.get(), *attachment)),
            Claim::Plain | Claim::PlainAt(_) | Claim::Fresh | Claim::Lost { .. } => None,
        };
        let stale = cursor.and_then(|(_, n)| n).is_some_and(|n| n.get() < record.heard);
        let superseded = writes && cursor.is_some() && record.takeover == Some(false);
        let seen = self.session.newest_attachment();
        let base = self.base();
        match self.attach(name, access, u32::try_from(who).unwrap(), claim) {
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
                self.attached(number, who, access, u32::try_from(who).unwrap(), live);
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
        let others = self.other_writers(PLAIN);
        let info = self.plains;
        self.plains += 1;
        let base = self.base();
        match self.attach(plain(), Access::Full, info, Claim::Plain) {
            Err(close) => {
                assert!(others && self.setting.attach == Attach::Refuse, "refused: {close:?}");
            }
            Ok(number) => {
                if !share {
                    self.abandon(PLAIN);
                }
                let kept = self.records[PLAIN].keep;
                self.attached(number, PLAIN, Access::Full, info, true);
                self.records[PLAIN].keep = match (self.setting.plain_ack, kept) {
                    _ if share => None,
                    (PlainAck::Off, _) => None,
                    (_, Some(kept)) => Some(kept),
                    (_, None) => Some(self.head.min(self.fresh_start(base).max(self.head))),
                };
            }
        }
    }

    pub(super) fn watch_plain(&mut self) {
        if self.sockets.iter().filter(|s| s.client == WATCHERS).count() >= 2 {
            return;
        }
        let info = self.plains;
        self.plains += 1;
        let name = ClientName::plain(IdentityTag::new([0; 16]));
        let number = self.attach(name, Access::ReadOnly, info, Claim::Plain);
        let number = number.expect("a watcher is in nobody's way");
        self.attached(number, WATCHERS, Access::ReadOnly, info, true);
    }

    /// Whether a client that may write is attached, but for this one.
    fn other_writers(&self, client: usize) -> bool {
        self.sockets.iter().any(|s| s.attached && !s.watches && s.client != client)
    }

    pub(super) fn attach(
        &mut self,
        client: ClientName,
        access: Access,
        info: u32,
        claim: Claim,
    ) -> Result<AttachmentNumber, Close> {
        let admitted = self.session.admit(client, access, &claim, self.now);
        let nonce = u64::from(info).to_be_bytes();
        let origin = SessionOrigin::Reused;
        let arrival = Arrival { client, access, info, origin, claim, nonce };
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
        access: Access,
        info: u32,
        open: bool,
    ) {
        let writes = access == Access::Full;
        let takeover = writes && self.setting.attach == Attach::Takeover;
        let lone = match client {
            PLAIN => self.setting.attach == Attach::Share,
            _ => client == WATCHERS,
        };
        for socket in self.sockets.iter_mut().filter(|socket| socket.attached) {
            if (socket.client == client && !lone) || (takeover && !socket.watches) {
                socket.attached = false;
                socket.superseded = socket.client != client;
                socket.stuck = None;
            }
        }
        if takeover {
            let others = self.records.iter_mut().enumerate();
            for (_, other) in others.filter(|(of, other)| *of != client && !other.watches) {
                other.keep = None;
                if other.newest > 0 {
                    other.takeover.get_or_insert(false);
                }
            }
        }
        let record = &mut self.records[client];
        record.watches = !writes;
        if writes {
            record.takeover = None;
        }
        record.newest = number.get();
        if record.first == 0 {
            record.first = number.get();
        }
        if writes {
            self.last_attached = Some(client);
        } else {
            self.last_attached = self.last_attached.filter(|last| *last != client);
        }
        self.sockets.push(Socket {
            number,
            client,
            watches: !writes,
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
