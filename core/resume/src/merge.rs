//! A client's own copy of the state against the server's.

use std::{fmt, sync::Arc};

use session_resume_proto::wire::StateOffer;

use crate::snapshot::record::Millis;

/// A copy this far ahead is no copy of ours.
const MAX_AHEAD: u64 = 1_000_000;

/// Which copy of the state wins when a client offers its own.
pub struct MergePolicy<T>(Rule<T>);

enum Rule<T> {
    ServerWins,
    Newest,
    Custom(Arc<CustomFn<T>>),
}

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
    /// The server's copy wins, always. The default.
    pub const fn server_wins() -> Self {
        Self(Rule::ServerWins)
    }

    /// The copy with the larger iteration wins; at a tie the one that changed later; at a tie the server's.
    pub const fn newest() -> Self {
        Self(Rule::Newest)
    }

    /// The function decides: `None` keeps the server's copy, `Some` replaces it. It must not panic.
    pub fn custom(merge: impl Fn(Versions, &T, T) -> Option<T> + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(merge)))
    }

    /// Whether a client's copy is worth reading.
    pub(crate) fn wants(&self, versions: Versions) -> bool {
        if versions.client_iteration > versions.server_iteration.saturating_add(MAX_AHEAD) {
            return false;
        }
        match self.0 {
            Rule::ServerWins => false,
            Rule::Newest => {
                (versions.client_iteration, versions.client_updated)
                    > (versions.server_iteration, versions.server_updated)
            }
            Rule::Custom(_) => true,
        }
    }

    /// Returns what replaces the server's copy.
    pub(crate) fn merge(&self, versions: Versions, server: &T, client: T) -> Option<T> {
        match &self.0 {
            Rule::ServerWins => None,
            Rule::Newest => Some(client),
            Rule::Custom(merge) => merge(versions, server, client),
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

impl<T> Default for MergePolicy<T> {
    fn default() -> Self {
        Self::server_wins()
    }
}

impl<T> Clone for MergePolicy<T> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Rule::ServerWins => Rule::ServerWins,
            Rule::Newest => Rule::Newest,
            Rule::Custom(merge) => Rule::Custom(Arc::clone(merge)),
        })
    }
}

impl<T> fmt::Debug for MergePolicy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Rule::ServerWins => "server_wins",
            Rule::Newest => "newest",
            Rule::Custom(_) => "custom",
        })
    }
}
