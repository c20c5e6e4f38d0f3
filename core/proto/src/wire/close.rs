use std::borrow::Cow;

/// A close code with its reason, as either end sends it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Close {
    /// The WebSocket close code (RFC 6455 §7.4; 4000 to 4999 are for applications).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// 1000: the session has ended; after `done`.
    pub const DONE: Self = Self::fixed(1000, "done");
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self::fixed(1009, "message too big");
    /// 1011: the server cannot go on with the session, such as a stored one that it cannot read.
    pub const INTERNAL_ERROR: Self = Self::fixed(1011, "internal error");
    /// 1012: the server restarts; come back.
    pub const RESTARTING: Self = Self::fixed(1012, "restarting");
    /// 1013: come back later.
    pub const TRY_AGAIN: Self = Self::fixed(1013, "try again later");
    /// 1013: the offer was not from the client's present holder.
    pub const STALE: Self = Self::fixed(1013, "stale");
    /// 4100: the same client attached again.
    pub const REPLACED: Self = Self::fixed(4100, "replaced");
    /// 4100: another client took the session over.
    pub const SUPERSEDED: Self = Self::fixed(4100, "superseded");
    /// 4101: the reuse policy or `Attach::Refuse` said no.
    pub const REFUSED: Self = Self::fixed(4101, "refused");
    /// 4101: the session runs another handler.
    pub const ANOTHER_HANDLER: Self = Self::fixed(4101, "another handler");
    /// 4103: the peer broke the protocol; ends the transport, never the session.
    pub const PROTOCOL_ERROR: Self = Self::fixed(4103, "protocol error");

    /// The code of [`Close::REPLACED`] and [`Close::SUPERSEDED`].
    pub const CODE_SUPERSEDED: u16 = 4100;
    /// The code of [`Close::REFUSED`].
    pub const CODE_REFUSED: u16 = 4101;
    /// The code of [`Close::PROTOCOL_ERROR`].
    pub const CODE_PROTOCOL_ERROR: u16 = 4103;

    const fn fixed(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }

    /// Creates a close frame; a reason over 123 bytes (RFC 6455 §5.5) is cut at a character.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.len() > 123 {
            let cut = (0..=123).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
            reason.to_mut().truncate(cut);
        }
        Self { code, reason }
    }
}
