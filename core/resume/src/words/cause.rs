use session_resume_proto::wire::{Close, CloseKind};

/// Why requests and transports are refused: the label `cause` of `session_resume_refusals_total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The route does not serve such a request: it is not an upgrade, or its offer is malformed.
    Request,
    /// The page's origin is not allowed.
    ForeignOrigin,
    /// The application has said no (`refuse`, or `valid_until` a moment that has passed).
    Application,
    /// The reuse policy has said no.
    Policy,
    /// The session runs another handler.
    Handler,
    /// Its handler was started on another path.
    Path,
    /// Another client holds the session.
    Held,
    /// One of the limits is reached.
    Limit,
    /// Something is under way that the client has to wait for, such as a session on its way to the store.
    Busy,
    /// The process is draining.
    Draining,
    /// The store does not answer.
    Store,
    /// What is stored cannot be read.
    Unreadable,
    /// The offer breaks the protocol.
    Protocol,
    /// The program is put together wrongly: no layer, or another state, around the route.
    Setup,
}

impl Cause {
    /// The cause of a refusal of the attach rules, which say it by their close.
    pub(crate) fn of_close(close: &Close) -> Self {
        match close.kind() {
            CloseKind::Superseded | CloseKind::Refused | CloseKind::Stale => Self::Held,
            CloseKind::Restarting | CloseKind::Moved => Self::Draining,
            CloseKind::ProtocolError => Self::Protocol,
            CloseKind::TryAgain
            // The rules refuse nothing with these.
            | CloseKind::Normal
            | CloseKind::Done
            | CloseKind::NoCode
            | CloseKind::TooBig
            | CloseKind::InternalError
            | CloseKind::Replaced
            | CloseKind::ReadOnly
            | CloseKind::Reauthenticate
            | CloseKind::Application
            | CloseKind::Other => Self::Busy,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::ForeignOrigin => "foreign_origin",
            Self::Application => "application",
            Self::Policy => "policy",
            Self::Handler => "handler",
            Self::Path => "path",
            Self::Held => "held",
            Self::Limit => "limit",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Store => "store",
            Self::Unreadable => "unreadable",
            Self::Protocol => "protocol",
            Self::Setup => "setup",
        }
    }
}
