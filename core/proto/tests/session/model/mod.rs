//! Every interleaving of a few deeds: two clients, a handful of attaches, messages, losses and late news.
//!
//! The states are those of the real machine. Each one is checked when it is reached, and from each one a
//! calm network must lead to everything delivered.

mod search;

use std::{collections::VecDeque, sync::Arc};

use session_resume_proto::{
    AttachmentNumber, Moment, Position, WireId,
    session::{
        Access, Arrival, Attach, Budget, Claim, ClientName, Epoch, Event, Frame, IdentityTag,
        Incoming, Reception, Rules, Session, SessionOrigin,
    },
    wire::{self, ClientControl, Close, Inbound, ServerControl, Status},
};

pub(crate) use self::search::explore;
use crate::{
    fault::Fault,
    peer::{Peer, Reaction},
};

const NOW: Moment = Moment::from_millis(1_000_000);
const EPOCH: Epoch = Epoch::new(1, 1);
const PEERS: usize = 2;

/// How much may happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) attach: Attach,
    /// Messages of the application, and of each client.
    pub(crate) sends: u64,
    pub(crate) makes: [u64; PEERS],
    /// Attaches in all, and how many of them arrive when their client has given up.
    pub(crate) attaches: u8,
    pub(crate) late: u8,
    /// Sockets that break although neither end closes them.
    pub(crate) cuts: u8,
    /// Changes of an identity.
    pub(crate) moves: u8,
    /// Attaches that may only read.
    pub(crate) watches: u8,
    pub(crate) outbox: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Up {
    Frame(Incoming),
    CloseAnswered,
}

/// A socket: what is under way on it, and whether the client's end is there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Link {
    number: AttachmentNumber,
    who: usize,
    open: bool,
    /// Its turn is over because another client came.
    superseded: bool,
    /// Its turn is over because its identity was changed.
    moved: bool,
    down: VecDeque<Frame>,
    up: VecDeque<Up>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    session: Session<u32>,
    peers: Vec<Peer>,
    links: Vec<Link>,
    /// Offers whose clients no longer wait for them, and under which name they were made.
    late: Vec<(usize, ClientName, Claim)>,
    /// Answers to refusals that are under way: the client, and the newest attachment when it was refused.
    refusals: Vec<(usize, AttachmentNumber)>,
    attaches: u8,
    lates: u8,
    cuts: u8,
    moves: u8,
    watches: u8,
    // What should be.
    accepted: [u64; PEERS],
    taken: [u64; PEERS],
    newest: [AttachmentNumber; PEERS],
    heard: [AttachmentNumber; PEERS],
    /// It may only read on its newest attachment.
    watching: [bool; PEERS],
    /// Another client has taken over since its newest attachment: told or not.
    overtaken: [Option<bool>; PEERS],
    /// It may be told a gap, until it is told that there is none.
    missed: [bool; PEERS],
    overflowed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Send,
    Make(usize),
    Connect(usize),
    /// As `Connect`, and it may only read.
    Watch(usize),
    OfferLate(usize),
    ArriveLate(usize),
    Cut(usize),
    Notice(usize),
    Down(usize),
    Up(usize),
    RefusalAnswered(usize),
    Receive,
    /// The browser of a client gets another identity.
    Move(usize),
}

impl State {
    fn new(bounds: Bounds) -> Self {
        let mut rules = Rules::default();
        rules.attach = bounds.attach;
        rules.bounds.outbox_messages = bounds.outbox;
        // Half the window is one message: every ack is due at once, so no clock is needed.
        rules.bounds.inbox_messages = 2;
        let mut session = Session::new(Arc::new(rules), EPOCH, NOW);
        session.start_handler(NOW);
        Self {
            session,
            peers: (0..PEERS).map(|who| Peer::new(u8::try_from(who).unwrap())).collect(),
            links: Vec::new(),
            late: Vec::new(),
            refusals: Vec::new(),
            attaches: bounds.attaches,
            lates: bounds.late,
            cuts: bounds.cuts,
            moves: bounds.moves,
            watches: bounds.watches,
            accepted: [0; PEERS],
            taken: [0; PEERS],
            newest: [AttachmentNumber::default(); PEERS],
            heard: [AttachmentNumber::default(); PEERS],
            watching: [false; PEERS],
            overtaken: [None; PEERS],
            missed: [false; PEERS],
            overflowed: false,
        }
    }

    fn act(&mut self, deed: Deed, bounds: Bounds, fault: Option<Fault>) {
        match deed {
            Deed::Send => self.send(bounds),
            Deed::Make(who) => self.peers[who].make(),
            Deed::Connect(who) => {
                self.attaches -= 1;
                self.connect(who, Access::Full, bounds, fault);
            }
            Deed::Watch(who) => {
                self.attaches -= 1;
                self.watches -= 1;
                self.connect(who, Access::ReadOnly, bounds, fault);
            }
            Deed::Move(who) => {
                self.moves -= 1;
                self.change_identity(who, fault);
            }
            Deed::OfferLate(who) => {
                self.attaches -= 1;
                self.lates -= 1;
                let claim = self.peers[who].offer(EPOCH);
                self.late.push((who, self.peers[who].name(), claim));
            }
            Deed::ArriveLate(at) => {
                let (who, name, claim) = self.late.remove(at);
                if name != self.peers[who].name() {
                    return self.arrive_moved(name, who, claim);
                }
                let _ = self.arrive(who, Access::Full, claim, false, bounds, fault);
            }
            Deed::Cut(at) => {
                self.cuts -= 1;
                self.cut(at);
            }
            Deed::Notice(at) => self.notice(at, fault),
            Deed::Down(at) => self.down(at, fault),
            Deed::Up(at) => self.up(at, fault),
            Deed::RefusalAnswered(at) => {
                let (who, seen) = self.refusals.remove(at);
                self.session.handle_refusal_answered(self.peers[who].name(), seen);
                if self.overtaken[who] == Some(false) && self.newest[who] <= seen {
                    self.overtaken[who] = Some(true);
                }
            }
            Deed::Receive => self.receive(),
        }
        self.settle(fault);
        let attached = self.session.attendees().filter(|of| of.access == Access::Full).count();
        assert!(bounds.attach == Attach::Share || attached <= 1, "two transports at a time");
    }

    fn is_connected(&self, who: usize) -> bool {
        self.links.iter().any(|link| link.who == who && link.open)
    }

    // The deeds.

    fn send(&mut self, bounds: Bounds) {
        self.overflowed |= self.session.outbox_messages() >= bounds.outbox;
        let position = self.session.head().get();
        let _ = self.session.send(format!("{position}").into(), NOW);
    }

    fn connect(&mut self, who: usize, access: Access, bounds: Bounds, fault: Option<Fault>) {
        let seen = self.session.newest_attachment();
        let mut claim = self.peers[who].offer(EPOCH);
        if let (Some(Fault::CursorIsLastAck), Claim::Cursor { received, .. }) = (fault, &mut claim)
        {
            *received = Position::new(received.get().saturating_sub(1));
        }
        self.peers[who].watches = access == Access::ReadOnly && fault != Some(Fault::WatcherWrites);
        match self.arrive(who, access, claim, true, bounds, fault) {
            Ok(()) => {}
            Err(close) if close == Close::SUPERSEDED => self.refusals.push((who, seen)),
            Err(close) => assert_eq!(close, Close::REFUSED, "the present holder"),
        }
    }

    fn arrive(
        &mut self,
        who: usize,
        access: Access,
        mut claim: Claim,
        open: bool,
        bounds: Bounds,
        fault: Option<Fault>,
    ) -> Result<(), Close> {
        let writes = access == Access::Full;
        let others = writes
            && self
                .links
                .iter()
                .any(|link| link.who != who && self.is_newest(link) && !self.watching[link.who]);
        let (mut stale, mut untold) = (false, false);
        if let Claim::Cursor { attachment, received, .. } = &mut claim {
            stale = attachment.is_some_and(|n| n < self.heard[who]);
            untold = writes && self.overtaken[who] == Some(false);
            if fault == Some(Fault::NoStaleCheck) {
                *attachment = None;
            }
            if fault == Some(Fault::ZeroIsNoCursor) && *received == Position::ZERO {
                claim = Claim::Fresh;
            }
        }
        let mut client = self.peers[who].name();
        if fault == Some(Fault::IdentityIsIgnored) {
            client.identity = self.peers[0].name().identity;
        }
        let takes = fault == Some(Fault::WatcherTakesOver);
        let arrival = Arrival {
            client,
            access: if takes { Access::Full } else { access },
            info: u32::try_from(who).unwrap(),
            origin: SessionOrigin::Reused,
            claim,
            nonce: [0; 8],
        };
        let number = match self.session.attach(arrival, &WireId::parse("s").unwrap(), NOW) {
            Err(refusal) => {
                let refuse = bounds.attach == Attach::Refuse && others;
                assert!(stale || untold || refuse, "refused: {:?}", refusal.close);
                return Err(refusal.close);
            }
            Ok(attached) => attached.number,
        };
        assert!(!stale, "an offer from before the present holder was let in");
        assert!(!untold, "a client that was taken over took the session back");
        assert!(bounds.attach != Attach::Refuse || !others, "the holder stays");
        for link in &mut self.links {
            link.superseded |= bounds.attach == Attach::Takeover
                && writes
                && !self.watching[link.who]
                && link.who != who
                && !link.moved
                && link.number == self.newest[link.who];
        }
        self.newest[who] = number;
        for (other, overtaken) in self.overtaken.iter_mut().enumerate() {
            if other == who || !writes || self.watching[other] {
                continue;
            }
            if bounds.attach == Attach::Takeover && self.newest[other].get() > 0 {
                overtaken.get_or_insert(false);
            }
        }
        if fault == Some(Fault::TakenOverCountsAsTold) {
            for peer in &self.peers {
                self.session.handle_refusal_answered(peer.name(), self.session.newest_attachment());
            }
        }
        self.links.push(Link {
            number,
            who,
            open,
            superseded: false,
            moved: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
        });
        self.watching[who] = !writes;
        self.missed[who] |= self.overtaken[who].is_some() || self.overflowed;
        if writes {
            self.overtaken[who] = None;
        }
        self.transmit(self.links.len() - 1, fault);
        Ok(())
    }

    /// A client that comes under the old identity with a cursor must wait. Without a cursor it would be a stranger,
    /// and strangers are not part of this model.
    fn arrive_moved(&mut self, client: ClientName, who: usize, claim: Claim) {
        if claim == Claim::Fresh {
            return;
        }
        let info = u32::try_from(who).unwrap();
        let (access, origin) = (Access::Full, SessionOrigin::Reused);
        let arrival = Arrival { client, access, info, origin, claim, nonce: [0; 8] };
        let refused = self.session.attach(arrival, &WireId::parse("s").unwrap(), NOW);
        assert_eq!(refused.err().map(|refusal| refusal.close), Some(Close::TRY_AGAIN));
    }

    fn change_identity(&mut self, who: usize, fault: Option<Fault>) {
        let old = self.peers[who].name().identity;
        self.peers[who].moves += 1;
        let new = self.peers[who].name().identity;
        match fault {
            Some(Fault::CountsStayBehind) => {
                let gone = IdentityTag::new([99; 16]);
                self.session.change_identity(old, gone, NOW);
            }
            Some(Fault::OldIdentityStaysAttached) => {}
            _ => self.session.change_identity(old, new, NOW),
        }
        for link in self.links.iter_mut().filter(|link| link.who == who) {
            let attached = self.session.poll_transport_timeout(link.number).is_some();
            assert!(!attached, "the old identity's transport is out");
            link.moved |= !link.superseded;
        }
    }

    fn is_newest(&self, link: &Link) -> bool {
        self.session.poll_transport_timeout(link.number).is_some()
    }

    fn cut(&mut self, at: usize) {
        let link = &mut self.links[at];
        link.open = false;
        link.down.clear();
        self.peers[link.who].next = None;
    }

    fn notice(&mut self, at: usize, fault: Option<Fault>) {
        let link = self.links.remove(at);
        match fault {
            Some(Fault::LateCloseCounts) => {
                self.session.detach(self.newest[link.who], NOW);
                self.session.detach(link.number, NOW);
            }
            Some(Fault::CloseIsNeverNoticed) => {}
            _ => self.session.detach(link.number, NOW),
        }
    }

    fn down(&mut self, at: usize, fault: Option<Fault>) {
        let link = &mut self.links[at];
        let frame = link.down.pop_front().unwrap();
        let who = link.who;
        if !link.open {
            return;
        }
        if let Frame::Control(text) = &frame
            && let Ok(Inbound::Control(control)) = wire::decode_server_text(text.clone())
            && let Some(n) = control.ack
        {
            assert!(n <= self.taken[who], "acknowledged before it was taken");
        }
        let data = matches!(frame, Frame::Data(_));
        match self.peers[who].take(frame, &mut Vec::new()) {
            Reaction::Nothing => {}
            Reaction::Answer(frame) => link.up.push_back(Up::Frame(frame)),
            Reaction::Closed(..) => {
                link.open = false;
                link.down.clear();
                link.up.push_back(Up::CloseAnswered);
                self.peers[who].next = None;
                return;
            }
        }
        if data && let Some(mut ack) = self.peers[who].ack() {
            if fault == Some(Fault::AcksWhatItHasNot) {
                let position = self.session.head();
                ack = Incoming::Text(
                    ClientControl { ack: Some(position), ..Default::default() }.encode(),
                );
            }
            self.links[at].up.push_back(Up::Frame(ack));
        }
    }

    fn up(&mut self, at: usize, fault: Option<Fault>) {
        let link = &mut self.links[at];
        let (who, superseded) = (link.who, link.superseded);
        let mut number = link.number;
        let frame = match link.up.pop_front().unwrap() {
            Up::Frame(frame) => frame,
            Up::CloseAnswered => {
                self.session.handle_close_answered(number);
                if superseded && number == self.newest[who] && self.overtaken[who] == Some(false) {
                    self.overtaken[who] = Some(true);
                }
                self.notice(at, fault);
                return;
            }
        };
        if fault == Some(Fault::LateFramesCount) {
            number = self.newest[who];
        }
        let attached = self.session.poll_transport_timeout(number).is_some();
        let data = matches!(&frame, Incoming::Text(text) if !text.starts_with('\u{1}'));
        let reception = self.session.handle_frame(number, frame.clone(), NOW);
        assert!(
            matches!(reception, Reception::Done),
            "a client that keeps to its window finds room"
        );
        if !attached {
            return;
        }
        assert!(
            self.session.poll_transport_timeout(number).is_some(),
            "an honest client was closed"
        );
        self.heard[who] = self.heard[who].max(number);
        self.accepted[who] += u64::from(data);
        if fault == Some(Fault::FrameIsReadTwice) && data {
            let _ = self.session.handle_frame(number, frame, NOW);
        }
    }

    fn receive(&mut self) {
        while let Some(event) = self.session.poll_receive(NOW) {
            if let Event::Message { message, from } = event {
                let who = usize::try_from(from.info).unwrap();
                let expected = format!("{who}:{}", self.taken[who]);
                assert_eq!(message.as_text(), Some(&*expected), "exactly once and in order");
                self.taken[who] += 1;
                return;
            }
        }
    }

    /// What needs no choice: the server writes what it has, the clients what their windows allow.
    fn settle(&mut self, fault: Option<Fault>) {
        let _ = self.session.take_wake();
        for at in 0..self.links.len() {
            self.transmit(at, fault);
            let link = &mut self.links[at];
            while link.open
                && let Some(frame) = self.peers[link.who].write()
            {
                link.up.push_back(Up::Frame(frame));
            }
        }
    }

    fn transmit(&mut self, at: usize, fault: Option<Fault>) {
        let (number, who) = (self.links[at].number, self.links[at].who);
        let mut frames = Vec::new();
        let all = Budget { messages: usize::MAX, bytes: usize::MAX };
        self.session.poll_transmit(number, all, NOW, &mut frames);
        for mut frame in frames {
            if fault == Some(Fault::WrittenIsAcknowledged) && matches!(frame, Frame::Data(_)) {
                let position = crate::peer::content(match &frame {
                    Frame::Data(message) => message.as_text().unwrap(),
                    _ => unreachable!(),
                });
                let ack =
                    ClientControl { ack: Some(Position::new(position + 1)), ..Default::default() };
                let _ = self.session.handle_frame(number, Incoming::Text(ack.encode()), NOW);
            }
            if let Frame::Control(text) = &mut frame
                && let Ok(Inbound::Control(mut control)) = wire::decode_server_text(text.clone())
            {
                if let Some(hello) = &control.hello {
                    let gap = hello.gap.is_some();
                    assert!(
                        !gap || self.missed[who] || !self.links[at].open,
                        "a gap in what was kept"
                    );
                    // A fresh start says nothing of what an offer with a cursor would find.
                    self.missed[who] &= gap || hello.status != Status::Resumed;
                }
                self.plant(&mut control, who, fault);
                *text = control.encode();
            }
            if self.links[at].open {
                self.links[at].down.push_back(frame);
            }
        }
    }

    fn plant(&self, control: &mut ServerControl, who: usize, fault: Option<Fault>) {
        let peer = &self.peers[who];
        match (fault, &mut control.hello) {
            (Some(Fault::NothingIsSentAgain), Some(hello)) => {
                hello.received = Some(peer.base + peer.queue.len() as u64);
            }
            (Some(Fault::ReceivedIsTaken), Some(hello)) => hello.received = Some(self.taken[who]),
            (Some(Fault::GapIsNotTold), Some(hello)) => hello.gap = None,
            (Some(Fault::AcceptedIsAcknowledged), _) => {
                control.ack = control.ack.map(|_| self.accepted[who]);
            }
            _ => {}
        }
    }
}
