//! A session that is at another node: that node is asked.

use http::request::Parts;

#[cfg(feature = "tungstenite")]
use crate::door::hop::Attempts;
use crate::{durable::restore::Apart, live::registry::Registry, words::refusal::Refusal};

/// What a request has tried to reach the node that has its session.
pub(crate) struct Elsewhere {
    #[cfg(feature = "tungstenite")]
    attempts: Attempts,
}

impl Elsewhere {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(feature = "tungstenite")]
            attempts: Attempts::new(),
        }
    }

    /// As `new`, for a request that only asks for a session by its id.
    pub(crate) fn of_poll() -> Self {
        Self {
            #[cfg(feature = "tungstenite")]
            attempts: Attempts::of_poll(),
        }
    }

    /// Asks the node that has the session; `Ok`: the session is to be looked for anew.
    ///
    /// # Errors
    ///
    /// Returns what the request is answered: a refusal, or the answer of that node.
    #[cfg(feature = "tungstenite")]
    pub(crate) async fn ask<T: Send + 'static>(
        &mut self,
        registry: &Registry<T>,
        parts: &Parts,
        apart: Apart,
    ) -> Result<(), Refusal> {
        match apart {
            Apart::Refused(refusal) => Err(refusal),
            // Boxed: most requests find their session here.
            Apart::Elsewhere(owner) => {
                match Box::pin(self.attempts.send(registry, parts, &owner)).await {
                    Some(answer) => Err(answer),
                    None => Ok(()),
                }
            }
        }
    }

    /// Without hyper there is no way to another node.
    #[cfg(not(feature = "tungstenite"))]
    pub(crate) async fn ask<T: Send + 'static>(
        &mut self,
        _registry: &Registry<T>,
        _parts: &Parts,
        apart: Apart,
    ) -> Result<(), Refusal> {
        Err(match apart {
            Apart::Refused(refusal) => refusal,
            Apart::Elsewhere(_) => Refusal::elsewhere(),
        })
    }
}
