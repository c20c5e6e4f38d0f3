//! One client, one session, and what is under way between them.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use session_resume_proto::{
    AttachmentNumber, Message, Moment,
    client::{Client, Config, Random, TransportNumber},
    pipe::{self, Answer, Lane, Outgoing, RequestId, Settings},
    session::{Epoch, Frame, Incoming, Rules, Session},
    wire::Offer,
};

use crate::bounds::{Bounds, Kind};

/// Time stands still.
pub(crate) const NOW: Moment = Moment::from_millis(1_000_000);
/// A client's pipe is asked for requests as if it were so late: all that waits for a time is due.
pub(crate) const DUE: Moment = Moment::from_millis(1_045_000);
/// Something on the way is found to hold a stream back.
pub(crate) const HELD_BACK: Moment = Moment::from_millis(1_004_000);
/// A pipe that nobody asks is absent.
pub(crate) const MUCH_LATER: Moment = Moment::from_millis(9_000_000);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct World {
    // The client's side.
    pub(crate) program: Client,
    pub(crate) end: Option<ClientEnd>,
    /// How many attempts there were.
    pub(crate) used: usize,
    /// How many of the handler's messages have come.
    pub(crate) got: u64,
    // The server's side.
    pub(crate) session: Session<u32>,
    pub(crate) pipes: Vec<ServerEnd>,
    /// The newest turn that the client was heard on.
    pub(crate) heard: AttachmentNumber,
    /// How many of the client's messages were taken.
    pub(crate) taken: u64,
    // Between them. In no order.
    pub(crate) net: Vec<Packet>,
    pub(crate) left: Left,
}

/// Faults that may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Left {
    pub(crate) losses: u8,
    pub(crate) doubles: u8,
    pub(crate) give_ups: u8,
    pub(crate) absences: u8,
    pub(crate) slow: u8,
}

/// The client's end of its newest transport.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ClientEnd {
    Pipe {
        transport: TransportNumber,
        machine: Box<pipe::Client>,
        /// Requests under way, of each lane.
        under_way: [bool; 2],
        /// The post that is under way, for faults.
        posted: Option<Outgoing>,
    },
    WebSocket {
        transport: TransportNumber,
    },
}

/// A pipe's end at the server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct ServerEnd {
    pub(crate) nonce: pipe::Nonce,
    pub(crate) tag: pipe::Tag,
    pub(crate) machine: pipe::Server,
    /// Its turn on the session, if it was given one.
    pub(crate) number: Option<AttachmentNumber>,
    /// The transport has let go of it.
    pub(crate) gone: bool,
    /// The table has, too.
    pub(crate) forgotten: bool,
    /// Read, and without room in the session.
    pub(crate) stuck: Option<Incoming>,
    /// The number of the next post, for faults.
    pub(crate) next: u64,
    /// What counts after its turn, for faults.
    pub(crate) leftover: VecDeque<Incoming>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Packet {
    /// A request. The client waits for its answer, or has given it up.
    Request { attempt: usize, outgoing: Outgoing, live: bool },
    /// A get that has arrived.
    Waiting {
        attempt: usize,
        live: bool,
        pipe: usize,
        id: RequestId,
        form: pipe::Form,
        start: u64,
        pieces: VecDeque<Piece>,
        over: bool,
    },
    /// An answer to a request that the client waits for. Polls have a body.
    Answer { attempt: usize, lane: Lane, answer: Answer, body: Option<Bytes> },
    /// The upgrade of a WebSocket.
    Upgrade { attempt: usize, offer: Offer, live: bool },
    /// A WebSocket: what is under way on it.
    Link {
        attempt: usize,
        live: bool,
        number: Option<AttachmentNumber>,
        down: VecDeque<Frame>,
        up: VecDeque<Incoming>,
    },
}

/// A part of the answer to a get for a stream.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Piece {
    Head,
    Event(String),
    End,
}

impl World {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let mut rules = Rules::default();
        // Half the window is one message: every acknowledgement is due at once, so no clock is needed.
        rules.bounds.inbox_messages = 2;
        rules.heartbeat = Duration::from_secs(20);
        let mut session = Session::new(Arc::new(rules), Epoch::new(1, 1), NOW);
        session.start_handler(NOW);
        for n in 0..bounds.down {
            session.send(format!("d{n}").into(), NOW).expect("there is room");
        }
        let mut program = Client::new(Config::default(), &Random::default(), NOW);
        for n in 0..bounds.up {
            program.send(Message::from(format!("u{n}"))).expect("there is room");
        }
        let Bounds { losses, doubles, give_ups, absences, slow, .. } = bounds;
        let mut world = Self {
            program,
            end: None,
            used: 0,
            got: 0,
            session,
            pipes: Vec::new(),
            heard: AttachmentNumber::default(),
            taken: 0,
            net: Vec::new(),
            left: Left { losses, doubles, give_ups, absences, slow },
        };
        world.settle(bounds, None);
        world
    }

    /// Returns whether everything has arrived, and both ends know it.
    pub(crate) fn is_done(&self, bounds: Bounds) -> bool {
        self.got == bounds.down
            && self.taken == bounds.up
            && self.program.unacknowledged() == 0
            && self.session.outbox_messages() == 0
    }

    /// What is under way has no order.
    pub(crate) fn sort(&mut self) {
        self.net.sort_by_cached_key(|packet| {
            let mut hasher = DefaultHasher::new();
            packet.hash(&mut hasher);
            hasher.finish()
        });
    }

    pub(crate) fn attempt(&self) -> usize {
        self.used
    }

    pub(crate) fn kind(bounds: Bounds, attempt: usize) -> Kind {
        bounds.kinds[(attempt - 1).min(bounds.kinds.len() - 1)]
    }

    pub(crate) fn settings() -> Settings {
        Settings { hold: Duration::from_secs(20), ..Settings::default() }
    }
}

pub(crate) fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Get => 0,
        Lane::Post => 1,
    }
}

impl Packet {
    pub(crate) fn attempt(&self) -> usize {
        match self {
            Self::Request { attempt, .. }
            | Self::Waiting { attempt, .. }
            | Self::Answer { attempt, .. }
            | Self::Upgrade { attempt, .. }
            | Self::Link { attempt, .. } => *attempt,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        match self {
            Self::Request { live, .. }
            | Self::Waiting { live, .. }
            | Self::Upgrade { live, .. }
            | Self::Link { live, .. } => *live,
            Self::Answer { .. } => true,
        }
    }

    /// Which lane of the client's pipe it belongs to.
    pub(crate) fn lane(&self) -> Option<Lane> {
        match self {
            Self::Request { outgoing, .. } => Some(outgoing.lane()),
            Self::Waiting { .. } => Some(Lane::Get),
            Self::Answer { lane, .. } => Some(*lane),
            Self::Upgrade { .. } | Self::Link { .. } => None,
        }
    }
}
