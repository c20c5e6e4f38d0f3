use std::{borrow::Cow, fmt};

use super::ProtocolError;

/// A close code with its reason, as either end sends it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Close {
    /// The WebSocket close code (RFC 6455 §7.4; 4000 to 4999 are for applications).
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Cow<'static, str>,
}

/// What a close means. Codes and reasons are read here and nowhere else.
///
/// Each `match` on it names every kind. So a new kind does not compile until every place has decided what to do about it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseKind {
    /// 1000: the peer lets the transport go.
    Normal,
    /// 1000 `done`: the session has ended.
    Done,
    /// 1005: a close frame without a code.
    NoCode,
    /// 1009: a message over the limit.
    TooBig,
    /// 1011: the server cannot go on with the session.
    InternalError,
    /// 4100: another client has the session.
    Superseded,
    /// 4100 `replaced`: the same client has attached again.
    Replaced,
    /// 4101: the server does not want this client.
    Refused,
    /// 4103: the peer broke the protocol.
    ProtocolError,
    /// 4104: data came on a transport that may only read.
    ReadOnly,
    /// 4106: the client's credentials have run out.
    Reauthenticate,
    /// 4112, or 1012: the server restarts.
    Restarting,
    /// 4112 `moved`, or 1012: the session is elsewhere, or under another identity.
    Moved,
    /// 4113, or 1013: come back later.
    TryAgain,
    /// 4113 `stale`, or 1013: the offer was not from the client's present holder.
    Stale,
    /// 4000 to 4099, or 4200 to 4999: the server's application has closed this client's transport.
    Application,
    /// Any other code: it has no meaning in this protocol.
    Other,
}

/// The codes of this protocol.
mod code {
    pub(super) const SUPERSEDED: u16 = 4100;
    pub(super) const REFUSED: u16 = 4101;
    pub(super) const PROTOCOL_ERROR: u16 = 4103;
    pub(super) const READ_ONLY: u16 = 4104;
    pub(super) const REAUTHENTICATE: u16 = 4106;
    pub(super) const RESTARTING: u16 = 4112;
    pub(super) const TRY_AGAIN: u16 = 4113;
    /// What plain clients are told for [`RESTARTING`].
    pub(super) const PLAIN_RESTARTING: u16 = 1012;
    /// What plain clients are told for [`TRY_AGAIN`].
    pub(super) const PLAIN_TRY_AGAIN: u16 = 1013;

    /// Whether the code is left to applications: of all from 4000 on, this protocol keeps a hundred for itself.
    pub(super) const fn is_applications(code: u16) -> bool {
        matches!(code, 4000..=4099 | 4200..=4999)
    }
}

/// The reasons that tell two kinds of one code apart.
mod reason {
    pub(super) const DONE: &str = "done";
    pub(super) const REPLACED: &str = "replaced";
    pub(super) const MOVED: &str = "moved";
    pub(super) const STALE: &str = "stale";
}

impl CloseKind {
    /// Reads what a close frame says.
    pub fn parse(code: u16, reason: &str) -> Self {
        match (code, reason) {
            (1000, reason::DONE) => Self::Done,
            (1000, _) => Self::Normal,
            (1005, _) => Self::NoCode,
            (1009, _) => Self::TooBig,
            (1011, _) => Self::InternalError,
            (code::SUPERSEDED, reason::REPLACED) => Self::Replaced,
            (code::SUPERSEDED, _) => Self::Superseded,
            (code::REFUSED, _) => Self::Refused,
            (code::PROTOCOL_ERROR, _) => Self::ProtocolError,
            (code::READ_ONLY, _) => Self::ReadOnly,
            (code::REAUTHENTICATE, _) => Self::Reauthenticate,
            (code::RESTARTING | code::PLAIN_RESTARTING, reason::MOVED) => Self::Moved,
            (code::RESTARTING | code::PLAIN_RESTARTING, _) => Self::Restarting,
            (code::TRY_AGAIN | code::PLAIN_TRY_AGAIN, reason::STALE) => Self::Stale,
            (code::TRY_AGAIN | code::PLAIN_TRY_AGAIN, _) => Self::TryAgain,
            (code, _) if code::is_applications(code) => Self::Application,
            (_, _) => Self::Other,
        }
    }
}

impl Close {
    /// 1000: the session has ended; after `done`.
    pub const DONE: Self = Self::fixed(1000, reason::DONE);
    /// 1000: the client goes.
    pub const GOODBYE: Self = Self::fixed(1000, "");
    /// 1005: a close frame that had no code.
    pub const NO_CODE: Self = Self::fixed(1005, "");
    /// 1009: a message over the limit.
    pub const TOO_BIG: Self = Self::fixed(1009, "message too big");
    /// 1011: the server cannot go on with the session, such as a stored one that it cannot read.
    pub const INTERNAL_ERROR: Self = Self::fixed(1011, "internal error");
    /// 4112: the server restarts; come back. See [`Close::for_plain`].
    pub const RESTARTING: Self = Self::fixed(code::RESTARTING, "restarting");
    /// 4112: the session is elsewhere, or under another identity; come back. See [`Close::for_plain`].
    pub const MOVED: Self = Self::fixed(code::RESTARTING, reason::MOVED);
    /// 4113: come back later. See [`Close::for_plain`].
    pub const TRY_AGAIN: Self = Self::fixed(code::TRY_AGAIN, "try again later");
    /// 4113: the offer was not from the client's present holder.
    pub const STALE: Self = Self::fixed(code::TRY_AGAIN, reason::STALE);
    /// 4100: the same client attached again.
    pub const REPLACED: Self = Self::fixed(code::SUPERSEDED, reason::REPLACED);
    /// 4100: another client took the session over.
    pub const SUPERSEDED: Self = Self::fixed(code::SUPERSEDED, "superseded");
    /// 4101: the reuse policy or `Attach::Refuse` said no.
    pub const REFUSED: Self = Self::fixed(code::REFUSED, "refused");
    /// 4101: the session runs another handler.
    pub const ANOTHER_HANDLER: Self = Self::fixed(code::REFUSED, "another handler");
    /// 4101: the session's handler was started by an upgrade on another path.
    pub const ANOTHER_PATH: Self = Self::fixed(
        code::REFUSED,
        "another path: see key::by_path() and ResumeUpgrade::any_path()",
    );
    /// 4103: the peer broke the protocol; ends the transport, never the session. See [`Close::breach`].
    pub const PROTOCOL_ERROR: Self = Self::fixed(code::PROTOCOL_ERROR, "protocol error");
    /// 4104: data came on a transport that may only read; the client stops.
    pub const READ_ONLY: Self = Self::fixed(code::READ_ONLY, "read only");
    /// 4106: the credentials of the client have run out; it comes back at once, with valid ones.
    pub const REAUTHENTICATE: Self = Self::fixed(code::REAUTHENTICATE, "reauthenticate");

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

    /// Creates the close 4101 with a reason of the application's own; a reason over 123 bytes is cut at a character.
    pub fn refused(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(code::REFUSED, reason)
    }

    /// Creates the close 4103 that says how the peer broke the protocol.
    pub fn breach(error: ProtocolError) -> Self {
        Self::new(code::PROTOCOL_ERROR, format!("protocol error: {error}"))
    }

    /// Returns what the close means.
    pub fn kind(&self) -> CloseKind {
        CloseKind::parse(self.code, &self.reason)
    }

    /// Creates the close of an application's own; a reason over 123 bytes is cut at a character.
    ///
    /// # Errors
    ///
    /// Returns [`CodeError`] unless the code is 1000, 4000 to 4099, or 4200 to 4999. All others mean
    /// something to WebSockets or to this protocol.
    pub fn of_application(
        code: u16,
        reason: impl Into<Cow<'static, str>>,
    ) -> Result<Self, CodeError> {
        match code {
            1000 => Ok(Self::new(code, reason)),
            _ if code::is_applications(code) => Ok(Self::new(code, reason)),
            _ => Err(CodeError { code }),
        }
    }

    /// Returns how a plain transport is closed for the same reason.
    ///
    /// Plain clients know the registered codes: 1012 stands for 4112 and 1013 for 4113. Resumable ones are told
    /// codes of our own, because several WebSocket libraries, and the browsers on WebKit, hide 1012 and 1013.
    #[must_use]
    pub fn for_plain(self) -> Self {
        let code = match self.kind() {
            CloseKind::Restarting | CloseKind::Moved => code::PLAIN_RESTARTING,
            CloseKind::TryAgain | CloseKind::Stale => code::PLAIN_TRY_AGAIN,
            CloseKind::Normal
            | CloseKind::Done
            | CloseKind::NoCode
            | CloseKind::TooBig
            | CloseKind::InternalError
            | CloseKind::Superseded
            | CloseKind::Replaced
            | CloseKind::Refused
            | CloseKind::ProtocolError
            | CloseKind::ReadOnly
            | CloseKind::Reauthenticate
            | CloseKind::Application
            | CloseKind::Other => self.code,
        };
        Self { code, ..self }
    }
}

/// A close code that an application may not use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CodeError {
    code: u16,
}

impl CodeError {
    /// Returns the code.
    pub fn code(&self) -> u16 {
        self.code
    }
}

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "close code {} is taken: use 1000, 4000 to 4099, or 4200 to 4999", self.code)
    }
}

impl std::error::Error for CodeError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_has_codes_of_its_own() {
        for code in [1000, 4000, 4099, 4200, 4429, 4999] {
            let close = Close::of_application(code, "why").unwrap();
            assert_eq!((code, "why"), (close.code, &*close.reason));
        }
        for code in [0, 999, 1001, 1005, 1006, 1012, 3000, 3999, 4100, 4113, 4199, 5000] {
            let err = Close::of_application(code, "why").unwrap_err();
            assert_eq!(err.code(), code);
            assert!(err.to_string().contains(&code.to_string()));
        }
        let long = Close::of_application(4000, "ä".repeat(100)).unwrap();
        assert_eq!(long.reason, "ä".repeat(61));
    }

    #[test]
    fn plain_transports_are_closed_with_registered_codes_where_there_are_some() {
        for (close, plain) in [
            (Close::RESTARTING, (1012, "restarting")),
            (Close::MOVED, (1012, "moved")),
            (Close::TRY_AGAIN, (1013, "try again later")),
            (Close::STALE, (1013, "stale")),
            (Close::DONE, (1000, "done")),
            (Close::SUPERSEDED, (4100, "superseded")),
            (Close::READ_ONLY, (4104, "read only")),
            (Close::REAUTHENTICATE, (4106, "reauthenticate")),
            (Close::new(4429, "too many"), (4429, "too many")),
        ] {
            let told = close.for_plain();
            assert_eq!((told.code, &*told.reason), plain);
        }
    }
}
