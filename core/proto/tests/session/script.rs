//! Random scripts: numbers that are read as operations, so that a script shrinks as a list.

use std::fmt;

use session_resume_proto::session::{Attach, Overflow, PlainAck};

/// One operation of a client, the application, the network or the clock. Indices are taken modulo what is
/// there; an operation that is not possible does nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// What a script's operations shrink to.
    Idle,
    /// A peer makes its offer, and it arrives.
    Connect(u8),
    /// As `Connect`, and it may only read.
    Watch(u8),
    /// It makes its offer, gives up waiting, and the offer arrives some time later.
    OfferLate(u8),
    WatchLate(u8),
    ArriveLate(u8),
    /// Its program starts again.
    Restart(u8),
    ConnectPlain,
    WatchPlain,
    /// The peer's end of a socket is gone; the server does not know.
    Lose(u8),
    /// The server learns that a socket is gone.
    Notice(u8),
    /// The server writes at most this many messages (the second number) to a socket (the first).
    Transmit(u8, u8),
    TransmitAll,
    /// On a socket (the first number), this many frames (the second) reach the peer.
    Down(u8, u8),
    /// On a socket (the first number), this many frames (the second) reach the server.
    Up(u8, u8),
    /// Everything that is under way arrives.
    Flow,
    Make(u8, u8),
    Ack(u8),
    /// A frame that is against the protocol.
    Break(u8, u8),
    Send(u8),
    SendOrWait(u8),
    /// The send that waits tries again, if it was woken.
    Retry,
    GiveUp,
    Checkpoint,
    StartHandler,
    Receive(u8),
    HandBack,
    Commit,
    Guard(Option<u16>),
    ReleaseGuard,
    Task(bool),
    Hold(bool),
    Touch,
    /// Milliseconds.
    Pass(u32),
    End,
}

/// What the rules of a script are; the bounds are always small.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Setting {
    pub(crate) attach: Attach,
    pub(crate) overflow: Overflow,
    pub(crate) plain_ack: PlainAck,
    pub(crate) durable: bool,
}

/// Numbers that are read as a setting and operations.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) attach: Attach,
    pub(crate) setting: u8,
    pub(crate) numbers: Vec<u32>,
}

impl Script {
    pub(crate) fn setting(&self) -> Setting {
        let pick = usize::from(self.setting);
        Setting {
            attach: self.attach,
            overflow: [Overflow::Backpressure, Overflow::DropOldest, Overflow::Close][pick % 3],
            plain_ack: [PlainAck::Trust, PlainAck::Margin(2), PlainAck::Off][pick / 3 % 3],
            durable: pick / 9 % 4 == 3,
        }
    }

    pub(crate) fn ops(&self) -> impl Iterator<Item = Op> {
        self.numbers.iter().map(|&number| op(number))
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.setting())?;
        self.ops().filter(|op| *op != Op::Idle).try_for_each(|op| writeln!(f, "{op:?}"))
    }
}

fn op(number: u32) -> Op {
    if number == 0 {
        return Op::Idle;
    }
    let [kind, a, b, c] = number.to_le_bytes();
    let few = b % 4 + 1;
    match kind % 64 {
        0..=1 => {
            if c < 64 {
                Op::Watch(a)
            } else {
                Op::Connect(a)
            }
        }
        2 => {
            if b < 32 {
                Op::WatchLate(a)
            } else if b < 128 {
                Op::OfferLate(a)
            } else {
                Op::ArriveLate(a)
            }
        }
        3 => {
            if b < 24 {
                Op::Restart(a)
            } else {
                Op::Flow
            }
        }
        4 => {
            if b < 32 {
                Op::WatchPlain
            } else if b < 128 {
                Op::ConnectPlain
            } else {
                Op::Connect(a)
            }
        }
        5 => Op::Lose(a),
        6 => Op::Notice(a),
        7..=11 => Op::Flow,
        12..=15 => Op::Transmit(a, b % 3),
        16..=20 => Op::TransmitAll,
        21..=26 => Op::Down(a, few),
        27..=32 => Op::Up(a, few),
        33..=37 => Op::Make(a, few),
        38..=40 => Op::Ack(a),
        41 => {
            if c < 64 {
                Op::Break(a, b)
            } else {
                Op::Ack(a)
            }
        }
        42..=44 => Op::Send(a),
        45..=46 => Op::SendOrWait(a),
        47 => Op::Retry,
        48 => {
            if a < 64 {
                Op::GiveUp
            } else {
                Op::Retry
            }
        }
        49 => {
            if a < 128 {
                Op::Checkpoint
            } else {
                Op::Send(b)
            }
        }
        50..=52 => Op::Receive(few),
        53 => {
            if a < 128 {
                Op::HandBack
            } else {
                Op::Receive(few)
            }
        }
        54 => Op::Commit,
        55 => Op::StartHandler,
        56 => use_of([a, b, c]),
        57..=59 => Op::Pass(u32::from(a)),
        60..=61 => Op::Pass(1000 + u32::from(a) * 16),
        62 => Op::Pass(u32::from(u16::from_le_bytes([a, b])) * 2),
        _ => {
            if a < 16 {
                Op::End
            } else {
                Op::Receive(few)
            }
        }
    }
}

/// What holds off expiry, or ends that.
fn use_of([kind, a, b]: [u8; 3]) -> Op {
    match kind % 8 {
        0 => Op::Guard(None),
        1 => Op::Guard(Some(u16::from_le_bytes([a, b]))),
        2..=3 => Op::ReleaseGuard,
        4 => Op::Task(true),
        5 => Op::Task(false),
        6 => Op::Hold(a < 64),
        _ => Op::Touch,
    }
}
