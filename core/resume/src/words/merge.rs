//! A client's own copy of the state against the server's.

use std::{fmt, sync::Arc};

use session_resume_proto::wire::StateOffer;

use crate::words::millis::Millis;

/// A copy this far ahead is not a copy of ours.
const MAX_AHEAD: u64 = 1_000_000;

/// Which copy of the state wins when a client offers its own.
///
/// A page offers one with `socket.offerState`, a program with `session_resume_client::Client::offer_state`. The handler
/// tells its clients [`Session::iteration`](crate::Session::iteration) beside the state, so that they can count on from it.
/// A copy may come twice, when a connection drops behind it: a function should not add it up.
///
/// What a client offers is bounded, and is parsed into `T` or refused whole. About a copy that is more than 10^6
/// iterations ahead of the server's copy the policy is not asked.
#[derive(Default)]
#[non_exhaustive]
pub enum MergePolicy<T> {
    /// The server's copy wins, always. The default.
    #[default]
    ServerWins,
    /// The copy with the larger iteration wins; at a tie the one that changed later; at a tie the server's.
    Newest,
    /// A function decides: made with [`custom`](Self::custom).
    Custom(CustomMerge<T>),
}

/// The function of [`MergePolicy::custom`].
pub struct CustomMerge<T>(Arc<CustomFn<T>>);

type CustomFn<T> = dyn Fn(Versions, &T, T) -> Option<T> + Send + Sync;

/// How old two copies of a state are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Versions {
    /// How many boundaries with changes the server's copy has seen.
    pub server_iteration: u64,
    /// When the server's copy last changed, in milliseconds since 1970.
    pub server_updated: u64,
    /// What the client says of its copy.
    pub client_iteration: u64,
    /// What the client says of its copy, but never later than now.
    pub client_updated: u64,
}

impl<T> MergePolicy<T> {
    /// The function decides: `None` keeps the server's copy, `Some` replaces it. It must not panic.
    pub fn custom(merge: impl Fn(Versions, &T, T) -> Option<T> + Send + Sync + 'static) -> Self {
        Self::Custom(CustomMerge(Arc::new(merge)))
    }

    /// Whether a client's copy is worth reading.
    pub(crate) fn wants(&self, versions: Versions) -> bool {
        if versions.client_iteration > versions.server_iteration.saturating_add(MAX_AHEAD) {
            return false;
        }
        match self {
            Self::ServerWins => false,
            Self::Newest => {
                (versions.client_iteration, versions.client_updated)
                    > (versions.server_iteration, versions.server_updated)
            }
            Self::Custom(_) => true,
        }
    }

    /// Returns what replaces the server's copy.
    pub(crate) fn merge(&self, versions: Versions, server: &T, client: T) -> Option<T> {
        match self {
            Self::ServerWins => None,
            Self::Newest => Some(client),
            Self::Custom(merge) => (merge.0)(versions, server, client),
        }
    }

    /// The same policy for another type of state; `None` if the policy is a function, which takes this type alone.
    pub(crate) fn retyped<U>(&self) -> Option<MergePolicy<U>> {
        match self {
            Self::ServerWins => Some(MergePolicy::ServerWins),
            Self::Newest => Some(MergePolicy::Newest),
            Self::Custom(_) => None,
        }
    }
}

impl Versions {
    pub(crate) fn of(server_iteration: u64, server_updated: Millis, offer: &StateOffer) -> Self {
        Self {
            server_iteration,
            server_updated: server_updated.get(),
            client_iteration: offer.iteration,
            client_updated: offer.updated.min(Millis::now().get()),
        }
    }
}

impl<T> Clone for MergePolicy<T> {
    fn clone(&self) -> Self {
        match self {
            Self::ServerWins => Self::ServerWins,
            Self::Newest => Self::Newest,
            Self::Custom(merge) => Self::Custom(CustomMerge(Arc::clone(&merge.0))),
        }
    }
}

impl<T> fmt::Debug for MergePolicy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerWins => "ServerWins",
            Self::Newest => "Newest",
            Self::Custom(_) => "Custom",
        })
    }
}

impl<T> fmt::Debug for CustomMerge<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomMerge").finish_non_exhaustive()
    }
}
