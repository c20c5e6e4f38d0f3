//! Frames of a WebSocket (RFC 6455) and their bytes, at the server's end. No I/O, and no buffer but for what is not whole.

mod decode;
mod encode;
mod mask;
#[cfg(test)]
mod tests;
mod text;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, OpCode};

pub(super) use self::{decode::Decoder, encode::Outgoing};
use crate::words::transport::TransportErrorKind;

/// The longest payload of a control frame.
const LONGEST_CONTROL: usize = 125;

/// What a client has sent that it must not send. Nothing is read after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Violation {
    /// A message over the limit, or one in too many fragments.
    TooBig,
    /// What is no frame, or a frame that must not come here.
    Protocol(&'static str),
    /// Text, or the reason of a close, that is not UTF-8.
    NotUtf8,
}

impl Violation {
    pub(super) fn kind(self) -> TransportErrorKind {
        match self {
            Self::TooBig => TransportErrorKind::TooBig,
            Self::Protocol(_) => TransportErrorKind::Protocol,
            Self::NotUtf8 => TransportErrorKind::InvalidText,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooBig => "the message is too big, or has too many fragments",
            Self::Protocol(what) => what,
            Self::NotUtf8 => "the text is not UTF-8",
        })
    }
}

impl std::error::Error for Violation {}

/// A frame that is on its way out.
#[derive(Clone, PartialEq, Eq)]
struct Raw {
    opcode: OpCode,
    payload: Bytes,
}

/// The code and the reason of a close, if it has them.
type Close = Option<(u16, Cow<'static, str>)>;

/// Reads the payload of a close frame. A code that must not be sent becomes 1002, which is then the answer, too.
fn read_close(payload: &[u8]) -> Result<Close, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        let none = payload.is_empty().then_some(None);
        return none.ok_or(Violation::Protocol("a close has half a code"));
    };
    let code = u16::from_be_bytes(*code);
    let reason = str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    if CloseCode::from(code).is_allowed() {
        Ok(Some((code, Cow::Owned(reason.to_owned()))))
    } else {
        Ok(Some((CloseCode::Protocol.into(), Cow::Borrowed("Protocol violation"))))
    }
}
