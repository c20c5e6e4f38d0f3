//! What was really said: the contents of every message, and who has seen how much.

use std::collections::BTreeSet;

use session_resume_proto::{Message, Token};

/// The messages of one epoch: which process has sent each.
#[derive(Debug)]
pub(crate) struct Stream {
    session: Token,
    epoch: Token,
    pub(crate) sent: Vec<u32>,
    /// The oldest position that is there; a crash may bring older ones back after a gap was told.
    pub(crate) base: u64,
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
}

impl Ledger {
    /// Finds or begins the stream of an epoch.
    pub(crate) fn stream(&mut self, session: Token, epoch: Token) -> usize {
        self.streams.iter().position(|s| s.session == session && s.epoch == epoch).unwrap_or_else(
            || {
                self.streams.push(Stream { session, epoch, sent: Vec::new(), base: 0 });
                self.streams.len() - 1
            },
        )
    }

    pub(crate) fn head(&self, stream: usize) -> u64 {
        self.streams[stream].sent.len() as u64
    }

    /// The message at a position, as it was sent.
    pub(crate) fn message(&self, stream: usize, position: u64) -> Message {
        let at = usize::try_from(position).expect("a position in memory");
        let sent = &self.streams[stream].sent;
        assert!(at < sent.len(), "position {position} was never sent, or lost after it had left");
        from_server(stream, position, sent[at])
    }
}

impl Handled {
    pub(crate) fn grow(&mut self, programs: usize) {
        self.next.resize(programs, 0);
        self.skipped.resize(programs, BTreeSet::new());
    }

    /// The handler takes a message of a program: the next one, or a later one if those between can only be
    /// in doubt.
    pub(crate) fn take(&mut self, program: usize, message: &Message, doubt: bool) {
        let next = self.next[program];
        if *message == from_client(program, next, doubt) {
            self.next[program] = next + 1;
            return;
        }
        assert!(doubt, "expected {next} of {program}, got {message:?}");
        let k = number(message);
        assert!(k > next, "{k} of {program} again, {next} was next");
        self.skipped[program].extend(next..k);
        self.next[program] = k + 1;
    }
}

/// What the server's process number `by` says at a position: every kind of message there is.
pub(crate) fn from_server(stream: usize, position: u64, by: u32) -> Message {
    let text = format!("{stream}.{position}.{by}");
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

/// Which message of its program this is.
pub(crate) fn number(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.as_bytes()).expect("text inside");
    let (_, number) = text.trim_end().rsplit_once('.').expect("a message of a program");
    number.parse().expect("a number")
}
