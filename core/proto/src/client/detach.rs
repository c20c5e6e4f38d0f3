use std::time::Duration;

use crate::{client::Cause, wire::CloseKind};

/// What a client does about a transport that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Another client has the session: stop.
    Superseded,
    /// The server does not want this client: stop.
    Refused,
    /// Trying again is pointless: stop.
    Failed,
    /// Come back with the cursor.
    Return(Pace),
    /// The cursor is not accepted: come back without it, once.
    StartFresh,
    /// Another client uses this id: come back at once with a new id.
    Rename,
}

/// When to come back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Pace {
    AtOnce,
    /// With backoff, from the first step if this transport had settled.
    Backoff,
    /// With backoff that grows even if this transport had settled: coming back may be the trouble.
    Slower,
}

/// What else the verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Facts {
    /// The offer before this one was answered `stale`, too.
    pub(super) stale: bool,
    /// The transport before this one was closed so that the client reauthenticates, and this one has brought
    /// nothing either.
    pub(super) reauthenticated: bool,
    /// There is no cursor to drop, or it was dropped already and none has been accepted since.
    pub(super) fresh: bool,
}

/// Decides what becomes of a client whose newest transport ended by `cause`.
pub(super) fn decide(cause: &Cause, facts: Facts) -> Verdict {
    match cause {
        Cause::Closed(close) => decide_close(close.kind(), facts),
        Cause::Protocol(_) => drop_cursor(facts),
        Cause::Copied => Verdict::Rename,
        Cause::Version(_) | Cause::NotSpoken => Verdict::Failed,
        Cause::Http { status, .. } => match status {
            // Said of the moment, not of the request: timeout, too early, too many.
            408 | 425 | 429 => Verdict::Return(Pace::Backoff),
            400..=499 => Verdict::Refused,
            _ => Verdict::Return(Pace::Backoff),
        },
        Cause::Lost
        | Cause::Silent
        | Cause::TooBig
        | Cause::TimedOut
        | Cause::Unreachable(_)
        | Cause::Unprepared(_) => Verdict::Return(Pace::Backoff),
    }
}

/// Returns how long the cause itself says to wait.
pub(super) fn hint(cause: &Cause) -> Option<Duration> {
    match cause {
        Cause::Http { retry_after, .. } => *retry_after,
        Cause::Closed(_)
        | Cause::Lost
        | Cause::Silent
        | Cause::TooBig
        | Cause::TimedOut
        | Cause::Unreachable(_)
        | Cause::Protocol(_)
        | Cause::Version(_)
        | Cause::NotSpoken
        | Cause::Copied
        | Cause::Unprepared(_) => None,
    }
}

fn decide_close(close: CloseKind, facts: Facts) -> Verdict {
    match close {
        CloseKind::Superseded => Verdict::Superseded,
        CloseKind::Refused | CloseKind::ReadOnly | CloseKind::Application => Verdict::Refused,
        CloseKind::ProtocolError => drop_cursor(facts),
        CloseKind::Reauthenticate if !facts.reauthenticated => Verdict::Return(Pace::AtOnce),
        CloseKind::Stale if facts.stale => Verdict::Rename,
        CloseKind::Stale => Verdict::Return(Pace::AtOnce),
        // The message that was too big is given up, if the client can tell which it was. If not, it will be
        // too big again.
        CloseKind::Replaced | CloseKind::TooBig => Verdict::Return(Pace::Slower),
        CloseKind::Normal
        | CloseKind::Done
        | CloseKind::NoCode
        | CloseKind::InternalError
        | CloseKind::Reauthenticate
        | CloseKind::Restarting
        | CloseKind::Moved
        | CloseKind::TryAgain
        | CloseKind::Other => Verdict::Return(Pace::Backoff),
    }
}

fn drop_cursor(facts: Facts) -> Verdict {
    if facts.fresh { Verdict::Failed } else { Verdict::StartFresh }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Close, ProtocolError};

    #[test]
    fn every_close_code_has_its_answer() {
        let first = Facts::default();
        let again = Facts { stale: true, reauthenticated: true, fresh: true };
        let come_back = Verdict::Return(Pace::Backoff);
        for (code, reason, at_first, after) in [
            (1000, "", come_back, come_back),
            (1000, "done", come_back, come_back),
            (1001, "", come_back, come_back),
            (1006, "", come_back, come_back),
            (1009, "message too big", Verdict::Return(Pace::Slower), Verdict::Return(Pace::Slower)),
            (1011, "", come_back, come_back),
            (1012, "restarting", come_back, come_back),
            (1013, "try again later", come_back, come_back),
            (1013, "stale", Verdict::Return(Pace::AtOnce), Verdict::Rename),
            (4112, "restarting", come_back, come_back),
            (4112, "moved", come_back, come_back),
            (4113, "try again later", come_back, come_back),
            (4113, "stale", Verdict::Return(Pace::AtOnce), Verdict::Rename),
            (3000, "", come_back, come_back),
            (4000, "an application's own", Verdict::Refused, Verdict::Refused),
            (4200, "", Verdict::Refused, Verdict::Refused),
            (4100, "superseded", Verdict::Superseded, Verdict::Superseded),
            (4100, "replaced", Verdict::Return(Pace::Slower), Verdict::Return(Pace::Slower)),
            (4100, "", Verdict::Superseded, Verdict::Superseded),
            (4101, "refused", Verdict::Refused, Verdict::Refused),
            (4101, "another handler", Verdict::Refused, Verdict::Refused),
            (
                4101,
                "another path: see key::by_path() and ResumeUpgrade::any_path()",
                Verdict::Refused,
                Verdict::Refused,
            ),
            (4103, "protocol error", Verdict::StartFresh, Verdict::Failed),
            (4104, "read only", Verdict::Refused, Verdict::Refused),
            (4106, "reauthenticate", Verdict::Return(Pace::AtOnce), come_back),
        ] {
            let cause = Cause::Closed(Close::new(code, reason));
            assert_eq!(decide(&cause, first), at_first, "{code} {reason}");
            assert_eq!(decide(&cause, again), after, "{code} {reason}, again");
        }
    }

    #[test]
    fn every_other_cause_has_its_answer() {
        let http = |status| Cause::Http { status, retry_after: None };
        for (cause, expected) in [
            (Cause::Lost, Verdict::Return(Pace::Backoff)),
            (Cause::Silent, Verdict::Return(Pace::Backoff)),
            (Cause::TooBig, Verdict::Return(Pace::Backoff)),
            (Cause::TimedOut, Verdict::Return(Pace::Backoff)),
            (Cause::Unreachable("refused".into()), Verdict::Return(Pace::Backoff)),
            (Cause::Unprepared("no token".into()), Verdict::Return(Pace::Backoff)),
            (http(200), Verdict::Return(Pace::Backoff)),
            (http(400), Verdict::Refused),
            (http(403), Verdict::Refused),
            (http(404), Verdict::Refused),
            (http(408), Verdict::Return(Pace::Backoff)),
            (http(409), Verdict::Refused),
            (http(425), Verdict::Return(Pace::Backoff)),
            (http(429), Verdict::Return(Pace::Backoff)),
            (http(500), Verdict::Return(Pace::Backoff)),
            (http(503), Verdict::Return(Pace::Backoff)),
            (Cause::Protocol(ProtocolError::BadControl), Verdict::StartFresh),
            (Cause::Version(2), Verdict::Failed),
            (Cause::NotSpoken, Verdict::Failed),
            (Cause::Copied, Verdict::Rename),
        ] {
            assert_eq!(decide(&cause, Facts::default()), expected, "{cause}");
        }
    }
}
