//! What happens to the session that is already there when a request asks for one.
//!
//! A [`ReusePolicy`] is given to the layer. It is asked about *fresh* arrivals: requests and
//! clients that hold no valid cursor of the session under their key. A client that holds one
//! continues, and the policy is not asked. Completed sessions are never reused.
//!
//! A stored session whose state does not fit its type any more cannot go on, so every arrival for it is a fresh
//! one, a cursor or not. The candidate is then [`unreadable`](Candidate::unreadable):
//!
//! | the policy's answer | what follows |
//! | --- | --- |
//! | `Fresh` | a new session starts; the old one ends as `expired`, and its record is [kept aside](crate::Unreadable) |
//! | `Reuse` | what [`with_unreadable`](crate::SessionResume::with_unreadable) says: refused with 500 and kept as it is (the default), or a new session as for `Fresh` |
//! | `Refuse` | refused with that status, and kept as it is |
//!
//! The ready-made policies that reuse a session answer `Fresh` for an unreadable one. Where no policy is given
//! ([`ReusePolicy::default`]) the answer is `Reuse`: nothing happens to sessions because of a bad deploy.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//! use session_resume::{SessionResume, reuse::{self, ReuseDecision}};
//!
//! // Every page that is loaded starts anew. A connection that drops comes back to its session all the same.
//! let _ = SessionResume::new().with_reuse(reuse::never());
//!
//! // A page that is loaded again after a day starts anew, unless another one is still open.
//! const DAY: Duration = Duration::from_secs(24 * 60 * 60);
//! let _ = SessionResume::new().with_reuse(reuse::from_fn(|candidate, _req| {
//!     if candidate.transports() > 0 || candidate.age() < DAY {
//!         ReuseDecision::Reuse
//!     } else {
//!         ReuseDecision::Fresh
//!     }
//! }));
//! ```

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

use crate::words::request::RequestView;

/// Returns the policy that reuses whatever session is there, and starts a fresh one if its state is
/// [unreadable](Candidate::unreadable).
pub const fn always() -> ReusePolicy {
    ReusePolicy(Rule::Always)
}

/// Returns the policy that starts a fresh session every time, ending the one that is there.
pub const fn never() -> ReusePolicy {
    ReusePolicy(Rule::Never)
}

/// Returns the policy that reuses a session to which no transport is attached, and starts a fresh
/// one, ending the other, if one is or if its state is [unreadable](Candidate::unreadable).
pub const fn if_idle() -> ReusePolicy {
    ReusePolicy(Rule::IfIdle)
}

/// Returns the policy that reuses a session that was created less than `age` ago, and else, or if its state
/// is [unreadable](Candidate::unreadable), starts a fresh one, ending the other.
pub const fn younger_than(age: Duration) -> ReusePolicy {
    ReusePolicy(Rule::YoungerThan(age))
}

/// Returns the policy that reuses a session for the identity that started it, and refuses all
/// others with 409. If its state is [unreadable](Candidate::unreadable), that identity gets a fresh one.
///
/// It refuses, because starting afresh would let any other identity end the owner's session. It
/// matters under [shared](crate::key::KeyFn::shared) keys only.
pub const fn same_identity() -> ReusePolicy {
    ReusePolicy(Rule::SameIdentity)
}

/// Returns the policy that asks `f`.
///
/// `f` should be quick, as it is called while a request waits; a panic in it is a panic of the
/// request.
pub fn from_fn<F>(f: F) -> ReusePolicy
where
    F: Fn(Candidate, RequestView<'_>) -> ReuseDecision + Send + Sync + 'static,
{
    ReusePolicy(Rule::Custom(Arc::new(f)))
}

/// Decides whether a fresh arrival gets the session that is there. See the [module docs](self).
#[derive(Debug, Clone)]
pub struct ReusePolicy(Rule);

impl ReusePolicy {
    /// Decides about a candidate that is there, for which `req` asks.
    ///
    /// Describing the candidate takes a lock and a look at the clock: it is asked for only by the rules that
    /// look at it, so the default costs a request nothing.
    pub(crate) fn decide(
        &self,
        residence: Residence,
        candidate: impl FnOnce() -> Candidate,
        req: RequestView<'_>,
    ) -> ReuseDecision {
        match &self.0 {
            Rule::Default => ReuseDecision::Reuse,
            Rule::Never => ReuseDecision::Fresh,
            Rule::Always => residence.reuse_if(true),
            Rule::IfIdle => residence.reuse_if(candidate().transports == 0),
            Rule::YoungerThan(age) => residence.reuse_if(candidate().age < *age),
            Rule::SameIdentity => {
                if candidate().same_identity {
                    residence.reuse_if(true)
                } else {
                    ReuseDecision::Refuse(StatusCode::CONFLICT)
                }
            }
            Rule::Custom(f) => match f(candidate(), req) {
                ReuseDecision::Refuse(status)
                    if status.is_informational() || status.is_success() =>
                {
                    ReuseDecision::Refuse(StatusCode::CONFLICT)
                }
                decision => decision,
            },
        }
    }
}

/// Reuses whatever session is there. What becomes of one whose state is [unreadable](Candidate::unreadable), is left to
/// [`SessionResume::with_unreadable`](crate::SessionResume::with_unreadable).
impl Default for ReusePolicy {
    fn default() -> Self {
        Self(Rule::Default)
    }
}

/// The answer of a [`ReusePolicy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReuseDecision {
    /// The request gets the session. If its state is [unreadable](Candidate::unreadable),
    /// [`with_unreadable`](crate::SessionResume::with_unreadable) says what it gets.
    Reuse,
    /// The session is ended and a new one started under its key. The record of one whose state is
    /// [unreadable](Candidate::unreadable) is kept aside.
    Fresh,
    /// The request is answered with this status, or, if it offers to resume, accepted and closed
    /// with 4101. A status that does not refuse (1xx, 2xx) counts as 409.
    Refuse(StatusCode),
}

/// A session that could be reused, as a [`ReusePolicy`] sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Candidate {
    pub(crate) residence: Residence,
    pub(crate) phase: Phase,
    pub(crate) age: Duration,
    pub(crate) transports: usize,
    pub(crate) same_identity: bool,
    pub(crate) same_handler: Option<bool>,
}

/// Where a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residence {
    Live,
    Stored,
    /// In the store, with a state that does not fit its type.
    Unreadable,
}

impl Residence {
    /// What cannot be read cannot be reused.
    fn reuse_if(self, wanted: bool) -> ReuseDecision {
        match self {
            Self::Live | Self::Stored if wanted => ReuseDecision::Reuse,
            Self::Live | Self::Stored | Self::Unreadable => ReuseDecision::Fresh,
        }
    }
}

impl Candidate {
    /// Returns whether the session is in memory.
    pub const fn is_live(&self) -> bool {
        matches!(self.residence, Residence::Live)
    }

    /// Returns whether the session is in the store alone, so that reusing it restores it.
    pub const fn is_stored(&self) -> bool {
        matches!(self.residence, Residence::Stored | Residence::Unreadable)
    }

    /// Returns whether the session is in the store with a state that does not fit its type any more, so that it
    /// cannot be restored. See the [module docs](self) for what follows from which answer.
    pub const fn unreadable(&self) -> bool {
        matches!(self.residence, Residence::Unreadable)
    }

    /// Returns the session's phase. A stored session is [`Suspended`](Phase::Suspended): no transport is attached.
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns how long ago the session was created, time in the store included.
    pub const fn age(&self) -> Duration {
        self.age
    }

    /// Returns how many transports are attached.
    pub const fn transports(&self) -> usize {
        self.transports
    }

    /// Returns whether the session was started by the identity that asks. Always so unless the key
    /// is [shared](crate::key::KeyFn::shared).
    pub const fn same_identity(&self) -> bool {
        self.same_identity
    }

    /// Returns whether the handler that asks is the one that runs, or `None` if none runs or none
    /// asks, as on plain HTTP.
    pub const fn same_handler(&self) -> Option<bool> {
        self.same_handler
    }
}

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// A transport is attached.
    Running,
    /// No transport is attached.
    Suspended,
    /// It has ended: its handler has returned, or its time is up, or it was closed.
    Completed,
}

#[derive(Clone)]
enum Rule {
    Default,
    Always,
    Never,
    IfIdle,
    YoungerThan(Duration),
    SameIdentity,
    Custom(Arc<dyn Fn(Candidate, RequestView<'_>) -> ReuseDecision + Send + Sync>),
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Always => f.write_str("always"),
            Self::Never => f.write_str("never"),
            Self::IfIdle => f.write_str("if_idle"),
            Self::YoungerThan(age) => write!(f, "younger_than({age:?})"),
            Self::SameIdentity => f.write_str("same_identity"),
            Self::Custom(_) => f.write_str("from_fn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const IDLE: Candidate = Candidate {
        residence: Residence::Live,
        phase: Phase::Suspended,
        age: Duration::from_secs(60),
        transports: 0,
        same_identity: true,
        same_handler: None,
    };
    const ATTACHED: Candidate =
        Candidate { phase: Phase::Running, transports: 1, same_handler: Some(true), ..IDLE };
    const STORED: Candidate = Candidate { residence: Residence::Stored, ..IDLE };
    const ANOTHERS: Candidate = Candidate { same_identity: false, ..ATTACHED };
    const UNREADABLE: Candidate = Candidate { residence: Residence::Unreadable, ..IDLE };
    const ANOTHERS_UNREADABLE: Candidate = Candidate { same_identity: false, ..UNREADABLE };

    fn decide(policy: &ReusePolicy, candidate: Candidate) -> ReuseDecision {
        let req = Request::get("/live").body(()).unwrap();
        policy.decide(candidate.residence, || candidate, RequestView::of(&req))
    }

    #[test]
    fn each_policy_decides_as_its_name_says() {
        use ReuseDecision::{Fresh, Refuse, Reuse};
        let second = Duration::from_secs(1);
        let conflict = Refuse(StatusCode::CONFLICT);
        let rows = [
            (ReusePolicy::default(), [Reuse, Reuse, Reuse, Reuse]),
            (always(), [Reuse, Reuse, Reuse, Reuse]),
            (never(), [Fresh, Fresh, Fresh, Fresh]),
            (if_idle(), [Reuse, Fresh, Reuse, Fresh]),
            (younger_than(IDLE.age + second), [Reuse, Reuse, Reuse, Reuse]),
            (younger_than(IDLE.age), [Fresh, Fresh, Fresh, Fresh]),
            (same_identity(), [Reuse, Reuse, Reuse, conflict]),
        ];
        for (policy, expected) in rows {
            let decided = [IDLE, ATTACHED, STORED, ANOTHERS].map(|c| decide(&policy, c));
            assert_eq!(decided, expected, "{policy:?}");
        }
    }

    #[test]
    fn what_is_unreadable_is_reused_by_no_policy_but_the_default() {
        use ReuseDecision::{Fresh, Refuse, Reuse};
        let conflict = Refuse(StatusCode::CONFLICT);
        let rows = [
            (ReusePolicy::default(), [Reuse, Reuse]),
            (always(), [Fresh, Fresh]),
            (never(), [Fresh, Fresh]),
            (if_idle(), [Fresh, Fresh]),
            (younger_than(Duration::MAX), [Fresh, Fresh]),
            (same_identity(), [Fresh, conflict]),
        ];
        for (policy, expected) in rows {
            let decided = [UNREADABLE, ANOTHERS_UNREADABLE].map(|c| decide(&policy, c));
            assert_eq!(decided, expected, "{policy:?}");
        }
        for (candidate, unreadable) in [(IDLE, false), (STORED, false), (UNREADABLE, true)] {
            assert_eq!(candidate.unreadable(), unreadable);
            assert_eq!(candidate.is_stored(), !candidate.is_live());
        }
    }

    #[test]
    fn a_policy_of_ones_own_sees_candidate_and_request() {
        let policy = from_fn(|candidate, req| {
            if req.path() == "/live" && candidate.is_stored() {
                ReuseDecision::Refuse(StatusCode::GONE)
            } else if candidate.same_handler() == Some(true) && candidate.phase() == Phase::Running
            {
                ReuseDecision::Reuse
            } else {
                ReuseDecision::Fresh
            }
        });
        assert_eq!(decide(&policy, STORED), ReuseDecision::Refuse(StatusCode::GONE));
        assert_eq!(decide(&policy, ATTACHED), ReuseDecision::Reuse);
        assert_eq!(decide(&policy, IDLE), ReuseDecision::Fresh);
        assert_eq!(format!("{policy:?}"), "ReusePolicy(from_fn)");
    }

    #[test]
    fn a_refusal_never_looks_like_an_acceptance() {
        for (given, answered) in [
            (StatusCode::SWITCHING_PROTOCOLS, StatusCode::CONFLICT),
            (StatusCode::OK, StatusCode::CONFLICT),
            (StatusCode::SEE_OTHER, StatusCode::SEE_OTHER),
            (StatusCode::FORBIDDEN, StatusCode::FORBIDDEN),
            (StatusCode::SERVICE_UNAVAILABLE, StatusCode::SERVICE_UNAVAILABLE),
        ] {
            let policy = from_fn(move |_, _| ReuseDecision::Refuse(given));
            assert_eq!(decide(&policy, IDLE), ReuseDecision::Refuse(answered));
        }
    }
}
