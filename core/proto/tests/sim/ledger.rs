//! What was really said: the contents of every message, and which messages the handler has taken.

use std::collections::{BTreeMap, BTreeSet};

use session_resume_proto::{Message, Moment, WireId};
use sha2::{Digest as _, Sha256};

use crate::scenario::Excuses;

/// A message that was said: in which epoch first, and by which process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) stream: usize,
    pub(crate) by: u32,
    pub(crate) kind: Kind,
}

/// Whom a message is for, and how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    All,
    /// One program alone.
    Only(u32),
    /// Until another one of this slot is sent.
    Latest(u8),
    /// Until this moment. A session that is rebuilt may take it for a later one.
    Until(Moment),
}

/// Where an application is in a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) stream: usize,
    pub(crate) expects: u64,
    /// What was for it alone and before this may have been let go before it came without a cursor.
    pub(crate) let_go: u64,
}

/// The messages of one epoch, those included that its history goes on from.
#[derive(Debug)]
pub(crate) struct Stream {
    session: WireId,
    epoch: WireId,
    pub(crate) said: Vec<Said>,
    /// The oldest position that is there; a crash may bring older ones back after a gap was told.
    pub(crate) base: u64,
    /// By program: messages before this that were for it alone may have left while the outbox was not kept for it.
    pub(crate) let_go: BTreeMap<u32, u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) streams: Vec<Stream>,
}

/// What the handler's state holds, and a snapshot with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Handled {
    /// The next message of each program.
    pub(crate) next: Vec<u64>,
    /// Passed over, never to come.
    pub(crate) skipped: Vec<BTreeSet<u64>>,
    /// Taken before their turn, and before one that is still to come.
    pub(crate) early: Vec<BTreeSet<u64>>,
}

impl Ledger {
    /// Finds or begins the stream of an epoch.
    pub(crate) fn stream(&mut self, session: WireId, epoch: WireId) -> usize {
        self.streams.iter().position(|s| s.session == session && s.epoch == epoch).unwrap_or_else(
            || {
                self.streams.push(Stream {
                    session,
                    epoch,
                    said: Vec::new(),
                    base: 0,
                    let_go: BTreeMap::new(),
                });
                self.streams.len() - 1
            },
        )
    }

    /// Whether a client that has all before `position` of one stream has the same of another.
    pub(crate) fn agree(&self, one: usize, other: usize, position: u64) -> bool {
        let at = usize::try_from(position).expect("in memory");
        let said = |stream: usize| self.streams[stream].said.get(..at);
        said(one).is_some() && said(one) == said(other)
    }

    pub(crate) fn same_session(&self, one: usize, other: usize) -> bool {
        self.streams[one].session == self.streams[other].session
    }

    pub(crate) fn head(&self, stream: usize) -> u64 {
        self.streams[stream].said.len() as u64
    }

    /// The message at a position, as it was sent.
    pub(crate) fn message(&self, stream: usize, position: u64) -> Message {
        let at = usize::try_from(position).expect("a position in memory");
        let said = &self.streams[stream].said;
        assert!(at < said.len(), "position {position} was never sent, or lost after it had left");
        from_server(said[at].stream, position, said[at].by, said[at].kind)
    }

    /// Whether a program may be past a position that it has not got.
    fn may_pass(&self, place: Place, position: u64, program: u32, now: Moment) -> bool {
        let at = usize::try_from(position).expect("in memory");
        let said = &self.streams[place.stream].said;
        match said[at].kind {
            Kind::All => false,
            // One that has come without a cursor is not told what was let go before that: it had no place in the stream.
            Kind::Only(of) => of != program || position < place.let_go,
            Kind::Latest(_) => said[at + 1..].iter().any(|newer| newer.kind == said[at].kind),
            Kind::Until(until) => until <= now,
        }
    }

    /// Returns where this message is, from the place on that a program has come to; checks that the program may be
    /// past all between.
    pub(crate) fn find(&self, place: Place, program: u32, message: &Message, now: Moment) -> u64 {
        let mut position = place.expects;
        while self.message(place.stream, position) != *message {
            let may = self.may_pass(place, position, program, now);
            assert!(may, "{program} at {}.{position} got {message:?}", place.stream);
            position += 1;
        }
        position
    }

    /// Checks that a program that has got nothing more may be at `to`.
    pub(crate) fn pass(&self, place: Place, to: u64, program: u32, now: Moment) {
        let from = place.expects;
        assert!(from <= to, "{program} has gone back from {from} to {to}");
        for position in from..to {
            let may = self.may_pass(place, position, program, now);
            assert!(may, "{program} has missed {}.{position}", place.stream);
        }
    }

    /// Whether a program has all that is for it.
    pub(crate) fn has_all(&self, place: Place, program: u32, now: Moment) -> bool {
        let mut rest = place.expects..self.head(place.stream);
        rest.all(|at| self.may_pass(place, at, program, now))
    }
}

impl Handled {
    pub(crate) fn grow(&mut self, programs: usize) {
        self.next.resize(programs, 0);
        self.skipped.resize(programs, BTreeSet::new());
        self.early.resize(programs, BTreeSet::new());
    }

    /// The handler takes a message of a program: the next one, or a later one if those between can only be
    /// in doubt, taken back or dropped. One of these may still come, if the scenario excuses it.
    pub(crate) fn take(&mut self, program: usize, message: &Message, excuses: &Excuses) {
        if self.take_late(program, message, excuses) {
            return;
        }
        let told_apart = excuses.told_apart();
        let next = self.next[program];
        if *message == from_client(program, next, told_apart) {
            self.next[program] = next + 1;
            self.count_early(program);
            return;
        }
        assert!(told_apart, "expected {next} of {program}, got {message:?}");
        let k = number(message);
        assert!(
            k > next && !self.early[program].contains(&k),
            "{k} of {program} again, {next} was next"
        );
        let early = &self.early[program];
        self.skipped[program].extend((next..k).filter(|passed| !early.contains(passed)));
        self.early[program].retain(|early| *early > k);
        self.next[program] = k + 1;
        self.count_early(program);
    }

    fn take_late(&mut self, program: usize, message: &Message, excuses: &Excuses) -> bool {
        excuses.late && self.skipped[program].remove(&number(message))
    }

    /// The handler takes a message of a program before its turn, for the first time.
    pub(crate) fn take_early(&mut self, program: usize, message: &Message, excuses: &Excuses) {
        if self.take_late(program, message, excuses) {
            return;
        }
        let k = number(message);
        assert!(k >= self.next[program], "{k} of {program} again, before its turn");
        assert!(self.early[program].insert(k), "{k} of {program} again, before its turn");
        self.count_early(program);
    }

    fn count_early(&mut self, program: usize) {
        while self.early[program].remove(&self.next[program]) {
            self.next[program] += 1;
        }
    }
}

/// What the server's process number `by` says at a position: every kind of message there is.
pub(crate) fn from_server(stream: usize, position: u64, by: u32, kind: Kind) -> Message {
    let text = format!("{stream}.{position}.{by}");
    if kind != Kind::All {
        // What may be missing must be told apart.
        return text.into();
    }
    match position % 8 {
        1 => Message::binary(text.into_bytes()),
        3 => format!("\u{1}{text}").into(),
        5 => Message::text(""),
        6 => format!("{text}{}", " ".repeat(40)).into(),
        7 => Message::binary(Vec::new()),
        _ => text.into(),
    }
}

/// What a program says as its message `k`; `told_apart`: so that it alone tells which.
pub(crate) fn from_client(program: usize, k: u64, told_apart: bool) -> Message {
    let text = format!("{program}.{k}");
    match k % 8 {
        1 => Message::binary(text.into_bytes()),
        3 => format!("\u{1}{{\"ack\":{text}").into(),
        5 if !told_apart => Message::text(""),
        6 => format!("{text}{}", " ".repeat(25)).into(),
        _ => text.into(),
    }
}

/// By this a record knows a message.
pub(crate) type Digest = [u8; 16];

pub(crate) fn digest(message: &Message) -> Digest {
    let kind = match message {
        Message::Text(_) => b't',
        Message::Binary(_) => b'b',
    };
    let hash = Sha256::new_with_prefix([kind]).chain_update(message.as_bytes()).finalize();
    hash[..16].try_into().expect("32 bytes")
}

/// Whether the handler takes this message before its turn, if it comes to it: some of those that tell which they are.
pub(crate) fn is_urgent(message: &Message) -> bool {
    let text = std::str::from_utf8(message.as_bytes()).unwrap_or_default();
    let number =
        text.trim_end().rsplit_once('.').and_then(|(_, number)| number.parse::<u64>().ok());
    number.is_some_and(|number| number % 3 == 1)
}

/// Which message of its program this is.
pub(crate) fn number(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.as_bytes()).expect("text inside");
    let (_, number) = text.trim_end().rsplit_once('.').expect("a message of a program");
    number.parse().expect("a number")
}
